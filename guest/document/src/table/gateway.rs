//! The fields of the gateway's own file.

use super::{Condition, DURATION, DURATION_ABOVE_ZERO, Field, NETWORK, SIZE, Shape, Table, chain};

/// An address and a port, as in `127.0.0.1:8080`, `localhost:8080`, `[::]:8080` or `:8080`.
const ADDRESS: Shape = Shape::Pattern(
    "^(localhost|[0-9.]+|\\[[0-9A-Fa-f:.%]+\\]|):0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
);
const UPSTREAM: Shape = Shape::Pattern("^([Hh][Tt][Tt][Pp][Ss]?|h2c)://[^/?#@]+/?$");
const COUNT: Shape = Shape::Whole(0, 1_000_000);
const BUFFER: Shape = Shape::Either(&[Shape::Pattern(SIZE), Shape::Whole(8 << 10, 16 << 20)]);

/// At the top.
pub const TOP: [Field; 18] = [
    Field::new(
        "listen",
        ["Listen", "监听地址"],
        ADDRESS,
        "`127.0.0.1:8080`",
        "address and port, `localhost:8080`, or `:8080` for every IPv4 address ᴿ",
    ),
    Field::new(
        "tls",
        ["TLS", "TLS 设置"],
        Shape::Object(&LISTENER_TLS),
        "plain",
        "how clients are secured, see [TLS](#tls)",
    ),
    Field::new(
        "admin",
        ["Admin", "管理地址"],
        Shape::Either(&[ADDRESS, Shape::Object(&ADMIN)]),
        "off",
        "address and port of [a page for people](#the-admin-page), `/metrics` (Prometheus), `/healthz` and `/readyz` \
         (see [Logs and health](#logs-and-health)) and `/config` (as understood, no passwords) ᴿ; or an object",
    ),
    Field::new(
        "decide",
        ["Decide for other proxies", "为其他代理决策"],
        Shape::Object(&DECIDE),
        "off",
        "where proxies of other makes ask what is to become of a request, see [in front of, or beside, other \
         proxies](#in-front-of-or-beside-other-proxies). A file with it needs no upstream, and then no `listen`",
    ),
    Field::new(
        "workers",
        ["Workers", "工作线程数"],
        Shape::Whole(1, 1024),
        "one a core",
        "threads, 1 to 1024, each with a filter instance and a Redis connection of its own; one instance for all where \
         some window is local ᴿ",
    ),
    Field::new(
        "upstream",
        ["Upstream", "上游地址"],
        UPSTREAM,
        "",
        "one URL for everything, `http://host:port`, `https://host:port` or `h2c://host:port`; or `upstreams`; or \
         `routes`",
    ),
    Field::new(
        "upstreams",
        ["Upstreams", "上游地址列表"],
        Shape::List(&UPSTREAM, 1),
        "",
        "list of such URLs, which take turns, see [several upstreams](#several-upstreams)",
    ),
    Field::new(
        "upstream_tls",
        ["TLS to upstreams", "上游 TLS 设置"],
        Shape::Object(&UPSTREAM_TLS),
        "the system's authorities",
        "how `https` upstreams are secured, where a route says nothing of its own",
    ),
    Field::new(
        "routes",
        ["Routes", "路由"],
        Shape::List(&Shape::Object(&ROUTE), 1),
        "",
        "list of routes: the closest `host` wins, then the longest `path_prefix`",
    ),
    Field::new(
        "normalize_path",
        ["Spellings of paths", "路径规范化"],
        Shape::Either(&[Shape::Choice(&["on", "refuse", "off"]), Shape::Flag]),
        "`on`",
        "`on`, `refuse` or `off`, see [paths](#paths)",
    ),
    Field::new(
        "header_names",
        ["Names of headers", "请求头名称"],
        Shape::Choice(&["strict", "all"]),
        "`strict`",
        "`strict`: header fields of clients with other signs in their names than letters, digits, `-` and `_` are \
         dropped, since applications behind CGI take `x.user` for `x-user`; `all`: they pass, to applications that \
         tell them apart (names in gRPC's metadata may have dots)",
    ),
    Field::new(
        "trusted_consumer",
        ["Who may name the consumer", "可信的消费者来源"],
        Shape::Either(&[Shape::Flag, Shape::List(&NETWORK, 0)]),
        "`false`",
        "who may say in `x-mse-consumer` which consumer a request is of, as an authenticating proxy does: `false`, \
         nobody; a list of peers' addresses and networks; `true`, everybody. From others the field is removed, and \
         `limit_by_consumer` finds no value",
    ),
    Field::new(
        "redis",
        ["Redis", "Redis 地址"],
        Shape::Either(&[Shape::RedisUrl, Shape::Object(&REDIS)]),
        "a service's name is its host's",
        "a URL: one Redis for every service that the filter names, and, if it names none anywhere, for all of it; or \
         an object",
    ),
    Field::new(
        "filter",
        ["Filter", "过滤器"],
        chain::DOCUMENT,
        "nothing is limited",
        "the filter's configuration, handed on untouched",
    ),
    Field::new(
        "filters",
        ["Filters", "过滤器列表"],
        Shape::List(&chain::LINK, 0),
        "",
        "instead: a list of configurations, each as in `filter`, see [several \
         filters](../guest/engine#several-filters)",
    ),
    Field::new(
        "timeouts",
        ["Timeouts", "超时时间"],
        Shape::Object(&TIMEOUTS),
        "",
        "how long the gateway waits, and for what",
    ),
    Field::new(
        "limits",
        ["Bounds on clients", "客户端资源上限"],
        Shape::Object(&LIMITS),
        "",
        "what clients may take up at most",
    ),
    Field::new("log", ["Log", "日志"], Shape::Object(&LOG), "", "what is logged, and how"),
];

