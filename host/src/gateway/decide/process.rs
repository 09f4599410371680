//! Envoy's external processing: `envoy.service.ext_proc.v3.ExternalProcessor/Process`. A call lasts as long as a
//! request and its response: Envoy shows them as they go, bodies too, and is told what becomes of each part. So this
//! way alone decides by what bodies and answers tell.
//!
//! What cannot be done: a response that the filter ends early goes on for its upstream, as Envoy takes what it sends,
//! which is dropped; and why a response broke off is not told, so that its client counts as the one who left.

mod messages;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use slidegate::{
    BodySide, BodyStep, Ending, Header, HeaderEdit, Interest, Origin, Parts, Released, ResponseHead, Verdict, Wants,
    apply_edits,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use self::messages::{
    BodyMutation, GrpcStatus, HeaderMutation, ImmediateReply, PhaseReply, ProcessAnswer, ProcessBody, ProcessCall,
    ProcessConfig, ProcessEvent, ProcessHeaders, ProcessReply, ProcessingMode,
};
use super::asked::{self, AskedRequest};
use super::decision::{RefusedRequest, ShownRequest};
use super::envoy_messages::{self, HttpStatus, ProtoHeaders};
use super::forwarded::{X_ENVOY_EXTERNAL_ADDRESS, address, last_address};
use super::grpc::{self, GrpcError};
use super::grpc_stream::GrpcStream;
use crate::gateway::access_log::Record;
use crate::gateway::admission::{Caller, RouteNames};
use crate::gateway::answer::{self, LocalReply, grpc_status};
use crate::gateway::decoding::{self, Coded};
use crate::gateway::headers;
use crate::gateway::seen_body::SeenBody;

/// How long Envoy waits for the word on a piece that the filter keeps, and that is not the last: the filter may know
/// more by then, without a next one. After that the piece is taken out, and comes with a later one.
const KEPT_WAIT: Duration = Duration::from_millis(50);

/// What a call begins with.
pub(super) struct AskedProcessing {
    pub(super) request: AskedRequest,
    pub(super) has_body: bool,
    /// Why nothing can be decided by what will be shown.
    pub(super) blindness: Option<&'static str>,
}

/// The request that a call begins with. `wanted`: the bodies that the filter may want to see.
///
/// # Errors
/// It is none, or nobody hears what is answered.
pub(super) fn asked(mut call: ProcessCall, caller: Caller, wanted: Parts) -> Result<AskedProcessing, GrpcError> {
    let Some(ProcessEvent::RequestHeaders(head)) = call.event.take() else {
        return Err(GrpcError::invalid("a call begins with a request's headers: `request_header_mode` is to be SEND"));
    };
    if call.observability_mode {
        return Err(GrpcError::precondition("observability_mode: nothing is decided by what nobody hears"));
    }
    let blindness = blindness(call.protocol_config.as_ref(), wanted);
    let names = match [call.attribute("xds.route_name"), call.attribute("xds.cluster_name")] {
        [None, None] => None,
        names => {
            let [route, service] = names.map(|name| name.unwrap_or_default().to_owned());
            Some(RouteNames { route, service })
        }
    };
    let source = call.attribute("source.address").and_then(address);
    let has_body = !head.end_of_stream;
    let ToldHead { beside: [method, path, host, scheme], fields } =
        told(head.headers, [":method", ":path", ":authority", ":scheme"])?;
    let parts = asked::head(&method, &path, &host, fields)?;
    let client = last_address(&parts.headers, &X_ENVOY_EXTERNAL_ADDRESS).or(source);
    let client = client.map_or(caller.client, |client| SocketAddr::new(client, 0));
    let is_secure = scheme.eq_ignore_ascii_case(b"https");
    let request = AskedRequest { parts, client, is_secure, names };
    Ok(AskedProcessing { request, has_body, blindness })
}

/// What Envoy will not show as it has to be shown, if there is anything. One that says nothing of that shows nothing.
fn blindness(config: Option<&ProcessConfig>, wanted: Parts) -> Option<&'static str> {
    if config.is_some_and(|config| !config.is_understood()) {
        return Some("bodies are understood in two ways alone: STREAMED, or BUFFERED, in Envoy's processing_mode");
    }
    let (shows_request, shows_response) = config.map(ProcessConfig::shows_bodies).unwrap_or_default();
    if wanted & Parts::REQUEST_BODY != Parts::empty() && !shows_request {
        return Some("limits on tokens need requests' bodies: request_body_mode: STREAMED in Envoy's processing_mode");
    }
    if wanted & Parts::RESPONSE_BODY != Parts::empty() && !shows_response {
        return Some("limits on tokens need answers' bodies: response_body_mode: STREAMED in Envoy's processing_mode");
    }
    None
}

