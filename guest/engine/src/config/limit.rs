//! Limits of an entry of `limit_keys` or of `global_threshold`: counts, windows and how finely windows slide.

use alloc::{format, string::String, vec::Vec};

use slidegate_document::{Content, EXACT_MAX, Fields, Node, Path, Reader, TimeSpan, duration_us, whole_number};

use super::known_fields;
use crate::rule::{Limit, LimitUnit};

/// Fields that say how much a window of so many seconds admits.
const PER: [(&str, u64, LimitUnit); 8] = [
    ("query_per_second", 1, LimitUnit::Requests),
    ("query_per_minute", 60, LimitUnit::Requests),
    ("query_per_hour", 3_600, LimitUnit::Requests),
    ("query_per_day", 86_400, LimitUnit::Requests),
    ("token_per_second", 1, LimitUnit::Tokens),
    ("token_per_minute", 60, LimitUnit::Tokens),
    ("token_per_hour", 3_600, LimitUnit::Tokens),
    ("token_per_day", 86_400, LimitUnit::Tokens),
];
/// Fields that say how much `window` beside them admits.
const IN_WINDOW: [(&str, LimitUnit); 2] = [("limit", LimitUnit::Requests), ("token_limit", LimitUnit::Tokens)];
const WINDOW_SECONDS_MAX: u64 = 365 * 86_400;
/// A key holds a member for each slot and two more; at this number it stays far below the 128 that Redis keeps compact.
const SLOTS_MAX: u64 = 96;
const SLOTS_DEFAULT: u64 = 64;
/// Up to this limit every admission may have a member of its own.
const EXACT_LIMIT_MAX: u64 = 100;
const SECOND_US: u64 = 1_000_000;
/// Of an exact window that may have more slots than [`EXACT_LIMIT_MAX`], so many are surely looked at for the one that
/// something is to be given back to: 18 members of four, of which the newest may have one,
/// and one more slot tells what the oldest holds.
const REFUNDED_SLOTS: u64 = 67;

/// `precision`: how finely a window slides.
#[derive(Clone, Copy)]
pub(super) enum Precision {
    /// Exact for small limits, else 64 slots.
    ByLimit,
    /// `"exact"`.
    Exact,
    /// A number of slots in a window.
    Slots(u64),
    /// The width of a slot in microseconds.
    WidthUs(u64),
}

impl Precision {
    /// Reads the field `precision`. `None` if there is none, or none that can be understood.
    pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>) -> Option<Precision> {
        let (path, node) = fields.get("precision")?;
        let precision = match &node.content {
            Content::Text(text) if text == "exact" => Some(Precision::Exact),
            Content::Text(text) if whole_number(node).is_none() => {
                duration_us(text).filter(|width| *width > 0).map(Precision::WidthUs)
            }
            _ => whole_number(node).filter(|slots| (1..=SLOTS_MAX).contains(slots)).map(Precision::Slots),
        };
        if precision.is_none() {
            let what =
                format_args!("`exact`, a number of slots from 1 to {SLOTS_MAX}, or a slot's width such as `100ms`");
            reader.expected(path, node, what);
        }
        precision
    }

    /// The width of a slot for one limit, in microseconds; the error is a sentence.
    fn slot_us(self, limit: u64, window_us: u64) -> Result<u64, String> {
        match self {
            Precision::Exact => Ok(1),
            Precision::ByLimit if limit <= EXACT_LIMIT_MAX => Ok(1),
            Precision::ByLimit => Ok(window_us / SLOTS_DEFAULT),
            Precision::Slots(slots) => Ok(window_us.div_ceil(slots)),
            Precision::WidthUs(width) if width > window_us => {
                Err(format!("a slot of {} is wider than the window of {}", TimeSpan(width), TimeSpan(window_us)))
            }
            Precision::WidthUs(width) => {
                let slots = window_us.div_ceil(width);
                if slots <= SLOTS_MAX || limit <= EXACT_LIMIT_MAX {
                    return Ok(width);
                }
                Err(format!(
                    "slots of {} cut the window of {} into {slots} parts: expected at most {SLOTS_MAX}, or `exact`",
                    TimeSpan(width),
                    TimeSpan(window_us)
                ))
            }
        }
    }
}

