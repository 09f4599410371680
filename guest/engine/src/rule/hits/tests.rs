use super::*;
use crate::rule::{LimitUnit, TokenTerms};
use crate::{
    ip_set::{IpSet, parse_key},
    regexp::Pattern,
    rule::{
        LimitBy,
        samples::{Sample, policy},
    },
};
use alloc::{
    string::{String, ToString},
    vec,
};
use proptest::prelude::*;

/// An item whose entries have their position as limit, so that a hit tells which entry it was.
fn item(source: Source, per: bool, keys: &[&str]) -> RuleItem {
    let limits = |limit| vec![Limit { limit, window_us: 1_000_000, slot_us: 1, unit: LimitUnit::Requests }];
    let entries = keys.iter().zip(0..).map(|(key, limit)| KeyEntry {
        key: key.to_string(),
        limits: limits(limit),
        network: parse_key(key),
        together: false,
        unlimited: false,
    });
    let entries: Vec<_> = entries.collect();
    let index = match source {
        Source::Ip(_) => KeyIndex::Ip(IpSet::new(keys.iter().map(|key| parse_key(key).unwrap()))),
        _ => {
            let mut exact: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).zip(0..).collect();
            exact.sort();
            exact.dedup_by(|later, first| later.0 == first.0);
            let pattern = |key: &str| match key.strip_prefix("regexp:") {
                Some(expression) => Some(Pattern::new(expression).unwrap()),
                None => (key == "*").then(Pattern::any),
            };
            let patterns =
                keys.iter().enumerate().filter(|_| per).filter_map(|(at, key)| Some((at, pattern(key)?))).collect();
            KeyIndex::Text { exact, patterns }
        }
    };
    RuleItem {
        limit_by: LimitBy { per, source, key_name: String::new() },
        keys: LimitKeys { entries, index },
        dry_run: false,
        on_missing: OnMissing::Pass,
        take: Take::First,
        is_secret: false,
        hash: None,
        name: None,
        max_new_keys_per_second: None,
        token_terms: TokenTerms::default(),
    }
}

fn header(name: &str) -> Source {
    Source::Header(name.into())
}

fn client(header: Option<&str>, trust: Trust, ipv6_prefix: u8) -> Source {
    Source::Ip(ClientIp { header: header.map(String::from), trust, ipv4_prefix: 32, ipv6_prefix })
}

