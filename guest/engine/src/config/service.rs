//! The `redis` block.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_document::{Content, Fields, Node, Path, Reader};

use super::known_fields;
use crate::{redis::Service, value_hash::Codes};

const PORT_STATIC: u16 = 80;
const PORT: u16 = 6_379;
const TIMEOUT_MS: u32 = 1_000;
const TIMEOUT_MS_MAX: u32 = 3_600_000;
const DATABASE_MAX: u32 = i32::MAX as u32;

/// The services of a configuration, each once, in the order of their indices; and where all that hashes values
/// remembers codes.
#[derive(Default)]
pub(super) struct ServiceTable {
    list: Vec<Service>,
    indices: BTreeMap<Service, u32>,
    codes: Codes,
}

impl ServiceTable {
    fn index(&mut self, service: Service) -> u32 {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let index = *self.indices.entry(service.clone()).or_insert(next);
        if index == next {
            self.list.push(service);
        }
        index
    }

    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    pub(super) fn into_vec(self) -> Vec<Service> {
        self.list
    }
}

/// Reads a `redis` block and returns its service's index.
pub(super) fn read(reader: &mut Reader, services: &mut ServiceTable, path: Path<'_>, node: &Node) -> Option<u32> {
    reader.collected(path, node, "an object with `service_name`", Node::members)?;
    let fields = reader.object(path, node, &known_fields::REDIS)?;
    let service_name = service_name(reader, &fields);
    let port = number(reader, &fields, "service_port", u16::MAX);
    let username = text(reader, &fields, "username");
    let password = password(reader, &fields);
    let timeout_ms = number(reader, &fields, "timeout", TIMEOUT_MS_MAX);
    let database = number(reader, &fields, "database", DATABASE_MAX);
    // Only now, so that every mistake is told.
    let (service_name, timeout_ms, database) = (service_name?, timeout_ms?, database?);
    let port = match port? {
        0 if service_name.ends_with(".static") => PORT_STATIC,
        0 => PORT,
        port => port,
    };
    let timeout_ms = if timeout_ms == 0 { TIMEOUT_MS } else { timeout_ms };
    Some(services.index(Service { service_name, port, username: username?, password: password?, timeout_ms, database }))
}

fn service_name(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let Some((path, node)) = fields.get("service_name") else {
        reader.error(
            fields.at("service_name"),
            "is missing: expected the name of a Redis service, such as `redis.static`",
        );
        return None;
    };
    let name = reader.text(path, node)?;
    if name.is_empty() || name.contains(|character: char| character.is_whitespace() || character.is_control()) {
        reader.expected(path, node, "the name of a Redis service, such as `redis.static`");
        return None;
    }
    if name.contains(['/', '@']) {
        reader.error(path, "expected the name of a Redis service, such as `redis.static`, got a URL or a part of one");
        return None;
    }
    Some(name)
}

/// A number from 0 up; absent is 0, as stock has it.
fn number<T: TryFrom<u64> + Into<u64>>(reader: &mut Reader, fields: &Fields<'_>, name: &str, greatest: T) -> Option<T> {
    let number = match fields.get_unless_null(name) {
        Some((path, node)) => reader.whole(path, node, 0..=greatest.into())?,
        None => 0,
    };
    T::try_from(number).ok()
}

fn text(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<String> {
    match fields.get_unless_null(name) {
        Some((path, node)) => reader.text(path, node),
        None => Some(String::new()),
    }
}

/// As [`text`], but no message may show the value.
fn password(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    match fields.get_unless_null("password") {
        Some((path, node)) if matches!(node.content, Content::List(_) | Content::Object(_)) => {
            reader.error(path, "expected a text, got ".to_string() + node.kind());
            None
        }
        _ => text(reader, fields, "password"),
    }
}
