//! `slidegate test` as it ships: tests of limits on a clock of their own.

use std::{fs, path::PathBuf, process::Output};

use serde_json::Value;
use slidegate_tests::gateway_process::{Directory, run};

/// What the documentation shows, by the name of the file that it would be.
fn documented(name: &str) -> &'static str {
    let readme = include_str!("../host/README.md");
    let (_, rest) = readme.split_once(&format!("<!-- tested: {name} -->\n```yaml\n")).expect("it is documented");
    rest.split_once("```").expect("the block is closed").0
}

struct Files(Directory);

impl Files {
    /// The limits of the documentation.
    fn new() -> Files {
        let files = Files(Directory::new());
        files.write("limits.yaml", documented("limits.yaml"));
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a temporary file can be written");
        path
    }

    /// Runs tests of this text, with more arguments.
    fn test(&self, text: &str, more: &[&str]) -> (i32, String, String) {
        let path = self.write("limits.test.yaml", text);
        let path = path.to_str().expect("a path of text");
        told(&run(&[&["test", path], more].concat()))
    }
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_tests_of_the_documentation_pass() {
    let (code, out, errors) = Files::new().test(documented("limits.test.yaml"), &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.contains("test five a minute for each key ... ok\n"), "{out}");
    assert!(out.contains("test result: ok. 2 passed; 0 failed; 0 filtered out"), "{out}");
}

#[test]
fn an_expectation_that_does_not_hold_is_told_with_its_line_and_the_answer() {
    let files = Files::new();
    let tests = r"file: limits.yaml
tests:
- name: good
  steps: [{request: GET /orders, expect: pass}]
- name: bad
  steps:
  - {request: GET /orders, headers: {x-api-key: a}, times: 6, expect: pass}
  - request: GET /orders
    headers: {x-api-key: a}
    expect: {status: 503, by: other, headers: {retry-after: null}}
";
    let (code, out, _) = files.test(tests, &[]);
    assert_eq!(code, 1, "{out}");
    for expected in [
        "test good ... ok\ntest bad ... FAILED\n",
        "limits.test.yaml:7:5: tests[1].steps[0]: at 0 ms, GET /orders from 192.0.2.1: expected 6 of 6 to pass, got 5 ",
        "expected status 503, got 429; expected no `retry-after`, got `60`; expected a refusal by `other`, got one by \
         `per-key`",
        "test result: FAILED. 1 passed; 1 failed; 0 filtered out",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let (code, out, _) = files.test(tests, &["--filter", "good"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("1 passed; 0 failed; 1 filtered out"), "{out}");
}

#[test]
fn what_is_no_test_is_told_with_its_line_and_ends_with_two() {
    let files = Files::new();
    for (text, line) in [
        ("file: limits.yaml\ntests: []\n", "limits.test.yaml:2:1: tests: expected an array with at least one test"),
        (
            "file: limits.yaml\ntests:\n- {name: a, steps: [{requst: GET /}]}\n",
            "limits.test.yaml:3:22: tests[0].steps[0].requst: ",
        ),
        (
            "file: limits.yaml\ntests: [{name: a, steps: [{request: GET /, at: 5s}, {request: GET /, at: 4s}]}]\n",
            "tests[0].steps[1].at: expected no time before `5s`",
        ),
        ("tests: [{name: a, steps: [{request: GET /}]}]\n", "file: is missing: expected the file with the limits"),
        ("file: nowhere.yaml\ntests: [{name: a, steps: [{request: GET /}]}]\n", "nowhere.yaml: no such file"),
        (
            "filter:\n  rule_name: r\n  global_threshold: {query_per_minuet: 5}\ntests: [{name: a, steps: [{request: \
             GET /}]}]\n",
            "limits.test.yaml:3:22: filter.global_threshold.query_per_minuet: ",
        ),
        (
            "file: limits.yaml\ntests: [{name: a, steps: [{request: GET /, route: b}]}]\n",
            "tests[0].steps[0].route: expected only for limits without routes",
        ),
        ("file: [\n", "limits.test.yaml:"),
    ] {
        let (code, out, errors) = files.test(text, &[]);
        assert_eq!(code, 2, "{text}: {out}{errors}");
        assert!(errors.contains(line), "{line}: {errors}");
    }
}

#[test]
fn windows_of_a_day_take_no_time_and_slide() {
    let tests = r"filter: {rule_name: r, global_threshold: {query_per_day: 3}, redis: {service_name: a.static}}
tests:
- name: a day
  steps:
  - {at: 0s, request: GET /, times: 3, every: 1h, expect: pass}
  - {at: 23h, request: GET /, expect: {refused: 1, by: r}}
  - {at: 24h, request: GET /, expect: refused}
  - {at: 1441m, request: GET /, times: 2, expect: {pass: 1}}
  - {at: 1501m, request: GET /, expect: pass}
";
    let (code, out, errors) = Files::new().test(tests, &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
}

#[test]
fn tokens_of_answers_are_charged_and_plugins_are_told_their_routes() {
    let files = Files::new();
    let plugin = r"apiVersion: extensions.higress.io/v1alpha1
kind: WasmPlugin
metadata: {name: limits}
spec:
  url: oci://hub.example/slidegate:1
  matchRules:
  - ingress: [llm]
    config: {rule_name: tokens, global_threshold: {token_per_minute: 100}}
";
    files.write("plugin.yaml", plugin);
    let tests = r#"{"file": "plugin.yaml", "tests": [{"name": "tokens", "steps": [
        {"request": "POST /v1/chat/completions", "route": "llm", "body": "{\"model\": \"m\"}",
            "headers": {"content-type": "application/json"},
            "answer": {"headers": {"content-type": "application/json"},
                "body": "{\"usage\": {\"prompt_tokens\": 40, \"completion_tokens\": 60, \"total_tokens\": 100}}"},
            "expect": "pass"},
        {"at": "10s", "request": "POST /v1/chat/completions", "route": "llm", "expect": "refused"},
        {"at": "10s", "request": "POST /v1/chat/completions", "route": "other", "expect": "pass"},
        {"at": "61s", "request": "POST /v1/chat/completions", "route": "llm", "expect": "pass"}]}]}"#;
    let (code, out, errors) = files.test(tests, &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
}

#[test]
fn limits_behind_sessions_are_tested_without_a_redis() {
    let tests = r#"filter:
  filters:
  - {session: {format: json, cookie: sid, key_prefix: "s:", fields: {user: x-user}, redis: {service_name: a.static}}}
  - rule_name: users
    rule_items: [{limit_by_per_session: user, limit_keys: [{key: "*", query_per_minute: 1}]}]
  - {rule_name: all, global_threshold: {query_per_minute: 2}}
tests:
- name: nobody is known
  steps: [{request: GET /, headers: {cookie: sid=a}, times: 3, expect: {pass: 2, by: all}}]
"#;
    let (code, out, errors) = Files::new().test(tests, &[]);
    assert_eq!(code, 0, "{out}{errors}");
    assert!(errors.contains("finds no session: no Redis is asked for one"), "{errors}");
}

#[test]
fn the_schema_knows_the_fields() {
    let (code, out, _) = told(&run(&["schema", "--kind", "test"]));
    let schema: Value = serde_json::from_str(&out).expect("a schema");
    assert_eq!((code, schema["$defs"]["limit_test_step"]["additionalProperties"].as_bool()), (0, Some(false)));
}
