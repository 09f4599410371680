//! What listens where Redis should, and is none.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// A server that answers whatever arrives with always the same bytes, or hangs up. It ends with the process.
#[derive(Debug)]
pub(super) struct Impostor {
    port: u16,
}

impl Impostor {
    /// Answers each piece that arrives with these bytes; none: closes the connection instead.
    pub(super) fn start(answer: Option<&'static [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, answer));
            }
        });
        Impostor { port }
    }

    /// Its address as a `redis://` URL.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port, at 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn serve(mut stream: TcpStream, answer: Option<&[u8]>) {
    let mut piece = [0; 65_536];
    while stream.read(&mut piece).is_ok_and(|read| read > 0) {
        match answer {
            Some(answer) if stream.write_all(answer).is_ok() => {}
            _ => return,
        }
    }
}
