//! A request's body as it passes, read for how long an answer it asks for, whichever provider's API it is of.

use super::{
    json_number::COUNT_MAX,
    json_scanner::{JsonDocument, JsonPlace, JsonScanner},
    usage_request::{OptionsRead, UsageRequest, WordRead},
};
use crate::body::Splice;

/// What a request's body says of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputBound {
    /// How many tokens each answer may have, if the request says so: the greatest of the numbers that do. 0 says
    /// nothing, like -1.
    pub tokens_max: Option<u64>,
    /// How many answers are written, whether all are returned or not; at least one.
    pub answers: u64,
    /// Whether the answer is to be streamed, if the body says so.
    pub stream: Option<bool>,
    /// Whether a stream is to tell its usage, as OpenAI's API spells it.
    pub include_usage: Option<bool>,
}

/// Reads the body of a request in pieces of any size. What it keeps is bounded.
#[derive(Debug)]
pub struct OutputBoundReader {
    scanner: JsonScanner<BoundPlace>,
    document: BoundDocument,
    asked: Option<UsageRequest>,
}

/// A place in a request that has to do with the length of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BoundPlace {
    Request,
    /// Not a request, but a list of whatever.
    List,
    /// Gemini's `generationConfig`.
    GenerationConfig,
    /// Bedrock's `inferenceConfig`.
    InferenceConfig,
    /// Ollama's `options`.
    Options,
    /// `parameters` of DashScope, of Vertex AI and of Hugging Face's TGI.
    Parameters,
    /// Titan's `textGenerationConfig`.
    TextGenerationConfig,
    /// OpenAI's `stream_options`.
    StreamOptions,
    TokensMax,
    Answers,
    Stream,
    IncludeUsage,
}

#[derive(Debug)]
struct BoundDocument {
    bound: OutputBound,
    /// Only the first object of a body is a request.
    is_read: bool,
    /// It is an object.
    is_request: bool,
    /// What of `stream_options` was read last.
    options: OptionsRead,
    /// Of a number that is written as a text.
    digits: u64,
}

// === impl OutputBound ===

impl OutputBound {
    /// How many tokens all its answers together may have, if it says so.
    pub fn output_max(&self) -> Option<u64> {
        Some(self.tokens_max?.saturating_mul(self.answers))
    }
}

// === impl OutputBoundReader ===

impl Default for OutputBoundReader {
    fn default() -> OutputBoundReader {
        let bound = OutputBound { answers: 1, ..OutputBound::default() };
        OutputBoundReader {
            scanner: JsonScanner::default(),
            document: BoundDocument {
                bound,
                is_read: false,
                is_request: false,
                options: OptionsRead::default(),
                digits: 0,
            },
            asked: None,
        }
    }
}

impl OutputBoundReader {
    /// One that is also to tell how the body is to be changed so that its stream tells its usage.
    pub fn asking() -> OutputBoundReader {
        OutputBoundReader { asked: Some(UsageRequest::default()), ..OutputBoundReader::default() }
    }

    /// The next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(asked) = &mut self.asked else {
            if !self.document.is_read {
                self.scanner.feed(bytes, &mut self.document);
            }
            return;
        };
        let mut rest = bytes;
        // Part by part it is known where something has ended.
        while !self.document.is_read && !rest.is_empty() {
            let end = rest.iter().position(|byte| self.scanner.ends_part(*byte));
            let (part, next) = rest.split_at_checked(end.map_or(rest.len(), |end| end + 1)).unwrap_or((rest, &[]));
            self.scanner.feed(part, &mut self.document);
            asked.read(part, self.document.options, self.document.is_request);
            rest = next;
        }
    }

    /// How the body, of which all was fed, is to be changed so that its stream tells its usage. None: it is no request
    /// for a stream, or asks for that itself, or the reader is none that is to tell.
    pub fn usage_request(&self) -> Option<Splice> {
        let BoundDocument { bound, is_read, is_request, .. } = &self.document;
        let is_asked = bound.include_usage == Some(true);
        let lacks_it = *is_read && *is_request && bound.stream == Some(true) && !is_asked;
        self.asked.as_ref().filter(|_| lacks_it)?.splice()
    }

    /// What the body said so far.
    pub fn bound(&self) -> &OutputBound {
        &self.document.bound
    }
}

// === impl BoundPlace ===

impl JsonPlace for BoundPlace {
    const OBJECT: BoundPlace = BoundPlace::Request;
    const ARRAY: BoundPlace = BoundPlace::List;

