//! A command, in two pieces of memory whatever it has for arguments.

use alloc::vec::Vec;
use core::fmt;

/// A command to send: its words, which are its name and its arguments, one behind the other.
///
/// ```
/// use slidegate_engine::redis::Command;
///
/// let command: Command = ["GET", "key"].into_iter().collect();
/// assert_eq!(command.words().last(), Some(&b"key"[..]));
/// assert_eq!(command.into_parts(), (b"GETkey".to_vec(), vec![3, 3]));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
}

impl Command {
    /// Of what [`into_parts`](Self::into_parts) made of one.
    #[inline]
    pub fn from_parts(bytes: Vec<u8>, lengths: Vec<u32>) -> Command {
        Command { bytes, lengths }
    }

    /// Its words, with nothing between, and how many bytes each of them has.
    #[inline]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u32>) {
        (self.bytes, self.lengths)
    }

    /// The name and the arguments, in order.
    #[inline]
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (word, behind) = rest.split_at_checked(*length as usize)?;
            rest = behind;
            Some(word)
        })
    }

    /// How long all words are together, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Takes all words out, and keeps their memory for so many others, of so many bytes together.
    #[inline]
    pub(crate) fn begin(&mut self, words: usize, bytes: usize) {
        self.bytes.clear();
        self.bytes.reserve(bytes);
        self.lengths.clear();
        self.lengths.reserve(words);
    }

    /// Adds a word.
    #[inline]
    pub(crate) fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.lengths.push(word.len() as u32);
    }

    /// Adds one word of these pieces.
    #[inline]
    pub(crate) fn push_pieces(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.lengths.push(pieces.iter().map(|piece| piece.len()).sum::<usize>() as u32);
    }

    /// The same of many that are alike.
    #[inline]
    pub(crate) fn push_all<const LENGTH: usize>(&mut self, pieces: impl Iterator<Item = [u8; LENGTH]>) {
        let before = self.bytes.len();
        pieces.for_each(|piece| self.bytes.extend_from_slice(&piece));
        self.lengths.push((self.bytes.len() - before) as u32);
    }
}

impl<Word: AsRef<[u8]>> FromIterator<Word> for Command {
    fn from_iter<Words: IntoIterator<Item = Word>>(words: Words) -> Command {
        let mut command = Command::default();
        words.into_iter().for_each(|word| command.push(word.as_ref()));
        command
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.words()).finish()
    }
}
