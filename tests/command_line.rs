//! The command line as it ships: what it reads and from where, what it never shows, what it warns of, and how it ends.

#![cfg(unix)]

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

use slidegate_tests::{
    gateway_process::{Directory, Gateway, binary, run, run_with},
    upstream::Upstream,
};

const UPSTREAM: &str = "upstream: http://127.0.0.1:9\n";
const FILTER: &str = "filter: {rule_name: r, global_threshold: {query_per_day: 1}}\n";

fn check(settings: &str, args: &[&str]) -> Output {
    run_with(&[&["check", "-"], args].concat(), &[], settings.as_bytes())
}

fn check_in(settings: &str, environment: &[(&str, &str)]) -> Output {
    run_with(&["check", "-"], environment, settings.as_bytes())
}

/// Both streams of a command.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn file(directory: &Directory, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("a temporary file can be written");
    path
}

fn shell(script: &str) -> Output {
    Command::new("bash")
        .args(["-c", script])
        .env("SLIDEGATE", binary())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}

// === Secrets ===

/// The forms of README, each with a password in every place where one may be.
const URLS: [&str; 14] = [
    "redis://user:hush@host:6379/1",
    "redis://:hush@host",
    "redis://user:hu%40%2fhush@host/2",
    "rediss://user:hush@host:6379",
    "unix:///run/x.sock?db=1&user=u&pass=hush",
    "unix:///run/x.sock?pass=hush",
    "redis+unix:///run/x.sock?user=u&pass=hush",
    "redis+sentinel://user:hush@s1:26379,s2:26379/mymaster/1",
    "rediss+sentinel://:hush@s1/mymaster",
    "redis+cluster://user:hush@n1:7000,n2:7000",
    "rediss+cluster://:hush@n1",
    "valkey://user:hush@host",
    "redis://user:hush@[::1]:6379",
    "redis://:hush:hush@host",
];

