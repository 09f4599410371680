//! From a request to what is stored for it, or to who fetches it.

use alloc::{boxed::Box, rc::Rc, string::String, vec::Vec};
use core::mem;

use slidegate_cache::{
    CacheKey, CacheStatus, CachedValue, Forwarding, StoredResponse, UnreadableValue, ValueHead, value_head, vary_values,
};

use super::{
    CacheFilter, CacheTurn, Going, WAITING_MAX, answer,
    flight::{CacheAsker, CacheFlight, FlightStage, kept_bytes},
    now_ms,
    question::{AHEAD_MS, CacheAnswer, CacheQuestion},
    request::CacheableRequest,
    standing::CacheStanding,
};
use crate::{
    cache::scripts::OTHER_TYPE,
    store::{Ended, failure::FailureCause},
    streams::{WAITER_BYTES, Waiter},
    telemetry::{CacheTally, Saved},
    turn::NotedVerdict,
};

/// Redis is asked again so long after it said that somebody else fetches a response.
const AGAIN_NS: u64 = 50_000_000;

impl CacheFilter {
    /// Looks for what is stored for a request. None: it waits.
    #[inline]
    pub(super) fn look_up(&mut self, asker: CacheAsker, turn: &mut CacheTurn<'_>) -> Option<NotedVerdict> {
        let Some(key) = self.place(&asker.request) else {
            return Some(self.go_alone(&asker, None, Forwarding::Bypass, false, turn));
        };
        let bytes = asker.bytes();
        if self.waiting + bytes > WAITING_MAX || !turn.budget.fits(bytes) {
            turn.telemetry.overloaded(self.rules.redis, turn.now_ns);
            return Some(self.go_alone(&asker, None, Forwarding::Bypass, false, turn));
        }
        if let Some(id) = self.by_key.get(key.digest()).copied()
            && let Some(flight) = self.flights.get(&id)
        {
            if !flight.is_fetched() || flight.is_known(turn.now_ns) {
                return self.join(id, asker, turn);
            }
            // It may be void by now: whoever comes now asks Redis again, and waits for the lock of that one's fetch.
            self.unlist(id);
        }
        let Some(flight) = self.begin(key, turn) else {
            return Some(self.go_alone(&asker, None, Forwarding::Bypass, false, turn));
        };
        flight.askers.push(asker);
        self.take_waiting(turn, bytes);
        None
    }

    /// Where what is stored for a request is looked for, as far as it is known by what that varies. None: nowhere.
    #[inline]
    fn place(&self, request: &CacheableRequest) -> Option<CacheKey> {
        let resource = &request.key;
        let Some(names) = self.variants.names(resource.digest()) else { return Some(resource.clone()) };
        vary_values(names, &request.headers).ok().map(|values| resource.variant(&values))
    }

    /// An upstream failed: Redis is asked what is stored, be it once more, as that may be void by now, or have come
    /// since. False: it cannot be asked.
    pub(super) fn look_up_failed(
        &mut self,
        waiter: Waiter,
        request: &CacheableRequest,
        turn: &mut CacheTurn<'_>,
    ) -> bool {
        let has_room = self.waiting + WAITER_BYTES <= WAITING_MAX && turn.budget.fits(WAITER_BYTES);
        let Some(key) = self.place(request).filter(|_| has_room) else { return false };
        let known = self.by_key.get(key.digest()).copied();
        let is_asked = |id: &u64| self.flights.get(id).is_some_and(|flight| !flight.is_fetched());
        let flight = match known.filter(is_asked) {
            Some(id) => self.flights.get_mut(&id).map(|flight| &mut **flight),
            None => self.begin(key, turn),
        };
        let Some(flight) = flight else { return false };
        flight.failed.push(waiter);
        self.take_waiting(turn, WAITER_BYTES);
        true
    }

