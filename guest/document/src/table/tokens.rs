//! The fields of limits on tokens of language models.

use super::{Field, Shape, Table};
use crate::quantity::EXACT_MAX;

/// How tokens are charged, at the top of a configuration or in an element of `rule_items`.
pub const TERMS: [Field; 9] = [
    Field::new(
        "charge",
        ["What is charged", "计费口径"],
        Shape::Choice(&["billed", "stock"]),
        "`billed`",
        "of an answer's usage: `billed` (all that the provider bills: input, cached and written to a cache, output \
         with its reasoning, each token once) or `stock` (what Higress' plugin adds up: input and output as the \
         provider names them)",
    )
    .ours(),
    Field::new(
        "token_weights",
        ["Weights of tokens", "各类 token 的权重"],
        Shape::Object(&WEIGHTS_OBJECT),
        "1 each",
        "what a token counts by its class: an object of `input`, `cached_read`, `cache_write`, `output`, `reasoning` \
         (as `output` where it is not said), each from 0 to 1000000 with three decimals at most; the sum is rounded up \
         once",
    )
    .ours(),
    Field::new(
        "accounting",
        ["When tokens are charged", "计费时机"],
        Shape::Choice(&["reserve", "after"]),
        "`reserve`",
        "`reserve`: an estimate is charged when a request is admitted, and settled when its answer is known; `after`: \
         as stock, all is charged when the answer is known, so that requests at once pass together (a token each keeps \
         their places until then)",
    )
    .ours(),
    Field::new(
        "admission",
        ["What is admitted", "放行条件"],
        Shape::Choice(&["room", "fits"]),
        "`room`",
        "`room`: a request passes while anything is left of the limit; `fits`: if its estimate is",
    )
    .ours(),
    Field::new(
        "reserve",
        ["What is reserved", "预留量"],
        Shape::Either(&[Shape::Choice(&["auto", "max_tokens"]), Shape::Whole(1, EXACT_MAX)]),
        "`auto`",
        "the estimate: `auto` (a token for every four bytes that the request's `content-length` tells, 64 Ki at most, \
         and to that the mean of what some eight answers to this key took of late beyond it, never below 256; the sum \
         is rounded up by an eighth at most, to four binary digits, so that requests that differ by little ask alike: \
         without a body 256, with one of 58 bytes 288; a body that does not tell its length waits until it is read, up \
         to 1 MiB), `max_tokens` (a token for every four bytes of the body, and what it says that the answer may have \
         at most, in any provider's API; a body of up to 1 MiB waits for that; one that says nothing, or is in a \
         content coding that nobody here takes off, is as with `auto`), or a number of tokens; never more than the \
         limit",
    )
    .ours(),
    Field::new(
        "on_missing_usage",
        ["Without a usage", "响应缺少用量时"],
        Shape::Choice(&["nothing", "estimate", "reserved"]),
        "`nothing`, as stock",
        "what a whole answer is charged that does not tell its usage: `nothing`, an `estimate` (a token for every four \
         bytes of the request's body and of the answer's text, or for every three of a text that is mostly not ASCII), \
         or what was `reserved`",
    )
    .ours(),
    Field::new(
        "request_usage",
        ["Ask streams for their usage", "要求流式响应返回用量"],
        Shape::Flag,
        "`false`",
        "whether a request for a stream to a path that ends with `/completions` is changed so that the model tells its \
         usage (`stream_options.include_usage`, as OpenAI's API has it; a body of up to 1 MiB waits for that); the \
         event that tells it is taken out of the answer again where the client has not asked for it",
    )
    .ours(),
    Field::new(
        "on_exhausted",
        ["When an answer takes more than is left", "回答中途额度用尽时"],
        Shape::Choice(&["refuse_next", "cut"]),
        "`refuse_next`",
        "a streamed answer that takes more than was reserved: `refuse_next` (it goes on, and what it took counts \
         against the next requests) or `cut` (more is asked for as it comes, 256 tokens at a time or a sixteenth of a \
         smaller limit, and when nothing is left the stream ends behind a whole event, and the model is let go)",
    )
    .ours(),
    Field::new(
        "cut_as",
        ["How a cut answer ends", "截断的回答如何结束"],
        Shape::Choice(&["finish", "error"]),
        "`finish`",
        "the last words of a stream that is cut, as its API has them: `finish` (regularly, as if the answer had come \
         to its greatest length) or `error` (of a rate limit)",
    )
    .ours(),
];

/// What refusals look like, at the top of a configuration.
pub const FORMAT: [Field; 1] = [Field::new(
    "error_format",
    ["Format of a refusal", "拒绝响应的格式"],
    Shape::Choice(&["plain", "auto", "openai", "anthropic", "gemini"]),
    "`plain`",
    "a refusal as official clients of an API understand it: `openai`, `anthropic`, `gemini`, or `auto` (by the path: \
     `/messages`, Gemini's methods such as `:generateContent`, else OpenAI's); a stated `rejected_msg` stays the body. \
     `Retry-After` and `retry-after-ms` come with it whatever `headers` says, and for a wait of more than a minute \
     `x-should-retry: false`, as those clients would else sleep through it or ask in vain",
)
.ours()];

/// What stands beside `key`, or in `global_threshold`.
pub const LIMIT: [Field; 5] = [
    Field::new("token_per_second", ["Tokens a second", "每秒 token 数"], COUNT, "", "tokens in a second, 1 to 2^53"),
    Field::new("token_per_minute", ["Tokens a minute", "每分钟 token 数"], COUNT, "", "tokens in a minute"),
    Field::new("token_per_hour", ["Tokens an hour", "每小时 token 数"], COUNT, "", "tokens in an hour"),
    Field::new("token_per_day", ["Tokens a day", "每天 token 数"], COUNT, "", "tokens in a day"),
    Field::new("token_limit", ["Tokens in the window", "窗口内 token 数"], COUNT, "", "tokens in `window`").ours(),
];

/// Of `token_weights`.
pub const WEIGHTS: [Field; 5] = [
    Field::new("input", ["Input", "输入"], Shape::Weight, "1", "what the model read anew").ours(),
    Field::new("cached_read", ["Read from a cache", "缓存读取"], Shape::Weight, "1", "what it read from a cache")
        .ours(),
    Field::new("cache_write", ["Written to a cache", "缓存写入"], Shape::Weight, "1", "what it wrote into one").ours(),
    Field::new("output", ["Output", "输出"], Shape::Weight, "1", "what it wrote, but for its reasoning").ours(),
    Field::new("reasoning", ["Reasoning", "推理"], Shape::Weight, "as `output`", "what it reasoned").ours(),
];

const COUNT: Shape = Shape::Whole(1, EXACT_MAX);

const WEIGHTS_OBJECT: Table =
    Table { name: "token_weights", groups: &[&WEIGHTS], conditions: &[], null_is_nothing: false };
