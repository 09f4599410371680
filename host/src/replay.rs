//! `slidegate replay`: what limits would have done to the requests of a log. The gateway's own checks, routes and
//! filter decide, on the clock of the log; nothing is sent. Memory is of a fixed size however large the log is.

mod fixed;
mod har;
mod json_line;
mod layout;
mod lines;
mod logged;
mod outcome;
mod page;
mod report;
mod series;
mod stamp;
mod text_line;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hyper::header::{CONTENT_TYPE, HeaderName};
use slidegate::{HeaderNames, Module, Moment, Parts as UsedParts};

use self::fixed::FixedWindows;
use self::har::ARCHIVE_BYTES_MAX;
use self::layout::{LogKind, LogLayout, MappedPart};
use self::lines::{LINE_BYTES_MAX, LogLines, LogText};
use self::logged::LoggedRequest;
use self::outcome::ReplayCounts;
use self::report::{ReplayReport, ReportForm};
use crate::gateway::{AnsweredBy, Rehearsal, RehearsedUpstream};
use crate::output;
use crate::settings::Mistake;
use crate::settings::source::{Overrides, SettingsSource};
use crate::subject::{Subject, UnusableFile};

/// The words for comparing with what the log itself says, and with fixed windows of the same limits.
const AGAINST_LOG: &str = "log";
const AGAINST_FIXED: &str = "fixed";
/// More would be refused than is allowed.
const TOO_MANY: u8 = 3;
/// What is wrong with files or logs.
const FAILED: u8 = 1;
/// What limits answer by default where they refuse.
const TOO_MANY_REQUESTS: u16 = 429;
/// How often a terminal is told how far it is.
const TOLD_EACH: Duration = Duration::from_millis(200);
/// So many lines are read before somebody looks at the time.
const LINES_AT_ONCE: u64 = 4_096;
/// So many windows the filter keeps inside.
const WINDOWS_MAX: usize = 100_000;
/// Between the first request and the beginning of the filter's clock, whose 0 stands for what is not known.
const BEGINNING_NS: u64 = 1_000_000_000;

#[derive(Debug, Args)]
pub(crate) struct LogReplay {
    /// The limits: a gateway's file, a filter's document, or resources of Higress' plugin.
    file: PathBuf,
    /// Logs, in the order of their times, as they are or compressed by gzip or zstd; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Which log it is.
    #[arg(long, value_enum, default_value_t)]
    format: LogKind,
    /// Where else something stands, as in `header.x-api-key=.api_key` of JSON, `host=#5` of words, or `method=verb` of
    /// columns. May be given several times.
    #[arg(long, value_name = "FIELD=PLACE")]
    map: Vec<String>,
    /// Compare with what the log says was refused (`log`), with fixed windows of the same limits, as most limiters have
    /// them (`fixed`), or with other limits in a file.
    #[arg(long, value_name = "log|fixed|FILE")]
    against: Option<PathBuf>,
    /// What is told of requests that belong together.
    #[arg(long, value_enum, default_value_t)]
    by: GroupedBy,
    /// Show values of keys, which may be secrets, in place of a short hash of each.
    #[arg(long)]
    show_values: bool,
    /// End with 3 if a larger part of requests would be refused, as in `1%`.
    #[arg(long, value_name = "SHARE", value_parser = share_argument)]
    max_refused: Option<f64>,
    /// How to tell what is found.
    #[arg(long, short, value_enum, value_name = "FORM", default_value_t)]
    output: ReportForm,
}

/// What requests have in common that are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum GroupedBy {
    /// The `rule_name` by which they are refused.
    #[default]
    Rule,
    /// The key by which they are refused: whose requests these are.
    Key,
    /// Their route.
    Route,
    /// The minute in which they came.
    Minute,
}

impl GroupedBy {
    fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Key => "key",
            Self::Route => "route",
            Self::Minute => "minute",
        }
    }
}

/// Of `1%` or `0.01`.
fn share_argument(text: &str) -> Result<f64, &'static str> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().ok().map(|number| number / unit);
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or("expected a share such as `1%` or `0.01`")
}

/// What verdicts are compared with.
enum OtherVerdict {
    Log,
    Fixed(FixedWindows),
    Limits(Box<Rehearsal>),
}

/// A replay on its way.
struct Replaying<'r> {
    limits: Rehearsal,
    other: Option<OtherVerdict>,
    replay: &'r LogReplay,
    counts: ReplayCounts,
    upstream: RehearsedUpstream,
    kind: Option<LogKind>,
    /// Headers that rules look at.
    used: Vec<HeaderName>,
    /// Those of them that no line had so far.
    unseen: Vec<HeaderName>,
    /// Whether rules look at addresses of peers.
    uses_address: bool,
    /// What tells apart whom limits tell apart, at most one more than the filter has room for.
    clients: HashSet<u64>,
    told_at: Option<Instant>,
}

