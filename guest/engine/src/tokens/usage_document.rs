//! Where providers tell how many tokens an answer took, and what each of their numbers is.

use super::{
    json_scanner::{JsonDocument, JsonPlace},
    usage::{ToldUsage, UsageLayout, UsageParts},
};

/// A place in an answer, or in an event of it, that has to do with tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsagePlace {
    /// An answer, or an event of it.
    Event,
    /// Several of them.
    Events,
    /// What an event may carry usage in.
    Carrier,
    /// The same, or what the model says.
    SpeakingCarrier,
    /// What the model says: texts, and whatever they stand in.
    Speech,
    /// Cohere's `meta`.
    Meta,
    /// A text of Bedrock's that is the event of a model, in base64.
    WrappedDocument,
    Usage,
    GeminiUsage,
    BedrockMetrics,
    InputDetails,
    OutputDetails,
    BilledUnits,
    /// Anthropic's `iterations`.
    Iterations,
    Iteration,
    IterationType,
    IterationCount(UsageCount),
    /// A number where providers of several layouts tell it.
    Count(UsageCount),
    /// A number by a name that tells the layout.
    CountOf(UsageLayout, UsageCount),
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageCount {
    Input,
    Output,
    Total,
    CachedRead,
    CacheWrite,
    Reasoning,
    ToolInput,
    /// No tokens, but what is billed in place of them.
    NoTokens,
}

/// An answer's documents, as far as they tell of tokens.
#[derive(Debug, Default)]
pub(super) struct UsageDocument {
    told: ToldUsage,
    /// The entry of `iterations` that is being read, and how much of the type that counts its own says.
    iteration: UsageParts,
    matched: Option<u8>,
    compactions: UsageParts,
    /// Bytes of what the model says.
    spoken: u64,
}

/// The type of those entries of `iterations` that the numbers beside it leave out.
const COMPACTION: &[u8] = b"compaction";

// === impl UsagePlace ===

impl JsonPlace for UsagePlace {
    const OBJECT: UsagePlace = UsagePlace::Event;
    const ARRAY: UsagePlace = UsagePlace::Events;

    fn member(self, name: &[u8]) -> Option<UsagePlace> {
        match self {
            UsagePlace::Events => name.is_empty().then_some(UsagePlace::Event),
            UsagePlace::Event => of_event(name),
            UsagePlace::Carrier => (name == b"usage").then_some(UsagePlace::Usage),
            UsagePlace::SpeakingCarrier if name == b"usage" => Some(UsagePlace::Usage),
            UsagePlace::SpeakingCarrier | UsagePlace::Speech => of_speech(name),
            UsagePlace::Meta => (name == b"billed_units").then_some(UsagePlace::BilledUnits),
            UsagePlace::Usage => of_usage(name),
            UsagePlace::GeminiUsage => of_gemini_usage(name),
            UsagePlace::BedrockMetrics => of_bedrock_metrics(name),
            UsagePlace::InputDetails => of_input_details(name),
            UsagePlace::OutputDetails => matches!(name, b"reasoning_tokens" | b"thinking_tokens")
                .then_some(UsagePlace::Count(UsageCount::Reasoning)),
            UsagePlace::BilledUnits => of_billed_units(name),
            UsagePlace::Iterations => name.is_empty().then_some(UsagePlace::Iteration),
            UsagePlace::Iteration => of_iteration(name),
            UsagePlace::WrappedDocument
            | UsagePlace::IterationType
            | UsagePlace::IterationCount(_)
            | UsagePlace::Count(_)
            | UsagePlace::CountOf(..) => None,
        }
    }
}

fn of_event(name: &[u8]) -> Option<UsagePlace> {
    Some(match name {
        b"usage" => UsagePlace::Usage,
        b"response" | b"x_groq" => UsagePlace::Carrier,
        b"message" | b"delta" => UsagePlace::SpeakingCarrier,
        b"choices" | b"candidates" | b"content" | b"output" | b"contentBlockDelta" => UsagePlace::Speech,
        b"usageMetadata" => UsagePlace::GeminiUsage,
        b"amazon-bedrock-invocationMetrics" => UsagePlace::BedrockMetrics,
        b"meta" => UsagePlace::Meta,
        b"bytes" => UsagePlace::WrappedDocument,
        // Ollama.
        b"prompt_eval_count" => UsagePlace::Count(UsageCount::Input),
        b"eval_count" => UsagePlace::Count(UsageCount::Output),
        _ => return None,
    })
}

/// The members that lead to what a model says, in any provider's API; an array's elements have no name.
fn of_speech(name: &[u8]) -> Option<UsagePlace> {
    let is_speech = matches!(
        name,
        b"" | b"message"
            | b"delta"
            | b"content"
            | b"parts"
            | b"text"
            | b"thinking"
            | b"reasoning"
            | b"reasoning_content"
            | b"partial_json"
            | b"tool_calls"
            | b"function"
            | b"arguments"
            | b"output"
            | b"choices"
    );
    is_speech.then_some(UsagePlace::Speech)
}

