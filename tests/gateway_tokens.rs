//! Limits on tokens, end to end: gateways before a stand-in for a model, with a real Redis. What is open at once stays
//! in the budget, and every way for an answer to end settles what was reserved for it.

use std::{io::Write, slice, time::Duration};

use flate2::{Compression, write::GzEncoder};
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    model::ModelServer,
    raw_upstream::RawUpstream,
    redis_server::RedisServer,
};
use socket2::SockRef;

const PATH: &str = "/v1/chat/completions";

/// Asks for a stream that tells its usage.
const STREAM: &str = r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}}"#;

/// What a client that leaves is charged at least for that: a token for every four bytes.
const INPUT: u64 = STREAM.len().div_ceil(4) as u64;

/// A budget for ten requests that reserve a hundred each.
fn settings(model: &ModelServer, redis: Option<&RedisServer>, more: &str) -> String {
    let redis = redis.map(|redis| format!("redis: {}\n", redis.url())).unwrap_or_default();
    format!(
        "upstream: {}
workers: 1
{redis}filter:
  rule_name: tokens
  rule_items: [{{limit_by_per_header: x-user, limit_keys: [{{key: '*', token_per_minute: 1000}}]}}]
  reserve: 100
  headers: [x-ratelimit-tokens, retry-after]
{more}",
        model.url()
    )
}

/// A client that has asked and waits for the answer.
fn asking(gateway: &Gateway, manner: &str) -> HttpClient {
    asking_for(gateway, manner, STREAM)
}

fn asking_for(gateway: &Gateway, manner: &str, body: &str) -> HttpClient {
    let mut client = gateway.client();
    let length = body.len();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a.test\r\nx-user: a\r\nx-model: {manner}\r\ncontent-length: {length}\r\n\r\n"
    );
    client.write(&[head.as_bytes(), body.as_bytes()].concat()).expect("the gateway reads");
    client
}

/// Of so many clients at once that ask these gateways in turn, those whose streams have begun.
fn begun(gateways: &[Gateway], clients: usize, manner: &str) -> Vec<HttpClient> {
    let clients: Vec<_> = gateways.iter().cycle().take(clients).map(|gateway| asking(gateway, manner)).collect();
    let mut begun = Vec::new();
    for mut client in clients {
        let head = client.read_head().expect("an answer");
        match head.status {
            200 => begun.push(client),
            status => {
                assert_eq!(status, 429);
                assert!((1..=60).contains(&head.number("retry-after")), "{head:?}");
            }
        }
    }
    begun
}

/// Reads a stream to its end.
fn read_stream(client: &mut HttpClient) {
    stream_of(client);
}

/// A stream, with the lines of its chunks.
fn stream_of(client: &mut HttpClient) -> String {
    read_until(client, "\n\r\n0\r\n\r\n")
}

/// Reads a stream so far.
fn read_until(client: &mut HttpClient, text: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(text.as_bytes()) {
        bytes.extend(client.read_raw(1).expect("the stream goes on so far"));
    }
    String::from_utf8(bytes).expect("a stream of texts")
}

/// Leaves so that the other side hears of it at once.
fn reset(client: HttpClient) {
    let socket = client.writer();
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket takes the option");
}

/// What remains of the budget after the reservation of one more, which costs nothing as the model fails.
fn remaining(gateway: &Gateway) -> Option<u64> {
    let head = asking(gateway, "status=500").read_head().expect("an answer");
    (head.status == 500).then(|| head.number("x-ratelimit-remaining-tokens"))
}

fn sum(gateways: &[Gateway], metric: &str) -> u64 {
    gateways.iter().map(|gateway| gateway.metrics().sum(metric, &[]) as u64).sum()
}

/// Waits until nothing is reserved any more: what was charged.
fn settled(gateways: &[Gateway]) -> u64 {
    wait_until("all is settled", || sum(gateways, "slidegate_token_reservations_open") == 0);
    assert_eq!(sum(gateways, "slidegate_token_settlements_lost_total"), 0);
    sum(gateways, "slidegate_tokens_charged_total")
}

/// Waits until so much remains and no more: a settlement is sent with the next question, or after a moment.
fn wait_remaining(gateway: &Gateway, expected: u64) {
    wait_until(&format!("{expected} remain"), || {
        let remaining = remaining(gateway);
        assert!(remaining <= Some(expected), "{remaining:?} of {expected}");
        remaining == Some(expected)
    });
}

#[test]
fn a_stream_is_asked_for_its_usage_and_the_client_does_not_see_it() {
    let (model, redis) = (ModelServer::start(), RedisServer::start());
    let gateways = [Gateway::serve(&settings(&model, Some(&redis), "  request_usage: true\n"))];
    let body = r#"{"model": "m", "stream": true, "messages": []}"#;
    for (asked, manner) in ["", ";split=1", ";split=7"].into_iter().enumerate() {
        let mut client = asking_for(&gateways[0], &format!("prompt=12;tokens=30{manner}"), body);
        assert_eq!(client.read_head().expect("an answer").status, 200);
        let stream = stream_of(&mut client);
        assert!(!stream.contains("\"usage\":{"), "{stream}");
        assert_eq!(settled(&gateways), 42 * (asked as u64 + 1));
    }
    let mut client = asking_for(&gateways[0], "prompt=12;tokens=30", STREAM);
    assert_eq!(client.read_head().expect("an answer").status, 200);
    assert!(stream_of(&mut client).contains("\"usage\":{"), "who asks for it gets it");
}

