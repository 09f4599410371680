//! Which entry stands for a service, and what it says.

use super::*;

fn service(name: &str) -> RedisService {
    RedisService {
        service_name: name.to_owned(),
        port: 6379,
        username: "configured".to_owned(),
        password: "secret".to_owned(),
        timeout_ms: 1_000,
        database: 3,
    }
}

#[test]
fn the_closest_entry_decides() {
    let mut directory = RedisDirectory::new();
    assert_eq!(directory.address(&service("a.dns")), "a.dns:6379, database 3");
    directory.insert_any("redis://any:1").unwrap();
    assert_eq!(directory.address(&service("a.dns")), "any:1, database 3");
    directory.insert("a.dns", "redis://named:2/0").unwrap();
    assert_eq!(directory.address(&service("a.dns")), "named:2, database 0");
    directory.insert("a.dns:6379", "redis://ported:3/9").unwrap();
    assert_eq!(directory.address(&service("a.dns")), "ported:3, database 9");
}

#[test]
fn credentials_come_from_the_url_or_from_the_configuration_never_mixed() {
    let mut directory = RedisDirectory::new();
    directory.insert("own", "redis://:p%40ss@host:1").unwrap();
    directory.insert("none", "redis://host:1").unwrap();
    let identity = |name| directory.resolve(&service(name)).url.identity;
    assert_eq!((identity("own").username, identity("own").password.as_deref()), (None, Some("p@ss")));
    assert_eq!(identity("none").username.as_deref(), Some("configured"));
    assert_eq!(identity("none").password.as_deref(), Some("secret"));
}

#[test]
fn what_a_url_overrules_is_told_without_showing_it() {
    let mut directory = RedisDirectory::new();
    for (name, url) in [
        ("same", "redis://configured:secret@h/3"),
        ("bare", "redis://h"),
        ("other", "redis://:hush@h/4"),
        ("cluster", "redis+cluster://h"),
        ("cluster0", "redis+cluster://h/0"),
    ] {
        directory.insert(name, url).unwrap();
    }
    for name in ["same", "bare", "host.example"] {
        assert_eq!(directory.overruled(&service(name)), Ok(Vec::new()), "{name}");
    }
    let told = directory.overruled(&service("other")).unwrap();
    assert!(matches!(&told[..], [database,
            identity] if database.contains("the database is 4") && identity.contains("user and password")));
    assert!(!told.concat().contains("hush") && !told.concat().contains("secret"));
    assert!(directory.overruled(&service("cluster")).unwrap_err().contains("only database 0"));
    assert_eq!(directory.overruled(&RedisService { database: 0, ..service("cluster") }), Ok(Vec::new()));
    assert!(directory.overruled(&service("cluster0")).unwrap()[0].contains("the database is 0"));
}

#[test]
fn unix_sockets_are_addresses_too() {
    let mut directory = RedisDirectory::new();
    directory.insert("local", "unix:///run/redis.sock?db=5").unwrap();
    assert_eq!(directory.address(&service("local")), "/run/redis.sock, database 5");
}

#[test]
fn bad_urls_are_refused_without_showing_them() {
    for url in ["", "http://h", "redis://", "redis://h:1/x", "redis://:hush@h:port"] {
        let error = RedisDirectory::new().insert("a", url).unwrap_err().to_string();
        assert!(error.starts_with("url: not a usable Redis URL: "), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_url_names_its_field() {
    let refused = |url: &str, change: fn(&mut RedisAccess)| {
        let mut access = RedisAccess::from(url);
        change(&mut access);
        RedisDirectory::new().insert("a", access).unwrap_err()
    };
    let pem = || Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    assert_eq!(refused("redis://h", |access| access.ca = Some(Vec::new())).field(), "ca");
    assert_eq!(
        refused("rediss://h", |access| access.ca = Some(b"no PEM".to_vec())).message(),
        "expected certificates in PEM, found none"
    );
    let broken = RedisAccess { ca: pem(), ..RedisAccess::from("rediss://h") };
    assert!(
        RedisDirectory::new()
            .insert("a", broken)
            .unwrap_err()
            .message()
            .starts_with("expected certificates that sign others")
    );
    assert_eq!(
        refused("redis://h", |access| access.sentinel_password = Some("hush".to_owned())).field(),
        "sentinel_password"
    );
    assert_eq!(
        refused("redis+sentinel://h/m", |access| access.sentinel_username = Some("me".to_owned())).field(),
        "sentinel_password"
    );
    assert_eq!(refused("redis://h", |access| access.server_name = Some("n".to_owned())).field(), "server_name");
}

#[test]
fn places_are_told_without_credentials() {
    let mut directory = RedisDirectory::new();
    directory.insert("m", "redis+sentinel://u:hush@a,b:1/main/4").unwrap();
    directory.insert("c", "redis+cluster://:hush@a:1,b:2").unwrap();
    assert_eq!(directory.address(&service("m")), "master `main` of the sentinels a:26379, b:1, database 4");
    assert_eq!(directory.address(&service("c")), "the cluster of a:1, b:2, database 3");
}

#[test]
fn what_is_the_same_as_before_goes_on_and_what_is_reached_otherwise_is_new() {
    let made = |url: &str| {
        let mut directory = RedisDirectory::new();
        directory.insert("a", url).unwrap();
        directory
    };
    let before = made("redis://:one@host:1");
    let known = before.health(&service("a"));
    let goes_on = |url: &str, service: &RedisService| Arc::ptr_eq(&made(url).after(&before).health(service), &known);
    assert!(goes_on("redis://:one@host:1", &service("a")));
    assert!(goes_on("redis://:one@host:1", &RedisService { timeout_ms: 7, ..service("a") }));
    assert!(!goes_on("redis://:two@host:1", &service("a")));
    assert!(!goes_on("redis://:one@host:2", &service("a")));
    assert!(!goes_on("redis://:one@host:1", &RedisService { database: 9, ..service("a") }));
    // What was not used any more is forgotten.
    let unused = made("redis://:one@host:1").after(&before);
    assert!(!Arc::ptr_eq(&made("redis://:one@host:1").after(&unused).health(&service("a")), &known));
}

#[test]
fn debug_output_shows_no_password() {
    let mut directory = RedisDirectory::new();
    directory.insert("a", "redis://:hush@host:1").unwrap();
    assert!(!format!("{directory:?}").contains("hush"));
}
