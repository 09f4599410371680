//! The engine alone, with a simulated Redis for each service: an adapter in the smallest form.

use std::collections::BTreeMap;

use slidegate_engine::{Effect, Engine, HeaderEdit, Response, Step, StreamEnd, Verdict, grpc, request::RequestView};

use super::{Runner, Session, simulated_store::SimulatedStore};
use crate::{
    case::{Case, Request, Seen, Store},
    one_request::OneRequest,
};

/// Runs cases on [`Engine`].
#[derive(Debug, Default)]
pub struct EngineRunner;

struct EngineSession {
    engine: Engine,
    /// By service.
    stores: BTreeMap<String, SimulatedStore>,
    last_stream: u64,
    last_call: u64,
}

impl Runner for EngineRunner {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn start(&self, case: &Case) -> Result<Box<dyn Session + '_>, String> {
        let engine = Engine::configure(&case.config).map_err(|errors| {
            let lines: Vec<_> = errors.into_iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
            lines.join("\n")
        })?;
        let stores = case.services().into_iter().map(|service| (service, SimulatedStore::default())).collect();
        Ok(Box::new(EngineSession { engine, stores, last_stream: 0, last_call: 0 }))
    }
}

impl Session for EngineSession {
    fn set_store(&mut self, service: &str, store: &Store) {
        self.stores.get_mut(service).expect("a service of the case").set(store);
    }

    fn request(&mut self, now_us: u64, request: &Request, upstream: &[(String, Vec<u8>)]) -> Seen {
        self.last_stream += 1;
        let stream = self.last_stream;
        let step = self.engine.on_request(stream, &View(request), now_us * 1_000);
        let settled = self.settle(now_us, request);
        let verdict = match step {
            Step::Wait => settled.expect("a stream that waits is settled once Redis has answered"),
            Step::Pass(pass) => Verdict::Pass(pass),
            Step::Respond(response) => Verdict::Respond(response),
        };
        self.engine.on_done(stream, StreamEnd::Whole, now_us * 1_000);
        match verdict {
            Verdict::Pass(pass) => Seen::Pass { headers: edited(upstream.to_vec(), pass.edits.response) },
            Verdict::Respond(response) => {
                let is_grpc = request.header("content-type").is_some_and(|kind| grpc::is_grpc(&kind));
                let Response { status, headers, body, .. } = if is_grpc { response.into_grpc() } else { response };
                Seen::Refuse { status, body: body.to_vec(), headers }
            }
        }
    }

    fn calls(&self, service: &str) -> usize {
        self.stores[service].calls()
    }
}

impl EngineSession {
    /// Answers every command until there is none, and returns how the stream was settled, if it was.
    fn settle(&mut self, now_us: u64, request: &Request) -> Option<Verdict> {
        let mut settled = None;
        let names: Vec<String> =
            self.engine.configuration().services.iter().map(|service| service.service_name.clone()).collect();
        loop {
            let mut replies = Vec::new();
            loop {
                match self.engine.poll(&OneRequest(&View(request)), now_us * 1_000) {
                    Effect::Call { service, command } => {
                        self.last_call += 1;
                        let store =
                            self.stores.get_mut(&names[service as usize]).expect("a service of the configuration");
                        replies.push((self.last_call, store.answer(&command, now_us)));
                        self.engine.called(Ok(self.last_call), now_us * 1_000);
                    }
                    Effect::Settle { stream, verdict } => {
                        assert_eq!(stream, self.last_stream, "a stream was settled that does not wait");
                        assert!(settled.replace(verdict).is_none(), "a stream was settled twice");
                    }
                    Effect::Annotate { .. } | Effect::Log { .. } => {}
                    Effect::Wait { .. } => break,
                }
            }
            let known = self.engine.metrics().len();
            assert!(
                self.engine.take_metrics().iter().all(|change| change.metric < known),
                "a metric that was not announced"
            );
            if replies.is_empty() {
                return settled;
            }
            for (call, reply) in replies {
                self.engine.on_reply(call, reply, now_us * 1_000);
            }
        }
    }
}

fn edited(mut headers: Vec<(String, Vec<u8>)>, edits: Vec<HeaderEdit>) -> Vec<(String, Vec<u8>)> {
    for edit in edits {
        if !matches!(edit, HeaderEdit::Append(..)) {
            headers.retain(|(other, _)| other != edit.name());
        }
        if let HeaderEdit::Set(name, value) | HeaderEdit::Append(name, value) = edit {
            headers.push((name, value));
        }
    }
    headers
}

struct View<'a>(&'a Request);

impl RequestView for View<'_> {
    fn path(&self) -> Vec<u8> {
        self.0.path.clone()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        Some(self.0.host.clone()).filter(|host| !host.is_empty())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            ":authority" => self.authority(),
            ":path" => Some(self.path()),
            ":method" => Some(self.0.method.clone().into_bytes()),
            name => self.0.header(name),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.header_values(name)
    }

    fn source_address(&self) -> Option<String> {
        self.0.from.map(|address| address.to_string())
    }

    fn route_name(&self) -> String {
        self.0.route.clone()
    }

    fn service_name(&self) -> String {
        self.0.service.clone()
    }
}
