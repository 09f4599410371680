//! The rules that are measured, each with requests that meet it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use slidegate::HttpRequest;

/// Header fields of every request: what a browser sends, and the one that a rule reads.
pub(crate) const FIELDS: usize = 12;

/// Different values that requests bring.
const VALUES: usize = 1_000;

/// Networks in the longest list of addresses.
const NETWORKS: usize = 10_000;

/// A rule and what becomes of its requests.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) expected: Expected,
    /// The configuration without `rule_name` and `redis`.
    filter: Value,
    /// The field that the rule reads, and its value in the n-th request.
    field: Option<(&'static str, NthValue)>,
    values: usize,
}

/// The value in the n-th request.
type NthValue = fn(usize) -> String;

/// Where windows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Local,
    Redis,
}

/// What becomes of every request; before a refusal each key may pass once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Passes,
    IsRefused,
}

/// Requests that take turns.
pub(crate) struct Requests {
    pub(super) requests: Vec<Arc<HttpRequest>>,
    pub(super) at: usize,
}

// === impl Store ===

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Store::Local => "local",
            Store::Redis => "Redis",
        }
    }
}

// === impl Scenario ===

impl Scenario {
    /// Every rule that is measured, with windows in the instance and in Redis.
    pub(super) fn all() -> Vec<Scenario> {
        let in_store = |store| Self::rules().into_iter().map(move |scenario| Scenario { store, ..scenario });
        in_store(Store::Local).chain(in_store(Store::Redis)).collect()
    }

    /// A counter for each value of a header, `limit` in `window`, and so many values.
    pub(crate) fn keys(store: Store, limit: u64, window: &str, values: usize) -> Scenario {
        let item =
            json!({"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "limit": limit, "window": window}]});
        Scenario {
            store,
            values,
            ..Scenario::of("each value of a header", item, "x-api-key", |n| format!("user-{n:06}"))
        }
    }

    fn rules() -> Vec<Scenario> {
        let exact = |n: usize| json!({"key": format!("user-{n:06}"), "query_per_second": 100});
        let network =
            |n: usize| json!({"key": format!("10.{}.{}.0/24", n / 256, n % 256), "query_per_second": 100_000});
        let entry = |key: &str| json!([{"key": key, "query_per_second": 100}]);
        vec![
            Scenario {
                filter: json!({"global_threshold": {"query_per_second": 1_000_000}}),
                field: None,
                ..Scenario::blank("global limit")
            },
            Scenario::of(
                "header, 1,000 exact keys",
                json!({"limit_by_header": "x-api-key", "limit_keys": (0..VALUES).map(exact).collect::<Vec<_>>()}),
                "x-api-key",
                |n| format!("user-{n:06}"),
            ),
            Scenario::of(
                "each value of a header",
                json!({"limit_by_per_header": "x-api-key", "limit_keys": entry("*")}),
                "x-api-key",
                |n| format!("user-{n:06}"),
            ),
            Scenario::of(
                "address in 10,000 networks",
                json!({"limit_by_per_ip": "from-header-x-forwarded-for",
                    "limit_keys": (0..NETWORKS).map(network).collect::<Vec<_>>()}),
                "x-forwarded-for",
                |n| format!("10.{}.{}.{}", n * 7 % NETWORKS / 256, n * 7 % NETWORKS % 256, n % 250),
            ),
            Scenario::of(
                "`^a.*`",
                json!({"limit_by_per_header": "x-api-key", "limit_keys": entry("regexp:^a.*")}),
                "x-api-key",
                |n| format!("a-user-{n:06}"),
            ),
            Scenario::of(
                "a real expression",
                json!({"limit_by_per_header": "x-service",
                    "limit_keys": entry(r"regexp:^(svc|app)-[a-z]{3,12}-v\d+(\.\d+)*$")}),
                "x-service",
                |n| format!("svc-orders-v{}.{}.{}", n / 100, n / 10 % 10, n % 10),
            ),
            Scenario {
                filter: json!({
                    "rule_items": [{"limit_by_per_header": "x-api-key", "limit_keys": entry("*")}],
                    "headers": ["x-ratelimit", "ratelimit", "retry-after"],
                    "show_limit_quota_header": true,
                }),
                ..Scenario::of("each value, all quota headers", Value::Null, "x-api-key", |n| format!("user-{n:06}"))
            },
            Scenario {
                expected: Expected::IsRefused,
                ..Scenario::of(
                    "each value, refused",
                    json!({"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "query_per_day": 1}]}),
                    "x-api-key",
                    |n| format!("user-{n:06}"),
                )
            },
            Scenario::of(
                "no rule matches",
                json!({"limit_by_per_header": "x-other", "limit_keys": entry("*")}),
                "x-api-key",
                |n| format!("user-{n:06}"),
            ),
        ]
    }

    fn blank(name: &'static str) -> Scenario {
        Scenario {
            name,
            store: Store::Local,
            expected: Expected::Passes,
            filter: Value::Null,
            field: None,
            values: VALUES,
        }
    }

    fn of(name: &'static str, item: Value, field: &'static str, value: NthValue) -> Scenario {
        Scenario { filter: json!({"rule_items": [item]}), field: Some((field, value)), ..Scenario::blank(name) }
    }

    /// The filter's configuration.
    pub(super) fn json(&self) -> String {
        let mut document = self.filter.clone();
        document["rule_name"] = json!("bench");
        if self.store == Store::Redis {
            document["redis"] = json!({"service_name": "redis.static"});
        }
        document.to_string()
    }

    pub(super) fn requests(&self) -> Requests {
        let requests =
            (0..self.values).map(|n| Arc::new(request(self.field.map(|(name, value)| (name, value(n)))))).collect();
        Requests { requests, at: 0 }
    }
}

// === impl Requests ===

impl Requests {
    /// How many keys they meet, at most.
    pub(super) fn keys(&self) -> usize {
        self.requests.len()
    }
}

fn request(field: Option<(&'static str, String)>) -> HttpRequest {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "shop.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example.com/basket?step=2"),
        ("cookie", "session=0f8c1e6d2b7a4953; theme=dark; consent=all"),
        ("x-request-id", "4f1b6c1e-6f4c-4b8e-9f0a-2d7c5a3e1b90"),
        ("x-forwarded-proto", "https"),
        ("cache-control", "no-cache"),
        ("sec-fetch-mode", "navigate"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let (name, value) = field.unwrap_or(("x-real-ip", "192.0.2.7".to_owned()));
    headers.append(name, HeaderValue::from_str(&value).expect("the value of a field is text"));
    assert_eq!(headers.len(), FIELDS);
    HttpRequest::new(Method::GET, "/orders/4711?verbose=1&page=3".parse().expect("a path with a query"), headers)
}
