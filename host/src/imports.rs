//! The imports of the contract, for any wasmtime store.
//!
//! An embedder with a store of their own puts a [`Ctx`] into its data, shows it through [`View`],
//! and calls [`add_to_linker`]. [`Instance`](crate::Instance) is that, done once.
//!
//! A component that keeps the contract never notices the bounds below. One that exceeds them traps,
//! or, where that would punish a busy moment, is told that the call failed.

mod context;
mod http;
mod redis;
mod system;

use wasmtime::component::{HasData, Linker};

pub use self::context::{Call, Ctx, HEADER_BYTES_MAX, HEADERS_MAX, Outcome, Phase, RESPONSE_BODY_BYTES_MAX};
pub(crate) use self::http::{annotate, check_pass};
use crate::bindings::Slidegate;

/// Store data through which the imports find their state.
pub trait View: Send {
    /// The state of the component instance in this store.
    fn ctx(&mut self) -> &mut Ctx;
}

struct HasCtx;

impl HasData for HasCtx {
    type Data<'a> = &'a mut Ctx;
}

/// Adds `redis`, `http` and `system` of the contract to a linker.
///
/// # Errors
///
/// If the linker already defines one of them.
pub fn add_to_linker<T: View + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    Slidegate::add_to_linker::<T, HasCtx>(linker, |data| data.ctx())
}
