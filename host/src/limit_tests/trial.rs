//! One test: its requests in their order, each at its time, and what is not as expected.

use std::fmt::Write;
use std::time::Duration;

use hyper::header::HeaderMap;
use slidegate::{Module, Moment};

use super::document::{Expected, LimitTest, TestStep};
use crate::gateway::{AnsweredBy, Rehearsal, RehearsedAnswer};
use crate::settings::Mistake;
use crate::subject::Subject;

/// When a test begins, on both clocks: some time after 0, which stands for what is not known. The other clock begins
/// with 2026.
const BEGINNING: Moment = Moment { monotonic: 1_000_000_000, wall: 1_767_225_600_000_000_000 };

/// A gateway with windows that are empty, at the beginning of a test.
///
/// # Errors
/// The limits cannot be tried.
pub(super) fn begin(subject: &Subject, module: &Module) -> Result<Rehearsal, Vec<Mistake>> {
    subject.rehearsal(module, BEGINNING)
}

/// Runs a test. Each mistake is an expectation that does not hold, at the path of its step.
///
/// # Errors
/// The limits cannot be tried at all.
pub(super) fn run(test: &LimitTest, subject: &Subject, module: &Module) -> Result<Vec<Mistake>, Vec<Mistake>> {
    let mut rehearsal = begin(subject, module)?;
    let mut failures = Vec::new();
    for step in &test.steps {
        match take(step, &mut rehearsal) {
            Ok(None) => {}
            Ok(Some(reason)) => failures.push(Mistake::new(&step.path, format!("{}: {reason}", step.shown()))),
            Err(trapped) => {
                failures.push(Mistake::new(&step.path, format!("{}: {trapped}", step.shown())));
                // The instance is dead.
                break;
            }
        }
    }
    Ok(failures)
}

/// Sends what a step has to send; what is not as expected.
///
/// # Errors
/// The filter fails.
fn take(step: &TestStep, rehearsal: &mut Rehearsal) -> Result<Option<String>, String> {
    let (mut passed, mut last) = (0, None);
    for number in 0..step.times {
        let at = step.at.saturating_add(step.every.saturating_mul(number));
        let answer = rehearsal.ask(step.request(), &step.answer, moment(at))?;
        passed += u32::from(answer.by == AnsweredBy::Upstream);
        last = Some(answer);
    }
    Ok(last.and_then(|last| unexpected(&step.expected, step.times, passed, &last)))
}

fn moment(at: Duration) -> Moment {
    let ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    Moment { monotonic: BEGINNING.monotonic.saturating_add(ns), wall: BEGINNING.wall.saturating_add(ns) }
}

/// What is not as expected, with what the last answer was.
fn unexpected(expected: &Expected, times: u32, passed: u32, last: &RehearsedAnswer) -> Option<String> {
    let mut reasons = Vec::new();
    match expected.passing {
        Some(passing) if passing != passed && times == 1 => {
            let words = if passing == 1 { "pass" } else { "refused" };
            reasons.push(format!("expected {words}, got {}", word(last)));
        }
        Some(passing) if passing != passed => {
            reasons.push(format!("expected {passing} of {times} to pass, got {passed}"));
        }
        _ => {}
    }
    if let Some(status) = expected.status.filter(|status| *status != last.status.as_u16()) {
        reasons.push(format!("expected status {status}, got {}", last.status.as_u16()));
    }
    for (name, value) in &expected.headers {
        let values: Vec<String> =
            last.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
        let is_as_expected = match value {
            Some(value) => values.iter().any(|own| own == value),
            None => values.is_empty(),
        };
        if !is_as_expected {
            let wanted = value.as_ref().map_or_else(|| format!("no `{name}`"), |value| format!("`{name}: {value}`"));
            let got = if values.is_empty() { "none".to_owned() } else { format!("`{}`", values.join("`, `")) };
            reasons.push(format!("expected {wanted}, got {got}"));
        }
    }
    if let Some(by) = &expected.by {
        match (last.by, last.annotation("rule")) {
            (AnsweredBy::Filter, Some(rule)) if rule == by => {}
            (AnsweredBy::Filter, rule) => {
                reasons.push(format!("expected a refusal by `{by}`, got one by `{}`", rule.unwrap_or_default()));
            }
            _ => reasons.push(format!("expected a refusal by `{by}`, got {}", word(last))),
        }
    }
    (!reasons.is_empty()).then(|| format!("{} (last answer: {})", reasons.join("; "), shown(last)))
}

fn word(answer: &RehearsedAnswer) -> &'static str {
    match answer.by {
        AnsweredBy::Upstream => "pass",
        AnsweredBy::Filter => "refused",
        AnsweredBy::Gateway => "an answer of the gateway itself",
    }
}

/// An answer in one line.
fn shown(answer: &RehearsedAnswer) -> String {
    let mut line = answer.status.as_u16().to_string();
    for (name, value) in &answer.annotations {
        // Writing to a string does not fail.
        let _ = write!(line, ", {name} {value}");
    }
    fields_shown(&answer.headers, &mut line);
    line
}

fn fields_shown(headers: &HeaderMap, line: &mut String) {
    for (name, value) in headers {
        let _ = write!(line, ", {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
}
