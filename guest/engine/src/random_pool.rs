//! Random bytes of the host, drawn ahead of their use: the engine has no source of its own, and no hook can wait for
//! one.

use alloc::vec::Vec;
use core::fmt;

/// So many are kept: for as many ids as one step may need. A host gives no more at once.
const POOL_BYTES: usize = 1_024;

/// Bytes that nobody can guess, each used once.
pub(crate) struct RandomPool {
    bytes: Vec<u8>,
    is_needed: bool,
    /// It was asked for some since any were taken: who has too few to give is not asked again and again.
    is_asked: bool,
}

impl RandomPool {
    /// An empty one. `is_needed`: some will be taken.
    pub(crate) fn new(is_needed: bool) -> RandomPool {
        RandomPool { bytes: Vec::new(), is_needed, is_asked: false }
    }

    /// How many are to be given, if it was not said already.
    pub(crate) fn lacking(&mut self) -> Option<usize> {
        let is_low = self.is_needed && !self.is_asked && self.bytes.len() < POOL_BYTES / 2;
        self.is_asked |= is_low;
        is_low.then(|| POOL_BYTES - self.bytes.len())
    }

    /// These are given. What is too much is not kept.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let room = POOL_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
    }

    /// Some that nobody had before. None: there are not so many.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.is_asked = false;
        let (rest, taken) = self.bytes.split_last_chunk()?;
        let (taken, rest) = (*taken, rest.len());
        self.bytes.truncate(rest);
        Some(taken)
    }
}

/// Shows none of them.
impl fmt::Debug for RandomPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RandomPool of {} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn each_byte_is_taken_once_and_asked_for_once() {
        let mut pool = RandomPool::new(true);
        assert_eq!((pool.take::<1>(), pool.lacking(), pool.lacking()), (None, Some(POOL_BYTES), None));
        pool.add(&[]);
        pool.add(&[1, 2, 3]);
        assert_eq!(pool.lacking(), None, "who has too few is not asked at once again");
        assert_eq!((pool.take::<2>(), pool.take::<2>(), pool.take::<1>()), (Some([2, 3]), None, Some([1])));
        assert_eq!(pool.lacking(), Some(POOL_BYTES), "some were taken");
        pool.add(&[7; 2 * POOL_BYTES]);
        assert_eq!((pool.bytes.len(), pool.lacking()), (POOL_BYTES, None));
        assert!(pool.take::<{ POOL_BYTES / 2 }>().is_some() && pool.lacking().is_none());
        assert!(pool.take::<1>().is_some() && pool.lacking() == Some(POOL_BYTES / 2 + 1));
        assert!(!format!("{pool:?}").contains('7'));
    }

    #[test]
    fn who_needs_none_asks_for_none() {
        assert_eq!(RandomPool::new(false).lacking(), None);
    }
}
