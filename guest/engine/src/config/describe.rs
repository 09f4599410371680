//! A configuration in words, for a person who wants to know what was understood.

mod cache;
mod session;
mod tokens;

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::{self, Write};

use slidegate_document::{TimeSpan, float_text, key_shown, shortened};

use super::{
    filter_rules::FilterRules,
    limit_keys::{ANY, REGEXP},
    policy::REMEMBER_US,
};
use crate::{
    key::limit_type,
    redis::Service,
    rule::{
        ClientIp, Exempt, FailureMode, KeyEntry, Limit, LimitBy, LimitUnit, OnMissing, Policy, QuotaHeaders, RuleItem,
        RuleMatch, Ruleset, Scope, Source, Take, Trust,
    },
};

/// Of longer lists of keys and names only so many are shown.
const SHOWN_MAX: usize = 20;
/// Longer texts are shortened, in characters.
const TEXT_MAX: usize = 80;

/// Writes a configuration out, a line a fact.
pub(super) struct Description<'a> {
    pub(super) filters: &'a [FilterRules],
    pub(super) is_list: bool,
    pub(super) services: &'a [Service],
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let policies = self.filters.iter().filter_map(FilterRules::limiter).flat_map(|ruleset| ruleset.policies());
        policies.for_each(|policy| *names.entry(&policy.rule_name).or_default() += 1);
        for (place, filter) in self.filters.iter().enumerate() {
            if !self.is_list {
                self.filter(f, filter, &names)?;
                continue;
            }
            writeln!(f, "filters[{place}]")?;
            let mut text = String::new();
            self.filter(&mut text, filter, &names)?;
            text.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

impl Description<'_> {
    fn filter(&self, f: &mut dyn Write, filter: &FilterRules, names: &BTreeMap<&str, usize>) -> fmt::Result {
        match filter {
            FilterRules::Limiter(ruleset) => self.ruleset(f, ruleset, names),
            FilterRules::Session(rules) => {
                writeln!(f, "every request")?;
                let facts = session::facts(rules, self.service(rules.redis).map(redis));
                facts.into_iter().try_for_each(|(name, fact)| line(f, name, fact))
            }
            FilterRules::Vault(rules) => {
                writeln!(f, "every request")?;
                line(f, "cookie vault", rules.cookies.join(", "))?;
                let place = self.service(Some(rules.redis)).map(redis).unwrap_or_default();
                let kept = TimeSpan(rules.keep_ms.saturating_mul(1_000));
                line(f, "kept", format!("{place}, keys {}..., for {kept}", rules.key_prefix))?;
                let open = "open: requests pass without the cookie";
                line(f, "on failure", if rules.fails_open { open } else { session::CLOSED })
            }
            FilterRules::Cache(rules) => {
                writeln!(f, "every request")?;
                let facts = cache::facts(rules, self.service(Some(rules.redis)).map(redis));
                facts.into_iter().try_for_each(|(name, fact)| line(f, name, fact))
            }
        }
    }

    fn service(&self, index: Option<u32>) -> Option<&Service> {
        self.services.get(usize::try_from(index?).ok()?)
    }

    /// Writes the rules of a limiter out, where rules have these names, each so often.
    fn ruleset(&self, f: &mut dyn Write, ruleset: &Ruleset, names: &BTreeMap<&str, usize>) -> fmt::Result {
        let namesakes = |policy: &Policy| names.get(policy.rule_name.as_str()).map_or(0, |count| count - 1);
        for (scope, policy) in &ruleset.scoped {
            writeln!(f, "{}", scope_text(scope))?;
            self.policy(f, policy, namesakes(policy))?;
        }
        let others = if ruleset.scoped.is_empty() { "every request" } else { "every other request" };
        match &ruleset.fallback {
            Some(policy) => {
                writeln!(f, "{others}")?;
                self.policy(f, policy, namesakes(policy))
            }
            None => writeln!(f, "{others}: passes, no limits"),
        }
    }

    /// Writes a policy out, of which so many others have the name.
    fn policy(&self, f: &mut dyn Write, policy: &Policy, namesakes: usize) -> fmt::Result {
        line(f, "rule name", text(&policy.rule_name))?;
        if namesakes > 0 {
            let others =
                if namesakes == 1 { "the other".to_string() } else { format!("{} others", grouped(namesakes)) };
            line(f, "metrics", format_args!("counted together with those of {others} of this rule name"))?;
        }
        if !policy.exempt.is_empty() {
            line(f, "exempt", exempt(&policy.exempt))?;
        }
        if !policy.global.is_empty() {
            line(f, "all together", format_args!("{}{}", limits(&policy.global), name(policy.global_name.as_deref())))?;
        }
        if !policy.items.is_empty() {
            line(f, "rules", rule_match(policy.rule_match))?;
        }
        for (number, item) in (1..).zip(&policy.items) {
            rule_item(f, number, item)?;
            if let Some(terms) = tokens::of_item(policy, item) {
                writeln!(f, "       tokens: {terms}")?;
            }
        }
        match self.service(policy.redis) {
            Some(service) => {
                line(f, "windows", redis(service))?;
                line(f, "on failure", failure_mode(policy.failure_mode))?;
                match policy.remember_refusals {
                    None => line(f, "calls", "Redis is asked about every request, refused before or not")?,
                    Some(REMEMBER_US) => {}
                    Some(longest) => line(
                        f,
                        "calls",
                        format_args!("who was refused is asked about again after {} at most", TimeSpan(longest)),
                    )?,
                }
                if !policy.coalesce {
                    line(f, "calls", "each request is a call of its own")?;
                }
                if let Some(keys) = policy.max_new_keys_per_second {
                    line(f, "new keys", format_args!("at most {keys} a second of each rule"))?;
                }
            }
            None => line(f, "windows", "in the memory of this instance, no Redis")?,
        }
        let fields: Vec<String> =
            policy.rejected_headers.iter().map(|(name, value)| format!(", {name}: {}", text(value))).collect();
        line(
            f,
            "refusal",
            format_args!("{}, {}{}", policy.rejected_code, text(&policy.rejected_msg), fields.concat()),
        )?;
        line(f, "headers", headers(policy))?;
        let of_tokens = [("tokens", tokens::of_policy(policy)), ("error format", tokens::error_format(policy))];
        for (name, value) in of_tokens.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            line(f, name, value)?;
        }
        if policy.dry_run {
            line(f, "dry run", "every limit is counted, none refuses")?;
        }
        Ok(())
    }
}

