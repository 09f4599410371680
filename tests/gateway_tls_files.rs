//! Certificates and keys that cannot be used, or hardly: each is told with its field and its file, by `check` and by
//! `serve` alike, and no word of what is in them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{self, Directory, Gateway},
    upstream::Upstream,
};

/// A directory with all kinds of files, good and bad.
fn files() -> Directory {
    let directory = Directory::new();
    let path = directory.path();
    let authority = Authority::new(path, "ca");
    authority.sign("good", &["127.0.0.1"]);
    authority.sign("other", &["127.0.0.1"]);
    authority.sign_expired("late", &["127.0.0.1"]);
    Authority::expired(path, "old");
    fs::write(path.join("text.pem"), "no certificate\n").expect("a file");
    fs::write(path.join("empty.pem"), "").expect("a file");
    fs::write(path.join("broken.pem"), "-----BEGIN CERTIFICATE-----\nhush!\n-----END CERTIFICATE-----\n")
        .expect("a file");
    fs::write(path.join("nonsense.pem"), "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----\n")
        .expect("a file");
    fs::write(path.join("broken.key"), "-----BEGIN PRIVATE KEY-----\nhush!\n-----END PRIVATE KEY-----\n")
        .expect("a file");
    fs::write(path.join("nonsense.key"), "-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----\n")
        .expect("a file");
    openssl(path, &["pkcs8", "-topk8", "-in", "good.key", "-out", "encrypted.key", "-passout", "pass:hush"]);
    openssl(path, &["genrsa", "-out", "short.key", "1024"]);
    openssl(path, &["genrsa", "-traditional", "-aes128", "-passout", "pass:hush", "-out", "old.key", "2048"]);
    directory
}

fn openssl(directory: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(directory).output().expect("openssl runs");
    assert!(output.status.success(), "{output:?}");
}

fn run(command: &str, directory: &Path, settings: &str, more: &[&str]) -> Output {
    let file = directory.join("gate.yaml");
    fs::write(&file, settings).expect("a file");
    gateway_process::run(&[&[command, file.to_str().expect("text")], more].concat())
}

