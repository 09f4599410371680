//! A filter that reads sessions, in words. No secret is shown.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::TimeSpan;

use crate::{
    config::session::REMEMBER_US,
    session::{OnMissingSession, SessionRules, SessionSource, SessionsPerUser, WhenFull},
};

/// `failure_mode: closed`, wherever it stands.
pub(super) const CLOSED: &str = "closed: requests are answered 503";

/// The facts of such a filter, each with its name; `redis` is where sessions are kept, if they are.
pub(super) fn facts(rules: &SessionRules, redis: Option<String>) -> Vec<(&'static str, String)> {
    let settings = &rules.settings;
    let source = match &settings.source {
        SessionSource::Cookie(name) => format!("cookie {name}"),
        SessionSource::Header(name) => format!("header {name}"),
    };
    let signed = match settings.secrets.len() {
        0 => String::new(),
        1 => ", signed".to_string(),
        secrets => format!(", signed by any of {secrets} secrets"),
    };
    let mut facts = alloc::vec![("session", format!("{}, in {source}{signed}", settings.format.as_str()))];
    match redis {
        Some(redis) => facts.push(("kept", format!("{redis}, keys {}...", settings.key_prefix))),
        None => facts.push((
            "kept",
            format!("whole in there, good for {}", TimeSpan(settings.max_age_s.saturating_mul(1_000_000))),
        )),
    }
    let fields = settings.fields.iter().zip(&rules.headers).map(|(field, header)| format!("{field} in {header}"));
    facts.push(("tells", fields.collect::<Vec<_>>().join(", ")));
    facts.push((
        "without one",
        match &rules.on_missing {
            OnMissingSession::Anonymous => "anonymous: requests pass".to_string(),
            OnMissingSession::Unauthorized => "answered 401".to_string(),
            OnMissingSession::Redirect(page) => format!("sent to {page}, or answered 401 if no HTML is accepted"),
        },
    ));
    if rules.redis.is_some() {
        let open = "open: requests pass as nobody's";
        facts.push(("on failure", if rules.fails_open { open } else { CLOSED }.to_string()));
    }
    if !rules.public.is_empty() {
        let paths =
            rules.public.iter().map(|public| format!("{}{}", public.path, if public.is_prefix { "*" } else { "" }));
        facts.push(("public", paths.collect::<Vec<_>>().join(", ")));
    }
    if let Some(own) = &rules.own {
        let [idle, absolute] = [own.idle_ms, own.absolute_ms].map(|ms| TimeSpan(ms.saturating_mul(1_000)));
        facts.push(("end", format!("{idle} after the last request, {absolute} after the first")));
        if let Some(SessionsPerUser { max, when_full }) = own.per_user {
            let one_more = match when_full {
                WhenFull::EndOldest => "the one used longest ago ends for one more",
                WhenFull::RefuseNewest => "one more is refused",
            };
            facts.push(("a user has", format!("at most {max}: {one_more}")));
        }
    }
    match rules.remember_us {
        REMEMBER_US => {}
        0 => facts.push(("calls", "each request asks anew".to_string())),
        longest => facts.push(("calls", format!("a session is asked for again after {}", TimeSpan(longest)))),
    }
    facts
}
