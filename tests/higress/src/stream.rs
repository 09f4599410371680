//! One request with its response: what all filters of the chain share, and what each has of its own.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc};

use super::{abi::Direction, gateway::Router, headers::Headers};

/// Which stream of a worker.
pub type StreamId = u64;

pub(super) type StreamRef = Rc<RefCell<Stream>>;

/// A request as it arrives.
#[derive(Debug, Clone)]
pub struct Request {
    /// Headers, pseudo-headers among them.
    pub headers: Headers,
    /// The body, in the pieces in which it arrives. None: the headers end the request.
    pub body: Vec<Vec<u8>>,
    /// Trailers after the body.
    pub trailers: Option<Headers>,
    /// The peer.
    pub source: Option<SocketAddr>,
    /// The route that the gateway chooses, unless it has a router.
    pub route: Route,
}

/// The route and the upstream chosen for a request. Empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// `route_name`.
    pub name: String,
    /// `cluster_name`.
    pub cluster: String,
}

/// A message as it leaves the gateway, on either side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Headers, pseudo-headers among them.
    pub headers: Headers,
    /// What there is of the body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<Headers>,
    /// Whether that is all.
    pub complete: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) request_headers: Headers,
    pub(super) request_trailers: Headers,
    pub(super) response_headers: Headers,
    pub(super) response_trailers: Headers,
    pub(super) source: Option<SocketAddr>,
    pub(super) routing: Routing,
    /// What plugins have set for each other.
    pub(super) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) details: Option<Vec<u8>>,
    /// The body of a filter's answer, also where HEAD goes without.
    pub(super) local_body: Option<Vec<u8>>,
    pub(super) override_host: Option<Vec<u8>>,
    pub(super) filters: Vec<Filter>,
    pub(super) upstream: Option<Message>,
    pub(super) client: Option<Message>,
    /// No filter sees more of the request.
    pub(super) request_over: bool,
    pub(super) response_started: bool,
    pub(super) reset: bool,
    /// Logged and deleted.
    pub(super) finished: bool,
    pub(super) started_ns: u64,
    pub(super) request_size: u64,
    /// What plugins did that a gateway answers with trouble.
    pub(super) misuse: Vec<String>,
}

pub(super) struct Routing {
    router: Option<Router>,
    fixed: Route,
    chosen: Option<Route>,
    /// How often it was chosen.
    pub(super) selections: usize,
}

/// One plugin on one stream.
#[derive(Debug)]
pub(super) struct Filter {
    /// Which VM of the worker, by its serial number.
    pub(super) vm: u64,
    pub(super) root: u32,
    /// Its context, once one was made.
    pub(super) context: Option<u32>,
    pub(super) request: Stage,
    pub(super) response: Stage,
    pub(super) logging: bool,
    /// Whether edits of request headers make the gateway choose the route anew.
    pub(super) clears_route: bool,
    /// The most that may pile up, request and response.
    pub(super) limits: [usize; 2],
}

