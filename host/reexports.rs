//! Exports that cost less to call.
//!
//! wasmtime looks a function that a core module defines up in its tables at every call of an export, some 800
//! instructions, but has one that a module imports at hand. So a module that imports all exports of the component's
//! own and exports them again is put between that and the component's exports. It has no code.

use std::error::Error;

use wasm_encoder::reencode::{Reencode, ReencodeComponent, RoundtripReencoder};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentSectionId, EntityType, ExportKind, ExportSection, ImportSection,
    InstanceSection, Module, ModuleArg, ModuleSection, RawSection, TypeSection,
};
use wasmparser::{
    BinaryReader, ComponentAlias, ComponentAliasSectionReader, ExternalKind, FuncType, Instance, InstanceSectionReader,
    Parser, Payload, TypeRef,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The component with a module that exports again what its own exports. One that is laid out otherwise than
/// `wit-component` does it stays as it is.
pub(crate) fn through_imports(wasm: &[u8]) -> Result<Vec<u8>> {
    let sections = sections(wasm)?;
    let Some(plan) = plan(&sections)? else { return Ok(wasm.to_vec()) };
    let mut component = Component::new();
    for (at, section) in sections.iter().enumerate() {
        if at == plan.before {
            component.section(&ModuleSection(&between(&plan.functions)?));
            let mut instance = InstanceSection::new();
            instance.instantiate(plan.module, [("", ModuleArg::Instance(plan.defining))]);
            component.section(&instance);
        }
        match section.id == ComponentSectionId::Alias as u8 {
            true => component.section(&redirected(section, &plan)?),
            false => component.section(&RawSection { id: section.id, data: section.data }),
        };
    }
    Ok(component.finish())
}

/// Bytes before the first section.
const HEADER: usize = 8;

/// A section of a component.
struct Section<'a> {
    id: u8,
    data: &'a [u8],
}

/// What is put in, and where.
struct Plan {
    /// The section it goes before.
    before: usize,
    /// The index that the new module gets.
    module: u32,
    /// The instance that defines the functions, and the one that exports them again.
    defining: u32,
    exporting: u32,
    functions: Vec<(String, FuncType)>,
}

fn sections(wasm: &[u8]) -> Result<Vec<Section<'_>>> {
    let mut reader = BinaryReader::new(wasm.get(HEADER..).unwrap_or_default(), HEADER);
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()?;
        sections.push(Section { id, data: reader.read_bytes(length as usize)? });
    }
    Ok(sections)
}

fn plan(sections: &[Section<'_>]) -> Result<Option<Plan>> {
    let (mut modules, mut instances, mut plan) = (Vec::<&[u8]>::new(), Vec::new(), None::<Plan>);
    for (at, section) in sections.iter().enumerate() {
        let reader = BinaryReader::new(section.data, 0);
        if section.id == ComponentSectionId::Alias as u8 {
            for alias in ComponentAliasSectionReader::new(reader)? {
                let Some((defining, name)) = exported(&alias?) else { continue };
                let Some(Instance::Instantiate { module_index, .. }) = instances.get(defining as usize) else {
                    return Ok(None);
                };
                let Some(module) = modules.get(*module_index as usize) else { return Ok(None) };
                let plan = plan.get_or_insert(Plan {
                    before: at,
                    module: u32::try_from(modules.len())?,
                    defining,
                    exporting: u32::try_from(instances.len())?,
                    functions: Vec::new(),
                });
                let Some(function) = function(module, name)? else { return Ok(None) };
                if plan.defining != defining {
                    return Ok(None);
                }
                plan.functions.push((name.to_owned(), function));
            }
        } else if [ComponentSectionId::CoreModule as u8, ComponentSectionId::CoreInstance as u8].contains(&section.id) {
            if plan.is_some() {
                // Its index would be another then.
                return Ok(None);
            }
            match section.id == ComponentSectionId::CoreModule as u8 {
                true => modules.push(section.data),
                false => {
                    instances.extend(InstanceSectionReader::new(reader)?.into_iter().collect::<Result<Vec<_>, _>>()?)
                }
            }
        }
    }
    Ok(plan)
}

/// The instance and the name, of a function that an export of the component may be made of.
pub(crate) fn exported<'a>(alias: &ComponentAlias<'a>) -> Option<(u32, &'a str)> {
    match *alias {
        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } if name.contains('#') => {
            Some((instance_index, name))
        }
        _ => None,
    }
}

/// The type of a function that a module exports.
fn function(module: &[u8], name: &str) -> Result<Option<FuncType>> {
    let (mut types, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                types = section.into_iter_err_on_gc_types().collect::<Result<Vec<_>, _>>()?;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(index) = import?.ty {
                        functions.push(index);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                functions.extend(section.into_iter().collect::<Result<Vec<_>, _>>()?);
            }
            Payload::ExportSection(section) => {
                let mut exports = section.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
                let export = exports.find(|export| export.kind == ExternalKind::Func && export.name == name);
                let index = export.and_then(|export| functions.get(export.index as usize));
                return Ok(index.and_then(|index| types.get(*index as usize)).cloned());
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The module that imports these functions and exports them.
fn between(functions: &[(String, FuncType)]) -> Result<Module> {
    let (mut types, mut imports, mut exports) = (TypeSection::new(), ImportSection::new(), ExportSection::new());
    for (index, (name, function)) in (0..).zip(functions) {
        types.ty().func_type(&RoundtripReencoder.func_type(function.clone())?);
        imports.import("", name, EntityType::Function(index));
        exports.export(name, ExportKind::Func, index);
    }
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&exports);
    Ok(module)
}

/// A section of aliases, with those of the functions taken from the instance that exports them again.
fn redirected(section: &Section<'_>, plan: &Plan) -> Result<ComponentAliasSection> {
    let mut aliases = ComponentAliasSection::new();
    for alias in ComponentAliasSectionReader::new(BinaryReader::new(section.data, 0))? {
        let alias = alias?;
        aliases.alias(match exported(&alias) {
            Some((_, name)) => Alias::CoreInstanceExport { instance: plan.exporting, kind: ExportKind::Func, name },
            None => RoundtripReencoder.component_alias(alias)?,
        });
    }
    Ok(aliases)
}
