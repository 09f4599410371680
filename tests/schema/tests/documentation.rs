//! What is made of the table of all fields is as the table is; `just docs` makes it so.

use std::fs;

use slidegate_schema_tests::{console_form, root, text, with_tables};

/// Asks for writing what is out of date.
const WRITE: &str = "SLIDEGATE_WRITE";

fn assert_current(path: &str, expected: String) {
    let current = fs::read_to_string(root().join(path)).unwrap_or_default();
    if current == expected {
        return;
    }
    assert!(
        std::env::var_os(WRITE).is_some(),
        "{path} is not what the table of all fields makes of it: run `just docs`"
    );
    fs::write(root().join(path), expected).expect("a document can be written");
}

#[test]
fn tables_of_fields_are_current() {
    for path in ["guest/engine/README.md", "host/README.md"] {
        let current = text(path);
        assert!(current.contains("<!-- fields: "), "{path} has no marks");
        assert_current(path, with_tables(&current));
    }
}

#[test]
fn the_form_of_higress_console_is_current() {
    assert_current("guest/shim/deploy/spec.yaml", console_form());
}
