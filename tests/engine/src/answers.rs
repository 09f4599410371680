//! Answers of language models as they are on the wire, and what they took: `tests/answers/`, a file for each kind of
//! provider.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use slidegate_engine::tokens::Usage;

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
