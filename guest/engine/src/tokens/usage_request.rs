//! Where a request's body is to be changed so that its stream tells its usage, as OpenAI's API asks for that.

use crate::body::Splice;

/// What was read of a body, for where to ask in it.
#[derive(Debug, Default)]
pub(super) struct UsageRequest {
    /// So many bytes were read.
    read: usize,
    /// Where the last of them ends that is no white space, and which one that is.
    sign_end: usize,
    sign: u8,
    options: OptionsRead,
    place: AskPlace,
    /// Where the request ends, if it has and with the brace that it began with.
    end: Option<usize>,
}

/// How often each happened to `stream_options` so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OptionsRead {
    /// They began.
    pub(super) begun: u32,
    /// They ended.
    pub(super) ended: u32,
    /// A word stood where they should ask, or in their place.
    pub(super) words: u32,
    /// Which one that was last.
    pub(super) word: WordRead,
}

/// A word that asks for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum WordRead {
    /// `false`, for `include_usage`.
    #[default]
    No,
    /// `null`, for that.
    Null,
    /// `null`, for all of the options.
    NullOptions,
}

/// Where the body asks, or may.
#[derive(Debug, Clone, Copy, Default)]
enum AskPlace {
    /// It has no options of a stream.
    #[default]
    Nowhere,
    /// They end there, and have other members before, or none.
    InOptions { end: usize, are_empty: bool },
    /// This word stands there, which ends there.
    Word { word: WordRead, end: usize },
}

// === impl OptionsRead ===

impl OptionsRead {
    /// A word stood there.
    pub(super) fn word(&mut self, word: WordRead) {
        (self.words, self.word) = (self.words + 1, word);
    }
}

// === impl UsageRequest ===

impl UsageRequest {
    /// The next part of the body, which ends with a comma, a brace or a bracket, or anywhere; so far have its options
    /// been read with it. `is_whole`: the request has ended with it.
    pub(super) fn read(&mut self, part: &[u8], options: OptionsRead, is_whole: bool) {
        let (content, delimiter) = match part.split_last() {
            Some((last @ (b',' | b'}' | b']'), content)) => (content, Some(*last)),
            _ => (part, None),
        };
        if let Some(at) = content.iter().rposition(|byte| !byte.is_ascii_whitespace()) {
            self.sign_end = self.read + at + 1;
            self.sign = content.get(at).copied().unwrap_or_default();
        }
        let last = self.read + content.len();
        if options.begun != self.options.begun {
            self.place = AskPlace::Nowhere;
        }
        if options.words != self.options.words {
            self.place = AskPlace::Word { word: options.word, end: self.sign_end };
        }
        if options.ended != self.options.ended && matches!(self.place, AskPlace::Nowhere) {
            self.place = AskPlace::InOptions { end: last, are_empty: self.sign == b'{' };
        }
        self.options = options;
        self.read += part.len();
        if let Some(delimiter) = delimiter {
            (self.sign_end, self.sign) = (self.read, delimiter);
            self.end = Some(last).filter(|_| is_whole && delimiter == b'}');
        }
    }

    /// The change that asks, of a request that was read to its end. None: there is no place for it.
    pub(super) fn splice(&self) -> Option<Splice> {
        let insert = |at: usize, text: &str| Splice { at, removed: 0, bytes: text.into() };
        let request_end = self.end?;
        Some(match self.place {
            AskPlace::Nowhere => insert(request_end, r#","stream_options":{"include_usage":true}"#),
            AskPlace::InOptions { end, are_empty: true } => insert(end, r#""include_usage":true"#),
            AskPlace::InOptions { end, are_empty: false } => insert(end, r#","include_usage":true"#),
            AskPlace::Word { word, end } => {
                let (removed, text) = match word {
                    WordRead::No => ("false".len(), "true"),
                    WordRead::Null => ("null".len(), "true"),
                    WordRead::NullOptions => ("null".len(), r#"{"include_usage":true}"#),
                };
                Splice { at: end.checked_sub(removed)?, removed, bytes: text.into() }
            }
        })
    }
}
