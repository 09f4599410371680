//! Filters that read sessions.

use alloc::format;

use super::*;
use crate::rule::Source;
use crate::session::{
    FieldPath, OnMissingSession, OwnSessionRules, SessionFormat, SessionRules, SessionSource, SessionsPerUser, WhenFull,
};

/// A good document with some fields of `session` changed; those that are null are left out.
fn with_session(changes: Value) -> Value {
    let mut session =
        json!({"format": "php", "fields": {"user_id": "X-User-Id"}, "redis": {"service_name": "redis.static"}});
    for (name, value) in changes.as_object().unwrap() {
        session[name] = value.clone();
    }
    json!({"session": session})
}

fn signed(changes: Value) -> Value {
    let mut document = with_session(json!({"format": "signed-flask", "secrets": "open sesame", "redis": null}));
    for (name, value) in changes.as_object().unwrap() {
        document["session"][name] = value.clone();
    }
    document
}

fn rules(document: &Value) -> Rc<SessionRules> {
    let [FilterRules::Session(rules)] = <[_; 1]>::try_from(config(document).filters).unwrap() else {
        panic!("no session in {document}")
    };
    rules
}

#[test]
fn what_is_not_said_is_as_the_library_has_it() {
    let php = rules(&with_session(json!({})));
    let settings = &php.settings;
    assert_eq!((settings.format, settings.key_prefix.as_str()), (SessionFormat::Php, "PHPREDIS_SESSION:"));
    assert_eq!(settings.source, SessionSource::Cookie("PHPSESSID".to_string()));
    assert!(settings.secrets.is_empty() && settings.fields == [FieldPath::parse("user_id").unwrap()]);
    assert_eq!((&php.headers[..], &php.on_missing), (&["x-user-id".to_string()][..], &OnMissingSession::Anonymous));
    assert_eq!(php.stripped(), ["x-user-id", "x-user_id", "x_user-id", "x_user_id"]);
    assert_eq!((php.remember_us, php.redis), (1_000_000, Some(0)));
    let flask = rules(&signed(json!({})));
    assert_eq!((flask.settings.max_age_s, flask.redis), (31 * 86_400, None));
    for format in SessionFormat::ALL {
        let secrets =
            if format.secrets() == crate::session::SecretUse::Required { json!(["a", "b"]) } else { json!(null) };
        let redis = format.record().map(|_| json!({"service_name": "r"}));
        let own = format.default_cookie().is_empty().then_some("sid");
        let prefix = own.map(|_| "s:");
        let user = (format == SessionFormat::Own).then_some("user_id");
        let document = with_session(
            json!({"format": format.as_str(), "secrets": secrets, "redis": redis, "cookie": own, "key_prefix": prefix,
                "user": user}),
        );
        assert_eq!(rules(&document).settings.format, format);
    }
}

