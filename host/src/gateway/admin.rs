//! The admin port: what machines ask a gateway about itself. It shows counters and settings, so it belongs on a private address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::gateway::serving::Serving;
use crate::gateway::telemetry;

/// Histograms keep every sample until somebody folds them up; this is how often that happens without a reader.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the admin port shows.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) metrics: PrometheusHandle,
    pub(crate) serving: Arc<ArcSwap<Serving>>,
    pub(crate) drain: CancellationToken,
}

impl Admin {
    /// Answers on the listener for ever.
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    tokio::spawn(self.clone().serve_connection(socket));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection on the admin port");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Folds histograms up, for ever.
    pub(crate) async fn upkeep(metrics: PrometheusHandle) {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            metrics.run_upkeep();
        }
    }

    async fn serve_connection(self, socket: TcpStream) {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the admin port ended early");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".to_owned());
        }
        match path {
            "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            "/healthz" if self.drain.is_cancelled() => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned()),
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/config" => response(StatusCode::OK, "application/json", self.config()),
            _ => response(StatusCode::NOT_FOUND, TEXT, "served here: /metrics, /healthz, /config\n".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        telemetry::instance_memory(self.serving.load().instance_memory_bytes());
        self.metrics.render()
    }

    fn config(&self) -> String {
        let serving = self.serving.load();
        let warnings = serving.configuration().map(|configuration| configuration.warnings.clone());
        let of_filter = json!({
            "understood": serving.described().lines().collect::<Vec<_>>(),
            "warnings": warnings.unwrap_or_default(),
        });
        let mut shown = serving.settings.environment.hide_in(of_filter);
        shown["settings"] = serving.settings.shown();
        format!("{shown:#}\n")
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
