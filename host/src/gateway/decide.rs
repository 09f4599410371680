//! Decisions for other proxies: what would become of a request that somebody else passes on. A decision goes through
//! the same filters as a request, on the same workers, and has no upstream: the answer says whether the request may
//! pass, and with which changes.
//!
//! Who asks speaks for its clients, so only those are answered who are trusted. Over HTTP a status says it, which is
//! never one of success unless the request may pass; gRPC is spoken in HTTP/2 and told by its content type.

mod asked;
mod authz;
mod decision;
mod envoy_messages;
mod forwarded;
mod grpc;
mod grpc_stream;
mod health_check;
mod process;
mod quota;
mod rate_limit;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::request::Parts as RequestParts;
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use slidegate::{Origin, Parts as UsedParts, ResponseHead, Verdict, apply_edits};

use self::asked::AskedRequest;
use self::decision::{PassedRequest, RefusedRequest, ShownRequest, refusing, status_of};
use self::grpc::{GrpcError, GrpcMethod};
use self::grpc_stream::GrpcStream;
use self::process::{AskedProcessing, Processing};
use self::rate_limit::{AskedLimits, LimitQuestion, RateLimitAnswer};
use crate::gateway::access_log::{Record, RouteLabels};
use crate::gateway::admission::{self, Caller, FilteredRequest};
use crate::gateway::answer::LocalReply;
use crate::gateway::body::{PieceSource, ResponseBody};
use crate::gateway::decision_labels::DecisionLabels;
use crate::gateway::guests::Order;
use crate::gateway::headers;
use crate::gateway::plain_body::{PeerBody, PlainBody};
use crate::gateway::proxy::Lane;
use crate::gateway::serving::Serving;
use crate::gateway::told_body::ToldBody;

/// Somebody who asks, and what it is answered with.
struct DecisionAsker<'l> {
    lane: &'l Lane,
    serving: Arc<Serving>,
    caller: Caller,
    order: Arc<Order>,
}

impl Lane {
    /// Decides on a request that somebody else has. Dropping the future, because nobody waits any more, ends the
    /// filter's stream.
    pub(crate) async fn decide(
        &self,
        request: Request<PeerBody>,
        caller: Caller,
        order: Arc<Order>,
    ) -> Response<ResponseBody> {
        let serving = self.serving.load_full();
        let (parts, body) = request.into_parts();
        DecisionAsker { lane: self, serving, caller, order }.answer(parts, body).await
    }
}

/// A head without its fields, for the log.
fn request_line(parts: &RequestParts) -> RequestParts {
    let (mut line, ()) = Request::new(()).into_parts();
    line.method.clone_from(&parts.method);
    line.uri.clone_from(&parts.uri);
    line.version = parts.version;
    line
}

