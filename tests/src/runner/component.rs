//! The component in wasmtime, as the gateway runs it, with a real Redis for each service whose clock is the case's.

mod transport;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};
use slidegate::{
    BodySide, BodyStep, Coding, Ending, Header, Interest, Module, Moment, Origin, Request as HostRequest, Response,
    ResponseHead, StartError, Verdict, Worker, WorkerOptions, apply_edits,
};
use slidegate_engine::window::script::ADMIT;

use tokio::runtime::Runtime;

use self::transport::{Clock, Places, Shared, Station, Transport};
use super::{Runner, Session, impostor::Impostor};
use crate::{
    case::{Answer, AnswerPart, Case, Cut, Request, Seen, Store},
    redis_server::RedisServer,
};

/// A service whose whole server is disturbed has one of its own; the others have each a database of this many.
const DATABASES: u32 = 4_096;

/// Runs cases on the component that the host library carries.
pub struct ComponentRunner {
    runtime: Runtime,
    module: LazyLock<Module>,
    server: LazyLock<RedisServer>,
    /// A server that was stopped in its tracks.
    silent: LazyLock<RedisServer>,
    hangs_up: LazyLock<Impostor>,
    garbage: LazyLock<Impostor>,
    databases: AtomicU32,
}

struct ComponentSession<'a> {
    runtime: &'a Runtime,
    worker: Worker,
    clock: Clock,
    /// By service.
    stores: BTreeMap<String, Stored>,
}

/// The Redis of a service.
struct Stored {
    shared: Arc<Shared>,
    /// Looks at the database past the filter.
    connection: redis::Connection,
    own_server: Option<RedisServer>,
}

impl Default for ComponentRunner {
    fn default() -> Self {
        ComponentRunner {
            runtime: Runtime::new().expect("threads can be started"),
            module: LazyLock::new(|| {
                Module::embedded().expect("the component that the host carries keeps the contract")
            }),
            server: LazyLock::new(|| RedisServer::start_with(&["--databases", &DATABASES.to_string()])),
            silent: LazyLock::new(|| {
                let server = RedisServer::start();
                server.pause();
                server
            }),
            hangs_up: LazyLock::new(|| Impostor::start(None)),
            garbage: LazyLock::new(|| Impostor::start(Some(b"hello\r\n"))),
            databases: AtomicU32::new(0),
        }
    }
}

impl Runner for ComponentRunner {
    fn name(&self) -> &'static str {
        "component"
    }

    fn start(&self, case: &Case) -> Result<Box<dyn Session + '_>, String> {
        let clock = Clock::new(AtomicU64::new(0));
        let (mut stores, mut stations) = (BTreeMap::new(), BTreeMap::new());
        for service in case.services() {
            let (stored, station) = self.store(case, &service, &clock);
            stores.insert(service.clone(), stored);
            stations.insert(service, station);
        }
        let hands = Arc::clone(&clock);
        let options =
            WorkerOptions { clock: Arc::new(move || moment(hands.load(Ordering::SeqCst))), ..WorkerOptions::default() };
        let options = options.with_redis(Transport(stations));
        let _inside = self.runtime.enter();
        let worker = Worker::start(&self.module, &case.config, options).map_err(|error| match error {
            StartError::Configure(error) => error.to_string(),
            other => panic!("{other}"),
        })?;
        Ok(Box::new(ComponentSession { runtime: &self.runtime, worker, clock, stores }))
    }
}

impl ComponentRunner {
    /// A Redis for a service of a case, and the ways to it.
    fn store(&self, case: &Case, service: &str, clock: &Clock) -> (Stored, Station) {
        let own_server = case.has_store(service, is_of_the_server).then(RedisServer::start);
        let server = own_server.as_ref().unwrap_or(&self.server);
        let database = if own_server.is_some() { 0 } else { self.databases.fetch_add(1, Ordering::Relaxed) };
        assert!(database < DATABASES, "more services of cases than databases");
        let mut connection = server.connection();
        redis::cmd("SELECT").arg(database).exec(&mut connection).expect("the server has this database");
        let places = Places {
            well: format!("{}/{database}", server.url()),
            silent: case.has_store(service, |store| *store == Store::Silent).then(|| self.silent.url()),
            hangs_up: self.hangs_up.url(),
            garbage: self.garbage.url(),
        };
        let shared = Arc::new(Shared::new(Arc::clone(clock)));
        let station = Station::new(&places, Arc::clone(&shared));
        (Stored { shared, connection, own_server }, station)
    }
}

/// Whether all who use the server would notice.
fn is_of_the_server(store: &Store) -> bool {
    matches!(store, Store::Forgetful | Store::ReadOnly | Store::Full | Store::NoAuth)
}

impl Session for ComponentSession<'_> {
    fn set_store(&mut self, service: &str, store: &Store) {
        self.stores.get_mut(service).expect("a service of the case").set(store);
    }

    fn say(&mut self, service: &str, command: &[Vec<u8>]) {
        self.stores.get_mut(service).expect("a service of the case").say(command);
    }

    fn request(&mut self, now_us: u64, request: &Request, answer: &Answer) -> Seen {
        self.clock.store(now_us, Ordering::SeqCst);
        let stream = self.worker.open(Arc::new(Shown(request.clone())));
        let exchange = Exchange { stream, clock: &self.clock };
        let seen = self.runtime.block_on(exchange.lead(request, answer)).unwrap_or_else(refused);
        assert_eq!(self.worker.traps(), 0, "the component trapped");
        seen
    }

    fn calls(&self, service: &str) -> usize {
        self.stores[service].shared.calls()
    }
}

