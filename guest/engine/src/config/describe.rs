//! A configuration in words, for a person who wants to know what was understood.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::{Config, document::float_text, limit::Span, reader::shortened};
use crate::{
    key::limit_type,
    redis::Service,
    rule::{ClientIp, FailureMode, Limit, LimitBy, Policy, QuotaHeaders, RuleItem, RuleMatch, Scope, Source, Trust},
};

/// Of longer lists of keys and names only so many are shown.
const SHOWN_MAX: usize = 20;
/// Longer texts are shortened, in characters.
const TEXT_MAX: usize = 80;

/// Writes a configuration out, a line a fact.
pub(super) struct Description<'a>(pub(super) &'a Config);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ruleset = &self.0.ruleset;
        for (scope, policy) in &ruleset.scoped {
            writeln!(f, "{}", scope_text(scope))?;
            self.policy(f, policy)?;
        }
        let others = if ruleset.scoped.is_empty() { "every request" } else { "every other request" };
        match &ruleset.fallback {
            Some(policy) => {
                writeln!(f, "{others}")?;
                self.policy(f, policy)
            }
            None => writeln!(f, "{others}: passes, no limits"),
        }
    }
}

impl Description<'_> {
    fn policy(&self, f: &mut fmt::Formatter<'_>, policy: &Policy) -> fmt::Result {
        line(f, "rule name", text(&policy.rule_name))?;
        if !policy.global.is_empty() {
            line(f, "all together", limits(&policy.global))?;
        }
        if !policy.items.is_empty() {
            line(f, "rules", rule_match(policy.rule_match))?;
        }
        for (number, item) in (1..).zip(&policy.items) {
            rule_item(f, number, item)?;
        }
        let service = policy.redis.and_then(|index| usize::try_from(index).ok()).and_then(|index| self.0.services.get(index));
        match service {
            Some(service) => {
                line(f, "windows", redis(service))?;
                line(f, "on failure", failure_mode(policy.failure_mode))?;
                for (is_off, what) in [
                    (policy.remember_refusals.is_none(), "Redis is asked about every request, refused before or not"),
                    (!policy.coalesce, "each request is a call of its own"),
                ] {
                    if is_off {
                        line(f, "calls", what)?;
                    }
                }
            }
            None => line(f, "windows", "in the memory of this instance, no Redis")?,
        }
        line(f, "refusal", format_args!("{}, {}", policy.rejected_code, text(&policy.rejected_msg)))?;
        line(f, "headers", headers(policy.headers))?;
        if policy.dry_run {
            line(f, "dry run", "every limit is counted, none refuses")?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<14}{value}")
}

fn rule_item(f: &mut fmt::Formatter<'_>, number: usize, item: &RuleItem) -> fmt::Result {
    let dry_run = if item.dry_run { ", dry run: never refuses" } else { "" };
    let limit_by = &item.limit_by;
    writeln!(f, "    {number}. by {} ({}){dry_run}", source(limit_by), limit_type(limit_by))?;
    let entries = &item.keys.entries;
    let keys: Vec<String> = entries.iter().take(SHOWN_MAX).map(|entry| text(&entry.key)).collect();
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or_default();
    for (key, entry) in keys.iter().zip(entries) {
        writeln!(f, "       {key:<width$}  {}", limits(&entry.limits))?;
    }
    match entries.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(f, "       ... and {} more", grouped(more)),
    }
}

fn scope_text(scope: &Scope) -> String {
    match scope {
        Scope::Route(routes) => format!("route {}", names(routes)),
        Scope::RouteAndService(routes, services) => format!("route {}, of service {}", names(routes), names(services)),
        Scope::RoutePrefix(prefixes) => format!("route beginning with {}", names(prefixes)),
        Scope::Domain(domains) => format!("host {}", names(domains)),
        Scope::Service(services) => format!("service {}", names(services)),
    }
}

