//! A TCP proxy between a gateway and its Redis that spoils the connection on demand: it delays answers, loses them,
//! cuts them in two, or speaks nonsense itself. What ails it can be changed while connections are open.

use std::{
    collections::VecDeque,
    future,
    net::TcpListener as StdTcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::background_server::BackgroundServer;

/// What it says in place of an answer: what is no RESP, RESP that is no answer to a script, and RESP that never ends.
const NONSENSE: [&[u8]; 7] = [
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    b"\x16\x03\x01\x00\xff\xfe\x00\r\n",
    b":1\r\n",
    b"*2\r\n$3\r\nyes\r\n:-9\r\n",
    b"+OK\r\n",
    b"*1000000000\r\n",
    b"$536870911\r\nhalf",
];

/// How it treats what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// As it should.
    None,
    /// Every answer comes this much later, in order.
    Late(Duration),
    /// A connection breaks after so many pieces of answers, and takes the next one with it.
    Cut {
        /// Pieces, each of them an answer or several.
        after: u32,
    },
    /// Half of an answer arrives, and then the connection breaks.
    Half,
    /// Questions are answered with nonsense and do not reach the other side.
    Nonsense,
    /// Questions reach the other side, answers do not come back; the connection stays open.
    Silent,
}

/// A running proxy. Dropping it stops it, and cuts all connections.
#[derive(Debug)]
pub struct FaultProxy {
    // Dropped first: nothing is served while the rest goes.
    server: BackgroundServer,
    ailment: watch::Sender<Ailment>,
    counted: Arc<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    connections: AtomicU64,
    faults: AtomicU64,
}

/// One connection through it.
struct Relay {
    ailment: watch::Receiver<Ailment>,
    counted: Arc<Counted>,
    /// Pieces of answers so far.
    pieces: u32,
    /// Whether questions and answers may no longer match, so that the connection cannot be used once it is well again.
    is_spoiled: bool,
    /// Answers that are due later.
    late: VecDeque<(Instant, Vec<u8>)>,
}

/// What becomes of a piece of an answer.
enum Piece {
    Later(Duration),
    HalfAndCut,
    Lost,
    Cut,
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Starts one on a free port, in front of this port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start(target: u16) -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
        let (ailment, ailing) = watch::channel(Ailment::None);
        let counted = Arc::new(Counted::default());
        let shared = Arc::clone(&counted);
        let server = BackgroundServer::start(listener, move |listener| serve(listener, target, ailing, shared));
        FaultProxy { server, ailment, counted }
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// How it treats from now on what passes through it. Connections on which questions and answers may not match any
    /// more are cut.
    pub fn set(&self, ailment: Ailment) {
        self.ailment.send_replace(ailment);
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u64 {
        self.counted.connections.load(Ordering::SeqCst)
    }

    /// How often it cut, halved, lost or made up an answer.
    pub fn faults(&self) -> u64 {
        self.counted.faults.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, target: u16, ailment: watch::Receiver<Ailment>, counted: Arc<Counted>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        counted.connections.fetch_add(1, Ordering::SeqCst);
        let (ailment, counted) = (ailment.clone(), Arc::clone(&counted));
        let relay = Relay { ailment, counted, pieces: 0, is_spoiled: false, late: VecDeque::new() };
        tokio::spawn(async move {
            // Nobody there: the client sees its connection closed.
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            relay.run(client, server).await;
        });
    }
}

// === impl Relay ===

impl Relay {
    /// Passes on until one side closes, or the connection is to be cut: dropping the sockets does that.
    async fn run(mut self, mut client: TcpStream, mut server: TcpStream) {
        // Latency is what is being controlled; a socket that does not take the option still works.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let (mut question, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            let due = self.late.front().map(|(at, _)| *at);
            tokio::select! {
                read = from_client.read(&mut question) => {
                    let Ok(length @ 1..) = read else { return };
                    let sent = match self.nonsense() {
                        Some(nonsense) => to_client.write_all(nonsense).await,
                        None => to_server.write_all(&question[..length]).await,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                read = from_server.read(&mut answer) => {
                    let Ok(length @ 1..) = read else { return };
                    match self.judge() {
                        Piece::Later(delay) => self.late.push_back((Instant::now() + delay, answer[..length].to_vec())),
                        Piece::Lost => {}
                        Piece::Cut => return,
                        Piece::HalfAndCut => {
                            let _ = to_client.write_all(&answer[..length / 2]).await;
                            return;
                        }
                    }
                }
                () = until(due) => {
                    let Some((_, piece)) = self.late.pop_front() else { continue };
                    if to_client.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                changed = self.ailment.changed() => {
                    if changed.is_err() || self.is_spoiled {
                        return;
                    }
                }
            }
        }
    }

    /// What to say to a question instead of passing it on.
    fn nonsense(&mut self) -> Option<&'static [u8]> {
        if *self.ailment.borrow() != Ailment::Nonsense {
            return None;
        }
        self.is_spoiled = true;
        let turn = self.counted.faults.fetch_add(1, Ordering::SeqCst);
        let at = usize::try_from(turn).unwrap_or_default() % NONSENSE.len();
        Some(NONSENSE[at])
    }

    fn judge(&mut self) -> Piece {
        self.pieces += 1;
        let piece = match *self.ailment.borrow() {
            Ailment::None => return Piece::Later(Duration::ZERO),
            Ailment::Late(delay) => return Piece::Later(delay),
            Ailment::Cut { after } if self.pieces <= after => return Piece::Later(Duration::ZERO),
            Ailment::Cut { .. } => Piece::Cut,
            Ailment::Half => Piece::HalfAndCut,
            Ailment::Nonsense | Ailment::Silent => Piece::Lost,
        };
        self.is_spoiled = true;
        self.counted.faults.fetch_add(1, Ordering::SeqCst);
        piece
    }
}

/// Waits until then, or for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpStream,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::redis_server::RedisServer;