impl Stored {
    fn set(&mut self, store: &Store) {
        self.mend();
        match store {
            // Nobody listens on port 1; a replica that never met its master serves what it has.
            Store::ReadOnly => self.say(&["REPLICAOF", "127.0.0.1", "1"]),
            Store::Full => self.say(&["CONFIG", "SET", "maxmemory", "1"]),
            Store::NoAuth => {
                self.say(&["CONFIG", "SET", "requirepass", "secret"]);
                // Whoever is in stays in, so all but this connection are sent out.
                self.say(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            // The script is known from the start, or is not, as the server has met it; here it is, to be forgotten.
            Store::Forgetful => self.say(&["SCRIPT", "LOAD", ADMIT]),
            _ => {}
        }
        self.shared.set(store);
    }

    fn say<Word: AsRef<[u8]>>(&mut self, command: &[Word]) {
        let command: Vec<&[u8]> = command.iter().map(AsRef::as_ref).collect();
        redis::Cmd::new().arg(command).exec(&mut self.connection).expect("the server does it");
    }

    /// The server is well again, and the keys that were made texts are gone.
    fn mend(&mut self) {
        if self.own_server.is_some() {
            self.say(&["REPLICAOF", "NO", "ONE"]);
            self.say(&["CONFIG", "SET", "maxmemory", "0"]);
            self.say(&["CONFIG", "SET", "requirepass", ""]);
        }
        for key in self.shared.take_texts() {
            redis::cmd("DEL").arg(key).exec(&mut self.connection).expect("the server does it");
        }
    }
}

/// A request and its response, as a gateway leads them through the filter.
struct Exchange<'a> {
    stream: slidegate::Stream,
    clock: &'a Clock,
}

impl Exchange<'_> {
    /// To its end. The error is an answer of the filter's own.
    async fn lead(self, request: &Request, answer: &Answer) -> Result<Seen, Response> {
        let told = match self.stream.on_request().await {
            Verdict::Pass(edits) if edits.is_empty() => request.headers.clone(),
            Verdict::Pass(edits) => {
                let mut told =
                    header_map(request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
                apply_edits(&edits, &mut told);
                listed(&told)
            }
            Verdict::Respond(response) => return Err(response),
        };
        // A body that is not there is shown too, to who holds it.
        let pieces = match request.body.is_empty() && self.stream.wants().request_body == Interest::Hold {
            true => vec![Vec::new()],
            false => request.body.clone(),
        };
        let pieces: Vec<_> = pieces.into_iter().map(AnswerPart::Bytes).collect();
        let sent = self.body(BodySide::Request, &pieces, true).await?;
        let mut headers = header_map(answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let head = ResponseHead { status: answer.status, origin: Origin::Upstream, end: answer.is_bodiless() };
        match self.stream.on_response_headers(head, &headers).await {
            Verdict::Pass(edits) => apply_edits(&edits, &mut headers),
            Verdict::Respond(response) => return Err(response),
        }
        let body = self.body(BodySide::Response, &answer.body, answer.cut.is_none()).await?;
        self.stream.ended(match answer.cut {
            None => Ending::Whole,
            Some(Cut::Client) => Ending::Client,
            Some(Cut::Upstream) => Ending::Upstream,
        });
        Ok(Seen::Pass { headers: listed(&headers), body, sent, told })
    }

    /// Shows a body. Returns what goes on of it.
    async fn body(&self, side: BodySide, parts: &[AnswerPart], is_whole: bool) -> Result<Vec<u8>, Response> {
        let mut gone = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let bytes = match part {
                AnswerPart::Pause(ms) => {
                    self.clock.fetch_add(ms * 1_000, Ordering::SeqCst);
                    continue;
                }
                AnswerPart::Bytes(bytes) => bytes.clone(),
            };
            let end = is_whole && index + 1 == parts.len();
            let mut step = self.stream.on_body(side, bytes.into(), Coding::Identity, end);
            if step == BodyStep::Wait && end {
                step = self.stream.released(side).await;
            }
            match step {
                BodyStep::Pass(released) => {
                    gone.extend(released.pieces.concat());
                    if released.end {
                        break;
                    }
                }
                BodyStep::Wait => {}
                BodyStep::Respond(response) => return Err(response),
                BodyStep::TooLarge | BodyStep::NoRoom => panic!("the filter keeps too much"),
            }
        }
        Ok(gone)
    }
}

fn refused(response: Response) -> Seen {
    let headers = header_map(response.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())));
    Seen::Refuse { status: response.status, body: response.body, headers: listed(&headers) }
}

fn header_map<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|_| panic!("{name} is no name of a header"));
        let value = HeaderValue::from_bytes(value)
            .unwrap_or_else(|_| panic!("{} is no value of a header", value.escape_ascii()));
        headers.append(name, value);
    }
    headers
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// A time of a case, in microseconds, on both clocks.
fn moment(us: u64) -> Moment {
    Moment { monotonic: us * 1_000, wall: us * 1_000 }
}

/// A request of a case, as the host library shows it to the component.
struct Shown(Request);

impl HostRequest for Shown {
    fn method(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.method.as_bytes())
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0.path)
    }

    fn authority(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0.host)
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.0.header(name)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.header_values(name)
    }

    fn headers(&self) -> Vec<Header> {
        self.0.headers.iter().map(|(name, value)| Header { name: name.clone(), value: value.clone() }).collect()
    }

    fn source_address(&self) -> Option<SocketAddr> {
        self.0.from
    }

    fn route_name(&self) -> &str {
        &self.0.route
    }

    fn service_name(&self) -> &str {
        &self.0.service
    }

    fn has_body(&self) -> bool {
        !self.0.body.is_empty()
    }
}
