//! Where the project's documents and configurations are, and what of them is made of the table of all fields.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use slidegate_document::{
    schema,
    table::{Field, Shape, Table, cache, filter, gateway, limit, limit_tests, session, tokens, vault},
};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file of the workspace.
///
/// # Panics
/// When it cannot be read.
pub fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The YAML files of a folder, and of those in it, with their texts.
///
/// # Panics
/// When one cannot be read.
pub fn yaml_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    for entry in entries {
        let entry = entry.expect("a folder can be read");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(yaml_files(&path));
        } else if path.ends_with(".yaml") {
            let text = text(&path);
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// What a YAML text says.
///
/// # Panics
/// When it is none.
pub fn parsed(name: &str, yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The blocks of YAML in a document.
pub fn yaml_blocks(path: &str) -> Vec<(String, Value)> {
    let text = text(path);
    let blocks = text.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block);
    blocks.enumerate().map(|(index, block)| (format!("{path}, block {}", index + 1), parsed(path, block))).collect()
}

/// The form that Higress' console shows, as the file beside the plugin has it.
///
/// # Panics
/// Never: it can be written as YAML.
pub fn console_form() -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let form = serde_saphyr::to_string_with_options(&schema::console(), options).expect("a form can be written");
    format!("# Made of the table of all fields by `just docs`.\n{form}")
}

/// A table of fields in Markdown, by the name that its place in a document is marked with.
pub fn markdown(name: &str) -> Option<String> {
    let (is_source, is_rest) =
        (|field: &&Field| field.name.starts_with("limit_by_"), |field: &&Field| !field.name.starts_with("limit_by_"));
    let of_tokens = || tokens::TERMS.iter().chain(&tokens::FORMAT);
    let is_general = |field: &&Field| of_tokens().all(|other| other.name != field.name);
    Some(match name {
        "policy" => rows(filter::POLICY.iter().filter(is_general)),
        "document" => rows(&filter::DOCUMENT),
        "scope" => rows(&filter::SCOPE),
        "source" => counted_by(filter::RULE_ITEM.iter().filter(is_source)),
        "rule_item" => rows(filter::RULE_ITEM.iter().filter(is_rest).filter(is_general)),
        "tokens" => rows(of_tokens()),
        "key" => rows(&limit::KEY),
        "limit" => rows(&limit::LIMIT),
        "session" => rows(&session::SESSION),
        "vault" => rows(&vault::VAULT),
        "cache" => {
            let parts = [("key.", &cache::KEY[..]), ("key.group.", &cache::GROUP), ("fallback.", &cache::FALLBACK)];
            let nested = parts.iter().flat_map(|(beginning, fields)| fields.iter().map(|field| row(beginning, field)));
            let rows = cache::CACHE.iter().map(|field| row("", field)).chain(nested).collect();
            table(&["field", "value", "default"], rows)
        }
        "redis" => rows(&filter::REDIS),
        "exempt" => rows(&filter::EXEMPT),
        "gateway" => table(&["field", "value", "default"], nested("", &gateway::GATEWAY)),
        "limit_tests" => table(&["field", "value", "default"], nested("", &limit_tests::LIMIT_TESTS)),
        _ => return None,
    })
}

fn rows<'f>(fields: impl IntoIterator<Item = &'f Field>) -> String {
    table(&["field", "value", "default"], fields.into_iter().map(|field| row("", field)).collect())
}

fn counted_by<'f>(fields: impl Iterator<Item = &'f Field>) -> String {
    table(
        &["field", "counts by"],
        fields.map(|field| vec![format!("`{}`", field.name), field.doc.to_owned()]).collect(),
    )
}

fn row(beginning: &str, field: &Field) -> Vec<String> {
    let mark = if field.is_stock { "" } else { " ⁺" };
    vec![format!("`{beginning}{}`{mark}", field.name), field.doc.to_owned(), field.default.to_owned()]
}

/// The fields of the gateway's own objects, each behind the field that it is in.
fn nested(beginning: &str, table: &'static Table) -> Vec<Vec<String>> {
    let inner = |field: &'static Field| match &field.value {
        Shape::Object(table) => nested(&format!("{beginning}{}.", field.name), table),
        // A filter has tables of its own.
        Shape::List(Shape::Object(table), _) if ["route", "limit_test", "limit_test_step"].contains(&table.name) => {
            nested(&format!("{beginning}{}[].", field.name), table)
        }
        Shape::Either([_, Shape::Object(table)])
            if ["admin", "redis_addresses", "limit_test_expectation"].contains(&table.name) =>
        {
            nested(&format!("{beginning}{}.", field.name), table)
        }
        _ => Vec::new(),
    };
    table.fields().flat_map(|field| std::iter::once(row(beginning, field)).chain(inner(field))).collect()
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: Vec<String>| {
        format!(
            "|{}\n",
            cells
                .iter()
                .map(|cell| if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") })
                .collect::<String>()
        )
    };
    let rule = line(head.iter().map(|_| "---".to_owned()).collect());
    let head = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    [head, rule].into_iter().chain(rows.into_iter().map(line)).collect()
}

/// A document with the tables that its marks name, as they are now.
///
/// # Panics
/// When a mark names no table, or has no end.
pub fn with_tables(text: &str) -> String {
    const MARK: &str = "<!-- fields: ";
    const END: &str = "<!-- end -->";
    let mut parts = text.split(MARK);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").expect("a mark is closed");
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("the table `{name}` has no end"));
        let table = markdown(name).unwrap_or_else(|| panic!("there is no table `{name}`"));
        made += &format!("{MARK}{name} -->\n{table}{END}{rest}");
    }
    made
}
