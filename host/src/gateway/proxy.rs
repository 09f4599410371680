//! One request's way through the gateway: checked, routed, shown to the filter, sent on, answered.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::Extensions;
use hyper::http::response;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use metrics::Gauge;
use slidegate::tls::HandshakeFailure;
use slidegate::{HeaderEdit, Interest, Origin, ResponseHead, Verdict, Wants, apply_edits};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::gateway::access_log::Record;
use crate::gateway::admission::{self, Caller, FilteredRequest, Wishes};
use crate::gateway::answer::{self, LocalReply};
use crate::gateway::body::{PieceSource, RequestBody, ResponseBody};
use crate::gateway::client::{ClientError, Exchange, Head};
use crate::gateway::decoding::{self, Coded};
use crate::gateway::filtered::FilteredBody;
use crate::gateway::guests::Order;
use crate::gateway::headers::{self, Hops};
use crate::gateway::interim::{self, BesideResponses};
use crate::gateway::large_answers;
use crate::gateway::plain_body::{PeerBody, PlainBody};
use crate::gateway::routes::Route;
use crate::gateway::serving::Serving;
use crate::gateway::telemetry::UpstreamError;
use crate::gateway::tunnel;
use crate::settings::{Protocol, Upstream};

/// What the requests of one thread have in common.
pub(crate) struct Lane {
    pub(crate) index: usize,
    pub(crate) serving: Arc<arc_swap::ArcSwap<Serving>>,
    pub(crate) in_flight: Gauge,
    /// Counts what must end before the process may.
    pub(crate) tracker: TaskTracker,
}

impl Lane {
    /// Answers a request. Dropping the future, because the client left, ends the filter's stream.
    pub(crate) async fn answer(
        &self,
        mut request: Request<PeerBody>,
        caller: Caller,
        beside: BesideResponses,
        order: Arc<Order>,
    ) -> Response<ResponseBody> {
        let (serving, client) = (self.serving.load_full(), caller.client);
        let client_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (mut parts, body) = request.into_parts();
        let record = Record::new(
            Arc::clone(&serving.routes.unrouted),
            serving.settings.log.access,
            self.in_flight.clone(),
            client,
            &parts,
            order,
        );
        let is_grpc = headers::is_grpc(&parts.headers);
        // Earlier versions know none, and hyper's server has no way to send them in HTTP/2.
        let beside = (parts.version == Version::HTTP_11).then_some(beside);
        let mut passage =
            Passage { lane: self, serving, record, is_grpc, beside, told: Vec::new(), ends_with_connection: false };
        let (serving, record) = (&passage.serving, &mut passage.record);
        let admitted = match admission::admit(&parts, caller.is_secure, serving.settings.normalize_path) {
            Ok(admitted) => admitted,
            Err(refusal) => return passage.refuse(&refusal).await,
        };
        let route = serving.routes.find(admitted.authority.host(), &admitted.path).cloned();
        record.authority = Some(admitted.authority.clone());
        if let Some(route) = &route {
            record.route = Arc::clone(&route.labels);
        }
        let wishes = admission::prepare(&mut parts, caller, &admitted.authority, &serving.settings);
        let (has_body, upgrade) = (!body.is_end_stream(), wishes.upgrade.clone());
        let view = Arc::new(FilteredRequest::new(parts, admitted, caller, route, has_body, upgrade));
        passage.run(view, wishes, body, client_upgrade).await
    }
}

/// A request on its way, with all that has to last until its end.
struct Passage<'l> {
    lane: &'l Lane,
    serving: Arc<Serving>,
    record: Record,
    is_grpc: bool,
    /// Where interim responses go, if the client can be sent any.
    beside: Option<BesideResponses>,
    /// The headers that the filter has changed in the request.
    told: Vec<String>,
    /// Nobody can tell whether the upstream's response is whole.
    ends_with_connection: bool,
}

