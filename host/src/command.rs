//! The contract's command, by its words.

use crate::bindings::slidegate::filter::redis::Command;

impl Command {
    /// Its words, in order: the name, and the arguments.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (word, behind) = rest.split_at_checked(*length as usize)?;
            rest = behind;
            Some(word)
        })
    }
}

impl Eq for Command {}

/// Of its words.
///
/// # Panics
///
/// If a word has 4 GiB or more.
impl<Word: AsRef<[u8]>> FromIterator<Word> for Command {
    fn from_iter<Words: IntoIterator<Item = Word>>(words: Words) -> Self {
        let mut command = Self { bytes: Vec::new(), lengths: Vec::new() };
        for word in words {
            let word = word.as_ref();
            command.bytes.extend_from_slice(word);
            command.lengths.push(u32::try_from(word.len()).expect("a word of less than 4 GiB"));
        }
        command
    }
}
