//! Bodies, as adapters show them to filters: piece by piece, as they come.

use alloc::vec::Vec;

/// How much of a body a filter wants to see. The greatest of what the filters of a chain want is asked of the adapter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// Nothing.
    #[default]
    None,
    /// A copy of each piece as it is on its way, in its content coding. It goes on whatever is said of it.
    Copy,
    /// The same, without its content coding if the adapter can take that off.
    Watch,
    /// Each piece before it goes on. The adapter keeps it as long as a filter waits.
    Hold,
}

/// A piece of a body. Pieces begin and end anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPiece<'a> {
    /// Maybe none, at the end.
    pub bytes: &'a [u8],
    /// What these bytes are.
    pub coding: BodyCoding,
    /// No more follows.
    pub end: bool,
}

/// How the bytes that are shown are related to those on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyCoding {
    /// They are the same, and in no content coding.
    Identity,
    /// They are what is left when the content coding is taken off.
    Decoded,
    /// They are the same, and in a content coding.
    Encoded,
}

/// What becomes of the pieces of a body that are kept, the one that is shown included. Of a body that is not held it
/// means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BodyChange {
    /// They go on as they are.
    #[default]
    Keep,
    /// These bytes go on in their place.
    Replace(Vec<u8>),
    /// They go on with this change.
    Splice(Splice),
    /// These bytes go on in their place, and the body ends with them, regularly. What still comes of it is dropped; of
    /// a response, the upstream is let go. An adapter that cannot do that may show the rest; what is said of it means
    /// nothing.
    End(Vec<u8>),
}

/// A change at one place of the pieces of a body that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splice {
    /// Behind so many bytes of them.
    pub at: usize,
    /// So many bytes go.
    pub removed: usize,
    /// These come in their place.
    pub bytes: Vec<u8>,
}

// === impl Splice ===

impl Splice {
    /// What becomes of these pieces.
    pub fn of(&self, kept: &[u8]) -> Vec<u8> {
        let (before, rest) = kept.split_at_checked(self.at).unwrap_or((kept, &[]));
        [before, &self.bytes, rest.get(self.removed..).unwrap_or_default()].concat()
    }
}

// === impl BodyChange ===

impl BodyChange {
    /// What was to become of the pieces so far, now that this one is kept too.
    pub(crate) fn follow(&mut self, piece: &[u8]) {
        if let BodyChange::Replace(bytes) = self {
            bytes.extend_from_slice(piece);
        }
    }
}
