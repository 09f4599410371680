//! The whole document: that of one filter, or a list of those of several.

use alloc::{vec, vec::Vec};

use slidegate_document::{Content, Node, Path, Reader, elements, emptiness};

use super::{known_fields, ruleset, service::ServiceTable, shared::SharedCounters};
use crate::rule::Ruleset;

const FILTERS: &str = known_fields::CHAIN[0];

/// Whether a document is a list of filters.
pub(super) fn is_list(document: &Node) -> bool {
    document.get(FILTERS).is_some()
}

/// Reads a document; what could not be understood is reported and missing in the result.
pub(super) fn read(reader: &mut Reader, services: &mut ServiceTable, document: &Node) -> Vec<Ruleset> {
    let mut shared = SharedCounters::default();
    if !is_list(document) {
        let known: Vec<&str> =
            known_fields::POLICY.into_iter().chain(known_fields::DOCUMENT).chain(known_fields::CHAIN).collect();
        return vec![ruleset::read(reader, services, &mut shared, Path::Root, document, &known)];
    }
    let known: Vec<&str> =
        known_fields::CHAIN.into_iter().chain(known_fields::DOCUMENT).chain(known_fields::POLICY).collect();
    let Some(fields) = reader.object(Path::Root, document, &known) else { return Vec::new() };
    let of_a_filter = |name: &&str| *name == "_rules_" || known_fields::POLICY.contains(name);
    for name in fields.names().filter(of_a_filter) {
        reader.error(fields.at(name), format_args!("stands beside `{FILTERS}`: expected it in one of these filters"));
    }
    let Some((path, node)) = fields.get(FILTERS) else { return Vec::new() };
    if !matches!(&node.content, Content::List(filters) if !filters.is_empty()) {
        reader.error(path, format_args!("expected an array of at least one filter, got {}", emptiness(node)));
        return Vec::new();
    }
    let known: Vec<&str> = known_fields::POLICY.into_iter().chain(known_fields::DOCUMENT).collect();
    let filter = |(path, node)| {
        shared.begin_filter();
        ruleset::read(reader, services, &mut shared, path, node, &known)
    };
    elements(&path, node).map(filter).collect()
}
