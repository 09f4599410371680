//! Records in MessagePack, as far as sessions need it: texts, numbers, flags, lists and maps. Of bytes and of an
//! application's own types nothing is told, but they stop nothing.

use alloc::{format, string::String};

use slidegate_document::float_text;

use super::{
    fields::{DEPTH_MAX, FieldPlace, FoundFields},
    miss::SessionMiss,
    record_cursor::RecordCursor,
};

/// Reads a map.
pub(super) fn read_map(bytes: &[u8], found: &mut FoundFields<'_>) -> Result<(), SessionMiss> {
    let mut reader = MessagePackReader { cursor: RecordCursor::new(bytes), found };
    if !matches!(reader.cursor.peek(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(SessionMiss::Undecodable);
    }
    let record = reader.found.record();
    reader.value(record, DEPTH_MAX)?;
    reader.cursor.end()
}

struct MessagePackReader<'r, 'f, 'w> {
    cursor: RecordCursor<'r>,
    found: &'f mut FoundFields<'w>,
}

/// A value, or the head of one that has others in it.
enum MessagePackHead<'r> {
    Nothing,
    Flag(bool),
    Text(&'r [u8]),
    Number(String),
    List(usize),
    Map(usize),
}

impl<'r> MessagePackReader<'r, '_, '_> {
    /// `depth`: how much deeper it may go.
    fn value(&mut self, place: FieldPlace, depth: u8) -> Result<(), SessionMiss> {
        let deeper = depth.checked_sub(1).ok_or(SessionMiss::Undecodable);
        match self.head(!place.is_idle())? {
            MessagePackHead::Nothing => {}
            MessagePackHead::Flag(flag) => self.found.flag(place, flag),
            MessagePackHead::Text(text) => self.found.text(place, text),
            MessagePackHead::Number(number) => self.found.text(place, number.as_bytes()),
            // Each element takes a byte at least: a length that is none ends where the record does.
            MessagePackHead::List(length) => {
                for at in 0..length {
                    let element = self.found.enter_element(place, at);
                    self.value(element, deeper?)?;
                }
            }
            MessagePackHead::Map(length) => {
                for _ in 0..length {
                    let member = match self.head(!place.is_idle())? {
                        MessagePackHead::Text(name) => self.found.enter(place, name),
                        MessagePackHead::Number(name) => self.found.enter(place, name.as_bytes()),
                        MessagePackHead::Nothing | MessagePackHead::Flag(_) => FieldPlace::IDLE,
                        MessagePackHead::List(_) | MessagePackHead::Map(_) => return Err(SessionMiss::Undecodable),
                    };
                    self.value(member, deeper?)?;
                }
            }
        }
        Ok(())
    }

    /// What comes next; a number is only spelt if it is wanted.
    fn head(&mut self, is_wanted: bool) -> Result<MessagePackHead<'r>, SessionMiss> {
        let whole = |number: i128| MessagePackHead::Number(if is_wanted { format!("{number}") } else { String::new() });
        let kind = self.cursor.byte()?;
        Ok(match kind {
            0x00..=0x7f => whole(kind.into()),
            0x80..=0x8f => MessagePackHead::Map(usize::from(kind & 0x0f)),
            0x90..=0x9f => MessagePackHead::List(usize::from(kind & 0x0f)),
            0xa0..=0xbf => MessagePackHead::Text(self.cursor.take(usize::from(kind & 0x1f))?),
            0xc0 => MessagePackHead::Nothing,
            0xc2 | 0xc3 => MessagePackHead::Flag(kind == 0xc3),
            0xc4 => self.skipped(1, 0)?,
            0xc5 => self.skipped(2, 0)?,
            0xc6 => self.skipped(4, 0)?,
            // Of other types the type's number stands before its bytes.
            0xc7 => self.skipped(1, 1)?,
            0xc8 => self.skipped(2, 1)?,
            0xc9 => self.skipped(4, 1)?,
            0xca => float(f32::from_be_bytes(self.cursor.number()?).into(), is_wanted),
            0xcb => float(f64::from_be_bytes(self.cursor.number()?), is_wanted),
            0xcc => whole(u8::from_be_bytes(self.cursor.number()?).into()),
            0xcd => whole(u16::from_be_bytes(self.cursor.number()?).into()),
            0xce => whole(u32::from_be_bytes(self.cursor.number()?).into()),
            0xcf => whole(u64::from_be_bytes(self.cursor.number()?).into()),
            0xd0 => whole(i8::from_be_bytes(self.cursor.number()?).into()),
            0xd1 => whole(i16::from_be_bytes(self.cursor.number()?).into()),
            0xd2 => whole(i32::from_be_bytes(self.cursor.number()?).into()),
            0xd3 => whole(i64::from_be_bytes(self.cursor.number()?).into()),
            0xd4..=0xd8 => {
                self.cursor.take(1 + (1 << (kind - 0xd4)))?;
                MessagePackHead::Nothing
            }
            0xd9 => MessagePackHead::Text(self.counted(1)?),
            0xda => MessagePackHead::Text(self.counted(2)?),
            0xdb => MessagePackHead::Text(self.counted(4)?),
            0xdc => MessagePackHead::List(self.length(2)?),
            0xdd => MessagePackHead::List(self.length(4)?),
            0xde => MessagePackHead::Map(self.length(2)?),
            0xdf => MessagePackHead::Map(self.length(4)?),
            0xe0..=0xff => whole(kind.cast_signed().into()),
            // What no version of the format has given a meaning.
            0xc1 => return Err(SessionMiss::Undecodable),
        })
    }

    /// Bytes behind their length and so many more.
    fn skipped(&mut self, width: usize, more: usize) -> Result<MessagePackHead<'r>, SessionMiss> {
        let length = self.length(width)?;
        self.cursor.take(length)?;
        self.cursor.take(more)?;
        Ok(MessagePackHead::Nothing)
    }

    fn counted(&mut self, width: usize) -> Result<&'r [u8], SessionMiss> {
        let length = self.length(width)?;
        self.cursor.take(length)
    }

    fn length(&mut self, width: usize) -> Result<usize, SessionMiss> {
        let bytes = self.cursor.take(width)?;
        Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }
}

/// A number with a fraction. Nothing is told of one that is infinite, or no number.
fn float<'r>(number: f64, is_wanted: bool) -> MessagePackHead<'r> {
    if !number.is_finite() {
        return MessagePackHead::Nothing;
    }
    MessagePackHead::Number(if is_wanted { float_text(number) } else { String::new() })
}
