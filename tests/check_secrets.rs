//! Whatever slips into a configuration, no secret in it is shown: not by `check`, in either form, not by the log of a
//! reload, not by `migrate`.

use std::process::Output;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use slidegate_tests::gateway_process::{Directory, Gateway, run, run_with};

/// Stands for the secret of a case.
const SECRET: &str = "SECRET";

/// The gateway's own part, with a secret in each place where one may stand.
const GATEWAY: &str = "upstream: http://127.0.0.1:9
redis:
  url: redis://user:SECRET@127.0.0.1:1/0
  password: SECRET
  sentinel_password: SECRET
  sentinel_username: someone
  names:
    redis.static:
      url: rediss://:SECRET@127.0.0.1:1
      password: SECRET
    other.static: unix:///nowhere.sock?user=u&pass=SECRET
filter:
";

const FILTER: &str = "rule_name: r
hash_key: SECRET
global_threshold: {query_per_day: 5}
redis:
  service_name: redis.static
  username: someone
  password: SECRET
  timeout: 5
exempt:
  methods: [GET]
  headers:
    x-internal: SECRET
rule_items:
  - limit_by_per_cookie: sid
    limit_keys:
      - key: SECRET
        query_per_day: 5
  - limit_by_per_header: authorization
    limit_keys:
      - {key: '*', query_per_day: 5}
      - {key: SECRET, query_per_day: 6}
";

/// Both parts once more, as people write what is short.
const FLOW: &str = "upstream: http://127.0.0.1:9
redis: {url: 'redis://user:SECRET@127.0.0.1:1/0', password: SECRET, names: {redis.static: {password: SECRET, url: x}}}
filter: {rule_name: r, hash_key: SECRET, global_threshold: {query_per_day: 5}, exempt: {headers: {x-internal: SECRET}}}
";

/// And what is refused there, beside whatever else is.
const FLOW_REFUSED: &str = "tls: {cert: a.pem, key: SECRET}
redis: {url: 'redis://:SECRET@127.0.0.1:1', names: {redis.static: 'redis://127.0.0.1:1/SECRET'}}
filter:
  redis: {service_name: redis.static, password: SECRET, timeout: 5}
  rejected_headers: {x-y: 5, authorization: SECRET}
  rule_items:
    - {limit_by_per_header: x-api-key, limit_keys: [{key: SECRET, query_per_day: 5}, {key: 'regexp:(SECRET'}]}
";

const RESOURCE: &str = "apiVersion: extensions.higress.io/v1alpha1
kind: WasmPlugin
metadata:
  name: cluster-key-rate-limit
spec:
  url: oci://x/cluster-key-rate-limit:1
  defaultConfig:
";

/// One slip of somebody who writes a file.
#[derive(Debug, Clone)]
enum Slip {
    /// A letter of a name is left out, doubled, another one, or in upper case.
    Misspelt(Index, Index, char),
    /// A line begins further left or right.
    Indented(Index, i8),
    /// The colon stands at the value, is missing, or another sign stands in its place.
    Colon(Index, &'static str),
    /// What follows has become a text.
    Block(Index, char),
    /// A value is none that is expected.
    Odd(Index),
    /// A bracket, a quote, a comma is missing.
    Sign(Index),
}

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let index = any::<Index>;
    let slip = prop_oneof![
        4 => (index(), index(), select(vec!['-', '2', 'U', 'x', '_'])).prop_map(|(line, at, how)| Slip::Misspelt(line,
            at, how)),
        3 => (index(), -4_i8..5).prop_map(|(line, by)| Slip::Indented(line, by)),
        4 => (index(), select(vec![":", " ", "=", "：", " = ", ", "])).prop_map(|(at, sign)| Slip::Colon(at, sign)),
        1 => (index(), select(vec!['|', '>'])).prop_map(|(line, sign)| Slip::Block(line, sign)),
        2 => index().prop_map(Slip::Odd),
        1 => index().prop_map(Slip::Sign),
    ];
    vec(slip, 1..4)
}

