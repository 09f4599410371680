//! Streams for which tokens are reserved: what is known of their answers, and what they are charged in the end.

use alloc::{rc::Rc, vec::Vec};

use super::estimate::{BYTES_PER_TOKEN, RequestTokens};
use crate::{
    body::{BodyCoding, BodyPiece},
    plan::Plan,
    rule::{OnMissingUsage, TokenTerms},
    tokens::{Usage, UsageReader},
    wants::{ResponseHead, StreamEnd},
};

/// Tokens that are reserved for a stream.
#[derive(Debug)]
pub(super) struct Reservation {
    /// Of which policy.
    pub(super) policy: usize,
    pub(super) plan: Rc<Plan>,
    /// Where they are reserved.
    pub(super) place: ReservedIn,
    /// What each of the plan's limits on tokens was charged, in their order. None: it only tries, and had no room.
    pub(super) charged: Vec<Option<u64>>,
    /// What the request told, and has sent by now.
    pub(super) request: RequestTokens,
    answer: AnswerSeen,
    usage: UsageReader,
}

/// Where tokens are reserved, and when they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReservedIn {
    /// In a Redis, by its clock, which had been set so often before. None: it could not be asked, and nothing is
    /// reserved.
    Redis { service: u32, at_us: Option<u64>, steps: u64 },
    /// In this instance's memory, in the place of that Redis if there is one.
    Memory { stands_in_for: Option<u32>, at_us: u64 },
}

/// What has come of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerSeen {
    None,
    /// One that says what it took, or should.
    Charged,
    /// One that is no answer of a model: an error, a redirect.
    Free,
}

impl Reservation {
    pub(super) fn new(
        policy: usize,
        plan: Rc<Plan>,
        place: ReservedIn,
        charged: Vec<Option<u64>>,
        request: RequestTokens,
    ) -> Reservation {
        Reservation {
            policy,
            plan,
            place,
            charged,
            request: request.as_seen(),
            answer: AnswerSeen::None,
            usage: UsageReader::default(),
        }
    }

    /// The answer's headers have come. Whether its body is to be read.
    pub(super) fn answered(&mut self, head: ResponseHead) -> bool {
        let is_good = (200..300).contains(&head.status);
        self.answer = if is_good { AnswerSeen::Charged } else { AnswerSeen::Free };
        is_good && !head.end
    }

    /// A piece of its body has come.
    pub(super) fn read(&mut self, piece: BodyPiece<'_>) {
        // What nobody can take the coding off tells nothing.
        if piece.coding != BodyCoding::Encoded {
            self.usage.feed(piece.bytes);
        }
    }

    /// A piece of the request's body has passed.
    pub(super) fn count(&mut self, piece: BodyPiece<'_>) {
        self.request.count_up_to(self.request.came.saturating_add(piece.bytes.len() as u64));
    }

    /// Whether the answer has told what it took.
    pub(super) fn is_told(&self) -> bool {
        self.answer == AnswerSeen::Charged && self.usage.usage().is_some()
    }

    /// What a stream that has ended so is charged by these terms, for which so much was reserved.
    pub(super) fn spent(&self, ending: StreamEnd, terms: &TokenTerms, reserved: u64) -> u64 {
        let told = self.usage.usage();
        let as_told = told.map(|usage| terms.charge.of(&usage));
        match (self.answer, ending) {
            (AnswerSeen::Free, _)
            | (_, StreamEnd::Answered)
            | (AnswerSeen::None, StreamEnd::Upstream | StreamEnd::Whole) => 0,
            // Whoever leaves has had what came so far, and the model has read the request.
            (_, StreamEnd::Client) | (AnswerSeen::Charged, StreamEnd::Upstream) => terms.charge.of(&self.seen(told)),
            (AnswerSeen::Charged, StreamEnd::Whole) => as_told.unwrap_or_else(|| match terms.on_missing_usage {
                OnMissingUsage::Nothing => 0,
                OnMissingUsage::Estimate => terms.charge.of(&self.seen(None)),
                OnMissingUsage::Reserved => reserved,
            }),
        }
    }

    /// What an answer took at least that has come so far: what was told of it, and what its text looks like that came
    /// since.
    fn seen(&self, told: Option<Usage>) -> Usage {
        let RequestTokens { input, .. } = self.request;
        let text = self.usage.text_bytes().div_ceil(BYTES_PER_TOKEN);
        let told = told.unwrap_or(Usage { input, stock: input, ..Usage::default() });
        Usage { output: told.output.saturating_add(text), stock: told.stock.saturating_add(text), ..told }
    }
}
