//! Sessions of ours: what the responses of an application make of them.
//!
//! A session that is set is in Redis before its cookie goes to the browser, and ends there before the response that
//! ends it goes on. Its id is made here, never taken from a request; it is a new one whenever the session becomes
//! another user's. What is not written is said, and leaves the browser without a new cookie.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{
    question::{SessionLookup, SessionQuestion, SessionTurn, WriteQuestion, unix_ms},
    recent::KeyDigest,
    writes::{AmongSessions, BeginScript, SessionWrite, WriteKind},
};
use crate::{
    grpc,
    json_answer::json_headers,
    session::{
        FieldPath, FoundSession, OrderedFields, OwnSessionRules, SESSION_SET, SessionMint, SessionOrder,
        SessionOrderError, SessionRules, SessionSource, WhenFull, digest_in, key_of_user,
    },
    sorted::SortedMap,
    store::failure::FailureCause,
    streams::{WAITER_BYTES, Waiter},
    telemetry::SessionWriteTally,
    turn::NotedVerdict,
    verdict::{Edits, HeaderEdit, Response, Verdict},
};

const TOO_MANY: &str = r#"{"error":{"message":"You are logged in as often as you may be. Please log out elsewhere first.","code":"too_many_sessions"}}"#;

/// The session of a request, as far as a response may change it.
#[derive(Debug, Clone)]
pub(super) struct KnownSession {
    /// Of its record.
    pub(super) key: Vec<u8>,
    /// Whose it is, as headers tell it. None: Redis could not say.
    user: Option<String>,
    ends_ms: i64,
}

/// How sessions are kept, and the orders that are being carried out.
#[derive(Debug)]
pub(super) struct OwnSessions {
    /// The place of the filter among those of its kind.
    index: usize,
    service: u32,
    rules: OwnSessionRules,
    /// How much longer than without a request a record is kept, as what was read of it is gone by for so long.
    remember_ms: u64,
    key_prefix: String,
    /// The place of the field that says whose a session is.
    user_at: usize,
    user: FieldPath,
    mint: SessionMint,
    lookup: Rc<SessionLookup>,
    script: Rc<BeginScript>,
    open: SortedMap<u64, Box<OpenOrder>>,
    last_order: u64,
    too_many: Rc<Vec<u8>>,
}

/// An order that is being carried out.
#[derive(Debug)]
struct OpenOrder {
    waiter: Waiter,
    /// The session that it is about, if there was one.
    digest: Option<KeyDigest>,
    steps: VecDeque<SessionWrite>,
    /// What takes back a session that has begun, perhaps, and whose id nobody gets.
    undo: Vec<SessionWrite>,
    end: OrderEnd,
    bytes: usize,
}

/// What has become of a session when all is done. Cookies are as they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OrderEnd {
    Begun {
        cookie: Vec<u8>,
    },
    /// Its record stands beside that under the old id until this one has ended.
    Rotated {
        cookie: Vec<u8>,
    },
    Changed,
    Deleted,
}

