//! Where providers tell how many tokens an answer took, and what each of their numbers is.

use alloc::boxed::Box;

use super::{
    json_number::COUNT_MAX,
    json_scanner::{JsonDocument, JsonPlace},
    usage::{ToldUsage, Usage, UsageLayout, UsageParts},
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
    /// The same, or as a text what the model says.
    TextOrCarrier,
    /// The same, or whatever the model says.
    SpeakingCarrier,
    /// What the model says: texts, and whatever they stand in.
    Speech,
    /// The same of its reasoning, which some tell under both names.
    Reasoning(ReasoningName),
    /// What it gives to a tool: an object, or its text.
    Arguments,
    /// What it says, if it is not in pieces: then this is the whole of them again.
    BareText,
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

/// What reasoning is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReasoningName {
    Reasoning,
    ReasoningContent,
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
    /// What hardly any answer has.
    iterations: Option<Box<UsageIterations>>,
    /// What of the usage object that is being read was told, a bit each: providers tell a number under two names, of
    /// which one may be nothing.
    named: u8,
    /// Bytes of what the model has said since its output was told last.
    spoken: u64,
    /// How many of these are reasoning, in the document that is being read, by each name.
    reasoned: [u64; 2],
    /// The document that is being read tells the output, of which its text is a part.
    is_output_told: bool,
    /// Texts come in pieces.
    has_pieces: bool,
    /// Whatever text comes, how much that is was told beside it.
    is_told_beside: bool,
    /// Since somebody listens.
    heard: Heard,
}

/// What has come of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that tells anything.
    Nothing,
    /// A text begins.
    TextBegin,
    /// One text, in one piece.
    Text,
    /// More than that, or something else.
    #[default]
    More,
}

/// Anthropic's `iterations`: parts of what was done for an answer, of which some are not in the numbers beside them.
#[derive(Debug, Default)]
struct UsageIterations {
    /// The entry that is being read, and how much of the type that counts its own says.
    entry: UsageParts,
    matched: Option<u8>,
    /// What the entries of that type tell so far, and all of them told last.
    compactions: UsageParts,
    besides: UsageParts,
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
            UsagePlace::TextOrCarrier | UsagePlace::SpeakingCarrier if name == b"usage" => Some(UsagePlace::Usage),
            UsagePlace::SpeakingCarrier | UsagePlace::Speech | UsagePlace::Reasoning(_) => of_speech(name),
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
            | UsagePlace::TextOrCarrier
            | UsagePlace::Arguments
            | UsagePlace::BareText
            | UsagePlace::Count(_)
            | UsagePlace::CountOf(..) => None,
        }
    }

    fn is_verbatim(self) -> bool {
        self == UsagePlace::Arguments
    }
}

fn of_event(name: &[u8]) -> Option<UsagePlace> {
    Some(match name {
        b"usage" => UsagePlace::Usage,
        b"x_groq" => UsagePlace::Carrier,
        // A text of it is what Ollama's model says.
        b"response" => UsagePlace::TextOrCarrier,
        b"message" | b"delta" => UsagePlace::SpeakingCarrier,
        b"choices" | b"candidates" | b"content" | b"output" | b"contentBlockDelta" | b"thinking" => UsagePlace::Speech,
        // Of models that Bedrock passes on as they are, or those who serve them themselves.
        b"generation" | b"outputText" | b"completion" | b"generations" | b"outputs" | b"results" => UsagePlace::Speech,
        b"token" => UsagePlace::SpeakingCarrier,
        b"text" | b"generated_text" => UsagePlace::BareText,
        // Of an answer that only counts what a request would take.
        b"input_tokens" | b"totalTokens" => UsagePlace::Count(UsageCount::NoTokens),
        b"usageMetadata" => UsagePlace::GeminiUsage,
        b"amazon-bedrock-invocationMetrics" => UsagePlace::BedrockMetrics,
        b"meta" => UsagePlace::Meta,
        b"bytes" => UsagePlace::WrappedDocument,
        // Ollama, and Bedrock's Llama and Titan.
        b"prompt_eval_count" | b"prompt_token_count" | b"inputTextTokenCount" => UsagePlace::Count(UsageCount::Input),
        b"eval_count" | b"generation_token_count" | b"totalOutputTextTokenCount" => {
            UsagePlace::Count(UsageCount::Output)
        }
        _ => return None,
    })
}