#[test]
fn no_command_shows_the_password_of_a_url() {
    let upstream = Upstream::start();
    for url in URLS {
        let settings = |names: &str| {
            format!(
                "{UPSTREAM}redis: {{names: {names}}}\nfilter: {{rule_name: r, global_threshold: {{query_per_day: 1}}, \
                 redis: {{service_name: r, timeout: 50}}}}\n"
            )
        };
        let output = check(&settings(&format!("{{r: \"{url}\"}}")), &["--strict"]);
        assert!(!said(&output).contains("hush"), "{url}: {}", said(&output));
        let output = check(&settings("{r: \"redis://h\"}"), &["--redis", url]);
        assert!(!said(&output).contains("hush"), "{url}: {}", said(&output));
        // In places where no URL of Redis is taken.
        for wrong in [
            format!("redis: \"{url}\"\n{UPSTREAM}workers: \"{url}\"\n"),
            format!("upstream: \"{url}\"\nlog: {{format: \"{url}\"}}\n"),
            format!("listen: \"{url}\"\n{UPSTREAM}timeouts: {{idle: \"{url}\"}}\n"),
            format!(
                "{UPSTREAM}filter: {{rule_name: r, global_threshold: {{query_per_day: \"{url}\"}}, redis: \"{url}\", \
                 failure_mode: \"{url}\"}}\n"
            ),
            format!(
                "{UPSTREAM}filter: {{rule_name: r, global_threshold: {{query_per_day: 1}}, redis: {{service_name: \
                 \"{url}\"}}}}\n"
            ),
            format!("routes: [{{name: a, host: \"{url}\", path_prefix: \"{url}\", upstream: \"{url}\"}}]\n"),
        ] {
            let output = check(&wrong, &[]);
            assert!(!said(&output).contains("hush"), "{wrong}: {}", said(&output));
        }
        let output = run(&["serve", "gate.yaml", url]);
        assert!(code(&output) == Some(2) && !said(&output).contains("hush"), "{}", said(&output));
        assert!(!said(&run(&[url])).contains("hush"));
    }
    let filter = "filter: {rule_name: r, global_threshold: {query_per_day: 1}, redis: {service_name: redis.static, \
                  timeout: 50}}";
    let secret = "unix:///nowhere/x.sock?user=u&pass=hush";
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nredis: {{names: {{redis.static: \"{secret}\"}}}}\n{filter}\n",
        upstream.url()
    ));
    gateway.get("/", &[]);
    let shown = gateway.ask_admin("/config").1;
    assert!(shown.contains("unix:///nowhere/x.sock?user=u&pass=***"), "{shown}");
    gateway.write_settings("upstream: http://u:hush@h\nredis: \"redis://u:hush@h\"\n");
    gateway.wait_log("stay in force");
    for text in [shown, gateway.log(), gateway.printed()] {
        assert!(!text.contains("hush"), "{text}");
    }
    let demo = Gateway::demo(&["--redis", secret]);
    assert!(demo.wait_printed("counted in").contains("pass=***"));
    assert!(!demo.printed().contains("hush") && !demo.ask_admin("/config").1.contains("hush"));
}

#[test]
fn fields_named_like_a_secret_are_not_echoed() {
    let entry =
        "redis: {names: {r: {url: \"redis://h\", sentinel_password: [hush], passwd: hush, token: {a: hush}}}}\n";
    let output = check(&format!("{UPSTREAM}{entry}"), &[]);
    assert_eq!(code(&output), Some(1));
    assert!(
        !said(&output).contains("hush") && said(&output).contains("expected a text, got an array"),
        "{}",
        said(&output)
    );
}

// === The environment ===

#[test]
fn variables_are_used_and_not_shown() {
    let settings = "listen: \"${HOST}:${PORT}\"\nupstream: http://127.0.0.1:9\nredis: {names: {r.dns: \
                    \"redis://:${PW}@10.1.2.3/${DB}\"}}\n\
                    filter: {rule_name: \"${NAME}\", rejected_msg: \"$${PW}\", global_threshold: {query_per_day: \
                    \"${COUNT}\"}, redis: {service_name: r.dns, password: \"${PW}\"}}\n";
    let environment = [
        ("HOST", "127.0.0.1"),
        ("PORT", "8077"),
        ("PW", "s3cr3t-value"),
        ("DB", "3"),
        ("NAME", "orders-of-today"),
        ("COUNT", "77"),
    ];
    let output = check_in(settings, &environment);
    let told = said(&output);
    assert_eq!(code(&output), Some(0), "{told}");
    for (name, value) in environment.iter().filter(|(_, value)| value.len() > 3) {
        assert!(!told.contains(value), "{name} is shown: {told}");
    }
    for expected in ["${NAME}", "77 per 1d", "429, ${PW}", "r.dns:6379 -> 10.1.2.3:6379, database 3"] {
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    let unset = check_in(settings, &environment[1..]);
    assert_eq!((code(&unset), unset.stdout.len()), (Some(1), 0));
    assert!(said(&unset).contains("listen: the environment variable `HOST` is not set"), "{}", said(&unset));
    let wrong = check_in(
        "upstream: \"ftp://${PW}\"\nworkers: \"${PW}\"\nfilter: {rule_name: \"${PW}\", precision: \"${PW}\"}\n",
        &environment,
    );
    assert!(
        code(&wrong) == Some(1) && !said(&wrong).contains("s3cr3t") && said(&wrong).contains("${PW}"),
        "{}",
        said(&wrong)
    );
    let keys = "upstream: http://127.0.0.1:9\nfilter: {rule_name: r, rule_items: [{limit_by_header: x-api-key, \
                limit_keys: [{key: \"${KEY}\", query_per_day: 1}]}]}\n";
    let told = said(&check_in(keys, &[("KEY", "sk-of-a-customer-1")]));
    assert!(told.contains(" ${KEY}  1 per 1d") && !told.contains("sk-o"), "{told}");
}

#[test]
fn a_gateway_serves_with_variables_and_shows_none() {
    let upstream = Upstream::start();
    let settings = "upstream: \"${UPSTREAM}\"\nfilter: {rule_name: r, rule_items: [{limit_by_header: x-key, \
                    limit_keys: [{key: \"${KEY}\", query_per_hour: 1}]}]}\n";
    let gateway =
        Gateway::serve_in(settings, &[("UPSTREAM", upstream.url()), ("KEY", "the-key-of-a-customer".to_owned())]);
    assert_eq!(gateway.statuses("x-key", "the-key-of-a-customer", 2), [200, 429]);
    let shown = gateway.ask_admin("/config").1;
    assert!(!shown.contains("the-key") && shown.contains("${"), "{shown}");
}

// === Files ===

#[test]
fn pipes_and_standard_input_are_read_and_devices_are_not() {
    let good = format!("{UPSTREAM}{FILTER}");
    assert_eq!(code(&check(&good, &[])), Some(0));
    let piped = shell("\"$SLIDEGATE\" check <(sleep 0.2; printf 'upstream: http://a\\n'; sleep 0.2)");
    assert_eq!(code(&piped), Some(0), "{}", said(&piped));
    let wrong = check("listen: here\n", &[]);
    assert!(said(&wrong).contains("standard input:1:9: listen: "), "{}", said(&wrong));
    for (path, expected) in [
        ("/dev/zero", "is a device"),
        ("/dev/full", "is a device"),
        ("/dev/urandom", "is a device"),
        ("/", "is a directory"),
        ("/nowhere", "no such file"),
    ] {
        for args in [
            vec!["check", path],
            vec!["serve", path],
            vec!["migrate", "--image", "oci://x", path],
            vec!["check", "x", "--component", path],
        ] {
            let output = run(&args);
            assert!(code(&output) == Some(1) && said(&output).contains(expected), "{args:?}: {}", said(&output));
        }
        let pem = check(&format!("{UPSTREAM}redis: {{names: {{r: {{url: \"rediss://h\", ca: {path}}}}}}}\n"), &[]);
        assert!(code(&pem) == Some(1) && said(&pem).contains(expected), "{path}: {}", said(&pem));
    }
    let endless = shell("yes 'a: b' | \"$SLIDEGATE\" check -");
    assert!(code(&endless) == Some(1) && said(&endless).contains("16 MiB"), "{}", said(&endless));
}

#[test]
fn a_pipe_or_device_in_the_files_place_hangs_no_reload() {
    let upstream = Upstream::start();
    let directory = Directory::new();
    let path = file(
        &directory,
        "gate.yaml",
        &format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nupstream: {}\n", upstream.url()),
    );
    let link = directory.path().join("link.yaml");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let gateway = Gateway::serve_file(&link);
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for (target, expected) in
        [(pipe, "is a pipe"), (PathBuf::from("/dev/zero"), "is a device"), (PathBuf::from("/"), "is a directory")]
    {
        fs::remove_file(&link).expect("the link");
        std::os::unix::fs::symlink(target, &link).expect("a link");
        gateway.hang_up();
        gateway.wait_log(expected);
    }
    fs::remove_file(&link).expect("the link");
    fs::copy(&path, &link).expect("a file");
    gateway.hang_up();
    gateway.wait_log("settings are as before");
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn what_is_served_from_a_pipe_goes_on_without_it() {
    let upstream = Upstream::start();
    let directory = Directory::new();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (writer, settings) =
        (pipe.clone(), format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nupstream: {}\n", upstream.url()));
    let written = thread::spawn(move || fs::write(writer, settings));
    let gateway = Gateway::serve_file(&pipe);
    written.join().expect("a writer").expect("written");
    gateway.hang_up();
    gateway.wait_log("SIGHUP has no effect");
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn large_files_are_read_or_refused_in_words() {
    let keys = |count: u32| -> String {
        (0..count).map(|index| format!("        - {{key: k{index}, query_per_day: 5}}\n")).collect()
    };
    let document = |count: u32| {
        format!(
            "{UPSTREAM}filter:\n  rule_name: r\n  rule_items:\n    - limit_by_header: x\n      limit_keys:\n{}",
            keys(count)
        )
    };
    let output = check(&document(60_000), &[]);
    assert_eq!(code(&output), Some(0), "240,000 values and more: {}", said(&output));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c \
                [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: \
                [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    for (settings, expected) in [
        (bomb.to_owned(), "expected at most 4000000 values"),
        ("a: ".to_owned() + &"[".repeat(5_000), "expected at most 100 collections in one another"),
        ("a: ".to_owned() + &"x".repeat(17 << 20), "expected at most 16777216 bytes (16 MiB)"),
    ] {
        let output = check(&settings, &[]);
        assert!(code(&output) == Some(1) && said(&output).contains(expected), "{}", said(&output));
    }
}

#[test]
fn texts_stay_as_they_are_written() {
    let settings = "upstream: http://127.0.0.1:9\nfilter:\n  rule_name: 1.10\n  rejected_msg: 2024-01-01\n  \
                    rule_items:\n    - limit_by_header: 0x10\n      limit_keys:\n";
    let keys = ["1.10", "1.0", "0x10", "1e3", "yes", "012", "True", "2024-01-01", "12:30", "1_000", "+5", ".5", "0o17"];
    let entries: String = keys.iter().map(|key| format!("        - {{key: {key}, query_per_day: 1}}\n")).collect();
    let told = said(&check(&format!("{settings}{entries}"), &["--strict"]));
    for key in keys {
        assert!(
            told.lines().any(|line| line.trim().starts_with(&format!("{key} ")) && line.contains("1 per 1d")),
            "{key} is not in {told}"
        );
    }
    assert!(
        told.contains("rule name     1.10") && told.contains("header 0x10") && told.contains("429, 2024-01-01"),
        "{told}"
    );
}

// === Warnings and exit codes ===

#[test]
fn warnings_are_told_and_end_a_strict_check() {
    let policy = "rule_name: r, global_threshold: {query_per_day: 1}";
    for (settings, expected) in [
        (
            format!("listen: 127.0.0.1:8080\nadmin: localhost:8080\n{UPSTREAM}{FILTER}"),
            "admin: is the address of `listen` too",
        ),
        (
            format!("listen: 127.0.0.1:8080\nupstream: http://localhost:8080\n{FILTER}"),
            "upstream: is the gateway's own `listen`",
        ),
        (
            format!("{UPSTREAM}redis: {{names: {{r.dns: \"redis://h\"}}}}\n{FILTER}"),
            "`redis: {service_name: r.dns}` forgotten",
        ),
        (
            format!(
                "routes: [{{name: orders, upstream: \"http://a\"}}]\nfilter: {{_rules_: [{{_match_route_: [order], \
                 {policy}}}]}}\n"
            ),
            "no route `order`; did you mean `orders`?",
        ),
        (
            format!(
                "{UPSTREAM}redis: {{names: {{redis.static: \"redis://h\"}}}}\nfilter: {{{policy}, redis: \
                 {{service_name: redsi.static}}}}\n"
            ),
            "`redsi.static` has no address: `redis.names` has none for it, but one for `redis.static`: did you mean \
             that?",
        ),
        (
            format!("{UPSTREAM}filter: {{{policy}, redis: {{service_name: redis.static}}}}\n"),
            "only a mesh knows such names",
        ),
    ] {
        let output = check(&settings, &[]);
        let warned = said(&output);
        assert!(
            code(&output) == Some(0) && warned.contains("warning  ") && warned.contains(expected),
            "{expected} is not in {warned}"
        );
        let strict = check(&settings, &["--strict"]);
        assert!(
            code(&strict) == Some(1) && said(&strict).contains("none of which `--strict` allows"),
            "{}",
            said(&strict)
        );
    }
    let fine = check(&format!("{UPSTREAM}{FILTER}"), &["--strict"]);
    assert_eq!(code(&fine), Some(0), "{}", said(&fine));
}

#[test]
fn readers_that_leave_and_full_disks_are_no_panic() {
    let directory = Directory::new();
    let path = file(&directory, "gate.yaml", &format!("{UPSTREAM}{FILTER}"));
    let path = path.display();
    for script in [
        format!("\"$SLIDEGATE\" check {path} | true; exit ${{PIPESTATUS[0]}}"),
        format!("\"$SLIDEGATE\" check {path} >&-"),
        format!("\"$SLIDEGATE\" check {path} 2>&-"),
        "\"$SLIDEGATE\" --help | true; exit ${PIPESTATUS[0]}".to_owned(),
    ] {
        let output = shell(&script);
        assert!(code(&output) == Some(0) && !said(&output).contains("panic"), "{script}: {}", said(&output));
    }
    let full = shell(&format!("\"$SLIDEGATE\" check {path} > /dev/full"));
    assert!(code(&full) == Some(1) && said(&full).contains("cannot write to standard output"), "{}", said(&full));
    let limited =
        shell(&format!("ulimit -f 0; \"$SLIDEGATE\" check {path} > {}", directory.path().join("out").display()));
    assert!(
        code(&limited) == Some(1) && said(&limited).contains("cannot write to standard output"),
        "{}",
        said(&limited)
    );
    let silent = shell("\"$SLIDEGATE\" check /nowhere 2> /dev/full");
    assert_eq!((code(&silent), said(&silent).as_str()), (Some(1), ""));
}

#[test]
fn a_slip_on_the_command_line_gets_a_hint_and_exit_code_2() {
    let directory = Directory::new();
    let path = file(&directory, "gate", UPSTREAM);
    let path = path.to_str().expect("a path in UTF-8");
    for (args, expected) in [
        (vec![path], format!("`slidegate serve {path}`")),
        (vec!["gate.yaml"], "`slidegate serve gate.yaml`".to_owned()),
        (vec!["-"], "`slidegate serve -`".to_owned()),
        (vec!["chekc", "x"], "did you mean `slidegate check`?".to_owned()),
        (vec!["help", "chekc"], "did you mean `slidegate check`?".to_owned()),
        (
            vec!["check", path, "--workers", "abc"],
            "'abc' for '--workers <COUNT>': expected a whole number from 1".to_owned(),
        ),
        (vec!["check", path, "--workers", "0"], "from 1 to 1024".to_owned()),
        (vec!["migration"], "did you mean `slidegate migrate`?".to_owned()),
        (
            vec!["dance"],
            "expected one of `serve`, `check`, `cache`, `schema`, `migrate`, `test`, `explain`, `replay`, `init`, \
             `completions`, `man`, `help`"
                .to_owned(),
        ),
        (vec!["check"], "<FILE>".to_owned()),
        (vec!["migrate"], "--image".to_owned()),
        (vec!["check", path, "--listen", "8080"], "`localhost:8080`, `[::]:8080` or `:8080`".to_owned()),
    ] {
        let output = run(&args);
        assert!(code(&output) == Some(2) && said(&output).contains(&expected), "{args:?}: {}", said(&output));
    }
    // Of an address that no machine has.
    let demo = run(&["--listen", "203.0.113.1:80"]);
    assert!(code(&demo) == Some(1) && said(&demo).contains("on `203.0.113.1:80`: "), "{}", said(&demo));
    for (address, expected) in [
        ("localhost:8080", "listen   127.0.0.1:8080"),
        (":8080", "listen   0.0.0.0:8080"),
        ("[::1]:1", "listen   [::1]:1"),
    ] {
        let output = run(&["check", path, "--listen", address]);
        assert!(code(&output) == Some(0) && said(&output).contains(expected), "{}", said(&output));
    }
}

#[test]
fn each_command_offers_the_options_that_it_heeds() {
    let all = ["--listen", "--admin", "--redis", "--workers", "--component"];
    let values = ["127.0.0.1:1", "127.0.0.1:1", "redis://h", "2", "/nowhere.wasm"];
    let directory = Directory::new();
    let folder = directory.path().to_str().expect("a path in UTF-8");
    assert_eq!(code(&run(&["man", folder])), Some(0));
    for (command, heeded) in [
        ("serve", &all[..]),
        ("check", &all),
        ("init", &all[..4]),
        ("migrate", &all[4..]),
        ("schema", &[]),
        ("completions", &[]),
        ("man", &[]),
    ] {
        let help = said(&run(&[command, "--help"]));
        let page = directory.path().join(format!("slidegate-{command}.1"));
        let page = std::fs::read_to_string(page).expect("it was written").replace('\\', "");
        for (option, value) in all.into_iter().zip(values) {
            for text in [&help, &page] {
                let is_offered = text.lines().any(|line| line.trim_start_matches("fB").trim().starts_with(option));
                assert_eq!(is_offered, heeded.contains(&option), "{command} {option}: {text}");
            }
            if !heeded.contains(&option) {
                let refused = run(&[command, option, value]);
                let told = said(&refused);
                assert!(
                    code(&refused) == Some(2) && told.contains(&format!("unexpected argument '{option}'")),
                    "{told}"
                );
            }
            let before = run(&[option, value, command]);
            let hint = format!("options of a command stand behind it: `slidegate {command} ...`");
            assert!(code(&before) == Some(2) && said(&before).contains(&hint), "{}", said(&before));
        }
    }
}

#[test]
fn an_argument_that_is_not_utf_8_gets_an_answer_too() {
    let slip =
        Command::new(binary()).arg("serve").arg(OsStr::from_bytes(b"a\xff")).arg("--bogus").output().expect("it runs");
    assert!(code(&slip) == Some(2) && said(&slip).contains("--bogus"), "{}", said(&slip));
}

#[test]
fn what_is_not_the_default_is_told_in_a_line() {
    let told = |settings: &str| said(&check(&format!("{UPSTREAM}{settings}{FILTER}"), &["--strict"]));
    let plain = told("");
    assert!(!plain.contains("timeouts") && !plain.contains("limits   ") && !plain.contains("paths"), "{plain}");
    let unusual = told("normalize_path: refuse\ntimeouts: {idle: 10s}\nlimits: {body_time: 0}\nlog: {format: json}\n");
    for line in
        ["paths    normalize_path: refuse", "timeouts idle: 10s", "limits   body_time: 0s", "log      format: json"]
    {
        assert!(unusual.lines().any(|told| told == line), "{line} is not in {unusual}");
    }
}

#[test]
fn a_service_with_its_port_in_the_name_is_not_shown_with_two() {
    let filter =
        "filter: {rule_name: r, global_threshold: {query_per_day: 1}, redis: {service_name: \"127.0.0.1:6379\"}}\n";
    let told = said(&check(&format!("{UPSTREAM}{filter}"), &[]));
    assert!(
        told.contains("redis    127.0.0.1:6379, port 6379 -> ") && told.contains("in Redis 127.0.0.1:6379, port 6379,"),
        "{told}"
    );
    assert!(told.contains("warning") && !told.contains("6379:6379"), "{told}");
}

#[test]
fn a_file_that_is_no_component_is_told_shortly() {
    let directory = Directory::new();
    let path = file(&directory, "gate.yaml", UPSTREAM);
    let path = path.to_str().expect("a path in UTF-8");
    let told = said(&run(&["check", path, "--component", path]));
    let expected =
        format!("--component {path}: expected a WebAssembly component in binary form, got a file of another kind\n");
    assert_eq!(told, format!("slidegate: {expected}"));
}

#[test]
fn what_is_no_yaml_is_told_where() {
    let told = |file: &str| said(&run_with(&["migrate", "--image", "oci://x/y:1"], &[], file.as_bytes()));
    assert!(said(&check("just: [\n", &[])).starts_with(&told("just: [\n")));
    assert!(
        told("just: [\n").contains("is not YAML: ") && told("just: [\n").starts_with("standard input:1:7: "),
        "{}",
        told("just: [\n")
    );
    assert!(told("a: 1\n").contains("holds no resource of Kubernetes"), "{}", told("a: 1\n"));
}

// === Resources ===

fn plugin(name: &str, url: &str, spec: &str) -> String {
    format!(
        "apiVersion: extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}, namespace: \
         higress-system}}\nspec:\n  url: {url}\n{spec}"
    )
}

#[test]
fn configurations_in_resources_are_checked_each() {
    let good = "  defaultConfig: {rule_name: r, global_threshold: {query_per_second: 5}, redis: {service_name: \
                redis.static}}\n";
    let rules = "  matchRules:\n  - {ingress: [off], configDisable: true, config: {}}\n  - ingress: [shop/orders]\n    \
                 config: {rule_name: a, global_threshold: {query_per_minute: 7}, redis: {service_name: r.dns}}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {}\n";
    let vault = "{cookies: [a], secrets: s, redis: {service_name: redis.static}}";
    let session = "{format: php, fields: {user_id: x-user}, on_missing: 401, redis: {service_name: redis.static}}";
    let several = [
        plugin("limits", "oci://x/slidegate:1", &format!("{good}{rules}")),
        plugin("stock", "oci://x/cluster-key-rate-limit:1", good),
        plugin("mirrored", "oci://mirror/some:1", good),
        plugin(
            "listed",
            "oci://mirror/some:1",
            "  defaultConfig: {filters: [{rule_name: r, global_threshold: {query_per_second: 5}}]}\n",
        ),
        plugin("sessions", "oci://mirror/some:1", &format!("  defaultConfig: {{session: {session}}}\n")),
        plugin("vault", "oci://mirror/some:1", &format!("  defaultConfig: {{cookie_vault: {vault}}}\n")),
        plugin("auth", "oci://x/key-auth:1", "  defaultConfig: {consumers: [], session: {ttl: 1}}\n"),
        service.to_owned(),
    ]
    .join("---\n");
    let output = check(&several, &["--strict"]);
    let told = said(&output);
    assert_eq!(code(&output), Some(0), "{told}");
    for expected in [
        "WasmPlugin higress-system/limits\n  route shop/orders\n",
        "7 per 1m",
        "every other request",
        "WasmPlugin higress-system/mirrored\n",
        "WasmPlugin higress-system/listed\n  filters[0]\n    every request\n",
        "WasmPlugin higress-system/sessions\n",
        "WasmPlugin higress-system/vault\n",
        "WasmPlugin higress-system/auth: passed over",
        "Service default/web: passed over",
    ] {
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    let wrong = plugin("limits", "oci://x/slidegate:1", &good.replace("query_per_second: 5", "query_per_secnd: 5"))
        + &rules.replace("query_per_minute: 7", "query_per_minute: 0");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", wrong.trim_end().replace('\n', "\n  "));
    for text in [wrong, list] {
        let output = check(&text, &[]);
        let told = said(&output);
        assert!(code(&output) == Some(1) && output.stdout.is_empty(), "{told}");
        for expected in [
            ": WasmPlugin higress-system/limits: spec.defaultConfig.global_threshold.query_per_secnd: there is no such \
             field here",
            "WasmPlugin higress-system/limits: spec.matchRules[1].config.global_threshold.query_per_minute: expected a \
             whole number",
        ] {
            assert!(told.contains(expected), "{expected} is not in {told}");
        }
    }
    let nothing = check(service, &["--strict"]);
    assert!(code(&nothing) == Some(1) && said(&nothing).contains("nothing was checked"), "{}", said(&nothing));
    for text in [service.to_owned(), format!("{service}---\n{service}")] {
        let served = run_with(&["serve", "-"], &[], text.as_bytes());
        assert!(code(&served) == Some(1) && said(&served).contains("is a resource of Kubernetes"), "{}", said(&served));
    }
    let form = check("apiVersion: 1.0.0\ninfo: {name: x}\nspec: {}\n", &[]);
    assert!(code(&form) == Some(1) && said(&form).contains("as the form of a plugin"), "{}", said(&form));
}
