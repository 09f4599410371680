//! Streams that are cut where nothing is left of a limit on tokens: where they end, what their last words are, and what
//! is charged.

use proptest::prelude::*;
use serde_json::{Value, json};
use slidegate_engine::{Interest, StreamEnd, tokens::CutReader};
use slidegate_engine_tests::{
    case::Store,
    token_gateways::{OpenAnswer, STREAM, TokenGateways, usage, with_fields},
};

const SECOND_US: u64 = 1_000_000;

fn config(limit: u64, fields: &Value) -> Value {
    with_fields(
        json!({
            "rule_name": "r", "reserve": 100, "on_exhausted": "cut", "redis": {"service_name": "redis.static"},
            "rule_items": [{
                "limit_by_per_header": "x-user",
                "limit_keys": [{"key": "*", "token_per_minute": limit, "precision": "exact"}],
            }],
        }),
        fields,
    )
}

/// How providers stream: the first event, one that says 400 bytes, and the end, each with what ends an event.
struct Provider {
    name: &'static str,
    first: String,
    end: String,
    said: fn(&str) -> String,
    finish: &'static str,
    error: &'static str,
}

fn event(kind: &str, data: &Value) -> String {
    if kind.is_empty() { format!("data: {data}\n\n") } else { format!("event: {kind}\ndata: {data}\n\n") }
}

fn typed(data: &Value) -> String {
    event(data["type"].as_str().expect("a type"), data)
}

fn chat(content: &Value) -> String {
    let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": null}]);
    event(
        "",
        &json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 9, "model": "m", "choices": choices}),
    )
}

fn gemini(text: &str) -> Value {
    let candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    json!({"candidates": [candidate], "modelVersion": "gemini-2.5", "responseId": "abc"})
}

fn ollama(name: &str, said: &Value) -> String {
    json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", name: said, "done": false}).to_string() + "\n"
}

