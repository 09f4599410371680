//! A host of a hundred lines: the filter inside a program of your own.
//!
//!     cargo run --release --example embed
//!     cargo run --release --example embed -- redis://127.0.0.1:6379
//!
//! Without a URL, the limit is kept in the filter's own memory. With one, it is shared with whoever
//! uses the same Redis.
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use slidegate::{
    HttpRequest, Module, Origin, RedisDirectory, ResponseHead, Verdict, Worker, WorkerOptions, apply_edits,
};

/// Three requests in ten seconds for each API key. The document is the one that a Higress
/// WasmPlugin of the cluster-key-rate-limit kind carries.
const LOCAL: &str = r#"{
    "rule_name": "embedded",
    "rule_items": [{
        "limit_by_per_header": "x-api-key",
        "limit_keys": [{ "key": "*", "limit": 3, "window": "10s" }]
    }],
    "show_limit_quota_header": true
}"#;

/// The same, counted in Redis.
const SHARED: &str = r#"{
    "rule_name": "embedded",
    "rule_items": [{
        "limit_by_per_header": "x-api-key",
        "limit_keys": [{ "key": "*", "limit": 3, "window": "10s" }]
    }],
    "show_limit_quota_header": true,
    "redis": { "service_name": "limits", "timeout": 500 }
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Compiled when this crate was built; loading takes about a millisecond. One is enough for a
    // program, whatever number of configurations it runs.
    let module = Module::embedded()?;

    // One worker is one instance: with limits in its own memory, one for the whole program; with
    // Redis, as many as there are threads that should not wait for each other.
    let url = std::env::args().nth(1);
    let worker = match &url {
        None => Worker::start(&module, LOCAL.as_bytes(), WorkerOptions::default())?,
        Some(url) => {
            // What the configuration calls `limits` is at this address.
            let mut directory = RedisDirectory::new();
            directory.insert("limits", url)?;
            Worker::start(&module, SHARED.as_bytes(), WorkerOptions::default().with_redis(directory))?
        }
    };
    for warning in &worker.configuration().warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}\n", worker.describe().trim_end());

    for key in ["alice", "alice", "bob", "alice", "alice", "bob"] {
        handle(&worker, key).await?;
    }
    Ok(())
}

/// What a server does with a request: ask, and go on or answer.
async fn handle(worker: &Worker, key: &str) -> Result<(), Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("shop.example"));
    headers.insert("x-api-key", HeaderValue::from_str(key)?);
    let request =
        HttpRequest::new(Method::GET, "/orders?page=1".parse()?, headers).with_source("192.0.2.7:40000".parse()?);

    // The stream lives as long as the request does; dropping it tells the filter that it is over.
    let stream = worker.open(Arc::new(request));
    let (status, response_headers) = match stream.on_request().await {
        Verdict::Pass(edits) => {
            // Here a proxy applies the edits to the request and forwards it.
            let mut request_headers = HeaderMap::new();
            apply_edits(&edits, &mut request_headers);

            // The filter may add to whatever response comes: how much room is left.
            let (status, mut response_headers) = (200, HeaderMap::new());
            let head = ResponseHead { status, origin: Origin::Upstream, end: true };
            if let Verdict::Pass(edits) = stream.on_response_headers(head, &response_headers).await {
                apply_edits(&edits, &mut response_headers);
            }
            (status, response_headers)
        }
        // Its own answer is as it shall be.
        Verdict::Respond(response) => {
            let mut headers = HeaderMap::new();
            for header in &response.headers {
                headers.append(
                    http::HeaderName::from_bytes(header.name.as_bytes())?,
                    HeaderValue::from_bytes(&header.value)?,
                );
            }
            (response.status, headers)
        }
    };
    println!("{key:>6} {status} {response_headers:?}");
    Ok(())
}
