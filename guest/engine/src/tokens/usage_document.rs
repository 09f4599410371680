//! Where providers tell how many tokens an answer took, and what each of their numbers is.

use alloc::boxed::Box;

use super::{
    json_number::COUNT_MAX,
    json_scanner::{JsonDocument, JsonPlace},
    name_table::NameTable,
    spoken_text::SpokenText,
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

/// A stream tells its output at its end, and some a little of it at its beginning, too. What tells it more often is not
/// guessed at.
const TELLINGS_MAX: u8 = 2;

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
    /// What the model has said since its output was told last.
    spoken: SpokenText,
    /// How many tokens that looked like which it had said until its output was told last, the greatest number of more
    /// than it can hold; and how often it was told.
    covered: u16,
    tellings: u8,
    /// How many bytes of that are reasoning, in the document that is being read, by each name: 4 GiB at most.
    reasoned: [u32; 2],
    /// The document that is being read tells the output, of which its text is a part.
    is_output_told: bool,
    /// Texts come in pieces.
    has_pieces: bool,
    /// Whatever text comes, how much that is was told beside it.
    is_told_beside: bool,
    /// Since somebody listens.
    heard: HeardEvent,
}

/// What has come of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HeardEvent {
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
        let members = match self {
            UsagePlace::Events => return name.is_empty().then_some(UsagePlace::Event),
            UsagePlace::Iterations => return name.is_empty().then_some(UsagePlace::Iteration),
            UsagePlace::Carrier | UsagePlace::TextOrCarrier | UsagePlace::SpeakingCarrier if name == b"usage" => {
                return Some(UsagePlace::Usage);
            }
            UsagePlace::Event => &OF_EVENT,
            UsagePlace::SpeakingCarrier | UsagePlace::Speech | UsagePlace::Reasoning(_) => &OF_SPEECH,
            UsagePlace::Meta => &OF_META,
            UsagePlace::Usage => &OF_USAGE,
            UsagePlace::GeminiUsage => &OF_GEMINI_USAGE,
            UsagePlace::BedrockMetrics => &OF_BEDROCK_METRICS,
            UsagePlace::InputDetails => &OF_INPUT_DETAILS,
            UsagePlace::OutputDetails => &OF_OUTPUT_DETAILS,
            UsagePlace::BilledUnits => &OF_BILLED_UNITS,
            UsagePlace::Iteration => &OF_ITERATION,
            UsagePlace::Carrier
            | UsagePlace::TextOrCarrier
            | UsagePlace::WrappedDocument
            | UsagePlace::IterationType
            | UsagePlace::IterationCount(_)
            | UsagePlace::Arguments
            | UsagePlace::BareText
            | UsagePlace::Count(_)
            | UsagePlace::CountOf(..) => return None,
        };
        members.get(name)
    }

    fn is_verbatim(self) -> bool {
        self == UsagePlace::Arguments
    }
}

/// The members of an event.
static OF_EVENT: NameTable<UsagePlace> = NameTable::new(&[
    (b"usage", UsagePlace::Usage),
    (b"x_groq", UsagePlace::Carrier),
    // A text of it is what Ollama's model says.
    (b"response", UsagePlace::TextOrCarrier),
    (b"message", UsagePlace::SpeakingCarrier),
    (b"delta", UsagePlace::SpeakingCarrier),
    (b"choices", UsagePlace::Speech),
    (b"candidates", UsagePlace::Speech),
    (b"content", UsagePlace::Speech),
    (b"output", UsagePlace::Speech),
    (b"contentBlockDelta", UsagePlace::Speech),
    (b"thinking", UsagePlace::Speech),
    // Of models that Bedrock passes on as they are, or those who serve them themselves.
    (b"generation", UsagePlace::Speech),
    (b"outputText", UsagePlace::Speech),
    (b"completion", UsagePlace::Speech),
    (b"generations", UsagePlace::Speech),
    (b"outputs", UsagePlace::Speech),
    (b"results", UsagePlace::Speech),
    (b"token", UsagePlace::SpeakingCarrier),
    (b"text", UsagePlace::BareText),
    (b"generated_text", UsagePlace::BareText),
    // Of an answer that only counts what a request would take.
    (b"input_tokens", UsagePlace::Count(UsageCount::NoTokens)),
    (b"totalTokens", UsagePlace::Count(UsageCount::NoTokens)),
    (b"usageMetadata", UsagePlace::GeminiUsage),
    (b"amazon-bedrock-invocationMetrics", UsagePlace::BedrockMetrics),
    (b"meta", UsagePlace::Meta),
    (b"bytes", UsagePlace::WrappedDocument),
    // Ollama, and Bedrock's Llama and Titan.
    (b"prompt_eval_count", UsagePlace::Count(UsageCount::Input)),
    (b"prompt_token_count", UsagePlace::Count(UsageCount::Input)),
    (b"inputTextTokenCount", UsagePlace::Count(UsageCount::Input)),
    (b"eval_count", UsagePlace::Count(UsageCount::Output)),
    (b"generation_token_count", UsagePlace::Count(UsageCount::Output)),
    (b"totalOutputTextTokenCount", UsagePlace::Count(UsageCount::Output)),
]);

