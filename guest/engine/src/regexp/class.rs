//! Character classes and escapes of Go's regexp package, written for the regex crate.

use alloc::{format, string::String};

use super::consumed::consumed;

/// POSIX classes; both engines take them for ASCII.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Writes a character so that it means itself, in a class and outside.
pub(super) fn push_literal(character: char, out: &mut String) {
    if r"\.+*?()|[]{}^$#&-~".contains(character) {
        out.push('\\');
    }
    out.push(character);
}

/// Translates a bracketed class at the beginning of `text`; returns what comes after.
pub(super) fn bracketed<'a>(text: &'a str, out: &mut String) -> Result<&'a str, String> {
    let mut rest = text.strip_prefix('[').unwrap_or(text);
    out.push('[');
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    let mut first = true;
    loop {
        // A closing bracket that comes first is a member.
        if let Some(after) = rest.strip_prefix(']')
            && !first
        {
            out.push(']');
            return Ok(after);
        }
        first = false;
        if let Some(after) = posix(rest, out)? {
            rest = after;
        } else if let Some(after) = named(rest, out)? {
            rest = after;
        } else {
            rest = range(rest, text, out)?;
        }
    }
}

/// A member of a class: one character, or two with a hyphen between them.
fn range<'a>(text: &'a str, class: &str, out: &mut String) -> Result<&'a str, String> {
    let (low, mut rest) = member(text, class)?;
    push_literal(low, out);
    if let Some(after) = rest.strip_prefix('-')
        && !after.is_empty()
        && !after.starts_with(']')
    {
        let (high, after) = member(after, class)?;
        if high < low {
            return Err(format!("invalid character class range: `{}`", consumed(text, after)));
        }
        out.push('-');
        push_literal(high, out);
        rest = after;
    }
    Ok(rest)
}

fn member<'a>(text: &'a str, class: &str) -> Result<(char, &'a str), String> {
    let mut chars = text.chars();
    match chars.next() {
        None => Err(format!("missing closing ]: `{class}`")),
        Some('\\') => escaped(text),
        Some(character) => Ok((character, chars.as_str())),
    }
}

/// `[:name:]` and `[:^name:]` inside a class. `None` if there is none here.
fn posix<'a>(text: &'a str, out: &mut String) -> Result<Option<&'a str>, String> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inner| inner.split_once(":]")) else {
        return Ok(None);
    };
    if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return Err(format!("invalid character class range: `{}`", consumed(text, rest)));
    }
    out.push_str(consumed(text, rest));
    Ok(Some(rest))
}

/// Perl classes. `None` if there is none here; an error for a Unicode class.
pub(super) fn named<'a>(text: &'a str, out: &mut String) -> Result<Option<&'a str>, String> {
    let Some(letter) = text.strip_prefix('\\').and_then(|inner| inner.chars().next()) else {
        return Ok(None);
    };
    let written = match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\f\\r ]",
        'S' => "[^\\t\\n\\f\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'p' | 'P' => return Err(property(text)),
        _ => return Ok(None),
    };
    out.push_str(written);
    let mut rest = text.chars();
    rest.nth(1);
    Ok(Some(rest.as_str()))
}

/// The refusal of `\pN` or `\p{Name}`: their tables would make the module a third larger than it may be.
fn property(text: &str) -> String {
    let end = text.find('}').filter(|_| text.chars().nth(2) == Some('{')).map_or(3, |at| at + 1);
    let written: String = text.char_indices().take_while(|(at, _)| *at < end).map(|(_, character)| character).collect();
    format!("Unicode classes are not supported: `{written}`; list the characters or ranges instead")
}

/// The character that an escape at the beginning of `text` stands for, and what comes after.
pub(super) fn escaped(text: &str) -> Result<(char, &str), String> {
    let mut chars = text.chars();
    chars.next();
    let Some(letter) = chars.next() else {
        return Err(String::from("trailing backslash at end of expression"));
    };
    let rest = chars.as_str();
    let character = match letter {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        'x' => return hexadecimal(text, rest),
        '1'..='7' if !rest.starts_with(|next: char| next.is_digit(8)) => {
            return Err(format!("back-references are not supported: `\\{letter}`"));
        }
        '0'..='7' => return Ok(octal(letter, rest)),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return Err(invalid_escape(consumed(text, rest))),
    };
    Ok((character, rest))
}

/// Up to three octal digits, of which the first is `letter`.
fn octal(letter: char, rest: &str) -> (char, &str) {
    let mut value = letter.to_digit(8).unwrap_or(0);
    let mut chars = rest.chars();
    for _ in 0..2 {
        let mut ahead = chars.clone();
        let Some(digit) = ahead.next().and_then(|next| next.to_digit(8)) else {
            break;
        };
        value = value << 3 | digit;
        chars = ahead;
    }
    // Three octal digits are at most U+01FF.
    (char::from_u32(value).unwrap_or('\0'), chars.as_str())
}

/// `xHH` and `x{H..}`; `rest` is what follows the `x`. Leading zeros may be any number, but no digits at all are an
/// error.
fn hexadecimal<'a>(text: &'a str, rest: &'a str) -> Result<(char, &'a str), String> {
    let (digits, after) = match rest.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or_else(|| invalid_escape(text))?,
        None => rest.split_at_checked(2).ok_or_else(|| invalid_escape(text))?,
    };
    let written = consumed(text, after);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(invalid_escape(written));
    }
    let significant = digits.trim_start_matches('0');
    let value = u32::from_str_radix(if significant.is_empty() { "0" } else { significant }, 16);
    match value.map(|value| (value, char::from_u32(value))) {
        Ok((_, Some(character))) => Ok((character, after)),
        Ok((0xd800..=0xdfff, None)) => Err(format!("no character can be a surrogate: `{written}`")),
        _ => Err(invalid_escape(written)),
    }
}

fn invalid_escape(written: &str) -> String {
    format!("invalid escape sequence: `{written}`")
}