/// A head, as it is told.
struct ToldHead<const N: usize> {
    /// What is told beside the fields, under names with a colon.
    beside: [Vec<u8>; N],
    fields: HeaderMap,
}

/// # Errors
/// Something is told twice, or is no field.
fn told<const N: usize>(headers: Option<ProtoHeaders>, names: [&str; N]) -> Result<ToldHead<N>, GrpcError> {
    let (beside, fields): (Vec<_>, Vec<_>) =
        headers.into_iter().flat_map(ProtoHeaders::into_fields).partition(|(name, _)| name.starts_with(':'));
    let of_name = |name: &str| {
        let mut values = beside.iter().filter(|(told, _)| told == name).map(|(_, value)| value.clone());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(GrpcError::invalid("a field with a colon is there twice")),
            (first, None) => Ok(first.unwrap_or_default()),
        }
    };
    let mut told = ToldHead { beside: [const { Vec::new() }; N], fields: envoy_messages::fields(fields.into_iter())? };
    for (value, name) in told.beside.iter_mut().zip(names) {
        *value = of_name(name)?;
    }
    Ok(told)
}

/// The answer that a client gets in place of everything else.
pub(super) fn refusal(refused: RefusedRequest) -> ProcessAnswer {
    let RefusedRequest { parts, body } = refused;
    let immediate = ImmediateReply {
        status: Some(HttpStatus { code: i32::from(parts.status.as_u16()) }),
        headers: Some(HeaderMutation::of_fields(&parts.headers)),
        body,
        grpc_status: Some(GrpcStatus { status: u32::from(grpc_status(parts.status)) }),
    };
    ProcessAnswer { reply: Some(ProcessReply::Immediate(immediate)), mode_override: None }
}

/// A request on its way through Envoy, and its response.
pub(super) struct Processing {
    calls: GrpcStream,
    /// With the filter's stream, as long as that says something.
    record: Record,
    request: ProcessedBody,
    /// None: its headers have not come.
    response: Option<ProcessedBody>,
}

/// A body on its way through Envoy.
struct ProcessedBody {
    /// None: the filter does not want to see it, or nothing more of it.
    shown: Option<SeenBody>,
    /// All of it has come.
    is_whole: bool,
    /// The filter has ended it: what still comes is dropped.
    is_ended: bool,
}

/// What becomes of a part of a request or of its response.
enum PartStep {
    /// It goes on so.
    Pass(Vec<HeaderEdit>, Option<BodyMutation>),
    /// Its client is answered with this, and that is all.
    Refuse(RefusedRequest),
}

impl Processing {
    /// One that begins with a request that may pass so far. Its record has the filter's stream.
    pub(super) fn new(calls: GrpcStream, mut record: Record, has_body: bool, request: &ShownRequest) -> Self {
        // Until it is known to be whole.
        record.is_cut = true;
        let coded = Coded::of(&request.headers);
        let request = ProcessedBody::new(&record, BodySide::Request, coded, !has_body);
        Self { calls, record, request, response: None }
    }

    /// Answers until all is said; with the trailers of the answer. `silence_max`: how long Envoy may say nothing.
    pub(super) async fn run(
        mut self,
        request: ShownRequest,
        answers: mpsc::Sender<Bytes>,
        silence_max: Duration,
    ) -> HeaderMap {
        match self.converse(request, answers, silence_max).await {
            Ok(()) => grpc::trailers(),
            Err(error) => {
                self.record.details = error.details().into();
                self.record.status.get_or_insert(error.status().as_u16());
                error.trailers()
            }
        }
    }

