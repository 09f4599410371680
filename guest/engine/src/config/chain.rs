//! The whole document: that of one filter, or a list of those of several.

use alloc::{rc::Rc, string::String, vec::Vec};

use slidegate_document::{Content, Node, Path, Reader, elements, emptiness, nearest};

use super::{
    cache,
    filter_rules::{FilterRules, ToldFields},
    known_fields, ruleset,
    service::ServiceTable,
    session,
    shared::SharedCounters,
    vault,
};
use crate::{
    request::is_cookie_alike,
    rule::{Policy, Source, hits::CONSUMER},
    session::{SOURCES_MAX, SessionSource, is_alike},
};

const FILTERS: &str = known_fields::CHAIN[0];
const SESSION: &str = known_fields::SESSION_FILTER[0];
const VAULT: &str = known_fields::VAULT_FILTER[0];
const CACHE: &str = known_fields::CACHE_FILTER[0];

/// What makes a filter one of another kind than a limiter.
const NO_LIMITERS: [&str; 3] = [SESSION, VAULT, CACHE];

/// Whether a document is a list of filters.
pub(super) fn is_list(document: &Node) -> bool {
    document.get(FILTERS).is_some()
}

/// Reads a document; what could not be understood is reported and missing in the result.
pub(super) fn read(reader: &mut Reader, services: &mut ServiceTable, document: &Node) -> Vec<FilterRules> {
    let mut shared = SharedCounters::default();
    if !is_list(document) {
        let known = &known_fields::CHAIN;
        return filter(reader, services, &mut shared, &ToldFields::default(), Path::Root, document, known)
            .into_iter()
            .collect();
    }
    let known: Vec<&str> = known_fields::CHAIN.into_iter().chain(known_fields::DOCUMENT).chain(filters_own()).collect();
    let Some(fields) = reader.object(Path::Root, document, &known) else { return Vec::new() };
    let of_a_filter =
        |name: &&str| *name == "_rules_" || known_fields::POLICY.contains(name) || NO_LIMITERS.contains(name);
    for name in fields.names().filter(of_a_filter) {
        reader.error(fields.at(name), format_args!("stands beside `{FILTERS}`: expected it in one of these filters"));
    }
    let Some((path, node)) = fields.get(FILTERS) else { return Vec::new() };
    if !matches!(&node.content, Content::List(filters) if !filters.is_empty()) {
        reader.error(path, format_args!("expected an array of at least one filter, got {}", emptiness(node)));
        return Vec::new();
    }
    let mut told = ToldFields::default();
    let of_list = |(path, node)| {
        shared.begin_filter();
        let rules = filter(reader, services, &mut shared, &told, path, node, &[]);
        match &rules {
            Some(rules) => told.add(rules),
            None => told.may_be_more |= ![VAULT, CACHE].iter().any(|kind| node.get(kind).is_some()),
        }
        rules
    };
    let filters: Vec<Option<FilterRules>> = elements(&path, node).map(of_list).collect();
    told_too_late(reader, path, &filters);
    cached_too_early(reader, path, &filters);
    kept_twice(reader, path, &filters);
    sought_in_too_many(reader, path, &filters);
    filters.into_iter().flatten().collect()
}

/// Reports limiters that believe in a header what a filter behind them tells: until there it is the client's.
fn told_too_late(reader: &mut Reader, path: Path<'_>, filters: &[Option<FilterRules>]) {
    for (at, ruleset) in filters.iter().enumerate().filter_map(|(at, rules)| Some((at, rules.as_ref()?.limiter()?))) {
        let mut believed: Vec<&str> = ruleset.policies().flat_map(believed_headers).collect();
        believed.dedup();
        let behind = filters.iter().skip(at.saturating_add(1)).flatten().flat_map(FilterRules::told);
        for (field, header, _) in behind {
            if believed.iter().any(|believed| is_alike(believed, &header)) {
                reader.error(
                    Path::Element(&path, at),
                    format_args!(
                        "goes by the header `{header}` before the `session` that tells `{field}` in it, as \
                                  clients claim it: expected it behind that"
                    ),
                );
            }
        }
    }
}

/// Reports caches with a session behind them, which would not be asked for what is stored, or with a vault, which may
/// leave out the cookie that tells whose a response is, and a second cache; and warns of one whose Redis keeps
/// something else.
fn cached_too_early(reader: &mut Reader, path: Path<'_>, filters: &[Option<FilterRules>]) {
    let mut caches = filters.iter().enumerate().filter_map(|(at, rules)| Some((at, rules.as_ref()?.cache()?)));
    let Some((first, cache)) = caches.next() else { return };
    if filters.iter().flatten().any(|rules| rules.counts_in(cache.redis)) {
        reader.warn(
            Path::Field(&Path::Field(&Path::Element(&path, first), CACHE), "redis"),
            "is asked by other filters too: large replies delay them, and an eviction that suits a cache drops what \
             they keep; a service of its own is better",
        );
    }
    if filters.iter().skip(first).flatten().any(|rules| rules.session().is_some()) {
        reader.error(
            Path::Element(&path, first),
            "answers with what is stored before the `session` behind it is asked whose request it is: expected it \
             behind that",
        );
    }
    let is_vault = |rules: &Option<FilterRules>| rules.as_ref().is_some_and(|rules| rules.vault().is_some());
    if let Some(at) = filters.iter().skip(first).position(is_vault) {
        reader.error(
            Path::Element(&path, first.saturating_add(at)),
            "keeps cookies behind a `cache`, which would take a response that sets one for everybody's: expected it \
             before that",
        );
    }
    if let Some((second, _)) = caches.next() {
        reader.error(Path::Element(&path, second), "keeps responses, as a filter before it does: expected one `cache`");
    }
}

