//! Sessions that are a hash in Redis: with a text in each field, and those of Spring Session.

use alloc::vec::Vec;
use core::str;

use super::{fields::FoundFields, java, json, miss::SessionMiss};

/// What the fields of an application begin with in Spring's hash.
const ATTRIBUTE: &[u8] = b"sessionAttr:";
const LAST_ACCESSED_TIME: &[u8] = b"lastAccessedTime";
const MAX_INACTIVE_INTERVAL: &[u8] = b"maxInactiveInterval";

/// Reads a hash whose values are texts.
pub(super) fn read_hash<'r>(pairs: impl IntoIterator<Item = (&'r [u8], &'r [u8])>, found: &mut FoundFields<'_>) {
    for (name, value) in pairs {
        let field = found.enter(found.record(), name);
        found.text(field, value);
    }
}

/// The fields of Spring's hash that are looked at where these of the application are wanted.
pub(super) fn spring_fields<'n>(names: impl Iterator<Item = &'n str>) -> impl Iterator<Item = Vec<u8>> {
    let attributes = names.map(|name| [ATTRIBUTE, name.as_bytes()].concat());
    [LAST_ACCESSED_TIME, MAX_INACTIVE_INTERVAL].map(<[u8]>::to_vec).into_iter().chain(attributes)
}

/// Reads a hash of Spring Session, whose values are JSON or Java's. Tells when it ends, in milliseconds since 1970, if
/// it does.
///
/// Its key may live longer than the session, so that listeners can be told of its end: what counts is in it.
pub(super) fn read_spring<'r>(
    pairs: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    found: &mut FoundFields<'_>,
) -> Result<Option<i64>, SessionMiss> {
    let (mut last_accessed_ms, mut interval_s) = (None, None);
    for (name, value) in pairs {
        match name {
            LAST_ACCESSED_TIME => last_accessed_ms = Some(whole_number(value)?),
            MAX_INACTIVE_INTERVAL => interval_s = Some(whole_number(value)?),
            name => {
                let Some(name) = name.strip_prefix(ATTRIBUTE) else { continue };
                let attribute = found.enter(found.record(), name);
                if attribute.is_idle() {
                    continue;
                }
                if !java::is_java(value) {
                    json::read_jackson(value, attribute, found)?;
                } else if let Some(text) = java::read_value(value)? {
                    found.text(attribute, &text);
                }
            }
        }
    }
    // Without them Spring itself takes the session for broken.
    let (Some(last_accessed_ms), Some(interval_s)) = (last_accessed_ms, interval_s) else {
        return Err(SessionMiss::Undecodable);
    };
    if interval_s == 0 {
        // So Spring ends one, whatever the clocks say.
        return Err(SessionMiss::Expired);
    }
    let ends_ms = last_accessed_ms.saturating_add(interval_s.saturating_mul(1_000));
    Ok((interval_s >= 0).then_some(ends_ms))
}

fn whole_number(value: &[u8]) -> Result<i64, SessionMiss> {
    let of_java;
    let digits = if java::is_java(value) {
        of_java = java::read_value(value)?.ok_or(SessionMiss::Undecodable)?;
        &of_java
    } else {
        value
    };
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(SessionMiss::Undecodable)
}
