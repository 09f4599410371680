//! Which rule items a request meets, with which values, and the limits of these.

use alloc::{borrow::Cow, vec::Vec};
use core::net::IpAddr;

use super::{ClientIp, KeyEntry, KeyIndex, Limit, LimitKeys, Policy, RuleItem, RuleMatch, Source, Trust};
use crate::request::{self, RequestView};

/// The header that authentication plugins leave the consumer's name in.
pub(crate) const CONSUMER: &str = "x-mse-consumer";

/// A rule item that applies to a request.
#[derive(Debug)]
pub struct Hit<'a> {
    /// The item.
    pub item: &'a RuleItem,
    /// Its place in `rule_items`.
    pub at: usize,
    /// The value that is counted: bytes as received, or an address or network as text.
    pub value: Vec<u8>,
    /// The limits on that value, all enforced.
    pub limits: &'a [Limit],
}

impl Policy {
    /// The rule items that apply to a request: the first that does, or all, as `rule_match` says. An item applies if the
    /// request has a value for it and one of its keys matches that value.
    pub fn hits(&self, request: &impl RequestView) -> Vec<Hit<'_>> {
        let mut facts = Facts::new(request);
        let hits = self.items.iter().enumerate().filter_map(|(at, item)| hit(at, item, &mut facts));
        match self.rule_match {
            RuleMatch::First => hits.take(1).collect(),
            RuleMatch::All => hits.collect(),
        }
    }
}

fn hit<'a>(at: usize, item: &'a RuleItem, facts: &mut Facts<'_, 'a, impl RequestView>) -> Option<Hit<'a>> {
    let (entry, value) = match &item.limit_by.source {
        Source::Ip(client) => {
            let address = facts.client(client)?;
            (item.keys.of_address(address)?, request::counted_as(address, client.ipv6_prefix))
        }
        Source::Header(name) => of_text(item, Cow::Borrowed(facts.header(name)?))?,
        Source::Consumer => of_text(item, Cow::Borrowed(facts.header(CONSUMER)?))?,
        Source::Param(name) => of_text(item, request::query_parameter(facts.path(), name)?)?,
        Source::Cookie(name) => of_text(item, Cow::Borrowed(request::cookie(facts.header("cookie")?, name)?))?,
    };
    Some(Hit { item, at, value, limits: &entry.limits })
}

fn of_text<'a>(item: &'a RuleItem, value: Cow<'_, [u8]>) -> Option<(&'a KeyEntry, Vec<u8>)> {
    Some((item.keys.of_text(&value)?, value.into_owned()))
}

impl LimitKeys {
    /// The first entry whose address or network holds this address.
    fn of_address(&self, address: IpAddr) -> Option<&KeyEntry> {
        match &self.index {
            KeyIndex::Ip(networks) => self.entries.get(networks.first_match(address)?),
            KeyIndex::Text { .. } => None,
        }
    }

    /// The first entry that is this value or a pattern found in it.
    fn of_text(&self, value: &[u8]) -> Option<&KeyEntry> {
        let KeyIndex::Text { exact, patterns } = &self.index else {
            return None;
        };
        let found = exact.binary_search_by(|(key, _)| key.as_slice().cmp(value)).ok();
        let exact = found.and_then(|at| exact.get(at)).map_or(usize::MAX, |(_, entry)| *entry);
        let before = patterns.iter().take_while(|(entry, _)| *entry < exact);
        let pattern = before.into_iter().find(|(_, pattern)| pattern.is_match(value));
        self.entries.get(pattern.map_or(exact, |(entry, _)| *entry))
    }
}

/// What has been read of a request: several items often look at one header, and each look may cost a host call.
struct Facts<'r, 'a, View> {
    request: &'r View,
    path: Option<Vec<u8>>,
    /// By names that the rules own.
    headers: Vec<(&'a str, Option<Vec<u8>>)>,
    forwarded: Vec<(&'a str, Vec<Vec<u8>>)>,
}

impl<'r, 'a, View: RequestView> Facts<'r, 'a, View> {
    fn new(request: &'r View) -> Self {
        Facts { request, path: None, headers: Vec::new(), forwarded: Vec::new() }
    }

    fn path(&mut self) -> &[u8] {
        self.path.get_or_insert_with(|| self.request.path())
    }

    fn header(&mut self, name: &'a str) -> Option<&[u8]> {
        let request = self.request;
        once(&mut self.headers, name, || request.header(name)).and_then(|value| value.as_deref())
    }

    fn header_values(&mut self, name: &'a str) -> &[Vec<u8>] {
        let request = self.request;
        once(&mut self.forwarded, name, || request.header_values(name)).map_or(&[], Vec::as_slice)
    }

    fn client(&mut self, client: &'a ClientIp) -> Option<IpAddr> {
        let Some(header) = &client.header else {
            return request::address(self.request.source_address()?.as_bytes());
        };
        match &client.trust {
            Trust::Leftmost => request::leftmost(self.header(header)?),
            Trust::Hops(hops) => request::beyond_hops(self.header_values(header), *hops),
            Trust::Proxies { set, .. } => request::beyond_proxies(self.header_values(header), set),
        }
    }
}

/// The fact of this name, read if it has not been. There are a handful at most.
fn once<'a, 'f, T>(facts: &'f mut Vec<(&'a str, T)>, name: &'a str, read: impl FnOnce() -> T) -> Option<&'f T> {
    let at = match facts.iter().position(|(known, _)| *known == name) {
        Some(at) => at,
        None => {
            facts.push((name, read()));
            facts.len().saturating_sub(1)
        }
    };
    facts.get(at).map(|(_, fact)| fact)
}

#[cfg(test)]
mod tests;
