//! `slidegate check --connect`: whether all that a settings file leads to is there. Each Redis makes a decision like
//! any other, under a rule of its own whose key is gone two seconds later; each upstream is connected to, and asked
//! nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2, HandshakeFailure};
use slidegate::{
    CallError, Command, HttpRequest, Module, RedisConnection, RedisDirectory, RedisServer, RedisService,
    RedisTransport, Reply, ReplyFuture, Verdict, Worker, WorkerOptions,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::{Serving, redis_name};
use crate::settings::{Mistake, Upstream, one_line};

/// The rule that the decision is made under; part of its key.
const RULE: &str = "slidegate-check";

/// How far a Redis' clock may be from this machine's before it is told of.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(2);

/// How long a refusal after the handshake is waited for.
const REFUSAL: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Default)]
pub(super) struct Findings {
    /// What is there.
    pub(super) lines: Vec<String>,
    /// What is odd about it.
    pub(super) warnings: Vec<Mistake>,
    /// What is not there, or of no use.
    pub(super) mistakes: Vec<Mistake>,
}

/// Connects to everything.
pub(super) async fn connect(serving: &Serving, module: &Module) -> Findings {
    let mut findings = Findings::default();
    if let Some((directory, services)) = serving.redis() {
        for service in services {
            let place = format!("{} at {}", redis_name(service), directory.address(service));
            let path = serving.settings.place_of_redis(service);
            match ask_redis(directory, service, module).await {
                Ok((line, warnings)) => {
                    findings.lines.push(format!("redis    {place}: {line}"));
                    let told = |warning: &String| Mistake::new(&path, format!("Redis {place}: {warning}"));
                    findings.warnings.extend(warnings.iter().map(told));
                }
                Err(cause) => findings.mistakes.push(Mistake::new(path, format!("{place} cannot be used: {cause}"))),
            }
        }
    }
    let limit = serving.settings.timeouts.connect;
    for (path, upstream) in upstreams(serving) {
        let name = upstream.to_string();
        let connected = timeout(limit, connect_upstream(upstream))
            .await
            .unwrap_or_else(|_| Err("it takes longer than `timeouts.connect`".to_owned()));
        let was_asked = upstream.tls.as_ref().is_some_and(|tls| tls.client.was_asked_in_vain());
        match connected {
            Ok(found) => {
                findings.lines.push(format!("upstream {name}: takes connections{found}"));
                if was_asked {
                    let advice = "asks for a client's certificate, and `upstream_tls.cert` names none";
                    findings.warnings.push(Mistake::new(path, format!("{name} {advice}; it may refuse requests")));
                }
            }
            Err(error) => findings.mistakes.push(Mistake::new(path, format!("{name} takes no connection: {error}"))),
        }
    }
    findings
}

/// All of them with their paths. Those of one name count once, unless their connections are secured in other ways.
fn upstreams(serving: &Serving) -> Vec<(String, &Upstream)> {
    let mut upstreams: BTreeMap<String, Vec<(String, &Upstream)>> = BTreeMap::new();
    for (path, upstream) in serving.settings.upstreams() {
        let of_name = upstreams.entry(upstream.to_string()).or_default();
        if !of_name.iter().any(|(_, other)| *other == upstream) {
            of_name.push((path, upstream));
        }
    }
    upstreams.into_values().flatten().collect()
}

/// What there is to say of a connection to it.
async fn connect_upstream(upstream: &Upstream) -> Result<&'static str, String> {
    let stream = TcpStream::connect(upstream.authority.as_str()).await.map_err(|error| error.to_string())?;
    let Some(tls) = &upstream.tls else { return Ok("") };
    let secured = tls.client.with_alpn(&[ALPN_HTTP2, ALPN_HTTP1]).connect(upstream.host(), stream).await;
    let mut secured = secured.map_err(|error| why_unsecured(&error))?;
    // With TLS 1.3 a server refuses who shows no certificate only after the handshake. One of HTTP/2 speaks first then,
    // one of HTTP/1.1 says nothing before it is asked.
    if let Ok(Err(error)) = timeout(REFUSAL, secured.read(&mut [0])).await
        && is_distrust(&error)
    {
        return Err(why_unsecured(&error));
    }
    Ok(if secured.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2) { ", TLS, HTTP/2" } else { ", TLS, HTTP/1.1" })
}

