//! Pipelining: commands out, replies in, over one socket: the commands of one turn leave in one write, and the
//! replies of one read are handed out together.
//!
//! Redis answers in the order of the commands, so a reply needs no name. Deadlines are kept here, in
//! one timer for all commands.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::backlog::{WAITING_MAX, bytes_of, fits};
use super::reply::{Garbage, ReplyReader};
use super::transport::Recipient;
use crate::bindings::slidegate::filter::redis::{CallError, Command, Reply};

/// A buffer above this size is not kept when it is empty.
const KEPT_BYTES: usize = 64 * 1024;

/// What becomes of one command.
pub(super) type CallResult = Result<Reply, CallError>;

/// Where commands are handed over.
#[derive(Clone)]
pub(super) struct Pipeline {
    shared: Arc<SharedPipeline>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The connection has ended, or does not answer.
    Ended,
    /// As many commands wait as may, or as many bytes.
    Full,
}

/// The future that reads and writes the socket. Ready when the connection has ended.
pub(super) struct Driver<S> {
    shared: Arc<SharedPipeline>,
    socket: S,
    /// What is being written, and how much of it was.
    writing: Vec<u8>,
    written: usize,
    is_flushed: bool,
    reader: ReplyReader,
    /// What a read brought, and for whom: kept for its memory.
    replies: Vec<CallResult>,
    settled: Vec<(AwaitedReply, CallResult)>,
    /// When a reply last came. Parts of one do not count: they may be of one that never ends.
    heard: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct SharedPipeline {
    state: Mutex<PipelineState>,
}

#[derive(Default)]
struct PipelineState {
    /// Commands that the driver has not taken yet.
    outgoing: Vec<u8>,
    /// Bytes that the driver has taken and not written yet.
    writing: usize,
    /// For every command without a reply, in order.
    waiting: VecDeque<UnansweredCommand>,
    /// How many of those have timed out. The first ones: deadlines rise.
    timed_out: usize,
    /// Set while the driver has nothing to write.
    driver: Option<Waker>,
    /// The connection has ended, or does not answer.
    is_closed: bool,
    /// Why it ended, if the system told.
    end: Option<io::Error>,
    /// Replies that have come.
    replies: u64,
}

struct UnansweredCommand {
    sent: Instant,
    deadline: Instant,
    /// None after the deadline, or if the reply is of no interest.
    settle: Option<AwaitedReply>,
}

/// What waits for the reply to a command.
pub(super) enum AwaitedReply {
    /// A future.
    Future(oneshot::Sender<CallResult>),
    /// An inbox; and the connection, which is kept for its driver's sake and learns first what came.
    Inbox(Recipient, Arc<dyn ReplyObserver>),
}

/// Who learns what came back before the one who asked.
pub(super) trait ReplyObserver: Send + Sync {
    /// This came back.
    fn answered(&self, outcome: &CallResult);
}

impl AwaitedReply {
    fn settle(self, outcome: CallResult) {
        match self {
            // Whoever waited may have left.
            Self::Future(settle) => drop(settle.send(outcome)),
            Self::Inbox(recipient, connection) => {
                connection.answered(&outcome);
                recipient.put(outcome);
            }
        }
    }
}

impl Pipeline {
    /// Both ends of a connection that is made.
    pub(super) fn new<S>(socket: S) -> (Self, Driver<S>) {
        let shared = Arc::new(SharedPipeline::default());
        let driver = Driver {
            shared: Arc::clone(&shared),
            socket,
            writing: Vec::new(),
            written: 0,
            is_flushed: true,
            reader: ReplyReader::default(),
            replies: Vec::new(),
            settled: Vec::new(),
            heard: Instant::now(),
            timer: None,
        };
        (Self { shared }, driver)
    }

    /// Hands a command over, in the order of these calls; with `asking` ASKING goes before it, with nothing between.
    /// Deadlines must not fall from one command to the next. If it is refused nothing is sent.
    pub(super) fn send(
        &self,
        command: &Command,
        asking: bool,
        now: Instant,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<CallResult>, NotSent> {
        let (settle, settled) = oneshot::channel();
        self.send_for(AwaitedReply::Future(settle), command, asking, now, deadline)?;
        Ok(settled)
    }

    /// The same for who waits otherwise than by a future.
    pub(super) fn send_for(
        &self,
        settle: AwaitedReply,
        command: &Command,
        asking: bool,
        now: Instant,
        deadline: Instant,
    ) -> Result<(), NotSent> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(NotSent::Ended);
        }
        // Those that were written wait for their replies only.
        if state.waiting.len() >= WAITING_MAX || !fits(state.outgoing.len() + state.writing, bytes_of(command)) {
            return Err(NotSent::Full);
        }
        if asking {
            state.outgoing.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
            state.waiting.push_back(UnansweredCommand { sent: now, deadline, settle: None });
        }
        encode(command, &mut state.outgoing);
        state.waiting.push_back(UnansweredCommand { sent: now, deadline, settle: Some(settle) });
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }

