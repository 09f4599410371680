//! Cookies and records of sessions: those of libraries with some bytes changed, and bytes that look like some.

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::session::{
    FieldPath, FoundSession, SessionFormat, SessionLead, SessionOrder, SessionReader, SessionRecord, SessionSettings,
    SessionSource, VALUE_MAX,
};

use super::answer::any_pieces;
use crate::sessions;

/// A cookie and a record that a reader of any format may meet.
#[derive(Debug, Clone)]
pub struct AnySession {
    /// A `cookie` header.
    pub header: Vec<u8>,
    /// What is in Redis.
    pub record: Vec<u8>,
}

/// The name of every cookie here, which those of libraries have in the place of their own.
const NAME: &str = "k";

/// A secret with which some of the cookies of libraries were signed.
const SECRETS: [&str; 4] = ["keyboard cat", "s\u{e9}cret", "old \u{fc}", ""];

/// Cookies and records, of libraries or not.
pub fn any_session() -> impl Strategy<Value = AnySession> {
    let all = sessions::all();
    let headers: Vec<Vec<u8>> = all.iter().map(|session| renamed(session.header())).collect();
    let mut records: Vec<Vec<u8>> = Vec::new();
    for session in &all {
        match session.record() {
            SessionRecord::String(record) if record.len() < 1_000 => records.push(record.to_vec()),
            SessionRecord::Hash(pairs) => {
                records.extend(pairs.iter().map(|(_, value)| value.to_vec()).filter(|value| value.len() < 1_000));
            }
            _ => {}
        }
    }
    let header = prop_oneof![
        2 => mutated(headers),
        1 => any_pieces(&["k=", ";", " ", "s:", "s%3A", ".", "abc", "%", "eyJ", "=", "k=a", "MQ"]),
    ];
    let record = prop_oneof![
        3 => mutated(records),
        1 => any_pieces(&["a:1:{", "s:1:\"", "i:7;", "x|", "O:1:", "}", "N;", "C:1:\"x\":1:{", "R:1;", "d:", "\\ud8"]),
        1 => any_pieces(&["{\"fields\":{", "\"user_id\":", "\"a\"", "42", "true", ",", "}", "\"rotate\":", "delete",
            "null"]),
        1 => any_pieces(&["\u{0}", "\u{7f}", "a:9999999999999999999:{", "s:18446744073709551615:\"", "1e9", "\\u"]),
        1 => prop::collection::vec(any::<u8>(), 0..60),
        1 => prop::collection::vec(prop::sample::select(vec![0x81, 0x91, 0xa1, b'a', 0xdd, 0xdf, 0xff, 0xc7, 0xcb]),
            0..60),
    ];
    (header, record).prop_map(|(header, record)| AnySession { header, record })
}

/// The header with another name for the cookie.
fn renamed(header: &[u8]) -> Vec<u8> {
    let at = header.iter().position(|byte| *byte == b'=').expect("a cookie");
    [NAME.as_bytes(), &header[at..]].concat()
}

fn mutated(all: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    (prop::sample::select(all), changes, any::<Index>(), any::<bool>()).prop_map(|(mut bytes, changes, end, is_cut)| {
        for (at, byte) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len() + 1));
        }
        bytes
    })
}

/// Reads a session in every format: nothing panics, it is the same twice, and what is told fits into a header. Tells in
/// how many formats it is somebody's.
///
/// # Errors
///
/// It is not so.
pub fn check_session(session: &AnySession) -> Result<usize, TestCaseError> {
    let mut found = 0;
    for order in [[session.header.clone()], [session.record.clone()]] {
        let read = SessionOrder::read(&order);
        prop_assert_eq!(&read, &SessionOrder::read(&order));
        if let Ok(Some(SessionOrder::Set(fields))) = read {
            let record = fields.record(1_900_000_000_000);
            let read = reader(SessionFormat::Own).read(SessionRecord::String(&record), 1_800_000_000_000);
            check_values(&read.expect("what was set is read"))?;
        }
    }
    for format in SessionFormat::ALL {
        let reader = reader(format);
        let now_ms = 1_800_000_000_000;
        let lead = reader.lead([&*session.header], now_ms);
        prop_assert_eq!(&lead, &reader.lead([&*session.header], now_ms));
        match lead {
            Ok(SessionLead::Content(values)) => check_values(&values)?,
            Ok(SessionLead::Key(key)) => {
                prop_assert!(key.starts_with(b"prefix:") && key.len() <= 300);
                prop_assert!(key[7..].iter().all(u8::is_ascii_graphic));
            }
            Err(_) => {}
        }
        let name = b"sessionAttr:user_id";
        let hash = [
            (&b"lastAccessedTime"[..], &b"1800000000000"[..]),
            (b"maxInactiveInterval", b"1800"),
            (name, &session.record),
            (b"creationTime", &session.record),
        ];
        for record in [SessionRecord::String(&session.record), SessionRecord::Hash(hash.to_vec())] {
            let values = reader.read(record.clone(), now_ms);
            prop_assert_eq!(&values, &reader.read(record, now_ms));
            if let Ok(values) = values {
                found += usize::from(values.values.iter().any(Option::is_some));
                check_values(&values)?;
            }
        }
    }
    Ok(found)
}

fn check_values(values: &FoundSession) -> Result<(), TestCaseError> {
    for value in values.values.iter().flatten() {
        prop_assert!(value.len() <= VALUE_MAX && value.bytes().all(|byte| byte.is_ascii_graphic()), "{}", value);
    }
    Ok(())
}

fn reader(format: SessionFormat) -> SessionReader {
    let fields = ["user_id", "name", "passport.user", "user.id", "a\\.b", "list.0.0", "user_id.id", "x", "0"];
    SessionReader::new(&SessionSettings {
        format,
        source: SessionSource::Cookie(NAME.to_owned()),
        key_prefix: "prefix:".to_owned(),
        secrets: SECRETS.map(str::to_owned).to_vec(),
        max_age_s: u64::MAX,
        fields: fields.map(|field| FieldPath::parse(field).expect("a path")).to_vec(),
    })
}