    fn connect(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// What comes back for a PING, up to so many bytes, or until the connection ends.
    fn ping(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        stream.write_all(b"PING\r\n").unwrap();
        let mut answer = vec![0; length];
        let mut read = 0;
        while read < length {
            match stream.read(&mut answer[read..]) {
                Ok(more @ 1..) => read += more,
                _ => break,
            }
        }
        answer.truncate(read);
        answer
    }

    #[test]
    fn what_passes_through_it_is_spoiled_as_asked_and_as_long_as_asked() {
        let redis = RedisServer::start();
        let proxy = FaultProxy::start(redis.port());
        let mut kept = connect(&proxy);
        assert_eq!(ping(&mut kept, 7), b"+PONG\r\n");

        proxy.set(Ailment::Late(Duration::from_millis(80)));
        let asked = Instant::now();
        assert_eq!(ping(&mut kept, 7), b"+PONG\r\n");
        assert!(asked.elapsed() >= Duration::from_millis(80));

        proxy.set(Ailment::Half);
        assert_eq!(ping(&mut kept, 7), b"+PO");

        proxy.set(Ailment::Cut { after: 2 });
        let mut cut = connect(&proxy);
        assert_eq!([7, 7, 7].map(|length| ping(&mut cut, length).len()), [7, 7, 0]);

        proxy.set(Ailment::Nonsense);
        let mut confused = connect(&proxy);
        let nonsense = ping(&mut confused, 3);
        assert!(NONSENSE.iter().any(|each| each.starts_with(&nonsense)), "{nonsense:?}");

        proxy.set(Ailment::Silent);
        let mut silent = connect(&proxy);
        silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(ping(&mut silent, 7), b"");

        assert_eq!((proxy.connections(), proxy.faults()), (4, 4));
        proxy.set(Ailment::None);
        // Those that were spoiled are cut, a new one is well.
        for mut spoiled in [confused, silent] {
            spoiled.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let ended = spoiled.read_to_end(&mut Vec::new());
            assert!(
                ended.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true),
                "{ended:?}"
            );
        }
        assert_eq!(ping(&mut connect(&proxy), 7), b"+PONG\r\n");
    }

    #[test]
    fn nobody_behind_it_is_a_connection_that_ends() {
        let mut redis = RedisServer::start();
        let proxy = FaultProxy::start(redis.port());
        redis.kill();
        assert_eq!(connect(&proxy).read(&mut [0]).unwrap_or_default(), 0);
    }
}
