//! One connection to one Redis server, with everything on it in one queue, as the gateway keeps it: commands are
//! written together after a short while, replies belong to commands in their order, and one timer guards the oldest.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc::Sender,
    thread,
    time::{Duration, Instant},
};

use super::{Broken, Completion, Owner, frame::Framer};

/// What `proxy_redis_init` sets, or what holds without it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    username: Vec<u8>,
    password: Vec<u8>,
    database: Option<String>,
    timeout: Duration,
    flush_after: Duration,
    flush_at_bytes: usize,
}

/// What the connection's reading thread tells.
#[derive(Debug)]
pub(super) enum Event {
    Connected(TcpStream),
    Arrived(Vec<u8>),
    Closed,
}

#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    settings: Settings,
    stream: Option<TcpStream>,
    broken: bool,
    framer: Framer,
    /// Not written yet.
    unsent: Vec<u8>,
    /// Who waits for the replies to come; None for those that nobody looks at.
    pending: VecDeque<Option<(Owner, u32)>>,
    flush_at: Option<Instant>,
    fail_at: Option<Instant>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Settings::new(b"", b"", Duration::from_secs(1), "")
    }
}

impl Settings {
    /// Options are `k=v` between `&`; those nobody knows are ignored.
    pub(super) fn new(username: &[u8], password: &[u8], timeout: Duration, options: &str) -> Self {
        let option = |name: &str| {
            options
                .split('&')
                .find_map(|option| option.split_once('=').filter(|(key, _)| *key == name))
                .map(|pair| pair.1)
        };
        let number = |name: &str, default: u64| option(name).and_then(|value| value.parse().ok()).unwrap_or(default);
        Settings {
            username: username.to_vec(),
            password: password.to_vec(),
            database: option("db").filter(|database| !database.is_empty()).map(str::to_owned),
            timeout,
            flush_after: Duration::from_millis(number("buffer_flush_timeout", 3)),
            flush_at_bytes: usize::try_from(number("max_buffer_size_before_flush", 1_024)).unwrap_or(usize::MAX),
        }
    }