fn providers() -> Vec<Provider> {
    vec![
        Provider {
            name: "openai",
            first: format!(": hello\n\n{}", chat(&json!(""))),
            said: |text| chat(&json!(text)),
            end: "data: [DONE]\n\n".to_owned(),
            finish: "data: {\"id\":\"chatcmpl-7\",\"object\":\"chat.completion.chunk\",\"created\":9,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
            error: "data: {\"error\":{\"message\":\"Rate limit on tokens reached. Please try again \
                    later.\",\"type\":\"tokens\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n",
        },
        Provider {
            name: "text",
            first: event(
                "",
                &json!({"object": "text_completion", "id": "c\u{e9}", "created": 9, "model": "m\"",
                "choices": []}),
            ),
            said: |text| {
                event(
                    "",
                    &json!({"object": "text_completion",
                "choices": [{"index": 1, "text": text}, {"index": 0, "text": ""}]}),
                )
            },
            end: "data: [DONE]\n\n".to_owned(),
            finish: "data: {\"id\":\"\",\"object\":\"text_completion\",\"created\":9,\"model\":\"\",\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"},{\"index\":1,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
            error: "data: {\"error\":{\"message\":\"Rate limit on tokens reached. Please try again \
                    later.\",\"type\":\"tokens\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n",
        },
        Provider {
            name: "responses",
            first: typed(&json!({"type": "response.created", "sequence_number": 0,
                "response": {"id": "resp_1", "created_at": 5, "model": "m"}})),
            said: |text| typed(&json!({"type": "response.output_text.delta", "sequence_number": 8, "delta": text})),
            end: typed(&json!({"type": "response.completed", "sequence_number": 9, "response": {"id": "resp_1"}})),
            finish: "event: response.incomplete\ndata: \
                     {\"type\":\"response.incomplete\",\"sequence_number\":9,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":5,\"status\":\"incomplete\",\"error\":null,\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"instructions\":null,\"metadata\":{},\"model\":\"m\",\"output\":[],\"parallel_tool_calls\":true,\"temperature\":null,\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":null,\"usage\":null}}\n\n",
            error: "event: error\ndata: \
                    {\"type\":\"error\",\"sequence_number\":9,\"code\":\"rate_limit_exceeded\",\"message\":\"Rate \
                    limit on tokens reached. Please try again later.\",\"param\":null}\n\n",
        },
        Provider {
            name: "anthropic",
            first: [
                typed(&json!({"type": "message_start", "message": {"id": "msg",
                    "usage": {"input_tokens": 0, "output_tokens": 0}}})),
                typed(&json!({"type": "content_block_start", "index": 3,
                    "content_block": {"type": "text", "text": ""}})),
            ]
            .concat(),
            said: |text| {
                typed(&json!({"type": "content_block_delta", "index": 3,
                "delta": {"type": "text_delta", "text": text}}))
            },
            end: [
                typed(&json!({"type": "content_block_stop", "index": 3})),
                typed(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 9}})),
                typed(&json!({"type": "message_stop"})),
            ]
            .concat(),
            finish: "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\nevent: \
                     message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":OUTPUT}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            error: "event: error\ndata: \
                    {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Rate limit on tokens \
                    reached. Please try again later.\"},\"request_id\":null}\n\n",
        },
        Provider {
            name: "gemini",
            first: event("", &gemini("")).replace('\n', "\r\n"),
            said: |text| event("", &gemini(text)).replace('\n', "\r\n"),
            end: String::new(),
            finish: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"MAX_TOKENS\",\"index\":0}],\"modelVersion\":\"gemini-2.5\",\"responseId\":\"abc\"}\r\n\r\n",
            error: "data: {\"error\":{\"code\":429,\"message\":\"Rate limit on tokens reached. Please try again \
                    later.\",\"status\":\"RESOURCE_EXHAUSTED\"}}\r\n\r\n",
        },
        Provider {
            name: "gemini's array",
            first: format!("[{:#}", gemini("")),
            said: |text| format!("\n,\n{:#}", gemini(text)),
            end: "\n]".to_owned(),
            finish: ",\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"MAX_TOKENS\",\"index\":0}],\"modelVersion\":\"gemini-2.5\",\"responseId\":\"abc\"}\n]",
            error: ",\n{\"error\":{\"code\":429,\"message\":\"Rate limit on tokens reached. Please try again \
                    later.\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n]",
        },
        Provider {
            name: "cohere",
            first: [
                typed(&json!({"type": "message-start", "id": "x",
                    "delta": {"message": {"role": "assistant", "content": []}}})),
                typed(&json!({"type": "content-start", "index": 0,
                    "delta": {"message": {"content": {"type": "text", "text": ""}}}})),
            ]
            .concat(),
            said: |text| {
                typed(&json!({"type": "content-delta", "index": 0,
                "delta": {"message": {"content": {"text": text}}}}))
            },
            end: [
                typed(&json!({"type": "content-end", "index": 0})),
                typed(&json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE",
                    "usage": {"billed_units": {"input_tokens": 1, "output_tokens": 9}}}})),
            ]
            .concat(),
            finish: "event: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\nevent: message-end\ndata: \
                     {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"MAX_TOKENS\"}}\n\n",
            error: "event: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\nevent: message-end\ndata: \
                    {\"type\":\"message-end\",\"delta\":{\"error\":\"Rate limit on tokens reached. Please try again \
                    later.\",\"finish_reason\":\"ERROR\"}}\n\n",
        },
        Provider {
            name: "ollama",
            first: ollama("message", &json!({"role": "assistant", "content": ""})),
            said: |text| ollama("message", &json!({"role": "assistant", "content": text})),
            end: "{\"model\":\"m\",\"done\":true,\"eval_count\":9}\n".to_owned(),
            finish: "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"length\"}\n",
            error: "{\"error\":\"Rate limit on tokens reached. Please try again later.\"}\n",
        },
        Provider {
            name: "ollama's texts",
            first: ollama("response", &json!("")),
            said: |text| ollama("response", &json!(text)),
            end: String::new(),
            finish: "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"response\":\"\",\"done\":true,\"done_reason\":\"length\"}\n",
            error: "{\"error\":\"Rate limit on tokens reached. Please try again later.\"}\n",
        },
    ]
}

