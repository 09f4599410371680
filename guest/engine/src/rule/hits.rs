//! Which rule items a request meets, with which values, and the limits of these.

use alloc::{borrow::Cow, boxed::Box, vec, vec::Vec};
use core::net::IpAddr;

use super::{
    ClientIp, KeyEntry, KeyIndex, Limit, LimitKeys, OnMissing, Policy, RuleItem, RuleMatch, Source, Take, Trust,
};
use crate::{
    regexp::Pattern,
    request::{self, Choice, Chooser, RequestValue, RequestView},
};

/// The header that authentication plugins leave the consumer's name in.
pub(crate) const CONSUMER: &str = "x-mse-consumer";

/// The path without its query, as a header.
pub(crate) const PATH_ONLY: &str = ":path-only";

/// Whether the values of this header begin with a scheme.
#[inline]
pub(crate) fn is_credentials(name: &str) -> bool {
    matches!(name, "authorization" | "proxy-authorization")
}

/// Whether this header is the host that a request is for.
#[inline]
pub(crate) fn is_host(name: &str) -> bool {
    matches!(name, ":authority" | "host")
}

/// A value that a rule item applies to.
#[derive(Debug)]
pub struct Hit<'a> {
    /// The item.
    pub item: &'a RuleItem,
    /// Its place in `rule_items`.
    pub at: usize,
    /// What is counted.
    pub partition: Partition<'a>,
    /// The limits on that, all enforced.
    pub limits: &'a [Limit],
}

/// Which requests count together.
#[derive(Debug, PartialEq, Eq)]
pub enum Partition<'a> {
    /// Those with this value: bytes as received, or an address or network as text.
    Value(Vec<u8>),
    /// All that meet the entry with this key (`together`).
    Together(&'a str),
    /// All without a value (`on_missing: count`).
    Missing,
}

/// What a policy's rule items say of a request.
#[derive(Debug)]
pub enum Met<'a> {
    /// These limits; none if no item applies.
    Limits(Vec<Hit<'a>>),
    /// No limit at all: its value is unlimited.
    Unlimited,
    /// It is refused for what it lacks or has too often, by the item at this place.
    Refused(usize),
}

/// What one item has to do with a request, for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    /// It applies, by the entries at these places, one for each value.
    Applies(Vec<usize>),
    /// It does not apply, or has no say, for this reason.
    Skipped(&'static str),
    /// Its value is unlimited.
    Frees,
    /// It refuses the request for what it lacks or has too often.
    Refuses,
}

/// What one item says of a request.
enum Meeting<'a> {
    /// It does not apply: the request has no value for it.
    Missing,
    /// It does not apply: no entry is for the request's value.
    Unlisted,
    Limits(Vec<Hit<'a>>),
    Unlimited,
    Refused,
}

impl Policy {
    /// The limits of the rule items that apply to a request: of the first that does, or of all, as `rule_match` says.
    /// An item applies if the request has a value for it and one of its keys matches that value.
    ///
    /// Where the first decides, a value that is unlimited frees the request from the whole policy; where all do, from
    /// that item.
    ///
    /// Beside that, the places of the items that would refuse the request for what it lacks or has too often, and only
    /// try.
    #[inline(never)]
    pub fn hits(&self, request: &impl RequestView) -> (Met<'_>, Vec<usize>) {
        let mut facts = RequestFacts::new(request);
        let (mut hits, mut spared) = (None, Vec::new());
        for (at, item) in self.items.iter().enumerate() {
            match (meet(at, item, &mut facts), self.rule_match) {
                (Meeting::Missing | Meeting::Unlisted, _) | (Meeting::Unlimited, RuleMatch::All) => {}
                (Meeting::Refused, _) if self.dry_run || item.dry_run => spared.push(at),
                (Meeting::Refused, _) => return (Met::Refused(at), spared),
                (Meeting::Unlimited, RuleMatch::First) => return (Met::Unlimited, spared),
                (Meeting::Limits(found), RuleMatch::First) => return (Met::Limits(found), spared),
                (Meeting::Limits(found), RuleMatch::All) => {
                    hits.get_or_insert_with(Box::<Vec<_>>::default).extend(found)
                }
            }
        }
        (Met::Limits(hits.map(|hits| *hits).unwrap_or_default()), spared)
    }

