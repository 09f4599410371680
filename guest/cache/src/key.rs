//! The key of a response: what of a request tells it from others, and where in Redis that leads.

use alloc::{borrow::Cow, rc::Rc, string::String, vec::Vec};

use hmac_sha256::Hash;

use crate::{fields::HeaderFields, value::checksum, vary::VaryValues};

/// The first part of every key's material: another layout is another key.
const LAYOUT: &[u8] = b"1";

/// So much of a digest tells keys apart: 144 bits, 24 characters.
const DIGEST_BYTES: usize = 18;
const DIGEST_CHARACTERS: usize = DIGEST_BYTES / 3 * 4;

/// What all keys begin with: the address follows, in the braces that put what is stored of it into one slot of a
/// cluster.
const BEGINNING: &[u8] = b"slidegate:c:{";

/// What the parts of most keys take beside an address, in bytes.
const MATERIAL_BYTES: usize = 224;

/// A field in which a part of what is said is taken so, too.
const FORWARDED: &str = "forwarded";
const FORWARDED_BIT: u32 = 1 << OVERRIDES.len();

/// Fields by which applications take another host, scheme or path for the request's own: what one of them says is part
/// of the key, or its sender would choose what others get.
const OVERRIDES: [&str; 22] = [
    "front-end-https",
    "x-envoy-original-path",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Which parameters of a query are part of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyQuery {
    /// All, as they stand.
    #[default]
    All,
    /// None.
    None,
    /// Those of these names, in the order in which they stand.
    Names(Vec<String>),
}

/// What tells a response from others, and its keys in Redis. Two are the same if their material is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    /// Of what it was made, part by part: to be kept with the response, and compared.
    pub material: Rc<[u8]>,
    /// Of its address, in characters.
    address: [u8; DIGEST_CHARACTERS],
    /// Of all of it, the same.
    name: [u8; DIGEST_CHARACTERS],
    digest: [u8; 32],
}

/// What of a request is part of its key beside its address, in an order that is always the same.
pub type KeyPart<'a> = (&'a str, Option<Cow<'a, [u8]>>);

/// What a key is made of, as it is put together.
#[derive(Debug)]
pub struct KeyMaterial {
    bytes: Vec<u8>,
    /// Where the address ends.
    address_end: usize,
}

// === impl KeyMaterial ===

impl KeyMaterial {
    /// Of an address, of which the query has been chosen from.
    pub fn new(authority: &[u8], target: &[u8]) -> KeyMaterial {
        let mut bytes = Vec::with_capacity(MATERIAL_BYTES + authority.len() + target.len());
        add_part(&mut bytes, LAYOUT);
        add_part(&mut bytes, &plain_authority(authority));
        add_part(&mut bytes, target);
        KeyMaterial { address_end: bytes.len(), bytes }
    }

    /// Adds what else tells requests apart.
    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        add_part(&mut self.bytes, name.as_bytes());
        add_value(&mut self.bytes, value);
    }

    /// Adds what of a request's header fields is part of every key, as applications take it for the address: of those
    /// whose [bits](override_bit) are set.
    pub fn add_overrides(&mut self, headers: &HeaderFields, bits: u32) {
        for (at, name) in OVERRIDES.into_iter().enumerate() {
            if bits >> at & 1 == 1 {
                headers.values(name).for_each(|value| self.add(name, Some(value)));
            }
        }
        if bits & FORWARDED_BIT != 0 {
            headers.values(FORWARDED).for_each(|value| self.add_forwarded(value));
        }
    }

    /// Only these of its parameters are taken so; who it was forwarded for tells every client from others.
    #[inline(never)]
    fn add_forwarded(&mut self, value: &[u8]) {
        let pairs = value.split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
        let is_meant = |pair: &&[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
        };
        pairs.filter(is_meant).for_each(|pair| self.add(FORWARDED, Some(pair)));
    }

    /// All of it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A number that is the same for the same, for a table of some. It is no secret.
    #[inline]
    pub fn place(&self) -> usize {
        checksum(0, &self.bytes) as usize
    }
}

/// A bit for a name of a header field that is for [`KeyMaterial::add_overrides`]. Others have none.
#[inline]
pub fn override_bit(name: &str) -> u32 {
    if !name.starts_with(['f', 'x']) {
        return 0;
    }
    if name == FORWARDED {
        return FORWARDED_BIT;
    }
    OVERRIDES.iter().position(|each| *each == name).map_or(0, |at| 1 << at)
}

// === impl CacheKey ===

