//! What a line of a log says of a request, as far as limits care.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::stamp::LogStamp;
use crate::gateway::{RehearsedRequest, RouteNames};

/// Where clients are whose addresses no log tells.
const UNKNOWN_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Of requests whose host no log tells.
const UNKNOWN_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// What URLs do not have.
const UNSAFE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// A part of a request that a log may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoggedPart {
    /// When it came, or when it was logged.
    Time,
    /// How long it took, in microseconds, where `Time` is when it ended.
    DurationUs,
    Method,
    /// The path with its query.
    Target,
    /// Method, target and version, as HTTP has them.
    RequestLine,
    Host,
    /// The address of the peer, with or without its port.
    Peer,
    Scheme,
    Status,
    Route,
    Service,
    Header(HeaderName),
}

impl LoggedPart {
    /// By the name that `--map` gives it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "time" => Self::Time,
            "method" => Self::Method,
            "path" => Self::Target,
            "request" => Self::RequestLine,
            "host" => Self::Host,
            "from" => Self::Peer,
            "scheme" => Self::Scheme,
            "status" => Self::Status,
            "route" => Self::Route,
            "service" => Self::Service,
            name => Self::Header(name.strip_prefix("header.")?.parse().ok()?),
        })
    }
}

/// What a line tells. Parts that it does not tell are empty.
#[derive(Default)]
pub(super) struct LoggedFields<'l> {
    time: Cow<'l, [u8]>,
    duration_us: Cow<'l, [u8]>,
    method: Cow<'l, [u8]>,
    target: Cow<'l, [u8]>,
    host: Cow<'l, [u8]>,
    peer: Cow<'l, [u8]>,
    scheme: Cow<'l, [u8]>,
    status: Cow<'l, [u8]>,
    route: Cow<'l, [u8]>,
    service: Cow<'l, [u8]>,
    headers: Vec<(HeaderName, Cow<'l, [u8]>)>,
}

/// A request of a log.
pub(super) struct LoggedRequest {
    pub(super) stamp: LogStamp,
    pub(super) request: RehearsedRequest,
    /// 0: the log does not tell it.
    pub(super) status: u16,
}

impl<'l> LoggedFields<'l> {
    /// Takes a part. A dash, as logs have it in the place of nothing, and nothing are none.
    pub(super) fn take(&mut self, part: &LoggedPart, value: Cow<'l, [u8]>) {
        if value.is_empty() || *value == *b"-" {
            return;
        }
        match part {
            LoggedPart::Time => self.time = value,
            LoggedPart::DurationUs => self.duration_us = value,
            LoggedPart::Method => self.method = value,
            LoggedPart::Target => self.target = value,
            LoggedPart::RequestLine => self.take_line(value),
            LoggedPart::Host => self.host = value,
            LoggedPart::Peer => self.peer = value,
            LoggedPart::Scheme => self.scheme = value,
            LoggedPart::Status => self.status = value,
            LoggedPart::Route => self.route = value,
            LoggedPart::Service => self.service = value,
            LoggedPart::Header(name) => self.headers.push((name.clone(), value)),
        }
    }

    /// Whether it tells of no request at all.
    pub(super) fn is_no_request(&self) -> bool {
        self.method.is_empty() && self.target.is_empty()
    }

    fn take_line(&mut self, line: Cow<'l, [u8]>) {
        match line {
            Cow::Borrowed(line) => {
                let (method, target) = method_and_target(line);
                (self.method, self.target) = (Cow::Borrowed(method), Cow::Borrowed(target));
            }
            Cow::Owned(line) => {
                let (method, target) = method_and_target(&line);
                (self.method, self.target) = (Cow::Owned(method.to_vec()), Cow::Owned(target.to_vec()));
            }
        }
    }

    /// The request that it is.
    ///
    /// # Errors
    /// What is missing, or is not what it should be.
    pub(super) fn request(&self) -> Result<LoggedRequest, &'static str> {
        if self.time.is_empty() {
            return Err("it tells no time");
        }
        let mut stamp = LogStamp::parse(&self.time).ok_or("its time cannot be read")?;
        if !self.duration_us.is_empty() {
            stamp.us = stamp.us.saturating_sub(number(&self.duration_us).unwrap_or_default());
        }
        let method = match &*self.method {
            b"" => return Err("it tells no method"),
            method => Method::from_bytes(method).map_err(|_| "its method is none")?,
        };
        let uri = match &*self.target {
            b"" => return Err("it tells no path"),
            target => Uri::try_from(target).or_else(|_| escaped(target)).map_err(|_| "its path is none")?,
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        let is_whole = uri.authority().is_some();
        (parts.method, parts.uri) = (method, uri);
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                parts.headers.append(name, value);
            }
        }
        if !is_whole && !parts.headers.contains_key(header::HOST) {
            let host = match &*self.host {
                b"" => UNKNOWN_HOST,
                host => HeaderValue::from_bytes(host).map_err(|_| "its host is none")?,
            };
            parts.headers.insert(header::HOST, host);
        }
        let is_secure = *self.scheme == *b"https" || parts.uri.scheme_str() == Some("https");
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let is_named = !(self.route.is_empty() && self.service.is_empty());
        let names = is_named.then(|| RouteNames { route: text(&self.route), service: text(&self.service) });
        let client = peer(&self.peer).unwrap_or(UNKNOWN_CLIENT);
        let request = RehearsedRequest { parts, client, is_secure, body: Bytes::new(), names };
        let status = number(&self.status).and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
        Ok(LoggedRequest { stamp, request, status })
    }
}

/// A target with signs that servers take and URLs do not have.
fn escaped(target: &[u8]) -> Result<Uri, InvalidUri> {
    percent_encode(target, UNSAFE).to_string().parse()
}

/// Of `GET /path HTTP/1.1`; a path with spaces in it, which some clients send, is whole.
fn method_and_target(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return (line, b"") };
    let (method, rest) = (line.get(..space).unwrap_or_default(), line.get(space + 1..).unwrap_or_default());
    match rest.iter().rposition(|byte| *byte == b' ') {
        Some(end) if rest.get(end + 1..).is_some_and(|version| version.starts_with(b"HTTP/")) => {
            (method, rest.get(..end).unwrap_or_default())
        }
        _ => (method, rest),
    }
}

fn peer(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = |ip| SocketAddr::new(ip, UNKNOWN_CLIENT.port());
    text.parse::<IpAddr>().map(address).or_else(|_| text.parse()).ok()
}

/// The whole part of a number.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}
