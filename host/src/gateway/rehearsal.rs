//! What would become of requests: their way through the gateway, by its own checks, routes and filter, without sockets
//! and on a clock that whoever asks brings. No Redis is asked: the filter keeps all its windows itself, and whatever
//! else it looks for in one is not there.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::http::response::Parts as ResponseParts;
use slidegate::{
    Call, CallReply, Coding, Configuration, ConfigureError, Ending, HeaderEdit, Instance, Interest, LimitMet, Module,
    Moment, Origin, Outcome, Pass, Piece, Reply, ResponseHead, Step, StreamId, Trap, Value, Wants, apply_edits,
};

use crate::gateway::admission::{self, Caller, FilteredRequest, RouteNames, Wishes};
use crate::gateway::answer::{self, LocalReply};
use crate::gateway::client::Endpoint;
use crate::gateway::headers;
use crate::gateway::proxy::serving_route;
use crate::gateway::routes::Routes;
use crate::settings::Settings;

/// Settings in which requests are decided, one after the other.
pub(crate) struct Rehearsal {
    settings: Settings,
    routes: Routes,
    /// None: nothing is limited.
    instance: Option<Instance>,
    configuration: Option<Configuration>,
    last_stream: StreamId,
    now: Moment,
}

/// A request, and what comes with it.
#[derive(Clone)]
pub(crate) struct RehearsedRequest {
    /// Its head. It needs a host, in its target or among its fields.
    pub(crate) parts: Parts,
    pub(crate) client: SocketAddr,
    pub(crate) is_secure: bool,
    pub(crate) body: Bytes,
    /// How its route and upstream are called where the settings do not say.
    pub(crate) names: Option<RouteNames>,
}

/// What an upstream answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RehearsedUpstream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Who decides what a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// It passed all.
    Upstream,
    /// The filter does, in place of the upstream.
    Filter,
    /// The gateway does, because it is no request that is served, or has no route.
    Gateway,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct RehearsedAnswer {
    pub(crate) by: AnsweredBy,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The name of its route; empty if it has none.
    pub(crate) route: String,
    /// What the access log would say of it, as names and values.
    pub(crate) annotations: Vec<(String, String)>,
}

impl Default for RehearsedUpstream {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl RehearsedAnswer {
    /// What the access log would say under this name.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl Rehearsal {
    /// With windows that are empty. What the filter says of its configuration is told by
    /// [`configuration`](Self::configuration).
    ///
    /// # Errors
    /// The filter does not take it.
    pub(crate) fn new(settings: Settings, module: &Module, now: Moment) -> Result<Self, ConfigureError> {
        let endpoint = |upstream: &_| Arc::new(Endpoint::new(upstream, &settings.timeouts, 1));
        let routes = Routes::new(&settings.routes, settings.normalize_path, endpoint);
        let (mut instance, mut configuration) = (None, None);
        if let Some(filter) = &settings.filter {
            let mut fresh = Instance::new(module).map_err(ConfigureError::Trap)?;
            configuration = Some(fresh.configure(filter.document().to_string().as_bytes(), now)?);
            instance = Some(fresh);
        }
        Ok(Self { settings, routes, instance, configuration, last_stream: 0, now })
    }

    /// What the filter answered to its configuration.
    pub(crate) fn configuration(&self) -> Option<&Configuration> {
        self.configuration.as_ref()
    }

    /// The limits that a request would be charged to at this moment, and how they stand. Nothing is charged.
    ///
    /// # Errors
    /// The filter traps.
    pub(crate) fn limits_met(&mut self, request: RehearsedRequest, now: Moment) -> Result<Vec<LimitMet>, String> {
        self.pass_time(now)?;
        let Ok(ReceivedRequest { view, .. }) = self.received(request) else { return Ok(Vec::new()) };
        let Some(instance) = &mut self.instance else { return Ok(Vec::new()) };
        self.last_stream += 1;
        let explained = instance.explain(self.last_stream, view, &[], now).map_err(told)?;
        let rules = explained.filters.into_iter().flat_map(|filter| filter.rules);
        Ok(rules.flat_map(|rule| rule.limits).collect())
    }