fn line(f: &mut dyn Write, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<14}{value}")
}

fn rule_item(f: &mut dyn Write, number: usize, item: &RuleItem) -> fmt::Result {
    let dry_run = if item.dry_run { ", dry run: never refuses" } else { "" };
    let hashed = if item.hash.is_some() { ", hashed in Redis" } else { "" };
    let limit_by = &item.limit_by;
    let name = name(item.name.as_deref());
    let new_keys =
        item.max_new_keys_per_second.map(|keys| format!(", at most {keys} new keys a second")).unwrap_or_default();
    writeln!(f, "    {number}. by {}{name}{}{hashed}{new_keys}{dry_run}", counted_by(limit_by), take(item.take))?;
    let entries = &item.keys.entries;
    let keys: Vec<String> = entries.iter().take(SHOWN_MAX).map(|entry| key(item, entry)).collect();
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or_default();
    for (key, entry) in keys.iter().zip(entries) {
        writeln!(f, "       {key:<width$}  {}", entry_limits(limit_by, entry))?;
    }
    if let more @ 1.. = entries.len().saturating_sub(SHOWN_MAX) {
        writeln!(f, "       ... and {} more", grouped(more))?;
    }
    match (item.on_missing, &limit_by.source) {
        (OnMissing::Refuse, _) => writeln!(f, "       without a value: refused"),
        (OnMissing::Count, _) => {
            let entry = item.keys.of_missing();
            writeln!(
                f,
                "       without a value: all together, as {}",
                entry.map(|entry| key(item, entry)).unwrap_or_default()
            )
        }
        // There is always a peer.
        (OnMissing::Pass, Source::Ip(_)) => Ok(()),
        (OnMissing::Pass, _) => writeln!(f, "       without a value: not limited by this rule"),
    }
}

/// What the limits of an entry hold for.
fn entry_limits(limit_by: &LimitBy, entry: &KeyEntry) -> String {
    let is_pattern = limit_by.per && (entry.key == ANY || entry.key.starts_with(REGEXP));
    let is_network = entry.network.is_some_and(|network| network.prefix_len() < network.max_prefix_len());
    match (entry.unlimited, entry.together, is_pattern || is_network) {
        (true, ..) => "unlimited".to_string(),
        (false, true, _) => format!("all together: {}", limits(&entry.limits)),
        (false, false, true) => format!("each value: {}", limits(&entry.limits)),
        (false, false, false) => limits(&entry.limits),
    }
}

/// A key; of one that opens doors only the beginning.
fn key(item: &RuleItem, entry: &KeyEntry) -> String {
    let is_pattern = entry.key == ANY || item.limit_by.per && entry.key.starts_with(REGEXP);
    let is_open = is_pattern || !item.is_secret && entry.network.is_some();
    if is_open { text(&entry.key) } else { text(&key_shown(&entry.key, item.is_secret)) }
}

fn name(name: Option<&str>) -> String {
    name.map(|name| format!(", name {}", text(name))).unwrap_or_default()
}

fn take(take: Take) -> &'static str {
    match take {
        Take::First => "",
        Take::Last => ", the last of several",
        Take::All => ", each of several",
        Take::Refuse => ", several refused",
    }
}