/// Of a route.
pub const ROUTE_FIELDS: [Field; 6] = [
    Field::new("name", ["Name", "名称"], Shape::Text, "empty", "what `_match_route_` sees"),
    Field::new(
        "host",
        ["Host", "域名"],
        Shape::Pattern("^(\\*|(\\*\\.)?[0-9A-Za-z._-]+|\\[[0-9A-Fa-f:.]+\\])$"),
        "`*`",
        "`*`, `*.domain` or a name, compared without port, letter case and a dot at the end",
    ),
    Field::new(
        "path_prefix",
        ["Path prefix", "路径前缀"],
        Shape::Pattern("^/[!-~]*$"),
        "`/`",
        "whole segments of the path",
    ),
    Field::new(
        "upstream",
        ["Upstream", "上游地址"],
        UPSTREAM,
        "",
        "URL of the route's upstream, as at the top. `check` shows the name that the filter gets of it, \
         `outbound\\|port\\|\\|host`; `_match_service_` names it by `host` or `host:port`",
    ),
    Field::new(
        "upstreams",
        ["Upstreams", "上游地址列表"],
        Shape::List(&UPSTREAM, 1),
        "",
        "list of URLs, which take turns, as at the top; the filter gets the name of the first",
    ),
    Field::new(
        "upstream_tls",
        ["TLS to upstreams", "上游 TLS 设置"],
        Shape::Object(&UPSTREAM_TLS),
        "",
        "how `https` upstreams of this route are secured",
    ),
];

/// Of `tls`, of a listener.
pub const LISTENER_TLS_FIELDS: [Field; 4] = [
    Field::new(
        "cert",
        ["Certificate", "证书文件"],
        Shape::File,
        "",
        "file with the certificate, and those that lead to its root, in PEM",
    )
    .required(),
    Field::new("key", ["Key", "私钥文件"], Shape::File, "", "file with its key, in PEM, without a passphrase")
        .required(),
    Field::new(
        "client_ca",
        ["Authorities of clients", "客户端 CA 证书文件"],
        Shape::File,
        "clients need no certificate",
        "file with the authorities, one of which has to have signed each client's certificate, in PEM",
    ),
    Field::new("min_version", ["Least version", "最低版本"], Shape::Form("^1\\.[23]$"), "`1.2`", "`1.2` or `1.3`"),
];

