//! The gateway's own file: where it listens, where requests go, how long it waits. What stands under `filter` or
//! `filters` is the filter's and is handed on as it is, after YAML has become JSON.

pub(crate) mod document;
mod environment;
pub(crate) mod file;
pub(crate) mod filter;
mod host_pattern;
mod http_warnings;
pub(crate) mod json;
mod limits;
mod mistake;
mod path;
mod redis;
pub(crate) mod secret;
mod snippet;
pub(crate) mod source;
mod trusted_consumer;
mod upstream;
pub(crate) mod warnings;
mod words;
pub(crate) mod yaml;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use slidegate_document::{Content, Fields, Node, Path as FieldPath, Reader};

use self::document::Origin;
use self::environment::Environment;
use self::words::duration_shown;

pub(crate) use self::filter::FilterConfig;
pub(crate) use self::host_pattern::{HostPattern, comparable_host};
pub(crate) use self::limits::Limits;
pub(crate) use self::mistake::Mistake;
pub(crate) use self::path::{AmbiguousPath, PathRules};
pub(crate) use self::redis::RedisSettings;
pub(crate) use self::trusted_consumer::TrustedConsumer;
pub(crate) use self::upstream::{Protocol, Upstream};
pub(crate) use self::words::{nearest, one_line};

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
    /// Where in a file all this stands, as long as somebody may ask.
    pub(crate) origin: Origin,
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
    /// Reads a settings document. Paths of files in it are relative to this folder.
    ///
    /// # Errors
    /// Every mistake found.
    pub(crate) fn read(document: &Node, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader::new(&words::VOCABULARY);
        let settings = reader.object(FieldPath::Root, document, &words::TOP).map(|top| read_all(&mut reader, &top, folder));
        match (reader.finish(), settings) {
            (Ok(_), Some(settings)) => Ok(settings),
            (errors, _) => Err(errors.err().into_iter().flatten().map(Mistake::from).collect()),
        }
    }

    /// The same of a document that is no text.
    ///
    /// # Errors
    /// Every mistake found.
    pub(crate) fn from_value(document: Value, folder: &Path) -> Result<Self, Vec<Mistake>> {
        match serde_json::from_value(document) {
            Ok(document) => Self::read(&document, folder),
            Err(error) => Err(vec![Mistake::new("", error.to_string())]),
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

fn read_all(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> Settings {
    let address =
        |reader: &mut Reader, path: FieldPath<'_>, node: &Node| reader.parsed(path, node, ADDRESS, |node| parse_address(node.as_str()?));
    let normalize_path = reader
        .field(top, "normalize_path", |reader, path, node| reader.parsed(path, node, "`on`, `refuse` or `off`", PathRules::from_node))
        .unwrap_or_default();
    Settings {
        listen: reader.field(top, "listen", address).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
        admin: reader.field(top, "admin", address),
        workers: reader
            .field(top, "workers", |reader, path, node| reader.whole(path, node, 1..=1024))
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or_else(default_workers),
        routes: read_routes(reader, top, normalize_path),
        normalize_path,
        trusted_consumer: reader
            .field(top, "trusted_consumer", |reader, path, node| {
                reader.parsed(path, node, TrustedConsumer::EXPECTED, TrustedConsumer::from_node)
            })
            .unwrap_or_default(),
        redis: redis::read(reader, top, folder),
        filter: FilterConfig::read(reader, top),
        timeouts: read_timeouts(reader, top),
        limits: Limits::read(reader, top),
        log: read_log(reader, top),
        environment: Environment::default(),
        origin: Origin::default(),
    }
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
fn read_routes(reader: &mut Reader, top: &Fields<'_>, rules: PathRules) -> Vec<RouteSettings> {
    match (top.get_unless_null("upstream"), top.get_unless_null("routes")) {
        (Some(_), Some((path, _))) => {
            reader.error(path, "expected only one of `routes` and `upstream`, got both");
            Vec::new()
        }
        (None, None) => {
            reader.error(top.at("routes"), "is missing: expected an array of routes, or `upstream` with one URL");
            Vec::new()
        }
        (Some((path, url)), None) => read_upstream(reader, path, url)
            .map(|upstream| RouteSettings { name: String::new(), host: HostPattern::Any, path_prefix: "/".to_owned(), upstream })
            .into_iter()
            .collect(),
        (None, Some((path, list))) => read_route_list(reader, path, list, rules),
    }
}

fn read_route_list(reader: &mut Reader, path: FieldPath<'_>, node: &Node, rules: PathRules) -> Vec<RouteSettings> {
    let list = reader.parsed(path, node, "an array with at least one route", |node| match &node.content {
        Content::List(list) if !list.is_empty() => Some(list),
        _ => None,
    });
    let mut routes: Vec<RouteSettings> = Vec::new();
    for (index, node) in list.into_iter().flatten().enumerate() {
        let path = FieldPath::Element(&path, index);
        let mistakes_before = reader.errors_count();
        let Some(route) = reader.object(path, node, &words::ROUTE).and_then(|route| read_route(reader, &route, rules)) else {
            continue;
        };
        // What could not be read stands as its default, and is not to be compared.
        if reader.errors_count() > mistakes_before {
            continue;
        }
        if let Some(twin) = routes.iter().find(|other| other.host == route.host && other.path_prefix == route.path_prefix) {
            let twin = words::quoted(&twin.name);
            reader.error(path, format_args!("has the same `host` and `path_prefix` as route {twin}, which would always win"));
        }
        routes.push(route);
    }
    routes
}

fn read_route(reader: &mut Reader, route: &Fields<'_>, rules: PathRules) -> Option<RouteSettings> {
    let name = reader.field(route, "name", Reader::text).unwrap_or_default();
    let host = reader.field(route, "host", |reader, path, node| {
        let expected = "`*`, a host name without port, or `*.` and a domain";
        reader.parsed(path, node, expected, |node| HostPattern::parse(node.as_str()?))
    });
    let path_prefix = reader.field(route, "path_prefix", |reader, path, node| {
        let prefix = reader.parsed(path, node, "a path that starts with `/`, without query", read_path_prefix)?;
        normal_prefix(reader, path, prefix, rules)
    });
    let upstream = match route.get_unless_null("upstream") {
        Some((path, url)) => read_upstream(reader, path, url),
        None => {
            reader.error(route.at("upstream"), "is missing: expected a URL such as `http://127.0.0.1:9001`");
            None
        }
    };
    let (host, path_prefix) = (host.unwrap_or(HostPattern::Any), path_prefix.unwrap_or_else(|| "/".to_owned()));
    Some(RouteSettings { name, host, path_prefix, upstream: upstream? })
}

fn read_path_prefix(node: &Node) -> Option<&str> {
    let text = node.as_str()?;
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    is_path.then_some(text)
}

/// In the spelling that requests will have when they are compared with it.
fn normal_prefix(reader: &mut Reader, path: FieldPath<'_>, prefix: &str, rules: PathRules) -> Option<String> {
    match rules.read(prefix) {
        Ok(read) => Some(read.forwarded.into_owned()),
        Err(AmbiguousPath(reason)) => {
            reader.error(path, format_args!("got `{prefix}`, which no request can have with `normalize_path: {rules}`: {reason}"));
            None
        }
    }
}

fn read_upstream(reader: &mut Reader, path: FieldPath<'_>, node: &Node) -> Option<Upstream> {
    let read = node.as_str().ok_or("a URL such as `http://127.0.0.1:9001`").and_then(Upstream::parse);
    read.map_err(|expected| reader.expected(path, node, expected)).ok()
}

fn read_timeouts(reader: &mut Reader, top: &Fields<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(given) = reader.field(top, "timeouts", |reader, path, node| reader.object(path, node, &words::TIMEOUTS)) else {
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
        match (words::duration(reader, &given, name), given.get(name)) {
            (Some(Duration::ZERO), Some((path, node))) if !matches!(name, "drain" | "lame_duck") => {
                reader.expected(path, node, "a duration above zero");
            }
            (Some(duration), _) => *timeout = duration,
            (None, _) => {}
        }
    }
    timeouts
}

fn read_log(reader: &mut Reader, top: &Fields<'_>) -> LogSettings {
    let mut log = LogSettings::default();
    let Some(given) = reader.field(top, "log", |reader, path, node| reader.object(path, node, &words::LOG)) else {
        return log;
    };
    log.access = reader.field(&given, "access", Reader::boolean).unwrap_or(log.access);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    log.format = reader.field(&given, "format", |reader, path, node| reader.choice(path, node, &formats)).unwrap_or(log.format);
    log
}

#[cfg(test)]
mod tests;