/// What an order comes to.
struct OrderPlan {
    steps: VecDeque<SessionWrite>,
    undo: Vec<SessionWrite>,
    end: OrderEnd,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderFailure {
    /// It is none.
    Wrong(SessionOrderError),
    /// Its session has ended meanwhile.
    Gone,
    /// The user has as many sessions as there may be.
    Full,
    /// Redis could not do it.
    Unavailable(FailureCause),
    /// The host gives no time, or no random bytes.
    Lacking(&'static str),
}

/// What comes of a reply.
#[derive(Debug)]
pub(super) struct CarriedOut {
    pub(super) waiter: Waiter,
    pub(super) verdict: NotedVerdict,
    /// What was known of this session is void.
    pub(super) digest: Option<KeyDigest>,
}

// === impl OwnSessions ===

impl OwnSessions {
    /// None: sessions are the application's.
    pub(super) fn new(rules: &SessionRules, lookup: &Rc<SessionLookup>, index: usize) -> Option<OwnSessions> {
        let (own, SessionSource::Cookie(cookie)) = (rules.own.clone()?, &rules.settings.source) else { return None };
        let user_at = rules.user?;
        Some(OwnSessions {
            index,
            service: rules.redis?,
            rules: own,
            remember_ms: rules.remember_us / 1_000,
            key_prefix: rules.settings.key_prefix.clone(),
            user_at,
            user: rules.settings.fields.get(user_at)?.clone(),
            mint: SessionMint::new(cookie, &rules.settings.key_prefix, &rules.settings.secrets),
            lookup: Rc::clone(lookup),
            script: Rc::default(),
            open: SortedMap::default(),
            last_order: 0,
            too_many: Rc::new(TOO_MANY.into()),
        })
    }

    /// The session of a request that has this record.
    pub(super) fn known(&self, key: Vec<u8>, session: &FoundSession) -> Option<KnownSession> {
        let user = session.values.get(self.user_at)?.clone()?;
        Some(KnownSession { key, user: Some(user), ends_ms: session.ends_ms? })
    }

    /// The session of a request of which Redis could not say whose it is.
    pub(super) fn unread(key: Vec<u8>) -> KnownSession {
        KnownSession { key, user: None, ends_ms: i64::MAX }
    }

    /// A request has used a session, as Redis said just now.
    pub(super) fn keep(&self, known: &KnownSession, turn: &mut SessionTurn<'_>) {
        let now_ms = unix_ms(turn.wall_ns);
        let kept_ms = self.kept_ms(known.ends_ms, now_ms);
        let mut writes = vec![SessionWrite::keep(&known.key, kept_ms)];
        if let (Some(_), Some(user)) = (self.rules.per_user, &known.user) {
            let sessions = key_of_user(&self.key_prefix, user);
            writes.push(SessionWrite::used(&sessions, digest_in(&known.key), now_ms));
        }
        for write in writes {
            // What cannot be asked for ends a little sooner.
            let _ = turn.ask(self.service, self.question(write, None));
        }
    }

    /// A response orders something for a request that had this session, whose key has this digest. None: it waits.
    pub(super) fn carry_out(
        &mut self,
        waiter: Waiter,
        known: Option<KnownSession>,
        digest: Option<KeyDigest>,
        order: Result<SessionOrder, SessionOrderError>,
        turn: &mut SessionTurn<'_>,
    ) -> Option<NotedVerdict> {
        let planned = match order {
            Ok(SessionOrder::Delete) => {
                Ok(OrderPlan { steps: self.ending(known.as_ref()), undo: Vec::new(), end: OrderEnd::Deleted })
            }
            Ok(SessionOrder::Set(fields)) => self.setting(fields, known, turn),
            Err(error) => Err(OrderFailure::Wrong(error)),
        };
        let OrderPlan { steps, undo, end } = match planned {
            Ok(planned) => planned,
            Err(failure) => return Some(self.failed(failure, None, turn)),
        };
        let bytes = WAITER_BYTES + steps.iter().chain(&undo).map(SessionWrite::bytes).sum::<usize>();
        if !turn.budget.fits(bytes) {
            turn.telemetry.overloaded(self.service, turn.now_ns);
            return Some(self.failed(OrderFailure::Unavailable(FailureCause::Overloaded), Some(&end), turn));
        }
        turn.budget.take(bytes);
        self.last_order += 1;
        let order = Box::new(OpenOrder { waiter, digest, steps, undo, end, bytes });
        self.go_on(self.last_order, order, turn).map(|carried_out| carried_out.verdict)
    }

    /// A response orders something for a request whose session nobody has room to remember.
    pub(super) fn overloaded(
        &self,
        order: &Result<SessionOrder, SessionOrderError>,
        turn: &mut SessionTurn<'_>,
    ) -> NotedVerdict {
        let end = matches!(order, Ok(SessionOrder::Delete)).then_some(OrderEnd::Deleted);
        self.failed(OrderFailure::Unavailable(FailureCause::Overloaded), end.as_ref(), turn)
    }

    /// A step of an order is over, or what nobody waits for.
    pub(super) fn on_ended(
        &mut self,
        question: &WriteQuestion,
        result: Result<i64, FailureCause>,
        turn: &mut SessionTurn<'_>,
    ) -> Option<CarriedOut> {
        let Some(number) = question.order else {
            // Nobody waits for it, but it ends while it is used if that goes on.
            if result.is_err() && question.write.kind == WriteKind::Keep {
                turn.telemetry.session_written(self.index, SessionWriteTally::Unavailable);
            }
            return None;
        };
        let mut order = self.open.remove(&number)?;
        let is_new_id_of_old = matches!(order.end, OrderEnd::Rotated { .. });
        let has_begun = matches!(order.end, OrderEnd::Begun { .. });
        let failure = match (result, question.write.kind) {
            // The one before ends by itself at the latest.
            (Err(_), WriteKind::End | WriteKind::Leave) if has_begun => None,
            (Err(cause), _) => Some(OrderFailure::Unavailable(cause)),
            (Ok(0), WriteKind::BeginAmong) => Some(OrderFailure::Full),
            (Ok(..0), WriteKind::BeginAmong) | (Ok(0), WriteKind::Change) => Some(OrderFailure::Gone),
            // Others may have ended it: then no other id makes it good again.
            (Ok(0), WriteKind::End) if is_new_id_of_old => Some(OrderFailure::Gone),
            (Ok(_), _) => None,
        };
        match failure {
            Some(failure) => {
                let kind = question.write.kind;
                // A write that Redis did not answer may be done; where the old id did not end, the new one is there.
                if kind == WriteKind::End || failure == OrderFailure::Unavailable(FailureCause::Timeout) {
                    self.take_back(&mut order.undo, turn);
                }
                Some(self.close(*order, Some(failure), turn))
            }
            None => self.go_on(number, order, turn),
        }
    }

    /// Nobody gets the id of a session that has begun, perhaps: its record goes, and it is none of its user's.
    fn take_back(&self, undo: &mut Vec<SessionWrite>, turn: &mut SessionTurn<'_>) {
        for write in undo.drain(..) {
            // What cannot be asked for ends by itself, and nobody knows its id.
            let _ = turn.ask(self.service, self.question(write, None));
        }
    }

    /// Takes the next step, or the response goes on.
    fn go_on(&mut self, number: u64, mut order: Box<OpenOrder>, turn: &mut SessionTurn<'_>) -> Option<CarriedOut> {
        let Some(write) = order.steps.pop_front() else { return Some(self.close(*order, None, turn)) };
        match turn.ask(self.service, self.question(write, Some(number))) {
            Ok(()) => {
                self.open.insert(number, order);
                None
            }
            // What the step before has made ends by itself: nobody has its id.
            Err(cause) => Some(self.close(*order, Some(OrderFailure::Unavailable(cause)), turn)),
        }
    }

    fn question(&self, write: SessionWrite, order: Option<u64>) -> SessionQuestion {
        SessionQuestion::Write(WriteQuestion { write, script: Rc::clone(&self.script), order })
    }

    fn close(&mut self, order: OpenOrder, failure: Option<OrderFailure>, turn: &mut SessionTurn<'_>) -> CarriedOut {
        let OpenOrder { waiter, digest, end, bytes, .. } = order;
        turn.budget.free(bytes);
        let verdict = match failure {
            Some(failure) => self.failed(failure, Some(&end), turn),
            None => self.succeeded(end, turn),
        };
        CarriedOut { waiter, verdict, digest }
    }

    fn succeeded(&self, end: OrderEnd, turn: &mut SessionTurn<'_>) -> NotedVerdict {
        let (tally, cookie) = match end {
            OrderEnd::Begun { cookie } => (SessionWriteTally::Begun, Some(cookie)),
            OrderEnd::Rotated { cookie } => (SessionWriteTally::Rotated, Some(cookie)),
            OrderEnd::Changed => (SessionWriteTally::Changed, None),
            OrderEnd::Deleted => (SessionWriteTally::Deleted, Some(self.mint.removal())),
        };
        turn.telemetry.session_written(self.index, tally);
        passing(cookie, Some(tally.to_string()))
    }

    /// `end`: what was to become of the session.
    fn failed(&self, failure: OrderFailure, end: Option<&OrderEnd>, turn: &mut SessionTurn<'_>) -> NotedVerdict {
        let (tally, said) = match failure {
            OrderFailure::Wrong(error) => (SessionWriteTally::Malformed, Some(error.as_str())),
            OrderFailure::Gone => (SessionWriteTally::Gone, None),
            OrderFailure::Full => (SessionWriteTally::Refused, None),
            OrderFailure::Unavailable(cause) => (SessionWriteTally::Unavailable, Some(cause.name())),
            OrderFailure::Lacking(what) => (SessionWriteTally::Unavailable, Some(what)),
        };
        turn.telemetry.session_written(self.index, tally);
        let said = said.map_or_else(|| tally.to_string(), |cause| format!("{tally};cause={cause}"));
        if failure == OrderFailure::Full {
            return NotedVerdict { verdict: self.refusal(), note: note(said) };
        }
        // Who logs out has no cookie any more, whatever becomes of the record.
        let cookie = (end == Some(&OrderEnd::Deleted)).then(|| self.mint.removal());
        passing(cookie, Some(said))
    }

    fn refusal(&self) -> Verdict {
        Verdict::Respond(Response {
            status: 403,
            headers: json_headers(),
            body: Rc::clone(&self.too_many),
            details: "session.too_many",
            grpc_status: grpc::PERMISSION_DENIED,
        })
    }

    fn ending(&self, known: Option<&KnownSession>) -> VecDeque<SessionWrite> {
        let Some(known) = known else { return VecDeque::new() };
        let mut steps = VecDeque::from([SessionWrite::end(&known.key)]);
        if let (Some(_), Some(user)) = (self.rules.per_user, &known.user) {
            let sessions = key_of_user(&self.key_prefix, user);
            steps.push_back(SessionWrite::leave(&sessions, digest_in(&known.key)));
        }
        steps
    }

    fn setting(
        &self,
        fields: OrderedFields,
        known: Option<KnownSession>,
        turn: &mut SessionTurn<'_>,
    ) -> Result<OrderPlan, OrderFailure> {
        let now_ms = match turn.wall_ns {
            0 => return Err(OrderFailure::Lacking("no_clock")),
            wall_ns => unix_ms(wall_ns),
        };
        let user = fields.user(&self.user).map_err(OrderFailure::Wrong)?;
        let rotate = fields.rotate;
        let known = known.filter(|known| known.ends_ms > now_ms);
        let (same, other) = match known {
            Some(known) if known.user.as_ref() == Some(&user) => (Some(known), None),
            other => (None, other),
        };
        let absolute_ms = i64::try_from(self.rules.absolute_ms).unwrap_or(i64::MAX);
        // A new id makes a session no younger.
        let ends_ms = same.as_ref().map_or(now_ms.saturating_add(absolute_ms), |known| known.ends_ms);
        let (record, kept_ms) = (fields.record(ends_ms), self.kept_ms(ends_ms, now_ms));
        if let Some(KnownSession { key, .. }) = same.as_ref().filter(|_| !rotate) {
            let change = SessionWrite::change(key, &record, kept_ms);
            return Ok(OrderPlan { steps: [change].into(), undo: Vec::new(), end: OrderEnd::Changed });
        }
        let random = turn.random.take().ok_or(OrderFailure::Lacking("no_random"))?;
        let (id, cookie) = self.mint.mint(&user, random);
        let key = self.lookup.reader.key(&id);
        let (mut steps, mut undo) = (VecDeque::new(), vec![SessionWrite::end(&key)]);
        match self.rules.per_user {
            Some(per_user) => {
                let sessions = key_of_user(&self.key_prefix, &user);
                undo.push(SessionWrite::leave(&sessions, digest_in(&key)));
                let among = AmongSessions {
                    sessions: &sessions,
                    now_ms,
                    max: per_user.max,
                    ends_oldest: per_user.when_full == WhenFull::EndOldest,
                    replaced: same.as_ref().map(|known| digest_in(&known.key)).unwrap_or_default(),
                    longest_ms: self.rules.absolute_ms,
                };
                steps.push_back(SessionWrite::begin_among(&key, &record, kept_ms, &among));
            }
            None => {
                // Nobody is logged out for an id that does not begin.
                steps.push_back(SessionWrite::begin(&key, &record, kept_ms));
                steps.extend(same.as_ref().map(|known| SessionWrite::end(&known.key)));
            }
        }
        // Nor for a session that does not.
        steps.append(&mut self.ending(other.as_ref()));
        let end = if same.is_some() { OrderEnd::Rotated { cookie } } else { OrderEnd::Begun { cookie } };
        Ok(OrderPlan { steps, undo, end })
    }

    /// How long a record is kept that is used now.
    fn kept_ms(&self, ends_ms: i64, now_ms: i64) -> u64 {
        let left_ms = u64::try_from(ends_ms.saturating_sub(now_ms)).unwrap_or(0);
        self.rules.idle_ms.saturating_add(self.remember_ms).min(left_ms).max(1)
    }

    /// How many orders are being carried out.
    #[cfg(test)]
    pub(super) fn orders(&self) -> usize {
        self.open.len()
    }
}

/// A response goes on without the order, and with this cookie.
pub(super) fn passing(cookie: Option<Vec<u8>>, said: Option<String>) -> NotedVerdict {
    let mut response = vec![HeaderEdit::Remove(SESSION_SET.to_string())];
    if let Some(cookie) = cookie {
        response.push(HeaderEdit::Append("set-cookie".to_string(), cookie));
        // Nobody else may get this response, whatever the application says that knows of no cookie.
        response.push(HeaderEdit::Set("cache-control".to_string(), b"no-store".to_vec()));
    }
    NotedVerdict { verdict: Verdict::Pass(Edits { request: Vec::new(), response }.into()), note: said.and_then(note) }
}

fn note(said: String) -> Option<Vec<(&'static str, String)>> {
    Some(vec![("session_set", said)])
}
