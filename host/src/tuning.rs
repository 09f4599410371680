//! How wasmtime compiles and runs the component. The build script includes this file too: code
//! compiled ahead of time loads only into an engine of the same settings.

/// The settings of every engine of this crate, before a target is chosen.
pub(crate) fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    // A guest that runs away is stopped at a deadline, not by counting its instructions.
    config.epoch_interruption(true);
    // Exports are plain calls; the bookkeeping for concurrent tasks would cost about 1 µs each.
    config.concurrency_support(false);
    // What the sandbox runs is small; half a megabyte of stack ends a runaway recursion early.
    config.max_wasm_stack(512 * 1024);
    // An image of the memory to begin with would be a file, which cannot be made where files may not grow. Instances
    // are few and last: copying what they begin with costs each of them some 100 KB and a moment.
    config.memory_init_cow(false);
    config
}
