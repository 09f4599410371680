//! The rules as compiled from a configuration, and the choice of those that a request meets.

mod exempt;
pub mod hits;
#[cfg(test)]
pub(crate) mod samples;
mod scope;
mod tokens;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use ipnet::IpNet;

use crate::{ip_set::IpSet, regexp::Pattern};
pub use crate::{request::Take, value_hash::ValueHash};

pub use exempt::Exempt;
pub(crate) use tokens::is_completion;
pub use tokens::{
    Accounting, Admission, CutAs, ErrorFormat, ErrorFormatChoice, LimitUnit, OnExhausted, OnMissingUsage, Reserve,
    TokenCharge, TokenTerms,
};

/// The owner of the limits in `global_threshold`.
pub(crate) const GLOBAL: usize = 0;

/// A whole configuration: the policies for matched requests in order, and the one for the rest.
///
/// ```
/// use slidegate_engine::config::Config;
///
/// let document = br#"{"rule_name": "orders", "global_threshold": {"query_per_minute": 10}}"#;
/// let config = Config::read(document).expect("no mistakes");
/// let ruleset = config.limiters().next().expect("one filter");
/// let policy = ruleset.fallback.as_ref().expect("it is for every request");
/// assert_eq!((policy.rule_name.as_str(), policy.global.len()), ("orders", 1));
/// ```
#[derive(Debug, Default)]
pub struct Ruleset {
    /// `_rules_`: the first whose scope matches applies.
    pub scoped: Vec<(Scope, Policy)>,
    /// The top-level configuration, which applies when no scoped one does. None: such requests pass.
    pub fallback: Option<Policy>,
}

/// Which requests an element of `_rules_` is for (higress-abi 6.2).
#[derive(Debug, PartialEq, Eq)]
pub enum Scope {
    /// `_match_route_`: the route's name, exactly.
    Route(Vec<String>),
    /// `_match_route_` and `_match_service_`: both.
    RouteAndService(Vec<String>, Vec<String>),
    /// `_match_route_prefix_`: the beginning of the route's name.
    RoutePrefix(Vec<String>),
    /// `_match_domain_`: the host without its port; `*x` by suffix, `x*` by prefix.
    Domain(Vec<String>),
    /// `_match_service_`: `fqdn` or `fqdn:port` of the upstream.
    Service(Vec<String>),
}

/// One complete configuration of the limiter.
#[derive(Debug)]
pub struct Policy {
    /// `rule_name`: part of every Redis key.
    pub rule_name: String,
    /// `global_threshold`: limits on all requests together. Empty if not configured.
    pub global: Vec<Limit>,
    /// `name` of `global_threshold`: thresholds of the same rule name that have different ones count apart.
    pub global_name: Option<String>,
    /// `rule_items`, in order.
    pub items: Vec<RuleItem>,
    /// `rule_match`.
    pub rule_match: RuleMatch,
    /// Which Redis keeps the windows: an index into the services of the configuration. None: this instance does.
    pub redis: Option<u32>,
    /// `rejected_code`.
    pub rejected_code: u16,
    /// `rejected_msg`.
    pub rejected_msg: String,
    /// `rejected_headers` and `rejected_content_type`: more fields of a refusal, names in lower case.
    pub rejected_headers: Vec<(String, String)>,
    /// `exempt`: requests that this policy does not limit.
    pub exempt: Exempt,
    /// Which headers tell the client about its quota.
    pub headers: QuotaHeaders,
    /// `failure_mode`.
    pub failure_mode: FailureMode,
    /// `dry_run` at the top: no limit of this policy refuses.
    pub dry_run: bool,
    /// `remember_refusals`: a key that refused is refused without asking Redis until room appears, but for so many
    /// microseconds at most. None: Redis is asked each time.
    pub remember_refusals: Option<u64>,
    /// `coalesce`: requests that ask the same of Redis wait for the call that is on its way, and go together as the
    /// next.
    pub coalesce: bool,
    /// `max_new_keys_per_second`: how many values not seen of late each rule item may begin to count in a second, where
    /// the item does not say. None: any number.
    pub max_new_keys_per_second: Option<u32>,
    /// How tokens are charged to the limits of `global_threshold`; rule items have terms of their own.
    pub token_terms: TokenTerms,
    /// `error_format`.
    pub error_format: ErrorFormatChoice,
    /// `rejected_msg` is stated, so that no format has a body of its own.
    pub is_message_stated: bool,
}