    /// What becomes of a request at this moment, which is not before that of the request before.
    ///
    /// # Errors
    /// The filter traps, or waits for somebody: there is nobody here.
    pub(crate) fn ask(
        &mut self,
        request: RehearsedRequest,
        answer: &RehearsedUpstream,
        now: Moment,
    ) -> Result<RehearsedAnswer, String> {
        self.pass_time(now)?;
        let ReceivedRequest { view, wishes, body, is_grpc } = match self.received(request) {
            Ok(received) => received,
            Err(answer) => return Ok(*answer),
        };
        let (decided, stream) = self.decide(&view, &body)?;
        let edits = match decided {
            FilterWord::Passes(edits) => edits,
            FilterWord::Answered(response) => return Ok(self.filter_answer(&view, stream, response, is_grpc)),
        };
        let (by, mut head, body) = match serving_route(&view, &wishes) {
            Ok(_) => {
                let (mut head, ()) = hyper::Response::new(()).into_parts();
                (head.status, head.headers) = (answer.status, answer.headers.clone());
                (AnsweredBy::Upstream, head, answer.body.clone())
            }
            Err(refusal) => {
                let (head, body) = refusal.answer(is_grpc);
                (AnsweredBy::Gateway, head, body)
            }
        };
        apply_edits(&edits, &mut head.headers);
        if let Some(replaced) = self.show_response(stream, by, &mut head, &body)? {
            return Ok(self.filter_answer(&view, stream, replaced, is_grpc));
        }
        headers::remove_session_orders(&mut head.headers);
        let answered = RehearsedAnswer {
            by,
            status: head.status,
            headers: head.headers,
            route: slidegate::Request::route_name(&*view).to_owned(),
            annotations: self.annotations(stream),
        };
        self.end(stream)?;
        Ok(answered)
    }

    /// A request as the filter sees it, or why it is none that is served.
    fn received(&self, request: RehearsedRequest) -> Result<ReceivedRequest, Box<RehearsedAnswer>> {
        let RehearsedRequest { parts, client, is_secure, body, names } = request;
        let is_grpc = headers::is_grpc(&parts.headers);
        let caller = Caller { client, is_secure };
        let (view, wishes) = admission::view(parts, caller, !body.is_empty(), &self.settings, &self.routes)
            .map_err(|refusal| Box::new(gateway_answer(&refusal, is_grpc)))?;
        Ok(ReceivedRequest { view: Arc::new(view.called(names)), wishes, body, is_grpc })
    }

    /// Wakes the filter at the times that it asked for.
    fn pass_time(&mut self, now: Moment) -> Result<(), String> {
        let before = std::mem::replace(&mut self.now, now);
        let Some(instance) = &mut self.instance else { return Ok(()) };
        let mut last = before.monotonic;
        while let Some(at) = instance.next_wake().filter(|at| *at <= now.monotonic) {
            // One that always asks for now is woken once.
            let monotonic = at.max(last + 1).min(now.monotonic);
            let back = now.monotonic - monotonic;
            instance.on_wake(Moment { monotonic, wall: now.wall.saturating_sub(back) }).map_err(told)?;
            instance.take_outcomes();
            if monotonic == now.monotonic {
                break;
            }
            last = monotonic;
        }
        Ok(())
    }

    /// What the filter makes of a request with its body.
    fn decide(&mut self, view: &Arc<FilteredRequest>, body: &[u8]) -> Result<(FilterWord, RehearsedStream), String> {
        let Some(instance) = &mut self.instance else {
            return Ok((FilterWord::Passes(Vec::new()), RehearsedStream::default()));
        };
        self.last_stream += 1;
        let stream = self.last_stream;
        let (mut edits, mut wants) = (Vec::new(), Wants::default());
        let step =
            instance.on_request(stream, Arc::clone(view) as Arc<dyn slidegate::Request>, self.now).map_err(told)?;
        let mut step = Some(step);
        while let Some(taken) = step.take() {
            match taken {
                Step::Pass(Pass { response_edits, wants: more, .. }) => {
                    let had = std::mem::replace(&mut wants, more).request_body;
                    edits.extend(response_edits);
                    if wants.request_body != Interest::None && had == Interest::None {
                        let piece = Piece { bytes: body, coding: Coding::Identity, end: true };
                        step = Some(instance.on_request_body(stream, piece, self.now).map_err(told)?);
                    }
                }
                Step::Respond(response) => {
                    return Ok((
                        FilterWord::Answered(response),
                        RehearsedStream { id: Some(stream), wants: Wants::default() },
                    ));
                }
                Step::Wait => step = Some(empty_replies(instance, stream, self.now)?),
            }
        }
        Ok((FilterWord::Passes(edits), RehearsedStream { id: Some(stream), wants }))
    }