/// Where a message is in one filter.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Whether the filter may look at the headers, and at the trailers.
    pub(super) headers_open: bool,
    pub(super) trailers_open: bool,
    pub(super) headers: Progress,
    pub(super) trailers: Progress,
    pub(super) stop: Stop,
    /// A hook of this filter runs, or what it asked for is being done.
    pub(super) in_hook: bool,
    /// The headers were the end.
    pub(super) headers_end: bool,
    /// Body that arrived while all was stopped, and whether its end did.
    pub(super) waiting: Vec<u8>,
    pub(super) waiting_end: bool,
    pub(super) waiting_data: bool,
    /// Body that the filter has seen and holds.
    pub(super) held: Vec<u8>,
    pub(super) held_end: bool,
    /// The filter is shown what it holds.
    pub(super) buffering: bool,
    /// The piece that the filter looks at now.
    pub(super) chunk: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Progress {
    #[default]
    NotHere,
    Held,
    Passed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stop {
    #[default]
    None,
    /// Pieces of the body still come to this filter.
    Single,
    All {
        buffer: bool,
    },
}

/// As much as a gateway holds for one stream unless told otherwise.
const BUFFER_LIMIT: usize = 10 << 20;

// === impl Request ===

impl Request {
    /// A request without a body.
    pub fn get(host: &str, path: &str) -> Self {
        Request {
            headers: [(":authority", host), (":path", path), (":method", "GET"), (":scheme", "http")]
                .into_iter()
                .collect(),
            body: Vec::new(),
            trailers: None,
            source: Some(([192, 0, 2, 1], 40_000).into()),
            route: Route { name: "route".to_owned(), cluster: "outbound|80||backend.static".to_owned() },
        }
    }

    /// A request with a body in pieces.
    pub fn post(host: &str, path: &str, content_type: &str, pieces: &[&str]) -> Self {
        let mut request = Self::get(host, path).with("content-type", content_type);
        request.headers.set(":method", "POST");
        request.headers.add("content-length", pieces.iter().map(|piece| piece.len()).sum::<usize>().to_string());
        request.body = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        request
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }
}

// === impl Routing ===

impl Routing {
    pub(super) fn new(router: Option<Router>, fixed: Route) -> Self {
        Routing { router, fixed, chosen: None, selections: 0 }
    }

    pub(super) fn route(&mut self, headers: &Headers) -> Route {
        let (router, fixed) = (&self.router, &self.fixed);
        let selections = &mut self.selections;
        let choose = || {
            *selections += 1;
            router.as_ref().map_or_else(|| fixed.clone(), |router| router(headers))
        };
        self.chosen.get_or_insert_with(choose).clone()
    }

    pub(super) fn forget(&mut self) {
        self.chosen = None;
    }
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routing")
            .field("chosen", &self.chosen)
            .field("selections", &self.selections)
            .finish_non_exhaustive()
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(id: StreamId, request: &Request, router: Option<Router>, started_ns: u64) -> Self {
        Stream {
            id,
            request_headers: request.headers.clone(),
            request_trailers: Headers::default(),
            response_headers: Headers::default(),
            response_trailers: Headers::default(),
            source: request.source,
            routing: Routing::new(router, request.route.clone()),
            properties: BTreeMap::new(),
            details: None,
            local_body: None,
            override_host: None,
            filters: Vec::new(),
            upstream: None,
            client: None,
            request_over: false,
            response_started: false,
            reset: false,
            finished: false,
            started_ns,
            request_size: 0,
            misuse: Vec::new(),
        }
    }

    pub(super) fn route(&mut self) -> Route {
        self.routing.route(&self.request_headers)
    }

    pub(super) fn stage(&mut self, filter: usize, direction: Direction) -> &mut Stage {
        self.filters[filter].stage(direction)
    }

    /// Whether a response goes to the client already.
    pub(super) fn answered(&self) -> bool {
        self.client.is_some()
    }

    /// As Envoy tells it: `application/grpc` alone, or with `+` and a message format.
    pub(super) fn is_grpc(&self) -> bool {
        let rest = self.request_headers.get("content-type").and_then(|kind| kind.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
    }
}

// === impl Filter ===

impl Filter {
    pub(super) fn new(vm: u64, root: u32) -> Self {
        Filter {
            vm,
            root,
            context: None,
            request: Stage::default(),
            response: Stage::default(),
            logging: false,
            clears_route: true,
            limits: [BUFFER_LIMIT; 2],
        }
    }

    pub(super) fn stage(&mut self, direction: Direction) -> &mut Stage {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

// === impl Stage ===

impl Stage {
    /// The body as the filter may see and change it now.
    pub(super) fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering { Some(&mut self.held) } else { self.chunk.as_mut() }
    }

    pub(super) fn stops_all(&self) -> bool {
        matches!(self.stop, Stop::All { .. })
    }
}
