//! The fields of a filter, but for those of its limits.

use super::{
    Condition, Field, NETWORK, Shape, TOKEN, Table, joined,
    limit::{KEY_OBJECT, NAME, PRECISION, THRESHOLD_OBJECT, WINDOW},
    tokens,
};

const HEADER_VALUE: Shape = Shape::Form("^[!-~]([ -~]*[!-~])?$");
const NAMES: Shape = Shape::Optional(&Shape::Some(&Shape::Text, 0));
/// Of one configuration, at the top or in an element of `_rules_`.
pub const POLICY: [Field; 31] = joined(&GENERAL, &joined::<1, 9, 10>(&tokens::FORMAT, &tokens::TERMS));

/// Those that hold for limits of every kind.
const GENERAL: [Field; 21] = [
    Field::new("rule_name", ["Rule name", "规则名称"], Shape::Text, "", "text; part of every Redis key").required(),
    Field::new(
        "global_threshold",
        ["Limit on all requests", "全局限流配置"],
        Shape::Object(&THRESHOLD_OBJECT),
        "",
        "limits on all requests together (see [limits](#limits))",
    ),
    Field::new(
        "rule_items",
        ["Rules", "限流规则项"],
        Shape::Some(&Shape::Object(&RULE_ITEM_OBJECT), 1),
        "",
        "list of rules; this or `global_threshold` must be there. ⁺ Both: both must admit",
    ),
    Field::new(
        "rule_match",
        ["Which rules decide", "规则匹配方式"],
        Shape::Choice(&["first", "all"]),
        "`first`",
        "`first`: the first rule that matches decides; `all`: every rule that matches must admit",
    )
    .ours(),
    Field::new(
        "show_limit_quota_header",
        ["Show the quota", "是否返回限流配额响应头"],
        Shape::Optional(&Shape::Flag),
        "false",
        "whether `X-RateLimit-Limit` and `X-RateLimit-Remaining` are shown, of limits on requests",
    ),
    Field::new(
        "headers",
        ["Headers to show", "返回的响应头"],
        Shape::Some(
            &Shape::Choice(&[
                "x-ratelimit",
                "ratelimit",
                "retry-after",
                "x-ratelimit-tokens",
                "anthropic-ratelimit",
                "x-slidegate-degraded",
            ]),
            0,
        ),
        "`X-RateLimit-Reset` on refusals, as stock",
        "one or a list of `x-ratelimit` (limits on requests), `ratelimit` (IETF `RateLimit-Policy` and `RateLimit`), \
         `retry-after`, `x-ratelimit-tokens` and `anthropic-ratelimit` (limits on tokens as OpenAI and Anthropic tell \
         them), `x-slidegate-degraded`: exactly these are shown, and on a refusal for tokens always \
         `X-TokenRateLimit-Reset`, as stock. With `show_limit_quota_header: true` it must list `x-ratelimit`",
    )
    .ours(),
    Field::new(
        "rejected_code",
        ["Status of a refusal", "拒绝请求时的状态码"],
        Shape::Whole(200, 599),
        "429",
        "status of a refusal, 200 to 599",
    ),
    Field::new(
        "rejected_msg",
        ["Body of a refusal", "拒绝请求时的响应体"],
        Shape::Any,
        "`Too many requests`",
        "body of a refusal",
    ),
    Field::new(
        "redis",
        ["Redis", "Redis 配置"],
        Shape::Object(&REDIS_OBJECT),
        "",
        "where windows are counted (see [redis](#redis)). ⁺ Without it they are kept in the instance's memory, unless \
         the gateway's file has one URL for all: then it is called `redis`",
    ),
    Field::new(
        "precision",
        ["Precision", "窗口精度"],
        PRECISION,
        "by the limit",
        "`exact`, a number of slots from 1 to 96, or a slot's width such as `100ms`",
    )
    .ours(),
    Field::new(
        "failure_mode",
        ["When Redis fails", "Redis 故障时的处理方式"],
        Shape::Choice(&["open", "closed", "local"]),
        "`open`",
        "`open`, `closed` or `local`, see [when Redis misbehaves](#when-redis-misbehaves)",
    )
    .ours(),
    Field::new(
        "local_share",
        ["Share of a local limit", "本地限流份额"],
        Shape::Share,
        "1",
        "with `local`: the share of each limit that one instance gives, above 0, up to 1",
    )
    .ours(),
    Field::new(
        "dry_run",
        ["Refuse nothing", "仅观察不拒绝"],
        Shape::Flag,
        "false",
        "decide, count and show headers, but refuse nothing",
    )
    .ours(),
    Field::new(
        "remember_refusals",
        ["Remember refusals", "缓存拒绝结果"],
        Shape::Either(&[Shape::Flag, WINDOW]),
        "true, at most `5s`",
        "whether a key that refused is refused without asking Redis until room appears, see [fewer \
         calls](#fewer-calls-than-decisions), and for how long at most: true, false, or such as `10s`",
    )
    .ours(),
    Field::new(
        "coalesce",
        ["Merge calls", "合并 Redis 调用"],
        Shape::Flag,
        "true",
        "whether requests that ask the same of Redis go together as one call",
    )
    .ours(),
    Field::new(
        "max_new_keys_per_second",
        ["New keys a second", "每秒新增键上限"],
        Shape::Whole(1, 1_000_000),
        "any number",
        "how many values that an instance has not seen of late each rule item may bring to Redis in a second; one in a \
         rule item wins; see [when Redis misbehaves](#when-redis-misbehaves)",
    )
    .ours(),
    Field::new(
        "exempt",
        ["Exempt requests", "豁免的请求"],
        Shape::Object(&EXEMPT_OBJECT),
        "",
        "requests that pass without a call and without charge, by any one of these (see [exempt](#exempt))",
    )
    .ours(),
    Field::new(
        "hash_values",
        ["Hash values", "对取值做哈希"],
        Shape::Flag,
        "for cookies, and for headers and parameters with `authorization`, `cookie`, `token`, `apikey`, `secret`, \
         `session`, `password` or `credential` in their name (`x-api-key` too)",
        "whether values stand in Redis as a code (128 bits of HMAC-SHA-256)",
    )
    .ours(),
    Field::new(
        "hash_key",
        ["Key of the hash", "哈希密钥"],
        Shape::Form("^"),
        "",
        "the key of that code, the same in all gateways that share windows. Without one it is known to all: values are \
         hidden from a glance, not from guesses",
    )
    .ours(),
    Field::new(
        "rejected_headers",
        ["Headers of a refusal", "拒绝请求时的响应头"],
        Shape::Map(TOKEN, &HEADER_VALUE, 0),
        "",
        "more fields of a refusal: an object of names and values, of visible ASCII characters",
    )
    .ours(),
    Field::new(
        "rejected_content_type",
        ["Content type of a refusal", "拒绝请求时的内容类型"],
        HEADER_VALUE,
        "the host's `text/plain`, as Higress, whatever the body",
        "the type of a refusal's body, such as `application/json`",
    )
    .ours(),
];

