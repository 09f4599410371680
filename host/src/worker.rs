//! One kept instance, its Redis connections, and the streams in flight, for Tokio.

mod alarm;
mod core;
mod held;
mod options;
mod replies;
mod stream;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use self::core::Core;
pub use self::held::{BODY_BYTES_MAX, BodySide, HELD_BYTES_MAX, held_bytes};
pub use self::options::{Clock, WorkerOptions};
pub use self::stream::{BodyStep, Released, Stream, Verdict};
use crate::bindings::exports::slidegate::filter::filter::Configuration;
use crate::bindings::slidegate::filter::explanation::Explanation;
use crate::bindings::slidegate::filter::redis::{CallError, Reply};
use crate::component::Module;
use crate::instance::{ConfigureError, Instance, Trap};
use crate::request::Request;

/// A configured filter, ready for requests. Cheap to clone; clones are the same worker.
///
/// Each worker keeps one instance of the component, and with it one set of local windows, one memory
/// of known refusals, and one connection to each Redis. Calls into the instance take microseconds
/// and exclude one another; nothing waits for Redis while it holds the instance.
///
/// A trap of the component ends its instance, not the worker: every stream undecided at that moment
/// gets what the configuration wants for this case, and the next request finds a fresh instance.
#[derive(Clone)]
pub struct Worker {
    core: Arc<Core>,
}

/// A [`Worker`] that is kept by others, as long as they and its streams keep it.
#[derive(Clone)]
pub struct WeakWorker {
    core: Weak<Core>,
}

impl Worker {
    /// Makes an instance and configures it with the JSON document that a Higress WasmPlugin would
    /// carry. To be called inside a Tokio runtime, which later runs the Redis connections.
    ///
    /// # Errors
    ///
    /// If the configuration has mistakes, the component traps, or there is no runtime.
    pub fn start(module: &Module, filter_json: &[u8], options: WorkerOptions) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let mut instance = Instance::with_limits(module, options.limits).map_err(StartError::Trap)?;
        let configuration = instance.configure(filter_json, (options.clock)()).map_err(|error| match error {
            ConfigureError::Trap(trap) => StartError::Trap(trap),
            invalid @ ConfigureError::Invalid(_) => StartError::Configure(invalid),
        })?;
        let core =
            Core::new(module, filter_json, options, &runtime, configuration, instance).map_err(StartError::Trap)?;
        Ok(Self { core })
    }

    /// What the component made of the configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.core.configuration
    }

    /// The configuration as it was understood, for people: lines of text.
    pub fn describe(&self) -> &str {
        &self.core.description
    }

    /// Begins a stream for a request. Nothing happens before [`Stream::on_request`].
    pub fn open(&self, request: Arc<dyn Request>) -> Stream {
        Stream::new(Arc::clone(&self.core), request)
    }

    /// Brings what the filter has counted to the recorder of the `metrics` crate. This happens each second anyhow; to
    /// be called before somebody reads the metrics, who then sees them as they are.
    pub fn fetch_metrics(&self) {
        self.core.fetch_metrics();
    }

    /// What the filter would say of a request: nothing is decided or counted. `replies` are what Redis said to all
    /// questions that this has returned for the request so far, in their order; until none is left, more can be said.
    /// None if the filter cannot be asked.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use slidegate::{HttpRequest, Module, Worker, WorkerOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = br#"{"rule_name": "all", "global_threshold": {"query_per_minute": 5}}"#;
    /// let worker = Worker::start(&Module::embedded()?, config, WorkerOptions::default())?;
    /// let request: http::Request<()> = http::Request::get("http://shop.example/orders").body(())?;
    /// let explanation = worker.explain(Arc::new(HttpRequest::from(&request)), &[]).expect("it has an instance");
    /// assert_eq!(explanation.filters[0].name, "all");
    /// assert!(explanation.questions.is_empty(), "nothing has to be asked of a Redis");
    /// # Ok(()) }
    /// ```
    pub fn explain(&self, request: Arc<dyn Request>, replies: &[Result<Reply, CallError>]) -> Option<Explanation> {
        self.core.explain(request, replies)
    }

    /// Has the filter send what it put off, and settle what it follows by what came of it so far; to be called when no
    /// more requests come and the process is about to end, while the worker's runtime still runs. The future ends when
    /// Redis has answered everything that was sent. (A worker that is let go otherwise does the same, but nobody can
    /// wait for it.)
    pub fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.retire()
    }

    /// The same worker, which this does not keep.
    pub fn downgrade(&self) -> WeakWorker {
        WeakWorker { core: Arc::downgrade(&self.core) }
    }

    /// How many instances of this worker have trapped.
    pub fn traps(&self) -> u64 {
        self.core.traps.load(Ordering::Relaxed)
    }

    /// Linear memory of the instance, in bytes. Zero if it has trapped and was not replaced yet.
    pub fn memory_bytes(&self) -> usize {
        self.core.memory_bytes()
    }
}

impl WeakWorker {
    /// The worker. None if it was let go.
    pub fn upgrade(&self) -> Option<Worker> {
        self.core.upgrade().map(|core| Worker { core })
    }

    /// Whether it was let go. To ask this holds no worker.
    pub fn is_gone(&self) -> bool {
        self.core.strong_count() == 0
    }
}

impl fmt::Debug for WeakWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakWorker").finish_non_exhaustive()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("traps", &self.traps()).finish_non_exhaustive()
    }
}

/// Why a worker did not start.
#[derive(Clone, Debug)]
pub enum StartError {
    /// The configuration has mistakes: [`ConfigureError::Invalid`].
    Configure(ConfigureError),
    /// The component failed before the first request.
    Trap(Trap),
    /// Not called inside a Tokio runtime.
    NoRuntime,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configure(error) => error.fmt(f),
            Self::Trap(trap) => trap.fmt(f),
            Self::NoRuntime => f.write_str("a worker needs a Tokio runtime to start in"),
        }
    }
}

impl std::error::Error for StartError {}