#[test]
fn a_hundred_at_once_on_a_budget_for_ten_admit_ten_and_who_leaves_pays_what_was_seen() {
    for has_redis in [true, false] {
        let (model, redis) = (ModelServer::start(), has_redis.then(RedisServer::start));
        let settings = settings(&model, redis.as_ref(), "");
        // Windows in memory are one gateway's own, whichever of its threads a client meets.
        let gateways: Vec<_> = (0..1 + usize::from(has_redis)).map(|_| Gateway::serve(&settings)).collect();
        let clients = begun(&gateways, 100, "tokens=2;pause=60000");
        assert_eq!((clients.len(), model.record().asked), (10, 10), "{has_redis}");
        assert_eq!(sum(&gateways, "slidegate_token_reservations_open"), 10);
        gateways[0].wait_printed("decision=\"refused\" rule=\"tokens\" unit=\"tokens\"");
        // What is open does not let more pass than there is room for, at any time.
        assert_eq!(begun(&gateways, 10, "tokens=1").len(), 0);
        clients.into_iter().for_each(reset);
        model.wait(|record| record.left == 10);
        // Nothing but the role has come.
        let charged = settled(&gateways);
        assert!((10 * INPUT..10 * INPUT + 50).contains(&charged), "{charged} of {INPUT} each");
        wait_remaining(&gateways[0], 1_000 - charged - 100);
        // Streams that are read to their end are charged what they tell.
        let before = settled(&gateways);
        let mut clients = begun(&gateways[..1], 4, "tokens=20;pause=1");
        clients.iter_mut().for_each(read_stream);
        assert_eq!(settled(&gateways) - before, clients.len() as u64 * 30);
    }
}

#[test]
fn what_a_killed_gateway_reserved_ends_with_the_window() {
    let (model, redis) = (ModelServer::start(), RedisServer::start_with_clock(&[]));
    let settings = settings(&model, Some(&redis), "");
    let [killed, other] = [(); 2].map(|()| Gateway::serve(&settings));
    let clients = begun(slice::from_ref(&killed), 12, "tokens=2;pause=60000");
    assert_eq!(clients.len(), 10);
    drop(killed);
    let other = [other];
    assert_eq!(begun(&other, 5, "tokens=1").len(), 0);
    redis.set_clock(61);
    wait_until("there is room again", || {
        let mut begun = begun(&other, 1, "tokens=1");
        begun.iter_mut().for_each(read_stream);
        !begun.is_empty()
    });
    assert_eq!(settled(&other), 11);
    wait_remaining(&other[0], 1_000 - 11 - 100);
}

#[test]
fn a_gateway_that_ends_settles_streams_that_it_lets_end_and_those_that_it_cuts() {
    let (model, redis) = (ModelServer::start(), RedisServer::start());
    let [mut ending, mut cutting, other] = ["30s", "300ms", "30s"]
        .map(|drain| Gateway::serve(&settings(&model, Some(&redis), &format!("timeouts: {{drain: {drain}}}\n"))));
    let mut whole = begun(slice::from_ref(&ending), 3, "tokens=20;pause=30");
    ending.terminate();
    whole.iter_mut().for_each(read_stream);
    // Nothing holds the gateway up any more, which would be a chance to settle.
    drop(whole);
    assert!(ending.wait_exit().success());
    wait_remaining(&other, 1_000 - 3 * 30 - 100);

    // Each says more than was reserved for it, and then nothing.
    let mut open = begun(slice::from_ref(&cutting), 3, "tokens=100;stall=80;pause=1");
    assert_eq!(open.len(), 3);
    open.iter_mut().for_each(|client| drop(read_until(client, "word79 ")));
    // They are followed by the filter of settings that are no more.
    cutting.write_settings(
        &settings(&model, Some(&redis), "timeouts: {drain: 200ms}\n").replace("reserve: 100", "reserve: 300"),
    );
    cutting.hang_up();
    wait_until("the file is read", || cutting.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) == 1.0);
    cutting.terminate();
    cutting.wait_exit();
    // What was asked, and what was said.
    let text: usize = (0..80).map(|word| format!("word{word} ").len()).sum();
    let seen = INPUT + text.div_ceil(4) as u64;
    assert!(seen > 100);
    wait_remaining(&other, 1_000 - 3 * 30 - 3 * seen - 100);
}

