//! Where `slidegate check` says that a mistake is: line and column, whatever the file looks like.

use std::process::Output;

use serde_json::Value;
use slidegate_tests::gateway_process::{Directory, run, run_with};

/// What a file of this text is told, with line and column of what stands between `«` and `»` in it.
struct Told {
    output: Output,
    place: (u64, u64),
}

impl Told {
    fn said(&self) -> String {
        String::from_utf8_lossy(&[self.output.stdout.as_slice(), self.output.stderr.as_slice()].concat()).into_owned()
    }
}

fn split(marked: &str) -> (String, (u64, u64)) {
    let (before, rest) = marked.split_once('«').expect("a mark");
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    (format!("{before}{}", rest.replacen('»', "", 1)), (line, column))
}

fn check(marked: &str, args: &[&str]) -> Told {
    let (text, place) = split(marked);
    Told { output: run_with(&[&["check", "-"], args].concat(), &[], text.as_bytes()), place }
}

/// Both forms tell one thing, at the mark, of this path and with these words.
#[track_caller]
fn assert_told(marked: &str, severity: &str, path: &str, words: &str) {
    let told = check(marked, &[]);
    let (said, (line, column)) = (told.said(), told.place);
    let expected = format!("standard input:{line}:{column}: {path}{}", if path.is_empty() { "" } else { ": " });
    let found = said
        .lines()
        .find(|line| line.contains(&expected))
        .unwrap_or_else(|| panic!("no `{expected}` in {said}\nof {marked}"));
    assert!(found.contains(words), "{found} does not tell {words}");
    assert!(said.contains('^') && !said.contains("hush"), "{said}");
    let json = check(marked, &["-o", "json"]);
    assert_eq!(
        (json.output.status.code(), json.output.stderr.len()),
        (told.output.status.code(), 0),
        "{}",
        json.said()
    );
    let found: Value = serde_json::from_slice(&json.output.stdout).expect("an array");
    let is_it = |found: &&Value| {
        found["severity"] == severity
            && found["path"] == path
            && found["line"] == line
            && found["column"] == column
            && found["file"] == "standard input"
    };
    let it =
        found.as_array().expect("an array").iter().find(is_it).unwrap_or_else(|| panic!("{found:#} has no {expected}"));
    assert!(
        it["message"].as_str().is_some_and(|message| message.contains(words)) && !json.said().contains("hush"),
        "{it}"
    );
    assert!(it["end_line"].as_u64() >= Some(line) && it["end_column"].as_u64() > Some(column), "{it}");
}

const UPSTREAM: &str = "upstream: http://127.0.0.1:9\n";

#[test]
fn mistakes_of_the_gateways_own_fields() {
    for (text, path, words) in [
        ("upstream: http://a\nlisten: «here»\n", "listen", "got `here`"),
        ("upstream: http://a\n«upstrem»: x\n", "upstrem", "did you mean `upstream`?"),
        ("upstream: http://a\ntimeouts: {connect: 1s, idle: «0s»}\n", "timeouts.idle", "above zero"),
        ("upstream: http://a\nlimits:\n  streams: «0»\n", "limits.streams", "1 to 10000"),
        ("routes:\n  - {upstream: http://a}\n  - «{name: b}»\n", "routes[1].upstream", "is missing"),
        ("upstream: http://a\nredis: {names: {r.static: «http://u:hush@b»}}\n", "redis.names.r.static", "redis://"),
        (
            "upstream: http://a\nredis: {names: {r.static: {url: redis://h, ca: «none.pem»}}}\n",
            "redis.names.r.static.ca",
            "none.pem",
        ),
        ("upstream: http://a\n«filter»:\n  - rule_name: r\n", "filter", "expected an object"),
        ("upstream: «\"${NOT_SET}\"»\n", "upstream", "is not set"),
        // What is not set hides no mistake elsewhere, be it the gateway's or the filter's.
        ("upstream: \"${NOT_SET}\"\nlisten: «here»\n", "listen", "got `here`"),
        (
            "upstream: \"${NOT_SET}\"\nfilter: {rule_name: \"${NOT_SET}\", global_threshold: {«query_per_dy»: 5}}\n",
            "filter.global_threshold.query_per_dy",
            "did you mean `query_per_day`?",
        ),
        ("upstream: http://a\ntrusted_consumer: [10.0.0.0/8, «a.b»]\n", "trusted_consumer[1]", "got `a.b`"),
        ("upstream: http://a\nredis: «\"redis://u:hush@h?ssl=true\"»\n", "redis", "TLS is asked for by `rediss`"),
        (
            "upstream: http://a\nfilter: {rule_name: r}\nfilters: [{rule_name: r, global_threshold: {query_per_day: \
             «0»}}]\n",
            "filters[0].global_threshold.query_per_day",
            "got `0`",
        ),
        (
            "upstream: http://a\nfilter: {«rule»: r}\nfilters: []\nlisten: here\n",
            "filter.rule",
            "there is no such field",
        ),
        ("upstream: http://a\nlog: {access: «maybe», format: text}   # hush\n", "log.access", "true or false"),
    ] {
        assert_told(text, "error", path, words);
    }
}

