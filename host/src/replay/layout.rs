//! Where in a line of each log stands what of a request.

use std::borrow::Cow;

use clap::ValueEnum;
use hyper::header::{self, HeaderName};

use super::json_line::{self, JsonPath};
use super::logged::{LoggedFields, LoggedPart};
use super::text_line::{LineWords, pairs};

/// The logs that are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogKind {
    /// By the first line that is not empty.
    #[default]
    Auto,
    /// nginx' `combined` and Apache's, and what begins like it, as Traefik's common format does.
    Nginx,
    /// Envoy's default text, its JSON with names like those of Istio.
    Envoy,
    /// Higress' default.
    Higress,
    /// Caddy's JSON.
    Caddy,
    /// APISIX' default.
    Apisix,
    /// Traefik's common format, or JSON.
    Traefik,
    /// HTTP archives, as browsers save them.
    Har,
    /// Comma-separated values with a line of names.
    Csv,
    /// This gateway's own, text or JSON.
    Slidegate,
}

/// How lines are read.
pub(super) struct LogLayout {
    kind: LogKind,
    form: LineForm,
}

enum LineForm {
    /// Words, each with what it is.
    Words(Vec<(usize, LoggedPart)>),
    Json(Vec<JsonPath>, Vec<LoggedPart>),
    /// Names that come in this order, in what is seldom JSON.
    Ordered,
    /// `name=value`.
    Pairs(Vec<(String, LoggedPart)>),
    /// Columns, each with what it is.
    Columns(Vec<(usize, LoggedPart)>),
}

/// What `--map` says: a part of a request, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct MappedPart {
    part: LoggedPart,
    place: String,
}

/// The names of Higress' default log, in its order.
const HIGRESS: [&str; 24] = [
    "ai_log",
    "authority",
    "bytes_received",
    "bytes_sent",
    "downstream_local_address",
    "downstream_remote_address",
    "duration",
    "istio_policy_status",
    "method",
    "path",
    "protocol",
    "request_id",
    "requested_server_name",
    "response_code",
    "response_flags",
    "route_name",
    "start_time",
    "trace_id",
    "upstream_cluster",
    "upstream_host",
    "upstream_local_address",
    "upstream_service_time",
    "upstream_transport_failure_reason",
    "user_agent",
];
const HIGRESS_LAST: [&str; 2] = ["x_forwarded_for", "response_code_details"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl MappedPart {
    /// Reads `header.x-api-key=.api_key`.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, place) = text.split_once('=').ok_or("expected `FIELD=PLACE`")?;
        let part = LoggedPart::named(name).ok_or_else(|| {
            format!(
                "`{name}` is none of `time`, `method`, `path`, `request`, `host`, `from`, `scheme`, `status`, `route`, \
                 `service` and `header.NAME`"
            )
        })?;
        if place.is_empty() {
            return Err("expected a place behind `=`".to_owned());
        }
        Ok(Self { part, place: place.to_owned() })
    }
}

impl LogLayout {
    /// Of a log that begins with this line. `map` says where else something stands.
    ///
    /// # Errors
    /// It is none of the logs that are known, or has no such place.
    pub(super) fn of(kind: LogKind, first: &[u8], map: &[MappedPart]) -> Result<Self, String> {
        let kind = if kind == LogKind::Auto { recognised(first).ok_or(UNKNOWN)? } else { kind };
        let is_json = first.trim_ascii_start().starts_with(b"{");
        let mut form = match kind {
            LogKind::Auto => return Err(UNKNOWN.to_owned()),
            LogKind::Csv => LineForm::Columns(columns(first)),
            LogKind::Higress if map.is_empty() => LineForm::Ordered,
            LogKind::Nginx | LogKind::Apisix if !is_json => LineForm::Words(combined(first)),
            LogKind::Traefik if !is_json => LineForm::Words(combined(first)),
            LogKind::Envoy if !is_json => LineForm::Words(envoy()),
            LogKind::Slidegate if !is_json => {
                LineForm::Pairs(own().into_iter().map(|(name, part)| (name.to_owned(), part)).collect())
            }
            kind => {
                let named = json_names(kind);
                let paths = named.iter().filter_map(|(path, _)| json_line::path(path)).collect();
                LineForm::Json(paths, named.into_iter().map(|(_, part)| part).collect())
            }
        };
        map.iter().try_for_each(|mapped| form.map(mapped, first))?;
        Ok(Self { kind, form })
    }