    fn hello(&self) -> Vec<Vec<u8>> {
        let mut commands = Vec::new();
        match (self.username.is_empty(), self.password.is_empty()) {
            (true, true) => {}
            (true, false) => commands.push(command(&[b"auth", &self.password])),
            (false, _) => commands.push(command(&[b"auth", &self.username, &self.password])),
        }
        commands.extend(self.database.as_ref().map(|database| command(&[b"select", database.as_bytes()])));
        commands
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

// === impl Connection ===

impl Connection {
    pub(super) fn open(
        id: u64,
        host: SocketAddr,
        connect_timeout: Duration,
        settings: Settings,
        events: Sender<(u64, Event)>,
    ) -> Self {
        // It ends with the connection, or with the worker that nobody can tell anything any more.
        thread::spawn(move || read(id, host, connect_timeout, &events));
        let hello = settings.hello();
        let mut connection = Connection {
            id,
            settings,
            stream: None,
            broken: false,
            framer: Framer::default(),
            unsent: Vec::new(),
            pending: VecDeque::new(),
            flush_at: None,
            fail_at: None,
        };
        hello.iter().for_each(|command| connection.send(command, None));
        connection
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        [self.flush_at, self.fail_at].into_iter().flatten().min()
    }

    pub(super) fn call(&mut self, query: &[u8], owner: Owner, token: u32) {
        self.send(query, Some((owner, token)));
    }

    fn send(&mut self, query: &[u8], waiting: Option<(Owner, u32)>) {
        let was_empty = self.unsent.is_empty();
        self.unsent.extend_from_slice(query);
        self.pending.push_back(waiting);
        if self.unsent.len() >= self.settings.flush_at_bytes {
            self.flush();
        } else if was_empty {
            self.flush_at = Some(Instant::now() + self.settings.flush_after);
        }
        if self.stream.is_some() && self.pending.len() == 1 {
            self.fail_at = Some(Instant::now() + self.settings.timeout);
        }
    }

    /// Before the connection is there, what is unsent stays so.
    fn flush(&mut self) {
        self.flush_at = None;
        let Some(stream) = &mut self.stream else { return };
        self.broken |= stream.write_all(&self.unsent).is_err();
        self.unsent.clear();
    }

    pub(super) fn run_timers(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
        self.broken |= self.fail_at.is_some_and(|at| at <= now);
    }

    /// Returns the callbacks that are due by it.
    pub(super) fn happened(&mut self, event: Event) -> Vec<Completion> {
        match event {
            Event::Connected(stream) => {
                // Writing must not hold up a worker longer than a command may take. Zero would be no limit at all.
                let limit = self.settings.timeout.max(Duration::from_millis(1));
                self.broken |= stream.set_write_timeout(Some(limit)).is_err();
                self.stream = Some(stream);
                self.flush();
                self.fail_at = (!self.pending.is_empty()).then(|| Instant::now() + self.settings.timeout);
                Vec::new()
            }
            Event::Arrived(bytes) => {
                self.framer.push(&bytes);
                self.replies()
            }
            Event::Closed => {
                self.broken = true;
                Vec::new()
            }
        }
    }

    fn replies(&mut self) -> Vec<Completion> {
        let mut due = Vec::new();
        loop {
            match self.framer.next() {
                Ok(Some(reply)) => {
                    // A reply that nobody asked for breaks the connection, as its order is lost.
                    let Some(waiting) = self.pending.pop_front() else { break self.broken = true };
                    due.extend(waiting.map(|(owner, token)| Completion { owner, token, reply: Ok(reply) }));
                    self.fail_at = (!self.pending.is_empty()).then(|| Instant::now() + self.settings.timeout);
                }
                Ok(None) => break,
                Err(_) => break self.broken = true,
            }
        }
        due
    }

    pub(super) fn cancel(&mut self, is_gone: &impl Fn(Owner) -> bool) {
        for waiting in &mut self.pending {
            *waiting = waiting.filter(|(owner, _)| !is_gone(*owner));
        }
    }

    /// It is over: what is owed has failed.
    pub(super) fn fail(mut self) -> Vec<Completion> {
        let pending = std::mem::take(&mut self.pending);
        pending.into_iter().flatten().map(|(owner, token)| Completion { owner, token, reply: Err(Broken) }).collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // It may be closed already; the reading thread ends either way.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn read(id: u64, host: SocketAddr, connect_timeout: Duration, events: &Sender<(u64, Event)>) {
    let tell = |event| events.send((id, event)).is_ok();
    let connected = TcpStream::connect_timeout(&host, connect_timeout).and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok((stream.try_clone()?, stream))
    });
    let Ok((mut stream, writer)) = connected else {
        tell(Event::Closed);
        return;
    };
    let mut going = tell(Event::Connected(writer));
    let mut piece = vec![0; 65_536];
    while going {
        going = match stream.read(&mut piece) {
            Ok(length) if length > 0 => tell(Event::Arrived(piece.get(..length).unwrap_or_default().to_vec())),
            _ => {
                tell(Event::Closed);
                false
            }
        };
    }
    // Otherwise a connection that the other side never closes would stay, after a worker that went before it was there.
    let _ = stream.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(username: &[u8], password: &[u8], options: &str) -> String {
        let settings = Settings::new(username, password, Duration::from_secs(1), options);
        String::from_utf8(settings.hello().concat()).unwrap()
    }

    #[test]
    fn a_connection_begins_with_the_password_and_the_database() {
        assert_eq!(hello(b"", b"", "buffer_flush_timeout=0"), "");
        assert_eq!(hello(b"", b"pw", ""), "*2\r\n$4\r\nauth\r\n$2\r\npw\r\n");
        assert_eq!(
            hello(b"u", b"p", "a=b&db=7"),
            "*3\r\n$4\r\nauth\r\n$1\r\nu\r\n$1\r\np\r\n*2\r\n$6\r\nselect\r\n$1\r\n7\r\n"
        );
    }
}
