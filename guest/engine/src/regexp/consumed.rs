//! What a step of the translation has read.

/// The part of `text` before `rest`, which is its end.
pub(super) fn consumed<'a>(text: &'a str, rest: &str) -> &'a str {
    text.len().checked_sub(rest.len()).and_then(|length| text.get(..length)).unwrap_or(text)
}
