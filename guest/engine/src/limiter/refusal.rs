//! Refusals as clients of model providers understand them.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    header::Told,
    rule::{ErrorFormat, ErrorFormatChoice, LimitUnit, Policy},
};

/// A client that would have to wait longer than this should not try again by itself.
const RETRY_MAX_US: u64 = 60_000_000;

/// What a policy's refusals say, held once however many there are.
#[derive(Debug)]
pub(super) struct RefusalBodies {
    plain: Rc<Vec<u8>>,
    code: u16,
    /// By format, then by kind; empty if all are plain.
    formatted: Vec<Rc<Vec<u8>>>,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    Requests,
    Tokens,
}

/// A refusal's body.
#[derive(Debug)]
pub(super) struct RefusalBody {
    pub(super) body: Rc<Vec<u8>>,
    /// Its type, if that is not said elsewhere.
    pub(super) content_type: Option<&'static str>,
}

const FORMATS: [ErrorFormat; 3] = [ErrorFormat::OpenAi, ErrorFormat::Anthropic, ErrorFormat::Gemini];

impl RefusalBodies {
    pub(super) fn of(policy: &Policy) -> RefusalBodies {
        let is_plain = policy.error_format == ErrorFormatChoice::Always(ErrorFormat::Plain) || policy.is_message_stated;
        let kinds = |format| RefusalKind::ALL.map(move |kind| body(format, kind, policy.rejected_code));
        let formatted = if is_plain { Vec::new() } else { FORMATS.into_iter().flat_map(kinds).collect() };
        RefusalBodies { plain: Rc::new(policy.rejected_msg.clone().into()), code: policy.rejected_code, formatted }
    }

    /// The body of a refusal of this kind in this format.
    pub(super) fn of_kind(&self, format: ErrorFormat, kind: RefusalKind, told: Option<&Told>) -> RefusalBody {
        let place = FORMATS.iter().position(|each| *each == format);
        let formatted = place.and_then(|place| self.formatted.get(place * RefusalKind::ALL.len() + kind as usize));
        let wait_s = told.filter(|told| told.fits_after_us.is_some()).map(|told| told.wait_s.max(1));
        let content_type = Some("application/json");
        match (formatted, wait_s) {
            // Gemini's clients look for the time in the body.
            (Some(_), Some(wait_s)) if format == ErrorFormat::Gemini => {
                RefusalBody { body: Rc::new(gemini(kind, self.code, Some(wait_s)).into_bytes()), content_type }
            }
            (Some(body), _) => RefusalBody { body: Rc::clone(body), content_type },
            (None, _) => RefusalBody { body: Rc::clone(&self.plain), content_type: None },
        }
    }
}

impl RefusalKind {
    const ALL: [RefusalKind; 2] = [RefusalKind::Requests, RefusalKind::Tokens];

    /// What it says.
    fn message(self) -> &'static str {
        match self {
            RefusalKind::Requests => "Rate limit on requests reached. Please try again later.",
            RefusalKind::Tokens => TOKENS_MESSAGE,
        }
    }

    /// Of a limit of this unit.
    pub(super) fn new(unit: LimitUnit) -> RefusalKind {
        match unit {
            LimitUnit::Requests => RefusalKind::Requests,
            LimitUnit::Tokens => RefusalKind::Tokens,
        }
    }
}

/// What a refusal says that is about tokens.
pub(super) const TOKENS_MESSAGE: &str = "Rate limit on tokens reached. Please try again later.";

fn body(format: ErrorFormat, kind: RefusalKind, code: u16) -> Rc<Vec<u8>> {
    Rc::new(text(format, kind, code).into_bytes())
}

/// The body of a refusal.
pub(super) fn text(format: ErrorFormat, kind: RefusalKind, code: u16) -> String {
    let message = kind.message();
    match format {
        ErrorFormat::Anthropic => {
            format!(
                r#"{{"type":"error","error":{{"type":"rate_limit_error","message":"{message}"}},"request_id":null}}"#
            )
        }
        ErrorFormat::Gemini => gemini(kind, code, None),
        ErrorFormat::OpenAi | ErrorFormat::Plain => {
            let unit = match kind {
                RefusalKind::Requests => "requests",
                RefusalKind::Tokens => "tokens",
            };
            format!(
                r#"{{"error":{{"message":"{message}","type":"{unit}","param":null,"code":"rate_limit_exceeded"}}}}"#
            )
        }
    }
}

