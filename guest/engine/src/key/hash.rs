//! Values that must not be read in Redis: tokens and sessions.

use core::fmt;

use hmac_sha256::HMAC;

/// Spells values as 128 bits of HMAC-SHA-256 under `hash_key`. Without that key anybody can hash a guess and compare.
#[derive(Clone)]
pub struct ValueHash(HMAC);

impl ValueHash {
    /// Under this key, which may have any length.
    pub fn new(key: &[u8]) -> ValueHash {
        ValueHash(HMAC::new(key))
    }

    /// The first half of the value's code.
    pub(super) fn code(&self, value: &[u8]) -> u128 {
        let mut code = self.0.clone();
        code.update(value);
        code.finalize().iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
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
