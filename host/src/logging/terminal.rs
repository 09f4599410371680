//! Lines for people: on a terminal the time of day and the level are enough of a head, and colours tell the levels
//! apart.

use std::borrow::Cow;
use std::fmt;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How text looks on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextStyle {
    /// For files and programs: the date, and where in the program a line comes from.
    Full,
    /// For a terminal that should have no colours.
    Short,
    /// For a terminal.
    Coloured,
}

impl TextStyle {
    /// That of a stream of this process. A variable `NO_COLOR` that is not empty forbids colours
    /// (<https://no-color.org>), as does a terminal that has none (`TERM=dumb`).
    pub(super) fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match stream.is_terminal() {
            false => Self::Full,
            true if is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb") => Self::Short,
            true => Self::Coloured,
        }
    }
}

/// How text looks on each of the two streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextStyles {
    pub(super) out: TextStyle,
    pub(super) err: TextStyle,
}

/// Formats events as text, for each stream in its style. Colours are added afterwards, so that what clients send cannot
/// add any.
pub(super) struct TextLines {
    styles: TextStyles,
    style_of: fn(TextStyles, &Metadata<'_>) -> TextStyle,
    full: Format<Full>,
    short: Format<Compact, TimeOfDay>,
}

impl TextLines {
    pub(super) fn new(styles: TextStyles, style_of: fn(TextStyles, &Metadata<'_>) -> TextStyle) -> Self {
        let short = tracing_subscriber::fmt::format().with_timer(TimeOfDay).with_target(false).compact();
        Self { styles, style_of, full: tracing_subscriber::fmt::format(), short }
    }
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match (self.style_of)(self.styles, event.metadata()) {
            TextStyle::Full => self.full.format_event(context, writer, event),
            TextStyle::Short | TextStyle::Coloured => self.short.format_event(context, writer, event),
        }
    }
}

/// `14:03:59Z`: the time of day in UTC, like the full lines' dates.
struct TimeOfDay;

/// Bytes of a time of day.
const TIME_BYTES: usize = "14:03:59Z".len();

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        write!(writer, "{:02}:{:02}:{:02}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    }
}

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The levels' names, right-aligned as they are written, and their colours.
const LEVELS: [(&str, &str); 5] =
    [("ERROR", "\x1b[31m"), (" WARN", "\x1b[33m"), (" INFO", "\x1b[32m"), ("DEBUG", "\x1b[34m"), ("TRACE", "\x1b[35m")];

/// A short line with its time dimmed and its level coloured; any other as it is.
pub(super) fn coloured(line: &[u8]) -> Cow<'_, [u8]> {
    let parts = line.split_at_checked(TIME_BYTES).and_then(|(time, rest)| {
        let rest = rest.strip_prefix(b" ")?;
        let (level, colour) = LEVELS.iter().find(|(level, _)| rest.starts_with(level.as_bytes()))?;
        Some((time, level, colour, &rest[level.len()..]))
    });
    match parts {
        Some((time, level, colour, text)) => Cow::Owned(
            [DIM.as_bytes(), time, PLAIN.as_bytes(), b" ", colour.as_bytes(), level.as_bytes(), PLAIN.as_bytes(), text]
                .concat(),
        ),
        None => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_short_line_is_coloured_and_nothing_else() {
        assert_eq!(
            coloured(b"14:03:59Z  WARN redis is away INFO\n").as_ref(),
            b"\x1b[2m14:03:59Z\x1b[0m \x1b[33m WARN\x1b[0m redis is away INFO\n"
        );
        for other in ["", "short", "14:03:59Z", "14:03:59Z  LOUD what", "14:03:59Zäöü"] {
            assert_eq!(coloured(other.as_bytes()).as_ref(), other.as_bytes());
        }
    }

    #[test]
    fn what_is_no_terminal_gets_full_lines() {
        assert_eq!(TextStyle::of(&std::fs::File::open("/dev/null").expect("the null device")), TextStyle::Full);
    }
}
