//! How what stands in the gateway's file is shown, and what may have been meant by it.

use std::time::Duration;

use slidegate_document::{
    Fields, Reader, Vocabulary, shortened,
    table::{Shape, Table, filter, gateway, names},
    without_assigned,
};

use super::secret::{HIDDEN, key_cut, text_shown};

/// How much of a text a message shows, in characters.
const LENGTH_MAX: usize = 80;

/// At the top of the file.
pub(super) const TOP: [&str; 18] = names(&gateway::TOP);
pub(super) const ROUTE: [&str; 6] = names(&gateway::ROUTE_FIELDS);
pub(super) const TIMEOUTS: [&str; 9] = names(&gateway::TIMEOUTS_FIELDS);
pub(super) const LISTENER_TLS: [&str; 4] = names(&gateway::LISTENER_TLS_FIELDS);
pub(super) const UPSTREAM_TLS: [&str; 4] = names(&gateway::UPSTREAM_TLS_FIELDS);
pub(super) const DECIDE: [&str; 4] = names(&gateway::DECIDE_FIELDS);
/// Of `admin`, where it is an object.
pub(super) const ADMIN: [&str; 4] = names(&gateway::ADMIN_FIELDS);
pub(super) const LIMITS: [&str; 8] = names(&gateway::LIMITS_FIELDS);
pub(super) const LOG: [&str; 2] = names(&gateway::LOG_FIELDS);
/// Of `redis`, beside those of one Redis.
pub(super) const REDIS: [&str; 2] = names(&gateway::REDIS_FIELDS);
/// Of one Redis.
pub(super) const REDIS_ACCESS: [&str; 12] = names(&gateway::REDIS_ACCESS);

/// The language of the gateway's own fields.
pub(super) static VOCABULARY: Vocabulary = Vocabulary {
    places: &[
        (&TOP, "at the top"),
        (&ROUTE, "in an element of `routes`"),
        (&TIMEOUTS, "in `timeouts`"),
        (&LIMITS, "in `limits`"),
        (&LISTENER_TLS, "in `tls`"),
        (&DECIDE, "in `decide`"),
        (&UPSTREAM_TLS, "in `upstream_tls`"),
        (&LOG, "in `log`"),
        (&REDIS, "in `redis`"),
        (&REDIS_ACCESS, "in `redis` or in an element of `redis.names`"),
        (&FILTER, "in `filter`"),
    ],
    text_shown: quoted,
};

const FILTER: [&str; filter::POLICY.len()] = names(&filter::POLICY);

/// Whether any field has this name.
pub(super) fn is_field(name: &str) -> bool {
    fn has(table: &Table, name: &str) -> bool {
        table.fields().any(|field| field.name == name || takes(&field.value, name))
    }
    fn takes(value: &Shape, name: &str) -> bool {
        match value {
            Shape::Object(table) => has(table, name),
            Shape::Either(values) => values.iter().any(|value| takes(value, name)),
            Shape::Optional(value) | Shape::List(value, _) | Shape::Some(value, _) | Shape::Map(_, value, _) => {
                takes(value, name)
            }
            _ => false,
        }
    }
    has(&gateway::GATEWAY, name)
}

/// The name of a field between quotes. What is no field's may be a key of `limit_keys` in a name's place: only its
/// beginning is shown.
pub(super) fn name_quoted(name: &str) -> String {
    if is_field(name) { quoted(name) } else { quoted(&key_cut(name)) }
}

/// The greatest length of time.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A field that says how long.
pub(super) fn duration(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Duration> {
    let longest = u64::try_from(DURATION_MAX.as_micros()).unwrap_or(u64::MAX);
    reader.field(fields, name, |reader, path, node| reader.duration_us(path, node, longest)).map(Duration::from_micros)
}

/// A length of time as it would be written.
pub(super) fn duration_shown(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// A text that somebody wrote, as a message shows it: in one line, cut, without what may be a secret in it.
pub(crate) fn quoted(text: &str) -> String {
    // The text of a key, or of a certificate, in the place of a file's name.
    let text = match text {
        _ if text.contains("-----") => HIDDEN.to_owned(),
        _ if text.contains("://") => text_shown(text),
        _ => text_shown(&without_assigned(text)),
    };
    format!("`{}`", one_line(&text))
}

/// The beginning of a text, with escapes for what would begin a new line or change how a line looks.
pub(crate) fn one_line(text: &str) -> String {
    shortened(text, LENGTH_MAX)
}

/// The known word that most probably was meant.
pub(crate) fn nearest<'n>(seen: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let known: Vec<&str> = known.into_iter().collect();
    slidegate_document::nearest(seen, &known).first().copied()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use slidegate_document::{Node, Path};

    use super::*;

    #[test]
    fn no_message_shows_a_secret_or_breaks_a_line() {
        let message = |names: &[&str], value: Value| {
            let node: Node = serde_json::from_value(value).unwrap();
            let mut reader = Reader::new(&VOCABULARY);
            match names {
                [one] => reader.expected(Path::Field(&Path::Root, one), &node, "x"),
                [one, two] => reader.expected(Path::Field(&Path::Field(&Path::Root, one), two), &node, "x"),
                _ => unreachable!(),
            }
            reader.finish().unwrap_err().remove(0).message
        };
        assert_eq!(message(&["redis"], json!("redis://u:hush@h")), "expected x, got `redis://***@h`");
        assert_eq!(message(&["upstream"], json!("http://u:hush@h:1/a")), "expected x, got `http://***@h:1/a`");
        assert_eq!(message(&["r", "sentinel_password"], json!(12_345_678)), "expected x, got a number");
        assert_eq!(message(&["tokens", "a"], json!("hush")), "expected x, got a text");
        assert_eq!(message(&["r", "key"], json!("-----BEGIN PRIVATE KEY-----\nhush")), "expected x, got `***`");
        assert_eq!(message(&["listen"], json!("a\r\n\u{2028}\u{9b}b")), "expected x, got `a\\r\\n\\u{2028}\\u{9b}b`");
        assert_eq!(message(&["redis"], json!("pasword: hush")), "expected x, got `pasword:***`");
        assert_eq!(message(&["listen"], json!("x".repeat(100))), format!("expected x, got `{}...`", "x".repeat(80)));
        assert_eq!(
            [message(&["a"], json!("")), message(&["a"], json!({}))].concat().matches("expected x, got an ").count(),
            2
        );
    }
}
