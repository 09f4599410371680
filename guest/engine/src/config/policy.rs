//! One complete configuration of the limiter: the document's top level, or an element of `_rules_`.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::{Content, Fields, Node, Path, Reader, elements, emptiness, spelled, truth};

use super::{
    exempt,
    filter_rules::ToldFields,
    hashing::Hashing,
    known_fields,
    limit::{self, Precision},
    limit_by, limit_keys, refusal,
    service::{self, ServiceTable},
    tokens,
};
use crate::{
    key::limit_type,
    rule::{
        FailureMode, Limit, LimitBy, LimitUnit, OnMissing, Policy, QuotaHeaders, RuleItem, RuleMatch, Source,
        TokenTerms,
    },
};

/// How long a refusal is remembered at most, where nothing is said, in microseconds.
pub(super) const REMEMBER_US: u64 = 5_000_000;
const NEW_KEYS_MAX: u64 = 1_000_000;
/// The longest name of a rule item or a threshold, in bytes: it is part of every key.
const NAME_MAX: usize = 64;

/// Reads all fields, whichever of them fail.
pub(super) fn read(
    reader: &mut Reader,
    services: &mut ServiceTable,
    told: &ToldFields,
    fields: &Fields<'_>,
) -> Option<Policy> {
    let rule_name = rule_name(reader, fields);
    let precision = Precision::read(reader, fields).unwrap_or(Precision::ByLimit);
    let (global, global_name) = global(reader, fields, precision);
    let hashing = Hashing::read(reader, services.codes(), fields);
    let token_terms = tokens::terms(reader, fields, TokenTerms::default());
    let token_terms_of_items = token_terms.unwrap_or_default();
    let inherited = Inherited { precision, hashing: hashing.as_ref(), token_terms: token_terms_of_items, told };
    let items = items(reader, fields, inherited);
    if fields.get("global_threshold").is_none() && fields.get("rule_items").is_none() {
        reader.error(fields.path, "expected `global_threshold` or `rule_items`, or both");
    }
    let rule_match = rule_match(reader, fields);
    if rule_match == Some(RuleMatch::First) {
        counted_alike(reader, fields, &items);
    }
    if fields.get("redis").is_none() {
        unbounded_keys(reader, fields, &items);
    }
    let headers = headers(reader, fields);
    let rejected_code = refusal::code(reader, fields);
    let rejected_msg = refusal::message(reader, fields);
    let rejected_headers = refusal::headers(reader, fields);
    let error_format = tokens::error_format(reader, fields);
    let exempt = exempt::read(reader, fields);
    let redis = match fields.get("redis") {
        Some((path, node)) => service::read(reader, services, path, node).map(Some),
        None => Some(None),
    };
    let failure_mode = failure_mode(reader, fields);
    let dry_run = reader.flag(fields, "dry_run", false);
    let remember_refusals = remember_refusals(reader, fields);
    if exempt.as_ref().is_some_and(|exempt| !exempt.networks.is_empty())
        && items.iter().any(counts_by_a_forwarded_address)
    {
        let told = "looks at the peer, not at the header that `limit_by_per_ip` counts by: behind a proxy in these \
                    networks every request passes";
        reader.warn(Path::Field(&fields.at("exempt"), "networks"), told);
    }
    let coalesce = reader.flag(fields, "coalesce", true);
    let max_new_keys_per_second = max_new_keys_per_second(reader, fields);
    let mut policy = Policy {
        rule_name: rule_name?,
        global,
        global_name: global_name?,
        items,
        rule_match: rule_match?,
        redis: redis?,
        rejected_code: rejected_code?,
        rejected_msg: rejected_msg?,
        rejected_headers: rejected_headers?,
        exempt: exempt?,
        headers: headers?,
        failure_mode: failure_mode?,
        dry_run: dry_run?,
        remember_refusals: remember_refusals?,
        coalesce: coalesce?,
        max_new_keys_per_second: max_new_keys_per_second?,
        token_terms: token_terms?,
        error_format: error_format?,
        is_message_stated: fields.get("rejected_msg").is_some(),
    };
    policy.headers.token_reset = policy.counts_tokens();
    tokens::report_idle(reader, fields, &policy);
    Some(policy)
}

