//! Maps by numbers that the adapter gives: streams and calls, most often in a row. No stranger chooses them, who would
//! like a map to be slow.

use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use crate::name::mixed;

/// By the adapter's numbers.
pub(crate) type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// The hasher of one number.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0 ^ number);
    }
}