/// The members that lead to what a model says, in any provider's API; an array's elements have no name.
static OF_SPEECH: NameTable<UsagePlace> = NameTable::new(&[
    (b"", UsagePlace::Speech),
    (b"message", UsagePlace::Speech),
    (b"delta", UsagePlace::Speech),
    (b"content", UsagePlace::Speech),
    (b"parts", UsagePlace::Speech),
    (b"text", UsagePlace::Speech),
    (b"thinking", UsagePlace::Speech),
    (b"summary", UsagePlace::Speech),
    (b"refusal", UsagePlace::Speech),
    (b"partial_json", UsagePlace::Speech),
    (b"tool_calls", UsagePlace::Speech),
    (b"tool_plan", UsagePlace::Speech),
    (b"function", UsagePlace::Speech),
    (b"function_call", UsagePlace::Speech),
    (b"functionCall", UsagePlace::Speech),
    (b"toolUse", UsagePlace::Speech),
    (b"reasoningContent", UsagePlace::Speech),
    (b"reasoningText", UsagePlace::Speech),
    (b"output", UsagePlace::Speech),
    (b"outputText", UsagePlace::Speech),
    (b"choices", UsagePlace::Speech),
    (b"reasoning", UsagePlace::Reasoning(ReasoningName::Reasoning)),
    (b"reasoning_content", UsagePlace::Reasoning(ReasoningName::ReasoningContent)),
    (b"arguments", UsagePlace::Arguments),
    (b"args", UsagePlace::Arguments),
    (b"input", UsagePlace::Arguments),
    // Titan's.
    (b"tokenCount", UsagePlace::Count(UsageCount::Output)),
]);

static OF_USAGE: NameTable<UsagePlace> = NameTable::new(&[
    (b"prompt_tokens", UsagePlace::CountOf(UsageLayout::CacheInside, UsageCount::Input)),
    (b"total_tokens", UsagePlace::CountOf(UsageLayout::CacheInside, UsageCount::Total)),
    (b"prompt_tokens_details", UsagePlace::InputDetails),
    (b"input_tokens_details", UsagePlace::InputDetails),
    (b"input_token_details", UsagePlace::InputDetails),
    (b"completion_tokens_details", UsagePlace::OutputDetails),
    (b"output_tokens_details", UsagePlace::OutputDetails),
    (b"billed_units", UsagePlace::BilledUnits),
    (b"iterations", UsagePlace::Iterations),
    (b"input_tokens", UsagePlace::Count(UsageCount::Input)),
    (b"inputTokens", UsagePlace::Count(UsageCount::Input)),
    (b"completion_tokens", UsagePlace::Count(UsageCount::Output)),
    (b"output_tokens", UsagePlace::Count(UsageCount::Output)),
    (b"outputTokens", UsagePlace::Count(UsageCount::Output)),
    (b"totalTokens", UsagePlace::Count(UsageCount::Total)),
    // DeepSeek names it by its prompt, Anthropic and Bedrock by their caches.
    (b"prompt_cache_hit_tokens", UsagePlace::Count(UsageCount::CachedRead)),
    (b"cache_read_input_tokens", UsagePlace::Count(UsageCount::CachedRead)),
    (b"cacheReadInputTokens", UsagePlace::Count(UsageCount::CachedRead)),
    (b"cache_creation_input_tokens", UsagePlace::Count(UsageCount::CacheWrite)),
    (b"cacheWriteInputTokens", UsagePlace::Count(UsageCount::CacheWrite)),
    (b"seconds", UsagePlace::Count(UsageCount::NoTokens)),
]);

