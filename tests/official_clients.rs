//! The official clients of OpenAI, Anthropic and Google through the gateway, unmodified, before a stand-in model: what
//! they read is what the model said, a refusal is what they take for one, and who leaves stops the model.

use std::{path::PathBuf, process::Command, thread};

use slidegate_tests::{gateway_process::Gateway, model::ModelServer};

/// OpenAI's twice and the others' in Python, and OpenAI's in JavaScript.
const CLIENTS: [&str; 5] = ["chat", "responses", "messages", "gemini", NODE];
const NODE: &str = "node";

/// Each client has one request a minute, or the tokens of one, if it wants to be limited.
const FILTER: &str = "
filter:
  rule_name: models
  headers: [retry-after]
  error_format: auto
  rule_items:
  - {limit_by_header: x-limited, limit_keys: [{key: requests, query_per_minute: 1}, {key: tokens, token_per_minute: \
  40}]}
";

/// Each client has so many tokens, and who has no more in the middle of a stream is cut off.
const CUTTING: &str = "
filter:
  rule_name: cutting
  rule_items:
  - {limit_by_per_header: user-agent, limit_keys: [{key: '*', token_per_hour: 400}]}
  reserve: 50
  on_exhausted: cut
";

/// A model, and a gateway before it.
fn site() -> (ModelServer, Gateway) {
    site_with(FILTER)
}

fn site_with(filter: &str) -> (ModelServer, Gateway) {
    let model = ModelServer::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{filter}", model.url()));
    (model, gateway)
}

/// Where `just setup` puts the clients.
fn installed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/clients")
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("official").join(name)
}

/// A program that uses this client does this.
fn act(action: &str, client: &str, gateway: &Gateway) {
    let url = format!("http://{}", gateway.listen());
    let mut program = if client == NODE {
        let mut program = Command::new("node");
        program.arg(script("clients.mjs")).args([action, &url]).env("CLIENTS", installed());
        program
    } else {
        let mut program = Command::new("python3");
        program.arg(script("clients.py")).args([action, client, &url]).env("PYTHONPATH", installed().join("python"));
        program
    };
    let output = program.output().unwrap_or_else(|error| panic!("{program:?}: {error}: run `just setup`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {said}");
}

/// Does this for each client, beside each other: what takes time is their start.
fn for_each_client(act: impl Fn(&'static str) + Sync) {
    thread::scope(|scope| {
        for client in CLIENTS {
            let act = &act;
            scope.spawn(move || act(client));
        }
    });
}

#[test]
fn streams_are_read_to_their_end() {
    let (model, gateway) = site();
    for_each_client(|client| act("stream", client, &gateway));
    let record = model.wait(|record| record.ended == 5);
    assert_eq!((record.left, record.tokens), (0, 150));
}

#[test]
fn a_refusal_is_the_clients_error_for_that_with_the_time_to_wait() {
    for_each_client(|client| {
        let (model, gateway) = site();
        act("refused", client, &gateway);
        assert_eq!(model.record().asked, 2, "{client}");
    });
}

#[test]
fn a_client_that_leaves_stops_the_model() {
    let (model, gateway) = site();
    for_each_client(|client| act("cancelled", client, &gateway));
    let record = model.wait(|record| record.left == 5);
    assert!(record.ended == 0 && record.tokens < 50_000, "{record:?}");
}

#[test]
fn a_stream_that_is_cut_ends_as_one_of_the_greatest_length_and_the_model_is_stopped() {
    for_each_client(|client| {
        if client == NODE {
            return;
        }
        let (model, gateway) = site_with(CUTTING);
        act("cut", client, &gateway);
        let record = model.wait(|record| record.left == 1);
        assert!(record.ended == 0 && record.tokens < 5_000, "{client}: {record:?}");
        assert_eq!(gateway.metrics().sum("slidegate_token_answers_cut_total", &[]), 1.0, "{client}");
    });
}