impl Policy {
    /// Whether any of its limits counts tokens.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.counts(LimitUnit::Tokens)
    }

    /// Whether any of its limits counts this.
    pub(crate) fn counts(&self, unit: LimitUnit) -> bool {
        let of_items = self.items.iter().flat_map(|item| &item.keys.entries).flat_map(|entry| &entry.limits);
        self.global.iter().chain(of_items).any(|limit| limit.unit == unit)
    }

    /// Whether it may change requests so that streams tell their usage.
    pub(crate) fn may_request_usage(&self) -> bool {
        self.any_terms(|terms| terms.request_usage)
    }

    /// Whether it may change requests' headers.
    pub(crate) fn edits_requests(&self) -> bool {
        self.any_terms(|terms| terms.request_usage || terms.cuts())
    }

    /// Whether this is so of how tokens are charged to any of its limits.
    fn any_terms(&self, is_so: impl Fn(&TokenTerms) -> bool) -> bool {
        let of_items = self.items.iter().map(|item| &item.token_terms);
        self.counts_tokens() && of_items.chain([&self.token_terms]).any(is_so)
    }

    /// Whether a refusal says anything of limits.
    pub(crate) fn tells_of_refusals(&self) -> bool {
        let is_plain = self.error_format == ErrorFormatChoice::Always(ErrorFormat::Plain);
        !is_plain || self.headers.tell_of_refusals()
    }

    /// How tokens are charged to the limits of this owner in the policy's plans.
    pub(crate) fn token_terms_of(&self, owner: usize) -> &TokenTerms {
        let item = owner.checked_sub(1).and_then(|at| self.items.get(at));
        item.map_or(&self.token_terms, |item| &item.token_terms)
    }

    /// How long a refusal is remembered; none: it is not.
    pub(crate) fn remember_refusals_ns(&self) -> Option<u64> {
        self.remember_refusals.map(|us| us.min(u64::MAX / 1_000) * 1_000)
    }

    /// How many new keys the owner of limits in this policy's plans may begin in a second.
    pub(crate) fn new_keys_per_second(&self, owner: usize) -> Option<u64> {
        let item = self.items.get(owner.checked_sub(1)?)?;
        item.max_new_keys_per_second.or(self.max_new_keys_per_second).map(u64::from)
    }
}

/// `rule_match`: what happens after the first rule that a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleMatch {
    /// The first rule decides (stock, up to 2.2.3).
    First,
    /// Every rule that matches must admit (stock 2.2.4).
    All,
}

/// What becomes of a request when Redis cannot say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailureMode {
    /// It passes.
    Open,
    /// It is answered 503.
    Closed,
    /// Windows in this instance's memory decide, each with this share of its limit, in (0, 1].
    Local {
        /// `local_share`.
        share: f64,
    },
}

/// Which headers tell a client about its quota, as `headers` and `show_limit_quota_header` say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaHeaders {
    /// `x-ratelimit-reset` on refusals.
    pub reset: bool,
    /// `x-tokenratelimit-reset` on refusals by limits on tokens: always, where there are such.
    pub token_reset: bool,
    /// `x-ratelimit-limit` and `x-ratelimit-remaining` on every response.
    pub quota: bool,
    /// `RateLimit-Policy` and `RateLimit` on every response (draft-ietf-httpapi-ratelimit-headers).
    pub ietf: bool,
    /// `Retry-After` on refusals (RFC 9110, section 10.2.3).
    pub retry_after: bool,
    /// `x-ratelimit-limit-tokens`, `-remaining-tokens` and `-reset-tokens` on every response, as OpenAI's API has them.
    pub openai_tokens: bool,
    /// `anthropic-ratelimit-tokens-limit`, `-remaining` and `-reset` on every response.
    pub anthropic_tokens: bool,
    /// `x-slidegate-degraded` on responses that Redis had no part in because it failed.
    pub degraded: bool,
}

impl QuotaHeaders {
    /// Whether the response to a request that was admitted says anything of limits.
    pub(crate) fn tell_of_admissions(self) -> bool {
        self.quota || self.ietf || self.openai_tokens || self.anthropic_tokens
    }

    /// Whether a refusal says anything of limits.
    pub(crate) fn tell_of_refusals(self) -> bool {
        self.tell_of_admissions() || self.reset || self.token_reset || self.retry_after
    }
}

/// One limit: at most `limit` of its unit in any interval of `window_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The greatest cost that a window admits, 1 to 2^53.
    pub limit: u64,
    /// The window's length in microseconds; whole seconds.
    pub window_us: u64,
    /// The width of a slot in microseconds, at least 1 (exact), at most the window.
    pub slot_us: u64,
    /// What it counts.
    pub unit: LimitUnit,
}

