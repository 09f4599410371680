//! Where log lines go: requests to standard output, everything else to standard error.
//!
//! Whoever logs only puts a line into a queue. A thread for each of the two streams writes them, so that a stream that
//! is closed, full or not read costs lines, which are counted, and never a request. On a terminal lines are short, and
//! coloured unless `NO_COLOR` is set.

mod line;
mod queue;
mod terminal;

use std::io;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::queue::{Queue, StandardStream};
use self::terminal::{TextLines, TextStyle, TextStyles};
use crate::settings::LogFormat;

pub(crate) use self::line::cut;

/// The target of access log lines, for log filters.
pub(crate) const ACCESS_LOG_TARGET: &str = "access";

/// The variable that says what is logged, as in `debug` or `info,access=off`.
const FILTER_VARIABLE: &str = "SLIDEGATE_LOG";

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The longest text of a panic that is logged, in bytes.
const PANIC_BYTES_MAX: usize = 512;

static LOG: OnceLock<Log> = OnceLock::new();

/// The streams of a process that logs.
struct Log {
    out: Arc<Queue>,
    err: Arc<Queue>,
    /// How text looks on each.
    styles: TextStyles,
}

/// How the text of an event looks.
fn style_of(styles: TextStyles, metadata: &Metadata<'_>) -> TextStyle {
    if is_access(metadata) { styles.out } else { styles.err }
}

/// Whether an event is a request, which goes to standard output.
fn is_access(metadata: &Metadata<'_>) -> bool {
    metadata.target() == ACCESS_LOG_TARGET
}

/// Starts logging, for the whole process.
pub(crate) fn start(format: LogFormat) {
    let log = LOG.get_or_init(|| Log {
        out: Queue::start(StandardStream::Out),
        err: Queue::start(StandardStream::Err),
        styles: TextStyles { out: TextStyle::of(&io::stdout()), err: TextStyle::of(&io::stderr()) },
    });
    let filter = hushed(
        EnvFilter::builder()
            .with_default_directive(tracing::Level::INFO.into())
            .with_env_var(FILTER_VARIABLE)
            .from_env_lossy(),
    );
    // What cannot be logged is not told on standard error, which may be what cannot be written to.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(LogStreams { log, format });
    // Somebody else's subscriber, set before ours, is no reason not to serve.
    let _ = match format {
        LogFormat::Text => subscriber.with_ansi(false).event_format(TextLines::new(log.styles, style_of)).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
}

/// A library that warns of what strangers do, about which nobody can do anything.
const WARNING_OF_STRANGERS: &str = "h2";

/// The filter without such warnings, unless it shows what is for debugging, or names the library.
fn hushed(filter: EnvFilter) -> EnvFilter {
    let is_debugging = filter.max_level_hint().is_some_and(|level| level >= tracing::Level::DEBUG);
    let is_named = filter.to_string().split(',').any(|directive| directive.starts_with(WARNING_OF_STRANGERS));
    match format!("{WARNING_OF_STRANGERS}=error").parse() {
        Ok(directive) if !is_debugging && !is_named => filter.add_directive(directive),
        _ => filter,
    }
}

/// Prints to standard output by way of the log's queue: after what was printed before, without waiting. Directly before
/// [`start`].
pub(crate) fn print(text: &str) {
    match LOG.get() {
        Some(log) => log.out.push(text.as_bytes()),
        // Nobody may be listening; that is no reason to fail.
        None => drop(io::Write::write_all(&mut io::stdout(), text.as_bytes())),
    }
}

/// Waits until what was logged is written, but not for long. To be called before the process ends.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        let deadline = Instant::now() + FLUSH_TIME;
        log.out.flush(deadline);
        log.err.flush(deadline);
    }
}

/// For each stream, its name and how many lines were given up because it could not be written to.
pub(crate) fn dropped_lines() -> [(&'static str, u64); 2] {
    let dropped = |queue: fn(&Log) -> &Queue| LOG.get().map_or(0, |log| queue(log).dropped());
    [("stdout", dropped(|log| &log.out)), ("stderr", dropped(|log| &log.err))]
}

/// A panic ends a task and not the process; its text goes where everything goes, as one line.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("of an unknown kind");
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name().unwrap_or(""),
        at = panic.location().map(tracing::field::display),
        "panic: {}",
        cut(text, PANIC_BYTES_MAX)
    );
}

struct LogStreams {
    log: &'static Log,
    format: LogFormat,
}

/// Takes one formatted event.
struct EventWriter<'a> {
    queue: &'a Queue,
    format: LogFormat,
    style: TextStyle,
}

impl<'a> MakeWriter<'a> for LogStreams {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        EventWriter { queue: &self.log.err, format: self.format, style: self.log.styles.err }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let queue = if is_access(metadata) { &self.log.out } else { &self.log.err };
        EventWriter { queue, format: self.format, style: style_of(self.log.styles, metadata) }
    }
}

impl io::Write for EventWriter<'_> {
    /// The subscriber writes an event at once, with its line end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = line::printable(event, self.format);
        match (self.format, self.style) {
            (LogFormat::Text, TextStyle::Coloured) => self.queue.push(&terminal::coloured(&line)),
            _ => self.queue.push(&line),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
