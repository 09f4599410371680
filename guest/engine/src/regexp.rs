//! Patterns of `limit_keys`: written in the syntax of Go's regexp package, since that is what stock configurations hold,
//! and searched for in linear time.

mod class;
mod translate;

use alloc::{borrow::Cow, boxed::Box, format, string::String, string::ToString, vec::Vec};
use core::{cell::RefCell, char::REPLACEMENT_CHARACTER, str};

use regex_automata::nfa::thompson::{
    Compiler, Config, WhichCaptures,
    pikevm::{Cache, PikeVM},
};

/// What a compiled expression may take, in bytes. Ordinary ones need a few KB, a class of Unicode letters some 30 KB.
const SIZE_LIMIT: usize = 512 * 1024;

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
    Regex(Box<Regex>),
}

/// A compiled expression, simulated as the automaton it is. The crate `regex` would do the same without its faster engines, which
/// are left out for their size, and add a tenth to the module in choosing between them.
#[derive(Debug)]
pub struct Regex {
    automaton: PikeVM,
    /// Where a search notes the states it is in, from the first search on.
    scratch: RefCell<Option<Cache>>,
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
            None => {
                let compiled = translate::translate(expression).and_then(|translated| Regex::new(&translated));
                compiled.map(|regex| Pattern::Regex(Box::new(regex))).map_err(|error| one_line(&error))
            }
        }
    }

    /// Whether the pattern is found anywhere in the value, in time linear in its length.
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(literal) => value == literal,
            Pattern::Prefix(literal) => value.starts_with(literal),
            Pattern::Regex(regex) => regex.is_match(&text(value)),
        }
    }
}

impl Regex {
    /// Compiles an expression in the syntax of the crate `regex-syntax`.
    fn new(expression: &str) -> Result<Regex, String> {
        // The text of a syntax error is a drawing of several lines; the last says what is wrong.
        let last_line = |drawing: String| drawing.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        let syntax = regex_syntax::parse(expression).map_err(|error| last_line(error.to_string()))?;
        let config = Config::new().nfa_size_limit(Some(SIZE_LIMIT)).which_captures(WhichCaptures::None);
        let automaton = Compiler::new().configure(config).build_from_hir(&syntax).and_then(PikeVM::new_from_nfa);
        let automaton = automaton.map_err(|error| match error.size_limit() {
            Some(limit) => format!("expression too large: it would take more than {limit} bytes when compiled"),
            None => error.to_string(),
        })?;
        Ok(Regex { automaton, scratch: RefCell::default() })
    }

    fn is_match(&self, text: &str) -> bool {
        match self.scratch.try_borrow_mut() {
            Ok(mut scratch) => self.automaton.is_match(scratch.get_or_insert_with(|| self.automaton.create_cache()), text),
            Err(_) => self.automaton.is_match(&mut self.automaton.create_cache(), text),
        }
    }
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
