//! An engine, the Redis that it asks, and streams on their way through it.

use alloc::collections::BTreeMap;

use super::super::*;
use crate::{
    body::{BodyCoding, BodyPiece, Interest},
    explain::Explanation,
    wants::{ResponseHead, ResponseOrigin, ResponseView, Wants},
};

/// When it begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_800_000_000_000;

/// As much of a Redis as the filter asks for: texts with an end, and the scripts by how many keys and words they have.
/// `tests/cache_scripts.rs` runs these on a real one.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) texts: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    pub(super) purges: Vec<(Vec<u8>, u64)>,
    variants: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// It answers nothing.
    pub(super) is_away: bool,
    commands: Vec<String>,
    /// By how many keys, and how many words they have.
    scripts: Vec<(u64, usize)>,
}

/// All that a gateway has; several may have one store.
pub(super) struct World {
    pub(super) engine: Engine,
    now_ms: u64,
    last_call: u64,
    /// What became of streams that waited.
    settled: BTreeMap<u64, Verdict>,
    wants: BTreeMap<u64, Wants>,
    /// The request that came last, for filters behind one that waited.
    request: Option<(u64, Sample)>,
}

/// The request that came last.
struct Last<'a>(Option<&'a (u64, Sample)>);

impl Requests for Last<'_> {
    type View = Sample;

    fn view(&self, stream: u64) -> Option<Sample> {
        self.0.filter(|(each, _)| *each == stream).map(|(_, request)| request.clone())
    }
}

/// A response of an upstream.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) is_of_host: bool,
}

impl Store {
    fn answer(&mut self, command: &Command, now_ms: u64) -> Result<Reply, CallError> {
        if self.is_away {
            return Err(CallError::Connect);
        }
        self.texts.retain(|_, (_, ends_ms)| *ends_ms > now_ms);
        let words: Vec<Vec<u8>> = command.words().map(<[u8]>::to_vec).collect();
        let name = String::from_utf8(words[0].clone()).unwrap();
        let number = |word: &[u8]| core::str::from_utf8(word).unwrap().parse::<u64>().unwrap();
        let keys = if name.starts_with("EVAL") { number(&words[2]) } else { 0 };
        self.commands.push(if keys > 0 { format!("{name} {keys}") } else { name.clone() });
        if name == "EVAL" {
            self.scripts.push((keys, words.len()));
        }
        if name == "EVALSHA" && !self.scripts.contains(&(keys, words.len())) {
            return Ok(Reply::Error("NOSCRIPT No matching script".into()));
        }
        let text = |store: &Store, key: &[u8]| store.texts.get(key).map(|(text, _)| text.clone());
        let value = |text: Option<Vec<u8>>| text.map_or(Value::Nil, Value::Bulk);
        Ok(match (name.as_str(), keys) {
            ("MGET", _) => Reply::Many(words[1..].iter().map(|key| value(text(self, key))).collect()),
            ("SET", _) if text(self, &words[1]).is_some() => Reply::Single(Value::Nil),
            ("SET", _) => {
                self.texts.insert(words[1].clone(), (words[2].clone(), now_ms + number(&words[5])));
                Reply::Single(Value::Status("OK".into()))
            }
            // Of a session that is not there.
            ("GETRANGE", _) => Reply::Single(Value::Bulk(Vec::new())),
            ("ZREVRANGE", _) => {
                let pairs = self.purges.iter().flat_map(|(tag, ms)| [tag.clone(), ms.to_string().into_bytes()]);
                Reply::Many(pairs.map(Value::Bulk).collect())
            }
            (_, 1) => {
                let (since, ends_ms) = self.texts.entry(words[3].clone()).or_insert((b"0".to_vec(), 0));
                if number(since) < number(&words[4]) {
                    (*since, *ends_ms) = (words[4].clone(), (*ends_ms).max(now_ms + 10_000));
                }
                Reply::Single(Value::Integer(1))
            }
            // A lock and its value, a token and for how long.
            (_, 2) if words.len() == 7 && self.texts.contains_key(&words[3]) => Reply::Single(Value::Nil),
            (_, 2) if words.len() == 7 => {
                self.texts.insert(words[3].clone(), (words[5].clone(), now_ms + number(&words[6])));
                let value = text(self, &words[4]).unwrap_or_default();
                Reply::Single(Value::Bulk(value.into_iter().take(16).collect()))
            }
            (_, 2) => {
                if self.unlock(&words[3], &words[5]) && !words[6].is_empty() {
                    let ends_ms = now_ms + number(&words[7]);
                    self.texts.entry(words[4].clone()).or_insert((words[6].clone(), ends_ms));
                }
                Reply::Single(Value::Integer(1))
            }
            (_, count @ (3 | 5)) => {
                let arguments = &words[3 + count as usize..];
                let ends_ms = now_ms + number(&arguments[2]);
                if !self.unlock(&words[4], &arguments[0]) && arguments[0] != b"-" && self.texts.contains_key(&words[3])
                {
                    return Ok(Reply::Single(Value::Integer(0)));
                }
                if count == 5 {
                    let variants = self.variants.entry(words[6].clone()).or_default();
                    if !variants.contains(&arguments[4]) && variants.len() >= number(&arguments[5]) as usize {
                        self.texts.remove(&variants.remove(0));
                    }
                    if !variants.contains(&arguments[4]) {
                        variants.push(arguments[4].clone());
                    }
                    self.texts.insert(words[7].clone(), (arguments[6].clone(), ends_ms));
                }
                let marker = self.texts.entry(words[5].clone()).or_insert((arguments[3].clone(), ends_ms));
                marker.1 = marker.1.max(ends_ms);
                self.texts.insert(words[3].clone(), (arguments[1].clone(), ends_ms));
                Reply::Single(Value::Integer(1))
            }
            (name, keys) => panic!("{name} {keys}"),
        })
    }

