//! `cache`: a filter that keeps responses.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_cache::{FreshnessTerms, KeyQuery};
use slidegate_document::{Content, Fields, Node, Path, Reader, elements};

use super::{
    filter_rules::ToldFields,
    known_fields,
    limit_by::{cookie_name, token_header},
    service::{self, ServiceTable},
};
use crate::{
    cache::{CacheFallback, CacheGroup, CacheRules},
    sorted,
};

const SECOND_US: u64 = 1_000_000;
const DAY_US: u64 = 86_400 * SECOND_US;

/// In microseconds.
const MAX_TTL_US: u64 = 7 * DAY_US;
const TTL_US_MAX: u64 = 365 * DAY_US;
const STALE_IF_ERROR_US: u64 = DAY_US;
const STALE_US_MAX: u64 = 30 * DAY_US;
const LOCK_TIMEOUT_US: u64 = 2 * SECOND_US;
const LOCK_TIMEOUT_US_MAX: u64 = 60 * SECOND_US;

/// In bytes.
const BODY: u64 = 256 << 10;
const BODY_MAX: u64 = 960 << 10;

/// An error of an upstream, unless said otherwise.
const FAILOVER_STATUSES: [u16; 4] = [500, 502, 503, 504];

/// Where responses tell their tags, unless said otherwise.
const TAGS_HEADERS: [&str; 2] = ["surrogate-key", "cache-tag"];

/// So many parameters, and so many headers, are part of a key at most.
const KEY_PARTS_MAX: usize = 32;

/// Reads what stands in `cache`. `told`: what filters before tell.
pub(super) fn read(
    reader: &mut Reader,
    services: &mut ServiceTable,
    told: &ToldFields,
    path: Path<'_>,
    node: &Node,
) -> Option<CacheRules> {
    let given = reader.object(path, node, &known_fields::CACHE)?;
    let key = match given.get_unless_null("key") {
        Some((path, node)) => key(reader, told, path, node),
        None => Some((KeyQuery::All, Vec::new(), None)),
    };
    let default_ttl = match given.get_unless_null("default_ttl") {
        Some((path, node)) => reader.duration_us(path, node, TTL_US_MAX).map(Some),
        None => Some(None),
    };
    let max_ttl = span(reader, &given, "max_ttl", MAX_TTL_US, TTL_US_MAX);
    let stale_while_revalidate = span(reader, &given, "stale_while_revalidate", 0, STALE_US_MAX);
    let stale_if_error = span(reader, &given, "stale_if_error", STALE_IF_ERROR_US, STALE_US_MAX);
    let failover_statuses = failover_statuses(reader, &given);
    let body_max = body_max(reader, &given);
    let lock_timeout = span(reader, &given, "lock_timeout", LOCK_TIMEOUT_US, LOCK_TIMEOUT_US_MAX);
    let tags_headers = match given.get_unless_null("tags_header") {
        Some((path, node)) => token_header(reader, path, node).map(|name| [name].into()),
        None => Some(TAGS_HEADERS.map(String::from).into()),
    };
    let fallback = match given.get_unless_null("fallback") {
        Some((path, node)) => fallback(reader, path, node).map(Some),
        None => Some(None),
    };
    let redis = match given.get_unless_null("redis") {
        Some((path, node)) => service::read(reader, services, path, node),
        None => {
            reader.error(given.at("redis"), "is missing: expected where responses are kept");
            None
        }
    };
    let (query, headers, group) = key?;
    // What is no whole second counts as one more.
    let seconds = |us: u64| us.div_ceil(SECOND_US);
    Some(CacheRules {
        query,
        headers,
        group,
        known_by: told.known_by(),
        terms: FreshnessTerms {
            default_s: default_ttl?.map(seconds),
            max_s: max_ttl.map(seconds)?,
            stale_while_revalidate_s: stale_while_revalidate.map(seconds)?,
            stale_if_error_s: stale_if_error.map(seconds)?,
        },
        failover_statuses: failover_statuses?,
        body_max: body_max?,
        lock_timeout_ms: lock_timeout? / 1_000,
        tags_headers: tags_headers?,
        fallback: fallback?,
        redis: redis?,
    })
}

fn span(reader: &mut Reader, given: &Fields<'_>, name: &str, default_us: u64, longest_us: u64) -> Option<u64> {
    match given.get_unless_null(name) {
        Some((path, node)) => reader.duration_us(path, node, longest_us),
        None => Some(default_us),
    }
}

/// Which parameters, which headers, and whose.
type KeyChoice = (KeyQuery, Vec<String>, Option<CacheGroup>);

