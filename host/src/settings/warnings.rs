//! What is odd in a file, but no mistake: it can be served, and hardly does what was meant.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use slidegate::RedisService;

use super::secret::text_shown;
use super::words::{nearest, quoted};
use super::{FilterConfig, RouteSettings, Settings, Upstream};

/// The oddities of a file. `services` are those that its filter counts in; none are given where one Redis stands for
/// all of them.
pub(crate) fn of(settings: &Settings, services: Option<&[RedisService]>) -> Vec<String> {
    let mut warnings = Vec::new();
    listening(settings, &mut warnings);
    warnings.extend(settings.http_warnings());
    warnings.extend(settings.file_warnings());
    let names: Vec<&str> = settings.redis.names.keys().map(String::as_str).collect();
    if let Some(filter) = &settings.filter {
        for (path, policy) in filter.policies() {
            // Who asks for decisions may name routes of its own.
            if settings.decide.is_none() {
                chosen_routes(&path, policy, &settings.routes, &mut warnings);
            }
            believed_addresses(&path, policy, &mut warnings);
        }
        if let Some(first) = names.first() {
            forgotten_redis(filter, services.is_none_or(|services| !services.is_empty()), first, &mut warnings);
        }
    }
    if let Some(services) = services.filter(|_| settings.redis.any.is_none()) {
        let place = |service: &RedisService| settings.place_in_filter(service, Some("service_name"));
        addresses(&place, &names, services, &mut warnings);
    }
    warnings
}

/// Services without an address, and addresses without a service. `place`: the path of what names a service.
fn addresses(
    place: &dyn Fn(&RedisService) -> String,
    names: &[&str],
    services: &[RedisService],
    warnings: &mut Vec<String>,
) {
    let is_for = |name: &str, service: &RedisService| {
        name == service.service_name || name == format!("{}:{}", service.service_name, service.port)
    };
    let is_used = |name: &str| services.iter().any(|service| is_for(name, service));
    let mut told = Vec::new();
    for service in services.iter().filter(|service| !names.iter().any(|name| is_for(name, service))) {
        let name = service.service_name.as_str();
        if told.contains(&name) {
            continue;
        }
        told.push(name);
        let is_of_a_mesh =
            [".static", ".dns", ".nacos", ".consul", ".local"].iter().any(|ending| name.ends_with(ending));
        let unused = names.iter().copied().filter(|name| !is_used(name));
        let why = match nearest(name, unused) {
            Some(meant) => format!("`redis.names` has none for it, but one for {}: did you mean that?", quoted(meant)),
            None if name.contains(':') => {
                "it looks like a host and a port, which belongs into `service_port`, or into `redis.names`".to_owned()
            }
            None if is_of_a_mesh => "`redis.names` has none for it, and only a mesh knows such names".to_owned(),
            None => continue,
        };
        warnings.push(format!("{}: the Redis service {} has no address: {why}", place(service), quoted(name)));
    }
    for name in names.iter().filter(|name| !is_used(name)) {
        if !services.is_empty() {
            warnings.push(format!("redis.names.{}: nothing in the filter counts in it", text_shown(name)));
        }
    }
}

fn listening(settings: &Settings, warnings: &mut Vec<String>) {
    let listeners = listeners(settings);
    for (index, (field, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..index] {
            if is_same_place(*address, *taken) {
                warnings
                    .push(format!("{field}: is the address of `{other}` too, {taken}: only one of them can have it"));
            }
        }
    }
    for (place, upstream) in settings.upstreams() {
        leading_home(settings, &place, upstream, warnings);
    }
}

/// Where the gateway listens, by the fields that say so.
fn listeners(settings: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let decide = settings.decide.as_ref().map(|decide| &decide.listen);
    let all = [("listen", settings.listen.as_ref()), ("admin", settings.admin.as_ref()), ("decide.listen", decide)];
    all.into_iter().filter_map(|(field, listen)| Some((field, listen?.address))).collect()
}

fn leading_home(settings: &Settings, place: &str, upstream: &Upstream, warnings: &mut Vec<String>) {
    let (host, port) = (upstream.host(), upstream.authority.port_u16().unwrap_or_default());
    let leads_to = |address: SocketAddr| {
        host_address(host).is_some_and(|host| is_same_place(SocketAddr::new(host, port), address))
    };
    for (field, _) in listeners(settings).into_iter().filter(|(_, address)| leads_to(*address)) {
        let why = match field {
            "listen" => "requests would go round in a circle",
            "admin" => "whoever may send requests would see settings and counters",
            _ => "requests would be decided, and answered by nobody",
        };
        warnings.push(format!("{place}: is the gateway's own `{field}`: {why}"));
    }
}

