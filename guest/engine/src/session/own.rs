//! Sessions that Slidegate keeps itself, for applications that keep none: their ids and keys, their records, and what
//! an application says of a session in a header of its response.
//!
//! An id is six digits that its user's sessions share and 128 random bits. A record's key has a digest of the id: who
//! reads Redis has no session by it. The digits are a hash tag, so that in a cluster a user's sessions are together.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use hmac_sha256::Hash;
use slidegate_document::{Content, Member, Node};

use super::{
    field_path::FieldPath,
    fields::{FIELDS_MAX, header_value, says_somebody},
};
use crate::base64::Base64;

/// The header by which an application sets or ends a session, in lower case.
pub const SESSION_SET: &str = "x-slidegate-session-set";

/// The longest value of it, in bytes.
pub const ORDER_MAX: usize = 4_096;

/// Digits that the sessions of a user share, and those of an id's random bits.
const TAG_DIGITS: usize = 6;
const RANDOM_DIGITS: usize = 22;

/// Names in a record.
pub(super) const FIELDS: &str = "fields";
pub(super) const ENDS_MS: &str = "ends_ms";

/// What an application wants to become of the session of a request: the value of [`SESSION_SET`].
///
/// It is `delete`, or a JSON object as in `{"fields": {"user": "alice", "admin": true}, "rotate": true}`: all fields
/// that the session has from then on, texts, whole numbers, or true and false; and whether it gets a new id, which it
/// does anyhow when it becomes another user's.
#[derive(Clone, PartialEq)]
pub enum SessionOrder {
    /// The session ends.
    Delete,
    /// It has these fields from now on.
    Set(OrderedFields),
}

/// The fields of a session, as an application sets them.
#[derive(Clone, PartialEq)]
pub struct OrderedFields {
    /// Names and values, as headers carry these.
    values: Vec<(String, String)>,
    /// All of them, as JSON.
    json: String,
    /// It asks for a new id.
    pub rotate: bool,
}

/// Why an order is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOrderError {
    /// The header stands there several times, with different values.
    Ambiguous,
    /// It is longer than 4,096 bytes.
    TooLong,
    /// It is neither `delete` nor a JSON object with `fields`, an object, and no other member but `rotate`, true or
    /// false.
    Malformed,
    /// There are more than 31 fields, one without a name, or two of one name.
    Fields,
    /// A field is neither text, whole number, true nor false, or has control characters, or more than 4,096 bytes.
    Value,
    /// No field says whose session it is.
    Nobody,
}

// === impl SessionOrder ===

impl SessionOrder {
    /// Reads the values of the header.
    ///
    /// # Errors
    /// It is none.
    pub fn read(values: &[Vec<u8>]) -> Result<Option<SessionOrder>, SessionOrderError> {
        let Some((value, others)) = values.split_first() else { return Ok(None) };
        if others.iter().any(|other| other != value) {
            return Err(SessionOrderError::Ambiguous);
        }
        if value.len() > ORDER_MAX {
            return Err(SessionOrderError::TooLong);
        }
        if value.trim_ascii() == b"delete" {
            return Ok(Some(SessionOrder::Delete));
        }
        let order = Node::parse(value).map_err(|_| SessionOrderError::Malformed)?;
        let (mut fields, mut rotate) = (None, None);
        for member in order.members().ok_or(SessionOrderError::Malformed)? {
            match (member.name.as_str(), &member.value.content) {
                (FIELDS, Content::Object(members)) if fields.is_none() => fields = Some(members),
                ("rotate", Content::Bool(said)) if rotate.is_none() => rotate = Some(*said),
                _ => return Err(SessionOrderError::Malformed),
            }
        }
        let fields = fields.ok_or(SessionOrderError::Malformed)?;
        let mut values: Vec<(String, String)> = Vec::new();
        for Member { name, value, .. } in fields {
            let value = value_text(value).and_then(|text| header_value(text.as_bytes()));
            let value = value.ok_or(SessionOrderError::Value)?;
            let is_again = values.iter().any(|(other, _)| other == name);
            if is_again || name.is_empty() || values.len() >= FIELDS_MAX {
                return Err(SessionOrderError::Fields);
            }
            values.push((name.clone(), value));
        }
        let json = order.get(FIELDS).map(Node::to_string).unwrap_or_default();
        Ok(Some(SessionOrder::Set(OrderedFields { values, json, rotate: rotate.unwrap_or_default() })))
    }
}