fn begun(gateways: &mut TokenGateways) -> OpenAnswer {
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert_eq!(open.sent["accept-encoding"], "identity");
    assert_eq!(gateways.begin_with(&open, 200, &[]), Interest::Hold);
    open
}

/// A stream of events of 100 tokens each, as long as it goes on. What the client got.
fn streamed(gateways: &mut TokenGateways, open: &OpenAnswer, provider: &Provider, events: usize) -> (String, bool) {
    let said = (provider.said)(&"x".repeat(400));
    let pieces = std::iter::once(provider.first.clone()).chain(std::iter::repeat_n(said, events));
    let mut got = Vec::new();
    for piece in pieces {
        let (bytes, ended) = gateways.show(open, piece.as_bytes(), false);
        got.extend(bytes);
        if ended {
            return (String::from_utf8(got).expect("a text"), true);
        }
    }
    (String::from_utf8(got).expect("a text"), false)
}

#[test]
fn a_stream_that_is_cut_is_whole_beside_a_filter_that_takes_its_usage_out() {
    let mut cuts = config(500, &json!({"rule_name": "cuts"}));
    // Each decides at once.
    cuts.as_object_mut().expect("an object").remove("redis");
    let asks = json!({"rule_name": "asks", "request_usage": true, "global_threshold": {"token_per_hour": 1_u64 << 40}});
    let finish = &providers()[0].finish;
    let (first, said) = (chat(&json!("")), chat(&json!("x".repeat(400))));
    let usage = event("", &json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}));
    for filters in [[&cuts, &asks], [&asks, &cuts]] {
        // Each event comes in two halves, and the model may tell a usage as it goes.
        for usages in [0, 1] {
            let stream = [first.as_str(), &said, &usage.repeat(usages), &said.repeat(9)].concat();
            let mut gateways = TokenGateways::new(&json!({"filters": filters}), 1);
            let open = gateways.ask_for_stream(0, "a").expect("there is room");
            gateways.begin(&open, 200);
            let (mut got, mut rest) = (Vec::new(), stream.as_bytes());
            loop {
                let (piece, next) = rest.split_at(said.len() / 2 - 7);
                let (bytes, has_ended) = gateways.show(&open, piece, false);
                got.extend(bytes);
                if has_ended {
                    break;
                }
                rest = next;
            }
            let got = String::from_utf8(got).expect("a text");
            let whole = got.strip_suffix(finish).expect("the last words").strip_prefix(&first).expect("the first");
            let events = whole.matches(&said).count();
            assert!((3..10).contains(&events) && whole == said.repeat(events), "{filters:?}: {got}");
            gateways.end(&open, StreamEnd::Whole);
            // Both charge what came until then.
            let charged = gateways.metric("slidegate_tokens_charged_total");
            let told = if usages == 0 { STREAM.len().div_ceil(4) + 100 } else { 3 };
            let seen = told + 100 * (events - 1);
            // With what had come of the next one.
            assert!((2 * seen..2 * seen + 202).contains(&(charged as usize)), "{charged} for {events}");
        }
    }
}

