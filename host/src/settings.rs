//! The gateway's own file: where it listens, where requests go, how long it waits. What stands under `filter` or
//! `filters` is the filter's and is handed on as it is, after YAML has become JSON.

pub(crate) mod document;
mod environment;
mod fields;
pub(crate) mod file;
pub(crate) mod filter;
mod host_pattern;
mod http_warnings;
mod limits;
mod path;
mod redis;
pub(crate) mod secret;
pub(crate) mod source;
mod trusted_consumer;
mod upstream;
pub(crate) mod warnings;
pub(crate) mod yaml;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use self::environment::Environment;
use self::fields::{Fields, duration_shown, unexpected};

pub(crate) use self::fields::{Mistake, nearest, one_line};
pub(crate) use self::filter::FilterConfig;
pub(crate) use self::host_pattern::{HostPattern, comparable_host};
pub(crate) use self::limits::Limits;
pub(crate) use self::path::{AmbiguousPath, PathRules};
pub(crate) use self::redis::RedisSettings;
pub(crate) use self::trusted_consumer::TrustedConsumer;
pub(crate) use self::upstream::{Protocol, Upstream};

/// Everything the file says, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/config` are served; nowhere by default.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) workers: usize,
    /// In the file's order.
    pub(crate) routes: Vec<RouteSettings>,
    /// What is done about other spellings of a path.
    pub(crate) normalize_path: PathRules,
    /// Whose word on who the consumer is counts.
    pub(crate) trusted_consumer: TrustedConsumer,
    /// Where the services are that only a mesh could resolve.
    pub(crate) redis: RedisSettings,
    /// The filter's configuration. Without one nothing is limited.
    pub(crate) filter: Option<FilterConfig>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) log: LogSettings,
    /// The variables that the file uses, whose values are not shown.
    pub(crate) environment: Environment,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RouteSettings {
    /// What `_match_route_` sees. Empty for the one nameless upstream.
    pub(crate) name: String,
    pub(crate) host: HostPattern,
    pub(crate) path_prefix: String,
    pub(crate) upstream: Upstream,
}

/// How long the gateway waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// For a connection to the upstream.
    pub(crate) connect: Duration,
    /// For the upstream's response headers, counted from the last piece of the request that was sent.
    pub(crate) response: Duration,
    /// For the next piece of a response's body.
    pub(crate) idle: Duration,
    /// For the next request on a kept connection to an upstream.
    pub(crate) upstream_idle: Duration,
    /// Connections to upstreams that are older get no further requests, so that changes of their addresses are followed.
    pub(crate) upstream_age: Duration,
    /// For a client's complete request headers, and for its next request on a kept connection.
    pub(crate) request_headers: Duration,
    /// For requests in flight, after SIGTERM.
    pub(crate) drain: Duration,
    /// After SIGTERM, how long connections are still accepted while `/readyz` says that they should go elsewhere.
    pub(crate) lame_duck: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            // Shorter than what servers commonly keep (Node: 5 s), so that a connection is seldom closed while a request goes out on it.
            upstream_idle: Duration::from_secs(4),
            upstream_age: Duration::from_secs(60),
            request_headers: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            lame_duck: Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// One line per request.
    pub(crate) access: bool,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { access: true, format: LogFormat::Text }
    }
}

impl LogSettings {
    fn shown(&self) -> Value {
        json!({"access": self.access, "format": match self.format { LogFormat::Text => "text", LogFormat::Json => "json" }})
    }
}

impl Settings {
    /// Reads a settings document, and takes the filter's configuration out of it. Paths of files in it are relative to this folder.
    ///
    /// # Errors
    /// Every mistake found. The document is then as it was.
    pub(crate) fn from_value(document: &mut Value, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let settings = Fields::of("", document, &mut mistakes).map(|fields| read_all(fields, folder, &mut mistakes));
        match settings {
            Some(settings) if mistakes.is_empty() => Ok(Self { filter: FilterConfig::take(document), ..settings }),
            _ => Err(mistakes),
        }
    }

    /// What holds beside listeners, routes and filter and is not the default, each a name and how it is.
    pub(crate) fn unusual(&self) -> Vec<(&'static str, String)> {
        let mut unusual = Vec::new();
        if self.normalize_path != PathRules::default() {
            unusual.push(("paths", format!("normalize_path: {}", self.normalize_path)));
        }
        if !self.trusted_consumer.is_nobody() {
            unusual.push(("consumer", format!("trusted_consumer: {}", self.trusted_consumer.shown())));
        }
        if self.redis.required {
            unusual.push(("redis", "required: there is no start, and no reload, unless each answers".to_owned()));
        }
        for (name, shown, default) in [
            ("timeouts", self.timeouts.shown(), Timeouts::default().shown()),
            ("limits", self.limits.shown(), Limits::default().shown()),
            ("log", self.log.shown(), LogSettings::default().shown()),
        ] {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let fields = shown.as_object().into_iter().flatten().filter(|(field, value)| default.get(field) != Some(value));
            let fields: Vec<String> = fields.map(|(field, value)| format!("{field}: {}", text(value))).collect();
            if !fields.is_empty() {
                unusual.push((name, fields.join(", ")));
            }
        }
        unusual
    }

