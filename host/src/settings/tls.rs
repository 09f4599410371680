//! TLS in the file: `tls` of a listener, and `upstream_tls` of what `https` leads to. Both name files in PEM, relative
//! to the settings file.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::UnixTime;
use serde_json::{Map, Value, json};
use slidegate::OptionError;
use slidegate::tls::{
    ALPN_HTTP1, ALPN_HTTP2, Certificate, ClientOptions, ClientTls, MinVersion, ServerOptions, ServerTls,
    are_no_authorities, authorities_out_of_time,
};
use slidegate_document::{Content, Fields, Node, Reader};

use super::named_file::NamedFile;
use super::words::{self, quoted};

const PEM: &str = "the path of a file in PEM";

/// How a listener is secured. Two are equal that are made of the same, files included.
#[derive(Clone)]
pub(crate) struct ListenerTls {
    files: Files,
    options: ServerOptions,
    pub(crate) server: ServerTls,
}

/// How connections to `https` upstreams are secured. Two are equal that are made of the same, files and the system's
/// authorities included.
#[derive(Clone)]
pub(crate) struct UpstreamTls {
    files: Files,
    options: ClientOptions,
    pub(crate) client: ClientTls,
}

/// The files that the fields of one object name.
#[derive(Clone)]
struct Files {
    /// The object's path in the settings, which makes no difference.
    place: String,
    named: Vec<(&'static str, NamedFile)>,
}

// === impl ListenerTls ===

impl ListenerTls {
    /// Reads the field `tls` of a listener.
    pub(super) fn read(reader: &mut Reader, listener: &Fields<'_>, folder: &Path) -> Option<Self> {
        // What protects is not left out by a slip: here a field without a value is a mistake.
        if let Some((path, node)) = listener.get("tls").filter(|(_, node)| node.is_null()) {
            reader.expected(path, node, "an object with `cert` and `key`; to serve without TLS, leave the field out");
        }
        let given =
            reader.field(listener, "tls", |reader, path, node| reader.object(path, node, &words::LISTENER_TLS))?;
        if let Some((path, node)) = given.get("client_ca").filter(|(_, node)| node.is_null()) {
            reader.expected(path, node, format_args!("{PEM}; to ask no client for a certificate, leave the field out"));
        }
        let files = Files::read(reader, &given, &["cert", "key", "client_ca"], folder);
        let version = |node: &Node| match &node.content {
            Content::Text(text) => MinVersion::parse(text),
            Content::Float(number) => MinVersion::parse(&number.to_string()),
            _ => None,
        };
        let min_version = reader
            .field(&given, "min_version", |reader, path, node| reader.parsed(path, node, "`1.2` or `1.3`", version))
            .unwrap_or_default();
        for field in ["cert", "key"].into_iter().filter(|field| given.get_unless_null(field).is_none()) {
            reader.error(given.at(field), format_args!("is missing: expected {PEM}"));
        }
        let options = ServerOptions {
            certificate: files.bytes("cert")?,
            key: files.bytes("key")?,
            client_ca: files.bytes("client_ca"),
            min_version,
        };
        if files.names("client_ca") && options.client_ca.is_none() {
            return None;
        }
        match ServerTls::new(&options, &[ALPN_HTTP2, ALPN_HTTP1]) {
            Ok(server) => Some(Self { files, options, server }),
            Err(error) => {
                reader.error(given.at(error.field()), files.complaint(&error));
                None
            }
        }
    }

    /// What is odd about it, and no mistake.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.files.warnings(Some(self.server.certificate()))
    }

    /// The files it is made of.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.files.all()
    }

    pub(super) fn shown(&self) -> Value {
        let mut shown = self.files.shown();
        shown.insert("min_version".to_owned(), Value::from(self.options.min_version.name()));
        Value::Object(shown)
    }
}

impl fmt::Display for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS {} and above, certificate {}", self.options.min_version.name(), self.files.quoted("cert"))?;
        match self.files.names("client_ca") {
            true => write!(f, ", clients need one of {}", self.files.quoted("client_ca")),
            false => Ok(()),
        }
    }
}

impl PartialEq for ListenerTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.options == other.options
    }
}

