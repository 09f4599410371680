//! A filter for tests, as small as one can be that does all that filters do: it changes headers, and asks Redis by a
//! plain command.

use alloc::{string::ToString, vec::Vec};

use crate::{
    redis::{Command, Reply, Value},
    request::RequestView,
    store::failure::FailureCause,
    streams::{WAITER_BYTES, Waiter},
    turn::{self, NotedVerdict},
    verdict::{Edits, HeaderEdit, Verdict},
};

/// What it works with in a step.
pub(super) type Turn<'a> = turn::Turn<'a, Question, ()>;

/// A filter of one of these kinds.
#[derive(Debug)]
pub(super) enum Trial {
    /// Lets everything pass with these changes.
    Edits(Edits),
    /// Asks a service for the value of the header `session`, and passes it on as the header `user`. Whoever has none,
    /// or cannot be looked up, goes on without.
    Session { service: u32 },
}

/// Of whom it asks, and how.
#[derive(Debug)]
pub(super) struct Question {
    waiter: Waiter,
    pub(super) command: Command,
}

impl Trial {
    pub(super) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &impl RequestView,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let service = match self {
            Trial::Edits(edits) => return Some(pass(edits.clone())),
            Trial::Session { service } => *service,
        };
        let Some(session) = request.header("session") else { return Some(pass(Edits::default())) };
        let Ok(permit) = turn.services.permit(service, turn.now_ns, turn.telemetry) else {
            return Some(pass(Edits::default()));
        };
        if !turn.budget.fits(WAITER_BYTES) {
            return Some(pass(Edits::default()));
        }
        turn.budget.take(WAITER_BYTES);
        turn.asked.push((service, permit, Question { waiter, command: [b"GET".to_vec(), session].into() }));
        None
    }

    pub(super) fn on_ended(&mut self, question: Question, result: Result<Reply, FailureCause>, turn: &mut Turn<'_>) {
        turn.budget.free(WAITER_BYTES);
        let request = match result {
            Ok(Reply::Single(Value::Bulk(user))) => [HeaderEdit::Set("user".to_string(), user)].into(),
            _ => Vec::new(),
        };
        if turn.streams.waits(&question.waiter) {
            turn.settled.push_back((question.waiter, pass(Edits { request, ..Edits::default() })));
        }
    }
}

fn pass(edits: Edits) -> NotedVerdict {
    NotedVerdict { verdict: Verdict::Pass(edits), note: None }
}
