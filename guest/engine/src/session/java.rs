//! Values as Java's `ObjectOutputStream` writes them (Java Object Serialization Specification, section 6): texts and
//! whole numbers. What else it writes is graphs of classes, which are not read.

use alloc::{string::ToString, vec::Vec};

use super::{miss::SessionMiss, record_cursor::RecordCursor};

/// What every such value begins with: a number and the version.
const HEAD: &[u8] = b"\xac\xed\x00\x05";

/// `java.lang.Long` and `java.lang.Integer`: a new object, its class with the number of the class's version, the one
/// field `value`, and the class above, `java.lang.Number`.
const LONG: &[u8] = b"sr\x00\x0ejava.lang.Long\x3b\x8b\xe4\x90\xcc\x8f\x23\xdf\x02\x00\x01J\x00\x05valuexr\x00\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\x00\x00xp";
const INTEGER: &[u8] = b"sr\x00\x11java.lang.Integer\x12\xe2\xa0\xa4\xf7\x81\x87\x38\x02\x00\x01I\x00\x05valuexr\x00\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\x00\x00xp";

/// Whether it is written by Java.
pub(super) fn is_java(value: &[u8]) -> bool {
    value.starts_with(HEAD)
}

/// The text or the number that it is. None: it is something else, or a text with half a character in it.
pub(super) fn read_value(value: &[u8]) -> Result<Option<Vec<u8>>, SessionMiss> {
    let mut cursor = RecordCursor::new(value);
    cursor.expect(HEAD)?;
    let text = match cursor.peek() {
        Some(b't') => {
            cursor.byte()?;
            let length = u16::from_be_bytes(cursor.number()?);
            utf8(cursor.take(usize::from(length))?)
        }
        Some(b'|') => {
            cursor.byte()?;
            let length = u64::from_be_bytes(cursor.number()?);
            utf8(cursor.take(usize::try_from(length).map_err(|_| SessionMiss::Undecodable)?)?)
        }
        _ if cursor.rest().starts_with(LONG) => {
            cursor.expect(LONG)?;
            Some(i64::from_be_bytes(cursor.number()?).to_string().into_bytes())
        }
        _ if cursor.rest().starts_with(INTEGER) => {
            cursor.expect(INTEGER)?;
            Some(i32::from_be_bytes(cursor.number()?).to_string().into_bytes())
        }
        _ => return Ok(None),
    };
    cursor.end()?;
    Ok(text)
}

/// Text as Java writes it: each half of a character beyond 16 bits has three bytes, and zero has two.
fn utf8(written: &[u8]) -> Option<Vec<u8>> {
    let mut units = Vec::with_capacity(written.len());
    let mut rest = written;
    while let [first, after @ ..] = rest {
        let (unit, after) = match (*first, after) {
            (byte @ 1..=0x7f, after) => (u16::from(byte), after),
            (high @ 0xc0..=0xdf, [low @ 0x80..=0xbf, after @ ..]) => (bits(high, 0x1f) << 6 | bits(*low, 0x3f), after),
            (high @ 0xe0..=0xef, [middle @ 0x80..=0xbf, low @ 0x80..=0xbf, after @ ..]) => {
                (bits(high, 0x0f) << 12 | bits(*middle, 0x3f) << 6 | bits(*low, 0x3f), after)
            }
            _ => return None,
        };
        units.push(unit);
        rest = after;
    }
    let mut text = Vec::with_capacity(written.len());
    for character in char::decode_utf16(units) {
        text.extend_from_slice(character.ok()?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(text)
}

fn bits(byte: u8, mask: u8) -> u16 {
    u16::from(byte & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(written.len()).unwrap().to_be_bytes();
        read_value(&[HEAD, b"t", &length, written].concat()).unwrap()
    }

    #[test]
    fn texts_are_what_they_were_in_java() {
        assert_eq!(text(b"alice").as_deref(), Some(&b"alice"[..]));
        assert_eq!(text(b"\xed\xa0\xbd\xed\xb8\x80").as_deref(), Some("\u{1f600}".as_bytes()));
        assert_eq!(text(b"\xc0\x80").as_deref(), Some(&b"\0"[..]));
        for written in [&b"\xed\xa0\xbd"[..], b"\xed\xb8\x80\xed\xa0\xbd", b"\xff", b"\0", b"\xc3", b"\xe2\x82"] {
            assert_eq!(text(written), None, "{}", written.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_cut_or_goes_on() {
        for value in [&b"t\x00\x05alice"[..], &[LONG, &[0; 8]].concat(), &[INTEGER, &[0; 4]].concat()] {
            let whole = [HEAD, value].concat();
            assert!(read_value(&whole).unwrap().is_some());
            assert_eq!(read_value(&[&whole, &b"x"[..]].concat()), Err(SessionMiss::Undecodable));
            assert_eq!(read_value(&whole[..whole.len() - 1]), Err(SessionMiss::Undecodable));
        }
        assert_eq!(read_value(b"\xac\xed\x00\x05|\xff\xff\xff\xff\xff\xff\xff\xff"), Err(SessionMiss::Undecodable));
        assert_eq!(read_value(b"\xac\xed\x00\x05sr"), Ok(None));
    }
}
