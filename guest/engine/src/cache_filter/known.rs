//! What an instance knows of stored responses without asking.

use alloc::{boxed::Box, string::String, vec::Vec};

use slidegate_cache::{CacheKey, KeyMaterial, PURGES_MAX, PurgeTag, is_void};

use crate::sorted;

/// Of so many resources it is known by what they vary; each has its place, and takes that of another.
const RESOURCES_MAX: usize = 4_096;

/// So many keys are known, in pairs: of two that have the same place the one goes that was used longer ago.
const KEYS_MAX: usize = 512;

/// A key of more material is not among them, in bytes.
const KNOWN_MATERIAL_MAX: usize = 512;

/// What was read of purges is good for so long.
const PURGES_NS: u64 = 1_000_000_000;

/// The keys of what is asked for often, so that they are not hashed again each time.
#[derive(Debug, Default)]
pub(super) struct KnownKeys(Vec<[Option<Box<CacheKey>>; 2]>);

/// By what the responses of resources vary, by the digests of their keys.
#[derive(Debug, Default)]
pub(super) struct KnownVariants(Vec<Option<Box<KnownResource>>>);

type KnownResource = ([u8; 32], Vec<String>);

/// Since when what has a tag is void.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// In the order of tags.
    since_ms: Vec<(PurgeTag, u64)>,
    /// Of what was voided before, nothing is known.
    floor_ms: u64,
    read_ns: Option<u64>,
}

impl KnownKeys {
    /// The key of this material.
    #[inline]
    pub(super) fn key(&mut self, material: &KeyMaterial) -> CacheKey {
        let is_it =
            |known: &Option<Box<CacheKey>>| known.as_ref().is_some_and(|key| *key.material == *material.bytes());
        let place = self.0.get_mut(material.place() % (KEYS_MAX / 2));
        if let Some([newer, older]) = place {
            if let Some(key) = newer.as_ref().filter(|_| is_it(newer)) {
                return CacheKey::clone(key);
            }
            if let Some(key) = older.as_ref().filter(|_| is_it(older)) {
                let key = CacheKey::clone(key);
                core::mem::swap(newer, older);
                return key;
            }
        }
        self.learn(material)
    }

    #[inline(never)]
    fn learn(&mut self, material: &KeyMaterial) -> CacheKey {
        let key = CacheKey::of(material);
        if key.material.len() <= KNOWN_MATERIAL_MAX {
            if self.0.is_empty() {
                self.0.resize_with(KEYS_MAX / 2, Default::default);
            }
            if let Some([newer, older]) = self.0.get_mut(material.place() % (KEYS_MAX / 2)) {
                *older = newer.replace(Box::new(key.clone()));
            }
        }
        key
    }
}

impl KnownVariants {
    /// The names by which responses of a resource vary, if they do.
    #[inline]
    pub(super) fn names(&self, resource: &[u8; 32]) -> Option<&Vec<String>> {
        let known = self.0.get(start(resource) % RESOURCES_MAX)?.as_deref();
        known.filter(|(each, _)| each == resource).map(|(_, names)| names)
    }

    pub(super) fn remember(&mut self, resource: [u8; 32], names: Vec<String>) {
        if self.0.is_empty() {
            self.0.resize_with(RESOURCES_MAX, || None);
        }
        if let Some(place) = self.0.get_mut(start(&resource) % RESOURCES_MAX) {
            *place = Some(Box::new((resource, names)));
        }
    }

    pub(super) fn forget(&mut self, resource: &[u8; 32]) {
        let place = self.0.get_mut(start(resource) % RESOURCES_MAX);
        if let Some(place) = place.filter(|place| place.as_ref().is_some_and(|known| known.0 == *resource)) {
            *place = None;
        }
    }
}

impl Purges {
    /// Whether they are known as they were a moment ago.
    pub(super) fn are_known(&self, now_ns: u64) -> bool {
        self.read_ns.is_some_and(|read_ns| now_ns.saturating_sub(read_ns) < PURGES_NS)
    }

    /// They were this at that time.
    pub(super) fn learn(&mut self, purged: &[(PurgeTag, u64)], asked_ns: u64) {
        // What is not read any more was earlier than all that is.
        let is_all = purged.len() < PURGES_MAX;
        self.floor_ms = if is_all { 0 } else { purged.iter().map(|(_, since_ms)| *since_ms).min().unwrap_or(0) };
        self.since_ms.clear();
        self.since_ms.extend_from_slice(purged);
        sorted::sort(&mut self.since_ms);
        self.read_ns = Some(asked_ns);
    }