    fn member(self, name: &[u8]) -> Option<BoundPlace> {
        Some(match (self, name) {
            (BoundPlace::Request, b"generationConfig" | b"generation_config") => BoundPlace::GenerationConfig,
            (BoundPlace::Request, b"inferenceConfig") => BoundPlace::InferenceConfig,
            (BoundPlace::Request, b"options") => BoundPlace::Options,
            (BoundPlace::Request, b"parameters") => BoundPlace::Parameters,
            (BoundPlace::Request, b"textGenerationConfig") => BoundPlace::TextGenerationConfig,
            (BoundPlace::Request, b"stream_options") => BoundPlace::StreamOptions,
            (
                BoundPlace::Request,
                b"max_tokens"
                | b"max_completion_tokens"
                | b"max_output_tokens"
                | b"max_gen_len"
                | b"max_tokens_to_sample"
                | b"maxTokens",
            )
            | (BoundPlace::GenerationConfig, b"maxOutputTokens" | b"max_output_tokens")
            | (BoundPlace::InferenceConfig, b"maxTokens")
            | (BoundPlace::Options, b"num_predict")
            | (BoundPlace::Parameters, b"max_tokens" | b"max_new_tokens" | b"maxOutputTokens")
            | (BoundPlace::TextGenerationConfig, b"maxTokenCount") => BoundPlace::TokensMax,
            (BoundPlace::Request, b"n" | b"best_of" | b"numResults" | b"num_generations")
            | (BoundPlace::GenerationConfig, b"candidateCount" | b"candidate_count")
            | (BoundPlace::Parameters, b"n" | b"best_of" | b"num_return_sequences" | b"candidateCount") => {
                BoundPlace::Answers
            }
            (BoundPlace::Request, b"stream") => BoundPlace::Stream,
            (BoundPlace::StreamOptions, b"include_usage") => BoundPlace::IncludeUsage,
            _ => return None,
        })
    }
}

// === impl BoundDocument ===

impl JsonDocument for BoundDocument {
    type Place = BoundPlace;

    fn opened(&mut self, place: BoundPlace) {
        if place == BoundPlace::StreamOptions && !self.is_read {
            self.options.begun += 1;
            // Of two of them the last one holds.
            self.bound.include_usage = None;
        }
    }

    fn closed(&mut self, place: BoundPlace) {
        self.is_read |= matches!(place, BoundPlace::Request | BoundPlace::List);
        self.is_request |= place == BoundPlace::Request;
        self.options.ended += u32::from(place == BoundPlace::StreamOptions);
    }

    fn count(&mut self, place: BoundPlace, count: u64) {
        let bound = &mut self.bound;
        match place {
            _ if self.is_read => {}
            BoundPlace::TokensMax if count > 0 => bound.tokens_max = bound.tokens_max.max(Some(count)),
            BoundPlace::Answers => bound.answers = bound.answers.max(count),
            // As some servers take it.
            BoundPlace::Stream => bound.stream = Some(count > 0),
            _ => {}
        }
    }

    fn flag(&mut self, place: BoundPlace, flag: bool) {
        match place {
            _ if self.is_read => {}
            BoundPlace::Stream => self.bound.stream = Some(flag),
            BoundPlace::IncludeUsage => {
                self.bound.include_usage = Some(flag);
                if !flag {
                    self.options.word(WordRead::No);
                }
            }
            _ => {}
        }
    }

    fn null(&mut self, place: BoundPlace) {
        match place {
            _ if self.is_read => {}
            BoundPlace::IncludeUsage => {
                self.bound.include_usage = None;
                self.options.word(WordRead::Null);
            }
            BoundPlace::StreamOptions => {
                self.bound.include_usage = None;
                self.options.word(WordRead::NullOptions);
            }
            _ => {}
        }
    }

    fn text_began(&mut self, place: BoundPlace) {
        match place {
            _ if self.is_read => {}
            BoundPlace::TokensMax | BoundPlace::Answers => self.digits = 0,
            BoundPlace::Stream => self.bound.stream = Some(true),
            _ => {}
        }
    }

    fn text(&mut self, place: BoundPlace, piece: &[u8]) {
        match place {
            _ if self.is_read => {}
            // Lenient servers take a text for the number that it spells. Its beginning is a smaller one.
            BoundPlace::TokensMax | BoundPlace::Answers => {
                for digit in piece.iter().filter(|byte| byte.is_ascii_digit()) {
                    self.digits = self.digits.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                }
                self.count(place, self.digits.min(COUNT_MAX));
            }
            _ => {}
        }
    }
}
