//! The demos: gateways that need nothing but themselves, to see the limiter at work.

mod backend;
mod cache;
mod connections;
mod echo;
mod llm;
mod place;
mod requests;
mod session;
mod switch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Value, json};
use slidegate::Module;
use slidegate::stand_in_model::StandInModel;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use self::backend::Backend;
use self::place::{DemoPlace, REDIS_SERVICE};
use crate::gateway::{Listeners, Start};
use crate::logging;
use crate::settings::source::Overrides;
use crate::settings::{Mistake, Settings};

/// The ports that are tried when none is asked for.
const PORTS: std::ops::Range<u16> = 8080..8100;
const ADMIN_PORTS: std::ops::Range<u16> = 9090..9110;

/// What a demo shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demo {
    /// Limits on requests, in front of an upstream that echoes them.
    #[default]
    Requests,
    /// Limits on tokens, in front of a stand-in for a language model.
    Llm,
    /// Sessions that the gateway keeps in Redis, in front of an upstream that lets everybody log in. Needs `--redis`.
    Session,
    /// Pages that are kept in Redis, in front of a backend that the Enter key kills and starts again. Needs `--redis`.
    Cache,
}

// === impl Demo ===

impl Demo {
    /// Starts the demo's upstream, finds ports for the gateway, and prints what to try.
    ///
    /// # Errors
    /// No port is free, or Redis' URL is none.
    pub(crate) fn prepare(
        self,
        overrides: Overrides,
        module: Module,
        redis: Option<String>,
    ) -> Result<Start, Vec<Mistake>> {
        if let Some(kept) = self.kept_in_redis().filter(|_| redis.is_none()) {
            let message = format!(
                "the demo of {kept} keeps them in Redis: expected `--redis redis://127.0.0.1:6379`, or where yours is"
            );
            return Err(vec![Mistake::new("", message)]);
        }
        let lacking = |what: &str, error: &io::Error| vec![Mistake::new("", format!("cannot start {what}: {error}"))];
        let upstream = self.start_upstream().map_err(|error| lacking("the demo's upstream", &error))?;
        let proxy = free_port(overrides.listen, PORTS).map_err(|error| lacking("listening", &error))?;
        let listen = proxy.local_addr().map_err(|error| lacking("listening", &error))?;
        let listeners = Listeners {
            proxy: Some(proxy),
            admin: Some(free_port(overrides.admin, ADMIN_PORTS).map_err(|error| lacking("the admin port", &error))?),
            decide: None,
        };
        let address = |listener: &StdTcpListener| listener.local_addr().map_err(|error| lacking("listening", &error));
        let admin = listeners.admin.as_ref().map(address).transpose()?;
        let document = json!({
            "listen": listen.to_string(),
            "admin": admin.map(|admin| admin.to_string()),
            "routes": [{"name": "demo", "upstream": format!("http://{upstream}")}],
            "filter": self.filter(redis.is_some()),
            "log": {"access": false},
        });
        let mut settings = Settings::from_value(document, Path::new(""))?;
        settings.workers = overrides.workers.unwrap_or(settings.workers);
        logging::start(settings.log.format);
        let greeting = Some(self.guide(&DemoPlace::new(listen, admin, redis.as_deref())));
        Ok(Start { settings, listeners, module, redis, source: None, greeting })
    }

    /// What it cannot do without Redis.
    fn kept_in_redis(self) -> Option<&'static str> {
        match self {
            Self::Requests | Self::Llm => None,
            Self::Session => Some("sessions"),
            Self::Cache => Some("pages"),
        }
    }

    fn start_upstream(self) -> io::Result<SocketAddr> {
        match self {
            Self::Requests => start_in_thread(|listener| echo::serve(listener, |_| None)),
            Self::Session => start_in_thread(|listener| echo::serve(listener, session::order)),
            Self::Llm => start_in_thread(|listener| StandInModel::new(llm::MANNER).serve(listener)),
            Self::Cache => {
                let backend = Backend::start()?;
                let address = backend.address();
                switch::install(backend)?;
                Ok(address)
            }
        }
    }

    fn filter(self, has_redis: bool) -> Value {
        let mut filter = match self {
            Self::Requests => requests::filter(),
            Self::Llm => llm::filter(),
            Self::Session => return session::filter(),
            Self::Cache => return cache::filter(),
        };
        if has_redis {
            filter["redis"] = json!({"service_name": REDIS_SERVICE});
        }
        filter
    }

    fn guide(self, place: &DemoPlace) -> String {
        match self {
            Self::Requests => requests::guide(place),
            Self::Llm => llm::guide(place),
            Self::Session => session::guide(place),
            Self::Cache => cache::guide(place),
        }
    }
}

/// Has a free port of the loopback address served, in a thread that lives as long as the process.
///
/// # Errors
/// There is no port or no thread to be had.
fn start_in_thread<F: Future<Output = ()>>(
    serve: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
    std::thread::Builder::new().name("demo-upstream".to_owned()).spawn(move || runtime.block_on(serve(listener)))?;
    Ok(address)
}

/// A port of the range on the loopback address, or the address asked for.
fn free_port(asked: Option<SocketAddr>, ports: std::ops::Range<u16>) -> io::Result<StdTcpListener> {
    if let Some(address) = asked {
        let unbound = |error: io::Error| io::Error::new(error.kind(), format!("on `{address}`: {error}"));
        return StdTcpListener::bind(address).map_err(unbound);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match StdTcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
