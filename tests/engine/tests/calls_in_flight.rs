//! Several engines on one Redis, with many requests and calls in flight at once: whatever the order in which calls run,
//! answers come back, fail, or find that their stream has left, the window's promises hold, first come is first
//! admitted, and no stream is forgotten. With known refusals and coalescing on and off, in all combinations, and with a
//! Redis whose clock is not ours.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    mem,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::json;
use slidegate_engine::{
    Adapter, Effect, Engine, LogLevel, Step, StreamEnd, Verdict,
    redis::{CallError, Command, Form, Reply},
    request::Requests,
    window::{
        Charge,
        script::{self, Script},
    },
};
use slidegate_engine_tests::{plain_request::PlainRequest, runner::simulated_store::SimulatedStore};

const WINDOW_US: u64 = 1_000_000;
const GATEWAYS: usize = 3;

/// A request, and what will become of a call that it leads to.
#[derive(Debug, Clone)]
struct Arrival {
    /// After the one before.
    gap_us: u64,
    gateway: usize,
    user: u8,
    /// When its client gives up, if it still waits then.
    leaves_after_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Trip {
    out_us: u64,
    back_us: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It runs, and the answer is lost.
    Lost,
    /// It never runs.
    Cut,
}

#[derive(Debug, Clone)]
struct Scene {
    limit: u64,
    arrivals: Vec<Arrival>,
    /// In turn, one for each call.
    trips: Vec<Trip>,
    /// How far Redis' clock is ahead.
    ahead_us: i64,
}

impl Scene {
    fn charge(&self) -> Charge {
        Charge { limit: self.limit, window_us: WINDOW_US, slot_us: 1, cost: 1, enforced: true }
    }
}

fn scenes(may_fail: bool) -> impl Strategy<Value = Scene> {
    let gap = prop_oneof![4 => Just(0), 4 => 0..5_000u64, 2 => 0..200_000u64, 1 => 0..1_500_000u64];
    let leaves = prop_oneof![5 => Just(None), 1 => (0..60_000u64).prop_map(Some)];
    let arrival = (gap, 0..GATEWAYS, 0..2u8, leaves).prop_map(|(gap_us, gateway, user, leaves_after_us)| Arrival {
        gap_us,
        gateway,
        user,
        leaves_after_us,
    });
    let fate = if may_fail {
        prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::Lost), 1 => Just(Fate::Cut)].boxed()
    } else {
        Just(Fate::Answered).boxed()
    };
    let trip = (0..30_000u64, 0..30_000u64, fate).prop_map(|(out_us, back_us, fate)| Trip { out_us, back_us, fate });
    let scene = (1..8u64, vec(arrival, 1..120), vec(trip, 1..40), aheads());
    scene.prop_map(|(limit, arrivals, trips, ahead_us)| Scene { limit, arrivals, trips, ahead_us })
}

/// How far Redis' clock may be ahead, in microseconds.
fn aheads() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -90_000_000..90_000_000i64]
}

/// What happens next: at a time, and in the order noted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Leaves(usize),
    Runs { gateway: usize, call: u64 },
    Returns { gateway: usize, call: u64 },
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Refused,
    Left,
}

struct Travelling {
    command: Command,
    trip: Trip,
    reply: Option<Result<Reply, CallError>>,
}

/// A gateway and Redis between which calls travel.
struct World<'a> {
    scene: &'a Scene,
    engines: Vec<Engine>,
    store: SimulatedStore,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_event: u64,
    calls: BTreeMap<(usize, u64), Travelling>,
    /// Calls of a gateway run in the order sent, and are answered in it.
    last_us: Vec<[u64; 2]>,
    next_call: u64,
    waiting: BTreeSet<usize>,
    ends: Vec<Option<End>>,
    /// For each user, when Redis charged a request.
    charged: BTreeMap<u8, Vec<u64>>,
    /// Streams in the order in which calls admitted or refused them, for each gateway and user.
    decided: BTreeMap<(usize, u8), Vec<(usize, bool)>>,
    failed: bool,
    commands: u64,
    /// For each call that Redis decided on, in order: for how many it asked, and how many were admitted.
    answers: Vec<(u64, u64)>,
    now_us: u64,
}

/// A gateway of a world.
struct OneGateway<'w, 'a> {
    world: &'w mut World<'a>,
    gateway: usize,
}

impl Adapter for OneGateway<'_, '_> {
    fn engine(&mut self) -> &mut Engine {
        &mut self.world.engines[self.gateway]
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        self.world.engines[self.gateway].poll(self.world.scene, now_ns)
    }

