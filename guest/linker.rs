//! Has the linker write addresses in as few bytes as they need: some forty kilobytes.
#![forbid(unsafe_code)]

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=../linker.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|each| each == value);
    // Debug information would have to be rewritten with it, which the linker does not do.
    if is("CARGO_CFG_TARGET_ARCH", "wasm32") && is("DEBUG", "false") {
        println!("cargo:rustc-link-arg-cdylib=--strip-debug");
        println!("cargo:rustc-link-arg-cdylib=--compress-relocations");
    }
}
