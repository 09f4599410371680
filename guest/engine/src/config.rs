//! Configuration: JSON in, a compiled [`Ruleset`] or every mistake found out.
//! The only part that knows how fields are spelt and what they default to.
//!
//! The fields are those of Higress' `cluster-key-rate-limit` and ours beside them. What stock refuses is refused here,
//! but for what ours extend (no `redis`, exact keys in `limit_by_per_*`, `global_threshold` beside `rule_items`). Where
//! stock reads a number or a text loosely because YAML blurs the two, so does this; where stock turns nonsense into 0
//! or false, this is an error, and so is a field that nobody reads.

mod cache;
mod chain;
mod describe;
mod exempt;
mod filter_rules;
mod hashing;
mod known_fields;
mod limit;
mod limit_by;
mod limit_keys;
mod policy;
mod refusal;
mod ruleset;
mod scope;
mod service;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod tokens;
mod vault;

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};

pub(crate) use self::describe::counted_by;
pub use self::filter_rules::FilterRules;
pub use slidegate_document::ConfigError;
use slidegate_document::{Node, Reader};

use self::{describe::Description, known_fields::VOCABULARY, service::ServiceTable};
use crate::{
    cache::CacheRules,
    redis::Service,
    rule::{Policy, Ruleset},
    session::SessionRules,
    vault_rules::VaultRules,
};

/// A configuration that was understood.
#[derive(Debug)]
pub struct Config {
    /// What is configured for each filter, in order.
    pub filters: Vec<FilterRules>,
    /// Whether they stand in a list, be it of one.
    pub is_list: bool,
    /// The Redis services that policies refer to by index, each once.
    pub services: Vec<Service>,
    /// Oddities that are no errors, each a sentence.
    pub warnings: Vec<String>,
}

/// The id that the gateway gave this plugin (`_plugin_id_`), which is no part of what it does: lines carry it, even
/// those that tell what is wrong with the rest of the document.
pub fn plugin_id(json: &[u8]) -> Option<String> {
    let document = Node::parse(json).ok()?;
    document.get("_plugin_id_")?.as_str().filter(|id| !id.is_empty()).map(String::from)
}

impl Config {
    /// Reads a JSON document of at most 16 MiB.
    ///
    /// # Errors
    /// Every mistake found (the first thousand, and then how many more): lists in their order, fields in that of the
    /// documentation. A document that is no JSON has one mistake. No message repeats a password.
    ///
    /// ```
    /// use slidegate_engine::config::Config;
    ///
    /// let mistakes = Config::read(br#"{"rule_name": "orders", "global_threshold": {"query_per_minit":
    /// 10}}"#).unwrap_err();
    /// assert_eq!(mistakes[0].path, "global_threshold.query_per_minit");
    /// assert!(mistakes[0].message.contains("did you mean `query_per_minute`?"));
    /// ```
    pub fn read(json: &[u8]) -> Result<Config, Vec<ConfigError>> {
        let document = Node::parse(json).map_err(|message| vec![ConfigError { path: String::new(), message }])?;
        let mut reader = Reader::new(&VOCABULARY);
        let mut services = ServiceTable::default();
        let filters = chain::read(&mut reader, &mut services, &document);
        let warnings = reader.finish()?;
        Ok(Config { filters, is_list: chain::is_list(&document), services: services.into_vec(), warnings })
    }

    /// The policies of all filters, in order.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.limiters().flat_map(Ruleset::policies)
    }

    /// The rules of the filters that are limiters, in order.
    pub fn limiters(&self) -> impl Iterator<Item = &Ruleset> {
        self.filters.iter().filter_map(FilterRules::limiter).map(Rc::as_ref)
    }

    /// The rules of the filters that read sessions, in order.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionRules> {
        self.filters.iter().filter_map(FilterRules::session).map(Rc::as_ref)
    }

    /// The rules of the filters that keep cookies, in order.
    pub(crate) fn vaults(&self) -> impl Iterator<Item = &VaultRules> {
        self.filters.iter().filter_map(FilterRules::vault).map(Rc::as_ref)
    }

    /// The rules of the filters that keep responses, in order.
    pub fn caches(&self) -> impl Iterator<Item = &CacheRules> {
        self.filters.iter().filter_map(FilterRules::cache).map(Rc::as_ref)
    }

    /// The configuration as understood, as lines of text for a person. Shows no password, and of long lists the
    /// beginning.
    pub fn describe(&self) -> String {
        Description { filters: &self.filters, is_list: self.is_list, services: &self.services }.to_string()
    }
}
