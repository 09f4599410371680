//! `redis.names`: where the Redis services are that the filter calls by name. A URL, or a mapping of a URL and what it has no room for.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use slidegate::{RedisAccess, RedisAccessError};

use super::fields::quoted;
use super::fields::{Fields, Mistake, unexpected};
use super::file::{self, Occasion};
use super::secret::{HIDDEN, is_secret_name, url_shown};

/// One entry, its files read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RedisName {
    pub(crate) access: RedisAccess,
    /// The fields beside the URL, as they stand in the file; none if there is only a URL.
    fields: Option<BTreeMap<&'static str, String>>,
}

/// Fields that name files.
const FILES: [&str; 3] = ["ca", "cert", "key"];

impl RedisName {
    /// What is wrong with the entry of this name, as the library sees it.
    pub(crate) fn mistake(&self, name: &str, error: &RedisAccessError) -> Mistake {
        let path = format!("redis.names.{name}");
        let field = error.field();
        match &self.fields {
            None if field == "url" => Mistake::new(path, error.to_string()),
            Some(_) if field == "url" => Mistake::new(format!("{path}.url"), error.to_string()),
            fields => {
                let given = fields.as_ref().and_then(|fields| fields.get(field)).filter(|_| !is_secret_name(field));
                let message = match given {
                    Some(given) => format!("{} (got {})", error.message(), quoted(given)),
                    None => error.message().to_owned(),
                };
                Mistake::new(format!("{path}.{field}"), message)
            }
        }
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let url = url_shown(&self.access.url);
        let Some(fields) = &self.fields else { return Value::from(url) };
        let mut shown = json!({"url": url});
        for (field, text) in fields {
            shown[field] = Value::from(if is_secret_name(field) { HIDDEN } else { text });
        }
        shown
    }
}

/// Reads the field `redis`. Paths of files are relative to this folder.
pub(super) fn read(fields: &mut Fields<'_>, folder: &Path, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, RedisName> {
    let mut entries = BTreeMap::new();
    let Some(mut redis) = fields.nested("redis", mistakes) else {
        return entries;
    };
    let path = redis.path_of("names");
    let names = redis.read("names", "an object of service names and their URLs", mistakes, Value::as_object);
    redis.finish(mistakes);
    for (name, value) in names.into_iter().flatten() {
        let path = format!("{path}.{name}");
        let entry = match value {
            Value::String(url) => Some(RedisName { access: RedisAccess::from(url), fields: None }),
            Value::Object(_) => Fields::of(&path, value, mistakes).and_then(|fields| read_entry(fields, folder, mistakes)),
            _ => {
                let expected = "a URL such as `redis://127.0.0.1:6379`, or an object with `url` in it";
                mistakes.push(unexpected(&path, value, expected));
                None
            }
        };
        entries.extend(entry.map(|entry| (name.clone(), entry)));
    }
    entries
}

fn read_entry(mut fields: Fields<'_>, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<RedisName> {
    let url_path = fields.path_of("url");
    let has_url = fields.value("url").is_some();
    let url = fields.text("url", mistakes);
    if !has_url {
        mistakes.push(Mistake::new(url_path, "is missing: expected a URL such as `rediss://redis.example:6379`"));
    }
    let mut given = BTreeMap::new();
    let mut pem: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for field in FILES {
        let path = fields.path_of(field);
        let Some(file) = fields.read(field, "the path of a file in PEM", mistakes, Value::as_str) else { continue };
        match file::read(&folder.join(file), Occasion::Reload) {
            Ok(bytes) => drop(pem.insert(field, bytes)),
            Err(reason) => mistakes.push(Mistake::new(path, format!("expected a file that can be read, got {}: {reason}", quoted(file)))),
        }
        given.insert(field, file.to_owned());
    }
    for field in ["server_name", "sentinel_username", "sentinel_password"] {
        given.extend(fields.text(field, mistakes).map(|text| (field, text)));
    }
    fields.finish(mistakes);
    let access = RedisAccess {
        url: url?,
        ca: pem.remove("ca"),
        certificate: pem.remove("cert"),
        key: pem.remove("key"),
        server_name: given.get("server_name").cloned(),
        sentinel_username: given.get("sentinel_username").cloned(),
        sentinel_password: given.get("sentinel_password").cloned(),
    };
    Some(RedisName { access, fields: Some(given) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use slidegate::RedisDirectory;

    fn read_names(names: Value) -> (BTreeMap<String, RedisName>, Vec<String>) {
        let document = json!({"redis": {"names": names}});
        let mut mistakes = Vec::new();
        let mut fields = Fields::of("", &document, &mut mistakes).unwrap();
        let read = read(&mut fields, Path::new(env!("CARGO_MANIFEST_DIR")), &mut mistakes);
        (read, mistakes.iter().map(Mistake::to_string).collect())
    }

    #[test]
    fn a_mapping_has_what_a_url_has_no_room_for() {
        let (read, mistakes) = read_names(json!({"r": {
            "url": "rediss+sentinel://u:hush@s:1/m", "ca": "Cargo.toml", "server_name": "n",
            "sentinel_username": 7, "sentinel_password": "hush",
        }}));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let access = &read["r"].access;
        assert!(access.ca.as_ref().is_some_and(|pem| pem.starts_with(b"[package]")));
        assert_eq!((access.server_name.as_deref(), access.sentinel_username.as_deref()), (Some("n"), Some("7")));
        let shown = read["r"].shown().to_string();
        assert!(!shown.contains("hush") && shown.contains("Cargo.toml") && shown.contains("rediss+sentinel://u:***@s:1/m"), "{shown}");
    }

    #[test]
    fn mistakes_name_field_value_and_expectation() {
        let (_, mistakes) = read_names(json!({
            "a": {"ca": "no.pem"},
            "b": {"url": "rediss://h", "certificate": "x", "key": 5},
        }));
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
        assert_eq!(mistakes[0], "redis.names.a.url: is missing: expected a URL such as `rediss://redis.example:6379`");
        assert!(
            mistakes[1].starts_with("redis.names.a.ca: expected a file that can be read, got `no.pem`: no such file"),
            "{}",
            mistakes[1]
        );
        assert_eq!(mistakes[2], "redis.names.b.key: expected the path of a file in PEM, got `5`");
        assert!(mistakes[3].starts_with("redis.names.b.certificate: there is no such field here; did you mean `cert`?"), "{}", mistakes[3]);
    }

    #[test]
    fn what_the_library_refuses_is_placed_too() {
        let (read, _) = read_names(json!({
            "plain": "http://hush", "mapped": {"url": "http://hush"}, "pem": {"url": "rediss://h", "ca": "Cargo.toml"},
            "secret": {"url": "redis://h", "sentinel_password": "hush"}, "half": {"url": "rediss://h", "cert": "Cargo.toml"},
        }));
        let mistake = |name: &str| {
            let error = RedisDirectory::new().insert(name, read[name].access.clone()).unwrap_err();
            read[name].mistake(name, &error).to_string()
        };
        assert!(mistake("plain").starts_with("redis.names.plain: not a usable Redis URL: expected `redis://"));
        assert!(mistake("mapped").starts_with("redis.names.mapped.url: not a usable Redis URL: expected `redis://"));
        assert_eq!(mistake("pem"), "redis.names.pem.ca: expected certificates in PEM, found none (got `Cargo.toml`)");
        assert!(mistake("secret").starts_with("redis.names.secret.sentinel_password: expected only with a URL that names sentinels"));
        assert!(read.keys().all(|name| !mistake(name).contains("hush")));
    }
}
