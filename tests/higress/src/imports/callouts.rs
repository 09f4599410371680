//! Calls to the outside: Redis, HTTP and gRPC. The last has no cluster here that would answer it.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, Status},
    gateway::HttpMessage,
    headers::Headers,
    vm::{Action, Guest, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_redis_init"(cluster: u32, cluster_size: u32, username: u32, username_size: u32, password: u32,
            password_size: u32, timeout_ms: u32) => redis_init;
        "proxy_redis_call"(cluster: u32, cluster_size: u32, query: u32, query_size: u32, token: u32) => redis_call;
        "proxy_http_call"(cluster: u32, cluster_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32,
            trailers: u32, trailers_size: u32, timeout_ms: i32, token: u32) => http_call;
        "proxy_grpc_call"(_service: u32, _service_size: u32, _name: u32, _name_size: u32, _method: u32,
            _method_size: u32, _metadata: u32, _metadata_size: u32, _message: u32, _message_size: u32,
                _timeout_ms: i32, _token: u32) => grpc_call;
        "proxy_grpc_stream"(_service: u32, _service_size: u32, _name: u32, _name_size: u32, _method: u32,
            _method_size: u32, _metadata: u32, _metadata_size: u32, _token: u32) => grpc_stream;
        "proxy_grpc_cancel"(token: u32) => grpc_end;
        "proxy_grpc_close"(token: u32) => grpc_end;
        "proxy_grpc_send"(token: u32, _message: u32, _message_size: u32, _end: u32) => grpc_send;
        "proxy_get_status"(code: u32, text: u32, size: u32) => get_status;
    );
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn redis_init(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    username: u32,
    username_size: u32,
    password: u32,
    password_size: u32,
    timeout_ms: u32,
) -> Hostcall {
    let cluster = guest.text(cluster, cluster_size)?;
    let (username, password) = (guest.read(username, username_size)?, guest.read(password, password_size)?);
    Ok(guest.state().services.clients.borrow_mut().init(&cluster, &username, &password, timeout_ms)?)
}

fn redis_call(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    query: u32,
    query_size: u32,
    token_out: u32,
) -> Hostcall {
    let (cluster, query) = (guest.text(cluster, cluster_size)?, guest.read(query, query_size)?);
    guest.write_u32(token_out, 0)?;
    let (owner, token) = (guest.state().owner(), guest.state_mut().token(3));
    guest.state().services.clients.borrow_mut().call(&cluster, query, owner, token)?;
    guest.write_u32(token_out, token)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn http_call(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    trailers: u32,
    trailers_size: u32,
    timeout_ms: i32,
    token_out: u32,
) -> Hostcall {
    let cluster = guest.text(cluster, cluster_size)?;
    let request = HttpMessage {
        headers: Headers::parse(&guest.read(headers, headers_size)?),
        body: guest.read(body, body_size)?,
        trailers: Headers::parse(&guest.read(trailers, trailers_size)?),
    };
    guest.write_u32(token_out, 0)?;
    let has_all = [":path", ":method", ":authority"].iter().all(|name| request.headers.get(name).is_some());
    let responder = guest.state().services.directory.http(&cluster);
    if !has_all || timeout_ms < 0 || responder.is_none() {
        return Err(Status::BadArgument.into());
    }
    if responder.flatten().is_none() {
        return Err(Status::InternalFailure.into());
    }
    let (owner, token) = (guest.state().owner(), guest.state_mut().token(0));
    guest.state_mut().actions.push(Action::HttpCall { owner, token, cluster, request });
    guest.write_u32(token_out, token)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn grpc_call(
    _: &mut Guest<'_>,
    _service: u32,
    _service_size: u32,
    _name: u32,
    _name_size: u32,
    _method: u32,
    _method_size: u32,
    _metadata: u32,
    _metadata_size: u32,
    _message: u32,
    _message_size: u32,
    _timeout_ms: i32,
    _token: u32,
) -> Hostcall {
    Err(Status::BadArgument.into())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn grpc_stream(
    _: &mut Guest<'_>,
    _service: u32,
    _service_size: u32,
    _name: u32,
    _name_size: u32,
    _method: u32,
    _method_size: u32,
    _metadata: u32,
    _metadata_size: u32,
    _token: u32,
) -> Hostcall {
    Err(Status::BadArgument.into())
}

/// There is no such call, as none was ever made.
fn grpc_end(_: &mut Guest<'_>, _token: u32) -> Hostcall {
    Err(Status::NotFound.into())
}

fn grpc_send(_: &mut Guest<'_>, token: u32, _message: u32, _message_size: u32, _end: u32) -> Hostcall {
    // A call, other than a stream, takes one message.
    Err(if token & 3 == 1 { Status::BadArgument } else { Status::NotFound }.into())
}

/// Of the callout whose failure is being told; else of none.
fn get_status(guest: &mut Guest<'_>, code_out: u32, text_out: u32, size_out: u32) -> Hostcall {
    let broken = guest.state().broken;
    guest.write_u32(code_out, if broken { Status::BrokenConnection as u32 } else { 0 })?;
    guest.give(if broken { b"reset" } else { b"" }, text_out, size_out)
}
