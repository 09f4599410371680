//! Lines on their way to one of the process's streams.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes that wait for a stream, and most lines: some seconds of a busy access log. As much again may be on its
/// way to the kernel.
const BYTES_MAX: usize = 1024 * 1024;
const LINES_MAX: u64 = 16 * 1024;

/// How long a stream rests that takes nothing at the moment.
const REST: Duration = Duration::from_millis(20);

/// How much is written at a time, in bytes: what a failure in the middle may cut.
const PIECE: usize = 64 * 1024;

/// One of the process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandardStream {
    Out,
    Err,
}

/// Lines that wait for a stream. Putting one in never waits; one that finds no room is dropped and counted.
#[derive(Default)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
    dropped: u64,
    is_writing: bool,
}

impl Queue {
    /// A queue whose lines a thread of its own writes to the stream, until the process ends.
    pub(super) fn start(stream: StandardStream) -> Arc<Self> {
        Self::start_with(stream.name(), stream.open())
    }

    fn start_with(name: &str, sink: impl Write + Send + 'static) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        let served = Arc::clone(&queue);
        // Without a thread nothing is ever taken out, and lines are counted as dropped.
        let _ = thread::Builder::new().name(name.to_owned()).spawn(move || served.serve(sink));
        queue
    }

    /// Puts in one line, or several at once, with their line ends.
    pub(super) fn push(&self, lines: &[u8]) {
        let count = count_lines(lines);
        let mut pending = self.lock();
        if pending.bytes.len() + lines.len() > BYTES_MAX || pending.lines + count > LINES_MAX {
            pending.dropped += count;
            return;
        }
        pending.bytes.extend_from_slice(lines);
        pending.lines += count;
        let is_asleep = !pending.is_writing;
        drop(pending);
        if is_asleep {
            self.filled.notify_one();
        }
    }

    /// How many lines were given up.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until everything is written, or until the deadline.
    pub(super) fn flush(&self, deadline: Instant) {
        let time = deadline.saturating_duration_since(Instant::now());
        let is_busy = |pending: &mut Pending| pending.is_writing || !pending.bytes.is_empty();
        drop(self.emptied.wait_timeout_while(self.lock(), time, is_busy).unwrap_or_else(PoisonError::into_inner));
    }

    fn serve(&self, sink: impl Write) {
        let mut sink = Sink { stream: sink, is_mid_line: false };
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            let lost = sink.write_lines(&batch);
            batch.clear();
            let mut pending = self.lock();
            pending.dropped += lost;
            pending.is_writing = false;
            if pending.bytes.is_empty() {
                self.emptied.notify_all();
            }
        }
    }

    /// Waits for lines and takes all there are, leaving the empty buffer in their place.
    fn take(&self, batch: &mut Vec<u8>) {
        let is_empty = |pending: &mut Pending| pending.bytes.is_empty();
        let mut pending = self.filled.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut pending.bytes, batch);
        pending.lines = 0;
        pending.is_writing = true;
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream, and whether the last line on it was cut.
struct Sink<W> {
    stream: W,
    is_mid_line: bool,
}

impl<W: Write> Sink<W> {
    /// Writes whole lines, waiting as long as the stream makes it wait. Returns how many lines a failure cost: what is
    /// left of the piece it happened in. The next piece is tried again, since a disk may have room by then.
    fn write_lines(&mut self, mut lines: &[u8]) -> u64 {
        let mut lost = 0;
        while !lines.is_empty() {
            let (piece, rest) = lines.split_at(piece_length(lines));
            lost += self.write_piece(piece);
            lines = rest;
        }
        lost
    }

    fn write_piece(&mut self, piece: &[u8]) -> u64 {
        if self.is_mid_line && self.write_bytes(b"\n").is_err() {
            return count_lines(piece);
        }
        match self.write_bytes(piece) {
            Ok(()) => {
                self.is_mid_line = false;
                0
            }
            Err(written) => {
                let (before, after) = piece.split_at(written);
                self.is_mid_line = before.last().map_or(self.is_mid_line, |last| *last != b'\n');
                count_lines(after)
            }
        }
    }

    /// Writes all bytes, or says how many were written before the stream failed.
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(written),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pipe or terminal that another process made non-blocking, and that is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(REST),
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

/// Up to the last line end within a piece's length; a longer line is a piece of its own.
fn piece_length(lines: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let within = lines.get(..PIECE.min(lines.len())).unwrap_or(lines);
    let end = within.iter().rposition(is_end).or_else(|| lines.iter().position(is_end));
    end.map_or(lines.len(), |end| end + 1)
}

fn count_lines(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends).unwrap_or(u64::MAX)
}

impl StandardStream {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "log-stdout",
            Self::Err => "log-stderr",
        }
    }

    /// The stream itself, without the lock and the buffer that the standard library puts before it: whoever else prints
    /// must not wait for a stream that stands still.
    #[cfg(unix)]
    fn open(self) -> Box<dyn Write + Send> {
        use std::os::fd::AsFd;
        let duplicate = match self {
            Self::Out => io::stdout().as_fd().try_clone_to_owned(),
            Self::Err => io::stderr().as_fd().try_clone_to_owned(),
        };
        match duplicate {
            Ok(descriptor) => Box::new(File::from(descriptor)),
            Err(_) => Box::new(io::sink()),
        }
    }

    #[cfg(not(unix))]
    fn open(self) -> Box<dyn Write + Send> {
        match self {
            Self::Out => Box::new(io::stdout()),
            Self::Err => Box::new(io::stderr()),
        }
    }
}

#[cfg(test)]
mod tests;