    /// The settings as understood, with every password blotted out.
    pub(crate) fn shown(&self) -> Value {
        let routes: Vec<Value> = self
            .routes
            .iter()
            .map(|route| {
                json!({
                    "name": route.name,
                    "host": route.host.to_string(),
                    "path_prefix": route.path_prefix,
                    "upstream": route.upstream.to_string(),
                    "service": route.upstream.service_name,
                })
            })
            .collect();
        let mut shown = self.environment.hide_in(
            "",
            json!({
                "listen": self.listen.to_string(),
                "admin": self.admin.map(|address| address.to_string()),
                "workers": self.workers,
                "routes": routes,
                "normalize_path": self.normalize_path.to_string(),
                "trusted_consumer": self.trusted_consumer.shown(),
                "redis": self.redis.shown(),
                "timeouts": self.timeouts.shown(),
                "limits": self.limits.shown(),
                "log": self.log.shown(),
            }),
        );
        // Variables first: of what is cut, the beginning would not be known again.
        let (field, filter) = self.filter.as_ref().map_or(("filter", &Value::Null), |filter| (filter.field(), filter.written()));
        shown[field] = secret::without_secrets(&self.environment.hide_in(field, filter.clone()));
        shown
    }
}

impl Timeouts {
    /// Those of connections to upstreams.
    pub(crate) fn upstream(&self) -> [Duration; 3] {
        [self.connect, self.upstream_idle, self.upstream_age]
    }

    fn shown(&self) -> Value {
        json!({
            "connect": duration_shown(self.connect),
            "response": duration_shown(self.response),
            "idle": duration_shown(self.idle),
            "upstream_idle": duration_shown(self.upstream_idle),
            "upstream_age": duration_shown(self.upstream_age),
            "request_headers": duration_shown(self.request_headers),
            "drain": duration_shown(self.drain),
            "lame_duck": duration_shown(self.lame_duck),
        })
    }
}

/// Where to listen.
pub(crate) const ADDRESS: &str = "an address and port such as `127.0.0.1:8080`, `localhost:8080`, `[::]:8080` or `:8080`";

fn read_all(mut fields: Fields<'_>, folder: &Path, mistakes: &mut Vec<Mistake>) -> Settings {
    let normalize_path = fields.read("normalize_path", "`on`, `refuse` or `off`", mistakes, PathRules::from_value).unwrap_or_default();
    let settings = Settings {
        listen: fields
            .read("listen", ADDRESS, mistakes, |value| parse_address(value.as_str()?))
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
        admin: fields.read("admin", ADDRESS, mistakes, |value| parse_address(value.as_str()?)),
        workers: fields.whole("workers", 1..=1024, mistakes).and_then(|count| usize::try_from(count).ok()).unwrap_or_else(default_workers),
        routes: read_routes(&mut fields, normalize_path, mistakes),
        normalize_path,
        trusted_consumer: fields
            .read("trusted_consumer", TrustedConsumer::EXPECTED, mistakes, TrustedConsumer::from_value)
            .unwrap_or_default(),
        redis: redis::read(&mut fields, folder, mistakes),
        filter: {
            FilterConfig::check(&mut fields, mistakes);
            None
        },
        timeouts: read_timeouts(&mut fields, mistakes),
        limits: Limits::read(&mut fields, mistakes),
        log: read_log(&mut fields, mistakes),
        environment: Environment::default(),
    };
    fields.finish(mistakes);
    settings
}

