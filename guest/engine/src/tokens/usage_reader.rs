//! An answer's body as it passes, read for what it tells of tokens, whichever provider's it is.

use alloc::boxed::Box;

use super::{
    event_frames::{EventFrames, FramePart},
    event_lines::EventLines,
    event_shape::EventReader,
    json_scanner::{JsonDocument, JsonScanner, first_sign},
    spoken_text::SpokenText,
    usage::Usage,
    usage_document::{UsageDocument, UsagePlace},
};
use crate::base64::Base64;

/// Reads the body of an answer, decompressed, in pieces of any size. What it takes is bounded, however long the body
/// is.
///
/// What a body is, its first byte tells: JSON, one document or several, in an array or not; server-sent events; or
/// Amazon's event stream. Every number is taken as cumulative: of each the last one counts, and none are added up.
///
/// ```
/// use slidegate_engine::tokens::UsageReader;
///
/// let mut reader = UsageReader::default();
/// for piece in ["data: {\"usage\": {\"prompt_to", "kens\": 12, \"completion_tokens\": 30}}\n\n", "data: [DONE]\n\n"] {
///     reader.feed(piece.as_bytes());
/// }
/// let usage = reader.usage().expect("the answer told it");
/// assert_eq!((usage.input, usage.output, usage.billed()), (12, 30, 42));
/// ```
#[derive(Debug, Default)]
pub struct UsageReader {
    form: BodyForm,
    lines: EventLines,
    scanner: JsonScanner<UsagePlace>,
    document: UsageDocument,
    /// What only an event stream of Amazon's takes.
    messages: Option<Box<Messages>>,
}

/// Where in an event stream of Amazon's the last byte was.
#[derive(Debug, Default)]
struct Messages {
    frames: EventFrames,
    wrapped: WrappedDocument,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum BodyForm {
    #[default]
    Unknown,
    Json,
    Lines,
    Frames,
}

/// A document that stands in base64 in a text of another.
#[derive(Debug, Default)]
struct WrappedDocument {
    scanner: JsonScanner<UsagePlace>,
    /// The digits of a group that were read, and how many.
    group: u32,
    digits: u8,
}

/// A document in a message of an event stream, and perhaps one in it.
struct MessageDocument<'a> {
    document: &'a mut UsageDocument,
    wrapped: &'a mut WrappedDocument,
}

// === impl UsageReader ===

impl UsageReader {
    /// The next piece of the body.
    #[inline]
    pub fn feed(&mut self, bytes: &[u8]) {
        let bytes = if self.form == BodyForm::Unknown { self.begin(bytes) } else { bytes };
        match self.form {
            BodyForm::Unknown => {}
            BodyForm::Json => self.scanner.feed(bytes, &mut self.document),
            BodyForm::Lines => {
                let UsageReader { lines, scanner, document, .. } = self;
                EventReader { lines, scanner, document }.feed(bytes);
            }
            BodyForm::Frames => self.feed_frames(bytes),
        }
    }

    /// What was told so far. None: nothing.
    pub fn usage(&self) -> Option<Usage> {
        self.document.usage()
    }

    /// Who passes the answer on tells, beside its body, how many tokens it read and wrote. To be said before the body;
    /// what that tells itself holds.
    pub fn tell(&mut self, input: Option<u64>, output: Option<u64>) {
        self.document.tell(input, output);
    }

    /// Whether how much it wrote was told so.
    pub fn is_told_beside(&self) -> bool {
        self.document.is_told_beside()
    }

    /// The text that the model has said since it told its output last, as far as that is known: an event that repeats a
    /// whole answer and does not tell its output says it again.
    pub fn spoken(&self) -> SpokenText {
        self.document.spoken()
    }

    /// How many tokens the text looks like of which the output is that was told last. None: it is not known.
    pub(crate) fn covered(&self) -> Option<u64> {
        self.document.covered()
    }

    /// So much memory this takes beside itself, in bytes: little, however long the body is, and nothing of most.
    #[inline]
    pub(crate) fn bytes_beside(&self) -> usize {
        let messages = if self.messages.is_some() { size_of::<Messages>() } else { 0 };
        messages + self.document.bytes_beside()
    }

