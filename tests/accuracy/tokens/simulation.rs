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
        due: BinaryHeap::new(),
        open: questions.iter().map(|_| None).collect(),
    };
    simulation.gateways.keep_journal();
    for (at, question) in questions.iter().enumerate() {
        simulation.run_before(question.at_us, questions);
        simulation.pass_until(question.at_us);
        if let Some(answer) = simulation.ask(question) {
            simulation.open[at] = Some(answer);
            simulation.due.push(Reverse((question.step_us(0), at, 0)));
        }
    }
    simulation.run_before(u64::MAX, questions);
    simulation.finish()
}

struct Simulation {
    accounting: Accounting,
    gateways: TokenGateways,
    books: Books,
    played: Played,
    /// The next step of each answer that goes on: when it comes, which question's it is, and which step.
    due: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// The answers that go on, in the order of questions.
    open: Vec<Option<OpenAnswer>>,
}

impl Simulation {
    /// Takes every step that is due before this.
    fn run_before(&mut self, us: u64, questions: &[Question]) {
        while let Some(&Reverse((at_us, at, step))) = self.due.peek().filter(|Reverse((at_us, ..))| *at_us < us) {
            self.due.pop();
            self.pass_until(at_us);
            if self.step(&questions[at], at, step) {
                self.due.push(Reverse((questions[at].step_us(step + 1), at, step + 1)));
            }
        }
    }

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
    fn step(&mut self, question: &Question, at: usize, step: u64) -> bool {
        let Some(answer) = self.open[at].take() else { return false };
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
            self.open[at] = Some(answer);
        }
        self.enter();
        self.open[at].is_some()
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
