//! Two gateways that keep responses in one Redis, and whatever may happen to them in whatever order: streams that come
//! to nothing, answers that break off, a Redis that is slow, says nonsense, loses values, mixes them up or alters them.
//! What they keep account of: pages are shown whole, and to those whom they are for; nothing stays behind.

use std::{collections::BTreeMap, rc::Rc};

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use serde_json::{Value as Json, json};
use slidegate_engine::{
    BodyCoding, BodyPiece, Effect, Engine, Interest, Response, Step, StreamEnd, Uses, Verdict, Wants,
    redis::{CallError, Command, Reply},
    request::Requests,
};

use super::{
    page::{AskedPage, MadePage, OWNERS, is_for},
    request::{Answer, any_answer},
    used_request::UsedRequest,
};
use crate::runner::simulated_store::SimulatedStore;

const GATEWAYS: usize = 2;

/// When it begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_800_000_000_000;

/// No wait of the configurations is longer, in milliseconds.
const LONGEST_WAIT_MS: u64 = 60_000;

/// Who passes one filter may wait for the next, and be asked for again.
const LAST_WORDS: usize = 40;

/// Something that happens. Streams and calls are chosen among those there are.
#[derive(Debug, Clone)]
pub enum CacheEvent {
    /// A request comes to a gateway.
    Ask(usize, AskedPage),
    /// An upstream's answer comes to its head.
    Head(Index, MadePage),
    /// So much more of its body comes, and with it perhaps the end.
    Piece(Index, usize),
    /// A stream ends, as it is.
    End(Index, u8),
    /// Redis answers a call as it should.
    Reply(Index),
    /// It answers all calls, and what they lead to.
    ReplyToAll,
    /// It answers otherwise.
    Misreply(Index, Box<Answer>),
    /// So many milliseconds pass.
    Pass(u64),
    /// A value in Redis takes the place of another, or is altered at one place.
    Disturb(Index, Option<Index>, usize, u8),
}

/// The gateways, and all that is on its way.
pub struct CachingGateways {
    engines: Vec<Engine>,
    uses: Rc<Uses>,
    store: SimulatedStore,
    now_ms: u64,
    last_stream: u64,
    last_call: u64,
    open: BTreeMap<u64, Open>,
    calls: BTreeMap<u64, (usize, Command)>,
}

/// A stream that has not ended.
struct Open {
    gateway: usize,
    request: AskedPage,
    /// It waits for a filter.
    waits: bool,
    wants: Wants,
    /// The answer, once it has begun, and how much of its body has come.
    made: Option<(Vec<u8>, usize)>,
}

/// The requests of one gateway, of which no more is shown than is used.
struct Asked<'a> {
    open: &'a BTreeMap<u64, Open>,
    uses: &'a Rc<Uses>,
}

impl Requests for Asked<'_> {
    type View = UsedRequest<AskedPage>;

    fn view(&self, stream: u64) -> Option<Self::View> {
        self.open.get(&stream).map(|open| UsedRequest::new(open.request.clone(), self.uses))
    }
}

/// Configurations with a cache, alone and among others.
pub fn cache_configurations() -> Vec<Json> {
    let redis = json!({"service_name": "redis.static"});
    let plain = json!({"cache": {"redis": redis}});
    let whole = json!({"cache": {
        "key": {"query": ["a"], "headers": ["x-kind"], "group": {"cookie": "sid"}},
        "default_ttl": "10s",
        "max_ttl": "1m",
        "stale_while_revalidate": "30s",
        "stale_if_error": "10m",
        "failover_statuses": [502, 503],
        "max_body": "1KiB",
        "lock_timeout": "1m",
        "tags_header": "x-tags",
        "fallback": {"status": 503, "body": FALLBACK},
        "redis": redis,
    }});
    let limit = |count: u64| {
        json!({"rule_name": "r", "global_threshold": {"limit": count, "window": "10s"}, "redis": {"service_name":
        "limits.static"}})
    };
    let behind = json!({"filters": [limit(20), whole]});
    let between = json!({"filters": [limit(1_000), plain, limit(5)]});
    vec![plain, whole, behind, between]
}

/// What a client may be told that no upstream made.
const FALLBACK: &str = "We are back soon.";
const REFUSED: &str = "Too many requests";

