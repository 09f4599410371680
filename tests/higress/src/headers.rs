//! Header maps as Envoy keeps them: names in lower case, values bytes, entries in order and as often as they came.

/// The most that a guest may hand over in one map.
const MAX_BYTES: usize = 1 << 20;
const MAX_PAIRS: usize = 1_024;

/// A header map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Headers(
            pairs
                .into_iter()
                .map(|(name, value)| (name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()))
                .collect(),
        )
    }
}

impl Headers {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The first value of a name in any case.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.all(name).into_iter().next()
    }

    /// The first value as text, for tests; what is not UTF-8 is replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All values of a name in any case.
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref();
        self.iter().filter(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// Appends an entry, whatever is there already.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// One entry of this name, in the place of the first that was there.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        match self.0.iter().position(|(each, _)| *each == name) {
            Some(first) => {
                self.0[first].1 = value.as_ref().to_vec();
                let mut seen = false;
                self.0.retain(|(each, _)| *each != name || !std::mem::replace(&mut seen, true));
            }
            None => self.add(name, value),
        }
    }

    /// Removes all entries of a name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        self.0.retain(|(each, _)| !each.eq_ignore_ascii_case(name.as_ref()));
    }

    /// The bytes of all names and values.
    pub fn byte_size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// As it crosses to the guest: nothing for an empty map.
    pub fn serialise(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let number = |number: usize| u32::try_from(number).expect("header maps are far below 4 GiB").to_le_bytes();
        let mut bytes = number(self.len()).to_vec();
        for (name, value) in self.iter() {
            bytes.extend(number(name.len()));
            bytes.extend(number(value.len()));
        }
        for (name, value) in self.iter() {
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(value);
            bytes.push(0);
        }
        bytes
    }

    /// As it comes from the guest: what is malformed or too large is an empty map.
    pub fn parse(bytes: &[u8]) -> Self {
        parse(bytes).unwrap_or_default()
    }
}

fn parse(bytes: &[u8]) -> Option<Headers> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    let count = number(0)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut at = 4 + 8 * count;
    let mut take = |length: usize| {
        let taken = bytes.get(at..at + length)?;
        let end = bytes.get(at + length)?;
        at += length + 1;
        (*end == 0).then_some(taken)
    };
    let mut headers = Headers::default();
    for index in 0..count {
        let (name, value) = (number(4 + 8 * index)?, number(8 + 8 * index)?);
        headers.add(take(name)?, take(value)?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_cross_and_come_back() {
        let headers: Headers = [("X-A", "1"), ("x-a", ""), (":path", "/")].into_iter().collect();
        let bytes = headers.serialise();
        assert_eq!(&bytes[..12], [3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]);
        assert!(bytes.ends_with(b"x-a\x001\0x-a\0\0:path\0/\0"));
        assert_eq!(Headers::parse(&bytes), headers);
        assert!(Headers::default().serialise().is_empty());
        for cut in 0..bytes.len() {
            assert!(Headers::parse(&bytes[..cut]).is_empty(), "{cut}");
        }
        assert!(Headers::parse(&[255; 64]).is_empty());
    }

    #[test]
    fn a_replaced_name_keeps_its_place_and_loses_its_doubles() {
        let mut headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        headers.set("A", "4");
        assert_eq!(headers, [("a", "4"), ("b", "2")].into_iter().collect());
        headers.set("c", "5");
        headers.remove("B");
        assert_eq!(headers, [("a", "4"), ("c", "5")].into_iter().collect());
    }
}
