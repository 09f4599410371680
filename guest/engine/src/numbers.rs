//! Maps by numbers that the adapter gives, streams and calls, most often in a row; and by digests, which are spread. No
//! stranger chooses them, who would like a map to be slow.

use alloc::vec::Vec;
use core::{
    hash::{BuildHasherDefault, Hasher},
    iter, mem,
};

use hashbrown::HashMap;

use crate::name::mixed;

/// How many places there are, a power of two. So many numbers in a row have one each.
const PLACES: usize = 128;

/// By numbers: each has a place of its own, where it is looked for first. Those whose place is taken are in a map.
#[derive(Debug)]
pub(crate) struct ByNumber<T> {
    /// None until something is put there.
    places: Vec<Option<(u64, T)>>,
    others: HashMap<u64, T, BuildHasherDefault<NumberHasher>>,
    /// How many places are taken.
    taken: usize,
}

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

impl<T> Default for ByNumber<T> {
    fn default() -> Self {
        ByNumber { places: Vec::new(), others: HashMap::default(), taken: 0 }
    }
}

impl<T> ByNumber<T> {
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match self.places.get(place(number)) {
            Some(Some((kept, value))) if *kept == number => Some(value),
            _ if self.others.is_empty() => None,
            _ => self.others.get(&number),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.places.get_mut(place(number)) {
            Some(Some((kept, value))) if *kept == number => Some(value),
            _ if self.others.is_empty() => None,
            _ => self.others.get_mut(&number),
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Returns what had this number before.
    #[inline]
    pub(crate) fn insert(&mut self, number: u64, value: T) -> Option<T> {
        if self.places.is_empty() {
            self.places = iter::repeat_with(|| None).take(PLACES).collect();
        }
        match self.places.get_mut(place(number)) {
            Some(Some((kept, before))) if *kept == number => Some(mem::replace(before, value)),
            Some(free @ None) => {
                *free = Some((number, value));
                self.taken += 1;
                // Its place may have been another's when it came.
                if self.others.is_empty() { None } else { self.others.remove(&number) }
            }
            _ => self.others.insert(number, value),
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        match self.places.get_mut(place(number)) {
            Some(kept) if kept.as_ref().is_some_and(|(kept, _)| *kept == number) => {
                self.taken -= 1;
                kept.take().map(|(_, value)| value)
            }
            _ if self.others.is_empty() => None,
            _ => self.others.remove(&number),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let others = self.others.iter().map(|(number, value)| (*number, value));
        self.places.iter().flatten().map(|(number, value)| (*number, value)).chain(others)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().flatten().map(|(_, value)| value).chain(self.others.into_values())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.taken + self.others.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a number has its place.
#[inline]
fn place(number: u64) -> usize {
    number as usize % PLACES
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Numbers that meet in few places, among them some in a row.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u8..3, 0_u64..4, 0_u64..4), 1..300)) {
            let (mut map, mut plain) = (ByNumber::default(), BTreeMap::new());
            for (at, (step, low, high)) in steps.into_iter().enumerate() {
                let number = low + high * PLACES as u64;
                match step {
                    0 => prop_assert_eq!(map.insert(number, at), plain.insert(number, at)),
                    1 => prop_assert_eq!(map.remove(number), plain.remove(&number)),
                    _ => {
                        if let Some(value) = map.get_mut(number) {
                            *value += 1_000;
                        }
                        plain.entry(number).and_modify(|value| *value += 1_000);
                    }
                }
                prop_assert_eq!(map.get(number), plain.get(&number));
                prop_assert_eq!(map.contains(number), plain.contains_key(&number));
                prop_assert_eq!((map.len(), map.is_empty()), (plain.len(), plain.is_empty()));
                let all: BTreeMap<_, _> = map.iter().map(|(number, value)| (number, *value)).collect();
                prop_assert_eq!(&all, &plain);
            }
            let mut values: Vec<_> = map.into_values().collect();
            values.sort_unstable();
            let mut expected: Vec<_> = plain.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(values, expected);
        }
    }
}
