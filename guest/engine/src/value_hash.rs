//! Values that must not be read in Redis: tokens and sessions.

use alloc::{collections::BTreeMap, rc::Rc};
use core::{cell::RefCell, fmt};

use hmac_sha256::Hash;

use crate::name::{Name, Named, Sought};

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

/// Codes of values, all forgotten when they take too much.
#[derive(Default)]
struct Memo {
    /// With the tag of the key. A value that is hashed under several has one code here, the last.
    codes: BTreeMap<Name, (u64, Code)>,
    bytes: usize,
}

/// A code in hexadecimal digits.
pub(crate) type Code = [u8; 32];

/// What a memo may take, in bytes: codes of some 3,000 tokens.
const MEMO_MAX: usize = 256 << 10;

/// A longer value is not remembered: a few of those would push out all others.
const REMEMBERED_MAX: usize = 2 << 10;

/// A code in a memo, beside its value.
const ENTRY_BYTES: usize = 80;

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
    pub(super) fn code(&self, value: &[u8]) -> Code {
        if value.len() > REMEMBERED_MAX {
            return self.compute(value);
        }
        let sought = Sought::new(value);
        // Nobody holds it while this runs; if anybody did, the code would be computed once more.
        let Ok(mut memo) = self.codes.0.try_borrow_mut() else { return self.compute(value) };
        match memo.get(&sought) {
            Some((tag, code)) if tag == self.tag => code,
            _ => memo.keep(sought, self.tag, self.compute(value)),
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
    fn get(&self, value: &dyn Named) -> Option<(u64, Code)> {
        self.codes.get(value).copied()
    }

    fn keep(&mut self, value: Sought<'_>, tag: u64, code: Code) -> Code {
        let name = value.to_name();
        let bytes = name.len() + ENTRY_BYTES;
        if self.bytes + bytes > MEMO_MAX {
            *self = Memo::default();
        }
        if self.codes.insert(name, (tag, code)).is_none() {
            self.bytes += bytes;
        }
        code
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
            let bytes: usize = memo.codes.keys().map(|name| name.len() + ENTRY_BYTES).sum();
            assert!(bytes == memo.bytes && bytes <= MEMO_MAX, "{number}");
            most = most.max(memo.codes.len());
        }
        assert!(most > 100, "{most}");
        assert!(codes.0.borrow().codes.keys().all(|name| name.len() <= REMEMBERED_MAX));
    }
}
