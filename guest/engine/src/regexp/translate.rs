//! From the syntax of Go's regexp package to that of the regex crate.
//!
//! Both search in linear time and agree on most of the syntax. Where they differ, the expression is rewritten or
//! refused so that it means here what it means in Go: Perl classes are ASCII, `[` and `&&` in a class are themselves, a
//! brace that opens no repetition is itself, `\Q..\E` quotes, octal escapes work, and what only the regex crate knows
//! is an error.

use alloc::{format, string::String, vec::Vec};

use super::{class, consumed::consumed};

/// The longest expression, in bytes: hardly one as long fits in what a compiled one may take.
const LENGTH_MAX: usize = 64 * 1024;

/// The most repetitions that Go allows.
const MAX_REPEAT: u32 = 1000;

/// Rewrites an expression; the error is one line that names the offending part.
pub(super) fn translate(expression: &str) -> Result<String, String> {
    if expression.len() > LENGTH_MAX {
        return Err(format!("expression too large: it has more than {LENGTH_MAX} bytes"));
    }
    let mut translator = Translator {
        source: expression,
        rest: expression,
        out: String::with_capacity(expression.len().saturating_mul(2)),
        depth: 0,
        before: Before::Nothing,
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    if translator.depth > 0 {
        return Err(format!("missing closing ): `{expression}`"));
    }
    Ok(translator.out)
}

struct Translator<'a> {
    source: &'a str,
    rest: &'a str,
    out: String,
    /// Groups open.
    depth: usize,
    before: Before<'a>,
}

/// What a repetition operator would apply to.
enum Before<'a> {
    Nothing,
    Item,
    /// A repetition; operators do not stack. What remained when it began.
    Repetition(&'a str),
}

impl<'a> Translator<'a> {
    /// Consumes one element of the expression.
    fn step(&mut self) -> Result<(), String> {
        let mut chars = self.rest.chars();
        match chars.next() {
            Some('(') if chars.as_str().starts_with('?') => return self.flags_or_group(),
            Some('(') => {
                self.depth = self.depth.saturating_add(1);
                self.before = Before::Nothing;
                // Nobody asks what a group captured, and not to record it is faster.
                self.out.push_str("(?:");
            }
            Some(')') => {
                self.depth = self.depth.checked_sub(1).ok_or_else(|| format!("unexpected ): `{}`", self.source))?;
                self.before = Before::Item;
                self.out.push(')');
            }
            Some('|') => {
                self.before = Before::Nothing;
                self.out.push('|');
            }
            Some('*' | '+' | '?') => {
                let (operator, rest) = self.rest.split_at(1);
                return self.repetition(operator, rest);
            }
            Some('{') => match counted(self.rest) {
                Some((operator, valid, rest)) if valid => return self.repetition(operator, rest),
                Some((operator, ..)) => return Err(format!("invalid repeat count: `{operator}`")),
                None => self.literal('{'),
            },
            Some('[') => {
                self.rest = class::bracketed(self.rest, &mut self.out)?;
                self.before = Before::Item;
                return Ok(());
            }
            Some('\\') => return self.escape(),
            Some(same @ ('^' | '$' | '.')) => {
                self.before = Before::Item;
                self.out.push(same);
            }
            Some(literal) => self.literal(literal),
            None => {}
        }
        self.rest = chars.as_str();
        Ok(())
    }

    fn literal(&mut self, character: char) {
        class::push_literal(character, &mut self.out);
        self.before = Before::Item;
    }