    /// A flight begins, which whoever comes now joins. None: Redis cannot be asked.
    #[inline]
    fn begin(&mut self, key: CacheKey, turn: &mut CacheTurn<'_>) -> Option<&mut CacheFlight> {
        self.last_flight += 1;
        let id = self.last_flight;
        if !self.ask(CacheQuestion::Read { flight: id, key: key.clone() }, turn) {
            return None;
        }
        self.by_key.insert(*key.digest(), id);
        self.flights.insert(id, Box::new(CacheFlight::new(key)));
        self.flights.get_mut(&id).map(|flight| &mut **flight)
    }

    /// Redis is asked what is stored for a flight, once more.
    fn read_again(&mut self, id: u64, turn: &mut CacheTurn<'_>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.stage = FlightStage::Reading;
        let question = CacheQuestion::Read { flight: id, key: flight.key.clone() };
        if !self.ask(question, turn) {
            self.disperse(id, false, turn);
        }
    }

    /// A request meets others that ask for the same. None: it waits.
    #[inline(never)]
    fn join(&mut self, id: u64, asker: CacheAsker, turn: &mut CacheTurn<'_>) -> Option<NotedVerdict> {
        let bytes = asker.bytes();
        let flight = self.flights.get(&id)?;
        if flight.is_fetched() {
            let stored = flight.stored.clone();
            match self.standing(&asker.request, stored.as_ref(), turn) {
                CacheStanding::Fetched { may_use_stored: false } if asker.request.is_ordinary() => {}
                standing => {
                    let settled = self.stand(&asker, stored, standing, turn);
                    if settled.is_none() {
                        self.take_waiting(turn, bytes);
                    }
                    return settled;
                }
            }
        }
        turn.telemetry.saved(self.rules.redis, Saved::Coalesced, 1);
        self.take_waiting(turn, bytes);
        let late_ns = asker.waiter.since_ns.saturating_add(self.lock_timeout_ns());
        let flight = self.flights.get_mut(&id)?;
        flight.askers.push(asker);
        if matches!(flight.stage, FlightStage::Waiting { .. } | FlightStage::Fetching) {
            self.wake_at(Some(late_ns));
        }
        None
    }

    /// A call is over.
    #[inline]
    pub(crate) fn on_ended(&mut self, ended: Ended<CacheQuestion>, turn: &mut CacheTurn<'_>) {
        let Ended { ask, result, .. } = ended;
        turn.budget.free(ask.bytes());
        if let CacheQuestion::Void { waiter: Some(waiter), .. } = &ask
            && turn.streams.waits(waiter)
        {
            turn.settled.push_back((*waiter, NotedVerdict::pass()));
        }
        if matches!(ask, CacheQuestion::Purges) {
            return self.purges_told(result.map(|answered| (answered.answer, answered.left_ns)), turn);
        }
        let ask = match ask {
            CacheQuestion::Try { trial, .. } => {
                // Where nobody can be asked, each instance tries for itself.
                let is_granted = !matches!(result.map(|answered| answered.answer), Ok(CacheAnswer::MayTry(false)));
                return self.may_try(*trial, is_granted, turn);
            }
            other => other,
        };
        let Some(id) = ask.flight() else { return };
        if self.flights.get(&id).is_none() {
            return self.nobody_waits(&ask, &result.map(|answered| answered.answer), turn);
        }
        let answer = result.map(|answered| answered.answer);
        if let (Ok(CacheAnswer::Found(_, head) | CacheAnswer::Missing(_, head)), Some(flight)) =
            (&answer, self.flights.get_mut(&id))
        {
            (flight.head, flight.read_ns) = (*head, turn.now_ns);
        }
        match answer {
            Ok(CacheAnswer::Found(CachedValue::Varies(names), _)) => {
                self.relieve(id, Some(None), turn);
                self.varies(id, names, turn);
            }
            Ok(CacheAnswer::Found(CachedValue::Passes, _)) => {
                self.relieve(id, Some(None), turn);
                self.disperse(id, true, turn);
            }
            Ok(CacheAnswer::Found(CachedValue::Response(stored), _)) => self.found(id, stored, turn),
            Ok(CacheAnswer::Missing(unreadable, _)) => {
                if let Some(unreadable) = unreadable {
                    self.tally(CacheTally::Unreadable(unreadable), turn);
                }
                self.sort(id, None, turn);
            }
            Ok(CacheAnswer::Locked(head)) => self.got_lock(id, head, turn),
            Ok(CacheAnswer::Taken) => self.locked(id, false, turn),
            Ok(CacheAnswer::Purged(_) | CacheAnswer::MayTry(_) | CacheAnswer::Done) => {}
            Err(_) => self.disperse(id, false, turn),
        }
    }

