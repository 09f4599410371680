//! The Redis calls of a worker that have no reply yet. One task awaits them all and takes whatever has come together,
//! so that a burst of replies costs one turn of one task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

use crate::bindings::slidegate::filter::redis::{CallReply, Reply, Value};
use crate::bindings::slidegate::filter::types::CallId;
use crate::redis::{REPLY_BYTES_MAX, ReplyFuture};

/// Places that are kept when nothing is awaited.
const PLACES_KEPT: usize = 256;

/// Most replies that are brought to the instance in one turn.
const DELIVERED_MAX: usize = 128;

/// A call that an instance made.
pub(super) struct SentCall {
    pub(super) generation: u64,
    pub(super) call: CallId,
    pub(super) reply: ReplyFuture,
}

/// The reply to a call, or why there is none.
pub(super) struct Replied {
    pub(super) generation: u64,
    pub(super) reply: CallReply,
}

/// How many of these, from the first on, are brought to the instance together: it has them all in its memory then.
pub(super) fn deliverable(replies: &[Replied]) -> usize {
    let mut bytes = 0;
    let fits = |replied: &&Replied| {
        bytes += replied.reply.reply.as_ref().map_or(0, bytes_of);
        bytes <= REPLY_BYTES_MAX
    };
    replies.iter().take(DELIVERED_MAX).take_while(fits).count().max(1)
}

fn bytes_of(reply: &Reply) -> usize {
    let of_value = |value: &Value| match value {
        Value::Nil | Value::Integer(_) => 0,
        Value::Bulk(bytes) => bytes.len(),
        Value::Status(text) => text.len(),
    };
    match reply {
        Reply::Single(value) => of_value(value),
        Reply::Many(values) => values.iter().map(|value| size_of::<Value>() + of_value(value)).sum(),
        Reply::Error(text) => text.len(),
    }
}

/// Where calls are handed over to be awaited.
#[derive(Clone, Default)]
pub(super) struct Replies {
    inbox: Arc<Mutex<Inbox>>,
    /// Told when nothing is awaited any more.
    idle: Arc<Notify>,
}

#[derive(Default)]
struct Inbox {
    made: Vec<SentCall>,
    /// Calls whose replies were not delivered yet.
    awaited: usize,
    /// Places in the collector's list that may have something.
    woken: Vec<usize>,
    /// Set while the collector sleeps.
    collector: Option<Waker>,
    is_closed: bool,
}

/// Awaits calls in the order in which they are answered.
pub(super) struct Collector {
    inbox: Arc<Mutex<Inbox>>,
    places: Vec<ReplySlot>,
    free: Vec<usize>,
    /// Kept for their memory.
    made: Vec<SentCall>,
    woken: Vec<usize>,
}

struct ReplySlot {
    waker: Waker,
    awaited: Option<SentCall>,
}

/// Wakes the collector for one of its places.
struct PlaceWaker {
    inbox: Arc<Mutex<Inbox>>,
    place: usize,
}

impl Replies {
    /// Hands over calls.
    pub(super) fn await_all(&self, calls: impl Iterator<Item = SentCall>) {
        let mut collector = None;
        // Each call is made before the lock is taken: making it takes a connection's lock, under which that may wake
        // us.
        for made in calls {
            let mut inbox = lock(&self.inbox);
            inbox.made.push(made);
            inbox.awaited += 1;
            collector = collector.or(inbox.collector.take());
        }
        if let Some(collector) = collector {
            collector.wake();
        }
    }

    /// So many replies were delivered, and what the instance asked for then is awaited already.
    pub(super) fn delivered(&self, replies: usize) {
        let mut inbox = lock(&self.inbox);
        inbox.awaited = inbox.awaited.saturating_sub(replies);
        if inbox.awaited == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Whether nothing is awaited.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.inbox).awaited == 0
    }

    /// Waits until nothing is awaited any more.
    pub(super) async fn idle(self) {
        loop {
            let told = self.idle.notified();
            if self.is_idle() {
                return;
            }
            told.await;
        }
    }

    /// Ends the collector.
    pub(super) fn close(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.is_closed = true;
        let (made, collector) = (std::mem::take(&mut inbox.made), inbox.collector.take());
        inbox.awaited = 0;
        drop(inbox);
        self.idle.notify_waiters();
        drop(made);
        if let Some(collector) = collector {
            collector.wake();
        }
    }

    /// The one that awaits what is handed over here; there is to be one.
    pub(super) fn collector(&self) -> Collector {
        Collector {
            inbox: Arc::clone(&self.inbox),
            places: Vec::new(),
            free: Vec::new(),
            made: Vec::new(),
            woken: Vec::new(),
        }
    }
}

impl Collector {
    /// Waits for replies, and adds those that have come. False when there will be none any more.
    pub(super) async fn collect(&mut self, replies: &mut Vec<Replied>) -> bool {
        std::future::poll_fn(|context| self.poll_collect(replies, context)).await
    }

