//! SIGTERM while clients ask.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    upstream::Upstream,
};

use crate::{Attack, report::Figures, scene::Effort};

pub(crate) const ALL: &[Attack] = &[("sigterm_with_a_lame_duck", with_lame_duck), ("sigterm_without_one", without)];

const CLIENTS: usize = 100;

fn with_lame_duck(_: Effort) -> Figures {
    terminated("SIGTERM under 100 kept connections, `lame_duck: 1s`", "timeouts: {lame_duck: 1s}\n")
}

fn without(_: Effort) -> Figures {
    terminated("SIGTERM under 100 kept connections", "")
}

fn terminated(attack: &str, settings: &str) -> Figures {
    let upstream = Upstream::start();
    let mut gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{settings}", upstream.url()));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, answered) = (gateway.client(), Arc::clone(&answered));
            thread::spawn(move || ask_until_told(client, &answered))
        })
        .collect();
    wait_until("all are served", || answered.load(Ordering::Relaxed) >= 3 * CLIENTS);
    gateway.terminate();
    let ended: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client ends")).collect();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let figures = Figures {
        attack: attack.to_owned(),
        by: "raw client",
        asked: answered.load(Ordering::Relaxed),
        lost: ended.iter().filter(|ended| ended.is_err()).count(),
        worst_wait: ended.iter().filter_map(|ended| ended.as_ref().ok()).max().copied().unwrap_or_default(),
        memory: None,
    };
    assert_eq!(figures.lost, 0, "{figures:?}");
    figures
}

/// Asks on one kept connection until it is told that it gets no more answers there. Returns the longest wait.
fn ask_until_told(mut client: HttpClient, answered: &AtomicUsize) -> io::Result<Duration> {
    let mut worst = Duration::ZERO;
    loop {
        let start = Instant::now();
        let answer = client.try_send("GET", "/", &[], b"")?;
        worst = worst.max(start.elapsed());
        answered.fetch_add(1, Ordering::Relaxed);
        if answer.status() != 200 {
            return Err(io::Error::other(format!("status {}", answer.status())));
        }
        if answer.head.text("connection").is_some_and(|value| value == "close") {
            return Ok(worst);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
