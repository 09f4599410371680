//! What is configured for one filter.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    cache::CacheRules,
    filter_kind::FilterKind,
    rule::Ruleset,
    session::{FieldPath, SessionRules, SessionSource},
    vault_rules::VaultRules,
};

/// A filter's configuration, by its kind.
#[derive(Debug, Clone)]
pub enum FilterRules {
    /// Limits.
    Limiter(Rc<Ruleset>),
    /// Whose session a request is of.
    Session(Rc<SessionRules>),
    /// Which cookies' values are kept.
    Vault(Rc<VaultRules>),
    /// Which responses are kept, and how they are used.
    Cache(Rc<CacheRules>),
}

/// A field that a filter tells, as its path is written, in which header, and what leads to the session that it is of.
type ToldField = (String, String, SessionSource);

/// What the filters before another one tell of sessions.
#[derive(Debug, Default)]
pub(super) struct ToldFields {
    fields: Vec<ToldField>,
    /// A session among them was not understood: it may tell any other field.
    pub(super) may_be_more: bool,
}

impl ToldFields {
    /// Those that this filter tells, too.
    pub(super) fn add(&mut self, rules: &FilterRules) {
        self.fields.extend(rules.told());
    }

    /// The header in which a field is told, and what leads to its session. Of several filters that tell it the last one
    /// counts.
    pub(super) fn get(&self, field: &str) -> Option<(&str, &SessionSource)> {
        let (_, header, source) = self.fields.iter().rev().find(|(told, ..)| told == field)?;
        Some((header, source))
    }

    /// All fields that are known.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(field, ..)| field.as_str())
    }

    /// The headers in which they are told, and those that lead to their sessions.
    pub(super) fn known_by(&self) -> Vec<String> {
        let sources = self.fields.iter().filter_map(|(.., source)| match source {
            SessionSource::Header(name) => Some(name.as_str()),
            SessionSource::Cookie(_) => None,
        });
        self.headers().chain(sources).map(String::from).collect()
    }

    /// The headers in which they are told.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(_, header, _)| header.as_str())
    }
}

impl FilterRules {
    /// What it tells to those behind it.
    pub(super) fn told(&self) -> Vec<ToldField> {
        let FilterRules::Session(rules) = self else { return Vec::new() };
        let fields = rules.settings.fields.iter().map(FieldPath::to_string).zip(&rules.headers);
        fields.map(|(field, header)| (field, header.clone(), rules.settings.source.clone())).collect()
    }

    /// Whether it keeps something in this Redis that is no response.
    pub(super) fn counts_in(&self, redis: u32) -> bool {
        match self {
            FilterRules::Limiter(ruleset) => ruleset.policies().any(|policy| policy.redis == Some(redis)),
            FilterRules::Session(rules) => rules.redis == Some(redis),
            FilterRules::Vault(rules) => rules.redis == redis,
            FilterRules::Cache(_) => false,
        }
    }

    /// What kind of filter it is.
    pub(crate) fn kind(&self) -> FilterKind {
        match self {
            FilterRules::Limiter(_) => FilterKind::Limiter,
            FilterRules::Session(_) => FilterKind::Session,
            FilterRules::Vault(_) => FilterKind::CookieVault,
            FilterRules::Cache(_) => FilterKind::Cache,
        }
    }

    /// The rules, if it is a limiter.
    pub fn limiter(&self) -> Option<&Rc<Ruleset>> {
        if let FilterRules::Limiter(ruleset) = self { Some(ruleset) } else { None }
    }

    /// The rules, if it reads sessions.
    pub fn session(&self) -> Option<&Rc<SessionRules>> {
        if let FilterRules::Session(rules) = self { Some(rules) } else { None }
    }

    /// The rules, if it keeps cookies.
    pub(crate) fn vault(&self) -> Option<&Rc<VaultRules>> {
        if let FilterRules::Vault(rules) = self { Some(rules) } else { None }
    }

    /// The rules, if it keeps responses.
    pub fn cache(&self) -> Option<&Rc<CacheRules>> {
        if let FilterRules::Cache(rules) = self { Some(rules) } else { None }
    }
}
