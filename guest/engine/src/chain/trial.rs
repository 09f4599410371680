//! A filter for tests, as small as one can be that does all that filters do: it changes headers, asks Redis by a plain
//! command, and follows streams to their end.

use alloc::{
    collections::VecDeque,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use core::cell::RefCell;

use crate::{
    body::BodyPiece,
    redis::{Command, Reply, Value},
    request::RequestView,
    store::failure::FailureCause,
    streams::{WAITER_BYTES, Waiter},
    turn::{self, NotedVerdict},
    verdict::{Edits, HeaderEdit, Pass, Verdict},
    wants::{ResponseView, StreamEnd, Wants},
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
    /// Follows streams.
    Follow(TrialScript),
}

/// What a filter says at each hook, in order, and what it saw.
#[derive(Debug, Clone, Default)]
pub(super) struct TrialScript {
    says: Rc<RefCell<VecDeque<Say>>>,
    /// What it wants as long as it says nothing.
    wants: Wants,
    saw: Rc<RefCell<Vec<String>>>,
}

/// What a filter says at a hook.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// This.
    Now(Verdict),
    /// Nothing yet.
    Wait,
    /// What stands next, when the first service of the chain has answered.
    Ask,
}

/// Of whom it asks, and how.
#[derive(Debug)]
pub(super) struct Question {
    waiter: Waiter,
    pub(super) command: Command,
}

impl TrialScript {
    /// Says these things, then that it wants this.
    pub(super) fn new(wants: Wants, says: impl IntoIterator<Item = Say>) -> Self {
        TrialScript { says: Rc::new(RefCell::new(says.into_iter().collect())), wants, saw: Rc::default() }
    }

    /// What it saw since it was asked last.
    pub(super) fn saw(&self) -> Vec<String> {
        self.saw.take()
    }

    fn hook(&mut self, waiter: Waiter, saw: String, turn: &mut Turn<'_>) -> Option<NotedVerdict> {
        self.saw.borrow_mut().push(saw);
        match self.says.borrow_mut().pop_front() {
            Some(Say::Now(verdict)) => Some(NotedVerdict { verdict, note: None }),
            Some(Say::Wait) => None,
            Some(Say::Ask) => {
                let question = Question { waiter, command: ["GET", "s"].into_iter().collect() };
                turn.ask(0, question).expect("a service that is well");
                turn.budget.take(WAITER_BYTES);
                None
            }
            None => Some(NotedVerdict { verdict: self.wanting(), note: None }),
        }
    }

    fn wanting(&self) -> Verdict {
        Verdict::Pass(Pass { wants: self.wants, ..Pass::default() })
    }

    fn answered(&mut self) -> Verdict {
        match self.says.borrow_mut().pop_front() {
            Some(Say::Now(verdict)) => verdict,
            _ => self.wanting(),
        }
    }
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
            Trial::Follow(script) => return script.hook(waiter, "request".to_string(), turn),
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
        turn.asked.push((service, permit, Question { waiter, command: [&b"GET"[..], &session].into_iter().collect() }));
        None
    }

    pub(super) fn on_request_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        self.script().hook(waiter, format!(">{}", shown(piece)), turn)
    }

    pub(super) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &impl ResponseView,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let values = response.header_values("x").concat();
        let saw = format!("{} x={}", response.head().status, String::from_utf8(values).expect("text"));
        self.script().hook(waiter, saw, turn)
    }

    pub(super) fn on_response_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        self.script().hook(waiter, format!("<{}", shown(piece)), turn)
    }

    pub(super) fn on_done(&mut self, _stream: u64, ending: StreamEnd) {
        self.script().saw.borrow_mut().push(format!("{ending:?}"));
    }

    pub(super) fn on_retire(&mut self, _turn: &mut Turn<'_>) {
        if let Trial::Follow(script) = self {
            script.saw.borrow_mut().push("retired".to_string());
        }
    }

    fn script(&mut self) -> &mut TrialScript {
        match self {
            Trial::Follow(script) => script,
            other => panic!("{other:?} follows nothing"),
        }
    }

    pub(super) fn on_ended(&mut self, question: Question, result: Result<Reply, FailureCause>, turn: &mut Turn<'_>) {
        turn.budget.free(WAITER_BYTES);
        if let Trial::Follow(script) = self {
            if turn.streams.waits(&question.waiter) {
                let verdict = script.answered();
                turn.settled.push_back((question.waiter, NotedVerdict { verdict, note: None }));
            }
            return;
        }
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
    NotedVerdict { verdict: Verdict::Pass(edits.into()), note: None }
}

/// The bytes, with a full stop at the end of the body.
fn shown(piece: BodyPiece<'_>) -> String {
    let end = if piece.end { "." } else { "" };
    format!("{}{end}", piece.bytes.escape_ascii())
}
