//! What may be written, as a JSON Schema (draft 2020-12) made of the table of all fields; and as the form that Higress'
//! console shows.

mod console;

use alloc::{borrow::ToOwned, collections::BTreeMap, format, string::String, vec, vec::Vec};

use serde_json::{Map, Value, json};

pub use self::console::console;
use crate::table::{Condition, Field, Shape, Table, cache, chain, filter, gateway, limit_tests, session, vault};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A text in which a variable stands, whose value no schema knows.
const VARIABLE: &str = "\\$\\{";

/// The schema of the gateway's file.
///
/// ```
/// let schema = slidegate_document::schema::gateway();
/// assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
/// ```
pub fn gateway() -> Value {
    let mut generator = Generator { has_variables: true, definitions: BTreeMap::new() };
    let root = generator.object(&gateway::GATEWAY);
    // What a file in JSON tells editors of itself.
    if let Some(file) = generator.definitions.get_mut(gateway::GATEWAY.name) {
        file["properties"]["$schema"] = json!({"type": "string"});
    }
    generator.document("A file of Slidegate's gateway", root)
}

/// The schema of a filter's document, as a component or a plugin gets it.
pub fn filter() -> Value {
    let mut generator = Generator { has_variables: false, definitions: BTreeMap::new() };
    let root = generator.one_or_list();
    generator.document("A configuration of Slidegate's filter", root)
}

/// The schema of a file with tests of limits.
pub fn limit_tests() -> Value {
    let mut generator = Generator { has_variables: false, definitions: BTreeMap::new() };
    let root = generator.object(&limit_tests::LIMIT_TESTS);
    generator.document("Tests of limits, for `slidegate test`", root)
}

/// The schema of a resource that carries such documents to Higress.
pub fn wasm_plugin() -> Value {
    let mut generator = Generator { has_variables: false, definitions: BTreeMap::new() };
    let whole = generator.one_or_list();
    let policy = generator.object(&filter::POLICY_OBJECT);
    let names = json!({"type": "array", "items": {"type": "string"}});
    let disabled = |field: &str| json!({"required": [field], "properties": {field: {"const": true}}});
    let matches = ["ingress", "domain", "service"]
        .map(|field| json!({"required": [field], "properties": {field: {"minItems": 1}}}));
    // Where nothing else stands, only its rules count.
    let default = json!({"anyOf": [whole, {"maxProperties": 0}, {"type": "null"}]});
    let rule = json!({
        "type": "object",
        "properties": {
            "ingress": names, "domain": names, "service": names,
            "config": {"type": ["object", "null"]},
            "configDisable": {"type": "boolean"},
        },
        "if": disabled("configDisable"),
        "else": {
            "properties": {"config": policy},
            "required": ["config"],
            "anyOf": matches,
        },
    });
    let root = json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "pattern": "^extensions\\.(higress|istio)\\.io/"},
            "kind": {"const": "WasmPlugin"},
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "properties": {
                    "url": {"type": "string"},
                    "defaultConfig": {},
                    "defaultConfigDisable": {"type": "boolean"},
                    "matchRules": {"type": "array", "items": rule},
                    "pluginConfig": {"anyOf": [whole, {"type": "null"}]},
                },
                "if": disabled("defaultConfigDisable"),
                "else": {"properties": {"defaultConfig": default}},
            },
        },
    });
    generator.document("A WasmPlugin of Higress with Slidegate's filter", root)
}

struct Generator {
    /// Whether any text may be a variable.
    has_variables: bool,
    definitions: BTreeMap<&'static str, Value>,
}

impl Generator {
    fn document(self, title: &str, root: Value) -> Value {
        let mut document = json!({"$schema": DRAFT, "title": title});
        let parts = [root, json!({"$defs": self.definitions})];
        for (name, value) in parts
            .into_iter()
            .filter_map(|part| if let Value::Object(part) = part { Some(part) } else { None })
            .flatten()
        {
            document[name] = value;
        }
        document
    }

    /// One filter, or a list of them.
    fn one_or_list(&mut self) -> Value {
        let kinds = [
            ("cache", &cache::FILTER_OBJECT),
            ("cookie_vault", &vault::FILTER_OBJECT),
            ("session", &session::FILTER_OBJECT),
        ];
        let limits = self.object(&filter::FILTER);
        let one = kinds.into_iter().fold(
            limits,
            |others, (field, table)| json!({"if": {"required": [field]}, "then": self.object(table), "else": others}),
        );
        json!({"if": {"required": ["filters"]}, "then": self.object(&chain::CHAIN), "else": one})
    }

