//! What a gateway gives to plugins: every function of `env` and of WASI, under its exact signature. What is not here
//! does not link.

mod body;
mod callouts;
mod extensions;
mod fields;
mod local;
mod metrics;
mod properties;
mod sharing;
mod wasi;

use wasmtime::{Caller, Linker, Result};

use super::{
    abi::{Fault, Hostcall, LogLevel, Status, Version},
    vm::{Guest, VmState},
};

/// Defines functions of `env`: name, parameters, and what is called with the guest.
macro_rules! define {
    ($linker:expr; $($name:literal ($($parameter:ident: $type:ty),*) => $function:path;)*) => {
        $($linker.func_wrap("env", $name, |caller: wasmtime::Caller<'_, crate::vm::VmState>, $($parameter: $type),*| {
            let guest = crate::vm::Guest::enter(caller, $name);
            crate::imports::answer(guest.and_then(|mut guest| $function(&mut guest, $($parameter),*)))
        })?;)*
    };
}
use define;

/// Defines all that a module of this version may import.
///
/// # Errors
///
/// Never: no name is defined twice.
pub(super) fn add_to_linker(linker: &mut Linker<VmState>, version: Version) -> Result<()> {
    wasi::add(linker, "wasi_snapshot_preview1")?;
    wasi::add(linker, "wasi_unstable")?;
    linker.func_wrap("env", "proxy_log", |caller: Caller<'_, VmState>, level: u32, text: u32, size: u32| {
        answer(Guest::enter_early(caller).and_then(|guest| log(&guest, level, text, size)))
    })?;
    linker.func_wrap("env", "pthread_equal", |left: i32, right: i32| i32::from(left == right))?;
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: i32| {})?;
    if version != Version::V0_2_0 {
        define!(linker; "proxy_get_log_level"(out: u32) => log_level;);
    }
    define!(linker;
        "proxy_get_current_time_nanoseconds"(out: u32) => current_time;
        "proxy_set_effective_context"(context: u32) => set_effective_context;
        "proxy_done"() => done;
    );
    body::add(linker)?;
    callouts::add(linker)?;
    extensions::add(linker)?;
    fields::add(linker)?;
    local::add(linker)?;
    metrics::add(linker)?;
    properties::add(linker)?;
    sharing::add(linker)
}

/// What the guest is told, unless it has to end.
fn answer(outcome: Hostcall) -> Result<i32> {
    match outcome {
        Ok(()) => Ok(Status::Ok as i32),
        Err(Fault::Status(status)) => Ok(status as i32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

fn log(guest: &Guest<'_>, level: u32, text: u32, size: u32) -> Hostcall {
    let level = LogLevel::read(level)?;
    guest.state().log(level, &guest.text(text, size)?);
    Ok(())
}

fn log_level(guest: &mut Guest<'_>, out: u32) -> Hostcall {
    let level = guest.state().services.log_level as u32;
    guest.write_u32(out, level)
}

fn current_time(guest: &mut Guest<'_>, out: u32) -> Hostcall {
    let now = guest.state().services.clock.wall_ns();
    guest.write_u64(out, now)
}

fn set_effective_context(guest: &mut Guest<'_>, context: u32) -> Hostcall {
    if guest.state_mut().choose(context) { Ok(()) } else { Err(Status::BadArgument.into()) }
}

fn done(guest: &mut Guest<'_>) -> Hostcall {
    let root = guest.state().root_id();
    if !guest.state().root(root).is_some_and(|root| root.leaving) {
        return Err(Status::NotFound.into());
    }
    guest.state_mut().actions.push(super::vm::Action::Done(root));
    Ok(())
}
