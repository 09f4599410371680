//! A streamed answer as it passes, read for where it may be cut, and for what its last words have to say then.

use alloc::vec::Vec;
use core::mem;

use super::{
    event_frames::{EventFrames, FramePart},
    event_lines::EventLines,
    json_scanner::{JsonDocument, JsonPlace, JsonScanner},
    last_words::{LastError, LastWords, NAME_BYTES_MAX, StreamApi, StreamForm},
};

/// The longest type of an event that is known.
const TYPE_BYTES_MAX: usize = 32;

/// Reads a stream of server-sent events, of JSON objects in an array or one a line, or of Amazon's event messages, in
/// pieces of any size. Any other body has no place where it may be cut.
#[derive(Debug, Default)]
pub struct CutReader {
    form: Option<StreamForm>,
    lines: EventLines,
    frames: EventFrames,
    scanner: JsonScanner<CutPlace>,
    document: CutDocument,
    /// What came so far ends with a whole event.
    is_between: bool,
    /// It ends with the first half of a line's end of two signs.
    is_in_line_end: bool,
}

/// A place in an event that tells how to end the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutPlace {
    Event,
    /// The array that is a stream.
    Events,
    Type,
    /// The block of an answer that the event is about.
    Block,
    Sequence,
    Created,
    Name,
    Model,
    Object,
    /// Of OpenAI's Responses API.
    Response,
    Choices,
    Candidates,
    Answer,
    AnswerIndex,
    /// Why an answer ended.
    Stop,
    /// Where Anthropic says why.
    Delta,
    /// Whether Ollama's has ended.
    Done,
    /// What only the last event of a stream has.
    Over,
}

/// What the events say so far, and apart from that the one that is being read: where a stream is cut, an event that
/// has begun has said nothing.
#[derive(Debug, Default)]
struct CutDocument {
    words: LastWords,
    event: EventSaid,
}

/// What an event has said so far.
#[derive(Debug, Default)]
struct EventSaid {
    api: Option<StreamApi>,
    kind: Vec<u8>,
    object: Vec<u8>,
    name: Vec<u8>,
    model: Vec<u8>,
    created: Option<u64>,
    sequence: Option<u64>,
    block: Option<u64>,
    /// The answers that it is of, and those that it says to have ended, a bit each.
    answers: u128,
    ended: u128,
    /// Which answer is being read, and whether it says why it has ended.
    answer: u64,
    has_stopped: bool,
    /// The reason for that begins.
    is_stop_next: bool,
    /// The stream has said its last words, or its model speaks texts, not messages.
    is_over: bool,
    is_text: bool,
    is_read: bool,
}

// === impl CutReader ===

impl CutReader {
    /// The next piece. Where in it the stream may be cut: behind the last event that is whole, or before all of the
    /// piece if that begins an event. None: nowhere.
    pub fn feed(&mut self, piece: &[u8]) -> Option<usize> {
        let begin = self.is_between.then_some(0);
        let form = match self.form {
            Some(form) => form,
            None => *self.form.insert(StreamForm::of(piece)?),
        };
        let last = match form {
            StreamForm::Events => self.feed_lines(piece),
            StreamForm::Array => self.feed_array(piece),
            StreamForm::Objects => self.feed_objects(piece),
            StreamForm::Frames => self.feed_frames(piece),
        };
        if !piece.is_empty() {
            self.is_between = last == Some(piece.len());
        }
        last.or(begin)
    }

    /// What ends the stream there, regularly or with this error. `output`: how many tokens the answer has. None: the
    /// stream has no shape that is known, or has ended by itself.
    pub fn last_words(&self, error: Option<LastError<'_>>, output: u64) -> Option<Vec<u8>> {
        let mut words = Vec::new();
        if self.is_in_line_end {
            words.push(b'\n');
        }
        self.document.words.write(self.form?, error, output, &mut words).then_some(words)
    }

    /// Which API's stream it is, as far as it is known.
    pub fn api(&self) -> Option<StreamApi> {
        self.document.words.api
    }

