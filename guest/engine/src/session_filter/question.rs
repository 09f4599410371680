//! What a call to Redis asks for a session.

use alloc::{rc::Rc, string::String, vec::Vec};

use super::writes::{BeginScript, SessionWrite};
use crate::{
    redis::{Command, Form, Reply, Value},
    session::{FoundSession, RecordKind, SessionMiss, SessionReader, SessionRecord, SessionSettings},
    store::{
        Ask,
        failure::{sayable, sayable_code},
    },
    streams::Waiter,
    turn::Turn,
};

/// The last byte that is asked for of a record: one more than may be read.
const RECORD_END: &[u8] = b"262144";

/// How sessions are looked up.
#[derive(Debug)]
pub(super) struct SessionLookup {
    pub(super) reader: SessionReader,
    kind: RecordKind,
    /// The fields of a hash that are asked for.
    hash_fields: Vec<Vec<u8>>,
}

/// A request that asks.
#[derive(Debug)]
pub(super) struct SessionAsker {
    pub(super) waiter: Waiter,
    pub(super) if_missing: IfMissing,
    /// It changes nothing, by its method.
    pub(super) is_safe: bool,
    /// What its header is without the session, should that not be taken. None: nothing.
    pub(super) without: Option<Vec<u8>>,
    /// The key of its record, if it is one of ours.
    pub(super) own_key: Option<Vec<u8>>,
}

/// What becomes of a request if it has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfMissing {
    Pass,
    Unauthorized,
    /// Its client shows pages to people.
    SentToPage,
}

/// What the filter works with in a step.
pub(crate) type SessionTurn<'a> = Turn<'a, SessionQuestion, ()>;

/// What is asked of Redis.
#[derive(Debug)]
pub(crate) enum SessionQuestion {
    /// What it has for a session.
    Record(RecordQuestion),
    /// To write something.
    Write(WriteQuestion),
}

/// What it says.
#[derive(Debug, PartialEq)]
pub(crate) enum SessionAnswer {
    /// This is there.
    Record(Result<FoundSession, SessionMiss>),
    /// It was written, by this number of what was found.
    Written(i64),
}

/// A question for a record, for all who wait for the same flight.
pub(crate) struct RecordQuestion {
    pub(super) lookup: Rc<SessionLookup>,
    pub(super) key: Vec<u8>,
    /// When, in milliseconds since 1970.
    pub(super) asked_ms: i64,
    pub(super) flight: u64,
}

/// A step of an order for a session of ours.
pub(crate) struct WriteQuestion {
    pub(super) write: SessionWrite,
    pub(super) script: Rc<BeginScript>,
    /// Of which order. None: nobody waits.
    pub(super) order: Option<u64>,
}

// === impl SessionLookup ===

impl SessionLookup {
    pub(super) fn new(settings: &SessionSettings) -> Self {
        let reader = SessionReader::new(settings);
        let kind = settings.format.record().unwrap_or(RecordKind::String);
        SessionLookup { kind, hash_fields: reader.hash_fields(), reader }
    }
}

// === impl SessionQuestion ===

impl SessionQuestion {
    /// What may be shown of an error that it met: whoever knows an id has its session.
    pub(crate) fn explain(&self, error: &str) -> String {
        let is_quoted = match self {
            SessionQuestion::Record(question) => error.contains(&*String::from_utf8_lossy(&question.key)),
            // It may quote any of its words.
            SessionQuestion::Write(_) => true,
        };
        if is_quoted { sayable_code(error) } else { sayable(error) }
    }
}

impl Ask for SessionQuestion {
    type Answer = SessionAnswer;

    #[inline(never)]
    fn command(&self, form: Form, command: &mut Command) {
        match self {
            SessionQuestion::Record(question) => question.write(command),
            SessionQuestion::Write(question) => question.write.command(form, &question.script, command),
        }
    }

    #[inline(never)]
    fn read(&self, reply: &mut Reply) -> Option<SessionAnswer> {
        match self {
            SessionQuestion::Record(question) => question.read(reply).map(SessionAnswer::Record),
            SessionQuestion::Write(_) => SessionWrite::read(reply).map(SessionAnswer::Written),
        }
    }

    fn too_large(&self) -> Option<SessionAnswer> {
        match self {
            SessionQuestion::Record(_) => Some(SessionAnswer::Record(Err(SessionMiss::TooLong))),
            SessionQuestion::Write(_) => None,
        }
    }

    fn clock_us(_: &SessionAnswer) -> Option<u64> {
        None
    }
}

// === impl RecordQuestion ===

impl RecordQuestion {
    pub(super) fn write(&self, command: &mut Command) {
        *command = match self.lookup.kind {
            // What is longer is not read, and none of it has to come.
            RecordKind::String => [b"GETRANGE".as_slice(), &self.key, b"0", RECORD_END].into_iter().collect(),
            // A record may have much that nobody asks for.
            RecordKind::Hash => [b"HMGET".as_slice(), &self.key]
                .into_iter()
                .chain(self.lookup.hash_fields.iter().map(Vec::as_slice))
                .collect(),
        };
    }

