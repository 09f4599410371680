//! The fields of limits: how much, in which window, and of which value.

use super::{Condition, Field, Shape, Table, joined, tokens};
use crate::quantity::EXACT_MAX;

/// `1s` to `365d`.
pub(super) const WINDOW: Shape = Shape::Pattern("^[0-9]*[1-9][0-9]* *[smhd]$");
/// How finely a window slides.
pub(super) const PRECISION: Shape = Shape::Either(&[
    Shape::Choice(&["exact"]),
    Shape::Whole(1, 96),
    Shape::Pattern("^[0-9]*[1-9][0-9]* *(ms|s|m|h|d)$"),
]);
/// What people call a limit.
pub(super) const NAME: Shape = Shape::Form("^[^\\x00-\\x1f\\x7f]{1,64}$");
const COUNT: Shape = Shape::Whole(1, EXACT_MAX);
/// Which fields make a limit.
const LIMIT_SETS: &[&[&str]] = &[
    &["query_per_second"],
    &["query_per_minute"],
    &["query_per_hour"],
    &["query_per_day"],
    &["limit", "window"],
    &["token_per_second"],
    &["token_per_minute"],
    &["token_per_hour"],
    &["token_per_day"],
    &["token_limit", "window"],
];

/// What may stand in an element of `limit_keys`, beside [`LIMIT`].
pub const KEY: [Field; 3] = [
    Field::new(
        "key",
        ["Key", "限流键"],
        Shape::Form("^"),
        "",
        "a value; in `limit_by_per_*` also `*` or `regexp:<RE2>` (unanchored, linear time, looks at the first 4 KiB), \
         ⁺ and plain values; in `limit_by_per_ip` an address or a network",
    )
    .required(),
    Field::new(
        "together",
        ["One window for all", "共享同一窗口"],
        Shape::Flag,
        "each value has its own",
        "the values of this entry (`*`, `regexp:`, a network) share one window",
    )
    .ours(),
    Field::new(
        "unlimited",
        ["Unlimited", "不限流"],
        Shape::Flag,
        "false",
        "in place of limits: with `rule_match: first` its values pass without a call and without charge, the \
         threshold's included; with `all` this rule adds nothing",
    )
    .ours(),
];

/// What may stand in `global_threshold`, beside [`LIMIT`].
pub const THRESHOLD: [Field; 1] =
    [Field::new("name", ["Name", "名称"], NAME, "", "as in an element of `rule_items`").ours()];

/// What may stand beside `key`, or in `global_threshold`.
pub const LIMIT: [Field; 12] = joined(&GENERAL_LIMIT, &tokens::LIMIT);

const GENERAL_LIMIT: [Field; 7] = [
    Field::new("query_per_second", ["Requests a second", "每秒请求数"], COUNT, "", "requests in a second, 1 to 2^53"),
    Field::new("query_per_minute", ["Requests a minute", "每分钟请求数"], COUNT, "", "requests in a minute"),
    Field::new("query_per_hour", ["Requests an hour", "每小时请求数"], COUNT, "", "requests in an hour"),
    Field::new("query_per_day", ["Requests a day", "每天请求数"], COUNT, "", "requests in a day"),
    Field::new("limit", ["Requests in the window", "窗口内请求数"], COUNT, "", "requests in `window`").ours(),
    Field::new(
        "window",
        ["Window", "窗口长度"],
        WINDOW,
        "",
        "`1s` to `365d` in whole seconds: `10s`, `5m`, `2h`, `7d`",
    )
    .ours(),
    Field::new(
        "precision",
        ["Precision", "窗口精度"],
        PRECISION,
        "as at the top",
        "`exact`, a number of slots, or a slot's width, for this limit",
    )
    .ours(),
];

/// An element of `limit_keys`.
pub(super) const KEY_OBJECT: Table = Table {
    name: "key",
    groups: &[&KEY, &LIMIT],
    conditions: &[
        Condition::UnlessFlag("unlimited", LIMIT_SETS),
        Condition::Needs("limit", "window"),
        Condition::Needs("token_limit", "window"),
        Condition::NeedsAny("window", &["limit", "token_limit"]),
    ],
    null_is_nothing: false,
};

/// `global_threshold`.
pub(super) const THRESHOLD_OBJECT: Table = Table {
    name: "threshold",
    groups: &[&LIMIT, &THRESHOLD],
    conditions: &[
        Condition::AnyOf(LIMIT_SETS),
        Condition::Needs("limit", "window"),
        Condition::Needs("token_limit", "window"),
        Condition::NeedsAny("window", &["limit", "token_limit"]),
    ],
    null_is_nothing: false,
};
