//! A program of somebody else that serves on a port of 127.0.0.1 until it is dropped.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{gateway_process::Directory, redis_server::free_port};

/// Longer than any of them takes to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that runs.
pub struct Program {
    process: Child,
    address: SocketAddr,
    /// Its configuration, and whatever it writes.
    directory: Directory,
}

/// Where `just` puts a program of others. `nginx` may be the system's own.
///
/// # Panics
///
/// When it is not there: a comparison that silently leaves one out would be none.
pub fn installed(name: &str) -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is inside the workspace")
        .join("target/peers/bin");
    let path = peers.join(name);
    let of_system = Path::new("/usr/sbin").join(name);
    if name == "nginx" && !path.exists() && of_system.exists() {
        return of_system;
    }
    assert!(path.exists(), "{name} is not at {}: run `just setup` or `just peers`, which install it", path.display());
    path
}

/// A port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

impl Program {
    /// Starts a program and waits until it accepts connections at this address. It finds `files` in its directory,
    /// where it is started.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or ends, or accepts nothing.
    pub fn start(program: impl AsRef<OsStr>, args: &[&str], address: SocketAddr, files: &[(&str, String)]) -> Self {
        Self::try_start(program, args, address, files, None).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The same, where `sign` may name a file that it writes when it has its port: somebody else may have taken that.
    ///
    /// # Errors
    ///
    /// It ended, or accepts nothing.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn try_start(
        program: impl AsRef<OsStr>,
        args: &[&str],
        address: SocketAddr,
        files: &[(&str, String)],
        sign: Option<&str>,
    ) -> Result<Self, String> {
        let program = program.as_ref();
        let directory = Directory::new();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("a temporary file can be written");
        }
        let log = fs::File::create(directory.path().join("log")).expect("a temporary file can be written");
        let process = Command::new(program)
            .args(args)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        let mut started = Program { process, address, directory };
        started.wait(program, sign)?;
        Ok(started)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait(&mut self, program: &OsStr, sign: Option<&str>) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let sign = sign.map(|file| self.directory.path().join(file));
        while sign.as_ref().is_some_and(|file| !file.exists()) || TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("a child can be asked after");
            if ended.is_some() || Instant::now() > until {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(format!("{} does not serve ({ended:?}):\n{log}", program.display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // By a signal that lets it end its own children. It fails only when the program has gone already.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