fn names(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| text(name)).collect();
    let mut listed = shown.join(" or ");
    if let more @ 1.. = names.len().saturating_sub(SHOWN_MAX) {
        listed.push_str(&format!(" ... and {} more", grouped(more)));
    }
    listed
}

fn source(limit_by: &LimitBy) -> String {
    match &limit_by.source {
        Source::Header(name) => format!("header {}", text(name)),
        Source::Param(name) => format!("query parameter {}", text(name)),
        Source::Consumer => format!("consumer, header {}", text(&limit_by.key_name)),
        Source::Cookie(name) => format!("cookie {}", text(name)),
        Source::Ip(client) => client_ip(client),
    }
}

fn client_ip(client: &ClientIp) -> String {
    let mut words = match &client.header {
        None => "address of the peer".to_string(),
        Some(header) => {
            let which = match &client.trust {
                Trust::Leftmost => "leftmost address, which clients can forge".to_string(),
                Trust::Hops(hops) => format!("address after {hops} from the right"),
                Trust::Proxies { networks, .. } => format!("rightmost address in none of {}", proxies_text(networks)),
            };
            format!("{which}, of header {}", text(header))
        }
    };
    if client.ipv6_prefix < 128 {
        words.push_str(&format!(", IPv6 by /{}", client.ipv6_prefix));
    }
    words
}

fn proxies_text(proxies: &[ipnet::IpNet]) -> String {
    let shown: Vec<String> = proxies.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    match proxies.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), grouped(more)),
    }
}

fn limits(limits: &[Limit]) -> String {
    let texts: Vec<String> = limits.iter().map(limit).collect();
    texts.join("; and ")
}

fn limit(limit: &Limit) -> String {
    let count = format!("{} per {}", limit.limit, Span(limit.window_us));
    match limit.slot_us {
        1 => format!("{count}, exact"),
        slot_us => format!("{count}, slots of {}", Span(slot_us)),
    }
}

fn rule_match(rule_match: RuleMatch) -> &'static str {
    match rule_match {
        RuleMatch::First => "the first that matches decides",
        RuleMatch::All => "all that match must admit",
    }
}

/// Only what is said there: a gateway may know database and password better.
fn redis(service: &Service) -> String {
    let Service { service_name, port, database, timeout_ms, .. } = service;
    let database = if *database == 0 { String::new() } else { format!(", database {database}") };
    let user = if service.username.is_empty() { String::new() } else { format!(", user {}", text(&service.username)) };
    let password = if service.password.is_empty() { "" } else { ", with a password" };
    format!("in Redis {}:{port}{database}{user}{password}, timeout {timeout_ms} ms", shortened(service_name, TEXT_MAX))
}

fn failure_mode(mode: FailureMode) -> String {
    match mode {
        FailureMode::Open => "open: requests pass".to_string(),
        FailureMode::Closed => "closed: requests are answered 503".to_string(),
        FailureMode::Local { share } => format!("local: windows in memory, with {} of each limit", float_text(share)),
    }
}

fn headers(headers: QuotaHeaders) -> String {
    let QuotaHeaders { reset, quota, ietf, retry_after, degraded } = headers;
    let families = [
        (quota, "x-ratelimit-limit and x-ratelimit-remaining"),
        (reset, "x-ratelimit-reset on refusals"),
        (ietf, "RateLimit-Policy and RateLimit"),
        (retry_after, "Retry-After on refusals"),
        (degraded, "x-slidegate-degraded when Redis fails"),
    ];
    let shown: Vec<&str> = families.into_iter().filter_map(|(shown, name)| shown.then_some(name)).collect();
    if shown.is_empty() { "none".to_string() } else { shown.join(", ") }
}

/// A text in quotation marks if it would not stand out otherwise, on one line and not too long.
fn text(text: &str) -> String {
    let short = shortened(text, TEXT_MAX);
    let is_plain = !short.is_empty() && !short.contains(char::is_whitespace);
    if is_plain { short } else { format!("\"{short}\"") }
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