impl Passage<'_> {
    async fn run(
        mut self,
        view: Arc<FilteredRequest>,
        wishes: Wishes,
        body: PeerBody,
        client_upgrade: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        let beside = self.beside.clone();
        // Futures that are handed on are pinned first: whoever takes one by value has room for it twice.
        let decided = {
            let decided = pin!(self.decide(&view));
            interim::pass_on(beside.as_ref(), None, decided).await
        };
        let mut headers = match decided {
            Ok(headers) => headers,
            Err(refused) => return self.respond(refused),
        };
        let route = match serving_route(&view, &wishes) {
            Ok(route) => route,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let (source, answered) = match self.filtered_request(body, &headers) {
            Err(body) => (PieceSource::peer(body), None),
            Ok((mut body, answered)) => {
                if self.wants().request_body == Interest::Hold {
                    match self.begun(&mut body, route).await {
                        Ok(Ok(edits)) => {
                            self.edit(edits, &mut headers);
                            headers.remove(header::CONTENT_LENGTH);
                        }
                        Ok(Err(answer)) => return self.respond(answer),
                        Err(refusal) => return self.refuse(&refusal).await,
                    }
                }
                (PieceSource::Filtered(body), Some(answered))
            }
        };
        if self.wants().response_body != Interest::None {
            decoding::ask_for_known(&mut headers);
        }
        let body = self.request_body(source);
        let head = Head {
            method: view.method.clone(),
            target: view.target.clone(),
            headers,
            upgrade: wishes.upgrade.clone(),
            trailers: wishes.trailers,
            extensions: Extensions::default(),
        };
        let forwarded = match answered {
            None => self.forward(head, body, route).await,
            // An answer also breaks the request off; that must not be taken for a failure of the upstream.
            Some(answered) => tokio::select! {
                biased;
                Ok(answer) = answered => return self.respond(answer),
                forwarded = self.forward(head, body, route) => forwarded,
            },
        };
        match forwarded {
            Ok(response) => self.relay(response, client_upgrade.filter(|_| wishes.upgrade.is_some())).await,
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    /// Asks the filter. If the request passes, its headers come back with the filter's changes.
    async fn decide(&mut self, view: &Arc<FilteredRequest>) -> Result<HeaderMap, slidegate::Response> {
        let Some(worker) = self.serving.worker(self.lane.index) else {
            return Ok(view.take_headers());
        };
        let stream = worker.open(Arc::clone(view) as Arc<dyn slidegate::Request>);
        let verdict = stream.on_request().await;
        self.record.stream = Some(Arc::new(stream));
        match verdict {
            Verdict::Pass(edits) => {
                let mut headers = view.take_headers();
                self.edit(edits, &mut headers);
                Ok(headers)
            }
            Verdict::Respond(response) => Err(response),
        }
    }

    /// Changes the request's headers as the filter wants. Trailers of their names are none of the client's any more.
    fn edit(&mut self, edits: Vec<HeaderEdit>, headers: &mut HeaderMap) {
        apply_edits(&edits, headers);
        self.told.extend(edits.into_iter().map(HeaderEdit::into_name));
    }

    /// Sends the request on and waits for the response's headers.
    async fn forward(
        &mut self,
        head: Head,
        body: RequestBody,
        route: &Route,
    ) -> Result<Response<Incoming>, LocalReply> {
        let (head, interims) = match &self.beside {
            Some(_) => interim::listening(head),
            None => (head, None),
        };
        let mut exchange = Exchange::new(head, body);
        let answered = {
            let sent = pin!(exchange.send(&route.pool, self.lane.index));
            let answered = pin!(interim::pass_on(self.beside.as_ref(), interims, sent));
            self.answer_in_time(answered).await
        };
        self.record.upstream = exchange.endpoint().map(|endpoint| endpoint.upstream.authority.clone());
        match answered {
            Some(Ok(response)) if headers::has_foreign_coding(response.headers()) => {
                route.labels.metrics.upstream_error(UpstreamError::Reset);
                let reason = "the upstream answered in a transfer coding that is not known here";
                Err(LocalReply::new(StatusCode::BAD_GATEWAY, reason, "gateway.upstream_reset"))
            }
            Some(Ok(response)) => {
                let is_secured =
                    exchange.endpoint().is_some_and(|endpoint| endpoint.upstream.protocol == Protocol::Https);
                self.ends_with_connection = !is_secured && headers::ends_with_connection(&response);
                Ok(response)
            }
            // Whatever became of the connection, it began with the client.
            Some(Err(_)) if self.record.upload.is_broken() => {
                let reason = "the request's body broke off, or is none";
                Err(LocalReply::new(StatusCode::BAD_REQUEST, reason, "gateway.bad_request"))
            }
            Some(Err(error)) => {
                exchange.blame(&error);
                self.record.cause = Some(error.cause().into());
                Err(upstream_refusal(&error, route, exchange.endpoint().map(|endpoint| &endpoint.upstream)))
            }
            None => {
                let is_received = self.record.upload.is_received();
                exchange.give_up();
                if is_received {
                    exchange.blame(&ClientError::Late);
                }
                Err(late_refusal(is_received, route))
            }
        }
    }

    /// Waits for the response's headers. Returns none if they are late.
    async fn answer_in_time<T>(&self, response: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(response);
        let (limit, limits) = (self.serving.settings.timeouts.response, &self.serving.settings.limits);
        let mut deadline = self.record.upload.deadline(limit, limits);
        loop {
            if let Ok(response) = timeout_at(deadline, &mut response).await {
                return Some(response);
            }
            // While the request's body is still being sent, the upstream is not late yet.
            let upload = &self.record.upload;
            deadline = upload.deadline(limit, limits);
            if deadline <= Instant::now() {
                return None;
            }
        }
    }

    /// The request's body by way of the filter, and the answer that it may give meanwhile; or the body as it is, where
    /// the filter does not ask to see it.
    fn filtered_request(
        &self,
        body: PeerBody,
        headers: &HeaderMap,
    ) -> Result<(Box<FilteredBody>, oneshot::Receiver<slidegate::Response>), PeerBody> {
        let interest = self.wants().request_body;
        let Some(stream) = self.record.stream.as_ref().filter(|_| interest != Interest::None) else {
            return Err(body);
        };
        let (coded, upload) = (Coded::of(headers), Arc::clone(&self.record.upload));
        let source = PlainBody::Peer(body);
        let (body, answered) = FilteredBody::request(Arc::clone(stream), interest, coded, source, upload);
        Ok((Box::new(body), answered))
    }

    /// Waits until the filter lets a request go that it holds with its body: the changes to its headers, or the
    /// filter's answer.
    async fn begun(
        &self,
        body: &mut FilteredBody,
        route: &Route,
    ) -> Result<Result<Vec<HeaderEdit>, slidegate::Response>, LocalReply> {
        match self.answer_in_time(body.begin()).await {
            Some(Ok(begun)) => Ok(begun),
            Some(Err(_)) => Err(LocalReply::new(
                StatusCode::BAD_REQUEST,
                "the request's body broke off, or is none",
                "gateway.bad_request",
            )),
            None if self.record.upload.is_received() => {
                let reason = "the filter did not let the request go in time";
                Err(LocalReply::new(StatusCode::GATEWAY_TIMEOUT, reason, "gateway.filter_timeout"))
            }
            None => Err(late_refusal(false, route)),
        }
    }

    fn request_body(&mut self, source: PieceSource) -> RequestBody {
        let (upload, order) = (Arc::clone(&self.record.upload), Arc::clone(&self.record.order));
        let settings = &self.serving.settings;
        RequestBody::new(source, upload, settings.timeouts.response, settings.limits, Some(order))
            .with_trailers(settings.header_names, std::mem::take(&mut self.told))
    }

    /// What the filter still wants to see of this request.
    fn wants(&self) -> Wants {
        self.record.stream.as_ref().map(|stream| stream.wants()).unwrap_or_default()
    }

    /// Passes the upstream's response on.
    async fn relay(
        self,
        mut response: Response<Incoming>,
        client_upgrade: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upstream_upgrade = response.extensions_mut().remove::<OnUpgrade>();
            return match (client_upgrade, upstream_upgrade) {
                (Some(client), Some(upstream)) => self.switch(response, client, upstream).await,
                _ => {
                    let reason = "the upstream switched protocols unasked";
                    self.refuse(&LocalReply::new(StatusCode::BAD_GATEWAY, reason, "gateway.upstream_reset")).await
                }
            };
        }
        let (mut parts, body) = response.into_parts();
        headers::remove_false_length(&mut parts.headers);
        headers::remove_hop_by_hop(&mut parts.headers);
        if self.ends_with_connection && self.record.stream.is_some() {
            // For the filter, and for nobody behind it.
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        parts.version = Version::HTTP_11;
        let body = PeerBody::of_upstream(body, parts.extensions.remove());
        self.finish(parts, PlainBody::Peer(body), Origin::Upstream).await
    }

    async fn switch(
        mut self,
        response: Response<Incoming>,
        client: OnUpgrade,
        upstream: OnUpgrade,
    ) -> Response<ResponseBody> {
        let (mut parts, _) = response.into_parts();
        let protocol = parts.headers.get(header::UPGRADE).cloned();
        headers::remove_hop_by_hop(&mut parts.headers);
        if let Some(refused) = self.show_response(&mut parts, Origin::Upstream, true).await {
            return self.respond(refused);
        }
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            parts.headers.insert(header::UPGRADE, protocol);
        }
        self.record.status = Some(parts.status.as_u16());
        let idle = self.serving.settings.timeouts.idle;
        // No filter sees what passes a tunnel.
        self.record.end_stream();
        self.lane.tracker.spawn(tunnel::run(client, upstream, self.record));
        Response::from_parts(parts, ResponseBody::new(PieceSource::own(Bytes::new()), idle, None))
    }

    /// The gateway's own answer. The filter may add its headers to it, as to an upstream's.
    async fn refuse(mut self, refusal: &LocalReply) -> Response<ResponseBody> {
        self.record.details = refusal.details.into();
        self.record.is_upstreams_fault = true;
        let (parts, body) = refusal.answer(self.is_grpc);
        self.finish(parts, PlainBody::own([body]), Origin::Host).await
    }

    /// Shows the response to the filter, where it asks for that, and hands it to the server.
    async fn finish(self, mut parts: response::Parts, source: PlainBody, origin: Origin) -> Response<ResponseBody> {
        if let Some(replaced) = self.show_response(&mut parts, origin, source.is_end()).await {
            return self.respond(replaced);
        }
        let interest = self.wants().response_body;
        let source = match (&self.record.stream, interest) {
            (Some(stream), Interest::Copy | Interest::Watch | Interest::Hold) => {
                let (stream, coded) = (Arc::clone(stream), Coded::of(&parts.headers));
                if interest == Interest::Hold {
                    parts.headers.remove(header::CONTENT_LENGTH);
                }
                PieceSource::Filtered(Box::new(FilteredBody::response(stream, interest, coded, source)))
            }
            _ => PieceSource::Plain(source),
        };
        self.send(parts, source)
    }

    /// Changes the response's headers as the filter wants. Returns its own answer if it wants that in place of this
    /// response.
    async fn show_response(
        &self,
        parts: &mut response::Parts,
        origin: Origin,
        end: bool,
    ) -> Option<slidegate::Response> {
        let head = ResponseHead { status: parts.status.as_u16(), origin, end };
        if let Some(stream) = &self.record.stream {
            let verdict = stream.on_response_headers(head, &parts.headers).await;
            parts.headers.remove(header::CONNECTION);
            match verdict {
                Verdict::Pass(edits) => apply_edits(&edits, &mut parts.headers),
                Verdict::Respond(response) => return Some(response),
            }
        }
        headers::remove_session_orders(&mut parts.headers);
        None
    }

    /// The filter's answer.
    fn respond(mut self, mut response: slidegate::Response) -> Response<ResponseBody> {
        self.record.details = std::mem::take(&mut response.details).into();
        let (parts, body) = answer::from_filter(response, self.is_grpc);
        let held = match self.record.wants_body() {
            true => large_answers::hold(body).map(PlainBody::own),
            false => Some(PlainBody::own([body])),
        };
        match held {
            Some(body) => self.send(parts, PieceSource::Plain(body)),
            None => self.respond(answer::no_room()),
        }
    }

    fn send(mut self, parts: response::Parts, source: PieceSource) -> Response<ResponseBody> {
        self.record.status = Some(parts.status.as_u16());
        let idle = self.serving.settings.timeouts.idle;
        // A body may last for days; of a filter that wants nothing more, nothing is kept so long.
        if self.wants() == Wants::default() {
            self.record.end_stream();
        }
        let is_sent =
            self.record.wants_body() && !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = ResponseBody::new(source, idle, Some(self.record));
        Response::from_parts(parts, if is_sent { body } else { body.not_sent() })
    }
}

/// The route of a request that may go on.
pub(crate) fn serving_route<'v>(view: &'v FilteredRequest, wishes: &Wishes) -> Result<&'v Arc<Route>, LocalReply> {
    match wishes.hops {
        Hops::Unlimited => {}
        Hops::NoMore => return Err(LocalReply::last_hop()),
        Hops::Unreadable => {
            return Err(LocalReply::new(
                StatusCode::BAD_REQUEST,
                "max-forwards is not a number",
                "gateway.bad_request",
            ));
        }
    }
    let no_route = || LocalReply::new(StatusCode::NOT_FOUND, "no route for this host and path", "gateway.no_route");
    view.route.as_ref().ok_or_else(no_route)
}

