//! The Higress plugin in the tests' gateway for plugins, with a real Redis for each service whose clock is the case's.

mod interceptor;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use slidegate_engine::window::script::ADMIT;
use slidegate_higress_host::{Exchange, Gateway, Headers, Module, Plugin, Route, StreamId, Worker};

use self::interceptor::{Mishaps, Shared, Stored};
use super::{Runner, START_US, Session, impostor::Impostor};
use crate::{
    case::{Answer, AnswerPart, Case, Cut, Request, Seen, Store},
    plugins,
    redis_server::RedisServer,
};

/// A port that nobody listens on, since it takes a privilege to.
const DEAD_PORT: u16 = 1;

/// Runs cases on the module that `just higress` builds.
pub struct ShimRunner {
    module: LazyLock<Module>,
    /// Servers that no case uses now, and that hold nothing.
    idle: Mutex<Vec<RedisServer>>,
    /// A server that was stopped in its tracks.
    silent: LazyLock<RedisServer>,
    hangs_up: LazyLock<Impostor>,
    garbage: LazyLock<Impostor>,
}

struct ShimSession<'a> {
    runner: &'a ShimRunner,
    gateway: Gateway,
    worker: Worker,
    shared: Rc<RefCell<Shared>>,
    /// By service; none once the session is over.
    servers: BTreeMap<String, RedisServer>,
}

impl Default for ShimRunner {
    fn default() -> Self {
        ShimRunner {
            module: LazyLock::new(plugins::slidegate),
            idle: Mutex::default(),
            silent: LazyLock::new(|| {
                let server = RedisServer::start();
                server.pause();
                server
            }),
            hangs_up: LazyLock::new(|| Impostor::start(None)),
            garbage: LazyLock::new(|| Impostor::start(Some(b"hello\r\n"))),
        }
    }
}

impl Runner for ShimRunner {
    fn name(&self) -> &'static str {
        "shim"
    }

    fn start(&self, case: &Case) -> Result<Box<dyn Session + '_>, String> {
        let (mut servers, mut shared) = (BTreeMap::new(), Shared::default());
        let mut gateway =
            Gateway::new().at_ns(START_US * 1_000).plugin(Plugin::new("slidegate", &self.module, &case.config));
        for service in case.services() {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let server = idle.unwrap_or_else(RedisServer::start);
            gateway = gateway.redis(&cluster(&service), &[at(server.port())]);
            shared.stores.insert(service.clone(), Stored::new(server.connection()));
            servers.insert(service, server);
        }
        let gateway = gateway.start().map_err(|error| error.to_string())?;
        let mut worker = gateway.worker().map_err(|error| error.to_string())?;
        let shared = Rc::new(RefCell::new(shared));
        worker.intercept(Mishaps(Rc::clone(&shared)));
        Ok(Box::new(ShimSession { runner: self, gateway, worker, shared, servers }))
    }
}

/// Any cluster of a service, whatever its port.
fn cluster(service: &str) -> String {
    format!("*||{service}")
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Session for ShimSession<'_> {
    fn set_store(&mut self, service: &str, store: &Store) {
        let was_barred = self.shared.borrow_mut().stored(service).store == Store::NoAuth;
        self.shared.borrow_mut().stored(service).mend();
        if was_barred {
            // Redis closes the connections of strangers who say much, and what is sent on one meanwhile is lost.
            self.close_connections();
        }
        let well = self.servers[service].port();
        let port = match store {
            Store::Down => DEAD_PORT,
            Store::Silent => self.runner.silent.port(),
            Store::HangsUp => self.runner.hangs_up.port(),
            Store::Garbage => self.runner.garbage.port(),
            _ => well,
        };
        self.gateway.set_redis(&cluster(service), &[at(port)]);
        let say = |command: &[&str]| self.shared.borrow_mut().stored(service).say(command);
        match store {
            // Nobody listens on port 1; a replica that never met its master serves what it has.
            Store::ReadOnly => say(&["REPLICAOF", "127.0.0.1", "1"]),
            Store::Full => say(&["CONFIG", "SET", "maxmemory", "1"]),
            Store::NoAuth => {
                say(&["CONFIG", "SET", "requirepass", "secret"]);
                // Whoever is in stays in.
                self.close_connections();
            }
            // The script is known from the start, or is not, as the server has met it; here it is, to be forgotten.
            Store::Forgetful => say(&["SCRIPT", "LOAD", ADMIT]),
            _ => {}
        }
        self.shared.borrow_mut().stored(service).store = store.clone();
    }

    fn say(&mut self, service: &str, command: &[Vec<u8>]) {
        self.shared.borrow_mut().stored(service).say(command);
    }

    fn request(&mut self, now_us: u64, request: &Request, answer: &Answer) -> Seen {
        self.set_clock(now_us);
        let shown = shown(request);
        let stream = self.worker.send(&shown);
        if self.worker.wait_for_upstream(stream) {
            self.answer(stream, answer, now_us);
        }
        let exchange = self.worker.end_exchange(stream);
        // What a server has not heard of yet the next request would wait for, while no time passes. A silent one says
        // nothing of it.
        self.worker.wait(Duration::from_millis(100), |worker| worker.pending() == 0);
        self.shared.borrow_mut().stores.values_mut().for_each(Stored::keep_keys);
        assert_eq!(self.worker.failure(0), None, "the plugin trapped");
        let is_cut = answer.cut.is_some() && exchange.upstream.is_some();
        assert_eq!(exchange.reset, is_cut, "the request was left without an end");
        assert!(exchange.misuse.is_empty(), "{:?}", exchange.misuse);
        assert_eq!(exchange.route_selections, 1, "the gateway was made to choose the route anew");
        seen(&shown, answer, exchange)
    }

    fn calls(&self, service: &str) -> usize {
        self.shared.borrow().stores[service].calls
    }
}