/// The members that lead to what a model says, in any provider's API; an array's elements have no name.
fn of_speech(name: &[u8]) -> Option<UsagePlace> {
    Some(match name {
        b"" | b"message" | b"delta" | b"content" | b"parts" | b"text" | b"thinking" | b"summary" | b"refusal"
        | b"partial_json" | b"tool_calls" | b"tool_plan" | b"function" | b"function_call" | b"functionCall"
        | b"toolUse" | b"reasoningContent" | b"reasoningText" | b"output" | b"outputText" | b"choices" => {
            UsagePlace::Speech
        }
        b"reasoning" => UsagePlace::Reasoning(ReasoningName::Reasoning),
        b"reasoning_content" => UsagePlace::Reasoning(ReasoningName::ReasoningContent),
        b"arguments" | b"args" | b"input" => UsagePlace::Arguments,
        // Titan's.
        b"tokenCount" => UsagePlace::Count(UsageCount::Output),
        _ => return None,
    })
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
    /// What was told so far. None: nothing.
    pub(super) fn usage(&self) -> Option<Usage> {
        let besides = self.iterations.as_ref().map(|iterations| iterations.besides);
        self.told.usage(besides.unwrap_or_default())
    }

    /// So much memory this takes beside itself, in bytes.
    #[inline]
    pub(super) fn bytes_beside(&self) -> usize {
        if self.iterations.is_some() { size_of::<UsageIterations>() } else { 0 }
    }

    /// What comes from now on is to be told by [`heard`](Self::heard).
    #[inline]
    pub(super) fn listen(&mut self) {
        self.heard = Heard::Nothing;
    }

    #[inline]
    pub(super) fn heard(&self) -> Heard {
        self.heard
    }

    pub(super) fn spoken(&self) -> u64 {
        self.spoken
    }

    pub(super) fn is_told_beside(&self) -> bool {
        self.is_told_beside
    }

    /// Who passes the answer on tells how many tokens it read and wrote. What the answer tells itself holds.
    pub(super) fn tell(&mut self, input: Option<u64>, output: Option<u64>) {
        self.told.is_told |= input.or(output).is_some();
        self.told.input = input.unwrap_or_default().min(COUNT_MAX);
        self.told.output = output.unwrap_or_default().min(COUNT_MAX);
        self.is_told_beside = output.is_some();
    }

    fn count_of_answer(&mut self, what: UsageCount, count: u64) {
        let told = &mut self.told;
        told.is_told = true;
        let place = match what {
            UsageCount::Input => &mut told.input,
            UsageCount::Output => &mut told.output,
            UsageCount::Total => &mut told.total,
            UsageCount::CachedRead => &mut told.cached_read,
            UsageCount::CacheWrite => &mut told.cache_write,
            UsageCount::Reasoning => &mut told.reasoning,
            UsageCount::ToolInput => &mut told.tool_input,
            UsageCount::NoTokens => return,
        };
        let bit = 1 << what as u8;
        *place = if self.named & bit == 0 { count } else { count.max(*place) };
        self.named |= bit;
        if what == UsageCount::Output && count > 0 {
            // What was said so far is a part of that.
            (self.spoken, self.reasoned, self.is_output_told) = (0, [0; 2], true);
        }
    }

    /// The model says more.
    #[inline]
    fn say(&mut self, bytes: usize) {
        if !self.is_output_told && !self.is_told_beside {
            self.spoken = self.spoken.saturating_add(bytes as u64);
        }
    }

    /// The model reasons, under this name: what goes beyond the other one is more.
    #[inline]
    fn reason(&mut self, name: ReasoningName, bytes: usize) {
        let [before, other] = match (name, self.reasoned) {
            (ReasoningName::Reasoning, [own, other]) | (ReasoningName::ReasoningContent, [other, own]) => [own, other],
        };
        let now = before + bytes as u64;
        self.reasoned = match name {
            ReasoningName::Reasoning => [now, other],
            ReasoningName::ReasoningContent => [other, now],
        };
        self.say(usize::try_from(now.max(other) - before.max(other)).unwrap_or(usize::MAX));
    }

    fn iterations(&mut self) -> &mut UsageIterations {
        self.iterations.get_or_insert_default()
    }
}