fn upstream_refusal(error: &ClientError, route: &Route, upstream: Option<&Upstream>) -> LocalReply {
    let named = upstream.map(Upstream::to_string).unwrap_or_default();
    tracing::debug!(cause = error.cause(), upstream = named, "no response");
    let refusal = |kind, status, reason, details| {
        route.labels.metrics.upstream_error(kind);
        LocalReply::new(status, reason, details)
    };
    match error {
        ClientError::ConnectTimeout => {
            let reason = "the upstream did not accept a connection in time";
            refusal(UpstreamError::Timeout, StatusCode::GATEWAY_TIMEOUT, reason, "gateway.upstream_connect_timeout")
        }
        ClientError::Connect(_) => {
            let reason = "the upstream cannot be reached";
            refusal(UpstreamError::Connect, StatusCode::BAD_GATEWAY, reason, "gateway.upstream_connect")
        }
        ClientError::Tls(failure, _) => {
            let reason = match failure {
                HandshakeFailure::Untrusted => "the upstream's certificate is not trusted",
                HandshakeFailure::NoCertificate | HandshakeFailure::Distrusted => {
                    "the upstream does not trust this gateway"
                }
                failure if failure.is_no_tls() => "the upstream does not speak TLS",
                _ => "the upstream does not shake hands",
            };
            refusal(UpstreamError::Connect, StatusCode::BAD_GATEWAY, reason, "gateway.upstream_tls")
        }
        ClientError::TooLarge => {
            let reason = "the upstream's answer has more header fields than pass here";
            refusal(UpstreamError::Reset, StatusCode::BAD_GATEWAY, reason, "gateway.upstream_reset")
        }
        ClientError::NotHttp(_) => {
            let reason = match upstream.map(|upstream| upstream.protocol) {
                Some(Protocol::H2c) => "the upstream's answer is not HTTP/2, or has a larger header than passes here",
                _ => "the upstream's answer is not HTTP",
            };
            refusal(UpstreamError::Reset, StatusCode::BAD_GATEWAY, reason, "gateway.upstream_reset")
        }
        ClientError::Late => late_refusal(true, route),
        ClientError::Busy | ClientError::Refused(_) | ClientError::StreamReset(_) | ClientError::Reset(_) => {
            let reason = "the upstream broke off before it answered";
            refusal(UpstreamError::Reset, StatusCode::BAD_GATEWAY, reason, "gateway.upstream_reset")
        }
    }
}

fn late_refusal(is_body_received: bool, route: &Route) -> LocalReply {
    if !is_body_received {
        let reason = "the request's body did not come in time";
        return LocalReply::new(StatusCode::REQUEST_TIMEOUT, reason, "gateway.request_timeout");
    }
    route.labels.metrics.upstream_error(UpstreamError::Timeout);
    let reason = "the upstream did not answer in time";
    LocalReply::new(StatusCode::GATEWAY_TIMEOUT, reason, "gateway.upstream_timeout")
}