    fn unlock(&mut self, lock: &[u8], token: &[u8]) -> bool {
        let is_ours = self.texts.get(lock).is_some_and(|(text, _)| text == token);
        is_ours && self.texts.remove(lock).is_some()
    }

    /// The commands since this was asked last, but those that brought a script.
    pub(super) fn commands(&mut self) -> Vec<String> {
        self.commands.drain(..).filter(|command| !command.starts_with("EVAL ")).collect()
    }
}

impl World {
    pub(super) fn new(settings: Json) -> World {
        let mut cache = json!({"redis": {"service_name": "redis.static"}});
        if let (Some(cache), Json::Object(settings)) = (cache.as_object_mut(), settings) {
            cache.extend(settings);
        }
        World::of(&json!({"cache": cache}))
    }

    pub(super) fn of(document: &Json) -> World {
        let engine = Engine::configure(document.to_string().as_bytes()).expect("the configuration is good");
        let mut world = World {
            engine,
            now_ms: BEGIN_MS,
            last_call: 0,
            settled: BTreeMap::new(),
            wants: BTreeMap::new(),
            request: None,
        };
        world.pass_ms(0);
        world
    }

    fn now_ns(&self) -> u64 {
        (self.now_ms - BEGIN_MS + 1) * MS
    }

    /// So much time passes.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        self.engine.set_wall_clock(self.now_ms * MS);
        self.engine.tick(self.now_ns());
    }

    /// Redis answers until nothing more is asked.
    pub(super) fn run(&mut self, store: &mut Store) {
        let now_ns = self.now_ns();
        loop {
            match self.engine.poll(&Last(self.request.as_ref()), now_ns) {
                Effect::Call { command, .. } => {
                    self.last_call += 1;
                    self.engine.called(Ok(self.last_call), now_ns);
                    let reply = store.answer(&command, self.now_ms);
                    self.engine.on_reply(self.last_call, reply, now_ns);
                }
                Effect::Settle { stream, verdict } => {
                    assert!(self.settled.insert(stream, verdict).is_none(), "{stream} is settled twice");
                }
                Effect::Draw { bytes } => self.engine.add_random(&(0..bytes).map(|at| at as u8).collect::<Vec<_>>()),
                Effect::Annotate { .. } | Effect::Log { .. } => {}
                Effect::Wait { .. } => return,
            }
        }
    }

    /// Redis answers what was asked so far, and what is asked by that waits. False: nothing was asked.
    pub(super) fn run_once(&mut self, store: &mut Store) -> bool {
        let now_ns = self.now_ns();
        let mut replies = Vec::new();
        loop {
            match self.engine.poll(&Last(self.request.as_ref()), now_ns) {
                Effect::Call { command, .. } => {
                    self.last_call += 1;
                    self.engine.called(Ok(self.last_call), now_ns);
                    replies.push((self.last_call, store.answer(&command, self.now_ms)));
                }
                Effect::Settle { stream, verdict } => drop(self.settled.insert(stream, verdict)),
                Effect::Annotate { .. } | Effect::Log { .. } | Effect::Draw { .. } => {}
                Effect::Wait { .. } => break,
            }
        }
        let is_asked = !replies.is_empty();
        for (call, reply) in replies {
            self.engine.on_reply(call, reply, now_ns);
        }
        is_asked
    }

    /// What is stored and kept for those who wait, in bytes.
    pub(super) fn kept(&self) -> usize {
        self.engine.filters.iter().map(kept).sum()
    }

    /// What is told of a request after these replies.
    pub(super) fn explained(&self, request: &Sample, replies: &[Result<Reply, CallError>]) -> Explanation {
        self.engine.explain(request, replies, self.now_ns())
    }

    /// What Redis says to whoever asks it beside the engine.
    pub(super) fn reply(&self, store: &mut Store, command: &Command) -> Result<Reply, CallError> {
        store.answer(command, self.now_ms)
    }

    /// Redis answers the next call, and this is on its way.
    pub(super) fn reads_first(&mut self, store: &mut Store) -> Result<Reply, CallError> {
        let now_ns = self.now_ns();
        let Effect::Call { command, .. } = self.engine.poll(&Gone, now_ns) else { panic!("nothing is asked") };
        self.last_call += 1;
        self.engine.called(Ok(self.last_call), now_ns);
        store.answer(&command, self.now_ms)
    }

    /// That answer comes.
    pub(super) fn hear(&mut self, reply: Result<Reply, CallError>) {
        self.engine.on_reply(self.last_call, reply, self.now_ns());
    }

    /// A request comes, and Redis answers. None: it waits.
    pub(super) fn ask(&mut self, stream: u64, request: &Sample, store: &mut Store) -> Option<Verdict> {
        let step = self.engine.on_request(stream, request, self.now_ns());
        self.request = Some((stream, request.clone()));
        self.run(store);
        self.became(stream, step)
    }

    /// A request comes, and Redis does not answer yet.
    pub(super) fn only_ask(&mut self, stream: u64, request: &Sample) {
        assert_eq!(self.engine.on_request(stream, request, self.now_ns()), Step::Wait);
    }

    /// What became of a stream that waited.
    pub(super) fn settled(&mut self, stream: u64) -> Option<Verdict> {
        let verdict = self.settled.remove(&stream)?;
        self.note(stream, &verdict);
        Some(verdict)
    }

    fn became(&mut self, stream: u64, step: Step) -> Option<Verdict> {
        let verdict = match step {
            Step::Pass(pass) => Verdict::Pass(pass),
            Step::Respond(response) => Verdict::Respond(response),
            Step::Wait => return self.settled(stream),
        };
        self.note(stream, &verdict);
        Some(verdict)
    }

    fn note(&mut self, stream: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Pass(pass) => drop(self.wants.insert(stream, pass.wants)),
            Verdict::Respond(_) => {
                self.wants.remove(&stream);
                self.engine.on_done(stream, StreamEnd::Answered, self.now_ns());
            }
        }
    }

    /// An upstream's answer comes to its head. Returns what its client gets instead, or the changes to it.
    pub(super) fn head(&mut self, stream: u64, answer: &Answer, store: &mut Store) -> Verdict {
        let step = self.engine.on_response_headers(stream, answer, self.now_ns());
        self.run(store);
        self.became(stream, step).expect("nobody waits for ever")
    }

    /// An upstream's answer comes to its head, and Redis does not answer yet.
    pub(super) fn only_head(&mut self, stream: u64, answer: &Answer) {
        assert_eq!(self.engine.on_response_headers(stream, answer, self.now_ns()), Step::Wait);
    }

    /// A piece of its body comes.
    pub(super) fn piece(&mut self, stream: u64, bytes: &[u8], end: bool, store: &mut Store) {
        if self.wants.get(&stream).is_none_or(|wants| wants.response_body == Interest::None) {
            return;
        }
        let piece = BodyPiece { bytes, coding: BodyCoding::Identity, end };
        let step = self.engine.on_response_body(stream, piece, self.now_ns());
        self.run(store);
        self.became(stream, step).expect("a copy never waits");
    }

    /// The stream ends.
    pub(super) fn end(&mut self, stream: u64, ending: StreamEnd, store: &mut Store) {
        self.engine.on_done(stream, ending, self.now_ns());
        self.run(store);
    }

    /// An upstream's answer comes whole. Returns what its client gets.
    pub(super) fn answer(&mut self, stream: u64, answer: &Answer, store: &mut Store) -> Seen {
        match self.head(stream, answer, store) {
            Verdict::Respond(response) => Seen::of(&response),
            Verdict::Pass(pass) => {
                if !answer.body.is_empty() {
                    self.piece(stream, &answer.body, true, store);
                }
                self.end(stream, StreamEnd::Whole, store);
                let edited = Response {
                    status: answer.status,
                    headers: answer.headers.clone(),
                    body: answer.body.clone().into(),
                    details: "",
                    grpc_status: 0,
                };
                Seen::of(&edited.edited(pass.edits.response))
            }
        }
    }

    /// A request comes, and if it goes to its upstream, that answers so. Returns what its client gets.
    pub(super) fn get(&mut self, stream: u64, request: &Sample, answer: &Answer, store: &mut Store) -> Seen {
        match self.ask(stream, request, store).expect("it does not wait") {
            Verdict::Respond(response) => Seen::of(&response),
            Verdict::Pass(_) => self.answer(stream, answer, store),
        }
    }

    /// Nothing is left of any stream.
    pub(super) fn is_idle(&self) -> bool {
        let Engine { filters, shared, .. } = &self.engine;
        let is_none = filters.iter().map(|filter| flights(filter) + known_streams(filter)).sum::<usize>() == 0;
        is_none && shared.budget.is_empty() && shared.streams.len() == 0
    }

    /// The counters raised since this was asked last.
    pub(super) fn raised(&mut self) -> Vec<String> {
        raised(&mut self.engine).into_iter().filter(|counter| counter.contains("_cache_")).collect()
    }
}

