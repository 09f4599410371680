//! The gateway's host calls, as the proxy-wasm interface and Higress' extension of it declare them.
//!
//! Where a call returns bytes, the gateway asks this module's allocator for the room (it is `proxy-wasm`'s: a boxed
//! slice of exactly the size) and leaves pointer and size behind; both are zero when there are none.

#![expect(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "SAFETY, of every call: it gets pointers to what it is given for its time, with its size, and the gateway \
              keeps none of them"
)]

use std::ptr;

use slidegate_engine::{HeaderEdit, MetricKind, Response};

use crate::{
    gateway::{Gateway, Level, Side, Status},
    header_map,
};

const OK: Status = 0;

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const PLUGIN_CONFIGURATION: u32 = 7;
const REDIS_REPLY: u32 = 9;

const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

/// More than any body has.
const WHOLE_BODY: usize = i32::MAX as usize;

/// What stock passes, and what clients of other protocols get: no gRPC status.
const NO_GRPC_STATUS: i32 = -1;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(bytes: *mut u8, size: usize) -> u32;
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, line: *const u8, line_size: usize) -> Status;
    fn proxy_get_current_time_nanoseconds(time_ns: *mut u64) -> Status;
    fn proxy_set_tick_period_milliseconds(period_ms: u32) -> Status;
    fn proxy_get_property(path: *const u8, path_size: usize, value: *mut *mut u8, value_size: *mut usize) -> Status;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> Status;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> Status;
    fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, pairs_size: *mut usize) -> Status;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> Status;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        bytes: *mut *mut u8,
        bytes_size: *mut usize,
    ) -> Status;
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        bytes: *const u8,
        bytes_size: usize,
    ) -> Status;
    fn proxy_set_effective_context(context: u32) -> Status;
    fn proxy_continue_stream(stream: u32) -> Status;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> Status;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> Status;
    fn proxy_increment_metric(id: u32, delta: i64) -> Status;
    fn proxy_record_metric(id: u32, value: u64) -> Status;
    fn proxy_redis_init(
        cluster: *const u8,
        cluster_size: usize,
        username: *const u8,
        username_size: usize,
        password: *const u8,
        password_size: usize,
        timeout_ms: u32,
    ) -> Status;
    fn proxy_redis_call(
        cluster: *const u8,
        cluster_size: usize,
        query: *const u8,
        query_size: usize,
        token: *mut u32,
    ) -> Status;
}

/// The gateway that this module runs in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envoy;

impl Envoy {
    /// The plugin's configuration, readable while the plugin is configured. Empty if there is none.
    pub(crate) fn configuration(self, size: usize) -> Vec<u8> {
        buffer(PLUGIN_CONFIGURATION, 0, size).unwrap_or_default()
    }
}

impl Gateway for Envoy {
    fn log(&self, level: Level, line: &str) {
        unsafe { proxy_log(level as u32, line.as_ptr(), line.len()) };
    }

    fn time_ns(&self) -> u64 {
        let mut time_ns = 0;
        unsafe { proxy_get_current_time_nanoseconds(&mut time_ns) };
        time_ns
    }

    fn random(&self, bytes: usize) -> Vec<u8> {
        let mut random = vec![0; bytes];
        if unsafe { random_get(random.as_mut_ptr(), random.len()) } == 0 { random } else { Vec::new() }
    }

    fn tick_each(&self, period_ms: u32) {
        unsafe { proxy_set_tick_period_milliseconds(period_ms) };
    }

    fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        header(REQUEST_HEADERS, name)
    }

    fn request_headers(&self) -> Vec<u8> {
        headers(REQUEST_HEADERS)
    }

    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        header(RESPONSE_HEADERS, name)
    }

    fn response_headers(&self) -> Vec<u8> {
        headers(RESPONSE_HEADERS)
    }

    fn edit(&self, side: Side, edit: &HeaderEdit) {
        let map = match side {
            Side::Request => REQUEST_HEADERS,
            Side::Response => RESPONSE_HEADERS,
        };
        match edit {
            HeaderEdit::Set(name, value) => unsafe {
                proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            },
            HeaderEdit::Append(name, value) => unsafe {
                proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            },
            HeaderEdit::Remove(name) => unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) },
        };
    }

    fn body(&self, side: Side, start: usize, size: usize) -> Vec<u8> {
        buffer(body(side), start, size).unwrap_or_default()
    }

    fn set_body(&self, side: Side, bytes: &[u8]) {
        unsafe { proxy_set_buffer_bytes(body(side), 0, WHOLE_BODY, bytes.as_ptr(), bytes.len()) };
    }

    fn property(&self, path: &str) -> Option<Vec<u8>> {
        received(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
    }

    fn set_property(&self, path: &str, value: &[u8]) {
        unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
    }

    fn select(&self, context: u32) -> bool {
        unsafe { proxy_set_effective_context(context) == OK }
    }

    fn resume(&self, side: Side) {
        let stream = match side {
            Side::Request => REQUEST,
            Side::Response => RESPONSE,
        };
        unsafe { proxy_continue_stream(stream) };
    }

    fn respond(&self, response: &Response, is_grpc: bool) {
        let Response { status, body, details, headers, grpc_status } = response;
        // Of the body the gateway makes gRPC's message, which is no line.
        let body = if is_grpc { body.trim_ascii_end() } else { body.as_ref() };
        let headers = header_map::write(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        unsafe {
            proxy_send_local_response(
                u32::from(*status),
                details.as_ptr(),
                details.len(),
                body.as_ptr(),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                if is_grpc { i32::from(*grpc_status) } else { NO_GRPC_STATUS },
            )
        };
    }

    fn redis_init(&self, cluster: &str, username: &str, password: &str, timeout_ms: u32) -> Result<(), Status> {
        let status = unsafe {
            proxy_redis_init(
                cluster.as_ptr(),
                cluster.len(),
                username.as_ptr(),
                username.len(),
                password.as_ptr(),
                password.len(),
                timeout_ms,
            )
        };
        checked(status, ())
    }

    fn redis_call(&self, cluster: &str, query: &[u8]) -> Result<u32, Status> {
        let mut token = 0;
        let status =
            unsafe { proxy_redis_call(cluster.as_ptr(), cluster.len(), query.as_ptr(), query.len(), &mut token) };
        checked(status, token)
    }

    fn redis_reply(&self, size: u32) -> Option<Vec<u8>> {
        buffer(REDIS_REPLY, 0, usize::try_from(size).ok()?)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<u32> {
        let kind = match kind {
            MetricKind::Counter => COUNTER,
            MetricKind::Gauge => GAUGE,
            MetricKind::Histogram => HISTOGRAM,
        };
        let mut id = 0;
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
        checked(status, id).ok()
    }

    fn add_to_metric(&self, id: u32, delta: i64) {
        unsafe { proxy_increment_metric(id, delta) };
    }

    fn record_metric(&self, id: u32, value: u64) {
        unsafe { proxy_record_metric(id, value) };
    }
}

fn header(map: u32, name: &str) -> Option<Vec<u8>> {
    received(|value, size| unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), value, size) })
}

fn headers(map: u32) -> Vec<u8> {
    received(|pairs, size| unsafe { proxy_get_header_map_pairs(map, pairs, size) }).unwrap_or_default()
}

fn body(side: Side) -> u32 {
    match side {
        Side::Request => REQUEST_BODY,
        Side::Response => RESPONSE_BODY,
    }
}

fn buffer(buffer: u32, start: usize, size: usize) -> Option<Vec<u8>> {
    received(|bytes, bytes_size| unsafe { proxy_get_buffer_bytes(buffer, start, size, bytes, bytes_size) })
}

fn checked<T>(status: Status, value: T) -> Result<T, Status> {
    if status == OK { Ok(value) } else { Err(status) }
}

/// What a call left behind, taken over from the allocator.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> Status) -> Option<Vec<u8>> {
    let (mut bytes, mut size) = (ptr::null_mut(), 0);
    if call(&mut bytes, &mut size) != OK {
        return None;
    }
    if bytes.is_null() || size == 0 {
        return Some(Vec::new());
    }
    // The gateway got the pointer for this size from the allocator and hands it over.
    Some(unsafe { Vec::from_raw_parts(bytes, size, size) })
}
