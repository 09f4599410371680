//! A gateway under attack, and somebody who asks it meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use slidegate_tests::{footprint::Footprint, gateway_process::Gateway, http_client::HttpClient, upstream::Upstream};

use crate::report::Figures;

/// How long attacks last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Short,
    Whole,
}

/// What a gateway may use under attack, in bytes.
pub(crate) const PEAK_MAX: u64 = 150 << 20;

/// Whoever is not the attacker comes from elsewhere: what one address may take is bounded.
const OTHER_ADDRESS: &str = "127.0.0.2";

/// How long it may take to give back what it took.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(10);

impl Effort {
    /// How long an attack is kept up.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Effort::Short => Duration::from_secs(2),
            Effort::Whole => Duration::from_secs(15),
        }
    }
}

/// Somebody who asks for `/` on a connection of its own, again and again.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize, Duration)>,
}

impl Bystander {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut asked, mut lost, mut worst) = (0, 0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answer = HttpClient::connect_from(OTHER_ADDRESS, address).try_send("GET", "/", &[], b"");
                worst = worst.max(start.elapsed());
                asked += 1;
                lost += usize::from(!answer.is_ok_and(|answer| answer.status() == 200));
                thread::sleep(Duration::from_millis(20));
            }
            (asked, lost, worst)
        });
        Bystander { stop, thread }
    }

    /// How many requests, how many lost, and the longest wait.
    pub(crate) fn stop(self) -> (usize, usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a bystander ends")
    }
}

/// What is attacked.
pub(crate) struct Gate<'a> {
    /// Of its file, beside the upstream.
    pub(crate) settings: &'a str,
    /// Bytes that it keeps by design: a guest's memory grows to what it needed once.
    pub(crate) may_keep: u64,
}

impl<'a> From<&'a str> for Gate<'a> {
    fn from(settings: &'a str) -> Self {
        Gate { settings, may_keep: 0 }
    }
}

/// A gateway with these settings beside `upstream`, while `flood` makes clients and for as long as they last; and what
/// became of it.
pub(crate) fn under_attack<'a, C>(
    attack: &str,
    by: &'static str,
    gate: impl Into<Gate<'a>>,
    lasts: Duration,
    flood: impl FnOnce(&Gateway) -> C,
) -> Figures {
    let (upstream, Gate { settings, may_keep }) = (Upstream::start(), gate.into());
    let gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{settings}", upstream.url()));
    for _ in 0..20 {
        assert_eq!(gateway.get("/", &[]).0, 200);
    }
    let before = Footprint::of(&gateway).resident_bytes;
    let bystander = Bystander::start(gateway.listen());
    let clients = flood(&gateway);
    thread::sleep(lasts);
    let (asked, lost, worst_wait) = bystander.stop();
    let peak = gateway.peak_memory_bytes();
    drop(clients);
    let most_after = before + before / 5 + may_keep;
    let after = given_back(&gateway, most_after);
    let figures =
        Figures { attack: attack.to_owned(), by, asked, lost, worst_wait, memory: Some([before, peak, after]) };
    assert!(asked > 0 && lost == 0, "{figures:?}");
    assert!(peak < PEAK_MAX && after <= most_after, "{figures:?}");
    assert!(!gateway.log().contains("panic"), "{}", gateway.log());
    figures
}

/// What it holds once it has had time to give back what an attack took, so that no more than this is left.
fn given_back(gateway: &Gateway, most: u64) -> u64 {
    let deadline = Instant::now() + GIVEN_BACK_AFTER;
    loop {
        let now = Footprint::of(gateway).resident_bytes;
        if now <= most || Instant::now() > deadline {
            return now;
        }
        thread::sleep(Duration::from_millis(200));
    }
}
