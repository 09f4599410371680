//! Where in a record a field stands.

use alloc::{string::String, vec::Vec};
use core::fmt;

/// The most names that a path has.
const NAMES_MAX: usize = 16;

/// The names that lead to a field, outermost first: `passport.user`. An element of a list goes by its number, from 0. A
/// dot that belongs to a name is written `\.`, a backslash `\\`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    names: Vec<String>,
}

/// What is wrong with a path as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldPathError {
    /// Nothing is written.
    Empty,
    /// It has more names than records are read for.
    TooDeep,
    /// A backslash stands before neither a dot nor a backslash.
    StrayBackslash,
}

impl FieldPath {
    /// Reads a path as it is written.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<FieldPath, FieldPathError> {
        if text.is_empty() {
            return Err(FieldPathError::Empty);
        }
        let (mut names, mut name) = (Vec::new(), String::new());
        let mut signs = text.chars();
        while let Some(sign) = signs.next() {
            match sign {
                '.' => names.push(core::mem::take(&mut name)),
                '\\' => match signs.next() {
                    Some(meant @ ('.' | '\\')) => name.push(meant),
                    _ => return Err(FieldPathError::StrayBackslash),
                },
                sign => name.push(sign),
            }
        }
        names.push(name);
        if names.len() > NAMES_MAX { Err(FieldPathError::TooDeep) } else { Ok(FieldPath { names }) }
    }

    /// That of the same field in an object of this name.
    pub(super) fn inside(&self, name: &str) -> FieldPath {
        FieldPath {
            names: core::iter::once(name).chain(self.names.iter().map(String::as_str)).map(String::from).collect(),
        }
    }

    /// The outermost of its names.
    pub(super) fn first_name(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether this is its name at that depth, from 0.
    pub(super) fn goes_on(&self, depth: usize, name: &[u8]) -> bool {
        self.names.get(depth).is_some_and(|expected| expected.as_bytes() == name)
    }
}

/// As it is written.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "." })?;
            for sign in name.chars() {
                f.write_str(if matches!(sign, '.' | '\\') { "\\" } else { "" })?;
                write!(f, "{sign}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for FieldPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldPathError::Empty => f.write_str("it is empty"),
            FieldPathError::TooDeep => write!(f, "it has more than {NAMES_MAX} names"),
            FieldPathError::StrayBackslash => f.write_str("a backslash stands before neither `.` nor `\\`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_separate_names_unless_escaped() {
        for (text, names) in [
            ("user_id", &["user_id"][..]),
            ("passport.user", &["passport", "user"]),
            ("a\\.b.0", &["a.b", "0"]),
            ("a\\\\.b", &["a\\", "b"]),
            ("a..b.", &["a", "", "b", ""]),
            ("with space.\u{fc}", &["with space", "\u{fc}"]),
        ] {
            let path = FieldPath::parse(text).unwrap();
            assert_eq!(path.names, names, "{text}");
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, error) in [
            ("", FieldPathError::Empty),
            ("a\\b", FieldPathError::StrayBackslash),
            ("a\\", FieldPathError::StrayBackslash),
            (&".".repeat(16), FieldPathError::TooDeep),
        ] {
            assert_eq!(FieldPath::parse(text), Err(error), "{text}");
            assert!(!format!("{error}").is_empty());
        }
        assert!(FieldPath::parse(&".".repeat(15)).is_ok());
    }

    proptest! {
        #[test]
        fn any_path_is_written_as_it_was(text in "[a.\\\\\u{e9}]{0,12}") {
            if let Ok(path) = FieldPath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
