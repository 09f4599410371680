//! What models say on the wire, by the interface that they are asked by.

use serde_json::{Value, json};

/// A question to a model, and what it answers.
#[derive(Debug)]
pub(super) struct Completion {
    interface: Interface,
    model: String,
    prompt: u64,
    tokens: u64,
    /// OpenAI's `stream_options.include_usage`.
    tells_usage: bool,
}

/// A provider's interface, and whether the answer is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    Chat { streams: bool },
    Responses { streams: bool },
    Messages { streams: bool },
    Gemini(GeminiStream),
}

/// How Gemini streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GeminiStream {
    None,
    Events,
    /// One array, element by element.
    Array,
}

impl Completion {
    /// None: models serve no such path.
    pub(super) fn read(path: &str, request: &[u8], prompt: u64, tokens: u64) -> Option<Self> {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let streams = request["stream"] == true;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let interface = match path.rsplit('/').next()? {
            "completions" => Interface::Chat { streams },
            "responses" => Interface::Responses { streams },
            "messages" => Interface::Messages { streams },
            name if name.ends_with(":generateContent") => Interface::Gemini(GeminiStream::None),
            name if name.ends_with(":streamGenerateContent") => {
                let as_events = query.split('&').any(|pair| pair == "alt=sse");
                Interface::Gemini(if as_events { GeminiStream::Events } else { GeminiStream::Array })
            }
            _ => return None,
        };
        let model = request["model"].as_str().unwrap_or("stand-in").to_owned();
        let tells_usage = request["stream_options"]["include_usage"] == true;
        Some(Completion { interface, model, prompt, tokens, tells_usage })
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.interface {
            Interface::Chat { streams: true }
            | Interface::Responses { streams: true }
            | Interface::Messages { streams: true }
            | Interface::Gemini(GeminiStream::Events) => "text/event-stream; charset=utf-8",
            _ => "application/json",
        }
    }

    /// Whether the part at this place is a token's; the first one's is no other's.
    pub(super) fn is_token(&self, part: u64) -> bool {
        let head = match self.interface {
            Interface::Chat { streams: true } => 1,
            Interface::Responses { streams: true } => 3,
            Interface::Messages { streams: true } => 2,
            Interface::Gemini(GeminiStream::Events | GeminiStream::Array) => 0,
            _ => return false,
        };
        (head..head + self.tokens).contains(&part)
    }

