//! A client that speaks HTTP/2 with prior knowledge frame by frame, so that a test can do what no library would: ask
//! and never read, open streams only to reset them, send a header block without end.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::http_client::stream_from;

/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_secs(60);

/// Kinds of frames (RFC 9113, section 6).
pub mod kind {
    #![expect(missing_docs, reason = "the names are those of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection to a server.
#[derive(Debug)]
pub struct Http2Client {
    stream: TcpStream,
    authority: String,
    last_stream: u32,
}

/// A frame as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// As sent.
    pub flags: u8,
    /// Zero for the connection.
    pub stream: u32,
    /// Without the frame's head.
    pub payload: Vec<u8>,
}

impl Http2Client {
    /// Connects and says what every client says first. `window` is what may be sent to it in each stream; in the
    /// connection as much as the protocol allows, unless `window` is zero.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect(address: SocketAddr, window: u32) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?, address, window)
    }

    /// The same from another address of this machine's loopback, such as `127.0.0.2`.
    ///
    /// # Errors
    ///
    /// The server closes the connection at once.
    ///
    /// # Panics
    ///
    /// When the server does not accept it.
    pub fn connect_from(source: &str, address: SocketAddr, window: u32) -> io::Result<Self> {
        Self::over(stream_from(source, address), address, window)
    }

    fn over(stream: TcpStream, address: SocketAddr, window: u32) -> io::Result<Self> {
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        let mut client = Http2Client { stream, authority: address.to_string(), last_stream: 0 };
        client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
        client.frame(kind::SETTINGS, 0, 0, &settings)?;
        if window > 0 {
            client.frame(kind::WINDOW_UPDATE, 0, 0, &(i32::MAX.unsigned_abs() - 65_535).to_be_bytes())?;
        }
        Ok(client)
    }

    /// From now on a write that takes longer fails.
    ///
    /// # Panics
    ///
    /// Never, in practice.
    pub fn give_up_writing_after(&self, limit: Duration) {
        self.stream.set_write_timeout(Some(limit)).expect("a socket takes a timeout");
    }

    /// Asks for a path, with nothing in the body, on a stream of its own.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn get(&mut self, path: &str) -> io::Result<u32> {
        let block = self.header_block(b"GET", path);
        self.headers(END_STREAM | END_HEADERS, &block)
    }

    /// Sends a header block on a stream of its own, with these flags.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn headers(&mut self, flags: u8, block: &[u8]) -> io::Result<u32> {
        self.last_stream = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        self.frame(kind::HEADERS, flags, self.last_stream, block)?;
        Ok(self.last_stream)
    }

    /// The headers of a request, in HPACK without compression.
    pub fn header_block(&self, method: &[u8], path: &str) -> Vec<u8> {
        // Literal fields without indexing, with names of the static table: `:method`, `:path`, `:authority`; `:scheme:
        // http` is there whole.
        let mut block = vec![0x86];
        for (name, value) in [(2, method), (4, path.as_bytes()), (1, self.authority.as_bytes())] {
            block.push(name);
            block.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("a short value"));
            block.extend_from_slice(value);
        }
        block
    }

    /// Sends a frame as it is told.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame)
    }

    /// Reads the next frame; says what has to be said to settings and pings on the way.
    ///
    /// # Errors
    ///
    /// The connection ends.
    pub fn read_frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.stream.read_exact(&mut payload)?;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        };
        match (frame.kind, frame.flags & ACK) {
            (kind::SETTINGS, 0) => self.frame(kind::SETTINGS, ACK, 0, &[])?,
            (kind::PING, 0) => self.frame(kind::PING, ACK, 0, &frame.payload)?,
            _ => {}
        }
        Ok(frame)
    }

    /// Reads until this stream ends: whether it was answered to its end, and not reset.
    ///
    /// # Errors
    ///
    /// The connection ends before.
    pub fn read_to_end_of(&mut self, stream: u32) -> io::Result<bool> {
        loop {
            let frame = self.read_frame()?;
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                kind::RST_STREAM => return Ok(false),
                kind::HEADERS | kind::DATA if frame.flags & END_STREAM != 0 => return Ok(true),
                _ => {}
            }
        }
    }

    /// Reads until the server ends the connection, and returns the kinds of frames that came.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut kinds = Vec::new();
        loop {
            match self.read_frame() {
                Ok(frame) => kinds.push(frame.kind),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(error);
                }
                Err(_) => return Ok(kinds),
            }
        }
    }
}
