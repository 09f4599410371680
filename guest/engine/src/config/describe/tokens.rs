//! How tokens are charged, in words.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::thousandths;

use crate::{
    rule::{
        Accounting, Admission, CutAs, ErrorFormat, ErrorFormatChoice, LimitUnit, OnExhausted, OnMissingUsage, Policy,
        Reserve, RuleItem, TokenCharge, TokenTerms,
    },
    tokens::TokenWeights,
};

/// What holds for a policy, where it counts tokens.
pub(super) fn of_policy(policy: &Policy) -> Option<String> {
    policy.counts_tokens().then(|| terms(&policy.token_terms))
}

/// What its refusals look like, where that is a format of an API.
pub(super) fn error_format(policy: &Policy) -> Option<String> {
    let format = match policy.error_format {
        ErrorFormatChoice::Auto => "of the API that the path is of",
        ErrorFormatChoice::Always(ErrorFormat::Plain) => return None,
        ErrorFormatChoice::Always(ErrorFormat::OpenAi) => "of OpenAI's API",
        ErrorFormatChoice::Always(ErrorFormat::Anthropic) => "of Anthropic's API",
        ErrorFormatChoice::Always(ErrorFormat::Gemini) => "of Gemini's API",
    };
    let body = if policy.is_message_stated { "headers" } else { "headers and body" };
    Some(format!("{body} {format}, with Retry-After"))
}

/// What holds for a rule item, if that is something else than for its policy.
pub(super) fn of_item(policy: &Policy, item: &RuleItem) -> Option<String> {
    let mut limits = item.keys.entries.iter().flat_map(|entry| &entry.limits);
    if item.token_terms == policy.token_terms || !limits.any(|limit| limit.unit == LimitUnit::Tokens) {
        return None;
    }
    Some(terms(&item.token_terms))
}

fn terms(terms: &TokenTerms) -> String {
    let charge = match terms.charge {
        TokenCharge::Stock => "input and output are charged, as stock".to_string(),
        TokenCharge::Billed(weights) if weights == TokenWeights::default() => {
            "all that is billed is charged".to_string()
        }
        TokenCharge::Billed(weights) => {
            let TokenWeights { input, cached_read, cache_write, output, reasoning } = weights;
            let classes = [
                ("input", input),
                ("cached_read", cached_read),
                ("cache_write", cache_write),
                ("output", output),
                ("reasoning", reasoning),
            ];
            let weighed: Vec<String> = classes
                .iter()
                .map(|(class, weight)| format!("{class} x {}", thousandths(u64::from(*weight))))
                .collect();
            format!("what is billed is charged, {}", weighed.join(", "))
        }
    };
    let accounting = match (terms.accounting, terms.reserve) {
        (Accounting::After, _) => "after the answer".to_string(),
        (Accounting::Reserve, Reserve::Auto) => "an estimate reserved, and settled after the answer".to_string(),
        (Accounting::Reserve, Reserve::OutputMax) => {
            "what the request says that its answer may take reserved, and settled after the answer".to_string()
        }
        (Accounting::Reserve, Reserve::Tokens(tokens)) => format!("{tokens} reserved, and settled after the answer"),
    };
    let admission = match terms.admission {
        Admission::Room => "while anything is left",
        Admission::Fits => "if the estimate fits",
    };
    let missing = match terms.on_missing_usage {
        OnMissingUsage::Nothing => "nothing",
        OnMissingUsage::Estimate => "what its text looks like",
        OnMissingUsage::Reserved => "what was reserved",
    };
    let asked = if terms.request_usage { "; streams of OpenAI's API are asked for theirs" } else { "" };
    let exhausted = match (terms.on_exhausted, terms.cut_as) {
        (OnExhausted::RefuseNext, _) => "",
        (OnExhausted::Cut, CutAs::Finish) => "; a stream for which nothing is left is cut, with a regular end",
        (OnExhausted::Cut, CutAs::Error) => "; a stream for which nothing is left is cut, with an error",
    };
    format!("{charge}, {accounting}; admitted {admission}; an answer without a usage: {missing}{asked}{exhausted}")
}
