//! The official clients of OpenAI, Anthropic and Google through the gateway, unmodified, before a stand-in model: what
//! they read is what the model said, a refusal is what they take for one, and who leaves stops the model.

use std::{path::PathBuf, process::Command};

use slidegate_tests::{gateway_process::Gateway, model::ModelServer};

const CLIENTS: [&str; 4] = ["chat", "responses", "messages", "gemini"];

/// Each client has one request a minute, or the tokens of one, if it wants to be limited.
const FILTER: &str = "
filter:
  rule_name: models
  headers: [retry-after]
  error_format: auto
  rule_items:
  - {limit_by_header: x-limited, limit_keys: [{key: requests, query_per_minute: 1}, {key: tokens, token_per_minute: 40}]}
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

/// A program that uses a client does this.
fn act(program: &mut Command) {
    let output = program.output().unwrap_or_else(|error| panic!("{program:?}: {error}: run `just setup`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {said}");
}

fn python(action: &str, client: &str, gateway: &Gateway) {
    let mut program = Command::new("python3");
    program.arg(script("clients.py")).args([action, client, &format!("http://{}", gateway.listen())]);
    act(program.env("PYTHONPATH", installed().join("python")));
}

fn node(action: &str, gateway: &Gateway) {
    let mut program = Command::new("node");
    program.arg(script("clients.mjs")).args([action, &format!("http://{}", gateway.listen())]);
    act(program.env("CLIENTS", installed()));
}

#[test]
fn streams_are_read_to_their_end() {
    let (model, gateway) = site();
    for client in CLIENTS {
        python("stream", client, &gateway);
    }
    node("stream", &gateway);
    let record = model.wait(|record| record.ended == 5);
    assert_eq!((record.left, record.tokens), (0, 150));
}

#[test]
fn a_refusal_is_the_clients_error_for_that_with_the_time_to_wait() {
    for client in CLIENTS {
        let (model, gateway) = site();
        python("refused", client, &gateway);
        assert_eq!(model.record().asked, 2, "{client}");
    }
    let (model, gateway) = site();
    node("refused", &gateway);
    assert_eq!(model.record().asked, 2);
}

#[test]
fn a_client_that_leaves_stops_the_model() {
    let (model, gateway) = site();
    for (client, left) in CLIENTS.into_iter().zip(1..) {
        python("cancelled", client, &gateway);
        model.wait(|record| record.left == left);
    }
    node("cancelled", &gateway);
    let record = model.wait(|record| record.left == 5);
    assert!(record.ended == 0 && record.tokens < 10_000, "{record:?}");
}

#[test]
fn a_stream_that_is_cut_ends_as_one_of_the_greatest_length_and_the_model_is_stopped() {
    for client in CLIENTS {
        let (model, gateway) = site_with(CUTTING);
        python("cut", client, &gateway);
        let record = model.wait(|record| record.left == 1);
        assert!(record.ended == 0 && record.tokens < 5_000, "{client}: {record:?}");
        assert_eq!(gateway.metrics().sum("slidegate_token_answers_cut_total", &[]), 1.0, "{client}");
    }
}