/// Reports filters that keep what another one keeps: a second one of our sessions, which one response would set both,
/// a vault for their cookie, and one behind a session that would read what the vault sets.
fn kept_twice(reader: &mut Reader, path: Path<'_>, filters: &[Option<FilterRules>]) {
    let sessions = filters.iter().enumerate().filter_map(|(at, rules)| {
        let rules = rules.as_ref()?.session()?;
        match &rules.settings.source {
            SessionSource::Cookie(cookie) => Some((at, rules.own.is_some(), cookie.as_str())),
            SessionSource::Header(_) => None,
        }
    });
    let sessions: Vec<(usize, bool, &str)> = sessions.collect();
    for (at, ..) in sessions.iter().filter(|(_, is_own, _)| *is_own).skip(1) {
        reader.error(
            Path::Element(&path, *at),
            "keeps sessions, as a filter before it does: expected one of `format: own`",
        );
    }
    let vaults = filters.iter().enumerate().filter_map(|(at, rules)| Some((at, rules.as_ref()?.vault()?)));
    for (before, (at, rules)) in vaults.enumerate() {
        // Each would write all cookies of a response anew.
        if before > 0 {
            reader.error(
                Path::Element(&path, at),
                "keeps cookies, as a filter before it does: expected one `cookie_vault` with all of them",
            );
        }
        for name in &rules.cookies {
            let mut met = sessions.iter().filter(|(_, _, cookie)| is_cookie_alike(name.as_bytes(), cookie));
            match met.find(|(session_at, is_own, _)| *is_own || *session_at < at) {
                Some((_, true, _)) => reader.error(
                    Path::Element(&path, at),
                    format_args!("keeps the cookie `{name}`, which is that of a session: expected others"),
                ),
                Some((_, false, _)) => reader.error(
                    Path::Element(&path, at),
                    format_args!(
                        "keeps the cookie `{name}` behind the `session` that reads it, which would find what stands \
                         in its place: expected it before that"
                    ),
                ),
                None => {}
            }
        }
    }
}

/// Reports sessions that stand in more headers than a request can be rid of.
fn sought_in_too_many(reader: &mut Reader, path: Path<'_>, filters: &[Option<FilterRules>]) {
    let mut sources: Vec<String> = Vec::new();
    for (at, rules) in filters.iter().enumerate().filter_map(|(at, rules)| Some((at, rules.as_ref()?.session()?))) {
        for source in rules.source_headers() {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        if sources.len() > SOURCES_MAX {
            reader.error(
                Path::Element(&path, at),
                format_args!(
                    "is the session of one header more: with `-` and `_` those of all filters have {} spellings, \
                     expected at most {SOURCES_MAX}",
                    sources.len()
                ),
            );
            return;
        }
    }
}

/// The headers that a policy believes who somebody is.
fn believed_headers(policy: &Policy) -> impl Iterator<Item = &str> {
    let counted = policy.items.iter().filter_map(|item| match &item.limit_by.source {
        Source::Header(name) => Some(name.as_str()),
        Source::Consumer => Some(CONSUMER),
        _ => None,
    });
    counted.chain(policy.exempt.headers.iter().map(|(name, _)| name.as_str()))
}

/// Reads the document of a filter of any kind, which stands at this path and may have other fields of these names.
fn filter(
    reader: &mut Reader,
    services: &mut ServiceTable,
    shared: &mut SharedCounters,
    told: &ToldFields,
    path: Path<'_>,
    node: &Node,
    others: &[&'static str],
) -> Option<FilterRules> {
    let known: Vec<&str> = filters_own().chain(known_fields::DOCUMENT).chain(others.iter().copied()).collect();
    if means_no_limiter(node) {
        // That it is misspelt is all that is wrong; a limiter's fields are not missing.
        reader.object(path, node, &known);
        return None;
    }
    let Some(kind) = NO_LIMITERS.into_iter().find(|kind| node.get(kind).is_some()) else {
        let ruleset = ruleset::read(reader, services, shared, told, path, node, &known);
        return Some(FilterRules::Limiter(Rc::new(ruleset)));
    };
    let fields = reader.object(path, node, &known)?;
    for name in fields.names().filter(|name| known.contains(name) && *name != kind && *name != "_plugin_id_") {
        reader.error(fields.at(name), format_args!("stands beside `{kind}`: expected it in a filter of its own"));
    }
    let (path, node) = fields.get(kind)?;
    match kind {
        VAULT => vault::read(reader, services, path, node).map(|rules| FilterRules::Vault(Rc::new(rules))),
        CACHE => cache::read(reader, services, told, path, node).map(|rules| FilterRules::Cache(Rc::new(rules))),
        _ => session::read(reader, services, told, path, node).map(|rules| FilterRules::Session(Rc::new(rules))),
    }
}

/// Whether a filter has a field that is like that of another kind of filters, and none of a policy's.
fn means_no_limiter(node: &Node) -> bool {
    let mut names = node.members().into_iter().flatten().map(|member| member.name.as_str());
    let is_known = |name: &str| known_fields::POLICY.contains(&name) || NO_LIMITERS.contains(&name);
    !names.clone().any(is_known) && names.any(|name| !nearest(name, &NO_LIMITERS).is_empty())
}

/// The fields at the top of filters, those of limiters first.
fn filters_own() -> impl Iterator<Item = &'static str> {
    known_fields::POLICY.into_iter().chain(NO_LIMITERS)
}
