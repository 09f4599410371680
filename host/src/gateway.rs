//! The gateway: a reverse proxy with a thread per core, in which every request passes the filter first.
//!
//! One thread accepts connections, serves the admin port and reloads settings; the others, the lanes, serve requests,
//! each with its own event loop, upstream connections and filter worker. A listener is of a kind: the kind says what
//! its clients may take up and when they have to go, and a service of the same name answers them; all else is the same
//! for all of them.

mod access_log;
mod admin;
mod admission;
mod answer;
mod body;
mod client;
mod connection;
mod decide;
mod decision_labels;
mod decoding;
mod descriptors;
mod dormant;
mod due;
pub(crate) mod explanation;
mod filtered;
mod guests;
mod handshake;
mod headers;
mod health;
mod interim;
pub(crate) mod kept;
mod large_answers;
mod lingering;
mod listener;
mod listener_kind;
mod overview;
mod plain_body;
mod proxy;
mod rehearsal;
mod reload;
mod routes;
mod secured;
mod seen_body;
mod served;
mod server;
mod service;
mod serving;
mod shutdown;
mod signals;
mod socket;
mod streams;
mod telemetry;
mod told_body;
mod tunnel;
mod upload;
mod via;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use slidegate::{Module, Worker};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use self::admin::{Admin, Refusals};
use self::guests::Guests;
use self::health::Health;
use self::listener::Listener;
use self::listener_kind::ListenerKind;
use self::overview::RecentPast;
use self::proxy::Lane;
use self::reload::{Reloader, Trigger};
use self::server::Lanes;
use self::service::ListenerService;
use self::shutdown::Shutdown;
use self::signals::{Signal, Signals};
use self::telemetry::ProcessMetrics;
use crate::logging;
use crate::memory;
use crate::settings::source::SettingsSource;
use crate::settings::{Mistake, Settings};

pub(crate) use self::admission::RouteNames;
pub(crate) use self::listener::Listeners;
pub(crate) use self::rehearsal::{AnsweredBy, Rehearsal, RehearsedAnswer, RehearsedRequest, RehearsedUpstream};
pub(crate) use self::serving::{Serving, Workshop, redis_name};

/// How long a gateway that ends waits for Redis to answer its filters' last calls.
const RETIRE_MAX: Duration = Duration::from_secs(1);

/// All it takes to run a gateway.
pub(crate) struct Start {
    pub(crate) settings: Settings,
    pub(crate) listeners: Listeners,
    pub(crate) module: Module,
    /// Stands for every Redis that the filter names.
    pub(crate) redis: Option<String>,
    /// Where the settings came from, and the bytes they were read from. Without it there are no reloads.
    pub(crate) source: Option<(SettingsSource, Vec<u8>)>,
    /// Printed to standard output once requests are taken.
    pub(crate) greeting: Option<String>,
}

/// Runs a gateway until it is told to end and has ended in order.
///
/// # Errors
/// The gateway cannot start: the filter's configuration is wrong, or the operating system lacks something.
pub(crate) fn run(start: Start) -> Result<(), Vec<Mistake>> {
    let lacking = |error: io::Error| vec![Mistake::new("", format!("cannot start: {error}"))];
    // Before anything counts.
    let metrics = telemetry::install().map_err(|error| vec![Mistake::new("", format!("cannot count: {error}"))])?;
    let guests = Guests::new(descriptors::raise(start.settings.workers));
    let runtime = single_threaded().map_err(lacking)?;
    let runtimes =
        (0..start.settings.workers).map(|_| single_threaded()).collect::<io::Result<Vec<_>>>().map_err(lacking)?;
    let handles: Vec<_> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
    let workshop = Arc::new(Workshop::new(start.module, handles.clone(), Some(runtime.handle().clone()), start.redis));
    let serving = workshop.make(start.settings, None)?;
    serving.require_redis()?;
    let serving = Arc::new(ArcSwap::from_pointee(serving));
    let (ending, tracker) = (Shutdown::default(), TaskTracker::new());
    let lane = |(index, runtime)| {
        let in_flight = telemetry::in_flight();
        (runtime, Lane { index, serving: Arc::clone(&serving), in_flight, tracker: tracker.clone() })
    };
    let lanes = Lanes::start(runtimes.into_iter().enumerate().map(lane).collect(), &ending).map_err(lacking)?;
    let health = Arc::new(Health::new(&handles, ending.clone()));
    let running = Running { serving, workshop, metrics, health, guests, ending, tracker };
    if let Some(greeting) = start.greeting {
        // The listener is bound: whoever reads this may send requests.
        logging::print(&greeting);
    }
    let signals = Signals::start(running.patience());
    let ran = signals.and_then(|mut signals| {
        let ran = runtime.block_on(running.run(start.listeners, start.source, &lanes, &mut signals));
        lanes.join();
        runtime.shutdown_background();
        // Only now: from here on the process must not take long.
        drop(signals);
        ran
    });
    ran.map_err(lacking)
}

