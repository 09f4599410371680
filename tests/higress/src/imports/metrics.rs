//! Metrics: numbers that stand for names, each VM its own, over values that all workers share.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, Status},
    shared::Metric,
    vm::{Guest, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_define_metric"(kind: u32, name: u32, size: u32, id: u32) => define_metric;
        "proxy_increment_metric"(id: u32, delta: i64) => increment;
        "proxy_record_metric"(id: u32, value: u64) => record;
        "proxy_get_metric"(id: u32, value: u32) => get;
    );
    Ok(())
}

/// The kind is in the id's low bits; the same name twice is two ids of one value.
fn define_metric(guest: &mut Guest<'_>, kind: u32, name: u32, size: u32, id_out: u32) -> Hostcall {
    let metric = Metric::new(kind)?;
    let name = guest.text(name, size)?;
    guest.state().services.shared.lock().metrics.entry(name.clone()).or_insert(metric);
    let id = (guest.state().metrics.len() as u32 + 1) << 2 | kind;
    guest.state_mut().metrics.insert(id, name);
    guest.write_u32(id_out, id)
}

fn increment(guest: &mut Guest<'_>, id: u32, delta: i64) -> Hostcall {
    with(guest, id, |metric| metric.increment(delta))?.map_err(Into::into)
}

fn record(guest: &mut Guest<'_>, id: u32, value: u64) -> Hostcall {
    with(guest, id, |metric| metric.record(value))
}

fn get(guest: &mut Guest<'_>, id: u32, value_out: u32) -> Hostcall {
    let value = with(guest, id, |metric| metric.value())??;
    guest.write_u64(value_out, value)
}

fn with<R>(guest: &Guest<'_>, id: u32, use_metric: impl FnOnce(&mut Metric) -> R) -> Hostcall<R> {
    let name = guest.state().metrics.get(&id).ok_or(Status::NotFound)?;
    let mut common = guest.state().services.shared.lock();
    let metric = common.metrics.get_mut(name).ok_or(Status::NotFound)?;
    Ok(use_metric(metric))
}
