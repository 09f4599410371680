//! What was meant by a field that nobody reads, or by another word.

use alloc::{format, string::String, vec::Vec};
use core::{cmp::min, fmt};

use crate::error::UNKNOWN;

/// Longer names are not compared.
const NAME_MAX: usize = 64;

/// A name that is the beginning of fields is one of them, if it is so long and they are so few.
const BEGINNING_MIN: usize = 4;
const BEGUN_MAX: usize = 3;

/// What `query_per_*` and `token_per_*` may end with.
const UNITS: [&str; 4] = ["second", "minute", "hour", "day"];

/// Names less alike than this are not suggested, in thousandths.
const LIKENESS_MIN: usize = 850;

/// The same for units of time.
const UNIT_LIKENESS_MIN: usize = 800;

/// What people write for windows that have no field of their own, and how they are written.
const OTHER_WINDOWS: [(&str, &str); 4] = [("month", "30d"), ("week", "7d"), ("year", "365d"), ("millisecond", "1s")];

/// What people write for a field that is called quite otherwise. `rules` is what other limiters call it, and `_rules_`
/// would be something else.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("rules", "rule_items"),
    ("items", "rule_items"),
    ("matchrules", "_rules_"),
    ("rejectedbody", "rejected_msg"),
    ("keys", "key"),
    ("value", "key"),
    ("address", "listen"),
    ("adress", "listen"),
    ("addr", "listen"),
    ("bind", "listen"),
    ("qps", "query_per_second"),
    ("rps", "query_per_second"),
];

/// What people count, beside queries in any spelling: `requests_per_minute`, `per_hour`.
const COUNTED: [&str; 6] = ["", "request", "requests", "req", "reqs", "rate"];

/// The message for a field that is none of those known where it stands; the search is made only if it is shown.
pub(crate) struct UnknownField<'a> {
    pub(crate) name: &'a str,
    pub(crate) known: &'a [&'a str],
    /// Where each field stands, for one that stands elsewhere.
    pub(crate) places: &'a [(&'a [&'a str], &'a str)],
}

impl fmt::Display for UnknownField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut places: Vec<&str> = Vec::new();
        for (_, place) in self.places.iter().filter(|(fields, _)| fields.contains(&self.name)) {
            // The top of a chain of filters is a top, too.
            if !places.iter().any(|known| place.starts_with(known)) {
                places.push(place);
            }
        }
        if !places.is_empty() {
            return write!(f, "{UNKNOWN}; it stands {}", places.join(", or "));
        }
        let meant = meant(self.name, self.known);
        if !meant.is_empty() {
            return write!(f, "{UNKNOWN}; did you mean {}?", either(&meant));
        }
        // The other reserved ones are written by gateways, hardly by a person who then spells them so badly.
        let plain = self.known.iter().filter(|field| !field.starts_with('_') || **field == "_rules_");
        let known: Vec<String> = plain.map(|field| format!("`{field}`")).collect();
        write!(f, "{UNKNOWN}; expected {}", either(&known))
    }
}

/// What may have been meant, in backticks.
fn meant(name: &str, known: &[&str]) -> Vec<String> {
    if name.len() > NAME_MAX {
        return Vec::new();
    }
    // Between underscores stand a few only, and nothing else is meant by what stands there.
    let is_reserved = |name: &str| name.starts_with('_') && name.ends_with('_');
    let reserved: Vec<&str> = known.iter().copied().filter(|field| is_reserved(name) && is_reserved(field)).collect();
    let known = if reserved.is_empty() { known } else { &reserved };
    let name = folded(name);
    let text: String = name.iter().collect();
    let counted = text.split_once("per").filter(|(counted, _)| {
        counted.starts_with("quer") || counted.starts_with("token") || COUNTED.contains(counted)
    });
    let (of_unit, of_window) = if text.starts_with("token") { ("token", "token_limit") } else { ("query", "limit") };
    if let Some((_, windows)) =
        OTHER_WINDOWS.iter().find(|(unit, _)| (counted.is_some() || text.starts_with("quer")) && text.contains(unit))
        && known.contains(&"window")
    {
        return Vec::from([format!("`{of_window}` with `window: {windows}`")]);
    }
    if let Some((_, rate)) = counted
        && known.contains(&"window")
    {
        return by_rate(rate, of_unit, of_window);
    }
    if let Some((_, field)) = OTHER_WORDS.iter().find(|(word, field)| *word == text && known.contains(field)) {
        return Vec::from([format!("`{field}`")]);
    }
    alike(&name, known).iter().map(|field| format!("`{field}`")).collect()
}