/// The address that a host is; none for a name that has to be looked up.
fn host_address(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") { Some(IpAddr::from([127, 0, 0, 1])) } else { host.parse().ok() }
}

/// Whether a connection to the one reaches who listens on the other. An address of all interfaces is any address.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let is_any = one_ip.is_unspecified() || other_ip.is_unspecified();
    let is_loopback = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let is_reached = one_ip == other_ip || (is_any && (is_loopback(one_ip) && is_loopback(other_ip)));
    one.port() == other.port() && one.port() != 0 && is_reached
}

/// Names of routes that no route has.
fn chosen_routes(path: &str, policy: &Value, routes: &[RouteSettings], warnings: &mut Vec<String>) {
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    let exempt = policy.get("exempt").and_then(|exempt| exempt.get("routes"));
    for (field, given, fits, else_told) in [
        (
            "_match_route_",
            policy.get("_match_route_"),
            (|name, given| name == given) as fn(&str, &str) -> bool,
            "its limits are for no request",
        ),
        (
            "_match_route_prefix_",
            policy.get("_match_route_prefix_"),
            |name, given| name.starts_with(given),
            "its limits are for no request",
        ),
        ("exempt.routes", exempt, |name, given| name == given, "no request is exempt by it"),
    ] {
        for given in texts(given) {
            if names.iter().any(|name| fits(name, given)) {
                continue;
            }
            let meant = match nearest(given, names.iter().copied().filter(|name| !name.is_empty())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if names.iter().all(|name| name.is_empty()) => "no route has a `name`".to_owned(),
                None => else_told.to_owned(),
            };
            warnings.push(format!("{path}.{field}: there is no route {}; {meant}", quoted(given)));
        }
    }
    for given in texts(policy.get("_match_service_")) {
        // Of several upstreams the first one names the service.
        let services = || routes.iter().filter_map(|route| route.upstreams.first());
        let fits = |upstream: &Upstream| {
            let (host, port) = (upstream.host(), upstream.authority.port_u16().unwrap_or_default());
            given == host || given == format!("{host}:{port}")
        };
        if !services().any(fits) {
            let hosts = services().map(|upstream| upstream.authority.host());
            let meant = match (given.contains('|'), nearest(given, hosts)) {
                (true, _) => "a service is written `host` or `host:port`".to_owned(),
                (false, Some(meant)) => format!("did you mean `{meant}`?"),
                (false, None) => "its limits are for no request".to_owned(),
            };
            warnings.push(format!("{path}._match_service_: no route leads to {}; {meant}", quoted(given)));
        }
    }
}

/// Addresses that a client writes itself. On Higress that is stock's default; here nobody else is in front, unless it
/// is said.
fn believed_addresses(path: &str, policy: &Value, warnings: &mut Vec<String>) {
    const FIELD: &str = "limit_by_per_ip";
    let items = policy.get("rule_items").and_then(Value::as_array).into_iter().flatten();
    for (index, item) in items.enumerate() {
        let is_header =
            item.get(FIELD).and_then(Value::as_str).is_some_and(|source| source.starts_with("from-header-"));
        let is_trusted = ["trusted_hops", "trusted_proxies"].iter().any(|field| item.get(*field).is_some());
        if is_header && !is_trusted {
            warnings.push(format!(
                "{path}.rule_items[{index}].{FIELD}: believes the leftmost address, which a client may write itself; \
                 `trusted_hops` or `trusted_proxies` says which proxies to believe"
            ));
        }
    }
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    }
}

