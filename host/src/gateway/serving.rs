//! What requests are served with at one moment: settings, routes, filter workers. A reload makes a new one and swaps it
//! in; requests in flight keep the one they started with.

use std::sync::{Arc, Mutex, PoisonError};

use slidegate::{
    Configuration, Module, RedisDirectory, RedisService, RedisStatus, RedisWatch, WeakWorker, Worker, WorkerOptions,
};
use tokio::runtime::{Builder, Handle};

use crate::gateway::client::Endpoint;
use crate::gateway::decision_labels::DecisionLabels;
use crate::gateway::routes::Routes;
use crate::settings::document::SettingsOrigin;
use crate::settings::undecidable;
use crate::settings::{FilterConfig, Mistake, RedisSettings, Settings};

/// Settings in force, with all that was made from them.
pub(crate) struct Serving {
    pub(crate) settings: Settings,
    pub(crate) routes: Routes,
    /// How decisions for other proxies are counted, where they may ask.
    pub(crate) decisions: Option<DecisionLabels>,
    filter: Option<Arc<RunningFilter>>,
}

impl Serving {
    /// The filter's worker for a lane, if there is a filter.
    pub(crate) fn worker(&self, lane: usize) -> Option<&Worker> {
        self.filter.as_ref()?.worker(lane)
    }

