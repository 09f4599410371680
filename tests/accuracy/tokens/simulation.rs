//! Questions through whole engines on one Redis, answer by answer, on a clock of the simulation's own.

use std::{cmp::Reverse, collections::BinaryHeap};

use serde_json::{Value, json};
use slidegate_engine::StreamEnd;
use slidegate_engine_tests::token_gateways::{OpenAnswer, TokenGateways};

use super::{
    Accounting, Tally,
    books::Books,
    questions::{GATEWAYS, LIMIT, Question, WINDOW_US},
};

/// After so long everything is settled.
const SETTLED_US: u64 = 100_000;

/// What became of questions.
pub(crate) struct Played {
    /// What each took that was answered, in the order of questions; none of one that was refused.
    pub(crate) took: Vec<Option<u64>>,
    pub(crate) tally: Tally,
}

/// Has gateways answer all of them.
pub(crate) fn play(accounting: Accounting, questions: &[Question]) -> Played {
    let mut simulation = Simulation {
        accounting,
        gateways: TokenGateways::new(&config(accounting), GATEWAYS),
        books: Books::default(),
        played: Played { took: vec![None; questions.len()], tally: Tally::default() },
    };
    simulation.gateways.keep_journal();
    let mut due: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut open: Vec<Option<OpenAnswer>> = questions.iter().map(|_| None).collect();
    for (at, question) in questions.iter().enumerate() {
        while let Some(Reverse((at_us, of, step))) = due.pop_if_before(question.at_us) {
            simulation.pass_until(at_us);
            if simulation.step(&questions[of], &mut open[of], of, step) {
                due.push(Reverse((questions[of].step_us(step + 1), of, step + 1)));
            }
        }
        simulation.pass_until(question.at_us);
        if let Some(answer) = simulation.ask(question) {
            open[at] = Some(answer);
            due.push(Reverse((question.step_us(0), at, 0)));
        }
    }
    while let Some(Reverse((at_us, of, step))) = due.pop() {
        simulation.pass_until(at_us);
        if simulation.step(&questions[of], &mut open[of], of, step) {
            due.push(Reverse((questions[of].step_us(step + 1), of, step + 1)));
        }
    }
    simulation.finish()
}

/// What is due.
trait Due {
    fn pop_if_before(&mut self, us: u64) -> Option<Reverse<(u64, usize, u64)>>;
}

impl Due for BinaryHeap<Reverse<(u64, usize, u64)>> {
    fn pop_if_before(&mut self, us: u64) -> Option<Reverse<(u64, usize, u64)>> {
        if self.peek().is_some_and(|Reverse((at_us, ..))| *at_us < us) { self.pop() } else { None }
    }
}

struct Simulation {
    accounting: Accounting,
    gateways: TokenGateways,
    books: Books,
    played: Played,
}

impl Simulation {
    fn pass_until(&mut self, us: u64) {
        self.gateways.pass(us.checked_sub(self.gateways.now_us).expect("time goes on"));
        self.enter();
    }

    /// Enters what was done since.
    fn enter(&mut self) {
        for entry in self.gateways.take_journal() {
            self.books.enter(&entry, self.accounting == Accounting::Fits, &mut self.played.tally);
        }
    }

    fn ask(&mut self, question: &Question) -> Option<OpenAnswer> {
        let (gateway, user) = (question.gateway, format!("user-{}", question.user));
        let length = usize::try_from(question.input * 4).expect("a short prompt");
        let asked = match self.accounting {
            Accounting::Fits => {
                let mut body = json!({"max_tokens": question.output_max, "prompt": ""}).to_string().into_bytes();
                let end = body.split_off(body.len() - 2);
                body.resize(length - end.len(), b'x');
                body.extend(end);
                self.gateways.ask_with_body(gateway, &user, &[&body])
            }
            _ => self.gateways.ask(gateway, &user, length),
        };
        self.enter();
        let answer = asked.ok()?;
        self.gateways.begin_with(&answer, 200, &[("content-type", "text/event-stream")]);
        Some(answer)
    }

    /// A step of an answer comes, or its client leaves. Whether more is to come.
    fn step(&mut self, question: &Question, open: &mut Option<OpenAnswer>, at: usize, step: u64) -> bool {
        let Some(answer) = open.take() else { return false };
        let took = &mut self.played.took[at];
        if question.leaves_after == Some(step) {
            *took = Some(took.unwrap_or(question.input));
            self.gateways.end(&answer, StreamEnd::Client);
            self.enter();
            return false;
        }
        let output = question.output_by(step);
        *took = Some(question.input + output);
        let usage = json!({"prompt_tokens": question.input, "completion_tokens": output});
        let event = json!({"choices": [{"index": 0, "delta": {"content": "."}}], "usage": usage});
        let (_, is_over) = self.gateways.show(&answer, format!("data: {event}\n\n").as_bytes(), false);
        let is_last = step + 1 == Question::STEPS;
        self.played.tally.cut += u64::from(is_over);
        if is_over || is_last {
            self.gateways.end(&answer, StreamEnd::Whole);
        } else {
            *open = Some(answer);
        }
        self.enter();
        open.is_some()
    }

    fn finish(mut self) -> Played {
        self.pass_until(self.gateways.now_us + SETTLED_US);
        let charged = self.gateways.metric("slidegate_tokens_charged_total");
        let taken: u64 = self.played.took.iter().flatten().sum();
        self.played.tally.uncharged += u64::try_from(i128::from(taken) - charged).unwrap_or(u64::MAX);
        self.played
    }
}

fn config(accounting: Accounting) -> Value {
    let key = json!({"key": "*", "token_limit": LIMIT, "window": format!("{}s", WINDOW_US / 1_000_000)});
    let mut config = json!({
        "rule_name": "accuracy", "redis": {"service_name": "redis.static"},
        "rule_items": [{"limit_by_per_header": "x-user", "limit_keys": [key]}],
    });
    match accounting {
        Accounting::Stock | Accounting::Room => {}
        Accounting::After => config["accounting"] = json!("after"),
        Accounting::Fits => {
            config["admission"] = json!("fits");
            config["reserve"] = json!("max_tokens");
        }
        Accounting::Cut => config["on_exhausted"] = json!("cut"),
    }
    config
}
