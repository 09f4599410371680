//! What the fuzz targets are made of: configurations, requests, answers and sessions of any kind, and a host that hands
//! them to an engine and keeps account of what comes back.

pub mod answer;
pub mod caching;
pub mod configuration;
pub mod host;
pub mod page;
pub mod request;
pub mod session;
pub mod used_request;

use std::{
    env, fmt,
    time::{Duration, Instant},
};

use proptest::{strategy::Strategy, test_runner::TestCaseError};

use crate::promises::runner;

/// How long each target runs, in seconds.
const SECONDS_VARIABLE: &str = "SLIDEGATE_FUZZ_SECONDS";
const SECONDS_DEFAULT: u64 = 20;

/// Cases between two looks at the clock.
const BATCH: u32 = 200;

/// Checks batches of cases until time is over, and tells how many there were.
///
/// # Panics
///
/// With the smallest case found on which `check` fails.
pub fn fuzz<T: fmt::Debug>(strategy: impl Strategy<Value = T>, check: impl Fn(T) -> Result<(), TestCaseError>) -> u64 {
    let seconds =
        env::var(SECONDS_VARIABLE).map_or(SECONDS_DEFAULT, |seconds| seconds.parse().expect("a number of seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0;
    while cases == 0 || Instant::now() < until {
        if let Err(failure) = runner(BATCH).run(&strategy, &check) {
            panic!("{failure}");
        }
        cases += u64::from(BATCH);
    }
    cases
}
