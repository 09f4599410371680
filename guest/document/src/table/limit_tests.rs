//! The fields of a file of tests of limits, which `slidegate test` runs.

use super::{Condition, DURATION, Field, Shape, TOKEN, Table};

/// Values of header fields by their names.
const HEADERS: Shape = Shape::Map(TOKEN, &Shape::Text, 0);
/// A status of HTTP.
const STATUS: Shape = Shape::Whole(200, 599);
/// As many as one step may send.
const COUNT: Shape = Shape::Whole(0, 1_000_000);

/// At the top.
pub const TOP: [Field; 3] = [
    Field::new(
        "file",
        ["File", "被测文件"],
        Shape::File,
        "",
        "the limits: a gateway's file, a filter's document or a WasmPlugin, as seen from the folder of the tests; or \
         `filter`",
    ),
    Field::new("filter", ["Filter", "过滤器配置"], Shape::Any, "", "a filter's document in place of a file"),
    Field::new(
        "tests",
        ["Tests", "测试列表"],
        Shape::List(&Shape::Object(&TEST), 1),
        "required",
        "list of tests, each of which begins with windows that are empty",
    )
    .required(),
];

/// Of an element of `tests`.
pub const TEST_FIELDS: [Field; 2] = [
    Field::new("name", ["Name", "名称"], Shape::Text, "required", "what is printed; `--filter` chooses by it")
        .required(),
    Field::new(
        "steps",
        ["Steps", "步骤"],
        Shape::List(&Shape::Object(&STEP), 1),
        "required",
        "list of requests, in the order of their times",
    )
    .required(),
];

/// Of an element of `steps`.
pub const STEP_FIELDS: [Field; 11] = [
    Field::new(
        "at",
        ["At", "时刻"],
        DURATION,
        "when the step before ended",
        "when the request comes, counted from the beginning of the test",
    ),
    Field::new(
        "request",
        ["Request", "请求"],
        Shape::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^ ]+$"),
        "required",
        "method and path, or URL, as in `GET /orders?page=2` or `GET https://shop.example/orders`; without a host it \
         is `localhost`",
    )
    .required(),
    Field::new("headers", ["Headers", "请求头"], HEADERS, "none", "header fields of the request, name to value"),
    Field::new("from", ["From", "客户端地址"], Shape::Text, "`192.0.2.1`", "the address that the request comes from"),
    Field::new("body", ["Body", "请求体"], Shape::Text, "none", "the request's body"),
    Field::new(
        "route",
        ["Route", "路由名"],
        Shape::Text,
        "as the file's routes say",
        "the route's name, for files that have no routes of their own",
    ),
    Field::new(
        "service",
        ["Service", "服务名"],
        Shape::Text,
        "as the file's routes say",
        "the upstream's name, as in `outbound|80||orders.static`, likewise",
    ),
    Field::new("times", ["Times", "次数"], Shape::Whole(1, 1_000_000), "1", "how often the request is sent"),
    Field::new("every", ["Every", "间隔"], DURATION, "`0s`", "how long after each other"),
    Field::new(
        "answer",
        ["Answer", "上游响应"],
        Shape::Object(&ANSWER),
        "200 without a body",
        "what the upstream answers, for limits on tokens",
    ),
    Field::new(
        "expect",
        ["Expect", "期望"],
        Shape::Either(&[Shape::Choice(&["pass", "refused"]), Shape::Object(&EXPECTATION)]),
        "nothing",
        "what must become of all its requests: `pass`, `refused`, or an object",
    ),
];

/// Of `answer`.
pub const ANSWER_FIELDS: [Field; 3] = [
    Field::new("status", ["Status", "状态码"], STATUS, "200", "its status"),
    Field::new("headers", ["Headers", "响应头"], HEADERS, "none", "its header fields, name to value"),
    Field::new("body", ["Body", "响应体"], Shape::Text, "none", "its body"),
];

/// Of `expect`, where it is an object.
pub const EXPECTATION_FIELDS: [Field; 5] = [
    Field::new("pass", ["Pass", "放行数"], COUNT, "", "how many pass the limits; the others are refused"),
    Field::new("refused", ["Refused", "拒绝数"], COUNT, "", "how many are refused; the others pass"),
    Field::new("status", ["Status", "状态码"], STATUS, "", "the status of the last answer"),
    Field::new(
        "headers",
        ["Headers", "响应头"],
        Shape::Map(TOKEN, &Shape::Optional(&Shape::Text), 0),
        "",
        "header fields of the last answer, name to value; null: there is none of this name",
    ),
    Field::new("by", ["By", "拒绝者"], Shape::Text, "", "the `rule_name` of what refuses the last request"),
];

/// The whole file.
pub const LIMIT_TESTS: Table = Table {
    name: "limit_tests",
    groups: &[&TOP],
    conditions: &[Condition::AnyOf(&[&["file"], &["filter"]]), Condition::AtMostOne(&["file", "filter"])],
    null_is_nothing: true,
};

const TEST: Table = Table { name: "limit_test", groups: &[&TEST_FIELDS], conditions: &[], null_is_nothing: true };
const STEP: Table = Table { name: "limit_test_step", groups: &[&STEP_FIELDS], conditions: &[], null_is_nothing: true };
const ANSWER: Table =
    Table { name: "limit_test_answer", groups: &[&ANSWER_FIELDS], conditions: &[], null_is_nothing: true };
const EXPECTATION: Table = Table {
    name: "limit_test_expectation",
    groups: &[&EXPECTATION_FIELDS],
    conditions: &[Condition::AtMostOne(&["pass", "refused"]), Condition::NotEmpty],
    null_is_nothing: true,
};