/// What is told to who wants nothing but what is kept.
const NOT_KEPT: &str =
    "{\"error\":{\"message\":\"No response is stored that could be used.\",\"code\":\"not_cached\"}}";

/// Anything that may happen.
pub fn any_cache_event() -> impl Strategy<Value = CacheEvent> {
    let at = any::<Index>;
    let length = prop_oneof![1 => 0..30_usize, 2 => Just(usize::MAX)];
    prop_oneof![
        10 => (0..GATEWAYS, any::<AskedPage>()).prop_map(|(gateway, page)| CacheEvent::Ask(gateway, page)).boxed(),
        10 => (at(), any::<MadePage>()).prop_map(|(at, page)| CacheEvent::Head(at, page)).boxed(),
        10 => (at(), length).prop_map(|(at, length)| CacheEvent::Piece(at, length)).boxed(),
        10 => at().prop_map(CacheEvent::Reply).boxed(),
        8 => Just(CacheEvent::ReplyToAll).boxed(),
        2 => (at(), 0..4_u8).prop_map(|(at, how)| CacheEvent::End(at, how)).boxed(),
        1 => (at(), any_answer()).prop_map(|(at, answer)| CacheEvent::Misreply(at, Box::new(answer))).boxed(),
        2 => prop_oneof![9 => 0..2_000_u64, 1 => 0..200_000_u64].prop_map(CacheEvent::Pass).boxed(),
        1 => (at(), prop::option::of(at()), any::<usize>(), any::<u8>())
            .prop_map(|(at, other, place, byte)| CacheEvent::Disturb(at, other, place, byte))
            .boxed(),
    ]
}

impl CachingGateways {
    /// With this configuration, and nothing in Redis.
    ///
    /// # Panics
    ///
    /// When the configuration is not good.
    pub fn new(configuration: &Json) -> Self {
        let json = configuration.to_string().into_bytes();
        let engine = |_| Engine::configure(&json).expect("the configuration is good");
        let engines: Vec<Engine> = (0..GATEWAYS).map(engine).collect();
        let mut gateways = CachingGateways {
            uses: Rc::new(engines[0].configuration().uses.clone()),
            engines,
            store: SimulatedStore::default(),
            now_ms: BEGIN_MS,
            last_stream: 0,
            last_call: 0,
            open: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        gateways.engines.iter_mut().for_each(|engine| engine.set_wall_clock(BEGIN_MS * 1_000_000));
        gateways
    }

    /// Lets all events happen, then brings everything to its end. How many pages were shown that were kept.
    ///
    /// # Errors
    ///
    /// Somebody was shown what is not for him, or something was left behind.
    pub fn run(&mut self, events: &[CacheEvent]) -> Result<usize, TestCaseError> {
        let mut shown = 0;
        for event in events {
            shown += self.happen(event)?;
        }
        self.finish()?;
        Ok(shown)
    }

    /// Brings everything to its end: Redis answers what it was asked, and clients leave.
    ///
    /// # Errors
    ///
    /// As [`CachingGateways::run`].
    pub fn finish(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..LAST_WORDS {
            for call in self.calls.keys().copied().collect::<Vec<_>>() {
                self.reply(call, None)?;
            }
            // Those who wait for another gateway look again when time passes.
            self.pass(if self.calls.is_empty() { LONGEST_WAIT_MS } else { 0 })?;
        }
        prop_assert!(self.calls.is_empty(), "calls without end: {:?}", self.calls);
        prop_assert!(self.open.values().all(|open| !open.waits), "a stream was never settled");
        for stream in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(stream, StreamEnd::Client);
        }
        for _ in 0..LAST_WORDS {
            self.drain()?;
            for call in self.calls.keys().copied().collect::<Vec<_>>() {
                self.reply(call, Some(Err(CallError::Timeout)))?;
            }
        }
        prop_assert!(self.calls.is_empty(), "calls without end: {:?}", self.calls);
        for stream in 1..=self.last_stream {
            prop_assert!(self.engines.iter().all(|engine| !engine.knows(stream)), "{stream} is still known");
        }
        Ok(())
    }

    /// Redis loses everything.
    pub fn lose_redis(&mut self) {
        self.store = SimulatedStore::default();
    }

