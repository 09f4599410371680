//! From a request's cookie to the fields of its session.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use hmac_sha256::Hash;

use super::{
    cookie::{session_cookie, session_header},
    date::unix_ms,
    field_path::FieldPath,
    fields::{FoundFields, WantedFields, header_value},
    format::{CookieForm, KeyForm, SessionFormat},
    hash, json,
    miss::SessionMiss,
    msgpack, php,
    source::SessionSource,
};
use crate::value_hash::hex;

/// The longest record that is read, in bytes.
pub const RECORD_MAX: usize = 256 << 10;

/// What a reader of sessions is made of.
#[derive(Clone)]
pub struct SessionSettings {
    /// How the application keeps them.
    pub format: SessionFormat,
    /// Where a request has it.
    pub source: SessionSource,
    /// What keys begin with.
    pub key_prefix: String,
    /// Secrets of the application, any of which may have signed. None: cookies are not signed.
    pub secrets: Vec<String>,
    /// How long a signed cookie with all in it is good, in seconds.
    pub max_age_s: u64,
    /// The fields that are wanted, at most [`FIELDS_MAX`](super::FIELDS_MAX).
    pub fields: Vec<FieldPath>,
}

/// Reads sessions of one application.
#[derive(Debug, Clone)]
pub struct SessionReader {
    format: SessionFormat,
    source: SessionSource,
    cookie_form: CookieForm,
    key_prefix: String,
    wanted: WantedFields,
    fields: usize,
}

/// What a cookie leads to.
#[derive(Clone, PartialEq, Eq)]
pub enum SessionLead {
    /// A record in Redis under this key.
    Key(Vec<u8>),
    /// The session itself, which stood in the cookie.
    Fields(SessionValues),
}

/// The values of a session's fields, in the order in which they were asked for, as headers carry them: in visible ASCII,
/// with all else percent-encoded. None where the session has no such field, or nothing that fits into a header: a list,
/// null, a text with control characters in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionValues(pub Vec<Option<String>>);

/// What Redis has for a key.
#[derive(Clone)]
pub enum SessionRecord<'r> {
    /// Nothing.
    None,
    /// A string.
    String(&'r [u8]),
    /// A hash: names and values.
    Hash(Vec<(&'r [u8], &'r [u8])>),
    /// Something else.
    OfOtherType,
}

// === impl SessionReader ===

impl SessionReader {
    /// Of these sessions.
    pub fn new(settings: &SessionSettings) -> SessionReader {
        let SessionSettings { format, source, key_prefix, secrets, max_age_s, fields } = settings;
        let mut paths = fields.clone();
        if *format == SessionFormat::Express {
            paths.extend(FieldPath::parse("cookie.expires"));
        }
        SessionReader {
            format: *format,
            source: source.clone(),
            cookie_form: format.cookie_form(source, secrets, *max_age_s),
            key_prefix: key_prefix.clone(),
            wanted: WantedFields::new(paths),
            fields: fields.len(),
        }
    }

    /// The header that has it, in lower case.
    pub fn header(&self) -> &str {
        match &self.source {
            SessionSource::Cookie(_) => "cookie",
            SessionSource::Header(name) => name,
        }
    }

