//! Answers of language models as they are on the wire, and what they took: `tests/answers/`, a file for each kind of
//! provider. Each is a case of its own, too: on every host it is charged what it tells, and passes as it is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;
use slidegate_engine::tokens::Usage;

use crate::case::{Answer, AnswerPart, Case, Expected, FieldValue, Fields, Request, Requests, Step};

/// What each answer is charged to: more than any takes.
const LIMIT: u64 = 1 << 42;

/// An answer, and what it tells.
#[derive(Debug)]
pub struct ModelAnswer {
    /// Its file, and its name there.
    pub name: String,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// The tokens it took, if it tells.
    pub usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerDocument {
    name: String,
    body: Option<String>,
    /// What ends each line of the body, if that is not a line feed.
    line_end: Option<String>,
    messages: Option<Vec<String>>,
    #[serde(default)]
    wrapped: bool,
    usage: Option<UsageTold>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct UsageTold {
    input: u64,
    cached_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    stock: u64,
}

/// Every answer there is.
///
/// # Panics
///
/// When a file cannot be read, or says something else than answers.
pub fn all() -> Vec<ModelAnswer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../answers");
    let entries = fs::read_dir(&folder).expect("the folder of answers can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    files.sort();
    files.iter().flat_map(|file| of_file(file)).collect()
}

impl ModelAnswer {
    /// The case that such an answer is charged this, and the next request finds the rest.
    pub fn case(&self, number: usize) -> Case {
        let usage = self.usage.unwrap_or_default();
        let took = usage.billed();
        let config = json!({
            "rule_name": "answers", "reserve": 1, "headers": ["x-ratelimit-tokens"],
            "global_threshold": {"token_per_day": LIMIT}, "redis": {"service_name": "redis.static"},
        });
        let left = FieldValue::Text(LIMIT.saturating_sub(took + 1).to_string());
        // In pieces of some length that has nothing to do with where its events end.
        let pieces = self.body.chunks([3, 64, 1_000][number % 3]).map(|piece| AnswerPart::Bytes(piece.to_vec()));
        let step = |at_ms: u64, body: Vec<AnswerPart>, headers: Option<Fields>| {
            let request = Request {
                method: "POST".to_owned(),
                path: b"/v1/chat/completions".to_vec(),
                host: b"example.com".to_vec(),
                headers: Vec::new(),
                from: None,
                route: String::new(),
                service: String::new(),
                body: vec![b"{}".to_vec()],
            };
            let answer = Answer { status: 200, headers: Vec::new(), body, cut: None };
            let expected = Expected::Pass { headers, body: None, sent: None, told: Fields::new() };
            Step::Requests(Box::new(Requests { at_ms, times: 1, every_ms: 0, request, answer, expected, calls: None }))
        };
        let next = Fields::from([
            ("x-ratelimit-limit-tokens".to_owned(), FieldValue::Text(LIMIT.to_string())),
            ("x-ratelimit-remaining-tokens".to_owned(), left),
            ("x-ratelimit-reset-tokens".to_owned(), FieldValue::Text("24h0m0s".to_owned())),
        ]);
        Case {
            name: format!("answers/{}", self.name),
            about: format!("{took} tokens are charged"),
            config: config.to_string().into_bytes(),
            skip: BTreeMap::new(),
            // A Redis that has to be told the script of settlements decides on the second request meanwhile.
            steps: vec![
                step(0, pieces.collect(), None),
                step(1_000, Vec::new(), None),
                step(2_000, Vec::new(), Some(next)),
            ],
        }
    }
}

/// The wire's form of messages of an Amazon event stream.
pub fn event_stream(payloads: &[String], wrapped: bool) -> Vec<u8> {
    let wrap = |payload: &String| match wrapped {
        true => format!(r#"{{"bytes":"{}","p":"abcdefghijk"}}"#, BASE64_STANDARD.encode(payload)).into_bytes(),
        false => payload.clone().into_bytes(),
    };
    payloads.iter().flat_map(|payload| message(&wrap(payload))).collect()
}

fn of_file(file: &Path) -> Vec<ModelAnswer> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let documents: Vec<AnswerDocument> =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    documents.into_iter().map(|document| document.answer(file)).collect()
}

impl AnswerDocument {
    fn answer(self, file: &Path) -> ModelAnswer {
        let name = format!("{}: {}", file.file_stem().unwrap_or_default().to_string_lossy(), self.name);
        let body = match (self.body, self.messages) {
            (Some(body), None) => body.replace('\n', self.line_end.as_deref().unwrap_or("\n")).into_bytes(),
            (None, Some(payloads)) => event_stream(&payloads, self.wrapped),
            _ => panic!("{name}: either `body` or `messages`"),
        };
        ModelAnswer { name, body, usage: self.usage.map(Usage::from) }
    }
}

impl From<UsageTold> for Usage {
    fn from(told: UsageTold) -> Usage {
        let UsageTold { input, cached_read, cache_write, output, reasoning, stock } = told;
        Usage { input, cached_read, cache_write, output, reasoning, stock }
    }
}

/// A message with one header, as Bedrock sends it.
fn message(payload: &[u8]) -> Vec<u8> {
    let header = b"\x0d:content-type\x07\x00\x10application/json";
    let lengths = [header.len() + payload.len() + 16, header.len()];
    let mut bytes: Vec<u8> =
        lengths.iter().flat_map(|length| u32::try_from(*length).expect("a short message").to_be_bytes()).collect();
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend(header);
    bytes.extend(payload);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}
