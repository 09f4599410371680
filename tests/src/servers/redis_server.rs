//! A Redis of one's own: each test starts the real server on a free port and stops it when done, so that any number of
//! tests run beside each other and none needs a server that is already there.

use std::{
    env, fs,
    io::ErrorKind,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use redis::{Client, Cmd, Connection, FromRedisValue, RedisResult, Value};

/// How long a server may take to answer its first PING, in a machine that builds something else at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Names another server than the `redis-server` on the path: the suites that matter run on a second line too.
const BINARY_VARIABLE: &str = "SLIDEGATE_REDIS_SERVER";

/// The file that makes a server a sentinel.
const SENTINEL_FILE: &str = "sentinel.conf";

/// The file that makes a server's clock ours to set: by how much it is ahead, in libfaketime's words.
const CLOCK_FILE: &str = "clock";

/// What brings such a clock. Redis is given the allocator of the C library beside it, since its own reads the clock
/// before there is one.
const CLOCK_LIBRARIES: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1 libc.so.6";

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
        Self::start_in(new_directory(), args)
    }

    /// Starts a sentinel with these lines of configuration.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    pub fn start_sentinel(configuration: &str) -> Self {
        let directory = new_directory();
        fs::write(directory.join(SENTINEL_FILE), configuration).expect("the temporary directory can be written to");
        Self::start_in(directory, &[])
    }

    /// Starts a server whose clock is right until [`RedisServer::set_clock`], with more arguments.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    pub fn start_with_clock(args: &[&str]) -> Self {
        let directory = new_directory();
        fs::write(directory.join(CLOCK_FILE), "+0").expect("the temporary directory can be written to");
        let server = Self::start_in(directory, args);
        server.set_clock(0);
        server
    }

    fn start_in(directory: PathBuf, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let (process, port) = (0..PORT_ATTEMPTS)
            .find_map(|_| {
                let port = free_port();
                launch(port, &args, &directory, answers).map(|process| (process, port))
            })
            .unwrap_or_else(|| {
                panic!("`redis-server` with arguments {args:?} stopped at once, on {PORT_ATTEMPTS} ports")
            });
        RedisServer { process, port, args, directory }
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its files, if it keeps any.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it answers to a command; nested as it came.
    ///
    /// # Errors
    ///
    /// An error reply, or none at all.
    pub fn ask(&self, words: &[&str]) -> RedisResult<Value> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.client().get_connection_with_timeout(START_TIMEOUT)?)
    }

    /// Waits until a replica has all that was written here.
    ///
    /// # Panics
    ///
    /// When none comes to have it.
    pub fn wait_followed(&self) {
        let mut connection = self.connection();
        // Redis waits for what the connection itself has written: something that counts for nobody, in a slot of here.
        let mut write = |n: i32| {
            let key = format!("written-{n}");
            redis::cmd("SET").arg(key).arg(1).arg("PX").arg(60_000).exec(&mut connection).is_ok()
        };
        assert!((0..1_000).any(&mut write), "something can be written");
        let followers: usize = redis::cmd("WAIT").arg(1).arg(5_000).query(&mut connection).expect("it answers");
        assert!(followers > 0, "no replica has it");
    }

    /// What it answers to a command, as text.
    ///
    /// # Panics
    ///
    /// On an error reply, or none at all.
    pub fn tell(&self, words: &[&str]) -> String {
        let value = self.ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        String::from_redis_value(value).unwrap_or_default()
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

    /// Sets the clock of a server from [`RedisServer::start_with_clock`] to so many seconds ahead of ours, while it
    /// runs.
    ///
    /// # Panics
    ///
    /// When its clock does not follow: libfaketime is not installed, or the server was started otherwise.
    pub fn set_clock(&self, ahead_s: i64) {
        let (file, written) = (self.directory.join(CLOCK_FILE), self.directory.join("clock.new"));
        // At once: half a number is a time too.
        let set = fs::write(&written, format!("{ahead_s:+}")).and_then(|()| fs::rename(&written, &file));
        set.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (seconds, _): (i64, i64) =
            redis::cmd("TIME").query(&mut self.connection()).expect("a running server tells the time");
        let ours_s = UNIX_EPOCH.elapsed().expect("it is later than 1970").as_secs();
        let seen_s = seconds.saturating_sub_unsigned(ours_s);
        assert!(
            (seen_s - ahead_s).abs() <= 30,
            "set {ahead_s} s ahead, it is {seen_s} s ahead: run `just setup` for libfaketime"
        );
    }

    /// Promotes a replica and lets it listen where its master did, as one does that takes an address over.
    ///
    /// # Panics
    ///
    /// When it refuses, or the master still listens.
    pub fn take_over(&mut self, port: u16) {
        self.tell(&["REPLICAOF", "NO", "ONE"]);
        self.tell(&["CONFIG", "SET", "port", &port.to_string()]);
        self.port = port;
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
        if self.directory.join(CLOCK_FILE).exists() {
            // What a clock leaves behind when it is killed; none is left by one that could not start.
            let id = self.process.id();
            let _ = fs::remove_file(format!("/dev/shm/faketime_shm_{id}"));
            let _ = fs::remove_file(format!("/dev/shm/sem.faketime_sem_{id}"));
        }
    }

    /// Starts it again on the same port with the same arguments, holding nothing; kills it first if it is running.
    ///
    /// # Panics
    ///
    /// When somebody else has taken the port in between, or the server does not answer.
    pub fn restart_empty(&mut self) {
        self.restart(answers);
    }

    /// As [`RedisServer::restart_empty`], but with what SAVE left in [`RedisServer::directory`], and without waiting
    /// until that is loaded.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::restart_empty`].
    pub fn restart_loading(&mut self) {
        self.restart(|port| answer(port).is_some());
    }

    fn restart(&mut self, is_up: fn(u16) -> bool) {
        self.kill();
        self.process = launch(self.port, &self.args, &self.directory, is_up)
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

/// Starts a server and waits until it is up; None if it stopped instead, as it does when the port is taken.
fn launch(port: u16, args: &[String], directory: &Path, is_up: fn(u16) -> bool) -> Option<Child> {
    let binary = env::var(BINARY_VARIABLE).unwrap_or_else(|_| "redis-server".to_owned());
    let mut command = Command::new(&binary);
    let clock = directory.join(CLOCK_FILE);
    if clock.exists() {
        // Its own waits go by another clock, which is never set.
        let settings =
            [("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("LD_PRELOAD", CLOCK_LIBRARIES)];
        command.envs(settings).env("FAKETIME_TIMESTAMP_FILE", clock);
    }
    let sentinel = directory.join(SENTINEL_FILE);
    if sentinel.exists() {
        command.arg(sentinel).arg("--sentinel");
    } else {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    let mut process = command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
        .arg("--dir")
        .arg(directory)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("there is no `{binary}`: run `just setup`"),
            _ => panic!("`{binary}` cannot be started: {error}"),
        });
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if process.try_wait().expect("a child can be waited for").is_some() {
            return None;
        }
        if is_up(port) {
            // Whoever answers may be another's server, if ours found the port taken and is about to stop.
            thread::sleep(Duration::from_millis(10));
            return process.try_wait().expect("a child can be waited for").is_none().then_some(process);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = process.kill();
    let _ = process.wait();
    panic!("`{binary}` on port {port} does not answer PING within {START_TIMEOUT:?}");
}

/// Whether a Redis answers PING there; an error reply is an answer too, as a server with a password gives one.
fn answers(port: u16) -> bool {
    answer(port).is_some_and(|answer| answer != "LOADING")
}

/// What a Redis answers to PING there, or the code of its error.
fn answer(port: u16) -> Option<String> {
    let client = Client::open(format!("redis://127.0.0.1:{port}")).ok()?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
    match redis::cmd("PING").query::<String>(&mut connection) {
        Ok(answer) => Some(answer),
        Err(error) => error.code().map(str::to_owned),
    }
}

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
///
/// When there is none left.
pub fn free_port() -> u16 {
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
        let servers: Vec<_> =
            (0..4).map(|_| thread::spawn(RedisServer::start)).map(|start| start.join().unwrap()).collect();
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
        let policy: (String, String) =
            redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query(&mut server.connection()).unwrap();
        assert_eq!(policy.1, "allkeys-lru");
    }
}