/// `ip:port`, `localhost:port`, or `:port` for every IPv4 address. Other names are refused: which of their addresses would be meant?
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    let at = |address: [u8; 4], port: &str| Some(SocketAddr::from((address, port.parse().ok()?)));
    match (text.strip_prefix("localhost:"), text.strip_prefix(':')) {
        (Some(port), _) => at([127, 0, 0, 1], port),
        (None, Some(port)) if !port.starts_with(':') => at([0, 0, 0, 0], port),
        _ => text.parse().ok(),
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Either `routes`, or `upstream` alone for one route to everything.
fn read_routes(fields: &mut Fields<'_>, rules: PathRules, mistakes: &mut Vec<Mistake>) -> Vec<RouteSettings> {
    let upstream_path = fields.path_of("upstream");
    match (fields.value("upstream"), fields.value("routes")) {
        (Some(_), Some(_)) => {
            mistakes.push(Mistake::new("routes", "expected only one of `routes` and `upstream`, got both"));
            Vec::new()
        }
        (None, None) => {
            mistakes.push(Mistake::new("routes", "is missing: expected an array of routes, or `upstream` with one URL"));
            Vec::new()
        }
        (Some(url), None) => read_upstream(&upstream_path, url, mistakes)
            .map(|upstream| RouteSettings { name: String::new(), host: HostPattern::Any, path_prefix: "/".to_owned(), upstream })
            .into_iter()
            .collect(),
        (None, Some(list)) => read_route_list(list, rules, mistakes),
    }
}

fn read_route_list(list: &Value, rules: PathRules, mistakes: &mut Vec<Mistake>) -> Vec<RouteSettings> {
    let Some(list) = list.as_array().filter(|list| !list.is_empty()) else {
        mistakes.push(unexpected("routes", list, "an array with at least one route"));
        return Vec::new();
    };
    let mut routes: Vec<RouteSettings> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("routes[{index}]");
        let mistakes_before = mistakes.len();
        let Some(route) = Fields::of(&path, value, mistakes).and_then(|fields| read_route(fields, rules, mistakes)) else {
            continue;
        };
        // What could not be read stands as its default, and is not to be compared.
        if mistakes.len() > mistakes_before {
            continue;
        }
        if let Some(twin) = routes.iter().find(|other| other.host == route.host && other.path_prefix == route.path_prefix) {
            let message = format!("has the same `host` and `path_prefix` as route {}, which would always win", fields::quoted(&twin.name));
            mistakes.push(Mistake::new(&path, message));
        }
        routes.push(route);
    }
    routes
}

fn read_route(mut fields: Fields<'_>, rules: PathRules, mistakes: &mut Vec<Mistake>) -> Option<RouteSettings> {
    let name = fields.text("name", mistakes).unwrap_or_default();
    let host = fields
        .read("host", "`*`, a host name without port, or `*.` and a domain", mistakes, |value| value.as_str().and_then(HostPattern::parse))
        .unwrap_or(HostPattern::Any);
    let path_prefix = fields
        .read("path_prefix", "a path that starts with `/`, without query", mistakes, read_path_prefix)
        .and_then(|prefix| normal_prefix(prefix, rules, &fields, mistakes))
        .unwrap_or_else(|| "/".to_owned());
    let upstream_path = fields.path_of("upstream");
    let upstream = match fields.value("upstream") {
        Some(url) => read_upstream(&upstream_path, url, mistakes),
        None => {
            mistakes.push(Mistake::new(&upstream_path, "is missing: expected a URL such as `http://127.0.0.1:9001`"));
            None
        }
    };
    fields.finish(mistakes);
    Some(RouteSettings { name, host, path_prefix, upstream: upstream? })
}

fn read_path_prefix(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    is_path.then_some(text)
}

/// In the spelling that requests will have when they are compared with it.
fn normal_prefix(prefix: &str, rules: PathRules, fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    match rules.read(prefix) {
        Ok(read) => Some(read.forwarded.into_owned()),
        Err(AmbiguousPath(reason)) => {
            let message = format!("got `{prefix}`, which no request can have with `normalize_path: {rules}`: {reason}");
            mistakes.push(Mistake::new(fields.path_of("path_prefix"), message));
            None
        }
    }
}

fn read_upstream(path: &str, url: &Value, mistakes: &mut Vec<Mistake>) -> Option<Upstream> {
    let read = url.as_str().ok_or("a URL such as `http://127.0.0.1:9001`").and_then(Upstream::parse);
    read.map_err(|expected| mistakes.push(unexpected(path, url, expected))).ok()
}

fn read_timeouts(fields: &mut Fields<'_>, mistakes: &mut Vec<Mistake>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut given) = fields.nested("timeouts", mistakes) else {
        return timeouts;
    };
    for (name, timeout) in [
        ("connect", &mut timeouts.connect),
        ("response", &mut timeouts.response),
        ("idle", &mut timeouts.idle),
        ("upstream_idle", &mut timeouts.upstream_idle),
        ("upstream_age", &mut timeouts.upstream_age),
        ("request_headers", &mut timeouts.request_headers),
        ("drain", &mut timeouts.drain),
        ("lame_duck", &mut timeouts.lame_duck),
    ] {
        match given.duration(name, mistakes) {
            Some(Duration::ZERO) if !matches!(name, "drain" | "lame_duck") => {
                let seen = given.value(name).unwrap_or(&Value::Null);
                mistakes.push(unexpected(&given.path_of(name), seen, "a duration above zero"));
            }
            Some(duration) => *timeout = duration,
            None => {}
        }
    }
    given.finish(mistakes);
    timeouts
}

fn read_log(fields: &mut Fields<'_>, mistakes: &mut Vec<Mistake>) -> LogSettings {
    let mut log = LogSettings::default();
    let Some(mut given) = fields.nested("log", mistakes) else {
        return log;
    };
    log.access = given.switch("access", mistakes).unwrap_or(log.access);
    let format = given.read("format", "`text` or `json`", mistakes, |value| match value.as_str() {
        Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        _ => None,
    });
    log.format = format.unwrap_or(log.format);
    given.finish(mistakes);
    log
}

#[cfg(test)]
mod tests;