/// A text with a slip in it; the secrets stay whole.
fn slipped(text: &str, slip: &Slip) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let with = |index: &Index, sign: &str| {
        let fitting: Vec<usize> = (0..lines.len()).filter(|line| lines[*line].contains(sign)).collect();
        (!fitting.is_empty()).then(|| fitting[index.index(fitting.len())])
    };
    match slip {
        Slip::Misspelt(index, at, how) => {
            let Some(line) = with(index, ":") else { return text.to_owned() };
            let (name, rest) = lines[line].split_once(':').expect("it has one");
            let (start, name) =
                name.split_at(name.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(name.len()));
            if name.is_empty() || name.contains(SECRET) {
                return text.to_owned();
            }
            let (before, after) = name.split_at(at.index(name.len()));
            let letter = &after[..1];
            let new = match how {
                '-' => String::new(),
                '2' => letter.repeat(2),
                'U' => letter.to_uppercase(),
                other => other.to_string(),
            };
            lines[line] = format!("{start}{before}{new}{}:{rest}", &after[1..]);
        }
        Slip::Indented(index, by) => {
            let line = index.index(lines.len());
            let content = lines[line].trim_start().to_owned();
            let depth = (lines[line].len() - content.len()).saturating_add_signed((*by).into());
            lines[line] = " ".repeat(depth) + &content;
        }
        Slip::Colon(index, sign) => {
            let colons: Vec<usize> = text.match_indices(": ").map(|(at, _)| at).collect();
            if colons.is_empty() {
                return text.to_owned();
            }
            let at = colons[index.index(colons.len())];
            return format!("{}{sign}{}", &text[..at], &text[at + 2..]);
        }
        Slip::Block(index, sign) => {
            let line = index.index(lines.len());
            if lines[line].ends_with(':') {
                lines[line] += &format!(" {sign}");
            }
        }
        Slip::Odd(index) => {
            let Some(line) = with(index, "5") else { return text.to_owned() };
            lines[line] = lines[line].replacen('5', "0", 1);
        }
        Slip::Sign(index) => {
            let is_sign = |letter: char| "{}[],'\"".contains(letter);
            let signs: Vec<usize> = text.match_indices(is_sign).map(|(at, _)| at).collect();
            if signs.is_empty() {
                return text.to_owned();
            }
            let at = signs[index.index(signs.len())];
            return format!("{}{}", &text[..at], &text[at + 1..]);
        }
    }
    lines.join("\n") + "\n"
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// No part of the secret is shown that is longer than the beginning by which its owner knows a key again.
fn assert_hidden(said: &str, secret: &str, text: &str) -> Result<(), TestCaseError> {
    for part in secret.as_bytes().windows(5) {
        let part = std::str::from_utf8(part).expect("ASCII");
        prop_assert!(!said.contains(part), "`{part}` of `{secret}` is told of:\n{text}\nas:\n{said}");
    }
    Ok(())
}

fn configuration() -> ProptestConfig {
    ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn no_slip_shows_a_secret(secret in "[a-z][a-zA-Z0-9]{23}", slips in slips()) {
        let good = GATEWAY.to_owned() + &indented(FILTER, 2);
        let text = slips.iter().fold(good, |text, slip| slipped(&text, slip)).replace(SECRET, &secret);
        for form in ["text", "json"] {
            assert_hidden(&said(&run_with(&["check", "-", "-o", form], &[], text.as_bytes())), &secret, &text)?;
        }
        let by_variable = text.replace(&secret, "${HUSH}");
        let output = run_with(&["check", "-"], &[("HUSH", &secret)], by_variable.as_bytes());
        assert_hidden(&said(&output), &secret, &by_variable)?;
    }

    #[test]
    fn no_slip_on_one_line_shows_a_secret(
        secret in "[a-z][a-zA-Z0-9]{23}",
        slips in slips(),
        flow in select(vec![FLOW, FLOW_REFUSED]),
    ) {
        let text = slips.iter().fold(flow.to_owned(), |text, slip| slipped(&text, slip)).replace(SECRET, &secret);
        for form in ["text", "json"] {
            assert_hidden(&said(&run_with(&["check", "-", "-o", form], &[], text.as_bytes())), &secret, &text)?;
        }
    }

    #[test]
    fn no_slip_in_a_resource_shows_a_secret(secret in "[a-z][a-zA-Z0-9]{23}", slips in slips()) {
        let good = RESOURCE.to_owned() + &indented(FILTER, 4);
        let text = slips.iter().fold(good, |text, slip| slipped(&text, slip)).replace(SECRET, &secret);
        let checked = run_with(&["check", "-"], &[], text.as_bytes());
        assert_hidden(&said(&checked), &secret, &text)?;
        let migrated = run_with(&["migrate", "--image", "oci://x/y:1"], &[], text.as_bytes());
        assert_hidden(&String::from_utf8_lossy(&migrated.stderr), &secret, &text)?;
    }

    #[test]
    fn no_slip_in_a_file_of_json_shows_a_secret(secret in "[a-z][a-zA-Z0-9]{23}", slips in slips()) {
        let good = r#"{"upstream": "http://127.0.0.1:9",
 "redis": {"url": "redis://user:SECRET@127.0.0.1:1/0", "password": "SECRET",
  "names": {"redis.static": {"url": "redis://:SECRET@127.0.0.1:1",
   "sentinel_password": "SECRET"}}},
 "filter": {"rule_name": "r",
  "hash_key": "SECRET",
  "global_threshold": {"query_per_day": 5},
  "redis": {"service_name": "redis.static",
   "password": "SECRET"},
  "exempt": {"headers": {"x-internal": ["SECRET"]}}}}
"#;
        let text = slips.iter().fold(good.to_owned(), |text, slip| slipped(&text, slip)).replace(SECRET, &secret);
        let directory = Directory::new();
        let file = directory.path().join("gate.json");
        std::fs::write(&file, &text).expect("a temporary file can be written");
        for form in ["text", "json"] {
            let file = file.to_str().expect("a path in UTF-8");
            assert_hidden(&said(&run(&["check", file, "-o", form])), &secret, &text)?;
        }
    }

    #[test]
    fn no_argument_that_is_out_of_place_shows_a_secret(secret in "[a-z][a-zA-Z0-9]{23}",
        name in "--(redis|redi|rediss|listen|workers|plugin)", is_one in any::<bool>()) {
        let url = format!("redis://user:{secret}@127.0.0.1:1/0");
        let one = format!("{name}={url}");
        for command in [&["check", "/dev/null"][..], &["init", "-"], &["schema"], &["serve"], &["migrate"],
            &["nothing"]] {
            let args = match is_one {
                true => [command, &[one.as_str()]].concat(),
                false => [command, &[name.as_str(), url.as_str()]].concat(),
            };
            // A file to begin with holds what was asked for.
            let output = run_with(&args, &[], b"");
            let shown = match output.status.success() {
                true => String::from_utf8_lossy(&output.stderr).into_owned(),
                false => said(&output),
            };
            assert_hidden(&shown, &secret, &args.join(" "))?;
        }
    }
}

