//! The event of a stream that tells nothing but its usage, taken out of it for a client that has not asked for it.

use alloc::vec::Vec;
use core::mem;

use super::{
    event_lines::EventLines,
    json_scanner::{JsonDocument, JsonPlace, JsonScanner},
    last_words::StreamForm,
};

/// Of an event that may have to be taken out so much is kept back, in bytes. A longer one goes on.
pub(crate) const KEPT_BACK_MAX: usize = 4 << 10;

/// Reads a stream of server-sent events of OpenAI's API, in pieces of any size, and takes the event out of it that
/// tells its usage and has no part of an answer. Anything else goes on as it is.
#[derive(Debug, Default)]
pub(crate) struct UsageChunks {
    /// What the body is, once that is known.
    form: Option<StreamForm>,
    lines: EventLines,
    scanner: JsonScanner<ChunkPlace>,
    event: EventRead,
    /// What came of the event that is being read and has not gone on.
    kept_back: Vec<u8>,
    /// Its beginning has gone on.
    goes_on: bool,
    /// The last event ended with the first half of a line's end of two signs, and whether that went on.
    half_end: Option<bool>,
}

/// A place in an event that tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkPlace {
    Event,
    /// No event of such a stream.
    Other,
    Choices,
    Choice,
    Usage,
}

/// What goes on of a piece, which is not copied as long as that is its beginning.
struct Passed<'a> {
    piece: &'a [u8],
    /// So much of it was looked at.
    read: usize,
    copy: Option<Vec<u8>>,
}

/// What an event has.
#[derive(Debug, Default)]
struct EventRead {
    choices: bool,
    choice: bool,
    usage: bool,
}

// === impl UsageChunks ===

impl UsageChunks {
    /// So much memory this takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<UsageChunks>() + self.kept_back.capacity()
    }

    /// What came of the event that is being read and has not gone on.
    pub(crate) fn kept_back(&self) -> &[u8] {
        &self.kept_back
    }

    /// The next piece; `may_keep`: something may be kept back of it, which none is of the last one. What goes on in its
    /// place. None: the piece, as it is.
    pub(crate) fn pass(&mut self, piece: &[u8], may_keep: bool) -> Option<Vec<u8>> {
        self.form = self.form.or_else(|| StreamForm::of(piece));
        if self.form != Some(StreamForm::Events) {
            return None;
        }
        let mut passed = Passed { piece, read: 0, copy: None };
        if !self.kept_back.is_empty() {
            passed.copied();
        }
        match (piece.first(), self.half_end) {
            // The lines leave it out by themselves.
            (Some(b'\n'), Some(true)) => passed.go_on(1),
            (Some(b'\n'), Some(false)) => passed.leave_out(1),
            _ => {}
        }
        if !piece.is_empty() {
            self.half_end = None;
        }
        let mut bytes = piece;
        while self.lines.read_event(&mut bytes, &mut self.scanner, &mut self.event) {
            let end = self.lines.event_end(bytes);
            let length = piece.len() - bytes.len() + end.rest - passed.read;
            let goes_on = self.goes_on || !self.event.is_usage_alone();
            let kept_back = mem::take(&mut self.kept_back);
            if goes_on {
                passed.put_before(kept_back);
                passed.go_on(length);
            } else {
                passed.leave_out(length);
            }
            self.half_end = end.is_halved.then_some(goes_on);
            (self.event, self.goes_on) = (EventRead::default(), false);
        }
        let begun = piece.get(passed.read..).unwrap_or_default();
        let is_too_long = self.kept_back.len() + begun.len() > KEPT_BACK_MAX;
        if self.goes_on || self.event.choice || is_too_long || !may_keep {
            self.goes_on |= !begun.is_empty();
            passed.put_before(mem::take(&mut self.kept_back));
            passed.go_on(begun.len());
        } else {
            self.kept_back.extend_from_slice(begun);
            passed.leave_out(begun.len());
        }
        passed.copy
    }
}

/// The end of a stream without the events that tell nothing but its usage.
pub(crate) fn without_usage(end: Vec<u8>) -> Vec<u8> {
    UsageChunks::default().pass(&end, false).unwrap_or(end)
}

// === impl Passed ===