    /// That time has come: whoever has waited long enough goes, and Redis is asked again.
    #[inline(never)]
    pub(crate) fn on_due(&mut self, turn: &mut CacheTurn<'_>) {
        let timeout_ns = self.lock_timeout_ns();
        let due: Vec<u64> = self
            .flights
            .iter()
            .filter_map(|(id, flight)| Some((id, flight.due_ns(timeout_ns)?)))
            .filter(|(_, due_ns)| *due_ns <= turn.now_ns)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.wait_on(id, timeout_ns, turn);
        }
        self.due_ns = self.flights.iter().filter_map(|(_, flight)| flight.due_ns(timeout_ns)).min();
    }

    fn wait_on(&mut self, id: u64, timeout_ns: u64, turn: &mut CacheTurn<'_>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let is_late = |asker: &CacheAsker| asker.waiter.since_ns.saturating_add(timeout_ns) <= turn.now_ns;
        let (late, others): (Vec<_>, Vec<_>) = mem::take(&mut flight.askers).into_iter().partition(is_late);
        flight.askers = others;
        let (stored, stage) = (flight.known(turn.now_ns), flight.stage);
        if !late.is_empty() && stage == FlightStage::Fetching {
            // Whoever comes now asks Redis again: its lock has run out, or the response is there by another's fetch.
            self.unlist(id);
        }
        for asker in late {
            self.send_alone(&asker, stored.clone(), true, turn);
        }
        let FlightStage::Waiting { again_ns } = stage else { return };
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if flight.askers.is_empty() {
            return self.forget_flight(id, turn);
        }
        if again_ns <= turn.now_ns {
            self.read_again(id, turn);
        }
    }

    /// The responses of a resource vary, by these names: each who asks looks for its own.
    fn varies(&mut self, id: u64, names: Vec<String>, turn: &mut CacheTurn<'_>) {
        let Some(flight) = self.flights.get(&id) else { return };
        let Some(resource) = flight.askers.first().map(|asker| *asker.request.key.digest()) else {
            return self.forget_flight(id, turn);
        };
        if resource != *flight.key.digest() {
            // What stands in the place of a variant leads nowhere.
            return self.sort(id, None, turn);
        }
        self.variants.remember(resource, names);
        self.look_again(id, turn);
    }

    /// All who wait in a flight begin anew.
    fn look_again(&mut self, id: u64, turn: &mut CacheTurn<'_>) {
        for asker in self.land(id, turn) {
            self.look_up_again(asker, turn);
        }
    }

    /// A request that waited begins anew.
    pub(super) fn look_up_again(&mut self, asker: CacheAsker, turn: &mut CacheTurn<'_>) {
        self.free_waiting(turn, asker.bytes());
        let waiter = asker.waiter;
        if turn.streams.waits(&waiter)
            && let Some(settled) = self.look_up(asker, turn)
        {
            turn.settled.push_back((waiter, settled));
        }
    }

    /// A response is stored, unless it is void by one of its tags.
    #[inline]
    fn found(&mut self, id: u64, stored: StoredResponse, turn: &mut CacheTurn<'_>) {
        // A clock was ahead; no purge of now would reach it.
        if stored.requested_ms > now_ms(turn).saturating_add(AHEAD_MS) {
            return self.sort(id, None, turn);
        }
        if stored.tags.is_empty() {
            return self.sort(id, Some(Rc::new(stored)), turn);
        }
        let stored = Rc::new(stored);
        if self.purges.are_known(turn.now_ns) {
            return self.checked(id, stored, turn);
        }
        self.keep(id, Some(stored), turn);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.stage = FlightStage::Checking;
        }
        if !self.asks_purges {
            self.asks_purges = self.ask(CacheQuestion::Purges, turn);
        }
        if !self.asks_purges {
            self.disperse(id, false, turn);
        }
    }

    /// Redis has said what was purged, or not: whoever waits for that goes on.
    fn purges_told(&mut self, told: Result<(CacheAnswer, u64), FailureCause>, turn: &mut CacheTurn<'_>) {
        self.asks_purges = false;
        let is_known = matches!(told, Ok((CacheAnswer::Purged(_), _)));
        if let Ok((CacheAnswer::Purged(purged), left_ns)) = told {
            self.purges.learn(&purged, left_ns);
        }
        let is_checking = |flight: &CacheFlight| flight.stage == FlightStage::Checking;
        let waiting: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| is_checking(flight)).map(|(id, _)| *id).collect();
        for id in waiting {
            if !is_known {
                self.disperse(id, false, turn);
                continue;
            }
            match self.let_go(id, turn) {
                Some(stored) => self.checked(id, stored, turn),
                // There was no room for it; once it is read again, what was purged is known.
                None if self.purges.are_known(turn.now_ns) => self.read_again(id, turn),
                None => self.disperse(id, true, turn),
            }
        }
    }

    /// It is known what was purged.
    fn checked(&mut self, id: u64, stored: Rc<StoredResponse>, turn: &mut CacheTurn<'_>) {
        let is_void = self.purges.void(&stored.tags, stored.requested_ms);
        self.sort(id, Some(stored).filter(|_| !is_void), turn);
    }

    /// Keeps what is stored with a flight, as long as there is room for that. Else it is fetched as if nothing were,
    /// and should its upstream fail, it is read again.
    fn keep(&mut self, id: u64, stored: Option<Rc<StoredResponse>>, turn: &mut CacheTurn<'_>) {
        self.let_go(id, turn);
        let Some(stored) = stored.filter(|stored| self.fits_kept(turn, kept_bytes(stored))) else { return };
        self.take_followed(turn, kept_bytes(&stored));
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.stored = Some(stored);
        }
    }

    /// A flight keeps no longer what is stored. Returns that.
    fn let_go(&mut self, id: u64, turn: &mut CacheTurn<'_>) -> Option<Rc<StoredResponse>> {
        let stored = self.flights.get_mut(&id)?.stored.take()?;
        self.free_followed(turn, kept_bytes(&stored));
        Some(stored)
    }

    /// Settles those whom what is stored serves, and has the response fetched for the others.
    #[inline]
    fn sort(&mut self, id: u64, stored: Option<Rc<StoredResponse>>, turn: &mut CacheTurn<'_>) {
        if self.flights.get(&id).is_some_and(|flight| !flight.failed.is_empty()) {
            self.relieve(id, Some(stored.clone()), turn);
        }
        self.let_go(id, turn);
        let has_room = stored.as_deref().is_none_or(|stored| self.fits_kept(turn, kept_bytes(stored)));
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let mut waiting = Vec::new();
        let (mut stored, mut askers) = (stored, mem::take(&mut flight.askers).into_iter());
        while let Some(asker) = askers.next() {
            if !turn.streams.waits(&asker.waiter) {
                self.free_waiting(turn, asker.bytes());
                continue;
            }
            match self.standing(&asker.request, stored.as_ref(), turn) {
                // What there is no room for is used now, or not at all.
                CacheStanding::Fetched { may_use_stored }
                    if asker.request.is_ordinary() && (has_room || !may_use_stored) =>
                {
                    waiting.push(asker);
                }
                standing => {
                    // Where nobody else needs it, the last one has it for itself.
                    let is_last = askers.as_slice().is_empty() && waiting.is_empty();
                    let stored = if is_last { stored.take() } else { stored.clone() };
                    if let Some(settled) = self.stand(&asker, stored, standing, turn) {
                        self.settle(&asker, settled, turn);
                    }
                }
            }
        }
        if waiting.is_empty() {
            return self.forget_flight(id, turn);
        }
        self.keep(id, stored, turn);
        if let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.holds_lock) {
            flight.askers = waiting;
            return self.locked(id, true, turn);
        }
        let (token, timeout_ms) = (self.token(id, turn), self.rules.lock_timeout_ms.max(1));
        let scripts = Rc::clone(&self.scripts);
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.askers = waiting;
        flight.stage = FlightStage::Locking;
        let key = flight.key.clone();
        if !self.ask(CacheQuestion::Lock { flight: id, scripts, key, token, timeout_ms }, turn) {
            self.disperse(id, false, turn);
        }
    }

    /// The lock is this flight's, where what is stored begins so: if that is what it read, it fetches. Else somebody
    /// has stored another response and ended his lock since.
    fn got_lock(&mut self, id: u64, head: ValueHead, turn: &mut CacheTurn<'_>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let is_other_type = flight.head == ValueHead::default() && head == value_head(OTHER_TYPE);
        if head != flight.head && !is_other_type {
            flight.holds_lock = true;
            return self.read_again(id, turn);
        }
        if is_other_type {
            self.tally(CacheTally::Unreadable(UnreadableValue::OtherType), turn);
        }
        self.locked(id, true, turn);
    }

    /// It is known who fetches the response: this flight, or somebody else.
    fn locked(&mut self, id: u64, is_ours: bool, turn: &mut CacheTurn<'_>) {
        if is_ours {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.holds_lock = false;
            }
            self.leader_left(id, turn);
        }
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if !is_ours {
            flight.stage = FlightStage::Waiting { again_ns: turn.now_ns.saturating_add(AGAIN_NS) };
        }
        let stored = flight.known(turn.now_ns);
        // Whoever may use what is stored does not wait.
        for asker in mem::take(&mut flight.askers) {
            match self.standing(&asker.request, stored.as_ref(), turn) {
                CacheStanding::Fetched { may_use_stored: false } => {
                    if let Some(flight) = self.flights.get_mut(&id) {
                        flight.askers.push(asker);
                    }
                }
                standing => {
                    if let Some(settled) = self.stand(&asker, stored.clone(), standing, turn) {
                        self.settle(&asker, settled, turn);
                    }
                }
            }
        }
        let Some(flight) = self.flights.get(&id) else { return };
        if flight.askers.is_empty() && !matches!(flight.stage, FlightStage::Fetching) {
            return self.forget_flight(id, turn);
        }
        let due_ns = flight.due_ns(self.lock_timeout_ns());
        self.wake_at(due_ns);
    }

    /// Nobody fetches for a flight whose lock is ours: the next one does. Where there is none, the lock ends.
    pub(super) fn leader_left(&mut self, id: u64, turn: &mut CacheTurn<'_>) {
        loop {
            let Some(flight) = self.flights.get_mut(&id) else { return };
            if flight.askers.is_empty() {
                let lock = flight.key.lock();
                self.forget_flight(id, turn);
                return self.release(id, lock, None, turn);
            }
            let asker = flight.askers.remove(0);
            if !turn.streams.waits(&asker.waiter) {
                self.free_waiting(turn, asker.bytes());
                continue;
            }
            flight.stage = FlightStage::Fetching;
            let (key, stored, is_known) = (flight.key.clone(), flight.known(turn.now_ns), flight.tells(turn.now_ns));
            let forwarding = if stored.is_some() { Forwarding::Stale } else { Forwarding::Miss };
            let going = Going { key, flight: Some(id), stored, is_known, may_store: true, forwarding };
            let settled = self.go(&asker, going, turn);
            return self.settle(&asker, settled, turn);
        }
    }

    /// Ends a lock, and says at a key what stands there instead of a response.
    pub(super) fn release(
        &mut self,
        flight: u64,
        lock: String,
        instead: Option<(String, Vec<u8>, u64)>,
        turn: &mut CacheTurn<'_>,
    ) {
        let (scripts, token) = (Rc::clone(&self.scripts), self.token(flight, turn));
        self.ask(CacheQuestion::Release { scripts, lock, token, instead }, turn);
    }

    /// Nobody waits any more for what a call says. A lock that it brings is ended.
    fn nobody_waits(
        &mut self,
        ask: &CacheQuestion,
        result: &Result<CacheAnswer, FailureCause>,
        turn: &mut CacheTurn<'_>,
    ) {
        if let (CacheQuestion::Lock { flight, key, .. }, Ok(CacheAnswer::Locked(_))) = (ask, result) {
            self.release(*flight, key.lock(), None, turn);
        }
    }

    /// All who wait in a flight go to their upstreams, each alone.
    pub(super) fn disperse(&mut self, id: u64, may_store: bool, turn: &mut CacheTurn<'_>) {
        let stored = self.flights.get(&id).and_then(|flight| flight.known(turn.now_ns));
        for asker in self.land(id, turn) {
            self.send_alone(&asker, stored.clone(), may_store, turn);
        }
    }

    pub(super) fn send_alone(
        &mut self,
        asker: &CacheAsker,
        stored: Option<Rc<StoredResponse>>,
        may_store: bool,
        turn: &mut CacheTurn<'_>,
    ) {
        if turn.streams.waits(&asker.waiter) {
            let forwarding = if stored.is_some() { Forwarding::Stale } else { Forwarding::Miss };
            let settled = match asker.request.directives.only_if_cached {
                true => self.answered(answer::not_cached(&CacheStatus::forwarded(forwarding)), CacheTally::Miss, turn),
                false => {
                    // Where nothing is, it may only be that it was known for too long.
                    let (key, is_known) = (asker.request.key.clone(), stored.is_some());
                    self.go(asker, Going { key, flight: None, stored, is_known, may_store, forwarding }, turn)
                }
            };
            self.settle(asker, settled, turn);
        } else {
            self.free_waiting(turn, asker.bytes());
        }
    }

    /// A flight is over. Returns who waits in it.
    #[inline]
    pub(super) fn land(&mut self, id: u64, turn: &mut CacheTurn<'_>) -> Vec<CacheAsker> {
        self.relieve(id, None, turn);
        self.let_go(id, turn);
        self.unlist(id);
        let Some(flight) = self.flights.remove(&id) else { return Vec::new() };
        if flight.holds_lock {
            self.release(id, flight.key.lock(), None, turn);
        }
        flight.askers
    }

    /// Nobody joins a flight any more.
    #[inline]
    fn unlist(&mut self, id: u64) {
        if let Some(flight) = self.flights.get(&id)
            && self.by_key.get(flight.key.digest()) == Some(&id)
        {
            self.by_key.remove(flight.key.digest());
        }
    }

    #[inline]
    fn forget_flight(&mut self, id: u64, turn: &mut CacheTurn<'_>) {
        let askers = self.land(id, turn);
        debug_assert!(askers.is_empty());
    }

    pub(super) fn go_alone(
        &mut self,
        asker: &CacheAsker,
        stored: Option<Rc<StoredResponse>>,
        forwarding: Forwarding,
        may_store: bool,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        // Who goes by has asked nobody.
        let (key, is_known) = (asker.request.key.clone(), !matches!(forwarding, Forwarding::Bypass));
        self.go(asker, Going { key, flight: None, stored, is_known, may_store, forwarding }, turn)
    }
}
