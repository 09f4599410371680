//! Settings files, good and bad: what `slidegate check` and `slidegate serve` say about them, and how they end.

use std::{fs, process::Output};

use slidegate_tests::{
    documented,
    gateway_process::{Directory, indented, run},
};

/// A service so that nothing else is missing.
const BEFORE: &str = "upstream: http://127.0.0.1:9\nfilter:\n";

/// A complaint without the file's name, and without the line and the column behind it, which are given back, if they
/// stand there.
fn taken_apart<'l>(line: &'l str, file: &str) -> (Option<(usize, usize)>, &'l str) {
    let rest = line.strip_prefix(file).unwrap_or_else(|| panic!("`{line}` names no file"));
    let placed = || {
        let mut parts = rest.strip_prefix(':')?.splitn(3, ':');
        let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((Some(place), parts.next()?.strip_prefix(' ')?))
    };
    placed().unwrap_or_else(|| (None, rest.strip_prefix(": ").unwrap_or_else(|| panic!("`{line}` is no complaint"))))
}

/// What a command said about a file of this name and content: its lines on standard error.
fn complaints(command: &str, name: &str, content: &[u8]) -> Vec<String> {
    complaints_with(command, name, content, &[])
}

/// The same, with options.
fn complaints_with(command: &str, name: &str, content: &[u8], args: &[&str]) -> Vec<String> {
    let directory = Directory::new();
    let file = directory.path().join(name);
    fs::write(&file, content).expect("a temporary file can be written");
    let path = file.to_str().expect("a temporary path is text");
    let output = run(&[&[command, path], args].concat());
    assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
    let lines: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    assert!(output.stdout.is_empty() && !lines.is_empty(), "{output:?}");
    assert!(lines.iter().all(|line| !line.contains("panic")), "{lines:?}");
    // Below a complaint `check` shows the line that it is about.
    let is_complaint = |line: &&String| !line.starts_with("  ");
    lines.iter().filter(is_complaint).map(|line| taken_apart(line, path).1.to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("messages are text")
}

/// Both commands refuse the file in the same words, each of which contains all of these.
fn assert_refused(content: impl AsRef<[u8]>, expected: &[&[&str]]) {
    let content = content.as_ref();
    let checked = complaints("check", "gate.yaml", content);
    // Some of it is seen only after listening, and the default port may be somebody's.
    assert_eq!(complaints_with("serve", "gate.yaml", content, &["--listen", "127.0.0.1:0"]), checked);
    let shown = String::from_utf8_lossy(content);
    assert_eq!(checked.len(), expected.len(), "{shown}\n{checked:#?}");
    for words in expected {
        let tells = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(checked.iter().any(tells), "{checked:#?} does not tell {words:?} of\n{shown}");
    }
}

/// A filter of one mistake: its line begins with this path, and tells these words.
fn assert_filter_refused(filter: &str, path: &str, words: &[&str]) {
    let lines = complaints("check", "gate.yaml", format!("{BEFORE}{}", indented(filter)).as_bytes());
    let found = lines.iter().any(|line| {
        line.strip_prefix(path).is_some_and(|rest| rest.starts_with(':'))
            && words.iter().all(|word| line.contains(word))
    });
    assert!(found, "no line with `{path}` and {words:?} in {lines:#?} of\n{filter}");
    assert_eq!(lines.len(), 1, "{lines:#?} of\n{filter}");
}

fn check(settings: &str, args: &[&str]) -> Output {
    let directory = Directory::new();
    let file = directory.path().join("gate.yaml");
    fs::write(&file, settings).expect("a temporary file can be written");
    let mut all = vec!["check", file.to_str().expect("a temporary path is text")];
    all.extend(args);
    run(&all)
}

#[test]
fn a_file_that_is_no_document_says_why() {
    for command in ["check", "serve"] {
        let output = run(&[command, "/nowhere/gate.yaml"]);
        assert_eq!(
            (output.status.code(), text(&output.stderr).as_str()),
            (Some(1), "/nowhere/gate.yaml: no such file\n")
        );
        let output = run(&[command, "/"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("is a directory"), "{output:?}");
    }
    assert_refused("", &[&["is empty", "`upstream`"]]);
    assert_refused("# only a remark\n", &[&["holds no fields"]]);
    assert_refused(b"upstream: http://a\n# \xff\n", &[&["is not UTF-8"]]);
    assert_refused("upstream: [http://a", &[&["is not YAML"]]);
    assert_refused("upstream: http://a\n\tlisten: x\n", &[&["is not YAML", "tab"]]);
    assert_refused("upstream: http://a\nupstream: http://b\n", &[&["is not YAML", "upstream"]]);
    assert_refused("- upstream", &[&["expected an object, got an array"]]);
    assert_refused("7", &[&["expected an object, got only a single value"]]);
    assert_eq!(complaints("check", "gate.json", b"upstream: x").len(), 1);
    assert!(complaints("check", "gate.json", b"{\"upstream\": ").concat().contains("is not JSON"));
}

#[test]
fn the_gateways_own_fields_name_value_and_expectation() {
    assert_refused(
        "listen: here
admin: 70000
workers: 0
upstrem: x
routes: [{name: [7], host: \"a:80\", path_prefix: orders}, {upstream: ftp://a}, 5]
redis: {names: {redis.static: 6379}, nmes: {}}
filter: [1]
timeouts: {response: 5, drain: 0, idle: 0s, connect: 0}
log: {access: maybe, format: xml}
",
        &[
            &["listen: ", "expected", "127.0.0.1:8080", "got `here`"],
            &["admin: ", "`70000`", "127.0.0.1:8080"],
            &["workers: ", "`0`", "1 to 1024"],
            &["routes[0].name: ", "expected a text", "got an array"],
            &["routes[0].host: ", "`a:80`", "without port"],
            &["routes[0].path_prefix: ", "`orders`", "starts with `/`"],
            &["routes[0].upstream: ", "missing"],
            &["routes[1].upstream: ", "`ftp://a`", "http://"],
            &["routes[2]: ", "`5`", "an object"],
            &["redis.nmes: ", "no such field", "`names`"],
            &["redis.names.redis.static: ", "`6379`", "redis://"],
            &["filter: ", "got an array", "an object"],
            &["timeouts.connect: ", "`0`", "above zero"],
            &["timeouts.response: ", "`5`", "`500ms`"],
            &["timeouts.idle: ", "`0s`", "above zero"],
            &["log.access: ", "`maybe`", "true or false"],
            &["log.format: ", "`xml`", "`json`"],
            &["upstrem: ", "no such field", "`upstream`"],
        ],
    );
    assert_refused("listen: 127.0.0.1:1\n", &[&["routes: ", "missing"]]);
    assert_refused("upstream: http://a\nroutes: [{upstream: http://b}]\n", &[&["routes: ", "only one of"]]);
    assert_refused("upstream: https://a/base\n", &[&["upstream: ", "no path"]]);
    assert_refused("upstream: http://a\nredis: {names: {r: \"http://b\"}}\n", &[&["redis.names.r: ", "redis://"]]);
}

#[test]
fn a_limit_that_is_none_names_field_value_and_expectation() {
    let global = |limit: &str| format!("rule_name: r\nglobal_threshold: {{{limit}}}");
    for (limit, field, seen) in [
        ("query_per_second: 0", "query_per_second", "0"),
        ("query_per_minute: -5", "query_per_minute", "-5"),
        ("query_per_hour: 9007199254740993", "query_per_hour", "9007199254740993"),
        ("query_per_day: 1.5", "query_per_day", "1.5"),
        ("query_per_day: many", "query_per_day", "many"),
        ("query_per_day: [1]", "query_per_day", ""),
        ("limit: 0, window: 10s", "limit", "0"),
        ("limit: 5, window: 0s", "window", "0s"),
        ("limit: 5, window: 10", "window", "10"),
        ("limit: 5, window: 10y", "window", "10y"),
        ("limit: 5, window: -1s", "window", "-1s"),
    ] {
        assert_filter_refused(&global(limit), &format!("filter.global_threshold.{field}"), &[seen]);
    }
}

#[test]
fn a_rule_that_cannot_be_meant_names_its_place() {
    let item = |item: &str| format!("rule_name: r\nrule_items:\n  - {item}");
    let keys = "limit_keys: [{key: a, query_per_day: 1}]";
    assert_filter_refused(
        &item("{limit_by_per_param: p, limit_keys: [{key: \"regexp:(\", query_per_day: 1}]}"),
        "filter.rule_items[0].limit_keys[0].key",
        &["`(`", "regular expression"],
    );
    assert_filter_refused(
        &item("{limit_by_per_ip: from-remote-addr, limit_keys: [{key: 10.0.0.0/99, query_per_day: 1}]}"),
        "filter.rule_items[0].limit_keys[0].key",
        &["10.0.0.0/99"],
    );
    assert_filter_refused(
        &item("{limit_by_per_ip: from-remote-addr, limit_keys: [{key: ten, query_per_day: 1}]}"),
        "filter.rule_items[0].limit_keys[0].key",
        &["ten"],
    );
    assert_filter_refused(
        &item("{limit_by_per_ip: from-header-, limit_keys: [{key: ::/0, query_per_day: 1}]}"),
        "filter.rule_items[0].limit_by_per_ip",
        &["from-header-"],
    );
    assert_filter_refused(
        &item("{limit_by_param: a, limit_keys: [{key: a}]}"),
        "filter.rule_items[0].limit_keys[0]",
        &["query_per_second"],
    );
    assert_filter_refused(
        &item("{limit_by_param: a, limit_keys: [{query_per_day: 1}]}"),
        "filter.rule_items[0].limit_keys[0].key",
        &[],
    );
    assert_filter_refused(&item("{limit_by_param: a, limit_keys: []}"), "filter.rule_items[0].limit_keys", &[]);
    assert_filter_refused(&item("{limit_by_param: a}"), "filter.rule_items[0].limit_keys", &["missing"]);
    assert_filter_refused(
        &item(&format!("{{limit_by_parm: a, limit_by_header: b, {keys}}}")),
        "filter.rule_items[0].limit_by_parm",
        &["limit_by_param"],
    );
    assert_filter_refused(
        "rule_name: r\nglobal_threshold: {query_per_day: 1}\nrejected_cod: 500",
        "filter.rejected_cod",
        &["rejected_code"],
    );
    assert_filter_refused("global_threshold: {query_per_day: 1}", "filter.rule_name", &["missing"]);
    assert_filter_refused(
        "rule_name: r\nglobal_threshold: {query_per_day: 1}\nredis: {service_port: 1}",
        "filter.redis.service_name",
        &[],
    );
    assert_filter_refused(
        "rule_name: r\nglobal_threshold: {query_per_day: 1}\nfailure_mode: shut",
        "filter.failure_mode",
        &["shut", "open"],
    );
    assert_filter_refused(
        "rule_name: r\nglobal_threshold: {query_per_day: 1}\nredis: {service_name: r, timeout: -1}",
        "filter.redis.timeout",
        &["-1"],
    );
}

#[test]
fn both_or_neither_of_a_pair_is_refused() {
    // Neither threshold nor rules; a rule by nothing, and by two things; a limit without window, and a window without
    // limit.
    let lines =
        |filter: &str| complaints("check", "gate.yaml", format!("{BEFORE}{}", indented(filter)).as_bytes()).concat();
    let neither = lines("rule_name: r");
    assert!(neither.contains("global_threshold") && neither.contains("rule_items"), "{neither}");
    let by_nothing = lines("rule_name: r\nrule_items: [{limit_keys: [{key: a, query_per_day: 1}]}]");
    assert!(by_nothing.contains("rule_items[0]") && by_nothing.contains("limit_by_"), "{by_nothing}");
    let by_two = lines(
        "rule_name: r\nrule_items: [{limit_by_param: a, limit_by_header: b, limit_keys: [{key: a, query_per_day: 1}]}]",
    );
    assert!(
        by_two.contains("rule_items[0]") && by_two.contains("limit_by_param") && by_two.contains("limit_by_header"),
        "{by_two}"
    );
    assert!(lines("rule_name: r\nglobal_threshold: {limit: 5}").contains("window"));
    assert!(lines("rule_name: r\nglobal_threshold: {window: 5s}").contains("limit"));
    assert!(lines("rule_name: r\nglobal_threshold: {}").contains("query_per_second"));
}

#[test]
fn every_mistake_of_a_filter_is_told_in_one_run() {
    let filter = "rule_name: r
rule_items:
  - {limit_by_param: a, limit_keys: [{key: x, query_per_day: 0}, {key: y, query_per_day: -1}]}
  - {limit_by_per_header: h, limit_keys: [{key: \"regexp:[\", query_per_day: 1}]}
  - {limit_by_per_ip: somewhere, limit_keys: [{key: 1.2.3.4/64, query_per_day: 1}]}
redis: {service_name: \"\", password: do-not-print-me}
show_limit_quota_heder: true
failure_mode: never";
    let lines = complaints("check", "gate.yaml", format!("{BEFORE}{}", indented(filter)).as_bytes());
    for path in [
        "filter.rule_items[0].limit_keys[0].query_per_day: ",
        "filter.rule_items[0].limit_keys[1].query_per_day: ",
        "filter.rule_items[1].limit_keys[0].key: ",
        "filter.rule_items[2].limit_by_per_ip: ",
        "filter.redis.service_name: ",
        "filter.show_limit_quota_heder: ",
        "filter.failure_mode: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(path)), "nothing about `{path}` in {lines:#?}");
    }
    assert!(!lines.concat().contains("do-not-print-me"), "{lines:#?}");
}

#[test]
fn a_good_file_is_told_back_in_order_and_without_passwords() {
    let settings = format!(
        "listen: 127.0.0.1:8081
workers: 3
routes: [{{name: orders, path_prefix: /orders, upstream: \"http://127.0.0.1:9001\"}}, {{name: rest, host: \"*.test\", \
upstream: \"h2c://[::1]:9002\"}}]
redis: {{names: {{redis.static: \"redis://someone:url-secret@10.1.2.3:6390/4\"}}}}
filter:
{}",
        indented(&documented::PARAM.replace(
            "service_name: redis.static",
            "service_name: redis.static\n  username: \
            someone\n  password: file-secret"
        ))
    );
    let output = check(&settings, &[]);
    let told = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{output:?}");
    let mut rest = told.as_str();
    for expected in [
        "127.0.0.1:8081 (3 workers)",
        "orders: */orders -> http://127.0.0.1:9001, service outbound|9001||127.0.0.1",
        "rest: *.test/ -> h2c://[::1]:9002",
        "redis.static",
        "10.1.2.3:6390",
        "routeA-request-param-limit-rule",
        "apikey",
        "9a34***",
        "10 per ",
        "a6a6***",
        "100 per ",
        "regexp:^a.*",
        "10 per 1s",
        "regexp:^b.*",
        "100 per ",
        "*",
        "1000 per ",
        "429",
    ] {
        rest = rest
            .split_once(expected)
            .unwrap_or_else(|| panic!("`{expected}` is missing, or out of order, in\n{told}"))
            .1;
    }
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn the_documented_configurations_are_good_as_they_are_written() {
    for (_, filter) in documented::ALL {
        let names = "redis: {names: {redis.static: \"redis://127.0.0.1\"}}\ntrusted_consumer: [127.0.0.1]\n";
        let output = check(&format!("{names}{BEFORE}{}", indented(filter)), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = text(&output.stdout);
        assert!(told.contains("redis.static:80") && told.contains("routeA-"), "{told}");
        // That of addresses believes what clients write, which is odd where nobody else is in front.
        let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("warning")).collect();
        assert_eq!(warnings.len(), usize::from(filter.contains("from-header-")), "{told}");
        assert!(warnings.iter().all(|warning| warning.contains("believes the leftmost address")), "{told}");
    }
}

#[test]
fn options_win_over_the_file() {
    let settings = "listen: 127.0.0.1:1\nupstream: http://127.0.0.1:9\nfilter: {rule_name: r, global_threshold: \
                    {query_per_day: 1}, redis: {service_name: r}}\n";
    let args = [
        "--listen",
        "127.0.0.1:2",
        "--admin",
        "127.0.0.1:3",
        "--workers",
        "5",
        "--redis",
        "redis://:opt-secret@10.9.8.7:99",
    ];
    let told = text(&check(settings, &args).stdout);
    for expected in ["127.0.0.1:2 (5 workers)", "127.0.0.1:3", "10.9.8.7:99"] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains("opt-secret"), "{told}");
    for args in [["--redis", "nonsense"], ["--listen", "nowhere"], ["--workers", "0"], ["--component", "/nowhere.wasm"]]
    {
        let output = check(settings, &args);
        assert!(output.status.code().is_some_and(|code| code != 0), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains(args[0]), "{output:?}");
    }
}

#[test]
fn an_address_that_is_taken_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let lines =
        complaints("serve", "gate.yaml", format!("listen: {address}\nupstream: http://127.0.0.1:9\n").as_bytes());
    assert!(lines.concat().contains("listen: ") && lines.concat().contains(&address), "{lines:?}");
}

#[test]
fn mistakes_of_the_gateway_hide_none_of_the_filter() {
    let filter = "filter: {rule_name: r, global_threshold: {query_per_second: 0}, bogus: 1}\n";
    let wrong = [
        ("", "routes: is missing"),
        ("upstream: http://127.0.0.1:9\nworkers: 0\n", "workers: "),
        ("upstream: http://127.0.0.1:9\nredis: {names: {r: \"http://x\"}}\n", "redis.names.r: "),
    ];
    for (gateway, own) in wrong {
        let lines = complaints("check", "gate.yaml", format!("{gateway}{filter}").as_bytes());
        let starts = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        let counts = [own, "filter.bogus: ", "filter.global_threshold.query_per_second: "].map(starts);
        assert_eq!((counts, lines.len()), ([1, 1, 1], 3), "{lines:#?}");
    }
}