impl LogReplay {
    /// Replays the logs and prints what comes of it.
    pub(crate) fn run(&self, module: &Module) -> ExitCode {
        match self.replayed(module) {
            Ok(code) => code,
            Err(unusable) => {
                unusable.tell();
                ExitCode::from(FAILED)
            }
        }
    }

    fn replayed(&self, module: &Module) -> Result<ExitCode, UnusableFile> {
        let map: Result<Vec<_>, _> = self.map.iter().map(|text| MappedPart::parse(text)).collect();
        let map = map.map_err(|reason| failure("--map", reason))?;
        let (subject, limits) = limits_of(&self.file, module)?;
        let (against, other) = match &self.against {
            None => (None, None),
            Some(word) if word.as_os_str() == AGAINST_LOG => (Some("the log".to_owned()), Some(OtherVerdict::Log)),
            Some(word) if word.as_os_str() == AGAINST_FIXED => {
                (Some("fixed windows".to_owned()), Some(OtherVerdict::Fixed(FixedWindows::default())))
            }
            Some(file) => {
                let limits = OtherVerdict::Limits(Box::new(limits_of(file, module)?.1));
                (Some(file.display().to_string()), Some(limits))
            }
        };
        let used: Vec<HeaderName> = match limits.configuration().map(|configuration| &configuration.uses.headers) {
            // Every filter asks for the type, to tell gRPC from the rest.
            Some(HeaderNames::Named(names)) => names.iter().filter_map(|name| name.parse().ok()).collect(),
            _ => Vec::new(),
        };
        let used: Vec<HeaderName> = used.into_iter().filter(|name| *name != CONTENT_TYPE).collect();
        let parts = limits.configuration().map(|configuration| configuration.uses.parts);
        let uses_address = parts.is_some_and(|parts| parts.contains(UsedParts::SOURCE_ADDRESS));
        let mut replaying = Replaying {
            limits,
            other,
            replay: self,
            counts: ReplayCounts::default(),
            upstream: RehearsedUpstream::default(),
            kind: None,
            unseen: used.clone(),
            used,
            uses_address,
            clients: HashSet::new(),
            told_at: io::stderr().is_terminal().then(Instant::now),
        };
        for log in &self.logs {
            replaying.log(log, &map)?;
        }
        replaying.tell_no_more();
        let notes = replaying.notes(&subject);
        let Replaying { counts, kind, .. } = replaying;
        if counts.requests == 0 {
            let reason = counts.examples.first().cloned().unwrap_or_else(|| "the logs are empty".to_owned());
            return Err(failure(&self.file.display().to_string(), format!("no request was found: {reason}")));
        }
        let kind = kind.and_then(|kind| kind.to_possible_value()).map(|kind| kind.get_name().to_owned());
        let logs: Vec<String> = self.logs.iter().map(|log| log.display().to_string()).collect();
        let report = ReplayReport {
            limits: &self.file.display().to_string(),
            logs: &logs,
            kind: kind.as_deref().unwrap_or_default(),
            by: self.by.name(),
            is_in_order: self.by == GroupedBy::Minute,
            is_of_refused: matches!(self.by, GroupedBy::Rule | GroupedBy::Key),
            against: against.as_deref(),
            counts: &counts,
            notes: &notes,
        };
        let text = match self.output {
            ReportForm::Table => report.table(),
            ReportForm::Json => format!("{:#}\n", report.json()),
            ReportForm::Csv => report.csv(),
            ReportForm::Html => page::page(&report),
        };
        output::print(&text).map_err(|mistake| UnusableFile { file: String::new(), mistakes: vec![mistake] })?;
        let is_too_much = self.max_refused.is_some_and(|most| counts.refused_share() > most);
        Ok(if is_too_much { ExitCode::from(TOO_MANY) } else { ExitCode::SUCCESS })
    }
}

/// A key, or what tells it from others.
fn key_shown(rule: &str, key: &[u8], is_plain: bool) -> String {
    if is_plain {
        return String::from_utf8_lossy(key).into_owned();
    }
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    format!("{rule} #{:08x}", hasher.finish() >> 32)
}

fn failure(file: &str, reason: String) -> UnusableFile {
    UnusableFile { file: file.to_owned(), mistakes: vec![Mistake::new("", reason)] }
}