    /// What each item has to do with a request, as [`Policy::hits`] goes by it.
    pub(crate) fn outcomes(&self, request: &impl RequestView) -> Vec<ItemOutcome> {
        let mut facts = RequestFacts::new(request);
        let mut outcomes = Vec::with_capacity(self.items.len());
        let mut is_decided = false;
        for (at, item) in self.items.iter().enumerate() {
            if is_decided {
                outcomes.push(ItemOutcome::Skipped("a rule before it decides"));
                continue;
            }
            let outcome = match meet(at, item, &mut facts) {
                Meeting::Missing => ItemOutcome::Skipped("the request has no value for it"),
                Meeting::Unlisted => ItemOutcome::Skipped("none of its keys is for the request's value"),
                Meeting::Refused if self.dry_run || item.dry_run => ItemOutcome::Skipped(
                    "it would refuse the request for what it lacks or has too often, but only tries",
                ),
                Meeting::Refused => ItemOutcome::Refuses,
                Meeting::Unlimited => ItemOutcome::Frees,
                Meeting::Limits(hits) => {
                    ItemOutcome::Applies(hits.iter().filter_map(|hit| item.keys.place_of(hit.limits)).collect())
                }
            };
            is_decided = match &outcome {
                ItemOutcome::Refuses => true,
                ItemOutcome::Applies(_) | ItemOutcome::Frees => self.rule_match == RuleMatch::First,
                ItemOutcome::Skipped(_) => false,
            };
            outcomes.push(outcome);
        }
        outcomes
    }
}

#[inline]
fn meet<'a>(at: usize, item: &'a RuleItem, facts: &mut RequestFacts<'_, 'a, impl RequestView>) -> Meeting<'a> {
    let take = item.take;
    if let Some(value) = facts.only_value(item) {
        return of_entry(item.keys.of_text(value), |entry| hit(at, item, entry, || value.to_vec()));
    }
    let choice = match &item.limit_by.source {
        Source::Ip(client) => return meet_address(at, item, client, facts.client(client)),
        Source::Header(name) if name == PATH_ONLY => request::counted_path(facts.path()).into(),
        Source::Header(name) if is_host(name) => facts.header_choice(name, take, request::host),
        Source::Header(name) if is_credentials(name) => facts.header_choice(name, take, request::credentials),
        Source::Header(name) | Source::Session(name) => {
            facts.header_choice(name, take, |value| Cow::Borrowed(value).into())
        }
        Source::Consumer => facts.header_choice(CONSUMER, take, |value| Cow::Borrowed(value).into()),
        Source::Param(name) => request::query_parameter(facts.path(), name, take),
        Source::Cookie(name) => {
            facts.header("cookie").map_or_else(Choice::default, |header| request::cookie(header, name, take))
        }
    };
    if choice.is_refused {
        return Meeting::Refused;
    }
    if choice.values.is_empty() || choice.is_empty() && item.on_missing != OnMissing::Pass {
        return missing(at, item);
    }
    let mut hits = Vec::with_capacity(choice.values.len());
    let mut are_unlimited = true;
    for value in choice.values {
        let entry = item.keys.of_value(&value);
        are_unlimited &= entry.is_some_and(|entry| entry.unlimited);
        if let Some(entry) = entry.filter(|entry| !entry.unlimited) {
            hits.push(hit(at, item, entry, || value.text.into_owned()));
        }
    }
    match hits.as_slice() {
        [] if are_unlimited => Meeting::Unlimited,
        [] => Meeting::Unlisted,
        // Servers read different values: which of them this one takes is not known.
        [_, _, ..] if take != Take::All => Meeting::Refused,
        _ => Meeting::Limits(hits),
    }
}

#[inline]
fn meet_address<'a>(at: usize, item: &'a RuleItem, client: &ClientIp, address: Option<IpAddr>) -> Meeting<'a> {
    let Some(address) = address else {
        return missing(at, item);
    };
    of_entry(item.keys.of_address(address), |entry| {
        let prefix = if address.is_ipv4() { client.ipv4_prefix } else { client.ipv6_prefix };
        // What is configured more narrowly than a client is counts by itself.
        let bits = entry.network.map_or(prefix, |network| prefix.max(network.prefix_len()));
        hit(at, item, entry, || request::counted_as(address, bits))
    })
}