/// Addresses are given, and a configuration counts in memory all the same.
fn forgotten_redis(filter: &FilterConfig, uses_redis: bool, name: &str, warnings: &mut Vec<String>) {
    for (path, policy) in filter.policies() {
        let limits = ["rule_items", "global_threshold"].iter().any(|field| policy.get(*field).is_some());
        if limits && policy.get("redis").is_none_or(Value::is_null) {
            let others = if uses_redis { ", unlike others here" } else { "" };
            warnings.push(format!(
                "{path}: counts in the memory of this process{others}, although `redis.names` has addresses; was \
                 `redis: {{service_name: {name}}}` forgotten in it?"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn warnings(document: Value) -> Vec<String> {
        let settings = Settings::from_value(document, Path::new("")).unwrap();
        of(&settings, Some(&[]))
    }

    #[test]
    fn services_and_addresses_that_miss_each_other_are_told() {
        let told = |names: &[&str], services: &[&str]| {
            let service = |name: &&str| RedisService {
                service_name: (*name).to_owned(),
                port: 80,
                username: String::new(),
                password: String::new(),
                timeout_ms: 1,
                database: 0,
            };
            let services: Vec<RedisService> = services.iter().map(service).collect();
            let mut warnings = Vec::new();
            addresses(&|_| "filter".to_owned(), names, &services, &mut warnings);
            warnings
        };
        assert_eq!(told(&["redis.static"], &["redis.static"]), [""; 0]);
        assert_eq!(told(&["redis.static:80"], &["redis.static", "redis.static"]), [""; 0]);
        assert_eq!(told(&[], &["redis.internal"]), [""; 0], "a host's name");
        let slip = told(&["redis.static"], &["redsi.static"]);
        assert!(
            slip[0].contains("`redsi.static` has no address")
                && slip[0].contains("one for `redis.static`: did you mean that?"),
            "{slip:?}"
        );
        assert_eq!(slip[1], "redis.names.redis.static: nothing in the filter counts in it");
        assert!(told(&[], &["redis.dns"])[0].contains("only a mesh knows such names"));
        assert!(told(&[], &["redis:6379"])[0].contains("`service_port`"));
        assert!(told(&["redis.static:81"], &["redis.static"])[0].contains("one for `redis.static:81`"));
    }

    #[test]
    fn two_of_one_address_are_told() {
        let told = |listen: &str, admin: &str, upstream: &str| {
            warnings(json!({"listen": listen, "admin": admin, "upstream": upstream}))
                .iter()
                .map(|line| line.split(':').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(told("127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:3"), ["admin"]);
        assert_eq!(told(":1", "127.0.0.1:1", "http://127.0.0.1:3"), ["admin"]);
        assert_eq!(told("127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:1"), ["upstream"]);
        assert_eq!(told("0.0.0.0:1", "127.0.0.1:2", "http://localhost:1"), ["upstream"]);
        assert_eq!(told("[::]:1", "127.0.0.1:2", "h2c://[::1]:1"), ["upstream"]);
        assert_eq!(told("127.0.0.1:1", "127.0.0.1:2", "http://localhost:2"), ["upstream"]);
        assert_eq!(told("127.0.0.1:0", "127.0.0.1:0", "http://127.0.0.1:3"), [""; 0]);
        assert_eq!(told("127.0.0.1:1", "127.0.0.1:2", "http://10.0.0.1:1"), [""; 0]);
        assert_eq!(told("0.0.0.0:1", "127.0.0.1:2", "http://10.0.0.1:1"), [""; 0]);
        let deciding = warnings(json!({"admin": ":2", "decide": {"listen": "127.0.0.1:2"}}));
        assert!(
            deciding.len() == 1 && deciding[0].starts_with("decide.listen: is the address of `admin`"),
            "{deciding:?}"
        );
        let home = warnings(json!({"upstream": "http://localhost:2", "decide": {"listen": ":2"}}));
        assert!(home.len() == 1 && home[0].starts_with("upstream: is the gateway's own `decide.listen`"), "{home:?}");
    }

    #[test]
    fn routes_that_are_not_there_are_named_with_the_likely_one() {
        let routes = json!([{"name": "orders", "upstream": "http://orders.internal:8000"},
            {"name": "pay-a", "path_prefix": "/p", "upstream": "http://pay:1"}]);
        let policy = |field: &str, names: Value| {
            json!({field: names, "rule_name": "r",
            "global_threshold": {"query_per_day": 1}})
        };
        let told = warnings(json!({"routes": routes, "filter": {"_rules_": [
            policy("_match_route_", json!(["orders", "order"])),
            policy("_match_route_prefix_", json!(["pay-", "pya-"])),
            policy("_match_service_", json!(["orders.internal", "pay:1", "pay:2", "other", "outbound|1||pay"])),
            policy("_match_route_", json!("zzz")),
            policy("exempt", json!({"routes": ["orders", "order", "zzz"]})),
        ]}}));
        assert_eq!(told.len(), 8, "{told:#?}");
        assert_eq!(told[6], "filter._rules_[4].exempt.routes: there is no route `order`; did you mean `orders`?");
        assert_eq!(told[7], "filter._rules_[4].exempt.routes: there is no route `zzz`; no request is exempt by it");
        assert_eq!(told[0], "filter._rules_[0]._match_route_: there is no route `order`; did you mean `orders`?");
        assert!(told[1].starts_with("filter._rules_[1]._match_route_prefix_: there is no route `pya-`; "));
        assert_eq!(told[2], "filter._rules_[2]._match_service_: no route leads to `pay:2`; did you mean `pay`?");
        assert!(told[3].contains("`other`") && told[5].contains("`zzz`; its limits are for no request"));
        assert!(
            told[4].ends_with("no route leads to `outbound|1||pay`; a service is written `host` or `host:port`"),
            "{}",
            told[4]
        );
        let nameless = warnings(
            json!({"upstream": "http://a", "filter": {"_rules_": [policy("_match_route_", json!(["orders"]))]}}),
        );
        assert!(nameless[0].ends_with("no route has a `name`"), "{nameless:?}");
    }

    #[test]
    fn an_address_that_a_client_may_write_is_told() {
        let told = |fields: Value| {
            let mut item = json!({"limit_keys": [{"key": "0.0.0.0/0", "query_per_day": 1}]});
            item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            warnings(json!({"upstream": "http://a", "filter": {"rule_name": "r", "rule_items": [item]}}))
        };
        let forged = told(json!({"limit_by_per_ip": "from-header-x-real-ip"}));
        assert!(
            forged.len() == 1 && forged[0].starts_with("filter.rule_items[0].limit_by_per_ip: believes"),
            "{forged:?}"
        );
        assert_eq!(told(json!({"limit_by_per_ip": "from-header-x-forwarded-for", "trusted_hops": 0})), [""; 0]);
        assert_eq!(told(json!({"limit_by_per_ip": "from-header-x", "trusted_proxies": ["10.0.0.0/8"]})), [""; 0]);
        assert_eq!(told(json!({"limit_by_per_ip": "from-remote-addr"})), [""; 0]);
    }

    #[test]
    fn a_redis_that_was_forgotten_is_told() {
        let document = |policy: Value| {
            json!({"upstream": "http://a",
            "redis": {"names": {"redis.static": "redis://h"}}, "filter": policy})
        };
        let policy = json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}});
        let told = warnings(document(policy.clone()));
        assert!(
            told[0].starts_with("filter: counts in the memory") && told[0].contains("service_name: redis.static"),
            "{told:?}"
        );
        let with_redis = json!({"rule_name": "r", "global_threshold": {"query_per_day": 1},
            "redis": {"service_name": "redis.static"}});
        assert_eq!(warnings(document(with_redis.clone())), [""; 0]);
        let told = warnings(document(json!({"_rules_": [with_redis, policy]})));
        assert!(told.len() == 1 && told[0].starts_with("filter._rules_[1]: "), "{told:?}");
        assert_eq!(warnings(document(json!({}))), [""; 0]);
    }

    #[test]
    fn each_filter_of_a_list_is_looked_at() {
        let names = json!({"names": {"redis.static": "redis://h"}});
        let limited = |fields: Value| {
            let mut filter = json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}});
            filter.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            filter
        };
        let told = warnings(json!({"upstream": "http://a", "redis": names, "normalize_path": "off", "filters": [
            limited(json!({"redis": {"service_name": "redis.static"}})),
            limited(json!({})),
            {"_rules_": [limited(json!({"_match_route_": ["x"], "redis": {"service_name": "redis.static"}}))]},
            limited(json!({"redis": {"service_name": "redis.static"}, "rule_items": [{"limit_by_header": ":path"}]})),
        ]}));
        let begins = [
            "normalize_path: is `off`",
            "filters[2]._rules_[0]._match_route_: there is no route `x`",
            "filters[1]: counts in the memory",
        ];
        assert_eq!(told.len(), begins.len(), "{told:?}");
        assert!(told.iter().zip(begins).all(|(told, begins)| told.starts_with(begins)), "{told:?}");
    }
}
