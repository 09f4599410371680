//! A request whose body says how long its answer may be, while it is read.

use super::estimate::RequestTokens;
use crate::{
    body::{BodyCoding, BodyPiece},
    plan::Plan,
    tokens::OutputBoundReader,
};

/// So much of a body is read, in bytes. Of a longer one it is not known what it says further on.
const BODY_MAX: u64 = 1 << 20;

/// A request whose body is being read, or was, and that waits for the decision.
#[derive(Debug)]
pub(super) struct UnreadRequest {
    /// Of its policy.
    pub(super) index: usize,
    /// None: it is asked about.
    pub(super) plan: Option<Plan>,
    reader: OutputBoundReader,
    /// How much of it has come.
    pub(super) bytes: u64,
}

impl UnreadRequest {
    pub(super) fn new(index: usize, plan: Plan) -> UnreadRequest {
        UnreadRequest { index, plan: Some(plan), reader: OutputBoundReader::default(), bytes: 0 }
    }

    /// A piece of its body has come. What the request tells, if that was enough.
    pub(super) fn read(&mut self, piece: BodyPiece<'_>) -> Option<RequestTokens> {
        if self.plan.is_some() && piece.coding != BodyCoding::Encoded {
            self.reader.feed(piece.bytes);
        }
        self.bytes = self.bytes.saturating_add(piece.bytes.len() as u64);
        // What a body said before it grew too long holds all the same.
        let output_max = self.reader.bound().output_max();
        (piece.end || self.bytes >= BODY_MAX).then(|| RequestTokens::of_body(self.bytes, !piece.end, output_max))
    }
}
