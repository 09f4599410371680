//! Maps by ids that the host gives itself, one after the other: nobody chooses them who would like a map to be slow.

use std::hash::{BuildHasherDefault, Hasher};

/// Hashes an id by a multiplication.
pub(crate) type ById = BuildHasherDefault<IdHasher>;

/// The hasher of one id.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    /// The product's upper half mixes all bits of the id; maps go by upper and by lower bits.
    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.0 ^ id) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    use super::*;

    #[test]
    fn ids_in_a_row_and_at_any_distance_spread_over_upper_and_lower_bits() {
        for distance in [1, 2, 1 << 7, 1 << 32, 1 << 56] {
            let hashes: Vec<u64> = (0..128_u64).map(|n| ById::default().hash_one(n.wrapping_mul(distance))).collect();
            for shift in [0, 57] {
                let places: HashSet<u64> = hashes.iter().map(|hash| hash >> shift & 127).collect();
                assert!(places.len() > 64, "{} of 128 places, ids {distance} apart, bits from {shift}", places.len());
            }
        }
    }

    #[test]
    fn what_is_no_id_is_hashed_too() {
        let hash = |text: &str| {
            let mut hasher = IdHasher::default();
            text.hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(hash("ab"), hash("ba"));
    }
}