impl UsageIterations {
    fn match_type(&mut self, piece: &[u8]) {
        let matched = self.matched.map(usize::from);
        let is_next = |from: &usize| COMPACTION.get(*from..*from + piece.len()) == Some(piece);
        self.matched = matched.filter(is_next).and_then(|from| u8::try_from(from + piece.len()).ok());
    }

    #[inline]
    fn count(&mut self, what: UsageCount, count: u64) {
        match what {
            UsageCount::Input => self.entry.input = count,
            UsageCount::Output => self.entry.output = count,
            UsageCount::CachedRead => self.entry.cached_read = count,
            UsageCount::CacheWrite => self.entry.cache_write = count,
            UsageCount::Total | UsageCount::Reasoning | UsageCount::ToolInput | UsageCount::NoTokens => {}
        }
    }

    fn end_entry(&mut self) {
        if self.matched.map(usize::from) == Some(COMPACTION.len()) {
            self.compactions = self.compactions.and(self.entry);
        }
    }
}

impl JsonDocument for UsageDocument {
    type Place = UsagePlace;

    #[inline]
    fn opened(&mut self, place: UsagePlace) {
        match place {
            UsagePlace::Event => (self.named, self.reasoned, self.is_output_told) = (0, [0; 2], false),
            UsagePlace::Usage | UsagePlace::GeminiUsage | UsagePlace::BedrockMetrics => {
                (self.named, self.heard) = (0, Heard::More);
            }
            UsagePlace::SpeakingCarrier => self.has_pieces = true,
            UsagePlace::Iterations => self.iterations().compactions = UsageParts::default(),
            UsagePlace::Iteration => {
                let iterations = self.iterations();
                (iterations.entry, iterations.matched) = (UsageParts::default(), None);
            }
            _ => {}
        }
    }

    #[inline]
    fn closed(&mut self, place: UsagePlace) {
        match place {
            UsagePlace::Iterations => {
                let iterations = self.iterations();
                iterations.besides = iterations.compactions;
            }
            UsagePlace::Iteration => self.iterations().end_entry(),
            _ => {}
        }
    }

    #[inline]
    fn count(&mut self, place: UsagePlace, count: u64) {
        self.heard = Heard::More;
        match place {
            UsagePlace::Count(what) => self.count_of_answer(what, count),
            UsagePlace::CountOf(layout, what) => {
                self.told.layout = layout;
                self.count_of_answer(what, count);
            }
            UsagePlace::IterationCount(what) => self.iterations().count(what, count),
            _ => {}
        }
    }

    #[inline]
    fn text_began(&mut self, place: UsagePlace) {
        self.heard = if self.heard == Heard::Nothing { Heard::TextBegin } else { Heard::More };
        match place {
            UsagePlace::IterationType => self.iterations().matched = Some(0),
            UsagePlace::SpeakingCarrier => self.has_pieces = true,
            _ => {}
        }
    }

    #[inline]
    fn text(&mut self, place: UsagePlace, piece: &[u8]) {
        self.heard = if self.heard == Heard::TextBegin { Heard::Text } else { Heard::More };
        match place {
            UsagePlace::Speech | UsagePlace::SpeakingCarrier | UsagePlace::TextOrCarrier | UsagePlace::Arguments => {
                self.say(piece.len());
            }
            UsagePlace::BareText if !self.has_pieces => self.say(piece.len()),
            UsagePlace::Reasoning(name) => self.reason(name, piece.len()),
            UsagePlace::IterationType => self.iterations().match_type(piece),
            _ => {}
        }
    }
}
