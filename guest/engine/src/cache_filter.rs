//! The filter that keeps responses in Redis, for all gateways, and answers with them as RFC 9111 allows: what may be
//! stored and used is for `slidegate-cache` to say, here is when to ask for it, and who fetches it.
//!
//! A request asks Redis once, together with those that ask for the same meanwhile. What has to be fetched is fetched by
//! one of them, in any gateway: whoever gets the lock; the others wait for its answer, or ask again by and by, no
//! longer than `lock_timeout`. What turns out not to be storable is remembered in its place for a while, so that nobody
//! waits for it. Whatever fails, requests go on to their upstream.

mod answer;
mod explained;
mod fetched;
mod flight;
mod known;
mod lookup;
mod question;
mod request;
mod standing;
mod storing;
mod upstreams;

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};

use slidegate_cache::{
    CacheKey, CacheStatus, Forwarding, HeaderFields, Lifetime, StoredResponse, Uncacheable, VaryValues, is_safe,
    matches_request,
};

pub(crate) use self::{
    explained::{ExplainedCache, explained},
    question::{CacheAnswer, CacheQuestion},
};
use self::{
    flight::{CacheAsker, CacheFlight, kept_bytes},
    known::{KnownKeys, KnownVariants, Purges},
    request::CacheableRequest,
    upstreams::Upstreams,
};
use crate::{
    cache::{CacheRules, scripts::CacheScripts},
    request::RequestView,
    sorted::SortedMap,
    streams::Waiter,
    telemetry::CacheTally,
    turn::{self, NotedVerdict},
    verdict::{Edits, HeaderEdit, Pass, Response, Verdict},
    wants::{ResponseHead, StreamEnd, Wants},
};

/// What it works with in a step.
pub(crate) type CacheTurn<'a> = turn::Turn<'a, CacheQuestion, ()>;

/// What bodies that are copied take together, in bytes.
const COPIES_MAX: usize = 4 << 20;

/// What its requests that wait may take, and the streams that it follows, in bytes: other filters of a chain, whose
/// limits depend on it, have room beside that.
const WAITING_MAX: usize = 2 << 20;
const FOLLOWED_MAX: usize = 12 << 20;

/// Stored responses are kept beside requests as long as all that is followed takes less than this, in bytes: a page
/// takes as much as many streams, and whoever asks for many of them must leave room for these.
const KEPT_MAX: usize = 8 << 20;

/// A stream that is followed, beside its request and what is copied, in bytes.
const FOLLOWED_BYTES: usize = 512;

/// A configured filter, and everything in flight in it.
#[derive(Debug)]
pub(crate) struct CacheFilter {
    /// Its place among those of its kind.
    index: usize,
    rules: Rc<CacheRules>,
    scripts: Rc<CacheScripts>,
    flights: SortedMap<u64, Box<CacheFlight>>,
    /// The flights by the digests of their keys.
    by_key: SortedMap<[u8; 32], u64>,
    last_flight: u64,
    /// What is owed to streams whose responses have not come whole.
    followed: SortedMap<u64, Followed>,
    keys: KnownKeys,
    variants: KnownVariants,
    upstreams: Upstreams,
    purges: Purges,
    /// How many bytes of bodies are copied.
    copied: usize,
    /// What its requests that wait take, and the streams that it follows, in bytes.
    waiting: usize,
    followed_bytes: usize,
    /// Redis is asked what was purged.
    asks_purges: bool,
    /// When its first lock was taken, by both clocks: what tells its locks from those of others.
    begun_ns: Option<(u64, u64)>,
    /// Nothing is to be done before, if anything is.
    due_ns: Option<u64>,
}

/// Why a stream's response is looked at.
#[derive(Debug)]
enum Followed {
    /// It may be stored, or stands for what is.
    Fetch(Box<Fetch>),
    /// It may void what is stored.
    Unsafe { authority: Vec<u8>, path: Vec<u8> },
}

