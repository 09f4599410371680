//! What would be published: the packaged crates build from their own files alone, and what comes of them is the
//! gateway. And what all of it is made of may be used under the project's licence.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use spdx::{Expression, ParseMode};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The crates that are published, those first that others need.
const PUBLISHED: [&str; 4] = ["slidegate-document", "slidegate-cache", "slidegate-engine", "slidegate"];

fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env::var("CARGO").unwrap_or("cargo".into()));
    command.current_dir(folder).args(arguments).output().expect("cargo runs")
}

fn succeeded(what: &str, output: Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What Cargo knows of the packages and of those that they are made of. Licences stand in the packages, so that those
/// of other platforms are fetched.
fn metadata(arguments: &[&str]) -> Value {
    let all = [&["metadata", "--format-version", "1", "--locked"], arguments].concat();
    serde_json::from_str(&succeeded("cargo metadata", cargo(ROOT.as_ref(), &all))).expect("JSON")
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().expect("a list of packages")
}

/// A workspace of nothing but the packaged crates, with this one's lock and profiles, so that what is built for the
/// tests need not be built again.
fn unpack(directory: &Path) {
    let component = Path::new(ROOT).join("host/component");
    fs::create_dir_all(&component).expect("a folder for the component");
    fs::copy(Path::new(ROOT).join("dist/slidegate.wasm"), component.join("slidegate.wasm"))
        .expect("`just build` made the component");
    let target = directory.join("target");
    let target_text = target.to_str().expect("a temporary path is text");
    let mut arguments =
        vec!["package", "--locked", "--offline", "--allow-dirty", "--no-verify", "--target-dir", target_text];
    PUBLISHED.iter().for_each(|name| arguments.extend(["--package", name]));
    succeeded("cargo package", cargo(ROOT.as_ref(), &arguments));
    let mut members = Vec::new();
    for name in PUBLISHED {
        let file = fs::read_dir(target.join("package"))
            .expect("packages")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| {
                let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
                file.ends_with(".crate")
                    && file
                        .strip_prefix(name)
                        .is_some_and(|rest| rest[1..].starts_with(|each: char| each.is_ascii_digit()))
            });
        let file = file.unwrap_or_else(|| panic!("no package of {name}"));
        // As of now: packages are dated alike whatever is in them, and Cargo would take what it built of others before.
        let unpacked = Command::new("tar").arg("-xzmf").arg(&file).arg("-C").arg(directory).output().expect("tar runs");
        succeeded("tar", unpacked);
        let member = file.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
        for text in ["README.md", "LICENSE"] {
            let text = directory.join(&member).join(text);
            assert!(fs::read_to_string(&text).is_ok_and(|text| text.len() > 100), "{}", text.display());
        }
        members.push(member);
    }
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("the workspace's manifest");
    let profiles = &manifest[manifest.find("[profile.release]").expect("profiles")..];
    let mut text = format!("[workspace]\nresolver = \"1\"\nmembers = {members:?}\n\n");
    // What is asked is whether they build, not how fast they are: of single packages the profile says something else.
    let general =
        ["[profile.release.package.", "[profile.guest]"].iter().filter_map(|section| profiles.find(section)).min();
    text.push_str(&profiles[..general.unwrap_or(profiles.len())]);
    for name in PUBLISHED {
        text.push_str(&format!("[profile.release.package.{name}]\nopt-level = 0\n"));
    }
    // Nobody has published them yet: what one needs of another is beside it.
    text.push_str("[patch.crates-io]\n");
    for (name, member) in PUBLISHED.iter().zip(&members) {
        text.push_str(&format!("{name} = {{ path = {member:?} }}\n"));
        fs::remove_file(directory.join(member).join("Cargo.lock")).ok();
    }
    fs::write(directory.join("Cargo.toml"), text).expect("a manifest can be written");
    fs::copy(Path::new(ROOT).join("Cargo.lock"), directory.join("Cargo.lock")).expect("the lock can be copied");
}

/// The packaged crates, in a target directory of their own: what they are built into stands nowhere in the way of what
/// this workspace is built into. Below that, for its results to be linked.
struct Packaged(PathBuf);

impl Packaged {
    fn unpack() -> Self {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaged");
        fs::remove_dir_all(&scratch).ok();
        fs::create_dir_all(&scratch).expect("a folder can be made");
        unpack(&scratch);
        Self(scratch)
    }

    /// Takes over what was built for the tests, as wasmtime is the same there. Cargo replaces none of it: the packaged
    /// crates are others than those of this workspace.
    fn link_dependencies(&self) {
        let test = env::current_exe().expect("a test knows its own file");
        let built = test.ancestors().nth(2).expect("tests are built two folders deep");
        for folder in ["deps", "build", ".fingerprint"] {
            link(&built.join(folder), &self.0.join("target/release").join(folder));
        }
    }
}

impl Drop for Packaged {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The same files in another folder.
fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        match from.is_dir() {
            true => link(&from, &to),
            // Whatever a build beside this one has removed by now is needed by none.
            false => fs::hard_link(&from, &to).unwrap_or_else(|error| assert!(!from.exists(), "{error}")),
        }
    }
}

#[test]
fn packaged_crates_build_from_their_own_files() {
    let packaged = Packaged::unpack();
    packaged.link_dependencies();
    let built = cargo(
        &packaged.0,
        &["build", "--release", "--offline", "--target-dir", "target", "--message-format", "json-render-diagnostics"],
    );
    let messages = succeeded("cargo build", built);
    let binary = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("the gateway is built");
    assert!(binary.starts_with(&packaged.0), "{}", binary.display());
    let told = succeeded("slidegate init", Command::new(&binary).args(["init", "-"]).output().expect("it runs"));
    assert!(told.contains("rule_name"));
}

#[test]
fn published_crates_say_what_they_are() {
    let metadata = metadata(&["--no-deps"]);
    for package in packages(&metadata) {
        let name = package["name"].as_str().expect("a name");
        let is_published = package["publish"].is_null();
        assert_eq!(is_published, PUBLISHED.contains(&name), "{name}");
        for field in
            ["description", "license"].into_iter().chain(["repository", "readme"].into_iter().filter(|_| is_published))
        {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        if is_published {
            let count = |field: &str| package[field].as_array().map_or(0, Vec::len);
            assert!((1..=5).contains(&count("keywords")) && (1..=5).contains(&count("categories")), "{name}");
        }
    }
}

/// The licences that dependencies may have, which ask for no more than their text and notices to be passed on: those of
/// `.github/deny.toml`.
fn allowed() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(".github/deny.toml")).expect("the file is there");
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("a list of licences").0;
    let allowed: Vec<String> =
        list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect();
    assert!(allowed.iter().any(|name| name == "MIT"), "{allowed:?}");
    allowed
}

/// Whether one of a licence's alternatives asks for nothing but allowed ones.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let parsed = Expression::parse_mode(expression, ParseMode::LAX);
    parsed.is_ok_and(|parsed| parsed.evaluate(|asked| allowed.contains(&asked.to_string())))
}

#[test]
fn expressions_of_licences_are_understood() {
    let names = allowed();
    for allowed in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(allowed, &names), "{allowed}");
    }
    for refused in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR Apache-2.0) AND GPL-3.0-only", "", "MITX"] {
        assert!(!is_allowed(refused, &names), "{refused}");
    }
}

#[test]
fn all_that_is_shipped_may_be() {
    let metadata = metadata(&[]);
    let packages = packages(&metadata);
    let allowed = allowed();
    assert!(packages.len() > 100);
    let wrong: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|license| is_allowed(license, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert_eq!(wrong, [""; 0]);
}
