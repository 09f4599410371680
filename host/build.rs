//! Builds the component for the sandbox, compiles it to machine code ahead of time, with exports that cost less to
//! call, and hands both files to the library, which embeds them.
//!
//! `SLIDEGATE_COMPONENT=path` takes a component that is already built instead of building one. So does a packaged
//! crate, which brings one.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod reexports;
#[path = "src/tuning.rs"]
mod tuning;

/// The target of the guest: no system interface at all.
const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// A call inside the sandbox costs some twenty instructions more than elsewhere.
const INLINED: &str = "-Cllvm-args=-inlinehint-threshold=1000";

/// What names a component to embed instead of the one in `guest/component`.
const COMPONENT_VARIABLE: &str = "SLIDEGATE_COMPONENT";

/// The component that a packaged crate brings.
const PACKAGED: &str = "component/slidegate.wasm";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    if let Err(error) = embed() {
        // The message alone: a panic would bury it in a backtrace of this script.
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn embed() -> Result<()> {
    println!("cargo:rerun-if-env-changed={COMPONENT_VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=reexports.rs");
    println!("cargo:rerun-if-changed=src/tuning.rs");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let crate_folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = crate_folder.parent().filter(|workspace| workspace.join("guest/component").is_dir());
    let component = match (env::var_os(COMPONENT_VARIABLE), workspace) {
        (Some(path), _) => supplied(Path::new(&path))?,
        (None, Some(workspace)) => build(workspace, &out)?,
        (None, None) => crate_folder.join(PACKAGED),
    };
    let wasm =
        fs::read(&component).map_err(|error| format!("cannot read the component {}: {error}", component.display()))?;
    fs::write(out.join("component.wasm"), &wasm)?;
    fs::write(out.join("component.cwasm"), precompile(&reexports::through_imports(&wasm)?)?)?;
    Ok(())
}

fn supplied(path: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(path).map_err(|error| format!("{COMPONENT_VARIABLE}={}: {error}", path.display()))?;
    println!("cargo:rerun-if-changed={}", path.display());
    Ok(path)
}

/// Builds `guest/component` by a second Cargo, in a target directory of its own below ours, so that
/// the two do not wait for each other's lock.
fn build(workspace: &Path, out: &Path) -> Result<PathBuf> {
    for input in [
        "wit",
        "guest/allocator",
        "guest/cache",
        "guest/document",
        "guest/engine",
        "guest/component",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        // Beside this crate: a target folder may be taken along to another checkout.
        println!("cargo:rerun-if-changed=../{input}");
    }
    ensure_guest_target(workspace)?;

    let target = target_directory(out)?.join("guest");
    let mut cargo = clean(Command::new(variable("CARGO")?));
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--package", "slidegate-component", "--profile", "guest"])
        .args(["--target", GUEST_TARGET, "--target-dir"])
        .arg(&target)
        // Ships with rustc. Set here and not in a configuration file, where it would also meet
        // guests of the same target that are no components.
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld")
        .env("CARGO_ENCODED_RUSTFLAGS", guest_flags(workspace));
    run(cargo, "building the component failed")?;
    Ok(target.join(GUEST_TARGET).join("guest").join("slidegate_component.wasm"))
}

/// Keeps this machine's paths out of the component, shorter by some kilobytes and the same everywhere; and has LLVM
/// inline what is marked so in most places.
fn guest_flags(workspace: &Path) -> String {
    let home =
        env::var("CARGO_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo"))).unwrap_or_default();
    // The encoded form, whose separator is no space, since paths may hold some.
    format!("--remap-path-prefix={home}/registry/src/=\x1f--remap-path-prefix={}/=\x1f{INLINED}", workspace.display())
}

/// `OUT_DIR` is `<target>/<profile>/build/<package>/out`.
fn target_directory(out: &Path) -> Result<&Path> {
    out.ancestors().nth(4).ok_or_else(|| format!("OUT_DIR {} is not inside a target directory", out.display()).into())
}

/// Installs the guest's standard library by rustup, if rustc has none.
fn ensure_guest_target(workspace: &Path) -> Result<()> {
    if has_guest_target(workspace)? {
        return Ok(());
    }
    let mut rustup = clean(Command::new("rustup"));
    rustup.current_dir(workspace).args(["target", "add", GUEST_TARGET]);
    run(rustup, &format!("rustc has no standard library for {GUEST_TARGET}, and rustup could not add it"))
}

fn has_guest_target(workspace: &Path) -> Result<bool> {
    let output = clean(Command::new(variable("RUSTC")?))
        .current_dir(workspace)
        .args(["--print", "target-libdir", "--target", GUEST_TARGET])
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success() && fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some()))
}

/// Takes out of the environment what is meant for the outer build: its flags, wrappers, target and
/// profile. What says how to reach registries and which toolchain to use stays.
fn clean(mut command: Command) -> Command {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_TERM_"];
    const REMOVED: [&str; 5] = ["CARGO_", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_"];
    let has_prefix = |name: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if has_prefix(name, &REMOVED) && !has_prefix(name, &KEPT) {
            command.env_remove(name);
        }
    }
    command
}

fn run(mut command: Command, failure: &str) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let shown = words.join(" ");
    let status = command.status().map_err(|error| format!("{failure}: cannot run {shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{failure} ({status}): {shown}").into()) }
}

/// Compiles for the baseline of the target's architecture, not for this machine, because the binary
/// travels. Empty when building for another architecture: the library then compiles at start.
fn precompile(wasm: &[u8]) -> Result<Vec<u8>> {
    let target = variable("TARGET")?;
    if variable("CARGO_CFG_TARGET_ARCH")? != env::consts::ARCH {
        println!("cargo:warning=no code compiled ahead of time for {target}; the component is compiled at start");
        return Ok(Vec::new());
    }
    let mut config = tuning::config();
    config.target(&target)?;
    let compiled = wasmtime::Engine::new(&config)
        .and_then(|engine| engine.precompile_component(wasm))
        .map_err(|error| format!("the component cannot be compiled for {target}: {error:?}"))?;
    Ok(compiled)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("environment variable {name}: {error}").into())
}
