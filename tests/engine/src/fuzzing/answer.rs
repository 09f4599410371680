//! Answers of language models: those of all layouts with any numbers, and bytes that look like some.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use crate::answers::{self, event_stream};

/// An answer, and the documents in it.
#[derive(Debug, Clone)]
pub struct WellFormedAnswer {
    /// As it is on the wire.
    pub body: Vec<u8>,
    /// What it says.
    pub documents: Vec<Value>,
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        12 => (0..20_000_u64).prop_map(Value::from),
        2 => any::<u64>().prop_map(Value::from),
        2 => (0..4_000_000_u32).prop_map(|quarters| json!(f64::from(quarters) / 4.0)),
        1 => (-900..0_i64).prop_map(Value::from),
        1 => prop::sample::select(vec![json!(null), json!("900"), json!(true), json!([900]),
            json!({"total_tokens": 900}), json!(1e300)]),
    ]
}

/// What looks like usage where it is none.
fn any_noise() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(
            "Say \"usage\":{\"prompt_tokens\":900}} \\ \u{1f600}\r\n\n data: {\"usage\":{\"total_tokens\":900}}\u{7}"
        ),
        json!([{"usage": {"prompt_tokens": 900, "total_tokens": 900}}, [[{}]], "]}"]),
        json!({"usage": {"total_tokens": 900}, "usageMetadata": {"totalTokenCount": 900}, "eval_count": 900}),
        json!({"": {"usage": {"total_tokens": 900}}}),
        json!(null),
        json!(-1.5e-7),
        json!(false),
    ])
}

/// Usage as providers of one layout tell it; any number may be missing.
fn any_usage() -> impl Strategy<Value = Value> {
    let layout = prop::sample::select(vec![
        &[
            "usage/prompt_tokens",
            "usage/completion_tokens",
            "usage/total_tokens",
            "usage/prompt_tokens_details/cached_tokens",
        ][..],
        &[
            "usage/prompt_tokens",
            "x_groq/queue",
            "usage/completion_tokens_details/reasoning_tokens",
            "usage/total_tokens",
        ],
        &["response/usage/input_tokens", "response/usage/output_tokens", "response/usage/total_tokens", "response/id"],
        &[
            "response/usage/input_tokens_details/cached_tokens",
            "response/usage/input_tokens_details/cache_write_tokens",
            "x",
            "y",
        ],
        &[
            "message/usage/input_tokens",
            "message/usage/output_tokens",
            "message/usage/cache_read_input_tokens",
            "message/content",
        ],
        &[
            "usage/input_tokens",
            "usage/output_tokens",
            "usage/cache_creation_input_tokens",
            "usage/output_tokens_details/thinking_tokens",
        ],
        &["usageMetadata/promptTokenCount", "usageMetadata/candidatesTokenCount", "usageMetadata/totalTokenCount", "a"],
        &[
            "usageMetadata/thoughtsTokenCount",
            "usageMetadata/toolUsePromptTokenCount",
            "usageMetadata/cachedContentTokenCount",
            "b",
        ],
        &["usage/inputTokens", "usage/outputTokens", "usage/totalTokens", "usage/cacheReadInputTokens"],
        &["prompt_eval_count", "eval_count", "done", "total_duration"],
        &["delta/usage/input_tokens", "delta/usage/output_tokens", "delta/stop_reason", "type"],
        &["usage/prompt_tokens", "usage/completion_tokens", "usage/input_tokens", "usage/output_tokens"],
    ]);
    (layout, prop::collection::vec(prop::option::weighted(0.8, any_number()), 4)).prop_map(|(paths, numbers)| {
        let mut event = json!({});
        for (path, number) in paths.iter().zip(numbers) {
            if let Some(number) = number {
                let place = path.split('/').fold(&mut event, |within, name| &mut within[name]);
                *place = number;
            }
        }
        event
    })
}

fn any_event() -> impl Strategy<Value = Value> {
    let noise = prop::collection::btree_map(
        prop::sample::select(vec!["choices", "content", "usages", "", "zz\"\\"]),
        any_noise(),
        0..3,
    );
    (any_usage(), noise).prop_map(|(mut event, noise)| {
        for (name, value) in noise {
            event[name] = value;
        }
        event
    })
}

/// Any documents, in one of the forms in which they go over the wire.
pub fn any_answer() -> impl Strategy<Value = WellFormedAnswer> {
    (prop::collection::vec(any_event(), 1..5), 0..8_u8).prop_map(|(documents, form)| {
        let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
        let indented: Vec<String> = documents.iter().map(|document| format!("{document:#}")).collect();
        let body = match form {
            0 => texts.join("\n").into_bytes(),
            1 => format!("\u{feff}\n{}\n", indented.join("\r\n\r\n")).into_bytes(),
            2 => format!("[{}\n]", indented.join("\n,\r\n")).into_bytes(),
            3 => texts.iter().map(|text| format!("data: {text}\n\n")).collect::<String>().into_bytes(),
            4 => texts
                .iter()
                .map(|text| format!("event: usage\r\n:{{\r\ndata:{text}\r\nid: 7\r\n\r\n"))
                .collect::<String>()
                .into_bytes(),
            5 => {
                let lines = |text: &String| text.lines().map(|line| format!("data: {line}\r")).collect::<String>();
                indented.iter().map(|text| format!("{}\r", lines(text))).collect::<String>().into_bytes()
            }
            6 => event_stream(&texts, false),
            _ => event_stream(&texts, true),
        };
        WellFormedAnswer { body, documents }
    })
}