    /// `operator` and a `?` behind it, if there is something to repeat.
    fn repetition(&mut self, operator: &'a str, rest: &'a str) -> Result<(), String> {
        let start = self.rest;
        let (lazy, rest) = match rest.strip_prefix('?') {
            Some(rest) => ("?", rest),
            None => ("", rest),
        };
        match self.before {
            Before::Nothing => {
                return Err(format!("missing argument to repetition operator: `{operator}`"));
            }
            Before::Repetition(first) => {
                return Err(format!("invalid nested repetition operator: `{}`", consumed(first, rest)));
            }
            Before::Item => {}
        }
        self.out.push_str(operator);
        self.out.push_str(lazy);
        self.before = Before::Repetition(start);
        self.rest = rest;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let mut chars = self.rest.chars();
        chars.next();
        let assertion = match chars.next() {
            Some('Q') => {
                let (quoted, rest) = chars.as_str().split_once("\\E").unwrap_or((chars.as_str(), ""));
                for character in quoted.chars() {
                    self.literal(character);
                }
                self.rest = rest;
                return Ok(());
            }
            Some('A') => Some("\\A"),
            Some('z') => Some("\\z"),
            Some('b') => Some("(?-u:\\b)"),
            Some('B') => Some("(?-u:\\B)"),
            _ => None,
        };
        self.rest = if let Some(assertion) = assertion {
            self.out.push_str(assertion);
            chars.as_str()
        } else if let Some(rest) = class::named(self.rest, &mut self.out)? {
            rest
        } else {
            let (character, rest) = class::escaped(self.rest)?;
            class::push_literal(character, &mut self.out);
            rest
        };
        self.before = Before::Item;
        Ok(())
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>` and `(?<name>`.
    fn flags_or_group(&mut self) -> Result<(), String> {
        let inner = self.rest.strip_prefix("(?").unwrap_or_default();
        if let Some(look) = ["=", "!", "<=", "<!"].iter().find(|look| inner.starts_with(**look)) {
            return Err(format!("look-around is not supported: `(?{look}`"));
        }
        let (opening, rest) = match inner.strip_prefix("P<").or_else(|| inner.strip_prefix('<')) {
            Some(name) => {
                let (name, rest) =
                    name.split_once('>').ok_or_else(|| format!("invalid named capture: `{}`", self.rest))?;
                if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                    return Err(format!("invalid named capture: `{}`", consumed(self.rest, rest)));
                }
                (String::from("(?:"), rest)
            }
            None => flags(inner)
                .map_err(|rest| format!("invalid or unsupported Perl syntax: `{}`", consumed(self.rest, rest)))?,
        };
        if opening.ends_with(':') {
            self.depth = self.depth.saturating_add(1);
        }
        // Go would repeat what stands before bare flags, as in `a(?i)*`; nobody means that.
        self.before = Before::Nothing;
        self.out.push_str(&opening);
        self.rest = rest;
        Ok(())
    }
}

/// Reads what follows `(?` up to `:` or `)`: what to write for it, and what comes after. Go lets a flag be repeated or
/// be missing, the regex crate does not. The error is what remained when it was clear that these are no flags.
fn flags(inner: &str) -> Result<(String, &str), &str> {
    let mut on: Vec<char> = Vec::new();
    let mut off: Option<Vec<char>> = None;
    let mut rest = inner.chars();
    while let Some(next) = rest.next() {
        match (next, &mut off) {
            ('i' | 'm' | 's' | 'U', None) => insert(&mut on, next),
            ('i' | 'm' | 's' | 'U', Some(off)) => {
                on.retain(|flag| *flag != next);
                insert(off, next);
            }
            ('-', None) => off = Some(Vec::new()),
            (':' | ')', off) => {
                if off.as_ref().is_some_and(Vec::is_empty) {
                    break;
                }
                let mut opening = String::from("(?");
                opening.extend(on);
                if let Some(off) = off {
                    opening.push('-');
                    opening.extend(off.iter());
                }
                opening.push(next);
                // `(?)` changes nothing.
                return Ok((if opening == "(?)" { String::new() } else { opening }, rest.as_str()));
            }
            _ => break,
        }
    }
    Err(rest.as_str())
}

fn insert(flags: &mut Vec<char>, flag: char) {
    if !flags.contains(&flag) {
        flags.push(flag);
    }
}

/// Reads `{n}`, `{n,}` or `{n,m}`: the operator, whether its numbers are allowed, and what comes after. `None` if it is
/// not of these forms; then the brace is an ordinary character.
fn counted(text: &str) -> Option<(&str, bool, &str)> {
    let (least, rest) = number(text.strip_prefix('{')?)?;
    let (most, rest) = match rest.strip_prefix(',') {
        Some(rest) if rest.starts_with('}') => (least, rest),
        Some(rest) => number(rest)?,
        None => (least, rest),
    };
    let rest = rest.strip_prefix('}')?;
    Some((consumed(text, rest), least <= most && most <= MAX_REPEAT, rest))
}

/// Decimal digits without a leading zero, and what comes after. A number that is too large for its type is `u32::MAX`.
fn number(text: &str) -> Option<(u32, &str)> {
    let rest = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let digits = consumed(text, rest);
    if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}
