//! The fields that are wanted of a record, and what is found of them.

use alloc::{string::String, vec, vec::Vec};

use super::field_path::FieldPath;
use crate::key::escape;

/// How many fields may be wanted of a session.
pub const FIELDS_MAX: usize = 31;

/// The longest value, in bytes, as it is written into a header.
pub const VALUE_MAX: usize = 4096;

/// How many records, lists and the like may stand in each other. One that goes deeper is not read.
pub(super) const DEPTH_MAX: u8 = 64;

/// Fields of a record.
#[derive(Debug, Clone, Default)]
pub(super) struct WantedFields {
    paths: Vec<FieldPath>,
}

/// A place in a record: which of the fields stand there or below, a bit each.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldPlace {
    fields: u32,
    depth: u8,
}

/// What of a record has been found. Where a name comes twice, the last one counts, as it does to all who write such
/// records.
#[derive(Debug)]
pub(super) struct FoundFields<'w> {
    wanted: &'w WantedFields,
    texts: Vec<Option<Vec<u8>>>,
}

// === impl WantedFields ===

impl WantedFields {
    /// These fields, of which those after the first 32 are never found.
    pub(super) fn new(paths: Vec<FieldPath>) -> WantedFields {
        WantedFields { paths }
    }

    /// The first name of each.
    pub(super) fn first_names(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter_map(FieldPath::first_name)
    }
}

// === impl FieldPlace ===

impl FieldPlace {
    /// Where nothing is wanted.
    pub(super) const IDLE: FieldPlace = FieldPlace { fields: 0, depth: 0 };

    /// Whether nothing is wanted of what stands there.
    pub(super) fn is_idle(self) -> bool {
        self.fields == 0
    }

    fn wants(self, field: usize) -> bool {
        u32::try_from(field).is_ok_and(|field| self.fields.checked_shr(field).is_some_and(|bits| bits & 1 == 1))
    }
}

// === impl FoundFields ===

impl<'w> FoundFields<'w> {
    /// Nothing yet.
    pub(super) fn new(wanted: &'w WantedFields) -> FoundFields<'w> {
        FoundFields { wanted, texts: vec![None; wanted.paths.len()] }
    }

    /// The whole record.
    pub(super) fn record(&self) -> FieldPlace {
        FieldPlace { fields: u32::MAX, depth: 0 }
    }

    /// What stands under a name, which begins there. What an earlier value of that name told is void.
    pub(super) fn enter(&mut self, place: FieldPlace, name: &[u8]) -> FieldPlace {
        if place.is_idle() {
            return place;
        }
        let mut fields = 0;
        for (field, (path, text)) in self.wanted.paths.iter().zip(&mut self.texts).enumerate() {
            if place.wants(field) && path.goes_on(usize::from(place.depth), name) {
                fields |= 1 << field;
                *text = None;
            }
        }
        FieldPlace { fields, depth: place.depth.saturating_add(1) }
    }

    /// As [`enter`](Self::enter), for an element of a list.
    pub(super) fn enter_element(&mut self, place: FieldPlace, at: usize) -> FieldPlace {
        if place.is_idle() { place } else { self.enter(place, alloc::format!("{at}").as_bytes()) }
    }

    /// A text stands there, or what is written like one.
    pub(super) fn text(&mut self, place: FieldPlace, text: &[u8]) {
        if place.is_idle() || text.len() > VALUE_MAX {
            return;
        }
        for (field, (path, found)) in self.wanted.paths.iter().zip(&mut self.texts).enumerate() {
            if place.wants(field) && path.len() == usize::from(place.depth) {
                *found = Some(text.to_vec());
            }
        }
    }

    /// True or false stands there.
    pub(super) fn flag(&mut self, place: FieldPlace, flag: bool) {
        self.text(place, if flag { b"true" } else { b"false" });
    }

    /// What was found, in the order of the fields.
    pub(super) fn into_texts(self) -> Vec<Option<Vec<u8>>> {
        self.texts
    }
}

/// A value as a header carries it: bytes that are no visible ASCII, the percent sign and the comma, are
/// percent-encoded, so that no two values are written alike. None: it has control characters, or is too long.
pub(crate) fn header_value(text: &[u8]) -> Option<String> {
    if text.iter().any(u8::is_ascii_control) {
        return None;
    }
    let mut written = Vec::new();
    escape(&mut written, text, |byte| {
        // A comma would make a list of it.
        !byte.is_ascii_graphic() || matches!(byte, b'%' | b',')
    });
    String::from_utf8(written).ok().filter(|written| written.len() <= VALUE_MAX)
}

/// Whether the value of a field says that it is somebody's.
pub(super) fn says_somebody(value: &str) -> bool {
    !matches!(value, "" | "false" | "0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::cookie_value;

    fn wanted(paths: &[&str]) -> WantedFields {
        WantedFields::new(paths.iter().map(|path| FieldPath::parse(path).unwrap()).collect())
    }

    #[test]
    fn a_field_is_found_at_its_path_alone() {
        let wanted = wanted(&["user", "user.id", "id"]);
        let mut found = FoundFields::new(&wanted);
        let user = found.enter(found.record(), b"user");
        let id = found.enter(user, b"id");
        found.text(id, b"7");
        let deeper = found.enter(id, b"id");
        found.text(deeper, b"8");
        assert!(deeper.is_idle() && !user.is_idle());
        assert_eq!(found.into_texts(), [None, Some(b"7".to_vec()), None]);
    }

    #[test]
    fn the_last_of_two_values_counts_whatever_it_is() {
        let wanted = wanted(&["user", "user.id"]);
        let mut found = FoundFields::new(&wanted);
        let user = found.enter(found.record(), b"user");
        let id = found.enter(user, b"id");
        found.text(id, b"7");
        let again = found.enter(found.record(), b"user");
        found.flag(again, true);
        assert_eq!(found.into_texts(), [Some(b"true".to_vec()), None]);
    }

    #[test]
    fn more_fields_than_bits_are_not_found_and_stop_nothing() {
        let paths: Vec<FieldPath> = (0..40).map(|at| FieldPath::parse(&alloc::format!("f{at}")).unwrap()).collect();
        let wanted = WantedFields::new(paths);
        let mut found = FoundFields::new(&wanted);
        for at in 0..40 {
            let place = found.enter(found.record(), alloc::format!("f{at}").as_bytes());
            found.text(place, b"x");
        }
        assert_eq!(found.into_texts().iter().flatten().count(), 32);
    }

    #[test]
    fn values_are_written_in_visible_ascii() {
        for (text, written) in [
            ("alice", Some("alice")),
            ("", Some("")),
            ("a b", Some("a%20b")),
            ("100%", Some("100%25")),
            ("\u{e9}", Some("%C3%A9")),
            ("a\"b,c;d", Some("a\"b%2Cc;d")),
            ("a\nb", None),
            ("a\0", None),
            ("\u{7f}", None),
        ] {
            assert_eq!(header_value(text.as_bytes()).as_deref(), written, "{text:?}");
        }
        assert_eq!(header_value(&[0xff]).as_deref(), Some("%FF"));
        assert!(header_value(&[b'a'; VALUE_MAX]).is_some() && header_value(&[b' '; VALUE_MAX]).is_none());
    }

    proptest! {
        #[test]
        fn no_two_values_are_written_alike(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(written) = header_value(&text) {
                prop_assert!(written.bytes().all(|byte| byte.is_ascii_graphic()));
                // Quotes would be taken for some of a cookie.
                let decoded = cookie_value(&[b"'", written.as_bytes()].concat()).text.into_owned();
                prop_assert_eq!(&decoded[1..], text);
            }
        }
    }
}