/// Values of headers are not shown: who knows one is exempt.
fn exempt(exempt: &Exempt) -> String {
    let mut words = Vec::new();
    if !exempt.routes.is_empty() {
        words.push(format!("route {}", names(&exempt.routes)));
    }
    if !exempt.methods.is_empty() {
        words.push(format!("method {}", names(&exempt.methods)));
    }
    if !exempt.networks.is_empty() {
        words.push(format!("peer in {}", networks_text(&exempt.networks)));
    }
    words.extend(exempt.headers.iter().map(|(name, values)| {
        let any = if values.iter().any(|value| value == ANY) {
            "any value, which every client can send"
        } else {
            "its value"
        };
        format!("header {} with {any}", text(name))
    }));
    words.join("; or ")
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

/// What a rule counts by, and the field that says so.
pub(crate) fn counted_by(limit_by: &LimitBy) -> String {
    format!("{} ({})", source(limit_by), limit_type(limit_by))
}

fn source(limit_by: &LimitBy) -> String {
    match &limit_by.source {
        Source::Header(name) => format!("header {}", text(name)),
        Source::Param(name) => format!("query parameter {}", text(name)),
        Source::Consumer => format!("consumer, header {}", text(&limit_by.key_name)),
        Source::Cookie(name) => format!("cookie {}", text(name)),
        Source::Session(header) => {
            format!("field {} of the session, header {}", text(&limit_by.key_name), text(header))
        }
        Source::Ip(client) => client_ip(client),
    }
}

fn client_ip(client: &ClientIp) -> String {
    let mut words = match &client.header {
        None => "address of the peer".to_string(),
        Some(header) => {
            let which = match &client.trust {
                Trust::Leftmost => "leftmost address, which clients can forge,".to_string(),
                Trust::Hops(hops) => format!("address after {hops} from the right"),
                Trust::Proxies { networks, .. } => format!("rightmost address in none of {}", networks_text(networks)),
            };
            format!("{which} of header {}, else of the peer", text(header))
        }
    };
    if client.ipv4_prefix < 32 {
        words.push_str(&format!(", IPv4 by /{}", client.ipv4_prefix));
    }
    if client.ipv6_prefix < 128 {
        words.push_str(&format!(", IPv6 by /{}", client.ipv6_prefix));
    }
    words
}

fn networks_text(networks: &[ipnet::IpNet]) -> String {
    let shown: Vec<String> = networks.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    match networks.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), grouped(more)),
    }
}

fn limits(limits: &[Limit]) -> String {
    let texts: Vec<String> = limits.iter().map(limit).collect();
    texts.join("; and ")
}

fn limit(limit: &Limit) -> String {
    let unit = if limit.unit == LimitUnit::Tokens { " tokens" } else { "" };
    let count = format!("{}{unit} per {}", limit.limit, TimeSpan(limit.window_us));
    match limit.slot_us {
        1 => format!("{count}, exact"),
        slot_us => format!("{count}, slots of {}", TimeSpan(slot_us)),
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
    // A name with a port in it must not look as if the two were one.
    let port = if service_name.contains(':') { format!(", port {port}") } else { format!(":{port}") };
    let database = if *database == 0 { String::new() } else { format!(", database {database}") };
    let user = if service.username.is_empty() { String::new() } else { format!(", user {}", text(&service.username)) };
    let password = if service.password.is_empty() { "" } else { ", with a password" };
    format!("in Redis {}{port}{database}{user}{password}, timeout {timeout_ms} ms", shortened(service_name, TEXT_MAX))
}

fn failure_mode(mode: FailureMode) -> String {
    match mode {
        FailureMode::Open => "open: requests pass".to_string(),
        FailureMode::Closed => session::CLOSED.to_string(),
        FailureMode::Local { share } => format!("local: windows in memory, with {} of each limit", float_text(share)),
    }
}

/// Those that its limits can have shown.
fn headers(policy: &Policy) -> String {
    let QuotaHeaders { reset, token_reset, quota, ietf, retry_after, openai_tokens, anthropic_tokens, degraded } =
        policy.headers;
    let (requests, tokens) = (policy.counts(LimitUnit::Requests), policy.counts_tokens());
    let reset_of_tokens =
        if requests { "x-tokenratelimit-reset on those for tokens" } else { "x-tokenratelimit-reset on refusals" };
    let families = [
        (quota && requests, "x-ratelimit-limit and x-ratelimit-remaining"),
        (reset && requests, "x-ratelimit-reset on refusals"),
        (token_reset, reset_of_tokens),
        (ietf, "RateLimit-Policy and RateLimit"),
        (retry_after, "Retry-After on refusals"),
        (
            openai_tokens && tokens,
            "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens and x-ratelimit-reset-tokens",
        ),
        (
            anthropic_tokens && tokens,
            "anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining and \
             anthropic-ratelimit-tokens-reset",
        ),
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