    fn poll_collect(&mut self, replies: &mut Vec<Replied>, context: &mut Context<'_>) -> Poll<bool> {
        let mut inbox = lock(&self.inbox);
        if inbox.is_closed {
            return Poll::Ready(false);
        }
        std::mem::swap(&mut inbox.made, &mut self.made);
        std::mem::swap(&mut inbox.woken, &mut self.woken);
        // Before anything is polled, so that whatever wakes meanwhile wakes this task.
        inbox.collector = Some(context.waker().clone());
        drop(inbox);
        let mut made = std::mem::take(&mut self.made);
        for made in made.drain(..) {
            let place = self.place();
            self.poll_place(place, made, replies);
        }
        self.made = made;
        let mut woken = std::mem::take(&mut self.woken);
        for place in woken.drain(..) {
            // Woken twice, or after its reply: then there is nothing, or another call, which says that it is not ready.
            if let Some(made) = self.places.get_mut(place).and_then(|place| place.awaited.take()) {
                self.poll_place(place, made, replies);
            }
        }
        self.woken = woken;
        self.shrink();
        if replies.is_empty() { Poll::Pending } else { Poll::Ready(true) }
    }

    fn poll_place(&mut self, place: usize, mut made: SentCall, replies: &mut Vec<Replied>) {
        let Some(ReplySlot { waker, awaited }) = self.places.get_mut(place) else { return };
        match Pin::new(&mut made.reply).poll(&mut Context::from_waker(waker)) {
            Poll::Ready(reply) => {
                let reply = CallReply { call: made.call, reply };
                replies.push(Replied { generation: made.generation, reply });
                self.free.push(place);
            }
            Poll::Pending => *awaited = Some(made),
        }
    }

    /// After a burst, once nothing is awaited, gives its memory back.
    fn shrink(&mut self) {
        if self.places.len() > PLACES_KEPT && self.free.len() == self.places.len() {
            self.places.truncate(PLACES_KEPT);
            self.places.shrink_to_fit();
            self.free = (0..PLACES_KEPT).collect();
            self.made.shrink_to(PLACES_KEPT);
            self.woken.shrink_to(PLACES_KEPT);
        }
    }

    /// A place where nothing is awaited. Whoever was woken late for one that is no more finds nothing.
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            let place = self.places.len();
            let waker = Waker::from(Arc::new(PlaceWaker { inbox: Arc::clone(&self.inbox), place }));
            self.places.push(ReplySlot { waker, awaited: None });
            place
        })
    }
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inbox = lock(&self.inbox);
        inbox.woken.push(self.place);
        let collector = inbox.collector.take();
        drop(inbox);
        if let Some(collector) = collector {
            collector.wake();
        }
    }
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::slidegate::filter::redis::CallError;
    use tokio::sync::oneshot;

    #[test]
    fn replies_are_brought_together_as_long_as_they_are_short() {
        let replies = |lengths: &[usize]| -> Vec<Replied> {
            let reply = |length: &usize| CallReply { call: 1, reply: Ok(Reply::Error("e".repeat(*length))) };
            lengths.iter().map(|length| Replied { generation: 0, reply: reply(length) }).collect()
        };
        for (lengths, together) in [
            (&[7][..], 1),
            (&[7, 8, 9], 3),
            (&[REPLY_BYTES_MAX, 0, 1, 0], 2),
            (&[1, REPLY_BYTES_MAX], 1),
            (&[2 * REPLY_BYTES_MAX, 1], 1),
            (&[0; DELIVERED_MAX + 1], DELIVERED_MAX),
        ] {
            assert_eq!(deliverable(&replies(lengths)), together, "{lengths:?}");
        }
        assert_eq!(bytes_of(&Reply::Many(vec![Value::Bulk(vec![0; 9]), Value::Nil])), 9 + 2 * size_of::<Value>());
    }

    #[tokio::test]
    async fn a_burst_leaves_few_places_behind() {
        let replies = Replies::default();
        let (mut collector, mut replied) = (replies.collector(), Vec::new());
        for burst in [10 * PLACES_KEPT, 1, 2 * PLACES_KEPT] {
            let (answers, answered): (Vec<_>, Vec<_>) = (0..burst).map(|_| oneshot::channel()).unzip();
            replies.await_all(answered.into_iter().zip(0..).map(|(answered, call)| SentCall {
                generation: 1,
                call,
                reply: Box::pin(async move { answered.await.unwrap_or(Err(CallError::Disconnected)) }),
            }));
            // All are on their way together before the first is answered.
            let waits =
                tokio::time::timeout(std::time::Duration::from_millis(1), collector.collect(&mut replied)).await;
            assert!(waits.is_err() && collector.places.len() >= burst);
            for answer in answers {
                answer.send(Err(CallError::Timeout)).unwrap();
            }
            let mut told = 0;
            while told < burst {
                assert!(collector.collect(&mut replied).await);
                told += replied.drain(..).filter(|replied| replied.reply.reply == Err(CallError::Timeout)).count();
            }
            assert_eq!(collector.places.len(), PLACES_KEPT);
        }
    }
}