    fn call(&mut self, _service: u32, command: &mut Command, _now_ns: u64) -> Result<u64, CallError> {
        self.world.next_call += 1;
        self.world.travels(self.gateway, self.world.next_call, mem::take(command));
        Ok(self.world.next_call)
    }

    fn settle(&mut self, stream: u64, verdict: Verdict, _now_ns: u64) {
        let OneGateway { world, gateway } = self;
        let index = usize::try_from(stream).expect("a stream's id");
        assert!(world.waiting.remove(&index), "a stream was settled that does not wait");
        let passed = matches!(verdict, Verdict::Pass(_));
        world.decided.entry((*gateway, world.scene.arrivals[index].user)).or_default().push((index, passed));
        match verdict {
            Verdict::Pass(_) => world.ends(index, End::Passed),
            Verdict::Respond(response) => world.responded(index, response.status, world.longest_way_us()),
        }
    }

    fn annotate(&mut self, _stream: u64, _fields: Vec<(&'static str, String)>) {}

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    fn log(&mut self, _level: LogLevel, _line: String) {}
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, remember: bool, coalesce: bool) -> Self {
        let config = json!({
            "rule_name": "r",
            "rule_items": [{"limit_by_per_header": "user",
                "limit_keys": [{"key": "*", "query_per_second": scene.limit}]}],
            "remember_refusals": remember,
            "coalesce": coalesce,
            "failure_mode": "closed",
            "redis": {"service_name": "redis.static"},
        });
        let engine = |_| Engine::configure(config.to_string().as_bytes()).expect("the configuration is good");
        let mut world = World {
            scene,
            engines: (0..GATEWAYS).map(engine).collect(),
            store: SimulatedStore::default(),
            events: BinaryHeap::new(),
            next_event: 0,
            calls: BTreeMap::new(),
            last_us: vec![[0; 2]; GATEWAYS],
            next_call: 0,
            waiting: BTreeSet::new(),
            ends: vec![None; scene.arrivals.len()],
            charged: BTreeMap::new(),
            decided: BTreeMap::new(),
            failed: false,
            commands: 0,
            answers: Vec::new(),
            now_us: 1_795_000_000_000_000,
        };
        // The server knows the script, so each call runs once.
        let known = world.store.answer(&Script::default().command(Form::Text, &[], &[], 1), world.now_us);
        assert!(known.is_ok(), "{known:?}");
        let mut at_us = world.now_us;
        for (index, arrival) in scene.arrivals.iter().enumerate() {
            at_us += arrival.gap_us;
            world.note(at_us, Event::Arrives(index));
        }
        world
    }

    fn note(&mut self, at_us: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((at_us, self.next_event, event)));
    }

    fn run(&mut self) {
        while let Some(Reverse((at_us, _, event))) = self.events.pop() {
            self.now_us = at_us;
            match event {
                Event::Arrives(index) => self.arrives(index),
                Event::Leaves(index) => self.leaves(index),
                Event::Runs { gateway, call } => self.runs(gateway, call),
                Event::Returns { gateway, call } => self.returns(gateway, call),
            }
        }
    }

    fn arrives(&mut self, index: usize) {
        let Arrival { gateway, user, leaves_after_us, .. } = self.scene.arrivals[index];
        let step = self.engines[gateway].on_request(index as u64, &request_of(user), self.now_us * 1_000);
        match step {
            Step::Pass(_) => self.ends(index, End::Passed),
            Step::Respond(response) => self.responded(index, response.status, 0),
            Step::Wait => {
                self.waiting.insert(index);
                if let Some(after_us) = leaves_after_us {
                    self.note(self.now_us + after_us, Event::Leaves(index));
                }
            }
        }
        self.settle(gateway);
    }

    fn leaves(&mut self, index: usize) {
        if self.waiting.remove(&index) {
            self.engines[self.scene.arrivals[index].gateway].on_done(
                index as u64,
                StreamEnd::Client,
                self.now_us * 1_000,
            );
            self.ends(index, End::Left);
        }
    }

