//! Header maps: each is open to a filter only in its phase.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, MapType, Status},
    headers::Headers,
    stream::Stream,
    vm::{Guest, StreamContext, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_get_header_map_value"(map: u32, name: u32, name_size: u32, value: u32, value_size: u32) => get;
        "proxy_add_header_map_value"(map: u32, name: u32, name_size: u32, value: u32, value_size: u32) => add_value;
        "proxy_replace_header_map_value"(map: u32, name: u32, name_size: u32, value: u32, value_size: u32) => replace;
        "proxy_remove_header_map_value"(map: u32, name: u32, name_size: u32) => remove;
        "proxy_get_header_map_pairs"(map: u32, bytes: u32, bytes_size: u32) => pairs;
        "proxy_set_header_map_pairs"(map: u32, bytes: u32, bytes_size: u32) => set_pairs;
        "proxy_get_header_map_size"(map: u32, out: u32) => size;
    );
    Ok(())
}

fn get(guest: &mut Guest<'_>, map: u32, name: u32, name_size: u32, value_out: u32, size_out: u32) -> Hostcall {
    let name = guest.read(name, name_size)?;
    let value = look(guest, map, |headers| headers.get(&name).map(<[u8]>::to_vec))?.ok_or(Status::BadArgument)?;
    guest.give(&value.ok_or(Status::NotFound)?, value_out, size_out)
}

fn pairs(guest: &mut Guest<'_>, map: u32, pairs_out: u32, size_out: u32) -> Hostcall {
    let bytes = look(guest, map, Headers::serialise)?.unwrap_or_default();
    guest.give(&bytes, pairs_out, size_out)
}

fn size(guest: &mut Guest<'_>, map: u32, size_out: u32) -> Hostcall {
    let size = look(guest, map, Headers::byte_size)?.ok_or(Status::BadArgument)?;
    guest.write_u32(size_out, size as u32)
}

fn add_value(guest: &mut Guest<'_>, map: u32, name: u32, name_size: u32, value: u32, value_size: u32) -> Hostcall {
    let (name, value) = (guest.read(name, name_size)?, guest.read(value, value_size)?);
    edit(guest, map, |headers| headers.add(name, value))
}

fn replace(guest: &mut Guest<'_>, map: u32, name: u32, name_size: u32, value: u32, value_size: u32) -> Hostcall {
    let (name, value) = (guest.read(name, name_size)?, guest.read(value, value_size)?);
    edit(guest, map, |headers| headers.set(name, value))
}

fn remove(guest: &mut Guest<'_>, map: u32, name: u32, name_size: u32) -> Hostcall {
    let name = guest.read(name, name_size)?;
    edit(guest, map, |headers| headers.remove(name))
}

fn set_pairs(guest: &mut Guest<'_>, map: u32, pairs: u32, size: u32) -> Hostcall {
    let pairs = Headers::parse(&guest.read(pairs, size)?);
    edit(guest, map, |headers| *headers = pairs)
}

/// None: this phase does not have that map.
fn look<R>(guest: &Guest<'_>, map: u32, look: impl FnOnce(&Headers) -> R) -> Hostcall<Option<R>> {
    let map = MapType::read(map)?;
    if let MapType::HttpCallHeaders | MapType::HttpCallTrailers = map {
        let root = guest.state().root(guest.state().root_id());
        let reply = root.and_then(|root| root.http_reply.as_ref());
        return Ok(
            reply.map(|reply| look(if map == MapType::HttpCallHeaders { &reply.headers } else { &reply.trailers }))
        );
    }
    let Some(context) = guest.state().stream() else { return Ok(None) };
    let mut stream = context.stream.borrow_mut();
    let readable = is_open(&stream, &context, map) || is_logged(&stream, &context, map);
    Ok(readable.then(|| look(headers(&mut stream, map))))
}

fn edit(guest: &Guest<'_>, map: u32, edit: impl FnOnce(&mut Headers)) -> Hostcall {
    let map = MapType::read(map)?;
    let context = guest.state().stream().ok_or(Status::BadArgument)?;
    let mut stream = context.stream.borrow_mut();
    if !is_open(&stream, &context, map) {
        return Err(Status::BadArgument.into());
    }
    edit(headers(&mut stream, map));
    if map == MapType::RequestHeaders && stream.filters[context.filter].clears_route {
        stream.routing.forget();
    }
    Ok(())
}

/// Whether the filter may read and change the map.
fn is_open(stream: &Stream, context: &StreamContext, map: MapType) -> bool {
    let filter = &stream.filters[context.filter];
    match map {
        MapType::RequestHeaders => filter.request.headers_open,
        MapType::RequestTrailers => filter.request.trailers_open,
        MapType::ResponseHeaders => filter.response.headers_open,
        MapType::ResponseTrailers => filter.response.trailers_open,
        MapType::Grpc | MapType::HttpCallHeaders | MapType::HttpCallTrailers => false,
    }
}

/// Whether the filter may read the map because the stream is being logged.
fn is_logged(stream: &Stream, context: &StreamContext, map: MapType) -> bool {
    let logged = matches!(map, MapType::RequestHeaders | MapType::ResponseHeaders | MapType::ResponseTrailers);
    logged && stream.filters[context.filter].logging
}

fn headers(stream: &mut Stream, map: MapType) -> &mut Headers {
    match map {
        MapType::RequestTrailers => &mut stream.request_trailers,
        MapType::ResponseHeaders => &mut stream.response_headers,
        MapType::ResponseTrailers => &mut stream.response_trailers,
        _ => &mut stream.request_headers,
    }
}
