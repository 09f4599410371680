//! What the workers of one gateway have in common: shared data, shared queues, and the values behind metrics.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::abi::Status;

/// Handed from the gateway to its workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Common>>);

#[derive(Debug, Default)]
pub(super) struct Common {
    /// By VM id and key: what is there, and the number of the write that put it there.
    data: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    last_write: u32,
    /// By token less one.
    queues: Vec<Queue>,
    pub(super) metrics: BTreeMap<String, Metric>,
}

#[derive(Debug)]
struct Queue {
    vm_id: String,
    name: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
}

/// The value behind a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metric {
    /// A sum.
    Counter(u64),
    /// The last value.
    Gauge(u64),
    /// All values.
    Histogram(Vec<u64>),
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Common> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Common {
    pub(super) fn get(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.data.get(&(vm_id.to_owned(), key.to_vec())).cloned().ok_or(Status::NotFound)
    }

    /// 0 writes whatever was there; so does any number where nothing was.
    pub(super) fn set(&mut self, vm_id: &str, key: &[u8], value: Vec<u8>, cas: u32) -> Result<(), Status> {
        let place = (vm_id.to_owned(), key.to_vec());
        if cas != 0 && self.data.get(&place).is_some_and(|(_, written)| *written != cas) {
            return Err(Status::CasMismatch);
        }
        self.last_write += 1;
        self.data.insert(place, (value, self.last_write));
        Ok(())
    }

    pub(super) fn register(&mut self, vm_id: &str, name: &[u8]) -> u32 {
        self.resolve(vm_id, name).unwrap_or_else(|| {
            self.queues.push(Queue { vm_id: vm_id.to_owned(), name: name.to_vec(), messages: VecDeque::new() });
            self.queues.len() as u32
        })
    }

    pub(super) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let index = self.queues.iter().position(|queue| queue.vm_id == vm_id && queue.name == name)?;
        Some(index as u32 + 1)
    }

    pub(super) fn enqueue(&mut self, token: u32, message: Vec<u8>) -> Result<(), Status> {
        self.queue(token)?.messages.push_back(message);
        Ok(())
    }

    pub(super) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queue(token)?.messages.pop_front().ok_or(Status::Empty)
    }

    fn queue(&mut self, token: u32) -> Result<&mut Queue, Status> {
        let index = token.checked_sub(1).ok_or(Status::NotFound)?;
        self.queues.get_mut(index as usize).ok_or(Status::NotFound)
    }
}

// === impl Metric ===

impl Metric {
    /// By the number that a guest gives for its kind.
    pub(super) fn new(kind: u32) -> Result<Metric, Status> {
        match kind {
            0 => Ok(Metric::Counter(0)),
            1 => Ok(Metric::Gauge(0)),
            2 => Ok(Metric::Histogram(Vec::new())),
            _ => Err(Status::BadArgument),
        }
    }

    pub(super) fn increment(&mut self, delta: i64) -> Result<(), Status> {
        match self {
            Metric::Counter(value) if delta > 0 => *value = value.wrapping_add_signed(delta),
            Metric::Gauge(value) => *value = value.wrapping_add_signed(delta),
            Metric::Counter(_) | Metric::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    pub(super) fn record(&mut self, value: u64) {
        match self {
            Metric::Counter(sum) => *sum = sum.wrapping_add(value),
            Metric::Gauge(last) => *last = value,
            Metric::Histogram(values) => values.push(value),
        }
    }

    pub(super) fn value(&self) -> Result<u64, Status> {
        match self {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_data_is_written_by_whoever_saw_it_last() {
        let mut common = Common::default();
        assert_eq!(common.get("vm", b"k"), Err(Status::NotFound));
        common.set("vm", b"k", b"1".to_vec(), 77).unwrap();
        let (value, cas) = common.get("vm", b"k").unwrap();
        assert_eq!(value, b"1");
        common.set("vm", b"k", b"2".to_vec(), cas).unwrap();
        assert_eq!(common.set("vm", b"k", b"3".to_vec(), cas), Err(Status::CasMismatch));
        common.set("vm", b"k", b"4".to_vec(), 0).unwrap();
        assert_eq!(common.get("vm", b"k").unwrap().0, b"4");
        assert_eq!(common.get("other", b"k"), Err(Status::NotFound));
    }

    #[test]
    fn queues_keep_their_order_and_are_known_by_name() {
        let mut common = Common::default();
        let token = common.register("vm", b"q");
        assert_eq!(
            (common.register("vm", b"q"), common.resolve("vm", b"q"), common.resolve("vm", b"p")),
            (token, Some(token), None)
        );
        common.enqueue(token, b"1".to_vec()).unwrap();
        common.enqueue(token, b"2".to_vec()).unwrap();
        assert_eq!((common.dequeue(token).unwrap(), common.dequeue(token).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        assert_eq!((common.dequeue(token), common.dequeue(99)), (Err(Status::Empty), Err(Status::NotFound)));
    }

    #[test]
    fn metrics_do_what_their_kind_allows() {
        let (mut counter, mut gauge, mut histogram) =
            (Metric::new(0).unwrap(), Metric::new(1).unwrap(), Metric::new(2).unwrap());
        assert_eq!(counter.increment(0), Err(Status::BadArgument));
        assert_eq!(histogram.increment(1), Err(Status::BadArgument));
        counter.increment(2).unwrap();
        counter.record(3);
        gauge.increment(5).unwrap();
        gauge.increment(-2).unwrap();
        histogram.record(9);
        assert_eq!((counter.value(), gauge.value(), histogram.value()), (Ok(5), Ok(3), Err(Status::BadArgument)));
    }
}
