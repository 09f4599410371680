//! Values that must not be read in Redis: tokens and sessions.

use core::fmt;

use hmac_sha256::Hash;

/// Spells values as 128 bits of HMAC-SHA-256 (RFC 2104) under `hash_key`. Without that key anybody can hash a guess and compare.
///
/// Both of its hashes begin with a block of the key alone, which is hashed once: a short value then costs two blocks, not three.
#[derive(Clone)]
pub struct ValueHash {
    inner: Hash,
    outer: Hash,
}

/// Bytes of a block.
const BLOCK: usize = 64;

impl ValueHash {
    /// Under this key, which may have any length.
    pub fn new(key: &[u8]) -> ValueHash {
        let digest = (key.len() > BLOCK).then(|| Hash::hash(key));
        let key = digest.as_ref().map_or(key, |digest| digest.as_slice());
        let begun = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
            let mut hash = Hash::new();
            hash.update(block);
            hash
        };
        ValueHash { inner: begun(0x36), outer: begun(0x5c) }
    }

    /// The first half of the value's code.
    pub(super) fn code(&self, value: &[u8]) -> u128 {
        let (mut inner, mut outer) = (self.inner, self.outer);
        inner.update(value);
        outer.update(inner.finalize());
        outer.finalize().first_chunk().map_or(0, |half| u128::from_be_bytes(*half))
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
        let hash = ValueHash::new(b"Jefe");
        assert_eq!(hash.code(b"what do ya want for nothing?"), 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7);
        let long = ValueHash::new(&[0xaa; 131]);
        let code = long.code(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(code, 0x60e4_3159_1ee0_b67f_0d8a_26aa_cbf5_b77f);
        assert_eq!(alloc::format!("{hash:?}"), "ValueHash");
    }
}