/// What rule items have where they say nothing.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    precision: Precision,
    hashing: Option<&'a Hashing>,
    token_terms: TokenTerms,
    /// What the filters before tell of sessions.
    told: &'a ToldFields,
}

/// Whether the client's address comes from a header.
fn counts_by_a_forwarded_address(item: &RuleItem) -> bool {
    matches!(&item.limit_by.source, Source::Ip(ip) if ip.header.is_some())
}

fn rule_name(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let Some((path, node)) = fields.get("rule_name") else {
        reader
            .error(fields.at("rule_name"), "is missing: expected a name for these rules, which Redis keys begin with");
        return None;
    };
    reader.text(path, node)
}

/// The limits of the threshold, and its name, which is missing if it could not be understood.
fn global(reader: &mut Reader, fields: &Fields<'_>, precision: Precision) -> (Vec<Limit>, Option<Option<String>>) {
    let Some((path, node)) = fields.get("global_threshold") else { return (Vec::new(), Some(None)) };
    let known: Vec<&str> = known_fields::LIMIT.into_iter().chain(known_fields::THRESHOLD).collect();
    match reader.object(path, node, &known) {
        Some(fields) => (limit::read(reader, &fields, precision), name(reader, &fields)),
        None => (Vec::new(), None),
    }
}

/// The name of a rule item or a threshold, if it has one.
fn name(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<String>> {
    let Some((path, node)) = fields.get("name") else { return Some(None) };
    let name = reader.text(path, node)?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
        reader.expected(path, node, format_args!("a name of 1 to {NAME_MAX} bytes on one line"));
        return None;
    }
    Some(Some(name))
}

