//! One request at a time on a kept connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

/// A round trip to Redis that asks nothing of it.
pub(crate) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A kept connection to Redis, or to something before the bench's upstream.
pub(crate) struct Line {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Line {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket takes the option");
        Line { stream, answer: vec![0; 4 << 10] }
    }

    /// Sends a request and reads its answer; returns microseconds.
    pub(crate) fn ask(&mut self, request: &[u8]) -> f64 {
        let begun = Instant::now();
        self.stream.write_all(request).expect("the connection stays open");
        let mut length = 0;
        while whole(&self.answer[..length]).is_none_or(|whole| length < whole) {
            if length == self.answer.len() {
                self.answer.resize(2 * length, 0);
            }
            let read = self.stream.read(&mut self.answer[length..]).expect("the connection stays open");
            assert!(read > 0, "the connection was closed after {length} bytes");
            length += read;
        }
        let us = begun.elapsed().as_nanos() as f64 / 1_000.0;
        let answer = &self.answer[..length];
        assert!(answer.starts_with(b"+PONG") || answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
        us
    }
}

/// How long an answer is, once that can be told: a line of Redis, or HTTP that says its length.
fn whole(answer: &[u8]) -> Option<usize> {
    let ends = |end: &[u8]| Some(answer.windows(end.len()).position(|bytes| bytes == end)? + end.len());
    if answer.starts_with(b"+") {
        return ends(b"\r\n");
    }
    let head_end = ends(b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..head_end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    Some(head_end + length.expect("an answer tells its length"))
}