impl fmt::Debug for ListenerTls {
    /// As it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListenerTls").field(&self.shown()).finish()
    }
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// Reads the field `upstream_tls`.
    pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, folder: &Path) -> Option<Self> {
        let given = reader
            .field(fields, "upstream_tls", |reader, path, node| reader.object(path, node, &words::UPSTREAM_TLS))?;
        let mistakes_before = reader.errors_count();
        let files = Files::read(reader, &given, &["ca", "cert", "key"], folder);
        let server_name = reader.field(&given, "server_name", Reader::text);
        if reader.errors_count() > mistakes_before {
            return None;
        }
        match Self::of(files, server_name) {
            Ok(tls) => Some(tls),
            Err((error, complaint)) => {
                reader.error(given.at(error.field()), complaint);
                None
            }
        }
    }

    /// That of upstreams of which nothing more is said; or why there is none.
    pub(super) fn of_system() -> Result<Self, String> {
        let files = Files { place: String::new(), named: Vec::new() };
        Self::of(files, None).map_err(|(error, _)| error.to_string())
    }

    fn of(files: Files, server_name: Option<String>) -> Result<Self, (OptionError, String)> {
        let options = ClientOptions {
            ca: files.bytes("ca"),
            certificate: files.bytes("cert"),
            key: files.bytes("key"),
            server_name,
        };
        match ClientTls::new(&options) {
            Ok(client) => Ok(Self { files, options, client }),
            Err(error) => {
                let complaint = files.complaint(&error);
                Err((error, complaint))
            }
        }
    }

    /// The name that the server's certificate has to hold, if that is not its address.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.options.server_name.as_deref()
    }

    /// What is odd about it, and no mistake.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.files.warnings(self.client.certificate())
    }

    /// The files it is made of.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.files.all()
    }

    pub(super) fn shown(&self) -> Value {
        let mut shown = self.files.shown();
        shown.extend(self.options.server_name.clone().map(|name| ("server_name".to_owned(), Value::from(name))));
        Value::Object(shown)
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.options == other.options && self.client.trusts_as(&other.client)
    }
}

impl fmt::Debug for UpstreamTls {
    /// As it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UpstreamTls").field(&self.shown()).finish()
    }
}

// === impl Files ===

impl Files {
    fn read(reader: &mut Reader, given: &Fields<'_>, fields: &[&'static str], folder: &Path) -> Self {
        let file = |field: &&'static str| Some((*field, NamedFile::read(reader, given, field, PEM, folder)?));
        let named = fields.iter().filter_map(file).collect();
        Self { place: given.path.to_string(), named }
    }

    fn file(&self, field: &str) -> Option<&NamedFile> {
        self.named.iter().find(|(name, _)| *name == field).map(|(_, file)| file)
    }

    fn names(&self, field: &str) -> bool {
        self.file(field).is_some()
    }

    fn bytes(&self, field: &str) -> Option<Vec<u8>> {
        self.file(field)?.bytes.clone()
    }

    fn quoted(&self, field: &str) -> String {
        quoted(self.file(field).map_or("", |file| &file.written))
    }

    fn all(&self) -> impl Iterator<Item = &NamedFile> {
        self.named.iter().map(|(_, file)| file)
    }

    /// What is wrong with one of the files, or with what else was said.
    fn complaint(&self, error: &OptionError) -> String {
        match self.names(error.field()) {
            true => format!("{} (got {})", error.message(), self.quoted(error.field())),
            false => error.message().to_owned(),
        }
    }

    fn warnings(&self, certificate: Option<&Certificate>) -> Vec<String> {
        warnings(&self.place, |field| self.file(field), certificate)
    }

    fn shown(&self) -> Map<String, Value> {
        self.named.iter().map(|(field, file)| ((*field).to_owned(), json!(file.written))).collect()
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.named == other.named
    }
}

/// What is odd about a certificate and its key, and about authorities, which fields of the object at this place name.
pub(super) fn warnings<'f>(
    place: &str,
    file: impl Fn(&str) -> Option<&'f NamedFile>,
    certificate: Option<&Certificate>,
) -> Vec<String> {
    let now = UnixTime::since_unix_epoch(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let named = |field: &str| quoted(file(field).map_or("", |file| &file.written));
    let mut warnings = Vec::new();
    if let Some(odd) = certificate.and_then(|certificate| certificate.out_of_time(now)) {
        warnings.push(format!("{place}.cert: the certificate in {} {odd}", named("cert")));
    }
    for field in ["ca", "client_ca"] {
        let pem = file(field).and_then(|file| file.bytes.as_deref());
        let Some(pem) = pem else { continue };
        if let Some(odd) = authorities_out_of_time(pem, now) {
            warnings.push(format!(
                "{place}.{field}: the certificate in {} {odd}; it is trusted here all the same",
                named(field)
            ));
        }
        if are_no_authorities(pem, now) {
            warnings.push(format!(
                "{place}.{field}: {} holds no certificate that may sign others or has signed itself: nobody is trusted \
                 for it, not even who shows it",
                named(field)
            ));
        }
    }
    warnings.extend(file("key").and_then(|file| file.warning(&format!("{place}.key"), "is a private key")));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn where_it_stands_makes_no_difference() {
        let read = |settings: Value| Settings::from_value(settings, Path::new("")).expect("settings").routes;
        let of_all = read(json!({"upstream": "https://a", "upstream_tls": {"server_name": "b"}}));
        let of_route = read(json!({"routes": [{"upstream": "https://a", "upstream_tls": {"server_name": "b"}}]}));
        let other = read(json!({"upstream": "https://a", "upstream_tls": {"server_name": "c"}}));
        assert_eq!(of_all[0].upstreams, of_route[0].upstreams);
        assert_ne!(of_all[0].upstreams, other[0].upstreams);
    }
}
