//! WASI as a gateway gives it: clocks, randomness, output to the log, and no files at all.

use std::{fs::File, io::Read};

use wasmtime::{Caller, Linker, Result};

use crate::{
    abi::{Fault, Hostcall, LogLevel},
    vm::{Guest, VmState},
};

const BAD_FD: i32 = 8;
const INVALID: i32 = 28;
const NO_ENTRY: i32 = 44;
const NOT_IMPLEMENTED: i32 = 52;
const NOT_SUPPORTED: i32 = 58;
const FAULT: i32 = 21;

/// The most random bytes that one call gives.
const MAX_RANDOM: u32 = 65_536;

macro_rules! constant {
    ($linker:expr, $module:expr; $($name:literal ($($type:ty),*) => $answer:expr;)*) => {
        $($linker.func_wrap($module, $name, |_: Caller<'_, VmState>, $(_: $type),*| -> i32 { $answer })?;)*
    };
}

macro_rules! guest {
    ($linker:expr, $module:expr; $($name:literal ($($parameter:ident: $type:ty),*) => $function:path;)*) => {
        $($linker.func_wrap($module, $name, |caller: Caller<'_, VmState>, $($parameter: $type),*| {
            answer(Guest::enter_early(caller).and_then(|mut guest| $function(&mut guest, $($parameter),*)))
        })?;)*
    };
}

pub(super) fn add(linker: &mut Linker<VmState>, module: &str) -> Result<()> {
    guest!(linker, module;
        "args_sizes_get"(count: u32, size: u32) => args_sizes;
        "environ_sizes_get"(count: u32, size: u32) => environ_sizes;
        "environ_get"(pointers: u32, bytes: u32) => environ;
        "clock_time_get"(id: u32, precision: u64, out: u32) => clock_time;
        "random_get"(bytes: u32, size: u32) => random;
        "fd_write"(fd: u32, vectors: u32, count: u32, written: u32) => fd_write;
        "fd_fdstat_get"(fd: u32, out: u32) => fd_fdstat;
        "poll_oneoff"(subscriptions: u32, events: u32, count: u32, out: u32) => poll;
    );
    constant!(linker, module;
        "args_get"(i32, i32) => 0;
        "sched_yield"() => 0;
        "fd_close"(i32) => 0;
        "fd_seek"(i32, i64, i32, i32) => 0;
        "fd_read"(i32, i32, i32, i32) => NOT_IMPLEMENTED;
        "fd_pread"(i32, i32, i32, i64, i32) => NOT_IMPLEMENTED;
        "fd_fdstat_set_flags"(i32, i32) => NOT_IMPLEMENTED;
        "fd_prestat_dir_name"(i32, i32, i32) => NOT_IMPLEMENTED;
        "fd_prestat_get"(i32, i32) => BAD_FD;
        "fd_filestat_get"(i32, i32) => BAD_FD;
        "path_open"(i32, i32, i32, i32, i32, i64, i64, i32, i32) => NO_ENTRY;
        "path_filestat_get"(i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "path_create_directory"(i32, i32, i32) => NOT_SUPPORTED;
        "path_remove_directory"(i32, i32, i32) => NOT_SUPPORTED;
        "path_unlink_file"(i32, i32, i32) => NOT_SUPPORTED;
        "path_readlink"(i32, i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "path_rename"(i32, i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "path_symlink"(i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "path_link"(i32, i32, i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "path_filestat_set_times"(i32, i32, i32, i32, i64, i64, i32) => NOT_SUPPORTED;
        "sock_accept"(i32, i32, i32) => NOT_SUPPORTED;
        "sock_recv"(i32, i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "sock_send"(i32, i32, i32, i32, i32) => NOT_SUPPORTED;
        "sock_shutdown"(i32, i32) => NOT_SUPPORTED;
    );
    // It comes back, and what a guest does then is its own affair; compilers put a trap there.
    linker.func_wrap(module, "proc_exit", |caller: Caller<'_, VmState>, code: i32| {
        caller.data().log(LogLevel::Error, &format!("the guest exits with {code}"));
    })?;
    Ok(())
}

fn answer(outcome: Hostcall<i32>) -> Result<i32> {
    match outcome {
        Ok(number) => Ok(number),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}

fn args_sizes(guest: &mut Guest<'_>, count: u32, size: u32) -> Hostcall<i32> {
    guest.write_u32(count, 0)?;
    guest.write_u32(size, 0)?;
    Ok(0)
}

fn variables(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    guest.state().environment.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

fn environ_sizes(guest: &mut Guest<'_>, count: u32, size: u32) -> Hostcall<i32> {
    let variables = variables(guest);
    guest.write_u32(count, variables.len() as u32)?;
    guest.write_u32(size, variables.iter().map(Vec::len).sum::<usize>() as u32)?;
    Ok(0)
}

fn environ(guest: &mut Guest<'_>, mut pointers: u32, mut bytes: u32) -> Hostcall<i32> {
    for variable in variables(guest) {
        guest.write_u32(pointers, bytes)?;
        guest.write(bytes, &variable)?;
        pointers += 4;
        bytes += variable.len() as u32;
    }
    Ok(0)
}

fn clock_time(guest: &mut Guest<'_>, id: u32, _precision: u64, out: u32) -> Hostcall<i32> {
    let clock = &guest.state().services.clock;
    let now_ns = match id {
        0 => clock.wall_ns(),
        1 => clock.monotonic_ns(),
        _ => return Ok(NOT_SUPPORTED),
    };
    guest.write_u64(out, now_ns)?;
    Ok(0)
}

fn random(guest: &mut Guest<'_>, bytes: u32, size: u32) -> Hostcall<i32> {
    if size > MAX_RANDOM {
        return Ok(INVALID);
    }
    let mut random = vec![0; size as usize];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| Fault::Trap(wasmtime::Error::msg(format!("no randomness: {error}"))))?;
    guest.write(bytes, &random)?;
    Ok(0)
}

fn fd_write(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, written_out: u32) -> Hostcall<i32> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Ok(BAD_FD),
    };
    let mut text = Vec::new();
    for index in 0..count {
        let vector = guest.read(vectors + 8 * index, 8)?;
        let number = |at: usize| u32::from_le_bytes([vector[at], vector[at + 1], vector[at + 2], vector[at + 3]]);
        text.extend(guest.read(number(0), number(4))?);
    }
    guest.write_u32(written_out, text.len() as u32)?;
    let line = String::from_utf8_lossy(&text);
    guest.state().log(level, line.strip_suffix('\n').unwrap_or(&line));
    Ok(0)
}

fn fd_fdstat(guest: &mut Guest<'_>, fd: u32, out: u32) -> Hostcall<i32> {
    if !matches!(fd, 1 | 2) {
        return Ok(BAD_FD);
    }
    for (index, number) in [0, 64, 0].into_iter().enumerate() {
        guest.write_u64(out + 8 * index as u32, number)?;
    }
    Ok(0)
}

/// Nobody sleeps in a gateway's worker.
fn poll(guest: &mut Guest<'_>, _subscriptions: u32, _events: u32, _count: u32, out: u32) -> Hostcall<i32> {
    guest.write_u32(out, 0)?;
    Ok(0)
}
