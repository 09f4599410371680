//! The contract's generated types and functions.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from wit/, where everything is documented"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "slidegate",
    pub_export_macro: true,
    default_bindings_module: "crate::contract",
});
