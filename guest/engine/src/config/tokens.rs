//! How tokens are charged: `charge`, `token_weights` and their like, at the top of a policy or in a rule item.

use slidegate_document::{Content, EXACT_MAX, Fields, Node, Path, Reader, spelled, whole_number};

use super::known_fields;
use crate::{
    rule::{
        Accounting, Admission, CutAs, ErrorFormat, ErrorFormatChoice, Limit, LimitUnit, OnExhausted, OnMissingUsage,
        Policy, Reserve, TokenCharge, TokenTerms,
    },
    tokens::TokenWeights,
};

/// The greatest weight of a token.
const WEIGHT_MAX: u32 = 1_000_000;

/// The terms that the fields tell; where they say nothing, these.
pub(super) fn terms(reader: &mut Reader, fields: &Fields<'_>, inherited: TokenTerms) -> Option<TokenTerms> {
    let charge = charge(reader, fields, inherited.charge);
    let accounting = match fields.get("accounting") {
        Some((path, node)) => {
            reader.choice(path, node, &[("reserve", Accounting::Reserve), ("after", Accounting::After)])
        }
        None => Some(inherited.accounting),
    };
    let admission = match fields.get("admission") {
        Some((path, node)) => reader.choice(path, node, &[("room", Admission::Room), ("fits", Admission::Fits)]),
        None => Some(inherited.admission),
    };
    let reserve = match fields.get("reserve") {
        Some((path, node)) => reserve(reader, path, node),
        None => Some(inherited.reserve),
    };
    let on_missing_usage = match fields.get("on_missing_usage") {
        Some((path, node)) => reader.choice(
            path,
            node,
            &[
                ("nothing", OnMissingUsage::Nothing),
                ("estimate", OnMissingUsage::Estimate),
                ("reserved", OnMissingUsage::Reserved),
            ],
        ),
        None => Some(inherited.on_missing_usage),
    };
    let request_usage = reader.flag(fields, "request_usage", inherited.request_usage);
    let on_exhausted = match fields.get("on_exhausted") {
        Some((path, node)) => {
            reader.choice(path, node, &[("refuse_next", OnExhausted::RefuseNext), ("cut", OnExhausted::Cut)])
        }
        None => Some(inherited.on_exhausted),
    };
    let cut_as = match fields.get("cut_as") {
        Some((path, node)) => reader.choice(path, node, &[("finish", CutAs::Finish), ("error", CutAs::Error)]),
        None => Some(inherited.cut_as),
    };
    let terms = TokenTerms {
        charge: charge?,
        accounting: accounting?,
        admission: admission?,
        reserve: reserve?,
        on_missing_usage: on_missing_usage?,
        request_usage: request_usage?,
        on_exhausted: on_exhausted?,
        cut_as: cut_as?,
    };
    if terms.accounting == Accounting::After {
        for name in ["admission", "reserve"].into_iter().filter(|name| fields.get(name).is_some()) {
            reader.warn(fields.at(name), "has no effect with `accounting: after`: nothing is reserved");
        }
        let decides = ["on_missing_usage", "accounting"].into_iter().find(|name| fields.get(name).is_some());
        if let Some(name) = decides.filter(|_| terms.on_missing_usage == OnMissingUsage::Reserved) {
            reader.warn(
                fields.at(name),
                "an answer without a usage is charged nothing: `accounting: after` reserves nothing that \
                 `on_missing_usage: reserved` could charge",
            );
        }
    }
    Some(terms)
}

/// Which format refusals have.
pub(super) fn error_format(reader: &mut Reader, fields: &Fields<'_>) -> Option<ErrorFormatChoice> {
    let always = ErrorFormatChoice::Always;
    let Some((path, node)) = fields.get("error_format") else { return Some(always(ErrorFormat::Plain)) };
    let choices = [
        ("plain", always(ErrorFormat::Plain)),
        ("auto", ErrorFormatChoice::Auto),
        ("openai", always(ErrorFormat::OpenAi)),
        ("anthropic", always(ErrorFormat::Anthropic)),
        ("gemini", always(ErrorFormat::Gemini)),
    ];
    let format = reader.choice(path, node, &choices)?;
    if format != always(ErrorFormat::Plain) {
        if fields.get("rejected_msg").is_some() {
            reader.warn(path, "decides on headers alone: the body is `rejected_msg`, as that is stated");
        } else if fields.get("rejected_content_type").is_some() {
            reader.warn(
                fields.at("rejected_content_type"),
                "is said of bodies that are JSON, as `error_format` has them",
            );
        }
    }
    Some(format)
}