/// What once was shown. Where the secret is short, its length does not give it away.
#[test]
fn no_known_slip_shows_a_secret() {
    for text in [
        "redis: {password:SECRET}",
        "redis: {password=SECRET}",
        "redis: {password：SECRET}",
        "redis: {password SECRET}",
        "redis: {password, SECRET}",
        "redis: {password, brass_mule_foal}",
        "redis: {url: x, SECRET}",
        "redis: {url: 'pw SECRET'}",
        "redis: {names: {a: SECRET}}",
        "redis: SECRET",
        "redis: redis://h/SECRET",
        "redis: redis://h?SECRET=x",
        "redis:\n  password SECRET",
        "redis:\n  password：SECRET",
        "filter: {hash_key:SECRET, rule_name: r}",
        "filter: {redis: {password:SECRET}}",
        "filter: {redis: {password, SECRET}}",
        "filter: {exempt: {headers: {x-internal:SECRET}}}",
        "filter: {exempt: {headers: {x-internal, SECRET}}}",
        "filter: {rejected_headers: {authorization:SECRET}}",
        "filter: {rejected_headers: {authorization SECRET}}",
        "tls: {cert: x, key:SECRET}",
        "tls: {cert: SECRET, key: SECRET}",
        "upstream_tls: {ca: SECRET}",
        "listen: password SECRET",
        "listen: password：SECRET",
        "workers: pw SECRET",
        "filter: {rule_items: [{limit_by_per_header: x-api-key, limit_keys: [{key: 'regexp:(SECRET'}]}]}",
    ] {
        let secret = match text {
            text if text.contains("regexp") => "q7Zr2mWx9KdTfb4NpLs8VhYc",
            text if text.contains(SECRET) => "q7Zr2mWx9",
            _ => "brass_mule_foal",
        };
        let text = text.replace(SECRET, secret);
        let file = format!("upstream: http://127.0.0.1:9\n{text}\n");
        let mut told: Vec<String> =
            ["text", "json"].map(|form| said(&run_with(&["check", "-", "-o", form], &[], file.as_bytes()))).into();
        if let Some(filter) = text.strip_prefix("filter:") {
            let resource = RESOURCE.trim_end().to_owned() + filter + "\n";
            told.push(said(&run_with(&["check", "-"], &[], resource.as_bytes())));
            let migrated = run_with(&["migrate", "--image", "oci://x/y:1"], &[], resource.as_bytes());
            told.push(String::from_utf8_lossy(&migrated.stderr).into_owned());
        }
        for told in told {
            assert!(told.contains(": "), "{text}");
            assert_hidden(&told, secret, &text).unwrap();
        }
    }
}

#[test]
fn the_log_of_a_reload_shows_no_secret() {
    let secret = "q7Zr2mWx9KdTfb4NpLs8VhYc";
    let gateway = Gateway::serve("upstream: http://127.0.0.1:9\n");
    let filter = indented(FILTER, 2);
    let base = "listen: 127.0.0.1:1\n".to_owned() + GATEWAY;
    for (count, text) in [
        base.replace("password", "pasword") + &filter,
        base.replace("redis:", "redsi:") + &filter,
        base.clone() + &filter.replace("hash_key", "hash_ky"),
        base.replace("filter:", "filter: |") + &filter,
        base.replace("names:", "names: >") + &filter,
        base.replace("  password: ", "  password:") + &filter,
        base.clone() + &filter.replace("password: ", "password:"),
        base.clone()
            + &filter
                .replace("exempt:", "exemt:")
                .replace("limit_by_per_cookie", "limit_by_per_cokie")
                .replace("5", "0"),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.write_file(&text.replace(SECRET, secret));
        gateway.hang_up();
        let refused = || gateway.log_lines("the settings were not reloaded").len();
        slidegate_tests::gateway_process::wait_until("the file is refused", || refused() > count);
    }
    let log = gateway.log();
    assert!(secret.as_bytes().windows(5).all(|part| !log.contains(std::str::from_utf8(part).unwrap())), "{log}");
    let (status, shown) = gateway.ask_admin("/config");
    assert_eq!((status, shown.contains(secret)), (200, false));
}
