//! How one Redis is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use slidegate::{RedisAccess, RedisAccessError};

use super::super::fields::{Fields, Mistake, quoted, unexpected};
use super::super::file::{self, Occasion};
use super::super::secret::{HIDDEN, is_secret_name, url_shown};

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
}

impl RedisEntry {
    pub(super) fn of_url(path: String, url: &str) -> Self {
        Self { access: RedisAccess::from(url), path, fields: None }
    }

    /// What is wrong with the entry, as the library sees it.
    pub(crate) fn mistake(&self, error: &RedisAccessError) -> Mistake {
        let Some(fields) = &self.fields else {
            let message = if error.field() == "url" { error.to_string() } else { error.message().to_owned() };
            return Mistake::new(&self.path, message);
        };
        // What is wrong with a password may stand in the field that names its file.
        let file = PASSWORDS.into_iter().find(|(field, file)| *field == error.field() && fields.contains_key(file)).map(|(_, file)| file);
        let field = file.unwrap_or(error.field());
        let message = match fields.get(field) {
            _ if field == "url" => error.to_string(),
            Some(given) if !is_secret_name(field) => format!("{} (got {})", error.message(), quoted(given)),
            _ => error.message().to_owned(),
        };
        Mistake::new(format!("{}.{field}", self.path), message)
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
    pub(super) fn read(fields: &mut Fields<'_>, expected: bool, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let (path, url_path) = (fields.path(), fields.path_of("url"));
        let has_url = fields.value("url").is_some();
        let url = fields.text("url", mistakes);
        let mut missing = (!has_url).then(|| Mistake::new(url_path, "is missing: expected a URL such as `rediss://redis.example:6379`"));
        if expected {
            mistakes.extend(missing.take());
        }
        let mut given = BTreeMap::new();
        let mut pem = BTreeMap::new();
        for field in PEM_FILES {
            pem.extend(read_file(fields, field, "the path of a file in PEM", folder, &mut given, mistakes).map(|bytes| (field, bytes)));
        }
        let mut passwords = BTreeMap::new();
        for (field, file) in PASSWORDS {
            passwords.extend(read_password(fields, (field, file), folder, &mut given, mistakes).map(|password| (field, password)));
        }
        for field in TEXTS {
            given.extend(fields.text(field, mistakes).map(|text| (field, text)));
        }
        let announced = read_announced(fields, mistakes);
        if !given.is_empty() || !announced.is_empty() {
            mistakes.extend(missing);
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
        Some(Self { access, path, fields: Some(given) })
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
    fields: &mut Fields<'_>,
    (field, file): (&'static str, &'static str),
    folder: &Path,
    given: &mut BTreeMap<&'static str, String>,
    mistakes: &mut Vec<Mistake>,
) -> Option<String> {
    let password = fields.text(field, mistakes);
    given.extend(password.as_ref().map(|password| (field, password.clone())));
    let file_path = fields.path_of(file);
    let bytes = read_file(fields, file, "the path of a file with the password in it", folder, given, mistakes);
    if password.is_some() && given.contains_key(file) {
        mistakes.push(Mistake::new(file_path, format!("expected only one of `{file}` and `{field}`, got both")));
        return None;
    }
    let Some(bytes) = bytes else { return password };
    let name = given.get(file).map(String::as_str).unwrap_or_default();
    let read = String::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned()).ok().filter(|text| !text.is_empty());
    if read.is_none() {
        mistakes.push(Mistake::new(file_path, format!("expected a file with the password in it, as UTF-8 text, got {}", quoted(name))));
    }
    read
}

/// The bytes of the file that a field names.
fn read_file(
    fields: &mut Fields<'_>,
    field: &'static str,
    expected: &str,
    folder: &Path,
    given: &mut BTreeMap<&'static str, String>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<u8>> {
    let path = fields.path_of(field);
    let file = fields.read(field, expected, mistakes, Value::as_str)?;
    given.insert(field, file.to_owned());
    // As in a reload also at the start, so that a file that is taken then is taken later.
    let read = file::read(&folder.join(file), Occasion::Reload);
    read.map_err(|reason| mistakes.push(Mistake::new(path, format!("expected a file that can be read, got {}: {reason}", quoted(file)))))
        .ok()
}

fn read_announced(fields: &mut Fields<'_>, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    const EXPECTED: &str =
        "an object of announced addresses and those that can be reached, such as `\"172.17.0.2:7000\": \"127.0.0.1:7000\"`";
    let path = fields.path_of("announced");
    let mut announced = BTreeMap::new();
    for (from, to) in fields.read("announced", EXPECTED, mistakes, Value::as_object).into_iter().flatten() {
        match to.as_str() {
            Some(to) => drop(announced.insert(from.clone(), to.to_owned())),
            None => mistakes.push(unexpected(&format!("{path}.{from}"), to, "an address such as `127.0.0.1:7000`")),
        }
    }
    announced
}