fn is_distrust(error: &io::Error) -> bool {
    matches!(HandshakeFailure::of(error), HandshakeFailure::NoCertificate | HandshakeFailure::Distrusted)
}

fn why_unsecured(error: &io::Error) -> String {
    match HandshakeFailure::of(error) {
        failure if failure.is_no_tls() => "it does not speak TLS".to_owned(),
        HandshakeFailure::NoCertificate => {
            "it wants a client's certificate: `upstream_tls.cert` and `upstream_tls.key` name one".to_owned()
        }
        HandshakeFailure::Distrusted => one_line(&format!("it does not trust the certificate shown to it: {error}")),
        _ => one_line(&format!("TLS: {}", HandshakeFailure::words(error))),
    }
}

/// What a service is, and what is odd about it.
async fn ask_redis(
    directory: &RedisDirectory,
    service: &RedisService,
    module: &Module,
) -> Result<(String, Vec<String>), String> {
    let server = directory.ask(service).await?;
    let name = server.name().map(|name| format!(", {name}")).unwrap_or_default();
    let decided = decide(directory, service, module).await?;
    let mut warnings = server.warnings();
    warnings.extend(clock_warning(&server));
    Ok((format!("answers{name}; decides, {decided}"), warnings))
}

fn clock_warning(server: &RedisServer) -> Option<String> {
    let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let there = Duration::from_micros(server.time_us);
    let difference = here.abs_diff(there);
    let direction = if there > here { "ahead of" } else { "behind" };
    (difference > CLOCK_DIFFERENCE_MAX).then(|| {
        format!(
            "its clock is {} s {direction} this machine's; limits go by its clock, and are right as long as it runs \
             evenly",
            difference.as_secs()
        )
    })
}

/// Lets the filter decide one request by this service; in words, how it knew the script.
async fn decide(directory: &RedisDirectory, service: &RedisService, module: &Module) -> Result<String, String> {
    let witness = Witness { directory: directory.clone(), failures: Arc::default() };
    let failures = Arc::clone(&witness.failures);
    let filter = filter(service).to_string();
    let worker = Worker::start(module, filter.as_bytes(), WorkerOptions::default().with_redis(witness))
        .map_err(|error| error.to_string())?;
    let request = http::Request::get("http://check.invalid/").body(()).map_err(|error| error.to_string())?;
    let verdict = worker.open(Arc::new(HttpRequest::from(&request))).on_request().await;
    let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    match verdict {
        Verdict::Pass(_) if failures.is_empty() => Ok("knows the script".to_owned()),
        Verdict::Pass(_) => Ok("the script was sent".to_owned()),
        Verdict::Respond(_) => Err(match failures.last() {
            Some(failure) => format!("it made no decision: {failure}"),
            None => "it made no decision: what it answered is not what the script returns".to_owned(),
        }),
    }
}

/// A filter that decides by this service, and refuses if that fails.
fn filter(service: &RedisService) -> Value {
    let mut redis = json!({
        "service_name": service.service_name,
        "service_port": service.port,
        "timeout": service.timeout_ms.max(1_000),
        "database": service.database,
    });
    for (field, text) in [("username", &service.username), ("password", &service.password)] {
        if !text.is_empty() {
            redis[field] = Value::from(text.as_str());
        }
    }
    json!({"rule_name": RULE, "global_threshold": {"query_per_second": 1_000_000}, "failure_mode": "closed",
        "redis": redis})
}

/// The way to Redis, and what went wrong on it.
struct Witness {
    directory: RedisDirectory,
    failures: Arc<Mutex<Vec<String>>>,
}

struct Witnessed {
    connection: Arc<dyn RedisConnection>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl RedisTransport for Witness {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        Arc::new(Witnessed { connection: self.directory.open(service), failures: Arc::clone(&self.failures) })
    }
}

impl RedisConnection for Witnessed {
    fn call(&self, command: Command) -> ReplyFuture {
        let (reply, failures) = (self.connection.call(command), Arc::clone(&self.failures));
        Box::pin(async move {
            let reply = reply.await;
            let failure = match &reply {
                Ok(Reply::Error(text)) => Some(format!("it answered `{}`", one_line(text))),
                Ok(_) => None,
                Err(CallError::Timeout) => Some("no reply in time".to_owned()),
                Err(error) => Some(format!("the call failed ({error:?})").to_lowercase()),
            };
            failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failure);
            reply
        })
    }
}
