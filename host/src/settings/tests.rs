use std::path::Path;

use super::document::Document;
use super::*;

fn read(text: &str) -> Result<Settings, Vec<Mistake>> {
    let document = Document::parse("gate.yaml", text.as_bytes()).map_err(|mistake| vec![mistake])?;
    Settings::read(&document.tree, Path::new(""))
}

fn mistakes(text: &str) -> Vec<String> {
    read(text).expect_err("mistakes").iter().map(Mistake::to_string).collect()
}

#[test]
fn one_nameless_upstream_is_enough() {
    let settings = read("upstream: http://127.0.0.1:9001").expect("settings");
    assert_eq!(settings.listen.as_ref().expect("an address").address.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.unusual(), []);
    assert_eq!((settings.admin, settings.filter), (None, None));
    assert!(settings.workers >= 1);
    let route = settings.routes.first().expect("a route");
    assert_eq!((route.name.as_str(), route.path_prefix.as_str()), ("", "/"));
    assert_eq!(settings.timeouts, Timeouts::default());
}

#[test]
fn a_file_that_decides_for_others_needs_no_upstream() {
    let settings = read("decide: {listen: ':9191'}").expect("settings");
    assert_eq!((settings.listen, settings.routes.len()), (None, 0));
    let DecideSettings { listen, trusted_peers, refuse_with } = settings.decide.expect("it decides");
    assert_eq!((listen.address.to_string().as_str(), refuse_with), ("0.0.0.0:9191", None));
    let told = ["127.0.0.9", "::1", "10.0.0.1"].map(|peer| trusted_peers.contain(peer.parse().expect("an address")));
    assert_eq!(told, [true, true, false]);
    let settings = read("{decide: {listen: ':9191'}, upstream: 'http://a'}").expect("settings");
    assert!(settings.listen.is_some() && settings.decide.is_some());
    let nothing = mistakes("decide: {listen: ':9191'}\nlisten: ':1'\ntls: {}\nupstream_tls: {}");
    assert_eq!(nothing.len(), 3, "{nothing:?}");
}

#[test]
fn the_filters_mistakes_are_told_beside_others() {
    let document = Document::parse("gate.yaml", b"filter: {rule_name: r}").expect("a document");
    Settings::read(&document.tree, Path::new("")).expect_err("it lacks an upstream");
    assert_eq!(FilterConfig::all_of_rest(&document.tree, false)[0].document(), &json!({"rule_name": "r"}));
    // Where one Redis is given, none is missing.
    let document = Document::parse("gate.yaml", b"{redis: 'redis://${NO_HOST}', filter: {cookie_vault: {}}}");
    let document = document.expect("a document");
    let counts_in_redis = redis::names_any(&document.tree);
    let filters = FilterConfig::all_of_rest(&document.tree, counts_in_redis);
    assert!(counts_in_redis && filters[0].document()["cookie_vault"]["redis"].is_object(), "{filters:?}");
}

#[test]
fn a_list_of_filters_is_handed_on_as_one_document() {
    let settings = read("{upstream: 'http://a', filters: [{rule_name: a}, {rule_name: b}]}").expect("settings");
    let shown = settings.shown();
    assert_eq!((&shown["filters"], shown.get("filter")), (&json!([{"rule_name": "a"}, {"rule_name": "b"}]), None));
    let filters = settings.filter.expect("filters");
    assert_eq!(filters.document(), &json!({"filters": [{"rule_name": "a"}, {"rule_name": "b"}]}));
    let places: Vec<String> = filters.each().into_iter().map(|(path, _)| path).collect();
    assert_eq!((filters.is_list(), places), (true, vec!["filters[0]".to_owned(), "filters[1]".to_owned()]));
    let within = read("{upstream: 'http://a', filter: {filters: [{rule_name: a}]}, filters: null}")
        .expect("settings")
        .filter
        .expect("filters");
    assert_eq!((within.is_list(), within.each()[0].0.as_str()), (false, "filter.filters[0]"));
}