    /// What a request leads to that has these values of that header. `now_ms` is the time, since 1970.
    ///
    /// # Errors
    /// There is no session, for this cause.
    pub fn lead<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
        now_ms: i64,
    ) -> Result<SessionLead, SessionMiss> {
        let value = match &self.source {
            SessionSource::Cookie(name) => session_cookie(values, name.as_bytes())?,
            SessionSource::Header(_) => session_header(values)?,
        };
        match &self.cookie_form {
            CookieForm::Id(form) => Ok(SessionLead::Key(self.key(&form.id(&value)?))),
            CookieForm::Content(form) => {
                let content = form.content(&value, now_ms)?;
                let mut found = FoundFields::new(&self.wanted);
                json::read_object(&content, &mut found)?;
                Ok(SessionLead::Fields(self.values(found.into_texts())))
            }
        }
    }

    /// The fields of a record. `now_ms` is the time, since 1970.
    ///
    /// # Errors
    /// There is no session, for this cause.
    pub fn read(&self, record: SessionRecord<'_>, now_ms: i64) -> Result<SessionValues, SessionMiss> {
        let mut found = FoundFields::new(&self.wanted);
        match (record, self.format) {
            (SessionRecord::None, _) => return Err(SessionMiss::Unknown),
            (SessionRecord::Hash(pairs), SessionFormat::Spring | SessionFormat::Hash) => {
                if pairs.is_empty() {
                    return Err(SessionMiss::Unknown);
                }
                if pairs.iter().fold(0_usize, |sum, (name, value)| sum + name.len() + value.len()) > RECORD_MAX {
                    return Err(SessionMiss::TooLong);
                }
                if self.format == SessionFormat::Hash {
                    hash::read_hash(pairs, &mut found);
                } else {
                    hash::read_spring(pairs, &mut found, now_ms)?;
                }
            }
            // Other kinds of keys may begin like a session's.
            (SessionRecord::String(_), SessionFormat::Spring | SessionFormat::Hash) => {
                return Err(SessionMiss::ForeignType);
            }
            (SessionRecord::String(record), _) if record.len() > RECORD_MAX => return Err(SessionMiss::TooLong),
            (SessionRecord::String(record), SessionFormat::Php) => php::read_record(record, &mut found)?,
            (SessionRecord::String(record), format) => match text_form(record, format)? {
                TextForm::Json => json::read_object(record, &mut found)?,
                TextForm::MessagePack => msgpack::read_map(record, &mut found)?,
            },
            (SessionRecord::Hash(_) | SessionRecord::OfOtherType, _) => return Err(SessionMiss::ForeignType),
        }
        let mut texts = found.into_texts();
        if self.format == SessionFormat::Express
            && let Some(expires) = texts.pop().flatten()
            && is_over(&expires, now_ms)?
        {
            return Err(SessionMiss::Expired);
        }
        Ok(self.values(texts))
    }

    fn key(&self, id: &[u8]) -> Vec<u8> {
        let mut key = self.key_prefix.as_bytes().to_owned();
        match self.format.key_form() {
            KeyForm::Id => key.extend_from_slice(id),
            KeyForm::Sha256 => {
                key.extend_from_slice(b"2::");
                key.extend(Hash::hash(id).into_iter().flat_map(|byte| [hex(byte >> 4, b'a'), hex(byte & 15, b'a')]));
            }
        }
        key
    }

    fn values(&self, texts: Vec<Option<Vec<u8>>>) -> SessionValues {
        let texts = texts.into_iter().take(self.fields);
        SessionValues(texts.map(|text| text.and_then(|text| header_value(&text))).collect())
    }
}

/// How a record that is a string is written.
enum TextForm {
    Json,
    MessagePack,
}

/// Tells the forms by their beginnings. What a language writes for itself alone is never read: to read it is to run it.
fn text_form(record: &[u8], format: SessionFormat) -> Result<TextForm, SessionMiss> {
    match record {
        // Pickle from version 2 on, Marshal, and what compressors of caches write: zlib, gzip, zstd.
        [0x80, 2..=5, ..] | [0x04, 0x08, ..] | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] | [0x1f, 0x8b, ..] => {
            Err(SessionMiss::ForeignType)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(SessionMiss::ForeignType),
        [0x80..=0x8f | 0xde | 0xdf, ..] if format == SessionFormat::FlaskSession => Ok(TextForm::MessagePack),
        _ => Ok(TextForm::Json),
    }
}

/// Whether Express' date has come; it writes `false` where there is none.
fn is_over(expires: &[u8], now_ms: i64) -> Result<bool, SessionMiss> {
    if expires == b"false" {
        return Ok(false);
    }
    Ok(unix_ms(expires).ok_or(SessionMiss::Undecodable)? <= now_ms)
}

/// Shows no secret.
impl core::fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SessionSettings of {}", self.format.as_str())
    }
}

/// Shows no key: who knows an id has the session.
impl core::fmt::Debug for SessionLead {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SessionLead::Key(_) => f.write_str("Key"),
            SessionLead::Fields(values) => values.fmt(f),
        }
    }
}

/// Shows no value.
impl core::fmt::Debug for SessionValues {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SessionValues of {} fields, {} found", self.0.len(), self.0.iter().flatten().count())
    }
}
