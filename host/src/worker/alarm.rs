//! A time at which somebody is to look, which may be set earlier while he waits.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// The time that one task waits for.
#[derive(Default)]
pub(super) struct Alarm {
    at: Mutex<Option<Instant>>,
    was_set: Notify,
}

impl Alarm {
    /// Sets the time, whatever it was. None: never. For the one who waits, while he does not.
    pub(super) fn set(&self, at: Option<Instant>) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Sets the time, if it is earlier than it was.
    pub(super) fn set_earlier(&self, at: Instant) {
        let mut kept = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none_or(|kept| at < kept) {
            *kept = Some(at);
            drop(kept);
            self.was_set.notify_one();
        }
    }

    /// Waits until then. Only one task may.
    pub(super) async fn wait(&self) {
        loop {
            let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
            match at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.was_set.notified() => {}
                },
                None => self.was_set.notified().await,
            }
        }
    }
}