fn key(reader: &mut Reader, told: &ToldFields, path: Path<'_>, node: &Node) -> Option<KeyChoice> {
    let given = reader.object(path, node, &known_fields::CACHE_KEY)?;
    let query = match given.get_unless_null("query") {
        Some((path, node)) => query(reader, path, node),
        None => Some(KeyQuery::All),
    };
    let headers = match given.get_unless_null("headers") {
        Some((path, node)) => headers(reader, path, node),
        None => Some(Vec::new()),
    };
    let group = match given.get_unless_null("group") {
        Some((path, node)) => group(reader, told, path, node).map(Some),
        None => Some(None),
    };
    Some((query?, headers?, group?))
}

fn query(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<KeyQuery> {
    match (&node.content, node.as_str()) {
        (_, Some("all")) => return Some(KeyQuery::All),
        (_, Some("none")) => return Some(KeyQuery::None),
        (Content::List(names), _) if (1..=KEY_PARTS_MAX).contains(&names.len()) => {}
        _ => {
            let what = alloc::format!("`all`, `none`, or an array of 1 to {KEY_PARTS_MAX} names of parameters");
            reader.expected(path, node, what);
            return None;
        }
    }
    let mut names = Vec::new();
    let mut is_understood = true;
    for (path, node) in elements(&path, node) {
        match reader.text(path, node) {
            Some(name) if !name.is_empty() => names.push(name),
            Some(_) => {
                reader.error(path, "expected the name of a parameter, got an empty text");
                is_understood = false;
            }
            None => is_understood = false,
        }
    }
    is_understood.then_some(KeyQuery::Names(names))
}

fn headers(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Vec<String>> {
    if !matches!(&node.content, Content::List(names) if names.len() <= KEY_PARTS_MAX) {
        reader.expected(path, node, alloc::format!("an array of up to {KEY_PARTS_MAX} names of headers"));
        return None;
    }
    let names: Vec<Option<String>> =
        elements(&path, node).map(|(path, node)| token_header(reader, path, node)).collect();
    let mut names: Vec<String> = names.into_iter().collect::<Option<_>>()?;
    sorted::sort_each_once(&mut names);
    Some(names)
}

fn group(reader: &mut Reader, told: &ToldFields, path: Path<'_>, node: &Node) -> Option<CacheGroup> {
    let given = reader.object(path, node, &known_fields::CACHE_GROUP)?;
    match (given.get("session"), given.get("cookie")) {
        (Some((path, node)), None) => {
            let field = reader.text(path, node)?;
            let found = told.get(&field);
            if found.is_none() && !told.may_be_more {
                reader.expected(path, node, "a field that a `session` filter before this one tells");
            }
            let (header, source) = found?;
            Some(CacheGroup::Session { header: header.to_string(), source: source.clone() })
        }
        (None, Some((path, node))) => {
            let name = reader.text(path, node)?;
            cookie_name(reader, path, node, &name).map(CacheGroup::Cookie)
        }
        _ => {
            reader.error(path, "expected either `session` or `cookie`");
            None
        }
    }
}

fn failover_statuses(reader: &mut Reader, given: &Fields<'_>) -> Option<Vec<u16>> {
    let Some((path, node)) = given.get_unless_null("failover_statuses") else { return Some(FAILOVER_STATUSES.into()) };
    if !matches!(&node.content, Content::List(_)) {
        reader.expected(path, node, "an array of statuses from 500 to 599");
        return None;
    }
    let read = elements(&path, node).map(|(path, node)| reader.whole(path, node, 500..=599));
    let statuses: Vec<Option<u64>> = read.collect();
    statuses.into_iter().map(|status| u16::try_from(status?).ok()).collect()
}

fn body_max(reader: &mut Reader, given: &Fields<'_>) -> Option<usize> {
    let Some((path, node)) = given.get_unless_null("max_body") else { return usize::try_from(BODY).ok() };
    usize::try_from(reader.size(path, node, 1..=BODY_MAX)?).ok()
}

fn fallback(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<CacheFallback> {
    let given = reader.object(path, node, &known_fields::CACHE_FALLBACK)?;
    let status = match given.get_unless_null("status") {
        Some((path, node)) => reader.whole(path, node, 200..=599),
        None => Some(503),
    };
    let content_type = match given.get_unless_null("content_type") {
        Some((path, node)) => reader.text(path, node).and_then(|text| {
            let is_value = !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if !is_value {
                reader.expected(path, node, "a content type such as `text/html`");
            }
            is_value.then_some(text)
        }),
        None => Some("text/plain; charset=utf-8".to_string()),
    };
    let body = match given.get_unless_null("body") {
        Some((path, node)) => reader.text(path, node),
        None => {
            reader.error(given.at("body"), "is missing: expected the text of the answer");
            None
        }
    };
    let status = u16::try_from(status?).ok()?;
    Some(CacheFallback { status, content_type: content_type?, body: Rc::new(body?.into_bytes()) })
}
