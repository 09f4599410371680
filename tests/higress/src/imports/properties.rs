//! Properties: what the gateway knows about a stream, and what plugins tell each other about it.

use std::net::SocketAddr;

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, Status},
    headers::Headers,
    stream::Stream,
    vm::{Guest, VmState},
};

/// Where the gateway listens, as plugins see it.
const LISTENS_AT: ([u8; 4], u16) = ([192, 0, 2, 200], 80);

/// Roots of what the gateway knows: nothing of the kind can be set, and what is unknown below them is not custom.
const KNOWN_ROOTS: [&[u8]; 17] = [
    b"request",
    b"response",
    b"connection",
    b"upstream",
    b"source",
    b"destination",
    b"node",
    b"xds",
    b"route_name",
    b"cluster_name",
    b"route_metadata",
    b"cluster_metadata",
    b"listener_direction",
    b"plugin_name",
    b"plugin_root_id",
    b"plugin_vm_id",
    b"connection_id",
];

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_get_property"(path: u32, path_size: u32, value: u32, value_size: u32) => get;
        "proxy_set_property"(path: u32, path_size: u32, value: u32, value_size: u32) => set;
    );
    Ok(())
}

fn get(guest: &mut Guest<'_>, path: u32, path_size: u32, value_out: u32, size_out: u32) -> Hostcall {
    let path = guest.read(path, path_size)?;
    let value = of_plugin(guest, &path).or_else(|| of_stream(guest, &path)).ok_or(Status::NotFound)?;
    guest.give(&value, value_out, size_out)
}

fn set(guest: &mut Guest<'_>, path: u32, path_size: u32, value: u32, value_size: u32) -> Hostcall {
    let (path, value) = (guest.read(path, path_size)?, guest.read(value, value_size)?);
    let context = guest.state().stream().ok_or(Status::NotFound)?;
    let mut stream = context.stream.borrow_mut();
    match path.as_slice() {
        b"clear_route_cache" => stream.filters[context.filter].clears_route = value != b"off",
        b"set_decoder_buffer_limit" => stream.filters[context.filter].limits[0] = bytes(&value)?,
        b"set_encoder_buffer_limit" => stream.filters[context.filter].limits[1] = bytes(&value)?,
        path if is_known(path) => return Err(Status::BadArgument.into()),
        _ => {}
    }
    stream.properties.insert(path, value);
    Ok(())
}

fn bytes(value: &[u8]) -> Hostcall<usize> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or(Status::BadArgument.into())
}

fn is_known(path: &[u8]) -> bool {
    path.split(|byte| *byte == 0).next().is_some_and(|root| KNOWN_ROOTS.contains(&root))
}

fn of_plugin(guest: &Guest<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let state = guest.state();
    let text = |text: &str| Some(text.as_bytes().to_vec());
    match path {
        b"plugin_name" | b"plugin_root_id" => text(&state.root(state.root_id())?.plugin),
        b"plugin_vm_id" => text(&state.vm_id),
        b"plugin_vm_memory" => Some((guest.memory_bytes() as u64).to_le_bytes().to_vec()),
        // 1: inbound.
        b"listener_direction" => number(1),
        b"node\0id" => text("slidegate-test-gateway"),
        _ => None,
    }
}

fn of_stream(guest: &Guest<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let context = guest.state().stream()?;
    let now_ns = guest.state().services.clock.wall_ns();
    let mut stream = context.stream.borrow_mut();
    let segments: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    match segments.as_slice() {
        [b"request", rest @ ..] => of_request(&mut stream, rest, now_ns),
        [b"response", rest @ ..] => of_response(&stream, rest),
        [b"source", field] => address(stream.source?, field),
        [b"destination", field] => address(LISTENS_AT.into(), field),
        [b"upstream", b"address"] => stream.override_host.clone(),
        [b"route_name"] => Some(stream.route().name.into_bytes()).filter(|name| !name.is_empty()),
        [b"cluster_name"] => Some(stream.route().cluster.into_bytes()).filter(|name| !name.is_empty()),
        [b"connection", b"id"] | [b"connection_id"] => number(1),
        [b"connection", b"mtls"] => Some(vec![0]),
        _ if is_write_only(path) => None,
        _ => stream.properties.get(path).cloned(),
    }
}

/// Tags of a span go to the tracer and cannot be read back.
fn is_write_only(path: &[u8]) -> bool {
    path.starts_with(b"trace_span_tag.")
}

fn number(number: i64) -> Option<Vec<u8>> {
    Some(number.to_le_bytes().to_vec())
}

fn address(address: SocketAddr, field: &[u8]) -> Option<Vec<u8>> {
    match field {
        b"address" => Some(address.to_string().into_bytes()),
        b"port" => number(address.port().into()),
        _ => None,
    }
}

fn of_request(stream: &mut Stream, path: &[&[u8]], now_ns: u64) -> Option<Vec<u8>> {
    let headers = &stream.request_headers;
    let header = |name: &str| headers.get(name).map(<[u8]>::to_vec);
    let target = headers.get(":path").unwrap_or_default();
    let query_at = target.iter().position(|byte| *byte == b'?');
    match path {
        [b"path"] => header(":path"),
        [b"url_path"] => header(":path").map(|path| path[..query_at.unwrap_or(path.len())].to_vec()),
        [b"query"] => Some(query_at.map(|at| target[at + 1..].to_vec()).unwrap_or_default()),
        [b"host"] => header(":authority"),
        [b"scheme"] => header(":scheme"),
        [b"method"] => header(":method"),
        [b"id"] => header("x-request-id"),
        [b"referer"] => header("referer"),
        [b"useragent"] => header("user-agent"),
        [b"protocol"] => Some(b"HTTP/1.1".to_vec()),
        [b"time"] => Some(stream.started_ns.to_le_bytes().to_vec()),
        [b"duration"] => Some(now_ns.saturating_sub(stream.started_ns).to_le_bytes().to_vec()),
        [b"size"] => Some(stream.request_size.to_le_bytes().to_vec()),
        [b"total_size"] => Some((stream.request_size + headers.byte_size() as u64).to_le_bytes().to_vec()),
        [b"headers"] => Some(headers.serialise()),
        [b"headers", name] => headers.get(name).map(<[u8]>::to_vec),
        _ => None,
    }
}

fn of_response(stream: &Stream, path: &[&[u8]]) -> Option<Vec<u8>> {
    let headers: &Headers = &stream.response_headers;
    match path {
        [b"code"] => number(std::str::from_utf8(headers.get(":status")?).ok()?.parse().ok()?),
        [b"code_details"] => stream.details.clone(),
        [b"flags"] => number(0),
        [b"size"] => number(stream.client.as_ref().map_or(0, |client| client.body.len()) as i64),
        [b"headers"] if stream.response_started => Some(headers.serialise()),
        [b"headers", name] => headers.get(name).map(<[u8]>::to_vec),
        [b"grpc_status"] => number(std::str::from_utf8(headers.get("grpc-status")?).ok()?.parse().ok()?),
        _ => None,
    }
}
