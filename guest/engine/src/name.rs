//! Texts as names in trees.
//!
//! Keys of Redis begin alike: with a word, a rule's name and a kind of limit. In a tree ordered by their bytes each
//! look-up would read all that again for each key it passes.

use alloc::boxed::Box;
use core::{
    borrow::Borrow,
    cmp::Ordering,
    sync::atomic::{AtomicU64, Ordering as Access},
};

use crate::byte_search::is_same;

/// A text in the order of its hash, and among texts of one hash in the order of bytes.
///
/// Strangers choose keys, so the hash has a seed that they do not know. Whoever found texts of one hash all the same
/// would gain little: they are compared as a whole, none passes for another, and the tree grows no deeper.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    hash: u64,
    text: Box<[u8]>,
}

/// A text to look for among names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    hash: u64,
    text: &'a [u8],
}

/// What is as a name in a tree.
pub(crate) trait Named {
    fn hash(&self) -> u64;
    fn text(&self) -> &[u8];
}

/// An odd number whose bits are as if by chance, from the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What every hash begins with. One for all engines of an instance, as a hash is made in too many places to bring it
/// along.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Sets what hashes of keys begin with, so that who chooses keys cannot choose those of one hash: once, before the
/// first engine is configured, with a number that nobody can guess. Another one later changes nothing, and without any
/// everything works the same.
pub fn seed(number: u64) {
    // Not 0, which stands for none. It does not matter whose comes first.
    let _ = SEED.compare_exchange(0, number | 1, Access::Relaxed, Access::Relaxed);
}

/// Of this instance, and of no other.
#[inline]
pub(crate) fn hash(text: &[u8]) -> u64 {
    hash_from(SEED.load(Access::Relaxed), text)
}

/// Eight bytes at a time.
#[inline]
fn hash_from(seed: u64, text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks();
    let last = rest.iter().fold(text.len() as u64, |word, byte| word << 8 | u64::from(*byte));
    words.iter().map(|word| u64::from_le_bytes(*word)).fold(mixed(seed ^ last), |hash, word| mixed(hash ^ word))
}

/// Every bit has a part in the lower half, and all of these in the upper.
#[inline]
pub(crate) fn mixed(number: u64) -> u64 {
    let product = (number ^ number >> 32).wrapping_mul(FACTOR);
    product ^ product >> 29
}

impl Name {
    /// Bytes of its text.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

impl<'a> Sought<'a> {
    #[inline]
    pub(crate) fn new(text: &'a [u8]) -> Sought<'a> {
        Sought { hash: hash(text), text }
    }

    /// It as a name, to be kept.
    #[inline]
    pub(crate) fn to_name(self) -> Name {
        Name { hash: self.hash, text: self.text.into() }
    }
}

impl Named for Name {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.text
    }
}

impl Named for Sought<'_> {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.text
    }
}

impl<'a> Borrow<dyn Named + 'a> for Name {
    #[inline]
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Ord for dyn Named + '_ {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let (text, other_text) = (self.text(), other.text());
        self.hash()
            .cmp(&other.hash())
            .then_with(|| if is_same(text, other_text) { Ordering::Equal } else { text.cmp(other_text) })
    }
}

impl Ord for Name {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (self as &dyn Named).cmp(other)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Name {}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for dyn Named + '_ {}

#[cfg(test)]
mod tests {
    use alloc::{
        collections::{BTreeMap, BTreeSet},
        format,
        string::String,
        vec::Vec,
    };

    use super::*;

    #[test]
    fn a_text_is_found_under_its_name_and_no_other() {
        let texts: BTreeSet<String> = (0..2_000).map(|number| format!("slidegate:{{bench:{number}")).collect();
        let tree: BTreeMap<Name, &String> =
            texts.iter().map(|text| (Sought::new(text.as_bytes()).to_name(), text)).collect();
        for text in &texts {
            let sought: &dyn Named = &Sought::new(text.as_bytes());
            assert_eq!(tree.get(sought), Some(&text));
        }
        let absent: &dyn Named = &Sought::new(b"slidegate:{bench:2000");
        assert_eq!(tree.get(absent), None);
    }

    #[test]
    fn texts_of_one_hash_are_told_apart() {
        let alike = |text: &'static [u8]| Name { hash: 7, text: text.into() };
        let tree: BTreeMap<Name, usize> = [alike(b"a"), alike(b"b"), alike(b"c")].into_iter().zip(0..).collect();
        for (at, text) in [b"a", b"b", b"c"].into_iter().enumerate() {
            let sought: &dyn Named = &Sought { hash: 7, text };
            assert_eq!(tree.get(sought), Some(&at));
        }
    }

    #[test]
    fn hashes_differ_where_texts_do() {
        let mut hashes = BTreeSet::new();
        // Of each length around whole words, with each byte changed, and numbers as users have them.
        let base = [b'u'; 40];
        for length in 0..base.len() {
            for at in 0..length {
                let mut text = base;
                text[at] ^= 1;
                assert!(hashes.insert(hash(&text[..length])), "{length}, {at}");
            }
            assert!(hashes.insert(hash(&base[..length])), "{length}");
        }
        for user in 0..100_000 {
            assert!(hashes.insert(hash(format!("user-{user:06}").as_bytes())), "{user}");
        }
    }

    #[test]
    fn texts_of_one_hash_have_another_each_by_another_seed() {
        // Made for a hash without a seed: the second word makes up for what the first one changes.
        let step = |hash: u64, word: &[u8]| mixed(hash ^ u64::from_le_bytes(*word.first_chunk().unwrap()));
        let made_for = |seed: u64, first: &[u8; 8]| {
            let wanted = step(mixed(seed ^ 16), b"slidegat") ^ u64::from_le_bytes(*b"e:{rule}");
            let second = step(mixed(seed ^ 16), first) ^ wanted;
            [*first, second.to_le_bytes()].concat()
        };
        for seed in [0, 1, 0x0123_4567_89AB_CDEF, u64::MAX] {
            let texts: Vec<Vec<u8>> = [b"slidegat", b"aaaaaaaa", b"bbbbbbbb"].map(|first| made_for(seed, first)).into();
            let hashes = |seed: u64| texts.iter().map(|text| hash_from(seed, text)).collect::<BTreeSet<_>>().len();
            assert_eq!(hashes(seed), 1, "{seed}: they are made for it");
            assert_eq!(hashes(seed ^ 0x5555_5555_0000_0001), texts.len(), "{seed}");
        }
    }

    #[test]
    fn what_a_look_up_passes_is_not_read_but_for_its_hash() {
        // The upper bits order a tree: they are spread however alike the texts are.
        let mut buckets = [0_u32; 256];
        for user in 0..25_600 {
            let text = format!("slidegate:{{rule:limit_by_per_header:x-api-key:user-{user:06}}}:3600");
            buckets[(hash(text.as_bytes()) >> 56) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (40..180).contains(count)), "{buckets:?}");
    }
}
