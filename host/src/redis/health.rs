//! How each Redis service is doing: one state for all connections to it, told in the log when it changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::server_access::LinkError;
use super::url::Address;

/// Most lines about one service in the time below. One that comes and goes is told of less often than it does so.
const LINES_MAX: u32 = 6;
const LINES_TIME: Duration = Duration::from_secs(10);

/// A Redis service, and how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStatus {
    /// As the configuration calls it.
    pub service_name: String,
    /// As the configuration says or implies.
    pub port: u16,
    /// Where that is, for people: no credentials.
    pub address: String,
    /// How it is doing.
    pub state: RedisState,
}

/// How a Redis service is doing, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisState {
    /// Nobody has asked it anything, or it has not answered yet.
    Unasked,
    /// It answers.
    Up,
    /// It cannot be used, and why. No credentials, one line.
    Down(String),
}

/// The state of one service.
pub(super) struct ServiceHealth {
    service_name: String,
    port: u16,
    address: String,
    /// Whether the log is told of changes.
    is_loud: bool,
    facts: Mutex<HealthState>,
}

#[derive(Default)]
struct HealthState {
    /// What became of the last attempt to connect, whoever made it.
    reached: Option<Result<(), String>>,
    /// What the service answered to the question that is asked every so often. None if nobody asks.
    asked: Option<Result<(), String>>,
    /// What the log was told last: whether it is up.
    told: Option<bool>,
    /// What there was about it that spoils limits, when it was asked last.
    warned: Vec<String>,
    lines: u32,
    lines_since: Option<Instant>,
}

impl ServiceHealth {
    pub(super) fn new(service_name: String, port: u16, address: String) -> Self {
        Self { service_name, port, address, is_loud: true, facts: Mutex::default() }
    }

    /// One whose changes are not told to the log.
    pub(super) fn silent(service_name: String, port: u16, address: String) -> Self {
        Self { is_loud: false, ..Self::new(service_name, port, address) }
    }

    /// That of one node of this cluster, for the log alone.
    pub(super) fn of_node(&self, node: &Address) -> Self {
        let health = Self::new(self.service_name.clone(), self.port, format!("{node}, a node of its cluster"));
        Self { is_loud: self.is_loud, ..health }
    }

    /// The service and where it is, for the log.
    fn place(&self) -> String {
        format!("{}:{} at {}", self.service_name, self.port, self.address)
    }

    /// Takes note of an attempt to connect.
    pub(super) fn reached(&self, error: Option<&LinkError>) {
        let mut facts = self.lock();
        facts.reached = Some(error.map_or(Ok(()), |error| Err(error.to_string())));
        self.tell(&mut facts, "");
    }

    /// Takes note of an answer to a question that is asked every so often; `as_what` is told with the first good one.
    pub(super) fn asked(&self, answer: Result<String, String>) {
        let mut facts = self.lock();
        let (answer, as_what) = match answer {
            Ok(as_what) => (Ok(()), as_what),
            Err(cause) => (Err(cause), String::new()),
        };
        if answer.is_ok() {
            facts.reached = Some(Ok(()));
        }
        facts.asked = Some(answer);
        self.tell(&mut facts, &as_what);
    }

    /// Takes note of what there is about it that spoils limits. The log is told of what is new.
    pub(super) fn warn(&self, warnings: Vec<String>) {
        let mut facts = self.lock();
        for warning in warnings.iter().filter(|warning| !facts.warned.contains(*warning)) {
            tracing::warn!("Redis {}: {warning}", self.place());
        }
        facts.warned = warnings;
    }

    pub(super) fn state(&self) -> RedisState {
        self.lock().state()
    }

    pub(super) fn status(&self) -> RedisStatus {
        RedisStatus {
            service_name: self.service_name.clone(),
            port: self.port,
            address: self.address.clone(),
            state: self.state(),
        }
    }

    /// One line for a change. That it is there at first is told by whoever asked it, as a connection alone means
    /// little.
    fn tell(&self, facts: &mut HealthState, as_what: &str) {
        let is_up = match facts.state() {
            RedisState::Unasked => return,
            RedisState::Up => true,
            RedisState::Down(_) => false,
        };
        let is_first = facts.told.is_none();
        if !self.is_loud
            || facts.told == Some(is_up)
            || (is_up && is_first && facts.asked.is_none())
            || !facts.may_tell()
        {
            return;
        }
        facts.told = Some(is_up);
        let place = self.place();
        match facts.state() {
            RedisState::Down(cause) => tracing::warn!("no connection to Redis {place}: {cause}"),
            _ if is_first => tracing::info!("connected to Redis {place}{as_what}"),
            // As loud as what it ends: a log that shows the one shows the other.
            _ => tracing::warn!("connected to Redis {place} again{as_what}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    fn state(&self) -> RedisState {
        match (&self.reached, &self.asked) {
            (Some(Err(cause)), _) | (_, Some(Err(cause))) => RedisState::Down(cause.clone()),
            (Some(Ok(())), None) | (_, Some(Ok(()))) => RedisState::Up,
            (None, None) => RedisState::Unasked,
        }
    }

    /// Counts a line, if there is room for one.
    fn may_tell(&mut self) -> bool {
        let now = Instant::now();
        if self.lines_since.is_none_or(|since| now.saturating_duration_since(since) >= LINES_TIME) {
            (self.lines, self.lines_since) = (0, Some(now));
        }
        let has_room = self.lines < LINES_MAX;
        self.lines += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> ServiceHealth {
        ServiceHealth::new("r".to_owned(), 6379, "127.0.0.1:6379, database 0".to_owned())
    }

    fn refused() -> LinkError {
        LinkError::Refused("WRONGPASS no\rthis is \u{9b}2J".to_owned())
    }

    #[test]
    fn a_service_is_up_when_it_answers_and_down_when_it_cannot_be_reached_or_says_no() {
        let health = health();
        assert_eq!(health.state(), RedisState::Unasked);
        health.reached(None);
        assert_eq!(health.state(), RedisState::Up);
        health.reached(Some(&refused()));
        let RedisState::Down(cause) = health.state() else { panic!("{:?}", health.state()) };
        assert_eq!(cause, r"the server answered `WRONGPASS no\rthis is \u{9b}2J`");
        health.reached(None);
        health.asked(Err("no".to_owned()));
        health.reached(None);
        assert_eq!(health.state(), RedisState::Down("no".to_owned()), "a connection alone is no answer");
        health.asked(Ok(String::new()));
        assert_eq!(health.state(), RedisState::Up);
        assert_eq!(health.status().address, "127.0.0.1:6379, database 0");
    }

    #[test]
    fn one_that_comes_and_goes_is_not_told_of_each_time() {
        let health = health();
        for _ in 0..100 {
            health.reached(Some(&refused()));
            health.reached(None);
        }
        assert_eq!(health.lock().lines, LINES_MAX);
    }
}
