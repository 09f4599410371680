//! Resuming, answering and ending streams. All of it happens once the guest has returned.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Direction, Hostcall, Status},
    headers::Headers,
    vm::{Action, Guest, LocalReply, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_continue_stream"(kind: u32) => continue_stream;
        "proxy_close_stream"(kind: u32) => close_stream;
        "proxy_send_local_response"(status: u32, details: u32, details_size: u32, body: u32, body_size: u32,
            headers: u32, headers_size: u32, grpc_status: u32) => send_local_response;
        "proxy_inject_encoded_data_to_filter_chain"(bytes: u32, size: u32, end: u32) => inject;
    );
    Ok(())
}

/// The filter sees no more of the request from here on, whichever side it continues.
fn continue_stream(guest: &mut Guest<'_>, kind: u32) -> Hostcall {
    let direction = match kind {
        0 => Direction::Request,
        1 => Direction::Response,
        // Streams of TCP, which an HTTP stream has not.
        2 | 3 => return Ok(()),
        _ => return Err(Status::BadArgument.into()),
    };
    let Some(context) = guest.state().stream() else { return Ok(()) };
    {
        let mut stream = context.stream.borrow_mut();
        let stage = stream.stage(context.filter, Direction::Request);
        stage.headers_open = false;
        stage.trailers_open = false;
        stage.chunk = None;
    }
    guest.state_mut().actions.push(Action::Continue(context, direction));
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, kind: u32) -> Hostcall {
    if kind > 3 {
        return Err(Status::BadArgument.into());
    }
    if let Some(context) = guest.state().stream() {
        guest.state_mut().actions.push(Action::Reset(context));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn send_local_response(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    grpc_status: u32,
) -> Hostcall {
    let mut details = guest.read(details, details_size)?;
    details.iter_mut().filter(|byte| byte.is_ascii_whitespace()).for_each(|byte| *byte = b'_');
    let reply = LocalReply {
        status,
        details,
        body: guest.read(body, body_size)?,
        headers: Headers::parse(&guest.read(headers, headers_size)?),
        grpc_status,
    };
    // Whatever context it was for, the hook that runs now is over.
    guest.state_mut().answers();
    if let Some(context) = guest.state().stream() {
        guest.state_mut().actions.push(Action::Respond(context, reply));
    }
    Ok(())
}

fn inject(guest: &mut Guest<'_>, bytes: u32, size: u32, end: u32) -> Hostcall {
    let bytes = guest.read(bytes, size)?;
    let context = guest.state().stream().ok_or(Status::BadArgument)?;
    guest.state_mut().actions.push(Action::Inject(context, bytes, end != 0));
    Ok(())
}
