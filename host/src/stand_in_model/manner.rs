//! How a stand-in for a model answers, as somebody asks for it.

use std::time::Duration;

use http::StatusCode;

/// How to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) tokens: u64,
    pub(super) prompt: u64,
    pub(super) pause: Duration,
    pub(super) split: Option<usize>,
    pub(super) gzip: bool,
    pub(super) cut: Option<u64>,
    pub(super) stall: Option<u64>,
    pub(super) status: Option<StatusCode>,
}

impl Manner {
    /// More tokens are generated for nobody, whatever is asked for.
    const TOKENS_MAX: u64 = 100_000;

    /// No prompt is longer: more could not be told exactly in JSON.
    const PROMPT_MAX: u64 = 1 << 53;

    /// Nobody waits longer for a token.
    const PAUSE_MAX: Duration = Duration::from_secs(60);

    /// Reads words as the module tells them; of a word that is said twice the first counts.
    ///
    /// # Errors
    /// The word that is not known, or has no value of its kind.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut manner = Manner {
            tokens: 8,
            prompt: 10,
            pause: Duration::ZERO,
            split: None,
            gzip: false,
            cut: None,
            stall: None,
            status: None,
        };
        let words = text.split(';').map(str::trim).filter(|word| !word.is_empty());
        for word in words.rev() {
            manner.heed(word).ok_or_else(|| word.to_owned())?;
        }
        Ok(manner)
    }

    fn heed(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = value.trim().parse::<u64>().ok();
        match name.trim() {
            "tokens" => self.tokens = number?.min(Self::TOKENS_MAX),
            "prompt" => self.prompt = number?.min(Self::PROMPT_MAX),
            "pause" => self.pause = Duration::from_millis(number?).min(Self::PAUSE_MAX),
            "split" => self.split = Some(usize::try_from(number?).ok().filter(|bytes| *bytes > 0)?),
            "gzip" => self.gzip = true,
            "cut" => self.cut = Some(number?),
            "stall" => self.stall = Some(number?),
            "status" => self.status = Some(StatusCode::from_u16(number?.try_into().ok()?).ok()?),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_word_counts_and_what_is_none_is_named() {
        let manner = Manner::read("tokens=3; gzip;tokens=4;pause=20").expect("words");
        assert_eq!((manner.tokens, manner.gzip, manner.pause.as_millis(), manner.prompt), (3, true, 20, 10));
        let manner = Manner::read(&format!("pause={0};prompt={0};tokens={0}", u64::MAX)).expect("words");
        assert_eq!(
            (manner.pause.as_secs(), manner.prompt + manner.tokens),
            (60, (1 << 53) + 100_000),
            "no more is done for anybody"
        );
        for wrong in ["token=3", "tokens=x", "split=0", "status=9", "pause"] {
            assert_eq!(Manner::read(&format!("gzip;{wrong}")).err().as_deref(), Some(wrong));
        }
    }
}
