//! Patterns of `limit_keys`: written in the syntax of Go's regexp package, since that is what stock configurations
//! hold, and searched for in linear time.

mod class;
mod consumed;
mod translate;

use alloc::{borrow::Cow, format, string::String, string::ToString, vec::Vec};
use core::{char::REPLACEMENT_CHARACTER, str};

use regex::{Regex, RegexBuilder};

/// What a compiled expression may take, in bytes. Ordinary ones need a few KB.
const SIZE_LIMIT: usize = 128 * 1024;

/// How many bytes of a value an expression looks at. A search costs the length of the value times the size of the
/// expression; a stranger chooses the one, so that its product with the greatest other must stay within milliseconds.
const VALUE_MAX: usize = 4 * 1024;

/// Where an error's text is cut, in bytes.
const ERROR_LENGTH: usize = 200;

/// Something to look for in a value. The forms that configurations mostly use are told apart, because even a small
/// regular expression costs as much as everything else that happens to a request.
#[derive(Debug)]
pub enum Pattern {
    /// Every value.
    Any,
    /// One value: `^literal$`.
    Exact(Vec<u8>),
    /// The values that begin with a literal: `^literal` and `^literal.*`.
    Prefix(Vec<u8>),
    /// The values in which an expression matches somewhere.
    Regex(Regex),
}

impl Pattern {
    /// The pattern that matches every value: `*`.
    pub fn any() -> Pattern {
        Pattern::Any
    }

    /// Compiles an expression in Go's syntax. The error is one line that names the offending part.
    pub fn new(expression: &str) -> Result<Pattern, String> {
        match simple(expression) {
            Some(simple) => Ok(simple),
            None => compile(expression).map(Pattern::Regex).map_err(|error| one_line(&error)),
        }
    }

    /// Whether the pattern is found anywhere in the value (an expression: in its first 4 KiB), in time linear in its
    /// length.
    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(literal) => value == literal,
            Pattern::Prefix(literal) => value.starts_with(literal),
            Pattern::Regex(regex) => regex.is_match(&text(value.get(..VALUE_MAX).unwrap_or(value))),
        }
    }
}

fn compile(expression: &str) -> Result<Regex, String> {
    let translated = translate::translate(expression)?;
    RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("expression too large: it would take more than {limit} bytes when compiled")
        }
        // The text of a syntax error is a drawing of several lines; the last says what is wrong.
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string(),
    })
}

/// An error that quotes part of an expression, fit for a log: no line breaks, not too long.
fn one_line(error: &str) -> String {
    let mut line = String::new();
    for character in error.chars() {
        if line.len() >= ERROR_LENGTH {
            line.push_str("...");
            break;
        }
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// A value as text: as Go reads it, with one replacement character for each byte that is not part of a UTF-8 sequence.
fn text(value: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(value) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

/// The pattern, if the expression is one of the simple forms; `None` says nothing about it.
///
/// `^literal.*$` is none of them: `.` does not match a newline, so that what follows the literal matters.
fn simple(expression: &str) -> Option<Pattern> {
    if matches!(expression, "" | "^" | ".*" | "^.*") {
        return Some(Pattern::Any);
    }
    let mut literal = String::new();
    let mut rest = expression.strip_prefix('^')?.chars();
    while let Some(next) = rest.next() {
        match next {
            '.' if rest.as_str() == "*" => break,
            '$' if rest.as_str().is_empty() => return Some(Pattern::Exact(literal.into_bytes())),
            '\\' => literal.push(rest.next().filter(char::is_ascii_punctuation)?),
            // A replacement character stands for stray bytes too.
            '.' | '$' | '^' | '*' | '+' | '?' | '|' | '(' | ')' | '[' | '{' | REPLACEMENT_CHARACTER => return None,
            other => literal.push(other),
        }
    }
    Some(Pattern::Prefix(literal.into_bytes()))
}

#[cfg(test)]
mod tests;