    fn happen(&mut self, event: &CacheEvent) -> Result<usize, TestCaseError> {
        let mut shown = 0;
        match event {
            CacheEvent::Ask(gateway, page) => return self.ask(*gateway, page),
            CacheEvent::Head(at, page) => {
                if let Some(stream) = self.pick(at, |open| !open.waits && open.made.is_none()) {
                    return self.head(stream, page);
                }
            }
            CacheEvent::Piece(at, length) => {
                if let Some(stream) = self.pick(at, |open| !open.waits && open.made.is_some()) {
                    self.piece(stream, *length)?;
                }
            }
            CacheEvent::End(at, how) => {
                if let Some(stream) = self.pick(at, |_| true) {
                    let endings = [StreamEnd::Client, StreamEnd::Upstream, StreamEnd::Answered, StreamEnd::Client];
                    self.end(stream, endings[usize::from(*how) % endings.len()]);
                }
            }
            CacheEvent::Reply(at) => {
                if let Some(call) = pick(at, self.calls.keys()) {
                    shown += self.reply(call, None)?;
                }
            }
            CacheEvent::ReplyToAll => {
                for _ in 0..LAST_WORDS {
                    for call in self.calls.keys().copied().collect::<Vec<_>>() {
                        shown += self.reply(call, None)?;
                    }
                }
            }
            CacheEvent::Misreply(at, answer) => {
                let call = pick(at, self.calls.keys());
                shown += self.reply(call.unwrap_or(u64::MAX), Some(answer.for_keys(1)))?;
            }
            CacheEvent::Pass(ms) => self.pass(*ms)?,
            CacheEvent::Disturb(at, other, place, byte) => {
                self.store.disturb(|all| at.index(all), other.map(|other| move |all| other.index(all)), *place, *byte);
            }
        }
        Ok(shown + self.drain()?)
    }

    /// A request comes.
    ///
    /// # Errors
    ///
    /// As [`CachingGateways::run`].
    pub fn ask(&mut self, gateway: usize, page: &AskedPage) -> Result<usize, TestCaseError> {
        self.last_stream += 1;
        let (stream, now_ns) = (self.last_stream, self.now_ns());
        let open = Open { gateway, request: page.clone(), waits: true, wants: Wants::default(), made: None };
        self.open.insert(stream, open);
        let used = UsedRequest::new(page.clone(), &self.uses);
        let step = self.engines[gateway].on_request(stream, &used, now_ns);
        self.became(stream, step)?;
        self.drain()
    }

    fn head(&mut self, stream: u64, page: &MadePage) -> Result<usize, TestCaseError> {
        let now_ns = self.now_ns();
        let open = self.open.get_mut(&stream).expect("it was picked");
        let made = page.of(stream, &open.request);
        let is_bodiless = made.body.is_empty();
        open.made = Some((made.body.clone(), 0));
        if open.wants.response_headers {
            open.waits = true;
            let step = self.engines[open.gateway].on_response_headers(stream, &made, now_ns);
            self.became(stream, step)?;
        }
        if is_bodiless && self.open.get(&stream).is_some_and(|open| !open.waits) {
            self.end(stream, StreamEnd::Whole);
        }
        self.drain()
    }

    fn piece(&mut self, stream: u64, length: usize) -> Result<(), TestCaseError> {
        let now_ns = self.now_ns();
        let open = self.open.get_mut(&stream).expect("it was picked");
        let (body, gone) = open.made.as_mut().expect("it was picked so");
        let until = gone.saturating_add(length).min(body.len());
        let bytes = body[*gone..until].to_vec();
        let end = until == body.len();
        *gone = until;
        if open.wants.response_body != Interest::None {
            let piece = BodyPiece { bytes: &bytes, coding: BodyCoding::Identity, end };
            let step = self.engines[open.gateway].on_response_body(stream, piece, now_ns);
            prop_assert!(matches!(step, Step::Pass(_)), "a copy is no reason to wait: {step:?}");
            self.became(stream, step)?;
        }
        if end {
            self.end(stream, StreamEnd::Whole);
        }
        Ok(())
    }

    fn end(&mut self, stream: u64, ending: StreamEnd) {
        let now_ns = self.now_ns();
        if let Some(open) = self.open.remove(&stream) {
            self.engines[open.gateway].on_done(stream, ending, now_ns);
        }
    }

