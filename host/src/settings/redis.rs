//! `redis`: where the Redis services are that the filter calls by name. One Redis for all of them, or `names` with one
//! for each; a URL, or an object of a URL and what it has no room for.

mod entry;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use slidegate::{RedisDirectory, RedisService};
use slidegate_document::{Content, Fields, Node, Path as FieldPath, Reader};

pub(crate) use self::entry::RedisEntry;
use super::mistake::Mistake;
use super::named_file::NamedFile;
use super::words;

/// Whether a document gives one Redis for every service, however wrong.
pub(super) fn names_any(document: &Node) -> bool {
    document.get("redis").is_some_and(|redis| redis.as_str().is_some() || redis.get("url").is_some())
}

/// What the file says of Redis.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RedisSettings {
    /// The one for every name that has none of its own.
    pub(crate) any: Option<RedisEntry>,
    pub(crate) names: BTreeMap<String, RedisEntry>,
    /// Whether there is no start, and no reload, unless each service of the filter can be used.
    pub(crate) required: bool,
}

impl RedisSettings {
    /// Whether both lead to the same places.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.any == other.any && self.names == other.names
    }

    /// What is said of a service.
    pub(super) fn entry(&self, service: &RedisService) -> Option<&RedisEntry> {
        let (name, port) = (&service.service_name, service.port);
        self.names.get(&format!("{name}:{port}")).or_else(|| self.names.get(name)).or(self.any.as_ref())
    }

    /// What the library refuses of what is said of any Redis, where these mistakes tell of nothing.
    pub(super) fn unusable(&self, mistakes: &[Mistake]) -> Vec<Mistake> {
        let is_told = |entry: &&RedisEntry| mistakes.iter().any(|mistake| mistake.path.starts_with(entry.path()));
        let refused = |entry: &RedisEntry| RedisDirectory::new().insert_any(entry.access.clone()).err();
        let others = self.entries().filter(|entry| !is_told(entry));
        others.filter_map(|entry| Some(entry.mistake(&refused(entry)?))).collect()
    }

    /// The files that they name.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.entries().flat_map(RedisEntry::named_files)
    }

    /// All that is said of any Redis.
    pub(super) fn entries(&self) -> impl Iterator<Item = &RedisEntry> {
        self.any.iter().chain(self.names.values())
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let names: BTreeMap<&str, Value> =
            self.names.iter().map(|(name, entry)| (name.as_str(), entry.shown())).collect();
        let mut shown = json!({"names": names, "required": self.required});
        match self.any.as_ref().map(RedisEntry::shown) {
            Some(Value::Object(fields)) => fields.into_iter().for_each(|(field, value)| shown[field] = value),
            Some(url) => shown["url"] = url,
            None => {}
        }
        shown
    }
}

/// Reads the field `redis`. Paths of files are relative to this folder.
pub(super) fn read(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> RedisSettings {
    let Some((path, node)) = top.get_unless_null("redis") else { return RedisSettings::default() };
    match &node.content {
        Content::Text(url) => RedisSettings { any: Some(RedisEntry::of_url(path, url)), ..RedisSettings::default() },
        Content::Object(_) => {
            let known: Vec<&str> = words::REDIS.into_iter().chain(words::REDIS_ACCESS).collect();
            reader.object(path, node, &known).map(|fields| read_fields(reader, &fields, folder)).unwrap_or_default()
        }
        _ => {
            reader.expected(
                path,
                node,
                "a URL such as `redis://127.0.0.1:6379`, or an object with `names` or `url` in it",
            );
            RedisSettings::default()
        }
    }
}

fn read_fields(reader: &mut Reader, redis: &Fields<'_>, folder: &Path) -> RedisSettings {
    let required = reader.field(redis, "required", Reader::boolean).unwrap_or_default();
    let any = RedisEntry::read(reader, redis, false, folder);
    let mut names = BTreeMap::new();
    if let Some((path, node)) = redis.get_unless_null("names") {
        let given = reader.collected(path, node, "an object of service names and their URLs", Node::members);
        for member in given.into_iter().flatten() {
            let shown = member.shown_name();
            let path = FieldPath::Field(&path, &shown);
            names.extend(named(reader, path, &member.value, folder).map(|entry| (member.name.clone(), entry)));
        }
    }
    RedisSettings { any, names, required }
}

fn named(reader: &mut Reader, path: FieldPath<'_>, node: &Node, folder: &Path) -> Option<RedisEntry> {
    match &node.content {
        Content::Text(url) => Some(RedisEntry::of_url(path, url)),
        Content::Object(_) => {
            let fields = reader.object(path, node, &words::REDIS_ACCESS)?;
            RedisEntry::read(reader, &fields, true, folder)
        }
        _ => {
            reader.expected(path, node, "a URL such as `redis://127.0.0.1:6379`, or an object with `url` in it");
            None
        }
    }
}

#[cfg(test)]
mod tests;
