//! Sessions that libraries made are read as the libraries read them, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use slidegate_engine::session::{FIELDS_MAX, RECORD_MAX, SessionFormat, SessionMiss, SessionRecord};
use slidegate_engine_tests::sessions::{self, LibrarySession};

/// The record of a session of which only the cause of its miss is of interest.
fn miss(session: &LibrarySession) -> Option<SessionMiss> {
    session.read(&session.reader(&["user_id".to_owned()])).err()
}

#[test]
fn what_libraries_wrote_is_what_they_read() {
    let mut wrong = Vec::new();
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    let all = sessions::all();
    for session in &all {
        let name = format!("{}, {}", session.format, session.case);
        let expected = match session.expected() {
            Ok(expected) => expected,
            Err(cause) => {
                if miss(session).is_none_or(|miss| miss.as_str() != cause) {
                    wrong.push(format!("{name}: {:?} and not {cause}", miss(session)));
                }
                continue;
            }
        };
        let mut paths: Vec<String> = expected.keys().cloned().collect();
        paths.extend(["nowhere", "user_id.nowhere", "0.0.0"].map(str::to_owned));
        for paths in paths.chunks(FIELDS_MAX) {
            let values = match session.read(&session.reader(paths)) {
                Ok(values) => values,
                Err(miss) => {
                    wrong.push(format!("{name}: {miss:?}"));
                    break;
                }
            };
            for (path, value) in paths.iter().zip(values.values) {
                *formats.entry(&session.format).or_default() += usize::from(value.is_some());
                if !expected.get(path).map_or(value.is_none(), |expected| expected.is(value.as_deref())) {
                    wrong.push(format!("{name}: {path} is {value:?} and not {:?}", expected.get(path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let is_a_librarys = |format: &SessionFormat| *format != SessionFormat::Own && !format.default_cookie().is_empty();
    let of_libraries = SessionFormat::ALL.into_iter().filter(is_a_librarys);
    for format in of_libraries {
        assert!(formats.get(format.as_str()).is_some_and(|values| *values > 20), "{format:?}: {formats:?}");
    }
}

#[test]
fn records_show_every_cause_that_a_library_can_give() {
    let causes: BTreeSet<&str> = sessions::all().iter().filter_map(miss).map(SessionMiss::as_str).collect();
    assert_eq!(causes, BTreeSet::from(["expired", "foreign_type", "too_long", "wrong_signature"]));
    let names: BTreeSet<&str> = SessionMiss::ALL.map(SessionMiss::as_str).into_iter().collect();
    assert_eq!(names.len(), SessionMiss::ALL.len());
}

#[test]
fn what_is_not_there_or_of_another_type_is_nobodys() {
    for session in sessions::all() {
        let Some(_) = session.key() else { continue };
        let reader = session.reader(&["user_id".to_owned()]);
        let is_hash = matches!(session.record(), SessionRecord::Hash(_));
        let pairs =
            |length| SessionRecord::Hash(vec![(&b"sessionAttr:user_id"[..], &[b' '; RECORD_MAX + 1][..length])]);
        for (record, cause) in [
            (SessionRecord::None, SessionMiss::Unknown),
            (SessionRecord::OfOtherType, SessionMiss::ForeignType),
            (SessionRecord::Hash(vec![]), if is_hash { SessionMiss::Unknown } else { SessionMiss::ForeignType }),
            (pairs(RECORD_MAX), if is_hash { SessionMiss::TooLong } else { SessionMiss::ForeignType }),
            (
                SessionRecord::String(&[b' '; RECORD_MAX + 1]),
                if is_hash { SessionMiss::ForeignType } else { SessionMiss::TooLong },
            ),
            (SessionRecord::String(b"[7]"), if is_hash { SessionMiss::ForeignType } else { SessionMiss::Undecodable }),
        ] {
            assert_eq!(reader.read(record, session.now_ms).err(), Some(cause), "{}, {}", session.format, session.case);
        }
    }
}

#[test]
fn a_session_is_good_until_the_instant_it_tells() {
    let (all, mut formats) = (sessions::all(), BTreeSet::new());
    for session in all.iter().filter(|session| session.expected().is_ok()) {
        let at = |now_ms| session.clone().read_at(now_ms);
        let Some(ends_ms) = at(session.now_ms).expect("it is good").ends_ms else { continue };
        assert!(ends_ms > session.now_ms && at(ends_ms - 1).is_ok(), "{}, {}", session.format, session.case);
        assert_eq!(at(ends_ms), Err(SessionMiss::Expired), "{}, {}", session.format, session.case);
        formats.insert(session.format.as_str());
    }
    let ending = ["signed-django", "signed-flask", "signed-starlette", "spring"];
    assert!(formats.iter().eq(&ending), "{formats:?}");
}

#[test]
fn fields_of_a_hash_that_are_not_asked_for_change_nothing() {
    for session in sessions::all() {
        let SessionRecord::Hash(pairs) = session.record() else { continue };
        let reader = session.reader(&["user_id", "passport.user", "passport.deep"].map(str::to_owned));
        let names = reader.hash_fields();
        assert_eq!(names.len(), 4);
        let asked = pairs.iter().filter(|(name, _)| names.iter().any(|asked| asked == name)).copied().collect();
        let whole = reader.read(session.record(), session.now_ms);
        assert_eq!(reader.read(SessionRecord::Hash(asked), session.now_ms), whole, "{}", session.case);
    }
}

#[test]
fn no_cookie_passes_that_differs_in_a_byte() {
    // One of each format whose cookies are signed.
    let mut formats = BTreeSet::new();
    for session in sessions::all() {
        if session.secrets.is_empty() || session.expected().is_err() || !formats.insert(session.format.clone()) {
            continue;
        }
        let reader = session.reader(&["user_id".to_owned()]);
        let header = session.header();
        let begin = session.name.len() + 1;
        let good = reader.lead([header], session.now_ms).expect("the library's own");
        for at in begin..header.len() {
            for byte in (b'!'..=b'~').filter(|byte| !matches!(byte, b';' | b'%' | b'"')) {
                let mut mutated = header.to_vec();
                if mutated[at] == byte {
                    continue;
                }
                mutated[at] = byte;
                // The letter case of an escape changes nothing.
                if let Ok(lead) = reader.lead([&*mutated], session.now_ms) {
                    assert!(
                        header[at].eq_ignore_ascii_case(&byte) && header.contains(&b'%'),
                        "{}, {at}",
                        session.format
                    );
                    assert_eq!(lead, good);
                }
            }
            assert!(reader.lead([&header[..at]], session.now_ms).is_err(), "{}: cut at {at}", session.format);
        }
    }
    let signed = ["express", "flask-session", "signed-django", "signed-flask", "signed-starlette"];
    assert_eq!(formats, BTreeSet::from(signed.map(str::to_owned)));
}

#[test]
fn records_that_are_cut_tell_nothing() {
    for session in sessions::all() {
        let (SessionRecord::String(record), Ok(_)) = (session.record(), session.expected()) else { continue };
        let reader = session.reader(&["user_id".to_owned()]);
        for at in (0..record.len()).filter(|at| record.len() < 1_000 || at % 97 == 0) {
            let cut = reader.read(SessionRecord::String(&record[..at]), session.now_ms);
            // Variables of PHP stand one after the other: some of them are a record too.
            let is_whole = session.format == "php" && matches!(record[..at], [] | [.., b';' | b'}']);
            assert!(is_whole || cut.is_err(), "{}, {}: cut at {at}", session.format, session.case);
        }
    }
}
