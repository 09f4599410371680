//! `slidegate check` on where Redis is: what is odd about it, and with `--connect` what it says to a decision.

use std::{fs, process::Output};

use slidegate_tests::{
    gateway_process::{Directory, run},
    redis_server::{RedisServer, free_port},
    upstream::Upstream,
};

/// Checks a file with this `redis`, and this in the filter's `redis`.
fn check(upstream: &str, redis: &str, in_filter: &str, options: &[&str]) -> (Option<i32>, String) {
    let directory = Directory::new();
    let file = directory.path().join("gate.yaml");
    let filter = format!("{{rule_name: r, global_threshold: {{query_per_hour: 2}}, redis: {{{in_filter}}}}}");
    fs::write(&file, format!("upstream: {upstream}\nredis: {redis}\nfilter: {filter}\n"))
        .expect("the directory can be written to");
    let file = file.to_str().expect("a temporary path is text");
    let Output { status, stdout, stderr } = run(&[&["check", file], options].concat());
    (status.code(), [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

#[test]
fn all_that_a_file_leads_to_is_asked() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let one = format!("\"{}/3\"", redis.url());
    let connect = |one: &str, options: &[&str]| {
        check(&upstream.url(), one, "service_name: r.static", &[&["--connect"], options].concat())
    };
    let (code, told) = connect(&one, &[]);
    assert_eq!(code, Some(0), "{told}");
    for expected in [
        "redis    r.static:80 at 127.0.0.1:",
        "database 3: answers, Redis ",
        "; decides, the script was sent",
        "takes connections",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(connect(&one, &[]).1.contains("; decides, knows the script"));
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory", "200mb"]), "OK");
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]), "OK");
    let (code, told) = connect(&one, &[]);
    assert!(code == Some(0) && told.contains(": redis: Redis r.static:80") && told.contains("allkeys-lfu"), "{told}");
    assert_eq!(connect(&one, &["--strict"]).0, Some(1));
    redis.tell(&["ACL", "SETUSER", "gate", "on", ">hush", "-@all", "+time", "+select", "~*"]);
    let (code, told) = connect(&format!("\"redis://gate:hush@127.0.0.1:{}\"", redis.port()), &[]);
    assert!(
        code == Some(1) && told.contains("made no decision: it answered `NOPERM") && !told.contains("hush"),
        "{told}"
    );
    let (code, told) = connect(&format!("\"redis://:hush@127.0.0.1:{}\"", free_port()), &[]);
    assert!(code == Some(1) && told.contains("cannot be used: Connection refused") && !told.contains("hush"), "{told}");
    let (code, told) =
        check(&format!("http://127.0.0.1:{}", free_port()), &one, "service_name: r.static", &["--connect"]);
    assert!(code == Some(1) && told.contains("takes no connection"), "{told}");
}

#[test]
fn what_is_odd_about_names_and_databases_is_told_without_connecting() {
    let nowhere = "http://127.0.0.1:9";
    for (redis, in_filter, code, expected) in [
        ("{}", "service_name: r.static", 0, "only a mesh knows such names"),
        ("{names: {r-static: \"redis://h\"}}", "service_name: r.static", 0, "one for `r-static`: did you mean that?"),
        (
            "{names: {r.static: \"redis://h\", other: \"redis://h\"}}",
            "service_name: r.static",
            0,
            "redis.names.other: nothing in the filter counts in it",
        ),
        ("{}", "service_name: \"127.0.0.1:6380\"", 0, "`service_port`"),
        ("\"redis://h/3\"", "service_name: r, database: 4", 0, "the database is 3, as its URL says, not 4"),
        ("\"redis+cluster://h\"", "service_name: r, database: 4", 1, "only database 0"),
        ("\"redis+cluster://h/3\"", "service_name: r", 1, "redis: not a usable Redis URL: expected no database"),
        ("\"redis://h?ssl=true\"", "service_name: r", 1, "`ssl`, which is not known; TLS is asked for by `rediss`"),
        (
            "{names: {r: \"unix:///s?password=hush\"}}",
            "service_name: r",
            1,
            "redis.names.r: not a usable Redis URL: got the option `password`",
        ),
    ] {
        let (status, told) = check(nowhere, redis, in_filter, &[]);
        assert!(
            status == Some(code) && told.contains(expected) && !told.contains("hush"),
            "{redis} {in_filter}: {told}"
        );
    }
    let (_, told) = check(nowhere, "\"redis://:hush@h/3\"", "service_name: r", &[]);
    assert!(
        told.contains("h:6379, database 3") && !told.contains("database 0") && !told.contains("no password"),
        "{told}"
    );
}
