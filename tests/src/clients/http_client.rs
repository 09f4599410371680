//! A client that speaks HTTP/1.1 byte by byte over a socket, so that a test can send what no library would, and see
//! what came back as it came back.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_secs(60);

/// The longest line that is read of a response.
const LINE_MAX: u64 = 1 << 20;

/// A kept connection to a server.
#[derive(Debug)]
pub struct HttpClient {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// A header field: name in lower case, value in bytes.
pub type Field = (String, Vec<u8>);

/// The head of a response.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// In the order received.
    pub headers: Vec<Field>,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// After any transfer coding was taken off.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<Field>,
}

// === impl HttpClient ===

impl HttpClient {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(
            TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")),
            address,
        )
    }

    /// A connection to `address` from another address of this machine's loopback, such as `127.0.0.2`.
    ///
    /// # Panics
    ///
    /// When the server does not accept it.
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        Self::of(stream_from(source, address), address)
    }

    fn of(stream: TcpStream, address: SocketAddr) -> Self {
        stream.set_read_timeout(Some(HANG)).expect("a socket takes a timeout");
        stream.set_write_timeout(Some(HANG)).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a TCP socket takes the option");
        HttpClient { stream: BufReader::new(stream), address }
    }

    /// Sends a request with a `host` field and without body, and reads the answer.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"")
    }

    /// Sends a request with a `host` field, and a `content-length` if there is a body, and reads the answer.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: no answer: {error}"))
    }

    /// As [`HttpClient::send`], but no answer is an error.
    ///
    /// # Errors
    ///
    /// The connection breaks, or what comes back is not HTTP.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.extend_from_slice(format!("host: {}\r\n", self.address).as_bytes());
        }
        for (name, value) in headers {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() {
            request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.write(&request)?;
        self.read_answer(method)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// A second handle on the socket, to write from another thread.
    ///
    /// # Panics
    ///
    /// When there are no descriptors left.
    pub fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().expect("a socket can be cloned")
    }

    /// Reads the answer to a request of this method.
    ///
    /// # Errors
    ///
    /// The connection breaks, or what comes back is not HTTP.
    pub fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        let trailers = self.read_body(method, &head, |piece| body.extend_from_slice(piece))?;
        Ok(Answer { head, body, trailers })
    }

    /// Reads the head of a response; `100 Continue` is one too.
    ///
    /// # Errors
    ///
    /// The connection breaks, or what comes back is not HTTP.
    pub fn read_head(&mut self) -> io::Result<Head> {
        let line = self.read_line()?;
        let text = String::from_utf8_lossy(&line);
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("`{text}` is no status line")))?;
        Ok(Head { status, headers: self.read_fields()? })
    }

    /// Reads the body that belongs to a head, piece by piece, and returns its trailers.
    ///
    /// # Errors
    ///
    /// The connection breaks before the body ends.
    pub fn read_body(&mut self, method: &str, head: &Head, mut sink: impl FnMut(&[u8])) -> io::Result<Vec<Field>> {
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Vec::new());
        }
        if head.text("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(sink);
        }
        match head.text("content-length") {
            Some(length) => {
                let length = length.parse().map_err(|_| invalid(format!("content-length `{length}`")))?;
                self.read_exactly(length, &mut sink)?;
            }
            None => drop(self.read_to_end(&mut sink)?),
        }
        Ok(Vec::new())
    }

    /// Reads so many bytes as they come.
    ///
    /// # Errors
    ///
    /// The connection breaks before.
    pub fn read_raw(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether the server has closed the connection; waits for that, and for whatever it says before.
    ///
    /// # Errors
    ///
    /// It is still open after a while.
    pub fn read_to_end(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let mut length = 0;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(read) => {
                    length += read as u64;
                    sink(&buffer[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(length),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_chunks(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<Vec<Field>> {
        loop {
            let line = self.read_line()?;
            let text = String::from_utf8_lossy(&line);
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid(format!("`{text}` is no chunk size")))?;
            if size == 0 {
                return self.read_fields();
            }
            self.read_exactly(size, &mut sink)?;
            self.read_line()?;
        }
    }

    fn read_exactly(&mut self, length: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.stream.read(&mut buffer[..most])? {
                0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("{left} of {length} bytes are missing"),
                    ));
                }
                read => {
                    left -= read as u64;
                    sink(&buffer[..read]);
                }
            }
        }
        Ok(())
    }

    fn read_fields(&mut self) -> io::Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line
                .iter()
                .position(|byte| *byte == b':')
                .ok_or_else(|| invalid("a header line without colon".to_owned()))?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(line.to_vec()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a line")),
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

// === impl Head, Answer ===

impl Head {
    /// The first value of a header, `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_slice())
    }

    /// The first value of a header as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The first value of a header as a number.
    ///
    /// # Panics
    ///
    /// When the header is missing or no number.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.text(name).unwrap_or_else(|| panic!("no header `{name}` in {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("header `{name}` is `{text}`"))
    }
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A socket that is connected to `to` from another address of this machine's loopback, such as `127.0.0.2`.
///
/// # Panics
///
/// When the server does not accept it.
pub fn stream_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&source.into()).expect("an address of the loopback");
    socket.connect(&to.into()).unwrap_or_else(|error| panic!("cannot connect to {to} from {source}: {error}"));
    socket.into()
}
