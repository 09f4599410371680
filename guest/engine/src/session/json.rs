//! Records in JSON (RFC 8259), to the letter: what is none is not guessed at, because an application would not read it
//! either. Numbers keep the spelling of the application, so that no two of them become one.

use alloc::{borrow::Cow, vec::Vec};
use core::str;

use super::{
    fields::{DEPTH_MAX, FieldPlace, FoundFields},
    miss::SessionMiss,
    record_cursor::RecordCursor,
};

/// What Jackson writes before a number in a map, so that Java has a `Long` again and no `Integer`.
const JAVA_LONG: &[u8] = b"[\"java.lang.Long\",";

/// Reads an object.
pub(super) fn read_object(text: &[u8], found: &mut FoundFields<'_>) -> Result<(), SessionMiss> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(SessionMiss::Undecodable);
    }
    let record = found.record();
    read_any(text, record, found, false)
}

/// Reads any value that stands at this place, as Jackson writes it for Spring Session.
pub(super) fn read_jackson(text: &[u8], place: FieldPlace, found: &mut FoundFields<'_>) -> Result<(), SessionMiss> {
    read_any(text, place, found, true)
}

fn read_any(text: &[u8], place: FieldPlace, found: &mut FoundFields<'_>, is_jackson: bool) -> Result<(), SessionMiss> {
    // Checked once, so that no text has to be looked at again.
    str::from_utf8(text).map_err(|_| SessionMiss::Undecodable)?;
    let mut reader = JsonReader { cursor: RecordCursor::new(text), found, is_jackson };
    reader.value(place, DEPTH_MAX)?;
    reader.space();
    reader.cursor.end()
}

struct JsonReader<'r, 'f, 'w> {
    cursor: RecordCursor<'r>,
    found: &'f mut FoundFields<'w>,
    /// Numbers may stand in a list behind their class.
    is_jackson: bool,
}

impl<'r> JsonReader<'r, '_, '_> {
    /// `depth`: how much deeper it may go.
    fn value(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        self.space();
        match self.cursor.peek().ok_or(SessionMiss::Undecodable)? {
            b'{' => self.object(place, depth.checked_sub(1).ok_or(SessionMiss::Undecodable)?),
            b'[' if self.is_java_long() => {
                self.cursor.expect(JAVA_LONG)?;
                let number = self.cursor.decimal()?;
                self.found.text(place, number);
                self.cursor.expect(b"]")
            }
            b'[' => self.array(place, depth.checked_sub(1).ok_or(SessionMiss::Undecodable)?),
            b'"' => {
                if let Some(text) = self.string(!place.is_idle())? {
                    self.found.text(place, &text);
                }
                Ok(())
            }
            b't' => {
                self.found.flag(place, true);
                self.cursor.expect(b"true")
            }
            b'f' => {
                self.found.flag(place, false);
                self.cursor.expect(b"false")
            }
            b'n' => self.cursor.expect(b"null"),
            // Python writes and reads them.
            b'N' => self.cursor.expect(b"NaN"),
            b'I' => self.cursor.expect(b"Infinity"),
            b'-' if self.cursor.rest().starts_with(b"-I") => self.cursor.expect(b"-Infinity"),
            _ => {
                let number = self.cursor.decimal()?;
                self.found.text(place, number);
                Ok(())
            }
        }
    }

    /// Whether a number follows behind its class, and nothing else.
    fn is_java_long(&self) -> bool {
        let behind = if self.is_jackson { self.cursor.rest().strip_prefix(JAVA_LONG) } else { None };
        behind.is_some_and(|behind| {
            let number = behind.strip_prefix(b"-").unwrap_or(behind);
            let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && number.get(digits) == Some(&b']')
        })
    }

    fn object(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        self.cursor.expect(b"{")?;
        self.space();
        if self.cursor.peek() == Some(b'}') {
            return self.cursor.expect(b"}");
        }
        loop {
            self.space();
            let name = self.string(!place.is_idle())?;
            let member = self.member(place, name.as_deref());
            self.space();
            self.cursor.expect(b":")?;
            self.value(member, depth)?;
            self.space();
            match self.cursor.byte()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(SessionMiss::Undecodable),
            }
        }
    }

    fn array(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        self.cursor.expect(b"[")?;
        self.space();
        if self.cursor.peek() == Some(b']') {
            return self.cursor.expect(b"]");
        }
        for at in 0.. {
            let element = self.found.enter_element(place, at);
            self.value(element, depth)?;
            self.space();
            match self.cursor.byte()? {
                b',' => {}
                b']' => return Ok(()),
                _ => break,
            }
        }
        Err(SessionMiss::Undecodable)
    }

    fn member(&mut self, place: FieldPlace, name: Option<&[u8]>) -> FieldPlace {
        // A name that is no text is no field's.
        name.map_or(FieldPlace::IDLE, |name| self.found.enter(place, name))
    }

    /// What stands in quotes, if it is wanted. None: it is not, or is no text, because half of a character stands in
    /// it.
    fn string(&mut self, is_wanted: bool) -> Result<Option<Cow<'r, [u8]>>, SessionMiss> {
        self.cursor.expect(b"\"")?;
        let mut text = Some(Cow::Borrowed(&b""[..])).filter(|_| is_wanted);
        loop {
            let plain = self.cursor.run(|byte| !matches!(byte, b'"' | b'\\' | ..b' '));
            append(&mut text, plain);
            match self.cursor.byte()? {
                b'"' => return Ok(text),
                b'\\' => match self.escaped()? {
                    Some(meant) => append_owned(&mut text, meant.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => text = None,
                },
                _ => return Err(SessionMiss::Undecodable),
            }
        }
    }

    /// The character behind a backslash. None: half of one.
    fn escaped(&mut self) -> Result<Option<char>, SessionMiss> {
        Ok(Some(match self.cursor.byte()? {
            sign @ (b'"' | b'\\' | b'/') => char::from(sign),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.numbered(),
            _ => return Err(SessionMiss::Undecodable),
        }))
    }

    /// The character of a number, or of two of them.
    fn numbered(&mut self) -> Result<Option<char>, SessionMiss> {
        let high = self.four_digits()?;
        let is_high = matches!(high, 0xd800..0xdc00);
        if !is_high || !self.cursor.rest().starts_with(b"\\u") {
            return Ok(char::from_u32(high));
        }
        self.cursor.expect(b"\\u")?;
        let low = self.four_digits()?;
        // Whatever follows half a character, the text is none.
        let pair = matches!(low, 0xdc00..0xe000).then(|| 0x10000 + ((high & 0x3ff) << 10 | low & 0x3ff));
        Ok(pair.and_then(char::from_u32))
    }

    fn four_digits(&mut self) -> Result<u32, SessionMiss> {
        let digits: [u8; 4] = self.cursor.number()?;
        digits.iter().try_fold(0, |number, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(SessionMiss::Undecodable)?;
            Ok(number << 4 | digit)
        })
    }

    fn space(&mut self) {
        self.cursor.run(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }
}

/// Adds what stands so in the record.
fn append<'r>(text: &mut Option<Cow<'r, [u8]>>, plain: &'r [u8]) {
    match text {
        Some(text) if text.is_empty() => *text = Cow::Borrowed(plain),
        _ => append_owned(text, plain),
    }
}

fn append_owned(text: &mut Option<Cow<'_, [u8]>>, bytes: &[u8]) {
    if let Some(text) = text
        && !bytes.is_empty()
    {
        let text: &mut Vec<u8> = text.to_mut();
        text.extend_from_slice(bytes);
    }
}