impl CacheKey {
    /// Of an address, of which the query has been chosen from, and of what else tells requests apart.
    pub fn new<'a>(authority: &[u8], target: &[u8], parts: impl IntoIterator<Item = KeyPart<'a>>) -> CacheKey {
        let mut material = KeyMaterial::new(authority, target);
        parts.into_iter().for_each(|(name, value)| material.add(name, value.as_deref()));
        CacheKey::of(&material)
    }

    /// Of what is put together.
    pub fn of(material: &KeyMaterial) -> CacheKey {
        let (address, rest) = material.bytes.split_at_checked(material.address_end).unwrap_or_default();
        let mut hash = Hash::new();
        hash.update(address);
        // It goes on from here with what follows.
        let address = hash.finalize();
        hash.update(rest);
        let digest = hash.finalize();
        CacheKey { material: Rc::from(material.bytes()), address: text(&address), name: text(&digest), digest }
    }

    /// A digest of it.
    #[inline]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Where the response is.
    pub fn value(&self) -> String {
        joined(&self.value_pieces())
    }

    /// The same in pieces.
    #[inline]
    pub fn value_pieces(&self) -> [&[u8]; 4] {
        [BEGINNING, &self.address, b"}:", &self.name]
    }

    /// Where it says since when what is stored of the address is void.
    pub fn marker(&self) -> String {
        joined(&self.marker_pieces())
    }

    /// The same in pieces.
    #[inline]
    pub fn marker_pieces(&self) -> [&[u8]; 3] {
        [BEGINNING, &self.address, b"}:x"]
    }

    /// Where it says who fetches it.
    pub fn lock(&self) -> String {
        alloc::format!("{}:l", self.value())
    }

    /// Where the names of its variants are.
    pub fn index(&self) -> String {
        index_of(&self.value())
    }

    /// The key of a response that varies, by what its request says. Its material is that of the other.
    pub fn variant(&self, values: &VaryValues) -> CacheKey {
        let mut material = Vec::new();
        add_part(&mut material, &self.digest);
        for (name, value) in values {
            add_part(&mut material, name.as_bytes());
            add_value(&mut material, value.as_deref());
        }
        let digest = Hash::hash(&material);
        CacheKey { name: text(&digest), digest, ..self.clone() }
    }
}

fn joined(pieces: &[&[u8]]) -> String {
    String::from_utf8_lossy(&pieces.concat()).into_owned()
}

/// An authority in the one spelling that all have which lead to the same server: in lower case, without dots at the end
/// of its host, and without a port that need not be written. The scheme is told beside it.
pub(crate) fn plain_authority(authority: &[u8]) -> Vec<u8> {
    let is_port = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let parted = authority.iter().rposition(|byte| *byte == b':').and_then(|at| authority.split_at_checked(at));
    let (host, port) = match parted.map(|(host, port)| (host, port.get(1..).unwrap_or_default())) {
        Some((host, port)) if is_port(port) => (host, port),
        _ => (authority, &b""[..]),
    };
    let end = host.iter().rposition(|byte| *byte != b'.').map_or(0, |at| at + 1);
    let mut plain = host.get(..end).unwrap_or_default().to_ascii_lowercase();
    let begin = port.iter().position(|digit| *digit != b'0').unwrap_or(port.len());
    match port.get(begin..).unwrap_or_default() {
        b"" | b"80" | b"443" => {}
        port => {
            plain.push(b':');
            plain.extend_from_slice(port);
        }
    }
    plain
}

/// Where the names of the variants are of what is at this key in Redis.
pub fn index_of(value: &str) -> String {
    alloc::format!("{value}:v")
}

// === impl KeyQuery ===

impl KeyQuery {
    /// What tells it from others.
    pub fn as_text(&self) -> Cow<'_, [u8]> {
        match self {
            KeyQuery::All => Cow::Borrowed(b"all"),
            KeyQuery::None => Cow::Borrowed(b""),
            KeyQuery::Names(names) => Cow::Owned(names.iter().fold(Vec::new(), |mut text, name| {
                add_part(&mut text, name.as_bytes());
                text
            })),
        }
    }

    /// A path with what is part of the key of its query.
    pub fn of<'a>(&self, target: &'a [u8]) -> Cow<'a, [u8]> {
        let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at_checked(at).unwrap_or((target, b""));
        let names: Vec<Vec<u8>> = match self {
            KeyQuery::All => return Cow::Borrowed(target),
            KeyQuery::None => return Cow::Borrowed(path),
            KeyQuery::Names(names) => names.iter().flat_map(|name| parameter_names(name.as_bytes())).collect(),
        };
        let mut chosen = path.to_vec();
        // Some servers part at a semicolon too.
        for parameter in query.get(1..).unwrap_or_default().split(|byte| matches!(byte, b'&' | b';')) {
            if parameter_names(parameter).iter().any(|name| names.contains(name)) {
                chosen.push(if chosen.len() == path.len() { b'?' } else { b'&' });
                chosen.extend_from_slice(parameter);
            }
        }
        Cow::Owned(chosen)
    }
}