/// Of `admin`, where it is an object.
pub const ADMIN_FIELDS: [Field; 4] = [
    Field::new("listen", ["Listen", "监听地址"], ADDRESS, "", "address and port ᴿ").required(),
    Field::new(
        "tls",
        ["TLS", "TLS 设置"],
        Shape::Object(&LISTENER_TLS),
        "plain",
        "how clients of this listener are secured, see [TLS](#tls)",
    ),
    Field::new(
        "token",
        ["Token", "管理令牌"],
        Shape::Form("^[!-~]{16,1024}$"),
        "nothing can be changed there, and all else is shown",
        "what those show who may change something: purge [responses that are kept](#purging-a-cache); and, where it \
         is set, who looks at anything but `/`, `/healthz` and `/readyz`. 16 to 1024 visible characters",
    ),
    Field::new("token_file", ["File of the token", "管理令牌文件"], Shape::File, "", "file with the token in it"),
];

/// Of `decide`.
pub const DECIDE_FIELDS: [Field; 4] = [
    Field::new("listen", ["Listen", "监听地址"], ADDRESS, "", "address and port ᴿ").required(),
    Field::new(
        "tls",
        ["TLS", "TLS 设置"],
        Shape::Object(&LISTENER_TLS),
        "plain",
        "how the proxies are secured, see [TLS](#tls)",
    ),
    Field::new(
        "trusted_peers",
        ["Who may ask", "可信的对端"],
        Shape::List(&NETWORK, 0),
        "this machine: `[127.0.0.0/8, ::1]`",
        "list of the proxies' addresses and networks. What they say of a request counts; all others are refused",
    ),
    Field::new(
        "refuse_with",
        ["Status in place of 429", "替代 429 的状态码"],
        Shape::Whole(400, 599),
        "429 stays",
        "status, 400 to 599, that refusals over HTTP have in place of 429: 403 for nginx, which passes on no 429",
    ),
];

/// Of a server's client: whom it believes, what it shows, and what it expects.
const CA: Field = Field::new(
    "ca",
    ["Certificate authorities", "CA 证书文件"],
    Shape::File,
    "the system's",
    "file with the authorities to believe, in PEM",
);
const CERT: Field = Field::new(
    "cert",
    ["Certificate", "客户端证书文件"],
    Shape::File,
    "",
    "file with the certificate that is shown to the server, in PEM",
);
const KEY: Field = Field::new("key", ["Key", "客户端私钥文件"], Shape::File, "", "file with its key, in PEM");
const SERVER_NAME: Field = Field::new(
    "server_name",
    ["Server's name", "服务器名称"],
    Shape::Text,
    "the host",
    "name that the server's certificate must have",
);

/// Of `upstream_tls`.
pub const UPSTREAM_TLS_FIELDS: [Field; 4] = [CA, CERT, KEY, SERVER_NAME];

/// Of `redis`, beside those of a Redis.
pub const REDIS_FIELDS: [Field; 2] = [
    Field::new(
        "names",
        ["Addresses of services", "服务地址"],
        Shape::Map("^", &Shape::Either(&[Shape::RedisUrl, Shape::Object(&NAMED_REDIS)]), 0),
        "",
        "map from service names, or `name:port`, to a URL, or to `url` and what a URL has no room for; wins over \
         `redis.url`. What the URL says of user, password and database wins over the filter's `redis`",
    ),
    Field::new(
        "required",
        ["Required", "必须可用"],
        Shape::Flag,
        "false",
        "whether there is no start, and no reload, unless each Redis of the filter answers",
    ),
];

/// Of one Redis: its URL, and what that has no room for.
pub const REDIS_ACCESS: [Field; 12] = [
    Field::new(
        "url",
        ["URL", "地址"],
        Shape::RedisUrl,
        "",
        "where it is, see [Redis in production](#redis-in-production)",
    ),
    CA,
    CERT,
    KEY,
    Field::new("password", ["Password", "密码"], Shape::Text, "", "password, in place of one in the URL"),
    Field::new("password_file", ["File of the password", "密码文件"], Shape::File, "", "file with the password in it"),
    Field::new(
        "sentinel_password",
        ["Password of sentinels", "哨兵密码"],
        Shape::Text,
        "",
        "password of the sentinels",
    ),
    Field::new(
        "sentinel_password_file",
        ["File of the sentinels' password", "哨兵密码文件"],
        Shape::File,
        "",
        "file with it",
    ),
    Field::new("username", ["User", "用户名"], Shape::Text, "", "user, in place of one in the URL"),
    SERVER_NAME,
    Field::new("sentinel_username", ["User of sentinels", "哨兵用户名"], Shape::Text, "", "user of the sentinels"),
    Field::new(
        "announced",
        ["Announced addresses", "对外公布的地址"],
        Shape::Map("^", &Shape::Pattern("^"), 0),
        "",
        "map from addresses that a cluster or sentinels announce to those that can be reached",
    ),
];

