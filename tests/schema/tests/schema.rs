//! The schemas say what the engine says: what it accepts, they accept; what it refuses, they refuse, but for what no
//! schema can say.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use jsonschema::Validator;
use serde_json::{Value, json};
use slidegate_document::schema;
use slidegate_engine::config::Config;
use slidegate_schema_tests::{parsed, text, yaml_blocks, yaml_files};

/// What of the engine's messages stands for a rule that a schema cannot say, and why it cannot.
const BEYOND_SCHEMAS: [(&str, &str); 12] = [
    ("a slot of ", "a width is compared with the window beside it, or further in"),
    ("slots of ", "the same, of how many there would be"),
    ("expected a whole number from ", "a text of digits has no greatest value"),
    ("expected a share of the limit above 0", "nor has a text of a fraction"),
    ("this number is too long to keep its digits", "a schema does not know how a number is written"),
    ("expected a text that nobody else knows", "told beside that"),
    ("expected where responses are kept", "the gateway's file may name one Redis for all"),
    ("expected an address or a network", "a pattern does not count the bits of an address"),
    ("expected an IP address or a network", "keys are addresses only beside `limit_by_per_ip`"),
    ("`_match_route_prefix_`, not empty", "names that are empty are left out, and lists of them count as none"),
    ("lacks `x-ratelimit`", "elements of one field depend on another one"),
    ("says which address of a header to take", "one field depends on how the text of another one begins"),
];

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::options().build(schema).expect("a schema")
}

fn mistakes(document: &Value) -> Vec<String> {
    match Config::read(document.to_string().as_bytes()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// The configurations of filters that the project shows and tests with.
fn filters() -> Vec<(String, Value)> {
    // Those that name a documented configuration have none of their own: manifests carry these.
    let cases = yaml_files("tests/cases").into_iter().filter_map(|(name, text)| {
        let config = parsed(&name, &text).as_object_mut()?.remove("config")?;
        Some((name, config))
    });
    let manifests = yaml_files("guest/shim/deploy").into_iter().filter_map(|(name, text)| {
        let config = parsed(&name, &text).pointer_mut("/spec/defaultConfig")?.take();
        Some((name, config))
    });
    let blocks = ["README.md", "guest/engine/README.md", "guest/shim/README.md", "guest/shim/README.zh-CN.md"]
        .into_iter()
        .flat_map(yaml_blocks);
    let blocks = blocks.filter_map(|(name, block)| match block {
        Value::Object(mut fields) if fields.contains_key("upstream") => Some((name, fields.remove("filter")?)),
        block => (block.get("rule_name").is_some() || block.get("_rules_").is_some()).then_some((name, block)),
    });
    let demo = text("host/src/demo/requests.rs");
    let demo = demo
        .split_once("fn filter() -> Value {\n    json!(")
        .and_then(|(_, rest)| rest.split_once(")\n}"))
        .expect("the demo has a filter")
        .0;
    cases.chain(manifests).chain(blocks).chain([("the demo".to_owned(), parsed("the demo", demo))]).collect()
}

#[test]
fn whatever_is_shown_or_tested_with_is_accepted_or_refused_by_both() {
    let validator = validator(&schema::filter());
    let filters = filters();
    assert!(filters.len() > 60, "{}", filters.len());
    for (name, filter) in filters {
        let mistakes = mistakes(&filter);
        assert!(mistakes.is_empty(), "{name}: {mistakes:?}");
        let errors: Vec<String> =
            validator.iter_errors(&filter).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

/// Something of each kind, to stand where something else stood.
fn samples() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!("false"),
        json!(0),
        json!(1),
        json!(-1),
        json!(7),
        json!(0.5),
        json!(1e17),
        json!(300),
        json!(""),
        json!("x"),
        json!("0"),
        json!("64"),
        json!("7.0"),
        json!(1.0),
        json!("10s"),
        json!("500ms"),
        json!("*"),
        json!("10.0.0.0/8"),
        json!("from-remote-addr"),
        json!("a b=;"),
        json!([]),
        json!(["x"]),
        json!([null]),
        json!({}),
        json!({"x": 1}),
        json!({"rule_name": "r"}),
    ]
}

/// Whatever becomes of a document by one change.
fn changed(document: &Value) -> Vec<Value> {
    changed_by(document, &samples())
}

/// The same, with one of these in the place of what stood there.
fn changed_by(document: &Value, samples: &[Value]) -> Vec<Value> {
    let mut all = samples.to_vec();
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                let with = |value: Option<Value>| {
                    let mut fields = fields.clone();
                    match value {
                        Some(value) => drop(fields.insert(name.clone(), value)),
                        None => drop(fields.remove(name)),
                    }
                    Value::from(fields)
                };
                all.push(with(None));
                all.extend(changed_by(value, samples).into_iter().map(|value| with(Some(value))));
            }
            let mut more = fields.clone();
            more.insert("colour".to_owned(), json!(1));
            all.push(Value::from(more));
        }
        Value::Array(items) => {
            // Those that follow are like the first.
            for (index, item) in items.iter().enumerate().take(2) {
                all.extend(changed_by(item, samples).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[index] = item;
                    Value::from(items)
                }));
            }
        }
        _ => {}
    }
    all
}

