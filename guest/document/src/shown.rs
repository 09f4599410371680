//! How values and names of a document are shown in messages: on one line, not too long, and without what may be a
//! secret.

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString},
};

use crate::node::{Content, Node};

/// How much of a value a message shows, in characters.
const SEEN_MAX: usize = 80;
/// Keys of at least this length may be API keys, whatever they are counted by.
const KEY_LENGTH_MIN: usize = 16;

/// Whether a field of this name holds a secret. One that names a file does not, nor one that limits tokens.
pub fn is_secret_name(name: &str) -> bool {
    const WHOLE: [&str; 6] = ["pass", "pwd", "pw", "auth", "authorization", "cookie"];
    const PARTS: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "privatekey",
        "hashkey",
        "signingkey",
        "credential",
        "authkey",
    ];
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    let names_a_file = name.ends_with("file") || name.ends_with("path");
    let limits_tokens = ["tokenper", "tokenlimit", "tokenweights"].iter().any(|part| name.starts_with(part));
    !names_a_file && !limits_tokens && (WHOLE.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part)))
}

/// A value as a message shows it: collections by kind, texts by what `text_shown` makes of them.
pub fn seen(node: &Node, text_shown: fn(&str) -> String) -> String {
    match &node.content {
        Content::List(_) | Content::Object(_) | Content::Null => node.kind().to_string(),
        Content::Text(text) if text.is_empty() => "an empty text".to_string(),
        Content::Text(text) => text_shown(text),
        _ => format!("`{}`", shortened(&node.to_string(), SEEN_MAX)),
    }
}

/// A text where no URL is expected: what stands in the wrong place may be one with a password in it.
pub(crate) fn plain_text(text: &str) -> String {
    if is_like_a_url(text) {
        return "a URL or a part of one".to_string();
    }
    format!("`{}`", shortened(&without_assigned(text), SEEN_MAX))
}

/// A text without what is said behind a name in it: `password:hush` has lost its space, or a line of fields has become
/// part of the text before it.
pub fn without_assigned(text: &str) -> Cow<'_, str> {
    match text.match_indices([':', '=']).find(|(at, _)| assigns(text, *at)) {
        Some((at, _)) => Cow::from(text.get(..=at).unwrap_or_default().to_string() + "***"),
        None => Cow::from(text),
    }
}

/// Whether the sign at this place of a text stands between a name and what may be its secret. A port is none, and
/// neither is what follows the scheme of a URL, or the word that begins an expression.
fn assigns(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
    let after = text.get(at + 1..).unwrap_or_default();
    let is_of_name = |letter: char| letter.is_ascii_alphabetic() || matches!(letter, '_' | '-');
    let name = before.rsplit(|letter| !is_of_name(letter)).next().unwrap_or_default();
    let is_port = after.bytes().all(|byte| byte.is_ascii_digit()) && !is_secret_name(name);
    name.len() > 1 && name != "regexp" && !after.trim().is_empty() && !after.starts_with("//") && !is_port
}

/// A name as a message shows it: what stands in a name's place may be a URL with a password in it too.
pub(crate) fn name_shown(name: &str) -> String {
    if is_like_a_url(name) { "(a URL or a part of one)".to_string() } else { shortened(name, SEEN_MAX) }
}

fn is_like_a_url(text: &str) -> bool {
    text.contains("://") || text.contains('@')
}

/// A key as it may be shown: of one that opens doors, or is so long that it may, only the beginning.
pub fn key_shown(key: &str, opens_doors: bool) -> String {
    let length = key.chars().count();
    if !opens_doors && length < KEY_LENGTH_MIN {
        return key.to_string();
    }
    let shown = if length > 8 { 4 } else { 1 };
    key.chars().take(shown).chain("***".chars()).collect()
}

/// The first `length` characters of a text, with escapes for what would begin a new line or change how a line looks.
pub fn shortened(text: &str, length: usize) -> String {
    let mut short = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(length) {
        if character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            short.extend(character.escape_default());
        } else {
            short.push(character);
        }
    }
    if characters.next().is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_named_like_a_secret_are_found_and_names_of_files_are_not() {
        for name in [
            "password",
            "PASSWORD",
            "sentinel_password",
            "passwd",
            "pass",
            "pwd",
            "client_secret",
            "api-key",
            "apiKey",
            "x_api_key",
            "token",
            "access_token",
            "hash_key",
            "hashKey",
            "credentials",
            "auth",
            "Authorization",
            "private_key",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "password_file",
            "key",
            "limit_keys",
            "rule_name",
            "path_prefix",
            "passing",
            "username",
            "author",
            "service_name",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_said_behind_a_name_in_a_text_is_not_shown() {
        for (text, shown) in [
            ("password:hush", "password:***"),
            ("x password: hush\n", "x password:***"),
            ("{\"pass_word\" : 5, b: c}", "{\"pass_word\" :***"),
            ("hash-key=hush", "hash-key=***"),
            ("pasword:12x", "pasword:***"),
            ("password:123", "password:***"),
        ] {
            assert_eq!(without_assigned(text), shown);
        }
        for text in [
            "localhost:8080",
            "10.0.0.1:80",
            "[::1]:80",
            "fe80::1",
            "2001:db8::1/32",
            "http://h/",
            "regexp:^a$",
            ":path",
            "outbound|80||h",
            "here and there",
            "10s",
            "a:",
            "",
        ] {
            assert_eq!(without_assigned(text), text);
        }
    }

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(shortened("a\r\n\u{2028}\u{9b}b", 80), "a\\r\\n\\u{2028}\\u{9b}b");
        assert_eq!(shortened("xxxxx", 3), "xxx...");
        assert_eq!([plain_text("a"), plain_text("u:p@h")], ["`a`", "a URL or a part of one"]);
        assert_eq!(plain_text("pasword:hush"), "`pasword:***`");
        assert_eq!(
            [key_shown("short", false), key_shown("short", true), key_shown("0123456789abcdef", false)],
            ["short", "s***", "0123***"]
        );
    }
}
