//! What an answer tells of its tokens, read the plain way: whole, cut into events, each of them a tree. It shares no
//! code with the engine.

use serde_json::Value;
use slidegate_engine::tokens::{COUNT_MAX, Usage};

/// Reads the documents of an answer in their order.
pub fn usage(documents: &[Value]) -> Option<Usage> {
    let mut oracle = UsageOracle::default();
    for document in documents {
        match document {
            Value::Array(events) => events.iter().for_each(|event| oracle.event(event)),
            event => oracle.event(event),
        }
    }
    oracle.told.then(|| oracle.usage())
}

/// The numbers told last.
#[derive(Default)]
struct UsageOracle {
    told: bool,
    input: u64,
    output: u64,
    total: u64,
    cached: u64,
    written: u64,
    reasoning: u64,
    tools: u64,
    layout: Layout,
}

#[derive(Default, PartialEq)]
enum Layout {
    #[default]
    Anthropic,
    OpenAi,
    Gemini,
}

impl UsageOracle {
    fn event(&mut self, event: &Value) {
        for path in ["/usage", "/response/usage", "/message/usage", "/delta/usage", "/x_groq/usage"] {
            self.usage_object(&event.pointer(path).cloned().unwrap_or_default());
        }
        let gemini = &event["usageMetadata"];
        let names = [
            "promptTokenCount",
            "candidatesTokenCount",
            "totalTokenCount",
            "cachedContentTokenCount",
            "thoughtsTokenCount",
        ];
        if names.iter().chain(&["toolUsePromptTokenCount"]).any(|name| count(&gemini[name]).is_some()) {
            self.layout = Layout::Gemini;
        }
        self.told |= set(&mut self.input, &gemini["promptTokenCount"]);
        self.told |= set(&mut self.output, &gemini["candidatesTokenCount"]);
        self.told |= set(&mut self.total, &gemini["totalTokenCount"]);
        self.told |= set(&mut self.cached, &gemini["cachedContentTokenCount"]);
        self.told |= set(&mut self.reasoning, &gemini["thoughtsTokenCount"]);
        self.told |= set(&mut self.tools, &gemini["toolUsePromptTokenCount"]);
        self.told |= set(&mut self.input, &event["prompt_eval_count"]);
        self.told |= set(&mut self.output, &event["eval_count"]);
    }

    fn usage_object(&mut self, usage: &Value) {
        if ["prompt_tokens", "total_tokens"].iter().any(|name| count(&usage[name]).is_some()) {
            self.layout = Layout::OpenAi;
        }
        for (number, paths) in [
            (&mut self.input, &["/prompt_tokens", "/input_tokens", "/inputTokens"][..]),
            (&mut self.output, &["/completion_tokens", "/output_tokens", "/outputTokens"]),
            (&mut self.total, &["/total_tokens", "/totalTokens"]),
            (
                &mut self.cached,
                &[
                    "/prompt_tokens_details/cached_tokens",
                    "/input_tokens_details/cached_tokens",
                    "/cache_read_input_tokens",
                    "/cacheReadInputTokens",
                ],
            ),
            (
                &mut self.written,
                &["/cache_creation_input_tokens", "/cacheWriteInputTokens", "/input_tokens_details/cache_write_tokens"],
            ),
            (
                &mut self.reasoning,
                &[
                    "/completion_tokens_details/reasoning_tokens",
                    "/output_tokens_details/reasoning_tokens",
                    "/output_tokens_details/thinking_tokens",
                ],
            ),
        ] {
            // Some tell a number under two names, of which one is nothing.
            if let Some(count) = paths.iter().filter_map(|path| count(usage.pointer(path)?)).max() {
                (*number, self.told) = (count, true);
            }
        }
    }

    fn usage(&self) -> Usage {
        let beside = self.layout == Layout::Anthropic;
        let cached_read = if beside { self.cached } else { self.cached.min(self.input) };
        let cache_write = if beside { self.written } else { self.written.min(self.input - cached_read) };
        let input = if beside { self.input } else { self.input - cached_read - cache_write } + self.tools;
        let without_thoughts = input + cached_read + cache_write + self.output;
        let thoughts = if self.layout == Layout::Gemini && (self.total == 0 || without_thoughts != self.total) {
            self.reasoning
        } else {
            0
        };
        let all = self.total.max(without_thoughts + thoughts);
        let output = all - input - cached_read - cache_write;
        let stock = self.input + self.output;
        Usage { input, cached_read, cache_write, output, reasoning: self.reasoning.min(output), stock }
    }
}

fn set(number: &mut u64, value: &Value) -> bool {
    count(value).inspect(|count| *number = *count).is_some()
}

fn count(value: &Value) -> Option<u64> {
    let number = value.as_f64().filter(|number| number.is_sign_positive())?;
    Some(if number < COUNT_MAX as f64 { number.ceil() as u64 } else { COUNT_MAX })
}