#[test]
fn without_filters_there_is_no_filter() {
    for nothing in ["", ", filters: []", ", filters: null, filter: null", ", filter: null"] {
        let settings = read(&format!("{{upstream: 'http://a'{nothing}}}")).expect("settings");
        assert_eq!(settings.filter, None, "{nothing}");
        assert_eq!(settings.shown()["filter"], Value::Null, "{nothing}");
    }
}

#[test]
fn filters_are_one_or_a_list() {
    let both = mistakes("{upstream: 'http://a', filter: {rule_name: a}, filters: []}");
    assert_eq!(both, ["filters: expected only one of `filter` and `filters`, got both"]);
    let object = mistakes("{upstream: 'http://a', filters: {rule_name: a}}");
    assert_eq!(object, ["filters: expected an array, the configurations of filters in their order, got an object"]);
    let array = mistakes("{upstream: 'http://a', filter: [{rule_name: a}]}");
    assert_eq!(
        array,
        ["filter: expected an object, the filter's configuration (a list of them is `filters`), got an array"]
    );
    assert_eq!(
        mistakes("{upstream: 'http://a', filtres: []}"),
        ["filtres: there is no such field here; did you mean `filters`?"]
    );
}

#[test]
fn what_is_not_the_default_is_told() {
    let unusual = read(
        "upstream: http://a\nnormalize_path: refuse\nheader_names: all\ntrusted_consumer: [10.0.0.0/8]\n\
         redis: {required: true}\nlimits: {body_time: 0, streams: 7}\n",
    )
    .expect("settings")
    .unusual();
    let told: Vec<String> = unusual.iter().map(|(name, how)| format!("{name} {how}")).collect();
    assert_eq!(
        told,
        [
            "paths normalize_path: refuse",
            "headers header_names: all",
            "consumer trusted_consumer: [\"10.0.0.0/8\"]",
            "redis required: there is no start, and no reload, unless each answers",
            "limits body_time: 0s, streams: 7"
        ]
    );
}

#[test]
fn the_documented_file_is_read() {
    let settings = read(
        r#"
listen: 127.0.0.1:8080
admin: 127.0.0.1:9090
routes:
  - {name: orders, host: "*", path_prefix: /orders, upstream: "http://127.0.0.1:9001"}
redis: {names: {redis.static: "redis://127.0.0.1:6379"}}
filter: {rule_name: demo, global_threshold: {query_per_second: 5}, redis: {service_name: redis.static}}
timeouts: {connect: 1s, idle: 2m, drain: 0s}
log: {access: false, format: json}
"#,
    )
    .expect("settings");
    let unusual = [
        ("timeouts", "connect: 1s, drain: 0s, idle: 120s".to_owned()),
        ("log", "access: false, format: json".to_owned()),
    ];
    assert_eq!(settings.unusual(), unusual);
    assert_eq!(settings.admin.expect("admin").address.port(), 9090);
    assert_eq!(settings.redis.names["redis.static"].access.url, "redis://127.0.0.1:6379");
    assert_eq!(settings.filter.expect("filter").document()["global_threshold"]["query_per_second"], 5);
    assert_eq!((settings.timeouts.idle, settings.timeouts.drain), (Duration::from_secs(120), Duration::ZERO));
    assert_eq!(settings.log, LogSettings { access: false, format: LogFormat::Json });
}

#[test]
fn every_mistake_is_found_at_once() {
    let found = mistakes(
        r#"
listen: 8080
workers: 0
routes:
  - {name: a, upstream: "ftp://x"}
  - {name: b, path_prefix: b, upstreem: "http://x"}
  - [1]
redis: {names: {a: 5}}
filter: 7
timeouts: {connect: 5, idle: 0s}
log: {format: xml}
"#,
    );
    assert_eq!(
        found,
        [
            "listen: expected an address and port such as `127.0.0.1:8080`, `localhost:8080`, `[::]:8080` or `:8080`, \
             got `8080`",
            "workers: expected a whole number from 1 to 1024, got `0`",
            "routes[0].upstream: expected `http://host:port`, `https://host:port`, or `h2c://host:port` for HTTP/2 \
             without TLS, got `ftp://x`",
            "routes[1].upstreem: there is no such field here; did you mean `upstream`?",
            "routes[1].path_prefix: expected a path that starts with `/`, without query, got `b`",
            "routes[1].upstream: is missing: expected a URL such as `http://127.0.0.1:9001`",
            "routes[2]: expected an object, got an array",
            "redis.names.a: expected a URL such as `redis://127.0.0.1:6379`, or an object with `url` in it, got `5`",
            "filter: expected an object, the filter's configuration (a list of them is `filters`), got `7`",
            "timeouts.connect: expected a duration such as `500ms`, `30s`, `5m` or `1h`, got `5`",
            "timeouts.idle: expected a duration above zero, got `0s`",
            "log.format: expected `text` or `json`, got `xml`",
        ]
    );
}