    /// Shows the filter the response, as far as it wants that. Returns its own answer, if it gives one.
    fn show_response(
        &mut self,
        stream: RehearsedStream,
        by: AnsweredBy,
        head: &mut ResponseParts,
        body: &[u8],
    ) -> Result<Option<slidegate::Response>, String> {
        let (Some(instance), Some(id)) = (&mut self.instance, stream.id) else { return Ok(None) };
        let mut wants = stream.wants;
        if wants.response_headers {
            let origin = if by == AnsweredBy::Upstream { Origin::Upstream } else { Origin::Host };
            let shown = ResponseHead { status: head.status.as_u16(), origin, end: body.is_empty() };
            match instance.on_response_headers(id, shown, Arc::new(head.headers.clone()), self.now).map_err(told)? {
                Step::Pass(pass) => {
                    apply_edits(&pass.response_edits, &mut head.headers);
                    wants = pass.wants;
                }
                Step::Respond(response) => return Ok(Some(response)),
                Step::Wait => return Err(waits()),
            }
        }
        if wants.response_body != Interest::None && !body.is_empty() {
            let piece = Piece { bytes: body, coding: Coding::Identity, end: true };
            instance.on_response_body(id, piece, self.now).map_err(told)?;
        }
        Ok(None)
    }

    fn filter_answer(
        &mut self,
        view: &FilteredRequest,
        stream: RehearsedStream,
        response: slidegate::Response,
        is_grpc: bool,
    ) -> RehearsedAnswer {
        let (head, _) = answer::from_filter(response, is_grpc);
        RehearsedAnswer {
            by: AnsweredBy::Filter,
            status: head.status,
            headers: head.headers,
            route: slidegate::Request::route_name(view).to_owned(),
            annotations: self.annotations(stream),
        }
    }

    fn annotations(&mut self, stream: RehearsedStream) -> Vec<(String, String)> {
        let noted = self.instance.as_mut().zip(stream.id).map(|(instance, id)| instance.take_annotations(id));
        noted.unwrap_or_default()
    }

    fn end(&mut self, stream: RehearsedStream) -> Result<(), String> {
        let (Some(instance), Some(id)) = (&mut self.instance, stream.id) else { return Ok(()) };
        instance.on_done(id, Ending::Whole, self.now).map_err(told)?;
        instance.take_outcomes();
        Ok(())
    }
}

/// A request that counts as one.
struct ReceivedRequest {
    view: Arc<FilteredRequest>,
    wishes: Wishes,
    body: Bytes,
    is_grpc: bool,
}

/// What the filter makes of a request.
enum FilterWord {
    /// It goes on; these are the changes to the headers of whatever response there will be.
    Passes(Vec<HeaderEdit>),
    /// The client is answered with this.
    Answered(slidegate::Response),
}

/// A stream of the instance, if there is one.
#[derive(Clone, Copy, Default)]
struct RehearsedStream {
    id: Option<StreamId>,
    wants: Wants,
}

/// What becomes of a stream that waits for a Redis in which there is nothing, as a session that is looked for.
fn empty_replies(instance: &mut Instance, stream: StreamId, now: Moment) -> Result<Step, String> {
    let empty = |call: Call| CallReply { call: call.id, reply: Ok(Reply::Single(Value::Nil)) };
    let replies: Vec<CallReply> = instance.take_calls().into_iter().map(empty).collect();
    if replies.is_empty() {
        return Err(waits());
    }
    instance.on_redis_replies(replies, now).map_err(told)?;
    let outcome = instance.take_outcomes().into_iter().find(|(settled, _)| *settled == stream);
    Ok(match outcome {
        Some((_, Outcome::Pass(pass))) => Step::Pass(pass),
        Some((_, Outcome::Respond(response))) => Step::Respond(response),
        None => Step::Wait,
    })
}

fn told(trap: Trap) -> String {
    trap.to_string()
}

fn waits() -> String {
    "the filter waits for a Redis, and none is asked here".to_owned()
}

fn gateway_answer(refusal: &LocalReply, is_grpc: bool) -> RehearsedAnswer {
    let (head, _) = refusal.answer(is_grpc);
    RehearsedAnswer {
        by: AnsweredBy::Gateway,
        status: head.status,
        headers: head.headers,
        route: String::new(),
        annotations: vec![("details".to_owned(), refusal.details.to_owned())],
    }
}