#[test]
fn mistakes_of_the_filter() {
    for (text, path, words) in [
        (
            "  rule_name: r\n  global_threshold: {«query_per_minit»: 5}\n",
            "filter.global_threshold.query_per_minit",
            "did you mean `query_per_minute`?",
        ),
        (
            "  rule_name: r\n  global_threshold: {«query_per_month»: 5}\n",
            "filter.global_threshold.query_per_month",
            "`window: 30d`",
        ),
        (
            "  rule_name: r\n  «rules»: []\n  global_threshold: {query_per_day: 1}\n",
            "filter.rules",
            "did you mean `rule_items`?",
        ),
        ("  rule_name: r\n  global_threshold: {limit: 5, window: «5»}\n", "filter.global_threshold.window", "`10s`"),
        ("  rule_name: r\n  «global_threshold»: {}\n", "filter.global_threshold", "at least one limit"),
        (
            "  rule_name: r\n  rule_items:\n    - limit_by_header: h\n      limit_keys: [{key: a, query_per_day: \
             «0»}]\n",
            "filter.rule_items[0].limit_keys[0].query_per_day",
            "got `0`",
        ),
        (
            "  rule_name: r\n  rule_items:\n    - limit_by_header: h\n      limit_keys:\n        - {key: a, \
             query_per_day: 1}\n        - «{query_per_day: 1}»\n",
            "filter.rule_items[0].limit_keys[1].key",
            "is missing",
        ),
        (
            "  rule_name: r\n  global_threshold: {query_per_day: 1}\n  redis: «redis://:hush@h»\n",
            "filter.redis",
            "got a text",
        ),
        (
            "  rule_name: r\n  global_threshold: {query_per_day: 1}\n  redis: {service_name: r, password: hush, \
             timeout: «-1»}\n",
            "filter.redis.timeout",
            "got `-1`",
        ),
    ] {
        assert_told(&format!("{UPSTREAM}filter:\n{text}"), "error", path, words);
    }
    let cluster = "redis: redis+cluster://h\nfilter: {rule_name: r, global_threshold: {query_per_day: 1}, redis: \
                   {service_name: r, database: «3»}}\n";
    assert_told(&format!("{UPSTREAM}{cluster}"), "error", "filter.redis.database", "only database 0");
}

#[test]
fn whatever_the_file_looks_like() {
    let good = "rule_name: r, global_threshold: {query_per_day: 1}";
    for (text, path, words) in [
        // Line ends of Windows, tabs, and columns of characters, not of bytes.
        ("upstream: http://a\r\nlisten: «here»\r\nlog: {}\r\n".to_owned(), "listen", "got `here`"),
        ("upstream: http://a\nlisten:\t«here»\n".to_owned(), "listen", "got `here`"),
        (
            "{routes: [{name: 'ünïcödé 日本', upstream: http://a}], log: {format: «xml»}}\n".to_owned(),
            "log.format",
            "got `xml`",
        ),
        // An alias stands for what is written elsewhere, and what is wrong in it is wrong there.
        (
            "upstream: http://a\nfilters:\n  - &one {rule_name: r, global_threshold: {query_per_day: «0»}}\n  - *one\n"
                .to_owned(),
            "filters[1].global_threshold.query_per_day",
            "got `0`",
        ),
        (
            "upstream: http://a\nfilter: {rule_name: r, global_threshold: {<<: {query_per_day: 1}, «limt»: 5}}\n"
                .to_owned(),
            "filter.global_threshold.limt",
            "did you mean `limit`?",
        ),
        (
            format!("upstream: http://a\nfilters: [{{{good}}}, {{{good}, rule_match: «some»}}]\n"),
            "filters[1].rule_match",
            "got `some`",
        ),
        (
            format!("upstream: http://a\nfilters:\n  - session: {{format: «exprss», secrets: hush}}\n  - {{{good}}}\n"),
            "filters[0].session.format",
            "got `exprss`",
        ),
        (
            format!("upstream: http://a\nfilter: {{filters: [{{{good}, headers: [«x»]}}]}}\n"),
            "filter.filters[0].headers[0]",
            "got `x`",
        ),
        // Texts over several lines.
        ("upstream: http://a\nlisten: >-\n  «here»\n  and there\n".to_owned(), "listen", "got `here and there`"),
        // What is no document, or none of a gateway.
        ("# hush\n\n«hello»\n".to_owned(), "", "expected an object, got only a single value"),
        ("«5»\n".to_owned(), "", "expected an object, got only a single value"),
        ("«- hush»\n- a\n".to_owned(), "", "expected an object, got an array"),
        ("upstream: http://a\n«upstream»: http://b\n".to_owned(), "", "is there twice"),
        ("upstream: http://a\n---\n«upstream»: http://b\n".to_owned(), "", "expected one document, got 2"),
    ] {
        assert_told(&text, "error", path, words);
    }
}

