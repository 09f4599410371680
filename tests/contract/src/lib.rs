//! What is made of the contract in `wit`: the package that registries hold, and the types of TypeScript. Nothing here
//! knows what the contract is about.
#![forbid(unsafe_code)]

mod artifact;
mod typescript;

use std::path::{Path, PathBuf};

use wit_parser::{PackageId, Resolve};

pub use artifact::{description, package};
pub use typescript::typescript;

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The contract as it stands in `wit`.
///
/// # Panics
/// When it cannot be read.
pub fn contract() -> (Resolve, PackageId) {
    let (folder, mut contract) = (root().join("wit"), Resolve::default());
    let (package, _) = contract.push_dir(&folder).unwrap_or_else(|error| panic!("{}: {error:?}", folder.display()));
    (contract, package)
}
