//! What is attached to a release, gathered of what is built here: whose work is in it, by name and with its licence,
//! and nothing of where it was built.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use slidegate_tests::gateway_process::{Directory, binary};

const GUESTS: [&str; 2] = ["slidegate.wasm", "slidegate-higress.wasm"];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn gather(args: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg("-B").arg(".github/release.py").args(args).current_dir(ROOT).env("SLIDEGATE", binary());
    command.output().expect("python3 runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// What stands for a package of some system.
const PACKAGE: &str = "slidegate_0.1.0-1_any.deb";

/// What `just release` leaves: the gateway, by way of a script, as the tests' own has this machine's paths in it; and
/// something for the guests and for packages.
fn built(directory: &Path) {
    let gateway = directory.join("slidegate");
    fs::write(&gateway, "#!/bin/sh\nexec \"$SLIDEGATE\" \"$@\"\n").expect("a file can be written");
    fs::set_permissions(&gateway, fs::Permissions::from_mode(0o755)).expect("it is ours");
    for guest in GUESTS {
        fs::write(directory.join(guest), b"\0asm").expect("a file can be written");
    }
    fs::create_dir(directory.join("packages")).expect("a folder can be made");
    fs::write(directory.join("packages").join(PACKAGE), b"!<arch>").expect("a file can be written");
}

/// What the gateway's manifest tells `cargo binstall` of this target.
fn binstall(field: &str, target: &str) -> String {
    let manifest = fs::read_to_string(Path::new(ROOT).join("host/Cargo.toml")).expect("the manifest is there");
    let line = manifest.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(" = ")).expect("it is told");
    let places =
        [("name", "slidegate"), ("bin", "slidegate"), ("version", env!("CARGO_PKG_VERSION")), ("target", target)];
    places
        .into_iter()
        .fold(line.trim_matches('"').to_owned(), |text, (place, value)| text.replace(&format!("{{ {place} }}"), value))
}

fn has_bills() -> bool {
    let asked = Command::new("cargo").args(["cyclonedx", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

#[test]
fn a_release_has_its_parts_and_says_whose_work_is_in_them() {
    let directory = Directory::new();
    built(directory.path());
    let dist = directory.path().to_str().expect("a temporary path is text");
    let has_bills = has_bills();
    let bills = if has_bills { &[][..] } else { &["--no-bills"] };
    let output = gather(&[&["--dist", dist], bills].concat());
    assert!(output.status.success(), "{}", said(&output));
    let release = directory.path().join("release");
    let sums = fs::read_to_string(release.join("SHA256SUMS")).expect("sums");
    let files: Vec<&str> = sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file).collect();
    let archive = files.iter().find(|file| file.ends_with(".tar.xz")).expect("an archive");
    let name = archive.trim_end_matches(".tar.xz");
    for part in [GUESTS[0], GUESTS[1], PACKAGE] {
        assert!(files.contains(&part), "{sums}");
    }
    for bill in [name, GUESTS[0], GUESTS[1]].map(|name| format!("{name}.cdx.json")) {
        assert_eq!(files.contains(&bill.as_str()), has_bills, "{bill}: {sums}");
    }
    let summed = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&release).output().expect("it runs");
    assert!(summed.status.success(), "{}", said(&summed));
    let unpacked = Command::new("tar").arg("-xJf").arg(archive).current_dir(&release).output().expect("tar runs");
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    // Where `cargo binstall` looks for them.
    let told = |field| binstall(field, name.trim_start_matches(concat!("slidegate-", env!("CARGO_PKG_VERSION"), "-")));
    assert!(told("pkg-url").ends_with(&format!("/v{}/{archive}", env!("CARGO_PKG_VERSION"))), "{}", told("pkg-url"));
    assert!(release.join(told("bin-dir")).is_file(), "{}", told("bin-dir"));
    let part = |part: &str| fs::read_to_string(release.join(name).join(part)).unwrap_or_else(|_| panic!("no {part}"));
    for file in ["README.md", "LICENSE", "slidegate", "slidegate.1", "slidegate-serve.1", "slidegate.bash"] {
        assert!(!part(file).is_empty(), "{file}");
    }
    let of_guests = fs::read_to_string(release.join("slidegate-wasm-THIRD-PARTY.txt")).expect("it is there");
    let of_all = part("THIRD-PARTY.txt");
    // Of the gateway, of the component in it, and of the plugin.
    for (text, crates) in [
        (&of_all, &["wasmtime", "rustls", "regex", "hmac-sha256", "wit-bindgen", "zstd-sys"][..]),
        (&of_guests, &["regex", "hmac-sha256", "wit-bindgen", "proxy-wasm"]),
    ] {
        for name in crates {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(": ")), "{name}");
        }
        for words in ["Permission is hereby granted", "Redistributions in binary form", "Apache License"] {
            assert!(text.contains(words), "{words}");
        }
    }
}

#[test]
fn what_tells_where_it_was_built_is_no_release() {
    let directory = Directory::new();
    built(directory.path());
    let root = Path::new(ROOT).canonicalize().expect("the workspace is there");
    fs::write(directory.path().join("slidegate.wasm"), format!("{}/host/src/lib.rs", root.display())).expect("written");
    let output = gather(&["--dist", directory.path().to_str().expect("text"), "--no-bills"]);
    let told = said(&output);
    assert!(!output.status.success() && told.contains("slidegate.wasm has paths of this machine in it"), "{told}");
}

#[test]
fn a_tag_is_that_of_the_version() {
    assert!(gather(&["--tag", concat!("v", env!("CARGO_PKG_VERSION"))]).status.success());
    for tag in ["v9.9.9", env!("CARGO_PKG_VERSION")] {
        let output = gather(&["--tag", tag]);
        assert!(!output.status.success() && said(&output).contains(&format!("the tag {tag} is not v")), "{tag}");
    }
}