    pub(super) fn read(&self, reply: &Reply) -> Option<Result<FoundSession, SessionMiss>> {
        let fields = &self.lookup.hash_fields;
        let record = match (reply, self.lookup.kind) {
            // Redis is well, and says what it has.
            (Reply::Error(text), _) if text.starts_with("WRONGTYPE") => SessionRecord::OfOtherType,
            (Reply::Single(Value::Nil), RecordKind::String) => SessionRecord::None,
            (Reply::Single(Value::Bulk(record)), RecordKind::String) if record.is_empty() => SessionRecord::None,
            (Reply::Single(Value::Bulk(record)), RecordKind::String) => SessionRecord::String(record),
            (Reply::Many(values), RecordKind::Hash) if values.len() == fields.len() => {
                let mut pairs = Vec::with_capacity(fields.len());
                for (name, value) in fields.iter().zip(values) {
                    match value {
                        Value::Bulk(value) => pairs.push((name.as_slice(), value.as_slice())),
                        Value::Nil => {}
                        Value::Integer(_) | Value::Status(_) => return None,
                    }
                }
                SessionRecord::Hash(pairs)
            }
            _ => return None,
        };
        Some(self.lookup.reader.read(record, self.asked_ms))
    }
}

/// The time in milliseconds since 1970. As long as nobody knows it, whatever has an end is over.
pub(super) fn unix_ms(wall_ns: u64) -> i64 {
    match wall_ns {
        0 => i64::MAX,
        wall_ns => i64::try_from(wall_ns / 1_000_000).unwrap_or(i64::MAX),
    }
}

/// Shows no key.
impl core::fmt::Debug for RecordQuestion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RecordQuestion of flight {}", self.flight)
    }
}

/// Shows nothing of what is written.
impl core::fmt::Debug for WriteQuestion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WriteQuestion of order {:?}", self.order)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;
    use crate::session::{FieldPath, SessionFormat, SessionSource};

    fn question(format: SessionFormat) -> RecordQuestion {
        let settings = SessionSettings {
            format,
            source: SessionSource::Cookie("sid".into()),
            key_prefix: "s:".into(),
            secrets: vec![],
            max_age_s: 0,
            fields: vec![FieldPath::parse("user").unwrap(), FieldPath::parse("user.id").unwrap()],
        };
        let lookup = Rc::new(SessionLookup::new(&settings));
        RecordQuestion { lookup, key: b"s:c3e1".to_vec(), asked_ms: 0, flight: 1 }
    }

    fn words(question: &RecordQuestion) -> Vec<String> {
        let mut command = Command::default();
        question.write(&mut command);
        command.words().map(|word| String::from_utf8(word.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_string_is_asked_for_whole_and_a_hash_by_what_is_wanted() {
        assert_eq!(
            words(&question(SessionFormat::Json)),
            ["GETRANGE", "s:c3e1", "0", &crate::session::RECORD_MAX.to_string()]
        );
        assert_eq!(words(&question(SessionFormat::Hash)), ["HMGET", "s:c3e1", "user"]);
        assert_eq!(
            words(&question(SessionFormat::Spring))[2..],
            ["lastAccessedTime", "maxInactiveInterval", "sessionAttr:user"]
        );
    }

    #[test]
    fn what_has_another_shape_is_no_answer() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let json = question(SessionFormat::Json);
        let session = json.read(&Reply::Single(bulk(r#"{"user":"a"}"#))).unwrap().unwrap();
        assert_eq!(session.values, [Some("a".into()), None]);
        assert_eq!(json.read(&Reply::Single(Value::Nil)), Some(Err(SessionMiss::Unknown)));
        let wrong = Reply::Error("WRONGTYPE Operation against a key".into());
        assert_eq!(json.read(&wrong), Some(Err(SessionMiss::ForeignType)));
        for reply in [Reply::Single(Value::Integer(1)), Reply::Many(vec![bulk("{}")]), Reply::Error("ERR no".into())] {
            assert_eq!(json.read(&reply), None);
        }
        let hash = question(SessionFormat::Hash);
        let session = hash.read(&Reply::Many(vec![bulk("a")])).unwrap().unwrap();
        assert_eq!(session.values, [Some("a".into()), None]);
        assert_eq!(hash.read(&Reply::Many(vec![Value::Nil])), Some(Err(SessionMiss::Unknown)));
        for reply in
            [Reply::Many(vec![]), Reply::Many(vec![bulk("a"), bulk("b")]), Reply::Many(vec![Value::Integer(1)])]
        {
            assert_eq!(hash.read(&reply), None);
        }
    }

    #[test]
    fn no_error_shows_a_key() {
        let question = SessionQuestion::Record(question(SessionFormat::Json));
        assert_eq!(question.explain("NOAUTH Authentication required."), "NOAUTH Authentication required.");
        assert_eq!(question.explain("NOPERM No permissions to access s:c3e1"), "NOPERM");
        assert!(!alloc::format!("{question:?}").contains("c3e1"));
    }
}
