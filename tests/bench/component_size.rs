//! The size of the component, and what it asks of its host.

use slidegate::EMBEDDED_COMPONENT;
use wasmparser::{Parser, Payload};

use crate::{
    Effort,
    table::{Table, number},
};

/// Kilobytes of the component and the interfaces it imports.
pub(crate) fn measure(_: &Effort) -> Vec<Table> {
    let imports = imports();
    let wasi = imports.iter().filter(|name| name.starts_with("wasi")).count();
    let mut table = Table::new("The component", "To reach: 1.5 MB, no WASI import.", &["what", "figure"]);
    table.row(["`slidegate.wasm`, KB".into(), number(EMBEDDED_COMPONENT.len() as f64 / 1_000.0, 0)]);
    table.row(["imports from WASI".into(), wasi.to_string()]);
    let own = imports.iter().filter(|name| name.starts_with("slidegate:filter/")).count();
    table.row(["imports from `slidegate:filter`".into(), own.to_string()]);
    assert_eq!(own, imports.len(), "{imports:?}");
    vec![table]
}

/// The names of the outermost component's imports.
fn imports() -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(EMBEDDED_COMPONENT) {
        match payload.expect("the component is well-formed") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                names.extend(
                    section
                        .into_iter()
                        .map(|import| import.expect("the component is well-formed").name.name.to_owned()),
                );
            }
            _ => {}
        }
    }
    assert!(!names.is_empty(), "a component that imports nothing can ask no Redis");
    names
}