    async fn converse(
        &mut self,
        request: ShownRequest,
        answers: mpsc::Sender<Bytes>,
        silence_max: Duration,
    ) -> Result<(), GrpcError> {
        let mut answer = self.begin(request).await;
        loop {
            let is_last = matches!(answer.reply, Some(ProcessReply::Immediate(_))) || self.is_over();
            // Nobody is left to whom it matters if this fails.
            if answers.send(grpc::framed(&answer)).await.is_err() || is_last {
                return Ok(());
            }
            let Ok(call) = timeout(silence_max, self.calls.next()).await else {
                // The upstream says nothing, or Envoy would not wait.
                self.record.is_upstreams_fault = true;
                return Err(GrpcError::late());
            };
            let Some(call) = call? else { return Ok(()) };
            answer = self.step(call).await?;
        }
    }

    /// Whether the filter wants to see no more of all.
    fn is_over(&self) -> bool {
        self.request.is_over() && self.response.as_ref().is_some_and(ProcessedBody::is_over)
    }

    /// The answer to the request's headers.
    async fn begin(&mut self, request: ShownRequest) -> ProcessAnswer {
        let ShownRequest { mut headers, mut edits, .. } = request;
        if self.request.is_whole {
            match self.show(BodySide::Request, Bytes::new(), true).await {
                PartStep::Pass(of_body, _) => edits.extend(of_body),
                PartStep::Refuse(refused) => return refusal(refused),
            }
        }
        if self.wants().response_body != Interest::None {
            apply_edits(&edits, &mut headers);
            edits.extend(coding_edit(&headers));
        }
        self.pass(ProcessReply::RequestHeaders(PhaseReply::new(edits, None)))
    }

    /// The answer to headers that pass.
    fn pass(&self, reply: ProcessReply) -> ProcessAnswer {
        let Wants { request_body, response_body, .. } = self.wants();
        ProcessAnswer { reply: Some(reply), mode_override: Some(ProcessingMode::of(request_body, response_body)) }
    }

    /// What the filter still wants to see.
    fn wants(&self) -> Wants {
        self.record.stream.as_ref().map(|stream| stream.wants()).unwrap_or_default()
    }

    async fn step(&mut self, call: ProcessCall) -> Result<ProcessAnswer, GrpcError> {
        let event = call.event.ok_or_else(|| GrpcError::invalid("a message shows nothing that is known here"))?;
        let (side, ProcessBody { body, end_of_stream }) = match event {
            ProcessEvent::RequestHeaders(_) => return Err(GrpcError::invalid("the request's headers came twice")),
            ProcessEvent::ResponseHeaders(head) => return self.response_headers(head).await,
            ProcessEvent::RequestBody(body) => (BodySide::Request, body),
            ProcessEvent::ResponseBody(body) => (BodySide::Response, body),
            ProcessEvent::RequestTrailers(()) => return self.trailers(BodySide::Request).await,
            ProcessEvent::ResponseTrailers(()) => return self.trailers(BodySide::Response).await,
        };
        let (edits, mutation) = match self.piece(side, body, end_of_stream).await? {
            PartStep::Pass(edits, mutation) => (edits, mutation),
            PartStep::Refuse(refused) => return Ok(refusal(refused)),
        };
        let reply = PhaseReply::new(edits, mutation);
        let reply = match side {
            BodySide::Request => ProcessReply::RequestBody(reply),
            BodySide::Response => ProcessReply::ResponseBody(reply),
        };
        Ok(ProcessAnswer { reply: Some(reply), mode_override: None })
    }