    /// Linear memory of the filter's instances, in bytes.
    pub(crate) fn instance_memory_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, |filter| filter.workers.iter().map(Worker::memory_bytes).sum())
    }

    /// Brings what the filter's instances have counted to the metrics.
    pub(crate) fn fetch_metrics(&self) {
        self.filter.iter().flat_map(|filter| &filter.workers).for_each(Worker::fetch_metrics);
    }

    /// What the filter understood of its configuration, for people.
    pub(crate) fn described(&self) -> &str {
        self.worker(0).map(Worker::describe).unwrap_or_default()
    }

    /// For each Redis service of the filter: its name as configured, and where that is.
    pub(crate) fn redis_addresses(&self) -> &[(String, String)] {
        self.filter.as_ref().map_or(&[], |filter| &filter.redis_addresses)
    }

    /// How each Redis service of the filter is doing.
    pub(crate) fn redis_statuses(&self) -> Vec<RedisStatus> {
        self.filter.as_ref().and_then(|filter| filter.watch.as_ref()).map(RedisWatch::statuses).unwrap_or_default()
    }

    /// What the URLs of its Redis services say other than the filter does.
    pub(crate) fn redis_warnings(&self) -> &[String] {
        self.filter.as_ref().map_or(&[], |filter| &filter.redis_warnings)
    }

    /// Where the Redis services of the filter are, and those services; none if there is no filter.
    pub(crate) fn redis(&self) -> Option<(&RedisDirectory, &[RedisService])> {
        Some((&self.filter.as_ref()?.directory, &self.configuration()?.redis))
    }

    /// Asks every Redis service of the filter, if the settings say that there is no serving without. To be called
    /// outside of any event loop, as it waits for the answers.
    ///
    /// # Errors
    /// Which service cannot be used, and why.
    pub(crate) fn require_redis(&self) -> Result<(), Vec<Mistake>> {
        let Some(filter) = self.filter.as_ref().filter(|_| self.settings.redis.required) else { return Ok(()) };
        let services = self.configuration().map_or(&[][..], |configuration| &configuration.redis);
        let mut mistakes = Vec::new();
        let asking = Builder::new_current_thread().enable_all().build();
        match asking {
            Ok(asking) => asking.block_on(async {
                for service in services {
                    if let Err(cause) = filter.directory.ask(service).await {
                        let (name, address) = (redis_name(service), filter.directory.address(service));
                        mistakes.push(Mistake::new(
                            "redis.required",
                            format!("Redis {name} at {address} cannot be used: {cause}"),
                        ));
                    }
                }
            }),
            Err(error) => mistakes.push(Mistake::new("redis.required", format!("Redis cannot be asked: {error}"))),
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// What the filter answered to its configuration.
    pub(crate) fn configuration(&self) -> Option<&Configuration> {
        self.worker(0).map(Worker::configuration)
    }
}

/// Makes servings for the lanes of this process.
pub(crate) struct Workshop {
    module: Module,
    /// The lanes' runtimes. A worker's connections live on the lane that uses it.
    lanes: Vec<Handle>,
    /// Where Redis services are asked how they are; nowhere if nothing is to be connected.
    watch_on: Option<Handle>,
    /// Stands for every service name of the filter, whatever the file says.
    redis_override: Option<String>,
    /// What was odd about certificates, keys and passwords when that was looked at last.
    file_warnings: Mutex<Vec<String>>,
    /// All that were made: those of settings before these are kept by their streams.
    workers: Mutex<Vec<WeakWorker>>,
}

impl Workshop {
    pub(crate) fn new(
        module: Module,
        lanes: Vec<Handle>,
        watch_on: Option<Handle>,
        redis_override: Option<String>,
    ) -> Self {
        let (file_warnings, workers) = (Mutex::default(), Mutex::default());
        Self { module, lanes, watch_on, redis_override, file_warnings, workers }
    }

    /// The workers that are still there.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(WeakWorker::upgrade).collect()
    }

    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    /// Logs what is odd about certificates, keys and passwords by now, and was not when that was looked at last: a key
    /// may become readable for others, or a certificate expire, while nothing is written.
    pub(crate) fn tell_file_warnings(&self, settings: &Settings) {
        let warnings = settings.file_warnings();
        let mut told = self.file_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings.iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!("{}", settings.environment.hide(warning));
        }
        *told = warnings;
    }

    /// Makes a serving. A filter that did not change is taken over from `previous`, with what it remembers and with its
    /// local windows.
    ///
    /// # Errors
    /// What is wrong with the filter's configuration, with paths as in the file.
    pub(crate) fn make(&self, settings: Settings, previous: Option<&Serving>) -> Result<Serving, Vec<Mistake>> {
        let (environment, origin) = (settings.environment.clone(), settings.origin.clone());
        let mut made =
            self.make_of(settings, previous).map_err(|mistakes| origin.placed(environment.hide_mistakes(mistakes)))?;
        // It may be large, and nobody asks for it any more.
        made.settings.origin = SettingsOrigin::default();
        Ok(made)
    }

    fn make_of(&self, mut settings: Settings, previous: Option<&Serving>) -> Result<Serving, Vec<Mistake>> {
        let directory = self.directory(&settings).map_err(|mut mistakes| {
            mistakes.extend(settings.filter.iter().flat_map(|filter| filter.mistakes(&self.module)));
            mistakes
        })?;
        if let (Some(_), Some(filter)) = (&settings.decide, &settings.filter) {
            let undecidable = undecidable::undecidable(filter);
            if !undecidable.is_empty() {
                return Err(undecidable);
            }
        }
        let filter = match (&settings.filter, previous.and_then(|previous| previous.filter.as_ref())) {
            (None, _) => None,
            (Some(config), Some(filter)) if filter.is_made_of(config, &settings.redis, &directory) => {
                Some(Arc::clone(filter))
            }
            (Some(config), Some(filter)) => {
                Some(Arc::new(self.start_filter(config, &settings, directory.after(&filter.directory))?))
            }
            (Some(config), None) => Some(Arc::new(self.start_filter(config, &settings, directory)?)),
        };
        if let Some(previous) = previous {
            settings.keep_sessions(&previous.settings);
        }
        self.tell_file_warnings(&settings);
        let routes = self.routes(&settings, previous);
        let decisions = settings.decide.as_ref().map(|_| DecisionLabels::new());
        Ok(Serving { routes, decisions, filter, settings })
    }

    /// Whether these settings lead to what is served: they are the same, and the system trusts whom it trusted when
    /// that was made.
    pub(crate) fn is_served(&self, settings: &Settings, serving: &Serving) -> bool {
        *settings == serving.settings
            && serving.filter.as_ref().is_none_or(|filter| {
                self.directory(settings).is_ok_and(|directory| directory.trusts_as(&filter.directory))
            })
    }

    /// Upstreams are taken over with their connections, and with what is known of how they are doing.
    fn routes(&self, settings: &Settings, previous: Option<&Serving>) -> Routes {
        let timeouts = &settings.timeouts;
        let previous = previous.filter(|previous| previous.settings.timeouts.upstream() == timeouts.upstream());
        let mut known: Vec<Arc<Endpoint>> =
            previous.into_iter().flat_map(|previous| previous.routes.endpoints()).cloned().collect();
        Routes::new(&settings.routes, settings.normalize_path, |upstream| {
            if let Some(same) = known.iter().find(|endpoint| endpoint.upstream == *upstream) {
                return Arc::clone(same);
            }
            let new = Arc::new(Endpoint::new(upstream, timeouts, self.lanes.len()));
            known.push(Arc::clone(&new));
            new
        })
    }

    fn directory(&self, settings: &Settings) -> Result<RedisDirectory, Vec<Mistake>> {
        let mut directory = RedisDirectory::new();
        let mut mistakes = Vec::new();
        for (name, entry) in &settings.redis.names {
            if let Err(error) = directory.insert(name, entry.access.clone()) {
                mistakes.push(entry.mistake(&error));
            }
        }
        if let Some(entry) = &settings.redis.any
            && let Err(error) = directory.insert_any(entry.access.clone())
        {
            mistakes.push(entry.mistake(&error));
        }
        if let Some(url) = &self.redis_override {
            directory = RedisDirectory::new();
            if let Err(error) = directory.insert_any(url) {
                mistakes.push(Mistake::new("--redis", error.message()));
            }
        }
        if mistakes.is_empty() { Ok(directory) } else { Err(mistakes) }
    }

    /// A worker for each lane; one for all of them where some window is local, so that a local limit is the limit of
    /// the process.
    fn start_filter(
        &self,
        config: &FilterConfig,
        settings: &Settings,
        directory: RedisDirectory,
    ) -> Result<RunningFilter, Vec<Mistake>> {
        let json = config.document().to_string();
        let mut workers: Vec<Worker> = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            if workers.first().is_some_and(|worker| worker.configuration().local_windows) {
                break;
            }
            let _on_lane = lane.enter();
            let options = WorkerOptions::default().with_redis(directory.clone());
            workers.push(
                Worker::start(&self.module, json.as_bytes(), options).map_err(|error| config.mistakes_of(error))?,
            );
        }
        let mut known = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|worker| !worker.is_gone());
        known.extend(workers.iter().map(Worker::downgrade));
        drop(known);
        let configuration = workers.first().map(Worker::configuration);
        let warnings = configuration
            .into_iter()
            .flat_map(|configuration| &configuration.warnings)
            .map(|warning| config.told(warning));
        for warning in settings.origin.told(warnings.collect()) {
            tracing::warn!("{}", settings.environment.hide(&warning));
        }
        let services = configuration.map_or(&[][..], |configuration| &configuration.redis);
        let redis_warnings = overruled(services, settings, &directory)?;
        for warning in &redis_warnings {
            tracing::warn!("{}", settings.environment.hide(warning));
        }
        let address = |service: &RedisService| (redis_name(service), directory.address(service));
        Ok(RunningFilter {
            redis_addresses: services.iter().map(address).collect(),
            redis_warnings,
            watch: self.watch_on.as_ref().map(|runtime| directory.watch(services, runtime)),
            workers,
            config: config.clone(),
            redis: settings.redis.clone(),
            directory,
        })
    }
}

