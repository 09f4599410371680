//! Responses that the filter keeps, for who asks for them by hand: which Redis they are in, what voids them, and what a
//! request for a URL is to this gateway. The keys are the filter's to say, by what it would ask for such a request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::HeaderMap;
use hyper::{Method, Request, Uri, Version};
use slidegate::{CallError, Command, Instance, Module, Moment, Question, RedisService, RedisTransport, Reply, Value};
use slidegate_cache::{CacheKey, PurgeTag, purge_command, purge_tag, void_command};

use crate::gateway::admission::{self, Caller, FilteredRequest};
use crate::gateway::serving::{Serving, redis_name};
use crate::purge_order::PurgeOrder;
use crate::settings::one_line;

/// Why nothing, or not all, was done, in a sentence.
#[derive(Debug)]
pub(crate) enum KeptError {
    /// No filter keeps responses.
    NoCache,
    /// There is no such request, or the filter keeps no response to it.
    NotKept(String),
    /// Its Redis cannot be used.
    Redis(String),
    /// The filter could not be asked.
    Filter(String),
}

impl KeptError {
    pub(crate) fn told(&self) -> String {
        match self {
            Self::NoCache => "no filter of the settings keeps responses: expected one with `cache`".to_owned(),
            Self::NotKept(reason) | Self::Redis(reason) | Self::Filter(reason) => reason.clone(),
        }
    }
}

