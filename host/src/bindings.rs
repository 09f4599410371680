//! What wasmtime generates from `wit/`, which is a link to the workspace's, so that the packaged crate has it too: the
//! types of the contract, the traits of its imports and the calls of its exports.

#![expect(missing_docs, reason = "generated; the WIT files carry the documentation")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "slidegate",
    imports: { default: trappable },
    additional_derives: [PartialEq],
    require_store_data_send: true,
});
