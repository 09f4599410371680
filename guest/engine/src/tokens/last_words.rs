//! The last words of a streamed answer that is cut, as its API has them, so that its clients take them for what they
//! are.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use super::{event_frames, json_scanner::first_sign};

/// Whose API an answer is streamed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamApi {
    /// OpenAI's chat completions, which many speak.
    OpenAiChat,
    /// OpenAI's completions of a text.
    OpenAiText,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's.
    Gemini,
    /// Cohere's chats.
    Cohere,
    /// Ollama's.
    Ollama,
    /// Bedrock's, of whichever model.
    Bedrock,
}

/// How the events of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamForm {
    /// Server-sent events.
    Events,
    /// Elements of a JSON array.
    Array,
    /// JSON objects, one a line.
    Objects,
    /// Messages of Amazon's event streams.
    Frames,
}

impl StreamForm {
    /// The form of a stream that begins so. None: with nothing that tells.
    pub(super) fn of(piece: &[u8]) -> Option<StreamForm> {
        Some(match piece.get(first_sign(piece)?)? {
            b'[' => StreamForm::Array,
            b'{' => StreamForm::Objects,
            0 => StreamForm::Frames,
            _ => StreamForm::Events,
        })
    }
}

/// An error, to be the last of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError<'a> {
    /// As a refusal of the same API has it: a JSON object.
    pub body: &'a str,
    /// What it says; nothing that JSON would escape.
    pub message: &'a str,
}

/// The longest name of a model or of an answer that is told again, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 96;

/// What the events of a stream said of it.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    pub(super) api: Option<StreamApi>,
    /// Of the answer, and of its model. As bytes.
    pub(super) name: Vec<u8>,
    pub(super) model: Vec<u8>,
    /// In seconds, as the stream has it.
    pub(super) created: u64,
    /// The answers there are, and those that said that they have ended, a bit each; the first is 0.
    pub(super) answers: u128,
    pub(super) ended: u128,
    /// The last event says that one has.
    pub(super) is_stopping: bool,
    /// The number of the last event.
    pub(super) sequence: u64,
    /// The block that has begun, and not ended.
    pub(super) open_block: Option<u64>,
    /// The stream has said its own last words.
    pub(super) is_over: bool,
    /// It says a text, not a message.
    pub(super) is_text: bool,
}

/// What an answer is cut for, where its API has an error for that alone.
const CUT_MESSAGE: &str = "Rate limit on tokens reached.";

// === impl LastWords ===