    /// Which log it is.
    pub(super) fn kind(&self) -> LogKind {
        self.kind
    }

    /// Whether its first line has names and no request.
    pub(super) fn has_head(&self) -> bool {
        matches!(self.form, LineForm::Columns(_))
    }

    /// What a line tells; none if it is about no request.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn read<'l>(&self, line: &'l [u8]) -> Result<Option<LoggedFields<'l>>, &'static str> {
        let mut fields = LoggedFields::default();
        match &self.form {
            LineForm::Words(parts) => {
                let mut parts = parts.iter().peekable();
                for (index, word) in LineWords::of(line).enumerate() {
                    while let Some((_, part)) = parts.next_if(|(place, _)| *place == index) {
                        fields.take(part, word.clone());
                    }
                    if parts.peek().is_none() {
                        break;
                    }
                }
            }
            LineForm::Json(paths, parts) => json_line::find(line, paths, &mut |index, value| {
                if let Some(part) = parts.get(index) {
                    fields.take(part, value);
                }
            })?,
            LineForm::Ordered => {
                let order: [&str; HIGRESS.len() + HIGRESS_LAST.len()] =
                    std::array::from_fn(|at| HIGRESS.iter().chain(&HIGRESS_LAST).nth(at).copied().unwrap_or_default());
                json_line::find_in_order(line, &order, &mut |name, value| {
                    if let Some((_, part)) = istio().iter().find(|(own, _)| own.strip_prefix('.') == Some(name)) {
                        fields.take(part, Cow::Borrowed(value));
                    }
                })?;
            }
            LineForm::Pairs(parts) => {
                if !line.windows(ACCESS.len()).any(|part| part == ACCESS) {
                    return Ok(None);
                }
                let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
                fields.take(&LoggedPart::Time, Cow::Borrowed(line.get(..end).unwrap_or_default()));
                pairs(line, |name, value| {
                    for (_, part) in parts.iter().filter(|(own, _)| own.as_bytes() == name) {
                        fields.take(part, value.clone());
                    }
                });
            }
            LineForm::Columns(parts) => {
                for (index, value) in (Columns { rest: Some(line) }).enumerate() {
                    for (_, part) in parts.iter().filter(|(place, _)| *place == index) {
                        fields.take(part, value.clone());
                    }
                }
            }
        }
        // Of its own log only the lines of requests are meant.
        let is_other = self.kind == LogKind::Slidegate && fields.is_no_request();
        Ok((!is_other).then_some(fields))
    }
}

impl LineForm {
    /// Adds a place.
    fn map(&mut self, mapped: &MappedPart, first: &[u8]) -> Result<(), String> {
        let MappedPart { part, place } = mapped;
        match self {
            Self::Words(parts) => {
                let number: usize = place
                    .strip_prefix('#')
                    .and_then(|number| number.parse().ok())
                    .filter(|number| *number > 0)
                    .ok_or("of a log in words a place is the number of a word, as in `#9`")?;
                parts.retain(|(_, own)| own != part);
                parts.push((number - 1, part.clone()));
                parts.sort_by_key(|(place, _)| *place);
            }
            Self::Json(paths, parts) => {
                let path = json_line::path(place)
                    .ok_or("of JSON a place is the path of a field, as in `.request.headers.x-api-key`")?;
                if paths.len() >= 64 {
                    return Err("expected no more than 64 places".to_owned());
                }
                // What is told last counts.
                paths.push(path);
                parts.push(part.clone());
            }
            Self::Pairs(parts) => parts.push((place.clone(), part.clone())),
            Self::Columns(parts) => {
                let column = Columns { rest: Some(first) }
                    .position(|name| *name == *place.as_bytes())
                    .ok_or_else(|| format!("the log has no column `{place}`"))?;
                parts.retain(|(_, own)| own != part);
                parts.push((column, part.clone()));
            }
            Self::Ordered => return Err("expected no `--map`".to_owned()),
        }
        Ok(())
    }
}