/// Lets filters send what they put off, while the lanes still run. It waits for the replies as long as Redis answers.
async fn retire(workers: &[Worker]) {
    let retired: Vec<_> = workers.iter().map(Worker::retire).collect();
    let all = async {
        for retired in retired {
            retired.await;
        }
    };
    // Whatever has no answer by then is as Redis has it.
    let _ = tokio::time::timeout(RETIRE_MAX, all).await;
}

fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// What a command lives on that asks others, and serves nothing.
///
/// # Errors
/// The operating system lacks something.
pub(crate) fn command_runtime() -> Result<Runtime, Vec<Mistake>> {
    single_threaded().map_err(|error| vec![Mistake::new("", format!("cannot start: {error}"))])
}

/// A gateway whose lanes run.
struct Running {
    serving: Arc<ArcSwap<Serving>>,
    workshop: Arc<Workshop>,
    metrics: ProcessMetrics,
    health: Arc<Health>,
    guests: Arc<Guests>,
    ending: Shutdown,
    tracker: TaskTracker,
}

impl Running {
    /// How long ending in order may take, by the settings at that time.
    fn patience(&self) -> impl Fn() -> Duration + Send + 'static {
        let serving = Arc::clone(&self.serving);
        move || {
            let timeouts = serving.load().settings.timeouts;
            timeouts.lame_duck.saturating_add(timeouts.drain)
        }
    }

    async fn run(
        self,
        listeners: Listeners,
        source: Option<(SettingsSource, Vec<u8>)>,
        lanes: &Lanes,
        signals: &mut Signals,
    ) -> io::Result<()> {
        // Whatever goes wrong from here on, the lanes must end.
        let _stop = self.ending.stop.clone().drop_guard();
        let listener = |kind, bound: Option<_>, guests: &Arc<Guests>| {
            bound.map(|bound| Listener::new(kind, bound, Arc::clone(guests))).transpose()
        };
        let proxy = listener(ListenerKind::Proxy, listeners.proxy, &self.guests)?;
        let decide = listener(ListenerKind::Decide, listeners.decide, &self.guests)?;
        let admin = listener(ListenerKind::Admin, listeners.admin, &Guests::uncounted())?;
        self.announce([&proxy, &admin, &decide])?;
        self.start_admin(admin);
        tokio::spawn(memory::give_back());
        let reload = self.start_reloading(source);
        let is_hurried = {
            let accept = async |listener: &Option<Listener>, service: fn(_) -> _| match listener {
                Some(listener) => listener.accept(&self.serving, |newcomer| lanes.assign(newcomer, service)).await,
                None => std::future::pending().await,
            };
            let mut accepting = std::pin::pin!(async {
                tokio::select! {
                    never = accept(&proxy, ListenerService::Proxy) => never,
                    never = accept(&decide, ListenerService::Decide) => never,
                }
            });
            loop {
                let signal = tokio::select! {
                    never = accepting.as_mut() => match never {},
                    signal = signals.next() => signal,
                };
                match (signal, &reload) {
                    (Signal::End, _) => break,
                    (Signal::Reload, Some(triggers)) => {
                        let _ = triggers.try_send(Trigger::Asked);
                    }
                    (Signal::Reload, None) => tracing::warn!("SIGHUP has no effect: there is no settings file"),
                }
            }
            self.lame_duck(accepting.as_mut(), signals).await
        };
        drop((proxy, decide));
        // Also those whose last streams end meanwhile: what they settle must be on its way before the lanes end.
        let workers = self.workshop.workers();
        if !is_hurried {
            self.drain(signals).await;
        }
        retire(&workers).await;
        Ok(())
    }

    /// Goes on accepting while whoever sends clients here learns that they should go elsewhere. Whether a second signal
    /// came.
    async fn lame_duck(&self, accepting: Pin<&mut impl Future<Output = Infallible>>, signals: &mut Signals) -> bool {
        let lasts = self.serving.load().settings.timeouts.lame_duck;
        self.ending.lame_duck.cancel();
        if lasts.is_zero() {
            return false;
        }
        tracing::info!(
            lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
            "lame duck: not ready, still accepting"
        );
        tokio::select! {
            never = accepting => match never {},
            () = tokio::time::sleep(lasts) => false,
            () = signals.end() => {
                tracing::warn!(left = self.tracker.len(), "told again to end; closing what is left");
                true
            }
        }
    }

    /// Says where the gateway listens: for requests, for those who look after it, and for other proxies.
    fn announce(&self, listeners: [&Option<Listener>; 3]) -> io::Result<()> {
        let serving = self.serving.load();
        if serving.configuration().is_none() {
            tracing::warn!("there is no `filter` in the settings: nothing is limited");
        }
        let mut places = Vec::new();
        for listener in listeners {
            let address = listener.as_ref().map(Listener::address).transpose()?;
            places.push(address.map_or_else(|| "off".to_owned(), |address: SocketAddr| address.to_string()));
        }
        let [listen, admin, decide] = places.as_slice() else { return Ok(()) };
        tracing::info!(
            %listen,
            %admin,
            decide = (decide != "off").then_some(decide),
            workers = serving.settings.workers,
            routes = serving.settings.routes.len(),
            "serving"
        );
        Ok(())
    }

    /// Served here, so that it answers when lanes do not.
    fn start_admin(&self, listener: Option<Listener>) {
        let Some(listener) = listener else { return };
        let admin = Admin {
            metrics: self.metrics.clone(),
            serving: Arc::clone(&self.serving),
            workshop: Arc::clone(&self.workshop),
            health: Arc::clone(&self.health),
            refusals: Refusals::default(),
            past: RecentPast::default(),
        };
        let admin = Arc::new(admin);
        let (service, ending) = (ListenerService::Admin(Arc::clone(&admin)), self.ending.clone());
        tokio::spawn(async move {
            let mut steps = tokio::time::interval(overview::STEP);
            steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                steps.tick().await;
                admin.note();
            }
        });
        tokio::spawn(async move {
            let serve = |newcomer| {
                let (service, ending) = (service.clone(), ending.clone());
                tokio::spawn(async move { connection::serve(service, newcomer, &ending).await });
            };
            listener.accept(service.serving(), serve).await
        });
    }

    /// Returns where reloads are asked for.
    fn start_reloading(&self, source: Option<(SettingsSource, Vec<u8>)>) -> Option<mpsc::Sender<Trigger>> {
        let source = source?;
        let (triggers, asked) = mpsc::channel(16);
        let reloader = Reloader::new(source, Arc::clone(&self.workshop), Arc::clone(&self.serving), triggers.clone());
        tokio::spawn(reloader.run(asked));
        Some(triggers)
    }

    /// Lets what is in flight finish, until the time for that is over or a second signal comes.
    async fn drain(&self, signals: &mut Signals) {
        let limit = self.serving.load().settings.timeouts.drain;
        tracing::info!(limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), "draining");
        self.ending.drain.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => tracing::info!("all connections have ended"),
            () = tokio::time::sleep(limit) => {
                tracing::warn!(left = self.tracker.len(), "the time to drain is over; closing what is left");
            }
            () = signals.end() => tracing::warn!(left = self.tracker.len(), "told again to end; closing what is left"),
        }
    }
}
