//! A Redis of one's own: each test starts the real server on a free port and stops it when done, so that any number of
//! tests run beside each other and none needs a server that is already there.

use std::{
    fs,
    io::ErrorKind,
    net::TcpListener,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::{Client, Connection};

/// How long a server may take to answer its first PING, in a machine that builds something else at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often another port is tried when somebody else was quicker to take one.
const PORT_ATTEMPTS: usize = 20;

/// A running `redis-server` that keeps nothing on disk. Dropping it stops it, also while a failed test unwinds.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    args: Vec<String>,
    directory: PathBuf,
}

// === impl RedisServer ===

impl RedisServer {
    /// Starts a server with default settings.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed, or does not answer.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments: `&["--requirepass", "secret"]`.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    pub fn start_with(args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let directory = new_directory();
        let (process, port) = (0..PORT_ATTEMPTS)
            .find_map(|_| {
                let port = free_port();
                launch(port, &args, &directory).map(|process| (process, port))
            })
            .unwrap_or_else(|| panic!("`redis-server` with arguments {args:?} stopped at once, on {PORT_ATTEMPTS} ports"));
        RedisServer { process, port, args, directory }
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address as a `redis://` URL, without user or password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A client of it, without user or password.
    ///
    /// # Panics
    ///
    /// Never: the URL is well-formed.
    pub fn client(&self) -> Client {
        Client::open(self.url()).expect("the URL of a server on 127.0.0.1 is well-formed")
    }

    /// A new connection to it, without user or password.
    ///
    /// # Panics
    ///
    /// When the server is stopped, paused or killed.
    pub fn connection(&self) -> Connection {
        self.client().get_connection().expect("a running server accepts a connection")
    }

    /// Stops it in its tracks: connections stay open, and nothing answers until [`RedisServer::resume`].
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`RedisServer::pause`].
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it: connections break, new ones are refused. All it held is lost.
    pub fn kill(&mut self) {
        // Both fail only when it has already gone, which is what was wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port with the same arguments, holding nothing; kills it first if it is running.
    ///
    /// # Panics
    ///
    /// When somebody else has taken the port in between, or the server does not answer.
    pub fn restart_empty(&mut self) {
        self.kill();
        self.process = launch(self.port, &self.args, &self.directory)
            .unwrap_or_else(|| panic!("`redis-server` did not start again on port {}", self.port));
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("`sh` runs");
        assert!(status.success(), "`{command}` failed: the server is not running");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // A directory that stays behind in the system's temporary one hurts nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts a server and waits until it answers; None if it stopped instead, as it does when the port is taken.
fn launch(port: u16, args: &[String], directory: &PathBuf) -> Option<Child> {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(directory)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("`redis-server` is not installed: run `just setup`"),
            _ => panic!("`redis-server` cannot be started: {error}"),
        });
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if process.try_wait().expect("a child can be waited for").is_some() {
            return None;
        }
        if answers(port) {
            // Whoever answers may be another's server, if ours found the port taken and is about to stop.
            thread::sleep(Duration::from_millis(10));
            return process.try_wait().expect("a child can be waited for").is_none().then_some(process);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = process.kill();
    let _ = process.wait();
    panic!("`redis-server` on port {port} does not answer PING within {START_TIMEOUT:?}");
}

/// Whether a Redis answers PING there; an error reply is an answer too, as a server with a password gives one.
fn answers(port: u16) -> bool {
    let Ok(client) = Client::open(format!("redis://127.0.0.1:{port}")) else { return false };
    let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else { return false };
    match redis::cmd("PING").query::<String>(&mut connection) {
        Ok(answer) => answer == "PONG",
        Err(error) => error.code().is_some_and(|code| code != "LOADING"),
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn new_directory() -> PathBuf {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let name = format!("slidegate-redis-{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(&directory).expect("the temporary directory can be written to");
    directory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dbsize(server: &RedisServer) -> u64 {
        redis::cmd("DBSIZE").query(&mut server.connection()).unwrap()
    }

    #[test]
    fn many_servers_run_beside_each_other_and_each_stops_when_dropped() {
        let servers: Vec<_> = (0..4).map(|_| thread::spawn(RedisServer::start)).map(|start| start.join().unwrap()).collect();
        for (index, server) in servers.iter().enumerate() {
            for key in 0..=index {
                redis::cmd("SET").arg(key).arg("x").exec(&mut server.connection()).unwrap();
            }
        }
        let sizes: Vec<_> = servers.iter().map(dbsize).collect();
        assert_eq!(sizes, [1, 2, 3, 4]);
        let clients: Vec<_> = servers.iter().map(RedisServer::client).collect();
        let directories: Vec<_> = servers.iter().map(|server| server.directory.clone()).collect();
        drop(servers);
        assert!(clients.iter().all(|client| client.get_connection().is_err()));
        assert!(directories.iter().all(|directory| !directory.exists()));
    }

    #[test]
    fn a_paused_server_answers_once_it_is_resumed() {
        let server = RedisServer::start();
        let mut connection = server.connection();
        server.pause();
        connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let silent = redis::cmd("PING").query::<String>(&mut connection).unwrap_err();
        assert!(silent.is_timeout(), "{silent}");
        server.resume();
        assert_eq!(redis::cmd("PING").query::<String>(&mut server.connection()).unwrap(), "PONG");
    }

    #[test]
    fn a_killed_server_comes_back_empty_on_the_same_port_with_its_arguments() {
        let mut server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
        let (port, client) = (server.port(), server.client());
        redis::cmd("SET").arg("key").arg("x").exec(&mut server.connection()).unwrap();
        server.kill();
        assert!(client.get_connection().is_err());
        server.restart_empty();
        assert_eq!((server.port(), dbsize(&server)), (port, 0));
        let policy: (String, String) = redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query(&mut server.connection()).unwrap();
        assert_eq!(policy.1, "allkeys-lru");
    }
}