/// A request that has gone to its upstream.
#[derive(Debug)]
struct Fetch {
    request: Rc<CacheableRequest>,
    /// Where the response was looked for.
    key: CacheKey,
    /// Who waits for it.
    flight: Option<u64>,
    /// What may be used in its place.
    stored: Option<Rc<StoredResponse>>,
    /// The upstream was asked whether that is still good.
    is_validating: bool,
    /// Redis can be told.
    may_store: bool,
    forwarding: Forwarding,
    requested_ms: u64,
    /// It was known, a moment before it went, what is stored.
    is_known: bool,
    /// It failed so, and waits for what Redis says is stored now.
    failed: Option<UpstreamAnswer>,
    copy: Option<Box<BodyCopy>>,
    /// What is counted for it.
    bytes: usize,
}

/// What an upstream answered, or the gateway in its place, but for its body.
#[derive(Debug)]
struct UpstreamAnswer {
    head: ResponseHead,
    /// None: they are not the upstream's.
    headers: Option<HeaderFields>,
    /// What is stored may stand in its place.
    is_failure: bool,
}

/// A response that is copied as it passes.
#[derive(Debug)]
struct BodyCopy {
    status: u16,
    headers: HeaderFields,
    received_ms: u64,
    lifetime: Lifetime,
    vary: VaryValues,
    tags: Vec<Vec<u8>>,
    body: Vec<u8>,
    /// How many bytes it says the body has.
    length: Option<usize>,
}

/// How a request goes to its upstream.
#[derive(Debug)]
struct Going {
    key: CacheKey,
    flight: Option<u64>,
    stored: Option<Rc<StoredResponse>>,
    is_known: bool,
    may_store: bool,
    forwarding: Forwarding,
}

// === impl CacheFilter ===

impl CacheFilter {
    /// A filter that has this place among those of its kind.
    pub(crate) fn new(rules: Rc<CacheRules>, index: usize) -> Self {
        CacheFilter {
            index,
            rules,
            scripts: Rc::default(),
            flights: SortedMap::default(),
            by_key: SortedMap::default(),
            last_flight: 0,
            followed: SortedMap::default(),
            keys: KnownKeys::default(),
            variants: KnownVariants::default(),
            upstreams: Upstreams::default(),
            purges: Purges::default(),
            copied: 0,
            waiting: 0,
            followed_bytes: 0,
            asks_purges: false,
            begun_ns: None,
            due_ns: None,
        }
    }

