//! Names of members that mean something, found by a digest of them: comparing what is read with one after the other
//! takes a guest kilobytes of code for each table.

use crate::byte_search::is_same;

/// What names mean.
#[derive(Debug)]
pub(super) struct NameTable<Meaning: 'static> {
    names: &'static [(&'static [u8], Meaning)],
    /// Which of them has a digest, from 1 on, or one of a digest before it.
    slots: [u8; SLOTS],
}

/// Far more than any table has names, so that what is in none mostly meets an empty one.
const SLOTS: usize = 128;

impl<Meaning: Copy> NameTable<Meaning> {
    #[expect(clippy::indexing_slicing, reason = "it is evaluated as it is compiled")]
    pub(super) const fn new(names: &'static [(&'static [u8], Meaning)]) -> NameTable<Meaning> {
        assert!(names.len() < SLOTS / 2, "a search ends at an empty slot");
        let (mut slots, mut at) = ([0; SLOTS], 0);
        while at < names.len() {
            let mut slot = digest(names[at].0);
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            at += 1;
            slots[slot] = at as u8;
        }
        NameTable { names, slots }
    }

    /// What a name means, if it is one of these.
    #[inline]
    pub(super) fn get(&self, name: &[u8]) -> Option<Meaning> {
        let mut slot = digest(name);
        loop {
            let at = usize::from(*self.slots.get(slot)?);
            let (known, meaning) = self.names.get(at.checked_sub(1)?)?;
            if is_same(known, name) {
                return Some(*meaning);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// In which slot the search for a name begins.
#[inline]
const fn digest(name: &[u8]) -> usize {
    match name {
        [first, .., last] => (*first as usize + *last as usize * 5 + name.len() * 23) % SLOTS,
        [only] => *only as usize % SLOTS,
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_no_others() {
        const NAMES: &[(&[u8], usize)] =
            &[(b"", 0), (b"a", 1), (b"abc", 2), (b"adc", 3), (b"aec", 4), (b"\xff\xff", 5)];
        static TABLE: NameTable<usize> = NameTable::new(NAMES);
        for (name, meaning) in NAMES {
            assert_eq!(TABLE.get(name), Some(*meaning));
        }
        // Of the same digest as three of them, and of any.
        assert_eq!(TABLE.get(b"axc"), None);
        for byte in 0..=u8::MAX {
            assert_eq!(TABLE.get(&[byte]).is_some(), byte == b'a');
            assert_eq!(TABLE.get(&[byte, byte]).is_some(), byte == u8::MAX);
        }
    }
}
