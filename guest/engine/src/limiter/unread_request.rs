//! A request whose body says how long its answer may be, and whether that tells its usage, while it is read.

use super::estimate::RequestTokens;
use crate::{
    body::{BodyCoding, BodyPiece, Splice},
    plan::Plan,
    tokens::OutputBoundReader,
};

/// So much of a body is read, in bytes. Of a longer one it is not known what it says further on.
const BODY_MAX: u64 = 1 << 20;

/// What the chain knows of the stream, and what it takes to find both, in bytes, with room to spare.
const BESIDE_BYTES: usize = 640;

/// A request whose body is being read, or was, and that waits for the decision.
#[derive(Debug)]
pub(super) struct UnreadRequest {
    /// Of its policy.
    pub(super) index: usize,
    /// None: it is asked about.
    pub(super) plan: Option<Plan>,
    reader: OutputBoundReader,
    /// Its stream is to tell its usage.
    asks_usage: bool,
    /// All of it was read.
    is_read: bool,
    /// How much of it has come.
    pub(super) bytes: u64,
    /// How much memory this takes, in bytes.
    pub(super) size: usize,
}

impl UnreadRequest {
    pub(super) fn new(index: usize, plan: Plan, asks_usage: bool) -> UnreadRequest {
        UnreadRequest {
            index,
            size: UnreadRequest::bytes_for(&plan),
            plan: Some(plan),
            reader: if asks_usage { OutputBoundReader::asking() } else { OutputBoundReader::default() },
            asks_usage,
            is_read: false,
            bytes: 0,
        }
    }

    /// What a request of this plan takes, in bytes.
    pub(super) fn bytes_for(plan: &Plan) -> usize {
        BESIDE_BYTES + size_of::<UnreadRequest>() + plan.bytes()
    }

    /// A piece of its body has come. What the request tells, if that was enough.
    pub(super) fn read(&mut self, piece: BodyPiece<'_>) -> Option<RequestTokens> {
        // Nothing can be added to one in a coding.
        self.asks_usage &= piece.coding == BodyCoding::Identity;
        if self.plan.is_some() && piece.coding != BodyCoding::Encoded {
            self.reader.feed(piece.bytes);
            self.is_read |= piece.end;
        }
        self.bytes = self.bytes.saturating_add(piece.bytes.len() as u64);
        // What a body said before it grew too long holds all the same.
        let output_max = self.reader.bound().output_max();
        (piece.end || self.bytes >= BODY_MAX).then(|| RequestTokens::of_body(self.bytes, !piece.end, output_max))
    }

    /// The change by which its stream tells its usage, if it is to and would not without.
    pub(super) fn usage_request(&self) -> Option<Splice> {
        if self.asks_usage && self.is_read { self.reader.usage_request() } else { None }
    }
}
