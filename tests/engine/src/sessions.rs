//! Sessions as libraries write them, from the files of `tests/sessions/records`, and as their libraries read them.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};
use slidegate_engine::session::{
    FieldPath, FoundSession, SessionFormat, SessionLead, SessionMiss, SessionReader, SessionRecord, SessionSettings,
    SessionSource, VALUE_MAX,
};

/// A session that a library made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibrarySession {
    /// What it is.
    pub case: String,
    /// The library, with its version.
    pub made_by: String,
    /// As a configuration spells it.
    pub format: String,
    /// The cookie's name.
    pub name: String,
    #[serde(default)]
    prefix: String,
    cookie: Base64Bytes,
    /// What the gateway knows, the newest first.
    pub secrets: Vec<String>,
    key: Option<Base64Bytes>,
    string: Option<Base64Bytes>,
    hash: Option<Vec<(Base64Bytes, Base64Bytes)>>,
    /// When it is read.
    pub now_ms: i64,
    #[serde(default)]
    max_age_s: u64,
    said: Option<Value>,
    #[serde(default)]
    nothing: Vec<String>,
    miss: Option<String>,
}

/// Bytes that stand in base64 in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Base64Bytes(Vec<u8>);

impl TryFrom<String> for Base64Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Base64Bytes, Self::Error> {
        STANDARD.decode(text).map(Base64Bytes)
    }
}

/// All of them.
///
/// # Panics
///
/// A file is not as its description says.
pub fn all() -> Vec<LibrarySession> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sessions/records");
    let files = fs::read_dir(&folder).expect("records of sessions").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    let text = |file| fs::read_to_string(file).expect("a text");
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    files.iter().flat_map(|file| text(file).lines().map(line).collect::<Vec<_>>()).collect()
}

impl LibrarySession {
    /// Who reads these fields of it.
    pub fn reader(&self, fields: &[String]) -> SessionReader {
        SessionReader::new(&self.settings(fields))
    }

    /// What reads these fields of it is made of.
    ///
    /// # Panics
    ///
    /// A field's path is none, or the format.
    pub fn settings(&self, fields: &[String]) -> SessionSettings {
        SessionSettings {
            format: SessionFormat::named(&self.format).expect("a format"),
            source: SessionSource::Cookie(self.name.clone()),
            key_prefix: self.prefix.clone(),
            secrets: self.secrets.clone(),
            max_age_s: self.max_age_s,
            fields: fields.iter().map(|field| FieldPath::parse(field).expect(field)).collect(),
        }
    }

    /// The `cookie` header.
    pub fn header(&self) -> &[u8] {
        &self.cookie.0
    }

    /// The key that the library wrote.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.0.as_slice())
    }

    /// What it wrote there.
    pub fn record(&self) -> SessionRecord<'_> {
        match (&self.string, &self.hash) {
            (Some(string), _) => SessionRecord::String(&string.0),
            (_, Some(hash)) => SessionRecord::Hash(hash.iter().map(|(name, value)| (&*name.0, &*value.0)).collect()),
            _ => SessionRecord::None,
        }
    }

    /// What must be found in it, or why nothing is: the value of each path.
    ///
    /// # Errors
    ///
    /// The name of the cause.
    pub fn expected(&self) -> Result<BTreeMap<String, ExpectedValue>, &str> {
        match (&self.said, &self.miss) {
            (_, Some(miss)) => Err(miss),
            (said, None) => {
                let said = said.clone().expect("it is read, or not");
                let mut values = expected_values(&if self.format == "spring" { without_classes(said) } else { said });
                values.extend(self.nothing.iter().map(|name| (escaped(name), ExpectedValue::None)));
                Ok(values)
            }
        }
    }

    /// As [`read`](Self::read), at another time and for one field.
    ///
    /// # Errors
    ///
    /// The cause of a miss, wherever it is.
    pub fn read_at(self, now_ms: i64) -> Result<FoundSession, SessionMiss> {
        let session = LibrarySession { now_ms, ..self };
        session.read(&session.reader(&["user_id".to_owned()]))
    }

    /// The whole way, from the cookie to the fields.
    ///
    /// # Errors
    ///
    /// The cause of a miss, wherever it is.
    ///
    /// # Panics
    ///
    /// The key is not the library's.
    pub fn read(&self, reader: &SessionReader) -> Result<FoundSession, SessionMiss> {
        match reader.lead([self.header()], self.now_ms)? {
            SessionLead::Content(values) => Ok(values),
            SessionLead::Key(key) => {
                assert_eq!(Some(&*key), self.key(), "{}: {}", self.format, self.case);
                reader.read(self.record(), self.now_ms)
            }
        }
    }
}

/// What a header must say of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpectedValue {
    /// Nothing.
    None,
    /// This text.
    Text(String),
    /// This number, however it is spelt.
    Number(f64),
}

impl ExpectedValue {
    /// Whether a header says so.
    pub fn is(&self, value: Option<&str>) -> bool {
        match self {
            ExpectedValue::None => value.is_none(),
            ExpectedValue::Text(text) => value == Some(text),
            ExpectedValue::Number(number) => value.and_then(|value| value.parse().ok()) == Some(*number),
        }
    }
}

/// What must be found in a document: the value of each path.
pub fn expected_values(document: &Value) -> BTreeMap<String, ExpectedValue> {
    let mut values = BTreeMap::new();
    flatten(document, None, &mut values);
    values
}

/// Numbers that stand in a list behind their class, as Jackson writes those of maps, without it.
fn without_classes(document: Value) -> Value {
    match document {
        Value::Array(list) if list.first().is_some_and(|class| class == "java.lang.Long") => list[1].clone(),
        Value::Array(list) => list.into_iter().map(without_classes).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, without_classes(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// The values in a document by their paths, the document's own last.
fn flatten(document: &Value, path: Option<&str>, values: &mut BTreeMap<String, ExpectedValue>) {
    let below = |name: &str| path.map_or(escaped(name), |path| format!("{path}.{}", escaped(name)));
    match document {
        Value::Object(members) => members.iter().for_each(|(name, value)| flatten(value, Some(&below(name)), values)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| flatten(value, Some(&below(&at.to_string())), values));
        }
        _ => {}
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        values.insert(path.to_owned(), expected_value(document));
    }
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}

fn expected_value(value: &Value) -> ExpectedValue {
    match value {
        Value::Bool(flag) => ExpectedValue::Text(flag.to_string()),
        Value::Number(number) if number.is_f64() => ExpectedValue::Number(number.as_f64().expect("a float")),
        Value::Number(number) => ExpectedValue::Text(number.to_string()),
        Value::String(text) if text.contains(|sign: char| sign.is_ascii_control()) => ExpectedValue::None,
        Value::String(text) => {
            let written: String = text.bytes().map(written).collect();
            if written.len() > VALUE_MAX { ExpectedValue::None } else { ExpectedValue::Text(written) }
        }
        Value::Null | Value::Array(_) | Value::Object(_) => ExpectedValue::None,
    }
}

fn written(byte: u8) -> String {
    match byte {
        b'!'..=b'~' if !matches!(byte, b'%' | b',') => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}
