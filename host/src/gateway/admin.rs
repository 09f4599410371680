//! The admin port: what machines ask a gateway about itself. It shows counters and settings, so it belongs on a private
//! address. Whoever wants something changed shows a token, and the log tells of it.

mod browser;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use slidegate::{Module, RedisState, RedisStatus};

use crate::gateway::body::{PieceSource, ResponseBody};
use crate::gateway::guests::Order;
use crate::gateway::health::{Health, ProbeReport};
use crate::gateway::kept::{self, KeptError, Purged};
use crate::gateway::overview::{self, RecentPast};
use crate::gateway::plain_body::PeerBody;
use crate::gateway::serving::{Serving, Workshop};
use crate::gateway::telemetry::{self, ProcessMetrics, PurgeResult};
use crate::purge_order::{ORDER_BYTES_MAX, PURGE_PATH, PURGE_REFUSAL, PurgeOrder};

/// The page for people. It asks for [`STATE_PATH`] while it is seen.
const PAGE: &str = include_str!("admin/page.html");

/// What the page may do in a browser: ask here, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the state of the gateway is asked for.
const STATE_PATH: &str = "/api/v1/state";

const TEXT: &str = "text/plain; charset=utf-8";

/// How long a body may wait for its next piece. There is only one, and it is there.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What the log calls lines about who changed something.
const AUDIT: &str = "audit";

/// Clocks of gateways and of their Redis may be so far apart, in milliseconds; beyond it a purge may leave something.
const CLOCKS_APART_MS: u64 = 1_000;

/// How long an order may take to come.
const ORDER_TIME: Duration = Duration::from_secs(5);

/// What the admin port shows.
pub(crate) struct Admin {
    pub(crate) metrics: ProcessMetrics,
    pub(crate) serving: Arc<ArcSwap<Serving>>,
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) health: Arc<Health>,
    pub(crate) refusals: Refusals,
    pub(crate) past: RecentPast,
}

/// Tells of those who may change nothing, once a second at most.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    fn tell(&self, client: SocketAddr, status: StatusCode, what: &'static str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.is_some_and(|told| told.elapsed() < Duration::from_secs(1)) {
            told.1 += 1;
            return;
        }
        let (_, untold) = std::mem::replace(&mut *told, (Some(Instant::now()), 0));
        drop(told);
        tracing::warn!(target: AUDIT, %client, status = status.as_u16(), untold, "{what} was refused");
    }
}

/// An order, and whose it is.
struct Purge {
    serving: Arc<Serving>,
    module: Module,
    order: PurgeOrder,
    client: SocketAddr,
}

