//! What a settlement costs Redis, by how far back what it settles was reserved, beside an admission to the same window.

use redis::{Cmd, Connection, Pipeline, Value};
use slidegate_engine::{
    redis::{Command, Form},
    window::{
        Charge, EXACT_MAX,
        refund::Refund,
        script::{ADMIT, Script},
        settle::{SETTLE, SettleScript, Settlement},
    },
};
use slidegate_tests::script_clock::set_clock;

use super::{flush, main_thread_cpu_us, ratio};
use crate::{
    Effort,
    sample::median,
    table::{Table, number, thousands},
};

const KEY: &[u8] = b"{settled}";
const WINDOW_US: u64 = 64_000_000;
const SLOT_US: u64 = 1_000_000;
const SLOTS: u64 = 64;

/// An exact window has a slot for each request. So many are more than are looked at for a settlement.
const EXACT_SLOTS: u64 = 256;

/// The newest slot begins then.
const NOW_US: u64 = 1_767_225_600_000_000;

/// Commands that travel together.
const BATCH: usize = 500;

/// A charge that a window of many tokens takes.
const CHARGE: Charge = Charge { limit: EXACT_MAX, window_us: WINDOW_US, slot_us: SLOT_US, cost: 1_000, enforced: true };

/// What is asked of a window that is full of slots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SettlementLoad {
    Admission,
    /// The same in an exact window.
    AdmissionExact,
    /// What was reserved so many slots ago is given back in part.
    GiveBack(u64),
    /// The same in an exact window.
    GiveBackExact(u64),
    /// More is charged.
    Spend,
    /// An admission, with what the one before it gives back.
    Together,
}

/// CPU per settlement.
pub(super) fn measure(connection: &mut Connection, effort: &Effort) -> Table {
    let (rounds, count) = (effort.of(1, 7), effort.of(200, 5_000));
    let all = [
        &[SettlementLoad::Admission][..],
        &[0, 1, 8, 24, 48, 63].map(SettlementLoad::GiveBack),
        &[SettlementLoad::Spend, SettlementLoad::Together, SettlementLoad::AdmissionExact],
        &[0, 1, 8, 16, 68, 70, 127, 255].map(SettlementLoad::GiveBackExact),
    ]
    .concat();
    let mut cpu_us = vec![Vec::new(); all.len()];
    for round in 0..=rounds {
        for (asked, cpu_us) in all.iter().zip(&mut cpu_us) {
            let cost_us = asked.round(connection, count);
            if round > 0 {
                cpu_us.push(cost_us);
            }
        }
    }
    let note = format!(
        "Microseconds of CPU of Redis' main thread, as above, for each settlement that goes alone, in a window of \
         {SLOTS} slots; medians of {rounds} rounds of {}, in turns, and of the rounds' ratios. Settlements go with the \
         next admission where one comes within 50 ms. To reach: 2 in the newest slot, 8 anywhere. An \
         exact window of more tokens than 100, which only `precision: exact` asks for, has a slot for each request, \
         here {EXACT_SLOTS}; of so many, what was reserved more than 67 to 70 requests before is looked for, and not \
         given back. What comes behind an admission to it is measured against that, which begins a slot each time.",
        thousands(count as u64)
    );
    let mut table = Table::new("CPU of Redis per settlement", note, &["what", "µs", "÷ admission"]);
    let mut admission = &cpu_us[0];
    for (asked, us) in all.iter().zip(&cpu_us) {
        if *asked == SettlementLoad::AdmissionExact {
            admission = us;
        }
        table.row([asked.name(), number(median(us.iter().copied()), 1), ratio(us, admission)]);
    }
    table
}

impl SettlementLoad {
    fn name(self) -> String {
        match self {
            SettlementLoad::Admission => "an admission, its slot goes on".to_owned(),
            SettlementLoad::AdmissionExact => "an admission to an exact window".to_owned(),
            SettlementLoad::GiveBack(0) => "given back in the newest slot".to_owned(),
            SettlementLoad::GiveBack(slots) => format!("given back {slots} slots before"),
            SettlementLoad::GiveBackExact(0) => "given back in its newest slot".to_owned(),
            SettlementLoad::GiveBackExact(slots) => format!("given back {slots} requests before"),
            SettlementLoad::Spend => "charged on".to_owned(),
            SettlementLoad::Together => "an admission with a settlement in the newest slot".to_owned(),
        }
    }

    /// One run; its cost for each command.
    fn round(self, connection: &mut Connection, count: usize) -> f64 {
        flush(connection);
        for script in [ADMIT, SETTLE] {
            redis::cmd("SCRIPT").arg("LOAD").arg(script).exec(connection).expect("the script compiles");
        }
        let history = (0..self.slots()).rev().map(|slots| self.admission(1_000_000, self.begin_of(slots)));
        run(connection, history.collect());
        let commands = (0..count as u64).map(|at| self.command(NOW_US + 100 + at)).collect();
        let before = main_thread_cpu_us(connection);
        run(connection, commands);
        (main_thread_cpu_us(connection) - before) / count as f64
    }

    fn command(self, now_us: u64) -> Cmd {
        let slot_us = self.charge().slot_us;
        let refund = |slots| Refund { window_us: WINDOW_US, slot_us, at_us: self.begin_of(slots), cost: 1 };
        let mut settlement = Settlement::default();
        let (mut keys, mut charges) = (Vec::new(), Vec::new());
        match self {
            SettlementLoad::Admission | SettlementLoad::AdmissionExact => {
                return self.admission(CHARGE.cost, now_us);
            }
            SettlementLoad::GiveBack(slots) | SettlementLoad::GiveBackExact(slots) => {
                settlement.give_back(KEY, refund(slots))
            }
            SettlementLoad::Spend => settlement.spend(KEY, Charge { cost: 1, ..CHARGE }),
            SettlementLoad::Together => {
                settlement.give_back(KEY, refund(0));
                (keys, charges) = (vec![KEY.to_vec()], vec![CHARGE]);
            }
        }
        timed(&SettleScript::default().command(Form::Sha, &settlement, &keys, &charges, 1), now_us)
    }

    fn charge(self) -> Charge {
        let slot_us = if self.is_exact() { 1 } else { SLOT_US };
        Charge { slot_us, ..CHARGE }
    }

    /// How many slots the window has.
    fn slots(self) -> u64 {
        if self.is_exact() { EXACT_SLOTS } else { SLOTS }
    }

    fn is_exact(self) -> bool {
        matches!(self, SettlementLoad::AdmissionExact | SettlementLoad::GiveBackExact(_))
    }

    /// When an admission came to the slot that stands so many before the newest.
    fn begin_of(self, slots: u64) -> u64 {
        NOW_US - slots * (WINDOW_US / self.slots()) + 5
    }

    fn admission(self, cost: u64, now_us: u64) -> Cmd {
        timed(&Script::default().command(Form::Sha, &[KEY.to_vec()], &[Charge { cost, ..self.charge() }], 1), now_us)
    }
}

fn timed(command: &Command, now_us: u64) -> Cmd {
    let mut words: Vec<Vec<u8>> = command.words().map(<[u8]>::to_vec).collect();
    set_clock(&mut words, now_us);
    let mut command = Cmd::new();
    words.iter().for_each(|word| {
        command.arg(word);
    });
    command
}

fn run(connection: &mut Connection, commands: Vec<Cmd>) {
    for batch in commands.chunks(BATCH) {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        batch.iter().for_each(|command| {
            pipeline.add_command(command.clone());
        });
        let _: Vec<Value> = pipeline.query(connection).expect("the scripts run");
    }
}