    fn feed_lines(&mut self, piece: &[u8]) -> Option<usize> {
        let mut last = None;
        let mut bytes = piece;
        if self.is_in_line_end && !piece.is_empty() {
            self.is_in_line_end = false;
            last = (self.is_between && piece.first() == Some(&b'\n')).then_some(1);
        }
        while self.lines.read_event(&mut bytes, &mut self.scanner, &mut self.document) {
            self.document.take_event();
            let end = self.lines.event_end(bytes);
            self.is_in_line_end = end.is_halved;
            last = Some(piece.len() - bytes.len() + end.rest);
        }
        last
    }

    fn feed_array(&mut self, piece: &[u8]) -> Option<usize> {
        let (mut last, mut read) = (None, 0);
        for part in piece.split_inclusive(|byte| *byte == b'}') {
            self.scanner.feed(part, &mut self.document);
            read += part.len();
            if self.document.take_event() {
                last = Some(read);
            }
            if self.scanner.is_outside() {
                self.document.words.is_over = true;
            }
        }
        last
    }

    fn feed_objects(&mut self, piece: &[u8]) -> Option<usize> {
        let (mut last, mut read) = (None, 0);
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            self.scanner.feed(line, &mut self.document);
            read += line.len();
            if line.last() == Some(&b'\n') && self.scanner.is_outside() {
                self.document.take_event();
                last = Some(read);
            }
        }
        last
    }

    fn feed_frames(&mut self, piece: &[u8]) -> Option<usize> {
        let (mut last, mut bytes) = (None, piece);
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                FramePart::Payload(payload) => self.scanner.feed(payload, &mut self.document),
                FramePart::MessageEnd => {
                    self.scanner.reset();
                    self.document.take_event();
                    self.document.words.api = Some(StreamApi::Bedrock);
                    last = Some(piece.len() - bytes.len());
                }
            }
        }
        last
    }
}

// === impl CutPlace ===

impl JsonPlace for CutPlace {
    const OBJECT: CutPlace = CutPlace::Event;
    const ARRAY: CutPlace = CutPlace::Events;

    fn member(self, name: &[u8]) -> Option<CutPlace> {
        Some(match (self, name) {
            (CutPlace::Events, b"") => CutPlace::Event,
            (CutPlace::Choices | CutPlace::Candidates, b"") => CutPlace::Answer,
            (CutPlace::Event, b"type") => CutPlace::Type,
            (CutPlace::Event, b"index") => CutPlace::Block,
            (CutPlace::Event, b"sequence_number") => CutPlace::Sequence,
            (CutPlace::Event, b"object") => CutPlace::Object,
            (CutPlace::Event, b"choices") => CutPlace::Choices,
            (CutPlace::Event, b"candidates") => CutPlace::Candidates,
            (CutPlace::Event, b"response") => CutPlace::Response,
            (CutPlace::Event, b"delta") => CutPlace::Delta,
            // Ollama has no other than its time.
            (CutPlace::Event | CutPlace::Response, b"id") | (CutPlace::Event, b"responseId" | b"created_at") => {
                CutPlace::Name
            }
            (CutPlace::Event, b"done") => CutPlace::Done,
            (CutPlace::Event, b"stopReason") => CutPlace::Over,
            (CutPlace::Event | CutPlace::Response, b"model") | (CutPlace::Event, b"modelVersion") => CutPlace::Model,
            (CutPlace::Event, b"created") | (CutPlace::Response, b"created_at") => CutPlace::Created,
            (CutPlace::Answer, b"index") => CutPlace::AnswerIndex,
            (CutPlace::Answer, b"finish_reason" | b"finishReason") | (CutPlace::Delta, b"stop_reason") => {
                CutPlace::Stop
            }
            _ => return None,
        })
    }
}

// === impl CutDocument ===

