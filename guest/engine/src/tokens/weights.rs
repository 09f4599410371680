//! What a token counts, by its class.

use super::usage::Usage;

/// The thousandths in a whole.
const WHOLE: u64 = 1_000;

/// What a token of each class counts, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenWeights {
    /// Of [`Usage::input`].
    pub input: u32,
    /// Of [`Usage::cached_read`].
    pub cached_read: u32,
    /// Of [`Usage::cache_write`].
    pub cache_write: u32,
    /// Of [`Usage::output`] that is no reasoning.
    pub output: u32,
    /// Of [`Usage::reasoning`].
    pub reasoning: u32,
}

/// Every token counts once.
impl Default for TokenWeights {
    fn default() -> TokenWeights {
        TokenWeights { input: 1_000, cached_read: 1_000, cache_write: 1_000, output: 1_000, reasoning: 1_000 }
    }
}

impl TokenWeights {
    /// No token counts.
    pub const NOTHING: TokenWeights =
        TokenWeights { input: 0, cached_read: 0, cache_write: 0, output: 0, reasoning: 0 };

    /// What an answer counts: rounded up once, so that many small ones do not count nothing.
    pub fn charge(&self, usage: &Usage) -> u64 {
        let classes = [
            (self.input, usage.input),
            (self.cached_read, usage.cached_read),
            (self.cache_write, usage.cache_write),
            (self.output, usage.output.saturating_sub(usage.reasoning)),
            (self.reasoning, usage.reasoning),
        ];
        let thousandths = classes
            .iter()
            .fold(0_u64, |sum, (weight, tokens)| sum.saturating_add(tokens.saturating_mul(u64::from(*weight))));
        thousandths.div_ceil(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage =
        Usage { input: 14, cached_read: 190_546, cache_write: 2_051, output: 400, reasoning: 300, stock: 414 };

    #[test]
    fn every_token_counts_once_unless_weighed() {
        assert_eq!((TokenWeights::default().charge(&USAGE), USAGE.billed()), (193_011, 193_011));
        assert_eq!(TokenWeights { cached_read: 0, ..TokenWeights::default() }.charge(&USAGE), 2_465);
    }

    #[test]
    fn classes_are_apart_and_the_sum_is_rounded_up_once() {
        let weights =
            TokenWeights { input: 1_000, cached_read: 100, cache_write: 1_250, output: 5_000, reasoning: 2_500 };
        // 14 + 19,054.6 + 2,563.75 + 500 + 750
        assert_eq!(weights.charge(&USAGE), 22_883);
        let least = TokenWeights { input: 1, ..weights };
        assert_eq!([0, 1, 1_000, 1_001].map(|input| least.charge(&Usage { input, ..Usage::default() })), [0, 1, 1, 2]);
    }

    #[test]
    fn no_weight_is_too_great() {
        let greatest = TokenWeights {
            input: u32::MAX,
            cached_read: u32::MAX,
            cache_write: u32::MAX,
            output: u32::MAX,
            reasoning: u32::MAX,
        };
        let usage = Usage {
            input: u64::MAX,
            cached_read: u64::MAX,
            cache_write: u64::MAX,
            output: u64::MAX,
            ..Usage::default()
        };
        assert_eq!(greatest.charge(&usage), u64::MAX / WHOLE + 1);
    }
}