    /// Redis answers, as it should unless it is said how. A call that nobody made goes to the first gateway.
    fn reply(&mut self, call: u64, answer: Option<Result<Reply, CallError>>) -> Result<usize, TestCaseError> {
        let called = self.calls.remove(&call);
        let gateway = called.as_ref().map_or(0, |(gateway, _)| *gateway);
        let rightly = called.map(|(_, command)| {
            if command.words().next() == Some(b"EVAL") {
                // Both gateways may have been told that it does not know the script.
                self.store.forget_script();
            }
            self.store.answer(&command, self.now_ms * 1_000)
        });
        let now_ns = self.now_ns();
        let reply = answer.or(rightly).unwrap_or(Err(CallError::Timeout));
        self.engines[gateway].on_reply(call, reply, now_ns);
        self.drain()
    }

    fn pass(&mut self, ms: u64) -> Result<(), TestCaseError> {
        self.now_ms += ms;
        let (wall_ns, now_ns) = (self.now_ms * 1_000_000, self.now_ns());
        for engine in &mut self.engines {
            engine.set_wall_clock(wall_ns);
            engine.tick(now_ns);
        }
        self.drain().map(drop)
    }

    /// Takes everything that the engines have to say. How many pages were shown that were kept.
    fn drain(&mut self) -> Result<usize, TestCaseError> {
        let now_ns = self.now_ns();
        let mut shown = 0;
        for gateway in 0..GATEWAYS {
            loop {
                match self.engines[gateway].poll(&Asked { open: &self.open, uses: &self.uses }, now_ns) {
                    Effect::Call { command, .. } => {
                        self.last_call += 1;
                        self.calls.insert(self.last_call, (gateway, command));
                        self.engines[gateway].called(Ok(self.last_call), now_ns);
                    }
                    Effect::Settle { stream, verdict } => {
                        prop_assert!(self.open.get(&stream).is_some_and(|open| open.waits), "{stream} does not wait");
                        shown += usize::from(self.settled(stream, verdict)?);
                    }
                    Effect::Draw { bytes } => self.engines[gateway].add_random(&vec![7; bytes]),
                    Effect::Annotate { .. } | Effect::Log { .. } => {}
                    Effect::Wait { .. } => break,
                }
            }
            let known = self.engines[gateway].metrics().len();
            prop_assert!(self.engines[gateway].take_metrics().iter().all(|change| change.metric < known));
        }
        Ok(shown)
    }

    fn became(&mut self, stream: u64, step: Step) -> Result<bool, TestCaseError> {
        match step {
            Step::Wait => Ok(false),
            Step::Pass(pass) => self.settled(stream, Verdict::Pass(pass)),
            Step::Respond(response) => self.settled(stream, Verdict::Respond(response)),
        }
    }

    /// Whether it was answered with a page that was kept.
    fn settled(&mut self, stream: u64, verdict: Verdict) -> Result<bool, TestCaseError> {
        let open = self.open.get_mut(&stream).expect("it is there");
        open.waits = false;
        match verdict {
            Verdict::Pass(pass) => {
                open.wants = pass.wants;
                Ok(false)
            }
            Verdict::Respond(response) => {
                let is_page = check_shown(&open.request, &response)?;
                self.end(stream, StreamEnd::Answered);
                Ok(is_page)
            }
        }
    }

    fn pick(&self, at: &Index, is_meant: impl Fn(&Open) -> bool) -> Option<u64> {
        let among: Vec<&u64> = self.open.iter().filter(|(_, open)| is_meant(open)).map(|(stream, _)| stream).collect();
        pick(at, among.into_iter())
    }

    fn now_ns(&self) -> u64 {
        (self.now_ms - BEGIN_MS + 1) * 1_000_000
    }
}

/// What a client is shown is whole, and for him.
fn check_shown(request: &AskedPage, response: &Response) -> Result<bool, TestCaseError> {
    let body = String::from_utf8_lossy(&response.body);
    let is_page = !body.is_empty() && ![FALLBACK, REFUSED, NOT_KEPT].contains(&&*body);
    if is_page {
        prop_assert!(is_for(&body, request), "{} is shown `{body}`", OWNERS[request.user]);
    }
    for (name, value) in &response.headers {
        prop_assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}");
        prop_assert!(name != "set-cookie", "{response:?}");
    }
    Ok(is_page)
}

fn pick<'a>(at: &Index, among: impl ExactSizeIterator<Item = &'a u64>) -> Option<u64> {
    let among: Vec<u64> = among.copied().collect();
    (!among.is_empty()).then(|| *at.get(&among))
}