/// What stands at the top of a filter only.
pub const DOCUMENT: [Field; 2] = [
    Field::new(
        "_rules_",
        ["Configurations by match", "按匹配条件的配置"],
        Shape::Optional(&Shape::Some(&Shape::Object(&RULE_OBJECT), 0)),
        "",
        "list of configurations of their own, each for the requests that its `_match_*` fields choose; the first that \
         matches applies, else the top level",
    ),
    Field::new(
        "_plugin_id_",
        ["Plugin id", "插件标识"],
        Shape::Any,
        "",
        "the name that the shim's log lines bear, as Higress sets it",
    ),
];

/// Which requests an element of `_rules_` is for.
pub const SCOPE: [Field; 4] = [
    Field::new("_match_route_", ["Routes", "路由"], NAMES, "", "names of routes"),
    Field::new("_match_domain_", ["Hosts", "域名"], NAMES, "", "hosts: exact, `*.suffix` or `prefix*`, without port"),
    Field::new(
        "_match_service_",
        ["Services", "服务"],
        NAMES,
        "",
        "upstreams: `name` or `name:port`; beside `_match_route_`, both must match",
    ),
    Field::new("_match_route_prefix_", ["Route prefixes", "路由前缀"], NAMES, "", "how names of routes begin"),
];

/// What may stand in an element of `rule_items`.
pub const RULE_ITEM: [Field; 31] = joined(&GENERAL_ITEM, &tokens::TERMS);

