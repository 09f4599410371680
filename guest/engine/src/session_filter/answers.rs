//! What becomes of a request by what is known of its session.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::question::{IfMissing, SessionAsker, SessionLookup, unix_ms};
use crate::{
    grpc, json_answer,
    request::RequestView,
    session::{FoundSession, OnMissingSession, SESSION_SET, SessionLead, SessionMiss, SessionRules},
    store::failure::FailureCause,
    streams::{WAITER_BYTES, Waiter},
    telemetry::SessionTally,
    verdict::{Edits, HeaderEdit, Response, Verdict},
};

const NO_SESSION: &str = r#"{"error":{"message":"There is no session. Please log in.","code":"no_session"}}"#;
const UNAVAILABLE: &str =
    r#"{"error":{"message":"Sessions cannot be looked up at the moment.","code":"sessions_unavailable"}}"#;

/// What is known of a request's session.
#[derive(Debug, Clone)]
pub(super) enum SessionOutcome {
    /// It is this.
    Found(Rc<FoundSession>),
    /// It has none.
    Missed(SessionMiss),
    /// Redis could not say.
    Unavailable(FailureCause),
}

/// What requests are given, most of it made once.
#[derive(Debug)]
pub(super) struct SessionAnswers {
    rules: Rc<SessionRules>,
    /// Where a session is: a header, and the other spellings of its name.
    headers: Vec<String>,
    /// Takes away all other spellings of the headers of fields.
    strip: Vec<HeaderEdit>,
    no_session: Rc<Vec<u8>>,
    unavailable: Rc<Vec<u8>>,
}

// === impl SessionOutcome ===

impl SessionOutcome {
    /// What a session means that was read now.
    pub(super) fn of(rules: &SessionRules, session: Result<FoundSession, SessionMiss>, wall_ns: u64) -> SessionOutcome {
        match session {
            Ok(session) if session.ends_ms.is_some_and(|ends_ms| ends_ms <= unix_ms(wall_ns)) => {
                SessionOutcome::Missed(SessionMiss::Expired)
            }
            // Applications keep sessions of visitors too.
            Ok(session) if !rules.is_of_somebody(&session.values) => SessionOutcome::Missed(SessionMiss::Anonymous),
            Ok(session) => SessionOutcome::Found(Rc::new(session)),
            Err(miss) => SessionOutcome::Missed(miss),
        }
    }

    pub(super) fn tally(&self) -> SessionTally {
        match self {
            SessionOutcome::Found(_) => SessionTally::Found,
            SessionOutcome::Missed(miss) => SessionTally::Missed(*miss),
            SessionOutcome::Unavailable(_) => SessionTally::Unavailable,
        }
    }

    /// What a log of requests should say. Of one that brings no session, nothing.
    pub(super) fn note(&self) -> Option<Vec<(&'static str, String)>> {
        let said = match self {
            SessionOutcome::Found(_) | SessionOutcome::Missed(SessionMiss::Absent) => return None,
            SessionOutcome::Missed(miss) => miss.as_str().to_string(),
            SessionOutcome::Unavailable(cause) => format!("{};cause={cause}", SessionTally::Unavailable),
        };
        Some(vec![("session", said)])
    }

    /// What its texts take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            SessionOutcome::Found(session) => {
                session.values.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, String::len)).sum()
            }
            _ => 0,
        }
    }
}

// === impl SessionAnswers ===

impl SessionAnswers {
    pub(super) fn new(rules: &Rc<SessionRules>) -> Self {
        let others = rules.stripped().into_iter().filter(|name| !rules.headers.contains(name));
        SessionAnswers {
            rules: Rc::clone(rules),
            headers: rules.source_headers(),
            // Nor does anybody but the application set a session: what is echoed is not the client's.
            strip: others.chain(rules.own.as_ref().map(|_| SESSION_SET.to_string())).map(HeaderEdit::Remove).collect(),
            no_session: Rc::new(NO_SESSION.into()),
            unavailable: Rc::new(UNAVAILABLE.into()),
        }
    }

    /// A request as one that asks, and what it leads to.
    pub(super) fn asker(
        &self,
        waiter: Waiter,
        request: &dyn RequestView,
        lookup: &SessionLookup,
        wall_ns: u64,
    ) -> (SessionAsker, Result<SessionLead, SessionMiss>) {
        let mut values = Vec::new();
        let mut is_there = false;
        for (at, header) in self.headers.iter().enumerate() {
            values.extend(request.header_values(header));
            is_there |= at == 0 && !values.is_empty();
        }
        let lead = match values.is_empty() || is_there {
            true => lookup.reader.lead(values.iter().map(Vec::as_slice), unix_ms(wall_ns)),
            // Some servers take these names for it, and others do not.
            false => Err(SessionMiss::Ambiguous),
        };
        let own_key = match &lead {
            Ok(SessionLead::Key(key)) if self.rules.own.is_some() => Some(key.clone()),
            _ => None,
        };
        let asker = SessionAsker {
            waiter,
            if_missing: self.if_missing(request),
            is_safe: !self.rules.follows_responses()
                || matches!(request.header(":method").as_deref(), Some(b"GET" | b"HEAD" | b"OPTIONS")),
            without: lookup.reader.without(values.iter().map(Vec::as_slice)),
            own_key,
        };
        (asker, lead)
    }