    /// Why the connection ended, as far as that is known.
    pub(super) fn end(&self) -> Option<String> {
        self.shared.lock().end.as_ref().map(io::Error::to_string)
    }

    /// How many replies have come.
    pub(super) fn replies(&self) -> u64 {
        self.shared.lock().replies
    }
}

impl SharedPipeline {
    fn lock(&self) -> MutexGuard<'_, PipelineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no further command. The first that still waits for a reply gets this, the others learn that they lost the
    /// connection.
    fn close(&self, first: CallError) {
        let mut state = self.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        let mut error = first;
        for settle in waiting.into_iter().filter_map(|waiting| waiting.settle) {
            settle.settle(Err(error));
            error = CallError::Disconnected;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Writes until there is nothing to write.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.writing.get(self.written..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    length => self.written += length,
                }
                self.is_flushed = false;
            }
            if !self.is_flushed {
                ready!(Pin::new(&mut self.socket).poll_flush(context))?;
                self.is_flushed = true;
            }
            self.writing.clear();
            self.writing.shrink_to(KEPT_BYTES);
            self.written = 0;
            let mut state = self.shared.lock();
            state.writing = state.outgoing.len();
            if state.outgoing.is_empty() {
                state.driver = Some(context.waker().clone());
                return Poll::Ready(Ok(()));
            }
            std::mem::swap(&mut state.outgoing, &mut self.writing);
        }
    }

    /// Reads until there is nothing to read; ready when there never will be.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<CallError> {
        loop {
            let mut space = ReadBuf::new(self.reader.space());
            let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut space));
            let length = space.filled().len();
            if read.is_err() || length == 0 {
                self.shared.lock().end = read.err();
                return Poll::Ready(CallError::Disconnected);
            }
            self.reader.received(length);
            if let Err(error) = self.hand_out() {
                return Poll::Ready(error);
            }
        }
    }

    /// Gives every reply that has come to who waits for it.
    fn hand_out(&mut self) -> Result<(), CallError> {
        let mut end = loop {
            match self.reader.next() {
                Ok(Some(reply)) => self.replies.push(reply),
                Ok(None) => break Ok(()),
                Err(Garbage) => break Err(CallError::Protocol),
            }
        };
        if !self.replies.is_empty() {
            self.heard = Instant::now();
        }
        let mut state = self.shared.lock();
        for reply in self.replies.drain(..) {
            let Some(waiting) = state.waiting.pop_front() else {
                // A reply to nothing.
                end = Err(CallError::Protocol);
                break;
            };
            state.timed_out = state.timed_out.saturating_sub(1);
            state.replies += 1;
            self.settled.extend(waiting.settle.map(|settle| (settle, reply)));
        }
        drop(state);
        self.settled.drain(..).for_each(|(settle, reply)| settle.settle(reply));
        end
    }

    /// Tells those whose deadline has passed. One timer, for the first of them, serves all.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) {
        loop {
            let state = self.shared.lock();
            let next = state.waiting.get(state.timed_out).map(|waiting| waiting.deadline);
            drop(state);
            // The clock is asked, as a timer waits its turn behind whatever the server goes on sending.
            let now = Instant::now();
            if next.is_some_and(|next| next <= now) {
                self.time_out(now);
                continue;
            }
            let timer = match (&mut self.timer, next) {
                (None, None) => return,
                (None, Some(next)) => self.timer.insert(Box::pin(sleep_until(next))),
                (Some(timer), next) => {
                    // One that is too early finds out by itself, so most replies need not touch it.
                    if let Some(next) = next.filter(|next| *next < timer.deadline()) {
                        timer.as_mut().reset(next);
                    }
                    timer
                }
            };
            if timer.as_mut().poll(context).is_pending() {
                return;
            }
            self.timer = None;
        }
    }

    fn time_out(&mut self, now: Instant) {
        let mut state = self.shared.lock();
        let PipelineState { waiting, timed_out, is_closed, .. } = &mut *state;
        while let Some(waiting) = waiting.get_mut(*timed_out).filter(|waiting| waiting.deadline <= now) {
            // Replies come in order: if none came since this was sent, none may ever come.
            *is_closed |= self.heard <= waiting.sent;
            *timed_out += 1;
            self.settled.extend(waiting.settle.take().map(|settle| (settle, Err(CallError::Timeout))));
        }
        drop(state);
        self.settled.drain(..).for_each(|(settle, error)| settle.settle(error));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let end = match this.poll_write(context) {
            Poll::Ready(Err(error)) => {
                this.shared.lock().end = Some(error);
                Poll::Ready(CallError::Disconnected)
            }
            // Reading goes on while the other side takes nothing.
            _ => this.poll_read(context),
        };
        match end {
            Poll::Ready(error) => {
                this.shared.close(error);
                Poll::Ready(())
            }
            Poll::Pending => {
                this.poll_deadlines(context);
                Poll::Pending
            }
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.shared.close(CallError::Disconnected);
    }
}