/// Those that hold for limits of every kind.
const GENERAL_ITEM: [Field; 22] = [
    Field::new(
        "limit_by_header",
        ["By a header", "按请求头"],
        HEADER,
        "",
        "this request header; also `:method`, `:authority` (as `host`: without letter case, a dot at the end and, \
         unless a key names it, port), `:path` (with its query, so that a client changes it at will: a warning) and ⁺ \
         `:path-only` (without, as servers compare paths: unreserved escapes resolved, dot segments removed, slashes \
         merged, `;` parameters and a slash at the end left out)",
    ),
    Field::new("limit_by_param", ["By a query parameter", "按请求参数"], PARAM, "", "this query parameter, decoded"),
    Field::new(
        "limit_by_consumer",
        ["By the consumer", "按消费者"],
        Shape::Any,
        "",
        "the header `x-mse-consumer`; the field's value does not matter",
    ),
    Field::new("limit_by_cookie", ["By a cookie", "按 Cookie"], COOKIE, "", "this cookie, without quotes and escapes"),
    Field::new(
        "limit_by_session",
        ["By a field of the session", "按会话字段"],
        PARAM,
        "",
        "⁺ this field of the session, which a [`session`](#sessions) before tells; keys are written as it is in there",
    )
    .ours(),
    Field::new(
        "limit_by_per_header",
        ["By each value of a header", "按请求头的每个值"],
        HEADER,
        "",
        "each value of this request header",
    ),
    Field::new(
        "limit_by_per_param",
        ["By each value of a parameter", "按请求参数的每个值"],
        PARAM,
        "",
        "each value of this query parameter",
    ),
    Field::new("limit_by_per_consumer", ["By each consumer", "按每个消费者"], Shape::Any, "", "each consumer"),
    Field::new(
        "limit_by_per_cookie",
        ["By each value of a cookie", "按 Cookie 的每个值"],
        COOKIE,
        "",
        "each value of this cookie",
    ),
    Field::new(
        "limit_by_per_session",
        ["By each user of sessions", "按会话字段的每个值"],
        PARAM,
        "",
        "⁺ each value of this field of sessions",
    )
    .ours(),
    Field::new(
        "limit_by_per_ip",
        ["By the client's address", "按客户端 IP"],
        Shape::Optional(&Shape::Pattern("^(from-remote-addr|from-header-.+|)$")),
        "",
        "the client's address: `from-remote-addr`, or `from-header-<name>`",
    ),
    Field::new(
        "limit_keys",
        ["Keys with their limits", "限流键及阈值"],
        Shape::Some(&Shape::Object(&KEY_OBJECT), 1),
        "",
        "list of entries, the first that matches the value decides (see [elements of \
         `limit_keys`](#elements-of-limit_keys))",
    )
    .required(),
    Field::new(
        "name",
        ["Name", "名称"],
        NAME,
        "",
        "part of keys and of the names in `RateLimit`, up to 64 bytes. Rules and thresholds of one `rule_name` count \
         together wherever they stand, unless their names differ; a warning tells of two that then have different \
         limits",
    )
    .ours(),
    Field::new(
        "max_new_keys_per_second",
        ["New keys a second", "每秒新增键上限"],
        Shape::Whole(1, 1_000_000),
        "",
        "how many values that an instance has not seen of late this rule may bring to Redis in a second",
    )
    .ours(),
    Field::new(
        "dry_run",
        ["Refuse nothing", "仅观察不拒绝"],
        Shape::Flag,
        "false",
        "decide, count and show headers, but refuse nothing by this rule",
    )
    .ours(),
    Field::new(
        "trusted_hops",
        ["Trusted proxies in a row", "可信代理层数"],
        Shape::Whole(0, 100),
        "the leftmost, as Higress; else the peer",
        "`limit_by_per_ip` from a header: how many addresses to skip from the right, 0 to 100; the leftmost if there \
         are fewer. What cannot be read counts as the last address that a trusted hop saw, else as the peer",
    )
    .ours(),
    Field::new(
        "trusted_proxies",
        ["Networks of trusted proxies", "可信代理网段"],
        Shape::Some(&NETWORK, 1),
        "",
        "instead: skip from the right every address in these networks",
    )
    .ours(),
    Field::new(
        "ipv4_prefix",
        ["IPv4 prefix", "IPv4 前缀长度"],
        Shape::Whole(1, 32),
        "32",
        "how many leading bits of an IPv4 address make one client, 1 to 32; an entry that is narrower counts by itself",
    )
    .ours(),
    Field::new(
        "ipv6_prefix",
        ["IPv6 prefix", "IPv6 前缀长度"],
        Shape::Whole(1, 128),
        "128",
        "the same of an IPv6 address, 1 to 128",
    )
    .ours(),
    Field::new(
        "on_missing",
        ["Without a value", "取值缺失时"],
        Shape::Choice(&["pass", "refuse", "count"]),
        "`pass`, as Higress",
        "a request without a value: `pass` (this rule does not apply; a header or parameter that is empty is a value, \
         as for Higress, a cookie is not), `refuse` (an empty one too), or `count` (all such requests share a window, \
         by the entry that an empty value meets, such as `*`, and so only in `limit_by_per_*`)",
    )
    .ours(),
    Field::new(
        "take",
        ["Which of several values", "多个取值时"],
        Shape::Choice(&["first", "last", "all", "refuse"]),
        "`first`, as Higress",
        "of several fields, parameters or cookies of the name: `first` or `last` that is not empty, `all` (each, up to \
         16, and all must admit), `refuse`",
    )
    .ours(),
    Field::new(
        "hash_values",
        ["Hash values", "对取值做哈希"],
        Shape::Flag,
        "",
        "whether values of this rule stand in Redis as a code",
    )
    .ours(),
];