/// Of `timeouts`.
pub const TIMEOUTS_FIELDS: [Field; 9] = [
    Field::new("connect", ["Connect", "连接上游"], DURATION_ABOVE_ZERO, "`5s`", "to connect to the upstream"),
    Field::new(
        "response",
        ["Response headers", "等待响应头"],
        DURATION_ABOVE_ZERO,
        "`60s`",
        "for the upstream's response headers",
    ),
    Field::new("idle", ["Between pieces", "响应体间隔"], DURATION_ABOVE_ZERO, "`5m`", "between pieces of a body"),
    Field::new(
        "upstream_idle",
        ["Kept connections", "上游空闲连接"],
        DURATION_ABOVE_ZERO,
        "`4s`",
        "how long an HTTP/1.1 connection to an upstream is kept for the next request",
    ),
    Field::new(
        "upstream_age",
        ["Age of connections", "上游连接最长使用时间"],
        DURATION_ABOVE_ZERO,
        "`60s`",
        "how old a connection to an upstream may be to get a request, so that changes of names are followed",
    ),
    Field::new(
        "upstream_ejection",
        ["Ejection of upstreams", "上游摘除时间"],
        DURATION_ABOVE_ZERO,
        "`10s`",
        "how long an upstream that did not answer three times in a row is left out, where there are others",
    ),
    Field::new(
        "request_headers",
        ["Request headers", "等待请求头"],
        DURATION_ABOVE_ZERO,
        "`60s`",
        "for a client's handshake and complete headers, and on a kept connection",
    ),
    Field::new("drain", ["Drain", "排空时间"], DURATION, "`30s`", "for requests in flight after SIGTERM"),
    Field::new(
        "lame_duck",
        ["Lame duck", "退出前等待"],
        DURATION,
        "`0s`",
        "after SIGTERM and before that: how long connections are still accepted, each for one more answer, so that \
         whoever sends clients here can look elsewhere first",
    ),
];

/// Of `limits`.
pub const LIMITS_FIELDS: [Field; 8] = [
    Field::new(
        "connections",
        ["Connections", "连接数"],
        Shape::Whole(1, 1_000_000),
        "`10000`",
        "clients' connections, tunnels included. At the limit those on which nothing happens are let go, first those \
         that never asked for anything; new ones are closed only if nobody is idle. No more than half of the process's \
         descriptors, whose limit is raised as far as it goes: the rest is for upstreams, Redis and the admin port",
    ),
    Field::new(
        "connections_per_address",
        ["Connections of one address", "单地址连接数"],
        COUNT,
        "`2500`",
        "of one IPv4 address or one /64 of IPv6; 0: no limit of its own. Raise it behind a single load balancer that \
         opens more",
    ),
    Field::new(
        "requests",
        ["Requests at once", "并发请求数"],
        Shape::Whole(1, 1_000_000),
        "`10000`",
        "requests at once, tunnels and bodies that go on after their answer included; one more is answered 503 with \
         `retry-after: 1`. Each holds some 50 KB while it is on its way",
    ),
    Field::new(
        "requests_per_address",
        ["Requests of one address", "单地址并发请求数"],
        COUNT,
        "`1000`",
        "the same of one address; 0: no limit of its own. Raise it behind a single load balancer that sends more",
    ),
    Field::new(
        "streams",
        ["Streams of a connection", "单连接并发流数"],
        Shape::Whole(1, 10_000),
        "`100`",
        "requests at once on one HTTP/2 connection",
    ),
    Field::new(
        "send_buffer",
        ["Send buffer", "发送缓冲区"],
        BUFFER,
        "`64KiB`",
        "what waits for a client that takes nothing: unsent in the kernel for a connection, in the process for an \
         HTTP/2 stream. Beyond it the upstream waits",
    ),
    Field::new(
        "body_time",
        ["Time for a request's body", "请求体时限"],
        DURATION,
        "`60s`",
        "how long a client may keep the gateway waiting for a request's body, before it is answered 408, or cut off if \
         it was answered before; each KiB that came buys a second more. `0s`: as long as `timeouts.response` from \
         piece to piece",
    ),
    Field::new(
        "answer_time",
        ["Time for an answer", "响应时限"],
        DURATION,
        "`5m`",
        "how long a client may keep an answer waiting by taking nothing on its connection, or by windows of HTTP/2 \
         that open too little, before the connection is closed or the stream reset; each KiB that it took since buys a \
         second more. `0s`: as long as it likes, if it takes something every `timeouts.idle`",
    ),
];