const UNKNOWN: &str = "its first line is that of no log that is known: say `--format`";

/// What stands in the lines of requests of the gateway's own log.
const ACCESS: &[u8] = b" access: client=";

/// Which log a line is from.
fn recognised(line: &[u8]) -> Option<LogKind> {
    let has = |part: &str| line.windows(part.len()).any(|bytes| bytes == part.as_bytes());
    if line.trim_ascii_start().starts_with(b"{") {
        return Some(match () {
            () if line.starts_with(b"{\"ai_log\":") => LogKind::Higress,
            () if has("\"target\":\"access\"") || (has("\"level\":\"INFO\"") && has("\"message\":")) => {
                LogKind::Slidegate
            }
            () if has("\"request\":{") && has("\"uri\":") => LogKind::Caddy,
            () if has("\"RequestMethod\":") => LogKind::Traefik,
            () if has("\"start_time\":") || has("\"response_code\":") => LogKind::Envoy,
            () => LogKind::Nginx,
        });
    }
    let words = LineWords::of(line);
    let begins_with_time = words.begins_with(b'[');
    let words: Vec<_> = words.take(6).collect();
    let is_time = |index: usize| words.get(index).is_some_and(|word| super::stamp::LogStamp::parse(word).is_some());
    let is_level = |word: &Cow<'_, [u8]>| [&b"INFO"[..], b"WARN", b"ERROR", b"DEBUG"].contains(&word.as_ref());
    match () {
        () if begins_with_time && is_time(0) => Some(LogKind::Envoy),
        () if is_time(0) && words.get(1).is_some_and(is_level) => Some(LogKind::Slidegate),
        () if is_time(3) => Some(LogKind::Nginx),
        () if line.contains(&b',') && columns(line).len() >= 3 => Some(LogKind::Csv),
        () => None,
    }
}

/// `$remote_addr - $remote_user [$time_local] "$request" $status ...`, and APISIX' with a host before the request; what
/// stands in quotes behind the size is the referrer and then the agent.
fn combined(line: &[u8]) -> Vec<(usize, LoggedPart)> {
    let mut words = LineWords::of(line);
    words.by_ref().take(4).for_each(drop);
    let request = if words.begins_with(b'"') { 4 } else { 5 };
    let mut parts = vec![(0, LoggedPart::Peer), (3, LoggedPart::Time)];
    if request == 5 {
        parts.push((4, LoggedPart::Host));
    }
    parts.push((request, LoggedPart::RequestLine));
    parts.push((request + 1, LoggedPart::Status));
    // APISIX tells the time between size and referrer.
    let referrer = if request == 5 { request + 4 } else { request + 3 };
    parts.push((referrer, LoggedPart::Header(header::REFERER)));
    parts.push((referrer + 1, LoggedPart::Header(header::USER_AGENT)));
    parts
}

/// `[%START_TIME%] "%REQ(:METHOD)% %PATH% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ...`.
fn envoy() -> Vec<(usize, LoggedPart)> {
    vec![
        (0, LoggedPart::Time),
        (1, LoggedPart::RequestLine),
        (2, LoggedPart::Status),
        (8, LoggedPart::Header(FORWARDED_FOR)),
        (9, LoggedPart::Header(header::USER_AGENT)),
        (11, LoggedPart::Host),
    ]
}

/// Names of the gateway's own log.
fn own() -> Vec<(&'static str, LoggedPart)> {
    vec![
        ("client", LoggedPart::Peer),
        ("method", LoggedPart::Method),
        ("host", LoggedPart::Host),
        ("path", LoggedPart::Target),
        ("status", LoggedPart::Status),
        ("duration_us", LoggedPart::DurationUs),
    ]
}