/// An element of `rule_items`.
#[derive(Debug)]
pub struct RuleItem {
    /// What is counted by.
    pub limit_by: LimitBy,
    /// `limit_keys`: which values it applies to, and how much each may have.
    pub keys: LimitKeys,
    /// `dry_run` of this item.
    pub dry_run: bool,
    /// `on_missing`: what becomes of a request without a value.
    pub on_missing: OnMissing,
    /// `take`: which of several values counts.
    pub take: Take,
    /// Who knows a value can pass for its owner: keys are not shown in full.
    pub is_secret: bool,
    /// `hash_values`: how values are spelt in keys, if not in clear.
    pub hash: Option<ValueHash>,
    /// `name`: items that count by the same under the same rule name and have different ones count apart.
    pub name: Option<String>,
    /// `max_new_keys_per_second` of this item. None: the policy's.
    pub max_new_keys_per_second: Option<u32>,
    /// How tokens are charged to its limits.
    pub token_terms: TokenTerms,
}

/// The name of an owner of limits in a policy's plans, for metrics and log lines: as configured, else
/// `global_threshold`, or the number of the rule item, from 1.
pub(crate) fn owner_name(policy: &Policy, owner: usize) -> String {
    let item = policy.items.get(owner.wrapping_sub(1));
    match (item.map_or(&policy.global_name, |item| &item.name), owner) {
        (Some(name), _) => name.clone(),
        (None, GLOBAL) => "global_threshold".to_string(),
        (None, number) => number.to_string(),
    }
}

/// `on_missing`: what becomes of a request that has no value to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// The item does not apply (stock).
    Pass,
    /// It is refused.
    Refuse,
    /// All such requests count together, by the entry that an empty value meets.
    Count,
}

/// The value that a rule item counts by, and whether each value counts alone. Header names are lower case.
#[derive(Debug)]
pub struct LimitBy {
    /// `limit_by_per_*`: keys may be `*` or `regexp:` too.
    pub per: bool,
    /// Where the value is read.
    pub source: Source,
    /// The name as stock spells it in keys: the field's value, or `x-mse-consumer`.
    pub key_name: String,
}

/// Where a value is read from.
#[derive(Debug)]
pub enum Source {
    /// A request header, by its name in lower case.
    Header(String),
    /// A query parameter, by its decoded name.
    Param(String),
    /// The header `x-mse-consumer`.
    Consumer,
    /// A cookie, by name.
    Cookie(String),
    /// A field of a session, in the header that a filter before tells it in.
    Session(String),
    /// The client's address.
    Ip(ClientIp),
}

/// How the client's address is found.
#[derive(Debug)]
pub struct ClientIp {
    /// The header that carries it (lower case); none: the peer's address.
    pub header: Option<String>,
    /// Which of the header's addresses is the client's.
    pub trust: Trust,
    /// How many leading bits of an IPv4 address make one client, 1 to 32.
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address make one client, 1 to 128.
    pub ipv6_prefix: u8,
}

/// Which of the addresses in a forwarded header is believed.
#[derive(Debug)]
pub enum Trust {
    /// The leftmost of the first field, as stock does. Anybody can write it.
    Leftmost,
    /// `trusted_hops`: skip so many addresses from the right.
    Hops(u32),
    /// `trusted_proxies`: skip from the right every address in these networks.
    Proxies {
        /// The networks as configured.
        networks: Vec<IpNet>,
        /// The same, arranged for finding: lists of proxies are long, and so may a hostile header be.
        set: IpSet,
    },
}

impl Trust {
    /// Trusts the proxies in these networks; one of length 0 holds the addresses of both families.
    pub fn proxies(networks: Vec<IpNet>) -> Trust {
        Trust::Proxies { set: IpSet::new(networks.iter().copied()), networks }
    }
}

/// The `limit_keys` of a rule item, arranged so that finding the first entry that matches does not scan the exact ones.
#[derive(Debug)]
pub struct LimitKeys {
    /// The entries in the order written.
    pub entries: Vec<KeyEntry>,
    /// How a value finds its entry.
    pub index: KeyIndex,
}

/// One entry of `limit_keys`.
#[derive(Debug)]
pub struct KeyEntry {
    /// `key` as written.
    pub key: String,
    /// Its limits, all enforced, no two with the same window; none only if it is unlimited.
    pub limits: Vec<Limit>,
    /// The network that `key` means, in `limit_by_per_ip`.
    pub network: Option<IpNet>,
    /// `together`: all its values share one window.
    pub together: bool,
    /// `unlimited`: its values are not limited.
    pub unlimited: bool,
}

/// The lookup structure over entries; numbers are positions in `entries`.
#[derive(Debug)]
pub enum KeyIndex {
    /// Addresses and networks.
    Ip(IpSet),
    /// Exact values, and the patterns in order.
    Text {
        /// The key of every entry, patterns too, since a value that is the very text of a pattern meets it. Sorted by
        /// value; for a value written twice, the first entry.
        exact: Vec<(Vec<u8>, usize)>,
        /// `*` and `regexp:` entries, in order.
        patterns: Vec<(usize, Pattern)>,
    },
}
