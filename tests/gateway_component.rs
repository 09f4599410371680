//! The component in the gateway: the one that ships asks for nothing but its contract, another can take its place, and
//! one that fails takes only its own stream with it.

mod component_file;

use std::{fs, io::Write, thread};

use slidegate_tests::{
    gateway_process::{Directory, Gateway, run, wait_until},
    raw_upstream::RawUpstream,
    upstream::Upstream,
};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldItem, WorldKey};

use self::component_file::Component;

/// The most that the component may weigh, in bytes.
const SIZE_MAX: usize = 1_500_000;

fn trapping() -> Component {
    Component::of_module(include_str!("trapping.wat"))
}

fn serve(component: &Component, upstream: &str, on_trap: &str) -> Gateway {
    component.serve(&format!("upstream: {upstream}\nworkers: 1\nfilter: {{m: {on_trap}}}\n"))
}

fn traps(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_component_traps_total", &[])
}

/// Names of a world's imports or exports.
fn names<'a>(resolve: &Resolve, items: impl Iterator<Item = (&'a WorldKey, &'a WorldItem)>) -> Vec<String> {
    items.map(|(key, _)| resolve.name_world_key(key)).collect()
}

#[test]
fn it_asks_for_its_contract_and_nothing_of_a_system() {
    let decoded = wit_component::decode(slidegate::EMBEDDED_COMPONENT).expect("a component");
    let DecodedWasm::Component(resolve, world) = decoded else { panic!("a WIT package, not a component") };
    let world = &resolve.worlds[world];
    let imports = names(&resolve, world.imports.iter());
    assert!(imports.iter().all(|import| import.starts_with("slidegate:filter/")), "{imports:?}");
    for import in ["slidegate:filter/http@0.2.0", "slidegate:filter/redis@0.2.0", "slidegate:filter/system@0.2.0"] {
        assert!(imports.iter().any(|each| each == import), "{import} is not among {imports:?}");
    }
    assert_eq!(names(&resolve, world.exports.iter()), ["slidegate:filter/filter@0.2.0"]);
    let system = world.imports.values().find_map(|item| match item {
        WorldItem::Interface { id, .. } => {
            Some(&resolve.interfaces[*id]).filter(|each| each.name.as_deref() == Some("system"))
        }
        _ => None,
    });
    // A component names what it imports: a seed for its hashes among that.
    assert!(system.expect("an interface").functions.contains_key("random-bytes"));
}

#[test]
fn it_is_small() {
    let size = slidegate::EMBEDDED_COMPONENT.len();
    assert!(size <= SIZE_MAX, "{size} bytes");
}

#[test]
fn it_can_be_loaded_from_a_file_too() {
    let (component, upstream) = (Component::new(slidegate::EMBEDDED_COMPONENT), Upstream::start());
    let settings =
        format!("upstream: {}\nfilter: {{rule_name: r, global_threshold: {{query_per_day: 2}}}}\n", upstream.url());
    let gateway = Gateway::serve_with(&settings, &["--component", &component.file]);
    assert_eq!([(); 3].map(|()| gateway.get("/", &[]).0), [200, 200, 429]);
}

#[test]
fn a_stream_whose_filter_fails_passes_or_is_refused_as_configured() {
    let (component, upstream) = (trapping(), Upstream::start());
    for (on_trap, status) in [("p", 200), ("r", 503)] {
        let mut gateway = serve(&component, &upstream.url(), on_trap);
        for (count, path) in (1..).zip(["/trap", "/grow", "/loop", "/trap"]) {
            assert_eq!(gateway.get("/ok", &[]).0, 200);
            assert_eq!(gateway.get(path, &[]).0, status, "{path}, on-trap {on_trap}");
            assert_eq!(traps(&gateway), f64::from(count), "{path}");
        }
        assert_eq!(gateway.get("/ok", &[]), (200, "hello\n".to_owned()));
        assert!(gateway.is_running());
        if on_trap == "r" {
            gateway.wait_printed("details=\"slidegate.component_failed\"");
        }
    }
}

#[test]
fn a_filter_that_fails_on_a_response_leaves_the_gateway_well() {
    let (component, upstream) = (trapping(), Upstream::start());
    for (on_trap, status) in [("p", 418), ("r", 503)] {
        let mut gateway = serve(&component, &upstream.url(), on_trap);
        assert_eq!(gateway.get("/status/418", &[]).0, status, "on-trap {on_trap}");
        assert_eq!((traps(&gateway), gateway.get("/ok", &[]).0), (1.0, 200));
        assert!(gateway.is_running());
    }
}

/// What the instance that trapped would have taken out of a response does not reach the client.
#[test]
fn a_response_whose_filter_is_gone_passes_or_is_refused_as_configured() {
    for (on_trap, status) in [("p", 200), ("r", 503)] {
        let (component, upstream) = (trapping(), Upstream::start());
        let gateway = serve(&component, &upstream.url(), on_trap);
        let mut client = gateway.client();
        let slow = thread::spawn(move || client.get("/delay/1500", &[]).status());
        wait_until("it is on its way", || upstream.requests() == 1);
        gateway.get("/trap", &[]);
        assert_eq!((slow.join().expect("a client ends"), traps(&gateway)), (status, 1.0), "on-trap {on_trap}");
    }
}

