//! Signatures of the ids of Slidegate's own sessions.

use alloc::vec::Vec;

use super::{
    miss::SessionMiss,
    signature::{CookieSigner, KeyDerivation, cut_last},
    source::SessionSource,
};

/// Signs for one cookie and one beginning of keys: what is good there is good nowhere else, though others have the same
/// secret.
#[derive(Debug, Clone)]
pub(super) struct OwnSigner {
    signer: CookieSigner,
    /// What is signed behind an id.
    place: Vec<u8>,
}

impl OwnSigner {
    pub(super) fn new(source: &SessionSource, key_prefix: &str, secrets: &[impl AsRef<[u8]>]) -> OwnSigner {
        let (SessionSource::Cookie(name) | SessionSource::Header(name)) = source;
        let signer = CookieSigner::new(KeyDerivation::Sha256OfSalt("slidegate.session"), secrets);
        // No cookie's name has this sign in it.
        let place = [b".", name.as_bytes(), b"=", key_prefix.as_bytes()].concat();
        OwnSigner { signer, place }
    }

    /// An id with its signature under the first secret.
    pub(super) fn signed(&self, id: &[u8]) -> Vec<u8> {
        [id, b".", &self.signer.sign(&[id, &self.place].concat())].concat()
    }

    /// The id that was signed so, under any of the secrets.
    pub(super) fn id<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], SessionMiss> {
        let (id, signature) = cut_last(value, b'.').ok_or(SessionMiss::Malformed)?;
        match self.signer.has_signed(&[id, &self.place].concat(), signature) {
            true => Ok(id),
            false => Err(SessionMiss::WrongSignature),
        }
    }
}
