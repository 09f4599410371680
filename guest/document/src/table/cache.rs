//! The fields of a filter that keeps responses.

use super::{COOKIE, Condition, DURATION, Field, SIZE, Shape, TOKEN, Table, filter::REDIS_OBJECT};

/// How long a body may be.
const BODY: Shape = Shape::Either(&[Shape::Pattern(SIZE), Shape::Whole(1, 960 << 10)]);

/// What stands in place of a limiter.
pub const FILTER: [Field; 1] = [Field::new(
    "cache",
    ["Cache", "响应缓存"],
    Shape::Object(&CACHE_OBJECT),
    "",
    "a filter of its own, for every request: keeps responses in Redis as RFC 9111 allows, for all gateways, and \
     answers with them while their backend cannot",
)
.ours()];

/// Of `cache`.
pub const CACHE: [Field; 11] = [
    Field::new(
        "key",
        ["Key", "缓存键"],
        Shape::Object(&KEY_OBJECT),
        "host, path and whole query",
        "what tells responses apart, beside what they vary by",
    )
    .ours(),
    Field::new(
        "default_ttl",
        ["Default lifetime", "默认有效期"],
        DURATION,
        "a tenth of the time since `last-modified`, up to `1d`",
        "how long a response is fresh that does not say it, if its status may be kept so",
    )
    .ours(),
    Field::new(
        "max_ttl",
        ["Greatest lifetime", "最长有效期"],
        DURATION,
        "`7d`",
        "how long a response is fresh at most, whatever it says",
    )
    .ours(),
    Field::new(
        "stale_while_revalidate",
        ["Stale while fetched", "更新期间可用时长"],
        DURATION,
        "0",
        "how long after that a response is used while one request fetches it anew; what a response says of it comes \
         first. Up to `30d`",
    )
    .ours(),
    Field::new(
        "stale_if_error",
        ["Stale if error", "出错时可用时长"],
        DURATION,
        "`1d`",
        "how long after that a response is used in place of an error; what a response says of it comes first. Up to \
         `30d`",
    )
    .ours(),
    Field::new(
        "failover_statuses",
        ["Statuses of failure", "故障状态码"],
        Shape::List(&Shape::Whole(500, 599), 0),
        "`[500, 502, 503, 504]`",
        "which statuses of the backend are errors that a kept response is used in place of",
    )
    .ours(),
    Field::new(
        "max_body",
        ["Greatest body", "最大响应体"],
        BODY,
        "`256KiB`",
        "a response with a longer body is not kept; up to `960KiB`",
    )
    .ours(),
    Field::new(
        "lock_timeout",
        ["Wait for another", "等待时长"],
        DURATION,
        "`2s`",
        "how long a request waits for another one that fetches the same, in any gateway, before it goes to the backend \
         itself; up to `1m`. 0: it does not wait",
    )
    .ours(),
    Field::new(
        "tags_header",
        ["Header with tags", "标签响应头"],
        Shape::Form(TOKEN),
        "`surrogate-key` and `cache-tag`",
        "the name of the header in which the backend tells tags by which responses are purged",
    )
    .ours(),
    Field::new(
        "fallback",
        ["Fallback", "兜底响应"],
        Shape::Object(&FALLBACK_OBJECT),
        "",
        "the answer in place of an error where there is no response that may be used",
    )
    .ours(),
    Field::new(
        "redis",
        ["Redis", "Redis 配置"],
        Shape::Object(&REDIS_OBJECT),
        "",
        "where responses are kept: best a Redis of its own, with `maxmemory-policy allkeys-lru`; required, unless the \
         gateway's file names one Redis for all",
    )
    .ours(),
];

/// Of `key`.
pub const KEY: [Field; 3] = [
    Field::new(
        "query",
        ["Query", "查询参数"],
        Shape::Either(&[Shape::Choice(&["all", "none"]), Shape::List(&Shape::Form("^"), 1)]),
        "`all`",
        "which parameters of the query are part of it: `all`, `none`, or those of these names, in their order. The \
         backend must show nothing of the others",
    )
    .ours(),
    Field::new(
        "headers",
        ["Headers", "请求头"],
        Shape::List(&Shape::Form(TOKEN), 0),
        "none",
        "headers of the request whose values are part of it",
    )
    .ours(),
    Field::new(
        "group",
        ["Group", "分组"],
        Shape::Object(&GROUP_OBJECT),
        "",
        "whose response it is: then what is `private` is kept too, for requests of the same session or cookie",
    )
    .ours(),
];

/// Of `group`.
pub const GROUP: [Field; 2] = [
    Field::new(
        "session",
        ["Session's field", "会话字段"],
        Shape::Form("^"),
        "",
        "a field that a `session` before it tells",
    )
    .ours(),
    Field::new(
        "cookie",
        ["Cookie", "Cookie 名称"],
        Shape::Form(COOKIE),
        "",
        "the name of the cookie that tells users apart",
    )
    .ours(),
];

/// Of `fallback`.
pub const FALLBACK: [Field; 3] = [
    Field::new("status", ["Status", "状态码"], Shape::Whole(200, 599), "503", "its status").ours(),
    Field::new(
        "content_type",
        ["Content type", "内容类型"],
        Shape::Form("^[ -~]+$"),
        "`text/plain; charset=utf-8`",
        "its `content-type`",
    )
    .ours(),
    Field::new("body", ["Body", "响应体"], Shape::Text, "", "its body").ours().required(),
];

/// A filter's whole document, in place of a limiter's.
pub const FILTER_OBJECT: Table = Table {
    name: "cache_filter",
    groups: &[&FILTER, super::filter::PLUGIN_ID],
    conditions: &[Condition::AnyOf(&[&["cache"]])],
    null_is_nothing: false,
};

const CACHE_OBJECT: Table = Table { name: "cache", groups: &[&CACHE], conditions: &[], null_is_nothing: true };

const KEY_OBJECT: Table = Table { name: "cache_key", groups: &[&KEY], conditions: &[], null_is_nothing: true };

const GROUP_OBJECT: Table = Table {
    name: "cache_group",
    groups: &[&GROUP],
    conditions: &[Condition::OneOf(&[], &["session", "cookie"])],
    null_is_nothing: false,
};

const FALLBACK_OBJECT: Table =
    Table { name: "cache_fallback", groups: &[&FALLBACK], conditions: &[], null_is_nothing: true };
