//! A plugin's code: compiled, its ABI version found, and all it imports known.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, LazyLock},
};

use wasmtime::{Config, Engine, InstancePre, Linker};

use super::{abi::Version, imports, vm::VmState};

/// Code that can be run by any number of VMs. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Loaded>);

struct Loaded {
    pre: InstancePre<VmState>,
    version: Version,
    /// Stands for the code, where VMs are shared.
    hash: u64,
}

/// One for all: compiled code belongs to its engine.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.max_wasm_stack(1 << 20);
    Engine::new(&config).expect("the settings go together")
});

impl Module {
    /// Compiles a core module.
    ///
    /// # Errors
    ///
    /// If it is no module, exports no known ABI version, has no allocator or no memory, or imports what a gateway of
    /// that version does not give.
    pub fn load(bytes: &[u8]) -> Result<Self, String> {
        let compiled = wasmtime::Module::new(&ENGINE, bytes).map_err(|error| format!("not a module: {error:#}"))?;
        Self::link(&compiled, hash(bytes))
    }

    /// The same from a file. Large modules take seconds to compile, so the code is kept beside the file.
    ///
    /// # Errors
    ///
    /// As [`Module::load`], or if the file cannot be read.
    pub fn load_file(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let hash = hash(&bytes);
        let kept = path.with_extension(format!("{hash:016x}.cwasm"));
        #[expect(unsafe_code, reason = "compiled code is trusted")]
        // SAFETY: the file was written below, by this engine or one of another version, which refuses it.
        if let Ok(compiled) = unsafe { wasmtime::Module::deserialize_file(&ENGINE, &kept) } {
            return Self::link(&compiled, hash);
        }
        let compiled =
            wasmtime::Module::new(&ENGINE, &bytes).map_err(|error| format!("{}: {error:#}", path.display()))?;
        keep(&compiled, &kept);
        Self::link(&compiled, hash)
    }

    fn link(module: &wasmtime::Module, hash: u64) -> Result<Self, String> {
        let version = version(module)?;
        if !["malloc", "proxy_on_memory_allocate"].iter().any(|name| module.get_export(name).is_some()) {
            return Err("exports neither `malloc` nor `proxy_on_memory_allocate`".to_owned());
        }
        let mut linker = Linker::new(&ENGINE);
        imports::add_to_linker(&mut linker, version).map_err(|error| format!("{error:#}"))?;
        let pre = linker.instantiate_pre(module).map_err(|error| format!("cannot be linked: {error:#}"))?;
        Ok(Module(Arc::new(Loaded { pre, version, hash })))
    }

    /// The ABI version that it was made for.
    pub fn version(&self) -> Version {
        self.0.version
    }

    pub(super) fn pre(&self) -> &InstancePre<VmState> {
        &self.0.pre
    }

    pub(super) fn hash(&self) -> u64 {
        self.0.hash
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("version", &self.0.version).field("hash", &self.0.hash).finish()
    }
}

/// The first export that names a version decides.
fn version(module: &wasmtime::Module) -> Result<Version, String> {
    match module.exports().find_map(|export| Version::of_export(export.name())) {
        Some(Some(version)) => Ok(version),
        Some(None) => Err("ABI version 0.1.0, which no plugin of Higress has, is not run here".to_owned()),
        None => Err("missing or unknown ABI version".to_owned()),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Under another name first, since tests of other processes may do the same. Without it the next run compiles again.
fn keep(compiled: &wasmtime::Module, path: &Path) {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    if let Ok(code) = compiled.serialize() {
        let _ = fs::write(&draft, code).and_then(|()| fs::rename(&draft, path));
    }
}
