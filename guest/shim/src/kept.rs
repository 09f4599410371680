//! Changes to responses that have not come yet: the gateway takes them no earlier.

use std::collections::BTreeMap;

use slidegate_engine::HeaderEdit;

/// What they may take together, in bytes. More responses go without.
const BYTES_MAX: usize = 8 << 20;

/// The changes of streams that have passed, by the engine's names for these. What a virtual machine may take is
/// bounded, and responses may be long in coming.
#[derive(Debug, Default)]
pub struct KeptEdits {
    streams: BTreeMap<u64, Box<[HeaderEdit]>>,
    bytes: usize,
}

impl KeptEdits {
    /// Keeps the changes of a stream, behind those it had. Where there is no room for them it has none.
    pub fn keep(&mut self, stream: u64, edits: Vec<HeaderEdit>) {
        if edits.is_empty() {
            return;
        }
        let edits = [self.take(stream), edits].concat();
        let bytes = size(&edits);
        if self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.streams.insert(stream, edits.into());
        }
    }

    /// Hands out the changes of a stream, once.
    pub fn take(&mut self, stream: u64) -> Vec<HeaderEdit> {
        let edits = self.streams.remove(&stream).unwrap_or_default();
        self.bytes -= size(&edits);
        edits.into()
    }
}

fn size(edits: &[HeaderEdit]) -> usize {
    edits.iter().map(HeaderEdit::size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(value: usize) -> Vec<HeaderEdit> {
        vec![HeaderEdit::Set("x".into(), vec![b'v'; value])]
    }

    #[test]
    fn changes_are_handed_out_once_and_in_their_order() {
        let mut kept = KeptEdits::default();
        kept.keep(1, edits(5));
        kept.keep(1, edits(6));
        kept.keep(2, Vec::new());
        assert_eq!((kept.take(1), kept.take(1), kept.take(2)), ([edits(5), edits(6)].concat(), Vec::new(), Vec::new()));
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn those_of_responses_that_do_not_come_are_bounded() {
        let mut kept = KeptEdits::default();
        (0..20_000).for_each(|stream| kept.keep(stream, edits(4_000)));
        assert!((1_000..5_000).contains(&kept.streams.len()), "{}", kept.streams.len());
        assert!(kept.take(19_999).is_empty());
        assert_eq!(kept.take(0), edits(4_000));
        (0..20_000).for_each(|stream| drop(kept.take(stream)));
        assert_eq!((kept.bytes, kept.streams.len()), (0, 0));
    }
}
