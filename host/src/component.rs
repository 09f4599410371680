//! The compiled component, and the engine that runs it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::bindings::SlidegatePre;
use crate::imports::add_to_linker;
use crate::state::{State, TICK};
use crate::tuning;

/// The component that this crate was built with, as its build script found or built it.
pub const EMBEDDED_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.wasm"));

/// The same, compiled for the baseline of the target's architecture. Empty in a cross build.
static EMBEDDED_CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.cwasm"));

/// A filter component, compiled and linked, from which any number of [`Instance`]s are made.
///
/// Cheap to clone; clones share the compiled code and one engine.
///
/// [`Instance`]: crate::Instance
#[derive(Clone)]
pub struct Module {
    pre: Arc<SlidegatePre<State>>,
}

impl Module {
    /// The component that this crate carries. Loads code compiled at build time, in about a
    /// millisecond; where that code does not fit the machine, compiles it now.
    ///
    /// # Errors
    ///
    /// If the component does not keep the contract, which can only be when it was replaced at
    /// build time.
    pub fn embedded() -> Result<Self, ModuleError> {
        let engine = engine()?;
        let component = match precompiled(&engine) {
            Some(component) => component,
            None => Component::new(&engine, EMBEDDED_COMPONENT).map_err(ModuleError::compile)?,
        };
        Self::link(&engine, &component)
    }

    /// A component from a file, in binary form. Compiling takes time: a second or two for one that
    /// carries a large regular expression library.
    ///
    /// ```no_run
    /// let module = slidegate::Module::from_file("slidegate.wasm")?;
    /// # drop(module);
    /// # Ok::<(), slidegate::ModuleError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a component, imports what this host does not give, or
    /// does not export the contract's `filter` interface.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ModuleError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|error| ModuleError(format!("cannot read {}: {error}", path.display())))?;
        Self::from_bytes(&bytes)
    }

    /// A component from memory, otherwise like [`Module::from_file`].
    ///
    /// ```
    /// let error = slidegate::Module::from_bytes(b"\0asm\x01\0\0\0").unwrap_err();
    /// assert!(error.to_string().contains("got a core module, as plugins of Envoy are"));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Module::from_file`], reading aside.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModuleError> {
        check_kind(bytes)?;
        let engine = engine()?;
        let component = Component::new(&engine, bytes).map_err(ModuleError::compile)?;
        Self::link(&engine, &component)
    }

    fn link(engine: &Engine, component: &Component) -> Result<Self, ModuleError> {
        let mut linker: Linker<State> = Linker::new(engine);
        add_to_linker(&mut linker).map_err(ModuleError::link)?;
        let pre: InstancePre<State> = linker.instantiate_pre(component).map_err(ModuleError::link)?;
        let pre = SlidegatePre::new(pre).map_err(ModuleError::link)?;
        Ok(Self { pre: Arc::new(pre) })
    }

    pub(crate) fn pre(&self) -> &SlidegatePre<State> {
        &self.pre
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").finish_non_exhaustive()
    }
}

/// Tells by its first bytes what is no component at all.
fn check_kind(bytes: &[u8]) -> Result<(), ModuleError> {
    const WASM: &[u8] = b"\0asm";
    const CORE: &[u8] = b"\0asm\x01\0\0\0";
    let seen = match bytes {
        _ if bytes.is_empty() => "an empty file",
        _ if bytes.starts_with(CORE) => "a core module, as plugins of Envoy are",
        _ if bytes.starts_with(WASM) => return Ok(()),
        _ => "a file of another kind",
    };
    Err(ModuleError(format!("expected a WebAssembly component in binary form, got {seen}")))
}

/// An engine with its clock running. The clock's thread ends with the engine.
fn engine() -> Result<Engine, ModuleError> {
    let engine = Engine::new(&tuning::config()).map_err(ModuleError::link)?;
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("slidegate-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map_err(|error| ModuleError(format!("cannot start the thread that ends runaway guests: {error}")))?;
    Ok(engine)
}

#[expect(unsafe_code, reason = "compiled code is trusted")]
fn precompiled(engine: &Engine) -> Option<Component> {
    if EMBEDDED_CODE.is_empty() {
        return None;
    }
    // SAFETY: these bytes came from `Engine::precompile_component` of the same wasmtime in this
    // crate's build script, and nobody can change them afterwards.
    let loaded = unsafe { Component::deserialize(engine, EMBEDDED_CODE) };
    loaded.inspect_err(|error| tracing::warn!("code compiled ahead of time does not load, compiling: {error:#}")).ok()
}

/// Why a file or bytes are not a usable filter component. Displays as one line.
#[derive(Debug)]
pub struct ModuleError(String);

impl ModuleError {
    fn compile(error: wasmtime::Error) -> Self {
        Self(format!("not a component that can be compiled: {error:#}"))
    }

    fn link(error: wasmtime::Error) -> Self {
        Self(format!("the component does not keep the contract slidegate:filter: {error:#}"))
    }
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ModuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told_by_its_kind() {
        let told = |bytes: &[u8]| Module::from_bytes(bytes).expect_err("it is none").to_string();
        for (bytes, seen) in [
            (&b""[..], "an empty file"),
            (b"upstream: http://a\n", "a file of another kind"),
            (b"(component)", "a file of another kind"),
            (b"\0asm\x01\0\0\0", "a core module, as plugins of Envoy are"),
        ] {
            assert_eq!(told(bytes), format!("expected a WebAssembly component in binary form, got {seen}"));
        }
        assert!(told(b"\0asm\x0d\0\x01\0\x7f").starts_with("not a component that can be compiled: "));
    }
}