    /// The answer, event by event; all at once if it is not streamed.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let parts: Vec<String> = match self.interface {
            Interface::Chat { streams: true } => self.chat_chunks(),
            Interface::Chat { streams: false } => vec![self.chat().to_string()],
            Interface::Responses { streams: true } => self.response_events(),
            Interface::Responses { streams: false } => vec![self.response("completed").to_string()],
            Interface::Messages { streams: true } => self.message_events(),
            Interface::Messages { streams: false } => vec![self.message(true).to_string()],
            Interface::Gemini(GeminiStream::None) => vec![self.candidate(&self.text(), self.tokens, true).to_string()],
            Interface::Gemini(GeminiStream::Events) => {
                self.candidates().map(|candidate| format!("data: {candidate}\r\n\r\n")).collect()
            }
            Interface::Gemini(GeminiStream::Array) => {
                let between = |index| if index == 0 { "[" } else { ",\r\n" };
                let mut parts: Vec<_> = self
                    .candidates()
                    .enumerate()
                    .map(|(index, candidate)| format!("{}{candidate}", between(index)))
                    .collect();
                parts.push(if parts.is_empty() { "[]".to_owned() } else { "]".to_owned() });
                parts
            }
        };
        parts.into_iter().map(String::into_bytes).collect()
    }

    fn words(&self) -> impl Iterator<Item = String> {
        (0..self.tokens).map(|index| format!("word{index} "))
    }

    fn text(&self) -> String {
        self.words().collect()
    }

    // === OpenAI's chat completions ===

    fn chat(&self) -> Value {
        let message = json!({"role": "assistant", "content": self.text()});
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": self.chat_usage(),
        })
    }

    fn chat_usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.tokens, "total_tokens": self.prompt + self.tokens,
        })
    }

    fn chat_chunks(&self) -> Vec<String> {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model,
                "choices": choices,
            });
            if self.tells_usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let delta = |delta: Value, finish: Value| {
            chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
        };
        let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
        chunks.extend(self.words().map(|word| delta(json!({"content": word}), Value::Null)));
        chunks.push(delta(json!({}), json!("stop")));
        if self.tells_usage {
            chunks.push(chunk(json!([]), self.chat_usage()));
        }
        chunks.push("data: [DONE]\n\n".to_owned());
        chunks
    }

    // === OpenAI's responses ===

    fn response(&self, status: &str) -> Value {
        let is_done = status == "completed";
        let content = json!([{"type": "output_text", "text": self.text(), "annotations": []}]);
        let output = json!([{
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content,
        }]);
        let usage = json!({
            "input_tokens": self.prompt, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.tokens,
        });
        json!({
            "id": "resp_1", "object": "response", "created_at": 1, "model": self.model, "status": status,
            "output": if is_done { output } else { json!([]) }, "parallel_tool_calls": true, "tools": [],
            "tool_choice": "auto", "usage": if is_done { usage } else { Value::Null },
        })
    }

    fn response_events(&self) -> Vec<String> {
        let mut number = -1;
        let mut event = |kind: &str, mut data: Value| {
            number += 1;
            data["type"] = json!(kind);
            data["sequence_number"] = json!(number);
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let item = json!({
            "type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": [],
        });
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
        let at = |mut data: Value| {
            data["item_id"] = json!("msg_1");
            data["output_index"] = json!(0);
            data["content_index"] = json!(0);
            data
        };
        let mut events = vec![
            event("response.created", json!({"response": self.response("in_progress")})),
            event("response.output_item.added", json!({"output_index": 0, "item": item})),
            event("response.content_part.added", at(json!({"part": part("")}))),
        ];
        for word in self.words() {
            events.push(event("response.output_text.delta", at(json!({"delta": word, "logprobs": []}))));
        }
        events.push(event("response.output_text.done", at(json!({"text": self.text(), "logprobs": []}))));
        events.push(event("response.completed", json!({"response": self.response("completed")})));
        events
    }

    // === Anthropic's messages ===

    fn message(&self, is_whole: bool) -> Value {
        let content = json!([{"type": "text", "text": self.text()}]);
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": self.model,
            "content": if is_whole { content } else { json!([]) },
            "stop_reason": if is_whole { json!("end_turn") } else { Value::Null }, "stop_sequence": null,
            "usage": {"input_tokens": self.prompt, "output_tokens": if is_whole { self.tokens } else { 1 }},
        })
    }

    fn message_events(&self) -> Vec<String> {
        let event = |kind: &str, mut data: Value| {
            data["type"] = json!(kind);
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let mut events = vec![
            event("message_start", json!({"message": self.message(false)})),
            event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ];
        for word in self.words() {
            events
                .push(event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": word}})));
        }
        events.push(event("content_block_stop", json!({"index": 0})));
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        events.push(event("message_delta", json!({"delta": delta, "usage": {"output_tokens": self.tokens}})));
        events.push(event("message_stop", json!({})));
        events
    }

    // === Google's Gemini ===

    fn candidate(&self, text: &str, tokens: u64, is_last: bool) -> Value {
        let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
        if is_last {
            candidate["finishReason"] = json!("STOP");
        }
        let usage = json!({
            "promptTokenCount": self.prompt, "candidatesTokenCount": tokens, "totalTokenCount": self.prompt + tokens,
        });
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": self.model})
    }

    fn candidates(&self) -> impl Iterator<Item = Value> {
        let words = self.words().zip(1..);
        words.map(|(word, told)| self.candidate(&word, told, told == self.tokens))
    }
}
