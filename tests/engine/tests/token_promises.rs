//! The promises of windows whose costs are estimated and settled, through the whole limiter: random histories of
//! requests and answers, on several gateways or on one, against a list of events. 0 over the limit, 0 stingy beyond a
//! slot.

use std::cell::Cell;

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use serde_json::{Value, json};
use slidegate_engine::StreamEnd;
use slidegate_engine_tests::{
    promises::runner,
    token_gateways::{OpenAnswer, TokenGateways, usage},
};

const LIMIT: u64 = 1_000;
const WINDOW_US: u64 = 60_000_000;

/// After so long a settlement has been sent.
const SETTLED_US: u64 = 50_000;

#[derive(Debug, Clone)]
enum Happening {
    Pass(u64),
    Ask(Index),
    /// One of the open answers ends, and took so many tokens.
    Answer(Index, u64),
}

/// What a history is played on.
#[derive(Debug, Clone, Copy)]
struct Setting {
    gateways: usize,
    has_redis: bool,
    is_exact: bool,
    fits: bool,
    /// What is reserved.
    reserve: u64,
}

/// What was charged, and when: at the earliest, and so much later at the latest.
#[derive(Debug, Clone, Copy)]
struct Event {
    at_us: u64,
    late_us: u64,
    tokens: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    admitted: u64,
    refused: u64,
    given_back: u64,
    charged_on: u64,
}

impl Setting {
    fn slot_us(self) -> u64 {
        if self.is_exact { 1 } else { WINDOW_US / 10 }
    }

    fn config(self) -> Value {
        let precision = if self.is_exact { json!("exact") } else { json!(10) };
        let keys = json!([{"key": "*", "token_per_minute": LIMIT, "precision": precision}]);
        let mut config = json!({
            "rule_name": "r", "reserve": self.reserve, "admission": if self.fits { "fits" } else { "room" },
            "rule_items": [{"limit_by_per_header": "x-user", "limit_keys": keys}],
        });
        if self.has_redis {
            config["redis"] = json!({"service_name": "redis.static"});
            // What others give back nobody tells of.
            config["remember_refusals"] = json!(self.gateways == 1);
        }
        config
    }
}

struct Ledger {
    setting: Setting,
    gateways: TokenGateways,
    events: Vec<Event>,
    /// Open answers, and the places of their reservations among the events.
    open: Vec<(OpenAnswer, usize)>,
}

impl Ledger {
    /// What is in use at least.
    fn least(&self) -> u64 {
        let from_us = self.gateways.now_us - WINDOW_US;
        self.events.iter().filter(|event| event.at_us >= from_us).map(|event| event.tokens).sum()
    }

    /// What may be in use, or was a slot ago.
    fn most(&self) -> u64 {
        let from_us = self.gateways.now_us - WINDOW_US - self.setting.slot_us();
        self.events.iter().filter(|event| event.at_us + event.late_us >= from_us).map(|event| event.tokens).sum()
    }

    fn happen(&mut self, happening: &Happening, sum: &mut Sum) -> Result<(), TestCaseError> {
        match happening {
            Happening::Pass(us) => self.gateways.pass(*us),
            Happening::Ask(gateway) => self.ask(gateway.index(self.setting.gateways), sum)?,
            Happening::Answer(at, tokens) if !self.open.is_empty() => {
                let (open, event) = self.open.swap_remove(at.index(self.open.len()));
                self.answer(&open, event, *tokens, sum);
            }
            Happening::Answer(..) => {}
        }
        Ok(())
    }

    fn ask(&mut self, gateway: usize, sum: &mut Sum) -> Result<(), TestCaseError> {
        let reserved = self.setting.reserve.min(LIMIT);
        let need = if self.setting.fits { reserved } else { 1 };
        let now_us = self.gateways.now_us;
        match self.gateways.ask(gateway, "a", 0) {
            Ok(open) => {
                let all = self.least() + need;
                prop_assert!(all <= LIMIT, "{all} with {need} of {:?}", self.setting);
                self.open.push((open, self.events.len()));
                self.events.push(Event { at_us: now_us, late_us: 0, tokens: reserved });
                sum.admitted += 1;
            }
            Err(refusal) => {
                let all = self.most() + need;
                prop_assert!(all > LIMIT, "refused with {all} of {:?}, {refusal:?}", self.setting);
                sum.refused += 1;
            }
        }
        Ok(())
    }