    /// A reference to an object, which is defined.
    fn object(&mut self, table: &'static Table) -> Value {
        if !self.definitions.contains_key(table.name) {
            // So that nobody else defines it meanwhile.
            self.definitions.insert(table.name, Value::Null);
            let definition = self.definition(table);
            self.definitions.insert(table.name, definition);
        }
        json!({"$ref": format!("#/$defs/{}", table.name)})
    }

    fn definition(&mut self, table: &'static Table) -> Value {
        let properties: Map<String, Value> = table
            .fields()
            .map(|field| (field.name.to_owned(), self.field(field, table.null_is_nothing && !field.is_required)))
            .collect();
        let mut definition = json!({"type": "object", "properties": properties, "additionalProperties": false});
        let is_unless_list = |condition: &Condition| matches!(condition, Condition::UnlessList(..));
        let required = table.fields().filter(|field| field.is_required).map(|field| field.name);
        let required: Vec<&str> = required.filter(|_| !table.conditions.iter().any(is_unless_list)).collect();
        if !required.is_empty() {
            definition["required"] = json!(required);
        }
        let conditions: Vec<Value> =
            table.conditions.iter().flat_map(|condition| conditions(condition, table.null_is_nothing)).collect();
        if !conditions.is_empty() {
            definition["allOf"] = Value::from(conditions);
        }
        definition
    }

    fn field(&mut self, field: &'static Field, may_be_null: bool) -> Value {
        let mut alternatives = self.alternatives(&field.value);
        if may_be_null {
            alternatives.push(json!({"type": "null"}));
        }
        let mut schema = any_of(alternatives);
        schema["title"] = Value::from(field.titles[0]);
        schema["description"] = Value::from(if field.default.is_empty() {
            field.plain_doc()
        } else if field.is_required {
            format!("{} (required)", field.plain_doc())
        } else {
            format!("{} (default: {})", field.plain_doc(), field.default)
        });
        schema
    }

    fn shape(&mut self, shape: &'static Shape) -> Value {
        any_of(self.alternatives(shape))
    }

    fn alternatives(&mut self, shape: &'static Shape) -> Vec<Value> {
        let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
        let mut alternatives = match shape {
            Shape::Any => return vec![json!({})],
            Shape::Text => return vec![json!({"type": ["string", "number", "boolean"]})],
            Shape::Form(pattern) => {
                vec![
                    json!({"type": "string", "pattern": pattern, "minLength": 1}),
                    json!({"type": ["number", "boolean"]}),
                ]
            }
            Shape::Flag => {
                vec![
                    json!({"type": "boolean"}),
                    json!({"enum": [0, 1]}),
                    text("^([Tt]([Rr][Uu][Ee])?|[Ff]([Aa][Ll][Ss][Ee])?|[01](\\.0+)?)$"),
                ]
            }
            Shape::Whole(0, 0) => vec![json!({"const": 0})],
            Shape::Whole(least, greatest) => vec![
                json!({"type": "integer", "minimum": least, "maximum": greatest}),
                text(if *least == 0 { "^[0-9]+(\\.0+)?$" } else { "^0*[1-9][0-9]*(\\.0+)?$" }),
            ],
            Shape::Share => vec![
                json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
                text("^\\+?([0-9]*\\.?[0-9]+|[0-9]+\\.)([eE][+-]?[0-9]+)?$"),
            ],
            Shape::Weight => vec![
                json!({"type": "number", "minimum": 0, "maximum": 1_000_000}),
                text("^\\+?([0-9]*\\.?[0-9]+|[0-9]+\\.)([eE][+-]?[0-9]+)?$"),
            ],
            Shape::Choice(words) => vec![json!({"enum": words})],
            Shape::File | Shape::RedisUrl | Shape::Pattern("^") => return vec![json!({"type": "string"})],
            Shape::Pattern(pattern) => vec![text(pattern)],
            Shape::Either(shapes) => return shapes.iter().flat_map(|shape| self.alternatives(shape)).collect(),
            Shape::Optional(shape) => {
                let mut alternatives = self.alternatives(shape);
                alternatives.push(json!({"type": "null"}));
                return alternatives;
            }
            Shape::List(shape, least) => return vec![list(self.shape(shape), *least)],
            Shape::Some(shape, least) => {
                let mut alternatives = self.alternatives(shape);
                alternatives.push(list(self.shape(shape), *least));
                return alternatives;
            }
            Shape::Map(names, shape, least) => {
                let mut map = json!({"type": "object", "additionalProperties": self.shape(shape)});
                if *names != "^" {
                    map["propertyNames"] = json!({"pattern": names});
                }
                if *least > 0 {
                    map["minProperties"] = json!(least);
                }
                return vec![map];
            }
            Shape::Object(table) => return vec![self.object(table)],
        };
        if self.has_variables {
            alternatives.push(text(VARIABLE));
        }
        alternatives
    }
}