#[test]
fn everything_may_be_said() {
    let all = rules(&with_session(json!({
        "format": "express", "header": "X-Session", "secrets": ["new", 102234], "key_prefix": "shop:",
        "fields": {"passport.user": "x-user-id", "a\\.b": "x-b"}, "on_missing": {"redirect": "/login?from=gate"},
        "remember": "5s"
    })));
    assert_eq!(all.settings.source, SessionSource::Header("x-session".to_string()));
    assert_eq!(all.settings.secrets, ["new", "102234"]);
    assert_eq!((all.headers.len(), all.remember_us), (2, 5_000_000));
    assert_eq!(all.on_missing, OnMissingSession::Redirect("/login?from=gate".to_string()));
    for answer in [json!(401), json!("401")] {
        assert_eq!(rules(&with_session(json!({"on_missing": answer}))).on_missing, OnMissingSession::Unauthorized);
    }
    assert_eq!(rules(&signed(json!({"max_age": "2h"}))).settings.max_age_s, 7_200);
    assert_eq!(rules(&with_session(json!({"remember": 0}))).remember_us, 0);
    // With a signature, nobody else names keys.
    rules(&with_session(json!({"format": "express", "secrets": "s", "key_prefix": ""})));
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (changes, path, message) in [
        (json!({"format": null}), "format", "is missing"),
        (json!({"format": "laravel"}), "format", "`express`, `flask-session`"),
        (json!({"cookie": "a;b"}), "cookie", "the name of a cookie"),
        (json!({"cookie": ""}), "cookie", "got an empty text"),
        (json!({"cookie": "a", "header": "b"}), "header", "stands beside `cookie`"),
        (json!({"header": "a b"}), "header", "the name of a header"),
        (json!({"header": "Cookie"}), "header", "another meaning"),
        (json!({"header": "x-a-b-c_d-e"}), "header", "at most 4 of `-` and `_`"),
        (json!({"format": "json", "key_prefix": "s:"}), "cookie", "is missing"),
        (json!({"secrets": "s"}), "secrets", "has no use with `format: php`"),
        (json!({"format": "express"}), "secrets", "is missing"),
        (json!({"format": "express", "secrets": []}), "secrets", "expected 1 to 16 secrets, got 0"),
        (json!({"format": "express", "secrets": ["a", ""]}), "secrets[1]", "got an empty text"),
        (json!({"max_age": "1h"}), "max_age", "has no use with `format: php`"),
        (json!({"key_prefix": ""}), "key_prefix", "could name any key"),
        (json!({"format": "hash", "cookie": "c"}), "key_prefix", "could name any key"),
        (json!({"fields": null}), "fields", "is missing"),
        (json!({"fields": {}}), "fields", "expected 1 to 31 fields, got 0"),
        (json!({"fields": {"": "x"}}), "fields.", "it is empty"),
        (json!({"fields": {"a": "x y"}}), "fields.a", "the name of a header"),
        (json!({"fields": {"a": "x-a-b-c_d-e"}}), "fields.a", "at most 4 of `-` and `_`"),
        (json!({"fields": {"a": "Host"}}), "fields.a", "another meaning"),
        (json!({"fields": {"a": "x-id", "b": "X_Id"}}), "fields.b", "another field is told"),
        (json!({"on_missing": 403}), "on_missing", "`anonymous`, 401"),
        (json!({"on_missing": {"redirct": "/"}}), "on_missing.redirct", "did you mean `redirect`?"),
        (json!({"on_missing": {}}), "on_missing.redirect", "is missing"),
        (json!({"on_missing": {"redirect": "//evil.example"}}), "on_missing.redirect", "a path such as `/login`"),
        (json!({"on_missing": {"redirect": "/\\evil.example"}}), "on_missing.redirect", "a path such as `/login`"),
        (json!({"on_missing": {"redirect": "javascript:1"}}), "on_missing.redirect", "a path such as `/login`"),
        (json!({"on_missing": {"redirect": "/a\r\nb: c"}}), "on_missing.redirect", "a path such as `/login`"),
        (json!({"remember": "6m"}), "remember", "a duration"),
        (json!({"redis": null}), "redis", "is missing"),
        (json!({"redis": {}}), "redis.service_name", "is missing"),
        (json!({"key_prefx": "a"}), "key_prefx", "did you mean `key_prefix`?"),
    ] {
        let shown = changes.to_string();
        let errors = read(&with_session(changes)).expect_err(&shown);
        let path = format!("session.{path}");
        let told = errors.iter().any(|error| error.path == path && error.message.contains(message));
        assert!(told, "{shown}: expected {path}: {message}\n{errors:#?}");
    }
    refuses(signed(json!({"key_prefix": "s:"})), "session.key_prefix", "which stores nothing");
    refuses(signed(json!({"redis": {"service_name": "r"}})), "session.redis", "which stores nothing");
    refuses(signed(json!({"max_age": "10ms"})), "session.max_age", "at least a second");
}

#[test]
fn no_secret_is_shown() {
    for secrets in [json!({"a": "open sesame"}), json!([["open sesame"]]), json!("open sesame")] {
        let document = with_session(json!({"secrets": secrets, "format": "signed-django", "key_prefix": "x"}));
        let errors = format!("{:?}", read(&document).unwrap_err());
        assert!(!errors.contains("sesame"), "{errors}");
    }
    let config = config(&signed(json!({})));
    assert!(!config.describe().contains("sesame") && !format!("{config:?}").contains("sesame"));
}

