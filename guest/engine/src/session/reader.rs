//! From a request's cookie to the fields of its session.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use hmac_sha256::Hash;

use super::{
    cookie::{session_cookie, session_header, without_cookie},
    field_path::FieldPath,
    fields::{FoundFields, WantedFields, header_value},
    format::{CookieForm, KeyForm, SessionFormat},
    hash, json,
    miss::SessionMiss,
    msgpack, own, php,
    record_cursor::RECORD_MAX,
    source::SessionSource,
};
use crate::{sorted, value_hash::hex};

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
    Content(FoundSession),
}

/// A session that is good.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// The values of its fields, in the order in which they were asked for, as headers carry them: in visible ASCII,
    /// with all else percent-encoded. None where the session has no such field, or nothing that fits into a header: a
    /// list, null, a text with control characters in it.
    pub values: Vec<Option<String>>,
    /// Until when it is good as it is, in milliseconds since 1970, where it says so itself.
    pub ends_ms: Option<i64>,
}

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
        SessionReader {
            format: *format,
            source: source.clone(),
            cookie_form: format.cookie_form(source, secrets, *max_age_s, key_prefix),
            key_prefix: key_prefix.clone(),
            wanted: WantedFields::new(wanted(*format, fields)),
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
            SessionSource::Cookie(name) => session_cookie(values, name)?,
            SessionSource::Header(_) => session_header(values)?,
        };
        match &self.cookie_form {
            CookieForm::Id(form) => Ok(SessionLead::Key(self.key(&form.id(&value)?))),
            CookieForm::Content(form) => {
                let (content, ends_ms) = form.content(&value, now_ms)?;
                let mut found = FoundFields::new(&self.wanted);
                json::read_object(&content, &mut found)?;
                Ok(SessionLead::Content(self.session(found.into_texts(), Some(ends_ms))))
            }
        }
    }

    /// What goes on of these values of that header in place of them, without the session that was not taken. None:
    /// nothing.
    pub fn without<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
        match &self.source {
            SessionSource::Cookie(name) => without_cookie(values, name),
            SessionSource::Header(_) => None,
        }
    }

    /// Which fields of a hash it reads, each once. The others may be left out of a record. Empty where no hash is
    /// stored.
    pub fn hash_fields(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = match self.format {
            SessionFormat::Spring => hash::spring_fields(self.wanted.first_names()).collect(),
            SessionFormat::Hash => self.wanted.first_names().map(|name| name.as_bytes().to_owned()).collect(),
            _ => Vec::new(),
        };
        sorted::sort_each_once(&mut names);
        names
    }

    /// The session in a record. `now_ms` is the time, since 1970.
    ///
    /// # Errors
    /// There is no session, for this cause.
    pub fn read(&self, record: SessionRecord<'_>, now_ms: i64) -> Result<FoundSession, SessionMiss> {
        let mut found = FoundFields::new(&self.wanted);
        let mut ends_ms = None;
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
                    ends_ms = hash::read_spring(pairs, &mut found)?;
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
        let texts = found.into_texts();
        if self.format == SessionFormat::Own {
            let own = texts.get(self.fields).and_then(|text| str::from_utf8(text.as_deref()?).ok()?.parse().ok());
            ends_ms = Some(own.ok_or(SessionMiss::Undecodable)?);
        }
        if ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms) {
            Err(SessionMiss::Expired)
        } else {
            Ok(self.session(texts, ends_ms))
        }
    }

    /// The key of a session's record, by its id.
    pub(crate) fn key(&self, id: &[u8]) -> Vec<u8> {
        let mut key = self.key_prefix.as_bytes().to_owned();
        match self.format.key_form() {
            KeyForm::Id => key.extend_from_slice(id),
            KeyForm::Sha256 => {
                key.extend_from_slice(b"2::");
                key.extend(Hash::hash(id).into_iter().flat_map(|byte| [hex(byte >> 4, b'a'), hex(byte & 15, b'a')]));
            }
            KeyForm::Own => key.extend(own::key_of_id(id)),
        }
        key
    }

    fn session(&self, texts: Vec<Option<Vec<u8>>>, ends_ms: Option<i64>) -> FoundSession {
        let texts = texts.into_iter().take(self.fields);
        FoundSession { values: texts.map(|text| text.and_then(|text| header_value(&text))).collect(), ends_ms }
    }
}

/// The fields that are read of a record.
fn wanted(format: SessionFormat, fields: &[FieldPath]) -> Vec<FieldPath> {
    if format != SessionFormat::Own {
        return fields.to_vec();
    }
    // Behind all others stands until when it is good.
    fields.iter().map(|field| field.inside(own::FIELDS)).chain(FieldPath::parse(own::ENDS_MS)).collect()
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
            SessionLead::Content(session) => session.fmt(f),
        }
    }
}

/// Shows no value.
impl core::fmt::Debug for FoundSession {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let told = self.values.iter().flatten().count();
        write!(f, "FoundSession with {told} of {} fields, ends at {:?}", self.values.len(), self.ends_ms)
    }
}
