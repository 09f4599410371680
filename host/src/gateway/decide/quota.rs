//! How much is left of a limit, as numbers, out of the headers that say it.

use hyper::header::{HeaderMap, RETRY_AFTER};

/// What headers say of a limit, so far as they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ToldQuota {
    pub(super) limit: Option<u64>,
    /// In seconds.
    pub(super) window: Option<u64>,
    pub(super) remaining: Option<u64>,
    /// In seconds.
    pub(super) reset: Option<u64>,
}

impl ToldQuota {
    /// `x-ratelimit-*`, the first limit of `ratelimit` and its policy, and `retry-after`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(leading_number);
        let limit = text("ratelimit").and_then(|list| item(list, |_| true));
        let policy = text("ratelimit-policy");
        let policy = policy.and_then(|list| item(list, |item| limit.is_none_or(|limit| name(item) == name(limit))));
        let of_limit = |parameter: &str| limit.and_then(|item| value(item, parameter));
        let of_policy = |parameter: &str| policy.and_then(|item| value(item, parameter));
        Self {
            limit: number("x-ratelimit-limit").or_else(|| of_policy("q")),
            window: of_policy("w"),
            remaining: number("x-ratelimit-remaining").or_else(|| of_limit("r")),
            reset: number("x-ratelimit-reset").or_else(|| of_limit("t")).or_else(|| number(RETRY_AFTER.as_str())),
        }
    }
}

/// The first item that fits of a list, whose names are between quotes.
fn item(list: &str, fits: impl Fn(&str) -> bool) -> Option<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut items = list.split(|character| {
        match (character, is_escaped) {
            ('"', false) => is_quoted = !is_quoted,
            ('\\', false) if is_quoted => {
                is_escaped = true;
                return false;
            }
            _ => {}
        }
        is_escaped = false;
        character == ',' && !is_quoted
    });
    items.find(|item| fits(item))
}

/// An item without its parameters, which are numbers.
fn name(item: &str) -> &str {
    item.rsplit_once('"').map_or(item, |(name, _)| name).trim_start()
}

fn value(item: &str, parameter: &str) -> Option<u64> {
    let parameters = item.rsplit_once('"').map_or(item, |(_, parameters)| parameters);
    let pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == parameter).and_then(|(_, value)| leading_number(value))
}

fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn quota(fields: &[(&'static str, &'static str)]) -> ToldQuota {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        ToldQuota::of(&fields.collect())
    }

    #[test]
    fn either_form_tells_how_much_is_left() {
        let stock = quota(&[("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "3"), ("retry-after", "7")]);
        assert_eq!(stock, ToldQuota { limit: Some(5), window: None, remaining: Some(3), reset: Some(7) });
        let ietf = quota(&[
            ("ratelimit-policy", "\"a,b\";q=9;w=60, \"c\";q=100;w=3600"),
            ("ratelimit", "\"c\";r=50;t=30, \"a,b\";r=1;t=2"),
        ]);
        assert_eq!(ietf, ToldQuota { limit: Some(100), window: Some(3600), remaining: Some(50), reset: Some(30) });
        assert_eq!(quota(&[("x-ratelimit-limit", "none"), ("ratelimit", "")]), ToldQuota::default());
    }
}