#[test]
fn each_mistake_names_field_and_file() {
    let directory = files();
    for (tls, expected) in [
        ("{cert: none.pem, key: good.key}", "tls.cert: expected a file that can be read, got `none.pem`: no such file"),
        ("{cert: good.pem, key: none.key}", "tls.key: expected a file that can be read, got `none.key`: no such file"),
        ("{cert: /, key: good.key}", "tls.cert: expected a file that can be read, got `/`: is a directory"),
        ("{cert: good.pem}", "tls.key: is missing: expected the path of a file in PEM"),
        ("{key: good.key}", "tls.cert: is missing: expected the path of a file in PEM"),
        ("{}", "tls.cert: is missing: expected the path of a file in PEM"),
        ("yes", "tls: expected an object, got a text"),
        ("", "tls: expected an object with `cert` and `key`; to serve without TLS, leave the field out, got null"),
        (
            "{cert: good.pem, key: good.key, client_ca: }",
            "tls.client_ca: expected the path of a file in PEM; to ask no client for a certificate, leave the field \
             out, got null",
        ),
        (
            "{cert: good.pem, key: other.key}",
            "tls.key: expected the key of the certificate in `cert`, got one that belongs to another (got `other.key`)",
        ),
        (
            "{cert: good.key, key: good.pem}",
            "tls.cert: expected certificates in PEM, found a private key: are `cert` and `key` swapped? (got \
             `good.key`)",
        ),
        (
            "{cert: good.pem, key: good.pem}",
            "tls.key: expected a private key in PEM, found a certificate: are `cert` and `key` swapped? (got \
             `good.pem`)",
        ),
        ("{cert: text.pem, key: good.key}", "tls.cert: expected certificates in PEM, found none (got `text.pem`)"),
        ("{cert: empty.pem, key: good.key}", "tls.cert: expected certificates in PEM, found none (got `empty.pem`)"),
        (
            "{cert: broken.pem, key: good.key}",
            "tls.cert: expected certificates in PEM, found some that is broken (got `broken.pem`)",
        ),
        ("{cert: nonsense.pem, key: good.key}", "tls.cert: the first certificate cannot be read: "),
        ("{cert: good.pem, key: text.pem}", "tls.key: expected a private key in PEM, found none (got `text.pem`)"),
        (
            "{cert: good.pem, key: broken.key}",
            "tls.key: expected a private key in PEM, found one that is broken (got `broken.key`)",
        ),
        (
            "{cert: good.pem, key: nonsense.key}",
            "tls.key: expected a private key that can sign: RSA of 2048 bits or more, ECDSA on",
        ),
        (
            "{cert: good.pem, key: short.key}",
            "tls.key: expected a private key that can sign: RSA of 2048 bits or more, ECDSA on",
        ),
        ("{cert: \"\", key: good.key}", "tls.cert: expected the path of a file in PEM, got an empty text"),
        (
            "{cert: good.pem, key: encrypted.key}",
            "tls.key: expected a private key in PEM, without a passphrase, found an encrypted one; `openssl pkey",
        ),
        (
            "{cert: good.pem, key: old.key}",
            "tls.key: expected a private key in PEM, without a passphrase, found an encrypted one; `openssl pkey",
        ),
        (
            "{cert: good.pem, key: good.key, client_ca: none.pem}",
            "tls.client_ca: expected a file that can be read, got `none.pem`",
        ),
        (
            "{cert: good.pem, key: good.key, client_ca: good.key}",
            "tls.client_ca: expected certificates in PEM, found a private key (got `good.key`)",
        ),
        (
            "{cert: good.pem, key: good.key, client_ca: nonsense.pem}",
            "tls.client_ca: expected certificates that sign others: ",
        ),
        ("{cert: good.pem, key: good.key, min_version: 1.1}", "tls.min_version: expected `1.2` or `1.3`, got `1.1`"),
        (
            "{cert: good.pem, key: good.key, min_version: TLSv1.2}",
            "tls.min_version: expected `1.2` or `1.3`, got `TLSv1.2`",
        ),
        (
            "{cert: good.pem, key: good.key, clientCA: ca.pem}",
            "tls.clientCA: there is no such field here; did you mean `client_ca`?",
        ),
        (
            "{cert: good.pem, key: \"-----BEGIN PRIVATE KEY-----hush\"}",
            "tls.key: expected a file that can be read, got `***`",
        ),
        ("{cert: good.pem, key: aHVzaGh1c2g}", "tls.key: expected a file that can be read, got `***`"),
        (
            "{cert: good.pem, key: hush}",
            "tls.key: expected a file that can be read, got `***` (which is not shown, as it may be a secret: write \
             `./` before a name): no such file",
        ),
    ] {
        for (command, place, field) in [
            ("check", String::new(), format!("tls: {tls}")),
            ("serve", String::new(), format!("tls: {tls}")),
            ("check", "admin.".to_owned(), format!("admin: {{listen: \"127.0.0.1:0\", tls: {tls}}}")),
        ] {
            let output =
                run(command, directory.path(), &format!("listen: 127.0.0.1:0\n{field}\nupstream: http://a\n"), &[]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_it = |line: &&str| line.contains("gate.yaml:2:") && line.contains(&format!(": {place}{expected}"));
            let line = said.lines().find(is_it);
            assert!(output.status.code() == Some(1) && line.is_some(), "{command} {field}: {said}");
            assert!(!said.contains("hush") && !said.contains("aHVzaA"), "{said}");
        }
    }
}

#[test]
fn what_is_only_odd_is_a_warning() {
    let directory = files();
    let path = directory.path();
    let check = |tls: &str, more: &[&str]| {
        let output = run("check", path, &format!("tls: {tls}\nupstream: http://a\n"), more);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let good = "{cert: good.pem, key: good.key, client_ca: ca.pem, min_version: \"1.3\"}";
    let (code, said) = check(good, &["--strict"]);
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    assert!(said.contains("TLS 1.3 and above, certificate `good.pem`, clients need one of `ca.pem`"), "{said}");
    // Who has signed himself is his own authority, and what stands beside one does no harm.
    Authority::sign_itself(path, "own", &["127.0.0.1"]);
    let both = ["good.pem", "ca.pem"].map(|name| fs::read_to_string(path.join(name)).expect("a file"));
    fs::write(path.join("both.pem"), both.concat()).expect("a file");
    for client_ca in ["own.pem", "both.pem"] {
        let tls = format!("{{cert: good.pem, key: good.key, client_ca: {client_ca}}}");
        assert_eq!(check(&tls, &["--strict"]).0, Some(0), "{client_ca}");
    }
    let upstream = |ca: &str| {
        let settings = format!("upstream: https://a\nupstream_tls: {{ca: {ca}}}\n");
        let output = run("check", path, &settings, &["--strict"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(upstream("ca.pem").0, Some(0));
    let (code, said) = upstream("other.pem");
    assert!(code == Some(1) && said.contains("gate.yaml:2:"), "{said}");
    assert!(said.contains("upstream_tls.ca: `other.pem` holds no certificate that may sign others"), "{said}");
    for (tls, expected) in [
        ("{cert: late.pem, key: late.key}", "tls.cert: the certificate in `late.pem` has expired "),
        (
            "{cert: good.pem, key: good.key, client_ca: old.pem}",
            "tls.client_ca: the certificate in `old.pem` has expired ",
        ),
        // The line above, copied.
        (
            "{cert: good.pem, key: good.key, client_ca: good.pem}",
            "tls.client_ca: `good.pem` holds no certificate that may sign others or has signed itself: nobody is",
        ),
        (
            "{cert: good.pem, key: open.key}",
            "tls.key: `open.key` is a private key, and everybody on this machine may read it, expected only",
        ),
    ] {
        fs::copy(path.join("good.key"), path.join("open.key")).expect("a file");
        #[cfg(unix)]
        fs::set_permissions(path.join("open.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("an own file");
        let (code, said) = check(tls, &[]);
        assert!(code == Some(0) && said.contains("warning  ") && said.contains(expected), "{said}");
        assert_eq!(check(tls, &["--strict"]).0, Some(1));
    }
    // The gateway's own certificate for Redis, too, and its passwords.
    let shown = format!(
        "url: \"rediss+sentinel://a/m\", ca: {0}/ca.pem, cert: {0}/late.pem, key: {0}/open.key, password_file: \
         {0}/open, sentinel_password_file: {0}/hidden",
        path.display()
    );
    fs::copy(path.join("late.key"), path.join("open.key")).expect("a file");
    for (file, mode) in [("open", 0o644), ("hidden", 0o640), ("open.key", 0o644)] {
        if file != "open.key" {
            fs::write(path.join(file), "hush\n").expect("a file");
        }
        #[cfg(unix)]
        fs::set_permissions(path.join(file), std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("an own file");
    }
    for (redis, place) in
        [(format!("{{{shown}}}"), "redis"), (format!("{{names: {{r: {{{shown}}}}}}}"), "redis.names.r")]
    {
        let output = run("check", path, &format!("upstream: http://a\nredis: {redis}\n"), &[]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains(&format!("{place}.cert: the certificate in `")) && said.contains(" has expired "),
            "{said}"
        );
        assert!(said.contains(&format!("{place}.key: `")) && said.contains("` is a private key"), "{said}");
        assert!(said.contains(&format!("{place}.password_file: `")), "{said}");
        assert!(
            said.contains("/open` holds a password, and everybody on this machine may read it, expected"),
            "{said}"
        );
        assert!(!said.contains("/hidden` holds") && !said.contains("hush"), "{said}");
    }
}

#[test]
fn what_becomes_odd_while_serving_is_told_once() {
    let directory = files();
    let upstream = Upstream::start();
    let path = directory.path();
    for (from, to) in [("good.pem", "used.pem"), ("good.key", "used.key")] {
        fs::copy(path.join(from), path.join(to)).expect("a file");
    }
    let shown = path.display();
    let settings = |more: &str| {
        format!("tls: {{cert: {shown}/used.pem, key: {shown}/used.key}}\nupstream: {}\n{more}", upstream.url())
    };
    let gateway = Gateway::serve(&settings(""));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(path.join("used.key"), mode).expect("an own file");
        gateway.wait_log("used.key` is a private key, and everybody on this machine may read it");
    }
    fs::copy(path.join("late.key"), path.join("used.key")).expect("a file");
    fs::copy(path.join("late.pem"), path.join("used.pem")).expect("a file");
    gateway.wait_log("used.pem` has expired");
    gateway.write_settings(&settings("log: {access: false}\n"));
    gateway.wait_log("settings reloaded");
    assert_eq!(gateway.log_lines("has expired").len(), 1, "{}", gateway.log());
}

#[test]
fn who_serves_all_the_same_is_told_in_the_log() {
    let directory = files();
    let upstream = Upstream::start();
    let path = directory.path().display();
    let settings = |more: &str| {
        format!("tls: {{cert: {path}/late.pem, key: {path}/late.key}}\nupstream: {}\n{more}", upstream.url())
    };
    let gateway = Gateway::serve(&settings(""));
    gateway.wait_log("tls.cert: the certificate in ");
    // Once, and not with each reload.
    gateway.write_settings(&settings("log: {access: false}\n"));
    gateway.wait_log("settings reloaded");
    assert_eq!(gateway.log_lines("has expired").len(), 1, "{}", gateway.log());
}