#[test]
fn it_stands_beside_limiters_and_not_in_them() {
    let mut both = with(json!({}));
    both["session"] = with_session(json!({}))["session"].clone();
    let errors = read(&both).unwrap_err();
    assert!(errors.iter().all(|error| error.message.starts_with("stands beside `session`")), "{errors:#?}");
    let other = signed(json!({"fields": {"user_id": "x-other"}}));
    let list = json!({"filters": [with_session(json!({})), with(json!({})), other], "_plugin_id_": "p"});
    let chain = config(&list);
    assert_eq!((chain.filters.len(), chain.policies().count(), chain.services.len()), (3, 1, 1));
    let twice = json!({"filters": [with_session(json!({})), signed(json!({"fields": {"user_id": "x_user-id"}}))]});
    refuses(twice, "filters[1].session.fields.user_id", "a filter before tells a field in `x_user-id`");
    refuses(json!({"filters": [with(json!({}))], "session": {}}), "session", "stands beside `filters`");
    refuses(with(json!({"sesion": {}})), "sesion", "did you mean `session`?");
}

#[test]
fn headers_of_sessions_have_so_many_spellings_together() {
    let chain = |sessions: usize| {
        let session = |at| {
            let header = format!("x-{at}-a-b-c");
            with_session(json!({"cookie": null, "header": header, "fields": {"user": format!("x{at}")}}))
        };
        json!({"filters": (0..sessions).map(session).collect::<Vec<_>>()})
    };
    assert_eq!(config(&chain(4)).filters.len(), 4);
    refuses(chain(5), "filters[4]", "have 80 spellings, expected at most 64");
}

#[test]
fn it_is_told_in_words() {
    let document = with_session(json!({
        "format": "express", "secrets": ["a", "b"], "fields": {"passport.user": "x-user-id", "role": "x-role"},
        "on_missing": {"redirect": "/login"}, "remember": 0
    }));
    let expected = "every request
  session       express, in cookie connect.sid, signed by any of 2 secrets
  kept          in Redis redis.static:80, timeout 1000 ms, keys sess:...
  tells         passport.user in x-user-id, role in x-role
  without one   sent to /login, or answered 401 if no HTML is accepted
  on failure    closed: requests are answered 503
  public        /login
  calls         each request asks anew
";
    assert_eq!(config(&document).describe(), expected);
    let expected = "filters[0]
  every request
    session       signed-flask, in cookie session, signed
    kept          whole in there, good for 31d
    tells         user_id in x-user-id
    without one   anonymous: requests pass
";
    assert_eq!(config(&json!({"filters": [signed(json!({}))]})).describe(), expected);
}

#[test]
fn what_becomes_of_requests_without_redis_is_said() {
    for (changes, told) in [
        (json!({}), "open: requests pass as nobody's"),
        (json!({"failure_mode": "closed"}), "closed: requests are answered 503"),
        (json!({"on_missing": 401}), "closed: requests are answered 503"),
        (json!({"on_missing": 401, "failure_mode": "open"}), "open: requests pass as nobody's"),
    ] {
        assert!(config(&with_session(changes.clone())).describe().contains(told), "{changes}");
    }
    refuses(with_session(json!({"failure_mode": "local"})), "session.failure_mode", "expected `open` or `closed`");
    let warnings = config(&signed(json!({"failure_mode": "closed"}))).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().contains("has no effect without `redis`"), "{warnings:?}");
}

#[test]
fn limits_name_fields_that_a_filter_before_tells() {
    let limiter = |field: &str, path: &str| {
        json!({"rule_name": "r",
        "rule_items": [{field: path, "limit_keys": [{"key": "a b", "query_per_day": 1}]}]})
    };
    let told = with_session(json!({"fields": {"user.id": "x-user", "role": "x-role"}}));
    let chain = config(&json!({"filters": [told, limiter("limit_by_session", "user.id")]}));
    let item = &chain.policies().next().unwrap().items[0];
    assert!(matches!(&item.limit_by.source, Source::Session(header) if header == "x-user"), "{item:?}");
    assert!(chain.describe().contains("field user.id of the session, header x-user (limit_by_session)"));
    for (document, path, message) in [
        (
            json!({"filters": [told, limiter("limit_by_per_session", "user")]}),
            "filters[1]",
            "which tell `role`, `user.id`",
        ),
        (json!({"filters": [limiter("limit_by_per_session", "role"), told]}), "filters[0]", "which tell nothing"),
        (limiter("limit_by_session", "role"), "", "no filter before this one tells `role`"),
    ] {
        let errors = read(&document).unwrap_err();
        assert!(errors[0].path.starts_with(path) && errors[0].message.contains(message), "{errors:?}");
    }
}