impl DecisionAsker<'_> {
    async fn answer(&self, parts: RequestParts, body: PeerBody) -> Response<ResponseBody> {
        let Some((decide, labels)) = self.serving.settings.decide.as_ref().zip(self.serving.decisions.as_ref()) else {
            let reason = "no decisions are made here any more";
            let refusal = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, reason, "decide.off");
            return self.refuse(&parts, &self.serving.routes.unrouted, &refusal);
        };
        // In HTTP/1 the content type is the one of the request that is asked about.
        let is_grpc = parts.version == Version::HTTP_2
            && headers::is_grpc(&parts.headers)
            && !forwarded::is_forwarded(&parts.headers);
        if !decide.trusted_peers.contain(self.caller.client.ip()) {
            let reason = "this peer may not ask for decisions: `decide.trusted_peers` does not name it";
            return match is_grpc {
                true => self.fail(&parts, &labels.http, &GrpcError::untrusted(reason)),
                false => {
                    let refusal = LocalReply::new(StatusCode::FORBIDDEN, reason, "decide.untrusted_peer");
                    self.refuse(&parts, &labels.http, &refusal)
                }
            };
        }
        match is_grpc {
            true => self.answer_grpc(parts, body, labels).await,
            false => self.answer_http(parts, decide.refuse_with, &labels.http).await,
        }
    }

    /// Forward-auth, and what Envoy asks over HTTP.
    async fn answer_http(
        &self,
        parts: RequestParts,
        refuse_with: Option<StatusCode>,
        labels: &Arc<RouteLabels>,
    ) -> Response<ResponseBody> {
        let is_for_grpc = GrpcMethod::of(&parts).is_some() && !forwarded::is_forwarded(&parts.headers);
        if is_for_grpc {
            return self.refuse(&parts, labels, &grpc::unsupported_type());
        }
        let is_head = parts.method == Method::HEAD;
        let line = request_line(&parts);
        let asked = match forwarded::asked(parts, self.caller) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(&line, labels, &refusal),
        };
        let (mut record, decided) = self.decided(asked, labels).await;
        let (head, body) = match decided {
            // It would go on as it is: whoever asks over HTTP copies what it is told, and takes nothing away.
            Ok(passed) if passed.has_other_spellings => {
                let reason = "a header that is told of the client is there in another spelling";
                let refusal = LocalReply::new(StatusCode::BAD_REQUEST, reason, "decide.other_spelling");
                let RefusedRequest { parts, body } = RefusedRequest::by_gateway(&mut record, &refusal);
                (parts, body)
            }
            Ok(passed) => (passed.over_http(), Bytes::new()),
            Err(RefusedRequest { mut parts, body }) => {
                parts.status = refusing(parts.status, refuse_with);
                (parts, body)
            }
        };
        record.status = Some(head.status.as_u16());
        self.send(head, PlainBody::own([body]), record, !is_head)
    }

    async fn answer_grpc(
        &self,
        parts: RequestParts,
        body: PeerBody,
        labels: &DecisionLabels,
    ) -> Response<ResponseBody> {
        if !grpc::is_protobuf(&parts.headers) {
            return self.refuse(&parts, &labels.http, &grpc::unsupported_type());
        }
        match GrpcMethod::of(&parts) {
            Some(GrpcMethod::Check) => {
                let asked = grpc::read(body).await.and_then(|call| authz::asked(call, self.caller));
                match asked {
                    Ok(asked) => {
                        let (record, decided) = self.decided(asked, &labels.authz).await;
                        let status = status_of(&decided);
                        self.tell(&authz::answer(decided), record, status)
                    }
                    Err(error) => self.fail(&parts, &labels.authz, &error),
                }
            }
            Some(GrpcMethod::ShouldRateLimit) => match grpc::read(body).await.and_then(rate_limit::asked) {
                Ok(asked) => match self.rate_limited(asked, &labels.rate_limit).await {
                    Ok((answer, record, status)) => self.tell(&answer, record, status),
                    Err(error) => self.fail(&parts, &labels.rate_limit, &error),
                },
                Err(error) => self.fail(&parts, &labels.rate_limit, &error),
            },
            Some(GrpcMethod::Process) => self.process(&parts, body, &labels.process).await,
            Some(GrpcMethod::HealthCheck) => match grpc::read(body).await.and_then(health_check::answer) {
                Ok(answer) => {
                    let record = self.record(&parts, &labels.health, self.caller.client);
                    self.tell(&answer, record, StatusCode::OK)
                }
                Err(error) => self.fail(&parts, &labels.health, &error),
            },
            None => self.fail(&parts, &labels.http, &GrpcError::unimplemented()),
        }
    }

    /// External processing, whose answer goes on as long as the request that it is about.
    async fn process(&self, parts: &RequestParts, body: PeerBody, labels: &Arc<RouteLabels>) -> Response<ResponseBody> {
        let mut calls = GrpcStream::new(body);
        let first = tokio::time::timeout(grpc::CALL_TIME, calls.next()).await;
        let first = first.unwrap_or_else(|_| Err(GrpcError::late()));
        let first = first.and_then(|call| call.ok_or_else(|| GrpcError::invalid("the call has no message")));
        let asked = first.and_then(|call| process::asked(call, self.caller, self.wanted_bodies()));
        let AskedProcessing { request, has_body, blindness } = match asked {
            Ok(asked) => asked,
            Err(error) => return self.fail(parts, labels, &error),
        };
        let (record, shown) = match blindness {
            None => self.shown(request, labels, has_body).await,
            Some(reason) => {
                let (record, refused) = self.blind(&request, labels, reason);
                (record, Err(refused))
            }
        };
        let shown = match shown {
            Ok(shown) => shown,
            Err(refused) => {
                let status = refused.parts.status;
                return self.tell(&process::refusal(refused), record, status);
            }
        };
        let timeouts = &self.serving.settings.timeouts;
        let silence_max = timeouts.response.max(timeouts.idle);
        let processing = Processing::new(calls, record, has_body, &shown);
        let body = ToldBody::new(|answers| processing.run(shown, answers, silence_max));
        let source = PieceSource::Plain(PlainBody::Told(Box::new(body)));
        // Of silence is told in gRPC's terms before this looks.
        let body = ResponseBody::new(source, silence_max.saturating_add(grpc::CALL_TIME), None);
        Response::from_parts(grpc::head(), body)
    }

    /// The bodies that the filter may want to see.
    fn wanted_bodies(&self) -> UsedParts {
        let parts = self.serving.configuration().map_or(UsedParts::empty(), |configuration| configuration.uses.parts);
        parts & (UsedParts::REQUEST_BODY | UsedParts::RESPONSE_BODY)
    }

    /// Decides the questions of a call one after the other, each as often as it counts, until one is refused.
    async fn rate_limited(
        &self,
        asked: AskedLimits,
        labels: &Arc<RouteLabels>,
    ) -> Result<(RateLimitAnswer, Record, StatusCode), GrpcError> {
        // Before anything is charged.
        for question in &asked.questions {
            question.request(self.caller)?;
        }
        let mut answer = RateLimitAnswer::of(asked.descriptors);
        let mut last: Option<(Record, StatusCode)> = None;
        for question in asked.questions.iter().flat_map(LimitQuestion::each_time) {
            let (record, decided) = self.decided(question.request(self.caller)?, labels).await;
            let (status, is_refused) = (status_of(&decided), decided.is_err());
            answer.add(question, decided);
            if let Some((mut before, status)) = last.replace((record, status)) {
                before.status = Some(status.as_u16());
            }
            if is_refused {
                break;
            }
        }
        let (record, status) = last.ok_or_else(|| GrpcError::invalid("a call for limits has no descriptor"))?;
        Ok((answer, record, status))
    }

    /// What is decided on a request of which no more is shown, and its record, which ends with the answer to whoever
    /// asked.
    async fn decided(
        &self,
        asked: AskedRequest,
        labels: &Arc<RouteLabels>,
    ) -> (Record, Result<PassedRequest, RefusedRequest>) {
        if self.wanted_bodies() != UsedParts::empty() {
            let reason = "limits on tokens need ext_proc: nothing else shows bodies";
            let (record, refused) = self.blind(&asked, labels, reason);
            return (record, Err(refused));
        }
        let (mut record, shown) = self.shown(asked, labels, false).await;
        let ShownRequest { edits: request, has_other_spellings, .. } = match shown {
            Ok(shown) => shown,
            Err(refused) => return (record, Err(refused)),
        };
        let Some(stream) = record.stream.clone() else { return (record, Ok(PassedRequest::default())) };
        // The answer that the request will get somewhere else: what the filter adds to it is told beforehand.
        let head = ResponseHead { status: StatusCode::OK.as_u16(), origin: Origin::Upstream, end: true };
        let decided = match stream.on_response_headers(head, &HeaderMap::new()).await {
            Verdict::Pass(edits) => {
                let mut response = HeaderMap::new();
                apply_edits(&edits, &mut response);
                Ok(PassedRequest { request, response, has_other_spellings })
            }
            Verdict::Respond(response) => Err(RefusedRequest::by_filter(&mut record, response)),
        };
        (record, decided)
    }

    /// Refuses to decide without what is not shown: what would have to be counted would be free.
    fn blind(&self, asked: &AskedRequest, labels: &Arc<RouteLabels>, reason: &'static str) -> (Record, RefusedRequest) {
        if let Some(decisions) = &self.serving.decisions {
            decisions.tell_blindness(reason);
        }
        let mut record = self.record(&asked.parts, labels, asked.client);
        let refusal = LocalReply::new(StatusCode::FORBIDDEN, reason, "decide.needs_bodies");
        let refused = RefusedRequest::by_gateway(&mut record, &refusal);
        (record, refused)
    }

    /// Shows a request to the filter; with its record, which has the filter's stream then.
    async fn shown(
        &self,
        asked: AskedRequest,
        labels: &Arc<RouteLabels>,
        has_body: bool,
    ) -> (Record, Result<ShownRequest, RefusedRequest>) {
        let AskedRequest { mut parts, client, is_secure, names } = asked;
        let settings = &self.serving.settings;
        let mut record = self.record(&parts, labels, client);
        let admitted = match admission::admit(&parts, is_secure, settings.normalize_path) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let refused = RefusedRequest::by_gateway(&mut record, &refusal);
                return (record, Err(refused));
            }
        };
        record.authority = Some(admitted.authority.clone());
        admission::settle(&mut parts.headers, self.caller.client.ip(), &admitted.authority, settings);
        headers::remove_hop_by_hop(&mut parts.headers);
        let route = self.serving.routes.find(admitted.authority.host(), &admitted.path).cloned();
        let view = FilteredRequest::new(parts, admitted, Caller { client, is_secure }, route, has_body, None);
        let view = Arc::new(view.called(names));
        let verdict = match self.serving.worker(self.lane.index) {
            Some(worker) => {
                let stream = worker.open(Arc::clone(&view) as Arc<dyn slidegate::Request>);
                let verdict = stream.on_request().await;
                record.stream = Some(Arc::new(stream));
                verdict
            }
            None => Verdict::Pass(Vec::new()),
        };
        let shown = match verdict {
            Verdict::Pass(edits) => Ok(ShownRequest::new(view.take_headers(), edits)),
            Verdict::Respond(response) => Err(RefusedRequest::by_filter(&mut record, response)),
        };
        (record, shown)
    }

    fn record(&self, parts: &RequestParts, labels: &Arc<RouteLabels>, client: SocketAddr) -> Record {
        let (is_logged, in_flight) = (self.serving.settings.log.access, self.lane.in_flight.clone());
        Record::new(Arc::clone(labels), is_logged, in_flight, client, parts, Arc::clone(&self.order))
    }

    /// Refuses to decide, over HTTP.
    fn refuse(&self, parts: &RequestParts, labels: &Arc<RouteLabels>, refusal: &LocalReply) -> Response<ResponseBody> {
        let mut record = self.record(parts, labels, self.caller.client);
        record.status = Some(refusal.status.as_u16());
        let RefusedRequest { parts: head, body } = RefusedRequest::by_gateway(&mut record, refusal);
        self.send(head, PlainBody::own([body]), record, parts.method != Method::HEAD)
    }

    /// The same in gRPC.
    fn fail(&self, parts: &RequestParts, labels: &Arc<RouteLabels>, error: &GrpcError) -> Response<ResponseBody> {
        let mut record = self.record(parts, labels, self.caller.client);
        record.details = error.details().into();
        record.status = Some(error.status().as_u16());
        self.send(error.answer(), PlainBody::own([]), record, true)
    }

    /// Answers in gRPC. `status` is what was decided, as HTTP says it.
    fn tell(&self, message: &impl prost::Message, mut record: Record, status: StatusCode) -> Response<ResponseBody> {
        record.status = Some(status.as_u16());
        let (head, body) = grpc::answer(message);
        self.send(head, body, record, true)
    }

    fn send(&self, head: Parts, body: PlainBody, record: Record, has_body: bool) -> Response<ResponseBody> {
        let body = ResponseBody::new(PieceSource::Plain(body), self.serving.settings.timeouts.idle, Some(record));
        Response::from_parts(head, if has_body { body } else { body.not_sent() })
    }
}
