//! Those who ask: most at a steady pace, some who read slowly, some who leave in the middle of an answer or before it
//! comes.

use std::{
    array,
    fmt::{self, Display},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use slidegate_tests::{gateway_process::Gateway, http_client::HttpClient};

use crate::settings::EACH_KEYS;

const STEADY_CLIENTS: usize = 24;
const STEADY_PACE: Duration = Duration::from_millis(20);
const SLOW_CLIENTS: usize = 6;
const SLOW_PACE: Duration = Duration::from_millis(100);
const GONE_CLIENTS: usize = 2;
const GONE_PACE: Duration = Duration::from_millis(25);

/// Those who leave do so after up to seven times as long.
const GONE_AFTER: Duration = Duration::from_micros(200);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hot,
    Several,
    Wide,
    Each,
    /// Keys that nobody asked for before, each twice.
    New,
    /// Answers that take a while; some are left in the middle.
    Slow,
    /// Left before the answer comes.
    Gone,
}

pub(crate) const KINDS: [Kind; 7] =
    [Kind::Hot, Kind::Several, Kind::Wide, Kind::Each, Kind::New, Kind::Slow, Kind::Gone];

/// What steady clients ask for, in turns.
const STEADY: [Kind; 8] =
    [Kind::Hot, Kind::New, Kind::Several, Kind::New, Kind::Wide, Kind::New, Kind::Each, Kind::New];

/// What came back for one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    /// Answered 503: Redis could not be asked.
    pub(crate) unavailable: u64,
}

/// What came back for all.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    counts: [Counts; KINDS.len()],
    worst_wait: Duration,
    odd: Vec<String>,
}

/// All clients.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Answers>>,
}

/// One client.
struct Client {
    address: SocketAddr,
    index: u64,
    turn: u64,
    connection: HttpClient,
    answers: Answers,
}

// === impl Crowd ===

impl Crowd {
    pub(crate) fn start(gateways: &[Gateway]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let steady = STEADY_CLIENTS + SLOW_CLIENTS;
        let clients = gateways.iter().cycle().take(steady + GONE_CLIENTS).enumerate().map(|(index, gateway)| {
            let address = gateway.listen();
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let (kinds, pace): (&[Kind], _) = match index {
                    index if index < STEADY_CLIENTS => (&STEADY, STEADY_PACE),
                    index if index < steady => (&[Kind::Slow], SLOW_PACE),
                    _ => (&[Kind::Gone], GONE_PACE),
                };
                Client::new(address, index).run(kinds, pace, &stop, &answered)
            })
        });
        Crowd { clients: clients.collect(), stop, answered }
    }

    /// How many requests were made.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    pub(crate) fn stop(self) -> Answers {
        self.stop.store(true, Ordering::SeqCst);
        self.clients
            .into_iter()
            .map(|client| client.join().expect("a client ends"))
            .fold(Answers::default(), Answers::and)
    }
}

// === impl Client ===

impl Client {
    fn new(address: SocketAddr, index: usize) -> Self {
        let connection = HttpClient::connect(address);
        Client { address, index: index as u64, turn: 0, connection, answers: Answers::default() }
    }

    fn run(mut self, kinds: &[Kind], pace: Duration, stop: &AtomicBool, answered: &AtomicU64) -> Answers {
        while !stop.load(Ordering::SeqCst) && self.answers.odd.is_empty() {
            let began = Instant::now();
            let kind = kinds[self.turn as usize % kinds.len()];
            if let Err(error) = self.ask(kind) {
                self.answers.odd.push(format!("{kind:?}: {error}"));
            }
            answered.fetch_add(1, Ordering::Relaxed);
            self.turn += 1;
            thread::sleep(pace.saturating_sub(began.elapsed()));
        }
        self.answers
    }

    fn ask(&mut self, kind: Kind) -> std::io::Result<()> {
        let (index, turn) = (self.index, self.turn);
        let load = |value: &str| ("/", "x-load", value.to_owned());
        let (path, name, value) = match kind {
            Kind::Hot => load("hot"),
            Kind::Several => load("several"),
            Kind::Wide => load("wide"),
            Kind::Each => ("/", "x-key", format!("each-{}", (index * 7 + turn) % EACH_KEYS)),
            Kind::New => ("/status/200", "x-new", format!("{index}-{}", turn / 4)),
            Kind::Slow => ("/trickle/20", "x-load", String::new()),
            Kind::Gone => ("/chunked/100000", "x-load", String::new()),
        };
        self.answers.counts[kind as usize].sent += 1;
        match kind {
            Kind::Gone => self.leave_at_once(path),
            Kind::Slow if turn.is_multiple_of(3) => self.leave_in_the_middle(path),
            _ => {
                let sent = Instant::now();
                let status = self.connection.try_send("GET", path, &[(name, &value)], b"")?.status();
                if kind != Kind::Slow {
                    self.answers.worst_wait = self.answers.worst_wait.max(sent.elapsed());
                }
                self.answers.count(kind, status);
                Ok(())
            }
        }
    }

    /// The answer has begun, so it is known what it is.
    fn leave_in_the_middle(&mut self, path: &str) -> std::io::Result<()> {
        let mut connection = HttpClient::connect(self.address);
        connection.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())?;
        self.answers.count(Kind::Slow, connection.read_head()?.status);
        Ok(())
    }

    /// Nobody will know what became of it: it may be charged, and passed on, or not.
    fn leave_at_once(&self, path: &str) -> std::io::Result<()> {
        let mut connection = HttpClient::connect(self.address);
        connection.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())?;
        thread::sleep(GONE_AFTER * (self.turn % 8) as u32);
        Ok(())
    }
}

// === impl Answers ===

impl Answers {
    /// Of one kind.
    pub(crate) fn of(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }

    fn count(&mut self, kind: Kind, status: u16) {
        let counts = &mut self.counts[kind as usize];
        match status {
            200 => counts.admitted += 1,
            429 => counts.refused += 1,
            503 => counts.unavailable += 1,
            other => self.odd.push(format!("{kind:?}: {other}")),
        }
    }

    fn and(self, other: Answers) -> Answers {
        let counts = array::from_fn(|kind| {
            let (one, two) = (self.counts[kind], other.counts[kind]);
            Counts {
                sent: one.sent + two.sent,
                admitted: one.admitted + two.admitted,
                refused: one.refused + two.refused,
                unavailable: one.unavailable + two.unavailable,
            }
        });
        let odd = self.odd.into_iter().chain(other.odd).collect();
        Answers { counts, worst_wait: self.worst_wait.max(other.worst_wait), odd }
    }

    /// Nothing odd came back, and of everything something.
    pub(crate) fn check(&self, restarts: bool) {
        assert!(self.odd.is_empty(), "{:?}", self.odd);
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Gone) {
            let Counts { admitted, unavailable, .. } = self.of(kind);
            assert!(admitted > 0, "{kind:?}: nothing was admitted");
            assert!(restarts || unavailable == 0, "{kind:?}: {unavailable} answered 503 while Redis was well");
        }
        for kind in [Kind::Hot, Kind::Several, Kind::Each, Kind::New] {
            assert!(self.of(kind).refused > 0, "{kind:?}: nothing was refused");
        }
    }
}

impl Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in KINDS {
            let Counts { sent, admitted, refused, unavailable } = self.of(kind);
            writeln!(
                f,
                "{:>8}: {sent} sent, {admitted} admitted, {refused} refused, {unavailable} unavailable",
                format!("{kind:?}")
            )?;
        }
        write!(f, "worst wait of an answer that is not slow: {} ms", self.worst_wait.as_millis())
    }
}
