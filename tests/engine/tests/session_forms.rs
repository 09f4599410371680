//! What is the same in all forms of records is found the same, and what no application would read is not read.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use slidegate_engine::session::{
    FIELDS_MAX, FieldPath, FoundSession, RECORD_MAX, SessionFormat, SessionLead, SessionMiss, SessionReader,
    SessionRecord, SessionSettings, SessionSource,
};
use slidegate_engine_tests::{
    fuzzing::{
        answer::any_pieces,
        session::{any_session, check_session},
    },
    promises::runner,
    session_writers::{message_pack, php, php_variables},
    sessions::expected_values,
};

fn reader(format: SessionFormat, fields: &[String]) -> SessionReader {
    SessionReader::new(&SessionSettings {
        format,
        source: SessionSource::Cookie("k".to_owned()),
        key_prefix: String::new(),
        secrets: vec![],
        max_age_s: 0,
        fields: fields.iter().map(|field| FieldPath::parse(field).expect("a path")).collect(),
    })
}

fn read(format: SessionFormat, fields: &[String], record: &[u8]) -> Result<FoundSession, SessionMiss> {
    reader(format, fields).read(SessionRecord::String(record), 0)
}

fn read_field(format: SessionFormat, field: &str, record: &[u8]) -> Result<Option<String>, SessionMiss> {
    read(format, &[field.to_owned()], record).map(|values| values.values[0].clone())
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-40..200_i64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(|number| json!(number)),
        "[a-z\u{e9}\u{1f600}\"\\\\;:{}|% \n]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            any_members(inner).prop_map(Value::from),
        ]
    })
}

fn any_members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-c.\\\\\u{e9} \"]{0,3}", value, 0..6)
        .prop_map(|members| members.into_iter().collect())
}