#[test]
fn a_stream_for_which_nothing_is_left_ends_behind_an_event_in_its_own_shape() {
    for provider in providers() {
        for (cut_as, words) in [("finish", provider.finish), ("error", provider.error)] {
            let mut gateways = TokenGateways::new(&config(1_000, &json!({"cut_as": cut_as})), 1);
            let open = begun(&mut gateways);
            let (got, is_cut) = streamed(&mut gateways, &open, &provider, 99);
            assert!(is_cut, "{}", provider.name);
            let said = (provider.said)(&"x".repeat(400));
            // 100 are reserved; then 62 or so are granted as long as any is left, which may be one grant too much.
            let events = got.matches(said.as_str()).count();
            assert!((10..=12).contains(&events), "{}: {events}", provider.name);
            let words = words.replace("OUTPUT", &(events * 100).to_string());
            let expected = [provider.first.clone(), said.repeat(events), words].concat();
            assert_eq!(got, expected, "{}", provider.name);
            gateways.end(&open, StreamEnd::Whole);
            gateways.pass(SECOND_US);
            assert_eq!(gateways.metric("slidegate_tokens_charged_total"), events as i128 * 100, "{}", provider.name);
            assert_eq!(gateways.metric("slidegate_token_answers_cut_total"), 1);
            assert_eq!(gateways.metric("slidegate_token_reservations_open"), 0);
            gateways.ask(0, "a", 0).expect_err("all is spent");
        }
    }
}

#[test]
fn a_stream_that_ends_by_itself_is_not_touched_and_gives_back_what_it_did_not_take() {
    for provider in providers() {
        let fields = json!({"headers": ["x-ratelimit-tokens"], "on_missing_usage": "estimate"});
        let mut gateways = TokenGateways::new(&config(1_000, &fields), 1);
        let open = begun(&mut gateways);
        let (got, is_cut) = streamed(&mut gateways, &open, &provider, 4);
        assert!(!is_cut && got.len() > 1_600, "{}", provider.name);
        let (last, _) = gateways.show(&open, provider.end.as_bytes(), true);
        assert_eq!(last, provider.end.as_bytes());
        gateways.end(&open, StreamEnd::Whole);
        gateways.pass(SECOND_US);
        let took = gateways.metric("slidegate_tokens_charged_total");
        let next = gateways.ask(0, "a", 0).expect("there is room");
        assert_eq!(next.headers["x-ratelimit-remaining-tokens"], (1_000 - took - 100).to_string(), "{}", provider.name);
        assert_eq!(gateways.metric("slidegate_token_answers_cut_total"), 0);
    }
}

#[test]
fn an_answer_that_says_why_it_ends_is_left_to_end() {
    let stops = [
        event("", &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
        typed(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}})),
        typed(&json!({"type": "response.completed", "response": {"id": "r"}})),
    ];
    for (provider, stop) in ["openai", "anthropic", "responses"].into_iter().zip(stops) {
        let provider = providers().into_iter().find(|each| each.name == provider).expect("it is there");
        let mut gateways = TokenGateways::new(&config(1_000, &json!({})), 1);
        let open = begun(&mut gateways);
        let piece = [provider.first.clone(), (provider.said)(&"x".repeat(8_000)), stop].concat();
        for piece in [piece.as_str(), ": more\n\n", "data: [DONE]\n\n"] {
            let (bytes, ended) = gateways.show(&open, piece.as_bytes(), false);
            assert!(!ended && bytes == piece.as_bytes(), "{}: {piece}", provider.name);
        }
    }
}

