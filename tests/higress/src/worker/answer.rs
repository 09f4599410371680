//! What is done once a guest has returned: resuming, answering, ending streams. And how a stream ends, whoever ended
//! it.

use super::{Place, Worker, events::Due};
use crate::{
    abi::Direction,
    headers::Headers,
    stream::{Message, Stream, StreamRef},
    vm::{Action, LocalReply},
};

impl Worker {
    /// Does what a VM's guest asked for in its last call.
    pub(super) fn after_call(&mut self, vm: u64) {
        for action in self.vm(vm).take_actions() {
            match action {
                Action::Continue(context, direction) => self.resume(&context, direction),
                Action::Respond(context, reply) => self.respond(&context.stream, reply),
                Action::Reset(context) => self.reset(&context.stream, "wasm_fail_stream"),
                Action::Inject(context, bytes, end) => self.inject(&context, bytes, end),
                Action::Enqueued(token) => self.due.push_back(Due::Queue(token)),
                Action::HttpCall { owner, token, cluster, request } => {
                    self.due.push_back(Due::Http { owner, token, cluster, request });
                }
                Action::Done(root) => self.forget_root(Place { vm, root }),
            }
        }
    }

    /// A filter answers the stream. The answer goes through the whole chain, unless a response is on its way already.
    pub(super) fn respond(&mut self, stream: &StreamRef, reply: LocalReply) {
        if stream.borrow().finished {
            return;
        }
        if stream.borrow().answered() {
            return self.reset(stream, "response_headers_sent");
        }
        let bypasses = stream.borrow().response_started;
        let body = {
            let mut stream = stream.borrow_mut();
            stream.request_over = true;
            stream.response_started = true;
            stream.details = Some(reply.details.clone());
            stream.local_body = Some(if stream.is_grpc() { Vec::new() } else { reply.body.clone() });
            let (headers, body) = local_message(&stream, reply);
            stream.response_headers = headers;
            body
        };
        if bypasses {
            self.send_past_filters(stream, body);
        } else {
            self.headers(stream, Direction::Response, 0, body.is_empty());
            if !body.is_empty() {
                self.body(stream, Direction::Response, 0, body, true);
            }
        }
    }

    /// The VM of a filter has failed, and its strategy is to close.
    pub(super) fn fail(&mut self, stream: &StreamRef) {
        let details = b"wasm_fail_stream";
        if stream.borrow().details.as_deref() != Some(details) {
            self.respond(stream, own_reply(503, details, b""));
        }
    }

    /// A buffer has run over.
    pub(super) fn too_large(&mut self, stream: &StreamRef, direction: Direction) {
        match direction {
            Direction::Request => {
                self.respond(stream, own_reply(413, b"request_payload_too_large", b"Payload Too Large"))
            }
            Direction::Response => {
                self.respond(stream, own_reply(500, b"response_payload_too_large", b"Internal Server Error"))
            }
        }
    }

    /// The stream ends without a response, or in the middle of one.
    pub(super) fn reset(&mut self, stream: &StreamRef, details: &str) {
        {
            let mut stream = stream.borrow_mut();
            if stream.finished {
                return;
            }
            stream.reset = true;
            stream.details.get_or_insert_with(|| details.as_bytes().to_vec());
        }
        self.finish(stream);
    }

    fn send_past_filters(&mut self, stream: &StreamRef, body: Vec<u8>) {
        {
            let mut stream = stream.borrow_mut();
            stream.client =
                Some(Message { headers: stream.response_headers.clone(), body, trailers: None, complete: true });
        }
        self.finish(stream);
    }

    /// Every filter logs the stream, then every filter forgets it. Those that never saw it are told of it first.
    pub(super) fn finish(&mut self, stream: &StreamRef) {
        {
            let mut stream = stream.borrow_mut();
            stream.finished = true;
            stream.request_over = true;
            for filter in &mut stream.filters {
                for stage in [&mut filter.request, &mut filter.response] {
                    stage.headers_open = false;
                    stage.trailers_open = false;
                    stage.chunk = None;
                }
            }
        }
        let filters: Vec<_> = stream.borrow().filters.iter().map(|filter| (filter.vm, filter.root)).collect();
        for (filter, (vm, root)) in filters.iter().enumerate() {
            let known = stream.borrow().filters[filter].context;
            let context = known.unwrap_or_else(|| self.create_context(stream, filter, *vm, *root));
            stream.borrow_mut().filters[filter].logging = true;
            self.vm(*vm).on_log(context);
            stream.borrow_mut().filters[filter].logging = false;
            self.after_call(*vm);
        }
        for (filter, (vm, _)) in filters.iter().enumerate() {
            let context = stream.borrow().filters[filter].context;
            if let Some(context) = context {
                self.vm(*vm).on_done(context);
                self.after_call(*vm);
                self.vm(*vm).delete(context);
                self.after_call(*vm);
            }
        }
    }
}

fn own_reply(status: u32, details: &[u8], body: &[u8]) -> LocalReply {
    LocalReply {
        status,
        details: details.to_vec(),
        body: body.to_vec(),
        headers: Headers::default(),
        grpc_status: u32::MAX,
    }
}

/// A local reply as it enters the chain.
fn local_message(stream: &Stream, reply: LocalReply) -> (Headers, Vec<u8>) {
    let mut headers: Headers = [(":status", reply.status.to_string())].into_iter().collect();
    reply.headers.iter().for_each(|(name, value)| headers.add(name, value));
    if stream.is_grpc() {
        headers.set(":status", "200");
        headers.set("content-type", "application/grpc");
        headers.set("grpc-status", reply.grpc_status.to_string());
        headers.remove("content-length");
        if !reply.body.is_empty() {
            headers.set("grpc-message", percent_encoded(&reply.body));
        }
        return (headers, Vec::new());
    }
    if reply.body.is_empty() {
        headers.remove("content-length");
        headers.remove("content-type");
    } else {
        headers.set("content-length", reply.body.len().to_string());
        if headers.get("content-type").is_none() {
            headers.add("content-type", "text/plain");
        }
    }
    let is_head = stream.request_headers.get(":method") == Some(b"HEAD");
    (headers, if is_head { Vec::new() } else { reply.body })
}

/// As gRPC wants its messages.
fn percent_encoded(bytes: &[u8]) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'%' => vec![*byte],
        byte => format!("%{byte:02X}").into_bytes(),
    };
    bytes.iter().flat_map(encode).collect()
}
