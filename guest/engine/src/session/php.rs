//! Records of PHP's session handlers `php` (`name|value`, one after the other) and `php_serialize` (one array). Lengths
//! count bytes.
//!
//! References to a value that stands elsewhere, and objects that write themselves, tell nothing.

use core::str;

use super::{
    fields::{DEPTH_MAX, FieldPlace, FoundFields, WantedFields},
    miss::SessionMiss,
    record_cursor::RecordCursor,
};

/// Reads a record in either form.
pub(super) fn read_record(record: &[u8], found: &mut FoundFields<'_>) -> Result<(), SessionMiss> {
    // Names in the handlers `php_binary` and `igbinary` stand behind a length.
    if record.first().is_some_and(u8::is_ascii_control) {
        return Err(SessionMiss::ForeignType);
    }
    if !is_array(record) {
        return read_variables(record, found);
    }
    let mut reader = PhpReader { cursor: RecordCursor::new(record), found };
    let place = reader.found.record();
    reader.value(place, DEPTH_MAX)?;
    reader.cursor.end()?;
    // A variable's name that a stranger chose may look like one: then nobody knows which of the two it is.
    match read_variables(record, &mut FoundFields::new(&WantedFields::default())) {
        Ok(()) => Err(SessionMiss::Undecodable),
        Err(_) => Ok(()),
    }
}

/// Reads a record of variables, one after the other.
fn read_variables(record: &[u8], found: &mut FoundFields<'_>) -> Result<(), SessionMiss> {
    let mut reader = PhpReader { cursor: RecordCursor::new(record), found };
    let place = reader.found.record();
    while reader.cursor.peek().is_some() {
        let name = reader.cursor.until(b'|')?;
        let member = reader.found.enter(place, name);
        reader.value(member, DEPTH_MAX)?;
    }
    Ok(())
}

/// Whether a record begins like one array.
fn is_array(record: &[u8]) -> bool {
    let length = record.strip_prefix(b"a:").unwrap_or_default();
    let digits = length.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && length.get(digits..).is_some_and(|rest| rest.starts_with(b":{"))
}

struct PhpReader<'r, 'f, 'w> {
    cursor: RecordCursor<'r>,
    found: &'f mut FoundFields<'w>,
}

impl<'r> PhpReader<'r, '_, '_> {
    /// `depth`: how much deeper it may go.
    fn value(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        let kind = self.cursor.byte()?;
        if kind == b'N' {
            return self.cursor.expect(b";");
        }
        self.cursor.expect(b":")?;
        match kind {
            b'b' => {
                let flag = self.cursor.byte()?;
                if !matches!(flag, b'0' | b'1') {
                    return Err(SessionMiss::Undecodable);
                }
                self.found.flag(place, flag == b'1');
                self.cursor.expect(b";")
            }
            b'i' => {
                let number = self.whole()?;
                self.found.text(place, number);
                Ok(())
            }
            b'd' => self.float(place),
            b's' => {
                let text = self.quoted()?;
                self.found.text(place, text);
                self.cursor.expect(b";")
            }
            b'a' => self.members(place, depth.checked_sub(1).ok_or(SessionMiss::Undecodable)?),
            b'O' => {
                self.quoted()?;
                self.cursor.expect(b":")?;
                self.members(place, depth.checked_sub(1).ok_or(SessionMiss::Undecodable)?)
            }
            // An object that has written itself, in whatever way.
            b'C' => {
                self.quoted()?;
                self.cursor.expect(b":")?;
                let length = self.length()?;
                self.cursor.expect(b"{")?;
                self.cursor.take(length)?;
                self.cursor.expect(b"}")
            }
            // A case of an enumeration.
            b'E' => {
                self.quoted()?;
                self.cursor.expect(b";")
            }
            b'R' | b'r' => self.whole().map(|_| ()),
            _ => Err(SessionMiss::Undecodable),
        }
    }

    /// The members of an array or of an object, with their number before them.
    fn members(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        let length = self.length()?;
        self.cursor.expect(b"{")?;
        // Each takes some bytes: a number that is none ends where the record does.
        for _ in 0..length {
            let name = match self.cursor.byte()? {
                b'i' => {
                    self.cursor.expect(b":")?;
                    self.whole()?
                }
                b's' => {
                    self.cursor.expect(b":")?;
                    let name = self.quoted()?;
                    self.cursor.expect(b";")?;
                    name
                }
                _ => return Err(SessionMiss::Undecodable),
            };
            let member = self.found.enter(place, name);
            self.value(member, depth)?;
        }
        self.cursor.expect(b"}")
    }

    /// A whole number and the semicolon behind it.
    fn whole(&mut self) -> Result<&'r [u8], SessionMiss> {
        let number = self.cursor.decimal()?;
        self.cursor.expect(b";")?;
        if number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
            Ok(number)
        } else {
            Err(SessionMiss::Undecodable)
        }
    }

    fn float(&mut self, place: FieldPlace) -> Result<(), SessionMiss> {
        let rest = self.cursor.rest();
        for endless in [&b"INF;"[..], b"-INF;", b"NAN;"] {
            if rest.starts_with(endless) {
                return self.cursor.expect(endless);
            }
        }
        let number = self.cursor.decimal()?;
        self.found.text(place, number);
        self.cursor.expect(b";")
    }

    /// A length, and so many bytes in quotes behind it.
    fn quoted(&mut self) -> Result<&'r [u8], SessionMiss> {
        let length = self.length()?;
        self.cursor.expect(b"\"")?;
        let text = self.cursor.take(length)?;
        self.cursor.expect(b"\"")?;
        Ok(text)
    }

    /// A length, and the colon behind it.
    fn length(&mut self) -> Result<usize, SessionMiss> {
        let digits = self.cursor.run(|byte| byte.is_ascii_digit());
        self.cursor.expect(b":")?;
        let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        length.ok_or(SessionMiss::Undecodable)
    }
}
