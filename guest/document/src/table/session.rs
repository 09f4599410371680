//! The fields of a filter that tells whose session a request is of.

use super::{COOKIE, Condition, DURATION, DURATION_ABOVE_ZERO, Field, Shape, TOKEN, Table, filter::REDIS_OBJECT};

/// What stands in place of a limiter.
pub const FILTER: [Field; 1] = [Field::new(
    "session",
    ["Session", "会话"],
    Shape::Object(&SESSION_OBJECT),
    "",
    "a filter of its own, for every request: reads the session that an application keeps, and tells what follows who \
     is asking",
)
.ours()];

/// Of `session`.
pub const SESSION: [Field; 17] = [
    Field::new(
        "format",
        ["Format", "会话格式"],
        Shape::Choice(&[
            "express",
            "flask-session",
            "php",
            "spring",
            "rack",
            "django",
            "json",
            "hash",
            "signed-flask",
            "signed-starlette",
            "signed-django",
            "own",
        ]),
        "",
        "how the application keeps sessions: in Redis as express-session (`express`), Flask-Session, PHP, Spring \
         Session, Rack, Django, as a `json` object or as a `hash`; or whole in a signed cookie (`signed-flask`, \
         `signed-starlette`, `signed-django`); or not at all: then Slidegate keeps them (`own`)",
    )
    .ours()
    .required(),
    Field::new(
        "cookie",
        ["Cookie", "Cookie 名称"],
        Shape::Form(COOKIE),
        "the library's own; none with `json` and `hash`; `__Host-session` with `own`",
        "the name of the cookie",
    )
    .ours(),
    Field::new(
        "header",
        ["Header", "请求头"],
        Shape::Form(TOKEN),
        "",
        "in place of `cookie`: the name of a header that has the session's id, or the signed session",
    )
    .ours(),
    Field::new(
        "secrets",
        ["Secrets", "签名密钥"],
        Shape::Some(&Shape::Form("^"), 1),
        "",
        "the application's secrets, any of which may have signed: one, or a list of up to 16 while they are changed. \
         Required with `express` and `signed-*`; with `flask-session` cookies are signed if there are any. With `own`, \
         required too, it is Slidegate that signs, with the first",
    )
    .ours(),
    Field::new(
        "max_age",
        ["Greatest age", "最长有效期"],
        DURATION_ABOVE_ZERO,
        "as the library: `31d` of `signed-flask`, else `14d`",
        "how long a signed session is good",
    )
    .ours(),
    Field::new(
        "key_prefix",
        ["Prefix of keys", "键前缀"],
        Shape::Text,
        "the library's own; none with `json` and `hash`; `slidegate:session:` with `own`",
        "what the keys of sessions in Redis begin with",
    )
    .ours(),
    Field::new(
        "fields",
        ["Fields", "字段"],
        Shape::Map("^", &Shape::Form(TOKEN), 1),
        "required",
        "fields of a session and the headers that tell them, up to 31, such as `{passport.user: x-user-id}`: names \
         lead into objects and lists (`roles.0`); a dot of a name is written `\\.`. Whatever a client sends in these \
         headers is removed",
    )
    .ours()
    .required(),
    Field::new(
        "user",
        ["Who it is", "用户字段"],
        Shape::Text,
        "all of `fields`; required with `own`",
        "which of `fields` says whose session it is: without it, or with false or 0 there, it is nobody's",
    )
    .ours(),
    Field::new(
        "on_missing",
        ["Without a session", "无会话时"],
        Shape::Either(&[Shape::Choice(&["anonymous"]), Shape::Whole(401, 401), Shape::Object(&ANSWER_OBJECT)]),
        "`anonymous`",
        "what becomes of a request without a session: it passes (`anonymous`), is answered `401`, or is sent to a \
         page, as in `{redirect: /login}`; API clients, who do not accept HTML, get 401 there too",
    )
    .ours(),
    Field::new(
        "failure_mode",
        ["When Redis fails", "Redis 故障时的处理方式"],
        Shape::Choice(&["open", "closed"]),
        "`open` with `on_missing: anonymous`, else `closed`",
        "what becomes of a request whose session cannot be looked up: it passes as nobody's (`open`), or is answered \
         503 (`closed`) unless its path is public",
    )
    .ours(),
    Field::new(
        "public",
        ["Public paths", "公开路径"],
        Shape::Some(&Shape::Form("^/[A-Za-z0-9/._~-]*\\*?$"), 1),
        "the page of `redirect`",
        "paths that need no session whatever `on_missing` says, such as `/login`, or how they begin, as in \
         `/assets/*`; a path with escapes, dot segments or slashes in a row is none of them",
    )
    .ours(),
    Field::new(
        "remember",
        ["Remember for", "缓存时间"],
        DURATION,
        "`1s`",
        "how long an instance goes by what it has read of a session, up to `5m`; 0: it asks each time",
    )
    .ours(),
    Field::new(
        "idle",
        ["Ends unused after", "空闲过期"],
        DURATION_ABOVE_ZERO,
        "`30m`, or `absolute` if that is shorter",
        "with `own`: how long after its last request a session ends",
    )
    .ours(),
    Field::new(
        "absolute",
        ["Ends after", "最长时间"],
        DURATION_ABOVE_ZERO,
        "`12h`",
        "with `own`: how long after it has begun a session ends, however much it is used",
    )
    .ours(),
    Field::new(
        "max_per_user",
        ["Sessions per user", "每用户会话数"],
        Shape::Whole(1, 1_000),
        "",
        "with `own`: how many sessions a user may have, over all gateways",
    )
    .ours(),
    Field::new(
        "when_full",
        ["One too many", "超出时"],
        Shape::Choice(&["end_oldest", "refuse_newest"]),
        "`end_oldest`",
        "what becomes of one that begins above `max_per_user`: the one used longest ago ends for it (`end_oldest`), or \
         it does not begin, and the answer is 403 (`refuse_newest`)",
    )
    .ours(),
    Field::new(
        "redis",
        ["Redis", "Redis 配置"],
        Shape::Object(&REDIS_OBJECT),
        "",
        "where sessions are kept; required unless all is in the cookie",
    )
    .ours(),
];

/// Of an `on_missing` that is an object.
pub const ANSWER: [Field; 1] = [Field::new(
    "redirect",
    ["Page to log in", "登录页面"],
    Shape::Form("^(/([^/\\\\]|$)|https?://)[!-~]*$"),
    "",
    "where to: a path on the same host, or a URL",
)
.ours()
.required()];

/// A filter's whole document, in place of a limiter's.
pub const FILTER_OBJECT: Table = Table {
    name: "session_filter",
    groups: &[&FILTER, super::filter::PLUGIN_ID],
    conditions: &[Condition::AnyOf(&[&["session"]])],
    null_is_nothing: false,
};

const SESSION_OBJECT: Table = Table {
    name: "session",
    groups: &[&SESSION],
    conditions: &[Condition::AtMostOne(&["cookie", "header"])],
    null_is_nothing: true,
};

const ANSWER_OBJECT: Table =
    Table { name: "session_missing", groups: &[&ANSWER], conditions: &[], null_is_nothing: false };
