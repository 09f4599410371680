//! The module that the build script puts between the component's own and its exports.

use slidegate::{EMBEDDED_COMPONENT, Instance, Module, Moment, Pass, Step};
use wasmparser::{Instance as Instantiation, Parser, Payload, Validator};
use wit_component::DecodedWasm;

use crate::fixture::{component, request};

#[path = "../../reexports.rs"]
mod through;

use through::through_imports;

/// Whether each of the core functions that exports are made of comes from a module that has no code of its own.
fn has_no_code_behind_exports(component: &[u8]) -> bool {
    let (mut has_code, mut instances, mut behind_exports) = (Vec::new(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } => has_code.push(false),
            Payload::CodeSectionStart { .. } => *has_code.last_mut().unwrap() = true,
            Payload::InstanceSection(section) => {
                instances.extend(section.into_iter().map(|each| match each.unwrap() {
                    Instantiation::Instantiate { module_index, .. } => Some(module_index as usize),
                    Instantiation::FromExports(_) => None,
                }))
            }
            Payload::ComponentAliasSection(section) => {
                let aliases: Vec<_> = section.into_iter().map(Result::unwrap).collect();
                behind_exports.extend(aliases.iter().filter_map(through::exported).map(|(instance, _)| instance));
            }
            _ => {}
        }
    }
    assert!(!behind_exports.is_empty());
    behind_exports.iter().all(|instance| instances[*instance as usize].is_some_and(|module| !has_code[module]))
}

/// What a component imports and exports, as WIT.
fn contract(component: &[u8]) -> String {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component).unwrap() else { panic!() };
    format!("{:?} {:?}", resolve.worlds[world].imports.keys(), resolve.worlds[world].exports.keys())
}

#[test]
fn functions_behind_the_exports_are_imported_ones() {
    for before in [EMBEDDED_COMPONENT, &component()] {
        assert!(!has_no_code_behind_exports(before));
        let after = through_imports(before).unwrap();
        Validator::new().validate_all(&after).unwrap();
        assert!(has_no_code_behind_exports(&after));
        assert_eq!(contract(&after), contract(before));
    }
}

#[test]
fn what_is_called_through_imports_does_the_same() {
    let now = Moment { monotonic: 5, wall: 0 };
    let module = Module::from_bytes(&through_imports(&component()).unwrap()).unwrap();
    let mut instance = Instance::new(&module).unwrap();
    instance.configure(b"p", now).unwrap();
    assert_eq!(instance.on_request(1, request("/p"), now).unwrap(), Step::Pass(Pass::default()));
    assert!(matches!(instance.on_request(2, request("/r"), now).unwrap(), Step::Respond(_)));
    assert_eq!(instance.on_request(3, request("/w"), now).unwrap(), Step::Wait);
    assert_eq!(instance.take_calls().len(), 1);
}

#[test]
fn a_component_of_another_layout_stays_as_it_is() {
    // No exports; exports of two instances; an instance after them, whose index would change.
    for text in [
        "(component)",
        r#"(component
            (core module $m (func (export "a#f")))
            (core instance $one (instantiate $m))
            (core instance $two (instantiate $m))
            (func (export "f") (canon lift (core func $one "a#f")))
            (func (export "g") (canon lift (core func $two "a#f"))))"#,
        r#"(component
            (core module $m (func (export "a#f")))
            (core instance $one (instantiate $m))
            (func (export "f") (canon lift (core func $one "a#f")))
            (core instance $two (instantiate $m)))"#,
    ] {
        let component = wat::parse_str(text).unwrap();
        assert_eq!(through_imports(&component).unwrap(), component, "{text}");
    }
    assert!(through_imports(&EMBEDDED_COMPONENT[..EMBEDDED_COMPONENT.len() - 1]).is_err());
}
