//! The contract as TypeScript sees it, by the conventions of jco: what has 64 bits is a `bigint`, names are in camel
//! case, a variant is told by its `tag`, and the error of a function is thrown.

use wit_parser::{
    Docs, Function, IndexMap, Interface, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner, WorldItem, WorldKey,
};

use crate::contract;

const HEAD: &str = "\
// The contract of wit/*.wit for a host in TypeScript or JavaScript, by the conventions of jco. `just docs` makes this.

/** A result inside of something else. One that a function returns is its value, or its error is thrown. */
export type Result<T, E> = { tag: \"ok\"; val: T } | { tag: \"err\"; val: E };
";

/// A module of types: a namespace for each interface, and what the component's world imports and exports.
pub fn typescript() -> String {
    let (contract, _) = contract();
    let mut out = Lines { text: HEAD.to_owned(), depth: 0 };
    let mut interfaces: Vec<&Interface> = contract.interfaces.iter().map(|(_, interface)| interface).collect();
    interfaces.sort_by_key(|interface| name(interface));
    for interface in interfaces {
        Namespace { contract: &contract, interface, name: name(interface) }.write(&mut out);
    }
    for (_, world) in &contract.worlds {
        let id = |interface: &Interface| {
            let package = &contract.packages[interface.package?].name;
            Some(format!("\"{}:{}/{}\"", package.namespace, package.name, interface.name.as_deref()?))
        };
        out.line("");
        out.line(
            "/** What a host gives to the component. Some versions of jco want `@` and the version behind a name. */",
        );
        side(&contract, "Imports", &world.imports, id, &mut out);
        out.line("");
        out.line("/** What a host gets of the component. */");
        side(&contract, "Exports", &world.exports, |interface| Some(name(interface)), &mut out);
    }
    out.text
}

/// One side of a world: its interfaces that have functions, by what they are called there.
fn side(
    contract: &Resolve,
    side: &str,
    items: &IndexMap<WorldKey, WorldItem>,
    called: impl Fn(&Interface) -> Option<String>,
    out: &mut Lines,
) {
    out.block(&format!("export interface {side}"), |out| {
        for item in items.values() {
            let WorldItem::Interface { id, .. } = item else { continue };
            let interface = &contract.interfaces[*id];
            if let Some(called) = called(interface).filter(|_| !interface.functions.is_empty()) {
                out.line(&format!("{called}: typeof {};", name(interface)));
            }
        }
    });
}

/// Text, indented.
struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    fn line(&mut self, line: &str) {
        if !line.is_empty() {
            self.text.push_str(&"    ".repeat(self.depth));
            self.text.push_str(line);
        }
        self.text.push('\n');
    }

    fn block(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }

    fn docs(&mut self, docs: &Docs, more: Option<String>) {
        let text = docs.contents.as_deref().unwrap_or_default().trim().replace("*/", "* /");
        let lines: Vec<&str> = text.lines().chain(more.as_deref()).collect();
        match lines[..] {
            [] => {}
            [line] => self.line(&format!("/** {line} */")),
            _ => {
                self.line("/**");
                lines.iter().for_each(|line| self.line(format!(" * {line}").trim_end()));
                self.line(" */");
            }
        }
    }
}

/// An interface, in which its own types have short names.
struct Namespace<'a> {
    contract: &'a Resolve,
    interface: &'a Interface,
    name: String,
}