/// Names that Istio and Higress have in JSON.
fn istio() -> Vec<(&'static str, LoggedPart)> {
    vec![
        (".start_time", LoggedPart::Time),
        (".authority", LoggedPart::Host),
        (".method", LoggedPart::Method),
        (".path", LoggedPart::Target),
        (".response_code", LoggedPart::Status),
        (".downstream_remote_address", LoggedPart::Peer),
        (".route_name", LoggedPart::Route),
        (".upstream_cluster", LoggedPart::Service),
        (".user_agent", LoggedPart::Header(header::USER_AGENT)),
        (".x_forwarded_for", LoggedPart::Header(FORWARDED_FOR)),
    ]
}

fn json_names(kind: LogKind) -> Vec<(&'static str, LoggedPart)> {
    match kind {
        LogKind::Caddy => vec![
            (".ts", LoggedPart::Time),
            (".request.remote_ip", LoggedPart::Peer),
            (".request.method", LoggedPart::Method),
            (".request.host", LoggedPart::Host),
            (".request.uri", LoggedPart::Target),
            (".request.headers.user-agent", LoggedPart::Header(header::USER_AGENT)),
            (".request.headers.referer", LoggedPart::Header(header::REFERER)),
            (".request.headers.x-forwarded-for", LoggedPart::Header(FORWARDED_FOR)),
            (".status", LoggedPart::Status),
        ],
        LogKind::Traefik => vec![
            (".StartUTC", LoggedPart::Time),
            (".ClientAddr", LoggedPart::Peer),
            (".RequestMethod", LoggedPart::Method),
            (".RequestAddr", LoggedPart::Host),
            (".RequestPath", LoggedPart::Target),
            (".RequestScheme", LoggedPart::Scheme),
            (".DownstreamStatus", LoggedPart::Status),
            (".request_User-Agent", LoggedPart::Header(header::USER_AGENT)),
            (".request_Referer", LoggedPart::Header(header::REFERER)),
            (".request_X-Forwarded-For", LoggedPart::Header(FORWARDED_FOR)),
        ],
        LogKind::Slidegate => {
            vec![
                (".timestamp", LoggedPart::Time),
                (".client", LoggedPart::Peer),
                (".method", LoggedPart::Method),
                (".host", LoggedPart::Host),
                (".path", LoggedPart::Target),
                (".status", LoggedPart::Status),
                (".duration_us", LoggedPart::DurationUs),
            ]
        }
        LogKind::Envoy | LogKind::Higress => istio(),
        // Names that people give nginx' variables, where they write JSON.
        _ => vec![
            (".time", LoggedPart::Time),
            (".timestamp", LoggedPart::Time),
            (".time_iso8601", LoggedPart::Time),
            (".time_local", LoggedPart::Time),
            (".msec", LoggedPart::Time),
            (".remote_addr", LoggedPart::Peer),
            (".request", LoggedPart::RequestLine),
            (".request_method", LoggedPart::Method),
            (".method", LoggedPart::Method),
            (".request_uri", LoggedPart::Target),
            (".uri", LoggedPart::Target),
            (".path", LoggedPart::Target),
            (".host", LoggedPart::Host),
            (".http_host", LoggedPart::Host),
            (".status", LoggedPart::Status),
            (".http_user_agent", LoggedPart::Header(header::USER_AGENT)),
            (".http_referer", LoggedPart::Header(header::REFERER)),
            (".http_x_forwarded_for", LoggedPart::Header(FORWARDED_FOR)),
        ],
    }
}

/// Columns that are known by their names.
fn columns(head: &[u8]) -> Vec<(usize, LoggedPart)> {
    let named = |(index, name): (usize, Cow<'_, [u8]>)| {
        let name = String::from_utf8_lossy(&name).trim().to_ascii_lowercase();
        let part = match name.as_str() {
            "timestamp" | "start_time" => LoggedPart::Time,
            "url" | "uri" => LoggedPart::Target,
            "remote_addr" | "client" | "client_ip" => LoggedPart::Peer,
            "status_code" | "response_code" => LoggedPart::Status,
            name => LoggedPart::named(name)?,
        };
        Some((index, part))
    };
    Columns { rest: Some(head) }.enumerate().filter_map(named).collect()
}