/// Every limit in an object, by window; empty if there is none that can be understood.
pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, inherited: Precision) -> Vec<Limit> {
    let own = Precision::read(reader, fields);
    let counts = counts(reader, fields);
    let mut limits: Vec<Limit> = Vec::new();
    for LimitCount { name, limit, window_us, unit } in counts {
        let path = fields.at(name);
        if limits.iter().any(|other| (other.window_us, other.unit) == (window_us, unit)) {
            reader.error(
                path,
                format_args!("there is another limit for the same window of {} beside it", TimeSpan(window_us)),
            );
            continue;
        }
        match own.unwrap_or(inherited).slot_us(limit, window_us) {
            Ok(slot_us) => {
                if slot_us == 1 && limit > EXACT_LIMIT_MAX {
                    reader.warn(
                        path,
                        format_args!(
                            "with `exact` a key in Redis grows with the limit, to {} members",
                            limit.div_ceil(4)
                        ),
                    );
                    if unit == LimitUnit::Tokens {
                        reader.warn(
                            fields.at(name),
                            format_args!(
                                "with `exact` a request that more than {REFUNDED_SLOTS} others followed may give \
                                 nothing back of what it did not need"
                            ),
                        );
                    }
                }
                let at = limits.partition_point(|other: &Limit| (other.unit, other.window_us) < (unit, window_us));
                limits.insert(at, Limit { limit, window_us, slot_us, unit });
            }
            Err(message) if own.is_some() => reader.error(fields.at("precision"), message),
            Err(message) => {
                reader.error(path, format_args!("by the `precision` of the whole, {message} (give it its own)"))
            }
        }
    }
    warn_of_idle(reader, fields, &limits);
    limits
}

/// Tells of limits that another one beside them never lets a request reach. `limits` are by unit, then by window.
fn warn_of_idle(reader: &mut Reader, fields: &Fields<'_>, limits: &[Limit]) {
    for (at, short) in limits.iter().enumerate() {
        for long in limits.iter().skip(at + 1).filter(|long| long.unit == short.unit) {
            let most = short.limit.saturating_mul(long.window_us.div_ceil(short.window_us));
            let (idle, other) = if short.limit >= long.limit {
                (short, long)
            } else if most <= long.limit {
                (long, short)
            } else {
                continue;
            };
            let (idle_span, span) = (TimeSpan(idle.window_us), TimeSpan(other.window_us));
            let (limit, tokens) = (idle.limit, if idle.unit == LimitUnit::Tokens { " tokens" } else { "" });
            reader.warn(
                fields.path,
                format_args!(
                    "{limit}{tokens} per {idle_span} never refuses: {} per {span} beside it always does first",
                    other.limit
                ),
            );
        }
    }
}

/// A field that limits, as written.
struct LimitCount {
    name: &'static str,
    limit: u64,
    window_us: u64,
    unit: LimitUnit,
}

/// What each field says that is a limit.
fn counts(reader: &mut Reader, fields: &Fields<'_>) -> Vec<LimitCount> {
    let mut counts = Vec::new();
    for (name, seconds, unit) in PER {
        let Some((path, node)) = fields.get(name) else { continue };
        if let Some(limit) = reader.whole(path, node, 1..=EXACT_MAX) {
            counts.push(LimitCount { name, limit, window_us: seconds * SECOND_US, unit });
        }
    }
    let window = fields.get("window").map(|(path, node)| window_us(reader, path, node));
    let mut has_limit = false;
    for (name, unit) in IN_WINDOW {
        let Some((path, node)) = fields.get(name) else { continue };
        has_limit = true;
        let limit = reader.whole(path, node, 1..=EXACT_MAX);
        match window {
            Some(window) => {
                counts.extend(limit.zip(window).map(|(limit, window_us)| LimitCount { name, limit, window_us, unit }));
            }
            None => reader.error(fields.at(name), "expected `window` beside it, such as \"10s\""),
        }
    }
    match (has_limit, window) {
        (false, Some(_)) => reader.error(fields.at("window"), "expected `limit` or `token_limit` beside it"),
        (false, None) => report_if_none(reader, fields),
        (true, _) => {}
    }
    counts
}

/// Unless some limit was tried, or a field that nobody knows is there, which is told already and may have been meant
/// for one.
fn report_if_none(reader: &mut Reader, fields: &Fields<'_>) {
    let known = || known_fields::LIMIT.into_iter().chain(known_fields::THRESHOLD).chain(known_fields::KEY);
    let is_unknown = |name: &str| known().all(|known| known != name);
    let tried = |name: &str| name.starts_with("query_per_") || name.starts_with("token_per_") || is_unknown(name);
    if !fields.names().any(tried) {
        reader.error(
            fields.path,
            "expected at least one limit: `query_per_second`, `query_per_minute`, `query_per_hour`, `query_per_day`, \
             or `limit` with `window`; on tokens `token_per_second`, `token_per_minute`, `token_per_hour`, \
             `token_per_day`, or `token_limit` with `window`",
        );
    }
}

fn window_us(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<u64> {
    let window = window_text_us(node);
    if window.is_none() {
        reader.expected(
            path,
            node,
            "whole seconds, minutes, hours or days from `1s` to `365d`, such as `10s`, `5m`, `2h`, `7d`",
        );
    }
    window
}

/// `1s` to `365d` in microseconds, if that is what a node says.
pub(super) fn window_text_us(node: &Node) -> Option<u64> {
    let is_whole = |window: &u64| {
        window.is_multiple_of(SECOND_US) && (SECOND_US..=WINDOW_SECONDS_MAX * SECOND_US).contains(window)
    };
    duration_us(node.as_str()?).filter(is_whole)
}