/// What a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) cache: String,
    pub(super) body: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn of(response: &Response) -> Seen {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<(String, String)> =
            response.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let cache = headers.iter().find(|(name, _)| name == "x-cache").map(|(_, word)| word.clone());
        Seen { status: response.status, cache: cache.unwrap_or_default(), body: text(&response.body), headers }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// Its status, what the cache says, and its body.
    pub(super) fn shown(&self) -> String {
        format!("{} {} {}", self.status, self.cache, self.body)
    }
}

impl ResponseView for Answer {
    fn head(&self) -> ResponseHead {
        let origin = if self.is_of_host { ResponseOrigin::Host } else { ResponseOrigin::Upstream };
        ResponseHead { status: self.status, origin, end: self.body.is_empty() }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.clone()).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(self.headers.clone())
    }
}

/// An answer with this status, these fields and this body.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    Answer { status, headers, body: body.as_bytes().to_vec(), is_of_host: false }
}

/// One that may be kept for a while.
pub(super) fn page(body: &str) -> Answer {
    answer(200, &[("cache-control", "max-age=50")], body)
}

/// A GET for this path, with these headers.
pub(super) fn get(path: &str, headers: &[(&'static str, &str)]) -> Sample {
    by("GET", path, headers)
}

pub(super) fn by(method: &str, path: &str, headers: &[(&'static str, &str)]) -> Sample {
    let mut all = vec![(":method", method.as_bytes().to_vec())];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())));
    Sample {
        path: path.as_bytes().to_vec(),
        authority: Some(b"example.test".to_vec()),
        headers: all,
        is_bodiless: true,
        ..Sample::default()
    }
}