/// Appends a command as Redis reads it: an array of bulk strings.
fn encode(command: &Command, out: &mut Vec<u8>) {
    out.reserve(bytes_of(command));
    length(b'*', command.lengths.len(), out);
    for word in command.words() {
        length(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// In one piece where it is short, as nearly all are.
#[inline]
fn length(kind: u8, length: usize, out: &mut Vec<u8>) {
    match length {
        0..=9 => out.extend_from_slice(&[kind, b'0' + length as u8, b'\r', b'\n']),
        10..=99 => out.extend_from_slice(&[kind, b'0' + (length / 10) as u8, b'0' + (length % 10) as u8, b'\r', b'\n']),
        _ => {
            out.push(kind);
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::bindings::slidegate::filter::redis::CallReply;
    use crate::redis::transport::ReplyInbox;

    /// What a connection and an inbox got to know, in order.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl ReplyObserver for Heard {
        fn answered(&self, outcome: &CallResult) {
            self.0.lock().unwrap().push(format!("connection: {outcome:?}"));
        }
    }

    impl ReplyInbox for Heard {
        fn put(&self, generation: u64, CallReply { call, reply }: CallReply) {
            self.0.lock().unwrap().push(format!("{generation}/{call}: {reply:?}"));
        }
    }

    #[tokio::test]
    async fn an_inbox_gets_each_reply_or_why_there_is_none_after_the_connection() {
        let (socket, mut server) = duplex(1_024);
        let (pipeline, driver) = Pipeline::new(socket);
        let heard = Arc::new(Heard::default());
        let send = |call, timeout| {
            let inbox: Arc<dyn ReplyInbox> = Arc::<Heard>::clone(&heard);
            let connection: Arc<dyn ReplyObserver> = Arc::<Heard>::clone(&heard);
            let settle = AwaitedReply::Inbox(Recipient::new(inbox, 7, call), connection);
            let now = Instant::now();
            pipeline.send_for(settle, &[b"PING"].into_iter().collect(), false, now, now + timeout)
        };
        let long = Duration::from_secs(60);
        send(1, Duration::ZERO).unwrap();
        send(2, long).unwrap();
        send(3, long).unwrap();
        let driven = tokio::spawn(driver);
        server.read_exact(&mut [0; 3 * 14]).await.unwrap();
        // The first is too late for whoever asked, whenever it comes.
        server.write_all(b"+PONG\r\n-READONLY no\r\n").await.unwrap();
        drop(server);
        driven.await.unwrap();
        let outcomes: [(u64, CallResult); 3] = [
            (1, Err(CallError::Timeout)),
            (2, Ok(Reply::Error("READONLY no".to_owned()))),
            (3, Err(CallError::Disconnected)),
        ];
        let expected: Vec<_> = outcomes
            .iter()
            .flat_map(|(call, outcome)| [format!("connection: {outcome:?}"), format!("7/{call}: {outcome:?}")])
            .collect();
        assert_eq!(*heard.0.lock().unwrap(), expected);
        assert_eq!(send(4, long), Err(NotSent::Ended), "nothing is put for what is not sent");
        assert_eq!(heard.0.lock().unwrap().len(), expected.len());
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&[&b"SET"[..], b"", b"0123456789", &[b'x'; 1_203]].into_iter().collect(), &mut out);
        let head = b"*4\r\n$3\r\nSET\r\n$0\r\n\r\n$10\r\n0123456789\r\n$1203\r\n".as_slice();
        let expected = [head, &[b'x'; 1_203], b"\r\n"].concat();
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