/// What was meant by `query_per_...` or `token_per_...`: the unit alone decides, as the names are all alike but for it.
fn by_rate(rate: &str, of_unit: &str, of_window: &str) -> Vec<String> {
    let letters = rate.trim_start_matches(|character: char| character.is_ascii_digit());
    let count = rate.strip_suffix(letters).unwrap_or_default();
    let letters_alone: Vec<char> = letters.chars().collect();
    let is_near = |unit: &&str| {
        let begins = unit.starts_with(letters) || letters.starts_with(*unit);
        begins
            || is_short_for(letters, unit)
            || jaro_winkler(&letters_alone, &unit.chars().collect::<Vec<char>>()) >= UNIT_LIKENESS_MIN
    };
    let unit = UNITS.into_iter().find(is_near).filter(|_| !letters.is_empty());
    Vec::from([match (unit, count.trim_start_matches('0')) {
        (None, _) if rate.is_empty() => return Vec::new(),
        (Some(unit), "") if count.is_empty() => format!("`{of_unit}_per_{unit}`"),
        (Some(unit), count) if !count.is_empty() => {
            format!("`{of_window}` with `window: {count}{}`", unit.get(..1).unwrap_or_default())
        }
        _ => format!("`{of_window}` with `window`"),
    }])
}

/// Whether letters are left out of a word but none added, as in `hr` and `hrs`.
fn is_short_for(letters: &str, word: &str) -> bool {
    let letters = letters.strip_suffix('s').unwrap_or(letters);
    let mut rest = word.chars();
    letters.len() > 1
        && letters.chars().next() == word.chars().next()
        && letters.chars().all(|letter| rest.any(|other| other == letter))
}

/// `a, b or c`.
pub fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known words that a word is the beginning of, or the one that is most like it and that it may be a slip for; the
/// likeliest first.
///
/// ```
/// assert_eq!(slidegate_document::nearest("chek", &["check", "serve"]), ["check"]);
/// assert!(slidegate_document::nearest("paint", &["check", "serve"]).is_empty());
/// ```
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    if word.len() > NAME_MAX { Vec::new() } else { alike(&folded(word), known) }
}

/// The known names that a name is the beginning of, or the one that begins most alike and is like it. A wrong
/// suggestion ruins a limit, so rather none than a far one.
fn alike<'a>(name: &[char], known: &[&'a str]) -> Vec<&'a str> {
    let is_plain = |field: &&str| !field.starts_with('_') || name.starts_with(&['m', 'a', 't', 'c', 'h']);
    let all_reserved = known.iter().all(|field| field.starts_with('_'));
    let plain = known.iter().copied().filter(|field| all_reserved || is_plain(field));
    let fields: Vec<(&str, Vec<char>)> = plain.map(|field| (field, folded(field))).collect();
    let begun: Vec<&str> =
        fields.iter().filter(|(_, letters)| letters.starts_with(name)).map(|(field, _)| *field).collect();
    if name.len() >= BEGINNING_MIN && (1..=BEGUN_MAX).contains(&begun.len()) {
        return begun;
    }
    let in_common = |letters: &[char]| name.iter().zip(letters).take_while(|(one, other)| one == other).count();
    let scored = fields.iter().map(|(field, letters)| (in_common(letters), jaro_winkler(name, letters), *field));
    let near = scored.filter(|(_, likeness, _)| *likeness >= LIKENESS_MIN);
    let best = near.reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best });
    best.map(|(.., field)| field).into_iter().collect()
}

