//! The gateway's own file: where it listens, where requests go, how long it waits. What stands under `filter` or
//! `filters` is the filter's and is handed on as it is, after YAML has become JSON.

mod admin;
mod decide;
pub(crate) mod document;
mod environment;
pub(crate) mod file;
pub(crate) mod filter;
mod header_names;
mod host_pattern;
mod http_warnings;
pub(crate) mod json;
mod known;
mod limits;
mod listen;
mod mistake;
mod named_file;
mod networks;
mod path;
mod redis;
mod routes;
pub(crate) mod secret;
mod snippet;
pub(crate) mod source;
mod tls;
mod trusted_consumer;
pub(crate) mod undecidable;
mod upstream;
pub(crate) mod warnings;
mod words;
pub(crate) mod yaml;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use slidegate::RedisService;
use slidegate_document::{Fields, Node, Path as FieldPath, Reader};

use self::document::SettingsOrigin;
use self::environment::Environment;
use self::words::duration_shown;

pub(crate) use self::admin::{AdminToken, is_token};
pub(crate) use self::decide::DecideSettings;
pub(crate) use self::filter::FilterConfig;
pub(crate) use self::header_names::NameRules;
pub(crate) use self::host_pattern::{HostPattern, comparable_host};
pub(crate) use self::limits::Limits;
pub(crate) use self::listen::{Listen, address_argument};
pub(crate) use self::mistake::Mistake;
pub(crate) use self::named_file::NamedFiles;
pub(crate) use self::path::{AmbiguousPath, PathRules};
pub(crate) use self::redis::{RedisEntry, RedisSettings};
pub(crate) use self::routes::RouteSettings;
pub(crate) use self::tls::{ListenerTls, UpstreamTls};
pub(crate) use self::trusted_consumer::TrustedConsumer;
pub(crate) use self::upstream::{Protocol, Upstream};
pub(crate) use self::words::{nearest, one_line};

