//! How values and names of a document are shown in messages: on one line, not too long, and without what may be a
//! secret.

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString},
};

use crate::node::{Content, Member, Node};

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

/// A text without what is said behind a name in it: `password:hush` has lost its space, `password hush` its colon, or a
/// line of fields has become part of the text before it.
pub fn without_assigned(text: &str) -> Cow<'_, str> {
    let is_sign = |letter: char| matches!(letter, ':' | '=' | '：' | '＝') || letter.is_whitespace();
    let mut places = text.match_indices(is_sign).map(|(at, sign)| (at, at + sign.len()));
    match places.find(|(at, end)| assigns(text, *at, *end)) {
        Some((_, end)) => Cow::from(text.get(..end).unwrap_or_default().to_string() + "***"),
        None => Cow::from(text),
    }
}

/// Whether the sign at this place of a text stands between a name and what may be its secret. A port is none, and
/// neither is what follows the scheme of a URL, or the word that begins an expression. Between words there is only
/// white space, unless the first is the name of a secret.
fn assigns(text: &str, at: usize, end: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
    let after = text.get(end..).unwrap_or_default();
    let is_space = text.get(at..end).is_some_and(|sign| sign.trim().is_empty());
    let is_of_name = |letter: char| letter.is_ascii_alphabetic() || matches!(letter, '_' | '-');
    let name = before.rsplit(|letter| !is_of_name(letter)).next().unwrap_or_default();
    let is_secret = is_secret_name(name);
    let is_port = after.bytes().all(|byte| byte.is_ascii_digit()) && !is_secret;
    // The sign that may follow white space is met next.
    let is_sign_next = after.trim_start().starts_with([':', '=', '：', '＝']);
    if is_space && (!is_secret || is_sign_next) {
        return false;
    }
    name.len() > 1 && name != "regexp" && !after.trim().is_empty() && !after.starts_with("//") && !is_port
}

/// A name as messages, paths and snippets show it: what stands in its place may be a URL with a password in it, or a
/// name and its value whose colon or space is lost. No name has white space in it.
pub fn name_shown(name: &str) -> String {
    if is_like_a_url(name) {
        return "(a URL or a part of one)".to_string();
    }
    let assigned = without_assigned(name);
    match assigned.trim_start().split_once(char::is_whitespace) {
        Some((first, _)) if *assigned == *name => shortened(first, SEEN_MAX) + " ***",
        _ => shortened(&assigned, SEEN_MAX),
    }
}

/// A name that no field has, or with nothing behind it: a password or a key may stand in its place. One without a value
/// is cut like a key that opens doors, another like a key, unless it is written as fields are. Who misspelt a field
/// learns from the message which one is meant.
pub fn stray_name<'n>(name: &'n str, value: &Node) -> Cow<'n, str> {
    let is_like_a_field = name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    // Of the last two `name_shown` leaves a name.
    if (is_like_a_field && !value.is_null()) || is_like_a_url(name) || without_assigned(name) != name {
        return Cow::from(name);
    }
    Cow::from(key_shown(name, value.is_null()))
}

impl Member {
    /// The name where any may stand. One with nothing behind it may be a value whose name is lost, as in
    /// `{authorization, hush}`.
    pub fn shown_name(&self) -> Cow<'_, str> {
        if self.value.is_null() { stray_name(&self.name, &self.value) } else { Cow::from(&self.name) }
    }
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
            ("password：hush", "password：***"),
            ("pasword＝hush", "pasword＝***"),
            ("password hush", "password ***"),
            ("x 'pw' hush: 5", "x 'pw' ***"),
            ("password = hush", "password =***"),
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
            "the password ",
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
            ["x-key", "x-key:hush", "x-key=hush", "passwort hush", "redis://u:hush@h"].map(name_shown),
            ["x-key", "x-key:***", "x-key=***", "passwort ***", "(a URL or a part of one)"]
        );
        let (nothing, value) = (Node::default(), Node::from(Content::Bool(true)));
        for (name, without_value, with_value) in [
            ("hush", "h***", "hush"),
            ("hush-0123456789a", "hush***", "hush***"),
            ("rule_itms", "rule***", "rule_itms"),
            ("a_word_of_fields", "a_wo***", "a_word_of_fields"),
            (&"hush".repeat(30), "hush***", "hush***"),
        ] {
            assert_eq!([stray_name(name, &nothing), stray_name(name, &value)], [without_value, with_value]);
        }
        assert_eq!(
            [key_shown("short", false), key_shown("short", true), key_shown("0123456789abcdef", false)],
            ["short", "s***", "0123***"]
        );
    }
}
