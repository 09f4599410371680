//! What happens between a gateway and its Redis.

use std::{thread, time::Duration};

use slidegate_engine::FailureCause;
use slidegate_tests::fault_proxy::Ailment;

use crate::{
    Fault,
    checks::{self, Expected},
    figures::Figures,
    scene::{Scene, Setup},
};

const WHILE: Duration = Duration::from_millis(1_500);

/// Pieces of answers after which a connection is cut.
const PIECES: u32 = 50;

pub(crate) fn all() -> Vec<Fault> {
    vec![
        ("fifty_milliseconds_away", late),
        ("connections_that_are_cut", cut),
        ("half_answers", half),
        ("nonsense_for_answers", nonsense),
        ("no_answers_on_open_connections", silent),
    ]
}

fn run(what: &str, setup: Setup, ailment: Ailment, expected: Expected) -> Vec<Figures> {
    let mut scene = Scene::start(Setup { through_proxy: true, ..setup }, |_| ());
    let (times, courses) = scene.run(|scene| {
        let proxy = scene.proxy.as_ref().expect("this scene has a proxy");
        proxy.set(ailment);
        thread::sleep(WHILE);
        proxy.set(Ailment::None);
    });
    let proxy = scene.proxy.as_ref().expect("this scene has a proxy");
    assert_eq!(proxy.faults() > 0, !expected.causes.is_empty(), "{what}: {} faults", proxy.faults());
    let figures = checks::check(what, &scene, times, &courses, with_changes(expected, proxy.faults()));
    if let Ailment::Late(delay) = ailment {
        assert!(figures.iter().all(|figures| figures.worst_wait >= delay), "{what}: {figures:?}");
    }
    figures
}

/// Each connection that is spoiled may be a change for the worse and one for the better.
fn with_changes(expected: Expected, faults: u64) -> Expected {
    Expected { changes: expected.changes + 2 * usize::try_from(faults).unwrap_or_default(), ..expected }
}

fn late() -> Vec<Figures> {
    let delay = Duration::from_millis(50);
    run("answers 50 ms late, 1.5 s", Setup::unharmed(), Ailment::Late(delay), Expected { delay, ..Expected::UNHARMED })
}

fn cut() -> Vec<Figures> {
    run(
        "connections cut after 50 answers, 1.5 s",
        Setup::default(),
        Ailment::Cut { after: PIECES },
        Expected::failing_at_times(&[FailureCause::Connect]),
    )
}

fn half() -> Vec<Figures> {
    run(
        "half answers, then cut, 1.5 s",
        Setup::default(),
        Ailment::Half,
        Expected::failing(&[FailureCause::BadReply, FailureCause::Connect]),
    )
}

fn nonsense() -> Vec<Figures> {
    let expected = Expected::failing(&[FailureCause::BadReply, FailureCause::Timeout, FailureCause::Connect]);
    run("nonsense for answers, 1.5 s", Setup::default(), Ailment::Nonsense, expected)
}

fn silent() -> Vec<Figures> {
    run(
        "no answers, 1.5 s",
        Setup::default(),
        Ailment::Silent,
        Expected::failing(&[FailureCause::Timeout, FailureCause::Connect]),
    )
}