/// A mistake without where it is and what was seen.
fn kind_of(mistake: &str) -> String {
    let message = mistake.split_once(": ").map_or(mistake, |(_, message)| message);
    message.split(", got ").next().unwrap_or_default().to_owned()
}

#[test]
fn no_change_of_a_configuration_is_accepted_by_one_and_refused_by_the_other() {
    let validator = validator(&schema::filter());
    let everything = [include_str!("everything.yaml"), include_str!("cached.yaml")];
    let documents: BTreeMap<String, Value> = filters()
        .into_iter()
        .chain(everything.map(|yaml| ("everything".to_owned(), parsed("everything", yaml))))
        .map(|(_, filter)| (filter.to_string(), filter))
        .collect();
    let (mut stricter, mut looser, mut used, mut count) = (Vec::new(), BTreeMap::new(), BTreeSet::new(), 0);
    // What may stand in a session's fields depends on its format, which no schema says.
    let is_of_sessions = |document: &str| document.contains("\"session\":");
    let small = |document: &&Value| document.to_string().len() < 4_000 && !is_of_sessions(&document.to_string());
    for document in documents.values().filter(small).flat_map(changed) {
        count += 1;
        let (mistakes, is_valid) = (mistakes(&document), validator.is_valid(&document));
        if mistakes.is_empty() && !is_valid {
            let errors: Vec<String> =
                validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path)).collect();
            stricter.push(format!("{document}\n{}", errors.join("\n")));
        }
        if !mistakes.is_empty() && is_valid {
            for mistake in mistakes {
                match BEYOND_SCHEMAS.iter().find(|(words, _)| mistake.contains(words)) {
                    Some((words, _)) => drop(used.insert(*words)),
                    None => drop(looser.entry(kind_of(&mistake)).or_insert_with(|| document.clone())),
                }
            }
        }
    }
    assert!(count > 10_000, "{count}");
    stricter.truncate(20);
    assert!(stricter.is_empty(), "accepted, but not by the schema:\n{}", stricter.join("\n\n"));
    let looser: Vec<String> =
        looser.into_iter().take(30).map(|(mistake, document)| format!("{mistake}\n{document}")).collect();
    assert!(looser.is_empty(), "accepted by the schema only:\n{}", looser.join("\n\n"));
    let unused: Vec<&str> =
        BEYOND_SCHEMAS.iter().map(|(words, _)| *words).filter(|words| !used.contains(words)).collect();
    assert_eq!(unused, [""; 0], "a schema may be able to say these by now");
}

