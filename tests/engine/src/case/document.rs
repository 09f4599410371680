//! A case as it is written: YAML fields, their defaults, and what is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;
use slidegate_engine::redis::{Reply, Value};

use super::{
    Answer, AnswerPart, Calls, Case, Cut, Expected, FieldValue, Fields, Request, Requests, Step, Store, services,
};
use crate::documented;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    about: String,
    config: Option<Json>,
    documented: Option<String>,
    #[serde(default)]
    skip: BTreeMap<String, String>,
    steps: Vec<StepDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDocument {
    at: Option<u64>,
    times: Option<u64>,
    every: Option<u64>,
    method: Option<String>,
    path: Option<Bytes>,
    host: Option<Bytes>,
    headers: Option<BTreeMap<String, OneOrMore>>,
    from: Option<String>,
    route: Option<String>,
    service: Option<String>,
    body: Option<OneOrMore>,
    answer: Option<AnswerDocument>,
    upstream: Option<BTreeMap<String, OneOrMore>>,
    calls: Option<CallsDocument>,
    pass: Option<PassDocument>,
    refuse: Option<RefuseDocument>,
    store: Option<StoreDocument>,
    redis: Option<Vec<Vec<Bytes>>>,
    of: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerDocument {
    status: Option<u16>,
    body: Option<PartsDocument>,
    cut: Option<CutDocument>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PartsDocument {
    More(Vec<PartDocument>),
    One(PartDocument),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PartDocument {
    Pause(PauseDocument),
    Bytes(Bytes),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseDocument {
    pause: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CutDocument {
    Client,
    Upstream,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CallsDocument {
    All(usize),
    Of(BTreeMap<String, usize>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassDocument {
    headers: Option<BTreeMap<String, FieldDocument>>,
    body: Option<Bytes>,
    sent: Option<Bytes>,
    #[serde(default)]
    told: BTreeMap<String, FieldDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefuseDocument {
    status: Option<u16>,
    body: Option<String>,
    headers: Option<BTreeMap<String, FieldDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoreDocument {
    Up,
    Down,
    Silent,
    HangsUp,
    Garbage,
    Forgetful,
    WrongType,
    ReadOnly,
    Full,
    NoAuth,
    Reply(ReplyDocument),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyDocument {
    Error(ErrorDocument),
    Many(Vec<ElementDocument>),
    Single(ElementDocument),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ElementDocument {
    Nil(()),
    Integer(i64),
    Text(String),
    Hex(Hex),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorDocument {
    error: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FieldDocument {
    Number(u64),
    Text(String),
    DownFrom(DownFrom),
    Begins(Begins),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begins {
    begins: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DownFrom {
    down_from: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<Bytes>),
    One(Bytes),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Number(u64),
    Text(String),
    Hex(Hex),
    Repeated(Repeated),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeated {
    text: String,
    times: usize,
}

const FROM: &str = "192.0.2.1:40000";
const UPSTREAM_STATUS: u16 = 200;
const HOST: &str = "example.com";

/// Reads YAML as the gateway reads its file, so that a configuration means the same in both.
pub(crate) fn from_yaml<T: DeserializeOwned>(yaml: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| error.to_string())
}

/// Reads a case from YAML; the error says what is wrong with it.
pub(super) fn read(name: &str, yaml: &str) -> Result<Case, String> {
    let document: Document = from_yaml(yaml)?;
    if let Some(runner) = document.skip.iter().find_map(|(runner, reason)| reason.trim().is_empty().then_some(runner)) {
        return Err(format!("`skip` says no reason for {runner}"));
    }
    let config = match (document.config, document.documented) {
        (Some(config), None) => config,
        (None, Some(name)) => {
            let (_, yaml) = documented::ALL
                .into_iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| format!("`{name}` is no documented configuration"))?;
            from_yaml(yaml)?
        }
        _ => return Err("expected one of `config` and `documented`".to_owned()),
    };
    let config = serde_json::to_vec(&config).map_err(|error| error.to_string())?;
    let steps = steps(document.steps, &services(&config))?;
    Ok(Case { name: name.to_owned(), about: document.about, config, skip: document.skip, steps })
}

fn steps(documents: Vec<StepDocument>, services: &BTreeSet<String>) -> Result<Vec<Step>, String> {
    let mut now_ms = 0;
    let mut steps = Vec::with_capacity(documents.len());
    for (index, document) in documents.into_iter().enumerate() {
        let step = step(document, &mut now_ms)
            .and_then(|step| known(step, services))
            .map_err(|error| format!("step {}: {error}", index + 1))?;
        steps.push(step);
    }
    if steps.is_empty() {
        return Err("there is no step".to_owned());
    }
    if !steps.iter().any(|step| matches!(step, Step::Requests(_))) {
        return Err("there is no request".to_owned());
    }
    Ok(steps)
}

fn step(mut document: StepDocument, now_ms: &mut u64) -> Result<Step, String> {
    match (document.store.take(), document.redis.take(), document.of.take()) {
        (Some(_), None, _) | (None, Some(_), _) if !document.is_empty() => {
            Err("something stands beside `store` or `redis`".to_owned())
        }
        (Some(_), Some(_), _) => Err("`redis` stands beside `store`".to_owned()),
        (Some(store), None, of) => Ok(Step::Store(mood(store)?, of)),
        (None, Some(commands), of) => {
            let command = |words: Vec<Bytes>| words.into_iter().map(bytes).collect::<Result<Vec<_>, _>>();
            Ok(Step::Redis(commands.into_iter().map(command).collect::<Result<_, _>>()?, of))
        }
        (None, None, Some(_)) => Err("`of` stands without `store`".to_owned()),
        (None, None, None) => requests(document, now_ms).map(|requests| Step::Requests(Box::new(requests))),
    }
}

/// A step that names no service, or one of these.
fn known(step: Step, services: &BTreeSet<String>) -> Result<Step, String> {
    let named: Vec<&String> = match &step {
        Step::Store(_, of) | Step::Redis(_, of) => of.iter().collect(),
        Step::Requests(requests) => match &requests.calls {
            Some(Calls::Of(calls)) => calls.keys().collect(),
            _ => Vec::new(),
        },
    };
    match named.into_iter().find(|name| !services.contains(*name)) {
        Some(name) => Err(format!("`{name}` is no service of the configuration, which names {services:?}")),
        None => Ok(step),
    }
}

impl StepDocument {
    fn is_empty(&self) -> bool {
        let StepDocument {
            at,
            times,
            every,
            method,
            path,
            host,
            headers,
            from,
            route,
            service,
            body,
            answer,
            upstream,
            calls,
            pass,
            refuse,
            store,
            redis,
            of,
        } = self;
        let numbers = at.is_none() && times.is_none() && every.is_none() && calls.is_none();
        let request = method.is_none() && path.is_none() && host.is_none() && headers.is_none() && from.is_none();
        let place = route.is_none() && service.is_none() && upstream.is_none();
        let bodies = body.is_none() && answer.is_none();
        numbers
            && request
            && place
            && bodies
            && pass.is_none()
            && refuse.is_none()
            && store.is_none()
            && redis.is_none()
            && of.is_none()
    }
}

fn requests(document: StepDocument, now_ms: &mut u64) -> Result<Requests, String> {
    let (times, every_ms) = (document.times.unwrap_or(1), document.every.unwrap_or(0));
    let at_ms = document.at.unwrap_or(*now_ms);
    if times == 0 {
        return Err("`times` is 0".to_owned());
    }
    if at_ms < *now_ms {
        return Err(format!("the clock runs backwards, from {now_ms} to {at_ms}"));
    }
    let answer = answer(document.answer.unwrap_or_default(), fields_sent(document.upstream)?)?;
    *now_ms = at_ms + (times - 1) * every_ms + answer.pauses_ms();
    let from = document.from.unwrap_or_else(|| FROM.to_owned());
    let from: Option<SocketAddr> = match from.as_str() {
        "" => None,
        address => Some(address.parse().map_err(|_| format!("`{address}` is no address with a port"))?),
    };
    let request = Request {
        method: document.method.unwrap_or_else(|| "GET".to_owned()),
        path: bytes(document.path.unwrap_or_else(|| Bytes::Text("/".to_owned())))?,
        host: bytes(document.host.unwrap_or_else(|| Bytes::Text(HOST.to_owned())))?,
        headers: fields_sent(document.headers)?,
        from,
        route: document.route.unwrap_or_default(),
        service: document.service.unwrap_or_default(),
        body: pieces(document.body)?,
    };
    let calls = document.calls.map(|calls| match calls {
        CallsDocument::All(calls) => Calls::All(calls),
        CallsDocument::Of(calls) => Calls::Of(calls),
    });
    Ok(Requests { at_ms, times, every_ms, request, answer, expected: expected(document.pass, document.refuse)?, calls })
}

fn expected(pass: Option<PassDocument>, refuse: Option<RefuseDocument>) -> Result<Expected, String> {
    match (pass, refuse) {
        (Some(pass), None) => Ok(Expected::Pass {
            headers: pass.headers.map(fields_wanted),
            body: pass.body.map(bytes).transpose()?,
            sent: pass.sent.map(bytes).transpose()?,
            told: fields_wanted(pass.told),
        }),
        (None, Some(refuse)) => Ok(Expected::Refuse {
            status: refuse.status.unwrap_or(429),
            body: refuse.body.unwrap_or_else(|| "Too many requests".to_owned()).into_bytes(),
            headers: refuse.headers.map(fields_wanted),
        }),
        (None, None) => Err("expects nothing: `pass` or `refuse` is missing".to_owned()),
        (Some(_), Some(_)) => Err("expects both, `pass` and `refuse`".to_owned()),
    }
}

fn fields_wanted(documents: BTreeMap<String, FieldDocument>) -> Fields {
    let wanted = |document| match document {
        FieldDocument::Number(number) => FieldValue::Text(number.to_string()),
        FieldDocument::Text(text) => FieldValue::Text(text),
        FieldDocument::DownFrom(DownFrom { down_from }) => FieldValue::DownFrom(down_from),
        FieldDocument::Begins(Begins { begins }) => FieldValue::Begins(begins),
    };
    documents.into_iter().map(|(name, document)| (name.to_ascii_lowercase(), wanted(document))).collect()
}

fn fields_sent(documents: Option<BTreeMap<String, OneOrMore>>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut fields = Vec::new();
    for (name, values) in documents.unwrap_or_default() {
        let values = match values {
            OneOrMore::More(values) => values,
            OneOrMore::One(value) => vec![value],
        };
        for value in values {
            fields.push((name.to_ascii_lowercase(), bytes(value)?));
        }
    }
    Ok(fields)
}

fn answer(document: AnswerDocument, headers: Vec<(String, Vec<u8>)>) -> Result<Answer, String> {
    let status = document.status.unwrap_or(UPSTREAM_STATUS);
    if !(200..=599).contains(&status) {
        return Err(format!("{status} is no status of a response"));
    }
    let part = |part| {
        Ok(match part {
            PartDocument::Pause(PauseDocument { pause }) => AnswerPart::Pause(pause),
            PartDocument::Bytes(piece) => AnswerPart::Bytes(bytes(piece)?),
        })
    };
    let mut body: Vec<AnswerPart> = match document.body {
        Some(PartsDocument::More(parts)) => parts.into_iter().map(part).collect::<Result<_, String>>()?,
        Some(PartsDocument::One(one)) => vec![part(one)?],
        None => Vec::new(),
    };
    if matches!(body.last(), Some(AnswerPart::Pause(_))) {
        // The end of it comes behind the pause.
        body.push(AnswerPart::Bytes(Vec::new()));
    }
    let cut = document.cut.map(|cut| match cut {
        CutDocument::Client => Cut::Client,
        CutDocument::Upstream => Cut::Upstream,
    });
    Ok(Answer { status, headers, body, cut })
}

fn pieces(document: Option<OneOrMore>) -> Result<Vec<Vec<u8>>, String> {
    match document {
        Some(OneOrMore::More(pieces)) => pieces.into_iter().map(bytes).collect(),
        Some(OneOrMore::One(piece)) => Ok(vec![bytes(piece)?]),
        None => Ok(Vec::new()),
    }
}

fn bytes(bytes: Bytes) -> Result<Vec<u8>, String> {
    match bytes {
        Bytes::Number(number) => Ok(number.to_string().into_bytes()),
        Bytes::Text(text) => Ok(text.into_bytes()),
        Bytes::Repeated(Repeated { text, times }) => Ok(text.repeat(times).into_bytes()),
        Bytes::Hex(Hex { hex }) => {
            let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
            let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            let decoded: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
            decoded.filter(|_| digits.len().is_multiple_of(2)).ok_or_else(|| format!("`{hex}` is not hexadecimal"))
        }
    }
}

fn mood(document: StoreDocument) -> Result<Store, String> {
    Ok(match document {
        StoreDocument::Up => Store::Up,
        StoreDocument::Down => Store::Down,
        StoreDocument::Silent => Store::Silent,
        StoreDocument::HangsUp => Store::HangsUp,
        StoreDocument::Garbage => Store::Garbage,
        StoreDocument::Forgetful => Store::Forgetful,
        StoreDocument::WrongType => Store::WrongType,
        StoreDocument::ReadOnly => Store::ReadOnly,
        StoreDocument::Full => Store::Full,
        StoreDocument::NoAuth => Store::NoAuth,
        StoreDocument::Reply(reply) => Store::Reply(match reply {
            ReplyDocument::Error(ErrorDocument { error }) => Reply::Error(error),
            ReplyDocument::Many(values) => Reply::Many(values.into_iter().map(element).collect::<Result<_, _>>()?),
            ReplyDocument::Single(value) => Reply::Single(element(value)?),
        }),
    })
}

fn element(document: ElementDocument) -> Result<Value, String> {
    Ok(match document {
        ElementDocument::Nil(()) => Value::Nil,
        ElementDocument::Integer(number) => Value::Integer(number),
        ElementDocument::Text(text) => Value::Bulk(text.into_bytes()),
        ElementDocument::Hex(hex) => Value::Bulk(bytes(Bytes::Hex(hex))?),
    })
}