fn of_usage(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"prompt_tokens" => return Some(UsagePlace::CountOf(UsageLayout::CacheInside, UsageCount::Input)),
        b"total_tokens" => return Some(UsagePlace::CountOf(UsageLayout::CacheInside, UsageCount::Total)),
        b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
            return Some(UsagePlace::InputDetails);
        }
        b"completion_tokens_details" | b"output_tokens_details" => return Some(UsagePlace::OutputDetails),
        b"billed_units" => return Some(UsagePlace::BilledUnits),
        b"iterations" => return Some(UsagePlace::Iterations),
        b"input_tokens" | b"inputTokens" => UsageCount::Input,
        b"completion_tokens" | b"output_tokens" | b"outputTokens" => UsageCount::Output,
        b"totalTokens" => UsageCount::Total,
        // DeepSeek names it by its prompt, Anthropic and Bedrock by their caches.
        b"prompt_cache_hit_tokens" | b"cache_read_input_tokens" | b"cacheReadInputTokens" => UsageCount::CachedRead,
        b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => UsageCount::CacheWrite,
        b"seconds" => UsageCount::NoTokens,
        _ => return None,
    };
    Some(UsagePlace::Count(count))
}

fn of_gemini_usage(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"promptTokenCount" => UsageCount::Input,
        b"candidatesTokenCount" => UsageCount::Output,
        b"thoughtsTokenCount" => UsageCount::Reasoning,
        b"toolUsePromptTokenCount" => UsageCount::ToolInput,
        b"cachedContentTokenCount" => UsageCount::CachedRead,
        b"totalTokenCount" => UsageCount::Total,
        _ => return None,
    };
    Some(UsagePlace::CountOf(UsageLayout::ReasoningBeside, count))
}

fn of_bedrock_metrics(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"inputTokenCount" => UsageCount::Input,
        b"outputTokenCount" => UsageCount::Output,
        b"cacheReadInputTokenCount" => UsageCount::CachedRead,
        b"cacheWriteInputTokenCount" => UsageCount::CacheWrite,
        _ => return None,
    };
    Some(UsagePlace::Count(count))
}

fn of_input_details(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"cached_tokens" => UsageCount::CachedRead,
        b"cache_write_tokens" => UsageCount::CacheWrite,
        _ => return None,
    };
    Some(UsagePlace::Count(count))
}

fn of_billed_units(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"input_tokens" => UsageCount::Input,
        b"output_tokens" => UsageCount::Output,
        b"search_units" => UsageCount::NoTokens,
        _ => return None,
    };
    Some(UsagePlace::Count(count))
}

fn of_iteration(name: &[u8]) -> Option<UsagePlace> {
    let count = match name {
        b"type" => return Some(UsagePlace::IterationType),
        b"input_tokens" => UsageCount::Input,
        b"output_tokens" => UsageCount::Output,
        b"cache_read_input_tokens" => UsageCount::CachedRead,
        b"cache_creation_input_tokens" => UsageCount::CacheWrite,
        _ => return None,
    };
    Some(UsagePlace::IterationCount(count))
}

// === impl UsageDocument ===

impl UsageDocument {
    pub(super) fn told(&self) -> &ToldUsage {
        &self.told
    }

    pub(super) fn spoken(&self) -> u64 {
        self.spoken
    }

    fn count_of_answer(&mut self, what: UsageCount, count: u64) {
        let told = &mut self.told;
        told.is_told = true;
        match what {
            UsageCount::Input => told.input = count,
            UsageCount::Output => told.output = count,
            UsageCount::Total => told.total = count,
            UsageCount::CachedRead => told.cached_read = count,
            UsageCount::CacheWrite => told.cache_write = count,
            UsageCount::Reasoning => told.reasoning = count,
            UsageCount::ToolInput => told.tool_input = count,
            UsageCount::NoTokens => {}
        }
    }

    fn count_of_iteration(&mut self, what: UsageCount, count: u64) {
        match what {
            UsageCount::Input => self.iteration.input = count,
            UsageCount::Output => self.iteration.output = count,
            UsageCount::CachedRead => self.iteration.cached_read = count,
            UsageCount::CacheWrite => self.iteration.cache_write = count,
            UsageCount::Total | UsageCount::Reasoning | UsageCount::ToolInput | UsageCount::NoTokens => {}
        }
    }
}

impl JsonDocument for UsageDocument {
    type Place = UsagePlace;

    fn opened(&mut self, place: UsagePlace) {
        match place {
            UsagePlace::Iterations => self.compactions = UsageParts::default(),
            UsagePlace::Iteration => (self.iteration, self.matched) = (UsageParts::default(), None),
            _ => {}
        }
    }

    fn closed(&mut self, place: UsagePlace) {
        match place {
            UsagePlace::Iterations => self.told.besides = self.compactions,
            UsagePlace::Iteration if self.matched.map(usize::from) == Some(COMPACTION.len()) => {
                self.compactions = self.compactions.and(self.iteration);
            }
            _ => {}
        }
    }

    fn count(&mut self, place: UsagePlace, count: u64) {
        match place {
            UsagePlace::Count(what) => self.count_of_answer(what, count),
            UsagePlace::CountOf(layout, what) => {
                self.told.layout = layout;
                self.count_of_answer(what, count);
            }
            UsagePlace::IterationCount(what) => self.count_of_iteration(what, count),
            _ => {}
        }
    }

    fn text_began(&mut self, place: UsagePlace) {
        if place == UsagePlace::IterationType {
            self.matched = Some(0);
        }
    }

    fn text(&mut self, place: UsagePlace, piece: &[u8]) {
        if matches!(place, UsagePlace::Speech | UsagePlace::SpeakingCarrier) {
            self.spoken = self.spoken.saturating_add(piece.len() as u64);
        } else if place == UsagePlace::IterationType {
            let matched = self.matched.map(usize::from);
            let is_next = |from: &usize| COMPACTION.get(*from..*from + piece.len()) == Some(piece);
            self.matched = matched.filter(is_next).and_then(|from| u8::try_from(from + piece.len()).ok());
        }
    }
}
