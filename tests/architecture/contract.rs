//! The contract as a host's author reads it: everything in it is documented.

use std::{collections::BTreeSet, path::Path};

use wit_parser::{Docs, Resolve, TypeDefKind, WorldItem};

fn contract() -> Resolve {
    let mut resolve = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    resolve.push_dir(&folder).unwrap_or_else(|error| panic!("{}: {error:?}", folder.display()));
    resolve
}

/// The types that the contract defines, as Rust spells their names.
pub(crate) fn type_names() -> BTreeSet<String> {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let contract = contract();
    let names = contract.types.iter().filter_map(|(_, of)| of.name.as_deref());
    names.map(|name| name.split('-').map(capital).collect()).collect()
}

/// Whatever is not documented, by its path.
fn undocumented() -> (usize, Vec<String>) {
    let (contract, mut all, mut missing) = (contract(), 0, Vec::new());
    let mut look = |docs: &Docs, path: String| {
        all += 1;
        if docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()) {
            missing.push(path);
        }
    };
    for (_, package) in &contract.packages {
        look(&package.docs, package.name.to_string());
    }
    for (_, world) in &contract.worlds {
        look(&world.docs, world.name.clone());
        for item in world.imports.values().chain(world.exports.values()) {
            assert!(matches!(item, WorldItem::Interface { .. }), "what stands in a world itself is looked at too");
        }
    }
    for (_, interface) in &contract.interfaces {
        let of = interface.name.as_deref().expect("a named interface");
        look(&interface.docs, of.to_owned());
        for (name, function) in &interface.functions {
            look(&function.docs, format!("{of}.{name}"));
        }
        for (name, id) in &interface.types {
            let (definition, path) = (&contract.types[*id], |member: &str| format!("{of}.{name}.{member}"));
            match &definition.kind {
                // Of another interface, or another name for a type: of the first, its own documentation counts.
                TypeDefKind::Type(wit_parser::Type::Id(_)) => continue,
                TypeDefKind::Record(record) => {
                    record.fields.iter().for_each(|field| look(&field.docs, path(&field.name)));
                }
                TypeDefKind::Variant(variant) => {
                    variant.cases.iter().for_each(|case| look(&case.docs, path(&case.name)));
                }
                TypeDefKind::Enum(of_names) => {
                    of_names.cases.iter().for_each(|case| look(&case.docs, path(&case.name)));
                }
                TypeDefKind::Flags(flags) => flags.flags.iter().for_each(|flag| look(&flag.docs, path(&flag.name))),
                TypeDefKind::Type(_) => {}
                other => panic!("{of}.{name}: a kind of type that is not looked into: {other:?}"),
            }
            look(&definition.docs, format!("{of}.{name}"));
        }
    }
    (all, missing)
}

#[test]
fn every_item_of_the_contract_is_documented() {
    let (all, missing) = undocumented();
    assert!(all > 150, "items are found: {all}");
    assert_eq!(missing, [""; 0]);
}