/// What the entry for a request's only value says, if there is one.
#[inline]
fn of_entry<'a>(entry: Option<&'a KeyEntry>, hit: impl FnOnce(&'a KeyEntry) -> Hit<'a>) -> Meeting<'a> {
    match entry {
        None => Meeting::Unlisted,
        Some(entry) if entry.unlimited => Meeting::Unlimited,
        Some(entry) => Meeting::Limits(vec![hit(entry)]),
    }
}

#[inline]
fn missing(at: usize, item: &RuleItem) -> Meeting<'_> {
    match (item.on_missing, item.keys.of_missing()) {
        (OnMissing::Refuse, _) => Meeting::Refused,
        (OnMissing::Count, Some(entry)) if entry.unlimited => Meeting::Unlimited,
        (OnMissing::Count, Some(entry)) => {
            Meeting::Limits(vec![Hit { item, at, partition: Partition::Missing, limits: &entry.limits }])
        }
        (OnMissing::Count, None) | (OnMissing::Pass, _) => Meeting::Missing,
    }
}

#[inline]
fn hit<'a>(at: usize, item: &'a RuleItem, entry: &'a KeyEntry, value: impl FnOnce() -> Vec<u8>) -> Hit<'a> {
    let partition = if entry.together { Partition::Together(&entry.key) } else { Partition::Value(value()) };
    Hit { item, at, partition, limits: &entry.limits }
}

impl LimitKeys {
    /// The first entry whose address or network holds this address.
    #[inline]
    fn of_address(&self, address: IpAddr) -> Option<&KeyEntry> {
        match &self.index {
            KeyIndex::Ip(networks) => self.entries.get(networks.first_match(address)?),
            KeyIndex::Text { .. } => None,
        }
    }

    /// The first entry that is this value, in either spelling, or a pattern found in it.
    #[inline]
    fn of_value(&self, value: &RequestValue<'_>) -> Option<&KeyEntry> {
        let written = value.written.as_deref().and_then(|written| self.position(written));
        self.entries.get(written.into_iter().chain(self.position(&value.text)).min()?)
    }

    /// The first entry that is this text, or a pattern found in it.
    #[inline]
    fn of_text(&self, text: &[u8]) -> Option<&KeyEntry> {
        self.entries.get(self.position(text)?)
    }

    /// The entry for requests without a value: the first that an empty text meets, or every address.
    pub(crate) fn of_missing(&self) -> Option<&KeyEntry> {
        match &self.index {
            KeyIndex::Ip(_) => {
                self.entries.iter().find(|entry| entry.network.is_some_and(|network| network.prefix_len() == 0))
            }
            KeyIndex::Text { .. } => self.entries.get(self.position(b"")?),
        }
    }

    /// The place of the entry that these limits are of.
    fn place_of(&self, limits: &[Limit]) -> Option<usize> {
        self.entries.iter().position(|entry| core::ptr::eq(entry.limits.as_slice(), limits))
    }

    #[inline]
    fn position(&self, text: &[u8]) -> Option<usize> {
        // Most lists are `*` alone, and to look into one costs a guest a call.
        if self.is_any_first() { Some(0) } else { self.searched_position(text) }
    }

    /// Whether the first entry is for every text.
    #[inline]
    fn is_any_first(&self) -> bool {
        matches!(&self.index, KeyIndex::Text { patterns, .. } if matches!(patterns.first(), Some((0, Pattern::Any))))
    }

    #[inline(never)]
    fn searched_position(&self, text: &[u8]) -> Option<usize> {
        let KeyIndex::Text { exact, patterns } = &self.index else { return None };
        let found = exact.binary_search_by(|(key, _)| key.as_slice().cmp(text)).ok();
        let exact = found.and_then(|at| exact.get(at)).map(|(_, entry)| *entry);
        let before = patterns.iter().take_while(|(entry, _)| exact.is_none_or(|exact| *entry < exact));
        let pattern = before.into_iter().find(|(_, pattern)| pattern.is_match(text));
        pattern.map(|(entry, _)| *entry).or(exact)
    }
}

/// What has been read of a request: several items often look at one header, and each look may cost a host call.
struct RequestFacts<'r, 'a, View> {
    request: &'r View,
    path: Option<Vec<u8>>,
    /// By names that the rules own: the first that is looked at, as most rules look at one, and others.
    header: Option<(&'a str, Option<Vec<u8>>)>,
    headers: Option<Box<Facts<'a, Option<Vec<u8>>>>>,
    /// All values of headers of which the first is not enough.
    lists: Option<Box<Facts<'a, Vec<Vec<u8>>>>>,
}

/// What is known by names.
type Facts<'a, T> = Vec<(&'a str, T)>;

