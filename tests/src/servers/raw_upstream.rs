//! A server that answers with the bytes that a test gives it, connection by connection, so that it can be as wrong as
//! no library allows.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;

/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it; connections that a test still serves go on.
#[derive(Debug)]
pub struct RawUpstream {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A connection that was accepted: how many came before it, and how to speak on it.
#[derive(Debug)]
pub struct RawConnection {
    /// 0 for the first connection of the server.
    pub index: usize,
    stream: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
}

// === impl RawUpstream ===

impl RawUpstream {
    /// Starts one on a free port of 127.0.0.1. `serve` is called for each connection, in a thread of its own; the
    /// connection is closed when it returns.
    ///
    /// # Panics
    ///
    /// When there is no port to be had.
    pub fn start(serve: impl Fn(RawConnection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (heads, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, over, serve) = (Arc::clone(&heads), Arc::clone(&is_over), Arc::new(serve));
        let thread = thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(HANG)).expect("a socket takes a timeout");
                // What is written in pieces comes in pieces, and at once.
                stream.set_nodelay(true).expect("a TCP socket takes the option");
                let connection = RawConnection { index, stream, heads: Arc::clone(&seen) };
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(connection));
            }
        });
        RawUpstream { address, heads, is_over, thread: Some(thread) }
    }

    /// One that answers every request with these bytes, on connections that it keeps.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut connection| while connection.read_head().is_some() && connection.write(&answer) {})
    }

    /// Its URL for HTTP/1.1.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL for HTTP/2.
    pub fn h2c_url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// Its URL for TLS, which somebody else has to speak.
    pub fn https_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The heads of the HTTP/1.1 requests so far, on whatever connection.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread up; it fails only if that has ended.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

// === impl RawConnection ===

impl RawConnection {
    /// Reads a request's head, of HTTP/1.1 and without a body. None when the connection has ended.
    pub fn read_head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        Some(head)
    }

    /// Reads so many bytes. None when the connection ends before.
    pub fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// Reads a frame of HTTP/2: its kind, flags, stream and payload. None when the connection has ended.
    pub fn read_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head = self.read(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some((head[3], head[4], stream, self.read(length)?))
    }

    /// Writes a frame of HTTP/2. Whether the connection took it.
    pub fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.write(&[&head, payload].concat())
    }

    /// Whether the connection took these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Passes on what comes to the server at this port, and back what that says. As soon as that says no more the
    /// connection is reset.
    pub fn relay(self, port: u16) {
        let server = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
        let (mut from, mut to) = (clone(&self.stream), clone(&server));
        let passing_on = thread::spawn(move || io::copy(&mut from, &mut to));
        // Either side may end at any time.
        let _ = io::copy(&mut &server, &mut &self.stream);
        let _ = self.stream.shutdown(Shutdown::Read);
        let _ = passing_on.join();
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Stays open and silent until the other side ends.
    pub fn wait(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
    }
}