    /// A request has come. None: it waits.
    #[inline]
    pub(crate) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &dyn RequestView,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        let method = request.header(":method");
        if method.as_deref().is_some_and(|method| !is_safe(method)) {
            return Some(self.follow_unsafe(waiter, request, turn));
        }
        // Without a clock nobody knows how old anything is.
        let method = method.filter(|_| turn.wall_ns > 0);
        let cacheable =
            method.and_then(|method| CacheableRequest::read(&self.rules, &mut self.keys, &method, request).ok());
        let Some(cacheable) = cacheable else {
            return Some(self.counted(Verdict::Pass(Pass::default()), CacheTally::Bypass, turn));
        };
        self.look_up(CacheAsker { waiter, request: Rc::new(cacheable) }, turn)
    }

    /// A stream is over. What was not seen to its end is not stored, and whoever waited for it does it anew.
    #[inline(never)]
    pub(crate) fn on_done(&mut self, stream: u64, _ending: StreamEnd, turn: &mut CacheTurn<'_>) {
        match self.followed.remove(&stream) {
            Some(Followed::Fetch(fetch)) => self.abandon(*fetch, turn),
            Some(Followed::Unsafe { path, .. }) => self.free_followed(turn, FOLLOWED_BYTES + path.len()),
            None => {}
        }
    }

    /// Nothing more comes. Whoever waits elsewhere for what is fetched here need not.
    #[inline(never)]
    pub(crate) fn on_retire(&mut self, turn: &mut CacheTurn<'_>) {
        for (_, followed) in self.followed.take() {
            if let Followed::Fetch(fetch) = followed {
                self.not_stored(*fetch, Uncacheable::Cut, turn);
            }
        }
    }

    /// When something is to be done for those who wait.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// A request that may change something: if it does, what is stored of its address is void.
    fn follow_unsafe(&mut self, waiter: Waiter, request: &dyn RequestView, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        let (authority, path) = (request.authority(), request.path());
        let has_room = self.fits_followed(turn, FOLLOWED_BYTES + path.len());
        let mut pass = Pass::default();
        if let Some(authority) = authority.filter(|_| has_room) {
            self.take_followed(turn, FOLLOWED_BYTES + path.len());
            self.followed.insert(waiter.stream, Followed::Unsafe { authority, path });
            pass.wants = Wants { response_headers: true, done: true, ..Wants::default() };
        }
        self.counted(Verdict::Pass(pass), CacheTally::Bypass, turn)
    }

    /// Lets a request go to its upstream, and follows it.
    fn go(&mut self, asker: &CacheAsker, mut going: Going, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        let tally = if going.may_store { CacheTally::Miss } else { CacheTally::Bypass };
        // Of another variant nothing is of use to it.
        let is_its =
            |stored: &Rc<StoredResponse>| matches_request(&stored.vary, &stored.headers, &asker.request.headers);
        going.stored = going.stored.filter(is_its);
        // A flight has counted what it keeps, and is there for as long as its fetch.
        let mut kept = going.stored.as_deref().filter(|_| going.flight.is_none()).map_or(0, kept_bytes);
        if kept > 0 && !self.fits_kept(turn, kept) {
            (going.stored, going.is_known, kept) = (None, false, 0);
        }
        let bytes = FOLLOWED_BYTES + asker.request.bytes + kept;
        let Going { key, flight, stored, is_known, may_store, forwarding } = going;
        if !self.fits_followed(turn, bytes) {
            if let Some(flight) = flight {
                self.release(flight, key.lock(), None, turn);
                self.disperse(flight, false, turn);
            }
            return self.counted(Verdict::Pass(Pass::default()), tally, turn);
        }
        self.take_followed(turn, bytes);
        let condition = stored
            .as_ref()
            .filter(|_| !asker.request.is_head)
            .and_then(|stored| slidegate_cache::condition(stored, &asker.request.headers));
        let is_validating = condition.is_some();
        let mut edits = Edits::default();
        if let Some((name, value)) = condition {
            edits.request.push(HeaderEdit::Set(name.into(), value));
            if name == "if-none-match" {
                // A server that goes by dates would judge what its client has.
                edits.request.push(HeaderEdit::Remove("if-modified-since".into()));
            }
        }
        let fetch = Fetch {
            request: Rc::clone(&asker.request),
            key,
            flight,
            stored,
            is_validating,
            may_store,
            forwarding,
            requested_ms: now_ms(turn),
            is_known,
            failed: None,
            copy: None,
            bytes,
        };
        self.followed.insert(asker.waiter.stream, Followed::Fetch(Box::new(fetch)));
        let wants = Wants { response_headers: true, done: true, ..Wants::default() };
        self.counted(Verdict::Pass(Pass { edits, wants, ..Pass::default() }), tally, turn)
    }

    /// Settles a request that waited.
    #[inline]
    fn settle(&mut self, asker: &CacheAsker, settled: NotedVerdict, turn: &mut CacheTurn<'_>) {
        self.free_waiting(turn, asker.bytes());
        turn.settled.push_back((asker.waiter, settled));
    }

    /// Answers a request that waited, if it has not left.
    fn settle_with(&mut self, asker: &CacheAsker, response: Response, tally: CacheTally, turn: &mut CacheTurn<'_>) {
        let settled = self.answered(response, tally, turn);
        match turn.streams.waits(&asker.waiter) {
            true => self.settle(asker, settled, turn),
            false => self.free_waiting(turn, asker.bytes()),
        }
    }

    /// Asks Redis, if it may be asked. Whoever waits for it has to be helped otherwise if not.
    #[inline]
    fn ask(&mut self, question: CacheQuestion, turn: &mut CacheTurn<'_>) -> bool {
        let bytes = question.bytes();
        if !turn.budget.fits(bytes) {
            turn.telemetry.overloaded(self.rules.redis, turn.now_ns);
            return false;
        }
        let is_asked = turn.ask(self.rules.redis, question).is_ok();
        if is_asked {
            turn.budget.take(bytes);
        }
        is_asked
    }

    #[inline]
    fn take_waiting(&mut self, turn: &mut CacheTurn<'_>, bytes: usize) {
        self.waiting += bytes;
        turn.budget.take(bytes);
    }

    #[inline]
    fn free_waiting(&mut self, turn: &mut CacheTurn<'_>, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(bytes);
        turn.budget.free(bytes);
    }

    fn fits_followed(&self, turn: &CacheTurn<'_>, bytes: usize) -> bool {
        self.followed_bytes + bytes <= FOLLOWED_MAX && turn.budget.fits_followed(bytes)
    }

    /// Whether a stored response of so many bytes may be kept beside requests.
    fn fits_kept(&self, turn: &CacheTurn<'_>, bytes: usize) -> bool {
        self.followed_bytes + bytes <= KEPT_MAX && turn.budget.fits_followed(bytes)
    }

    fn take_followed(&mut self, turn: &mut CacheTurn<'_>, bytes: usize) {
        self.followed_bytes += bytes;
        turn.budget.take_followed(bytes);
    }

    fn free_followed(&mut self, turn: &mut CacheTurn<'_>, bytes: usize) {
        self.followed_bytes = self.followed_bytes.saturating_sub(bytes);
        turn.budget.free_followed(bytes);
    }

    /// What the lock of a flight is held by.
    fn token(&mut self, flight: u64, turn: &CacheTurn<'_>) -> Rc<str> {
        let (wall_ns, now_ns) = *self.begun_ns.get_or_insert((turn.wall_ns, turn.now_ns));
        Rc::from(format!("{wall_ns:x}-{now_ns:x}-{flight:x}"))
    }

    /// What becomes of a request, counted and told to a log of requests by the same word.
    #[inline]
    fn counted(&self, verdict: Verdict, tally: CacheTally, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        self.tally(tally, turn);
        NotedVerdict { verdict, note: Some(Vec::from([("cache", String::from(tally.as_str()))])) }
    }

    /// An answer that a client gets from here.
    #[inline]
    fn answered(&self, response: Response, tally: CacheTally, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        self.counted(Verdict::Respond(response), tally, turn)
    }

    #[inline]
    fn tally(&self, tally: CacheTally, turn: &mut CacheTurn<'_>) {
        turn.telemetry.cached(self.index, tally);
    }

    /// What is to be done is due then at the latest.
    fn wake_at(&mut self, at_ns: Option<u64>) {
        self.due_ns = [self.due_ns, at_ns].into_iter().flatten().min();
    }

    fn lock_timeout_ns(&self) -> u64 {
        self.rules.lock_timeout_ms.saturating_mul(1_000_000)
    }

    /// How many requests wait, and for how many keys.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        self.flights.iter().map(|(_, flight)| flight.askers.len() + 1).sum::<usize>() + self.by_key.len()
    }

    /// What is stored and kept for those who wait, in bytes.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.flights.iter().filter_map(|(_, flight)| flight.stored.as_deref()).map(|stored| stored.body.len()).sum()
    }

    /// Of how many streams something is known.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.followed.len()
    }
}

fn noted(verdict: Verdict) -> NotedVerdict {
    NotedVerdict { verdict, note: None }
}

/// An answer that stands for what was stored.
#[inline]
fn hit(stored: Rc<StoredResponse>, request: &CacheableRequest, status: CacheStatus, now_ms: u64) -> Response {
    let details = if status.word() == "STALE" { "cache.stale" } else { "cache.hit" };
    answer::stored(stored, &request.headers, &status, now_ms, details)
}

/// The time in milliseconds since 1970.
#[inline]
fn now_ms(turn: &CacheTurn<'_>) -> u64 {
    turn.wall_ns / 1_000_000
}
