//! How one Redis is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use slidegate::tls::Certificate;
use slidegate::{OptionError, RedisAccess};
use slidegate_document::{Fields, Node, Path as FieldPath, Reader, is_secret_name};

use super::super::mistake::Mistake;
use super::super::named_file::{NamedFile, secret_in};
use super::super::secret::{HIDDEN, url_shown};
use super::super::tls;
use super::super::words::quoted;

/// Fields that name files in PEM.
const PEM_FILES: [&str; 3] = ["ca", "cert", "key"];

/// Fields with a password, and those that name a file with it.
const PASSWORDS: [(&str, &str); 2] = [("password", "password_file"), ("sentinel_password", "sentinel_password_file")];

/// Other texts.
const TEXTS: [&str; 3] = ["username", "server_name", "sentinel_username"];

/// One entry, its files read.
#[derive(Clone, PartialEq)]
pub(crate) struct RedisEntry {
    pub(crate) access: RedisAccess,
    /// Where in the file it stands.
    path: String,
    /// The fields beside the URL, as they stand in the file; none if there is only a URL.
    fields: Option<BTreeMap<&'static str, String>>,
    /// The files that they name, by field.
    files: Vec<(&'static str, NamedFile)>,
}

/// What was read of an entry's fields beside the URL.
#[derive(Default)]
struct GivenFields {
    texts: BTreeMap<&'static str, String>,
    files: Vec<(&'static str, NamedFile)>,
}

impl RedisEntry {
    pub(super) fn of_url(path: FieldPath<'_>, url: &str) -> Self {
        Self { access: RedisAccess::from(url), path: path.to_string(), fields: None, files: Vec::new() }
    }

    /// What is wrong with the entry, as the library sees it.
    pub(crate) fn mistake(&self, error: &OptionError) -> Mistake {
        let Some(fields) = &self.fields else {
            return Mistake::new(&self.path, error.message());
        };
        // What is wrong with a password may stand in the field that names its file.
        let file = PASSWORDS
            .into_iter()
            .find(|(field, file)| *field == error.field() && fields.contains_key(file))
            .map(|(_, file)| file);
        let field = file.unwrap_or(error.field());
        let message = match fields.get(field) {
            Some(given) if !is_secret_name(field) => format!("{} (got {})", error.message(), quoted(given)),
            _ => error.message().to_owned(),
        };
        Mistake::new(format!("{}.{field}", self.path), message)
    }

    /// Where in the file it stands.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The files that it names.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.files.iter().map(|(_, file)| file)
    }

    /// What is odd about its passwords' files, its authorities and the certificate that is shown to the server, and no
    /// mistake.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (certificate, key) = (self.access.certificate.as_deref(), self.access.key.as_deref());
        let certificate =
            certificate.zip(key).and_then(|(certificate, key)| Certificate::from_pem(certificate, key).ok());
        let file = |field: &str| self.files.iter().find(|(name, _)| *name == field).map(|(_, file)| file);
        let of_password =
            |(_, field): (&str, &str)| file(field)?.warning(&format!("{}.{field}", self.path), "holds a password");
        let mut warnings = tls::warnings(&self.path, file, certificate.as_ref());
        warnings.extend(PASSWORDS.into_iter().filter_map(of_password));
        warnings
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let url = url_shown(&self.access.url);
        let Some(fields) = &self.fields else { return Value::from(url) };
        let mut shown = json!({"url": url});
        for (field, text) in fields {
            shown[field] = Value::from(if is_secret_name(field) { HIDDEN } else { text });
        }
        if !self.access.announced.is_empty() {
            shown["announced"] = json!(self.access.announced);
        }
        shown
    }

    /// Reads the fields of an entry. Where it is not `expected`, an entry without any of them is none.
    pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, expected: bool, folder: &Path) -> Option<Self> {
        let url = reader.field(fields, "url", Reader::text);
        let mut given = GivenFields::default();
        let mut pem = BTreeMap::new();
        for field in PEM_FILES {
            pem.extend(
                read_file(reader, fields, field, "the path of a file in PEM", folder, &mut given)
                    .map(|bytes| (field, bytes)),
            );
        }
        let mut passwords = BTreeMap::new();
        for names in PASSWORDS {
            passwords
                .extend(read_password(reader, fields, names, folder, &mut given).map(|password| (names.0, password)));
        }
        for field in TEXTS {
            given.texts.extend(reader.field(fields, field, Reader::text).map(|text| (field, text)));
        }
        let announced = read_announced(reader, fields);
        let GivenFields { texts: given, files } = given;
        if fields.get_unless_null("url").is_none() && (expected || !given.is_empty() || !announced.is_empty()) {
            reader.error(fields.at("url"), "is missing: expected a URL such as `rediss://redis.example:6379`");
        }
        let access = RedisAccess {
            url: url?,
            username: given.get("username").cloned(),
            password: passwords.remove("password"),
            ca: pem.remove("ca"),
            certificate: pem.remove("cert"),
            key: pem.remove("key"),
            server_name: given.get("server_name").cloned(),
            sentinel_username: given.get("sentinel_username").cloned(),
            sentinel_password: passwords.remove("sentinel_password"),
            announced,
        };
        Some(Self { access, path: fields.path.to_string(), fields: Some(given), files })
    }
}

impl fmt::Debug for RedisEntry {
    /// As it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisEntry").field(&self.shown()).finish()
    }
}

/// A password, from its own field or from the file that the other one names.
fn read_password(
    reader: &mut Reader,
    fields: &Fields<'_>,
    (field, file): (&'static str, &'static str),
    folder: &Path,
    given: &mut GivenFields,
) -> Option<String> {
    let password = reader.field(fields, field, Reader::text);
    given.texts.extend(password.as_ref().map(|password| (field, password.clone())));
    let bytes = read_file(reader, fields, file, "the path of a file with the password in it", folder, given);
    if password.is_some() && given.texts.contains_key(file) {
        reader.error(fields.at(file), format_args!("expected only one of `{file}` and `{field}`, got both"));
        return None;
    }
    let Some(bytes) = bytes else { return password };
    let name = given.texts.get(file).map(String::as_str).unwrap_or_default();
    let read = secret_in(bytes);
    if read.is_none() {
        reader.error(
            fields.at(file),
            format_args!("expected a file with the password in it, as UTF-8 text, got {}", quoted(name)),
        );
    }
    read
}

/// The bytes of the file that a field names.
fn read_file(
    reader: &mut Reader,
    fields: &Fields<'_>,
    field: &'static str,
    expected: &str,
    folder: &Path,
    given: &mut GivenFields,
) -> Option<Vec<u8>> {
    let file = NamedFile::read(reader, fields, field, expected, folder)?;
    let bytes = file.bytes.clone();
    given.texts.insert(field, file.written.clone());
    given.files.push((field, file));
    bytes
}

fn read_announced(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, String> {
    const EXPECTED: &str = "an object of announced addresses and those that can be reached, such as \
                            `\"172.17.0.2:7000\": \"127.0.0.1:7000\"`";
    let mut announced = BTreeMap::new();
    let Some((path, node)) = fields.get_unless_null("announced") else { return announced };
    for member in reader.collected(path, node, EXPECTED, Node::members).into_iter().flatten() {
        let shown = member.shown_name();
        let path = FieldPath::Field(&path, &shown);
        let to = reader.parsed(path, &member.value, "an address such as `127.0.0.1:7000`", Node::as_str);
        announced.extend(to.map(|to| (member.name.clone(), to.to_owned())));
    }
    announced
}