impl ShimSession<'_> {
    fn set_clock(&mut self, now_us: u64) {
        self.shared.borrow_mut().now_us = now_us;
        self.worker.set_clock_ns(now_us * 1_000);
    }

    /// The upstream's response arrives, as far as it comes.
    fn answer(&mut self, stream: StreamId, answer: &Answer, mut now_us: u64) {
        let mut headers: Headers = [(":status", answer.status.to_string())].into_iter().collect();
        answer.headers.iter().for_each(|(name, value)| headers.add(name, value));
        self.worker.response_headers(stream, &headers, answer.is_bodiless());
        for (index, part) in answer.body.iter().enumerate() {
            match part {
                AnswerPart::Bytes(bytes) => {
                    let end = answer.cut.is_none() && index + 1 == answer.body.len();
                    self.worker.response_body(stream, bytes, end);
                }
                AnswerPart::Pause(ms) => {
                    now_us += ms * 1_000;
                    self.set_clock(now_us);
                    self.worker.pump();
                }
            }
        }
        match answer.cut {
            None => {}
            Some(Cut::Client) => self.worker.abort(stream),
            Some(Cut::Upstream) => self.worker.break_off(stream),
        }
    }

    /// All servers close their connections but those for disturbing them.
    fn close_connections(&mut self) {
        self.shared
            .borrow_mut()
            .stores
            .values_mut()
            .for_each(|stored| stored.say(&["CLIENT", "KILL", "TYPE", "normal"]));
        let noticed = self.worker.wait(Duration::from_secs(10), |worker| worker.connections() == 0);
        assert!(noticed, "the gateway keeps a connection that the server has closed");
    }
}

impl Drop for ShimSession<'_> {
    /// The servers are for the next cases.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for stored in self.shared.borrow_mut().stores.values_mut() {
            stored.mend();
            stored.say(&["FLUSHALL"]);
        }
        self.runner
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(std::mem::take(&mut self.servers).into_values());
    }
}

/// A request of a case, as a gateway shows it to plugins.
fn shown(request: &Request) -> slidegate_higress_host::Request {
    let mut headers = Headers::default();
    headers.add(":method", &request.method);
    headers.add(":path", &request.path);
    headers.add(":scheme", "http");
    if !request.host.is_empty() {
        headers.add(":authority", &request.host);
    }
    request.headers.iter().for_each(|(name, value)| headers.add(name, value));
    let route = Route { name: request.route.clone(), cluster: request.service.clone() };
    slidegate_higress_host::Request { headers, body: request.body.clone(), trailers: None, source: request.from, route }
}

fn seen(request: &slidegate_higress_host::Request, answer: &Answer, exchange: Exchange) -> Seen {
    let status = exchange.status();
    let client = exchange.client.expect("a stream that was not reset before has a response");
    let fields = client.headers.iter().filter(|(name, _)| *name != b":status");
    let headers = fields.map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    // The upstream's response, changed into the answer of a cache.
    let bytes = |part: &AnswerPart| match part {
        AnswerPart::Bytes(bytes) => bytes.clone(),
        AnswerPart::Pause(_) => Vec::new(),
    };
    let upstreams: Vec<u8> = answer.body.iter().flat_map(bytes).collect();
    let is_replaced = client.headers.get("cache-status").is_some() && client.body != upstreams;
    match exchange.upstream {
        Some(_) if exchange.local_body.is_none() && is_replaced => Seen::Refuse {
            status,
            body: client.body,
            headers: headers.filter(|(name, value)| !is_gateways(name, value)).collect(),
        },
        Some(upstream) if exchange.local_body.is_none() => {
            let pseudo = |headers: &Headers| -> Vec<_> {
                let fields = headers.iter().filter(|(name, _)| name.starts_with(b":"));
                fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
            };
            assert_eq!(pseudo(&upstream.headers), pseudo(&request.headers), "the request was changed");
            assert_eq!(status, answer.status);
            let told = upstream.headers.iter().filter(|(name, _)| !name.starts_with(b":"));
            let told = told.map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect();
            Seen::Pass { headers: headers.collect(), body: client.body, sent: upstream.body, told }
        }
        _ => {
            let body = exchange.local_body.expect("a request that did not get upstream was answered");
            assert!(
                client.body == body || request.headers.get(":method") == Some(b"HEAD"),
                "the answer's body was changed"
            );
            // What a gateway adds to every answer with a body is none of the filter's.
            Seen::Refuse { status, body, headers: headers.filter(|(name, value)| !is_gateways(name, value)).collect() }
        }
    }
}

fn is_gateways(name: &str, value: &[u8]) -> bool {
    name == "content-length" || (name == "content-type" && value == b"text/plain")
}
