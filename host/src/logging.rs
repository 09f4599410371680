//! Where log lines go: requests to standard output, everything else to standard error.

use std::io::{Stderr, Stdout, stderr, stdout};

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::EitherWriter;

use crate::gateway::ACCESS_LOG_TARGET;
use crate::settings::LogFormat;

/// The variable that says what is logged, as in `debug` or `info,access=off`.
const FILTER_VARIABLE: &str = "SLIDEGATE_LOG";

/// Starts logging, for the whole process.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).with_env_var(FILTER_VARIABLE).from_env_lossy();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Streams);
    // Somebody else's subscriber, set before ours, is no reason not to serve.
    let _ = match format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

struct Streams;

impl<'a> MakeWriter<'a> for Streams {
    type Writer = EitherWriter<Stdout, Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        EitherWriter::B(stderr())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        match metadata.target() == ACCESS_LOG_TARGET {
            true => EitherWriter::A(stdout()),
            false => EitherWriter::B(stderr()),
        }
    }
}
