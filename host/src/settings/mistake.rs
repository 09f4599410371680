//! A mistake in a file, or an oddity, and where it stands.

use std::fmt;

use slidegate_document::ConfigError;

use super::secret::text_shown;

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Which field, as in `routes[0].upstream`. Empty for the whole document.
    pub(crate) path: String,
    /// The value seen and what was expected.
    pub(crate) message: String,
    /// Where in the file's text, if it is about something there.
    pub(crate) place: Option<Box<Place>>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Lines and columns, of characters, from 1; the end is the place after the last character.
    pub(crate) start: (usize, usize),
    pub(crate) end: (usize, usize),
    /// The line, without what may be a secret, and a line of carets below it.
    pub(crate) snippet: String,
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), place: None }
    }

    /// What begins with the path of a field and a colon, as oddities do, taken apart.
    pub(crate) fn of_sentence(sentence: &str) -> Self {
        match sentence.split_once(": ") {
            Some((path, message)) if !path.contains([' ', '`']) => Self::new(path, message),
            _ => Self::new("", sentence),
        }
    }

    /// Whether it is about what stands at this path, or about a part of that.
    pub(super) fn is_within(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// Whether it says only how many more there are.
    pub(super) fn is_count(&self) -> bool {
        ConfigError::is_count(&self.message)
    }

    /// With the file's name, line and column before it, as editors take them.
    pub(crate) fn in_file(&self, name: &str) -> String {
        match &self.place {
            Some(place) => format!("{name}:{}:{}: {self}", place.start.0, place.start.1),
            None => format!("{name}: {self}"),
        }
    }
}

impl From<ConfigError> for Mistake {
    fn from(error: ConfigError) -> Self {
        Self::new(error.path, error.message)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => out.write_str(&self.message),
            // Names of fields are somebody's text, too.
            path => write!(out, "{}: {}", text_shown(path), self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_taken_apart_where_its_path_ends() {
        assert_eq!(
            Mistake::of_sentence("filter.rule_items[1]: is odd: very"),
            Mistake::new("filter.rule_items[1]", "is odd: very")
        );
        assert_eq!(Mistake::of_sentence("nothing is `a: b`"), Mistake::new("", "nothing is `a: b`"));
    }

    #[test]
    fn what_is_about_a_part_is_within_the_whole() {
        let within = |path: &str| Mistake::new(path, "is odd").is_within("a.b");
        assert!(within("a.b") && within("a.b.c") && within("a.b[0]"));
        assert!(!within("a.bc") && !within("a") && !within(""));
    }

    #[test]
    fn line_and_column_stand_behind_the_files_name() {
        let place = Place { start: (3, 7), end: (3, 9), snippet: String::new() };
        let mistake = Mistake { place: Some(Box::new(place)), ..Mistake::new("a.b", "is odd") };
        assert_eq!(mistake.in_file("gate.yaml"), "gate.yaml:3:7: a.b: is odd");
        assert_eq!(Mistake::new("", "no such file").in_file("gate.yaml"), "gate.yaml: no such file");
        assert_eq!(
            Mistake::new("redis.names.redis://u:hush@h", "is odd").to_string(),
            "redis.names.redis://***@h: is odd"
        );
    }
}
