//! What was meant by a field that nobody reads.

use alloc::{format, string::String, vec::Vec};
use core::{cmp::min, fmt};

use super::{limit, limit_by, limit_keys, policy, ruleset, scope, service};

/// Longer names are not compared.
const NAME_MAX: usize = 64;

/// Where each field stands, for one that stands elsewhere.
const PLACES: [(&[&str], &str); 7] = [
    (&policy::FIELDS, "at the top or in an element of `_rules_`"),
    (&ruleset::FIELDS, "at the top only"),
    (&scope::FIELDS, "in an element of `_rules_`"),
    (&limit_by::FIELDS, "in an element of `rule_items`"),
    (&limit_keys::FIELDS, "in an element of `limit_keys`"),
    (&limit::FIELDS, "in an element of `limit_keys` or in `global_threshold`"),
    (&service::FIELDS, "in `redis`"),
];

/// The message for a field that is none of those known where it stands; the search is made only if it is shown.
pub(super) struct UnknownField<'a> {
    pub(super) name: &'a str,
    pub(super) known: &'a [&'a str],
}

impl fmt::Display for UnknownField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&unknown_field(self.name, self.known))
    }
}

fn unknown_field(name: &str, known: &[&str]) -> String {
    if let Some(unit) = name.strip_prefix("token_per_").filter(|unit| limit::UNITS.contains(unit)) {
        return format!("limits on tokens are not part of this filter, which counts requests: `query_per_{unit}` is its field");
    }
    let meant = nearest(name, known).map(|field| format!("did you mean `{field}`?"));
    let elsewhere = || {
        let (_, place) = PLACES.iter().find(|(fields, _)| fields.contains(&name))?;
        Some(format!("it stands {place}"))
    };
    match elsewhere().or(meant) {
        Some(hint) => format!("there is no such field here; {hint}"),
        None => {
            // The reserved ones are written by gateways, hardly by a person who then spells them so badly.
            let plain = known.iter().filter(|field| !field.starts_with('_'));
            let known: Vec<String> = plain.map(|field| format!("`{field}`")).collect();
            format!("there is no such field here; expected {}", either(&known))
        }
    }
}

/// `a, b or c`.
pub(super) fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known name that is the fewest edits away, if they are few for its length.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > NAME_MAX {
        return None;
    }
    let name = folded(name);
    let (edits, field) = known.iter().map(|field| (edit_distance(&name, &folded(field)), *field)).min()?;
    (edits <= name.len() / 3).then_some(field)
}

/// The letters and digits of a name, so that `queryPerMinute` is no edit away from `query_per_minute`.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// How many insertions, deletions and replacements make one text of another (Levenshtein).
fn edit_distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (removed, left) in from.iter().enumerate() {
        let mut diagonal = removed;
        let mut behind = removed + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(behind);
        for (right, above) in to.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(left != right);
            behind = min(replaced, min(behind, *above) + 1);
            diagonal = *above;
            next.push(behind);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let distance = |from: &str, to: &str| edit_distance(&folded(from), &folded(to));
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("flaw", "lawn"), 2);
        assert_eq!(distance("queryPer-Minute", "query_per_minute"), 0);
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("rejectd_code", &policy::FIELDS), Some("rejected_code"));
        assert_eq!(nearest("limit_by_ip", &limit_by::FIELDS), Some("limit_by_per_ip"));
        assert_eq!(nearest("colour", &policy::FIELDS), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &policy::FIELDS), None);
    }
}
