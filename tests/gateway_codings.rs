//! What compressed answers of models tell is charged, and they pass byte for byte; so do those that cannot be read, lie
//! about what they are, or are made to exhaust whoever reads them.

use std::{collections::BTreeMap, io::Write};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use slidegate_engine_tests::answers::{self, ModelAnswer};
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    raw_upstream::{RawConnection, RawUpstream},
};

/// What is charged for an answer that cannot be read.
const RESERVED: u64 = 1_000;

/// What the answers here tell that they took.
const TOLD: u64 = 320;

const ASKED: &[u8] = br#"{"model": "m", "stream": true}"#;

/// Each event by itself, as servers do that stream.
fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    compressed(coding, text.split_inclusive(|byte| *byte == b'\n'))
}

/// Each of these by itself.
fn compressed<'a>(coding: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let write = |encoder: &mut dyn Write| {
        for piece in pieces {
            encoder.write_all(piece).and_then(|()| encoder.flush()).expect("memory takes what is written");
        }
    };
    match coding {
        "gzip" => write(&mut GzEncoder::new(&mut bytes, Compression::default())),
        "deflate" => write(&mut ZlibEncoder::new(&mut bytes, Compression::default())),
        // As some send it that take the name literally.
        "deflate, bare" => write(&mut DeflateEncoder::new(&mut bytes, Compression::default())),
        "br" => write(&mut brotli::CompressorWriter::new(&mut bytes, 4_096, 5, 22)),
        "zstd" => write(&mut zstd::Encoder::new(&mut bytes, 3).expect("a level").auto_finish()),
        _ => write(&mut bytes),
    }
    bytes
}