/// A service as messages call it: its name may be somebody's host and port, beside the port that counts.
pub(crate) fn redis_name(service: &RedisService) -> String {
    let (name, port) = (&service.service_name, service.port);
    if name.contains(':') { format!("{name}, port {port}") } else { format!("{name}:{port}") }
}

/// What the URLs of these services overrule.
///
/// # Errors
/// What cannot be meant.
fn overruled(
    services: &[RedisService],
    settings: &Settings,
    directory: &RedisDirectory,
) -> Result<Vec<String>, Vec<Mistake>> {
    let (mut overruled, mut mistakes) = (Vec::new(), Vec::new());
    for service in services {
        match directory.overruled(service) {
            Ok(of_service) => {
                let place = settings.place_in_filter(service, None);
                overruled.extend(of_service.iter().map(|sentence| format!("{place}: {sentence}")));
            }
            Err(reason) => mistakes.push(Mistake::new(settings.place_in_filter(service, Some("database")), reason)),
        }
    }
    if mistakes.is_empty() { Ok(overruled) } else { Err(mistakes) }
}

/// A configured filter: its workers, and what they were made of.
struct RunningFilter {
    workers: Vec<Worker>,
    redis_addresses: Vec<(String, String)>,
    redis_warnings: Vec<String>,
    directory: RedisDirectory,
    watch: Option<RedisWatch>,
    config: FilterConfig,
    redis: RedisSettings,
}

impl RunningFilter {
    fn worker(&self, lane: usize) -> Option<&Worker> {
        self.workers.get(lane % self.workers.len().max(1))
    }

    fn is_made_of(&self, config: &FilterConfig, redis: &RedisSettings, directory: &RedisDirectory) -> bool {
        self.config == *config && self.redis.leads_where(redis) && self.directory.trusts_as(directory)
    }
}
