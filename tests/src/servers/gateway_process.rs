//! The gateway as it ships: the real binary, in a process of its own, on free ports, with its log at hand.

mod binary;
mod captured;
mod directory;

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::captured::Captured;
pub use self::{binary::binary, directory::Directory};
use crate::{http_client::HttpClient, metrics::Metrics};

/// How long anything may take that does not hang, in a machine that builds something else at the same time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    /// Where other proxies ask, if they may.
    decide: Option<SocketAddr>,
    /// What is shown to its admin port.
    admin_token: Option<String>,
    /// The settings file; none for the demo.
    file: Option<PathBuf>,
    /// Its standard input, if that is anything.
    input: Option<ChildStdin>,
    out: Captured,
    err: Captured,
    _directory: Directory,
}

/// Runs the gateway's binary to its end.
///
/// # Panics
///
/// When it cannot be started, or does not end.
pub fn run(args: &[&str]) -> Output {
    run_with(args, &[], b"")
}

/// The same, with more in its environment, and with this on its standard input.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(args: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Output {
    let mut command = command(args);
    let mut process =
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).spawn().expect("the gateway's binary runs");
    let (mut source, input) = (process.stdin.take().expect("piped"), input.to_vec());
    // One that ends without reading it all closes the pipe.
    let writer = thread::spawn(move || drop(source.write_all(&input)));
    let readers = (read_all(process.stdout.take().expect("piped")), read_all(process.stderr.take().expect("piped")));
    let status = wait(&mut process, PATIENCE);
    let [stdout, stderr] = [readers.0, readers.1].map(|reader| reader.join().expect("a reader ends"));
    writer.join().expect("a writer ends");
    Output { status, stdout, stderr }
}

/// Reads to the end in a thread, so that a process never waits for its reader.
fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

// === impl Gateway ===

