//! Clients that ask at a steady pace whatever happens, and remember every answer: what became of it, and how long it
//! took.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::http_client::{Head, HttpClient};

/// A client that has seen so many mishaps gives up; the test has failed by then.
const MISHAPS_MAX: usize = 5;

/// Something to ask for.
#[derive(Debug, Clone)]
pub struct Question {
    /// For reports.
    pub name: String,
    /// The target.
    pub path: String,
    /// Headers beside `host`.
    pub headers: Vec<(&'static str, String)>,
}

/// What clients ask for, and how often.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// All there is to ask for.
    pub questions: Vec<Question>,
    /// Indexes of questions; each time one of them is chosen at random.
    turns: Vec<u32>,
}

/// One request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Index of the question.
    pub question: u32,
    /// When it began to be sent.
    pub sent: Instant,
    /// When the answer was complete.
    pub received: Instant,
    /// The status code.
    pub status: u16,
    /// Whether the failure mode decided, not Redis.
    pub is_degraded: bool,
}

/// All that clients met with.
#[derive(Debug, Default)]
pub struct Answers {
    /// In no order.
    pub all: Vec<Answered>,
    /// Requests without an answer, or a broken one.
    pub mishaps: Vec<String>,
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Answers>>,
}

/// One client, on a kept connection.
struct Client {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    pace: Duration,
    /// State of the generator that chooses.
    random: u64,
}

// === impl Traffic ===

impl Traffic {
    /// Adds a question that gets so many turns.
    pub fn ask(&mut self, turns: usize, question: Question) {
        let index = u32::try_from(self.questions.len()).expect("few questions");
        self.questions.push(question);
        self.turns.extend(std::iter::repeat_n(index, turns));
    }
}

// === impl Answered ===

impl Answered {
    /// How long it took.
    pub fn wait(&self) -> Duration {
        self.received - self.sent
    }

    /// Whether the request reached the upstream.
    pub fn is_admitted(&self) -> bool {
        self.status == 200
    }
}

// === impl Load ===

impl Load {
    /// Starts so many clients, spread over the gateways, each with a request every `pace` as long as answers come in
    /// time.
    pub fn start(gateways: &[SocketAddr], clients: usize, pace: Duration, traffic: &Arc<Traffic>) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |(index, address): (usize, &SocketAddr)| {
            let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64 + 1);
            let client = Client { address: *address, traffic: Arc::clone(traffic), pace, random };
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                // So that clients do not ask in step.
                thread::sleep(
                    pace * u32::try_from(index % clients).unwrap_or_default() / u32::try_from(clients).unwrap_or(1),
                );
                client.run(&stop, &answered)
            })
        };
        let clients = gateways.iter().cycle().take(clients).enumerate().map(start).collect();
        Load { stop, answered, clients }
    }

    /// How many requests have been answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Lets every client finish its request, and returns what all of them met with.
    ///
    /// # Panics
    ///
    /// When a client did.
    pub fn stop(self) -> Answers {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers = Answers::default();
        for client in self.clients {
            let own = client.join().expect("a client ends");
            answers.all.extend(own.all);
            answers.mishaps.extend(own.mishaps);
        }
        answers
    }
}

// === impl Client ===

impl Client {
    fn run(mut self, stop: &AtomicBool, answered: &AtomicU64) -> Answers {
        let mut answers = Answers::default();
        let mut connection = HttpClient::connect(self.address);
        let mut planned = Instant::now();
        while !stop.load(Ordering::SeqCst) && answers.mishaps.len() < MISHAPS_MAX {
            match self.ask(&mut connection) {
                Ok(answer) => {
                    answers.all.push(answer);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                Err(mishap) => {
                    answers.mishaps.push(mishap);
                    connection = HttpClient::connect(self.address);
                }
            }
            // Who had to wait does not make up for it.
            planned = (planned + self.pace).max(Instant::now());
            thread::sleep(planned - Instant::now().min(planned));
        }
        answers
    }

    fn ask(&mut self, connection: &mut HttpClient) -> Result<Answered, String> {
        let turn = usize::try_from(self.next_random()).unwrap_or_default() % self.traffic.turns.len();
        let index = self.traffic.turns[turn];
        let question = &self.traffic.questions[index as usize];
        let headers: Vec<_> = question.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let sent = Instant::now();
        let answer = connection
            .try_send("GET", &question.path, &headers, b"")
            .map_err(|error| format!("{}: {error}", question.name))?;
        let (status, is_degraded) = (answer.status(), is_degraded(&answer.head));
        Ok(Answered { question: index, sent, received: Instant::now(), status, is_degraded })
    }

    /// Xorshift: the same questions in every run.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }
}

/// Settings under which answers tell whether Redis decided: quota headers are asked for, so that an answer without is
/// degraded, and one of local windows carries the sign for it.
fn is_degraded(head: &Head) -> bool {
    head.header("x-slidegate-degraded").is_some() || head.header("x-ratelimit-limit").is_none()
}

/// The greatest number of these requests, as they were sent and answered, that surely fell into one interval of this
/// length, whenever between the two each was decided.
pub fn surely_within(window: Duration, requests: impl Iterator<Item = (Instant, Instant)>) -> usize {
    let (mut sent, mut received): (Vec<Instant>, Vec<Instant>) = requests.unzip();
    sent.sort_unstable();
    received.sort_unstable();
    let over = |start: Instant| received.partition_point(|received| *received <= start + window);
    // Of those answered by its end, all that were sent before it began are left out, decided inside or not.
    sent.iter().enumerate().map(|(before, start)| over(*start).saturating_sub(before)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_and_ended_inside_is_surely_within() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let requests = [(at(0), at(10)), (at(5), at(300)), (at(900), at(1_000)), (at(950), at(1_100))];
        assert_eq!(surely_within(Duration::from_secs(1), requests.into_iter()), 3);
        assert_eq!(surely_within(Duration::from_secs(2), requests.into_iter()), 4);
        assert_eq!(surely_within(Duration::from_millis(50), requests.into_iter()), 1);
        assert_eq!(surely_within(Duration::from_secs(1), [].into_iter()), 0);
    }
}
