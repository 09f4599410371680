//! What is said of sessions that Slidegate keeps itself.

use slidegate_document::{Fields, Reader};

use crate::session::{OwnSessionRules, SessionFormat, SessionsPerUser, WhenFull};

/// How long a session lasts without a request, and at all, unless said otherwise, in microseconds.
const IDLE_US: u64 = 30 * 60_000_000;
const ABSOLUTE_US: u64 = 12 * 3_600_000_000;

/// The longest, in microseconds.
const LASTING_US_MAX: u64 = 365 * 24 * 3_600_000_000;

/// How many sessions a user may have at most.
const PER_USER_MAX: u64 = 1_000;

/// The fields that have a use with these sessions only.
const NAMES: [&str; 4] = ["idle", "absolute", "max_per_user", "when_full"];

/// Reads how sessions are kept. None inside: it is the application that keeps them.
pub(super) fn read(reader: &mut Reader, given: &Fields<'_>, format: SessionFormat) -> Option<Option<OwnSessionRules>> {
    if format != SessionFormat::Own {
        let mut is_understood = true;
        for (path, _) in NAMES.into_iter().filter_map(|name| given.get_unless_null(name)) {
            reader.error(
                path,
                format_args!("has no use with `format: {}`: the application keeps its sessions", format.as_str()),
            );
            is_understood = false;
        }
        return is_understood.then_some(None);
    }
    let has_user = given.get_unless_null("user").is_some();
    if !has_user {
        reader.error(given.at("user"), "is missing: expected which of `fields` says whose session it is");
    }
    let absolute_ms = lasting_ms(reader, given, "absolute", ABSOLUTE_US);
    let idle_us = absolute_ms.map_or(IDLE_US, |absolute_ms| IDLE_US.min(absolute_ms.saturating_mul(1_000)));
    let idle_ms = lasting_ms(reader, given, "idle", idle_us);
    let per_user = per_user(reader, given);
    let (idle_ms, absolute_ms) = (idle_ms?, absolute_ms?);
    if idle_ms > absolute_ms {
        reader.error(given.at("idle"), "is longer than `absolute`: expected at most as long");
        return None;
    }
    let own = OwnSessionRules { idle_ms, absolute_ms, per_user: per_user? };
    has_user.then_some(Some(own))
}

fn lasting_ms(reader: &mut Reader, given: &Fields<'_>, name: &str, default_us: u64) -> Option<u64> {
    let Some((path, node)) = given.get_unless_null(name) else { return Some(default_us / 1_000) };
    Some(reader.lasting_us(path, node, LASTING_US_MAX)? / 1_000)
}

fn per_user(reader: &mut Reader, given: &Fields<'_>) -> Option<Option<SessionsPerUser>> {
    let when_full = match given.get_unless_null("when_full") {
        Some((path, node)) => {
            let choices = [("end_oldest", WhenFull::EndOldest), ("refuse_newest", WhenFull::RefuseNewest)];
            Some(reader.choice(path, node, &choices)?)
        }
        None => None,
    };
    let Some((path, node)) = given.get_unless_null("max_per_user") else {
        if when_full.is_some() {
            reader.error(given.at("when_full"), "has no use without `max_per_user`");
            return None;
        }
        return Some(None);
    };
    let max = u32::try_from(reader.whole(path, node, 1..=PER_USER_MAX)?).ok()?;
    Some(Some(SessionsPerUser { max, when_full: when_full.unwrap_or(WhenFull::EndOldest) }))
}
