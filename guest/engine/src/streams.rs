//! Streams that wait for a filter's decision, or of which filters want to see more, one state each.

use alloc::{boxed::Box, vec::Vec};
use core::num::NonZeroU64;

use crate::{
    body::{BodyChange, Interest},
    memory_budget::MemoryBudget,
    numbers::ByNumber,
    verdict::{Edits, HeaderEdit, Pass},
    wants::Wants,
};

/// What a stream that waits takes, with the answer that it may get, beside a body that all refusals share and what it
/// carries, in bytes.
pub(crate) const WAITER_BYTES: usize = 512;

/// Of so many streams a filter without a budget of its own follows the responses.
pub(crate) const FOLLOWED_STREAMS_MAX: usize = 16_384;

/// A stream at a filter, and what tells it from the same stream at the next one, and from a later one of the same id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) stream: u64,
    ticket: NonZeroU64,
    /// When it came to the filter.
    pub(crate) since_ns: u64,
}

/// What is remembered of a stream whose request waits.
#[derive(Debug, Default)]
pub(crate) struct WaitingStream {
    /// The place in the chain of the filter that it waits for.
    pub(crate) filter: usize,
    /// What the filters before have done to it.
    pub(crate) edits: Edits,
    /// Those of them that want to see more of it.
    pub(crate) followers: Vec<Follower>,
}

/// The same as it is kept. Most streams wait as they came.
#[derive(Debug)]
pub(crate) struct WaitingPlace {
    ticket: NonZeroU64,
    pub(crate) filter: usize,
    /// None: no filter before has changed it, or wants to see more of it.
    pub(crate) changed: Option<Box<WaitingStream>>,
}

/// A filter that wants to see more of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follower {
    /// Its place in the chain.
    pub(crate) filter: usize,
    pub(crate) wants: Wants,
    /// The stream waits for it.
    pub(crate) waits: Option<Waiter>,
    /// It has ended the response's body.
    pub(crate) has_ended: bool,
}

/// A stream of which filters want to see more.
#[derive(Debug)]
pub(crate) struct FollowedStream {
    /// By their places, rising.
    pub(crate) followers: Vec<Follower>,
    /// How far it has come.
    pub(crate) phase: StreamPhase,
    /// What filters have made of it since it last went on, if that is anything.
    change: Option<Box<StreamChange>>,
}

/// What filters have made of a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamChange {
    pub(crate) edits: Edits,
    pub(crate) body: BodyChange,
    /// The fields that were added to its response's headers while a filter waited, beside what is there. Who replaces
    /// all fields of a name that it saw leaves those alone which it could not see.
    pub(crate) added: Vec<HeaderEdit>,
}

/// How far a followed stream has come: what the last hook was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StreamPhase {
    RequestBody,
    ResponseHeaders,
    ResponseBody,
}

/// Streams by the adapter's names for them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    waiting: ByNumber<WaitingPlace>,
    followed: ByNumber<Box<FollowedStream>>,
    tickets: u64,
    /// The greatest name that a stream had.
    greatest: u64,
}

// === impl Waiter ===

impl Waiter {
    /// One that nothing waits for.
    pub(crate) fn nobody() -> Waiter {
        Waiter { stream: 0, ticket: NonZeroU64::MAX, since_ns: 0 }
    }

    /// Whether both are of one arrival.
    #[inline]
    pub(crate) fn is(&self, other: &Waiter) -> bool {
        self.ticket == other.ticket
    }
}

// === impl Streams ===

impl Streams {
    /// A new stream has this name. Whether another one may have had it: adapters name streams by numbers that rise.
    #[inline]
    pub(crate) fn may_know(&mut self, stream: u64) -> bool {
        let may_know = stream <= self.greatest;
        self.greatest = self.greatest.max(stream);
        may_know
    }

    /// A stream comes to a filter.
    #[inline]
    pub(crate) fn arrive(&mut self, stream: u64, now_ns: u64) -> Waiter {
        self.tickets += 1;
        Waiter { stream, ticket: NonZeroU64::new(self.tickets).unwrap_or(NonZeroU64::MAX), since_ns: now_ns }
    }

    /// Its request waits there. What it carries takes room.
    #[inline]
    pub(crate) fn wait(&mut self, waiter: Waiter, waiting: WaitingStream, budget: &mut MemoryBudget) {
        let filter = waiting.filter;
        let changed = if waiting.is_as_it_came() {
            waiting.edits.let_go();
            None
        } else {
            budget.take(waiting.edits.size());
            Some(Box::new(waiting))
        };
        self.waiting.insert(waiter.stream, WaitingPlace { ticket: waiter.ticket, filter, changed });
    }

    /// Whether a stream still waits where it did.
    #[inline]
    pub(crate) fn waits(&self, waiter: &Waiter) -> bool {
        self.request_waits(waiter) || self.followed.get(waiter.stream).is_some_and(|each| each.place(waiter).is_some())
    }

