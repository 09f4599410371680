use alloc::vec;

use super::*;
use crate::{
    rule::{KeyIndex, LimitKeys, OnMissing, Take, TokenTerms},
    value_hash::Codes,
};

fn item(key_name: &str) -> RuleItem {
    RuleItem {
        limit_by: LimitBy { per: true, source: Source::Cookie(key_name.into()), key_name: key_name.into() },
        keys: LimitKeys { entries: vec![], index: KeyIndex::Text { exact: vec![], patterns: vec![] } },
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

fn limit(window_us: u64) -> Limit {
    Limit { limit: 1, window_us, slot_us: 1, unit: LimitUnit::Requests }
}

fn of_item(rule_name: &str, together: bool, item: &RuleItem, partition: Partition<'_>) -> String {
    let prefix = Prefix::of_item(rule_name, together, item);
    String::from_utf8_lossy(
        &prefix.stem_of(&partition, item.hash.as_ref(), b"x".to_vec()).key(&limit(60_000_000), true),
    )
    .into_owned()
}

fn spelt(rule_name: &str, together: bool, key_name: &str, value: &[u8]) -> String {
    of_item(rule_name, together, &item(key_name), Partition::Value(value.to_vec()))
}

fn global(rule_name: &str, together: bool, name: Option<&str>, window_us: u64) -> String {
    String::from_utf8_lossy(&Prefix::of_threshold(rule_name, together, name).stem().key(&limit(window_us), true))
        .into_owned()
}

#[test]
fn keys_shared_with_other_gateways_are_spelt_like_this() {
    assert_eq!(spelt("orders", false, "sid", b"a1"), "slidegate:{orders:limit_by_per_cookie:sid:a1}:60");
    assert_eq!(spelt("orders", true, "sid", b"a1"), "slidegate:{orders}:limit_by_per_cookie:sid:a1:60");
    assert_eq!(global("orders", false, None, 1_000_000), "slidegate:{orders:global_threshold}:1");
    assert_eq!(global("orders", true, None, 86_400_000_000), "slidegate:{orders}:global_threshold:86400");
    let of_tokens = Limit { unit: LimitUnit::Tokens, ..limit(60_000_000) };
    for (together, key) in [
        (false, "slidegate:{orders:global_threshold}:60:tokens"),
        (true, "slidegate:{orders}:global_threshold:60:tokens"),
    ] {
        let stem = Prefix::of_threshold("orders", together, None);
        assert_eq!(stem.stem().key(&of_tokens, true), key.as_bytes());
    }
    let named = RuleItem { name: Some("a:b".into()), ..item("sid") };
    assert_eq!(
        of_item("orders", false, &named, Partition::Value(b"a1".to_vec())),
        "slidegate:{orders:limit_by_per_cookie/a%3Ab:sid:a1}:60"
    );
    assert_eq!(global("orders", false, Some("all"), 1_000_000), "slidegate:{orders:global_threshold/all}:1");
    let hashed = RuleItem { hash: Some(ValueHash::new(b"k", &Codes::default())), ..item("sid") };
    let code = ValueHash::new(b"k", &Codes::default()).code(b"a1");
    let code = str::from_utf8(&code).unwrap();
    let key = of_item("orders", false, &hashed, Partition::Value(b"a1".to_vec()));
    assert_eq!(key, format!("slidegate:{{orders:limit_by_per_cookie:sid:%hmac:{code}}}:60"));
    assert_eq!(of_item("orders", false, &hashed, Partition::Value(vec![b'a'; 9_000])).len(), key.len());
    assert_eq!(
        of_item("orders", false, &item("sid"), Partition::Missing),
        "slidegate:{orders:limit_by_per_cookie:sid:%missing}:60"
    );
    assert_eq!(
        of_item("orders", false, &item("sid"), Partition::Together("*")),
        "slidegate:{orders:limit_by_per_cookie:sid:%together:*}:60"
    );
}

#[test]
fn no_text_from_outside_can_pass_for_structure() {
    assert_eq!(
        spelt("a:{b}", false, "c:d", b"{x}%:2001:db8::1"),
        "slidegate:{a%3A%7Bb%7D:limit_by_per_cookie:c%3Ad:%7Bx%7D%25:2001:db8::1}:60"
    );
    assert_ne!(spelt("r", false, "a", b"b:c"), spelt("r", false, "a:b", b"c"));
    assert_eq!(spelt("}", true, "c", b"v"), "slidegate:{%7D}:limit_by_per_cookie:c:v:60");
    for (value, partition) in [(&b"%missing"[..], Partition::Missing), (b"%together:*", Partition::Together("*"))] {
        assert_ne!(spelt("r", false, "c", value), of_item("r", false, &item("c"), partition));
    }
}

#[test]
fn a_hash_tag_is_never_empty() {
    assert_eq!(global("", true, None, 1_000_000), "slidegate:{%}:global_threshold:1");
    assert_eq!(spelt("", true, "c", b"v"), "slidegate:{%}:limit_by_per_cookie:c:v:60");
    assert_eq!(spelt("%", true, "c", b"v"), "slidegate:{%25}:limit_by_per_cookie:c:v:60");
}

#[test]
fn a_long_value_stands_in_by_its_digest() {
    let long = [b'x'; 300];
    let spelt_long = spelt("r", false, "c", &long);
    let digest = sha1_smol::Sha1::from(long).digest();
    assert_eq!(spelt_long, format!("slidegate:{{r:limit_by_per_cookie:c:%sha1:{digest}}}:60"));
    assert_ne!(spelt_long, spelt("r", false, "c", &[b'x'; 301]));
    assert_ne!(spelt("r", false, "c", b"%sha1:00"), "slidegate:{r:limit_by_per_cookie:c:%sha1:00}:60");
}

#[test]
fn every_byte_is_escaped_as_two_capital_digits() {
    let all: Vec<u8> = (0..=255).collect();
    let mut escaped = Vec::new();
    escape(&mut escaped, &all, |_| true);
    let expected: String = all.iter().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(escaped, expected.as_bytes());
}
