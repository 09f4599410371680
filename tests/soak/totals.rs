//! Whether all who count admissions agree: upstreams, gateways, Redis, and the clients.

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_windows::Stored,
};

use crate::{
    Soak,
    clients::{Answers, Kind},
    settings::EACH_KEYS,
};

/// Who counted how many admissions.
#[derive(Debug)]
struct Totals {
    upstream: u64,
    gateways: u64,
    redis: u64,
}

/// Compares what was counted on each route. A Redis that died has forgotten what it counted before.
pub(crate) fn check(soak: &Soak, answers: &Answers, restarts: bool) {
    wait_until("requests in flight end", || {
        soak.gateways.iter().all(|gateway| gateway.metrics().sum("slidegate_requests_in_flight", &[]) == 0.0)
    });
    let mut redis = soak.redis.connection();
    let header = |value: &str, seconds: u32| format!("slidegate:{{plain:limit_by_header:x-load:{value}}}:{seconds}");
    let each = |each: u64| format!("slidegate:{{plain:limit_by_per_header:x-key:each-{each}}}:60");
    let plain: u64 = [header("hot", 3_600), header("several", 3_600), header("wide", 60)]
        .into_iter()
        .chain((0..EACH_KEYS).map(each))
        .map(|key| Stored::read(&mut redis, &key).total())
        .sum();
    let [together, slow, gone] = ["counted}:global_threshold", "slow:global_threshold}", "gone:global_threshold}"]
        .map(|rest| Stored::read(&mut redis, &format!("slidegate:{{{rest}:3600")).total());
    let upstreams = &soak.upstreams;
    let rows = [
        ("plain", &upstreams.plain, plain, vec![Kind::Hot, Kind::Several, Kind::Wide, Kind::Each]),
        ("counted", &upstreams.counted, together, vec![Kind::New]),
        ("slow", &upstreams.slow, slow, vec![Kind::Slow]),
        ("gone", &upstreams.gone, gone, vec![Kind::Gone]),
    ];
    println!();
    for (rule, upstream, redis, kinds) in rows {
        let totals = Totals { upstream: upstream.requests(), gateways: admitted(&soak.gateways, rule), redis };
        println!(
            "{rule:>8}: admitted {} by the upstream, {} by the gateways, {} by Redis",
            totals.upstream, totals.gateways, totals.redis
        );
        let clients: u64 = kinds.iter().map(|kind| answers.of(*kind).admitted).sum();
        if rule == "gone" {
            // Who leaves early enough is charged and does not reach the upstream.
            let sent = answers.of(Kind::Gone).sent;
            assert!(totals.upstream <= totals.gateways && totals.gateways <= sent, "{rule}: {totals:?} of {sent}");
        } else {
            assert_eq!(
                (totals.upstream, totals.gateways),
                (clients, clients),
                "{rule}: by the upstream, the gateways and the clients"
            );
        }
        assert!(restarts || totals.redis == totals.gateways, "{rule}: {totals:?}");
    }
}

fn admitted(gateways: &[Gateway], rule: &str) -> u64 {
    let labels = [("rule", rule), ("decision", "admitted")];
    gateways.iter().map(|gateway| gateway.metrics().sum("slidegate_decisions_total", &labels) as u64).sum()
}
