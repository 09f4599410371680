//! What happens to the gateway: settings that change all the time, and a filter that traps.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    footprint::Footprint,
    gateway_process::{Gateway, wait_until},
    steady_load::{Answered, Load, Question, Traffic},
    upstream::Upstream,
};

use crate::{
    Fault,
    checks::{self, Expected},
    component_file::Component,
    figures::Figures,
    scene::{Scene, Setup, settings},
};

const RELOADS: usize = 100;

/// Those whose requests never trap, and as many whose requests sometimes do.
const CLIENTS: usize = 12;

/// How long some of the requests trap.
const WHILE: Duration = Duration::from_millis(1_500);

/// Within which a filter that trapped is replaced, on a machine that does other things.
const RECOVERY_MAX: Duration = Duration::from_millis(2_500);

pub(crate) fn all() -> Vec<Fault> {
    vec![("a_hundred_reloads", reloads), ("a_filter_that_traps", traps)]
}

fn reloads() -> Vec<Figures> {
    let what = format!("{RELOADS} reloads");
    let mut scene = Scene::start(Setup::unharmed(), |_| ());
    let (times, courses) = scene.run(|scene| (1..=RELOADS).for_each(|round| reload(scene, round)));
    for team in &scene.teams {
        let reloads = team.sum("slidegate_reloads_total", &[("result", "ok")]);
        assert_eq!(reloads, (RELOADS * team.gateways.len()) as u64, "{}", team.mode);
    }
    // The gateway tells of each reload in a line of its own.
    checks::check(&what, &scene, times, &courses, Expected { changes: RELOADS / 4, ..Expected::UNHARMED })
}

/// Gives every gateway a filter that differs in what it says to those it refuses, and waits until it has it.
fn reload(scene: &Scene, round: usize) {
    for team in &scene.teams {
        let filter = format!("  rejected_msg: round {round}\n");
        let settings = settings(&team.upstream, team.mode, scene.redis.port(), scene.setup, &filter);
        for gateway in &team.gateways {
            gateway.replace_settings(&settings);
            gateway.hang_up();
        }
    }
    wait_until("all have the new settings", || {
        let done =
            |gateway: &Gateway| gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) as usize == round;
        scene.teams.iter().flat_map(|team| &team.gateways).all(done)
    });
}

fn traps() -> Vec<Figures> {
    let component = Component::of_module(include_str!("../trapping.wat"));
    [("p", "pass", 200), ("r", "refuse", 503)]
        .map(|(on_trap, mode, status)| trapping(&component, on_trap, mode, status))
        .into()
}

fn trapping(component: &Component, on_trap: &str, mode: &str, status: u16) -> Figures {
    let upstream = Upstream::start();
    let gateway = component.serve(&format!("upstream: {}\nworkers: 1\nfilter: {{m: {on_trap}}}\n", upstream.url()));
    let address = [gateway.listen()];
    let well = start(&address, &[("/ok", 1)], CLIENTS);
    wait_until("the load begins", || well.answered() >= 500);
    let before = Footprint::of(&gateway);
    let broke = Instant::now();
    let ill = start(&address, &[("/trap", 1), ("/ok", 20)], CLIENTS);
    thread::sleep(WHILE);
    let (ill, mended) = (ill.stop(), Instant::now());
    let settled = well.answered() + 2_000;
    wait_until("the load goes on", || well.answered() >= settled);
    let well = well.stop();
    wait_until("requests in flight end", || Footprint::of(&gateway).in_flight == 0);
    let after = Footprint::of(&gateway);

    let mishaps: Vec<&String> = well.mishaps.iter().chain(&ill.mishaps).collect();
    assert!(mishaps.is_empty(), "{mode}: {mishaps:?}");
    let answers: Vec<&Answered> = well.all.iter().chain(&ill.all).collect();
    let odd = answers.iter().find(|answer| ![200, status].contains(&answer.status));
    assert!(odd.is_none(), "{mode}: {odd:?}");
    assert!(
        ill.all.iter().filter(|answer| answer.question == 0).all(|answer| answer.status == status),
        "{mode}: a trap decides nothing"
    );
    let passed = answers.iter().filter(|answer| answer.is_admitted()).count();
    let traps = gateway.metrics().sum("slidegate_component_traps_total", &[]);
    // The filter wanted to see all responses: what it would have done to those that were on their way when it trapped,
    // nobody knows, so they are refused where a trap refuses.
    let unseen = if mode == "refuse" { traps as usize * 2 * CLIENTS } else { 0 };
    let reached = upstream.requests() as usize;
    assert!((passed..=passed + unseen).contains(&reached), "{mode}: {reached} reached the upstream, {passed} passed");
    // Ten replacements in a second; between, streams of others get the failure mode too.
    let failed = |answer: &&&Answered| answer.status != 200;
    let outside = well.all.iter().filter(|answer| answer.received < broke || answer.sent > mended + RECOVERY_MAX);
    assert!(
        outside.filter(|answer| answer.status != 200).count() == 0,
        "{mode}: the others are served before and after"
    );
    assert!((1.0..=10.0 * (WHILE.as_secs_f64() + 2.0)).contains(&traps), "{mode}: {traps} traps");
    // Connections to the upstream are kept for a while.
    assert!(
        after.descriptors <= before.descriptors + CLIENTS && after.threads <= before.threads + 2,
        "{mode}: {before:?} {after:?}"
    );
    assert!(after.resident_bytes <= before.resident_bytes + (24 << 20), "{mode}: {before:?} {after:?}");
    assert!(after.instance_bytes <= before.instance_bytes, "{mode}: {before:?} {after:?}");
    let lines = gateway.log().lines().count();
    assert!(lines <= 4 + 2 * traps as usize, "{mode}: {lines} lines\n{}", gateway.log());

    let inside = |answer: &&&Answered| broke <= answer.received && answer.received < mended;
    let rate = |count: usize, seconds: Duration| count as f64 / seconds.as_secs_f64();
    let first = well.all.iter().map(|answer| answer.received).min().unwrap_or(broke);
    let early = well.all.iter().filter(|answer| answer.received < broke).count();
    let refused = answers.iter().filter(inside).filter(failed).count();
    let last = answers.iter().filter(failed).map(|answer| answer.received).max();
    Figures {
        fault: "1 request in 42 traps, 1.5 s".into(),
        mode: mode.to_owned(),
        rates: (Some(rate(early, broke - first)), rate(answers.iter().filter(inside).count(), mended - broke)),
        decisions: [answers.iter().filter(inside).count() - refused, 0, refused],
        worst_wait: answers.iter().map(|answer| answer.wait()).max().unwrap_or_default(),
        recovery: last.map(|last| last.saturating_duration_since(mended)),
    }
}

fn start(gateway: &[SocketAddr], paths: &[(&str, usize)], clients: usize) -> Load {
    let mut traffic = Traffic::default();
    for (path, turns) in paths {
        traffic.ask(*turns, Question { name: (*path).into(), path: (*path).into(), headers: Vec::new() });
    }
    Load::start(gateway, clients, Duration::from_millis(10), &Arc::new(traffic))
}
