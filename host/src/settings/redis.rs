//! `redis`: where the Redis services are that the filter calls by name. One Redis for all of them, or `names` with one for each; a URL,
//! or an object of a URL and what it has no room for.

mod entry;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

pub(crate) use self::entry::RedisEntry;
use super::fields::{Fields, Mistake, unexpected};

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

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let names: BTreeMap<&str, Value> = self.names.iter().map(|(name, entry)| (name.as_str(), entry.shown())).collect();
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
pub(super) fn read(fields: &mut Fields<'_>, folder: &Path, mistakes: &mut Vec<Mistake>) -> RedisSettings {
    let path = fields.path_of("redis");
    match fields.value("redis") {
        None => RedisSettings::default(),
        Some(Value::String(url)) => RedisSettings { any: Some(RedisEntry::of_url(path, url)), ..RedisSettings::default() },
        Some(value @ Value::Object(_)) => {
            Fields::of(&path, value, mistakes).map(|fields| read_fields(fields, folder, mistakes)).unwrap_or_default()
        }
        Some(value) => {
            mistakes.push(unexpected(&path, value, "a URL such as `redis://127.0.0.1:6379`, or an object with `names` or `url` in it"));
            RedisSettings::default()
        }
    }
}

fn read_fields(mut redis: Fields<'_>, folder: &Path, mistakes: &mut Vec<Mistake>) -> RedisSettings {
    let path = redis.path_of("names");
    let given = redis.read("names", "an object of service names and their URLs", mistakes, Value::as_object);
    let required = redis.switch("required", mistakes).unwrap_or_default();
    let any = RedisEntry::read(&mut redis, false, folder, mistakes);
    redis.finish(mistakes);
    let mut names = BTreeMap::new();
    for (name, value) in given.into_iter().flatten() {
        let path = format!("{path}.{name}");
        let entry = match value {
            Value::String(url) => Some(RedisEntry::of_url(path, url)),
            Value::Object(_) => Fields::of(&path, value, mistakes).and_then(|mut fields| {
                let entry = RedisEntry::read(&mut fields, true, folder, mistakes);
                fields.finish(mistakes);
                entry
            }),
            _ => {
                let expected = "a URL such as `redis://127.0.0.1:6379`, or an object with `url` in it";
                mistakes.push(unexpected(&path, value, expected));
                None
            }
        };
        names.extend(entry.map(|entry| (name.clone(), entry)));
    }
    RedisSettings { any, names, required }
}

#[cfg(test)]
mod tests;
