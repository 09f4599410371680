//! The filter that keeps the values of cookies in Redis: the browser has an id for each, the application its value.
//!
//! So a token of many kilobytes does not travel with every request, and is not in the browser at all. What a request
//! sends under the name of such a cookie goes on as the value that its id stands for, or not at all.

mod cookies;
mod question;

use alloc::{
    boxed::Box,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

pub(crate) use self::question::{VaultAnswer, VaultQuestion};
use self::{
    cookies::{SentCookies, SetCookie, VaultedCookies},
    question::VaultTurn,
};
use crate::{
    json_answer,
    request::RequestView,
    sorted::SortedMap,
    store::{Ended, failure::FailureCause},
    streams::{FOLLOWED_STREAMS_MAX, WAITER_BYTES, Waiter},
    telemetry::VaultTally,
    turn::NotedVerdict,
    vault_rules::VaultRules,
    verdict::{Edits, HeaderEdit, Pass, Verdict},
    wants::{ResponseView, Wants},
};

/// The longest that all cookies of a request become together, in bytes, with the values that are put back: as much as
/// hosts take of headers.
const COOKIES_MAX: usize = 96 << 10;

const UNAVAILABLE: &[u8] =
    br#"{"error":{"message":"Cookies cannot be looked up at the moment.","code":"cookies_unavailable"}}"#;

/// What a request has brought.
#[derive(Debug, Default)]
struct BroughtCookies {
    /// Which cookies, by their places, and the keys of their values.
    values: Vec<(usize, Vec<u8>)>,
    /// Those of which Redis could not say the value: the application has not seen them.
    unread: Vec<usize>,
}

/// A configured filter, and everything in flight in it.
pub(crate) struct CookieVault {
    /// Its place among those of its kind.
    index: usize,
    rules: Rc<VaultRules>,
    cookies: VaultedCookies,
    /// Headers that wait for Redis, by numbers.
    open: SortedMap<u64, Box<OpenHeaders>>,
    last_open: u64,
    /// Of streams whose responses have not come: which values their requests brought, to forget those that are deleted.
    followed: SortedMap<u64, Box<BroughtCookies>>,
}

/// Headers of a stream that wait.
struct OpenHeaders {
    waiter: Waiter,
    parts: Vec<HeaderPart>,
    /// Of how many parts nothing is known yet.
    missing: usize,
    is_response: bool,
    /// Why Redis could not do a part.
    failure: Option<FailureCause>,
    bytes: usize,
}

/// A cookie as it goes on. None: it does not, or it is not known yet.
struct HeaderPart {
    sought: Option<(usize, Vec<u8>)>,
    goes_on: Option<Vec<u8>>,
}

// === impl CookieVault ===

impl CookieVault {
    /// A filter that has this place among those of its kind.
    pub(crate) fn new(rules: Rc<VaultRules>, index: usize) -> Self {
        let cookies = VaultedCookies::new(&rules.cookies, &rules.secrets, &rules.key_prefix);
        CookieVault { index, rules, cookies, open: SortedMap::default(), last_open: 0, followed: SortedMap::default() }
    }

    /// A request has come. None: it waits.
    #[inline(never)]
    pub(crate) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &dyn RequestView,
        turn: &mut VaultTurn<'_>,
    ) -> Option<NotedVerdict> {
        let values = request.header_values("cookie");
        let (sent, foreign) = self.cookies.sent(values.iter().map(Vec::as_slice));
        if foreign == 0 && sent.iter().all(|cookies| matches!(cookies, SentCookies::Others(_))) {
            return Some(following(Edits::default(), None));
        }
        (0..foreign).for_each(|_| turn.telemetry.vaulted(self.index, VaultTally::Forged));
        let (mut parts, mut keys) = (Vec::new(), Vec::new());
        for cookies in sent {
            let (sought, goes_on) = match cookies {
                SentCookies::Others(pairs) => (None, Some(pairs)),
                // Once is enough, for who has it twice.
                SentCookies::Sought { name_at, id } if is_sought(&parts, name_at, &id) => continue,
                SentCookies::Sought { name_at, id } => {
                    keys.push((parts.len(), name_at, self.cookies.key(&id)));
                    (Some((name_at, id)), None)
                }
            };
            parts.push(HeaderPart { sought, goes_on });
        }
        if !keys.is_empty() && self.followed.len() < FOLLOWED_STREAMS_MAX {
            let values = keys.iter().map(|(_, name_at, key)| (*name_at, key.clone())).collect();
            self.followed.insert(waiter.stream, Box::new(BroughtCookies { values, unread: Vec::new() }));
        }
        let questions = keys.into_iter().map(|(part, _, key)| (part, VaultQuestion::read(&key))).collect();
        self.begin(waiter, parts, questions, false, turn)
    }

    /// A response's headers have come. None: it waits until the values that it sets are kept.
    #[inline(never)]
    pub(crate) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &dyn ResponseView,
        turn: &mut VaultTurn<'_>,
    ) -> Option<NotedVerdict> {
        let brought = self.followed.remove(&waiter.stream).unwrap_or_default();
        let (mut parts, mut questions, mut is_changed) = (Vec::new(), Vec::new(), false);
        let fields = response.header_values("set-cookie");
        let now_s = turn.wall_ns / 1_000_000_000;
        let set: Vec<SetCookie> = fields.iter().map(|field| self.cookies.set(field, now_s)).collect();
        let is_set_anew = |name_at: usize| {
            set.iter().any(|set| matches!(set, SetCookie::Vaulted { name_at: at, .. } if *at == name_at))
        };
        // Applications clear a cookie of an older path beside the new one.
        let is_deleted: Vec<bool> =
            set.iter().map(|set| matches!(set, SetCookie::Deleted { name_at, .. } if !is_set_anew(*name_at))).collect();
        for ((field, set), is_deleted) in fields.into_iter().zip(set).zip(is_deleted) {
            is_changed |= set != SetCookie::Other;
            let goes_on = match set {
                SetCookie::Other => field,
                SetCookie::Deleted { name_at, field } => {
                    // Nobody is logged out by an outage: the application believes that there was none.
                    if brought.unread.contains(&name_at) {
                        continue;
                    }
                    for (_, key) in brought.values.iter().filter(|(brought_at, _)| is_deleted && *brought_at == name_at)
                    {
                        // What cannot be asked for ends by itself.
                        let _ = turn.ask(self.rules.redis, VaultQuestion::forget(key));
                    }
                    turn.telemetry.vaulted(self.index, VaultTally::Deleted);
                    field
                }
                SetCookie::Vaulted { key, value, field, max_age_s, .. } => {
                    let good_ms = max_age_s.map_or(u64::MAX, |age_s| age_s.saturating_mul(1_000));
                    let keep_ms = self.rules.keep_ms.min(good_ms).max(1);
                    questions.push((parts.len(), VaultQuestion::keep(&key, &value, keep_ms)));
                    field
                }
                SetCookie::TooLong => {
                    turn.telemetry.vaulted(self.index, VaultTally::TooLong);
                    continue;
                }
                // What came back of it would be dropped, and the browser would have the value.
                SetCookie::Alike => {
                    turn.telemetry.vaulted(self.index, VaultTally::Forged);
                    continue;
                }
            };
            parts.push(HeaderPart { sought: None, goes_on: Some(goes_on) });
        }
        if !is_changed {
            return Some(NotedVerdict::pass());
        }
        self.begin(waiter, parts, questions, true, turn)
    }

    /// A stream is over.
    pub(crate) fn on_done(&mut self, stream: u64) {
        self.followed.remove(&stream);
    }

    /// A call is over.
    #[inline(never)]
    pub(crate) fn on_ended(&mut self, ended: Ended<VaultQuestion>, turn: &mut VaultTurn<'_>) {
        let Some((number, part)) = ended.ask.part else { return };
        let result = ended.result.map(|answered| answered.answer);
        self.conclude(number, part, result, turn);
        self.settle(number, turn);
    }

    /// Asks all that headers wait for. None: they wait.
    fn begin(
        &mut self,
        waiter: Waiter,
        parts: Vec<HeaderPart>,
        questions: Vec<(usize, VaultQuestion)>,
        is_response: bool,
        turn: &mut VaultTurn<'_>,
    ) -> Option<NotedVerdict> {
        let kept: usize = parts.iter().map(|part| size_of_val(part) + part.goes_on.as_ref().map_or(0, Vec::len)).sum();
        let asked: usize = questions.iter().map(|(_, question)| question.bytes()).sum();
        let (bytes, missing) = (WAITER_BYTES + kept + asked, questions.len());
        let mut headers = OpenHeaders { waiter, parts, missing, is_response, failure: None, bytes };
        if !turn.budget.fits(bytes) {
            turn.telemetry.overloaded(self.rules.redis, turn.now_ns);
            headers.bytes = 0;
            for (part, _) in questions {
                self.fail(&mut headers, part, FailureCause::Overloaded, turn);
            }
            return Some(self.verdict(headers));
        }
        turn.budget.take(bytes);
        self.last_open += 1;
        let number = self.last_open;
        self.open.insert(number, Box::new(headers));
        for (part, mut question) in questions {
            question.part = Some((number, part));
            if let Err(cause) = turn.ask(self.rules.redis, question) {
                self.conclude(number, part, Err(cause), turn);
            }
        }
        self.take_settled(number, turn).map(|headers| self.verdict(*headers))
    }

    /// What became of a part.
    fn conclude(
        &mut self,
        number: u64,
        part: usize,
        result: Result<VaultAnswer, FailureCause>,
        turn: &mut VaultTurn<'_>,
    ) {
        let Some(mut headers) = self.open.remove(&number) else { return };
        match result {
            Ok(answer) => {
                headers.missing = headers.missing.saturating_sub(1);
                let length: usize = headers.parts.iter().filter_map(|part| part.goes_on.as_ref()).map(Vec::len).sum();
                let tally = match (answer, headers.parts.get_mut(part)) {
                    (VaultAnswer::Value(value), Some(HeaderPart { sought: Some((name_at, id)), goes_on })) => {
                        let restored = self.cookies.restored(*name_at, id, &value);
                        let tally = match &restored {
                            Some(cookie) if length + cookie.len() > COOKIES_MAX => VaultTally::TooLong,
                            Some(_) => VaultTally::Restored,
                            None if value.is_empty() => VaultTally::Unknown,
                            None => VaultTally::Forged,
                        };
                        *goes_on = restored.filter(|_| tally == VaultTally::Restored);
                        tally
                    }
                    _ => VaultTally::Kept,
                };
                turn.telemetry.vaulted(self.index, tally);
            }
            Err(cause) => self.fail(&mut headers, part, cause, turn),
        }
        self.open.insert(number, headers);
    }

    /// Redis could not do a part: that cookie does not go on.
    fn fail(&mut self, headers: &mut OpenHeaders, part: usize, cause: FailureCause, turn: &mut VaultTurn<'_>) {
        headers.missing = headers.missing.saturating_sub(1);
        headers.failure = Some(cause);
        if let Some(part) = headers.parts.get_mut(part) {
            part.goes_on = None;
            if let (Some((name_at, _)), Some(brought)) = (&part.sought, self.followed.get_mut(&headers.waiter.stream)) {
                brought.unread.push(*name_at);
            }
        }
        turn.telemetry.vaulted(self.index, VaultTally::Unavailable);
    }

    /// Headers of which all is known go on.
    fn settle(&mut self, number: u64, turn: &mut VaultTurn<'_>) {
        if let Some(headers) = self.take_settled(number, turn)
            && turn.streams.waits(&headers.waiter)
        {
            let waiter = headers.waiter;
            let verdict = self.verdict(*headers);
            turn.settled.push_back((waiter, verdict));
        }
    }

    fn take_settled(&mut self, number: u64, turn: &mut VaultTurn<'_>) -> Option<Box<OpenHeaders>> {
        if self.open.get(&number).is_none_or(|headers| headers.missing > 0) {
            return None;
        }
        let headers = self.open.remove(&number)?;
        turn.budget.free(headers.bytes);
        Some(headers)
    }

    fn verdict(&mut self, headers: OpenHeaders) -> NotedVerdict {
        let OpenHeaders { waiter, parts, is_response, failure, .. } = headers;
        let said = failure.map(|cause| format!("{};cause={cause}", VaultTally::Unavailable));
        if said.is_some() && !is_response && !self.rules.fails_open {
            self.followed.remove(&waiter.stream);
            let verdict = Verdict::Respond(json_answer::unavailable(Rc::new(UNAVAILABLE.into())));
            return NotedVerdict { verdict, note: note(said) };
        }
        let cookies: Vec<Vec<u8>> = parts.into_iter().filter_map(|part| part.goes_on).collect();
        if is_response {
            let set = cookies.into_iter().map(|cookie| HeaderEdit::Append("set-cookie".to_string(), cookie));
            let response = core::iter::once(HeaderEdit::Remove("set-cookie".to_string())).chain(set).collect();
            let edits = Edits { request: Vec::new(), response };
            return NotedVerdict { verdict: Verdict::Pass(edits.into()), note: note(said) };
        }
        following(Edits { request: [cookie_edit(&cookies)].into(), response: Vec::new() }, said)
    }

    /// How many headers wait.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        self.open.len()
    }

    /// Of how many streams something is known.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.followed.len()
    }
}