#[test]
fn what_a_session_tells_that_was_not_understood_nobody_is_told_to_lack() {
    let per_user = json!({"limit_by_per_session": "user.id", "limit_keys": [{"key": "*", "query_per_day": 1}]});
    let limiter = json!({"rule_name": "r", "rule_items": [per_user]});
    let cache = json!({"cache": {"key": {"group": {"session": "user.id"}}, "redis": {"service_name": "redis.static"}}});
    let fields = json!({"user.id": "x-user"});
    let paths = |first: Value| -> Vec<String> {
        let errors = read(&json!({"filters": [first, limiter, cache]})).unwrap_err();
        errors.into_iter().map(|error| error.path).collect()
    };
    for (slip, path) in [
        (json!({"format": "exprss", "fields": fields}), "filters[0].session.format"),
        (json!({"fields": {"user.id": "x user"}}), "filters[0].session.fields.user.id"),
        (json!({"fields": fields, "remember": "1h"}), "filters[0].session.remember"),
    ] {
        assert_eq!(paths(with_session(slip)), [path]);
    }
    let mut misspelt = with_session(json!({"fields": fields}));
    let session = misspelt["session"].take();
    assert_eq!(paths(json!({"sesion": session})), ["filters[0].sesion"]);
    // No other filter would tell it.
    let vault = json!({"cookie_vault": {"cookies": ["a"], "redis": {"service_name": "redis.static"}}});
    let believers = ["filters[1].rule_items[0].limit_by_per_session", "filters[2].cache.key.group.session"];
    assert_eq!(paths(vault), ["filters[0].cookie_vault.secrets", believers[0], believers[1]]);
    // What is told all the same is still found to be another field.
    assert_eq!(paths(with_session(json!({"fields": {"user": "x-user"}}))), believers);
}

#[test]
fn public_paths_are_written_as_all_servers_read_them() {
    let rules = |changes: Value| config(&with_session(changes)).sessions().next().unwrap().public.clone();
    let paths =
        |changes: Value| rules(changes).into_iter().map(|public| (public.path, public.is_prefix)).collect::<Vec<_>>();
    assert_eq!(paths(json!({})), []);
    let login = json!({"on_missing": {"redirect": "/login?a=b"}, "public": ["/assets/*", "/"]});
    let expected =
        [("/login", false), ("/assets/", true), ("/", false)].map(|(path, is_prefix)| (path.into(), is_prefix));
    assert_eq!(paths(login), expected);
    assert_eq!(paths(json!({"on_missing": {"redirect": "https://login.example/a"}})), []);
    for path in ["login", "/a//b", "/a/../b", "/%61", "/a/*/b", "", "*"] {
        let public = json!({"on_missing": 401, "public": [path]});
        refuses(with_session(public), "session.public[0]", "expected a path such as `/login`");
    }
    refuses(with_session(json!({"public": "/a"})), "session.public", "has no use without `on_missing: 401`");
}

#[test]
fn what_is_told_behind_is_not_believed_before() {
    let limiter = |item: Value| json!({"rule_name": "r", "rule_items": [item]});
    let by = |field: &str| json!({field: "X_User_Id", "limit_keys": [{"key": "a", "query_per_day": 1}]});
    let session = || with_session(json!({}));
    for before in [
        limiter(by("limit_by_header")),
        limiter(json!({"limit_by_per_header": "x-user-id", "limit_keys": [{"key": "*", "query_per_day": 1}]})),
        json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}, "exempt": {"headers": {"x-user-id": "1"}}}),
    ] {
        assert!(read(&json!({"filters": [session(), before]})).is_ok());
        refuses(json!({"filters": [before, session()]}), "filters[0]", "goes by the header `x-user-id` before");
    }
}

