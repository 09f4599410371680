//! What limits on tokens of language models count, and when.

use crate::{
    request::{RequestView, counted_path, is_grpc},
    tokens::{TokenWeights, Usage},
};

/// What a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitUnit {
    /// Requests, each once.
    #[default]
    Requests,
    /// Tokens that requests and their answers take.
    Tokens,
}

/// How tokens are charged to the limits of a rule item, or to those of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTerms {
    /// `charge` and `token_weights`.
    pub charge: TokenCharge,
    /// `accounting`.
    pub accounting: Accounting,
    /// `admission`.
    pub admission: Admission,
    /// `reserve`.
    pub reserve: Reserve,
    /// `on_missing_usage`.
    pub on_missing_usage: OnMissingUsage,
    /// `request_usage`: streams of OpenAI's API are asked to tell their usage.
    pub request_usage: bool,
    /// `on_exhausted`.
    pub on_exhausted: OnExhausted,
    /// `cut_as`.
    pub cut_as: CutAs,
}

/// What an answer is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCharge {
    /// All that the provider bills, by the weights of its classes.
    Billed(TokenWeights),
    /// What Higress' plugin counts: input and output as the provider names them.
    Stock,
}

/// When tokens are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounting {
    /// An estimate when the request is admitted, settled when its answer is known.
    Reserve,
    /// When the answer is known, as stock does.
    After,
}

/// Which requests are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Those that come while there is any room.
    Room,
    /// Those whose estimate fits.
    Fits,
}

/// What is reserved for a request; never more than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// By the length of its body, and what answers of its key took of late.
    Auto,
    /// What its body says that the answer may have at most, beside what the body itself takes; without that, as `auto`.
    OutputMax,
    /// So much always.
    Tokens(u64),
}

/// What an answer is charged that does not tell its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissingUsage {
    /// Nothing, as stock.
    Nothing,
    /// What its text looks like.
    Estimate,
    /// What was reserved.
    Reserved,
}

/// What becomes of a streamed answer that takes more than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    /// It goes on.
    RefuseNext,
    /// It ends.
    Cut,
}

/// The last words of an answer that is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CutAs {
    /// As if the answer had come to its greatest length.
    #[default]
    Finish,
    /// An error.
    Error,
}

/// What refusals look like (`error_format`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorFormat {
    /// `rejected_msg` as it is.
    #[default]
    Plain,
    /// As OpenAI's API has them.
    OpenAi,
    /// As Anthropic's.
    Anthropic,
    /// As Gemini's.
    Gemini,
}

/// Which of the formats refusals have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormatChoice {
    /// By the path that is asked.
    Auto,
    /// This one.
    Always(ErrorFormat),
}

impl Default for TokenTerms {
    fn default() -> TokenTerms {
        TokenTerms {
            charge: TokenCharge::Billed(TokenWeights::default()),
            accounting: Accounting::Reserve,
            admission: Admission::Room,
            reserve: Reserve::Auto,
            on_missing_usage: OnMissingUsage::Nothing,
            request_usage: false,
            on_exhausted: OnExhausted::RefuseNext,
            cut_as: CutAs::Finish,
        }
    }
}

impl TokenTerms {
    /// Whether what is reserved stands in requests' bodies.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.accounting == Accounting::Reserve && self.reserve == Reserve::OutputMax
    }

    /// Whether streams end for which nothing is left.
    pub(crate) fn cuts(&self) -> bool {
        self.on_exhausted == OnExhausted::Cut
    }

    /// Whether what is reserved depends on how long requests' bodies are.
    pub(crate) fn guesses_by_bodies(&self) -> bool {
        self.accounting == Accounting::Reserve && self.reserve == Reserve::Auto
    }
}

impl TokenCharge {
    /// What an answer that took so much is charged.
    pub fn of(&self, usage: &Usage) -> u64 {
        match self {
            TokenCharge::Billed(weights) => weights.charge(usage),
            TokenCharge::Stock => usage.stock,
        }
    }
}

/// What stands behind the name of a model in paths of Gemini's API.
const GEMINI_METHODS: [&[u8]; 5] =
    [b":generateContent", b":streamGenerateContent", b":countTokens", b":embedContent", b":batchEmbedContents"];

impl ErrorFormatChoice {
    /// The format for a request.
    #[inline]
    pub(crate) fn of_request(self, request: &impl RequestView) -> ErrorFormat {
        match self {
            ErrorFormatChoice::Always(ErrorFormat::Plain) => ErrorFormat::Plain,
            chosen => chosen.of_api(request),
        }
    }

    /// The same of one that depends on the request.
    #[inline(never)]
    fn of_api(self, request: &impl RequestView) -> ErrorFormat {
        let speaks_grpc = || request.header("content-type").is_some_and(|kind| is_grpc(&kind));
        match self {
            // Its message is a sentence, whatever API its path may be of.
            _ if speaks_grpc() => ErrorFormat::Plain,
            ErrorFormatChoice::Always(format) => format,
            ErrorFormatChoice::Auto => self.of(&request.path()),
        }
    }

    /// The format for a request of this path, with its query or without.
    fn of(self, path: &[u8]) -> ErrorFormat {
        match self {
            ErrorFormatChoice::Always(format) => format,
            ErrorFormatChoice::Auto => {
                let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
                let has = |part: &[u8]| path.windows(part.len()).any(|window| window == part);
                // Of Anthropic's API also what lies beneath, such as `/messages/count_tokens`.
                if path.ends_with(b"/messages") || has(b"/messages/") {
                    ErrorFormat::Anthropic
                } else if GEMINI_METHODS.into_iter().any(has) {
                    ErrorFormat::Gemini
                } else {
                    ErrorFormat::OpenAi
                }
            }
        }
    }
}

/// Whether a path, with its query or without and however it is spelt, is one where OpenAI's API writes completions, of
/// chats or of texts.
pub(crate) fn is_completion(path: &[u8]) -> bool {
    counted_path(path).text.ends_with(b"/completions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_one_however_its_path_is_spelt() {
        for path in ["/v1/completions", "/v1/chat/completions?x=1", "/v1/chat/completion%73", "/chat//completions/;a=1"]
        {
            assert!(is_completion(path.as_bytes()), "{path}");
        }
        for path in ["/v1/completions/x", "/v1/responses?/completions", "/", "", "/v1/messages"] {
            assert!(!is_completion(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn the_path_tells_whose_errors_a_client_understands() {
        let format = |path: &str| ErrorFormatChoice::Auto.of(path.as_bytes());
        for path in ["/v1/chat/completions", "/v1/responses?x=/messages", "/", ""] {
            assert_eq!(format(path), ErrorFormat::OpenAi, "{path}");
        }
        for path in ["/v1/messages", "/anthropic/v1/messages?beta=true", "/v1/messages/count_tokens"] {
            assert_eq!(format(path), ErrorFormat::Anthropic, "{path}");
        }
        for path in [
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/v1/models/g:streamGenerateContent?alt=sse",
            "/v1beta/models/g:countTokens",
            "/v1beta/models/g:embedContent",
            "/v1beta/models/g:batchEmbedContents",
        ] {
            assert_eq!(format(path), ErrorFormat::Gemini, "{path}");
        }
        assert_eq!(ErrorFormatChoice::Always(ErrorFormat::Plain).of(b"/v1/messages"), ErrorFormat::Plain);
    }
}