#[test]
fn bedrocks_event_stream_ends_with_an_exception_behind_a_whole_message() {
    let frame = |payload: &[u8]| {
        let crc = |bytes: &[u8]| {
            let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            (!bytes.iter().fold(!0_u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))).to_be_bytes()
        };
        let length = u32::try_from(payload.len() + 16).expect("it is short").to_be_bytes();
        let prelude = [length, [0; 4]].concat();
        let message = [&prelude, crc(&prelude).as_slice(), payload].concat();
        [message.as_slice(), &crc(&message)].concat()
    };
    let said = frame(json!({"contentBlockIndex": 0, "delta": {"text": "x"}}).to_string().as_bytes());
    for size in 1..said.len() {
        let mut reader = CutReader::default();
        let (mut places, mut shown) = (Vec::new(), 0);
        for piece in [said.as_slice(), &said].concat().chunks(size) {
            places.extend(reader.feed(piece).map(|place| shown + place));
            shown += piece.len();
        }
        assert!(places.contains(&(2 * said.len())) && places.iter().all(|place| place % said.len() == 0), "{places:?}");
        let words = reader.last_words(None, 0).expect("it has last words");
        let text = String::from_utf8_lossy(&words);
        assert!(text.contains(":exception-type\u{7}\0\u{13}throttlingException") && text.contains(r#"{"message":""#));
        assert_eq!(u32::from_be_bytes(words[..4].try_into().expect("four")) as usize, words.len());
    }
    let mut reader = CutReader::default();
    reader.feed(&[said, frame(br#"{"stopReason":"end_turn"}"#)].concat());
    assert_eq!(reader.last_words(None, 0), None, "the model has said why it ends");
}

#[test]
fn answers_that_have_ended_are_not_told_to_end_again() {
    let choice = |index: u64, reason: Value| json!({"index": index, "delta": {}, "finish_reason": reason});
    let events = [
        event("", &json!({"choices": [choice(0, Value::Null), choice(1, Value::Null), choice(2, Value::Null)]})),
        event("", &json!({"choices": [choice(1, json!("stop"))]})),
        event("", &json!({"choices": [choice(1, json!("stop"))]})),
    ];
    let mut reader = CutReader::default();
    events.iter().for_each(|event| assert!(reader.feed(event.as_bytes()).is_some()));
    let words = String::from_utf8(reader.last_words(None, 0).expect("two go on")).expect("a text");
    let ended = [0, 1, 2].map(|index| words.contains(&format!(r#"{{"index":{index},"#)));
    assert_eq!(ended, [true, false, true], "{words}");
    reader.feed(event("", &json!({"choices": [choice(0, json!("length")), choice(2, json!("stop"))]})).as_bytes());
    assert_eq!(reader.last_words(None, 0), None, "all have");
}

#[test]
fn what_cannot_be_cut_is_charged_on_when_it_outlives_its_window() {
    let keys = json!([{"key": "*", "token_per_second": 1_000}]);
    let items = json!([{"limit_by_per_header": "x-user", "limit_keys": keys}]);
    let fields = json!({"rule_items": items, "headers": ["x-ratelimit-tokens"]});
    let mut gateways = TokenGateways::new(&config(1_000, &fields), 1);
    let open = begun(&mut gateways);
    let line = json!({"message": {"content": "x".repeat(2_400)}}).to_string() + "\n";
    for second in 0..8 {
        gateways.show(&open, line.as_bytes(), false);
        gateways.pass(SECOND_US / 10);
        let next = gateways.ask(0, "a", 0);
        if second >= 2 {
            let left =
                next.as_ref().map_or(0, |next| next.headers["x-ratelimit-remaining-tokens"].parse().expect("a number"));
            assert!(left <= 300, "{left} of 1,000 are left, of which 600 a second are taken and 100 reserved");
        }
        if let Ok(next) = next {
            gateways.end(&next, StreamEnd::Answered);
        }
        gateways.pass(SECOND_US * 9 / 10);
    }
}

#[test]
fn what_cannot_be_cut_goes_on_and_is_charged() {
    let headers: [&[(&str, &str)]; 3] =
        [&[("content-encoding", "gzip")], &[("content-length", "9000")], &[("content-encoding", "br")]];
    for headers in headers {
        let mut gateways = TokenGateways::new(&config(1_000, &json!({})), 1);
        let open = gateways.ask(0, "a", 0).expect("there is room");
        assert_eq!(gateways.begin_with(&open, 200, headers), Interest::Watch, "{headers:?}");
        gateways.show(&open, usage(100, 9_000).as_bytes(), true);
        gateways.end(&open, StreamEnd::Whole);
        assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 9_100);
    }
    // No stream at all, and streams of shapes whose ends nobody here knows.
    let said = "x".repeat(40_000);
    let ollama = json!({"message": {"content": said}, "done": false}).to_string();
    for answer in [usage(100, 9_000), ollama, format!("data: {{\"output\":{{\"text\":\"{said}\"}}}}\n\n"), said] {
        let mut gateways = TokenGateways::new(&config(1_000, &json!({})), 1);
        let open = begun(&mut gateways);
        for _ in 0..3 {
            assert_eq!(gateways.show(&open, answer.as_bytes(), false), (answer.clone().into_bytes(), false));
        }
    }
    let mut gateways = TokenGateways::new(&config(1_000, &json!({"on_exhausted": "refuse_next"})), 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert!(!open.sent.contains_key("accept-encoding"));
    assert_eq!(gateways.begin_with(&open, 200, &[]), Interest::Watch);
    let mut gateways = TokenGateways::new(&config(1_000, &json!({"dry_run": true})), 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert_eq!(gateways.begin_with(&open, 200, &[]), Interest::Watch, "it only tries");
}

#[test]
fn many_streams_share_what_there_is() {
    for redis in [json!({"service_name": "redis.static"}), Value::Null] {
        let mut document = config(10_000, &json!({"admission": "fits", "redis": redis}));
        if redis.is_null() {
            document.as_object_mut().expect("an object").remove("redis");
        }
        let gateways = if redis.is_null() { 1 } else { 2 };
        let mut gateways = TokenGateways::new(&document, gateways);
        let provider = &providers()[0];
        let open: Vec<_> = (0..20).map(|_| begun(&mut gateways)).collect();
        let mut streams: Vec<_> = open.iter().map(|open| (open, 0, false)).collect();
        let said = (provider.said)(&"x".repeat(40));
        for _ in 0..2_000 {
            for (open, events, ended) in streams.iter_mut().filter(|(_, _, ended)| !ended) {
                *ended = gateways.show(open, said.as_bytes(), false).1;
                *events += 10;
            }
        }
        assert!(streams.iter().all(|(_, _, ended)| *ended), "each is cut");
        open.iter().for_each(|open| gateways.end(open, StreamEnd::Whole));
        let spent: u64 = streams.iter().map(|(_, tokens, _)| tokens).sum();
        // Each may have come two events beyond what it had when that was refused.
        assert!((8_000..=10_000 + 20 * 20).contains(&spent), "{spent}");
    }
}

#[test]
fn a_redis_that_fails_cuts_nothing() {
    let mut gateways = TokenGateways::new(&config(1_000, &json!({})), 1);
    let open = begun(&mut gateways);
    for mood in [Store::Down, Store::Silent] {
        gateways.set_store(&mood);
        let (_, is_cut) = streamed(&mut gateways, &open, &providers()[0], 20);
        assert!(!is_cut);
        gateways.pass(5 * SECOND_US);
    }
    gateways.set_store(&Store::Up);
    let (_, is_cut) = streamed(&mut gateways, &open, &providers()[0], 20);
    assert!(is_cut, "it is asked again");
}

#[test]
fn a_stream_goes_on_while_more_is_asked_for() {
    let provider = &providers()[0];
    let mut gateways = TokenGateways::new(&config(300, &json!({})), 1);
    let open = begun(&mut gateways);
    let before = gateways.calls();
    gateways.hold_replies();
    assert!(!streamed(&mut gateways, &open, provider, 4).1);
    assert_eq!(gateways.calls() - before, 1, "once");
    gateways.deliver();
    assert!(!streamed(&mut gateways, &open, provider, 1).1, "it was granted what it had taken, clamped to the limit");
    assert!(streamed(&mut gateways, &open, provider, 1).1);
}

#[test]
fn who_ended_before_it_was_granted_more_gives_that_back() {
    let provider = &providers()[0];
    let mut gateways = TokenGateways::new(&config(10_000, &json!({"headers": ["x-ratelimit-tokens"]})), 1);
    let open = begun(&mut gateways);
    gateways.hold_replies();
    streamed(&mut gateways, &open, provider, 2);
    gateways.show(&open, format!("data: {}\n\n", usage(50, 250)).as_bytes(), true);
    gateways.end(&open, StreamEnd::Whole);
    gateways.deliver();
    gateways.pass(SECOND_US);
    let next = gateways.ask(0, "a", 0).expect("there is room");
    assert_eq!(next.headers["x-ratelimit-remaining-tokens"], (10_000 - 300 - 100).to_string());
}

/// A host that cannot let the model go shows the rest: then what the model tells is charged.
#[test]
fn what_a_cut_answer_tells_in_the_end_is_charged() {
    let mut gateways = TokenGateways::new(&config(1_000, &json!({})), 1);
    let open = begun(&mut gateways);
    let (_, is_cut) = streamed(&mut gateways, &open, &providers()[0], 99);
    assert!(is_cut);
    let told = format!("data: {}\n\ndata: [DONE]\n\n", usage(70, 5_000));
    gateways.show(&open, told.as_bytes(), false);
    gateways.show(&open, b"", true);
    gateways.end(&open, StreamEnd::Whole);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 5_070);
}

/// Where an event of a stream ends, by whoever reads all of it at once.
fn boundaries(stream: &str, provider: &Provider) -> Vec<usize> {
    if provider.name.contains("array") {
        let mut depth = 0;
        let end = |(at, byte): (usize, u8)| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            (byte == b'}' && depth == 0).then_some(at + 1)
        };
        return stream.bytes().enumerate().filter_map(end).collect();
    }
    let end = if stream.contains('\r') { "\r\n\r\n" } else { "\n\n" };
    stream.match_indices(end).map(|(at, _)| at + end.len()).collect()
}

proptest! {
    #[test]
    fn a_stream_may_be_cut_behind_each_event_however_it_comes(
        which in 0_usize..7,
        texts in prop::collection::vec("[a-z\"\\\\é\n]{0,20}", 1..6),
        splits in prop::collection::vec(1_usize..60, 1..50),
    ) {
        let provider = &providers()[which];
        let said: String = texts.iter().map(|text| (provider.said)(text)).collect();
        let stream = format!("{}{said}", provider.first);
        let ends = boundaries(&stream, provider);
        let (mut reader, mut at) = (CutReader::default(), 0);
        for split in splits.iter().cycle() {
            let piece = &stream.as_bytes()[at..(at + split).min(stream.len())];
            let place = reader.feed(piece);
            let until = at + piece.len();
            // The last event that has ended; between the two signs of a line's end, that event has, too.
            let expected = ends.iter().copied().rfind(|end| (at..=until).contains(end));
            let halved = ends.iter().any(|end| (*end == until + 1 || *end == at + 1) && stream.contains('\r'));
            if !halved {
                prop_assert_eq!(place.map(|place| at + place), expected, "{:?}", piece);
            }
            if let Some(place) = place {
                // What has begun behind that place says nothing.
                let mut until_there = CutReader::default();
                until_there.feed(&stream.as_bytes()[..at + place]);
                prop_assert_eq!(reader.last_words(None, 0), until_there.last_words(None, 0), "cut in {:?}", piece);
            }
            if let (Some(place), Some(words)) = (place, reader.last_words(None, 0)) {
                let cut = [&stream.as_bytes()[..at + place], &words].concat();
                let cut = String::from_utf8(cut).expect("a text");
                let json: Vec<Value> = if provider.name.contains("array") {
                    serde_json::from_str(&cut).unwrap_or_else(|error| panic!("{error}: {cut}"))
                } else {
                    let events = cut.replace("\r\n", "\n");
                    prop_assert!(events.ends_with("\n\n"), "{}", cut);
                    let data = events.lines().filter_map(|line| line.strip_prefix("data: "));
                    let data = data.filter(|data| *data != "[DONE]");
                    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
                };
                prop_assert!(provider.finish.contains("max") || !json.is_empty());
                // No event is left out, nor told in halves.
                let last = ends.iter().filter(|end| **end <= at + place + 1).count();
                prop_assert!(json.len() > last.saturating_sub(1), "{} of {}", json.len(), last);
            }
            at = until;
            if at == stream.len() {
                break;
            }
        }
    }
}
