//! What the filter would make of a request, told without doing it.

use alloc::{format, rc::Rc, string::String, vec::Vec};

use super::{
    answers::{SessionAnswers, SessionOutcome},
    question::{RecordQuestion, SessionLookup, unix_ms},
};
use crate::{
    redis::{CallError, Command, Reply},
    request::RequestView,
    session::{SessionLead, SessionMiss, SessionRules},
    store::failure::FailureCause,
    streams::Waiter,
    verdict::{HeaderEdit, Verdict},
};

/// What it would make of it.
pub(crate) struct ExplainedSession {
    /// What it changes in the request's headers.
    pub(crate) edits: Vec<HeaderEdit>,
    /// It is known whose session it is, or that it is nobody's.
    pub(crate) is_known: bool,
    /// The request does not pass.
    pub(crate) is_refused: bool,
    /// Why, in a sentence. It tells no value.
    pub(crate) reason: String,
}

/// What a filter of these rules makes of a request. `ask` is what a service says to a question; none: it was not asked.
pub(crate) fn explained(
    rules: &Rc<SessionRules>,
    request: &dyn RequestView,
    wall_ns: u64,
    ask: &mut impl FnMut(u32, Command) -> Option<Result<Reply, CallError>>,
) -> ExplainedSession {
    let (answers, lookup) = (SessionAnswers::new(rules), Rc::new(SessionLookup::new(&rules.settings)));
    let (asker, lead) = answers.asker(Waiter::nobody(), request, &lookup, wall_ns);
    let outcome = match (lead, rules.redis) {
        (Ok(SessionLead::Key(key)), Some(service)) => {
            let question = RecordQuestion { lookup, key, asked_ms: unix_ms(wall_ns), flight: 0 };
            let mut command = Command::default();
            question.write(&mut command);
            match ask(service, command) {
                None => None,
                Some(Ok(reply)) => Some(match question.read(&reply) {
                    Some(read) => SessionOutcome::of(rules, read, wall_ns),
                    None => SessionOutcome::Unavailable(FailureCause::BadReply),
                }),
                Some(Err(CallError::TooLarge)) => Some(SessionOutcome::Missed(SessionMiss::TooLong)),
                Some(Err(error)) => Some(SessionOutcome::Unavailable(error.into())),
            }
        }
        (Ok(SessionLead::Key(_)), None) => Some(SessionOutcome::Missed(SessionMiss::Unknown)),
        (Ok(SessionLead::Content(session)), _) => Some(SessionOutcome::of(rules, Ok(session), wall_ns)),
        (Err(miss), _) => Some(SessionOutcome::Missed(miss)),
    };
    let reason = match &outcome {
        None => "Redis knows whose session it is".into(),
        Some(SessionOutcome::Found(_)) => "its session tells whose it is".into(),
        Some(SessionOutcome::Missed(miss)) => format!("it has no session: {}", miss.as_str()),
        Some(SessionOutcome::Unavailable(cause)) => format!("its session cannot be looked up: {cause}"),
    };
    let is_known = outcome.is_some();
    // Until more is known, nothing is told of it.
    let outcome = outcome.unwrap_or(SessionOutcome::Missed(SessionMiss::Absent));
    let (edits, is_refused) = match answers.verdict(&outcome, &asker) {
        Verdict::Pass(pass) => (pass.edits.request, false),
        Verdict::Respond(_) => (Vec::new(), true),
    };
    ExplainedSession { edits, is_known, is_refused, reason }
}
