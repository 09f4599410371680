//! The promises that every fault leaves standing, and the figures of those that were kept.

use std::time::{Duration, Instant};

use redis::Connection;
use slidegate_engine::FailureCause;
use slidegate_tests::{
    redis_windows::Stored,
    steady_load::{Answered, surely_within},
};

use crate::{
    figures::Figures,
    scene::{CLIENTS, Course, EACH_KEYS, EACH_LIMIT, HOT_LIMIT, SEVERAL_LIMITS, Scene, Team, Times, WORKERS},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// What a machine that does other things may add to a wait.
const STALL: Duration = Duration::from_millis(1_500);

/// Within which Redis must decide again, on a machine that does other things: the promise is a second.
const RECOVERY_MAX: Duration = Duration::from_millis(2_500);

/// Lines in the log of a gateway for each worker and each change of state: it fails, no connection, connected again,
/// answers again.
const LINES_PER_CHANGE: usize = 4;

/// Calls of one worker that may be made in vain while a fault lasts, beside those of its clients when it began: the
/// five in a row that stop them, and probes at 50 ms and each half second at last.
const PROBES_MAX: usize = 25;

/// What may be left of a fault in a gateway, in bytes of its process and of its instances.
const RESIDENT_MAX: u64 = 24 << 20;
const INSTANCE_MAX: u64 = 3 << 20;

/// What a fault should have done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The causes that may be told; none if no request should notice.
    pub(crate) causes: &'static [FailureCause],
    /// How often the state changed at most.
    pub(crate) changes: usize,
    /// Whether commands may have run whose answers did not arrive, so that Redis counted what never passed.
    pub(crate) loses_answers: bool,
    /// What the fault itself adds to every wait.
    pub(crate) delay: Duration,
    /// Whether every call fails, so that calls stop.
    pub(crate) is_total: bool,
}

impl Expected {
    /// No request should notice.
    pub(crate) const UNHARMED: Expected =
        Expected { causes: &[], changes: 0, loses_answers: false, delay: Duration::ZERO, is_total: false };

    /// Redis fails once, for these causes, whatever it is asked.
    pub(crate) const fn failing(causes: &'static [FailureCause]) -> Self {
        Expected { causes, changes: causes.len() + 1, loses_answers: true, delay: Duration::ZERO, is_total: true }
    }

    /// As [`Expected::failing`], but some calls succeed all the while.
    pub(crate) const fn failing_at_times(causes: &'static [FailureCause]) -> Self {
        Expected { is_total: false, ..Self::failing(causes) }
    }

    fn is_harmful(self) -> bool {
        !self.causes.is_empty()
    }
}

/// Checks what all teams met with, and returns their figures.
pub(crate) fn check(fault: &str, scene: &Scene, times: Times, courses: &[Course], expected: Expected) -> Vec<Figures> {
    let teams = || scene.teams.iter().zip(courses);
    let figures = teams().map(|(team, course)| figures(fault, team, course, times)).collect();
    for (team, course) in teams() {
        let what = format!("{fault}, {}", team.mode);
        check_statuses(&what, team, course, times, expected);
        check_waits(&what, scene, course, expected);
        check_limits(&what, scene, team, course, expected);
        check_counters(&what, team, course, expected);
        check_logs(&what, team, expected);
        check_leaks(&what, course);
    }
    figures
}

/// What clients may see: nothing but 200 and 429; from `closed`, 503 as long as Redis cannot be used.
fn check_statuses(what: &str, team: &Team, course: &Course, times: Times, expected: Expected) {
    let answers = &course.answers;
    assert_eq!(answers.mishaps, Vec::<String>::new(), "{what}");
    let allowed: &[u16] = if team.mode == "closed" && expected.is_harmful() { &[200, 429, 503] } else { &[200, 429] };
    let odd = answers.all.iter().find(|answer| !allowed.contains(&answer.status));
    assert!(odd.is_none(), "{what}: {odd:?}");
    let by_mode = |answer: &&Answered| match team.mode {
        "open" => answer.status == 200,
        "closed" => answer.status == 503,
        _ => [200, 429].contains(&answer.status),
    };
    let odd = answers.all.iter().filter(|answer| is_left(answer)).find(|answer| !by_mode(answer));
    assert!(odd.is_none(), "{what}: {odd:?} is not what the mode says");
    assert!(answers.all.iter().any(|answer| answer.status == 429), "{what}: nothing was ever refused");
    let early = answers.all.iter().find(|answer| is_left(answer) && answer.received < times.broke);
    assert!(early.is_none(), "{what}: {early:?} before {times:?}");
    let late = answers.all.iter().find(|answer| is_left(answer) && answer.sent > times.mended + RECOVERY_MAX);
    assert!(late.is_none(), "{what}: {late:?} long after {times:?}");
    let after = answers.all.iter().filter(|answer| answer.sent > times.mended && !is_left(answer));
    assert!(after.count() > 50, "{what}: Redis does not decide again");
    let passed = answers.all.iter().filter(|answer| answer.is_admitted()).count() as u64;
    assert_eq!(team.upstream.requests(), passed, "{what}: the upstream saw what clients were told");
}

