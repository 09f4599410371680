//! The filter that tells whose session a request is of: it removes what clients claim of themselves, and sets what the
//! application keeps of them, or has it keep.
//!
//! A request's session is what its cookie holds, or a record in Redis that the cookie leads to. What was read is gone
//! by for a moment, see [`RecentSessions`], and one call for a key is on its way at a time. Whatever fails, the headers
//! of fields are removed; who cannot be told is nobody.

mod answers;
mod explained;
mod own_sessions;
mod question;
mod recent;
mod writes;

use alloc::{boxed::Box, rc::Rc, vec, vec::Vec};

use hmac_sha256::Hash;

use self::{
    answers::{SessionAnswers, SessionOutcome},
    own_sessions::{KnownSession, OwnSessions, passing},
    question::{RecordQuestion, SessionAsker, SessionLookup, SessionTurn, unix_ms},
    recent::{KeyDigest, RecentSessions},
};
pub(crate) use self::{
    explained::{ExplainedSession, explained},
    question::{SessionAnswer, SessionQuestion},
};
use crate::{
    request::RequestView,
    session::{FoundSession, SESSION_SET, SessionLead, SessionMiss, SessionOrder, SessionRules, SessionSource},
    sorted::SortedMap,
    store::{Answered, Ended, call_bytes, failure::FailureCause},
    streams::{FOLLOWED_STREAMS_MAX, Waiter},
    telemetry::Saved,
    turn::NotedVerdict,
    verdict::Verdict,
    wants::{ResponseOrigin, ResponseView, Wants},
};

/// So many bytes of what sessions tell are given to those that waited, at one time: hosts get them all at once.
const GIVEN_MAX: usize = 4 << 20;

/// A configured filter, and everything in flight in it.
#[derive(Debug)]
pub(crate) struct SessionFilter {
    /// Its place among those of its kind.
    index: usize,
    rules: Rc<SessionRules>,
    lookup: Rc<SessionLookup>,
    answers: SessionAnswers,
    recent: RecentSessions,
    /// The calls that are on their way, by their numbers, and who waits for each.
    flights: SortedMap<u64, Box<SessionFlight>>,
    /// Those that others may join, and of which the answer is remembered.
    joinable: SortedMap<KeyDigest, u64>,
    last_flight: u64,
    /// The streams whose responses may end the session of their requests. Of more, the session is not remembered.
    followed: SortedMap<u64, Box<FollowedSession>>,
    /// How many bytes of what sessions tell those that waited were given, and when.
    given: (u64, usize),
    /// None: sessions are the application's.
    own: Option<Box<OwnSessions>>,
}

/// The session of a stream whose response has not come.
#[derive(Debug)]
enum FollowedSession {
    /// The application's.
    Foreign {
        key: KeyDigest,
        /// Its request changes nothing, by its method.
        is_safe: bool,
    },
    /// One of ours, if there is one.
    Own(Option<KnownSession>),
}

/// A call that is on its way.
#[derive(Debug)]
struct SessionFlight {
    key: KeyDigest,
    /// In the order they came.
    askers: Vec<SessionAsker>,
}

// === impl SessionFilter ===

impl SessionFilter {
    /// A filter that has this place among those of its kind.
    pub(crate) fn new(rules: Rc<SessionRules>, index: usize) -> Self {
        let lookup = Rc::new(SessionLookup::new(&rules.settings));
        SessionFilter {
            index,
            own: OwnSessions::new(&rules, &lookup, index).map(Box::new),
            lookup,
            answers: SessionAnswers::new(&rules),
            recent: RecentSessions::new(rules.remember_us),
            rules,
            flights: SortedMap::default(),
            joinable: SortedMap::default(),
            last_flight: 0,
            followed: SortedMap::default(),
            given: (0, 0),
        }
    }

