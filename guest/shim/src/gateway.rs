//! What the shim asks of the gateway, one method for one host call. None of them can fail in a way that has to be
//! handled beyond what it returns; a status that nobody can act on is dropped.

use slidegate_engine::{HeaderEdit, MetricKind, Response};

/// A proxy-wasm status. The numbers that matter here are below; others are passed on as they are.
pub type Status = u32;

/// The argument names nothing: an unknown cluster, a context that is gone.
pub const BAD_ARGUMENT: Status = 2;

/// For `proxy_redis_call`: no host of the cluster can take the command.
pub const INTERNAL_FAILURE: Status = 10;

/// How loud a line is, numbered as `proxy_log` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For who looks for a fault.
    Debug = 1,
    /// A change for the better.
    Info = 2,
    /// A change for the worse.
    Warn = 3,
    /// The configuration cannot be used.
    Error = 4,
}

/// A request or its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request: its headers can be changed before they go on.
    Request,
    /// The response: its headers can be changed when they have come.
    Response,
}

/// The host calls. Those about a request act on the effective context: the one that a hook was called for, or the one
/// last selected during this call from the gateway.
pub trait Gateway {
    /// Writes a line.
    fn log(&self, level: Level, line: &str);

    /// The wall clock, in nanoseconds. 0 if the gateway does not tell.
    fn time_ns(&self) -> u64;

    /// So many bytes that nobody can guess. Fewer, or none, if the gateway has none to give.
    fn random(&self, bytes: usize) -> Vec<u8>;

    /// Asks for the root's tick, each so many milliseconds.
    fn tick_each(&self, period_ms: u32);

    /// The first value of a request header, pseudo-headers included. `None` if there is none, or if the phase for
    /// reading it is over.
    fn request_header(&self, name: &str) -> Option<Vec<u8>>;

    /// All request headers, serialised as [`header_map`](crate::header_map) reads them. Empty if there are none to be
    /// read.
    fn request_headers(&self) -> Vec<u8>;

    /// The first value of a response header, in the phase for reading it; `:status` too.
    fn response_header(&self, name: &str) -> Option<Vec<u8>>;

    /// All response headers, as [`request_headers`](Self::request_headers).
    fn response_headers(&self) -> Vec<u8>;

    /// Changes headers. Where the phase for it is over nothing is changed.
    fn edit(&self, side: Side, edit: &HeaderEdit);

    /// So many bytes of what the gateway shows of a body, from this place on.
    fn body(&self, side: Side, start: usize, size: usize) -> Vec<u8>;

    /// Puts these bytes in the place of all that it shows.
    fn set_body(&self, side: Side, bytes: &[u8]);

    /// A property by its path, whose segments are separated by a zero byte.
    fn property(&self, path: &str) -> Option<Vec<u8>>;

    /// Sets a property.
    fn set_property(&self, path: &str, value: &[u8]);

    /// Makes a context the effective one. False if it is gone.
    fn select(&self, context: u32) -> bool;

    /// Lets the paused request or response go on.
    fn resume(&self, side: Side);

    /// Answers the request in the upstream's place. `is_grpc`: with the answer's gRPC status, of which the gateway
    /// makes trailers.
    fn respond(&self, response: &Response, is_grpc: bool);

    /// Tells the gateway how to connect to a cluster; options stand behind a `?`.
    ///
    /// # Errors
    /// The gateway's status. That Redis cannot be reached is not told here.
    fn redis_init(&self, cluster: &str, username: &str, password: &str, timeout_ms: u32) -> Result<(), Status>;

    /// Sends one command and returns the token that its reply will carry.
    ///
    /// # Errors
    /// The gateway's status; then no reply comes.
    fn redis_call(&self, cluster: &str, query: &[u8]) -> Result<u32, Status>;

    /// The reply that is being delivered, `size` bytes.
    fn redis_reply(&self, size: u32) -> Option<Vec<u8>>;

    /// Defines a metric and returns its id.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32>;

    /// Raises a counter by at least 1, or changes a gauge.
    fn add_to_metric(&self, id: u32, delta: i64);

    /// Counts a value in a histogram.
    fn record_metric(&self, id: u32, value: u64);
}
