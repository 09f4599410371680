//! Tokens that an answer took, by the classes in which providers bill them.

use super::json_number::COUNT_MAX;

/// The tokens of an answer, each in one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read by the model, neither from a cache nor into one; with what tools were given.
    pub input: u64,
    /// Read from a cache.
    pub cached_read: u64,
    /// Read, and written into a cache.
    pub cache_write: u64,
    /// Written by the model, its reasoning among it, and whatever else the provider's total tells of.
    pub output: u64,
    /// How much of the output is reasoning.
    pub reasoning: u64,
    /// What Higress' plugin counts of it: the input and the output as the provider names them.
    pub stock: u64,
}

/// What an answer told of its tokens so far: of each number the last that was told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ToldUsage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) total: u64,
    pub(super) cached_read: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
    pub(super) tool_input: u64,
    pub(super) layout: UsageLayout,
    pub(super) is_told: bool,
}

/// Numbers that say nothing of each other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UsageParts {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cached_read: u64,
    pub(super) cache_write: u64,
}

/// What the numbers include.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum UsageLayout {
    /// The input leaves out what a cache had to do with; the output includes reasoning.
    #[default]
    CacheBeside,
    /// The input includes it; the output mostly includes reasoning, and the total always.
    CacheInside,
    /// The input includes it, but not what tools were given; the output mostly leaves out reasoning.
    ReasoningBeside,
}

// === impl Usage ===

impl Usage {
    /// All of it, each token once: what providers bill, at several prices.
    pub fn billed(&self) -> u64 {
        self.input + self.cached_read + self.cache_write + self.output
    }
}

// === impl ToldUsage ===

impl ToldUsage {
    /// The tokens by classes, with what was done besides that none of the numbers include. None: nothing was told.
    ///
    /// A total that is greater than its parts counts, and what they leave out is output: a class that is unknown here
    /// is not free.
    pub(super) fn usage(&self, besides: UsageParts) -> Option<Usage> {
        if !self.is_told {
            return None;
        }
        let (mut input, mut output) = (self.input, self.output);
        let (cached_read, cache_write) = match self.layout {
            UsageLayout::CacheBeside => (self.cached_read, self.cache_write),
            UsageLayout::CacheInside | UsageLayout::ReasoningBeside => {
                let cached_read = self.cached_read.min(input);
                let cache_write = self.cache_write.min(input - cached_read);
                input -= cached_read + cache_write;
                (cached_read, cache_write)
            }
        };
        input += self.tool_input;
        let parts = input + cached_read + cache_write + output;
        let includes_reasoning = self.layout != UsageLayout::ReasoningBeside || (self.total > 0 && self.total == parts);
        if !includes_reasoning {
            output += self.reasoning;
        }
        let parts = input + cached_read + cache_write + output;
        output += self.total.saturating_sub(parts);
        let output = output + besides.output;
        Some(Usage {
            input: input + besides.input,
            cached_read: cached_read + besides.cached_read,
            cache_write: cache_write + besides.cache_write,
            output,
            reasoning: self.reasoning.min(output),
            stock: self.input + self.output,
        })
    }
}

// === impl UsageParts ===

impl UsageParts {
    /// These, and those.
    pub(super) fn and(self, more: UsageParts) -> UsageParts {
        let sum = |one: u64, other: u64| (one + other).min(COUNT_MAX);
        UsageParts {
            input: sum(self.input, more.input),
            output: sum(self.output, more.output),
            cached_read: sum(self.cached_read, more.cached_read),
            cache_write: sum(self.cache_write, more.cache_write),
        }
    }
}
