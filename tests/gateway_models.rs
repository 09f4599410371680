//! Streams of models through the gateway, with filters that watch them or hold them back to look for more: they pass
//! byte for byte and piece by piece, and who leaves stops the model.

mod component_file;

use std::io::Read;

use flate2::read::MultiGzDecoder;
use slidegate_tests::{gateway_process::Gateway, http_client::HttpClient, model::ModelServer};

use self::component_file::Component;

/// What is asked, by each interface that streams.
const ASKED: [(&str, &str); 5] = [
    ("/v1/chat/completions", r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}}"#),
    ("/v1/responses", r#"{"model": "m", "stream": true}"#),
    ("/v1/messages", r#"{"model": "m", "stream": true}"#),
    ("/v1beta/models/m:streamGenerateContent?alt=sse", "{}"),
    ("/v1beta/models/m:streamGenerateContent", "{}"),
];

/// A model, and a gateway before it.
struct Site {
    filter: &'static str,
    model: ModelServer,
    gateway: Gateway,
    _component: Option<Component>,
}

impl Site {
    /// With a foreign filter, which watches all bodies.
    fn watched() -> Self {
        let (model, component) = (ModelServer::start(), Component::of_module(include_str!("watching.wat")));
        let gateway = component.serve(&format!("upstream: {}\nfilter: {{}}\n", model.url()));
        Site { filter: "watching", model, gateway, _component: Some(component) }
    }

    /// With a limit on tokens that nothing here reaches, on these terms.
    fn limited(terms: &'static str) -> Self {
        let model = ModelServer::start();
        let gateway = Gateway::serve(&format!(
            "upstream: {}\nfilter: {{rule_name: wide, global_threshold: {{token_per_hour: 1000000000}}{terms}}}\n",
            model.url()
        ));
        Site { filter: terms, model, gateway, _component: None }
    }

    /// One that watches, one that counts, and one that has each event whole before it goes on.
    fn all() -> [Site; 3] {
        [Site::watched(), Site::limited(", reserve: 100"), Site::limited(", request_usage: true, on_exhausted: cut")]
    }

    /// A client that has asked and waits for the answer.
    fn asking(&self, path: &str, body: &str, manner: &str) -> HttpClient {
        let mut client = self.gateway.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a.test\r\nx-model: {manner}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write(&[head.as_bytes(), body.as_bytes()].concat()).expect("the gateway reads");
        client
    }
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut text).expect("what is zipped");
    text
}

#[test]
fn streams_pass_as_they_are_however_they_are_split_and_zipped() {
    let sites = Site::all();
    for site in &sites {
        let mut client = site.gateway.client();
        for (path, body) in ASKED {
            for manner in
                ["tokens=20", "tokens=2;split=1", "tokens=4;split=7", "tokens=20;gzip", "tokens=4;gzip;split=5"]
            {
                let headers = [("x-model", manner), ("accept-encoding", "gzip")];
                let answer = client.send("POST", path, &headers, body.as_bytes());
                let is_zipped = answer.head.text("content-encoding") == Some("gzip".to_owned());
                let what = format!("{path} {manner} {}", site.filter);
                assert_eq!(answer.status(), 200, "{what}");
                // Where the filter may change a stream, the model is asked for one without a coding.
                assert!(is_zipped == manner.contains("gzip") || site.filter.contains("cut"), "{what}");
                let text = if is_zipped { unzipped(&answer.body) } else { answer.body };
                assert!(text == ModelServer::body(path, body, manner), "{what}");
            }
        }
    }
    // The first filter has seen them without their coding.
    let seen = sites[0].gateway.wait_log("saw 1 data:");
    assert!(seen.contains("word") || seen.contains("role"), "{seen}");
}

#[test]
fn the_first_of_a_stream_does_not_wait_for_the_second_and_who_leaves_stops_the_model() {
    for site in Site::all() {
        // Google's interface says nothing before its first token.
        for ((path, body), left) in ASKED[..3].iter().zip(1..) {
            let mut client = site.asking(path, body, "tokens=2;pause=60000");
            let head = client.read_head().expect("the model answers");
            let mut chunk = Vec::new();
            while !chunk.ends_with(b"\n\n\r\n") {
                chunk.extend(client.read_raw(1).expect("the first event comes"));
            }
            assert_eq!((head.status, site.model.record().tokens), (200, 0), "{path} {}", site.filter);
            drop(client);
            let record = site.model.wait(|record| record.left == left);
            assert_eq!((record.tokens, record.ended), (0, 0), "{path} {}", site.filter);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_breaks_off_for_the_client() {
    for site in Site::all() {
        for (path, body) in ASKED {
            let mut client = site.asking(path, body, "tokens=20;cut=5;pause=1");
            let head = client.read_head().expect("the model answers");
            let mut text = Vec::new();
            let end = client.read_body("POST", &head, |piece| text.extend_from_slice(piece));
            assert!(end.is_err(), "{path} {}", site.filter);
            assert!(ModelServer::body(path, body, "tokens=20").starts_with(&text), "{path} {}", site.filter);
            assert!(!text.is_empty(), "{path} {}", site.filter);
        }
    }
}
