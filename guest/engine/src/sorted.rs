//! What has an order, in little code, of which the guests may not have much: a map in one piece of memory where a tree
//! would be several kilobytes for each type, and a sort that has some hundred bytes for each.
//!
//! What is in a map is bounded: what an insertion moves is a quarter of a megabyte at most.

use alloc::vec::Vec;

/// The values of keys, in the order of these.
#[derive(Debug)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap(Vec::new())
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// Puts a value at a key, in the place of any other.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => {
                if let Some((_, before)) = self.0.get_mut(place) {
                    *before = value;
                }
            }
            Err(place) => self.0.insert(place, (key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    /// Takes all of it.
    pub(crate) fn take(&mut self) -> Vec<(K, V)> {
        core::mem::take(&mut self.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(never)]
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(each, _)| each.cmp(key))
    }
}

/// A list whose elements can be compared and swapped by their places.
trait Sortable {
    fn count(&self) -> usize;
    fn is_less(&self, one: usize, other: usize) -> bool;
    fn swap(&mut self, one: usize, other: usize);
}

impl<T: Ord> Sortable for &mut [T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn is_less(&self, one: usize, other: usize) -> bool {
        // None is less than any.
        self.get(one) < self.get(other)
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one.max(other) < self.len() {
            (**self).swap(one, other);
        }
    }
}

/// Sorts a list; which of two equal elements comes first is not told.
pub(crate) fn sort<T: Ord>(mut list: &mut [T]) {
    heap_sort(&mut list);
}

/// Sorts a list, and leaves each element in it once.
pub(crate) fn sort_each_once<T: Ord>(list: &mut Vec<T>) {
    sort(list);
    list.dedup();
}

fn heap_sort(list: &mut dyn Sortable) {
    let count = list.count();
    (0..count / 2).rev().for_each(|at| sift(list, at, count));
    for end in (1..count).rev() {
        list.swap(0, end);
        sift(list, 0, end);
    }
}

/// Lets an element sink until none below it is greater, in a heap that ends before `end`.
fn sift(list: &mut dyn Sortable, mut at: usize, end: usize) {
    loop {
        let mut child = 2 * at + 1;
        if child + 1 < end && list.is_less(child, child + 1) {
            child += 1;
        }
        if child >= end || !list.is_less(at, child) {
            return;
        }
        list.swap(at, child);
        at = child;
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_well_as_the_standard_library(list in prop::collection::vec(0_u8..50, 0..100)) {
            let (mut sorted, mut once, mut expected) = (list.clone(), list.clone(), list);
            sort(&mut sorted);
            sort_each_once(&mut once);
            expected.sort_unstable();
            prop_assert_eq!(&sorted, &expected);
            expected.dedup();
            prop_assert_eq!(once, expected);
        }

        #[test]
        fn it_is_as_good_as_a_tree(steps in prop::collection::vec((0_u8..3, 0_u8..20, any::<u16>()), 0..200)) {
            let (mut map, mut tree) = (SortedMap::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => {
                        map.insert(key, value);
                        tree.insert(key, value);
                    }
                    1 => prop_assert_eq!(map.remove(&key), tree.remove(&key)),
                    _ => prop_assert_eq!(map.get(&key), tree.get(&key)),
                }
                prop_assert!(map.iter().map(|(key, value)| (key, value)).eq(tree.iter()));
            }
        }
    }
}