    fn answer(&mut self, open: &OpenAnswer, event: usize, tokens: u64, sum: &mut Sum) {
        self.gateways.spend(open, tokens, 0);
        let now_us = self.gateways.now_us;
        let reserved = &mut self.events[event];
        if tokens > reserved.tokens {
            let tokens = tokens - reserved.tokens;
            // It is charged with the next question, or a moment later.
            self.events.push(Event { at_us: now_us, late_us: SETTLED_US, tokens });
            sum.charged_on += 1;
        } else if now_us - reserved.at_us <= WINDOW_US {
            reserved.tokens = tokens;
            sum.given_back += 1;
        }
        if self.setting.gateways > 1 {
            self.gateways.pass(SETTLED_US);
        }
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let reserve = prop_oneof![1..50_u64, 50..400_u64, 900..2_000_u64];
    (prop_oneof![Just(1_usize), Just(3)], any::<bool>(), any::<bool>(), any::<bool>(), reserve).prop_map(
        |(gateways, has_redis, is_exact, fits, reserve)| Setting {
            gateways: if has_redis { gateways } else { 1 },
            has_redis,
            is_exact,
            fits,
            reserve,
        },
    )
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let pass = prop_oneof![0..1_000_u64, 0..WINDOW_US / 20, 0..WINDOW_US / 4, Just(WINDOW_US / 2), Just(WINDOW_US)];
    let tokens = prop_oneof![Just(0_u64), 0..100_u64, 0..600_u64];
    let happening = prop_oneof![
        2 => pass.prop_map(Happening::Pass),
        5 => any::<Index>().prop_map(Happening::Ask),
        3 => (any::<Index>(), tokens).prop_map(|(at, tokens)| Happening::Answer(at, tokens)),
    ];
    prop::collection::vec(happening, 1..120)
}

#[test]
fn who_leaves_is_charged_what_passed_whatever_was_claimed() {
    let config = json!({"rule_name": "r", "global_threshold": {"token_per_day": 1_u64 << 50}});
    let left = |(claimed, sent, text, told): (usize, Vec<usize>, usize, Option<u64>)| {
        let mut gateways = TokenGateways::new(&config, 1);
        let open = gateways.announce(0, "a", claimed).expect("there is room");
        if claimed > 0 {
            sent.iter().for_each(|bytes| gateways.send(&open, &[&vec![b' '; *bytes]]));
        }
        let said = json!({"choices": [{"delta": {"content": "x".repeat(text)}}]}).to_string();
        let said_last = told.map(|output| usage(3, output));
        let pieces = [Some(&said), said_last.as_ref()].into_iter().flatten();
        let pieces: Vec<&[u8]> = pieces.map(|each| each.as_bytes()).collect();
        gateways.answer(&open, 200, &pieces, StreamEnd::Client);
        let passed = if claimed > 0 { sent.iter().sum::<usize>() } else { 0 };
        let looks_like = text.div_ceil(4) as i128;
        let expected = match told {
            None => passed.div_ceil(4) as i128 + looks_like,
            Some(0) => 3 + looks_like,
            Some(output) => 3 + i128::from(output),
        };
        prop_assert_eq!(gateways.metric("slidegate_tokens_charged_total"), expected);
        Ok(())
    };
    let claimed = prop_oneof![Just(0), 1..9_usize, 1..1_000_000_usize, Just(usize::MAX)];
    let sent = prop::collection::vec(0..5_000_usize, 0..4);
    let told = prop::option::of(0..1_000_u64);
    let outcome = runner(1_000).run(&(claimed, sent, 0..5_000_usize, told), left);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn windows_of_tokens_keep_their_promises() {
    let sum = Cell::new(Sum::default());
    let play = |(setting, happenings): (Setting, Vec<Happening>)| {
        let gateways = TokenGateways::new(&setting.config(), setting.gateways);
        let mut ledger = Ledger { setting, gateways, events: Vec::new(), open: Vec::new() };
        let mut counted = sum.get();
        for happening in &happenings {
            ledger.happen(happening, &mut counted)?;
        }
        sum.set(counted);
        Ok(())
    };
    let outcome = runner(3_000).run(&(settings(), happenings()), play);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let sum = sum.get();
    assert!(
        sum.admitted > 20_000 && sum.refused > 5_000 && sum.given_back > 5_000 && sum.charged_on > 2_000,
        "{sum:?}"
    );
}