/// The limits in a file, ready to decide.
fn limits_of(file: &Path, module: &Module) -> Result<(Subject, Rehearsal), UnusableFile> {
    let source = SettingsSource { file: file.to_owned(), overrides: Overrides::default() };
    let failed = |mistakes| UnusableFile { file: source.name(), mistakes };
    let subject = Subject::read(&source, module).map_err(failed)?;
    let beginning = Moment { monotonic: BEGINNING_NS, wall: 0 };
    let rehearsal = subject.rehearsal(module, beginning).map_err(failed)?;
    Ok((subject, rehearsal))
}

impl Replaying<'_> {
    /// All lines of one log.
    fn log(&mut self, path: &Path, map: &[MappedPart]) -> Result<(), UnusableFile> {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| failure(&name, format!("cannot be read: {error}"));
        let mut lines = LogLines::open(path).map_err(unreadable)?;
        let is_archive = self.replay.format == LogKind::Har
            || self.replay.format == LogKind::Auto && har::is_archive(lines.beginning().map_err(unreadable)?);
        if is_archive {
            if !map.is_empty() {
                return Err(failure("--map", "expected none: an archive tells all of a request".to_owned()));
            }
            return self.archive(&name, &lines.rest(ARCHIVE_BYTES_MAX).map_err(unreadable)?);
        }
        let mut layout: Option<LogLayout> = None;
        loop {
            let number = lines.number + 1;
            if number.is_multiple_of(LINES_AT_ONCE) {
                self.tell(lines.progress());
            }
            let Some(text) = lines.next().map_err(unreadable)? else { return Ok(()) };
            self.counts.lines += 1;
            let place = || format!("{name}:{number}");
            let line = match text {
                LogText::Line(line) => line,
                LogText::TooLong => {
                    let reason = format!("the line has more than {LINE_BYTES_MAX} bytes, and is passed over");
                    self.counts.unreadable(place, &reason, true);
                    continue;
                }
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let layout = match &mut layout {
                Some(layout) => layout,
                None => {
                    let known =
                        LogLayout::of(self.replay.format, line, map).map_err(|reason| failure(&name, reason))?;
                    self.kind = Some(known.kind());
                    let is_head = known.has_head();
                    let known = layout.insert(known);
                    if is_head {
                        continue;
                    }
                    known
                }
            };
            let read = layout.read(line).and_then(|fields| fields.map(|fields| fields.request()).transpose());
            match read {
                Ok(Some(request)) => self.request(request).map_err(|reason| failure(&name, reason))?,
                Ok(None) => {}
                Err(reason) => self.counts.unreadable(place, reason, false),
            }
        }
    }

    /// All entries of an HTTP archive, if it was not too large.
    fn archive(&mut self, name: &str, bytes: &Option<Vec<u8>>) -> Result<(), UnusableFile> {
        let Some(bytes) = bytes else {
            return Err(failure(name, format!("has more than {ARCHIVE_BYTES_MAX} bytes")));
        };
        self.kind = Some(LogKind::Har);
        for (number, entry) in har::requests(bytes).map_err(|reason| failure(name, reason))?.into_iter().enumerate() {
            self.counts.lines += 1;
            match entry {
                Ok(request) => self.request(request).map_err(|reason| failure(name, reason))?,
                Err(reason) => self.counts.unreadable(|| format!("{name}: entry {number}"), reason, false),
            }
        }
        Ok(())
    }

    /// One request, which may be refused.
    fn request(&mut self, logged: LoggedRequest) -> Result<(), String> {
        let LoggedRequest { stamp, request, status } = logged;
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.whole_seconds += u64::from(stamp.is_whole_second);
        let at = counts.at(stamp.us);
        let first = counts.span_us.map_or(at, |(first, _)| first);
        let monotonic = (at - first).saturating_mul(1_000).saturating_add(BEGINNING_NS);
        let now = Moment { monotonic, wall: at.saturating_mul(1_000) };
        if !self.unseen.is_empty() {
            self.unseen.retain(|name| !request.parts.headers.contains_key(name));
        }
        if self.clients.len() <= WINDOWS_MAX {
            let mut hasher = DefaultHasher::new();
            self.uses_address.then(|| request.client.ip()).hash(&mut hasher);
            self.used.iter().for_each(|name| request.parts.headers.get(name).hash(&mut hasher));
            self.clients.insert(hasher.finish());
        }
        let logged_refused = status == TOO_MANY_REQUESTS;
        counts.logged_refused += u64::from(logged_refused);
        let other = match &mut self.other {
            None => None,
            Some(OtherVerdict::Log) => Some(logged_refused),
            Some(OtherVerdict::Fixed(windows)) => {
                Some(windows.refuses(&self.limits.limits_met(request.clone(), now)?, at))
            }
            Some(OtherVerdict::Limits(other)) => {
                Some(other.ask(request.clone(), &self.upstream, now)?.by == AnsweredBy::Filter)
            }
        };
        let asked_again = (self.replay.by == GroupedBy::Key).then(|| request.clone());
        let answer = self.limits.ask(request, &self.upstream, now)?;
        let is_refused = answer.by == AnsweredBy::Filter;
        match answer.by {
            AnsweredBy::Upstream => counts.passed += 1,
            AnsweredBy::Filter => counts.refused += 1,
            AnsweredBy::Gateway => counts.unserved += 1,
        }
        counts.series.add(at, is_refused, other == Some(true));
        if let Some(other) = other {
            counts.compare(is_refused, other);
        }
        match self.replay.by {
            GroupedBy::Rule if is_refused => self.counts.group(answer.annotation("rule").unwrap_or("-"), true),
            GroupedBy::Key => {
                if let Some(request) = asked_again.filter(|_| is_refused) {
                    let rule = answer.annotation("rule").unwrap_or("-");
                    let met = self.limits.limits_met(request, now)?;
                    for limit in met.iter().filter(|limit| limit.state.is_some_and(|state| state.room_after_us > 0)) {
                        self.counts.group(&key_shown(rule, &limit.key, self.replay.show_values), true);
                    }
                }
            }
            GroupedBy::Rule => {}
            GroupedBy::Route => {
                self.counts.group(if answer.route.is_empty() { "-" } else { &answer.route }, is_refused)
            }
            GroupedBy::Minute => self.counts.group(&stamp::shown(at - at % 60_000_000), is_refused),
        }
        Ok(())
    }

    /// What cannot be known, or is not as it would be.
    fn notes(&self, subject: &Subject) -> Vec<String> {
        let counts = &self.counts;
        let mut notes = subject.remarks.clone();
        if subject.counts_in_redis {
            let note =
                "no Redis is asked: what is counted there is counted inside the filter, in windows that are the same";
            notes.push(note.to_owned());
        }
        for name in &self.unseen {
            notes.push(format!(
                "the log has no header `{name}`, which the limits look at: what it would change is not known. If it is \
                 logged under another name, say --map header.{name}=PLACE"
            ));
        }
        let uses = self.limits.configuration().map(|configuration| configuration.uses.parts);
        if uses.is_some_and(|parts| parts.intersects(UsedParts::REQUEST_BODY | UsedParts::RESPONSE_BODY)) {
            notes.push("logs have no bodies: of limits on tokens no usage is known".to_owned());
        }
        if self.kind == Some(LogKind::Slidegate) && uses.is_some_and(|parts| parts.contains(UsedParts::PATH)) {
            notes.push("this gateway's log has paths without their queries: rules by parameters find none".to_owned());
        }
        if counts.whole_seconds > 0 {
            notes.push(format!(
                "{} times tell whole seconds only: of windows below a minute single verdicts are estimates (of one \
                 of a second about three in ten are others, of a minute one in sixteen)",
                counts.whole_seconds
            ));
        }
        if self.clients.len() > WINDOWS_MAX {
            notes.push(format!(
                "the filter has room for {WINDOWS_MAX} windows, and forgets some if there are more at once: there are \
                 more clients than that in the log, so that more may be refused in truth"
            ));
        }
        if counts.late > 0 {
            notes.push(format!(
                "{} requests have a time before that of a line above, by up to {:.3} s, and count as if they came with \
                 it. Servers log at the end of a request, so that a little of this is usual; logs of several servers \
                 are to be sorted by time first",
                counts.late,
                counts.late_us_max as f64 / 1e6
            ));
        }
        if counts.broken + counts.too_long > 0 {
            notes.push(format!(
                "{} lines cannot be read, {} more are too long. The first: {}",
                counts.broken,
                counts.too_long,
                counts.examples.join("; ")
            ));
        }
        if counts.refused > 0 && counts.logged_refused == 0 {
            notes.push(
                "in truth clients that are refused try again, or send less: no log of requests that passed tells"
                    .to_owned(),
            );
        }
        notes
    }

    /// Tells a terminal how far this is.
    fn tell(&mut self, progress: Option<f64>) {
        if self.told_at.is_none_or(|told_at| told_at.elapsed() < TOLD_EACH) {
            return;
        }
        self.told_at = Some(Instant::now());
        let requests = self.counts.requests;
        let line = match progress {
            Some(part) => {
                let filled = (part * 30.0) as usize;
                format!("\r[{:<30}] {:>3.0} %  {requests} requests", "=".repeat(filled), part * 100.0)
            }
            None => format!("\r{requests} requests"),
        };
        let _ = write!(io::stderr().lock(), "{line}");
    }

    /// Clears the line that told how far this is.
    fn tell_no_more(&self) {
        if self.told_at.is_some() {
            let _ = write!(io::stderr().lock(), "\r{:<70}\r", "");
        }
    }
}