#[test]
fn settings_that_change_while_streams_run_lose_no_reservation() {
    let (model, redis) = (ModelServer::start(), RedisServer::start());
    let settings = settings(&model, Some(&redis), "");
    let gateways = [Gateway::serve(&settings)];
    let mut open = begun(&gateways, 3, "tokens=20;pause=50");
    // Another filter for the same windows.
    gateways[0].write_settings(&settings.replace("reserve: 100", "reserve: 200"));
    gateways[0].hang_up();
    wait_until("the file is read", || gateways[0].metrics().sum("slidegate_reloads_total", &[("result", "ok")]) == 1.0);
    open.iter_mut().for_each(read_stream);
    // They have told what they took to the filter that reserved for them.
    assert_eq!(settled(&gateways), 3 * 30);
    wait_remaining(&gateways[0], 1_000 - 3 * 30 - 200);
}

/// Nobody waits for the bodies of requests without this user.
fn reading(model: &ModelServer) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {}
workers: 1
filter:
  rule_name: reading
  rule_items: [{{limit_by_per_header: x-user, limit_keys: [{{key: '*', token_per_minute: 1000000}}]}}]
  reserve: max_tokens
  headers: [x-ratelimit-tokens]
",
        model.url()
    ))
}

#[test]
fn a_request_in_a_coding_is_read_as_one_in_none_and_goes_on_as_it_is() {
    let model = ModelServer::start();
    let gateway = reading(&model);
    let asked = format!("{{\"max_tokens\":50000,\"prompt\":\"{}\"}}", "word ".repeat(40_000));
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(asked.as_bytes()).expect("memory");
    let zipped = zipped.finish().expect("memory");
    let sent = [("identity", asked.as_bytes()), ("gzip", &zipped), ("compress", asked.as_bytes())];
    let remaining = sent.map(|(coding, body)| {
        let headers = [("x-user", "a"), ("x-model", "status=500"), ("content-encoding", coding)];
        let answer = gateway.client().send("POST", PATH, &headers, body);
        assert!(model.record().last_body == body);
        settled(slice::from_ref(&gateway));
        answer.head.number("x-ratelimit-remaining-tokens")
    });
    let input = asked.len().div_ceil(4) as u64;
    // What nobody takes off is guessed by its length, rounded up.
    let guess = (input + 256).next_multiple_of(4_096);
    assert_eq!(remaining, [50_000 + input, 50_000 + input, guess].map(|reserved| 1_000_000 - reserved));
}

#[test]
fn what_comes_of_a_request_beside_its_answer_is_counted() {
    let (late, said) = (900, "forty bytes of a text that has no end...");
    let upstream = RawUpstream::start(move |mut connection| {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        connection.read_head().and_then(|_| connection.read(100)).expect("the request's beginning");
        connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{said}\"}}}}]}}\n\n");
        connection.write(chunk(&event).as_bytes());
        connection.read(late).expect("the rest of the request");
        connection.write(chunk("data: [DONE]\n\n").as_bytes());
        connection.write(b"0\r\n\r\n");
        connection.wait();
    });
    let gateway = Gateway::serve(&format!(
        "upstream: {}
workers: 1
filter:
  rule_name: late
  global_threshold: {{token_per_hour: 1000000}}
  reserve: 1
  on_missing_usage: estimate
",
        upstream.url()
    ));
    let mut client = gateway.client();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n", 100 + late);
    client.write(&[head.as_bytes(), &[b' '; 100]].concat()).expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 200);
    read_until(&mut client, "\n\n");
    client.write(&vec![b' '; late]).expect("the gateway reads on");
    stream_of(&mut client);
    assert_eq!(settled(slice::from_ref(&gateway)), (100 + late as u64 + said.len() as u64) / 4);
}

#[test]
fn bodies_that_wait_are_bounded_together_and_others_are_served_meanwhile() {
    let model = ModelServer::start();
    let gateway = reading(&model);
    let head = |length| {
        format!("POST {PATH} HTTP/1.1\r\nhost: a.test\r\nx-user: a\r\ncontent-length: {length}\r\n\r\n").into_bytes()
    };
    // As many as fill what all may keep, each with a part of its body.
    let part = [head(1_000_000), vec![b' '; 600_000]].concat();
    let mut slow = Vec::new();
    let refused = || gateway.metrics().sum("slidegate_requests_overloaded_total", &[("reason", "bodies")]);
    while slow.len() * 600_000 < 280_000_000 {
        let mut client = gateway.client();
        // Who is refused is not read to the end.
        let _ = client.write(&part);
        slow.push(client);
    }
    wait_until("there is no more room", || refused() > 0.0);
    let held = || gateway.metrics().sum("slidegate_held_body_bytes", &[("side", "request")]);
    assert!(held() <= f64::from(256 << 20));
    let mut client = gateway.client();
    let _ = client.write(&[head(1_040_000), vec![b' '; 1_040_000]].concat());
    let answer = client.read_head().expect("an answer");
    assert_eq!((answer.status, answer.number("retry-after")), (503, 1));
    assert_eq!(gateway.client().send("POST", PATH, &[], STREAM.as_bytes()).status(), 200);
    drop(slow);
    wait_until("nothing is kept any more", || held() == 0.0);
    assert_eq!(gateway.client().send("POST", PATH, &[("x-user", "a")], STREAM.as_bytes()).status(), 200);
}