    /// What becomes of a request if it has no session.
    fn if_missing(&self, request: &dyn RequestView) -> IfMissing {
        let shows_pages = || {
            matches!(request.header(":method").as_deref(), Some(b"GET" | b"HEAD"))
                && request.header_values("accept").iter().any(|accept| names_html(accept))
        };
        match self.rules.on_missing {
            OnMissingSession::Anonymous => IfMissing::Pass,
            // Browsers ask so, without cookies, whether they may ask at all (CORS).
            _ if request.header(":method").as_deref() == Some(b"OPTIONS") => IfMissing::Pass,
            _ if !self.rules.public.is_empty() && self.rules.is_public(&request.path()) => IfMissing::Pass,
            OnMissingSession::Redirect(_) if shows_pages() => IfMissing::SentToPage,
            _ => IfMissing::Unauthorized,
        }
    }

    /// Whether a request goes on though nobody can say whose it is.
    fn passes_unread(&self, if_missing: IfMissing) -> bool {
        let is_exempt = if_missing == IfMissing::Pass && self.rules.on_missing != OnMissingSession::Anonymous;
        self.rules.fails_open || is_exempt
    }

    /// What a request that waits takes with its answer, in bytes.
    pub(super) fn bytes(&self, asker: &SessionAsker) -> usize {
        let names: usize = self.strip.iter().map(HeaderEdit::size).sum();
        WAITER_BYTES + names + asker.without.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn verdict(&self, outcome: &SessionOutcome, asker: &SessionAsker) -> Verdict {
        let passes = |values: &[Option<String>], is_cookie_taken_out: bool| {
            let mut edits = self.edits(values);
            if is_cookie_taken_out {
                let taken_out = |header: &String| match &asker.without {
                    Some(others) => HeaderEdit::Set(header.clone(), others.clone()),
                    None => HeaderEdit::Remove(header.clone()),
                };
                edits.request.extend(self.headers.iter().map(taken_out));
            }
            Verdict::Pass(edits.into())
        };
        // The cookie of a session of ours is for nobody else.
        let is_own = self.rules.own.is_some();
        match (outcome, asker.if_missing) {
            (SessionOutcome::Found(session), _) => passes(&session.values, is_own),
            (SessionOutcome::Missed(miss), IfMissing::Pass) => {
                passes(&[], miss.is_not_taken() || is_own && *miss != SessionMiss::Absent)
            }
            (SessionOutcome::Unavailable(_), if_missing) if self.passes_unread(if_missing) => passes(&[], is_own),
            // Nobody is logged out by an outage.
            (SessionOutcome::Unavailable(_), _) => {
                Verdict::Respond(json_answer::unavailable(Rc::clone(&self.unavailable)))
            }
            (_, IfMissing::SentToPage) => Verdict::Respond(Response {
                status: 302,
                headers: vec![header("location", self.page()), header("cache-control", "no-store")],
                body: Rc::default(),
                details: "session.missing",
                grpc_status: grpc::UNAUTHENTICATED,
            }),
            (_, IfMissing::Unauthorized) => Verdict::Respond(Response {
                status: 401,
                headers: [json_answer::json_headers(), vec![header("www-authenticate", "Cookie realm=\"session\"")]]
                    .concat(),
                body: Rc::clone(&self.no_session),
                details: "session.missing",
                grpc_status: grpc::UNAUTHENTICATED,
            }),
        }
    }

    fn page(&self) -> &str {
        match &self.rules.on_missing {
            OnMissingSession::Redirect(page) => page,
            OnMissingSession::Anonymous | OnMissingSession::Unauthorized => "/",
        }
    }

    /// Nothing is left of what the client sent under these names; what has a value, has this one.
    fn edits(&self, values: &[Option<String>]) -> Edits {
        let values = values.iter().map(|value| value.as_deref().filter(|value| !value.is_empty()));
        let own =
            self.rules.headers.iter().zip(values.chain(core::iter::repeat(None))).map(|(name, value)| match value {
                Some(value) => HeaderEdit::Set(name.clone(), value.as_bytes().to_vec()),
                None => HeaderEdit::Remove(name.clone()),
            });
        Edits { request: self.strip.iter().cloned().chain(own).collect(), response: Vec::new() }
    }
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_string(), value.as_bytes().to_vec())
}

/// Whether an `accept` field names HTML, not only everything.
fn names_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let media_type = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        [&b"text/html"[..], b"application/xhtml+xml"].iter().any(|html| media_type.eq_ignore_ascii_case(html))
    })
}
