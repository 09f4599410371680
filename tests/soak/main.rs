//! Minutes of mixed load on two gateways and one Redis: `just soak`, or `just soak --minutes 3 --restarts`.
//!
//! Hot keys, many keys, ever new keys, refusals, several limits at once, clients that read slowly or leave, settings
//! that change. It ends with an error when memory rises, when somebody gets an answer that should not be, or when the
//! upstreams, the gateways' counters and Redis do not agree on how many requests were admitted.

mod clients;
mod memory;
mod settings;
mod totals;

use std::{
    env, panic,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    upstream::Upstream,
};

use self::{clients::Crowd, memory::Samples};

const USAGE: &str = "usage: just soak [--minutes N] [--restarts]
  --minutes N  how long, 10 by default; a fraction is possible
  --restarts   Redis is killed and started empty once a minute";

const GATEWAYS: usize = 2;

/// Between two looks at memory.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Between two changes of the settings. The filter's change in the first tenth only, so that the second half of ten
/// minutes sees instances that have learnt all the refusals they may remember.
const RELOAD_EVERY: Duration = Duration::from_secs(15);

/// Between two deaths of Redis, and until it is back.
const RESTART_EVERY: Duration = Duration::from_secs(60);
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// How long, and whether Redis is to die.
struct Effort {
    lasts: Duration,
    restarts: bool,
}

/// Everything that takes part.
struct Soak {
    redis: RedisServer,
    gateways: Vec<Gateway>,
    upstreams: Upstreams,
}

/// An upstream for each route, so that each counts its own.
struct Upstreams {
    plain: Upstream,
    counted: Upstream,
    slow: Upstream,
    gone: Upstream,
}

fn main() -> ExitCode {
    let Some(effort) = Effort::read(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match panic::catch_unwind(|| Soak::start().run(&effort)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

// === impl Effort ===

impl Effort {
    /// Reads the arguments; none if they are not understood.
    fn read(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut effort = Effort { lasts: Duration::from_secs(600), restarts: false };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--restarts" => effort.restarts = true,
                "--minutes" => {
                    let minutes: f64 = args.next()?.parse().ok()?;
                    effort.lasts =
                        Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|lasts| *lasts >= SAMPLE_EVERY * 6)?;
                }
                _ => return None,
            }
        }
        Some(effort)
    }
}

// === impl Soak ===

impl Soak {
    fn start() -> Self {
        let start = Upstream::start;
        let (redis, upstreams) =
            (RedisServer::start(), Upstreams { plain: start(), counted: start(), slow: start(), gone: start() });
        let settings = settings::settings(&upstreams, redis.port(), 0, 0);
        Soak { gateways: (0..GATEWAYS).map(|_| Gateway::serve(&settings)).collect(), redis, upstreams }
    }

    fn run(mut self, effort: &Effort) {
        let crowd = Crowd::start(&self.gateways);
        let mut samples = Samples::default();
        let began = Instant::now();
        let (mut sampled, mut reloaded, mut restarted) = (began, began, began);
        let mut reloads = 0;
        while began.elapsed() < effort.lasts {
            thread::sleep(Duration::from_millis(50));
            if sampled.elapsed() >= SAMPLE_EVERY {
                sampled += SAMPLE_EVERY;
                samples.take(began.elapsed(), &self.gateways, &self.redis, crowd.answered());
            }
            if reloaded.elapsed() >= RELOAD_EVERY {
                reloaded += RELOAD_EVERY;
                reloads += 1;
                self.reload(reloads, began.elapsed() < effort.lasts / 10);
            }
            if effort.restarts && restarted.elapsed() >= RESTART_EVERY {
                restarted += RESTART_EVERY;
                self.redis.kill();
                thread::sleep(RESTART_AFTER);
                self.redis.restart_empty();
            }
        }
        let answers = crowd.stop();
        println!("\n{answers}");
        answers.check(effort.restarts);
        totals::check(&self, &answers, effort.restarts);
        samples.check();
        println!("memory is flat, and nothing drifted");
    }

    /// Changes the settings, and the filter's among them or not.
    fn reload(&self, round: u32, with_filter: bool) {
        let settings =
            settings::settings(&self.upstreams, self.redis.port(), round, if with_filter { round } else { 0 });
        let done =
            |gateway: &Gateway| gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) as u32 >= round;
        for gateway in &self.gateways {
            gateway.replace_settings(&settings);
            gateway.hang_up();
        }
        wait_until("the settings are taken up", || self.gateways.iter().all(done));
    }
}