    fn runs(&mut self, gateway: usize, call: u64) {
        let travelling = self.calls.get_mut(&(gateway, call)).expect("a call on its way");
        if travelling.trip.fate == Fate::Cut {
            travelling.reply = Some(Err(CallError::Disconnected));
            return;
        }
        let redis_us = self.now_us.strict_add_signed(self.scene.ahead_us);
        let reply = self.store.answer(&travelling.command, redis_us);
        if let Ok(decision) = &reply {
            let units = units_of(&travelling.command);
            let batch = script::batch(decision, &[self.scene.charge()], units).expect("the script's reply");
            assert_eq!(batch.now_us, redis_us);
            let user = user_of(&travelling.command);
            self.charged.entry(user).or_default().extend((0..batch.admitted).map(|_| self.now_us));
            self.answers.push((units, batch.admitted));
        }
        travelling.reply = Some(if travelling.trip.fate == Fate::Lost { Err(CallError::Timeout) } else { reply });
    }

    fn returns(&mut self, gateway: usize, call: u64) {
        let travelling = self.calls.remove(&(gateway, call)).expect("a call on its way");
        let reply = travelling.reply.expect("it has run, or was cut");
        self.failed |= reply.is_err();
        self.engines[gateway].on_reply(call, reply, self.now_us * 1_000);
        self.settle(gateway);
    }

    /// Carries out what an engine wants after a step.
    fn settle(&mut self, gateway: usize) {
        let now_ns = self.now_us * 1_000;
        OneGateway { world: self, gateway }.drain(now_ns);
    }

    /// A command sets out for Redis, and its reply for the gateway, each not before the one before it.
    fn travels(&mut self, gateway: usize, call: u64, command: Command) {
        let trip = self.scene.trips[call as usize % self.scene.trips.len()];
        let [last_run, last_return] = &mut self.last_us[gateway];
        let runs_us = (*last_run).max(self.now_us + trip.out_us);
        let returns_us = (*last_return).max(runs_us + trip.back_us);
        (*last_run, *last_return) = (runs_us, returns_us);
        self.calls.insert((gateway, call), Travelling { command, trip, reply: None });
        self.note(runs_us, Event::Runs { gateway, call });
        self.note(returns_us, Event::Returns { gateway, call });
        self.commands += 1;
    }

    /// `old_us`: how long ago Redis may have said so; 0 from memory, which must hold now.
    fn responded(&mut self, index: usize, status: u16, old_us: u64) {
        match status {
            503 => assert!(self.failed, "the failure mode decided, and nothing had failed"),
            429 => self.was_full(self.scene.arrivals[index].user, old_us),
            other => panic!("status {other}"),
        }
        self.ends(index, End::Refused);
    }

    fn was_full(&self, user: u8, old_us: u64) {
        let charged = self.charged.get(&user).map_or(&[][..], Vec::as_slice);
        let since = self.now_us.saturating_sub(WINDOW_US + old_us);
        let recent = charged.iter().filter(|at_us| **at_us >= since).count() as u64;
        assert!(recent >= self.scene.limit, "refused though {recent} of {} were charged lately", self.scene.limit);
    }

    /// Answers come in order, so each may wait for any other.
    fn longest_way_us(&self) -> u64 {
        self.scene.trips.iter().map(|trip| trip.out_us + trip.back_us).max().unwrap_or_default()
    }

    fn ends(&mut self, index: usize, end: End) {
        assert_eq!(self.ends[index].replace(end), None, "a stream has one end");
    }

    /// No interval of the window's length holds more than the limit.
    fn check_never_over(&self) {
        let limit = usize::try_from(self.scene.limit).expect("a small limit");
        for charged in self.charged.values() {
            for (first, at_us) in charged.iter().enumerate() {
                let within = charged[first..].iter().take_while(|other| **other <= at_us + WINDOW_US).count();
                assert!(within <= limit, "{within} in a window, the limit is {limit}");
            }
        }
        let passed = self.ends.iter().filter(|end| **end == Some(End::Passed)).count();
        let charged: usize = self.charged.values().map(Vec::len).sum();
        assert!(passed <= charged, "{passed} passed, {charged} were charged");
    }

    /// Of those who waited in one gateway for one user, who came first was decided on first.
    fn check_first_come(&self) {
        for decided in self.decided.values() {
            let order: Vec<usize> = decided.iter().map(|(index, _)| *index).collect();
            assert!(order.is_sorted(), "decided in the order {order:?}");
        }
    }
}

impl Requests for Scene {
    type View = PlainRequest;

    fn view(&self, stream: u64) -> Option<PlainRequest> {
        Some(request_of(self.arrivals.get(usize::try_from(stream).ok()?)?.user))
    }
}

/// A request of a user.
fn request_of(user: u8) -> PlainRequest {
    PlainRequest::with_header("user", &[b'a' + user])
}