/// A stream of OpenAI's that tells its usage, after some text that looks like one.
fn stream() -> Vec<u8> {
    let mut text = String::new();
    for word in 0..50 {
        text += &format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{{\\\"usage\\\": {word}}}\"}}}}]}}\n\n"
        );
    }
    let usage = format!("{{\"prompt_tokens\":20,\"completion_tokens\":{},\"total_tokens\":{TOLD}}}", TOLD - 20);
    text += &format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n");
    text.into_bytes()
}

/// One document, whose text is so long.
fn document(length: usize) -> Vec<u8> {
    let text = "a word ".repeat(length / 7);
    let usage = format!("{{\"prompt_tokens\":20,\"completion_tokens\":{}}}", TOLD - 20);
    format!("{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}}}}],\"usage\":{usage}}}").into_bytes()
}

/// An answer: how its head names the coding, its body, and the size of the pieces that it is sent in.
struct Sent {
    coding: &'static str,
    body: Vec<u8>,
    split: usize,
}

/// A server that sends what the path names.
fn serve(answers: &BTreeMap<String, Sent>, mut connection: RawConnection) {
    while let Some(head) = connection.read_head() {
        connection.read(ASKED.len());
        let name = head.split(['/', ' ']).find_map(|word| answers.get(word)).expect("an answer of this name");
        let length = name.body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\ncontent-length: {length}\r\n\r\n", name.coding);
        let mut pieces = name.body.chunks(name.split);
        if !connection.write(head.as_bytes()) || !pieces.all(|piece| connection.write(piece)) {
            return;
        }
    }
}

/// What each answer is charged, which all come as they are; and how much more memory the gateway took at most.
fn charged(answers: Vec<(String, Sent)>) -> (BTreeMap<String, u64>, u64) {
    charged_by("reserved", answers)
}

/// The same, with this policy for answers that tell no usage.
fn charged_by(on_missing_usage: &str, answers: Vec<(String, Sent)>) -> (BTreeMap<String, u64>, u64) {
    let bodies: BTreeMap<_, _> = answers.iter().map(|(name, sent)| (name.clone(), sent.body.clone())).collect();
    let answers: BTreeMap<_, _> = answers.into_iter().collect();
    let upstream = RawUpstream::start(move |connection| serve(&answers, connection));
    let gateway = Gateway::serve(&format!(
        "upstream: {}
workers: 1
filter:
  rule_name: codings
  global_threshold: {{token_per_hour: 1000000000000000}}
  reserve: {RESERVED}
  on_missing_usage: {on_missing_usage}
",
        upstream.url()
    ));
    let (mut client, mut before, mut charged) = (gateway.client(), 0, BTreeMap::new());
    client.send("POST", &format!("/{}", bodies.keys().next().expect("an answer")), &[], ASKED);
    wait_until("it is settled", || settled(&gateway).is_some());
    let memory = gateway.peak_memory_bytes();
    before += settled(&gateway).unwrap_or_default();
    for (name, body) in bodies {
        let answer = client.send("POST", &format!("/{name}"), &[("accept-encoding", "gzip, deflate, br, zstd")], ASKED);
        assert_eq!(answer.status(), 200, "{name}");
        assert!(answer.body == body, "{name}");
        wait_until("it is settled", || settled(&gateway).is_some_and(|now| now > before));
        let now = settled(&gateway).unwrap_or_default();
        charged.insert(name, now - before);
        before = now;
    }
    (charged, gateway.peak_memory_bytes() - memory)
}

/// What was charged until now, if nothing is open.
fn settled(gateway: &Gateway) -> Option<u64> {
    let metrics = gateway.metrics();
    (metrics.sum("slidegate_token_reservations_open", &[]) == 0.0)
        .then(|| metrics.sum("slidegate_tokens_charged_total", &[]) as u64)
}

fn sent(name: &str, coding: &'static str, body: Vec<u8>, split: usize) -> (String, Sent) {
    (name.to_owned(), Sent { coding, body, split })
}

#[test]
fn what_is_told_in_any_coding_is_charged() {
    let mut answers = Vec::new();
    for (coding, named) in [
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, bare", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ] {
        for split in [1, 7, 100_000] {
            let name = |kind: &str| format!("{kind}-{}-{split}", coding.replace(", ", "-"));
            answers.push(sent(&name("stream"), named, coded(coding, &stream()), split));
            answers.push(sent(&name("document"), named, coded(coding, &document(3_000)), split));
        }
    }
    let (charged, _) = charged(answers);
    assert_eq!(charged.len(), 36);
    assert!(charged.values().all(|charged| *charged == TOLD), "{charged:?}");
}

#[test]
fn answers_of_all_providers_are_charged_what_they_tell() {
    let (mut answers, mut expected) = (Vec::new(), BTreeMap::new());
    for (number, ModelAnswer { name, body, usage }) in answers::all().into_iter().enumerate() {
        // Of those that tell nothing, or take nothing, there is nothing to wait for.
        let billed = usage.map_or(0, |usage| usage.billed());
        if billed > 0 {
            let path = format!("{number}-{}", name.replace(|sign: char| !sign.is_ascii_alphanumeric(), "-"));
            expected.insert(path.clone(), billed);
            answers.push(sent(&path, "identity", body, [7, 64, 1_000][number % 3]));
        }
    }
    assert!(expected.len() > 50, "{expected:?}");
    assert_eq!(charged(answers).0, expected);
}

#[test]
fn what_cannot_be_read_passes_and_is_charged_what_was_reserved() {
    let half = |coding: &str| {
        let mut bytes = coded(coding, &document(3_000_000));
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let mut answers = vec![sent("unknown", "compress", stream(), 100), sent("twice", "gzip, gzip", stream(), 100)];
    for coding in ["gzip", "deflate", "br", "zstd"] {
        answers.push(sent(&format!("lies-{coding}"), coding, stream(), 100));
        answers.push(sent(&format!("half-{coding}"), coding, half(coding), 4_096));
    }
    // One that can be read and tells nothing would cost nothing.
    let (charged, _) = charged_by("nothing", answers);
    assert_eq!(charged.len(), 10);
    assert!(charged.values().all(|charged| *charged == RESERVED), "{charged:?}");
}

#[test]
fn what_is_made_to_exhaust_its_reader_does_not() {
    let huge = document(50_000_000);
    let mut answers = vec![sent("plain", "identity", huge.clone(), 65_536)];
    for coding in ["gzip", "br", "zstd"] {
        answers.push(sent(&format!("bomb-{coding}"), coding, coded(coding, &huge), 65_536));
    }
    let (charged, memory) = charged(answers);
    assert_eq!(charged["plain"], TOLD, "a line of 50 MB");
    // Read to its end or given up: never nothing.
    assert!(charged.values().all(|charged| [TOLD, RESERVED].contains(charged)), "{charged:?}");
    assert!(memory < 48 << 20, "{memory} bytes more");
}

#[test]
fn an_answer_that_says_the_same_again_and_again_is_read_to_its_end() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n".repeat(30_000);
    let events = [event.as_bytes(), &stream()].concat();
    let document = document(2_000_000);
    let mut answers = Vec::new();
    for coding in ["gzip", "br", "zstd"] {
        for (kind, text) in [("events", &events), ("document", &document)] {
            let body = compressed(coding, [&text[..]]);
            assert!(body.len() * 100 < text.len(), "{coding} {kind}: {}", body.len());
            answers.push(sent(&format!("{kind}-{coding}"), coding, body, 65_536));
        }
    }
    let (charged, memory) = charged(answers);
    assert!(charged.values().all(|charged| *charged == TOLD), "{charged:?}");
    assert!(memory < 48 << 20, "{memory} bytes more");
}

/// Who is refused by the first of what was decoded is refused whatever comes behind it in the same piece.
#[test]
fn a_refusal_in_the_middle_of_a_coded_piece_holds() {
    let answers = BTreeMap::from([sent("told", "identity", stream(), 65_536)]);
    let upstream = RawUpstream::start(move |connection| serve(&answers, connection));
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nfilter: {{rule_name: codings, global_threshold: {{token_per_hour: 100}}, reserve: \
         max_tokens}}\n",
        upstream.url()
    ));
    let open = || gateway.metrics().sum("slidegate_token_reservations_open", &[]);
    assert_eq!(gateway.client().send("POST", "/told", &[], ASKED).status(), 200);
    wait_until("it is settled", || open() == 0.0);
    // Grows more than a stranger's may, behind the first MiB.
    let body = compressed("gzip", [&*[&vec![b' '; 3 << 20], ASKED].concat()]);
    let answer = gateway.client().send("POST", "/told", &[("content-encoding", "gzip")], &body);
    assert_eq!(answer.status(), 429);
    assert_eq!(gateway.metrics().sum("slidegate_tokens_charged_total", &[]), TOLD as f64);
}

