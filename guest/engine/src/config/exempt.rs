//! `exempt`: requests that a policy does not limit.

use alloc::{string::String, vec, vec::Vec};

use slidegate_document::{Fields, Node, Path, Reader, elements, emptiness};

use super::{
    known_fields,
    limit_by::{is_token, networks},
};
use crate::rule::Exempt;

pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>) -> Option<Exempt> {
    let Some((path, node)) = fields.get("exempt") else { return Some(Exempt::default()) };
    let fields = reader.object(path, node, &known_fields::EXEMPT)?;
    if known_fields::EXEMPT.iter().all(|name| fields.get(name).is_none()) {
        reader.error(path, "expected at least one of `routes`, `methods`, `networks` and `headers`");
        return None;
    }
    let routes = texts(reader, &fields, "routes");
    let methods = methods(reader, &fields);
    let networks = match fields.get("networks") {
        Some((path, node)) => networks(reader, path, node),
        None => Some(vec![]),
    };
    let headers = headers(reader, &fields);
    Some(Exempt::new(routes?, methods?, networks?, headers?))
}

fn methods(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<String>> {
    let methods = texts(reader, fields, "methods")?;
    for method in &methods {
        if !is_token(method) {
            reader.error(fields.at("methods"), "expected methods, such as `OPTIONS`");
            return None;
        }
        if method.contains(|character: char| character.is_ascii_lowercase()) {
            reader.warn(
                fields.at("methods"),
                "has small letters: methods are compared as they are sent, in capitals as a rule",
            );
        }
    }
    Some(methods)
}

/// The texts in a field, none of them empty; none at all only if the field is not there.
fn texts(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    match fields.get(name) {
        Some((path, node)) => list(reader, path, node),
        None => Some(vec![]),
    }
}

fn list(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Vec<String>> {
    let mut texts = vec![];
    let mut understood = true;
    for (path, node) in elements(&path, node) {
        let text = reader.text(path, node);
        if text.as_ref().is_some_and(String::is_empty) {
            reader.error(path, "expected a text, got an empty one");
        }
        let text = text.filter(|text| !text.is_empty());
        understood &= text.is_some();
        texts.extend(text);
    }
    if texts.is_empty() && understood {
        reader.error(path, format_args!("expected at least one text, got {}", emptiness(node)));
        return None;
    }
    understood.then_some(texts)
}

/// Names in lower case, each with the values that will do. Values may be secrets: no message shows one.
fn headers(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let Some((path, node)) = fields.get("headers") else { return Some(vec![]) };
    let what = "an object of header names and the values that are exempt, `*` for any";
    let given = reader.collected(path, node, what, Node::members)?;
    let mut headers = vec![];
    let mut understood = !given.is_empty();
    if given.is_empty() {
        reader.error(path, "expected at least one header");
    }
    for member in given {
        let shown = member.shown_name();
        let field = Path::Field(&path, &shown);
        let lower = member.name.to_ascii_lowercase();
        if !is_token(&lower) {
            reader.error(field, "expected the name of a header: letters, digits and !#$%&'*+-.^_`|~");
            understood = false;
            continue;
        }
        match list(reader, field, &member.value) {
            Some(values) => headers.push((lower, values)),
            None => understood = false,
        }
    }
    understood.then_some(headers)
}
