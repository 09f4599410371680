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

pub use self::context::{Call, Ctx, HEADER_BYTES_MAX, HEADERS_MAX, Outcome, Phase, RESPONSE_BODY_BYTES_MAX, View};
pub(crate) use self::http::{annotate, check_pass};
use crate::bindings::slidegate::filter;

struct HasCtx;

impl HasData for HasCtx {
    type Data<'a> = &'a mut Ctx;
}

/// Adds `redis`, `http` and `system` of the contract to a linker.
///
/// ```
/// use slidegate::bindings::Slidegate;
/// use slidegate::{Ctx, EMBEDDED_COMPONENT, Moment, View, add_to_linker};
/// use wasmtime::component::{Component, Linker};
/// use wasmtime::{Engine, Store};
///
/// /// What is in the store: the state of the imports, and whatever is yours.
/// struct Data {
///     ctx: Ctx,
/// }
///
/// impl View for Data {
///     fn ctx(&mut self) -> &mut Ctx {
///         &mut self.ctx
///     }
/// }
///
/// # fn main() -> wasmtime::Result<()> {
/// let engine = Engine::default();
/// let mut linker = Linker::new(&engine);
/// add_to_linker::<Data>(&mut linker)?;
/// let component = Component::new(&engine, EMBEDDED_COMPONENT)?;
/// let mut store = Store::new(&engine, Data { ctx: Ctx::new() });
/// let filter = Slidegate::instantiate(&mut store, &component, &linker)?;
///
/// let json = br#"{"rule_name": "demo", "global_threshold": {"query_per_second": 5}}"#;
/// let now = Moment { monotonic: 0, wall: 0 };
/// let configured = filter.slidegate_filter_filter().call_configure(&mut store, json, now)?;
/// assert!(configured.is_ok_and(|configuration| configuration.local_windows));
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// If the linker already defines one of them.
pub fn add_to_linker<T: View + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    filter::types::add_to_linker::<T, HasCtx>(linker, T::ctx)?;
    filter::http::add_to_linker::<T, HasCtx>(linker, T::ctx)?;
    filter::system::add_to_linker::<T, HasCtx>(linker, T::ctx)?;
    filter::metrics::add_to_linker::<T, HasCtx>(linker, T::ctx)?;
    filter::explanation::add_to_linker::<T, HasCtx>(linker, T::ctx)?;
    redis::add_to_linker(linker)
}
