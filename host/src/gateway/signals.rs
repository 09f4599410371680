//! What the operating system tells a server: SIGTERM or SIGINT to end, SIGHUP to reload.
//!
//! Signals are waited for in a thread of their own, which also ends the process when it was told to end and does not:
//! whatever hangs, the thread that serves or one that writes, this one does neither.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

/// What ending in order may take beyond the times of the settings.
const SLACK: Duration = Duration::from_secs(5);

/// What a process may take to end after all is done, or after it was told again.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// A signal, by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    End,
    Reload,
}

/// The signals of this process, from the moment this is made. Once this is dropped, the process has a few seconds to
/// end.
pub(crate) struct Signals {
    arriving: UnboundedReceiver<Signal>,
}

impl Signals {
    /// Waits for signals. `patience` is how long the process may take to end in order; it is asked when the process is
    /// told to.
    ///
    /// # Errors
    /// The operating system lacks something.
    pub(crate) fn start(patience: impl Fn() -> Duration + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            system::PlatformSignals::new()?
        };
        let (sender, arriving) = unbounded_channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(pass_on(signals, &sender, patience));
            end_now();
        })?;
        Ok(Self { arriving })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        match self.arriving.recv().await {
            Some(signal) => signal,
            // The thread ends only with the process.
            None => std::future::pending().await,
        }
    }

    /// Waits until the process is told to end.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}

/// Passes signals on until the process should have ended.
async fn pass_on(
    mut signals: system::PlatformSignals,
    receiver: &UnboundedSender<Signal>,
    patience: impl Fn() -> Duration,
) {
    let mut deadline: Option<Instant> = None;
    let mut is_done = false;
    loop {
        let until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            signal = signals.next() => {
                if signal == Signal::End {
                    let patience = if deadline.is_some() { LAST_STEPS } else { patience().saturating_add(SLACK) };
                    let sooner = Instant::now() + patience;
                    deadline = Some(deadline.map_or(sooner, |deadline| deadline.min(sooner)));
                }
                // Nobody listens any more when all is done.
                let _ = receiver.send(signal);
            }
            () = receiver.closed(), if !is_done => {
                is_done = true;
                let sooner = Instant::now() + LAST_STEPS;
                deadline = Some(deadline.map_or(sooner, |deadline| deadline.min(sooner)));
            }
            () = sleep_until(until), if deadline.is_some() => return,
        }
    }
}

/// Ends the process, by force if even ending hangs: its last step flushes standard output, which may be what hangs.
fn end_now() {
    // Without threads left there is nothing gentler than to abort.
    let watched = thread::Builder::new().spawn(|| {
        thread::sleep(Duration::from_secs(1));
        process::abort();
    });
    match watched {
        Ok(_) => process::exit(1),
        Err(_) => process::abort(),
    }
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{self, SignalKind, signal};

    use crate::gateway::signals::Signal;

    pub(super) struct PlatformSignals {
        terminate: unix::Signal,
        interrupt: unix::Signal,
        hang_up: unix::Signal,
    }

    impl PlatformSignals {
        /// To be called inside the runtime that is to wait.
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        }

        pub(super) async fn next(&mut self) -> Signal {
            tokio::select! {
                _ = self.terminate.recv() => Signal::End,
                _ = self.interrupt.recv() => Signal::End,
                _ = self.hang_up.recv() => Signal::Reload,
            }
        }
    }
}

/// Elsewhere there is only Ctrl-C.
#[cfg(not(unix))]
mod system {
    use std::io;

    use crate::gateway::signals::Signal;

    pub(super) struct PlatformSignals;

    impl PlatformSignals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Signal {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal::End
        }
    }
}
