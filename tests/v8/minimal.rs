//! The least that a proxy-wasm plugin in Rust can be: it asks the gateway for one request header, drops it, and lets
//! the request pass. What it takes in the bench is what V8, the standard library's allocator and the measuring take.
//!
//! Built by `just bench`, with rustc alone.

use std::{ptr, slice};

const REQUEST_HEADERS: u32 = 0;
const NAME: &[u8] = b"x-mse-consumer";

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_value(map: u32, key: *const u8, key_size: usize, value: *mut *mut u8,
        value_size: *mut usize) -> u32;
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0; size].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_context: u32, _size: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_context: u32, _size: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _count: u32, _end: u32) -> u32 {
    let (mut value, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the pointers are good for the call, and the gateway writes both or neither.
    unsafe { proxy_get_header_map_value(REQUEST_HEADERS, NAME.as_ptr(), NAME.len(), &mut value, &mut size) };
    if !value.is_null() {
        // SAFETY: the gateway had the block from `proxy_on_memory_allocate`, of this size, and leaves it to the plugin.
        drop(unsafe { Box::from_raw(slice::from_raw_parts_mut(value, size)) });
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_context: u32, _count: u32, _end: u32) -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(_context: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(_context: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(_context: u32) {}
