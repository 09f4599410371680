//! The names of all fields, by where they stand: what is none of these is an error, with a suggestion.

use slidegate_document::{
    Vocabulary,
    table::{cache, chain, filter, limit, names, session, tokens, vault},
};

/// Of one configuration, at the top or in an element of `_rules_`.
pub(super) const POLICY: [&str; filter::POLICY.len()] = names(&filter::POLICY);

/// What may stand in `global_threshold`, beside [`LIMIT`].
pub(super) const THRESHOLD: [&str; limit::THRESHOLD.len()] = names(&limit::THRESHOLD);

/// What stands at the top in place of one filter.
pub(super) const CHAIN: [&str; chain::FIELDS.len()] = names(&chain::FIELDS);

/// What stands at the top of a filter only.
pub(super) const DOCUMENT: [&str; filter::DOCUMENT.len()] = names(&filter::DOCUMENT);

/// Which requests an element of `_rules_` is for.
pub(super) const SCOPE: [&str; filter::SCOPE.len()] = names(&filter::SCOPE);

/// What may stand in an element of `rule_items`.
pub(super) const RULE_ITEM: [&str; filter::RULE_ITEM.len()] = names(&filter::RULE_ITEM);

/// What may stand in an element of `limit_keys`, beside [`LIMIT`].
pub(super) const KEY: [&str; limit::KEY.len()] = names(&limit::KEY);

/// What may stand beside `key`, or in `global_threshold`.
pub(super) const LIMIT: [&str; limit::LIMIT.len()] = names(&limit::LIMIT);

/// Of `redis`.
pub(super) const REDIS: [&str; filter::REDIS.len()] = names(&filter::REDIS);

/// Of `exempt`.
pub(super) const EXEMPT: [&str; filter::EXEMPT.len()] = names(&filter::EXEMPT);

/// How tokens are charged, among those of a policy or of a rule item.
pub(super) const TOKEN_TERMS: [&str; tokens::TERMS.len()] = names(&tokens::TERMS);

/// Of `token_weights`.
pub(super) const TOKEN_WEIGHTS: [&str; tokens::WEIGHTS.len()] = names(&tokens::WEIGHTS);

/// What stands at the top of a filter that is no limiter.
pub(super) const SESSION_FILTER: [&str; 1] = names(&session::FILTER);

/// Of `session`.
pub(super) const SESSION: [&str; session::SESSION.len()] = names(&session::SESSION);

/// Of its `on_missing`.
pub(super) const SESSION_ANSWER: [&str; 1] = names(&session::ANSWER);

/// What stands at the top of a vault.
pub(super) const VAULT_FILTER: [&str; 1] = names(&vault::FILTER);

/// Of `cookie_vault`.
pub(super) const VAULT: [&str; vault::VAULT.len()] = names(&vault::VAULT);

/// What stands at the top of a filter that keeps responses.
pub(super) const CACHE_FILTER: [&str; 1] = names(&cache::FILTER);

/// Of `cache`.
pub(super) const CACHE: [&str; 11] = names(&cache::CACHE);

/// Of its `key`.
pub(super) const CACHE_KEY: [&str; 3] = names(&cache::KEY);

/// Of the `group` in there.
pub(super) const CACHE_GROUP: [&str; 2] = names(&cache::GROUP);

/// Of its `fallback`.
pub(super) const CACHE_FALLBACK: [&str; 3] = names(&cache::FALLBACK);

/// Where each field stands, for one that stands elsewhere.
pub(super) static VOCABULARY: Vocabulary = Vocabulary::new(&[
    (&DOCUMENT, "at the top only"),
    (&CHAIN, "at the top only, in place of a filter"),
    (&SESSION_FILTER, "at the top of a filter only, in place of limits"),
    (&VAULT_FILTER, "at the top of a filter only, in place of limits"),
    (&CACHE_FILTER, "at the top of a filter only, in place of limits"),
    (&POLICY, "at the top or in an element of `_rules_`"),
    (&SCOPE, "in an element of `_rules_`"),
    (&RULE_ITEM, "in an element of `rule_items`"),
    (&KEY, "in an element of `limit_keys`"),
    (&LIMIT, "in an element of `limit_keys` or in `global_threshold`"),
    (&REDIS, "in `redis`"),
    (&EXEMPT, "in `exempt`"),
    (&SESSION, "in `session`"),
    (&VAULT, "in `cookie_vault`"),
    (&SESSION_ANSWER, "in `on_missing` of `session`"),
    (&CACHE, "in `cache`"),
    (&CACHE_KEY, "in `key` of `cache`"),
    (&CACHE_GROUP, "in `group` of `cache.key`"),
    (&CACHE_FALLBACK, "in `fallback` of `cache`"),
    (&TOKEN_WEIGHTS, "in `token_weights`"),
    (&THRESHOLD, "in `global_threshold`"),
]);