/// Of `log`.
pub const LOG_FIELDS: [Field; 2] = [
    Field::new(
        "access",
        ["Access log", "访问日志"],
        Shape::Flag,
        "true",
        "a line per request, but for those that are one too many at once, which only \
         `slidegate_requests_overloaded_total` counts",
    ),
    Field::new("format", ["Format", "格式"], Shape::Choice(&["text", "json"]), "`text`", "`text` or `json` ᴿ"),
];

/// The whole file.
pub const GATEWAY: Table = Table {
    name: "gateway",
    groups: &[&TOP],
    conditions: &[
        Condition::AnyOf(&[&["upstream"], &["upstreams"], &["routes"], &["decide"]]),
        Condition::AtMostOne(&["upstream", "upstreams", "routes"]),
        Condition::Distinct("upstreams"),
        Condition::Distinct("routes"),
        Condition::NotNull("tls"),
        Condition::NeedsAny("listen", &["upstream", "upstreams", "routes"]),
        Condition::NeedsAny("tls", &["upstream", "upstreams", "routes"]),
        Condition::NeedsAny("upstream_tls", &["upstream", "upstreams", "routes"]),
        Condition::AtMostOne(&["filter", "filters"]),
    ],
    null_is_nothing: true,
};

const ROUTE: Table = Table {
    name: "route",
    groups: &[&ROUTE_FIELDS],
    conditions: &[
        Condition::AnyOf(&[&["upstream"], &["upstreams"]]),
        Condition::AtMostOne(&["upstream", "upstreams"]),
        Condition::Distinct("upstreams"),
    ],
    null_is_nothing: true,
};
const LISTENER_TLS: Table =
    Table { name: "listener_tls", groups: &[&LISTENER_TLS_FIELDS], conditions: &[], null_is_nothing: false };
const ADMIN: Table =
    Table { name: "admin", groups: &[&ADMIN_FIELDS], conditions: &[Condition::NotNull("tls")], null_is_nothing: true };
const DECIDE: Table = Table {
    name: "decide",
    groups: &[&DECIDE_FIELDS],
    conditions: &[Condition::NotNull("tls")],
    null_is_nothing: true,
};
const UPSTREAM_TLS: Table = Table {
    name: "upstream_tls",
    groups: &[&UPSTREAM_TLS_FIELDS],
    conditions: &[Condition::Needs("cert", "key"), Condition::Needs("key", "cert")],
    null_is_nothing: true,
};
const REDIS: Table =
    Table { name: "redis_addresses", groups: &[&REDIS_FIELDS, &REDIS_ACCESS], conditions: &[], null_is_nothing: true };
const NAMED_REDIS: Table = Table {
    name: "redis_address",
    groups: &[&REDIS_ACCESS],
    conditions: &[Condition::AnyOf(&[&["url"]])],
    null_is_nothing: true,
};
const TIMEOUTS: Table = Table { name: "timeouts", groups: &[&TIMEOUTS_FIELDS], conditions: &[], null_is_nothing: true };
const LIMITS: Table = Table { name: "limits", groups: &[&LIMITS_FIELDS], conditions: &[], null_is_nothing: true };
const LOG: Table = Table { name: "log", groups: &[&LOG_FIELDS], conditions: &[], null_is_nothing: true };