/// A request that is decided on by its body does not pass undecided.
#[test]
fn a_request_whose_filter_is_gone_before_its_body_comes_passes_or_is_refused_as_configured() {
    for (on_trap, status) in [("p", 200), ("r", 503)] {
        let (component, upstream) = (trapping(), Upstream::start());
        let gateway = serve(&component, &upstream.url(), on_trap);
        let mut client = gateway.client();
        let head = b"POST /held HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
        client.write(head).expect("the gateway reads");
        assert_eq!(client.read_head().expect("an interim answer").status, 100, "its body is waited for");
        gateway.get("/trap", &[]);
        client.write(b"x").expect("the gateway reads");
        let answered = client.read_head().expect("an answer").status;
        assert_eq!((answered, traps(&gateway)), (status, 1.0), "on-trap {on_trap}");
        assert_eq!(upstream.requests(), if on_trap == "p" { 2 } else { 0 }, "on-trap {on_trap}");
    }
}

fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory for a small text");
    encoder.finish().expect("memory for a small text")
}

/// What is watched is shown without its coding and goes on with it; what is held is shown as it goes on.
#[test]
fn a_body_is_shown_without_its_coding_where_that_can_be_taken_off() {
    let (component, text) =
        (Component::of_module(include_str!("watching.wat")), "some text that is not short ".repeat(20));
    for (path, coding, body, seen) in [
        ("/w", "gzip", zipped(&text), format!("saw 1 {text}")),
        ("/w", "gzip", text.clone().into_bytes(), format!("saw 2 {text}")),
        ("/w", "compress", text.clone().into_bytes(), format!("saw 2 {text}")),
        ("/w", "identity", text.clone().into_bytes(), format!("saw 0 {text}")),
        ("/h", "br", text.clone().into_bytes(), format!("saw 2 {text}")),
    ] {
        let upstream = Upstream::start();
        let gateway = serve(&component, &upstream.url(), "p");
        let answer = gateway.client().send("POST", path, &[("content-encoding", coding)], &body);
        assert_eq!((answer.status(), upstream.last().body_bytes), (200, body.len() as u64), "{path} {coding}");
        gateway.wait_log(&seen);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
        let upstream = RawUpstream::answering([head.as_bytes(), &body].concat());
        let gateway = serve(&component, &upstream.url(), "p");
        let answer = gateway.client().get(path, &[]);
        assert_eq!(
            (answer.status(), answer.head.text("content-encoding"), answer.body),
            (200, Some(coding.to_owned()), body),
            "{path} {coding}"
        );
        gateway.wait_log(&seen);
    }
}

#[test]
fn a_worker_that_hangs_is_named_by_healthz_and_forgotten_when_it_goes_on() {
    let (component, upstream) = (trapping(), Upstream::start());
    let gateway = serve(&component, &upstream.url(), "p");
    assert_eq!(gateway.ask_admin("/healthz"), (200, "ok\n".to_owned()));
    let clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    let hanging: Vec<_> = clients
        .into_iter()
        // Each holds the worker until its call has run too long.
        .map(|mut client| thread::spawn(move || (0..2).all(|_| client.get("/loop", &[]).status() == 200)))
        .collect();
    wait_until("a worker hangs", || {
        let (status, text) = gateway.ask_admin("/healthz");
        let is_named = text.starts_with("worker-0 does not answer");
        assert_eq!(is_named, status == 503, "{status} {text}");
        is_named
    });
    assert_eq!(gateway.ask_admin("/readyz"), (200, "serving\n".to_owned()));
    assert!(hanging.into_iter().all(|client| client.join().expect("a client ends")));
    wait_until("it goes on", || gateway.ask_admin("/healthz") == (200, "ok\n".to_owned()));
}

#[test]
fn failures_among_many_requests_take_nobody_else_with_them() {
    let (component, upstream) = (trapping(), Upstream::start());
    let mut gateway = serve(&component, &upstream.url(), "p");
    let clients: Vec<_> = (0..8)
        .map(|index| {
            let mut client = gateway.client();
            let path = if index == 0 { "/trap" } else { "/ok" };
            thread::spawn(move || (0..200).filter(|_| client.get(path, &[]).status() == 200).count())
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().expect("a client ends") == 200));
    assert!(traps(&gateway) >= 1.0);
    assert_eq!(upstream.requests(), 1_600);
    assert!(gateway.is_running());
}

#[test]
fn what_is_no_component_ends_the_start() {
    let directory = Directory::new();
    let file = directory.path().join("gate.yaml");
    fs::write(&file, "listen: 127.0.0.1:0\nupstream: http://127.0.0.1:9\n").expect("a temporary file can be written");
    let file = file.to_str().expect("a temporary path is text");
    for bytes in [b"".as_slice(), b"not wasm", b"\0asm\x01\0\0\0"] {
        let component = Component::new(bytes);
        let output = run(&["serve", file, "--component", &component.file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--component") && !said.contains("panic"), "{said}");
    }
}