/// Whether the failure mode decided.
fn is_left(answer: &Answered) -> bool {
    answer.is_degraded
}

fn check_waits(what: &str, scene: &Scene, course: &Course, expected: Expected) {
    // A request may have waited behind a call for its key, and then for its own.
    let longest = 2 * if expected.is_harmful() { scene.setup.timeout } else { expected.delay } + STALL;
    let worst = course.answers.all.iter().map(Answered::wait).max().unwrap_or_default();
    assert!(worst <= longest, "{what}: a request waited {worst:?}");
}

/// Nothing is admitted above a limit that Redis still knows, and Redis counted all that it admitted.
fn check_limits(what: &str, scene: &Scene, team: &Team, course: &Course, expected: Expected) {
    let mut connection = scene.redis.connection();
    let [second, hour] = SEVERAL_LIMITS;
    let header = |value: &str| format!("slidegate:{{{}:limit_by_header:x-load:{value}}}", team.mode);
    let mut admitted = Admitted { what, scene, course, connection: &mut connection, expected };
    admitted.check_limit(0, HOT_LIMIT, SECOND);
    admitted.check_limit(1, second, SECOND);
    admitted.check_total(1, hour, &format!("{}:3600", header("several")));
    admitted.check_total(2, 1_000_000, &format!("{}:3600", header("wide")));
    for each in 0..EACH_KEYS {
        let key = format!("slidegate:{{{}:limit_by_per_header:x-key:each-{each}}}:3600", team.mode);
        admitted.check_total(3 + each, EACH_LIMIT, &key);
    }
    if team.mode == "local" {
        let instances = WORKERS * team.gateways.len();
        admitted.check_local(0, HOT_LIMIT * instances, SECOND);
        admitted.check_local(1, second * instances, SECOND);
        (0..EACH_KEYS).for_each(|each| admitted.check_local(3 + each, EACH_LIMIT * instances, HOUR));
    }
}

/// What Redis admitted of each question.
struct Admitted<'a> {
    what: &'a str,
    scene: &'a Scene,
    course: &'a Course,
    connection: &'a mut Connection,
    expected: Expected,
}

impl Admitted<'_> {
    /// When each request of a question was sent and answered that Redis admitted.
    fn of(&self, question: usize) -> impl Iterator<Item = (Instant, Instant)> {
        let fits =
            move |answer: &&Answered| answer.question as usize == question && answer.is_admitted() && !is_left(answer);
        self.course.answers.all.iter().filter(fits).map(|answer| (answer.sent, answer.received))
    }

    /// In every life of what Redis knew, no interval holds more than the limit.
    fn check_limit(&self, question: usize, limit: usize, window: Duration) {
        let forgotten = &self.scene.forgotten;
        for life in 0..=forgotten.len() {
            let begins = life.checked_sub(1).map(|before| forgotten[before].1);
            let ends = forgotten.get(life).map(|(ends, _)| *ends);
            let inside = |(sent, received): &(Instant, Instant)| {
                begins.is_none_or(|begins| *sent >= begins) && ends.is_none_or(|ends| *received <= ends)
            };
            let greatest = surely_within(window, self.of(question).filter(inside));
            assert!(greatest <= limit, "{}: {greatest} of question {question} in {window:?}, life {life}", self.what);
        }
    }

    /// What instances admitted by themselves: each of them no more than the limit in any interval.
    fn check_local(&self, question: usize, limit: usize, window: Duration) {
        let fits = |answer: &&Answered| answer.question as usize == question && answer.is_admitted() && is_left(answer);
        let local = self.course.answers.all.iter().filter(fits).map(|answer| (answer.sent, answer.received));
        let greatest = surely_within(window, local);
        assert!(greatest <= limit, "{}: {greatest} of question {question} in {window:?} without Redis", self.what);
    }

    /// As [`Admitted::check_limit`] for an hour, which is longer than any run, and beside what Redis itself counted
    /// under this key.
    fn check_total(&mut self, question: usize, limit: usize, key: &str) {
        self.check_limit(question, limit, HOUR);
        let total = self.of(question).count();
        let lives = self.scene.forgotten.len() + 1;
        assert!(total <= limit * lives, "{}: {total} of question {question}", self.what);
        let begins = self.scene.forgotten.last().map(|(_, begins)| *begins);
        let last = self.of(question).filter(|(sent, _)| begins.is_none_or(|begins| *sent >= begins)).count();
        let counted = usize::try_from(Stored::read(self.connection, key).total()).expect("a small number");
        assert!(last <= counted, "{}: {last} passed, Redis counted {counted} under {key}", self.what);
        if !self.expected.loses_answers && lives == 1 {
            assert_eq!(last, counted, "{}: {key}", self.what);
        }
    }
}