fn with_headers(headers: &[(&'static str, &[u8])]) -> Sample {
    Sample { headers: headers.iter().map(|(name, value)| (*name, value.to_vec())).collect(), ..Sample::default() }
}

/// Item position, entry position and value of each hit.
fn hits(items: Vec<RuleItem>, rule_match: RuleMatch, request: &Sample) -> Vec<(usize, u64, Vec<u8>)> {
    let policy = Policy { rule_match, ..policy(items) };
    let of = |item| policy.items.iter().position(|known| core::ptr::eq(known, item)).unwrap();
    let value = |partition| match partition {
        Partition::Value(value) => value,
        other => panic!("{other:?}"),
    };
    match policy.hits(request).0 {
        Met::Limits(hits) => {
            hits.into_iter().map(|hit| (of(hit.item), hit.limits[0].limit, value(hit.partition))).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Entry position and value for one item.
fn one(item: RuleItem, request: &Sample) -> Option<(u64, Vec<u8>)> {
    hits(vec![item], RuleMatch::First, request).pop().map(|(_, entry, value)| (entry, value))
}

#[test]
fn exact_values_are_compared_byte_for_byte() {
    let keys = ["b", "a", "", "*", "regexp:^x", "a"];
    for (value, expected) in [
        ("a", Some(1)),
        ("b", Some(0)),
        ("A", None),
        ("a ", Some(1)),
        (" \ta", Some(1)),
        ("", Some(2)),
        ("*", Some(3)),
        ("x", None),
        ("regexp:^x", Some(4)),
    ] {
        let request = with_headers(&[("h", value.as_bytes())]);
        assert_eq!(one(item(header("h"), false, &keys), &request).map(|hit| hit.0), expected, "{value}");
    }
    assert_eq!(one(item(header("h"), false, &["\u{fffd}"]), &with_headers(&[("h", b"\xff")])), None);
}

#[test]
fn the_first_entry_that_matches_wins_in_per_items() {
    let keys = ["exact", "regexp:^a.*", "ab", "regexp:b$", "*", "late"];
    for (value, expected) in [
        ("exact", 0),
        ("abc", 1),
        ("ab", 1),
        ("xb", 3),
        ("late", 4),
        ("", 4),
        ("*", 4),
        ("regexp:^a.*", 1),
        ("regexp:b$", 3),
    ] {
        let request = with_headers(&[("h", value.as_bytes())]);
        assert_eq!(
            one(item(header("h"), true, &keys), &request),
            Some((expected, value.as_bytes().to_vec())),
            "{value}"
        );
    }
    let none = item(header("h"), true, &["regexp:^a", "b"]);
    assert_eq!(one(none, &with_headers(&[("h", b"c")])), None);
}

#[test]
fn an_empty_header_is_a_value_and_a_missing_one_is_none() {
    let request = with_headers(&[("h", b"")]);
    assert_eq!(one(item(header("h"), true, &["a", "*"]), &request), Some((1, vec![])));
    assert_eq!(one(item(header("h"), true, &["regexp:^$"]), &request), Some((0, vec![])));
    assert_eq!(one(item(header("h"), false, &["a"]), &request), None);
    assert_eq!(one(item(header("h"), true, &["*"]), &with_headers(&[("g", b"x")])), None);
}

#[test]
fn the_first_header_counts() {
    let request = with_headers(&[("h", b"1"), ("h", b"2")]);
    assert_eq!(one(item(header("h"), true, &["*"]), &request), Some((0, b"1".to_vec())));
}

#[test]
fn every_source() {
    let request = Sample {
        path: b"/p?apikey=a%2Bb".to_vec(),
        headers: vec![
            ("x-mse-consumer", b"kim".to_vec()),
            ("cookie", b"a=1; session=x=y".to_vec()),
            ("x-forwarded-for", b"1.1.1.1, 2.2.2.2".to_vec()),
            ("x-forwarded-for", b"3.3.3.3".to_vec()),
        ],
        source: Some("[2001:db8:0:1ff::9]:5000"),
        ..Sample::default()
    };
    let proxies = Trust::proxies(vec!["3.0.0.0/8".parse().unwrap(), "2.2.2.2/32".parse().unwrap()]);
    let xff = Some("x-forwarded-for");
    for (source, keys, expected) in [
        (Source::Param("apikey".into()), "a+b", "a+b"),
        (Source::Consumer, "kim", "kim"),
        (Source::Cookie("session".into()), "x=y", "x=y"),
        (client(xff, Trust::Leftmost, 128), "1.0.0.0/8", "1.1.1.1"),
        (client(xff, Trust::Hops(1), 128), "0.0.0.0/0", "2.2.2.2"),
        (client(xff, proxies, 56), "::/0", "1.1.1.1"),
        (client(None, Trust::Leftmost, 128), "2001:db8:0:1ff::9", "2001:db8:0:1ff::9"),
        // The entry is found by the address, the count is the network's.
        (client(None, Trust::Hops(3), 56), "2001:db8::/32", "2001:db8:0:100::/56"),
        // But one that is configured more narrowly counts by itself.
        (client(None, Trust::Hops(3), 56), "2001:db8:0:1ff::9", "2001:db8:0:1ff::9"),
        (client(None, Trust::Hops(3), 56), "2001:db8:0:1ff::/64", "2001:db8:0:1ff::/64"),
        // Where the header says nothing, the peer.
        (client(Some("x-real-ip"), Trust::Leftmost, 128), "2001:db8::/32", "2001:db8:0:1ff::9"),
        (client(Some("x-real-ip"), Trust::Hops(0), 128), "2001:db8::/32", "2001:db8:0:1ff::9"),
        (client(Some("cookie"), Trust::Leftmost, 128), "2001:db8::/32", "2001:db8:0:1ff::9"),
        (Source::Header(":path-only".into()), "/p", "/p"),
    ] {
        assert_eq!(one(item(source, false, &[keys]), &request), Some((0, expected.as_bytes().to_vec())), "{keys}");
    }
    for (source, keys) in [
        (Source::Param("other".into()), "*"),
        (Source::Cookie("other".into()), "*"),
        (client(xff, Trust::Leftmost, 128), "2.0.0.0/8"),
    ] {
        assert_eq!(one(item(source, true, &[keys]), &request), None);
    }
    assert_eq!(one(item(client(None, Trust::Leftmost, 128), true, &["::/0"]), &Sample::default()), None);
}

#[test]
fn peers_on_a_dual_stack_socket_are_ipv4() {
    let request = Sample { source: Some("[::ffff:192.0.2.7]:99"), ..Sample::default() };
    let found = one(item(client(None, Trust::Leftmost, 64), true, &["192.0.2.0/24"]), &request);
    assert_eq!(found, Some((0, b"192.0.2.7".to_vec())));
}

#[test]
fn first_stops_and_all_goes_on() {
    let items = || {
        vec![
            item(header("absent"), true, &["*"]),
            item(header("h"), false, &["other"]),
            item(header("h"), true, &["regexp:^v", "*"]),
            item(header("g"), true, &["*"]),
            item(header("h"), false, &["v"]),
        ]
    };
    let request = with_headers(&[("h", b"v"), ("g", b"w")]);
    assert_eq!(hits(items(), RuleMatch::First, &request), [(2, 0, b"v".to_vec())]);
    assert_eq!(request.calls(), ["absent", "h"], "each header once, none in vain");

    let request = with_headers(&[("h", b"v"), ("g", b"w")]);
    let expected = [(2, 0, b"v".to_vec()), (3, 0, b"w".to_vec()), (4, 0, b"v".to_vec())];
    assert_eq!(hits(items(), RuleMatch::All, &request), expected);
    assert_eq!(request.calls(), ["absent", "h", "g"]);
    assert_eq!(hits(items(), RuleMatch::All, &Sample::default()), []);
    assert_eq!(hits(vec![], RuleMatch::First, &request), []);
}

#[test]
fn path_cookie_and_forwarded_header_are_read_once() {
    let request = Sample { path: b"/?k=1".to_vec(), ..with_headers(&[("cookie", b"k=1"), ("f", b"1.1.1.1")]) };
    let items = vec![
        item(Source::Param("k".into()), true, &["2"]),
        item(Source::Param("k".into()), true, &["1"]),
        item(Source::Cookie("x".into()), true, &["*"]),
        item(Source::Cookie("k".into()), true, &["1"]),
        item(client(Some("f"), Trust::Hops(0), 128), true, &["2.2.2.2"]),
        item(client(Some("f"), Trust::proxies(vec![]), 128), true, &["1.1.1.1"]),
    ];
    let found: Vec<usize> = hits(items, RuleMatch::All, &request).into_iter().map(|hit| hit.0).collect();
    assert_eq!(found, [1, 3, 5]);
    assert_eq!(request.calls(), ["path", "cookie", "f"]);
}

fn refused(item: RuleItem, request: &Sample) -> bool {
    matches!(policy(vec![item]).hits(request).0, Met::Refused(_))
}

#[test]
fn a_missing_value_passes_is_refused_or_counts() {
    let missing = |on_missing, keys: &[&str]| RuleItem { on_missing, ..item(header("h"), true, keys) };
    let (none, empty) = (Sample::default(), with_headers(&[("h", b" ")]));
    for request in [&none, &empty] {
        assert!(refused(missing(OnMissing::Refuse, &["a"]), request));
        assert!(refused(missing(OnMissing::Refuse, &["*"]), request));
        let counts = policy(vec![missing(OnMissing::Count, &["a", "*"])]);
        let Met::Limits(hits) = counts.hits(request).0 else { panic!("it counts") };
        assert_eq!((hits[0].limits[0].limit, &hits[0].partition), (1, &Partition::Missing));
        let dry = RuleItem { dry_run: true, ..missing(OnMissing::Refuse, &["a"]) };
        assert!(
            matches!(policy(vec![dry]).hits(request), (Met::Limits(hits), spared) if hits.is_empty() && spared == [0])
        );
    }
    assert!(!refused(missing(OnMissing::Refuse, &["a"]), &with_headers(&[("h", b"b")])));
    assert!(refused(
        RuleItem { on_missing: OnMissing::Refuse, ..item(client(None, Trust::Leftmost, 64), true, &["::/0"]) },
        &none
    ));
    let cookie = RuleItem { on_missing: OnMissing::Refuse, ..item(Source::Cookie("k".into()), true, &["*"]) };
    assert!(refused(cookie, &with_headers(&[("cookie", b"k=; j=1")])));
    let parameter = RuleItem { on_missing: OnMissing::Refuse, ..item(Source::Param("k".into()), true, &["*"]) };
    assert!(refused(parameter, &Sample { path: b"/?k=&j".to_vec(), ..Sample::default() }));
}

#[test]
fn which_of_several_values_counts() {
    let twice = with_headers(&[("h", b"1"), ("h", b"2"), ("h", b"1")]);
    let taking = |take| RuleItem { take, ..item(header("h"), true, &["*"]) };
    let values =
        |take| hits(vec![taking(take)], RuleMatch::First, &twice).into_iter().map(|hit| hit.2).collect::<Vec<_>>();
    assert_eq!(values(Take::First), [b"1"]);
    assert_eq!(values(Take::All), [b"1", b"2"]);
    let last = with_headers(&[("h", b"1"), ("h", b"2")]);
    assert_eq!(one(taking(Take::Last), &last), Some((0, b"2".to_vec())));
    assert!(refused(taking(Take::Refuse), &twice) && !refused(taking(Take::Refuse), &with_headers(&[("h", b"1")])));
    assert_eq!(
        one(taking(Take::First), &with_headers(&[("h", b""), ("h", b"2")])),
        Some((0, b"2".to_vec())),
        "an empty one gives way"
    );
}

#[test]
fn together_and_unlimited() {
    let with = |source: Source, keys: &[&str], change: fn(&mut KeyEntry)| {
        let mut item = item(source, true, keys);
        change(&mut item.keys.entries[0]);
        item
    };
    let peer = Sample { source: Some("10.1.2.3:4"), ..with_headers(&[("h", b"a")]) };
    let shared = policy(vec![with(client(None, Trust::Leftmost, 64), &["10.0.0.0/8"], |entry| entry.together = true)]);
    let Met::Limits(hits) = shared.hits(&peer).0 else { panic!("it counts") };
    assert_eq!(hits[0].partition, Partition::Together("10.0.0.0/8"));
    for item in [
        with(client(None, Trust::Leftmost, 64), &["10.0.0.0/8", "0.0.0.0/0"], |entry| entry.unlimited = true),
        with(header("h"), &["a", "*"], |entry| entry.unlimited = true),
    ] {
        assert!(matches!(policy(vec![item]).hits(&peer).0, Met::Unlimited));
    }
    // Where servers read two values, one that is unlimited does not free the other.
    let item = with(Source::Param("k".into()), &["vip", "*"], |entry| entry.unlimited = true);
    let request = Sample { path: b"/?K=a&k=vip".to_vec(), ..Sample::default() };
    assert_eq!(one(item, &request), Some((1, b"a".to_vec())));
    let items = vec![with(header("h"), &["a"], |entry| entry.unlimited = true), self::item(header("h"), true, &["*"])];
    let all = Policy { rule_match: RuleMatch::All, ..policy(items) };
    let Met::Limits(hits) = all.hits(&peer).0 else { panic!("the other item counts") };
    assert_eq!(hits.len(), 1);
}

#[test]
fn one_client_has_one_value() {
    let authorization = |keys: &[&str]| item(header("authorization"), true, keys);
    for written in [&b"Bearer k"[..], b"bearer  k", b" BEARER k "] {
        let request = with_headers(&[("authorization", written)]);
        assert_eq!(one(authorization(&["regexp:^Bearer k$", "*"]), &request), Some((0, b"Bearer k".to_vec())));
    }
    let lower = with_headers(&[("authorization", b"bearer k")]);
    assert_eq!(
        one(authorization(&["regexp:^bearer k$"]), &lower),
        Some((0, b"Bearer k".to_vec())),
        "patterns meet what is written too"
    );
    for written in ["api.test", "API.Test.", "api.test:81"] {
        let request = with_headers(&[("host", written.as_bytes())]);
        assert_eq!(
            one(item(header("host"), false, &["api.test"]), &request),
            Some((0, b"api.test".to_vec())),
            "{written}"
        );
    }
    let with_port = with_headers(&[("host", b"API.test:81")]);
    assert_eq!(
        one(item(header("host"), false, &["api.test:81", "api.test"]), &with_port),
        Some((0, b"api.test".to_vec()))
    );
    for target in ["/login", "/login/", "/login;a", "/;a/login"] {
        let request = Sample { path: target.as_bytes().to_vec(), ..Sample::default() };
        assert_eq!(one(item(header(PATH_ONLY), true, &["*"]), &request), Some((0, b"/login".to_vec())), "{target}");
    }
    for written in ["k=a:b", "k=\"a:b\"", "k=a%3Ab", " k = a:b ", "K=a%3ab"] {
        let request = with_headers(&[("cookie", written.as_bytes())]);
        assert_eq!(
            one(item(Source::Cookie("k".into()), false, &["a:b"]), &request),
            Some((0, b"a:b".to_vec())),
            "{written}"
        );
    }
}

proptest! {
    #[test]
    fn lookup_equals_a_scan(keys in prop::collection::vec("\\*|regexp:[ab]|[ab]{0,2}", 1..12),
        value in "[abc]{0,2}|\\*|regexp:a") {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let scan = keys.iter().position(|key| {
            *key == value || *key == "*" || key.strip_prefix("regexp:").is_some_and(|letter| value.contains(letter))
        });
        let found = one(item(header("h"), true, &keys), &with_headers(&[("h", value.as_bytes())]));
        prop_assert_eq!(found.map(|hit| hit.0), scan.map(|at| at as u64));
    }

    #[test]
    fn nothing_panics(
        path in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let request = Sample {
            path,
            headers: vec![("h", value.clone()), ("cookie", value.clone()), ("x-mse-consumer", value)],
            ..Sample::default()
        };
        let items = vec![
            item(header("h"), true, &["regexp:a|\\w+$"]),
            item(Source::Consumer, true, &["regexp:^.$"]),
            item(Source::Param("k".into()), true, &["*"]),
            item(Source::Cookie("k".into()), true, &["*"]),
            item(client(Some("h"), Trust::Leftmost, 64), true, &["::/0"]),
            item(client(Some("h"), Trust::Hops(1), 64), true, &["::/0"]),
            item(client(Some("h"), Trust::proxies(vec![]), 64), true, &["::/0"]),
        ];
        hits(items, RuleMatch::All, &request);
    }
}
