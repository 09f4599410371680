//! `cookie_vault`: a filter that keeps values of cookies.

use alloc::{string::String, vec::Vec};

use slidegate_document::{Fields, Node, Path, Reader, elements};

use super::{
    known_fields,
    limit_by::cookie_name,
    service::{self, ServiceTable},
    session::{fails_open, secret_list},
};
use crate::vault_rules::VaultRules;

/// How many cookies a vault may keep.
const COOKIES_MAX: usize = 16;

/// What keys begin with, and how long a value is kept, in microseconds, unless said otherwise; and the longest.
const KEY_PREFIX: &str = "slidegate:vault:";
const KEEP_US: u64 = 24 * 3_600_000_000;
const KEEP_US_MAX: u64 = 400 * 24 * 3_600_000_000;

/// Reads what stands in `cookie_vault`.
pub(super) fn read(
    reader: &mut Reader,
    services: &mut ServiceTable,
    path: Path<'_>,
    node: &Node,
) -> Option<VaultRules> {
    let given = reader.object(path, node, &known_fields::VAULT)?;
    let cookies = cookies(reader, &given);
    let secrets = match given.get_unless_null("secrets") {
        Some((path, node)) => secret_list(reader, path, node),
        None => {
            reader.error(
                given.at("secrets"),
                "is missing: expected what ids are made with, or a list with its older secrets",
            );
            None
        }
    };
    let key_prefix = match given.get_unless_null("key_prefix") {
        Some((path, node)) => reader.text(path, node).filter(|prefix| {
            if prefix.is_empty() {
                reader.error(path, "expected what the keys of values begin with, got an empty text");
            }
            !prefix.is_empty()
        }),
        None => Some(String::from(KEY_PREFIX)),
    };
    let keep_us = match given.get_unless_null("keep") {
        Some((path, node)) => reader.lasting_us(path, node, KEEP_US_MAX),
        None => Some(KEEP_US),
    };
    let fails_open = fails_open(reader, &given);
    let redis = match given.get_unless_null("redis") {
        Some((path, node)) => service::read(reader, services, path, node),
        None => {
            reader.error(given.at("redis"), "is missing: expected where values are kept");
            None
        }
    };
    Some(VaultRules {
        cookies: cookies?,
        secrets: secrets?,
        key_prefix: key_prefix?,
        keep_ms: keep_us? / 1_000,
        fails_open: fails_open?.unwrap_or(true),
        redis: redis?,
    })
}

fn cookies(reader: &mut Reader, given: &Fields<'_>) -> Option<Vec<String>> {
    let Some((path, node)) = given.get_unless_null("cookies") else {
        reader.error(given.at("cookies"), "is missing: expected the names of cookies, such as `id_token`");
        return None;
    };
    let (mut names, mut is_understood) = (Vec::new(), true);
    for (path, node) in elements(&path, node) {
        match reader.text(path, node).and_then(|name| cookie_name(reader, path, node, &name)) {
            Some(name) if names.contains(&name) => {
                reader.error(path, format_args!("stands there before: expected `{name}` once"));
                is_understood = false;
            }
            Some(name) => names.push(name),
            None => is_understood = false,
        }
    }
    if is_understood && !(1..=COOKIES_MAX).contains(&names.len()) {
        reader.error(path, format_args!("expected 1 to {COOKIES_MAX} names of cookies, got {}", names.len()));
        return None;
    }
    is_understood.then_some(names)
}