impl LastWords {
    /// Writes them. False: there are none.
    pub(super) fn write(
        &self,
        form: StreamForm,
        error: Option<LastError<'_>>,
        output: u64,
        words: &mut Vec<u8>,
    ) -> bool {
        let Some(api) = self.api else { return false };
        let said = match (api, form) {
            _ if self.has_stopped(api) => return false,
            (StreamApi::Gemini, StreamForm::Array) => {
                format!(",\n{}\n]", error.map_or_else(|| self.gemini(), |error| error.body.to_string()))
            }
            (StreamApi::Bedrock, StreamForm::Frames) => {
                let message = error.map_or(CUT_MESSAGE, |error| error.message);
                let payload = format!(r#"{{"message":"{message}"}}"#);
                let headers = [
                    (":exception-type", "throttlingException"),
                    (":content-type", "application/json"),
                    (":message-type", "exception"),
                ];
                words.extend(event_frames::message(&headers, payload.as_bytes()));
                return true;
            }
            (StreamApi::Ollama, StreamForm::Objects) => match error {
                Some(LastError { message, .. }) => format!("{{\"error\":\"{message}\"}}\n"),
                None => self.ollama(),
            },
            (_, StreamForm::Array | StreamForm::Objects | StreamForm::Frames) => return false,
            (StreamApi::Ollama | StreamApi::Bedrock, StreamForm::Events) => return false,
            (StreamApi::Cohere, StreamForm::Events) => self.cohere(error),
            (StreamApi::Gemini, StreamForm::Events) => {
                format!("data: {}\r\n\r\n", error.map_or_else(|| self.gemini(), |error| error.body.to_string()))
            }
            (StreamApi::OpenAiChat | StreamApi::OpenAiText, StreamForm::Events) => match error {
                Some(LastError { body, .. }) => format!("data: {body}\n\n"),
                None => format!("data: {}\n\ndata: [DONE]\n\n", self.completion(api)),
            },
            (StreamApi::OpenAiResponses, StreamForm::Events) => self.response(error),
            (StreamApi::Anthropic, StreamForm::Events) => match error {
                Some(LastError { body, .. }) => format!("event: error\ndata: {body}\n\n"),
                None => self.message(output),
            },
        };
        words.extend(said.into_bytes());
        true
    }

    /// Whether the model has nothing more to say but how it ended.
    fn has_stopped(&self, api: StreamApi) -> bool {
        self.is_over
            || match api {
                // Some of its models say so in every event.
                StreamApi::Gemini => self.is_stopping,
                _ => self.answers != 0 && self.answers & !self.ended == 0,
            }
    }

    fn completion(&self, api: StreamApi) -> String {
        let (object, said) = match api {
            StreamApi::OpenAiText => ("text_completion", r#""text":"""#),
            _ => ("chat.completion.chunk", r#""delta":{}"#),
        };
        let mut choices = String::new();
        let going_on = if self.answers == 0 { 1 } else { self.answers & !self.ended };
        for index in (0..u128::BITS).filter(|index| going_on >> index & 1 == 1) {
            let comma = if choices.is_empty() { "" } else { "," };
            // A text takes whatever is written to it.
            let _ = write!(choices, r#"{comma}{{"index":{index},{said},"logprobs":null,"finish_reason":"length"}}"#);
        }
        let (name, created, model) = (told(&self.name), self.created, told(&self.model));
        format!(r#"{{"id":"{name}","object":"{object}","created":{created},"model":"{model}","choices":[{choices}]}}"#)
    }

    fn response(&self, error: Option<LastError<'_>>) -> String {
        let number = self.sequence.saturating_add(1);
        if let Some(LastError { message, .. }) = error {
            return format!(
                "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{number},\"code\":\"rate_limit_exceeded\",\
                 \"message\":\"{message}\",\"param\":null}}\n\n"
            );
        }
        let (name, created, model) = (told(&self.name), self.created, told(&self.model));
        let response = format!(
            r#"{{"id":"{name}","object":"response","created_at":{created},"status":"incomplete","error":null,"incomplete_details":{{"reason":"max_output_tokens"}},"instructions":null,"metadata":{{}},"model":"{model}","output":[],"parallel_tool_calls":true,"temperature":null,"tool_choice":"auto","tools":[],"top_p":null,"usage":null}}"#
        );
        format!(
            "event: response.incomplete\ndata: \
             {{\"type\":\"response.incomplete\",\"sequence_number\":{number},\"response\":{response}}}\n\n"
        )
    }

    fn message(&self, output: u64) -> String {
        let block = self.open_block.map(|index| {
            format!("event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n")
        });
        let end = format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"max_tokens\",\
             \"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{output}}}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
        );
        block.unwrap_or_default() + &end
    }

    fn cohere(&self, error: Option<LastError<'_>>) -> String {
        let block = self
            .open_block
            .map(|index| format!("event: content-end\ndata: {{\"type\":\"content-end\",\"index\":{index}}}\n\n"));
        let delta = match error {
            Some(LastError { message, .. }) => format!(r#"{{"error":"{message}","finish_reason":"ERROR"}}"#),
            None => r#"{"finish_reason":"MAX_TOKENS"}"#.to_string(),
        };
        let end = format!("event: message-end\ndata: {{\"type\":\"message-end\",\"delta\":{delta}}}\n\n");
        block.unwrap_or_default() + &end
    }

    fn ollama(&self) -> String {
        let (created, model) = (told(&self.name), told(&self.model));
        let said = if self.is_text { r#""response":"""# } else { r#""message":{"role":"assistant","content":""}"# };
        format!(
            "{{\"model\":\"{model}\",\"created_at\":\"{created}\",{said},\"done\":true,\"done_reason\":\"length\"}}\n"
        )
    }

    fn gemini(&self) -> String {
        let (name, model) = (told(&self.name), told(&self.model));
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":""}}],"role":"model"}},"finishReason":"MAX_TOKENS","index":0}}],"modelVersion":"{model}","responseId":"{name}"}}"#
        )
    }
}

/// A name as it stands in JSON; one that would have to be written otherwise than it is, or is long, is left out.
fn told(name: &[u8]) -> &str {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    let is_told = name.len() <= NAME_BYTES_MAX && name.iter().all(is_plain);
    if is_told { str::from_utf8(name).unwrap_or_default() } else { "" }
}