/// Every decision is counted as what it was.
fn check_counters(what: &str, team: &Team, course: &Course, expected: Expected) {
    let count = |fits: fn(&Answered) -> bool| course.answers.all.iter().filter(|answer| fits(answer)).count() as u64;
    let by_redis = |decision| team.sum("slidegate_decisions_total", &[("rule", team.mode), ("decision", decision)]);
    let degraded = team.sum("slidegate_degraded_decisions_total", &[("rule", team.mode), ("mode", team.mode)]);
    assert_eq!(degraded, team.degraded(), "{what}: by the mode, all of them");
    let counted = (by_redis("admitted"), by_redis("refused"), degraded);
    let seen = (
        count(|answer| answer.is_admitted() && !is_left(answer)),
        count(|answer| answer.status == 429 && !is_left(answer)),
        count(is_left),
    );
    assert_eq!(counted, seen, "{what}: admitted, refused and degraded, counted and seen");
    assert_eq!(degraded > 0, expected.is_harmful(), "{what}: {degraded} degraded");
    let told: Vec<u64> = expected
        .causes
        .iter()
        .map(|cause| team.sum("slidegate_redis_failures_total", &[("cause", cause.name())]))
        .collect();
    let failures = team.sum("slidegate_redis_failures_total", &[]);
    assert_eq!(told.iter().sum::<u64>(), failures, "{what}: {}", team.gateways[0].log());
    assert!(failures > 0 || !expected.is_harmful(), "{what}");
    // Those that were on their way when it began, and probes: not a call for each request.
    let most = (team.gateways.len() * (CLIENTS + WORKERS * PROBES_MAX)) as u64;
    assert!(failures <= most || !expected.is_total, "{what}: {failures} calls failed, {most} at most");
}

/// A line for each change of state, not for each request.
fn check_logs(what: &str, team: &Team, expected: Expected) {
    for gateway in &team.gateways {
        let lines = gateway.log().lines().count();
        let most = 3 + WORKERS * LINES_PER_CHANGE * expected.changes;
        assert!(lines <= most, "{what}: {lines} lines, {most} at most:\n{}", gateway.log());
        if expected.is_harmful() {
            assert!(!gateway.log_lines("answers again").is_empty(), "{what}: {}", gateway.log());
        }
    }
}

/// What was there before the fault, and no more, is there after the load.
fn check_leaks(what: &str, course: &Course) {
    for [before, after] in &course.footprints {
        assert_eq!(after.in_flight, 0, "{what}");
        assert!(after.descriptors <= before.descriptors + 2, "{what}: {before:?} {after:?}");
        assert!(after.threads <= before.threads + 2, "{what}: {before:?} {after:?}");
        assert!(after.resident_bytes <= before.resident_bytes + RESIDENT_MAX, "{what}: {before:?} {after:?}");
        assert!(after.instance_bytes <= before.instance_bytes + INSTANCE_MAX, "{what}: {before:?} {after:?}");
    }
}

fn figures(fault: &str, team: &Team, course: &Course, times: Times) -> Figures {
    let answers = &course.answers.all;
    let rate = |from: Instant, to: Instant| {
        let inside = answers.iter().filter(|answer| from <= answer.received && answer.received < to).count();
        inside as f64 / (to - from).as_secs_f64()
    };
    let during = |fits: fn(&Answered) -> bool| {
        let inside = |answer: &&Answered| times.broke <= answer.received && answer.received < times.mended;
        answers.iter().filter(inside).filter(|answer| fits(answer)).count()
    };
    let last = answers.iter().filter(|answer| is_left(answer)).map(|answer| answer.received).max();
    Figures {
        fault: fault.to_owned(),
        mode: match team.gateways.len() {
            1 => team.mode.to_owned(),
            gateways => format!("{}, {gateways} gateways", team.mode),
        },
        rates: (Some(rate(times.calm, times.broke)), rate(times.broke, times.mended)),
        decisions: [
            during(|answer| answer.is_admitted() && !is_left(answer)),
            during(|answer| answer.status == 429 && !is_left(answer)),
            during(is_left),
        ],
        worst_wait: answers.iter().map(Answered::wait).max().unwrap_or_default(),
        recovery: last.map(|last| last.saturating_duration_since(times.mended)),
    }
}
