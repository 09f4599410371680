//! Header maps as they cross the boundary: a count, the lengths of each name and value, then names and values, each
//! with a zero byte behind it. All numbers are 32 bits, little-endian.

/// Serialises header fields. Names and values of more than 4 GiB are left out.
pub fn write<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut count = 0u32;
    let (mut lengths, mut texts) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        let (Ok(name_length), Ok(value_length)) = (u32::try_from(name.len()), u32::try_from(value.len())) else {
            continue;
        };
        count += 1;
        lengths.extend(name_length.to_le_bytes());
        lengths.extend(value_length.to_le_bytes());
        for text in [name.as_bytes(), value] {
            texts.extend_from_slice(text);
            texts.push(0);
        }
    }
    [count.to_le_bytes().as_slice(), &lengths, &texts].concat()
}

/// The values of a header in a serialised map, in order. What is cut off ends the map.
pub fn values<'a>(map: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields(map).filter(move |(each, _)| each.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
}

/// All header fields of a serialised map but pseudo headers, names in lower case.
pub fn all(map: &[u8]) -> Vec<(String, Vec<u8>)> {
    let is_header = |(name, _): &(&[u8], &[u8])| name.first().is_some_and(|first| *first != b':');
    let owned = |(name, value): (&[u8], &[u8])| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec());
    fields(map).filter(is_header).map(owned).collect()
}

fn fields(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (count, rest) = number(map).unwrap_or_default();
    let lengths_end = count.checked_mul(8).filter(|&end| end <= rest.len()).unwrap_or_default();
    let (lengths, mut texts) = rest.split_at_checked(lengths_end).unwrap_or_default();
    lengths.chunks_exact(8).map_while(move |lengths| {
        let (name_length, lengths) = number(lengths)?;
        let (value_length, _) = number(lengths)?;
        let (name, after_name) = text(texts, name_length)?;
        let (value, after_value) = text(after_name, value_length)?;
        texts = after_value;
        Some((name, value))
    })
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn text(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.split_first()?.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, &[u8]); 4] = [("cookie", b"a=1"), (":path", b""), ("x", b"\xe9"), ("Cookie", b"b=2")];

    #[test]
    fn a_map_is_laid_out_as_the_gateway_expects() {
        assert_eq!(
            write([("ab", &b"c"[..]), ("d", b"")].into_iter()),
            b"\x02\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0ab\0c\0d\0\0"
        );
        assert_eq!(write([].into_iter()), [0; 4]);
        assert_eq!(values(b"", "a").count(), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let map = write(FIELDS.into_iter());
        let values = |name| values(&map, name).collect::<Vec<_>>();
        assert_eq!(values("cookie"), [b"a=1", b"b=2"]);
        assert_eq!(values(":path"), [b""]);
        assert_eq!(values("x"), [b"\xe9"]);
        assert!(values("cookies").is_empty());
        let expected = [("cookie", &b"a=1"[..]), ("x", b"\xe9"), ("cookie", b"b=2")];
        assert_eq!(all(&map), expected.map(|(name, value)| (name.to_string(), value.to_vec())));
    }

    #[test]
    fn no_damage_panics_or_shows_what_is_not_there() {
        let map = write(FIELDS.into_iter());
        for cut in 0..map.len() {
            assert!(values(&map[..cut], "cookie").count() < 2, "{cut}");
        }
        for at in 0..map.len() {
            for byte in 0..=255 {
                let mut damaged = map.clone();
                damaged[at] = byte;
                values(&damaged, "cookie").for_each(|value| assert!(value.len() < map.len()));
            }
        }
    }
}
