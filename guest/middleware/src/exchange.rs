//! One request: through the engine, to the upstream, and its response back.

use std::rc::Rc;

use slidegate_engine::{HeaderEdit, Interest, ResponseHead, ResponseOrigin, StreamEnd, Verdict, request::RequestView};
use wasip3::http::{
    client,
    types::{Fields, Method, Request, Response, Scheme},
};

use crate::{
    answers,
    bodies::{BodyEvent, IncomingBody, ShownPieces},
    gate::{Message, OpenExchange, ServiceGate},
    heads::{self, HeldResponse, RequestHead},
};

const NO_AUTHORITY: &str = "rules look at the host that a request is for, and this server does not tell it of this one";

/// What goes to the upstream as the body of a request.
enum Outgoing {
    /// It, as it comes.
    Untouched(IncomingBody),
    /// It, a copy of which is shown.
    Copied(ShownPieces),
    /// What is let go on of it, which begins so.
    Held(ShownPieces, Vec<u8>),
}

/// Answers a request.
pub(crate) async fn answer(gate: &Rc<ServiceGate>, request: Request) -> Response {
    let mut head = RequestHead::new(&request, Rc::clone(&gate.service_name));
    if gate.uses_authority && !head.has_authority() {
        return answers::of_text(400, NO_AUTHORITY);
    }
    let mut body = IncomingBody::of_request(request);
    head.has_body = match head.header("content-length") {
        Some(length) => length != b"0",
        None => !gate.uses_bodies || body.has_bytes().await,
    };
    let open = Rc::new(gate.open(head));
    let step = open.step(|engine, stream, now_ns| engine.on_request(stream, open.head(), now_ns));
    match open.decided(step).await {
        Verdict::Pass(pass) => drop(open.go_on(pass)),
        Verdict::Respond(response) => return answers::of_engine(open.head(), response),
    }
    let outgoing = match outgoing(&open, body).await {
        Ok(outgoing) => outgoing,
        Err(answer) => return answer,
    };
    let Ok(request) = request_of(&open, outgoing) else {
        return answers::of_text(400, "the request cannot be sent as it is");
    };
    let response = client::send(request).await;
    if let Some(response) = open.take_answer() {
        return answers::of_engine(open.head(), response);
    }
    match response {
        Ok(response) => respond(open, response, ResponseOrigin::Upstream).await,
        Err(error) => respond(open, answers::of_failure(&error), ResponseOrigin::Host).await,
    }
}

/// The body of a request: of one that is held, when the first of it may go on.
///
/// # Errors
/// The answer, as it may not.
async fn outgoing(open: &Rc<OpenExchange>, body: IncomingBody) -> Result<Outgoing, Response> {
    let interest = open.interest(Message::Request);
    if interest == Interest::None && !body.is_begun() {
        return Ok(Outgoing::Untouched(body));
    }
    let mut pieces = body.shown(open, Message::Request, heads::is_encoded(&open.head().fields));
    if interest < Interest::Hold {
        return Ok(Outgoing::Copied(pieces));
    }
    match pieces.first().await {
        Ok(first) => Ok(Outgoing::Held(pieces, first)),
        Err(BodyEvent::Answer(response)) => Err(answers::of_engine(open.head(), response)),
        Err(BodyEvent::End(Err(error))) => Err(answers::of_failure(&error)),
        Err(_) => Err(answers::of_text(500, "the body cannot be held")),
    }
}

/// The request as the upstream gets it.
///
/// # Errors
/// The host does not take it.
fn request_of(open: &OpenExchange, outgoing: Outgoing) -> Result<Request, ()> {
    let RequestHead { method, path, fields, .. } = open.head();
    let upstream = &open.gate().upstream;
    let fields = fields.clone();
    heads::edit(&fields, &open.take_edits(Message::Request));
    if open.wants().response_body > Interest::Copy {
        // There is nothing here that could take a coding off.
        heads::edit(&fields, &[HeaderEdit::Set("accept-encoding".into(), b"identity".into())]);
    }
    let (bytes, trailers) = match outgoing {
        Outgoing::Untouched(body) => body.streams(),
        Outgoing::Copied(pieces) => pieces.streamed(Vec::new()),
        Outgoing::Held(pieces, first) => {
            heads::edit(&fields, &[length(pieces.has_ended().then_some(first.len()))]);
            pieces.streamed(first)
        }
    };
    let (request, sent) = Request::new(fields, Some(bytes), trailers, None);
    // A host may break off what nobody waits for, and the response with it.
    wasip3::spawn_local(async { drop(sent.await) });
    request.set_method(method)?;
    request.set_scheme(Some(if upstream.is_secure { &Scheme::Https } else { &Scheme::Http }))?;
    request.set_authority(Some(&upstream.authority))?;
    request.set_path_with_query(Some(path.as_str()).filter(|path| !path.is_empty()))?;
    Ok(request)
}

/// That a body is so long, if that is known.
fn length(length: Option<usize>) -> HeaderEdit {
    let name = "content-length".to_owned();
    match length {
        Some(length) => HeaderEdit::Set(name, length.to_string().into_bytes()),
        None => HeaderEdit::Remove(name),
    }
}

/// What the client gets for a response.
async fn respond(open: Rc<OpenExchange>, response: Response, origin: ResponseOrigin) -> Response {
    open.end(if origin == ResponseOrigin::Upstream { StreamEnd::Whole } else { StreamEnd::Answered });
    let edits = open.take_edits(Message::Response);
    if edits.is_empty() && open.wants().is_nothing() {
        return response;
    }
    let status = response.get_status_code();
    let fields = response.get_headers().clone();
    heads::edit(&fields, &edits);
    if open.wants().response_headers {
        let head = ResponseHead { status, origin, end: has_no_body(&open.head().method, status, &fields) };
        let held = HeldResponse { head, fields: &fields };
        let step = open.step(|engine, stream, now_ns| engine.on_response_headers(stream, &held, now_ns));
        match open.decided(step).await {
            Verdict::Pass(pass) => drop(open.go_on(pass)),
            Verdict::Respond(response) => return answers::of_engine(open.head(), response.edited(edits)),
        }
        heads::edit(&fields, &open.take_edits(Message::Response));
    }
    open.respond();
    let body = IncomingBody::of_response(response);
    let interest = open.interest(Message::Response);
    let is_shown = interest != Interest::None && origin == ResponseOrigin::Upstream;
    let (bytes, trailers) = if is_shown {
        if interest == Interest::Hold {
            heads::edit(&fields, &[length(None)]);
        }
        let is_encoded = heads::is_encoded(&fields);
        // Until its end is seen.
        open.end(StreamEnd::Client);
        body.shown(&open, Message::Response, is_encoded).streamed(Vec::new())
    } else {
        body.streams()
    };
    let (response, sent) = Response::new(fields, Some(bytes), trailers);
    // It is the upstream's.
    let _ = response.set_status_code(status);
    wasip3::spawn_local(async move {
        if sent.await.is_err() && !is_shown {
            open.end(StreamEnd::Client);
        }
    });
    response
}

/// Whether nothing follows these headers.
fn has_no_body(method: &Method, status: u16, fields: &Fields) -> bool {
    matches!(method, Method::Head) || matches!(status, 204 | 304) || fields.get("content-length") == [b"0"]
}
