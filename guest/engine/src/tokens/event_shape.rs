//! Events that differ from one before them in their text alone, as nearly all of a stream do that comes as fast as it
//! can: what is the same is compared, many bytes at once, and not read again.

use super::{
    event_lines::EventLines,
    json_scanner::{JsonDocument, JsonScanner, TextBegin},
    usage_document::{HeardEvent, UsageDocument, UsagePlace},
};
use crate::byte_search;

/// What an event has around its first text at a known place, before which it tells nothing.
#[derive(Debug)]
pub(super) struct EventShape<'a> {
    /// Before that text, its quotation mark included.
    head: &'a [u8],
    /// Behind it, that of the end included: if the event tells nothing else, and as far as that is known.
    tail: Option<Tail<'a>>,
    begin: EventLines,
    place: UsagePlace,
    text: TextBegin<UsagePlace>,
    /// Within the line of the text.
    lines: EventLines,
}

#[derive(Debug, Clone, Copy)]
struct Tail<'a> {
    bytes: &'a [u8],
    end: EventLines,
}

/// What reads events.
pub(super) struct EventReader<'r> {
    pub(super) lines: &'r mut EventLines,
    pub(super) scanner: &'r mut JsonScanner<UsagePlace>,
    pub(super) document: &'r mut UsageDocument,
}

// === impl EventReader ===

impl EventReader<'_> {
    /// The next bytes of a stream.
    #[inline]
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        let mut shape: Option<EventShape<'_>> = None;
        let mut text: Option<&[u8]> = None;
        // Where the first event begins nobody knows here.
        let mut event = None;
        loop {
            if self.lines.read(&mut bytes, event.is_some() && text.is_none(), self.scanner, self.document) {
                if let (Some(shape), Some(text), HeardEvent::Text) = (&mut shape, text, self.document.heard()) {
                    shape.tail = Tail::of(text, bytes.len(), *self.lines);
                }
                text = self.skip(&mut bytes, shape.as_ref());
                event = Some((bytes, *self.lines));
            } else if bytes.is_empty() {
                return;
            } else if let Some((event, begin)) = event {
                shape = self.shape(event, bytes, begin);
                text = Some(bytes);
            }
        }
    }

    /// Takes events that have this shape, and the beginning of one that begins so: its text, which is to be read.
    #[inline]
    fn skip<'a>(&mut self, bytes: &mut &'a [u8], shape: Option<&EventShape<'_>>) -> Option<&'a [u8]> {
        loop {
            self.document.listen();
            let shape = shape.filter(|shape| shape.begin == *self.lines)?;
            let text = byte_search::behind(bytes, shape.head)?;
            // All that came of the same bytes, as nothing was told in them.
            self.document.opened(UsagePlace::Event);
            self.document.text_began(shape.place);
            let Some((rest, end)) = shape.read_text(text, self.document) else {
                self.scanner.begin_text(&shape.text);
                *self.lines = shape.lines;
                *bytes = text;
                return Some(text);
            };
            *self.lines = end;
            *bytes = rest;
        }
    }

    /// The shape of an event that has been read to where its first text begins.
    fn shape<'a>(&self, event: &'a [u8], text: &[u8], begin: EventLines) -> Option<EventShape<'a>> {
        let place = self.scanner.text_place().filter(|_| self.document.heard() == HeardEvent::TextBegin)?;
        let head = event.get(..event.len() - text.len())?;
        Some(EventShape { head, tail: None, begin, place, text: self.scanner.text_begin(), lines: *self.lines })
    }
}

// === impl EventShape ===

impl EventShape<'_> {
    /// Reads the text of an event that begins as this one does, if it goes on so behind that. What comes behind the
    /// event, and where lines are then.
    #[inline]
    fn read_text<'a>(&self, text: &'a [u8], document: &mut UsageDocument) -> Option<(&'a [u8], EventLines)> {
        let tail = self.tail?;
        let (text, behind) = whole_text(text)?;
        let rest = byte_search::behind(behind, tail.bytes)?;
        if !text.is_empty() {
            document.text(self.place, text);
        }
        Some((rest, tail.end))
    }
}

// === impl Tail ===

impl<'a> Tail<'a> {
    /// What was behind this text, up to where so many bytes are left, of an event that told one text in one piece.
    fn of(text: &'a [u8], left: usize, end: EventLines) -> Option<Tail<'a>> {
        let (inside, behind) = whole_text(text)?;
        // Else that was another one.
        let is_told = !inside.is_empty();
        Some(Tail { bytes: behind.get(..behind.len().checked_sub(left)?)?, end }).filter(|_| is_told)
    }
}

/// A text that ends as it is, in its line and without escapes, and what comes from the quotation mark on.
#[inline]
fn whole_text(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(byte_search::quote_escape_or_control(text)?).filter(|(_, behind)| behind.starts_with(b"\""))
}
