//! `_match_*`: which requests an element of `_rules_` is for.

use alloc::{format, string::String, vec::Vec};

use slidegate_document::{Fields, Reader, elements};

use super::known_fields;
use crate::rule::Scope;

/// The scope that the fields make. A route wins over a domain, that over a service, that over a prefix, as in stock;
/// what loses is told.
pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>) -> Option<Scope> {
    let [route, domain, service, prefix] = known_fields::SCOPE.map(|name| names(reader, fields, name));
    let (route, domain, service, prefix) = (route?, domain?, service?, prefix?);
    let given = [!route.is_empty(), !domain.is_empty(), !service.is_empty(), !prefix.is_empty()];
    let (scope, read) = match given {
        [true, _, true, _] => (Scope::RouteAndService(route, service), [true, false, true, false]),
        [true, ..] => (Scope::Route(route), [true, false, false, false]),
        [_, true, ..] => (Scope::Domain(domain), [false, true, false, false]),
        [_, _, true, _] => (Scope::Service(service), [false, false, true, false]),
        [.., true] => (Scope::RoutePrefix(prefix), [false, false, false, true]),
        [false, false, false, false] => {
            reader.error(
                fields.path,
                format!("expected at least one of `{}`, not empty", known_fields::SCOPE.join("`, `")),
            );
            return None;
        }
    };
    for ((name, given), read) in known_fields::SCOPE.into_iter().zip(given).zip(read) {
        if given && !read {
            reader.warn(fields.at(name), "is not looked at, because of the other `_match_*` beside it");
        }
    }
    Some(scope)
}

/// The names in a field. Empty ones are dropped but for domains, where one matches a request without a host's name.
fn names(reader: &mut Reader, fields: &Fields<'_>, field: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut understood = true;
    let Some((path, node)) = fields.get(field) else { return Some(names) };
    for (path, node) in elements(&path, node) {
        match reader.text(path, node) {
            Some(name) if name.is_empty() && field != "_match_domain_" => {
                reader.warn(path, "is empty and therefore not looked at");
            }
            Some(name) => {
                if field == "_match_domain_"
                    && (name.contains('/') || (name.contains(':') && !name.contains(['[', '*'])))
                {
                    reader.warn(path, "is met by no host: expected a name without scheme, port and path");
                }
                names.push(name);
            }
            None => understood = false,
        }
    }
    understood.then_some(names)
}