impl<'r, 'a, View: RequestView> RequestFacts<'r, 'a, View> {
    #[inline]
    fn new(request: &'r View) -> Self {
        RequestFacts { request, path: None, header: None, headers: None, lists: None }
    }

    #[inline]
    fn path(&mut self) -> &[u8] {
        self.path.get_or_insert_with(|| self.request.path())
    }

    #[inline]
    fn header(&mut self, name: &'a str) -> Option<&[u8]> {
        let request = self.request;
        let (known, value) = self.header.get_or_insert_with(|| (name, request.header(name)));
        if is_same_name(known, name) {
            return value.as_deref();
        }
        other_header(request, &mut self.headers, name)
    }

    #[inline(never)]
    fn header_values(&mut self, name: &'a str) -> &[Vec<u8>] {
        let request = self.request;
        once(self.lists.get_or_insert_default(), name, || request.header_values(name)).map_or(&[], Vec::as_slice)
    }

    /// The value that a rule goes by which takes the first of a header as it is, where there is one that is not empty:
    /// nearly always, and then there is nothing to choose.
    #[inline]
    fn only_value(&mut self, item: &'a RuleItem) -> Option<&[u8]> {
        let name = match &item.limit_by.source {
            Source::Header(name) if name == PATH_ONLY || is_host(name) || is_credentials(name) => return None,
            Source::Header(name) | Source::Session(name) => name.as_str(),
            Source::Consumer => CONSUMER,
            Source::Ip(_) | Source::Param(_) | Source::Cookie(_) => return None,
        };
        if item.take != Take::First {
            return None;
        }
        self.header(name).map(request::trim).filter(|value| !value.is_empty())
    }

    /// The values of a header that a rule goes by, without white space around them, which not every server takes for a
    /// part of them.
    #[inline(never)]
    fn header_choice<'s>(
        &'s mut self,
        name: &'a str,
        take: Take,
        value: fn(&'s [u8]) -> RequestValue<'s>,
    ) -> Choice<'s> {
        let mut chooser = Chooser::new(take);
        // Most requests have one field that is not empty: then one host call does.
        if take == Take::First && self.header(name).is_none_or(|first| !request::trim(first).is_empty()) {
            self.header(name).into_iter().for_each(|first| chooser.offer(value(request::trim(first))));
        } else {
            self.header_values(name).iter().for_each(|each| chooser.offer(value(request::trim(each))));
        }
        chooser.choice()
    }

    /// The client's address: what the header says as far as it can be read and believed, else the peer's. What a client
    /// does not send, or spells so that nobody can read it, must not free it.
    fn client(&mut self, client: &'a ClientIp) -> Option<IpAddr> {
        let written = client.header.as_deref().and_then(|header| match &client.trust {
            Trust::Leftmost => request::leftmost(self.header(header)?),
            Trust::Hops(hops) => request::beyond_hops(self.header_values(header), *hops),
            Trust::Proxies { set, .. } => request::beyond_proxies(self.header_values(header), set),
        });
        written.or_else(|| request::address(self.request.source_address()?.as_bytes()))
    }
}

/// A header that is not the first that is looked at.
#[inline(never)]
fn other_header<'a, 'f>(
    request: &impl RequestView,
    others: &'f mut Option<Box<Facts<'a, Option<Vec<u8>>>>>,
    name: &'a str,
) -> Option<&'f [u8]> {
    once(others.get_or_insert_default(), name, || request.header(name)).and_then(|value| value.as_deref())
}

/// The fact of this name, read if it has not been. There are a handful at most.
#[inline]
fn once<'a, 'f, T>(facts: &'f mut Facts<'a, T>, name: &'a str, read: impl FnOnce() -> T) -> Option<&'f T> {
    let at = match facts.iter().position(|(known, _)| is_same_name(known, name)) {
        Some(at) => at,
        None => {
            facts.push((name, read()));
            facts.len().saturating_sub(1)
        }
    };
    facts.get(at).map(|(_, fact)| fact)
}

/// Most often it is one text of the configuration.
#[inline]
fn is_same_name(name: &str, other: &str) -> bool {
    core::ptr::eq(name, other) || name == other
}

#[cfg(test)]
mod tests;
