//! What of the responses that a cache keeps is to be void: addresses by their URLs, and whatever has a tag. Whoever
//! asks a gateway for it sends an order as JSON.

use http::Uri;
use serde_json::{Value, json};

use crate::settings::secret::{HIDDEN, text_shown};
use crate::settings::{nearest, one_line};

/// So much is ordered at once, of either kind.
const COUNT_MAX: usize = 100;

/// An order as JSON is no longer, in bytes.
pub(crate) const ORDER_BYTES_MAX: usize = 64 << 10;

/// A tag is no longer, in bytes: the headers in which responses tell them are bounded, too.
const TAG_BYTES_MAX: usize = 1024;

/// Where a gateway's admin port takes one.
pub(crate) const PURGE_PATH: &str = "/cache/purge";

/// What it says to whoever asks for that otherwise.
pub(crate) const PURGE_REFUSAL: &str = "only POST is served here";

const URLS: &str = "urls";
const TAGS: &str = "tags";

/// What is to be void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PurgeOrder {
    pub(crate) urls: Vec<Uri>,
    pub(crate) tags: Vec<String>,
}

impl PurgeOrder {
    /// # Errors
    /// What cannot be meant, in a sentence without what may be a secret.
    pub(crate) fn new(urls: &[String], tags: Vec<String>) -> Result<Self, String> {
        if urls.is_empty() && tags.is_empty() {
            return Err("expected a URL or a tag of what is to be purged, got neither".to_owned());
        }
        for (name, count) in [("URLs", urls.len()), ("tags", tags.len())] {
            if count > COUNT_MAX {
                return Err(format!("expected at most {COUNT_MAX} {name} at once, got {count}"));
            }
        }
        let urls = urls.iter().map(|url| url_of_page(url)).collect::<Result<_, _>>()?;
        // What is between two tags is no part of one.
        let is_tag = |tag: &str| {
            (1..=TAG_BYTES_MAX).contains(&tag.len())
                && !tag.contains(|character: char| character == ',' || character.is_ascii_whitespace())
        };
        match tags.iter().position(|tag| !is_tag(tag)) {
            Some(at) => Err(format!(
                "expected tags of 1 to {TAG_BYTES_MAX} bytes without commas and spaces, got one of {} bytes ({} of {})",
                tags.get(at).map_or(0, String::len),
                at + 1,
                tags.len()
            )),
            None => Ok(Self { urls, tags }),
        }
    }

    /// As a gateway is sent it.
    pub(crate) fn to_json(&self) -> Value {
        let urls: Vec<String> = self.urls.iter().map(Uri::to_string).collect();
        json!({URLS: urls, TAGS: self.tags})
    }

    /// # Errors
    /// As [`new`](Self::new), or it is none.
    pub(crate) fn of_json(bytes: &[u8]) -> Result<Self, String> {
        const EXPECTED: &str = "expected a JSON object with `urls` or `tags`, arrays of texts";
        let read: Value = serde_json::from_slice(bytes).map_err(|_| EXPECTED.to_owned())?;
        let fields = read.as_object().ok_or(EXPECTED)?;
        if let Some(name) = fields.keys().find(|name| ![URLS, TAGS].contains(&name.as_str())) {
            let meant = nearest(name, [URLS, TAGS]).map(|meant| format!(": did you mean `{meant}`?"));
            return Err(format!("{EXPECTED}, got another field{}", meant.unwrap_or_default()));
        }
        let texts = |field: &str| match fields.get(field) {
            None => Some(Vec::new()),
            Some(list) => list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        };
        let (urls, tags) = (texts(URLS).ok_or(EXPECTED)?, texts(TAGS).ok_or(EXPECTED)?);
        Self::new(&urls, tags)
    }
}

/// A URL that a client may ask a gateway for. What is behind a `#` no client sends.
///
/// # Errors
/// It is none; it is shown without its query and without a password.
pub(crate) fn url_of_page(text: &str) -> Result<Uri, String> {
    let shown = || {
        let place = text.split(['?', '#']).next().unwrap_or_default();
        let query = if place.len() < text.len() { HIDDEN } else { "" };
        one_line(&(text_shown(place) + query))
    };
    let url: Option<Uri> = text.split('#').next().and_then(|url| url.parse().ok());
    url.filter(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    })
    .ok_or_else(|| format!("expected a URL such as `https://example.com/page`, got `{}`", shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(urls: &[&str], tags: &[&str]) -> Result<PurgeOrder, String> {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        PurgeOrder::new(&texts(urls), texts(tags))
    }

    #[test]
    fn an_order_is_sent_as_it_was_meant() {
        let order = order(&["https://a.test/x?y=z#w", "http://b.test"], &["news", "a:1"]).expect("an order");
        assert_eq!(order.urls.iter().map(Uri::path).collect::<Vec<_>>(), ["/x", "/"]);
        assert_eq!(PurgeOrder::of_json(order.to_json().to_string().as_bytes()), Ok(order));
    }

    #[test]
    fn what_cannot_be_meant_is_told_without_secrets() {
        let many = ["a"; COUNT_MAX + 1];
        for (urls, tags, expected) in [
            (&[][..], &[][..], "got neither"),
            (&["/page"], &[], "got `/page`"),
            (&["ftp://a.test/"], &[], "got `ftp://a.test/`"),
            (&["https://u:hush@a.test/x?token=hush"], &[], "got `https://***@a.test/x***`"),
            (&["http://a b/"], &[], "got `http"),
            (&[], &["a", ""], "got one of 0 bytes (2 of 2)"),
            (&[], &["a b"], "without commas and spaces"),
            (&[], &many, "at most 100 tags at once, got 101"),
        ] {
            let error = order(urls, tags).expect_err("it is none");
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
        }
        for (json, expected) in [
            ("", "expected a JSON object"),
            ("[]", "expected a JSON object"),
            (r#"{"urls": "http://a/"}"#, "expected a JSON object"),
            (r#"{"url": ["http://a/"]}"#, "did you mean `urls`?"),
            (r#"{"tags": [1]}"#, "expected a JSON object"),
        ] {
            let error = PurgeOrder::of_json(json.as_bytes()).expect_err("it is none");
            assert!(error.contains(expected), "{error}");
        }
    }
}