    #[inline]
    fn request_waits(&self, waiter: &Waiter) -> bool {
        self.waiting.get(waiter.stream).is_some_and(|waiting| waiting.ticket == waiter.ticket)
    }

    /// A stream's request waits no longer, if it did so still.
    #[inline]
    pub(crate) fn leave(&mut self, waiter: &Waiter, budget: &mut MemoryBudget) -> Option<WaitingPlace> {
        if self.request_waits(waiter) { self.forget(waiter.stream, budget) } else { None }
    }

    /// Whatever request waits under this name does so no longer.
    #[inline]
    pub(crate) fn forget(&mut self, stream: u64, budget: &mut MemoryBudget) -> Option<WaitingPlace> {
        let place = self.waiting.remove(stream)?;
        if let Some(waiting) = &place.changed {
            budget.free(waiting.edits.size());
        }
        Some(place)
    }

    /// These filters want to see more of a stream that goes on.
    pub(crate) fn follow(&mut self, stream: u64, followers: Vec<Follower>) {
        let followed = FollowedStream { followers, phase: StreamPhase::RequestBody, change: None };
        self.followed.insert(stream, Box::new(followed));
    }

    #[inline]
    pub(crate) fn followed(&mut self, stream: u64) -> Option<&mut FollowedStream> {
        self.followed.get_mut(stream).map(|followed| &mut **followed)
    }

    /// Whether anything is known of a stream.
    pub(crate) fn knows(&self, stream: u64) -> bool {
        self.waiting.contains(stream) || self.followed.contains(stream)
    }

    /// Nobody follows a stream any more.
    pub(crate) fn unfollow(&mut self, stream: u64) -> Option<Vec<Follower>> {
        self.followed.remove(stream).map(|followed| followed.followers)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.followed.len()
    }
}

// === impl WaitingStream ===

impl From<WaitingPlace> for WaitingStream {
    fn from(place: WaitingPlace) -> Self {
        let WaitingPlace { filter, changed, .. } = place;
        changed.map_or_else(|| WaitingStream { filter, ..WaitingStream::default() }, |waiting| *waiting)
    }
}

impl WaitingStream {
    /// Whether no filter before has changed it, or wants to see more of it.
    #[inline]
    pub(crate) fn is_as_it_came(&self) -> bool {
        self.edits.is_empty() && self.followers.is_empty()
    }

    /// The filter at this place lets it go on.
    #[inline]
    pub(crate) fn pass(&mut self, filter: usize, pass: Pass) {
        self.edits.add(pass.edits);
        if !pass.wants.is_nothing() {
            if self.followers.is_empty() {
                // Most streams have one, for as long as they go on.
                self.followers.reserve_exact(1);
            }
            self.followers.push(Follower { filter, wants: pass.wants, waits: None, has_ended: false });
        }
    }
}

// === impl FollowedStream ===

impl FollowedStream {
    /// Which of its followers it waits for so.
    #[inline]
    pub(crate) fn place(&self, waiter: &Waiter) -> Option<usize> {
        let waits = |follower: &Follower| follower.waits.is_some_and(|each| each.is(waiter));
        self.followers.iter().position(waits)
    }

    /// What its followers want together.
    #[inline]
    pub(crate) fn wants(&self) -> Wants {
        wants(&self.followers)
    }

    /// How it goes on, unless it waits.
    pub(crate) fn go_on(&mut self) -> Option<Pass> {
        if self.followers.iter().any(|follower| follower.waits.is_some()) {
            return None;
        }
        let StreamChange { mut edits, body, added } = self.take_change();
        edits.response.extend(added);
        Some(Pass { edits, body, wants: self.wants() })
    }

    /// What filters have made of it so far, if that is anything.
    #[inline]
    pub(crate) fn change(&mut self) -> Option<&mut StreamChange> {
        self.change.as_deref_mut()
    }

    /// The same, for something to be added to it.
    pub(crate) fn changed(&mut self) -> &mut StreamChange {
        self.change.get_or_insert_default()
    }

    /// What filters have made of it so far, which goes on now or is dropped.
    #[inline]
    pub(crate) fn take_change(&mut self) -> StreamChange {
        self.change.take().map(|change| *change).unwrap_or_default()
    }
}

/// What these want together.
#[inline]
pub(crate) fn wants(followers: &[Follower]) -> Wants {
    followers.iter().fold(Wants::default(), |wants, follower| wants.and(follower.wants))
}

// === impl StreamPhase ===

impl StreamPhase {
    /// What is wanted of the body that the phase is about.
    pub(crate) fn interest(self, wants: &mut Wants) -> &mut Interest {
        match self {
            StreamPhase::RequestBody => &mut wants.request_body,
            StreamPhase::ResponseHeaders | StreamPhase::ResponseBody => &mut wants.response_body,
        }
    }
}