#[test]
fn what_is_not_set_is_told_once() {
    let told = check("upstream: «\"${NOT_SET}\"»\nlisten: here\n", &["-o", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&told.output.stdout).expect("an array");
    let paths: Vec<&str> = found.iter().map(|found| found["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, ["upstream", "listen"]);
}

#[test]
fn mistakes_that_are_too_many_are_counted_at_the_end() {
    let rules: Vec<String> = (0..1_100)
        .map(|index| format!("{{limit_by_header: h{index}, limit_keys: [{{key: a, query_per_day: 0}}]}}"))
        .collect();
    let file = format!("{UPSTREAM}filter: {{rule_name: r, rule_items: [{}]}}\n", rules.join(", "));
    let output = run_with(&["check", "-"], &[], file.as_bytes());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().last(), Some("standard input: filter: and 100 more mistakes"), "{said}");
}

#[test]
fn oddities() {
    let policy = "rule_name: r, redis: {service_name: redis.static}";
    let limit = "global_threshold: {query_per_day: 1}";
    let [first, second] = ["a", "b"].map(|domain| format!("_match_domain_: [{domain}], {limit}"));
    for (text, path, words) in [
        (
            format!(
                "{UPSTREAM}redis: {{names: {{redis.static: redis://h}}}}\n«filter»: {{rule_name: r, global_threshold: \
                 {{query_per_day: 1}}}}\n"
            ),
            "filter",
            "counts in the memory",
        ),
        (
            format!("listen: 127.0.0.1:7000\nadmin: «127.0.0.1:7000»\n{UPSTREAM}"),
            "admin",
            "is the address of `listen` too",
        ),
        (
            format!(
                "{UPSTREAM}redis: redis://h\nfilter:\n  {{{policy}, «global_threshold»: {{query_per_second: 5, \
                 query_per_minute: 1000}}}}\n"
            ),
            "filter.global_threshold",
            "never refuses",
        ),
        (
            format!(
                "{UPSTREAM}redis: redis://h\nfilter:\n  _rules_:\n    - {{{policy}, «_match_route_»: [nobody], \
                 global_threshold: {{query_per_day: 1}}}}\n"
            ),
            "filter._rules_[0]._match_route_",
            "there is no route",
        ),
        (
            format!(
                "{UPSTREAM}redis: {{names: {{redis.static: redis://h}}}}\nfilter:\n  _rules_:\n    - {{{first}, \
                 {policy}}}\n    - {{{second}, rule_name: s, redis: {{service_name: «redsi.static»}}}}\n"
            ),
            "filter._rules_[1].redis.service_name",
            "`redsi.static` has no address",
        ),
        (
            format!(
                "{UPSTREAM}redis: {{names: {{redis.static: redis://h, other: «redis://h»}}}}\nfilter: {{{limit}, \
                 {policy}}}\n"
            ),
            "redis.names.other",
            "nothing in the filter counts in it",
        ),
        (
            format!("{UPSTREAM}filter: {{{limit}, rule_name: r, redis: {{service_name: «b.dns»}}}}\n"),
            "filter.redis.service_name",
            "only a mesh knows such names",
        ),
        (
            format!(
                "{UPSTREAM}filters: [{{session: {{format: php, fields: {{u: x-u}}, redis: {{service_name: \
                 «\"h:6379\"»}}}}}}, {{{limit}, rule_name: r}}]\n"
            ),
            "filters[0].session.redis.service_name",
            "`service_port`",
        ),
        (
            format!(
                "{UPSTREAM}redis: redis://h/3\nfilter: {{{limit}, rule_name: r, «redis»: {{service_name: r, database: \
                 4}}}}\n"
            ),
            "filter.redis",
            "the database is 3, as its URL says",
        ),
        (
            "listen: 127.0.0.1:7000\nupstream: «http://localhost:7000»\n".to_owned(),
            "upstream",
            "is the gateway's own `listen`",
        ),
    ] {
        assert_told(&text, "warning", path, words);
    }
}

#[test]
fn configurations_in_resources() {
    let head = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\napiVersion: \
                extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: limits, namespace: n}\nspec:\n  \
                url: oci://x/slidegate:1\n";
    let good = "{rule_name: r, global_threshold: {query_per_day: 1}, redis: {service_name: r.dns}}";
    for (spec, path, words) in [
        (
            "  defaultConfig: {rule_name: r, global_threshold: {«query_per_dy»: 1}}\n".to_owned(),
            "spec.defaultConfig.global_threshold.query_per_dy",
            "did you mean",
        ),
        (
            format!(
                "  defaultConfig: {good}\n  matchRules:\n    - {{ingress: [off], configDisable: true, config: \
                 {{}}}}\n    - ingress: [a]\n      config:\n        rule_name: s\n        global_threshold: \
                 {{query_per_day: «0»}}\n"
            ),
            "spec.matchRules[1].config.global_threshold.query_per_day",
            "got `0`",
        ),
        (format!("  matchRules:\n    - «config: {good}»\n"), "spec.matchRules[0]", "expected `ingress`"),
        // A rule for nothing hides no mistake elsewhere.
        (
            format!(
                "  defaultConfig: {good}\n  matchRules:\n    - config: {good}\n    - {{ingress: [a], config: \
                 {{rule_name: s, global_threshold: {{query_per_day: «0»}}}}}}\n"
            ),
            "spec.matchRules[1].config.global_threshold.query_per_day",
            "got `0`",
        ),
    ] {
        assert_told(&format!("{head}{spec}"), "error", &format!("WasmPlugin n/limits: {path}"), words);
    }
}

#[test]
fn files_of_json() {
    let directory = Directory::new();
    let told = |marked: &str| {
        let (text, place) = split(marked);
        let file = directory.path().join("gate.json");
        std::fs::write(&file, text).expect("the directory can be written to");
        let output = run(&["check", file.to_str().expect("a path in UTF-8")]);
        (String::from_utf8_lossy(&output.stderr).into_owned(), format!("gate.json:{}:{}: ", place.0, place.1))
    };
    for (text, words) in [
        ("{\n  \"upstream\": \"http://a\",\n  \"listen\": «\"here\"»\n}\n", "listen: expected an address"),
        (
            "{\"upstream\": \"http://a\", \"filter\": {\"rule_name\": \"r\",\n\t\"global_threshold\": \
             {\"query_per_day\": «0»}}}",
            "filter.global_threshold.query_per_day: ",
        ),
        (
            "{\"upstream\": \"http://a\",\r\n \"log\": {\"access\": true, «\"access\"»: false}}",
            "is not JSON: the field `access` is there twice",
        ),
        ("{\"upstream\": \"http://a\",\n«}»", "is not JSON: "),
        ("«[1]»", "expected an object, got an array"),
        ("\n  «5»", "expected an object, got only a single value"),
    ] {
        let (said, place) = told(text);
        assert!(said.contains(&format!("{place}{words}")), "no {place}{words} in {said}");
    }
}

#[test]
fn ten_thousand_rules_have_lines_too() {
    let rule = |index: usize| {
        let limit = if index == 9_876 { "«0»" } else { "5" };
        format!("    - {{limit_by_per_header: x-{index}, limit_keys: [{{key: '*', query_per_second: {limit}}}]}}\n")
    };
    let rules: String = (0..10_000).map(rule).collect();
    assert_told(
        &format!("{UPSTREAM}filter:\n  rule_name: r\n  rule_items:\n{rules}"),
        "error",
        "filter.rule_items[9876].limit_keys[0].query_per_second",
        "got `0`",
    );
}
