//! The fields of a filter that keeps values of cookies.

use super::{COOKIE, Condition, DURATION_ABOVE_ZERO, Field, Shape, Table, filter::REDIS_OBJECT};

/// What stands in place of a limiter.
pub const FILTER: [Field; 1] = [Field::new(
    "cookie_vault",
    ["Cookie vault", "Cookie 保险箱"],
    Shape::Object(&VAULT_OBJECT),
    "",
    "a filter of its own, for every request: keeps the values of cookies in Redis, so that browsers have but an id for \
     each",
)
.ours()];

/// Of `cookie_vault`.
pub const VAULT: [Field; 6] = [
    Field::new(
        "cookies",
        ["Cookies", "Cookie 名称"],
        Shape::Some(&Shape::Form(COOKIE), 1),
        "",
        "the names of the cookies whose values are kept, such as `id_token`: one, or a list of up to 16",
    )
    .ours()
    .required(),
    Field::new(
        "secrets",
        ["Secrets", "密钥"],
        Shape::Some(&Shape::Form("^"), 1),
        "",
        "what ids are made with: one, or a list of up to 16 while they are changed, the newest first. Ids of all of \
         them are good",
    )
    .ours()
    .required(),
    Field::new(
        "key_prefix",
        ["Prefix of keys", "键前缀"],
        Shape::Form("^"),
        "`slidegate:vault:`",
        "what the keys of values in Redis begin with",
    )
    .ours(),
    Field::new(
        "keep",
        ["Keep for", "保留时间"],
        DURATION_ABOVE_ZERO,
        "`24h`",
        "how long a value is kept from when it was set, up to `400d`; no longer than its cookie's own `Max-Age` or \
         `Expires`",
    )
    .ours(),
    Field::new(
        "failure_mode",
        ["When Redis fails", "Redis 故障时的处理方式"],
        Shape::Choice(&["open", "closed"]),
        "`open`",
        "what becomes of a request with a cookie whose value cannot be looked up: it passes without the cookie \
         (`open`), or is answered 503 (`closed`)",
    )
    .ours(),
    Field::new("redis", ["Redis", "Redis 配置"], Shape::Object(&REDIS_OBJECT), "", "where values are kept")
        .ours()
        .required(),
];

/// A filter's whole document, in place of a limiter's.
pub const FILTER_OBJECT: Table = Table {
    name: "vault_filter",
    groups: &[&FILTER, super::filter::PLUGIN_ID],
    conditions: &[Condition::AnyOf(&[&["cookie_vault"]])],
    null_is_nothing: false,
};

const VAULT_OBJECT: Table = Table { name: "cookie_vault", groups: &[&VAULT], conditions: &[], null_is_nothing: true };
