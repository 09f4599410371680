//! The admin port: what machines ask a gateway about itself. It shows counters and settings, so it belongs on a private
//! address.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use slidegate::{RedisState, RedisStatus};

use crate::gateway::body::{PieceSource, ResponseBody};
use crate::gateway::guests::Order;
use crate::gateway::health::{Health, ProbeReport};
use crate::gateway::plain_body::PeerBody;
use crate::gateway::serving::Serving;
use crate::gateway::telemetry::{self, ProcessMetrics};

const TEXT: &str = "text/plain; charset=utf-8";

/// How long a body may wait for its next piece. There is only one, and it is there.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What the admin port shows.
pub(crate) struct Admin {
    pub(crate) metrics: ProcessMetrics,
    pub(crate) serving: Arc<ArcSwap<Serving>>,
    pub(crate) health: Arc<Health>,
}

impl Admin {
    /// Answers a request; its body, if it has one, is not read.
    pub(crate) async fn answer(&self, request: Request<PeerBody>, _order: Order) -> Response<ResponseBody> {
        let mut answered = self.answered(request.method(), request.uri().path()).await;
        let length = HeaderValue::from(answered.body().len());
        answered.headers_mut().insert(header::CONTENT_LENGTH, length);
        let is_sent = request.method() != Method::HEAD;
        let body = |body| ResponseBody::new(PieceSource::own(Bytes::from(body)), ANSWER_TIME, None);
        answered.map(|text| if is_sent { body(text) } else { body(text).not_sent() })
    }

    async fn answered(&self, method: &Method, path: &str) -> Response<String> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".to_owned());
        }
        match path {
            "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            "/healthz" => reported(self.health.alive().await),
            "/readyz" => {
                let ProbeReport { is_good, text } = self.health.ready();
                reported(ProbeReport { is_good, text: text + &redis_lines(&self.serving.load().redis_statuses()) })
            }
            "/config" => response(StatusCode::OK, "application/json", self.config()),
            _ => {
                response(StatusCode::NOT_FOUND, TEXT, "served here: /metrics, /healthz, /readyz, /config\n".to_owned())
            }
        }
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

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
