//! One filter: `_rules_`, and beside them the configuration for the other requests.

use alloc::vec::Vec;

use slidegate_document::{Fields, Node, Path, Reader, elements};

use super::{filter_rules::ToldFields, known_fields, policy, scope, service::ServiceTable, shared::SharedCounters};
use crate::rule::{Policy, Ruleset, Scope};

/// Of these at least one stands at the top if that is meant to be a limiter.
const LIMITER: [&str; 3] = ["rule_name", "global_threshold", "rule_items"];

/// Reads the document of a filter, which stands at this path and may have these fields; what could not be understood is
/// reported and missing in the result.
pub(super) fn read(
    reader: &mut Reader,
    services: &mut ServiceTable,
    shared: &mut SharedCounters,
    told: &ToldFields,
    path: Path<'_>,
    document: &Node,
    known: &[&str],
) -> Ruleset {
    let Some(fields) = reader.object(path, document, known) else { return Ruleset::default() };
    let fallback = fallback(reader, services, told, &fields);
    let scoped = scoped(reader, services, shared, told, &fields);
    match &fallback {
        Some(policy) => shared.note(reader, path, policy),
        None if !scoped.is_empty() => reader.warn(
            path,
            "a request that no element of `_rules_` is for passes without a limit: to limit it too, put `rule_name` \
             and limits beside `_rules_`",
        ),
        None => {}
    }
    Ruleset { scoped, fallback }
}

/// The top level's own policy. It is a configuration like the others and gives them nothing.
fn fallback(
    reader: &mut Reader,
    services: &mut ServiceTable,
    told: &ToldFields,
    fields: &Fields<'_>,
) -> Option<Policy> {
    let has_rules = fields.get("_rules_").is_some_and(|(path, node)| elements(&path, node).next().is_some());
    let has_own = fields.names().any(|name| !known_fields::DOCUMENT.contains(&name));
    let is_limiter = fields.names().any(|name| LIMITER.contains(&name));
    if !has_own && !has_rules {
        reader
            .error(fields.path, "nothing is configured: expected `rule_name`, and `global_threshold` or `rule_items`");
        return None;
    }
    if has_rules && !is_limiter {
        if has_own {
            reader.warn(
                fields.path,
                "what stands beside `_rules_` is no configuration without a `rule_name` and is \
                                      not looked at: the elements of `_rules_` inherit nothing",
            );
        }
        return None;
    }
    policy::read(reader, services, told, fields)
}

fn scoped(
    reader: &mut Reader,
    services: &mut ServiceTable,
    shared: &mut SharedCounters,
    told: &ToldFields,
    fields: &Fields<'_>,
) -> Vec<(Scope, Policy)> {
    let Some((path, node)) = fields.get("_rules_") else { return Vec::new() };
    let known: Vec<&str> = known_fields::SCOPE.into_iter().chain(known_fields::POLICY).collect();
    let rule = |(path, node)| {
        let fields = reader.object(path, node, &known)?;
        let scope = scope::read(reader, &fields);
        let policy = policy::read(reader, services, told, &fields);
        if let Some(policy) = &policy {
            shared.note(reader, path, policy);
        }
        scope.zip(policy)
    };
    elements(&path, node).filter_map(rule).collect()
}
