//! The demo: a gateway that needs nothing but itself, to see the limiter at work.

mod echo;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};
use slidegate::Module;

use crate::gateway::{Listeners, Start};
use crate::logging;
use crate::settings::secret::url_shown;
use crate::settings::source::Overrides;
use crate::settings::{Mistake, Settings};

/// The ports that are tried when none is asked for.
const PORTS: std::ops::Range<u16> = 8080..8100;
const ADMIN_PORTS: std::ops::Range<u16> = 9090..9110;

/// The name that the demo's filter calls its Redis by.
const REDIS_SERVICE: &str = "redis.demo";

/// Starts the demo's upstream, finds ports for the gateway, and prints what to try.
///
/// # Errors
/// No port is free, or Redis' URL is none.
pub(crate) fn prepare(overrides: Overrides, module: Module, redis: Option<String>) -> Result<Start, Vec<Mistake>> {
    let lacking = |what: &str, error: &io::Error| vec![Mistake::new("", format!("cannot start {what}: {error}"))];
    let upstream = echo::start().map_err(|error| lacking("the demo's upstream", &error))?;
    let listeners = Listeners {
        proxy: free_port(overrides.listen, PORTS).map_err(|error| lacking("listening", &error))?,
        admin: Some(free_port(overrides.admin, ADMIN_PORTS).map_err(|error| lacking("the admin port", &error))?),
    };
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| lacking("listening", &error));
    let listen = address(&listeners.proxy)?;
    let admin = listeners.admin.as_ref().map(address).transpose()?;
    let document = json!({
        "listen": listen.to_string(),
        "admin": admin.map(|admin| admin.to_string()),
        "routes": [{"name": "demo", "upstream": format!("http://{upstream}")}],
        "filter": filter(redis.is_some()),
        "log": {"access": false},
    });
    let mut settings = Settings::from_value(document, Path::new(""))?;
    settings.workers = overrides.workers.unwrap_or(settings.workers);
    logging::start(settings.log.format);
    let greeting = Some(guide(listen, admin, redis.as_deref()));
    Ok(Start { settings, listeners, module, redis, source: None, greeting })
}

/// A port of the range on the loopback address, or the address asked for.
fn free_port(asked: Option<SocketAddr>, ports: std::ops::Range<u16>) -> io::Result<TcpListener> {
    if let Some(address) = asked {
        return TcpListener::bind(address);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One rule of each kind that can be shown with curl. The first that matches decides.
fn filter(has_redis: bool) -> Value {
    let mut filter = json!({
        "rule_name": "demo",
        "rule_items": [
            {
                "limit_by_header": "x-api-key",
                "limit_keys": [
                    {"key": "gold", "query_per_second": 5},
                    {"key": "silver", "query_per_minute": 3},
                ],
            },
            {"limit_by_per_param": "user", "limit_keys": [{"key": "*", "query_per_minute": 2}]},
            {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "0.0.0.0/0", "limit": 10, "window": "10s"}]},
        ],
        "show_limit_quota_header": true,
        "headers": ["x-ratelimit", "ratelimit", "retry-after"],
        "rejected_msg": "Too many requests, says the demo\n",
    });
    if has_redis && let Some(fields) = filter.as_object_mut() {
        fields.insert("redis".to_owned(), json!({"service_name": REDIS_SERVICE}));
    }
    filter
}

fn guide(listen: SocketAddr, admin: Option<SocketAddr>, redis: Option<&str>) -> String {
    let url = format!("http://{listen}");
    let counts = match redis {
        Some(redis) => format!("Windows are counted in {}.", url_shown(redis)),
        None => "Windows are counted in this process; `slidegate --redis redis://127.0.0.1:6379` counts in Redis."
            .to_owned(),
    };
    let admin = admin.map(|admin| format!("http://{admin}")).unwrap_or_default();
    format!(
        "Slidegate's demo is at {url}, in front of an upstream that echoes requests.
{counts}
The first of these rules that fits a request decides: x-api-key (gold 5 a second, silver 3 a minute),
each `user` parameter 2 a minute, each client address 10 in any 10 seconds.

Try, in another terminal:

  # One request: 200, and headers that tell the limit and what is left of it.
  curl -i {url}/hello

  # Twelve at once: ten times 200, then 429. Ten seconds after the first ten there is room again.
  for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}} ' {url}/; done; echo

  # A key with a limit of its own: three times 200, then 429 with the seconds to wait in `retry-after`.
  for i in 1 2 3 4; do curl -s -o /dev/null -D - -H 'x-api-key: silver' {url}/ | grep -iE '^(HTTP|ratelimit:|retry-after)'; done

  # Each user counts alone: alice twice 200, then 429; bob still 200.
  for user in alice alice alice bob; do curl -s -o /dev/null -w \"$user %{{http_code}}\\n\" \"{url}/?user=$user\"; done

  # A burst across a second's edge: never more than 5 in any second, however the clock stands.
  for i in $(seq 40); do curl -s -o /dev/null -w '%{{http_code}} ' -H 'x-api-key: gold' {url}/; sleep 0.05; done; echo

  # What it counts, and how it understood its configuration.
  curl -s {admin}/metrics | grep ^slidegate
  curl -s {admin}/config

Ctrl-C ends it. With a file of your own: slidegate check FILE, slidegate serve FILE.

"
    )
}