    async fn response_headers(&mut self, head: ProcessHeaders) -> Result<ProcessAnswer, GrpcError> {
        if self.response.is_some() {
            return Err(GrpcError::invalid("the response's headers came twice"));
        }
        let is_bodiless = head.end_of_stream;
        let ToldHead { beside: [status], mut fields } = told(head.headers, [":status"])?;
        let status =
            StatusCode::from_bytes(&status).map_err(|_| GrpcError::invalid("the response's status is none"))?;
        headers::remove_hop_by_hop(&mut fields);
        let head = ResponseHead { status: status.as_u16(), origin: Origin::Upstream, end: is_bodiless };
        let verdict = match &self.record.stream {
            Some(stream) => stream.on_response_headers(head, &fields).await,
            None => Verdict::Pass(Vec::new()),
        };
        let mut edits = match verdict {
            Verdict::Pass(edits) => edits,
            Verdict::Respond(response) => return Ok(refusal(self.refuse(response))),
        };
        self.record.status = Some(status.as_u16());
        if self.wants().response_body == Interest::Hold {
            edits.push(HeaderEdit::Remove(header::CONTENT_LENGTH.as_str().to_owned()));
        }
        let response = ProcessedBody::new(&self.record, BodySide::Response, Coded::of(&fields), is_bodiless);
        self.response = Some(response);
        if is_bodiless {
            // There is no body that could go on otherwise.
            self.show(BodySide::Response, Bytes::new(), true).await;
        }
        self.count_end();
        Ok(self.pass(ProcessReply::ResponseHeaders(PhaseReply::new(edits, None))))
    }

    /// Nothing of a body comes behind these.
    async fn trailers(&mut self, side: BodySide) -> Result<ProcessAnswer, GrpcError> {
        match self.piece(side, Bytes::new(), true).await? {
            PartStep::Pass(_, None) => {}
            PartStep::Pass(_, Some(_)) => {
                return Err(GrpcError::internal("what the filter kept of a body has no place behind its trailers"));
            }
            PartStep::Refuse(refused) => return Ok(refusal(refused)),
        }
        let reply = match side {
            BodySide::Request => ProcessReply::RequestTrailers(()),
            BodySide::Response => ProcessReply::ResponseTrailers(()),
        };
        Ok(ProcessAnswer { reply: Some(reply), mode_override: None })
    }

    fn body(&mut self, side: BodySide) -> Option<&mut ProcessedBody> {
        match side {
            BodySide::Request => Some(&mut self.request),
            BodySide::Response => self.response.as_mut(),
        }
    }

    /// A piece of a body has come.
    async fn piece(&mut self, side: BodySide, piece: Bytes, is_last: bool) -> Result<PartStep, GrpcError> {
        let body = self.body(side).ok_or_else(|| GrpcError::invalid("a response's body came before its headers"))?;
        if body.is_whole {
            return Err(GrpcError::invalid("a body goes on behind its end"));
        }
        body.is_whole = is_last;
        let step = self.show(side, piece, is_last).await;
        self.count_end();
        Ok(step)
    }

    /// Shows a piece to the filter, and waits for its word if there is no next one.
    async fn show(&mut self, side: BodySide, piece: Bytes, is_last: bool) -> PartStep {
        // Beside which the other parts are used.
        let body = match side {
            BodySide::Request => Some(&mut self.request),
            BodySide::Response => self.response.as_mut(),
        };
        let Some(body) = body else { return PartStep::Pass(Vec::new(), None) };
        if body.is_ended {
            return PartStep::Pass(Vec::new(), BodyMutation::of(&piece, &[]));
        }
        match side {
            BodySide::Request => self.record.upload.piece(piece.len()),
            BodySide::Response => self.record.bytes_sent += piece.len() as u64,
        }
        let Some(shown) = &mut body.shown else { return PartStep::Pass(Vec::new(), None) };
        let mut released = Released::default();
        let mut step = shown.show(piece.clone(), is_last);
        loop {
            let settled = poll_fn(|context| shown.poll_released(context));
            step = match step {
                BodyStep::Pass(more) => {
                    released = released.and(more);
                    if released.end || !is_last {
                        break;
                    }
                    settled.await
                }
                BodyStep::Wait if is_last => settled.await,
                BodyStep::Wait => tokio::select! {
                    biased;
                    step = settled => step,
                    // If it breaks off, whoever asks for it next is told.
                    _ = self.calls.arrive() => break,
                    () = sleep(KEPT_WAIT) => break,
                },
                BodyStep::Respond(response) => return PartStep::Refuse(self.refuse(response)),
                BodyStep::TooLarge if side == BodySide::Request => {
                    return PartStep::Refuse(self.refuse(answer::too_large()));
                }
                BodyStep::NoRoom if side == BodySide::Request => {
                    return PartStep::Refuse(self.refuse(answer::no_room()));
                }
                BodyStep::TooLarge | BodyStep::NoRoom => return PartStep::Refuse(self.break_off()),
            };
        }
        if released.end && !is_last {
            self.end(side);
        }
        let mut edits = released.edits;
        let mutation = BodyMutation::of(&piece, &released.pieces);
        if mutation.is_some() && is_last && side == BodySide::Request {
            // Heard where Envoy waits for the whole body with the headers, and there it is the whole.
            let length = released.pieces.iter().map(Bytes::len).sum::<usize>().to_string().into_bytes();
            edits.push(HeaderEdit::Set(Header { name: header::CONTENT_LENGTH.as_str().to_owned(), value: length }));
        }
        PartStep::Pass(edits, mutation)
    }

