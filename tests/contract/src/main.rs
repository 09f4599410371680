//! `contract package FILE` writes the contract as a package in WebAssembly; `contract describe FILE` prints what a
//! registry is told of a component or a package, in JSON.
#![forbid(unsafe_code)]

use std::{env, fs, process::ExitCode};

use slidegate_contract_tests::{description, package};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["package", file] => fs::write(file, package()).map_err(|error| format!("{file}: {error}")),
        ["describe", file] => describe(file),
        _ => Err("usage: contract package FILE | contract describe FILE".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn describe(file: &str) -> Result<(), String> {
    let wasm = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    println!("{}", description(&wasm).map_err(|error| format!("{file}: {error}"))?);
    Ok(())
}