#[test]
fn all_forms_tell_the_same() {
    let check = |members: Map<String, Value>| {
        let document = Value::Object(members.clone());
        let expected: Vec<_> = expected_values(&document).into_iter().take(FIELDS_MAX).collect();
        let paths: Vec<String> = expected.iter().map(|(path, _)| path.clone()).collect();
        let attributes: Vec<(Vec<u8>, Vec<u8>)> = members
            .iter()
            .map(|(name, value)| (format!("sessionAttr:{name}").into_bytes(), value.to_string().into_bytes()))
            .chain([(b"lastAccessedTime".to_vec(), b"0".to_vec()), (b"maxInactiveInterval".to_vec(), b"1".to_vec())])
            .collect();
        let hash = SessionRecord::Hash(attributes.iter().map(|(name, value)| (&**name, &**value)).collect());
        let (compact, indented) = (document.to_string().into_bytes(), format!(" {document:#}\n").into_bytes());
        for (form, values) in [
            ("JSON", read(SessionFormat::Json, &paths, &compact)),
            ("indented JSON", read(SessionFormat::FlaskSession, &paths, &indented)),
            ("short MessagePack", read(SessionFormat::FlaskSession, &paths, &message_pack(&document, true))),
            ("long MessagePack", read(SessionFormat::FlaskSession, &paths, &message_pack(&document, false))),
            ("a PHP array", read(SessionFormat::Php, &paths, &php(&document))),
            ("PHP variables", read(SessionFormat::Php, &paths, &php_variables(&members))),
            ("Spring", reader(SessionFormat::Spring, &paths).read(hash, 999)),
        ] {
            let values = values.map_err(|miss| TestCaseError::fail(format!("{form}: {miss:?}")))?;
            for ((path, expected), value) in expected.iter().zip(&values.values) {
                prop_assert!(expected.is(value.as_deref()), "{}: {} is {:?}, not {:?}", form, path, value, expected);
            }
        }
        Ok(())
    };
    runner(5_000).run(&any_members(any_value()), check).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn of_two_values_the_last_counts_whatever_they_are() {
    let check = |(first, last): (Value, Value)| {
        let only = format!(r#"{{"u":{last}}}"#);
        let expected: Vec<_> = expected_values(&json!({"u": [first, last]})).into_keys().collect();
        // Paths of either.
        let paths: Vec<String> = expected
            .iter()
            .filter_map(|path| path.strip_prefix("u.0").or(path.strip_prefix("u.1")))
            .map(|rest| format!("u{rest}"))
            .take(FIELDS_MAX)
            .collect();
        let twice = format!(r#"{{"u":{first},"v":1,"u":{last}}}"#);
        let alone = read(SessionFormat::Json, &paths, only.as_bytes());
        prop_assert_eq!(read(SessionFormat::Json, &paths, twice.as_bytes()), alone.clone());
        let variables = [b"u|", &php(&first)[..], b"v|i:1;u|", &php(&last)].concat();
        let name = message_pack(&json!("u"), true);
        let packed = [&[0x82], &name[..], &message_pack(&first, true), &name, &message_pack(&last, true)].concat();
        let of_php = read(SessionFormat::Php, &paths, &[b"u|", &php(&last)[..]].concat());
        prop_assert_eq!(read(SessionFormat::Php, &paths, &variables), of_php);
        let of_packed =
            read(SessionFormat::FlaskSession, &paths, &[&[0x81], &name[..], &message_pack(&last, true)].concat());
        prop_assert_eq!(read(SessionFormat::FlaskSession, &paths, &packed), of_packed);
        Ok(())
    };
    runner(5_000).run(&(any_value(), any_value()), check).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_is_json_is_what_another_reader_takes_for_it() {
    let pieces =
        any_pieces(&["{\"u\":", "}", "0", "-", ".5", "e+1", "\\u00e9", "\\ud800", "\\udc00", " ", "\u{e9}", "\\n"]);
    let broken =
        (any_members(any_value()), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(members, at, byte)| {
            let mut text = Value::Object(members).to_string().into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            text
        });
    let check = |text: Vec<u8>| {
        let is_json = str::from_utf8(&text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let is_object = is_json && text.trim_ascii_start().starts_with(b"{");
        prop_assert_eq!(read_field(SessionFormat::Json, "u", &text).is_ok(), is_object, "{}", text.escape_ascii());
        Ok(())
    };
    let outcome =
        runner(20_000).run(&prop_oneof![pieces.prop_map(|text| [b"{\"u\":", &text[..]].concat()), broken], check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn numbers_and_texts_are_kept_to_the_letter() {
    for (json, expected) in [
        ("7", Some("7")),
        ("-0", Some("-0")),
        ("1.0", Some("1.0")),
        ("1E5", Some("1E5")),
        ("12345678901234567890123", Some("12345678901234567890123")),
        ("12345678901234567890124", Some("12345678901234567890124")),
        ("1e999", Some("1e999")),
        (r#""\ud83d\ude00""#, Some("%F0%9F%98%80")),
        (r#""\ud800""#, None),
        (r#""\ud801""#, None),
        (r#""\udc00""#, None),
        (r#""a\ud800\u0041b""#, None),
        (r#""\ud800\ud800\udc00""#, None),
        (r#""\u0041\/\\""#, Some("A/\\")),
        (r#""\u0000""#, None),
        ("[7]", None),
        ("{}", None),
    ] {
        let record = format!(r#"{{"u":{json}}}"#);
        assert_eq!(read_field(SessionFormat::Json, "u", record.as_bytes()).unwrap().as_deref(), expected, "{json}");
    }
    // Half a character in a name is no field's, and in a text of no field is nothing.
    assert_eq!(read_field(SessionFormat::Json, "u", br#"{"\ud800":1,"u":2,"v":"\ud800"}"#), Ok(Some("2".to_owned())));
}

#[test]
fn what_is_nested_too_deeply_is_not_read() {
    for depth in [1, 60, 100, 100_000] {
        let json = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let packed = [&[0x81, 0xa1, b'a'], &vec![0x91; depth][..], &[0xc0]].concat();
        let array = format!("a|{}N;{}", "a:1:{i:0;".repeat(depth), "}".repeat(depth));
        let is_read = depth <= 60;
        for (format, record) in [
            (SessionFormat::Json, json.as_bytes()),
            (SessionFormat::FlaskSession, &packed),
            (SessionFormat::Php, array.as_bytes()),
        ] {
            let found = read_field(format, "b", record);
            let cause = if record.len() > RECORD_MAX { SessionMiss::TooLong } else { SessionMiss::Undecodable };
            assert_eq!(found, if is_read { Ok(None) } else { Err(cause) }, "{format:?}, {depth}");
        }
    }
}

#[test]
fn a_variable_of_php_that_is_named_like_an_array_is_nobodys() {
    let read = |record: &str| read_field(SessionFormat::Php, "user", record.as_bytes());
    let two_ways = r#"a:2:{s:4:"user";s:4:"root";s:1:"x";s:%:"|s:1:"1";user|s:7:"mallory";tags|a:1:{i:0;s:1:"a";}"#
        .replace('%', "48");
    assert_eq!(read(&two_ways), Err(SessionMiss::Undecodable));
    assert_eq!(read(r#"a:1:{s:4:"user";s:5:"a|lic";}"#), Ok(Some("a|lic".to_owned())));
    assert_eq!(read(r#"user|s:7:"mallory";"#), Ok(Some("mallory".to_owned())));
}

#[test]
fn what_python_writes_for_no_number_says_nothing() {
    let json = br#"{"a":NaN,"b":[Infinity,-Infinity],"u":"alice"}"#;
    assert_eq!(read_field(SessionFormat::Json, "u", json), Ok(Some("alice".to_owned())));
    assert_eq!(read_field(SessionFormat::Json, "a", json), Ok(None));
    for json in [r#"{"u":Nan}"#, r#"{"u":Infinit}"#, r#"{"u":-Inf}"#, r#"{"u":+Infinity}"#] {
        assert_eq!(read_field(SessionFormat::Json, "u", json.as_bytes()), Err(SessionMiss::Undecodable), "{json}");
    }
}

#[test]
fn lengths_that_are_none_end_with_the_record() {
    let long = "9".repeat(30);
    for php in [
        "u|s:5:\"abc\";",
        "u|s:2:\"abc\";",
        "u|s:18446744073709551615:\"a\";",
        &format!("u|s:{long}:\"a\";"),
        "u|a:4294967295:{i:0;i:1;}",
        "u|a:2:{i:0;i:1;}",
        "u|a:0:{i:0;i:1;}",
        "u|a:-1:{}",
        "u|C:1:\"x\":9:{a}",
        "u|O:1:\"x\":1:{i:0;}",
        "u|b:2;",
        "u|i:1",
        "u|i:1.5;",
        "u|i:;",
        "u|i:01;",
        "u|d:1e;",
        "u|S:1:\"a\";",
        "u|X;",
        "u|",
        "u",
        "a:1:{s:1:\"u\";i:7;}x",
    ] {
        assert_eq!(read_field(SessionFormat::Php, "u", php.as_bytes()), Err(SessionMiss::Undecodable), "{php}");
    }
    for packed in [
        &b"\x81\xa1u\xdf\xff\xff\xff\xff"[..],
        b"\x81\xa1u\xdd\xff\xff\xff\xff\x01",
        b"\x81\xa1u\xdb\xff\xff\xff\xffa",
        b"\x81\xa1u\xc6\xff\xff\xff\xffa",
        b"\x81\xa1u\xc1",
        b"\x81\x91\x01\x01",
        b"\x81\xa1u",
        b"\x82\xa1u\x01",
        b"\x81\xa1u\x01\x01",
        b"\x91\x01",
        b"",
    ] {
        let found = read_field(SessionFormat::FlaskSession, "u", packed);
        assert_eq!(found, Err(SessionMiss::Undecodable), "{}", packed.escape_ascii());
    }
}

#[test]
fn any_cookie_and_any_record_are_read_without_harm() {
    let found = std::cell::Cell::new(0);
    let check = |session| {
        found.set(found.get() + check_session(&session)?);
        Ok(())
    };
    runner(5_000).run(&any_session(), check).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(found.get() > 200, "only {} told anything: the test has gone astray", found.get());
}

#[test]
fn a_header_has_the_id_as_it_is() {
    let of_spring = |source| {
        SessionReader::new(&SessionSettings {
            format: SessionFormat::Spring,
            source,
            key_prefix: "p:".to_owned(),
            secrets: vec![],
            max_age_s: 0,
            fields: vec![],
        })
    };
    let cookie = of_spring(SessionSource::Cookie("SESSION".to_owned()));
    let header = of_spring(SessionSource::Header("x-auth-token".to_owned()));
    assert_eq!((cookie.header(), header.header()), ("cookie", "x-auth-token"));
    let lead = |reader: &SessionReader, value: &str| reader.lead([value.as_bytes()], 0);
    assert_eq!(lead(&cookie, "SESSION=YS0x"), Ok(SessionLead::Key(b"p:a-1".to_vec())));
    assert_eq!(lead(&header, "a-1"), Ok(SessionLead::Key(b"p:a-1".to_vec())));
    assert_eq!(lead(&header, "SESSION=a:1"), Err(SessionMiss::Malformed));
    assert_eq!(header.lead([], 0), Err(SessionMiss::Absent));
}
