//! How many tokens texts turn out to be, beside what they look like.

/// Shares are counted in this many.
const WHOLE: u64 = 256;

/// A text of fewer tokens says nothing: a few words more or less would be much of it.
const TOKENS_MIN: u64 = 16;

/// An answer's share of the mean, once there were so many.
const SHARE: u8 = 8;

/// How many tokens the texts of a key's last answers were, as a share of what they looked like: from a quarter to four
/// times as many, whatever models tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextScale {
    /// Of [`WHOLE`].
    share: u16,
    /// How many answers it is of, up to [`SHARE`].
    answers: u8,
}

impl Default for TextScale {
    /// Nothing is known: texts are what they look like.
    fn default() -> Self {
        TextScale { share: WHOLE as u16, answers: 0 }
    }
}

impl TextScale {
    /// How many tokens a text probably is that looks like so many.
    #[inline]
    pub(super) fn of(self, tokens: u64) -> u64 {
        let scaled = u128::from(tokens) * u128::from(self.share);
        u64::try_from(scaled.div_ceil(u128::from(WHOLE))).unwrap_or(u64::MAX)
    }

    /// A text that looks like so many tokens was told to be so many.
    pub(super) fn learn(&mut self, seen: u64, told: u64) {
        if seen < TOKENS_MIN {
            return;
        }
        let share = (u128::from(told) * u128::from(WHOLE) / u128::from(seen)).clamp(64, 1_024) as u16;
        self.answers = (self.answers + 1).min(SHARE);
        let answers = u32::from(self.answers);
        self.share = (u32::from(self.share) * (answers - 1) + u32::from(share)).div_ceil(answers) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(answers: &[(u64, u64)]) -> TextScale {
        let mut scale = TextScale::default();
        answers.iter().for_each(|(seen, told)| scale.learn(*seen, *told));
        scale
    }

    #[test]
    fn the_first_answer_tells_and_others_shift_it() {
        assert_eq!(learnt(&[]).of(7), 7);
        assert_eq!(learnt(&[(100, 200)]).of(7), 14);
        assert_eq!(learnt(&[(100, 200), (100, 100)]).of(100), 150);
        assert_eq!(learnt(&[(100, 150)]).of(1), 2, "rounded up");
        let many = [(100, 200); 100];
        assert_eq!(learnt(&many).of(100), 200);
        assert_eq!(learnt(&[&many[..], &[(100, 100)]].concat()).of(1_000), 1_875);
    }

    #[test]
    fn it_is_bounded_whatever_is_told() {
        assert_eq!(learnt(&[(100, 0)]).of(100), 25);
        assert_eq!(learnt(&[(16, u64::MAX)]).of(100), 400);
        assert_eq!(learnt(&[(u64::MAX, u64::MAX)]).of(u64::MAX), u64::MAX);
        assert_eq!(learnt(&[(15, 900)]).of(100), 100, "too short to tell");
    }
}