    /// The filter has ended a body before its time.
    fn end(&mut self, side: BodySide) {
        if let Some(body) = self.body(side) {
            (body.shown, body.is_ended) = (None, true);
        }
        if side == BodySide::Response {
            // What its upstream still says is not waited for.
            self.request.shown = None;
            self.record.is_cut = false;
            if let Some(stream) = &self.record.stream {
                stream.ended(Ending::Whole);
            }
            self.record.end_stream();
        }
    }

    /// Takes note of whether the response is whole, as far as the filter follows it.
    fn count_end(&mut self) {
        if self.request.is_whole {
            self.record.upload.complete();
        }
        if self.response.as_ref().is_some_and(|response| response.is_whole || response.shown.is_none()) {
            self.record.is_cut = false;
        }
    }

    /// The filter's answer in place of what comes.
    fn refuse(&mut self, response: slidegate::Response) -> RefusedRequest {
        let refused = RefusedRequest::by_filter(&mut self.record, response);
        self.record.status = Some(refused.parts.status.as_u16());
        self.record.is_cut = false;
        refused
    }

    /// A response whose headers have gone is broken off: Envoy resets it when it is told to answer something else.
    fn break_off(&mut self) -> RefusedRequest {
        let reason = "filters hold more of answers than the gateway keeps";
        let refusal = LocalReply::new(StatusCode::BAD_GATEWAY, reason, "gateway.body_too_large");
        RefusedRequest::by_gateway(&mut self.record, &refusal)
    }
}

impl ProcessedBody {
    /// One in which the filter has the interest that it has now.
    fn new(record: &Record, side: BodySide, coded: Coded, is_whole: bool) -> Self {
        let shown = record.stream.as_ref().and_then(|stream| {
            let interest = side.interest(stream.wants());
            (interest != Interest::None).then(|| SeenBody::new(Arc::clone(stream), side, interest, coded))
        });
        Self { shown, is_whole, is_ended: false }
    }

    /// Whether nothing more of it has to be shown, or dropped.
    fn is_over(&self) -> bool {
        self.is_whole || (self.shown.is_none() && !self.is_ended)
    }
}

/// What a request has to ask for so that its answer can be read.
fn coding_edit(headers: &HeaderMap) -> Option<HeaderEdit> {
    let asked = headers.get_all(header::ACCEPT_ENCODING).iter().cloned();
    let asked: HeaderMap = asked.map(|value| (header::ACCEPT_ENCODING, value)).collect();
    let mut known = asked.clone();
    decoding::ask_for_known(&mut known);
    let value = known.get(header::ACCEPT_ENCODING).filter(|_| known != asked)?.as_bytes().to_vec();
    Some(HeaderEdit::Set(Header { name: header::ACCEPT_ENCODING.as_str().to_owned(), value }))
}