impl OrderedFields {
    /// Whose session it is by this field, as headers tell it.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn user(&self, user: &FieldPath) -> Result<String, SessionOrderError> {
        let of_user = self.values.iter().find(|(name, _)| user.goes_on(0, name.as_bytes()));
        let value = of_user.map(|(_, value)| value.clone());
        value.filter(|value| says_somebody(value)).ok_or(SessionOrderError::Nobody)
    }

    /// The record of a session with these fields, which is good until then, in milliseconds since 1970.
    pub fn record(&self, ends_ms: i64) -> Vec<u8> {
        format!("{{\"{ENDS_MS}\":{ends_ms},\"{FIELDS}\":{}}}", self.json).into_bytes()
    }
}

/// Shows no value.
impl core::fmt::Debug for SessionOrder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SessionOrder::Delete => f.write_str("Delete"),
            SessionOrder::Set(set) => set.fmt(f),
        }
    }
}

/// Shows no value.
impl core::fmt::Debug for OrderedFields {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} fields, rotate: {}", self.values.len(), self.rotate)
    }
}

/// A value as a text, as whoever reads the record has it.
fn value_text(value: &Node) -> Option<String> {
    match &value.content {
        Content::Text(text) => Some(text.clone()),
        Content::Unsigned(_) | Content::Negative(_) | Content::Bool(_) => Some(format!("{value}")),
        Content::Float(_) | Content::Null | Content::List(_) | Content::Object(_) => None,
    }
}

// === impl SessionOrderError ===

impl SessionOrderError {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionOrderError::Ambiguous => "ambiguous",
            SessionOrderError::TooLong => "too_long",
            SessionOrderError::Malformed => "malformed",
            SessionOrderError::Fields => "fields",
            SessionOrderError::Value => "value",
            SessionOrderError::Nobody => "nobody",
        }
    }
}

/// An id for a session of this user, of bits that nobody can guess.
pub(crate) fn new_id(user: &str, random: [u8; 16]) -> Vec<u8> {
    [tag(user), Base64::Url.encode(&random)].concat()
}

/// Whether this is written like an id.
pub(super) fn is_id(id: &[u8]) -> bool {
    id.len() == TAG_DIGITS + RANDOM_DIGITS && id.iter().all(|digit| Base64::Url.value(*digit).is_some())
}

/// The key of a session's record, behind what all keys begin with: its tag, and a digest of its id.
pub(super) fn key_of_id(id: &[u8]) -> Vec<u8> {
    let tag = id.get(..TAG_DIGITS).unwrap_or_default();
    [b"{", tag, b"}:", &Base64::Url.encode(&Hash::hash(id))].concat()
}

/// The key of what is known of all sessions of a user.
pub(crate) fn key_of_user(prefix: &str, user: &str) -> Vec<u8> {
    [prefix.as_bytes(), b"{", &tag(user), b"}:of:", &Base64::Url.encode(&Hash::hash(user.as_bytes()))].concat()
}

/// What a record's key has behind its tag.
pub(crate) fn digest_in(key: &[u8]) -> &[u8] {
    key.rsplit(|byte| *byte == b':').next().unwrap_or_default()
}