/// Everything the file says, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Where requests come in that go to upstreams; nowhere if there are none.
    pub(crate) listen: Option<Listen>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/config` are served; nowhere by default.
    pub(crate) admin: Option<Listen>,
    /// What those show there who may change something; without one nobody may.
    pub(crate) admin_token: Option<AdminToken>,
    /// Where other proxies ask; nowhere by default.
    pub(crate) decide: Option<DecideSettings>,
    pub(crate) workers: usize,
    /// In the file's order.
    pub(crate) routes: Vec<RouteSettings>,
    /// What is done about other spellings of a path.
    pub(crate) normalize_path: PathRules,
    /// What is done about names of header fields that servers read in different ways.
    pub(crate) header_names: NameRules,
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
    pub(crate) origin: SettingsOrigin,
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
    /// Connections to upstreams that are older get no further requests, so that changes of their addresses are
    /// followed.
    pub(crate) upstream_age: Duration,
    /// How long an upstream that does not answer is left out, where there are others.
    pub(crate) upstream_ejection: Duration,
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
            // Shorter than what servers commonly keep (Node: 5 s), so that a connection is seldom closed while a
            // request goes out on it.
            upstream_idle: Duration::from_secs(4),
            upstream_age: Duration::from_secs(60),
            upstream_ejection: Duration::from_secs(10),
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
        json!({"access": self.access, "format": match self.format { LogFormat::Text => "text",
            LogFormat::Json => "json" }})
    }
}

impl Settings {
    /// Reads a settings document. Paths of files in it are relative to this folder.
    ///
    /// # Errors
    /// Every mistake found.
    pub(crate) fn read(document: &Node, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader::new(&words::VOCABULARY);
        let settings =
            reader.object(FieldPath::Root, document, &words::TOP).map(|top| read_all(&mut reader, &top, folder));
        match (reader.finish(), settings) {
            (Ok(_), Some(settings)) => Ok(settings),
            (errors, settings) => {
                let mut mistakes: Vec<Mistake> = errors.err().into_iter().flatten().map(Mistake::from).collect();
                let unusable = settings.map(|settings| settings.redis.unusable(&mistakes));
                mistakes.extend(unusable.into_iter().flatten());
                Err(mistakes)
            }
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
        if self.header_names != NameRules::default() {
            unusual.push(("headers", format!("header_names: {}", self.header_names)));
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
            let fields =
                shown.as_object().into_iter().flatten().filter(|(field, value)| default.get(field) != Some(value));
            let fields: Vec<String> = fields.map(|(field, value)| format!("{field}: {}", text(value))).collect();
            if !fields.is_empty() {
                unusual.push((name, fields.join(", ")));
            }
        }
        unusual
    }

    /// The upstreams of all routes, with the paths of their fields.
    pub(crate) fn upstreams(&self) -> Vec<(String, &Upstream)> {
        let of_route = |(index, route): (usize, &'_ RouteSettings)| {
            let place = if self.has_one_route() { String::new() } else { format!("routes[{index}].") };
            let is_alone = route.upstreams.len() == 1;
            (0..route.upstreams.len()).map(move |number| match is_alone {
                true => format!("{place}upstream"),
                false => format!("{place}upstreams[{number}]"),
            })
        };
        let places = self.routes.iter().enumerate().flat_map(of_route);
        places.zip(self.routes.iter().flat_map(|route| &route.upstreams)).collect()
    }

    /// Whether the file has no `routes`, but one upstream, or several, for everything.
    fn has_one_route(&self) -> bool {
        matches!(self.routes.as_slice(), [route] if route.name.is_empty())
    }

    /// The path of what says where a service is.
    pub(crate) fn place_of_redis(&self, service: &RedisService) -> String {
        let entry = self.redis.entry(service).map(RedisEntry::path);
        entry.map_or_else(|| self.place_in_filter(service, Some("service_name")), str::to_owned)
    }

    /// The path of the filter's `redis` that names a service, or of a field of that, if it is there.
    pub(crate) fn place_in_filter(&self, service: &RedisService, field: Option<&str>) -> String {
        let Some(filter) = &self.filter else { return "filter".to_owned() };
        let Some((path, redis)) = filter.redis_of(service) else { return filter.field().to_owned() };
        match field.filter(|field| redis.get(*field).is_some()) {
            Some(field) => format!("{path}.{field}"),
            None => path,
        }
    }

    /// What is odd about certificates, and about files of keys and passwords, and no mistake.
    pub(crate) fn file_warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for warning in self
            .listener_tls()
            .flat_map(ListenerTls::warnings)
            .chain(self.upstream_tls().flat_map(UpstreamTls::warnings))
            .chain(self.redis.entries().flat_map(|entry| entry.warnings()))
            .chain(self.admin_token.iter().filter_map(AdminToken::warning))
        {
            // Several routes may share a certificate.
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// The files that these settings name, and what they held.
    pub(crate) fn named_files(&self) -> NamedFiles {
        let of_upstreams = self.upstream_tls().flat_map(UpstreamTls::named_files);
        let files =
            self.listener_tls().flat_map(ListenerTls::named_files).chain(of_upstreams).chain(self.redis.named_files());
        let files = files.chain(self.admin_token.iter().filter_map(AdminToken::named_file));
        files.map(|file| (file.path.clone(), file.bytes.clone())).collect()
    }

    /// Where a listener is secured as it was in these settings, clients may take up their sessions again.
    pub(crate) fn keep_sessions(&mut self, previous: &Self) {
        let previous = previous.listener_tls();
        let previous: Vec<&ListenerTls> = previous.collect();
        let decide = self.decide.as_mut().map(|decide| &mut decide.listen);
        let listeners = self.listen.iter_mut().chain(&mut self.admin).chain(decide);
        for tls in listeners.filter_map(|listen| listen.tls.as_mut()) {
            if let Some(same) = previous.iter().find(|previous| ***previous == *tls) {
                *tls = (*same).clone();
            }
        }
    }

    fn upstream_tls(&self) -> impl Iterator<Item = &UpstreamTls> {
        self.routes.iter().flat_map(|route| &route.upstreams).filter_map(|upstream| upstream.tls.as_deref())
    }

    fn listener_tls(&self) -> impl Iterator<Item = &ListenerTls> {
        let decide = self.decide.as_ref().map(|decide| &decide.listen);
        self.listen.iter().chain(&self.admin).chain(decide).filter_map(|listen| listen.tls.as_ref())
    }

    /// The settings as understood, with every password blotted out.
    pub(crate) fn shown(&self) -> Value {
        let routes: Vec<Value> = self.routes.iter().map(RouteSettings::shown).collect();
        let mut shown = self.environment.hide_in(
            "",
            json!({
                "listen": self.listen.as_ref().map(|listen| listen.address.to_string()),
                "tls": self.listen.as_ref().and_then(|listen| listen.tls.as_ref()).map(ListenerTls::shown),
                "admin": self.admin.as_ref().map(|listen| admin::shown(listen, self.admin_token.as_ref())),
                "decide": self.decide.as_ref().map(DecideSettings::shown),
                "workers": self.workers,
                "routes": routes,
                "normalize_path": self.normalize_path.to_string(),
                "header_names": self.header_names.to_string(),
                "trusted_consumer": self.trusted_consumer.shown(),
                "redis": self.redis.shown(),
                "timeouts": self.timeouts.shown(),
                "limits": self.limits.shown(),
                "log": self.log.shown(),
            }),
        );
        // Variables first: of what is cut, the beginning would not be known again.
        let (field, filter) =
            self.filter.as_ref().map_or(("filter", &Value::Null), |filter| (filter.field(), filter.written()));
        shown[field] = secret::without_secrets(&self.environment.hide_in(field, filter.clone()));
        shown
    }
}

impl Timeouts {
    /// Those of connections to upstreams.
    pub(crate) fn upstream(&self) -> [Duration; 4] {
        [self.connect, self.upstream_idle, self.upstream_age, self.upstream_ejection]
    }

    fn shown(&self) -> Value {
        json!({
            "connect": duration_shown(self.connect),
            "response": duration_shown(self.response),
            "idle": duration_shown(self.idle),
            "upstream_idle": duration_shown(self.upstream_idle),
            "upstream_age": duration_shown(self.upstream_age),
            "upstream_ejection": duration_shown(self.upstream_ejection),
            "request_headers": duration_shown(self.request_headers),
            "drain": duration_shown(self.drain),
            "lame_duck": duration_shown(self.lame_duck),
        })
    }
}

fn read_all(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> Settings {
    let normalize_path = reader
        .field(top, "normalize_path", |reader, path, node| {
            reader.parsed(path, node, "`on`, `refuse` or `off`", PathRules::from_node)
        })
        .unwrap_or_default();
    let (admin, admin_token) = admin::read(reader, top, folder);
    let mut settings = Settings {
        listen: read_listen(reader, top, folder),
        admin,
        admin_token,
        decide: DecideSettings::read(reader, top, folder),
        workers: reader
            .field(top, "workers", |reader, path, node| reader.whole(path, node, 1..=1024))
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or_else(default_workers),
        routes: routes::read(reader, top, normalize_path, folder),
        normalize_path,
        header_names: reader
            .field(top, "header_names", |reader, path, node| {
                reader.parsed(path, node, "`strict` or `all`", NameRules::from_node)
            })
            .unwrap_or_default(),
        trusted_consumer: reader.field(top, "trusted_consumer", TrustedConsumer::read).unwrap_or_default(),
        redis: redis::read(reader, top, folder),
        filter: FilterConfig::read(reader, top),
        timeouts: read_timeouts(reader, top),
        limits: Limits::read(reader, top),
        log: read_log(reader, top),
        environment: Environment::default(),
        origin: SettingsOrigin::default(),
    };
    if settings.redis.any.is_some() {
        settings.filter = settings.filter.map(FilterConfig::counting_in_redis);
    }
    settings
}

/// Without upstreams nothing listens for them, and nothing is said of that.
fn read_listen(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> Option<Listen> {
    if routes::are_left_out(top) {
        for (path, _) in ["listen", "tls", "upstream_tls"].into_iter().filter_map(|field| top.get(field)) {
            reader.error(
                path,
                "expected only with `upstream`, `upstreams` or `routes`; `decide` has a `listen` of its own",
            );
        }
        return None;
    }
    Some(Listen::read(reader, top, folder))
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read_timeouts(reader: &mut Reader, top: &Fields<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(given) = reader.field(top, "timeouts", |reader, path, node| reader.object(path, node, &words::TIMEOUTS))
    else {
        return timeouts;
    };
    for (name, timeout) in [
        ("connect", &mut timeouts.connect),
        ("response", &mut timeouts.response),
        ("idle", &mut timeouts.idle),
        ("upstream_idle", &mut timeouts.upstream_idle),
        ("upstream_age", &mut timeouts.upstream_age),
        ("upstream_ejection", &mut timeouts.upstream_ejection),
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
    log.format =
        reader.field(&given, "format", |reader, path, node| reader.choice(path, node, &formats)).unwrap_or(log.format);
    log
}

#[cfg(test)]
mod tests;