impl Passed<'_> {
    /// The next bytes go on.
    fn go_on(&mut self, length: usize) {
        let next = self.piece.get(self.read..self.read + length).unwrap_or_default();
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(next);
        }
        self.read += length;
    }

    /// They do not.
    fn leave_out(&mut self, length: usize) {
        if length > 0 {
            self.copied();
            self.read += length;
        }
    }

    /// These go before them, if there are any.
    fn put_before(&mut self, mut bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.copied().append(&mut bytes);
        }
    }

    fn copied(&mut self) -> &mut Vec<u8> {
        let so_far = self.piece.get(..self.read).unwrap_or_default();
        self.copy.get_or_insert_with(|| so_far.to_vec())
    }
}

// === impl EventRead ===

impl EventRead {
    fn is_usage_alone(&self) -> bool {
        self.choices && self.usage && !self.choice
    }
}

impl JsonDocument for EventRead {
    type Place = ChunkPlace;

    fn opened(&mut self, place: ChunkPlace) {
        match place {
            ChunkPlace::Choices => self.choices = true,
            ChunkPlace::Choice => self.choice = true,
            ChunkPlace::Usage => self.usage = true,
            ChunkPlace::Event | ChunkPlace::Other => {}
        }
    }
}

impl JsonPlace for ChunkPlace {
    const OBJECT: ChunkPlace = ChunkPlace::Event;
    const ARRAY: ChunkPlace = ChunkPlace::Other;

    fn member(self, name: &[u8]) -> Option<ChunkPlace> {
        match (self, name) {
            (ChunkPlace::Event, b"choices") => Some(ChunkPlace::Choices),
            (ChunkPlace::Event, b"usage") => Some(ChunkPlace::Usage),
            (ChunkPlace::Choices, b"") => Some(ChunkPlace::Choice),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    /// What of a stream in pieces of this size goes on, and the most that was kept back.
    fn passed(stream: &str, size: usize) -> (String, usize) {
        let (mut chunks, mut passed, mut kept_back) = (UsageChunks::default(), Vec::new(), 0);
        let mut rest = stream.as_bytes();
        while let (piece, next) = rest.split_at(size.min(rest.len()))
            && !piece.is_empty()
        {
            passed.extend(chunks.pass(piece, !next.is_empty()).unwrap_or_else(|| piece.to_vec()));
            kept_back = kept_back.max(chunks.kept_back.len());
            rest = next;
        }
        (String::from_utf8(passed).unwrap(), kept_back)
    }

    #[test]
    fn only_the_event_that_tells_nothing_but_usage_is_taken_out() {
        let [said, empty, usage] = [
            r#"data: {"id":"a","choices":[{"index":0,"delta":{"content":"\"usage\":{}"}}],"usage":null}"#,
            r#"data: {"id":"","choices":[],"prompt_filter_results":[{}]}"#,
            r#"data: {"id":"a","choices":[],"usage":{"prompt_tokens":1,"prompt_tokens_details":{}}}"#,
        ];
        let both = r#"data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#;
        let other = r#"data: {"type":"x","usage":{"input_tokens":1}}"#;
        for end in ["\n", "\r\n"] {
            let stream = |events: &[&str]| -> String { events.iter().flat_map(|event| [event, end, end]).collect() };
            for events in [&[said, both, other, empty, "data: [DONE]"][..], &[": comment", said], &[both], &[empty]] {
                let plain = stream(events);
                for at in 0..=events.len() {
                    let told = stream(&[&events[..at], &[usage], &events[at..]].concat());
                    for size in (1..told.len()).chain([usize::MAX]) {
                        assert_eq!(passed(&told, size).0, plain, "{told} by {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_such_stream_or_breaks_off_goes_on_as_it_is() {
        let long = ["data: {\"choices\":[],\"usage\":{\"x\":\"", &"y".repeat(2 * KEPT_BACK_MAX), "\"}}\n\n"].concat();
        for body in
            [r#"{"choices":[],"usage":{}}"#, r#"[{"choices":[],"usage":{}}]"#, "\0\0", "data: {\"choices\":[]", &long]
        {
            for size in [1, 7, 1_000] {
                let (passed, kept_back) = passed(body, size);
                assert_eq!(passed, body);
                assert!(kept_back <= KEPT_BACK_MAX);
            }
        }
    }
}