#[test]
fn so_many_headers_are_removed_as_hosts_carry_out() {
    let fields = |count: usize| -> Value {
        let fields: serde_json::Map<_, _> =
            (0..count).map(|at| (format!("f{at}"), format!("x-a-b-c-a{at}").into())).collect();
        with_session(json!({"fields": fields}))
    };
    assert!(read(&fields(6)).is_ok());
    refuses(fields(7), "session.fields", "have 112 spellings");
    let other = signed(json!({"fields": {"user_id": "x-other"}}));
    refuses(json!({"filters": [fields(6), other]}), "filters[1].session.fields", "have 98 spellings");
    let hash = json!({"format": "hash", "cookie": "sid", "key_prefix": "s:", "fields": {"user.id": "x-user"}});
    refuses(with_session(hash), "session.fields.user.id", "has several names");
    refuses(with_session(json!({"user": "name"})), "session.user", "expected one of `fields`");
    refuses(with_session(json!({"on_missing": 401, "public": "/a*"})), "session.public", "expected a path");
}

#[test]
fn a_prefix_that_other_keys_may_have_is_odd() {
    let warnings = |changes: Value| config(&with_session(changes)).warnings.len();
    assert_eq!(warnings(json!({"key_prefix": "app"})), 1);
    for changes in [
        json!({"key_prefix": "app:"}),
        json!({}),
        json!({"format": "express", "secrets": "s", "key_prefix": "app"}),
        json!({"format": "django", "key_prefix": ":1:django.contrib.sessions.cache"}),
    ] {
        assert_eq!(warnings(changes.clone()), 0, "{changes}");
    }
}

/// Sessions of ours, with some fields changed.
fn own(changes: Value) -> Value {
    let mut document = with_session(json!({"format": "own", "secrets": ["new", "old"], "user": "user_id"}));
    for (name, value) in changes.as_object().unwrap() {
        document["session"][name] = value.clone();
    }
    document
}