/// True or false, or how long at most.
fn remember_refusals(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<u64>> {
    let Some((path, node)) = fields.get("remember_refusals") else { return Some(Some(REMEMBER_US)) };
    let longest = match truth(node) {
        Some(remembers) => Some(remembers.then_some(REMEMBER_US)),
        None => limit::window_text_us(node).map(Some),
    };
    if longest.is_none() {
        reader.expected(path, node, "true, false, or how long at most, from `1s` to `365d`, such as `5s`");
    }
    longest
}

fn max_new_keys_per_second(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<u32>> {
    let Some((path, node)) = fields.get("max_new_keys_per_second") else { return Some(None) };
    let keys = reader.whole(path, node, 1..=NEW_KEYS_MAX)?;
    u32::try_from(keys).ok().map(Some)
}

fn items(reader: &mut Reader, fields: &Fields<'_>, inherited: Inherited<'_>) -> Vec<RuleItem> {
    let Some((path, node)) = fields.get("rule_items") else { return Vec::new() };
    if elements(&path, node).next().is_none() {
        reader.error(path, format_args!("expected at least one rule item, got {}", emptiness(node)));
    }
    elements(&path, node).filter_map(|(path, node)| item(reader, path, node, inherited)).collect()
}

/// Tells of items that wait behind one that counts by the same.
fn counted_alike(reader: &mut Reader, fields: &Fields<'_>, items: &[RuleItem]) {
    let path = fields.at("rule_items");
    let mut first_of = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let first = *first_of.entry(identity(item)).or_insert(index);
        if first != index {
            let first = Path::Element(&path, first);
            reader.warn(Path::Element(&path, index), format_args!("counts by the same as {first}, which comes first"));
        }
    }
}

/// Tells of bounds on what is brought to a Redis that there is not.
fn unbounded_keys(reader: &mut Reader, fields: &Fields<'_>, items: &[RuleItem]) {
    const BOUND: &str = "max_new_keys_per_second";
    let path = fields.at("rule_items");
    let told = "has no effect without `redis`: it bounds how many keys are begun there";
    if fields.get(BOUND).is_some() {
        reader.warn(fields.at(BOUND), told);
    }
    for (index, _) in items.iter().enumerate().filter(|(_, item)| item.max_new_keys_per_second.is_some()) {
        reader.warn(Path::Field(&Path::Element(&path, index), BOUND), told);
    }
}

/// What stock takes two items for the same by, and ours by their names too.
fn identity(item: &RuleItem) -> (&'static str, String, Option<String>) {
    (limit_type(&item.limit_by), item.limit_by.key_name.clone(), item.name.clone())
}

fn item(reader: &mut Reader, path: Path<'_>, node: &Node, inherited: Inherited<'_>) -> Option<RuleItem> {
    let Inherited { precision, hashing, token_terms, told } = inherited;
    let fields = reader.object(path, node, &known_fields::RULE_ITEM)?;
    let (kind, limit_by) = limit_by::read(reader, &fields, told);
    let dry_run = reader.flag(&fields, "dry_run", false);
    let keys = limit_keys::read(reader, &fields, kind, precision);
    let name = name(reader, &fields);
    let max_new_keys_per_second = max_new_keys_per_second(reader, &fields);
    let on_missing = limit_by::on_missing(reader, &fields);
    let take = limit_by::take(reader, &fields);
    let hash_values = reader.optional_flag(&fields, "hash_values");
    let token_terms = tokens::terms(reader, &fields, token_terms);
    let (limit_by, keys) = (limit_by?, keys?);
    let (hashing, hash_values) = (hashing?, hash_values?);
    let is_secret = hashing.hides(hash_values, &limit_by.source);
    let item = RuleItem {
        limit_by,
        keys,
        dry_run: dry_run?,
        on_missing: on_missing?,
        take: take?,
        is_secret,
        hash: hashing.hash(is_secret),
        name: name?,
        max_new_keys_per_second: max_new_keys_per_second?,
        token_terms: token_terms?,
    };
    let limits = || item.keys.entries.iter().flat_map(|entry| &entry.limits);
    if limits().any(|limit| limit.unit == LimitUnit::Tokens) {
        tokens::report_odd_terms(reader, &fields, &item.token_terms, limits());
    } else {
        tokens::report_idle_terms(reader, &fields);
    }
    if item.on_missing == OnMissing::Count && item.keys.of_missing().is_none() {
        reader.error(
            fields.at("on_missing"),
            format_args!("`count` has no limit: expected {}", entry_of_missing(&item.limit_by)),
        );
        return None;
    }
    Some(item)
}

/// The entry that limits requests without a value.
fn entry_of_missing(limit_by: &LimitBy) -> String {
    match (&limit_by.source, limit_by.per) {
        (Source::Ip(_), _) => "an entry that takes every address, such as `0.0.0.0/0`".to_string(),
        (_, true) => "an entry that takes every value, such as `*`".to_string(),
        (_, false) => {
            let field = limit_type(limit_by).replacen("limit_by_", "limit_by_per_", 1);
            format!("`{field}`, with an entry that takes every value, such as `*`")
        }
    }
}

fn rule_match(reader: &mut Reader, fields: &Fields<'_>) -> Option<RuleMatch> {
    let Some((path, node)) = fields.get("rule_match") else { return Some(RuleMatch::First) };
    reader.choice(path, node, &[("first", RuleMatch::First), ("all", RuleMatch::All)])
}

fn failure_mode(reader: &mut Reader, fields: &Fields<'_>) -> Option<FailureMode> {
    let share = match fields.get("local_share") {
        Some((path, node)) => local_share(reader, path, node),
        None => Some(1.0),
    };
    let open = FailureMode::Open;
    let modes = [
        ("open", open),
        ("closed", FailureMode::Closed),
        ("local", FailureMode::Local { share: share.unwrap_or(1.0) }),
    ];
    let mode = match fields.get("failure_mode") {
        Some((path, node)) => reader.choice(path, node, &modes),
        None => Some(open),
    }?;
    let is_local = matches!(mode, FailureMode::Local { .. });
    if fields.get("redis").is_none() {
        for name in ["failure_mode", "local_share", "remember_refusals", "coalesce", "hash_values", "hash_key"]
            .into_iter()
            .filter(|name| fields.get(name).is_some())
        {
            let why = if name.starts_with("hash_") {
                "nothing is stored there"
            } else {
                "windows are kept here anyway, with the whole limit"
            };
            reader.warn(fields.at(name), format_args!("has no effect without `redis`: {why}"));
        }
    } else if !is_local && fields.get("local_share").is_some() {
        reader.warn(fields.at("local_share"), "has no effect without `failure_mode: local`");
    }
    share.map(|_| mode)
}

fn local_share(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<f64> {
    let number = |content: &Content| match content {
        Content::Unsigned(number) => Some(*number as f64),
        Content::Float(number) => Some(*number),
        _ => None,
    };
    reader.parsed(path, node, "a share of the limit above 0 and up to 1", |node| {
        let share = match node.as_str() {
            Some(text) => number(&spelled(text)?),
            None => number(&node.content),
        };
        share.filter(|share| *share > 0.0 && *share <= 1.0)
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HeaderFamily {
    Stock,
    Ietf,
    RetryAfter,
    OpenAiTokens,
    AnthropicTokens,
    Degraded,
}

const HEADER_FAMILIES: [(&str, HeaderFamily); 6] = [
    ("x-ratelimit", HeaderFamily::Stock),
    ("ratelimit", HeaderFamily::Ietf),
    ("retry-after", HeaderFamily::RetryAfter),
    ("x-ratelimit-tokens", HeaderFamily::OpenAiTokens),
    ("anthropic-ratelimit", HeaderFamily::AnthropicTokens),
    ("x-slidegate-degraded", HeaderFamily::Degraded),
];

/// `headers` says exactly which; without it `show_limit_quota_header` decides as in stock.
fn headers(reader: &mut Reader, fields: &Fields<'_>) -> Option<QuotaHeaders> {
    let show = match fields.get_unless_null("show_limit_quota_header") {
        Some((path, node)) => reader.boolean(path, node).map(Some),
        None => Some(None),
    };
    let Some((path, node)) = fields.get("headers") else {
        return show.map(|show| QuotaHeaders { reset: true, quota: show == Some(true), ..QuotaHeaders::default() });
    };
    if node.is_null() {
        reader.expected(
            path,
            node,
            "an array of `x-ratelimit`, `ratelimit`, `retry-after`, `x-ratelimit-tokens`, \
                                     `anthropic-ratelimit` and `x-slidegate-degraded`",
        );
        return None;
    }
    let mut families = Vec::new();
    let mut understood = true;
    for (path, node) in elements(&path, node) {
        match reader.choice(path, node, &HEADER_FAMILIES) {
            Some(family) if families.contains(&family) => reader.warn(path, "stands here a second time"),
            Some(family) => families.push(family),
            None => understood = false,
        }
    }
    let (show, stock) = (show?, families.contains(&HeaderFamily::Stock));
    if understood && show == Some(true) && !stock {
        reader.error(
            path,
            "lacks `x-ratelimit`, which `show_limit_quota_header` asks for: expected both to say the same",
        );
        return None;
    }
    if show == Some(false) && stock {
        reader.warn(path, "has `x-ratelimit`, which `show_limit_quota_header` declines: this list decides");
    }
    understood.then_some(QuotaHeaders {
        reset: stock,
        token_reset: false,
        quota: stock,
        ietf: families.contains(&HeaderFamily::Ietf),
        retry_after: families.contains(&HeaderFamily::RetryAfter),
        openai_tokens: families.contains(&HeaderFamily::OpenAiTokens),
        anthropic_tokens: families.contains(&HeaderFamily::AnthropicTokens),
        degraded: families.contains(&HeaderFamily::Degraded),
    })
}
