//! Requests for the same response, which wait together.

use alloc::{rc::Rc, vec::Vec};

use slidegate_cache::{CacheKey, StoredResponse, ValueHead};

use super::request::CacheableRequest;
use crate::streams::{WAITER_BYTES, Waiter};

/// What Redis said is good for so long. A response that is asked for within this after something was voided counts as
/// one from before, so that what was read then and is stored anew is void, too.
pub(super) const KNOWN_NS: u64 = 1_000_000_000;

/// A field of a stored response beside its name and its value, in bytes.
const FIELD_BYTES: usize = 64;

/// A request that waits for a stored response.
#[derive(Debug, Clone)]
pub(super) struct CacheAsker {
    pub(super) waiter: Waiter,
    pub(super) request: Rc<CacheableRequest>,
}

/// Those who ask for a key, and how far that is.
#[derive(Debug)]
pub(super) struct CacheFlight {
    pub(super) key: CacheKey,
    pub(super) stage: FlightStage,
    /// In the order they came.
    pub(super) askers: Vec<CacheAsker>,
    /// Those whose upstream failed, and who have what is stored in its place.
    pub(super) failed: Vec<Waiter>,
    /// What is stored, if it cannot be used as it is, and there was room to keep it.
    pub(super) stored: Option<Rc<StoredResponse>>,
    /// When Redis said that.
    pub(super) read_ns: u64,
    /// What is stored begins so, whatever it is, as Redis said last.
    pub(super) head: ValueHead,
    /// Its lock is ours, and Redis is asked once more before anybody goes.
    pub(super) holds_lock: bool,
}

/// How far a flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlightStage {
    /// Redis is asked what is stored.
    Reading,
    /// Redis is asked whether it is void.
    Checking,
    /// Redis is asked whether it may be fetched here.
    Locking,
    /// Somebody else fetches it; Redis is asked again then.
    Waiting { again_ns: u64 },
    /// One of those who asked fetches it.
    Fetching,
}

impl CacheAsker {
    /// What it takes, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        WAITER_BYTES + self.request.bytes
    }
}

impl CacheFlight {
    /// One that begins.
    #[inline]
    pub(super) fn new(key: CacheKey) -> CacheFlight {
        CacheFlight {
            key,
            stage: FlightStage::Reading,
            askers: Vec::new(),
            failed: Vec::new(),
            stored: None,
            read_ns: 0,
            head: ValueHead::default(),
            holds_lock: false,
        }
    }

    /// What is stored, as long as that is known well enough: what was voided since then may be used by those who ask a
    /// moment later, and by none after that, nor be stored again.
    pub(super) fn known(&self, now_ns: u64) -> Option<Rc<StoredResponse>> {
        self.stored.clone().filter(|_| self.is_known(now_ns))
    }

    /// Whether Redis said a moment ago what is stored.
    pub(super) fn is_known(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.read_ns) <= KNOWN_NS
    }

    /// Whether it is known what is stored, or that nothing is, and not only that there was no room for it.
    pub(super) fn tells(&self, now_ns: u64) -> bool {
        self.is_known(now_ns) && (self.stored.is_some() || self.head == ValueHead::default())
    }

    /// Whether somebody knows already that the response has to be fetched.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self.stage, FlightStage::Locking | FlightStage::Waiting { .. } | FlightStage::Fetching)
    }

    /// When something has to be done for it, at the latest: none waits for longer than this for another.
    pub(super) fn due_ns(&self, timeout_ns: u64) -> Option<u64> {
        let first = self.askers.iter().map(|asker| asker.waiter.since_ns.saturating_add(timeout_ns)).min();
        match self.stage {
            FlightStage::Waiting { again_ns } => Some(first.map_or(again_ns, |first| first.min(again_ns))),
            FlightStage::Fetching => first,
            FlightStage::Reading | FlightStage::Checking | FlightStage::Locking => None,
        }
    }
}

/// What a stored response takes that is kept, roughly, in bytes.
pub(super) fn kept_bytes(stored: &StoredResponse) -> usize {
    stored.body.len() + stored.headers.size() + stored.headers.0.len() * FIELD_BYTES
}
