//! Foreign functions, and what Higress adds about upstream hosts.

use wasmtime::{Linker, Result};

use super::define;
use crate::{
    abi::{Hostcall, Status},
    headers::Headers,
    vm::{Action, Guest, VmState},
};

pub(super) fn add(linker: &mut Linker<VmState>) -> Result<()> {
    define!(linker;
        "proxy_call_foreign_function"(name: u32, name_size: u32, arguments: u32, size: u32, result: u32,
            result_size: u32) => call;
        "proxy_get_upstream_hosts"(hosts: u32, size: u32) => upstream_hosts;
        "proxy_set_upstream_override_host"(host: u32, size: u32) => set_override_host;
    );
    Ok(())
}

fn call(
    guest: &mut Guest<'_>,
    name: u32,
    name_size: u32,
    arguments: u32,
    size: u32,
    result_out: u32,
    size_out: u32,
) -> Hostcall {
    let (name, arguments) = (guest.text(name, name_size)?, guest.read(arguments, size)?);
    let result = foreign(guest, &name, &arguments)?;
    if result_out == 0 || size_out == 0 {
        return Ok(());
    }
    guest.give(&result, result_out, size_out)
}

fn foreign(guest: &mut Guest<'_>, name: &str, arguments: &[u8]) -> Hostcall<Vec<u8>> {
    match name {
        "get_log_level" => Ok((guest.state().services.log_level as u32).to_le_bytes().to_vec()),
        // How much of the I/O one cycle takes is nothing that a plugin could see here.
        "set_global_max_requests_per_io_cycle" if arguments.len() == 8 => Ok(Vec::new()),
        "set_global_max_requests_per_io_cycle" => Err(Status::BadArgument.into()),
        "inject_encoded_data_to_filter_chain_on_header" => {
            let (body, end) = injected(arguments).ok_or(Status::ParseFailure)?;
            let context = guest.state().stream().ok_or(Status::BadArgument)?;
            guest.state_mut().actions.push(Action::Inject(context, body, end));
            Ok(Vec::new())
        }
        _ => Err(Status::NotFound.into()),
    }
}

/// Reads the protobuf message {1: bytes, 2: bool}.
fn injected(mut message: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (mut body, mut end) = (Vec::new(), false);
    while !message.is_empty() {
        match varint(&mut message)? {
            0x0a => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (taken, rest) = message.split_at_checked(length)?;
                body = taken.to_vec();
                message = rest;
            }
            0x10 => end = varint(&mut message)? != 0,
            _ => return None,
        }
    }
    Some((body, end))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The hosts of the route's cluster; what a gateway tells about each is left out.
fn upstream_hosts(guest: &mut Guest<'_>, hosts_out: u32, size_out: u32) -> Hostcall {
    let context = guest.state().stream().ok_or(Status::NotFound)?;
    let cluster = context.stream.borrow_mut().route().cluster;
    let hosts = guest.state().services.directory.hosts(&cluster);
    let pairs: Headers = hosts.iter().map(|host| (host.to_string(), "{}")).collect();
    guest.give(&pairs.serialise(), hosts_out, size_out)
}

fn set_override_host(guest: &mut Guest<'_>, host: u32, size: u32) -> Hostcall {
    let host = guest.read(host, size)?;
    let context = guest.state().stream().ok_or(Status::NotFound)?;
    context.stream.borrow_mut().override_host = Some(host);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_injected_message_is_read() {
        assert_eq!(injected(b"\x0a\x03abc\x10\x01"), Some((b"abc".to_vec(), true)));
        assert_eq!(injected(b""), Some((Vec::new(), false)));
        assert_eq!(injected(b"\x0a\x09abc"), None);
        assert_eq!(injected(b"\x0a"), None);
    }
}