impl Purge {
    /// Purges what is ordered, and logs each part of it that is done.
    async fn run(self) -> Response<String> {
        let Self { serving, module, order, client } = self;
        let count = Mutex::new((0, 0));
        let done = |purged: Purged<'_>| {
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            match purged {
                Purged::Url(url) => {
                    count.0 += 1;
                    telemetry::purged(PurgeResult::Url, 1);
                    tracing::info!(target: AUDIT, %client, kind = "url", url = kept::shown(url), "purged");
                }
                Purged::Tags(tags) => {
                    count.1 += tags.len();
                    telemetry::purged(PurgeResult::Tag, tags.len() as u64);
                    for tag in tags {
                        let digest = kept::tag_shown(tag);
                        tracing::info!(target: AUDIT, %client, kind = "tag", digest, "purged");
                    }
                }
            }
        };
        let now_ms = kept::now().wall / 1_000_000;
        let purged = kept::purge(&serving, &module, &order, Some(now_ms), done).await;
        let (urls, tags) = *count.lock().unwrap_or_else(PoisonError::into_inner);
        match purged {
            Ok(apart_ms) => {
                let mut told = json!({"purged": {"urls": urls, "tags": tags}});
                if apart_ms > CLOCKS_APART_MS {
                    tracing::warn!(target: AUDIT, apart_ms, "the cache's Redis has another time than this gateway");
                    told["clock_ms_apart"] = json!(apart_ms);
                }
                response(StatusCode::OK, "application/json", format!("{told}\n"))
            }
            Err(error) => {
                telemetry::purged(PurgeResult::Failed, 1);
                let status = match error {
                    KeptError::NoCache => StatusCode::NOT_FOUND,
                    KeptError::NotKept(_) => StatusCode::UNPROCESSABLE_ENTITY,
                    KeptError::Redis(_) => StatusCode::SERVICE_UNAVAILABLE,
                    KeptError::Filter(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                let reason = serving.settings.environment.hide(&error.told());
                tracing::warn!(target: AUDIT, %client, urls, tags, %reason, "a purge failed after so many");
                let before = match (urls, tags) {
                    (0, 0) => String::new(),
                    _ => format!(" (purged before that: {urls} by URL, {tags} by tag)"),
                };
                response(status, TEXT, format!("{reason}{before}\n"))
            }
        }
    }
}

impl Admin {
    /// Answers a request. Its body, if it has one, is read only where something is to be changed.
    pub(crate) async fn answer(
        &self,
        request: Request<PeerBody>,
        client: SocketAddr,
        counted: Order,
    ) -> Response<ResponseBody> {
        let is_sent = request.method() != Method::HEAD;
        let mut answered = match request.uri().path() {
            PURGE_PATH => self.purged(request, client, counted).await,
            _ => self.looked_at(&request, client).await,
        };
        let length = HeaderValue::from(answered.body().len());
        answered.headers_mut().insert(header::CONTENT_LENGTH, length);
        let body = |body| ResponseBody::new(PieceSource::own(Bytes::from(body)), ANSWER_TIME, None);
        answered.map(|text| if is_sent { body(text) } else { body(text).not_sent() })
    }

    /// Notes what has come of requests until now, for who looks later.
    pub(crate) fn note(&self) {
        self.serving.load().fetch_metrics();
        self.past.note(&self.metrics);
    }

    /// Shows something, if there is a token to whoever shows it; but probes have none, and the page asks for it.
    async fn looked_at(&self, request: &Request<PeerBody>, client: SocketAddr) -> Response<String> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".to_owned());
        }
        let path = request.uri().path();
        let serving = self.serving.load();
        let is_secret = serving.settings.admin_token.is_some();
        if is_secret
            && !matches!(path, "/" | "/healthz" | "/readyz")
            && let Err(refused) = admitted(&serving, request.headers())
        {
            self.refusals.tell(client, refused.status(), "a look");
            return *refused;
        }
        if matches!(path, STATE_PATH | "/config")
            && let Err((status, reason)) = browser::check(request.uri(), request.headers(), is_secret)
        {
            return response(status, TEXT, reason.to_owned());
        }
        match path {
            "/" => page(),
            STATE_PATH => {
                let state = overview::state(&serving, &self.metrics, &self.past);
                let mut shown = response(StatusCode::OK, "application/json", format!("{state}\n"));
                shown.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                shown
            }
            "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            "/healthz" => reported(self.health.alive().await),
            "/readyz" => {
                let ProbeReport { is_good, text } = self.health.ready();
                reported(ProbeReport { is_good, text: text + &redis_lines(&self.serving.load().redis_statuses()) })
            }
            "/config" => response(StatusCode::OK, "application/json", self.config()),
            _ => {
                let served =
                    format!("served here: /, {STATE_PATH}, /metrics, /healthz, /readyz, /config, {PURGE_PATH}\n");
                response(StatusCode::NOT_FOUND, TEXT, served)
            }
        }
    }

    /// Purges what is ordered, for who shows the token.
    async fn purged(&self, request: Request<PeerBody>, client: SocketAddr, counted: Order) -> Response<String> {
        if request.method() != Method::POST {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{PURGE_REFUSAL}\n"));
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        let serving = self.serving.load_full();
        if let Err(refused) = admitted(&serving, request.headers()) {
            telemetry::purged(PurgeResult::Refused, 1);
            self.refusals.tell(client, refused.status(), "a purge");
            return *refused;
        }
        let purge = match ordered(request.into_body()).await {
            Ok(order) => Purge { serving, module: self.workshop.module().clone(), order, client },
            Err((status, reason)) => return response(status, TEXT, reason + "\n"),
        };
        // Whoever leaves meanwhile has not taken his order back, and the log has to tell of it.
        let purged = tokio::spawn(async move {
            let purged = purge.run().await;
            drop(counted);
            purged
        });
        purged.await.unwrap_or_else(|_| {
            response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the purge ended with a panic\n".to_owned())
        })
    }

    fn metrics(&self) -> String {
        let serving = self.serving.load();
        serving.fetch_metrics();
        telemetry::instance_memory(serving.instance_memory_bytes());
        // Kept until they are written.
        let services = redis_up(serving.redis_statuses());
        let _gauges: Vec<_> = services.iter().map(|(service, is_up)| telemetry::redis_up(service, *is_up)).collect();
        self.metrics.render()
    }

    fn config(&self) -> String {
        let serving = self.serving.load();
        let warnings = serving.configuration().map(|configuration| configuration.warnings.clone());
        let of_filter = json!({
            "understood": serving.described().lines().collect::<Vec<_>>(),
            "warnings": warnings.unwrap_or_default(),
        });
        let mut shown = serving.settings.environment.hide_in("", of_filter);
        shown["settings"] = serving.settings.shown();
        format!("{shown:#}\n")
    }
}