static OF_GEMINI_USAGE: NameTable<UsagePlace> = NameTable::new(&[
    (b"promptTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::Input)),
    (b"candidatesTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::Output)),
    (b"thoughtsTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::Reasoning)),
    (b"toolUsePromptTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::ToolInput)),
    (b"cachedContentTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::CachedRead)),
    (b"totalTokenCount", UsagePlace::CountOf(UsageLayout::ReasoningBeside, UsageCount::Total)),
]);

static OF_BEDROCK_METRICS: NameTable<UsagePlace> = NameTable::new(&[
    (b"inputTokenCount", UsagePlace::Count(UsageCount::Input)),
    (b"outputTokenCount", UsagePlace::Count(UsageCount::Output)),
    (b"cacheReadInputTokenCount", UsagePlace::Count(UsageCount::CachedRead)),
    (b"cacheWriteInputTokenCount", UsagePlace::Count(UsageCount::CacheWrite)),
]);

static OF_INPUT_DETAILS: NameTable<UsagePlace> = NameTable::new(&[
    (b"cached_tokens", UsagePlace::Count(UsageCount::CachedRead)),
    (b"cache_write_tokens", UsagePlace::Count(UsageCount::CacheWrite)),
]);

static OF_OUTPUT_DETAILS: NameTable<UsagePlace> = NameTable::new(&[
    (b"reasoning_tokens", UsagePlace::Count(UsageCount::Reasoning)),
    (b"thinking_tokens", UsagePlace::Count(UsageCount::Reasoning)),
]);

static OF_META: NameTable<UsagePlace> = NameTable::new(&[(b"billed_units", UsagePlace::BilledUnits)]);

static OF_BILLED_UNITS: NameTable<UsagePlace> = NameTable::new(&[
    (b"input_tokens", UsagePlace::Count(UsageCount::Input)),
    (b"output_tokens", UsagePlace::Count(UsageCount::Output)),
    (b"search_units", UsagePlace::Count(UsageCount::NoTokens)),
]);

static OF_ITERATION: NameTable<UsagePlace> = NameTable::new(&[
    (b"type", UsagePlace::IterationType),
    (b"input_tokens", UsagePlace::IterationCount(UsageCount::Input)),
    (b"output_tokens", UsagePlace::IterationCount(UsageCount::Output)),
    (b"cache_read_input_tokens", UsagePlace::IterationCount(UsageCount::CachedRead)),
    (b"cache_creation_input_tokens", UsagePlace::IterationCount(UsageCount::CacheWrite)),
]);

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
        self.heard = HeardEvent::Nothing;
    }

    #[inline]
    pub(super) fn heard(&self) -> HeardEvent {
        self.heard
    }

    pub(super) fn spoken(&self) -> SpokenText {
        self.spoken
    }

    /// How many tokens the text looks like of which the output is that was told. None: it is not known which text that
    /// is, as it was told more often than at the beginning and the end, where each may repeat the one before, or in the
    /// middle of it, or it is very long.
    pub(super) fn covered(&self) -> Option<u64> {
        let is_known = self.tellings <= TELLINGS_MAX && self.covered < u16::MAX && !self.is_told_beside;
        is_known.then_some(self.covered.into())
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
            if !self.is_output_told {
                self.tellings = self.tellings.saturating_add(1);
            }
            let covered = u64::from(self.covered).saturating_add(self.spoken.tokens());
            self.covered = u16::try_from(covered).unwrap_or(u16::MAX);
            // What was said so far is a part of that.
            (self.spoken, self.reasoned, self.is_output_told) = (SpokenText::default(), [0; 2], true);
        }
    }

    /// The model says more.
    #[inline]
    fn say(&mut self, text: &[u8]) {
        if self.is_output_told {
            self.tellings = u8::MAX;
        } else if !self.is_told_beside {
            self.spoken.add(text);
        }
    }

    /// The model reasons, under this name: what goes beyond the other one is more.
    #[inline]
    fn reason(&mut self, name: ReasoningName, text: &[u8]) {
        let [before, other] = match (name, self.reasoned) {
            (ReasoningName::Reasoning, [own, other]) | (ReasoningName::ReasoningContent, [other, own]) => [own, other],
        };
        let now = before.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.reasoned = match name {
            ReasoningName::Reasoning => [now, other],
            ReasoningName::ReasoningContent => [other, now],
        };
        let more = usize::try_from(now.max(other) - before.max(other)).unwrap_or(usize::MAX);
        let known = text.len().saturating_sub(more);
        self.say(text.get(known..).unwrap_or_default());
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
                (self.named, self.heard) = (0, HeardEvent::More);
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
        self.heard = HeardEvent::More;
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
        self.heard = if self.heard == HeardEvent::Nothing { HeardEvent::TextBegin } else { HeardEvent::More };
        match place {
            UsagePlace::IterationType => self.iterations().matched = Some(0),
            UsagePlace::SpeakingCarrier => self.has_pieces = true,
            _ => {}
        }
    }

    #[inline]
    fn text(&mut self, place: UsagePlace, piece: &[u8]) {
        self.heard = if self.heard == HeardEvent::TextBegin { HeardEvent::Text } else { HeardEvent::More };
        match place {
            UsagePlace::Speech | UsagePlace::SpeakingCarrier | UsagePlace::TextOrCarrier | UsagePlace::Arguments => {
                self.say(piece);
            }
            UsagePlace::BareText if !self.has_pieces => self.say(piece),
            UsagePlace::Reasoning(name) => self.reason(name, piece),
            UsagePlace::IterationType => self.iterations().match_type(piece),
            _ => {}
        }
    }
}
