//! What the gateways and Redis hold over time, and whether it rises.

use std::time::Duration;

use slidegate_tests::{footprint::Footprint, gateway_process::Gateway, redis_server::RedisServer};

/// What the trend of the second half may gain, in bytes: of a gateway's process, of its instances, of Redis. In runs of
/// less than ten minutes instances still learn refusals then.
const RESIDENT_MAX: f64 = 8.0 * 1_048_576.0;
const INSTANCE_MAX: f64 = 5.0 * 1_048_576.0;
const REDIS_MAX: f64 = 4.0 * 1_048_576.0;

/// What the trend may gain of descriptors: connections to upstreams come and go.
const DESCRIPTORS_MAX: f64 = 30.0;

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    at: Duration,
    gateways: Vec<Footprint>,
    redis_bytes: u64,
}

// === impl Samples ===

impl Samples {
    /// Looks once, and says so.
    pub(crate) fn take(&mut self, at: Duration, gateways: &[Gateway], redis: &RedisServer, answered: u64) {
        let gateways: Vec<Footprint> = gateways.iter().map(Footprint::of).collect();
        let (redis_bytes, keys) = redis_memory(redis);
        let each: Vec<String> = gateways
            .iter()
            .map(|held| {
                let [resident, instance] =
                    [held.resident_bytes, held.instance_bytes].map(|bytes| bytes as f64 / 1_048_576.0);
                format!("{resident:.1} MB, {instance:.1} in instances, {} descriptors", held.descriptors)
            })
            .collect();
        println!(
            "{:>4} s: {answered} requests; gateways {}; Redis {:.1} MB, {keys} keys",
            at.as_secs(),
            each.join(" | "),
            redis_bytes as f64 / 1_048_576.0
        );
        self.0.push(Sample { at, gateways, redis_bytes });
    }

    /// Nothing rises in the second half.
    pub(crate) fn check(&self) {
        let second_half = &self.0[self.0.len() / 2..];
        let gateways = second_half.first().map_or(0, |sample| sample.gateways.len());
        let rises = |value: &dyn Fn(&Sample) -> f64| {
            rise(second_half.iter().map(|sample| (sample.at.as_secs_f64(), value(sample))))
        };
        for gateway in 0..gateways {
            let resident = rises(&|sample| sample.gateways[gateway].resident_bytes as f64);
            let instance = rises(&|sample| sample.gateways[gateway].instance_bytes as f64);
            let descriptors = rises(&|sample| sample.gateways[gateway].descriptors as f64);
            let [resident_mb, instance_mb] = [resident, instance].map(|bytes| bytes / 1_048_576.0);
            println!(
                "gateway {gateway}, second half: {resident_mb:+.2} MB, {instance_mb:+.2} MB in instances, \
                 {descriptors:+.1} descriptors"
            );
            assert!(
                resident < RESIDENT_MAX && instance < INSTANCE_MAX && descriptors < DESCRIPTORS_MAX,
                "gateway {gateway} grows"
            );
        }
        let redis = rises(&|sample| sample.redis_bytes as f64);
        println!("Redis, second half: {:+.2} MB", redis / 1_048_576.0);
        assert!(redis < REDIS_MAX, "Redis grows");
    }
}

/// Memory that it uses in bytes, and its keys.
fn redis_memory(redis: &RedisServer) -> (u64, u64) {
    let mut connection = redis.connection();
    let info: String =
        redis::cmd("INFO").arg("memory").query(&mut connection).expect("a running server tells of itself");
    let used =
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).and_then(|bytes| bytes.trim().parse().ok());
    (used.expect("a number of bytes"), redis::cmd("DBSIZE").query(&mut connection).expect("a number"))
}

/// What the line of least squares through these points gains from the first to the last.
fn rise(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.collect();
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count);
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let length = points.last().map_or(0.0, |last| last.0) - points.first().map_or(0.0, |first| first.0);
    if spread > 0.0 { together / spread * length } else { 0.0 }
}
