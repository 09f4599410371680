//! Limits on tokens, and how tokens are charged.

use super::*;
use crate::{
    rule::{
        Accounting, Admission, CutAs, ErrorFormat, ErrorFormatChoice, LimitUnit, OnExhausted, OnMissingUsage, Reserve,
        TokenCharge, TokenTerms,
    },
    tokens::TokenWeights,
};

fn tokens(limit: u64, window: u64, slot_us: u64) -> Limit {
    Limit { unit: LimitUnit::Tokens, ..super::limit(limit, window, slot_us) }
}

/// A good document with a limit on tokens, and some fields added.
fn with_tokens(fields: Value) -> Value {
    let mut document = with(fields);
    document["global_threshold"] = json!({"token_per_minute": 5_000});
    document
}

#[test]
fn limits_on_tokens_stand_beside_those_on_requests() {
    let limits = |threshold| policy(&with_threshold(threshold)).global;
    for (name, seconds) in
        [("token_per_second", 1), ("token_per_minute", 60), ("token_per_hour", 3_600), ("token_per_day", 86_400)]
    {
        assert_eq!(limits(json!({name: 100})), [tokens(100, seconds, 1)]);
    }
    assert_eq!(
        limits(
            json!({"token_per_minute": 6_400, "query_per_minute": 60, "limit": 9, "token_limit": 90, "window": "10s"})
        ),
        [limit(9, 10, 1), limit(60, 60, 1), tokens(90, 10, 1), tokens(6_400, 60, 937_500)]
    );
    refuses(with_threshold(json!({"token_limit": 1})), "global_threshold.token_limit", "expected `window` beside it");
    refuses(
        with_threshold(json!({"token_per_minute": 1, "token_limit": 2, "window": "60s"})),
        "global_threshold.token_limit",
        "another limit for the same window of 1m",
    );
    refuses(with_threshold(json!({"token_per_minute": 0})), "global_threshold.token_per_minute", "got `0`");
    refuses(
        with_threshold(json!({"token_per_week": 5})),
        "global_threshold.token_per_week",
        "`token_limit` with `window: 7d`",
    );
    let idle = warnings(&with_threshold(json!({"token_per_minute": 10, "token_per_hour": 600, "query_per_day": 1})));
    assert_eq!(idle, ["global_threshold: 600 tokens per 1h never refuses: 10 per 1m beside it always does first"]);
}

#[test]
fn terms_hold_for_rules_that_say_nothing_else() {
    let weights = TokenWeights { cached_read: 100, output: 4_000, reasoning: 4_000, ..TokenWeights::default() };
    let own = TokenTerms {
        charge: TokenCharge::Billed(weights),
        accounting: Accounting::Reserve,
        admission: Admission::Fits,
        reserve: Reserve::Tokens(2_000),
        on_missing_usage: OnMissingUsage::Reserved,
        request_usage: true,
        on_exhausted: OnExhausted::Cut,
        cut_as: CutAs::Error,
    };
    let item = |fields: Value| {
        let mut item = json!({"limit_by_per_header": "h", "limit_keys": [{"key": "*", "token_per_minute": 10_000}]});
        for (name, value) in fields.as_object().unwrap() {
            item[name] = value.clone();
        }
        item
    };
    let document = with_tokens(json!({
        "token_weights": {"cached_read": "0.1", "output": 4}, "admission": "fits", "reserve": 2_000,
        "on_missing_usage": "reserved", "request_usage": true, "on_exhausted": "cut", "cut_as": "error",
        "rule_items": [item(json!({})), item(json!({"charge": "stock", "reserve": "auto",
            "limit_by_per_header": "i"}))],
    }));
    let policy = policy(&document);
    assert_eq!(policy.token_terms, own);
    assert_eq!(policy.items[0].token_terms, own);
    assert_eq!(policy.items[1].token_terms, TokenTerms { charge: TokenCharge::Stock, reserve: Reserve::Auto, ..own });
    assert_eq!(super::policy(&with_tokens(json!({}))).token_terms, TokenTerms::default());
    let described = config(&document).describe();
    for said in [
        "5000 tokens per 1m",
        "tokens        what is billed is charged, input x 1, cached_read x 0.1, cache_write x 1, output x 4, reasoning \
         x 4, 2000 reserved, and settled after the answer; admitted if the estimate fits; an answer without a usage: \
         what was reserved; streams of OpenAI's API are asked for theirs; a stream for which nothing is left is cut, \
         with an error",
        "       tokens: input and output are charged, as stock, an estimate reserved",
    ] {
        assert!(described.contains(said), "{said}\n{described}");
    }
}

#[test]
fn weights_have_three_decimals() {
    let weight = |weight: Value| match policy(&with_tokens(json!({"token_weights": {"input": weight}}))).token_terms {
        TokenTerms { charge: TokenCharge::Billed(weights), .. } => weights.input,
        terms => panic!("{terms:?}"),
    };
    for (given, thousandths) in [
        (json!(0), 0),
        (json!(1), 1_000),
        (json!(0.1), 100),
        (json!("0.125"), 125),
        (json!(2.675), 2_675),
        (json!(0.001), 1),
        (json!(1_000_000), 1_000_000_000),
    ] {
        assert_eq!(weight(given.clone()), thousandths, "{given}");
    }
    for given in [json!(-1), json!(0.0001), json!("x"), json!(1_000_001), json!(null), json!(true), json!(1e300)] {
        refuses(
            with_tokens(json!({"token_weights": {"input": given}})),
            "token_weights.input",
            "a weight from 0 to 1000000 with three decimals at most",
        );
    }
    refuses(with_tokens(json!({"token_weights": {"inputs": 1}})), "token_weights.inputs", "did you mean `input`?");
    refuses(with_tokens(json!({"token_weights": 2})), "token_weights", "expected an object");
    refuses(
        with_tokens(json!({"charge": "stock", "token_weights": {}})),
        "token_weights",
        "stands beside `charge: stock`",
    );
}

