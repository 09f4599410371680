//! Plugins of a few instructions, written for one test each, so that a hook does exactly one thing.

use crate::module::Module;

/// Every function that a puppet may call, with its type.
const IMPORTS: &str = r#"
    (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_replace_header_map_value" (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $get_headers (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (import "env" "proxy_send_local_response" (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_inject_encoded_data_to_filter_chain" (func $inject (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $choose (param i32) (result i32)))
    (import "env" "proxy_redis_init" (func $redis_init (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_redis_call" (func $redis_call (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $set_tick (param i32) (result i32)))
    (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
    (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
"#;

/// What every puppet has: an allocator that traps on an empty block, as Go's does, and ways to tell what happened.
/// Results of host calls go to 16 (pointer) and 20 (size), single numbers to 24.
const COMMON: &str = r#"
    (memory (export "memory") 4)
    (global $free (mut i32) (i32.const 131072))
    (global $stream (mut i32) (i32.const 0))
    (global $counter (mut i32) (i32.const 0))
    (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
        (if (i32.eqz (local.get $size)) (then unreachable))
        (global.get $free)
        (global.set $free (i32.add (global.get $free) (local.get $size))))
    (func $say (param $text i32) (param $size i32)
        (drop (call $proxy_log (i32.const 2) (local.get $text) (local.get $size))))
    (func $say_number (param $number i32)
        (i32.store8 (i32.const 0) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 10))))
        (i32.store8 (i32.const 1) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
        (call $say (i32.const 0) (i32.const 2)))
    (func $say_result
        (call $say (i32.load (i32.const 16)) (i32.load (i32.const 20))))
"#;

/// Where texts lie.
const TEXTS_AT: usize = 1_024;

/// A puppet that exports this ABI version. In `body`, `'text'` stands for a text's pointer and size; it may hold `\\r`,
/// `\\n` and `\\0`.
///
/// # Errors
///
/// As [`Module::load`].
///
/// # Panics
///
/// When `body` is not WebAssembly text.
pub fn puppet(version: &str, body: &str) -> Result<Module, String> {
    Module::load(&wasm(version, IMPORTS, body))
}

/// The same with imports of its own.
///
/// # Panics
///
/// As [`puppet`].
pub fn wasm(version: &str, imports: &str, body: &str) -> Vec<u8> {
    let (body, texts) = placed(body);
    let common = if imports == IMPORTS { COMMON } else { "" };
    let text = format!(
        "(module {imports} {common} (func (export \"{version}\")) {body} (data (i32.const {TEXTS_AT}) \"{texts}\"))"
    );
    let text = if common.is_empty() { text.replace("(data", "(memory (export \"memory\") 1) (data") } else { text };
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Replaces texts by where they will lie.
fn placed(body: &str) -> (String, String) {
    let (mut code, mut texts) = (String::new(), String::new());
    for (index, part) in body.split('\'').enumerate() {
        if index % 2 == 0 {
            code.push_str(part);
        } else {
            let part = part.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
            let size = part.len();
            code.push_str(&format!("(i32.const {}) (i32.const {size})", TEXTS_AT + texts.len() / 3));
            texts.extend(part.bytes().map(|byte| format!("\\{byte:02x}")));
        }
    }
    (code, texts)
}