/// The name of a parameter as servers read it, up to a bracket, and with one that nothing closes as PHP does: what any
/// of them takes for the same is the same here. Otherwise a page could be stored under a key that leaves out what it
/// shows.
fn parameter_names(parameter: &[u8]) -> [Vec<u8>; 2] {
    let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low, behind)),
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((*byte, behind));
        rest = behind;
        plain.push(byte.to_ascii_lowercase());
    }
    // As PHP names them.
    let start = plain.iter().position(|byte| *byte != b' ' && *byte != b'+').unwrap_or(plain.len());
    let plain = plain.get(start..).unwrap_or_default();
    let is_open = !plain.contains(&b']');
    let named = |is_end: fn(u8) -> bool| {
        let end = plain.iter().skip(1).position(|byte| is_end(*byte)).map_or(plain.len(), |at| at + 1);
        let is_other = |byte: &u8| matches!(byte, b' ' | b'.' | b'+' | b'[');
        plain.get(..end).unwrap_or_default().iter().map(|byte| if is_other(byte) { b'_' } else { *byte }).collect()
    };
    let cut = named(|byte| matches!(byte, b'[' | 0));
    let whole = if is_open { named(|byte| byte == 0) } else { Vec::clone(&cut) };
    [cut, whole]
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// A part with its length before it, so that no two lists of parts are the same bytes.
fn add_part(material: &mut Vec<u8>, part: &[u8]) {
    material.extend_from_slice(&(part.len() as u64).to_be_bytes());
    material.extend_from_slice(part);
}

/// What is not there is not the same as what is empty.
fn add_value(material: &mut Vec<u8>, value: Option<&[u8]>) {
    material.push(u8::from(value.is_some()));
    add_part(material, value.unwrap_or_default());
}