#[test]
fn routes_are_asked_for_once() {
    assert!(mistakes("listen: 127.0.0.1:1")[0].starts_with("routes: is missing"));
    assert!(mistakes("upstream: http://a\nroutes: []")[0].contains("only one of `routes` and `upstream`"));
    let both =
        mistakes("upstream: ftp://a\nroutes: [{name: b, path_prefix: b, pathh: x, upstream: 'ftp://b'}]\nworkers: 0");
    assert_eq!(both.len(), 6, "each mistake of both is told: {both:?}");
    let both = mistakes("upstream: ftp://a\nupstreams: ['http://b', 'http://b']");
    assert_eq!(both.len(), 3, "{both:?}");
    assert!(mistakes("routes: []")[0].contains("at least one route"));
    let redis = mistakes("routes: []\nredis: {names: {a: 'http://a', b: 'redis://b', c: 5}}");
    assert_eq!(redis.len(), 3, "{redis:?}");
    assert!(redis[2].starts_with("redis.names.a: not a usable Redis URL"), "{redis:?}");
    let twins = mistakes("routes: [{name: a, upstream: 'http://a'}, {name: b, upstream: 'http://b'}]");
    assert_eq!(twins, ["routes[1]: has the same `host` and `path_prefix` as route `a`, which would always win"]);
    let wrong = mistakes(
        "routes: [{name: a, upstream: 'http://a'}, {host: 'b:80', upstream: 'http://b'}, {path_prefix: c, upstream: \
         'http://c'}]",
    );
    assert_eq!(wrong.len(), 2, "a host and a prefix that are wrong are no twins: {wrong:?}");
}

#[test]
fn passwords_are_not_shown() {
    let settings = read(
        "{upstream: 'http://a', redis: {names: {r: 'redis://u:s3cret@h:1/2', q: 'redis://:s3c@r/et@h'}},\
         filter: {redis: {password: s3cret}, _rules_: [{redis: {password: 5}}]}}",
    )
    .expect("settings");
    let shown = settings.shown();
    assert_eq!(shown["redis"]["names"]["r"], "redis://u:***@h:1/2");
    assert_eq!(shown["filter"]["_rules_"][0]["redis"]["password"], "***");
    assert!(!shown.to_string().contains("s3c"), "{shown}");
    let settings =
        read("{upstream: 'http://a', filters: [{redis: {password: s3cret}}, {hash_key: s3cret}]}").expect("settings");
    let shown = settings.shown();
    assert_eq!(shown["filters"], json!([{"redis": {"password": "***"}}, {"hash_key": "***"}]));
}

#[test]
fn addresses_are_taken_as_people_write_them() {
    for (text, expected) in [
        ("127.0.0.1:8080", Some("127.0.0.1:8080")),
        ("localhost:8080", Some("127.0.0.1:8080")),
        (":8080", Some("0.0.0.0:8080")),
        ("[::]:8080", Some("[::]:8080")),
        ("8080", None),
        ("::8080", None),
        ("example.test:8080", None),
        (":", None),
        (":70000", None),
        ("localhost", None),
        (" :8080", None),
    ] {
        assert_eq!(listen::parse_address(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
    }
}

#[test]
fn numbers_and_flags_may_be_texts_as_the_environment_gives_them() {
    let settings = read("{upstream: 'http://a', workers: '3', log: {access: 'False'}}").expect("settings");
    assert_eq!((settings.workers, settings.log.access), (3, false));
}
