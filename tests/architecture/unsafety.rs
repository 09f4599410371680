//! Who may have unsafe code: where a guest speaks to its host, where compiled code or the allocator is trusted, and two
//! tests. Crates without any say so.

use std::path::Path;

use crate::sources::{sources, tokens};

const MAY: [&str; 11] = [
    "guest/allocator/src/compare.rs",
    "guest/allocator/src/lib.rs",
    "guest/allocator/src/tests.rs",
    "guest/shim/src/contexts.rs",
    "guest/shim/src/envoy.rs",
    "host/src/component.rs",
    "host/src/memory.rs",
    "host/src/output.rs",
    "tests/engine/tests/engine_memory.rs",
    "tests/higress/src/module.rs",
    "tests/v8/minimal.rs",
];

/// Roots of what has none. Other crates are held to it by the workspace's lint, and by the list above.
const FORBID: [&str; 11] = [
    "guest/cache/src/lib.rs",
    "guest/document/src/lib.rs",
    "guest/engine/src/lib.rs",
    "guest/linker.rs",
    "host/build.rs",
    "host/examples/embed.rs",
    "tests/contract/src/lib.rs",
    "tests/contract/src/main.rs",
    "tests/engine/src/lib.rs",
    "tests/schema/src/lib.rs",
    "tests/src/lib.rs",
];

#[test]
fn unsafe_code_is_where_it_may_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let name = |path: &Path| path.strip_prefix(&root).unwrap_or(path).display().to_string();
    let sources = sources(&root);
    let is_unsafe = |text: &str| tokens(text).iter().any(|token| token == "unsafe");
    let mut found: Vec<String> =
        sources.iter().filter(|(_, text)| is_unsafe(text)).map(|(path, _)| name(path)).collect();
    found.sort();
    assert_eq!(found, MAY);
    for root in FORBID {
        let text = sources.iter().find(|(path, _)| name(path) == root).map(|(_, text)| text.as_str());
        assert!(text.is_some_and(|text| text.contains("\n#![forbid(unsafe_code)]\n")), "{root}");
    }
}
