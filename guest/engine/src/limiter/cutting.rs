//! A stream that ends where nothing is left of its limits: what is known of it beside what it took.

use alloc::vec::Vec;

use super::refusal::{RefusalKind, TOKENS_MESSAGE, text};
use crate::{
    body::BodyPiece,
    rule::{CutAs, ErrorFormat},
    streams::Waiter,
    tokens::{CutReader, LastError, StreamApi},
};

/// So many tokens more are asked for, or charged, at a time.
pub(super) const STEP: u64 = 256;

/// Of a smaller limit this share of it.
const STEP_SHARE: u64 = 16;

/// So long nothing is asked where it was not known whether there is more.
const PAUSE_NS: u64 = 1_000_000_000;

/// A stream that may be cut.
#[derive(Debug, Default)]
pub(super) struct Cutting {
    reader: CutReader,
    state: CutState,
}

#[derive(Debug, Default)]
enum CutState {
    #[default]
    Open,
    /// More is asked for of these limits, by their places among the plan's.
    Asked { by: Waiter, limits: Vec<usize> },
    /// Nobody can say before then.
    Unknown { until_ns: u64 },
    /// Nothing is left: it ends behind this event, or the next.
    Exhausted(CutAs),
    /// It has ended for its client. Whether the model has told the rest, which some hosts still show.
    Cut { is_told_to_its_end: bool },
}

impl Cutting {
    /// A piece of the answer has come. Where in it the stream may be cut.
    pub(super) fn read(&mut self, piece: BodyPiece<'_>) -> Option<usize> {
        if let CutState::Cut { is_told_to_its_end } = &mut self.state {
            *is_told_to_its_end |= piece.end;
            return None;
        }
        self.reader.feed(piece.bytes)
    }

    /// Whether the client got the end of the answer before the model told it.
    pub(super) fn ended_early(&self) -> bool {
        matches!(self.state, CutState::Cut { is_told_to_its_end: false })
    }

    /// Whether it was cut at all.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.state, CutState::Cut { .. })
    }

    /// Whether what it takes is asked for.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, CutState::Open | CutState::Asked { .. })
    }

    /// Whether more may be asked for now.
    pub(super) fn may_ask(&self, now_ns: u64) -> bool {
        match self.state {
            CutState::Open => true,
            CutState::Unknown { until_ns } => until_ns <= now_ns,
            CutState::Asked { .. } | CutState::Exhausted(_) | CutState::Cut { .. } => false,
        }
    }

    /// More is asked for of these limits.
    pub(super) fn ask(&mut self, by: Waiter, limits: Vec<usize>) {
        self.state = CutState::Asked { by, limits };
    }

    /// What was asked so is answered. Of which limits; none if that is not waited for.
    pub(super) fn take_asked(&mut self, by: &Waiter) -> Option<Vec<usize>> {
        match &mut self.state {
            CutState::Asked { by: waits, limits } if waits.is(by) => {
                let limits = core::mem::take(limits);
                self.state = CutState::Open;
                Some(limits)
            }
            _ => None,
        }
    }

    /// Nobody can say whether there is more. A stream is not cut for that.
    pub(super) fn pause(&mut self, now_ns: u64) {
        self.state = CutState::Unknown { until_ns: now_ns.saturating_add(PAUSE_NS) };
    }

    /// There is not.
    pub(super) fn exhaust(&mut self, cut_as: CutAs) {
        self.state = CutState::Exhausted(cut_as);
    }

    /// Cuts the stream in this piece, or before it, if it is to be cut and can be: what of the piece goes on, and the
    /// words behind it. `code`: the status of refusals; `output`: what the answer has come to.
    pub(super) fn cut<'a>(
        &mut self,
        piece: BodyPiece<'a>,
        place: Option<usize>,
        code: u16,
        output: u64,
    ) -> Option<(&'a [u8], Vec<u8>)> {
        let CutState::Exhausted(cut_as) = self.state else { return None };
        let gone = piece.bytes.get(..place?).filter(|_| !piece.end)?;
        let body = match cut_as {
            CutAs::Finish => None,
            CutAs::Error => Some(text(error_format(self.reader.api()?), RefusalKind::Tokens, code)),
        };
        let error = body.as_ref().map(|body| LastError { body, message: TOKENS_MESSAGE });
        let words = self.reader.last_words(error, output)?;
        self.state = CutState::Cut { is_told_to_its_end: false };
        Some((gone, words))
    }
}

/// What is asked for beyond what a stream has taken, of a limit of so many tokens.
pub(super) fn step_of(limit: u64) -> u64 {
    (limit / STEP_SHARE).clamp(1, STEP)
}

fn error_format(api: StreamApi) -> ErrorFormat {
    match api {
        StreamApi::OpenAiChat | StreamApi::OpenAiText | StreamApi::OpenAiResponses => ErrorFormat::OpenAi,
        // They tell of it in a way of their own.
        StreamApi::Cohere | StreamApi::Ollama | StreamApi::Bedrock => ErrorFormat::Plain,
        StreamApi::Anthropic => ErrorFormat::Anthropic,
        StreamApi::Gemini => ErrorFormat::Gemini,
    }
}
