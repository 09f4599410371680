//! What a filter works with in one step.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use crate::{
    memory_budget::MemoryBudget,
    random_pool::RandomPool,
    store::{Permit, Services, failure::FailureCause},
    streams::{Streams, Waiter},
    telemetry::Telemetry,
    verdict::{Pass, Verdict},
};

/// What filters share, for one of them and the time of one step; and what that one asks in it.
///
/// `A` is what a filter of its kind asks, `M` what all of its kind remember together.
#[derive(Debug)]
pub(crate) struct Turn<'a, A, M> {
    /// Monotonic.
    pub(crate) now_ns: u64,
    /// Since 1970, as the host told it last; 0 for nobody knows.
    pub(crate) wall_ns: u64,
    pub(crate) memory: &'a mut M,
    pub(crate) streams: &'a Streams,
    pub(crate) services: &'a mut Services,
    pub(crate) budget: &'a mut MemoryBudget,
    pub(crate) telemetry: &'a mut Telemetry,
    pub(crate) random: &'a mut RandomPool,
    /// The streams that waited and are settled now, in order.
    pub(crate) settled: &'a mut VecDeque<(Waiter, NotedVerdict)>,
    /// The calls to make, in order: to which service, by which leave, and what to ask.
    pub(crate) asked: &'a mut Vec<(u32, Permit, A)>,
}

/// What a filter makes of a stream.
#[derive(Debug)]
pub(crate) struct NotedVerdict {
    pub(crate) verdict: Verdict,
    /// What a log of requests should say of it, names and values. Of several filters the last that has something to say
    /// is heard.
    pub(crate) note: Option<Vec<(&'static str, String)>>,
}

// === impl Turn ===

impl<A, M> Turn<'_, A, M> {
    /// Asks this of a service, unless that may not be asked now.
    pub(crate) fn ask(&mut self, service: u32, ask: A) -> Result<(), FailureCause> {
        let permit = self.services.permit(service, self.now_ns, self.telemetry)?;
        self.asked.push((service, permit, ask));
        Ok(())
    }
}

// === impl NotedVerdict ===

impl NotedVerdict {
    /// The stream goes on as it is, and nothing is said of it.
    pub(crate) fn pass() -> NotedVerdict {
        NotedVerdict { verdict: Verdict::Pass(Pass::default()), note: None }
    }
}