impl Gateway {
    /// Serves these settings, YAML without `listen` and `admin`, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve(settings: &str) -> Self {
        Self::serve_with(settings, &[])
    }

    /// Serves these settings with more arguments.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_with(settings: &str, args: &[&str]) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("gate.yaml");
        fs::write(&file, complete(settings)).expect("a temporary file can be written");
        let mut all = vec!["serve", file.to_str().expect("a temporary path is text")];
        all.extend(args);
        Self::start(&all, &[], Some(file.clone()), directory)
    }

    /// Serves these settings with more in its environment.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_in(settings: &str, environment: &[(&str, String)]) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("gate.yaml");
        fs::write(&file, complete(settings)).expect("a temporary file can be written");
        Self::start(
            &["serve", file.to_str().expect("a temporary path is text")],
            environment,
            Some(file.clone()),
            directory,
        )
    }

    /// Serves a file that is there already, with ports that are asked for in it.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_file(file: &Path) -> Self {
        Self::start(
            &["serve", file.to_str().expect("a path in UTF-8")],
            &[],
            Some(file.to_path_buf()),
            Directory::new(),
        )
    }

    /// Serves these settings with so many descriptors.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_limited(settings: &str, descriptors: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"]);
        Self::serve_by(shell, settings, &[])
    }

    /// Has a tool serve these settings, which runs the command that follows its own arguments, as the same process.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_by(mut tool: Command, settings: &str, args: &[&str]) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("gate.yaml");
        fs::write(&file, complete(settings)).expect("a temporary file can be written");
        tool.arg(binary()).arg("serve").arg(&file).args(args);
        piped(&mut tool);
        Self::spawn(tool, Some(file.clone()), directory)
    }

    /// Starts the demo with these arguments.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn demo(args: &[&str]) -> Self {
        let mut command = command(args);
        command.stdin(Stdio::piped());
        Self::spawn(command, None, Directory::new())
    }

    fn start(args: &[&str], environment: &[(&str, String)], file: Option<PathBuf>, directory: Directory) -> Self {
        let mut command = command(args);
        command.envs(environment.iter().cloned());
        Self::spawn(command, file, directory)
    }

    fn spawn(mut command: Command, file: Option<PathBuf>, directory: Directory) -> Self {
        let mut process = command.spawn().expect("the gateway's binary runs");
        let input = process.stdin.take();
        let out = Captured::of(process.stdout.take().expect("piped"));
        let err = Captured::of(process.stderr.take().expect("piped"));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // Made before anything can fail, so that the process is killed whatever happens.
        let (listen, admin, decide, admin_token) = (unknown, unknown, None, None);
        let mut gateway =
            Gateway { process, listen, admin, decide, admin_token, file, input, out, err, _directory: directory };
        let serving = gateway.err.wait_for(PATIENCE, |line| line.contains(" serving ") || line.contains("\"serving\""));
        let line = serving.unwrap_or_else(|| panic!("the gateway does not serve: {command:?}"));
        // One that decides for others need not listen for clients.
        gateway.decide = found_address(&line, "decide");
        if gateway.decide.is_none() || found_address(&line, "listen").is_some() {
            gateway.listen = address(&line, "listen");
        }
        gateway.admin = address(&line, "admin");
        assert_eq!(gateway.ask_admin("/healthz").1, "ok\n");
        gateway
    }

    /// Where requests go.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where other proxies ask.
    ///
    /// # Panics
    ///
    /// When its settings have no `decide`.
    pub fn decide(&self) -> SocketAddr {
        self.decide.expect("settings with `decide`")
    }

    /// Where the admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The same gateway, whose admin port is asked with this token.
    #[must_use]
    pub fn with_admin_token(mut self, token: &str) -> Self {
        self.admin_token = Some(token.to_owned());
        self
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A new connection to it.
    pub fn client(&self) -> HttpClient {
        HttpClient::connect(self.listen)
    }

    /// Requests for `/` one after the other on one connection, each with this header: their statuses.
    pub fn statuses(&self, header: &str, value: &str, requests: usize) -> Vec<u16> {
        let mut client = self.client();
        (0..requests).map(|_| client.get("/", &[(header, value)]).status()).collect()
    }

    /// One request on a connection of its own: status and body.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let answer = self.client().get(path, headers);
        (answer.status(), answer.text())
    }

    /// What the admin port answers: status and body.
    pub fn ask_admin(&self, path: &str) -> (u16, String) {
        let authorization = self.admin_token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|field| ("authorization", field.as_str())).collect();
        let answer = HttpClient::connect(self.admin).get(path, &headers);
        (answer.status(), answer.text())
    }

    /// The counters as they are now.
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.ask_admin("/metrics");
        assert_eq!(status, 200);
        Metrics::parse(&text)
    }

    /// Writes new settings into the file it serves. It sees them by itself, or with [`Gateway::hang_up`].
    ///
    /// # Panics
    ///
    /// For the demo, which has no file.
    pub fn write_settings(&self, settings: &str) {
        self.write_file(&complete(settings));
    }

    /// Writes this into the file it serves, as it is.
    ///
    /// # Panics
    ///
    /// For the demo, which has no file.
    pub fn write_file(&self, text: &str) {
        let file = self.file.as_ref().expect("a gateway that serves a file");
        fs::write(file, text).expect("a temporary file can be written");
    }

    /// Puts a file with new settings in the place of the one it serves, as editors and Kubernetes do.
    ///
    /// # Panics
    ///
    /// For the demo, which has no file.
    pub fn replace_settings(&self, settings: &str) {
        let file = self.file.as_ref().expect("a gateway that serves a file");
        let new = file.with_extension("new");
        fs::write(&new, complete(settings)).expect("a temporary file can be written");
        fs::rename(&new, file).expect("a temporary file can be renamed");
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGSTOP: it does nothing until [`Gateway::thaw`], but the system still takes connections for it.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("`sh` runs");
        assert!(status.success(), "`{command}` failed: the gateway is not running; it said:\n{}", self.log());
    }

    /// Whether the process is still there.
    ///
    /// # Panics
    ///
    /// Never, in practice.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait(&mut self.process, PATIENCE)
    }

    /// What it wrote to standard error: its log, a line an event.
    pub fn log(&self) -> String {
        self.err.text()
    }

    /// What it wrote to standard output: the access log, or the demo's guide.
    pub fn printed(&self) -> String {
        self.out.text()
    }

    /// The lines of its log with this text.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits for a line of its log with this text.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn wait_log(&self, text: &str) -> String {
        let line = self.err.wait_for(PATIENCE, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with `{text}` in the log:\n{}", self.log()))
    }

    /// Waits for a line on its standard output with this text.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn wait_printed(&self, text: &str) -> String {
        let line = self.out.wait_for(PATIENCE, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with `{text}` was printed:\n{}", self.printed()))
    }

    /// Presses Enter where the demo runs.
    ///
    /// # Panics
    ///
    /// Without a demo that reads its standard input.
    pub fn press_enter(&mut self) {
        self.input.as_mut().expect("a demo").write_all(b"\n").expect("the demo reads its standard input");
    }

    /// The most memory it ever held, in bytes.
    ///
    /// # Panics
    ///
    /// Where there is no `/proc`.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("Linux tells about processes");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a running process has memory");
        let kilobytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number of kilobytes") << 10
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only when it has already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- the gateway's log:\n{}---", self.log());
        }
    }
}

/// Waits until something holds, looking often.
///
/// # Panics
///
/// When it does not come to hold.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The lines of a YAML text, moved to the right to stand under a field.
pub fn indented(yaml: &str) -> String {
    yaml.lines().map(|line| format!("  {line}\n")).collect()
}

fn complete(settings: &str) -> String {
    let leads_somewhere =
        |line: &str| ["upstream:", "upstreams:", "routes:"].iter().any(|field| line.starts_with(field));
    let decides_alone =
        settings.lines().any(|line| line.starts_with("decide:")) && !settings.lines().any(leads_somewhere);
    let listen = if decides_alone { "" } else { "listen: 127.0.0.1:0\n" };
    format!("{listen}admin: 127.0.0.1:0\n{settings}")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    piped(&mut command);
    command
}

fn piped(command: &mut Command) {
    command.env_remove("SLIDEGATE_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

fn wait(process: &mut Child, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = process.try_wait().expect("a child can be waited for") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = process.kill();
            panic!("the gateway does not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The address after a field's name, in a log line of either format.
fn address(line: &str, field: &str) -> SocketAddr {
    found_address(line, field).unwrap_or_else(|| panic!("no address `{field}` in `{line}`"))
}

/// The same, if there is one.
fn found_address(line: &str, field: &str) -> Option<SocketAddr> {
    let after = line.split_once(field).map(|(_, after)| after.trim_start_matches(['=', '"', ':']))?;
    after.split([' ', '"']).next()?.parse().ok()
}