    /// Tells the form by the first byte that says anything.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(rest) = first_sign(bytes).and_then(|first| bytes.get(first..)) else { return &[] };
        self.form = match rest.first() {
            Some(b'{' | b'[') => BodyForm::Json,
            // The length of a message, which is below 2^24.
            Some(0) => BodyForm::Frames,
            _ => BodyForm::Lines,
        };
        rest
    }

    fn feed_frames(&mut self, mut bytes: &[u8]) {
        let Messages { frames, wrapped } = &mut **self.messages.get_or_insert_default();
        while let Some(part) = frames.next(&mut bytes) {
            match part {
                FramePart::Payload(piece) => {
                    let mut message = MessageDocument { document: &mut self.document, wrapped };
                    self.scanner.feed(piece, &mut message);
                }
                FramePart::MessageEnd => self.scanner.reset(),
            }
        }
    }
}

// === impl MessageDocument ===

impl JsonDocument for MessageDocument<'_> {
    type Place = UsagePlace;

    fn opened(&mut self, place: UsagePlace) {
        self.document.opened(place);
    }

    fn closed(&mut self, place: UsagePlace) {
        self.document.closed(place);
    }

    fn count(&mut self, place: UsagePlace, count: u64) {
        self.document.count(place, count);
    }

    fn text_began(&mut self, place: UsagePlace) {
        self.document.text_began(place);
        if matches!(place, UsagePlace::WrappedDocument) {
            *self.wrapped = WrappedDocument::default();
        }
    }

    fn text(&mut self, place: UsagePlace, piece: &[u8]) {
        self.document.text(place, piece);
        if matches!(place, UsagePlace::WrappedDocument) {
            self.wrapped.feed(piece, self.document);
        }
    }
}

// === impl WrappedDocument ===

impl WrappedDocument {
    /// More digits of base64; what is none is left out.
    #[inline]
    fn feed(&mut self, digits: &[u8], document: &mut UsageDocument) {
        for value in digits.iter().copied().filter_map(|digit| Base64::Plain.value(digit)) {
            self.group = (self.group << 6) | u32::from(value);
            self.digits += 1;
            // A group that is not full yet has eight bits more from its second digit on.
            if self.digits > 1 {
                let bits = 6 * u32::from(self.digits) - 8 * u32::from(self.digits - 1);
                let [.., byte] = (self.group >> bits).to_be_bytes();
                self.scanner.feed(&[byte], document);
            }
            if self.digits == 4 {
                (self.group, self.digits) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_little() {
        assert!(size_of::<UsageReader>() <= 512, "{} bytes", size_of::<UsageReader>());
    }

    const DELTA: &str = r#"{"choices":[{"index":0,"delta":{"content":"eightlet"}}]}"#;
    const TOLD: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":9}}"#;
    const RUNNING: &str = r#"{"choices":[{"index":0,"delta":{"content":"eightlet"}}],"usage":{"completion_tokens":9}}"#;

    /// Of a stream of these events.
    fn covered(events: &[&str]) -> Option<u64> {
        let mut reader = UsageReader::default();
        events.iter().for_each(|event| reader.feed(alloc::format!("data: {event}\n\n").as_bytes()));
        reader.covered()
    }

    #[test]
    fn the_text_is_known_of_which_the_output_was_told() {
        assert_eq!(covered(&[DELTA]), Some(0), "nothing was told yet");
        assert_eq!(covered(&[DELTA, DELTA, TOLD, DELTA]), Some(4));
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#;
        let text = r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"eightlet"}}"#;
        let stop = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":9}}"#;
        assert_eq!(covered(&[start, text, text, stop]), Some(4));
        // The last event of OpenAI's Responses has all text again.
        let delta = r#"{"type":"response.output_text.delta","delta":"eightlet"}"#;
        let output = r#"[{"content":[{"type":"output_text","text":"eightlet"}]}]"#;
        let usage = r#"{"input_tokens":1,"output_tokens":9}"#;
        let end = alloc::format!(r#"{{"type":"response.completed","response":{{"output":{output},"usage":{usage}}}}}"#);
        assert_eq!(covered(&[delta, &end]), Some(2));
    }

    #[test]
    fn it_is_not_where_texts_may_repeat_each_other_or_are_very_long() {
        assert_eq!([1, 2, 3].map(|times| covered(&[RUNNING].repeat(times))), [Some(2), Some(4), None]);
        let usage_first = r#"{"usage":{"completion_tokens":9},"choices":[{"message":{"content":"eightlet"}}]}"#;
        assert_eq!(covered(&[usage_first]), None);
        assert_eq!(covered(&[&[DELTA].repeat(40_000)[..], &[TOLD]].concat()), None);
    }
}
