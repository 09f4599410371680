//! What the file may say of Redis, and what is said of it when it does not fit.

use slidegate::RedisDirectory;

use super::*;

fn read_names(names: Value) -> (BTreeMap<String, RedisEntry>, Vec<String>) {
    let (settings, mistakes) = read_redis(json!({"names": names}));
    (settings.names, mistakes)
}

fn read_redis(redis: Value) -> (RedisSettings, Vec<String>) {
    let document: Node = serde_json::from_value(json!({"redis": redis})).unwrap();
    let mut reader = Reader::new(&words::VOCABULARY);
    let fields = reader.object(FieldPath::Root, &document, &words::TOP).unwrap();
    let read = read(&mut reader, &fields, Path::new(env!("CARGO_MANIFEST_DIR")));
    (read, reader.finish().err().into_iter().flatten().map(|error| error.to_string()).collect())
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
    assert!(
        !shown.contains("hush") && shown.contains("Cargo.toml") && shown.contains("rediss+sentinel://u:***@s:1/m"),
        "{shown}"
    );
}

#[test]
fn mistakes_name_field_value_and_expectation() {
    let (_, mistakes) = read_names(json!({
        "a": {"ca": "no.pem"},
        "b": {"url": "rediss://h", "certificate": "x", "key": 5},
    }));
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    assert!(
        mistakes[0].starts_with("redis.names.a.ca: expected a file that can be read, got `no.pem`: no such file"),
        "{}",
        mistakes[0]
    );
    assert_eq!(mistakes[1], "redis.names.a.url: is missing: expected a URL such as `rediss://redis.example:6379`");
    assert!(
        mistakes[2].starts_with("redis.names.b.certificate: there is no such field here; did you mean `cert`?"),
        "{}",
        mistakes[2]
    );
    assert_eq!(mistakes[3], "redis.names.b.key: expected the path of a file in PEM, got `5`");
}

#[test]
fn what_the_library_refuses_is_placed_too() {
    let (read, _) = read_names(json!({
        "plain": "http://hush", "mapped": {"url": "http://hush"}, "pem": {"url": "rediss://h", "ca": "Cargo.toml"},
        "secret": {"url": "redis://h", "sentinel_password": "hush"},
            "half": {"url": "rediss://h", "cert": "Cargo.toml"},
    }));
    let mistake = |name: &str| {
        let error = RedisDirectory::new().insert(name, read[name].access.clone()).unwrap_err();
        read[name].mistake(&error).to_string()
    };
    assert!(mistake("plain").starts_with("redis.names.plain: not a usable Redis URL: expected `redis://"));
    assert!(mistake("mapped").starts_with("redis.names.mapped.url: not a usable Redis URL: expected `redis://"));
    assert_eq!(mistake("pem"), "redis.names.pem.ca: expected certificates in PEM, found none (got `Cargo.toml`)");
    assert!(
        mistake("secret")
            .starts_with("redis.names.secret.sentinel_password: expected only with a URL that names sentinels")
    );
    assert!(read.keys().all(|name| !mistake(name).contains("hush")));
}

#[test]
fn one_url_stands_for_every_name() {
    let (settings, mistakes) = read_redis(json!("redis://:hush@h:1"));
    assert!(mistakes.is_empty() && settings.names.is_empty() && !settings.required, "{mistakes:?}");
    assert_eq!(settings.any.as_ref().map(|entry| entry.access.url.as_str()), Some("redis://:hush@h:1"));
    assert!(!settings.shown().to_string().contains("hush"));
    let (settings, mistakes) =
        read_redis(json!({"url": "rediss://h", "ca": "Cargo.toml", "required": true, "names": {"a": "redis://a"}}));
    assert!(mistakes.is_empty() && settings.required && settings.names.len() == 1, "{mistakes:?}");
    assert_eq!(
        settings.any.unwrap().mistake(&RedisDirectory::new().insert_any("http://x").unwrap_err()).path,
        "redis.url"
    );
    let (settings, mistakes) = read_redis(json!({"required": true}));
    assert!(mistakes.is_empty() && settings.any.is_none(), "{mistakes:?}");
    assert_eq!(
        read_redis(json!({"ca": "Cargo.toml"})).1,
        ["redis.url: is missing: expected a URL such as `rediss://redis.example:6379`"]
    );
    assert!(
        read_redis(json!(5)).1[0].starts_with("redis: expected a URL such as `redis://127.0.0.1:6379`, or an object")
    );
    assert!(read_redis(json!({"urll": "redis://h"})).1[0].contains("did you mean `url`?"));
}

#[test]
fn passwords_may_stand_in_files_and_are_never_shown() {
    let folder = std::env::temp_dir().join(format!("slidegate-passwords-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (content, password) in
        [(b"hu sh\n".as_slice(), "hu sh"), (b"hush\r\n", "hush"), (b"hush", "hush"), ("hüsh \n".as_bytes(), "hüsh ")]
    {
        let (read, mistakes) =
            read_names(json!({"a": {"url": "redis://u@h", "password_file": file("password", content)}}));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(read["a"].access.password.as_deref(), Some(password));
        let shown = format!("{} {:?}", read["a"].shown(), read["a"]);
        assert!(!shown.contains(password) && shown.contains("password_file"), "{shown}");
    }
    let (read, _) =
        read_names(json!({"a": {"url": "redis+sentinel://h/m", "sentinel_password_file": file("s", b"hush\n"),
            "password": "hush"}}));
    assert_eq!(
        (read["a"].access.sentinel_password.as_deref(), read["a"].access.password.as_deref()),
        (Some("hush"), Some("hush"))
    );
    assert!(!format!("{} {:?}", read["a"].shown(), read["a"]).contains("hush"));
    let long = file("long", &vec![b'x'; (16 << 20) + 1]);
    for (fields, expected) in [
        (json!({"password_file": folder.join("none")}), "expected a file that can be read"),
        (json!({"password_file": folder}), "is a directory"),
        (json!({"password_file": "/dev/zero"}), "is a device"),
        (json!({"password_file": long}), "16 MiB"),
        (json!({"password_file": file("empty", b"\n")}), "as UTF-8 text, got `"),
        (json!({"password_file": file("latin", b"\xff")}), "as UTF-8 text, got `"),
        (
            json!({"password_file": file("both", b"x"), "password": "hush"}),
            "expected only one of `password_file` and `password`",
        ),
        (json!({"password_file": 5}), "expected the path of a file with the password in it"),
    ] {
        let mut entry = fields;
        entry["url"] = json!("redis://h");
        let (_, mistakes) = read_names(json!({"a": entry}));
        assert!(
            matches!(&mistakes[..],
                [one] if one.starts_with("redis.names.a.password_file: ") && one.contains(expected)),
            "{mistakes:?}"
        );
        assert!(!mistakes[0].contains("hush"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_password_that_the_url_has_too_is_a_mistake_of_its_field() {
    let (read, _) = read_names(json!({"a": {"url": "redis://:hush@h", "password": "hush"}}));
    let error = RedisDirectory::new().insert("a", read["a"].access.clone()).unwrap_err();
    let mistake = read["a"].mistake(&error).to_string();
    assert!(
        mistake.starts_with("redis.names.a.password: expected only with a URL that has none")
            && !mistake.contains("hush"),
        "{mistake}"
    );
}