#[test]
fn what_strangers_have_begun_to_send_leaves_room_to_read_answers() {
    let body = compressed("zstd", [&*stream()]);
    let answers = BTreeMap::from([sent("told", "zstd", body, 65_536)]);
    let upstream = RawUpstream::start(move |connection| serve(&answers, connection));
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nfilter: {{rule_name: codings, global_threshold: {{token_per_hour: 1000000}}, reserve: \
         {RESERVED}}}\n",
        upstream.url()
    ));
    // Each has said how large a window it needs.
    let beginning = zstd::encode_all(&[0; 9 << 20][..], 19).expect("memory")[..12].to_vec();
    let chunk = [format!("{:x}\r\n", beginning.len()).as_bytes(), &beginning, b"\r\n"].concat();
    let head = b"POST /told HTTP/1.1\r\nhost: a.test\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n";
    let strangers: Vec<_> = (0..60)
        .map(|_| {
            let mut client = gateway.client();
            client.write(&[head, &chunk[..]].concat()).expect("the gateway reads");
            client
        })
        .collect();
    let open = || gateway.metrics().sum("slidegate_token_reservations_open", &[]);
    wait_until("all have begun", || open() == strangers.len() as f64);
    let answer = gateway.client().send("POST", "/told", &[("accept-encoding", "zstd")], ASKED);
    assert_eq!(answer.status(), 200);
    wait_until("it is settled", || open() == strangers.len() as f64);
    assert_eq!(gateway.metrics().sum("slidegate_tokens_charged_total", &[]), TOLD as f64);
}