/// Whether somebody may change something.
///
/// # Errors
/// What those are answered who may not.
fn admitted(serving: &Serving, headers: &HeaderMap) -> Result<(), Box<Response<String>>> {
    let Some(token) = &serving.settings.admin_token else {
        let reason = "nothing can be changed here: the settings have no `admin.token`\n";
        return Err(Box::new(response(StatusCode::FORBIDDEN, TEXT, reason.to_owned())));
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (first, another) = (shown.next().and_then(|field| bearer(field.as_bytes())), shown.next());
    if another.is_none() && first.is_some_and(|shown| token.is(shown)) {
        return Ok(());
    }
    let reason = "expected `authorization: Bearer TOKEN` with the token of the settings, `admin.token`\n";
    let mut refused = response(StatusCode::UNAUTHORIZED, TEXT, reason.to_owned());
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Err(Box::new(refused))
}

/// What is behind the name of the scheme (RFC 6750, section 2.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// # Errors
/// It is none, too long, or does not come.
async fn ordered(body: PeerBody) -> Result<PurgeOrder, (StatusCode, String)> {
    let read = tokio::time::timeout(ORDER_TIME, Limited::new(body, ORDER_BYTES_MAX).collect()).await;
    let bytes = match read {
        Ok(Ok(read)) => read.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let reason = format!("expected an order of at most {ORDER_BYTES_MAX} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the order broke off".to_owned())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the order did not come in time".to_owned())),
    };
    PurgeOrder::of_json(&bytes).map_err(|reason| (StatusCode::BAD_REQUEST, reason))
}

fn reported(report: ProbeReport) -> Response<String> {
    let status = if report.is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response(status, TEXT, report.text)
}

/// A line for each Redis service.
fn redis_lines(statuses: &[RedisStatus]) -> String {
    let line = |RedisStatus { service_name, port, address, state }: &RedisStatus| {
        let state = match state {
            RedisState::Unasked => "not asked yet".to_owned(),
            RedisState::Up => "up".to_owned(),
            RedisState::Down(cause) => format!("down: {cause}"),
        };
        format!("redis {service_name}:{port} at {address}: {state}\n")
    };
    statuses.iter().map(line).collect()
}

/// By the name that the filter's own metrics have too. One that stands for several services is up if all of them are.
fn redis_up(statuses: Vec<RedisStatus>) -> BTreeMap<String, bool> {
    statuses.into_iter().fold(BTreeMap::new(), |mut up, RedisStatus { service_name, state, .. }| {
        *up.entry(service_name).or_insert(true) &= state == RedisState::Up;
        up
    })
}

fn page() -> Response<String> {
    let mut page = response(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned());
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