/// Names of what to count by; empty and null are unset, as for Higress.
const HEADER: Shape =
    Shape::Optional(&Shape::Either(&[Shape::Form("^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), Shape::Choice(&[""])]));
const COOKIE: Shape =
    Shape::Optional(&Shape::Either(&[Shape::Form("^[^;=\\s]([^;=]*[^;=\\s])?$"), Shape::Choice(&[""])]));
const PARAM: Shape = Shape::Optional(&Shape::Text);

/// Of `redis`.
pub const REDIS: [Field; 6] = [
    Field::new("service_name", ["Service", "服务名称"], Shape::Form("^[^\\s/@]+$"), "", "the service's name")
        .required(),
    Field::new(
        "service_port",
        ["Port", "服务端口"],
        Shape::Optional(&Shape::Whole(0, 65_535)),
        "80 for names in `.static`, else 6379",
        "its port; 0 stands for the default",
    ),
    Field::new("username", ["User", "用户名"], Shape::Optional(&Shape::Text), "none", "for AUTH"),
    Field::new("password", ["Password", "密码"], Shape::Optional(&Shape::Text), "none", "for AUTH"),
    Field::new(
        "timeout",
        ["Timeout in milliseconds", "超时时间（毫秒）"],
        Shape::Optional(&Shape::Whole(0, 3_600_000)),
        "1000",
        "milliseconds that a command may take, connecting included, up to an hour; 0 stands for the default",
    ),
    Field::new(
        "database",
        ["Database", "数据库编号"],
        Shape::Optional(&Shape::Whole(0, 2_147_483_647)),
        "0",
        "number of the database",
    ),
];

/// Of `exempt`.
pub const EXEMPT: [Field; 4] = [
    Field::new("routes", ["Routes", "路由"], Shape::Some(&Shape::Form("^"), 1), "", "names of routes").ours(),
    Field::new(
        "methods",
        ["Methods", "请求方法"],
        Shape::Some(&Shape::Form(TOKEN), 1),
        "",
        "methods, such as `OPTIONS`",
    )
    .ours(),
    Field::new(
        "networks",
        ["Networks", "网段"],
        Shape::Some(&NETWORK, 1),
        "",
        "networks of the peer; no header is believed",
    )
    .ours(),
    Field::new(
        "headers",
        ["Headers", "请求头"],
        Shape::Map(TOKEN, &Shape::Some(&Shape::Form("^"), 1), 1),
        "",
        "names of headers, each with the values that will do, `*` for any",
    )
    .ours(),
];

/// A filter's whole document.
pub const FILTER: Table = Table {
    name: "filter",
    groups: &[&POLICY, &DOCUMENT],
    conditions: &[Condition::UnlessList(
        "_rules_",
        &["rule_name", "global_threshold", "rule_items"],
        &[&["rule_name", "global_threshold"], &["rule_name", "rule_items"]],
    )],
    null_is_nothing: false,
};

pub(super) const PLUGIN_ID: &[Field] = &[DOCUMENT[1]];

/// One configuration, without the requests that it is for.
pub const POLICY_OBJECT: Table = Table {
    name: "policy",
    groups: &[&POLICY],
    conditions: &[Condition::AnyOf(&[&["global_threshold"], &["rule_items"]])],
    null_is_nothing: false,
};

const RULE_OBJECT: Table = Table {
    name: "rule",
    groups: &[&SCOPE, &POLICY],
    conditions: &[
        Condition::AnyOf(&[&["rule_name", "global_threshold"], &["rule_name", "rule_items"]]),
        Condition::AnyOf(&[&["_match_route_"], &["_match_domain_"], &["_match_service_"], &["_match_route_prefix_"]]),
    ],
    null_is_nothing: false,
};

/// An element of `rule_items`.
pub const RULE_ITEM_OBJECT: Table = Table {
    name: "rule_item",
    groups: &[&RULE_ITEM],
    conditions: &[
        Condition::OneOf(
            &[
                "limit_by_header",
                "limit_by_param",
                "limit_by_cookie",
                "limit_by_session",
                "limit_by_per_header",
                "limit_by_per_param",
                "limit_by_per_cookie",
                "limit_by_per_session",
                "limit_by_per_ip",
            ],
            &["limit_by_consumer", "limit_by_per_consumer"],
        ),
        Condition::AtMostOne(&["trusted_hops", "trusted_proxies"]),
        Condition::Needs("trusted_hops", "limit_by_per_ip"),
        Condition::Needs("trusted_proxies", "limit_by_per_ip"),
        Condition::Needs("ipv4_prefix", "limit_by_per_ip"),
        Condition::Needs("ipv6_prefix", "limit_by_per_ip"),
    ],
    null_is_nothing: false,
};

pub(super) const REDIS_OBJECT: Table =
    Table { name: "redis", groups: &[&REDIS], conditions: &[], null_is_nothing: false };

const EXEMPT_OBJECT: Table =
    Table { name: "exempt", groups: &[&EXEMPT], conditions: &[Condition::NotEmpty], null_is_nothing: false };
