//! What is configured for one filter.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    filter_kind::FilterKind,
    rule::Ruleset,
    session::{FieldPath, SessionRules},
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
}

/// A field that a filter tells, as its path is written, and in which header.
pub(super) type ToldField = (String, String);

impl FilterRules {
    /// What it tells to those behind it.
    pub(super) fn told(&self) -> Vec<ToldField> {
        let FilterRules::Session(rules) = self else { return Vec::new() };
        rules.settings.fields.iter().map(FieldPath::to_string).zip(rules.headers.iter().cloned()).collect()
    }

    /// What kind of filter it is.
    pub(crate) fn kind(&self) -> FilterKind {
        match self {
            FilterRules::Limiter(_) => FilterKind::Limiter,
            FilterRules::Session(_) => FilterKind::Session,
            FilterRules::Vault(_) => FilterKind::CookieVault,
        }
    }

    /// The rules, if it is a limiter.
    pub fn limiter(&self) -> Option<&Rc<Ruleset>> {
        match self {
            FilterRules::Limiter(ruleset) => Some(ruleset),
            FilterRules::Session(_) | FilterRules::Vault(_) => None,
        }
    }

    /// The rules, if it reads sessions.
    pub fn session(&self) -> Option<&Rc<SessionRules>> {
        match self {
            FilterRules::Limiter(_) | FilterRules::Vault(_) => None,
            FilterRules::Session(rules) => Some(rules),
        }
    }

    /// The rules, if it keeps cookies.
    pub(crate) fn vault(&self) -> Option<&Rc<VaultRules>> {
        match self {
            FilterRules::Limiter(_) | FilterRules::Session(_) => None,
            FilterRules::Vault(rules) => Some(rules),
        }
    }
}
