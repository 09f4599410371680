//! Limits on tokens, of which nobody knows what an answer takes before its end: what each way to count them lets
//! through. Whole engines, several on one Redis, with reservations, settlements and streams that are charged on.

mod books;
mod questions;
mod simulation;

use std::{array, sync::LazyLock, thread};

use self::{
    questions::{LIMIT, Question, Talk, USERS, WINDOW_US, WINDOWS},
    simulation::{Played, play},
};
use crate::{
    limiter::Ledger,
    table::{Table, number, thousands},
};

/// Decisions of the whole proof.
const DECISIONS: u64 = 10_000_000;

/// The seed of the tables.
const SHOWN: u64 = 1;

/// A way to count tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accounting {
    /// As the stock plugin does: a fixed window that is looked at before, and added to after.
    Stock,
    /// `accounting: after`.
    After,
    /// As it is by default: an estimate is reserved, and a request needs room for one token.
    Room,
    /// The same, and what finds no more room is cut.
    Cut,
    /// `admission: fits` with `reserve: max_tokens`: a request needs room for the most that it can take.
    Fits,
}

/// What was counted while questions were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// What Redis decided.
    pub(crate) decisions: u64,
    /// Of these, admissions without room by what was known.
    pub(crate) over: u64,
    /// And refusals although there was room by the last window and a slot.
    pub(crate) refused_beyond_slot: u64,
    /// Settlements: what was given back, what was charged on.
    pub(crate) given_back: u64,
    pub(crate) charged_on: u64,
    /// What was given back that nobody had charged.
    pub(crate) forged: u64,
    /// Answers that were cut.
    pub(crate) cut: u64,
    /// Tokens that were taken and not charged.
    pub(crate) uncharged: u64,
}

/// One way to come through every way to count.
pub(crate) struct TokenRow {
    talk: Talk,
    outcomes: [TokenOutcome; 5],
}

#[derive(Debug, Clone, Copy)]
struct TokenOutcome {
    tally: Tally,
    /// What the fullest window of any user held above the limit, each answer counted when it was asked for.
    excess: u64,
    /// All tokens taken.
    taken: u64,
}

impl Accounting {
    const ALL: [Accounting; 5] =
        [Accounting::Stock, Accounting::After, Accounting::Room, Accounting::Cut, Accounting::Fits];

    fn name(self) -> &'static str {
        match self {
            Accounting::Stock => "stock's way",
            Accounting::After => "after",
            Accounting::Room => "default",
            Accounting::Cut => "cut",
            Accounting::Fits => "fits",
        }
    }
}

/// The rows that are shown.
pub(crate) fn rows() -> &'static [TokenRow] {
    static ROWS: LazyLock<[TokenRow; 5]> = LazyLock::new(|| Talk::ALL.map(|talk| TokenRow::of(talk, SHOWN)));
    &*ROWS
}