/// The letters and digits of a name, so that `queryPerMinute` is no edit away from `query_per_minute`.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// How alike two texts are, in thousandths (Jaro and Winkler): the share of letters that both have at about the same
/// place and in the same order, and more if the first ones are the same.
fn jaro_winkler(one: &[char], other: &[char]) -> usize {
    let reach = (one.len().max(other.len()) / 2).saturating_sub(1);
    let mut taken: Vec<bool> = other.iter().map(|_| false).collect();
    let mut matched = Vec::new();
    for (at, letter) in one.iter().enumerate() {
        let near =
            other.iter().zip(&mut taken).enumerate().skip(at.saturating_sub(reach)).take(at.min(reach) + reach + 1);
        let found = near
            .map(|(_, (candidate, taken))| (candidate, taken))
            .find(|(candidate, taken)| *candidate == letter && !**taken);
        if let Some((_, taken)) = found {
            *taken = true;
            matched.push(letter);
        }
    }
    let matches = matched.len();
    if matches == 0 {
        return usize::from(one.is_empty() && other.is_empty()) * 1_000;
    }
    let in_order = other.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(letter, _)| letter);
    let swapped = in_order.zip(&matched).filter(|(letter, matched)| letter != *matched).count() / 2;
    let jaro =
        (1_000 * matches / one.len() + 1_000 * matches / other.len() + 1_000 * (matches - swapped) / matches) / 3;
    let beginning = one.iter().zip(other).take(4).take_while(|(left, right)| left == right).count();
    jaro + beginning * (1_000 - min(jaro, 1_000)) / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_that_of_jaro_and_winkler() {
        let likeness = |one: &str, other: &str| jaro_winkler(&folded(one), &folded(other));
        for (one, other, expected) in [
            ("martha", "marhta", 961),
            ("dixon", "dicksonx", 813),
            ("dwayne", "duane", 840),
            ("a", "b", 0),
            ("", "", 1_000),
            ("", "a", 0),
        ] {
            assert!(likeness(one, other).abs_diff(expected) <= 2, "{one} {other} {}", likeness(one, other));
        }
        assert_eq!(likeness("queryPer-Minute", "query_per_minute"), 1_000);
    }

    #[test]
    fn no_suggestion_ruins_a_limit() {
        let entry = [
            "key",
            "together",
            "unlimited",
            "query_per_second",
            "query_per_minute",
            "query_per_hour",
            "query_per_day",
            "limit",
            "window",
            "precision",
        ];
        for (name, expected) in [
            ("query_per_sec", "`query_per_second`"),
            ("query_per_s", "`query_per_second`"),
            ("query_per_min", "`query_per_minute`"),
            ("query_per_m", "`query_per_minute`"),
            ("query_per_h", "`query_per_hour`"),
            ("query_per_minit", "`query_per_minute`"),
            ("query_per_secund", "`query_per_second`"),
            ("queryPerDay", "`query_per_day`"),
            ("query_per_days", "`query_per_day`"),
            ("query_per_month", "`limit` with `window: 30d`"),
            ("query_per_week", "`limit` with `window: 7d`"),
            ("queries_per_month", "`limit` with `window: 30d`"),
            ("query_per_year", "`limit` with `window: 365d`"),
            ("query_per_hr", "`query_per_hour`"),
            ("query_per_hrs", "`query_per_hour`"),
            ("query_per_mins", "`query_per_minute`"),
            ("query_per_dy", "`query_per_day`"),
            ("query_per_10s", "`limit` with `window: 10s`"),
            ("query_per_30_min", "`limit` with `window: 30m`"),
            ("query_per_2h", "`limit` with `window: 2h`"),
            ("query_per_0s", "`limit` with `window`"),
            ("query_per_ms", "`limit` with `window`"),
            ("query_per_quarter", "`limit` with `window`"),
            ("query_per_fortnight", "`limit` with `window`"),
            ("query_per_half_hour", "`limit` with `window`"),
            ("query_per_decade", "`limit` with `window`"),
            ("query_per", ""),
            ("requests_per_second", "`query_per_second`"),
            ("request_per_month", "`limit` with `window: 30d`"),
            ("per_minute", "`query_per_minute`"),
            ("ratePerDay", "`query_per_day`"),
            ("qps", "`query_per_second`"),
            ("token_per_min", "`token_per_minute`"),
            ("tokens_per_day", "`token_per_day`"),
            ("token_per_week", "`token_limit` with `window: 7d`"),
            ("token_per_5m", "`token_limit` with `window: 5m`"),
            ("windows", "`window`"),
            ("keys", "`key`"),
            ("unlimitted", "`unlimited`"),
        ] {
            assert_eq!(meant(name, &entry).join(" "), expected, "{name}");
        }
        let top = [
            "rule_name",
            "global_threshold",
            "rule_items",
            "rejected_code",
            "rejected_msg",
            "failure_mode",
            "exempt",
            "hash_values",
            "hash_key",
            "rejected_headers",
            "_rules_",
            "_plugin_id_",
        ];
        for (name, expected) in [
            ("rules", "`rule_items`"),
            ("items", "`rule_items`"),
            ("rejectd_code", "`rejected_code`"),
            ("rejected_message", "`rejected_msg`"),
            ("global_treshold", "`global_threshold`"),
            ("rejected_body", "`rejected_msg`"),
            ("matchRules", "`_rules_`"),
            ("_rule_", "`_rules_`"),
            ("exemptions", "`exempt`"),
            ("hash_value", "`hash_values`"),
            ("failuremode", "`failure_mode`"),
        ] {
            assert_eq!(meant(name, &top).join(" "), expected, "{name}");
        }
        assert_eq!(
            meant(
                "limit_by_ip",
                &["limit_by_header", "limit_by_param", "limit_by_per_header", "limit_by_per_ip", "limit_keys"]
            ),
            ["`limit_by_per_ip`"]
        );
        assert_eq!(["address", "adress", "bind"].map(|name| meant(name, &["listen", "tls"]).concat()), ["`listen`"; 3]);
        for far in ["colour", "x", "burst", &"x".repeat(1 << 20)] {
            assert_eq!(meant(far, &top), Vec::<String>::new());
        }
    }

    #[test]
    fn what_begins_alike_is_meant_and_else_the_most_similar() {
        let known = [
            "listen",
            "admin",
            "workers",
            "upstream",
            "routes",
            "redis",
            "filter",
            "timeouts",
            "log",
            "limits",
            "request_headers",
            "connections",
            "connections_per_address",
        ];
        for (seen, meant) in [
            ("upstrem", Some("upstream")),
            ("upstreams", Some("upstream")),
            ("route", Some("routes")),
            ("timeout", Some("timeouts")),
            ("logging", Some("log")),
            ("Work-ers", Some("workers")),
            ("listem", Some("listen")),
            ("fliter", Some("filter")),
            ("requestHeaders", Some("request_headers")),
            ("request_header_timeout", Some("request_headers")),
            ("connection", Some("connections")),
            ("connections_per_adress", Some("connections_per_address")),
            ("connections_per_ip", Some("connections_per_address")),
            ("address", None),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(seen, &known).first().copied(), meant, "{seen}");
        }
    }
}
