//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), of which only the data
//! counts.

use super::json_scanner::{JsonDocument, JsonScanner};
use crate::byte_search;

/// Where in an event stream of lines the last byte was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EventLines {
    part: LinePart,
    /// A line feed that comes next belongs to the line's end.
    is_after_return: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinePart {
    /// So much of the name of the field that counts has been read.
    Name(u8),
    BeforeData,
    Data,
    /// Of a line that does not count.
    Other,
}

/// What is next in a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventPart<'a> {
    /// Data, and whether a line of it begins with that.
    Data {
        piece: &'a [u8],
        begins_line: bool,
    },
    EventEnd,
}

/// How an event ends, whose last sign may be the first of a line's end of two.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventEnd {
    /// So many bytes more belong to it.
    pub(super) rest: usize,
    /// One may follow that does.
    pub(super) is_halved: bool,
}

/// The field that counts, with the sign that ends its name.
const DATA: &[u8] = b"data:";

// === impl EventLines ===

impl EventLines {
    /// Takes bytes until an event has ended, whose data are documents. Whether one has; if not, all bytes are taken.
    #[inline]
    pub(super) fn read_event<Document: JsonDocument>(
        &mut self,
        bytes: &mut &[u8],
        scanner: &mut JsonScanner<Document::Place>,
        document: &mut Document,
    ) -> bool {
        self.read(bytes, false, scanner, document)
    }

    /// The same, but with `to_text` bytes are left as well where a text begins at a known place.
    #[inline]
    pub(super) fn read<Document: JsonDocument>(
        &mut self,
        bytes: &mut &[u8],
        to_text: bool,
        scanner: &mut JsonScanner<Document::Place>,
        document: &mut Document,
    ) -> bool {
        loop {
            let before = *bytes;
            match self.next(bytes) {
                None => return false,
                // Text, in which a brace is no document.
                Some(EventPart::Data { piece, begins_line: true })
                    if scanner.is_outside() && !matches!(piece.first(), Some(b'{' | b'[')) =>
                {
                    self.part = LinePart::Other;
                }
                Some(EventPart::Data { piece, .. }) => {
                    let mut rest = piece;
                    while !rest.is_empty() {
                        rest = scanner.feed_to_text(rest, document);
                        if to_text && !rest.is_empty() {
                            *bytes = before.get(before.len() - bytes.len() - rest.len()..).unwrap_or_default();
                            return false;
                        }
                    }
                }
                Some(EventPart::EventEnd) => {
                    scanner.reset();
                    return true;
                }
            }
        }
    }

    /// Takes bytes until there is something to tell.
    #[inline]
    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<EventPart<'a>> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let is_line_end = matches!(byte, b'\n' | b'\r');
            match self.part {
                _ if byte == b'\n' && self.is_after_return => {
                    self.is_after_return = false;
                    *bytes = rest;
                }
                part if is_line_end => {
                    self.is_after_return = byte == b'\r';
                    self.part = LinePart::default();
                    *bytes = rest;
                    if part == LinePart::Name(0) {
                        return Some(EventPart::EventEnd);
                    }
                }
                // In one piece, as it nearly always is.
                LinePart::Name(0) if bytes.starts_with(DATA) => {
                    self.is_after_return = false;
                    self.part = LinePart::BeforeData;
                    *bytes = bytes.get(DATA.len()..).unwrap_or_default();
                }
                LinePart::Name(read) => {
                    self.is_after_return = false;
                    let is_data = DATA.get(usize::from(read)) == Some(&byte);
                    self.part = match read + 1 {
                        _ if !is_data => LinePart::Other,
                        read if usize::from(read) == DATA.len() => LinePart::BeforeData,
                        read => LinePart::Name(read),
                    };
                    *bytes = rest;
                }
                LinePart::BeforeData if byte.is_ascii_whitespace() => *bytes = rest,
                part => {
                    let length = byte_search::line_end(bytes).unwrap_or(bytes.len());
                    let (piece, rest) = bytes.split_at_checked(length)?;
                    *bytes = rest;
                    if part != LinePart::Other {
                        self.part = LinePart::Data;
                        return Some(EventPart::Data { piece, begins_line: part == LinePart::BeforeData });
                    }
                }
            }
        }
        None
    }

    /// How the event ends that has just been read, whose next bytes these are.
    pub(super) fn event_end(&self, bytes: &[u8]) -> EventEnd {
        let rest = usize::from(self.is_after_return && bytes.first() == Some(&b'\n'));
        EventEnd { rest, is_halved: self.is_after_return && bytes.is_empty() }
    }
}

impl Default for LinePart {
    fn default() -> LinePart {
        LinePart::Name(0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use super::*;

    /// The data of each event, lines of it apart.
    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut events) = (EventLines::default(), Vec::from([String::new()]));
        for piece in pieces {
            let mut bytes = *piece;
            while let Some(part) = lines.next(&mut bytes) {
                match part {
                    EventPart::Data { piece, begins_line } => {
                        let event = events.last_mut().unwrap();
                        if begins_line && !event.is_empty() {
                            event.push('|');
                        }
                        event.push_str(str::from_utf8(piece).unwrap());
                    }
                    EventPart::EventEnd => events.push(String::new()),
                }
            }
        }
        events
    }

    #[test]
    fn data_of_events_whatever_ends_their_lines() {
        let text = "event: x\ndata: a b\n\n: data: no\ndata:c\ndata: d\nid: 7\n\ndatax: e\n data: \
                    f\ndata\ndata:\n\nretry: 1\ndata:   g";
        for text in [text.into(), text.replace('\n', "\r\n"), text.replace('\n', "\r")] {
            let whole = events(&[text.as_bytes()]);
            assert_eq!(whole, ["a b", "c|d", "", "g"]);
            let each: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(events(&each), whole);
        }
    }
}