#[test]
fn what_is_no_way_to_charge_tokens() {
    for (fields, path, message) in [
        (json!({"charge": "all"}), "charge", "expected `billed` or `stock`"),
        (json!({"accounting": "before"}), "accounting", "expected `reserve` or `after`"),
        (json!({"admission": 1}), "admission", "expected `room` or `fits`"),
        (json!({"reserve": 0}), "reserve", "`auto`, `max_tokens`, or a whole number of tokens from 1, got `0`"),
        (json!({"reserve": "some"}), "reserve", "got `some`"),
        (json!({"on_missing_usage": "refuse"}), "on_missing_usage", "expected `nothing`, `estimate` or `reserved`"),
        (json!({"on_exhausted": "end"}), "on_exhausted", "expected `refuse_next` or `cut`"),
        (json!({"cut_as": "length"}), "cut_as", "expected `finish` or `error`"),
        (json!({"error_format": "azure"}), "error_format", "`plain`, `auto`, `openai`, `anthropic` or `gemini`"),
    ] {
        refuses(with_tokens(fields), path, message);
    }
}

#[test]
fn fields_that_have_no_effect_are_told() {
    let told = warnings(&with(json!({"charge": "stock", "reserve": 5})));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("no limit here counts tokens")), "{told:?}");
    let told = warnings(&with(json!({"headers": ["x-ratelimit-tokens", "anthropic-ratelimit", "retry-after"]})));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("headers: `x-ratelimit-tokens` is never shown"), "{told:?}");
    for (fields, path) in [
        (json!({"headers": ["x-ratelimit", "x-ratelimit-tokens"]}), "headers"),
        (json!({"show_limit_quota_header": true}), "show_limit_quota_header"),
    ] {
        let told = warnings(&with_tokens(fields.clone()));
        assert!(
            told.len() == 1 && told[0].starts_with(path) && told[0].contains(": `x-ratelimit` is never"),
            "{told:?}"
        );
        let mut both = with_tokens(fields);
        both["global_threshold"]["query_per_day"] = json!(5);
        assert!(warnings(&both).is_empty(), "there are requests to be told of");
    }
    let requests =
        json!({"limit_by_per_header": "h", "reserve": 5, "limit_keys": [{"key": "*", "query_per_minute": 9}]});
    let told = warnings(&with_tokens(json!({"rule_items": [requests]})));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("rule_items[0].reserve: has no effect: no limit here counts tokens"), "{told:?}");
    let after = |fields: Value| warnings(&with_tokens(fields));
    let told = after(json!({"accounting": "after", "on_missing_usage": "reserved"}));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("on_missing_usage: an answer without a usage is charged nothing"), "{told:?}");
    assert!(after(json!({"accounting": "after", "on_missing_usage": "estimate"})).is_empty());
    let item =
        json!({"limit_by_per_header": "h", "accounting": "after", "limit_keys": [{"key": "*", "token_per_day": 9}]});
    let told = after(json!({"on_missing_usage": "reserved", "rule_items": [item]}));
    assert!(told.len() == 1 && told[0].starts_with("rule_items[0].accounting: an answer"), "{told:?}");
    let nothing = json!({"input": 0, "cached_read": 0, "cache_write": 0, "output": 0, "reasoning": 0});
    let told = warnings(&with_tokens(json!({"reserve": 5_001, "token_weights": nothing})));
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "token_weights: has no weight above 0: answers are charged nothing");
    assert!(told[1].starts_with("reserve: is more than the highest limit here, 5000"), "{told:?}");
    let item = json!({"limit_by_per_header": "h", "reserve": 10, "limit_keys": [{"key": "*", "token_per_day": 9}]});
    let told = warnings(&with_tokens(json!({"reserve": 5_000, "rule_items": [item]})));
    assert!(told.len() == 1 && told[0].starts_with("rule_items[0].reserve: is more than"), "{told:?}");
    for reserve in [5, 5_001] {
        let told = warnings(&with_tokens(json!({"accounting": "after", "reserve": reserve})));
        assert_eq!(told, ["reserve: has no effect with `accounting: after`: nothing is reserved"]);
    }
    assert!(
        warnings(&with_tokens(json!({"error_format": "openai", "rejected_msg": "no"})))[0].contains("headers alone")
    );
    let told = warnings(&with_tokens(json!({"error_format": "auto", "rejected_content_type": "text/html"})));
    assert!(told[0].contains("bodies that are JSON"), "{told:?}");
    let told = warnings(&with_tokens(json!({"cut_as": "error"})));
    assert_eq!(told, ["cut_as: has no effect without `on_exhausted: cut`: no answer is cut"]);
    assert!(warnings(&with_tokens(json!({"cut_as": "error", "on_exhausted": "cut"}))).is_empty());
    let format = policy(&with(json!({"error_format": "gemini"})));
    assert_eq!(
        (format.error_format, format.is_message_stated),
        (ErrorFormatChoice::Always(ErrorFormat::Gemini), false)
    );
}

#[test]
fn a_wrong_charge_and_wrong_weights_are_both_told() {
    let document = with_tokens(json!({"charge": "bill", "token_weights": {"input": -1}}));
    let errors = Config::read(document.to_string().as_bytes()).expect_err("two mistakes");
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["token_weights.input", "charge"]);
}
