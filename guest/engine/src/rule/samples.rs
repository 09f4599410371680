//! Policies and requests for the tests beside this file.

use alloc::{string::String, vec::Vec};
use core::cell::RefCell;

use super::{
    ErrorFormat, ErrorFormatChoice, Exempt, FailureMode, Policy, QuotaHeaders, RuleItem, RuleMatch, TokenTerms,
};
use crate::request::RequestView;

/// A policy with these rule items.
pub(crate) fn policy(items: Vec<RuleItem>) -> Policy {
    Policy {
        rule_name: String::from("rule"),
        global: Vec::new(),
        global_name: None,
        items,
        rule_match: RuleMatch::First,
        redis: None,
        rejected_code: 429,
        rejected_msg: String::new(),
        rejected_headers: Vec::new(),
        exempt: Exempt::default(),
        headers: QuotaHeaders { reset: true, ..QuotaHeaders::default() },
        failure_mode: FailureMode::Open,
        dry_run: false,
        remember_refusals: Some(5_000_000),
        coalesce: true,
        max_new_keys_per_second: None,
        token_terms: TokenTerms::default(),
        error_format: ErrorFormatChoice::Always(ErrorFormat::Plain),
        is_message_stated: false,
    }
}

/// A request that remembers what it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) path: Vec<u8>,
    pub(crate) authority: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) source: Option<&'static str>,
    pub(crate) route: String,
    pub(crate) service: String,
    pub(crate) is_bodiless: bool,
    pub(crate) calls: RefCell<Vec<String>>,
}

impl Sample {
    /// What it was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    fn note(&self, call: &str) {
        self.calls.borrow_mut().push(String::from(call));
    }
}

impl RequestView for Sample {
    fn path(&self) -> Vec<u8> {
        self.note("path");
        self.path.clone()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        self.note("authority");
        self.authority.clone()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.note(name);
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.note(name);
        self.headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        self.note("headers");
        let fields = self.headers.iter().filter(|(name, _)| !name.starts_with(':'));
        Some(fields.map(|(name, value)| (String::from(*name), value.clone())).collect())
    }

    fn source_address(&self) -> Option<String> {
        self.note("source");
        self.source.map(String::from)
    }

    fn route_name(&self) -> String {
        self.note("route");
        self.route.clone()
    }

    fn service_name(&self) -> String {
        self.note("service");
        self.service.clone()
    }

    fn has_body(&self) -> bool {
        !self.is_bodiless
    }
}
