//! Buffers: bodies as far as a filter may see them, configurations, and replies to callouts.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{BufferType, Direction, Hostcall, Status},
    vm::{Guest, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_get_buffer_bytes"(buffer: u32, start: u32, max: u32, bytes: u32, size: u32) => get;
        "proxy_get_buffer_status"(buffer: u32, length: u32, flags: u32) => status;
        "proxy_set_buffer_bytes"(buffer: u32, start: u32, max: u32, bytes: u32, size: u32) => set;
    );
    Ok(())
}

fn get(guest: &mut Guest<'_>, buffer: u32, start: u32, max: u32, bytes_out: u32, size_out: u32) -> Hostcall {
    let (start, max) = (start as usize, max as usize);
    let clip = |bytes: &[u8]| bytes.get(start..bytes.len().min(start + max)).unwrap_or_default().to_vec();
    let bytes = look(guest, buffer, clip)?;
    guest.give(&bytes, bytes_out, size_out)
}

fn status(guest: &mut Guest<'_>, buffer: u32, length_out: u32, flags_out: u32) -> Hostcall {
    let length = look(guest, buffer, <[u8]>::len)?;
    guest.write_u32(length_out, length as u32)?;
    guest.write_u32(flags_out, 0)
}

fn look<R>(guest: &Guest<'_>, buffer: u32, look: impl FnOnce(&[u8]) -> R) -> Hostcall<R> {
    let state = guest.state();
    let root = state.root(state.root_id());
    let found = match BufferType::read(buffer)? {
        BufferType::RequestBody => return body(guest, Direction::Request, |body| look(body)),
        BufferType::ResponseBody => return body(guest, Direction::Response, |body| look(body)),
        BufferType::VmConfiguration => Some(state.vm_config.as_slice()),
        BufferType::PluginConfiguration => root.and_then(|root| root.config()),
        BufferType::HttpCallBody => root.and_then(|root| Some(root.http_reply.as_ref()?.body.as_slice())),
        BufferType::RedisReply => root.and_then(|root| root.redis_reply.as_deref()),
        BufferType::Tcp | BufferType::Nothing => None,
    };
    found.map(look).ok_or(Status::NotFound.into())
}

fn set(guest: &mut Guest<'_>, buffer: u32, start: u32, max: u32, bytes: u32, size: u32) -> Hostcall {
    let direction = match BufferType::read(buffer)? {
        BufferType::RequestBody => Direction::Request,
        BufferType::ResponseBody => Direction::Response,
        BufferType::Tcp => return Err(Status::NotFound.into()),
        _ => return Err(Status::BadArgument.into()),
    };
    let bytes = guest.read(bytes, size)?;
    body(guest, direction, |body| write(body, start as usize, max as usize, bytes))?
}

/// At the front what is there makes room, as much as is said; at the end and beyond nothing does.
fn write(body: &mut Vec<u8>, start: usize, max: usize, bytes: Vec<u8>) -> Hostcall {
    if start == 0 {
        body.splice(..max.min(body.len()), bytes);
    } else if start >= body.len() {
        body.extend(bytes);
    } else {
        return Err(Status::BadArgument.into());
    }
    Ok(())
}

fn body<R>(guest: &Guest<'_>, direction: Direction, use_body: impl FnOnce(&mut Vec<u8>) -> R) -> Hostcall<R> {
    let context = guest.state().stream().ok_or(Status::NotFound)?;
    let mut stream = context.stream.borrow_mut();
    let body = stream.stage(context.filter, direction).buffer().ok_or(Status::NotFound)?;
    Ok(use_body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_replaced_prepended_to_and_appended_to() {
        let written = |start, max, bytes: &str| {
            let mut body = b"abc".to_vec();
            write(&mut body, start, max, bytes.into()).map(|()| String::from_utf8(body).unwrap()).ok()
        };
        assert_eq!(written(0, 0, "x").as_deref(), Some("xabc"));
        assert_eq!(written(0, 2, "x").as_deref(), Some("xc"));
        assert_eq!(written(0, usize::MAX, "x").as_deref(), Some("x"));
        assert_eq!(written(3, 0, "x").as_deref(), Some("abcx"));
        assert_eq!(written(99, 9, "x").as_deref(), Some("abcx"));
        assert_eq!(written(1, 1, "x"), None);
    }
}