impl Namespace<'_> {
    fn write(&self, out: &mut Lines) {
        out.line("");
        out.docs(&self.interface.docs, None);
        out.block(&format!("export namespace {}", self.name), |out| {
            for (name, id) in &self.interface.types {
                self.definition(name, &self.contract.types[*id], out);
            }
            for function in self.interface.functions.values() {
                self.function(function, out);
            }
            let end = out.text.trim_end().len() + 1;
            out.text.truncate(end);
        });
    }

    fn definition(&self, name: &str, definition: &TypeDef, out: &mut Lines) {
        let name = pascal(name);
        match &definition.kind {
            // Another interface's, which goes by its name there.
            TypeDefKind::Type(Type::Id(_)) => return,
            TypeDefKind::Record(record) => {
                out.docs(&definition.docs, None);
                out.block(&format!("export interface {name}"), |out| {
                    for field in &record.fields {
                        out.docs(&field.docs, None);
                        let mark = if self.optional(&field.ty).is_some() { "?" } else { "" };
                        let ty = self.optional(&field.ty).unwrap_or(&field.ty);
                        out.line(&format!("{}{mark}: {};", camel(&field.name), self.of(ty)));
                    }
                });
            }
            TypeDefKind::Flags(flags) => {
                out.docs(&definition.docs, None);
                out.block(&format!("export interface {name}"), |out| {
                    for flag in &flags.flags {
                        out.docs(&flag.docs, None);
                        out.line(&format!("{}?: boolean;", camel(&flag.name)));
                    }
                });
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter().map(|case| {
                    let value = case.ty.as_ref().map(|ty| format!("; val: {}", self.of(ty))).unwrap_or_default();
                    (&case.docs, format!("{{ tag: \"{}\"{value} }}", case.name))
                });
                union(&name, definition, cases, out);
            }
            TypeDefKind::Enum(of) => {
                union(&name, definition, of.cases.iter().map(|case| (&case.docs, format!("\"{}\"", case.name))), out);
            }
            kind => {
                out.docs(&definition.docs, None);
                out.line(&format!("export type {name} = {};", self.kind(kind)));
            }
        }
        out.line("");
    }

    fn function(&self, function: &Function, out: &mut Lines) {
        let (result, error) = match function.result.as_ref() {
            None => ("void".to_owned(), None),
            Some(ty) => match self.result(ty) {
                Some((ok, error)) => (self.side(ok), Some(format!("@throws {{{}}}", self.side(error)))),
                None => (self.of(ty), None),
            },
        };
        out.docs(&function.docs, error);
        let of = |ty| self.of(ty);
        let parameters: Vec<_> =
            function.params.iter().map(|each| format!("{}: {}", camel(&each.name), of(&each.ty))).collect();
        out.line(&format!("export function {}({}): {result};", camel(&function.name), parameters.join(", ")));
        out.line("");
    }

    /// A type where it is used.
    fn of(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => "boolean".to_owned(),
            Type::U64 | Type::S64 => "bigint".to_owned(),
            Type::Char | Type::String => "string".to_owned(),
            Type::ErrorContext => unsupported("error-context"),
            Type::Id(id) => self.named(*id),
            _ => "number".to_owned(),
        }
    }

    fn named(&self, id: TypeId) -> String {
        let definition = &self.contract.types[id];
        match (&definition.name, &definition.kind, definition.owner) {
            (_, TypeDefKind::Type(Type::Id(origin)), _) => self.named(*origin),
            (Some(of), _, TypeOwner::Interface(owner)) => {
                let owner = name(&self.contract.interfaces[owner]);
                if owner == self.name { pascal(of) } else { format!("{owner}.{}", pascal(of)) }
            }
            (_, kind, _) => self.kind(kind),
        }
    }

    /// A type without a name.
    fn kind(&self, kind: &TypeDefKind) -> String {
        match kind {
            TypeDefKind::List(Type::U8) => "Uint8Array".to_owned(),
            TypeDefKind::List(Type::U32) => "Uint32Array".to_owned(),
            TypeDefKind::List(Type::F64) => "Float64Array".to_owned(),
            TypeDefKind::List(ty) => format!("Array<{}>", self.of(ty)),
            TypeDefKind::Option(ty) => format!("{} | undefined", self.of(ty)),
            TypeDefKind::Tuple(tuple) => {
                format!("[{}]", tuple.types.iter().map(|ty| self.of(ty)).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(of) => {
                format!("Result<{}, {}>", self.side(of.ok.as_ref()), self.side(of.err.as_ref()))
            }
            TypeDefKind::Type(ty) => self.of(ty),
            other => unsupported(other.as_str()),
        }
    }

    /// One side of a result.
    fn side(&self, ty: Option<&Type>) -> String {
        ty.map_or_else(|| "void".to_owned(), |ty| self.of(ty))
    }

    fn unnamed(&self, ty: &Type) -> Option<&TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        let definition = &self.contract.types[*id];
        definition.name.is_none().then_some(&definition.kind)
    }

    fn optional(&self, ty: &Type) -> Option<&Type> {
        match self.unnamed(ty) {
            Some(TypeDefKind::Option(ty)) => Some(ty),
            _ => None,
        }
    }

    fn result(&self, ty: &Type) -> Option<(Option<&Type>, Option<&Type>)> {
        match self.unnamed(ty) {
            Some(TypeDefKind::Result(of)) => Some((of.ok.as_ref(), of.err.as_ref())),
            _ => None,
        }
    }
}

fn union<'a>(name: &str, definition: &TypeDef, cases: impl Iterator<Item = (&'a Docs, String)>, out: &mut Lines) {
    out.docs(&definition.docs, None);
    out.line(&format!("export type {name} ="));
    out.depth += 1;
    for (docs, case) in cases {
        out.docs(docs, None);
        out.line(&format!("| {case}"));
    }
    out.depth -= 1;
    let end = out.text.trim_end().len();
    out.text.truncate(end);
    out.text.push_str(";\n");
}

fn unsupported(kind: &str) -> String {
    panic!("the contract has a {kind}, for which there is no type of TypeScript here")
}

fn name(interface: &Interface) -> String {
    camel(interface.name.as_deref().expect("a named interface"))
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    words.next().into_iter().map(str::to_owned).chain(words.map(capital)).collect()
}

fn pascal(name: &str) -> String {
    name.split('-').map(capital).collect()
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}
