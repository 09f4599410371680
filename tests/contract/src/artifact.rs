//! What registries of components hold: the contract as a package in WebAssembly, and a file's description beside it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wit_component::DecodedWasm;
use wit_parser::{PackageId, Resolve, World};

use crate::contract;

/// How a component begins. What reads one takes a module, too, for one without types.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The contract as a component that holds nothing but types, with its documentation.
///
/// # Panics
/// When the contract is none.
pub fn package() -> Vec<u8> {
    let (contract, package) = contract();
    wit_component::encode(&contract, package).expect("a package that was read can be written")
}

/// What a registry is told of a component or a package: what it exports and imports, and, of a package, its name and
/// version.
///
/// # Errors
/// When the bytes are neither; in words.
pub fn description(wasm: &[u8]) -> Result<Value, String> {
    if !wasm.starts_with(COMPONENT) {
        return Err("this is no WebAssembly component".to_owned());
    }
    let (exports, imports, package) = match wit_component::decode(wasm).map_err(|error| format!("{error:#}"))? {
        DecodedWasm::Component(types, world) => {
            let world = &types.worlds[world];
            (exports(&types, world), names(&types, world.imports.keys()), Value::Null)
        }
        // All that it holds is what it exports, and what a world of it does.
        DecodedWasm::WitPackage(types, package) => {
            let named = &types.packages[package].name;
            let name = format!("{}:{}", named.namespace, named.name);
            let version = named.version.as_ref().map(ToString::to_string);
            (held(&types, package), Vec::new(), json!({"name": name, "version": version}))
        }
    };
    Ok(json!({"component": {"exports": exports, "imports": imports, "target": null}, "package": package}))
}

fn held(types: &Resolve, package: PackageId) -> Vec<String> {
    let of = &types.packages[package];
    let interfaces = of.interfaces.values().filter_map(|interface| types.id_of(*interface));
    let worlds = of.worlds.iter().flat_map(|(name, world)| {
        let world = exports(types, &types.worlds[*world]);
        world.into_iter().chain([types.id_of_name(package, name)])
    });
    interfaces.chain(worlds).collect::<BTreeSet<_>>().into_iter().collect()
}

fn exports(types: &Resolve, world: &World) -> Vec<String> {
    names(types, world.exports.keys())
}

fn names<'a>(types: &Resolve, keys: impl Iterator<Item = &'a wit_parser::WorldKey>) -> Vec<String> {
    keys.map(|key| types.name_world_key(key)).collect()
}
