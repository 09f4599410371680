//! Liveness and readiness, as `/healthz` and `/readyz` tell them: whether every lane still works, and whether requests
//! are wanted here.

use std::fmt::Write;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::gateway::shutdown::Shutdown;

/// How long a lane may take to answer. A turn of a lane takes far less; who probes usually waits a second.
const HEARTBEAT_TIME: Duration = Duration::from_millis(900);

/// Whether the process is well, and whether it takes requests.
pub(crate) struct Health {
    lanes: Vec<Pulse>,
    ending: Shutdown,
}

/// An answer to a probe: whether it is a good one, and why, in lines of text.
pub(crate) struct ProbeReport {
    pub(crate) is_good: bool,
    pub(crate) text: String,
}

impl Health {
    pub(crate) fn new(lanes: &[Handle], ending: Shutdown) -> Self {
        Self { lanes: lanes.iter().map(|runtime| Pulse::new(runtime.clone())).collect(), ending }
    }

    /// Alive: every lane takes up work within a bound. Names those that do not.
    pub(crate) async fn alive(&self) -> ProbeReport {
        if self.ending.drain.is_cancelled() {
            return ProbeReport { is_good: false, text: "draining\n".to_owned() };
        }
        let deadline = Instant::now() + HEARTBEAT_TIME;
        // All are asked before the first is waited for, so that several that hang take no longer than one.
        let asked: Vec<u64> = self.lanes.iter().map(Pulse::ask).collect();
        let mut text = String::new();
        for ((index, lane), asked) in self.lanes.iter().enumerate().zip(asked) {
            if !lane.answers(asked, deadline).await {
                // Writing to a string does not fail.
                let _ = writeln!(text, "worker-{index} does not answer within {} ms", HEARTBEAT_TIME.as_millis());
            }
        }
        match text.is_empty() {
            true => ProbeReport { is_good: true, text: "ok\n".to_owned() },
            false => ProbeReport { is_good: false, text },
        }
    }

    /// Ready: new requests are wanted.
    pub(crate) fn ready(&self) -> ProbeReport {
        let text = match (self.ending.drain.is_cancelled(), self.ending.lame_duck.is_cancelled()) {
            (true, _) => "draining\n",
            (false, true) => "lame duck: still serving, but not for long\n",
            (false, false) => "serving\n",
        };
        ProbeReport { is_good: !self.ending.is_near(), text: text.to_owned() }
    }
}

/// The heartbeat of one lane: asked for by number, and answered by a task that the lane runs. At most one is on its
/// way, so that a lane that hangs does not collect them.
struct Pulse {
    runtime: Handle,
    /// The number asked for last.
    asked: watch::Sender<u64>,
    /// The number answered last.
    answered: watch::Sender<u64>,
}

impl Pulse {
    fn new(runtime: Handle) -> Self {
        Self { runtime, asked: watch::Sender::new(0), answered: watch::Sender::new(0) }
    }

    /// Asks for a beat, or for the one that is still on its way. Returns its number.
    fn ask(&self) -> u64 {
        let last = *self.asked.borrow();
        if *self.answered.borrow() < last {
            return last;
        }
        let next = last + 1;
        self.asked.send_replace(next);
        let answered = self.answered.clone();
        self.runtime.spawn(async move { answered.send_replace(next) });
        next
    }

    /// Whether the beat of this number comes before the deadline.
    async fn answers(&self, number: u64, deadline: Instant) -> bool {
        let mut answered = self.answered.subscribe();
        tokio::time::timeout_at(deadline, answered.wait_for(|answered| *answered >= number))
            .await
            .is_ok_and(|answer| answer.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    use tokio::runtime::Builder;

    #[tokio::test]
    async fn a_lane_that_hangs_is_named_until_it_goes_on() {
        let lanes: Vec<_> = (0..3).map(|_| Builder::new_current_thread().build().unwrap()).collect();
        let handles: Vec<Handle> = lanes.iter().map(|lane| lane.handle().clone()).collect();
        let threads: Vec<_> =
            lanes.into_iter().map(|lane| thread::spawn(move || lane.block_on(std::future::pending::<()>()))).collect();
        let ending = Shutdown::default();
        let health = Health::new(&handles, ending.clone());
        assert!(health.alive().await.is_good);

        let (go_on, hangs) = channel::<()>();
        handles[1].spawn(async move {
            let _ = hangs.recv();
        });
        for _ in 0..2 {
            let report = health.alive().await;
            assert!(
                !report.is_good
                    && report.text.starts_with("worker-1 does not answer")
                    && report.text.lines().count() == 1,
                "{}",
                report.text
            );
        }
        assert!(health.ready().is_good, "what is ready is another question");
        drop(go_on);
        assert!(health.alive().await.is_good);

        ending.lame_duck.cancel();
        assert_eq!((health.ready().is_good, health.alive().await.is_good), (false, true));
        ending.drain.cancel();
        assert_eq!((health.ready().is_good, health.alive().await.text.as_str()), (false, "draining\n"));
        drop(threads);
    }
}
