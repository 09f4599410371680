//! What is configured for one filter.

use alloc::rc::Rc;

use crate::{rule::Ruleset, session::SessionRules};

/// A filter's configuration, by its kind.
#[derive(Debug, Clone)]
pub enum FilterRules {
    /// Limits.
    Limiter(Rc<Ruleset>),
    /// Whose session a request is of.
    Session(Rc<SessionRules>),
}

impl FilterRules {
    /// The rules, if it is a limiter.
    pub fn limiter(&self) -> Option<&Rc<Ruleset>> {
        match self {
            FilterRules::Limiter(ruleset) => Some(ruleset),
            FilterRules::Session(_) => None,
        }
    }

    /// The rules, if it reads sessions.
    pub fn session(&self) -> Option<&Rc<SessionRules>> {
        match self {
            FilterRules::Limiter(_) => None,
            FilterRules::Session(rules) => Some(rules),
        }
    }
}
