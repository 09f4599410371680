//! What plugins share with other workers: data and queues. And ticks, which they set for themselves.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, Status},
    vm::{Action, Guest, Tick, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_get_shared_data"(key: u32, key_size: u32, value: u32, value_size: u32, cas: u32) => get;
        "proxy_set_shared_data"(key: u32, key_size: u32, value: u32, value_size: u32, cas: u32) => set;
        "proxy_register_shared_queue"(name: u32, size: u32, token: u32) => register;
        "proxy_resolve_shared_queue"(vm_id: u32, vm_id_size: u32, name: u32, size: u32, token: u32) => resolve;
        "proxy_dequeue_shared_queue"(token: u32, message: u32, size: u32) => dequeue;
        "proxy_enqueue_shared_queue"(token: u32, message: u32, size: u32) => enqueue;
        "proxy_set_tick_period_milliseconds"(period_ms: u32) => set_tick;
    );
    Ok(())
}

fn get(guest: &mut Guest<'_>, key: u32, key_size: u32, value_out: u32, size_out: u32, cas_out: u32) -> Hostcall {
    let key = guest.read(key, key_size)?;
    let (value, cas) = guest.state().services.shared.lock().get(&guest.state().vm_id, &key)?;
    guest.give(&value, value_out, size_out)?;
    guest.write_u32(cas_out, cas)
}

fn set(guest: &mut Guest<'_>, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32) -> Hostcall {
    let (key, value) = (guest.read(key, key_size)?, guest.read(value, value_size)?);
    Ok(guest.state().services.shared.lock().set(&guest.state().vm_id, &key, value, cas)?)
}

fn register(guest: &mut Guest<'_>, name: u32, size: u32, token_out: u32) -> Hostcall {
    let name = guest.read(name, size)?;
    let token = guest.state().services.shared.lock().register(&guest.state().vm_id, &name);
    let root = guest.state().root_id();
    guest.state_mut().queues.push((token, root));
    guest.write_u32(token_out, token)
}

fn resolve(guest: &mut Guest<'_>, vm_id: u32, vm_id_size: u32, name: u32, size: u32, token_out: u32) -> Hostcall {
    let (vm_id, name) = (guest.text(vm_id, vm_id_size)?, guest.read(name, size)?);
    let token = guest.state().services.shared.lock().resolve(&vm_id, &name).ok_or(Status::NotFound)?;
    guest.write_u32(token_out, token)
}

fn dequeue(guest: &mut Guest<'_>, token: u32, message_out: u32, size_out: u32) -> Hostcall {
    let message = guest.state().services.shared.lock().dequeue(token)?;
    guest.give(&message, message_out, size_out)
}

fn enqueue(guest: &mut Guest<'_>, token: u32, message: u32, size: u32) -> Hostcall {
    let message = guest.read(message, size)?;
    guest.state().services.shared.lock().enqueue(token, message)?;
    guest.state_mut().actions.push(Action::Enqueued(token));
    Ok(())
}

/// 0 ends it; the first tick comes after one period.
fn set_tick(guest: &mut Guest<'_>, period_ms: u32) -> Hostcall {
    let (root, now_ns) = (guest.state().root_id(), guest.state().services.clock.monotonic_ns());
    let period_ns = u64::from(period_ms) * 1_000_000;
    let tick = (period_ns > 0).then_some(Tick { period_ns, due_ns: now_ns + period_ns });
    if guest.state().root(root).is_some() {
        guest.state_mut().root_mut(root).tick = tick;
    }
    Ok(())
}