/// A part of an order that is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purged<'o> {
    Url(&'o Uri),
    Tags(&'o [String]),
}

/// Voids what is ordered, for every gateway with the same Redis, and says of each part when that is done. `now_ms`:
/// what a gateway's clock says, by which it has asked for what it stored; then it counts if it is ahead of Redis' own.
/// Returns by how many milliseconds the two are apart.
///
/// # Errors
/// The first of it that could not be; nothing behind it is tried.
pub(crate) async fn purge(
    serving: &Serving,
    module: &Module,
    order: &PurgeOrder,
    now_ms: Option<u64>,
    done: impl Fn(Purged<'_>),
) -> Result<u64, KeptError> {
    // All that can be said without Redis is said before anything is done.
    let (service, markers) = markers(serving, module, order)?;
    let redis = KeptRedis::connect(serving, &service).await?;
    let mut apart_ms = 0;
    if !order.tags.is_empty() {
        let tags: Vec<PurgeTag> = order.tags.iter().map(|tag| purge_tag(tag.as_bytes())).collect();
        let clock_ms = redis.run(purge_command(&tags, now_ms)).await?;
        apart_ms = now_ms.map_or(0, |now_ms| now_ms.abs_diff(clock_ms));
        done(Purged::Tags(&order.tags));
    }
    for (url, markers) in order.urls.iter().zip(markers) {
        for marker in markers {
            let since_ms = redis.run(void_command(&marker, now_ms)).await?;
            apart_ms = apart_ms.max(now_ms.map_or(0, |now_ms| now_ms.abs_diff(since_ms)));
        }
        done(Purged::Url(url));
    }
    Ok(apart_ms)
}

/// The markers of what is ordered by URL, and where they go. Of each address those of its whole query and of none, too,
/// for gateways whose keys are other ones.
fn markers(
    serving: &Serving,
    module: &Module,
    order: &PurgeOrder,
) -> Result<(RedisService, Vec<Vec<String>>), KeptError> {
    let filter = serving.settings.filter.as_ref().ok_or(KeptError::NoCache)?;
    let (_, document) = filter.cache_alone().ok_or(KeptError::NoCache)?;
    let odd = |error: &dyn fmt::Display| KeptError::Filter(format!("the filter cannot be asked: {error}"));
    let mut instance = Instance::new(module).map_err(|trap| odd(&trap))?;
    let configuration = instance.configure(document.to_string().as_bytes(), now()).map_err(|error| odd(&error))?;
    let service = configuration.redis.first().ok_or(KeptError::NoCache)?.clone();
    let mut all = Vec::new();
    for url in &order.urls {
        let request = request(serving, url, HeaderMap::new()).map_err(KeptError::NotKept)?;
        let of = |target: &str| CacheKey::new(request.authority.as_str().as_bytes(), target.as_bytes(), []).marker();
        let mut markers = vec![of(request.target.as_str()), of(request.target.path())];
        let told = instance.explain(1, Arc::new(request), &[], now()).map_err(|trap| odd(&trap))?;
        // The value, and the marker of its address.
        let marker = told.questions.first().and_then(|question| question.command.words().nth(2));
        let marker = marker.and_then(|marker| String::from_utf8(marker.to_vec()).ok());
        let reason = || told.filters.first().map_or("", |filter| &filter.reason).to_owned();
        markers.push(marker.ok_or_else(|| KeptError::NotKept(format!("{}: {}", shown(url), reason())))?);
        markers.sort_unstable();
        markers.dedup();
        all.push(markers);
    }
    Ok((service, all))
}

/// The Redis services of a serving's filter, each connected to when it is asked first.
pub(crate) struct AskedServices<'s> {
    serving: &'s Serving,
    services: &'s [RedisService],
    opened: Vec<Option<KeptRedis>>,
}

impl<'s> AskedServices<'s> {
    pub(crate) fn new(serving: &'s Serving) -> Self {
        let services = serving.redis().map(|(_, services)| services).unwrap_or_default();
        Self { serving, services, opened: services.iter().map(|_| None).collect() }
    }

    /// The service that a question is for.
    ///
    /// # Errors
    /// It is none of these, or cannot be used.
    pub(crate) async fn of(&mut self, question: &Question) -> Result<&KeptRedis, KeptError> {
        let place = question.service as usize;
        let (Some(opened), Some(service)) = (self.opened.get_mut(place), self.services.get(place)) else {
            return Err(KeptError::Filter("the filter asks a Redis that is not there".to_owned()));
        };
        match opened {
            Some(redis) => Ok(redis),
            None => Ok(opened.insert(KeptRedis::connect(self.serving, service).await?)),
        }
    }
}

/// The Redis that responses are kept in.
pub(crate) struct KeptRedis {
    connection: Arc<dyn slidegate::RedisConnection>,
    place: String,
}

impl KeptRedis {
    /// # Errors
    /// It cannot be used.
    pub(crate) async fn connect(serving: &Serving, service: &RedisService) -> Result<Self, KeptError> {
        let (directory, _) = serving.redis().ok_or(KeptError::NoCache)?;
        // Nobody waits for a page meanwhile.
        let service = RedisService { timeout_ms: service.timeout_ms.max(1_000), ..service.clone() };
        let place = format!("Redis {} at {}", redis_name(&service), directory.address(&service));
        let unusable = |cause| KeptError::Redis(format!("{place} cannot be used: {cause}"));
        directory.ask(&service).await.map_err(unusable)?;
        Ok(Self { connection: directory.open(&service), place })
    }

    /// What it answers, or why it does not.
    pub(crate) async fn call(&self, command: Command) -> Result<Reply, CallError> {
        self.connection.call(command).await
    }

    /// # Errors
    /// It does not answer.
    pub(crate) async fn ask(&self, command: Command) -> Result<Reply, KeptError> {
        let reply = self.call(command).await;
        reply.map_err(|error| {
            let cause = match error {
                CallError::Timeout => "it did not answer in time",
                CallError::TooLarge => "its answer is longer than what a cache writes",
                _ => "the connection ended",
            };
            KeptError::Redis(format!("{} cannot be used: {cause}", self.place))
        })
    }

    /// What a script answers, a number.
    async fn run(&self, words: Vec<Vec<u8>>) -> Result<u64, KeptError> {
        match self.ask(words.into_iter().collect()).await? {
            Reply::Single(Value::Integer(number)) => Ok(u64::try_from(number).unwrap_or(0)),
            other => Err(self.odd(&other)),
        }
    }

    /// What it answered is no answer.
    fn odd(&self, reply: &Reply) -> KeptError {
        let answered = match reply {
            Reply::Error(text) => format!("it answered `{}`", one_line(text)),
            _ => "its answer is none to what was asked".to_owned(),
        };
        KeptError::Redis(format!("{} cannot be used: {answered}", self.place))
    }
}

/// What the filter would see of a GET for this URL with these headers.
///
/// # Errors
/// The gateway would refuse it.
pub(crate) fn request(serving: &Serving, url: &Uri, headers: HeaderMap) -> Result<FilteredRequest, String> {
    let settings = &serving.settings;
    let refused = |reason: &str| format!("{}: this gateway refuses it: {reason}", shown(url));
    // Whichever scheme it has: where TLS is taken off before, a gateway is asked in the clear.
    let mut built = Request::builder().method(Method::GET).uri(url).version(Version::HTTP_2);
    if let Some(fields) = built.headers_mut() {
        *fields = headers;
    }
    let (parts, ()) = built.body(()).map_err(|error| refused(&error.to_string()))?.into_parts();
    let is_secure = settings.listen.as_ref().is_some_and(|listen| listen.tls.is_some());
    let caller = Caller { client: SocketAddr::from(([127, 0, 0, 1], 0)), is_secure };
    let view = admission::view(parts, caller, false, settings, &serving.routes);
    view.map(|(view, _)| view).map_err(|refusal| refused(refusal.reason))
}

/// A URL without its query, which may carry secrets.
pub(crate) fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str()).to_ascii_lowercase();
    one_line(&format!("{}://{authority}{}", url.scheme_str().unwrap_or("http"), url.path()))
}

/// The digest of a tag, by which Redis knows it: what it is called may say of whom it is.
pub(crate) fn tag_shown(tag: &str) -> String {
    digest_shown(&purge_tag(tag.as_bytes()))
}

/// A digest in hexadecimal.
pub(crate) fn digest_shown(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Now, for who asks about dates alone.
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { monotonic: 0, wall: u64::try_from(since.as_nanos()).unwrap_or(0) }
}