#[test]
fn sessions_of_ours_have_rules_of_their_own() {
    let plain = rules(&own(json!({})));
    let expected = OwnSessionRules { idle_ms: 1_800_000, absolute_ms: 43_200_000, per_user: None };
    assert_eq!((plain.own.as_ref(), plain.remember_us), (Some(&expected), 1_000_000));
    assert_eq!(plain.settings.source, SessionSource::Cookie("__Host-session".to_string()));
    let all =
        json!({"idle": "16s", "absolute": "1m", "max_per_user": 3, "when_full": "refuse_newest", "remember": "5m"});
    let all = rules(&own(all));
    let per_user = Some(SessionsPerUser { max: 3, when_full: WhenFull::RefuseNewest });
    assert_eq!(all.own, Some(OwnSessionRules { idle_ms: 16_000, absolute_ms: 60_000, per_user }));
    assert_eq!(all.remember_us, 1_000_000, "who asks is what keeps it");
    let oldest = rules(&own(json!({"max_per_user": "1"}))).own.clone().unwrap().per_user.unwrap();
    assert_eq!((oldest.max, oldest.when_full), (1, WhenFull::EndOldest));
    assert_eq!(rules(&own(json!({"absolute": "10m"}))).own.as_ref().map(|own| own.idle_ms), Some(600_000));
    for (changes, field, message) in [
        (json!({"user": null}), "user", "is missing"),
        (json!({"secrets": null}), "secrets", "is missing: expected what cookies are signed with"),
        (json!({"redis": null}), "redis", "is missing: expected where sessions are kept"),
        (json!({"header": "x-session"}), "header", "whose ids are set as cookies"),
        (json!({"fields": {"user_id": "x-user", "a.b": "x-b"}}), "fields.a.b", "has several names"),
        (json!({"idle": "2h", "absolute": "1h"}), "idle", "longer than `absolute`"),
        (json!({"idle": "10ms"}), "idle", "at least a second"),
        (json!({"absolute": "forever"}), "absolute", "a duration"),
        (json!({"max_per_user": 0}), "max_per_user", "from 1 to 1000"),
        (json!({"max_per_user": 1, "when_full": "oldest"}), "when_full", "`end_oldest` or `refuse_newest`"),
        (json!({"when_full": "end_oldest"}), "when_full", "has no use without `max_per_user`"),
        (json!({"max_age": "1h"}), "max_age", "has no use with `format: own`"),
        (json!({"key_prefix": "{a}:"}), "key_prefix", "has braces"),
        (json!({"fields": {"user_id": "X-Slidegate-Session-Set"}}), "fields.user_id", "another meaning"),
        (json!({"format": "php", "secrets": null, "idle": "1h"}), "idle", "the application keeps its sessions"),
    ] {
        refuses(own(changes), &format!("session.{field}"), message);
    }
    let told = config(&own(json!({"max_per_user": 3}))).describe();
    let expected = "  end           30m after the last request, 12h after the first\n  a user has    at most 3: the \
                    one used longest ago ends for one more\n";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn what_is_kept_is_kept_once() {
    let other = own(json!({"fields": {"user_id": "x-other"}, "cookie": "other"}));
    refuses(json!({"filters": [own(json!({})), other]}), "filters[1]", "expected one of `format: own`");
    let vault =
        |cookies: Value| json!({"cookie_vault": {"cookies": cookies, "secrets": "s", "redis": {"service_name": "r"}}});
    let mixed = json!({"filters": [vault(json!(["a", "__host-session"])), own(json!({}))]});
    refuses(mixed, "filters[0]", "keeps the cookie `__host-session`");
    assert!(read(&json!({"filters": [vault(json!(["a"])), own(json!({}))]})).is_ok());
    // What the vault sets would lead to no session of an application.
    let session = with_session(json!({"format": "json", "cookie": "sid", "key_prefix": "s:"}));
    let behind = json!({"filters": [session.clone(), vault(json!(["a", "SID"]))]});
    refuses(behind, "filters[1]", "behind the `session` that reads it");
    assert!(read(&json!({"filters": [vault(json!(["sid"])), session]})).is_ok());
    let twice = json!({"filters": [vault(json!(["a"])), vault(json!("b"))]});
    refuses(twice, "filters[1]", "expected one `cookie_vault` with all of them");
}

#[test]
fn a_vault_is_told_in_words_and_its_mistakes_where_they_are() {
    let vault = |changes: Value| {
        let mut vault =
            json!({"cookies": ["id_token", "a"], "secrets": ["hush", "older"], "redis": {"service_name": "r.static"}});
        changes.as_object().unwrap().iter().for_each(|(name, value)| vault[name] = value.clone());
        json!({"cookie_vault": vault})
    };
    let expected = "every request
  cookie vault  id_token, a
  kept          in Redis r.static:80, timeout 1000 ms, keys slidegate:vault:..., for 1d
  on failure    open: requests pass without the cookie
";
    let config = config(&vault(json!({})));
    assert_eq!(config.describe(), expected);
    assert!(!format!("{config:?}").contains("hush"));
    for (changes, field, message) in [
        (json!({"cookies": null}), "cookies", "is missing"),
        (json!({"failure_mode": "local"}), "failure_mode", "expected `open` or `closed`"),
        (json!({"cookies": []}), "cookies", "expected 1 to 16 names"),
        (json!({"cookies": ["a", "a"]}), "cookies[1]", "stands there before"),
        (json!({"cookies": "a;b"}), "cookies", "the name of a cookie"),
        (json!({"cookies": ""}), "cookies", "got an empty text"),
        (json!({"secrets": null}), "secrets", "is missing"),
        (json!({"secrets": [""]}), "secrets[0]", "got an empty text"),
        (json!({"keep": "1ms"}), "keep", "at least a second"),
        (json!({"keep": "500d"}), "keep", "expected a duration of at most `400d`, got `500d`"),
        (json!({"redis": null}), "redis", "is missing"),
        (json!({"kep": "1h"}), "kep", "did you mean `keep`?"),
        (json!({"key_prefix": ""}), "key_prefix", "got an empty text"),
    ] {
        refuses(vault(changes), &format!("cookie_vault.{field}"), message);
    }
    let mut both = vault(json!({}));
    both["rule_name"] = json!("r");
    refuses(both, "rule_name", "stands beside `cookie_vault`");
}