/// The values of a line that are separated by commas.
struct Columns<'l> {
    rest: Option<&'l [u8]>,
}

impl<'l> Iterator for Columns<'l> {
    type Item = Cow<'l, [u8]>;

    fn next(&mut self) -> Option<Cow<'l, [u8]>> {
        let rest = self.rest?;
        let Some((b'"', quoted)) = rest.split_first() else {
            let end = rest.iter().position(|byte| *byte == b',');
            self.rest = end.and_then(|end| rest.get(end + 1..));
            return Some(Cow::Borrowed(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()));
        };
        let (mut value, mut at) = (Vec::new(), 0);
        while let Some(byte) = quoted.get(at) {
            at += 1;
            match (byte, quoted.get(at)) {
                // Two quotes stand for one.
                (b'"', Some(b'"')) => {
                    value.push(b'"');
                    at += 1;
                }
                (b'"', _) => break,
                (byte, _) => value.push(*byte),
            }
        }
        let behind = quoted.get(at..).unwrap_or_default();
        self.rest = behind.iter().position(|byte| *byte == b',').and_then(|comma| behind.get(comma + 1..));
        Some(Cow::Owned(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [(LogKind, &str); 9] = [
        (LogKind::Nginx, r#"192.0.2.1 - - [01/Dec/2026:03:00:00 +0000] "GET /a?b=\x22 HTTP/1.1" 200 5 "-" "a \"b\"""#),
        (LogKind::Nginx, r#"{"time":"2026-12-01T03:00:00Z","method":"GET","path":"/\u00e4","host":"a"}"#),
        (LogKind::Nginx, r#"192.0.2.1 - - [01/Dec/2026:03:00:00 +0000] a:80 "GET / HTTP/1.1" 200 5 0.1 "-" "a""#),
        (LogKind::Envoy, r#"[2026-12-01T03:00:00.1Z] "GET / HTTP/2" 200 - 0 5 1 1 "192.0.2.1" "a" "i" "a:80" "b:1""#),
        (LogKind::Higress, r#"{"ai_log":"{"a":"b"}","authority":"a","method":"GET","path":"/","start_time":"2026"}"#),
        (
            LogKind::Caddy,
            r#"{"ts":1796096681.1,"request":{"method":"GET","uri":"/","headers":{"A":["b"]}},"status":2}"#,
        ),
        (LogKind::Traefik, r#"{"ClientAddr":"192.0.2.1:5","RequestMethod":"GET","StartUTC":"2026-12-01T03:00:00.1Z"}"#),
        (LogKind::Csv, "time,method,path,\"header.x-a\",from"),
        (LogKind::Slidegate, r#"2026-12-01T03:00:00.1Z  INFO access: client=192.0.2.1:5 method=GET path="/a \"b" x=1"#),
    ];

    #[test]
    fn each_log_is_known_by_its_line() {
        for (kind, line) in LINES {
            assert_eq!(recognised(line.as_bytes()), Some(kind), "{line}");
        }
        for line in ["", "hello", "a,b,c", "{", "- - - -"] {
            let kind = recognised(line.as_bytes());
            assert!(kind.is_none() || line == "{", "{line}");
        }
    }

    /// Whatever a line is, it is read or refused: each line cut anywhere and with any byte changed, as each log.
    #[test]
    fn no_line_is_too_odd_for_any_log() {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for (_, first) in LINES {
            let layout = LogLayout::of(LogKind::Auto, first.as_bytes(), &[]).expect("a log");
            for (_, line) in LINES {
                for cut in 0..=line.len() {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let mut bytes = line.as_bytes().to_vec();
                    if let Some(byte) = bytes.get_mut(cut) {
                        *byte = noise.to_be_bytes()[0];
                    }
                    for odd in [&line.as_bytes()[..cut], &line.as_bytes()[cut..], &bytes] {
                        if let Ok(Some(fields)) = layout.read(odd) {
                            let _ = fields.request();
                        }
                    }
                }
            }
        }
    }
}
