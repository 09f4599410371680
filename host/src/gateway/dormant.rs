//! Futures beside others of the same task, which are not looked at for nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only when something woke it.
///
/// A task polls all that it waits for whenever one thing happens. What waits for the rare events of a connection costs
/// each step of its requests more than a look at a flag otherwise.
pub(crate) struct Dormant<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task, and says that it was for this future.
struct Bell {
    has_rung: AtomicBool,
    task: Mutex<Waker>,
}

impl<F: Future + Unpin> Dormant<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) });
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F> Dormant<F> {
    /// The future, to be changed: it is polled the next time.
    pub(crate) fn change(&mut self) -> &mut F {
        self.bell.has_rung.store(true, Ordering::Relaxed);
        &mut self.future
    }
}

impl<F: Future + Unpin> Future for Dormant<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = &mut *self;
        // Before the flag is read, so that whoever sets it afterwards wakes this task.
        bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(context.waker());
        if !bell.has_rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(future).poll(&mut Context::from_waker(waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_once_for_each_time_that_it_is_woken() {
        let (said, mut heard) = oneshot::channel();
        let mut polls = 0;
        let mut dormant = Dormant::new(poll_fn(|context| {
            polls += 1;
            Pin::new(&mut heard).poll(context)
        }));
        for _ in 0..5 {
            poll_fn(|context| {
                assert!(Pin::new(&mut dormant).poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        // From another task, while this one sleeps.
        let speaker = tokio::spawn(async move { said.send(7) });
        assert_eq!(dormant.await, Ok(7));
        assert_eq!(speaker.await.unwrap(), Ok(()));
        assert_eq!(polls, 2);
    }
}