impl CutDocument {
    /// An event may have ended. Whether it did, and what it said holds now.
    fn take_event(&mut self) -> bool {
        let EventSaid {
            api,
            kind,
            object,
            name,
            model,
            created,
            sequence,
            block,
            answers,
            ended,
            is_over,
            is_text,
            is_read,
            ..
        } = &mut self.event;
        if !*is_read {
            return false;
        }
        let words = &mut self.words;
        words.is_over |= *is_over;
        words.is_text |= *is_text;
        words.api = words.api.or(*api);
        match kind.as_slice() {
            b"message_start" => words.api = Some(StreamApi::Anthropic),
            b"message-start" => words.api = Some(StreamApi::Cohere),
            b"content_block_start" | b"content-start" => words.open_block = *block,
            b"content_block_stop" | b"content-end" => words.open_block = None,
            b"message_stop"
            | b"message-end"
            | b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"error" => {
                words.is_over = true;
            }
            b"response.created" => words.api = Some(StreamApi::OpenAiResponses),
            _ => {}
        }
        if words.api == Some(StreamApi::OpenAiChat) && object == b"text_completion" {
            words.api = Some(StreamApi::OpenAiText);
        }
        if !name.is_empty() {
            mem::swap(&mut words.name, name);
        }
        if !model.is_empty() {
            mem::swap(&mut words.model, model);
        }
        words.created = created.unwrap_or(words.created);
        words.sequence = sequence.unwrap_or(words.sequence);
        words.answers |= *answers;
        words.ended |= *ended;
        words.is_stopping = *ended != 0;
        self.begin_event();
        true
    }

    /// Nothing is said yet; the memory for names stays.
    fn begin_event(&mut self) {
        let EventSaid { mut kind, mut object, mut name, mut model, .. } = mem::take(&mut self.event);
        [&mut kind, &mut object, &mut name, &mut model].into_iter().for_each(Vec::clear);
        self.event = EventSaid { kind, object, name, model, ..EventSaid::default() };
    }

    fn text_of(&mut self, place: CutPlace) -> Option<(&mut Vec<u8>, usize)> {
        let event = &mut self.event;
        Some(match place {
            CutPlace::Type => (&mut event.kind, TYPE_BYTES_MAX),
            CutPlace::Object => (&mut event.object, TYPE_BYTES_MAX),
            CutPlace::Name => (&mut event.name, NAME_BYTES_MAX),
            CutPlace::Model => (&mut event.model, NAME_BYTES_MAX),
            _ => return None,
        })
    }
}

impl JsonDocument for CutDocument {
    type Place = CutPlace;

    fn opened(&mut self, place: CutPlace) {
        match place {
            CutPlace::Event => self.begin_event(),
            CutPlace::Choices => self.event.api = Some(StreamApi::OpenAiChat),
            CutPlace::Candidates => self.event.api = Some(StreamApi::Gemini),
            CutPlace::Answer | CutPlace::Delta => (self.event.answer, self.event.has_stopped) = (0, false),
            _ => {}
        }
    }

    fn closed(&mut self, place: CutPlace) {
        let event = &mut self.event;
        match place {
            CutPlace::Event => event.is_read = true,
            CutPlace::Answer | CutPlace::Delta => {
                // No API returns more answers than there are bits.
                let bit = u32::try_from(event.answer).ok().and_then(|answer| 1_u128.checked_shl(answer));
                event.answers |= bit.unwrap_or_default();
                event.ended |= bit.filter(|_| event.has_stopped).unwrap_or_default();
            }
            _ => {}
        }
    }

    fn count(&mut self, place: CutPlace, count: u64) {
        let event = &mut self.event;
        match place {
            CutPlace::Block => event.block = Some(count),
            CutPlace::Sequence => event.sequence = Some(count),
            CutPlace::Created => event.created = Some(count),
            CutPlace::AnswerIndex => event.answer = count,
            _ => {}
        }
    }

    fn flag(&mut self, place: CutPlace, flag: bool) {
        if place == CutPlace::Done {
            (self.event.api, self.event.is_over) = (Some(StreamApi::Ollama), flag);
        }
    }

    fn text_began(&mut self, place: CutPlace) {
        self.event.is_stop_next = place == CutPlace::Stop;
        self.event.is_over |= place == CutPlace::Over;
        self.event.is_text |= place == CutPlace::Response;
        if let Some((text, _)) = self.text_of(place) {
            text.clear();
        }
    }

    fn text(&mut self, place: CutPlace, piece: &[u8]) {
        // Some say "" as long as there is no reason.
        self.event.has_stopped |= mem::take(&mut self.event.is_stop_next);
        // A longer one is none that is known, and is not told again.
        if let Some((text, most)) = self.text_of(place)
            && text.len() <= most
        {
            text.extend(piece.iter().take(most + 1 - text.len()));
        }
    }
}
