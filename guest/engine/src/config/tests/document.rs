//! Documents that are no configuration at all, repeated fields, and large ones.

use alloc::format;

use super::*;

#[track_caller]
fn refuses_bytes(json: &[u8], path: &str, message: &str) {
    let errors = Config::read(json).unwrap_err();
    let [error] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_eq!(error.path, path);
    assert!(error.message.contains(message), "expected {message:?} in {:?}", error.message);
}

#[test]
fn no_document() {
    refuses_bytes(b"", "", "the configuration is empty: expected a JSON object");
    refuses_bytes(b" \n\t", "", "the configuration is empty");
    refuses_bytes(b"{\"rule_name\": \"\xff\"}", "", "not UTF-8 from byte 15 on");
    refuses_bytes(b"{\n  \"rule_name\": \"r\",\n}", "", "at line 3 column 1");
    refuses_bytes(b"{\"rule_name\": \"r\"", "", "line 1 column 17");
    refuses_bytes(b"{} {}", "", "trailing characters at line 1 column 4");
    refuses_bytes(b"rule_name: r", "", "the configuration is not JSON: expected value at line 1 column 1");
    refuses_bytes(b"{\"a\": 1e999}", "", "number out of range");
    for (json, seen) in [
        ("[]", "an empty array"),
        ("[1]", "an array"),
        ("null", "null"),
        ("7", "`7`"),
        ("\"text\"", "a text"),
        ("true", "`true`"),
    ] {
        refuses_bytes(json.as_bytes(), "", &format!("expected an object, got {seen}"));
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    refuses_bytes(deep.as_bytes(), "", "recursion limit exceeded");
    let long = " ".repeat((16 << 20) + 1);
    refuses_bytes(long.as_bytes(), "", "expected at most 16777216");
}

#[test]
fn a_field_that_is_there_twice() {
    refuses_bytes(
        br#"{"rule_name": "r", "global_threshold": {"query_per_second": 1, "query_per_second": 2}}"#,
        "global_threshold.query_per_second",
        "there twice",
    );
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let long = "x\n".repeat(1 << 16);
    let errors = errors(&with(json!({"failure_mode": long, long.as_str(): 1})));
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert!(error.len() < 1_000 && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_thousand_mistakes_are_told_and_the_rest_counted() {
    let entries = Value::from(alloc::vec![json!({"key": "a", "query_per_second": 0}); 5_000]);
    let errors = errors(&with_item(json!({"limit_by_header": "h", "limit_keys": entries})));
    assert_eq!(errors.len(), 1_001);
    assert_eq!(errors[1_000], "and 4000 more mistakes");
    let entries = Value::from(alloc::vec![json!({"key": "a", "query_per_second": 1}); 5_000]);
    let warnings = warnings(&with_item(json!({"limit_by_header": "h", "limit_keys": entries})));
    assert_eq!(warnings.len(), 101);
    assert_eq!(warnings[100], "and 4899 more oddities");
}

#[test]
fn many_keys() {
    let count = 100_000;
    let texts: Vec<Value> = (0..count).map(|n| json!({"key": format!("k{n}"), "query_per_second": n + 1})).collect();
    let by_text = item(json!({"limit_by_header": "h", "limit_keys": texts}));
    assert_eq!(entry_of(&by_text.keys, "k99999"), Some(99_999));
    let KeyIndex::Text { exact, .. } = &by_text.keys.index else { panic!() };
    assert!(exact.is_sorted() && exact.len() == count);
    let addresses: Vec<Value> = (0..count)
        .map(|n| json!({"key": format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255), "query_per_second": 1}))
        .collect();
    let by_ip = item(json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": addresses}));
    assert_eq!(entry_of(&by_ip.keys, "10.1.134.159"), Some(99_999));
    assert_eq!(entry_of(&by_ip.keys, "10.1.134.160"), None);
}

#[test]
fn many_unknown_fields_are_read_in_time() {
    let fields: Vec<String> = (0..200_000).map(|n| format!("\"f{n}\":0")).collect();
    let errors = Config::read(format!("{{{}}}", fields.join(",")).as_bytes()).unwrap_err();
    assert_eq!(errors.last().unwrap().message, "and 199002 more mistakes");
}