/// Gemini's, with how many seconds its client is to wait.
fn gemini(kind: RefusalKind, code: u16, wait_s: Option<u64>) -> String {
    let message = kind.message();
    // As Google's APIs name their errors for HTTP's codes.
    let status = match code {
        403 => "PERMISSION_DENIED",
        500..=599 => "UNAVAILABLE",
        _ => "RESOURCE_EXHAUSTED",
    };
    let details = wait_s.map_or_else(String::new, |wait_s| {
        format!(r#","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{wait_s}s"}}]"#)
    });
    format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"{details}}}}}"#)
}

/// When a client of that kind is to try again. Official clients obey `retry-after-ms` before `retry-after`, take 0 for
/// nothing said, and some sleep for hours unless they are told that they should not try.
pub(super) fn retry_headers(format: ErrorFormat, told: Option<&Told>) -> Vec<(String, String)> {
    let Some(told) = told.filter(|_| format != ErrorFormat::Plain) else { return Vec::new() };
    let mut headers = Vec::new();
    let mut field = |name: &str, value: String| headers.push((name.to_string(), value));
    if let Some(us) = told.fits_after_us {
        field("retry-after", told.wait_s.max(1).to_string());
        field("retry-after-ms", us.div_ceil(1_000).max(1).to_string());
    }
    if told.fits_after_us.is_none_or(|us| us > RETRY_MAX_US + 1) {
        field("x-should-retry", "false".to_string());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::samples;

    fn told(fits_after_us: Option<u64>) -> Told {
        Told { limit: 9, remaining: 0, wait_s: 7, fits_after_us, unit: LimitUnit::Tokens }
    }

    #[test]
    fn all_formatted_bodies_are_json_that_names_the_unit() {
        let policy = Policy { error_format: ErrorFormatChoice::Auto, ..samples::policy(Vec::new()) };
        let bodies = RefusalBodies::of(&policy);
        for format in FORMATS {
            for kind in RefusalKind::ALL {
                let body = bodies.of_kind(format, kind, None);
                assert_eq!(body.content_type, Some("application/json"));
                let json: serde_json::Value = serde_json::from_slice(&body.body).unwrap();
                let message = json["error"]["message"].as_str().unwrap();
                assert_eq!(message.contains("tokens"), kind != RefusalKind::Requests, "{message}");
            }
        }
        let body = bodies.of_kind(ErrorFormat::Gemini, RefusalKind::Tokens, Some(&told(Some(6_100_001)))).body;
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&json["error"]["code"], &json["error"]["details"][0]["retryDelay"]), (&429.into(), &"7s".into()));
        let plain = bodies.of_kind(ErrorFormat::Plain, RefusalKind::Tokens, None);
        assert_eq!((plain.body.as_slice(), plain.content_type), (policy.rejected_msg.as_bytes(), None));
        let stated = Policy { is_message_stated: true, rejected_msg: "no".into(), ..policy };
        let stated = RefusalBodies::of(&stated);
        assert_eq!(&*stated.of_kind(ErrorFormat::OpenAi, RefusalKind::Tokens, None).body, b"no");
    }

    #[test]
    fn a_client_is_told_when_to_try_again_and_when_not_to() {
        let headers = |told| -> Vec<String> {
            let headers = retry_headers(ErrorFormat::OpenAi, Some(&told));
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
        };
        assert_eq!(headers(told(Some(6_100_001))), ["retry-after: 7", "retry-after-ms: 6101"]);
        assert_eq!(headers(told(Some(60_000_001))).len(), 2);
        assert_eq!(headers(told(Some(60_000_002)))[2..], ["x-should-retry: false"]);
        assert_eq!(headers(told(None)), ["x-should-retry: false"], "it never fits");
        assert!(retry_headers(ErrorFormat::Plain, Some(&told(Some(1)))).is_empty());
        assert!(retry_headers(ErrorFormat::OpenAi, None).is_empty());
    }
}
