//! The Redis calls of a worker that have no reply yet. Connections put replies into one inbox; where one cannot, there
//! is a future to poll. One task takes whatever has come together, so that a burst of replies costs one turn of one
//! task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

use crate::bindings::slidegate::filter::redis::{CallReply, Reply, Value};
use crate::bindings::slidegate::filter::types::CallId;
use crate::redis::{REPLY_BYTES_MAX, Recipient, ReplyFuture, ReplyInbox};

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

/// Where calls are handed over to be awaited, and replies are put.
#[derive(Clone, Default)]
pub(super) struct Replies {
    inbox: Arc<SharedInbox>,
    /// Told when nothing is awaited any more.
    idle: Arc<Notify>,
}

#[derive(Default)]
struct SharedInbox(Mutex<Inbox>);

#[derive(Default)]
struct Inbox {
    /// Replies that have come.
    replied: Vec<Replied>,
    /// Calls whose replies are to be polled for.
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
    inbox: Arc<SharedInbox>,
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
    inbox: Arc<SharedInbox>,
    place: usize,
}

impl Replies {
    /// Awaits the reply to a call of an instance, that `make` makes: for this recipient, or with a future.
    pub(super) fn await_reply(
        &self,
        generation: u64,
        call: CallId,
        make: impl FnOnce(Recipient) -> Option<ReplyFuture>,
    ) {
        // Before it is made, as the reply may be there at once. No lock is held then: making it takes a connection's,
        // under which that may put a reply here.
        self.inbox.lock().awaited += 1;
        let inbox: Arc<dyn ReplyInbox> = Arc::<SharedInbox>::clone(&self.inbox);
        let Some(reply) = make(Recipient::new(inbox, generation, call)) else { return };
        self.inbox.wake_for(|inbox| inbox.made.push(SentCall { generation, call, reply }));
    }

    /// So many replies were delivered, and what the instance asked for then is awaited already.
    pub(super) fn delivered(&self, replies: usize) {
        let mut inbox = self.inbox.lock();
        inbox.awaited = inbox.awaited.saturating_sub(replies);
        if inbox.awaited == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Whether nothing is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.inbox.lock().awaited == 0
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
        let mut inbox = self.inbox.lock();
        inbox.is_closed = true;
        let (made, collector) = (std::mem::take(&mut inbox.made), inbox.collector.take());
        inbox.replied = Vec::new();
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
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return Poll::Ready(false);
        }
        replies.append(&mut inbox.replied);
        inbox.replied.shrink_to(PLACES_KEPT);
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
        self.inbox.wake_for(|inbox| inbox.woken.push(self.place));
    }
}

impl SharedInbox {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, and has the collector look.
    fn wake_for(&self, put: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock();
        put(&mut inbox);
        let collector = inbox.collector.take();
        drop(inbox);
        if let Some(collector) = collector {
            collector.wake();
        }
    }
}

impl ReplyInbox for SharedInbox {
    fn put(&self, generation: u64, reply: CallReply) {
        self.wake_for(|inbox| {
            // Nobody looks any more after the end.
            if !inbox.is_closed {
                inbox.replied.push(Replied { generation, reply });
            }
        });
    }
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
    async fn replies_that_are_put_here_are_brought_together_in_their_order() {
        let replies = Replies::default();
        let (mut collector, mut replied, mut recipients) = (replies.collector(), Vec::new(), Vec::new());
        // The first has its reply before it is made; the others get theirs while the collector waits.
        replies.await_reply(3, 1, |recipient| {
            recipient.put(Err(CallError::Timeout));
            None
        });
        for call in 2..5 {
            replies.await_reply(3, call, |recipient| {
                recipients.push(recipient);
                None
            });
        }
        assert!(collector.collect(&mut replied).await);
        assert_eq!(replied.drain(..).map(|replied| replied.reply.call).collect::<Vec<_>>(), [1]);
        replies.delivered(1);
        let put = async {
            tokio::task::yield_now().await;
            recipients.drain(..).rev().for_each(|recipient| recipient.put(Ok(Reply::Error("no".to_owned()))));
        };
        let (collected, ()) = tokio::join!(collector.collect(&mut replied), put);
        assert!(collected && replied.iter().all(|replied| replied.generation == 3 && replied.reply.reply.is_ok()));
        assert_eq!(replied.drain(..).map(|replied| replied.reply.call).collect::<Vec<_>>(), [4, 3, 2]);
        assert!(!replies.is_idle());
        replies.delivered(3);
        replies.clone().idle().await;

        // After the end nothing is kept.
        replies.await_reply(3, 5, |recipient| {
            recipients.push(recipient);
            None
        });
        replies.close();
        recipients.drain(..).for_each(|recipient| recipient.put(Err(CallError::Timeout)));
        assert!(replies.inbox.lock().replied.is_empty() && !collector.collect(&mut replied).await);
    }

    #[tokio::test]
    async fn a_burst_leaves_few_places_behind() {
        let replies = Replies::default();
        let (mut collector, mut replied) = (replies.collector(), Vec::new());
        for burst in [10 * PLACES_KEPT, 1, 2 * PLACES_KEPT] {
            let (answers, answered): (Vec<_>, Vec<_>) = (0..burst).map(|_| oneshot::channel()).unzip();
            for (answered, call) in answered.into_iter().zip(0..) {
                let reply = async move { answered.await.unwrap_or(Err(CallError::Disconnected)) };
                replies.await_reply(1, call, |_| Some(Box::pin(reply)));
            }
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
