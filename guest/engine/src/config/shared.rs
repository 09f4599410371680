//! Counters that two parts of a configuration share without saying so.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use slidegate_document::{Path, Reader, TimeSpan, shortened};

use crate::{
    key::limit_type,
    rule::{Limit, LimitUnit, Policy},
};

/// What makes counters the same, but for the value: where they are kept, the rule's name, the form of the key, what is
/// counted by with its name, and what is counted over which window.
type Counter = (Option<u32>, String, bool, &'static str, String, Option<String>, (u64, LimitUnit));

/// Counters by what makes them the same.
#[derive(Default)]
pub(super) struct SharedCounters {
    counters: BTreeMap<Counter, FirstUse>,
    /// Which filter is read.
    filter: usize,
}

/// Where a counter was met first, and under which limits.
struct FirstUse {
    filter: usize,
    place: String,
    limits: BTreeSet<u64>,
}

impl SharedCounters {
    /// What is noted from now on is of the next filter.
    pub(super) fn begin_filter(&mut self) {
        self.filter += 1;
    }

    /// Notes what a policy that stands at this path counts, and tells of what another one counts under other limits.
    pub(super) fn note(&mut self, reader: &mut Reader, path: Path<'_>, policy: &Policy) {
        let threshold = Path::Field(&path, "global_threshold");
        self.part(
            reader,
            threshold,
            policy,
            ("global_threshold", "", policy.global_name.as_deref()),
            policy.global.iter(),
        );
        let items = Path::Field(&path, "rule_items");
        for (index, item) in policy.items.iter().enumerate() {
            let kind = (limit_type(&item.limit_by), item.limit_by.key_name.as_str(), item.name.as_deref());
            let limits = item.keys.entries.iter().flat_map(|entry| &entry.limits);
            self.part(reader, Path::Element(&items, index), policy, kind, limits);
        }
    }

    fn part<'a>(
        &mut self,
        reader: &mut Reader,
        path: Path<'_>,
        policy: &Policy,
        (kind, key_name, name): (&'static str, &str, Option<&str>),
        limits: impl Iterator<Item = &'a Limit>,
    ) {
        let mut by_window: BTreeMap<(u64, LimitUnit), BTreeSet<u64>> = BTreeMap::new();
        for limit in limits {
            by_window.entry((limit.window_us, limit.unit)).or_default().insert(limit.limit);
        }
        let together = policy.decides_together();
        for (window, limits) in by_window {
            let counter = (
                policy.redis,
                policy.rule_name.clone(),
                together,
                kind,
                String::from(key_name),
                name.map(String::from),
                window,
            );
            let place = format!("{path}");
            let Some(met) = self.counters.get(&counter) else {
                self.counters.insert(counter, FirstUse { filter: self.filter, place, limits });
                continue;
            };
            if met.place == place {
                continue;
            }
            let (first, rule_name) = (&met.place, shortened(&policy.rule_name, 80));
            let shares = format!("shares its counters with {first}, as both have the `rule_name` `{rule_name}`");
            let apart = "give one of them a `name`, or another `rule_name`, to count apart";
            if met.limits != limits {
                let (window, here, there) = (TimeSpan(window.0), listed(&limits), listed(&met.limits));
                reader.warn(
                    path,
                    format_args!("{shares}, but under other limits per {window} ({here} here, {there} there): {apart}"),
                );
            } else if met.filter != self.filter {
                reader.warn(path, format_args!("{shares}, and counts a request that meets both again: {apart}"));
            }
        }
    }
}

fn listed(limits: &BTreeSet<u64>) -> String {
    let shown: Vec<String> = limits.iter().take(3).map(|limit| format!("{limit}")).collect();
    let more = if limits.len() > 3 { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}
