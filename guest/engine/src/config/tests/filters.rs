//! A list of filters.

use alloc::format;

use super::*;

fn list(filters: &[Value]) -> Value {
    json!({"filters": filters})
}

fn named(rule_name: &str, fields: Value) -> Value {
    let mut filter = with(fields);
    filter["rule_name"] = json!(rule_name);
    filter
}

#[test]
fn filters_stand_in_their_order_and_one_service_is_one() {
    let redis = json!({"redis": {"service_name": "redis.static"}});
    let other = json!({"redis": {"service_name": "redis.static", "timeout": 5}});
    let config =
        config(&list(&[named("a", redis.clone()), named("b", other), named("c", redis), named("d", json!({}))]));
    let policies: Vec<_> = config.policies().map(|policy| (policy.rule_name.as_str(), policy.redis)).collect();
    assert_eq!(policies, [("a", Some(0)), ("b", Some(1)), ("c", Some(0)), ("d", None)]);
    assert_eq!((config.filters.len(), config.services.len(), config.is_list), (4, 2, true));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn mistakes_say_in_which_filter_they_are() {
    let document = list(&[
        named("a", json!({"colour": 1})),
        json!({"rule_name": "b", "rule_items": [{"limit_by_header": "h",
            "limit_keys": [{"key": "k", "query_per_minit": 5}]}]}),
        json!({"_rules_": [{"_match_route_": "r", "global_threshold": {"query_per_day": 1}}]}),
        json!({}),
        json!("a"),
        list(&[named("e", json!({}))]),
    ]);
    let errors = errors(&document);
    for expected in [
        "filters[0].colour: there is no such field here; expected `rule_name`",
        "filters[1].rule_items[0].limit_keys[0].query_per_minit: there is no such field here; did you mean \
         `query_per_minute`?",
        "filters[2]._rules_[0].rule_name: is missing",
        "filters[3]: nothing is configured",
        "filters[4]: expected an object, got a text",
        "filters[5].filters: there is no such field here; it stands at the top only",
    ] {
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}\n{errors:#?}");
    }
    let config = config(&list(&[json!({"_rules_": [named("a", json!({"_match_route_": "r"}))]})]));
    assert!(
        config.warnings[0].starts_with("filters[0]: a request that no element of `_rules_` is for passes"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn a_list_stands_alone() {
    for (name, value) in [("rule_name", json!("r")), ("_rules_", json!([])), ("redis", json!({"service_name": "r"}))] {
        let mut document = list(&[named("a", json!({}))]);
        document[name] = value;
        refuses(document, name, "stands beside `filters`: expected it in one of these filters");
    }
    let mut document = list(&[named("a", json!({}))]);
    document["_plugin_id_"] = json!("p");
    assert!(warnings(&document).is_empty());
    document["colour"] = json!(1);
    refuses(document, "colour", "there is no such field here; expected `filters`");
    for (nothing, seen) in [(json!([]), "an empty array"), (json!(null), "null"), (named("a", json!({})), "an object")]
    {
        refuses(
            json!({"filters": nothing}),
            "filters",
            &format!("expected an array of at least one filter, got {seen}"),
        );
    }
    refuses(with(json!({"filtres": []})), "filtres", "did you mean `filters`?");
}

#[test]
fn counters_that_two_filters_share_are_told() {
    let told = warnings(&list(&[named("a", json!({})), named("b", json!({})), named("a", json!({}))]));
    assert_eq!(told.len(), 1, "{told:?}");
    let expected = "filters[2].global_threshold: shares its counters with filters[0].global_threshold, as both have \
                    the `rule_name` `a`, and counts a request that meets both again";
    assert!(told[0].starts_with(expected), "{told:?}");
    let told =
        warnings(&list(&[named("a", json!({})), named("a", json!({"global_threshold": {"query_per_second": 7}}))]));
    assert!(told.len() == 1 && told[0].contains("under other limits per 1s (7 here, 5 there)"), "{told:?}");
    assert!(
        warnings(&list(&[named("a", json!({})), named("a", json!({"redis": {"service_name": "redis.static"}}))]))
            .is_empty()
    );
}

#[test]
fn a_list_is_told_filter_by_filter() {
    let document = list(&[named("a", json!({})), json!({"_rules_": [named("a", json!({"_match_route_": "r"}))]})]);
    let expected = "filters[0]
  every request
    rule name     a
    metrics       counted together with those of the other of this rule name
    all together  5 per 1s, exact
    windows       in the memory of this instance, no Redis
    refusal       429, \"Too many requests\"
    headers       x-ratelimit-reset on refusals
filters[1]
  route r
    rule name     a
    metrics       counted together with those of the other of this rule name
    all together  5 per 1s, exact
    windows       in the memory of this instance, no Redis
    refusal       429, \"Too many requests\"
    headers       x-ratelimit-reset on refusals
  every other request: passes, no limits
";
    assert_eq!(config(&document).describe(), expected);
}