/// Streams of events of which most are like the one before but for their text, whatever stands around that or in it.
pub fn any_alike_events() -> impl Strategy<Value = Vec<u8>> {
    let select = |parts: &[&'static str]| prop::sample::select(parts.to_vec());
    let head = select(&[
        "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\": \"",
        "data: {\"usage\":{\"completion_tokens\":7},\"delta\":\"",
        "data: {\"usage\":{\"iterations\":[]},\"delta\":\"",
        "data: {\"usage\":{\"iterations\":[{\"input_tokens\":3,\"type\":\"",
        "data: {\"choices\":[{\"delta\":{\"function\":{\"arguments\":{\"a\":\"",
        "data: {\"choices\":[{\"delta\":{\"reasoning\":\"some\",\"reasoning_content\":\"",
        "data: {\"choices\":[]}\ndata: {\"delta\":\"",
        "data: [{\"text\":\"",
        "data: {\"text\":\"",
        "data: {\"id\":\"",
        "data: \"",
        ": \"",
    ]);
    let text = select(&[
        "",
        "a",
        " word",
        "a much longer text",
        "\\\"",
        "\\u00e9",
        "\\",
        "é",
        "\t",
        "\ndata: ",
        "\r",
        "\n\n",
        "compaction",
        "\"",
        "\",\"text\":\"b",
        "\"}\n\ndata: {\"usage\":{\"total_tokens\":9}}\n\n",
    ]);
    let tail = select(&[
        "\"}}]}",
        "\"}}],\"usage\":null}",
        "\"}",
        "\"}]}}",
        "\"},\"usage\":{\"output_tokens\":3}}",
        "\",\"text\":\"more\"}",
        "\",\"input\":{\"b\":[1]}}",
        "\"}\ndata: {\"usage\":{\"total_tokens\":9}}",
        "\"}\ndata: {\"delta\":\"b\"}",
        "\"",
    ]);
    let end = select(&["\n\n", "\r\n\r\n", "\r\r", "\n", "\r\n", "\r", ""]);
    // Of each kind one mostly, and any other now and then.
    let usual = (head.clone(), tail.clone(), select(&["\n\n", "\r\n\r\n", "\r\r"]));
    let event = (
        prop::option::weighted(0.1, head),
        prop_oneof![3 => select(&["", " word", "and some more text"]).boxed(), 2 => text.boxed()],
        prop::option::weighted(0.15, tail),
        prop::option::weighted(0.1, end),
    );
    (usual, prop::collection::vec(event, 1..12)).prop_map(|((head, tail, end), events)| {
        let event = |(own_head, text, own_tail, own_end): (Option<&str>, &str, Option<&str>, Option<&str>)| {
            [own_head.unwrap_or(head), text, own_tail.unwrap_or(tail), own_end.unwrap_or(end)].concat()
        };
        events.into_iter().map(event).collect::<String>().into_bytes()
    })
}

/// What JSON is made of.
const SIGNS: [&str; 13] = ["{", "}", "[", "]", "\"", "\\", ":", ",", "\n", "1", "-", "null", "true"];

/// Bytes made of these names, of what JSON is made of, and of any others.
pub fn any_pieces(names: &[&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let piece = prop_oneof![
        8 => prop::sample::select([&SIGNS, names].concat()).prop_map(|piece| piece.as_bytes().to_vec()).boxed(),
        1 => prop::collection::vec(any::<u8>(), 0..8).boxed(),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Bytes of which some were an answer.
pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = any_pieces(&[
        "\\u00",
        "\r",
        "data:",
        "{\"usage\":",
        "{\"usage\":{\"total_tokens\":",
        "\"iterations\":[",
        "{\"type\":\"compaction\",",
        "\"input_tokens\":",
        ".",
        "e9",
        "\"bytes\":\"",
        "eyJ1c2FnZSI6eyJ0",
        "\0",
    ]);
    let answers = answers::all();
    let broken = (any::<Index>(), prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), any::<Index>()).prop_map(
        move |(answer, changes, length)| {
            let mut body = answer.get(&answers).body.clone();
            for (at, byte) in changes.iter().filter(|_| !body.is_empty()).collect::<Vec<_>>() {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            body.truncate(length.index(body.len() + 1));
            body
        },
    );
    prop_oneof![2 => pieces.boxed(), 1 => broken.boxed()]
}