    /// Whether what was requested then, and has these tags, is void.
    pub(super) fn void(&self, tags: &[Vec<u8>], requested_ms: u64) -> bool {
        let voids = |tag: &Vec<u8>| self.since(tag).is_some_and(|since_ms| is_void(requested_ms, since_ms));
        tags.iter().any(voids) || (!tags.is_empty() && is_void(requested_ms, self.floor_ms))
    }

    fn since(&self, tag: &[u8]) -> Option<u64> {
        let at = self.since_ms.binary_search_by(|(each, _)| each.as_slice().cmp(tag)).ok()?;
        self.since_ms.get(at).map(|(_, since_ms)| *since_ms)
    }
}

/// A number out of a digest.
#[inline]
fn start(digest: &[u8]) -> usize {
    digest.iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> [u8; 32] {
        hmac_sha256::Hash::hash(&number.to_be_bytes())
    }

    fn tag(number: usize) -> PurgeTag {
        *digest(number).first_chunk().unwrap()
    }

    #[test]
    fn of_many_resources_the_newest_are_known() {
        let mut known = KnownVariants::default();
        for number in 0..20_000 {
            known.remember(digest(number), Vec::from([String::from("accept")]));
            assert!(known.names(&digest(number)).is_some());
        }
        assert!((0..20_000).filter(|number| known.names(&digest(*number)).is_some()).count() <= RESOURCES_MAX);
        known.forget(&digest(19_999));
        assert!(known.names(&digest(19_999)).is_none());
    }

    #[test]
    fn a_known_key_is_the_one_that_its_material_has_whatever_else_is_known() {
        let mut known = KnownKeys::default();
        let material = |number: usize| {
            let mut material = KeyMaterial::new(b"a", b"/");
            material.add("x", Some(&number.to_be_bytes()));
            material
        };
        for number in (0..3 * KEYS_MAX).chain(0..9).chain([0; 3]) {
            assert_eq!(known.key(&material(number)), CacheKey::of(&material(number)));
        }
        let count = known.0.iter().flatten().flatten().count();
        assert!(count > KEYS_MAX / 2 && count <= KEYS_MAX, "{count}");
        // One that is asked for in turns with another of its place stays known.
        let place = |number: &usize| material(*number).place() % (KEYS_MAX / 2);
        let other = (1..).find(|number| place(number) == place(&0)).unwrap();
        for number in [0, other, 0, other] {
            known.key(&material(number));
            let [newer, _] = &known.0[place(&0)];
            assert_eq!(*newer.as_ref().unwrap().material, *material(number).bytes());
        }
        // What is long would take much.
        let mut long = KeyMaterial::new(b"a", b"/");
        long.add("x", Some(&[b'x'; KNOWN_MATERIAL_MAX]));
        known.key(&long);
        assert!(known.0.iter().flatten().flatten().all(|key| key.material.len() <= KNOWN_MATERIAL_MAX));
    }

    #[test]
    fn what_was_requested_before_a_purge_is_void_and_nothing_else() {
        let mut purges = Purges::default();
        assert!(!purges.are_known(0) && !purges.void(&[tag(1).to_vec()], 0));
        purges.learn(&[(tag(1), 5_000)], 7);
        assert!(purges.are_known(7 + PURGES_NS - 1) && !purges.are_known(7 + PURGES_NS));
        let tags = |tags: &[usize]| tags.iter().map(|number| tag(*number).to_vec()).collect::<Vec<_>>();
        assert!(purges.void(&tags(&[2, 1]), 5_000) && purges.void(&tags(&[1]), 6_000));
        assert!(!purges.void(&tags(&[1]), 6_001) && !purges.void(&tags(&[2]), 0) && !purges.void(&[], 0));
        purges.learn(&[], 8);
        assert!(!purges.void(&tags(&[1]), 0));
    }

    #[test]
    fn each_of_many_tags_is_found_and_what_cannot_be_read_any_more_counts_all_the_same() {
        let mut purges = Purges::default();
        purges.learn(&(0..PURGES_MAX).map(|number| (tag(number), 5_000 + number as u64)).collect::<Vec<_>>(), 0);
        for number in (0..PURGES_MAX).step_by(97) {
            assert!(purges.void(&[tag(number).to_vec()], 6_000 + number as u64));
            assert!(!purges.void(&[tag(number).to_vec()], 6_001 + number as u64));
        }
        let other = [tag(PURGES_MAX).to_vec()];
        assert!(purges.void(&other, 5_000) && !purges.void(&other, 9_000) && !purges.void(&[], 0));
    }
}
