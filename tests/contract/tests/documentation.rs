//! What is made of the contract is as the contract is; `just docs` makes it so.

use std::{env, fs};

use slidegate_contract_tests::{root, typescript};

/// Asks for writing what is out of date.
const WRITE: &str = "SLIDEGATE_WRITE";

const TYPES: &str = "wit/slidegate.d.ts";

#[test]
fn types_of_typescript_are_current() {
    let (path, expected) = (root().join(TYPES), typescript());
    if fs::read_to_string(&path).unwrap_or_default() == expected {
        return;
    }
    assert!(env::var_os(WRITE).is_some(), "{TYPES} is not what the contract makes of it: run `just docs`");
    fs::write(path, expected).expect("types can be written");
}
