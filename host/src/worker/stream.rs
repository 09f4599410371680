//! One request and its response, from the filter's point of view.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;

use super::core::{Core, Entered, Key};
use crate::bindings::exports::slidegate::filter::filter::Hooks;
use crate::imports::Verdict;
use crate::instance::{BodyStep, Step};
use crate::request::Request;

/// One request and its response. Dropping it tells the filter that the stream is over, whatever was
/// still undecided.
///
/// Call the hooks in the order of the stream's life: [`on_request`](Self::on_request) once, first.
/// The hooks of the request's body may run at the same time as those of the response. Hooks that the
/// configuration does not need return at once.
pub struct Stream {
    core: Arc<Core>,
    request: Arc<dyn Request>,
    /// Set by `on_request`; `None` inside if there was no instance to ask.
    key: OnceLock<Option<Key>>,
}

impl Stream {
    pub(super) fn new(core: Arc<Core>, request: Arc<dyn Request>) -> Self {
        Self { core, request, key: OnceLock::new() }
    }

    /// Decides about the request. Waits for Redis if the decision needs it. A second call for the
    /// same stream passes.
    pub async fn on_request(&self) -> Verdict {
        let mut entered = Entered::Gone;
        let mut called = false;
        self.key.get_or_init(|| {
            called = true;
            let request = Arc::clone(&self.request);
            let (key, result) = self.core.begin(|instance, stream, now| instance.on_request(stream, request, now).map(decided));
            entered = result;
            key
        });
        match entered {
            Entered::Gone if !called => Verdict::Pass(Vec::new()),
            Entered::Gone => self.core.failure(),
            entered => self.verdict(entered).await,
        }
    }

    /// Lets the filter see, and change, the headers of the response, wherever it comes from: the
    /// upstream, the host, or the filter's own answer. A stream whose instance has trapped passes.
    pub async fn on_response_headers(&self, status: u16, headers: &HeaderMap) -> Verdict {
        let Some(key) = self.key_for(Hooks::RESPONSE_HEADERS) else {
            return Verdict::Pass(Vec::new());
        };
        let headers = Arc::new(headers.clone());
        let entered = self.core.proceed(key, |instance, now| instance.on_response_headers(key.stream, status, headers, now).map(decided));
        self.verdict(entered).await
    }

    /// Shows the filter a piece of the request's body. After `Hold`, keep the piece and bring the next
    /// one; the last piece (`end`) is never held: this waits until it is decided.
    pub async fn on_request_body(&self, chunk: &[u8], end: bool) -> BodyStep {
        let Some(key) = self.key_for(Hooks::REQUEST_BODY) else { return BodyStep::Pass };
        let entered =
            self.core.proceed(key, |instance, now| instance.on_request_body(key.stream, chunk, end, now).map(|step| answered(step, end)));
        self.body_step(entered).await
    }

    /// Shows the filter a piece of the response's body, as [`on_request_body`](Self::on_request_body)
    /// does with the request's. Never returns `Respond`.
    pub async fn on_response_body(&self, chunk: &[u8], end: bool) -> BodyStep {
        let Some(key) = self.key_for(Hooks::RESPONSE_BODY) else { return BodyStep::Pass };
        let entered =
            self.core.proceed(key, |instance, now| instance.on_response_body(key.stream, chunk, end, now).map(|step| answered(step, end)));
        match self.body_step(entered).await {
            // Only of a component that fails closed: the response is on its way already.
            BodyStep::Respond(_) => BodyStep::Pass,
            step => step,
        }
    }

    /// What a log of requests should say of this one beside its status, as names and values: only of a request that was refused, or
    /// decided on without the Redis that should have been asked. To be called after [`on_request`](Self::on_request); nothing the second time.
    pub fn take_annotations(&self) -> Vec<(String, String)> {
        self.key.get().copied().flatten().map_or_else(Vec::new, |key| self.core.annotations(key))
    }

    /// The key of a stream that has begun, if the configuration asks for this hook.
    fn key_for(&self, hook: Hooks) -> Option<Key> {
        let key = self.key.get().copied().flatten()?;
        self.core.configuration.hooks.contains(hook).then_some(key)
    }

    async fn verdict(&self, entered: Entered<Verdict>) -> Verdict {
        match entered {
            Entered::Answered(verdict) => verdict,
            // A later hook of the same stream took over.
            Entered::Waits(settled) => settled.await.unwrap_or_else(|_| Verdict::Pass(Vec::new())),
            Entered::Gone => Verdict::Pass(Vec::new()),
            Entered::Trapped => self.core.failure(),
        }
    }

    async fn body_step(&self, entered: Entered<BodyStep>) -> BodyStep {
        let verdict = match entered {
            Entered::Answered(step) => return step,
            Entered::Waits(settled) => settled.await.unwrap_or_else(|_| Verdict::Pass(Vec::new())),
            Entered::Gone => Verdict::Pass(Vec::new()),
            Entered::Trapped => self.core.failure(),
        };
        match verdict {
            Verdict::Pass(_) => BodyStep::Pass,
            Verdict::Respond(response) => BodyStep::Respond(response),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(Some(key)) = self.key.get() {
            self.core.end(*key);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("key", &self.key.get()).finish_non_exhaustive()
    }
}

fn decided(step: Step) -> Option<Verdict> {
    match step {
        Step::Done(verdict) => Some(verdict),
        Step::Wait => None,
    }
}

/// A held last piece waits for its verdict; one that is not the last waits for the next.
fn answered(step: BodyStep, end: bool) -> Option<BodyStep> {
    match step {
        BodyStep::Hold if end => None,
        step => Some(step),
    }
}
