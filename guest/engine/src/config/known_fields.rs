//! The names of all fields, by where they stand: what is none of these is an error, with a suggestion.

use slidegate_document::{
    Vocabulary,
    table::{filter, names, tokens},
};

/// Of one configuration, at the top or in an element of `_rules_`.
pub(super) const POLICY: [&str; 30] = names(&filter::POLICY);

/// What may stand in `global_threshold`, beside [`LIMIT`].
pub(super) const THRESHOLD: [&str; 1] = names(&filter::THRESHOLD);

/// What stands at the top in place of one filter.
pub(super) const CHAIN: [&str; 1] = names(&filter::CHAIN_FIELDS);

/// What stands at the top of a filter only.
pub(super) const DOCUMENT: [&str; 2] = names(&filter::DOCUMENT);

/// Which requests an element of `_rules_` is for.
pub(super) const SCOPE: [&str; 4] = names(&filter::SCOPE);

/// What may stand in an element of `rule_items`.
pub(super) const RULE_ITEM: [&str; 28] = names(&filter::RULE_ITEM);

/// What may stand in an element of `limit_keys`, beside [`LIMIT`].
pub(super) const KEY: [&str; 3] = names(&filter::KEY);

/// What may stand beside `key`, or in `global_threshold`.
pub(super) const LIMIT: [&str; 12] = names(&filter::LIMIT);

/// Of `redis`.
pub(super) const REDIS: [&str; 6] = names(&filter::REDIS);

/// Of `exempt`.
pub(super) const EXEMPT: [&str; 4] = names(&filter::EXEMPT);

/// How tokens are charged, among those of a policy or of a rule item.
pub(super) const TOKEN_TERMS: [&str; 8] = names(&tokens::TERMS);

/// Of `token_weights`.
pub(super) const TOKEN_WEIGHTS: [&str; 5] = names(&tokens::WEIGHTS);

/// Where each field stands, for one that stands elsewhere.
pub(super) static VOCABULARY: Vocabulary = Vocabulary::new(&[
    (&CHAIN, "at the top only, in place of a filter"),
    (&POLICY, "at the top or in an element of `_rules_`"),
    (&DOCUMENT, "at the top only"),
    (&SCOPE, "in an element of `_rules_`"),
    (&RULE_ITEM, "in an element of `rule_items`"),
    (&KEY, "in an element of `limit_keys`"),
    (&LIMIT, "in an element of `limit_keys` or in `global_threshold`"),
    (&REDIS, "in `redis`"),
    (&EXEMPT, "in `exempt`"),
    (&TOKEN_WEIGHTS, "in `token_weights`"),
    (&THRESHOLD, "in `global_threshold` or in an element of `rule_items`"),
]);