/// The beginning of a digest in characters that stand for themselves in keys and URLs (RFC 4648, 5).
fn text(digest: &[u8; 32]) -> [u8; DIGEST_CHARACTERS] {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = [0; DIGEST_CHARACTERS];
    for (characters, bytes) in text.as_chunks_mut::<4>().0.iter_mut().zip(digest.as_chunks::<3>().0) {
        let bits = bytes.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for (character, shift) in characters.iter_mut().zip([18, 12, 6, 0]) {
            *character = CHARACTERS.get(bits >> shift & 63).copied().unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use proptest::prelude::*;

    use super::*;

    fn key(authority: &str, target: &str, parts: &[(&'static str, Option<&'static str>)]) -> CacheKey {
        let parts = parts.iter().map(|(name, value)| (*name, value.map(|value| Cow::Borrowed(value.as_bytes()))));
        CacheKey::new(authority.as_bytes(), target.as_bytes(), parts)
    }

    #[test]
    fn overrides_are_found_by_their_names() {
        let bits = OVERRIDES.iter().chain([&FORWARDED]).map(|name| override_bit(name)).collect::<Vec<_>>();
        assert!(bits.iter().all(|bit| bit.count_ones() == 1) && bits.is_sorted_by(|one, other| one < other));
        assert!(["", "host", "forward", "x", "x-forwarded-hosts"].iter().all(|name| override_bit(name) == 0));
    }

    /// Shared with other gateways: none of it may change without another layout.
    #[test]
    fn keys_in_redis_are_these() {
        let key = key("Example.test", "/a?b=c", &[("group", Some("alice"))]);
        assert_eq!(key.value(), "slidegate:c:{s1rKgjeaxxHhkuW3MHYPsoMz}:y1hxUwupPK_EfOzDaYC_bLOF");
        assert_eq!(key.marker(), "slidegate:c:{s1rKgjeaxxHhkuW3MHYPsoMz}:x");
        assert_eq!(key.lock(), "slidegate:c:{s1rKgjeaxxHhkuW3MHYPsoMz}:y1hxUwupPK_EfOzDaYC_bLOF:l");
        assert_eq!(key.index(), "slidegate:c:{s1rKgjeaxxHhkuW3MHYPsoMz}:y1hxUwupPK_EfOzDaYC_bLOF:v");
        let variant = key.variant(&vec![("accept".to_string(), Some(b"a/b".to_vec()))]);
        assert_eq!(variant.value(), "slidegate:c:{s1rKgjeaxxHhkuW3MHYPsoMz}:iPAlFTFZYC2ocO4VsUWp6p0I");
    }

    #[test]
    fn what_differs_anywhere_is_another_key_of_the_same_address_or_of_another() {
        let plain = key("a.test", "/", &[]);
        for (other, is_same_address) in [
            (key("b.test", "/", &[]), false),
            (key("a.test", "/?", &[]), false),
            (key("a.test", "/", &[("x", None)]), true),
            (key("a.test", "/", &[("x", Some(""))]), true),
            (key("a.test", "/", &[("", Some("x"))]), true),
            (plain.variant(&vec![]), true),
            (plain.variant(&vec![("a".into(), None)]), true),
            (plain.variant(&vec![("a".into(), Some(vec![]))]), true),
        ] {
            assert_ne!(other.value(), plain.value());
            assert_eq!(other.marker() == plain.marker(), is_same_address);
        }
        assert_eq!(key("A.TEST", "/", &[]), plain);
    }

    #[test]
    fn parameters_are_chosen_however_they_are_spelt() {
        let names = KeyQuery::Names(vec!["id".into(), "p.q".into()]);
        for (target, expected) in [
            ("/a", "/a"),
            ("/a?", "/a"),
            ("/a?x=1", "/a"),
            ("/a?x=1&id=2&y", "/a?id=2"),
            ("/a?id=2&x&id=1", "/a?id=2&id=1"),
            ("/a?x=1;id=2", "/a?id=2"),
            ("/a?i%64=2", "/a?i%64=2"),
            ("/a?ID=2", "/a?ID=2"),
            ("/a?id[]=2&id%5B1%5D", "/a?id[]=2&id%5B1%5D"),
            ("/a?+id=2", "/a?+id=2"),
            ("/a?id%00x=2", "/a?id%00x=2"),
            ("/a?p_q=1&p+q=2&p.q", "/a?p_q=1&p+q=2&p.q"),
            ("/a?p[q=1&p[q]=2", "/a?p[q=1"),
            ("/a?idx=1&%=&%6=&%zz", "/a"),
        ] {
            assert_eq!(String::from_utf8(names.of(target.as_bytes()).into_owned()).unwrap(), expected);
        }
        assert_eq!(KeyQuery::None.of(b"/a?id=1").as_ref(), b"/a");
        assert_eq!(KeyQuery::All.of(b"/a?id=1").as_ref(), b"/a?id=1");
    }

    #[test]
    fn an_authority_has_one_spelling() {
        for spelt in ["site.test", "SITE.test", "site.test.", "site.test..:", "site.test:80", "site.test:0443"] {
            assert_eq!(key(spelt, "/", &[]), key("site.test", "/", &[]), "{spelt}");
        }
        for (authority, plain) in [
            ("a:8080", "a:8080"),
            ("a.:08080", "a:8080"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("[::1]:81", "[::1]:81"),
            ("a:b", "a:b"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(plain_authority(authority.as_bytes()), plain.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn no_two_choices_are_told_alike() {
        let names = |names: &[&str]| KeyQuery::Names(names.iter().map(ToString::to_string).collect());
        let choices =
            [KeyQuery::All, KeyQuery::None, names(&["all"]), names(&["a", "b"]), names(&["a&b"]), names(&["ab"])];
        for (at, one) in choices.iter().enumerate() {
            for other in choices.iter().skip(at + 1) {
                assert_ne!(one.as_text(), other.as_text(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn what_may_stand_for_the_host_is_part_of_it() {
        let fields = [
            ("x-forwarded-host", "evil"),
            ("x-forwarded-host", "b"),
            ("forwarded", "for=1.2.3.4;host=evil;Proto=https, for=x"),
        ];
        let headers = HeaderFields(fields.map(|(name, value)| (String::from(name), value.as_bytes().to_vec())).into());
        let mut material = KeyMaterial::new(b"a", b"/");
        let bits = headers.0.iter().fold(0, |bits, (name, _)| bits | override_bit(name));
        material.add_overrides(&headers, bits);
        let mut expected = KeyMaterial::new(b"a", b"/");
        for (name, value) in [
            ("x-forwarded-host", "evil"),
            ("x-forwarded-host", "b"),
            ("forwarded", "host=evil"),
            ("forwarded", "Proto=https"),
        ] {
            expected.add(name, Some(value.as_bytes()));
        }
        assert_eq!(material.bytes(), expected.bytes());
    }

    proptest! {
        #[test]
        fn no_two_lists_of_parts_are_the_same(
            one in prop::collection::vec(("[a-b]{0,2}", prop::option::of("[a-b]{0,2}")), 0..4),
            other in prop::collection::vec(("[a-b]{0,2}", prop::option::of("[a-b]{0,2}")), 0..4),
        ) {
            let of = |parts: &[(String, Option<String>)]| {
                let parts = parts.iter().map(|(name, value)| {
                    (name.as_str(), value.as_ref().map(|value| Cow::Borrowed(value.as_bytes())))
                });
                CacheKey::new(b"a", b"/", parts).value()
            };
            prop_assert_eq!(of(&one) == of(&other), one == other);
        }

        #[test]
        fn any_query_is_safe(target in prop::collection::vec(any::<u8>(), 0..40)) {
            let chosen = KeyQuery::Names(vec!["a".into()]).of(&target).into_owned();
            prop_assert!(chosen.len() <= target.len());
        }
    }
}