/// For how many requests a command asks.
fn units_of(command: &Command) -> u64 {
    let units = command.words().last().and_then(|numbers| numbers.first_chunk()).expect("the script's argument");
    f64::from_be_bytes(*units) as u64
}

/// Whom a command is about: the key ends with the header's value and the window.
fn user_of(command: &Command) -> u8 {
    let key = command.words().nth(3).expect("a key");
    let value = key.strip_suffix(b"}:1").and_then(<[u8]>::last).expect("the key of a user");
    value - b'a'
}

const COMBINATIONS: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

#[derive(Default)]
struct Totals {
    /// Of each combination.
    commands: Vec<u64>,
    passed: usize,
    refused: usize,
    left: usize,
}

fn check(scenes: impl Strategy<Value = Scene>, cases: u32) -> Totals {
    let mut totals = Totals::default();
    for (remember, coalesce) in COMBINATIONS {
        let mut runner = TestRunner::new_with_rng(
            Config { cases, failure_persistence: None, ..Config::default() },
            TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        );
        let commands = Cell::new(0);
        let ends = RefCell::new(Vec::new());
        let result = runner.run(&scenes, |scene| {
            let mut world = World::new(&scene, remember, coalesce);
            world.run();
            assert!(world.waiting.is_empty() && world.calls.is_empty(), "streams were forgotten: {:?}", world.waiting);
            assert!(world.ends.iter().all(Option::is_some), "streams were forgotten");
            world.check_never_over();
            world.check_first_come();
            commands.set(commands.get() + world.commands);
            ends.borrow_mut().extend(world.ends.iter().copied().flatten());
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("remember_refusals {remember}, coalesce {coalesce}: {error}"));
        let count = |end: End| ends.borrow().iter().filter(|each| **each == end).count();
        totals.commands.push(commands.get());
        totals.passed += count(End::Passed);
        totals.refused += count(End::Refused);
        totals.left += count(End::Left);
    }
    totals
}

#[test]
fn the_promises_hold_whatever_is_in_flight_and_each_switch_saves_calls() {
    let totals = check(scenes(false), 1_500);
    assert!(
        totals.passed > 50_000 && totals.refused > 50_000 && totals.left > 500,
        "{} {} {}",
        totals.passed,
        totals.refused,
        totals.left
    );
    let [both, remembering, coalescing, neither] = totals.commands[..] else { panic!("four combinations") };
    assert!(
        both < remembering && both < coalescing && remembering < neither && coalescing < neither,
        "{:?}",
        totals.commands
    );
}

#[test]
fn the_promises_hold_while_calls_fail() {
    let totals = check(scenes(true), 1_500);
    assert!(totals.passed > 20_000 && totals.refused > 20_000, "{} {}", totals.passed, totals.refused);
}

/// One gateway and one user, far more requests than there is room for, and ways to Redis of any length.
fn floods() -> impl Strategy<Value = Scene> {
    let trip =
        (0..30_000u64, 0..30_000u64).prop_map(|(out_us, back_us)| Trip { out_us, back_us, fate: Fate::Answered });
    (1..8u64, 1_000..5_000u64, vec(trip, 2..8), aheads()).prop_map(|(limit, gap_us, trips, ahead_us)| {
        let arrival = Arrival { gap_us, gateway: 0, user: 0, leaves_after_us: None };
        let arrivals = vec![arrival; usize::try_from(FLOOD_US / gap_us).expect("a number of requests")];
        Scene { limit, arrivals, trips, ahead_us }
    })
}

/// As long as every way has been taken several times.
const FLOOD_US: u64 = 30 * WINDOW_US;

#[test]
fn once_the_minimum_delay_is_known_no_call_comes_too_early_and_none_too_late() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 300, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let result = runner.run(&floods(), |scene| {
        let mut world = World::new(&scene, true, true);
        world.run();
        world.check_never_over();
        let warm = world.answers.get(scene.trips.len()..).expect("more calls than ways");
        assert!(warm.iter().all(|(_, admitted)| *admitted > 0), "calls came back refused: {warm:?}");
        // Each call finds the places that came free since the one before, so none of them admits more than the limit,
        // and all together admit what the window allows, but for what a round trip and the gap between two requests
        // cost each time.
        let passed = world.charged.values().map(Vec::len).sum::<usize>() as u64;
        let slowest_us = WINDOW_US + scene.limit * (world.longest_way_us() + scene.arrivals[0].gap_us);
        assert!(passed >= scene.limit * (FLOOD_US / slowest_us), "{passed} passed");
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