/// Tells of fields on tokens in a policy where no limit counts any.
pub(super) fn report_idle(reader: &mut Reader, fields: &Fields<'_>, policy: &Policy) {
    if policy.counts_tokens() {
        let cuts =
            || policy.items.iter().map(|item| &item.token_terms).chain([&policy.token_terms]).any(|terms| terms.cuts());
        if fields.get("cut_as").is_some() && !cuts() {
            reader.warn(fields.at("cut_as"), "has no effect without `on_exhausted: cut`: no answer is cut");
        }
        let of_items = policy.items.iter().flat_map(|item| &item.keys.entries).flat_map(|entry| &entry.limits);
        report_odd_terms(reader, fields, &policy.token_terms, policy.global.iter().chain(of_items));
        if policy.headers.quota && !policy.counts(LimitUnit::Requests) {
            let field = ["headers", "show_limit_quota_header"].into_iter().find(|name| fields.get(name).is_some());
            reader.warn(
                fields.at(field.unwrap_or("headers")),
                "`x-ratelimit` is never shown: no limit here counts requests, as `query_per_minute` would; \
                 `x-ratelimit-tokens` is of limits on tokens",
            );
        }
        return;
    }
    report_idle_terms(reader, fields);
    let shown = [
        (policy.headers.openai_tokens, "x-ratelimit-tokens"),
        (policy.headers.anthropic_tokens, "anthropic-ratelimit"),
    ];
    for (_, name) in shown.into_iter().filter(|(is_shown, _)| *is_shown) {
        reader.warn(
            fields.at("headers"),
            format_args!("`{name}` is never shown: no limit here counts tokens, as `token_per_minute` would"),
        );
    }
}

/// Tells of terms, stated in these fields, by which limits on tokens limit nothing, or not as it seems.
pub(super) fn report_odd_terms<'l>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    terms: &TokenTerms,
    limits: impl Iterator<Item = &'l Limit>,
) {
    let Some(highest) = limits.filter(|limit| limit.unit == LimitUnit::Tokens).map(|limit| limit.limit).max() else {
        return;
    };
    if fields.get("token_weights").is_some() && terms.charge == TokenCharge::Billed(TokenWeights::NOTHING) {
        reader.warn(fields.at("token_weights"), "has no weight above 0: answers are charged nothing");
    }
    if let Reserve::Tokens(tokens) = terms.reserve
        && tokens > highest
        && terms.accounting == Accounting::Reserve
        && fields.get("reserve").is_some()
    {
        let told =
            format_args!("is more than the highest limit here, {highest}: a request then takes the whole of each");
        reader.warn(fields.at("reserve"), told);
    }
}

/// Tells of fields on tokens beside limits of which none counts any.
pub(super) fn report_idle_terms(reader: &mut Reader, fields: &Fields<'_>) {
    for name in known_fields::TOKEN_TERMS.into_iter().filter(|name| fields.get(name).is_some()) {
        reader.warn(fields.at(name), "has no effect: no limit here counts tokens, as `token_per_minute` would");
    }
}

/// What is charged. Weights are of what is billed.
fn charge(reader: &mut Reader, fields: &Fields<'_>, inherited: TokenCharge) -> Option<TokenCharge> {
    let given = fields.get("token_weights").map(|(path, node)| weights(reader, path, node));
    let billed = TokenCharge::Billed(given.flatten().unwrap_or_default());
    let choices = [("billed", billed), ("stock", TokenCharge::Stock)];
    let charge = fields.get("charge").map(|(path, node)| reader.choice(path, node, &choices));
    // Mistakes of both are told.
    let weights = match given {
        Some(given) => Some(given?),
        None => None,
    };
    let Some(charge) = charge else { return Some(weights.map_or(inherited, TokenCharge::Billed)) };
    let charge = charge?;
    if charge == TokenCharge::Stock && weights.is_some() {
        reader.error(
            fields.at("token_weights"),
            "stands beside `charge: stock`, which has no classes to weigh: expected one of them only",
        );
        return None;
    }
    Some(charge)
}

fn weights(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<TokenWeights> {
    let fields = reader.object(path, node, &known_fields::TOKEN_WEIGHTS)?;
    let defaults = TokenWeights::default();
    let mut weight = |name: &str, default: u32| match fields.get(name) {
        Some((path, node)) => {
            let expected = format_args!("a weight from 0 to {WEIGHT_MAX} with three decimals at most, such as 0.25");
            reader.parsed(path, node, expected, thousandths)
        }
        None => Some(default),
    };
    let input = weight("input", defaults.input);
    let cached_read = weight("cached_read", defaults.cached_read);
    let cache_write = weight("cache_write", defaults.cache_write);
    let output = weight("output", defaults.output);
    let reasoning = weight("reasoning", output.unwrap_or(defaults.reasoning));
    Some(TokenWeights {
        input: input?,
        cached_read: cached_read?,
        cache_write: cache_write?,
        output: output?,
        reasoning: reasoning?,
    })
}

/// A weight in thousandths, if a node is or spells one.
fn thousandths(node: &Node) -> Option<u32> {
    let number = |content: &Content| match content {
        Content::Unsigned(number) => Some(*number as f64),
        Content::Float(number) => Some(*number),
        _ => None,
    };
    let weight = match node.as_str() {
        Some(text) => number(&spelled(text)?),
        None => number(&node.content),
    }?;
    let thousandths = weight * 1_000.0;
    // As near as a decimal fraction comes to one in a double.
    let whole = (thousandths + 0.5) as u32;
    let is_whole = (f64::from(whole) - thousandths).abs() < 1e-6 && weight >= 0.0;
    (is_whole && weight <= f64::from(WEIGHT_MAX)).then_some(whole)
}

fn reserve(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Reserve> {
    let number = whole_number(node).filter(|tokens| (1..=EXACT_MAX).contains(tokens));
    let reserve = match node.as_str() {
        Some("auto") => Some(Reserve::Auto),
        Some("max_tokens") => Some(Reserve::OutputMax),
        _ => number.map(Reserve::Tokens),
    };
    if reserve.is_none() {
        reader.expected(path, node, "`auto`, `max_tokens`, or a whole number of tokens from 1");
    }
    reserve
}
