//! What a newcomer meets first: a file to begin with, completions, manual pages, lines on a terminal.

#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use slidegate_tests::{
    gateway_process::{Directory, Gateway, binary, run, wait_until},
    http_client::HttpClient,
    redis_server::RedisServer,
    sessions,
    upstream::Upstream,
};

const KINDS: [&str; 3] = ["api-keys", "addresses", "llm"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this kind, written by `slidegate init` with these arguments.
fn written(directory: &Directory, kind: &str, args: &[&str]) -> String {
    let file = directory.path().join(format!("{kind}-{}.yaml", args.len()));
    let file = file.to_str().expect("a temporary path is text").to_owned();
    let output = run(&[&["init", "--for", kind, &file], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains(&format!("slidegate serve {file}")), "{told}");
    // What stands behind the gateway is told by the field that the file has.
    let text = fs::read_to_string(&file).expect("a file");
    let field = if text.lines().any(|line| line.starts_with("upstream:")) { "`upstream`" } else { "`routes`" };
    assert!(told.contains(field), "{told}");
    file
}

/// A gateway with a file of this kind, changed in these places, as whoever has it would.
fn served(directory: &Directory, kind: &str, redis: &RedisServer, changes: &[(&str, &str)]) -> Gateway {
    let args = ["--redis", &redis.url(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let file = written(directory, kind, &args);
    let mut settings = fs::read_to_string(&file).expect("it was written");
    for (from, to) in changes {
        assert!(settings.contains(from), "{from} is not in {settings}");
        settings = settings.replace(from, to);
    }
    fs::write(&file, settings).expect("a temporary file can be written");
    Gateway::serve_file(file.as_ref())
}

#[test]
fn every_file_to_begin_with_has_neither_mistakes_nor_oddities() {
    let directory = Directory::new();
    for kind in KINDS {
        for (args, windows) in [
            (&[][..], "in the memory of this instance"),
            (&["--redis", "redis://:hush@127.0.0.1:6390/1"], "in Redis redis:6379"),
            (&["--listen", ":8081", "--admin", "localhost:9091", "--workers", "1"], "in the memory of this instance"),
        ] {
            let output = run(&["check", "--strict", &written(&directory, kind, args)]);
            let told = text(&output.stdout);
            assert!(output.status.success(), "{kind} {args:?}: {told}{}", text(&output.stderr));
            assert!(told.contains(windows), "{windows} is not in {told}");
            assert_eq!(told.contains("0.0.0.0:8081 (1 worker"), args.contains(&":8081"), "{told}");
        }
    }
}

#[test]
fn a_file_for_sessions_has_the_redis_that_keeps_them() {
    let directory = Directory::new();
    for (args, address) in [(&[][..], "127.0.0.1:6379"), (&["--redis", "redis://127.0.0.1:6390/1"], "127.0.0.1:6390")] {
        let output = run(&["check", "--strict", &written(&directory, "session", args)]);
        let told = text(&output.stdout);
        assert!(output.status.success(), "{told}{}", text(&output.stderr));
        for part in ["express, in cookie connect.sid, signed", "user.id in x-user-id", address] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }
}

#[test]
fn a_file_for_a_cache_keeps_pages_as_it_is() {
    let (redis, upstream, directory) = (RedisServer::start(), Upstream::start(), Directory::new());
    let file = written(&directory, "cache", &[]);
    let output = run(&["check", "--strict", &file]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    for part in ["127.0.0.1:6379", "for 1d more, in place of 500, 502, 503, 504", "503, a text of 18 bytes"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    // With everything that it leaves out.
    let settings = fs::read_to_string(&file).expect("it was written");
    let whole = directory.path().join("whole.yaml");
    fs::write(&whole, settings.replace("\n      #", "\n      ")).expect("a temporary file can be written");
    let output = run(&["check", "--strict", whole.to_str().expect("a temporary path is text")]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.contains("page, lang of the query, header x-country, cookie session"), "{told}");
    let gateway = served(&directory, "cache", &redis, &[("http://127.0.0.1:9001", &upstream.url())]);
    let ask = || {
        let page = [("host", "a.test"), ("answer-cache-control", "max-age=60")];
        gateway.client().get("/", &page).head.text("x-cache")
    };
    wait_until("a page is kept", || ask().as_deref() == Some("HIT"));
}

#[test]
fn a_file_for_addresses_limits_each_of_them() {
    let (redis, upstream, directory) = (RedisServer::start(), Upstream::start(), Directory::new());
    let gateway = served(&directory, "addresses", &redis, &[("http://127.0.0.1:9001", &upstream.url())]);
    let statuses = gateway.statuses("x-any", "1", 105);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 100, "{statuses:?}");
    let mut other = HttpClient::connect_from("127.0.0.2", gateway.listen());
    assert_eq!(other.get("/", &[]).status(), 200);
}

#[test]
fn a_file_for_models_refuses_as_their_clients_understand_it() {
    let (redis, upstream, directory) = (RedisServer::start(), Upstream::start(), Directory::new());
    let urls = ["https://api.anthropic.com", "https://generativelanguage.googleapis.com", "https://api.openai.com"];
    let own = upstream.url();
    let gateway = served(&directory, "llm", &redis, &urls.map(|url| (url, own.as_str())));
    let ask = |key: &str| {
        let headers = [("authorization", key), ("content-type", "application/json")];
        let body = br#"{"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}"#;
        gateway.client().send("POST", "/v1/chat/completions", &headers, body)
    };
    let passed = (0..100).filter(|_| ask("Bearer sk-one").status() == 200).count();
    let refused = ask("Bearer sk-one");
    assert_eq!((passed, refused.status()), (100, 429));
    assert!(refused.text().contains("rate_limit_exceeded"), "{}", refused.text());
    assert_eq!(ask("Bearer sk-batch-one").status(), 200, "these have limits of their own");
}

#[test]
fn a_file_for_sessions_tells_the_application_who_asks() {
    let (redis, upstream, directory) = (RedisServer::start(), Upstream::start(), Directory::new());
    let session = sessions::all().into_iter().find(|session| session.format == "express").expect("there are some");
    let own = upstream.url();
    let changes = [("http://127.0.0.1:9001", own.as_str()), ("change me", &session.secrets[0])];
    let gateway = served(&directory, "session", &redis, &changes);
    let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("these are text");
    let (key, cookie) = (text_of(session.key().expect("it is kept")), text_of(session.header()));
    redis.tell(&["SET", &key, r#"{"cookie": {}, "user": {"id": "alice"}}"#]);
    let user = |cookie: &str| {
        assert_eq!(gateway.get("/", &[("cookie", cookie), ("x-user-id", "root")]).0, 200);
        upstream.last().text("x-user-id")
    };
    assert_eq!(user(&cookie).as_deref(), Some("alice"));
    assert_eq!(user("connect.sid=s%3Aforged.forged"), None);
    // Who has not logged in has 20 a minute by address, of which one is taken; users have their own.
    let strangers = gateway.statuses("x-any", "1", 20);
    assert_eq!((strangers[18], strangers[19]), (200, 429), "{strangers:?}");
    assert_eq!(user(&cookie).as_deref(), Some("alice"));
}

#[test]
fn a_file_with_a_password_is_its_owners() {
    let directory = Directory::new();
    let file = written(&directory, "api-keys", &["--redis", "redis://:hush@127.0.0.1:6390/1"]);
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_file_that_is_there_stays_as_it_is() {
    let directory = Directory::new();
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, "mine").expect("a temporary file can be written");
    let output = run(&["init", file.to_str().expect("a temporary path is text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is there already, and stays as it is"), "{}", text(&output.stderr));
    assert_eq!(fs::read(&file).expect("it is there"), b"mine");
    let nowhere = run(&["init", "/nowhere/at/all.yaml"]);
    assert_eq!((nowhere.status.code(), text(&nowhere.stderr).contains("cannot be made")), (Some(1), true));
    let printed = run(&["init", "-"]);
    assert!(printed.status.success() && text(&printed.stdout).starts_with("# Limits by API key."));
}

/// One URL at the top is all that a gateway needs to count in Redis.
#[test]
fn a_file_to_begin_with_limits_in_the_redis_that_was_asked_for() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let directories = [Directory::new(), Directory::new()];
    let serve = |directory| served(directory, "api-keys", &redis, &[("http://127.0.0.1:9001", &upstream.url())]);
    let gateways = directories.each_ref().map(serve);
    let statuses = |gateway: &Gateway| gateway.statuses("x-api-key", "trial-1", 6);
    let all = gateways.iter().flat_map(statuses).collect::<Vec<_>>();
    assert_eq!(all.iter().filter(|status| **status == 200).count(), 10, "{all:?}");
    assert_eq!(redis.tell(&["DBSIZE"]), "1");
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(&["completions", shell]).stdout);
        for command in ["serve", "check", "migrate", "init", "completions", "man"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    let script = "source <($SLIDEGATE completions bash); COMP_WORDS=(slidegate ch); COMP_CWORD=1; _slidegate slidegate \
                  ch slidegate; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", script]).env("SLIDEGATE", binary()).output().expect("bash runs");
    assert_eq!(text(&output.stdout), "check\n", "{}", text(&output.stderr));
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let page = text(&run(&["man"]).stdout);
    assert!(page.contains(".TH slidegate 1") && page.contains("slidegate\\-check(1)"), "{page}");
    let directory = Directory::new();
    let folder = directory.path().to_str().expect("a temporary path is text");
    assert!(run(&["man", folder]).status.success());
    for command in ["slidegate", "slidegate-serve", "slidegate-check", "slidegate-migrate", "slidegate-init"] {
        let page = fs::read_to_string(directory.path().join(format!("{command}.1"))).expect("a page for each command");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let new = directory.path().join("new/man1");
    assert!(run(&["man", new.to_str().expect("a temporary path is text")]).status.success());
    assert!(new.join("slidegate-init.1").exists());
    let nowhere = run(&["man", "/dev/null/at/all"]);
    assert_eq!(
        (nowhere.status.code(), text(&nowhere.stderr).contains("/dev/null/at/all: cannot be written")),
        (Some(1), true)
    );
}

/// What a gateway writes to a terminal until it serves a request, which asks for a path that has colours in it.
fn on_a_terminal(environment: &[(&str, &str)]) -> String {
    let (upstream, directory) = (Upstream::start(), Directory::new());
    let (file, screen) = (directory.path().join("gate.yaml"), directory.path().join("screen"));
    let settings = format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nupstream: {}\n", upstream.url());
    fs::write(&file, settings).expect("a temporary file can be written");
    let serve = format!("exec {} serve {}", binary().display(), file.display());
    // `script` gives a command a terminal, and writes down what is shown there.
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--command", &serve]).arg(&screen).env_remove("NO_COLOR").env("TERM", "xterm");
    script.env_remove("SLIDEGATE_LOG").envs(environment.iter().copied()).stdin(Stdio::null());
    let mut process = script.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("script runs");
    let shown = || fs::read(&screen).map(|bytes| text(&bytes)).unwrap_or_default();
    wait_until("the gateway to serve", || {
        shown().lines().any(|line| line.contains("serving") && line.contains("admin="))
    });
    let address = |shown: &str| {
        let after = shown.split_once("listen=").expect("it says where it listens").1;
        let end = after.find(|each: char| !(each.is_ascii_digit() || ".:".contains(each))).expect("more follows");
        after[..end].to_owned()
    };
    let url = format!("http://{}/%1b[31m", address(&shown()));
    let asked = Command::new("curl").args(["-sg", "-o", "/dev/null", &url]).status();
    assert!(asked.expect("curl runs").success());
    wait_until("the request to be logged", || shown().contains("status="));
    let seen = shown();
    // It ends what it has started; if it were killed, the gateway would go on without it.
    let end = format!("kill -TERM {}", process.id());
    assert!(Command::new("sh").args(["-c", &end]).status().expect("`sh` runs").success());
    process.wait().expect("script ends");
    seen
}

#[test]
fn lines_on_a_terminal_are_short_and_coloured() {
    let shown = on_a_terminal(&[]);
    let serving = shown.lines().find(|line| line.contains("serving")).expect("a line");
    assert!(
        serving.starts_with("\u{1b}[2m") && serving.contains("Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m "),
        "{serving:?}"
    );
    assert!(!shown.contains("slidegate::") && !shown.contains("\u{1b}[31m"), "{shown:?}");
}

#[test]
fn colours_can_be_refused() {
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&[variable]);
        assert!(!shown.contains('\u{1b}') && !shown.contains("slidegate::") && shown.contains("Z  INFO "), "{shown:?}");
    }
}
