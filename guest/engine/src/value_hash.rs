//! Values that must not be read in Redis: tokens and sessions.

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::{cell::RefCell, fmt};

use hmac_sha256::Hash;

use crate::{byte_search::is_same, name::hash};

/// Spells values as 128 bits of HMAC-SHA-256 (RFC 2104) under `hash_key`. Without that key anybody can hash a guess and
/// compare.
///
/// Both of its hashes begin with a block of the key alone, which is hashed once: a short value then costs two blocks,
/// not three.
#[derive(Clone)]
pub struct ValueHash {
    inner: Hash,
    outer: Hash,
    /// Tells this key from others, and nobody what it is.
    tag: u64,
    codes: Codes,
}

/// Codes of values that may come again, of all keys of a configuration together.
#[derive(Clone, Default)]
pub struct Codes(Rc<RefCell<Memo>>);

/// Codes of values, in sets by a digest of the value and the key: of more than fit into one set, the one that has been
/// there longest is computed again when it comes. So whoever chooses values can make others cost more, and no more than
/// new values do. All are forgotten when they take too much.
#[derive(Default)]
struct Memo {
    /// None until the first code is kept.
    sets: Vec<[Option<Box<KnownCode>>; WAYS]>,
    bytes: usize,
}

/// A value whose code is known.
struct KnownCode {
    /// Of the key that it was hashed under.
    tag: u64,
    value: Box<[u8]>,
    code: Code,
}

/// A code in hexadecimal digits.
pub(crate) type Code = [u8; 32];

/// What a memo may take, in bytes: codes of some 3,000 tokens.
const MEMO_MAX: usize = 256 << 10;

/// A longer value is not remembered: a few of those would push out all others.
const REMEMBERED_MAX: usize = 2 << 10;

/// A code in a memo, beside its value.
const ENTRY_BYTES: usize = 80;

/// Sets of a memo, a power of two, and how many codes one has room for. Of a thousand values in turn, some twenty would
/// meet in pairs with two others, and each time be computed again, which takes as long as all else of a request.
const SETS: usize = 2_048;
const WAYS: usize = 4;

/// Bytes of a block.
const BLOCK: usize = 64;

impl ValueHash {
    /// Under this key, which may have any length. Codes are remembered in `codes`.
    pub fn new(key: &[u8], codes: &Codes) -> ValueHash {
        let digest = (key.len() > BLOCK).then(|| Hash::hash(key));
        let key = digest.as_ref().map_or(key, |digest| digest.as_slice());
        let begun = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
            let mut hash = Hash::new();
            hash.update(block);
            hash
        };
        let (inner, outer) = (begun(0x36), begun(0x5c));
        let tag = inner.finalize().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        ValueHash { inner, outer, tag, codes: codes.clone() }
    }

    /// The first half of the value's code.
    #[inline]
    pub(super) fn code(&self, value: &[u8]) -> Code {
        if value.len() > REMEMBERED_MAX {
            return self.compute(value);
        }
        // Nobody holds it while this runs; if anybody did, the code would be computed once more.
        let Ok(mut memo) = self.codes.0.try_borrow_mut() else { return self.compute(value) };
        let at = (hash(value) ^ self.tag) as usize % SETS;
        match memo.get(at, self.tag, value) {
            Some(code) => code,
            None => memo.keep(at, KnownCode { tag: self.tag, value: value.into(), code: self.compute(value) }),
        }
    }

    /// Kept out of the look-up, which has the machine's registers for itself then.
    #[cold]
    #[inline(never)]
    fn compute(&self, value: &[u8]) -> Code {
        let (mut inner, mut outer) = (self.inner, self.outer);
        inner.update(value);
        outer.update(inner.finalize());
        let mut code = Code::default();
        for (digits, byte) in code.as_chunks_mut().0.iter_mut().zip(outer.finalize()) {
            *digits = [hex(byte >> 4, b'a'), hex(byte & 15, b'a')];
        }
        code
    }
}

impl Memo {
    #[inline]
    fn get(&self, at: usize, tag: u64, value: &[u8]) -> Option<Code> {
        let known = self.sets.get(at)?.iter().flatten();
        known.into_iter().find(|known| known.tag == tag && is_same(&known.value, value)).map(|known| known.code)
    }

    fn keep(&mut self, at: usize, known: KnownCode) -> Code {
        let (code, bytes) = (known.code, known.bytes());
        if self.bytes + bytes > MEMO_MAX {
            *self = Memo::default();
        }
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Default::default);
        }
        if let Some(set) = self.sets.get_mut(at) {
            set.rotate_right(1);
            let gone = set.first_mut().and_then(|first| first.replace(Box::new(known)));
            self.bytes = self.bytes + bytes - gone.map_or(0, |gone| gone.bytes());
        }
        code
    }
}

impl KnownCode {
    fn bytes(&self) -> usize {
        self.value.len() + ENTRY_BYTES
    }
}

/// A number below 16 as a digit; the one of ten is this.
pub(crate) fn hex(nibble: u8, ten: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { ten - 10 + nibble }
}

/// Shows no value.
impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codes")
    }
}

/// Shows nothing of the key.
impl fmt::Debug for ValueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_code_of_rfc_4231() {
        let hash = ValueHash::new(b"Jefe", &Codes::default());
        assert_eq!(hash.code(b"what do ya want for nothing?"), *b"5bdcc146bf60754e6a042426089575c7");
        let long = ValueHash::new(&[0xaa; 131], &Codes::default());
        let code = long.code(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(code, *b"60e431591ee0b67f0d8a26aacbf5b77f");
        assert_eq!(alloc::format!("{hash:?}"), "ValueHash");
    }

    #[test]
    fn what_is_remembered_is_what_would_be_computed_and_bounded_for_all_keys_together() {
        let codes = Codes::default();
        let hashes = [b"k", b"l", b"m"].map(|key| ValueHash::new(key, &codes));
        let value = |number: usize| alloc::format!("{number}").repeat(1 + number % 700).into_bytes();
        let mut most = 0;
        for number in (0..2_000).chain(1_900..2_000) {
            let value = value(number);
            for hash in [0, number % 3, 0].map(|at| &hashes[at]) {
                assert_eq!(hash.code(&value), hash.compute(&value), "{number}");
            }
            let memo = codes.0.borrow();
            let bytes: usize = memo.known().map(KnownCode::bytes).sum();
            assert!(bytes == memo.bytes && bytes <= MEMO_MAX, "{number}");
            most = most.max(memo.known().count());
        }
        assert!(most > 100, "{most}");
        assert!(codes.0.borrow().known().all(|known| known.value.len() <= REMEMBERED_MAX));
    }

    #[test]
    fn values_that_come_in_turn_are_remembered() {
        let codes = Codes::default();
        let hash = ValueHash::new(b"k", &codes);
        for number in 0..1_000 {
            hash.code(alloc::format!("user-{number:06}").as_bytes());
        }
        assert!(codes.0.borrow().known().count() >= 990, "{}", codes.0.borrow().known().count());
    }

    impl Memo {
        fn known(&self) -> impl Iterator<Item = &KnownCode> {
            self.sets.iter().flatten().flatten().map(|known| &**known)
        }
    }
}