fn list(items: Value, least: usize) -> Value {
    let mut list = json!({"type": "array", "items": items});
    if least > 0 {
        list["minItems"] = json!(least);
    }
    list
}

fn any_of(mut alternatives: Vec<Value>) -> Value {
    match alternatives.len() {
        1 => alternatives.remove(0),
        _ => json!({"anyOf": alternatives}),
    }
}

/// An object that has all of these, and not as null if that is nothing.
fn has(names: &[&str], null_is_nothing: bool) -> Value {
    let mut has = json!({"required": names});
    if null_is_nothing {
        has["properties"] = names.iter().map(|name| ((*name).to_owned(), json!({"not": {"type": "null"}}))).collect();
    }
    has
}

fn conditions(condition: &Condition, null_is_nothing: bool) -> Vec<Value> {
    let has = |names: &[&str]| has(names, null_is_nothing);
    let any_set = |sets: &[&[&str]]| json!({"anyOf": sets.iter().map(|set| has(set)).collect::<Vec<_>>()});
    match condition {
        Condition::AnyOf(sets) => vec![any_set(sets)],
        Condition::OneOf(by_value, by_presence) => {
            let by_value = by_value
                .iter()
                .map(|name| json!({"required": [name], "properties": {*name: {"not": {"enum": [null, ""]}}}}));
            let alternatives: Vec<Value> = by_value.chain(by_presence.iter().map(|name| has(&[name]))).collect();
            vec![json!({"oneOf": alternatives})]
        }
        Condition::AtMostOne(names) => {
            let pairs =
                names.iter().enumerate().flat_map(|(at, one)| names[at + 1..].iter().map(move |other| [*one, *other]));
            pairs.map(|pair| json!({"not": has(&pair)})).collect()
        }
        Condition::Needs(one, other) => vec![json!({"dependentRequired": {*one: [other]}})],
        Condition::Distinct(list) => vec![json!({"properties": {*list: {"uniqueItems": true}}})],
        Condition::NotNull(field) => vec![json!({"properties": {*field: {"not": {"type": "null"}}}})],
        Condition::NeedsAny(one, others) => {
            let any: Vec<Value> = others.iter().map(|other| has(&[other])).collect();
            vec![json!({"if": {"required": [one]}, "then": {"anyOf": any}})]
        }
        Condition::NotEmpty => vec![json!({"minProperties": 1})],
        Condition::UnlessFlag(flag, sets) => {
            let is_true = json!({"anyOf": [{"enum": [true, 1]},
                {"type": "string", "pattern": "^([Tt]([Rr][Uu][Ee])?|1(\\.0+)?)$"}]});
            let fields: Vec<Value> = sets.iter().copied().flatten().map(|name| has(&[name])).collect();
            vec![json!({
                "if": {"required": [flag], "properties": {*flag: is_true}},
                "then": {"not": {"anyOf": fields}},
                "else": any_set(sets),
            })]
        }
        Condition::UnlessList(field, others, sets) => {
            let is_full = json!({"anyOf": [{"type": "array", "minItems": 1}, {"type": "object"}]});
            let others: Vec<Value> = others.iter().map(|name| has(&[name])).collect();
            vec![json!({
                "if": {"required": [field], "properties": {*field: is_full}, "not": {"anyOf": others}},
                "else": any_set(sets),
            })]
        }
    }
}