#[test]
fn resources_and_gateways_files_that_are_shown_are_accepted() {
    let validator_of_plugins = validator(&schema::wasm_plugin());
    let plugins = yaml_files("guest/shim/deploy").into_iter().filter(|(name, _)| !name.ends_with("spec.yaml"));
    let plugins: Vec<(String, Value)> = plugins.map(|(name, text)| (name.clone(), parsed(&name, &text))).collect();
    assert!(plugins.len() >= 7);
    for (name, plugin) in &plugins {
        let errors: Vec<String> =
            validator_of_plugins.iter_errors(plugin).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        let wrong = plugin.to_string().replace("\"query_per_", "\"query_pre_");
        assert!(!validator_of_plugins.is_valid(&serde_json::from_str(&wrong).expect("JSON")), "{name}");
    }
    let validator = validator(&schema::gateway());
    let blocks = ["README.md", "host/README.md"].into_iter().flat_map(yaml_blocks);
    let written = yaml_files("host/src/init").into_iter().map(|(name, text)| (name.clone(), parsed(&name, &text)));
    let files: Vec<(String, Value)> = blocks
        .filter(|(_, block)| ["upstream", "routes", "decide"].iter().any(|field| block.get(field).is_some()))
        .chain(written)
        .collect();
    // One filter says the same as a list of it.
    let listed = files.iter().filter_map(|(name, file)| {
        let mut fields = file.as_object()?.clone();
        let filter = fields.remove("filter").filter(|filter| filter.get("filters").is_none())?;
        fields.insert("filters".to_owned(), json!([filter]));
        Some((format!("{name}, as a list"), Value::from(fields)))
    });
    let listed: Vec<(String, Value)> = listed.collect();
    assert!(files.len() > 5 && listed.len() > 3, "{} {}", files.len(), listed.len());
    for (name, file) in files.into_iter().chain(listed) {
        let errors: Vec<String> =
            validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn what_the_gateway_accepts_and_refuses_its_schema_does_too() {
    let validator = validator(&schema::gateway());
    let filter = json!({"rule_name": "r", "global_threshold": {"query_per_second": 5}});
    for accepted in [
        json!({"upstream": "http://127.0.0.1:9001"}),
        json!({"$schema": "slidegate.json", "upstream": "http://127.0.0.1:9001"}),
        json!({"upstream": "h2c://[::1]:50051/", "routes": null, "listen": "[::]:8080", "admin": ":9090",
            "workers": "3"}),
        json!({"routes": [{"name": 7, "host": "*.a.test", "path_prefix": "/a", "upstream": "http://a"}],
            "filter": filter}),
        json!({"upstream": "http://a", "filters": [filter, filter], "normalize_path": "refuse",
            "header_names": "all", "trusted_consumer": ["10.0.0.0/8", "::1"]}),
        json!({"upstream": "http://a", "filter": {"filters": [filter]}, "filters": null, "normalize_path": false,
            "trusted_consumer": "true"}),
        json!({"upstream": "${UPSTREAM}", "workers": "${WORKERS}",
            "log": {"access": "${ACCESS}", "format": "${FORMAT}"}}),
        json!({"upstream": "HTTP://a", "listen": ":65535", "timeouts": {"connect": "365 d", "idle": "010ms"},
            "limits": {"body_time": "0 d"}}),
        json!({"upstream": "http://a", "redis": "redis://h",
            "timeouts": {"connect": "500ms", "drain": 0, "lame_duck": "2 h"}}),
        json!({"upstream": "http://a", "redis": {"names": {"r": "redis://h",
            "s": {"url": "rediss://h", "ca": "ca.pem"}}, "required": true}}),
        json!({"upstream": "http://a", "limits": {"send_buffer": "64KiB", "connections_per_address": 0,
            "body_time": "0s"}, "filters": []}),
        json!({"decide": {"listen": ":1"}}),
        json!({"decide": {"listen": ":1"}, "upstream": "http://a", "listen": ":2"}),
    ] {
        let errors: Vec<String> =
            validator.iter_errors(&accepted).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{accepted}: {errors:#?}");
    }
    for refused in [
        json!({}),
        json!({"upstream": null}),
        json!({"upstream": "http://a", "routes": [{"upstream": "http://b"}]}),
        json!({"routes": []}),
        json!({"routes": [{"name": "a"}]}),
        json!({"upstream": "ftp://a"}),
        json!({"upstream": "http://a", "upstrem": "x"}),
        json!({"upstream": "http://a", "listen": 8080}),
        json!({"upstream": "http://a", "listen": "here"}),
        json!({"upstream": "http://a", "listen": ":65536"}),
        json!({"upstream": "http://a", "listen": "127.0.0.1:99999"}),
        json!({"upstream": "http://a", "timeouts": {"connect": 0}}),
        json!({"upstream": "http://a", "timeouts": {"connect": "0s"}}),
        json!({"upstream": "http://a", "timeouts": {"idle": "400d"}}),
        json!({"upstream": "http://a", "limits": {"body_time": "366d"}}),
        json!({"upstream": "http://a", "workers": 0}),
        json!({"upstream": "http://a", "filter": [filter]}),
        json!({"upstream": "http://a", "filter": filter, "filters": [filter]}),
        json!({"upstream": "http://a", "filter": {"rule_name": "r", "global_threshold": {"query_per_secnd": 5}}}),
        json!({"upstream": "http://a", "timeouts": {"connect": 5}}),
        json!({"upstream": "http://a", "log": {"format": "xml"}}),
        json!({"upstream": "http://a", "redis": {"names": {"r": 5}}}),
        json!({"upstream": "http://a", "redis": {"names": {"r": {"ca": "x"}}}}),
        json!({"upstream": "http://a", "limits": {"send_buffer": "1GiB"}}),
        json!({"routes": [{"upstream": "http://a", "path_prefix": "orders"}]}),
        json!({"routes": [{"upstream": "http://a", "host": "a:80"}]}),
        json!({"upstreams": ["http://a", "http://b", "http://a"]}),
        json!({"routes": [{"upstream": "http://a"}, {"upstream": "http://a"}]}),
        json!({"decide": null}),
        json!({"decide": {}}),
        json!({"decide": {"listen": ":1"}, "listen": ":2"}),
        json!({"decide": {"listen": ":1"}, "tls": {"cert": "a", "key": "b"}}),
        json!({"decide": {"listen": ":1", "refuse_with": 200}}),
        json!({"decide": {"listen": ":1", "trusted_peers": "10.0.0.0/8"}}),
    ] {
        assert!(!validator.is_valid(&refused), "{refused}");
    }
}

/// What of the gateway's messages stands for a rule that its schema cannot say, and why it cannot.
const BEYOND_GATEWAY: [(&str, &str); 10] = [
    ("expected a file that can be read", "a schema opens no files"),
    ("expected a whole number from ", "a text of digits has no greatest value"),
    ("expected a size from ", "nor has a text of a size, or a least one"),
    ("this number is too long to keep its digits", "a schema does not know how a number is written"),
    ("expected a host name or an IP address", "names are not looked into"),
    ("expected an address or a network", "a pattern does not count the parts of an address"),
    ("has the same `host` and `path_prefix`", "routes that differ otherwise are compared by some of their fields"),
    ("expected each upstream once", "`http://a` and `http://a:80` are one"),
    ("expected only with a", "whether there is TLS, or a sentinel, is a part of a URL"),
    ("not a usable Redis URL", "URLs of Redis are of many kinds"),
];

/// What the gateway, as it was built last, finds wrong in a document.
fn mistakes_of_gateway(document: &Value) -> Vec<String> {
    let target = std::env::current_exe().expect("a test knows its own file");
    let binary = target.ancestors().nth(2).expect("tests are built two folders deep").join("slidegate");
    let mut process = Command::new(&binary)
        .args(["check", "-", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("`just build` made {}: {error}", binary.display()));
    process.stdin.take().expect("piped").write_all(document.to_string().as_bytes()).expect("it reads");
    let output = process.wait_with_output().expect("it ends");
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("an array");
    let found = found.iter().filter(|found| found["severity"] == "error");
    found.map(|found| format!("{}: {}", found["path"], found["message"].as_str().unwrap_or_default())).collect()
}

#[test]
fn no_change_of_a_gateways_file_is_accepted_by_one_and_refused_by_the_other() {
    let validator = validator(&schema::gateway());
    let documents = [
        json!({
            "listen": "127.0.0.1:8080", "admin": {"listen": ":9090", "tls": null}, "workers": 2,
            "routes": [{"name": "a", "host": "a.test", "path_prefix": "/a", "upstream": "http://a"},
                {"upstreams": ["http://b", "http://c"]}],
            "normalize_path": "on", "header_names": "strict", "trusted_consumer": ["10.0.0.0/8"],
        }),
        json!({
            "upstreams": ["http://a", "http://b"],
            "redis": {"url": "redis://h", "names": {"r": {"url": "redis://h", "username": "u", "password": "p"},
                "s": "redis://h"}, "required": false},
            "timeouts": {"connect": "5s", "drain": "0s", "upstream_age": "1m"},
            "limits": {"connections": 5, "connections_per_address": 0, "send_buffer": "64KiB", "body_time": "60s"},
            "log": {"access": true, "format": "json"},
        }),
        json!({"upstream": "https://a", "upstream_tls": {"server_name": "b"}}),
        json!({"decide": {"listen": ":9191", "trusted_peers": ["10.0.0.0/8"], "refuse_with": 403}, "workers": 1}),
        json!({"decide": {"listen": ":9191"}, "upstream": "http://a", "listen": ":8080"}),
    ];
    let more = [
        json!("5.0"),
        json!("0.0"),
        json!("1.0"),
        json!("00"),
        json!(5.0),
        json!(0.0),
        json!(1.0),
        json!("http://a"),
        json!("/a"),
        json!("redis://h"),
        json!(["http://a", "http://a"]),
    ];
    let all: Vec<Value> =
        documents.iter().flat_map(|document| changed_by(document, &[samples(), more.to_vec()].concat())).collect();
    assert!(all.len() > 1_000, "{}", all.len());
    let found: Vec<Vec<String>> = std::thread::scope(|scope| {
        let half = all.len().div_ceil(2);
        let halves: Vec<_> = all
            .chunks(half)
            .map(|part| scope.spawn(move || part.iter().map(mistakes_of_gateway).collect::<Vec<_>>()))
            .collect();
        halves.into_iter().flat_map(|half| half.join().expect("it asks")).collect()
    });
    let (mut stricter, mut looser) = (BTreeMap::new(), BTreeMap::new());
    for (document, mistakes) in all.iter().zip(found) {
        match (mistakes.is_empty(), validator.is_valid(document)) {
            (true, false) => {
                for error in validator.iter_errors(document) {
                    stricter.entry(format!("{}: {error}", error.instance_path)).or_insert_with(|| document.clone());
                }
            }
            (false, true) => {
                let unsaid =
                    mistakes.iter().find(|mistake| !BEYOND_GATEWAY.iter().any(|(words, _)| mistake.contains(words)));
                unsaid.map(|mistake| looser.entry(kind_of(mistake)).or_insert_with(|| document.clone()));
            }
            _ => {}
        }
    }
    assert!(
        stricter.is_empty() && looser.is_empty(),
        "accepted, but not by the schema: {stricter:#?}\naccepted by the schema only: {looser:#?}"
    );
}

#[test]
fn tests_of_limits_are_accepted_as_they_are_shown_and_refused_with_a_slip() {
    let validator = validator(&schema::limit_tests());
    let shown = |(_, block): &(String, Value)| block.get("tests").is_some();
    let (name, tests) = yaml_blocks("host/README.md").into_iter().find(shown).expect("it shows some");
    assert!(validator.is_valid(&tests), "{name}: {:?}", validator.iter_errors(&tests).next());
    for (pointer, slip) in [
        ("/tests/0/steps/0/expect", json!("passes")),
        ("/tests/0/steps/0/request", json!("/orders")),
        ("/tests/0/steps/0/times", json!(0)),
        ("/tests/0/steps/1/expect", json!({"pass": 1, "refused": 1})),
        ("/tests/1", json!({"name": "without steps"})),
    ] {
        let mut tests = tests.clone();
        *tests.pointer_mut(pointer).expect("it is there") = slip;
        assert!(!validator.is_valid(&tests), "{pointer}");
    }
}