fn tag(user: &str) -> Vec<u8> {
    let mut hash = Hash::new();
    [b"slidegate sessions of ", user.as_bytes()].iter().for_each(|part| hash.update(part));
    let mut digits = Base64::Url.encode(&hash.finalize());
    digits.truncate(TAG_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn order(value: &str) -> Result<SessionOrder, SessionOrderError> {
        SessionOrder::read(&[value.as_bytes().to_vec()]).map(|order| order.expect("there is one"))
    }

    fn set(value: &str) -> OrderedFields {
        match order(value) {
            Ok(SessionOrder::Set(set)) => set,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_is_set_or_deleted() {
        assert_eq!(SessionOrder::read(&[]), Ok(None));
        for value in ["delete", " delete "] {
            assert_eq!(order(value), Ok(SessionOrder::Delete));
        }
        let alice = set(r#"{"fields": {"user": "alice", "id": 42, "admin": true, "off": -1}}"#);
        assert!(!alice.rotate && set(r#"{"rotate":true,"fields":{"user":"alice"}}"#).rotate);
        assert_eq!(
            String::from_utf8(alice.record(7)).unwrap(),
            r#"{"ends_ms":7,"fields":{"user":"alice","id":42,"admin":true,"off":-1}}"#
        );
        let twice = vec![b"delete".to_vec(); 2];
        assert_eq!(SessionOrder::read(&twice), Ok(Some(SessionOrder::Delete)));
    }

    #[test]
    fn what_is_not_exactly_an_order_is_none() {
        let many: Vec<String> = (0..32).map(|at| format!("\"f{at}\":1")).collect();
        let deep = "[".repeat(200);
        for (value, error) in [
            ("", SessionOrderError::Malformed),
            ("DELETE", SessionOrderError::Malformed),
            ("delete;", SessionOrderError::Malformed),
            ("[]", SessionOrderError::Malformed),
            ("{}", SessionOrderError::Malformed),
            (r#"{"user":"alice"}"#, SessionOrderError::Malformed),
            (r#"{"fields":{"user":"a"},"rotat":true}"#, SessionOrderError::Malformed),
            (r#"{"fields":{"user":"a"},"rotate":1}"#, SessionOrderError::Malformed),
            (r#"{"fields":{"user":"a"},"fields":{"user":"b"}}"#, SessionOrderError::Malformed),
            (r#"{"fields":[]}"#, SessionOrderError::Malformed),
            (r#"{"fields":{"user":"a"}} x"#, SessionOrderError::Malformed),
            (r#"{"fields":{"user":"a","user":"b"}}"#, SessionOrderError::Fields),
            (r#"{"fields":{"":"a"}}"#, SessionOrderError::Fields),
            (&format!("{{\"fields\":{{{}}}}}", many.join(",")), SessionOrderError::Fields),
            (r#"{"fields":{"user":null}}"#, SessionOrderError::Value),
            (r#"{"fields":{"user":{"id":1}}}"#, SessionOrderError::Value),
            (r#"{"fields":{"user":["a"]}}"#, SessionOrderError::Value),
            (r#"{"fields":{"user":1.5}}"#, SessionOrderError::Value),
            (r#"{"fields":{"user":123456789012345678901234567890}}"#, SessionOrderError::Value),
            (r#"{"fields":{"user":"a\nb"}}"#, SessionOrderError::Value),
            (&format!("{{\"fields\":{{\"user\":{deep}}}}}"), SessionOrderError::Malformed),
            (&"x".repeat(ORDER_MAX + 1), SessionOrderError::TooLong),
        ] {
            assert_eq!(order(value), Err(error), "{value}");
        }
        let two = [b"delete".to_vec(), b"{}".to_vec()];
        assert_eq!(SessionOrder::read(&two), Err(SessionOrderError::Ambiguous));
        let user = FieldPath::parse("user").unwrap();
        for nobody in [r#"{"fields":{"name":"a"}}"#, r#"{"fields":{"user":""}}"#, r#"{"fields":{"user":false}}"#] {
            assert_eq!(set(nobody).user(&user), Err(SessionOrderError::Nobody), "{nobody}");
        }
        assert_eq!(set(r#"{"fields":{"user":"a b"}}"#).user(&user), Ok("a%20b".to_string()));
    }

    #[test]
    fn keys_tell_no_id_and_a_users_are_together() {
        let [one, other] = [[1; 16], [2; 16]].map(|random| new_id("alice", random));
        assert!(is_id(&one) && one != other && one[..6] == other[..6]);
        let key = key_of_id(&one);
        let text = String::from_utf8(key.clone()).unwrap();
        assert!(text.starts_with('{') && !text.contains(str::from_utf8(&one[6..]).unwrap()), "{text}");
        assert_eq!((digest_in(&key).len(), key[..9] == key_of_user("", "alice")[..9]), (43, true));
        assert!(key_of_user("s:", "alice") != key_of_user("s:", "bob"));
        for id in [&one[1..], b"", &[&one[..], b"a"].concat(), &[&one[1..], b"."].concat()] {
            assert!(!is_id(id));
        }
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_record_is_what_was_set(text in "\\PC{0,20}", number in any::<i64>(),
            flag in any::<bool>()) {
            let fields = serde_json::json!({"user": text, "number": number, "flag": flag});
            let set = set(&serde_json::json!({"fields": fields}).to_string());
            let record: serde_json::Value = serde_json::from_slice(&set.record(number)).unwrap();
            prop_assert_eq!(record, serde_json::json!({"ends_ms": number, "fields": fields}));
        }

        #[test]
        fn no_bytes_stop_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = SessionOrder::read(&[bytes]);
        }
    }
}