/// Leaves out of a request's cookies those whose values are kept, and those that claim to be such.
pub(crate) fn without_kept(rules: &VaultRules, request: &dyn RequestView) -> Vec<HeaderEdit> {
    let cookies = VaultedCookies::new(&rules.cookies, &rules.secrets, &rules.key_prefix);
    let values = request.header_values("cookie");
    let (sent, _) = cookies.sent(values.iter().map(Vec::as_slice));
    let others = sent.into_iter().filter_map(|cookies| match cookies {
        SentCookies::Others(pairs) => Some(pairs),
        SentCookies::Sought { .. } => None,
    });
    Vec::from([cookie_edit(&others.collect::<Vec<_>>())])
}

/// These are all the cookies.
fn cookie_edit(cookies: &[Vec<u8>]) -> HeaderEdit {
    match cookies.is_empty() {
        true => HeaderEdit::Remove("cookie".to_string()),
        false => HeaderEdit::Set("cookie".to_string(), cookies.join(b"; ".as_slice())),
    }
}

/// Whether a cookie's value is sought already.
fn is_sought(parts: &[HeaderPart], name_at: usize, id: &[u8]) -> bool {
    parts.iter().filter_map(|part| part.sought.as_ref()).any(|sought| sought.0 == name_at && sought.1 == id)
}

/// A request goes on; its response is looked at, whatever it is.
fn following(edits: Edits, said: Option<String>) -> NotedVerdict {
    let wants = Wants { response_headers: true, done: true, ..Wants::default() };
    NotedVerdict { verdict: Verdict::Pass(Pass { wants, ..edits.into() }), note: note(said) }
}

fn note(said: Option<String>) -> Option<Vec<(&'static str, String)>> {
    said.map(|said| [("cookie_vault", said)].into())
}

/// Shows no secret.
impl core::fmt::Debug for CookieVault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CookieVault of {:?}", self.rules)
    }
}
