//! Signatures of cookies: HMAC (RFC 2104) in Base64 without padding, under any of several secrets, so that they can be
//! changed while sessions last.

use alloc::vec::Vec;
use core::fmt;

use hmac_sha256::{HMAC, Hash};
use sha1_smol::Sha1;

use crate::base64::Base64;

/// What stands before the last separator, and what behind.
pub(super) fn cut_last(value: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = value.iter().rposition(|byte| *byte == separator)?;
    let (before, after) = value.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

/// Knows what applications have signed.
#[derive(Clone)]
pub(super) struct CookieSigner {
    /// One for each secret.
    keys: Vec<SigningKey>,
    base64: Base64,
}

/// HMAC under one key, begun.
#[derive(Clone)]
enum SigningKey {
    Sha1 { inner: Sha1, outer: Sha1 },
    Sha256(HMAC),
}

/// How the key is made of a secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyDerivation {
    /// `cookie-signature` of Express: the secret itself, for SHA-256.
    Secret,
    /// `itsdangerous` as Flask uses it, key derivation `hmac`: the SHA-1 HMAC of this salt under the secret.
    HmacOfSalt(&'static str),
    /// `itsdangerous` by default, `django-concat`: the SHA-1 of this salt, `signer`, and the secret.
    Sha1OfSalt(&'static str),
    /// Django, and Slidegate's own: the SHA-256 of this salt, `signer`, and the secret.
    Sha256OfSalt(&'static str),
}

/// Bytes of a block of both hashes.
const BLOCK: usize = 64;

impl CookieSigner {
    /// Of these secrets.
    pub(super) fn new(derivation: KeyDerivation, secrets: &[impl AsRef<[u8]>]) -> CookieSigner {
        let base64 = match derivation {
            KeyDerivation::Secret => Base64::Plain,
            _ => Base64::Url,
        };
        let key = |secret: &[u8]| match derivation {
            KeyDerivation::Secret => SigningKey::Sha256(HMAC::new(secret)),
            KeyDerivation::HmacOfSalt(salt) => {
                let key = SigningKey::sha1(secret).sign(&[salt.as_bytes()]);
                SigningKey::sha1(&key)
            }
            KeyDerivation::Sha1OfSalt(salt) => {
                let mut hash = Sha1::new();
                [salt.as_bytes(), b"signer", secret].iter().for_each(|part| hash.update(part));
                SigningKey::sha1(&hash.digest().bytes())
            }
            KeyDerivation::Sha256OfSalt(salt) => {
                let mut hash = Hash::new();
                [salt.as_bytes(), b"signer", secret].iter().for_each(|part| hash.update(part));
                SigningKey::Sha256(HMAC::new(hash.finalize()))
            }
        };
        CookieSigner { keys: secrets.iter().map(|secret| key(secret.as_ref())).collect(), base64 }
    }

    /// The signature of the message under the first secret.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.keys.first().map(|key| self.base64.encode(&key.sign(&[message]))).unwrap_or_default()
    }

    /// Whether this is the signature of the message under one of the secrets. It takes as long whichever it is and
    /// wherever it differs.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        // Digests are compared, in constant time and whatever the lengths.
        let given = Hash::hash(signature);
        self.keys.iter().fold(false, |is_signed, key| {
            let expected = self.base64.encode(&key.sign(&[message]));
            is_signed | Hash::verify(&expected, &given)
        })
    }
}

impl SigningKey {
    fn sha1(key: &[u8]) -> SigningKey {
        let digest = (key.len() > BLOCK).then(|| Sha1::from(key).digest().bytes());
        let key = digest.as_ref().map_or(key, |digest| digest.as_slice());
        let begun = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
            Sha1::from(block)
        };
        SigningKey::Sha1 { inner: begun(0x36), outer: begun(0x5c) }
    }

    fn sign(&self, message: &[&[u8]]) -> Vec<u8> {
        match self {
            SigningKey::Sha1 { inner, outer } => {
                let (mut inner, mut outer) = (inner.clone(), outer.clone());
                message.iter().for_each(|part| inner.update(part));
                outer.update(&inner.digest().bytes());
                outer.digest().bytes().to_vec()
            }
            SigningKey::Sha256(begun) => {
                let mut mac = begun.clone();
                message.iter().for_each(|part| mac.update(part));
                mac.finalize().to_vec()
            }
        }
    }
}

/// Shows no key.
impl fmt::Debug for CookieSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieSigner of {} secrets", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn it_is_the_hmac_of_rfc_2202() {
        let jefe = SigningKey::sha1(b"Jefe").sign(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&jefe), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let long = SigningKey::sha1(&[0xaa; 80]).sign(&[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&long), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }

    const ALL: [KeyDerivation; 4] = [
        KeyDerivation::Secret,
        KeyDerivation::HmacOfSalt("salt"),
        KeyDerivation::Sha1OfSalt("salt"),
        KeyDerivation::Sha256OfSalt("salt"),
    ];

    #[test]
    fn no_secret_has_signed_nothing() {
        for derivation in ALL {
            let signer = CookieSigner::new(derivation, &[""; 0]);
            assert!(!signer.has_signed(b"", b"") && !signer.has_signed(b"message", b"signature"));
            assert_eq!(format!("{signer:?}"), "CookieSigner of 0 secrets");
        }
    }

    proptest! {
        #[test]
        fn one_spelling_of_one_signature_of_one_message_passes(
            message in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            for derivation in ALL {
                let (signer, other) = (CookieSigner::new(derivation, &["new", "old"]),
                    CookieSigner::new(derivation, &["x"]));
                for key in &signer.keys {
                    let signature = signer.base64.encode(&key.sign(&[&message]));
                    prop_assert!(signer.has_signed(&message, &signature) && !other.has_signed(&message, &signature));
                    let mut mutated = signature.clone();
                    let place = at.index(mutated.len());
                    mutated[place] = byte;
                    prop_assert_eq!(signer.has_signed(&message, &mutated), mutated == signature);
                    prop_assert!(!signer.has_signed(&message, &signature[..place]));
                    prop_assert!(!signer.has_signed(&message, &[&signature[..], b"="].concat()));
                    prop_assert!(!signer.has_signed(&[&message[..], &[byte]].concat(), &signature));
                }
            }
        }
    }
}