    /// A request has come. None: it waits.
    #[inline(never)]
    pub(crate) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &dyn RequestView,
        turn: &mut SessionTurn<'_>,
    ) -> Option<NotedVerdict> {
        let (asker, lead) = self.answers.asker(waiter, request, &self.lookup, turn.wall_ns);
        let outcome = match lead {
            Ok(SessionLead::Key(key)) => return self.look_up(asker, key, turn),
            Ok(SessionLead::Content(session)) => SessionOutcome::of(&self.rules, Ok(session), turn.wall_ns),
            Err(miss) => SessionOutcome::Missed(miss),
        };
        Some(self.settle(&asker, None, &outcome, turn))
    }

    /// A response's headers have come. One that sets the cookie has begun or ended a session, and one to a request that
    /// may change something may have, without a word: what is known of the request's one is void. None: it waits, as a
    /// session of ours is being written.
    #[inline(never)]
    pub(crate) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &dyn ResponseView,
        turn: &mut SessionTurn<'_>,
    ) -> Option<NotedVerdict> {
        let followed = self.followed.remove(&waiter.stream).map(|followed| *followed);
        if self.own.is_some() {
            return self.on_own_response(waiter, followed, response, turn);
        }
        if let Some(FollowedSession::Foreign { key, is_safe }) = followed {
            let sets_it = |field: &Vec<u8>| match &self.rules.settings.source {
                SessionSource::Cookie(name) => {
                    field.split(|byte| *byte == b'=').next().is_some_and(|set| set.trim_ascii() == name.as_bytes())
                }
                SessionSource::Header(_) => false,
            };
            if !is_safe || response.header_values("set-cookie").iter().any(sets_it) {
                self.forget(&key);
            }
        }
        Some(NotedVerdict::pass())
    }

    /// A stream is over.
    pub(crate) fn on_done(&mut self, stream: u64) {
        let followed = self.followed.remove(&stream).map(|followed| *followed);
        if let Some(FollowedSession::Foreign { key, is_safe: false }) = followed {
            self.forget(&key);
        }
    }

    /// What a response makes of a session of ours.
    fn on_own_response(
        &mut self,
        waiter: Waiter,
        followed: Option<FollowedSession>,
        response: &dyn ResponseView,
        turn: &mut SessionTurn<'_>,
    ) -> Option<NotedVerdict> {
        let order = match SessionOrder::read(&response.header_values(SESSION_SET)) {
            Ok(None) => return Some(NotedVerdict::pass()),
            // Nobody but the application sets sessions.
            _ if response.head().origin != ResponseOrigin::Upstream => return Some(passing(None, None)),
            Ok(Some(order)) => Ok(order),
            Err(error) => Err(error),
        };
        let own = self.own.as_mut()?;
        let Some(FollowedSession::Own(known)) = followed else {
            // Of which session it would be is not known.
            return Some(own.overloaded(&order, turn));
        };
        let (digest, is_order) = (known.as_ref().map(|known| Hash::hash(&known.key)), order.is_ok());
        let verdict = own.carry_out(waiter, known, digest, order, turn);
        if let Some(key) = digest.filter(|_| is_order) {
            self.forget(&key);
        }
        verdict
    }

    /// What is known of a session is void.
    fn forget(&mut self, key: &KeyDigest) {
        self.recent.forget(key);
        // What a call that is on its way brings may be as old.
        self.joinable.remove(key);
    }

    /// A call is over.
    #[inline(never)]
    pub(crate) fn on_ended(&mut self, ended: Ended<SessionQuestion>, turn: &mut SessionTurn<'_>) {
        let Ended { ask, result, .. } = ended;
        match ask {
            SessionQuestion::Record(ask) => {
                let result = result.and_then(|answered| answered.and_then(read).ok_or(FailureCause::BadReply));
                self.on_record(&ask, result, turn);
            }
            SessionQuestion::Write(ask) => {
                let written = result.and_then(|answered| match answered.answer {
                    SessionAnswer::Written(number) => Ok(number),
                    SessionAnswer::Record(_) => Err(FailureCause::BadReply),
                });
                let Some(carried_out) = self.own.as_mut().and_then(|own| own.on_ended(&ask, written, turn)) else {
                    return;
                };
                if let Some(key) = carried_out.digest {
                    // Somebody may have read it meanwhile.
                    self.forget(&key);
                }
                if turn.streams.waits(&carried_out.waiter) {
                    turn.settled.push_back((carried_out.waiter, carried_out.verdict));
                }
            }
        }
    }

    /// A call for a record is over.
    fn on_record(
        &mut self,
        ask: &RecordQuestion,
        result: Result<Answered<Result<FoundSession, SessionMiss>>, FailureCause>,
        turn: &mut SessionTurn<'_>,
    ) {
        let Some(flight) = self.flights.remove(&ask.flight) else { return };
        let waited: usize = flight.askers.iter().map(|asker| self.answers.bytes(asker)).sum();
        turn.budget.free(call_bytes(ask.key.len()) + waited);
        let is_joinable = self.joinable.get(&flight.key) == Some(&ask.flight);
        if is_joinable {
            self.joinable.remove(&flight.key);
        }
        let outcome = match result {
            Ok(answered) => {
                let outcome = SessionOutcome::of(&self.rules, answered.answer, turn.wall_ns);
                // Who visits may log in at any time.
                if is_joinable && !matches!(outcome, SessionOutcome::Missed(SessionMiss::Anonymous)) {
                    let left_ms = match &outcome {
                        SessionOutcome::Found(session) => session.ends_ms.map(|ends| ends - unix_ms(turn.wall_ns)),
                        _ => None,
                    };
                    self.recent.remember(flight.key, &outcome, answered.left_ns, turn.now_ns, left_ms);
                }
                if let (Some(own), SessionOutcome::Found(session)) = (&self.own, &outcome)
                    && let Some(known) = own.known(ask.key.clone(), session)
                {
                    own.keep(&known, turn);
                }
                outcome
            }
            Err(cause) => SessionOutcome::Unavailable(cause),
        };
        let overloaded = SessionOutcome::Unavailable(FailureCause::Overloaded);
        for asker in flight.askers.iter().filter(|asker| turn.streams.waits(&asker.waiter)) {
            let is_given = self.gives(outcome.bytes(), turn.now_ns);
            if !is_given && let Some(service) = self.rules.redis {
                turn.telemetry.overloaded(service, turn.now_ns);
            }
            let outcome = if is_given { &outcome } else { &overloaded };
            let settled = self.settle(asker, Some(flight.key), outcome, turn);
            turn.settled.push_back((asker.waiter, settled));
        }
    }

    /// Whether one more that waited may be given so many bytes at this time.
    fn gives(&mut self, bytes: usize, now_ns: u64) -> bool {
        let given = if self.given.0 == now_ns { self.given.1 } else { 0 };
        let fits = given.saturating_add(bytes) <= GIVEN_MAX;
        self.given = (now_ns, given.saturating_add(if fits { bytes } else { 0 }));
        fits
    }

    /// A request whose session Redis has, unless it is known what Redis would say, or that it would not. None: it
    /// waits.
    fn look_up(&mut self, asker: SessionAsker, key: Vec<u8>, turn: &mut SessionTurn<'_>) -> Option<NotedVerdict> {
        let Some(service) = self.rules.redis else {
            return Some(self.settle(&asker, None, &SessionOutcome::Missed(SessionMiss::Unknown), turn));
        };
        let digest = Hash::hash(&key);
        if let Some(known) = self.recent.find(&digest, turn.now_ns) {
            turn.telemetry.saved(service, Saved::KnownSession, 1);
            return Some(self.settle(&asker, Some(digest), &known, turn));
        }
        let flight = self.joinable.get(&digest).and_then(|flight| self.flights.get_mut(flight));
        let waiter_bytes = self.answers.bytes(&asker);
        let bytes = if flight.is_some() { waiter_bytes } else { waiter_bytes + call_bytes(key.len()) };
        if !turn.budget.fits(bytes) {
            turn.telemetry.overloaded(service, turn.now_ns);
            return Some(self.settle(&asker, None, &SessionOutcome::Unavailable(FailureCause::Overloaded), turn));
        }
        if let Some(flight) = flight {
            turn.budget.take(bytes);
            flight.askers.push(asker);
            turn.telemetry.saved(service, Saved::Coalesced, 1);
            return None;
        }
        let permit = match turn.services.permit(service, turn.now_ns, turn.telemetry) {
            Ok(permit) => permit,
            Err(cause) => return Some(self.settle(&asker, None, &SessionOutcome::Unavailable(cause), turn)),
        };
        turn.budget.take(bytes);
        self.last_flight += 1;
        let flight = self.last_flight;
        self.flights.insert(flight, Box::new(SessionFlight { key: digest, askers: vec![asker] }));
        if self.rules.remember_us > 0 {
            self.joinable.insert(digest, flight);
        }
        let asked_ms = unix_ms(turn.wall_ns);
        let question = RecordQuestion { lookup: Rc::clone(&self.lookup), key, asked_ms, flight };
        turn.asked.push((service, permit, SessionQuestion::Record(question)));
        None
    }

    /// What becomes of a request whose session is known, or known not to be. `key`: that of its record.
    fn settle(
        &mut self,
        asker: &SessionAsker,
        key: Option<KeyDigest>,
        outcome: &SessionOutcome,
        turn: &mut SessionTurn<'_>,
    ) -> NotedVerdict {
        turn.telemetry.recognized(self.index, outcome.tally());
        let mut verdict = self.answers.verdict(outcome, asker);
        if let (Verdict::Pass(pass), Some(own)) = (&mut verdict, &self.own) {
            let known = match (outcome, &asker.own_key) {
                (SessionOutcome::Found(session), Some(key)) => own.known(key.clone(), session),
                (SessionOutcome::Unavailable(_), Some(key)) => Some(OwnSessions::unread(key.clone())),
                _ => None,
            };
            // Whatever comes of more of them than are followed is removed all the same.
            if self.followed.len() < FOLLOWED_STREAMS_MAX {
                self.followed.insert(asker.waiter.stream, Box::new(FollowedSession::Own(known)));
            }
            pass.wants = Wants { response_headers: true, done: true, ..Wants::default() };
            return NotedVerdict { verdict, note: outcome.note() };
        }
        if let (Verdict::Pass(pass), Some(key)) = (&mut verdict, key)
            && !matches!(outcome, SessionOutcome::Unavailable(_))
            && self.rules.follows_responses()
        {
            if self.followed.len() >= FOLLOWED_STREAMS_MAX {
                // Nobody would see that it ends.
                self.forget(&key);
                return NotedVerdict { verdict, note: outcome.note() };
            }
            let followed = FollowedSession::Foreign { key, is_safe: asker.is_safe };
            self.followed.insert(asker.waiter.stream, Box::new(followed));
            pass.wants = Wants { response_headers: true, done: true, ..Wants::default() };
        }
        NotedVerdict { verdict, note: outcome.note() }
    }

    /// How many calls are on their way.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        self.flights.len() + self.joinable.len() + self.own.as_ref().map_or(0, |own| own.orders())
    }

    /// Of how many streams something is known.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.followed.len()
    }
}

/// What was read of a record, if that was asked.
fn read(answer: SessionAnswer) -> Option<Result<FoundSession, SessionMiss>> {
    match answer {
        SessionAnswer::Record(session) => Some(session),
        SessionAnswer::Written(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SessionFilter {
        /// Whether a session is remembered.
        pub(crate) fn knows(&self, key: &KeyDigest) -> bool {
            self.recent.find(key, 0).is_some()
        }
    }
}