/// So many decisions that the whole proof has them, in threads; what was counted in all of them, and what is wrong.
pub(crate) fn whole() -> (Tally, Vec<String>) {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    thread::scope(|scope| {
        let run = |thread: u64| {
            let (mut tally, mut faults, mut seed) = (Tally::default(), Vec::new(), SHOWN + 1 + thread);
            while tally.decisions < DECISIONS.div_ceil(threads) {
                for talk in Talk::ALL {
                    let row = TokenRow::of(talk, seed);
                    row.outcomes.iter().for_each(|outcome| tally.add(&outcome.tally));
                    faults.extend(row.faults());
                }
                seed += threads;
            }
            (tally, faults)
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let (mut tally, mut faults) = (Tally::default(), Vec::new());
        for running in running {
            let (of_thread, faults_of_thread) = running.join().expect("a simulation ends");
            tally.add(&of_thread);
            faults.extend(faults_of_thread);
        }
        (tally, faults)
    })
}

/// The tables of rows.
pub(crate) fn shown(rows: &[TokenRow]) -> Vec<Table> {
    let note = format!(
        "Tokens of the fullest minute of any user above the limit, each answer counted when it was asked for, in \
         percent; in brackets what was taken, of what the limit allows in that time. {} a minute for each of {USERS} \
         users.",
        thousands(LIMIT)
    );
    let names = Accounting::ALL.map(Accounting::name);
    let mut over = Table::new("Tokens above the limit", note, &[&["answers"], &names[..]].concat());
    for row in rows {
        let cell = |outcome: &TokenOutcome| {
            let excess = match outcome.excess {
                0 => "0".to_owned(),
                excess => format!("{} %", number(100.0 * excess as f64 / LIMIT as f64, 1)),
            };
            format!("{excess} ({} %)", number(100.0 * outcome.taken as f64 / row.allowed() as f64, 0))
        };
        over.row([row.talk.name().to_owned()].into_iter().chain(row.outcomes.iter().map(cell)));
    }
    vec![over]
}

/// What was counted in all of the proof.
pub(crate) fn counted(tally: &Tally) -> Table {
    let note = "Decisions of the simulated Redis, held against a plain list of what was charged and given back: \
                admitted without room by what was known, refused although the last window and a slot had room, given \
                back though nobody had charged it, taken and not charged.";
    let head =
        ["decisions", "over", "stingy", "given back", "charged on", "streams cut", "forged", "tokens not charged"];
    let mut table = Table::new("Settled windows", note, &head);
    let Tally { decisions, over, refused_beyond_slot, given_back, charged_on, forged, cut, uncharged } = *tally;
    let figures = [decisions, over, refused_beyond_slot, given_back, charged_on, cut, forged, uncharged];
    table.row(figures.map(thousands));
    table
}

impl TokenRow {
    fn of(talk: Talk, seed: u64) -> Self {
        let questions = talk.questions(seed);
        let outcomes = Accounting::ALL.map(|accounting| {
            let played = match accounting {
                Accounting::Stock => stock(&questions),
                accounting => play(accounting, &questions),
            };
            TokenOutcome::of(&questions, &played)
        });
        TokenRow { talk, outcomes }
    }

    /// What the limit allows in all windows.
    fn allowed(&self) -> u64 {
        LIMIT * USERS as u64 * WINDOWS
    }

    /// What is wrong with it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (accounting, outcome) in Accounting::ALL.into_iter().zip(&self.outcomes) {
            let Tally { over, refused_beyond_slot, forged, uncharged, .. } = outcome.tally;
            let holds = [
                (over == 0, "slidegate is never over what is known"),
                (refused_beyond_slot == 0, "it refuses only what the last window and a slot leave no room for"),
                (forged == 0, "only what was charged is given back"),
                (uncharged == 0, "all that was taken is charged"),
                (
                    accounting != Accounting::Fits || outcome.excess == 0,
                    "where all that a request can take has to fit, no window holds more than the limit",
                ),
            ];
            let wrong = holds.into_iter().filter(|(holds, _)| !holds);
            faults.extend(
                wrong.map(|(_, what)| {
                    format!("{}, {}: not so: {what}: {outcome:?}", self.talk.name(), accounting.name())
                }),
            );
        }
        faults
    }
}

impl TokenOutcome {
    fn of(questions: &[Question], played: &Played) -> Self {
        let mut users: [Ledger; USERS] = array::from_fn(|_| Ledger::new(WINDOW_US));
        let mut excess = 0;
        for (question, took) in questions.iter().zip(&played.took) {
            let user = &mut users[question.user];
            user.sum_at(question.at_us);
            user.add(question.at_us, took.unwrap_or(0));
            excess = excess.max(user.sum_at(question.at_us).saturating_sub(LIMIT));
        }
        TokenOutcome { tally: played.tally, excess, taken: played.took.iter().flatten().sum() }
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        let Tally { decisions, over, refused_beyond_slot, given_back, charged_on, forged, cut, uncharged } = other;
        self.decisions += decisions;
        self.over += over;
        self.refused_beyond_slot += refused_beyond_slot;
        self.given_back += given_back;
        self.charged_on += charged_on;
        self.forged += forged;
        self.cut += cut;
        self.uncharged += uncharged;
    }
}

/// What the stock plugin makes of it, in the words of higress 2.2: it refuses above the limit, adds when an answer has
/// ended unless the limit is passed by then, and its window begins with the first that it adds.
fn stock(questions: &[Question]) -> Played {
    let mut took = vec![None; questions.len()];
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let mut counters = [(0_u64, 0_u64); USERS];
    for (at, question) in questions.iter().enumerate() {
        ends.sort_unstable_by(|one, other| other.cmp(one));
        while let Some((end_us, of)) = ends.pop_if(|(end_us, _)| *end_us <= question.at_us) {
            add(&mut counters[questions[of].user], end_us, took[of].unwrap_or(0));
        }
        let (ends_us, count) = counters[question.user];
        if question.at_us < ends_us && count > LIMIT {
            continue;
        }
        let steps = question.leaves_after.unwrap_or(Question::STEPS);
        let output = steps.checked_sub(1).map_or(0, |step| question.output_by(step));
        took[at] = Some(question.input + output);
        ends.push((question.step_us(steps.min(Question::STEPS - 1)), at));
    }
    Played { took, tally: Tally::default() }
}

fn add((ends_us, count): &mut (u64, u64), now_us: u64, tokens: u64) {
    if now_us >= *ends_us {
        (*ends_us, *count) = (now_us + WINDOW_US, 0);
    }
    if *count <= LIMIT {
        *count += tokens;
    }
}
