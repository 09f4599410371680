//! Settlements: what admissions reserved and did not need, and what they spent beyond that, told to Redis, alone or
//! with the next question about the same windows.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::cell::OnceCell;

use super::{
    Charge,
    refund::{self, Refund},
    script::{self, Batch, digest, evaluation},
};
use crate::redis::{Command, Form, Reply, Value};

/// Settles, and then admits. Its end says which KEYS and ARGV it takes and what it returns.
pub const SETTLE: &str = concat!(
    "local function give_back(KEYS, ARGV)\n",
    include_str!("refund.lua"),
    "end\nlocal function admit(KEYS, ARGV)\n",
    include_str!("admit.lua"),
    "end\n",
    include_str!("settle.lua")
);

/// What is charged at a time of what was spent is no more than this: a window whose total would reach 2^53 takes
/// nothing.
pub const SPENT_MAX: u64 = 1 << 50;

/// What is to be settled of some windows. It is told once: what is given back twice frees what others took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    refunded: Vec<Vec<u8>>,
    refunds: Vec<Refund>,
    charged: Vec<Vec<u8>>,
    /// No key twice.
    charges: Vec<Charge>,
}

/// What became of a settlement and of the question with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledBatch {
    /// The answer to the question.
    pub batch: Batch,
    /// How much was given back of each refund, in their order.
    pub given_back: Vec<u64>,
}

/// The script with its SHA-1, as EVALSHA names it.
#[derive(Debug, Clone, Default)]
pub struct SettleScript {
    /// Made when it is needed first: a limit on requests never settles.
    sha: OnceCell<String>,
}

// === impl Settlement ===

impl Settlement {
    /// Adds what an admission to the window of this key did not need.
    pub fn give_back(&mut self, key: &[u8], refund: Refund) {
        let of_admission = |(known, other): &(&Vec<u8>, &mut Refund)| {
            **known == key && Refund { cost: 0, ..**other } == Refund { cost: 0, ..refund }
        };
        match self.refunded.iter().zip(&mut self.refunds).find(of_admission) {
            Some((_, known)) => known.cost = known.cost.saturating_add(refund.cost),
            None => {
                self.refunded.push(key.to_vec());
                self.refunds.push(refund);
            }
        }
    }

    /// Adds what was spent in the window of this key, whether it fits or not; [`SPENT_MAX`] in all.
    pub fn spend(&mut self, key: &[u8], charge: Charge) {
        let charge = Charge { cost: charge.cost.min(SPENT_MAX), ..charge };
        match self.charged.iter().zip(&mut self.charges).find(|(known, _)| *known == key) {
            Some((_, known)) => known.cost = known.cost.saturating_add(charge.cost).min(SPENT_MAX),
            None => {
                self.charged.push(key.to_vec());
                // It is spent already, so that no limit has a say.
                self.charges.push(Charge { limit: u64::MAX, enforced: false, ..charge });
            }
        }
    }

    /// Forgets what was to be given back: by a clock that stepped back, admissions are not where they were.
    pub fn forget_refunds(&mut self) {
        self.refunded.clear();
        self.refunds.clear();
    }

    /// Forgets what was so long ago that it has left its windows since.
    pub fn forget_older(&mut self, age_us: u64) {
        let lives: Vec<bool> = self.refunds.iter().map(|refund| refund.window_us > age_us).collect();
        let mut at = lives.iter();
        self.refunded.retain(|_| at.next() == Some(&true));
        self.refunds.retain(|refund| refund.window_us > age_us);
        let lives: Vec<bool> = self.charges.iter().map(|charge| charge.window_us > age_us).collect();
        let mut at = lives.iter();
        self.charged.retain(|_| at.next() == Some(&true));
        self.charges.retain(|charge| charge.window_us > age_us);
    }

    /// The longest of its windows, in microseconds.
    pub fn longest_us(&self) -> u64 {
        let refunded = self.refunds.iter().map(|refund| refund.window_us);
        refunded.chain(self.charges.iter().map(|charge| charge.window_us)).max().unwrap_or_default()
    }

    /// Of how many refunds nothing was given back although they are in their windows: in Redis their slots stand too
    /// far back, or are there no more.
    pub fn kept(&self, settled: &SettledBatch) -> u64 {
        let is_in_window = |refund: &Refund| settled.batch.now_us <= refund.at_us.saturating_add(refund.window_us);
        let given = self.refunds.iter().zip(&settled.given_back);
        given.filter(|(refund, given)| **given == 0 && is_in_window(refund)).count() as u64
    }

    /// How many windows it has to do with, one that comes twice twice.
    pub fn len(&self) -> usize {
        self.refunds.len() + self.charges.len()
    }

    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all its keys.
    pub fn key_bytes(&self) -> usize {
        self.refunded.iter().chain(&self.charged).map(Vec::len).sum()
    }
}

// === impl SettledBatch ===

impl From<Batch> for SettledBatch {
    /// With a question of which nothing was settled.
    fn from(batch: Batch) -> Self {
        SettledBatch { batch, given_back: Vec::new() }
    }
}

// === impl SettleScript ===

impl SettleScript {
    /// The command that settles this, and asks for these charges, one for each key, `units` times over, by Redis' own
    /// clock. All keys share a hash tag. Without keys it settles only.
    #[inline(never)]
    pub fn command(
        &self,
        form: Form,
        settlement: &Settlement,
        keys: &[Vec<u8>],
        charges: &[Charge],
        units: u64,
    ) -> Command {
        let Settlement { refunded, refunds, charged, charges: spent } = settlement;
        let counts = [refunds.len(), spent.len(), charges.len()].map(|count| (count as f64).to_be_bytes());
        let (name, script) = evaluation(form, self.sha.get_or_init(|| digest(SETTLE)), SETTLE);
        let all = || refunded.iter().chain(charged).chain(keys).map(Vec::as_slice);
        let count = all().count().to_string();
        let mut command: Command = [name, script, &count].map(str::as_bytes).into_iter().chain(all()).collect();
        command.push_all(counts.into_iter());
        command.push_all(refund::numbers(refunds));
        command.push_all(script::numbers(spent, 1));
        command.push_all(script::numbers(charges, units));
        command
    }
}

/// Reads the reply to this settlement, these charges and so many requests. None: it is not one of [`SETTLE`].
pub fn settled(reply: &Reply, settlement: &Settlement, charges: &[Charge], units: u64) -> Option<SettledBatch> {
    let Reply::Single(Value::Bulk(bytes)) = reply else { return None };
    let (batch, given) = bytes.split_at_checked(script::reply_bytes(charges.len()))?;
    let given_back = match settlement.refunds.as_slice() {
        [] => given.is_empty().then(Vec::new)?,
        refunds => refund::read(given, refunds)?,
    };
    Some(SettledBatch { batch: script::read(batch, charges, units)?, given_back })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const REFUND: Refund = Refund { window_us: 60, slot_us: 2, at_us: 7, cost: 5 };
    const CHARGE: Charge = Charge { limit: 10, window_us: 60, slot_us: 2, cost: 3, enforced: true };

    fn doubles(numbers: &[f64]) -> Reply {
        Reply::Single(Value::Bulk(numbers.iter().flat_map(|number| number.to_be_bytes()).collect()))
    }

    #[test]
    fn what_is_settled_of_one_admission_or_key_goes_together() {
        let mut settlement = Settlement::default();
        settlement.give_back(b"a", REFUND);
        settlement.give_back(b"a", Refund { cost: 2, ..REFUND });
        settlement.give_back(b"b", REFUND);
        settlement.give_back(b"a", Refund { at_us: 8, ..REFUND });
        settlement.spend(b"a", CHARGE);
        settlement.spend(b"a", CHARGE);
        let all = Charge { limit: u64::MAX, enforced: false, cost: 6, ..CHARGE };
        assert_eq!((settlement.len(), settlement.key_bytes(), settlement.charges.as_slice()), (4, 4, &[all][..]));
        assert_eq!(settlement.refunds, [Refund { cost: 7, ..REFUND }, REFUND, Refund { at_us: 8, ..REFUND }]);
        settlement.spend(b"b", Charge { window_us: 90, ..CHARGE });
        assert_eq!(settlement.longest_us(), 90);
        let mut older = settlement.clone();
        older.forget_older(60);
        assert_eq!((older.charged.as_slice(), older.charges[0].window_us), (&[b"b".to_vec()][..], 90));
        assert_eq!((older.len(), older.refunded.len()), (1, 0));
        older.forget_older(90);
        assert!(older.is_empty());
        settlement.forget_refunds();
        assert_eq!((settlement.len(), settlement.is_empty()), (2, false));
    }

    #[test]
    fn a_command_has_all_keys_in_the_order_of_its_arguments() {
        let mut settlement = Settlement::default();
        settlement.give_back(b"a", REFUND);
        settlement.spend(b"b", CHARGE);
        let keys = [b"c".to_vec()];
        let command = SettleScript::default().command(Form::Text, &settlement, &keys, &[CHARGE], 2);
        let words: Vec<_> = command.words().collect();
        let [name, script, count, a, b, c, counts, refunds, spent, asked] = words[..] else { panic!("{command:?}") };
        assert_eq!((name, script, count), (&b"EVAL"[..], SETTLE.as_bytes(), &b"3"[..]));
        assert_eq!([a, b, c], [b"a", b"b", b"c"]);
        let numbers = |numbers: &[f64]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_be_bytes()).collect() };
        assert_eq!(counts, numbers(&[1.0, 1.0, 1.0]));
        assert_eq!(refunds, numbers(&[60.0, 2.0, 7.0, 5.0]));
        assert_eq!(spent, numbers(&[1.0, 9_007_199_254_740_991.0, 60.0, 2.0, 3.0, 0.0]));
        assert_eq!(asked, numbers(&[2.0, 10.0, 60.0, 2.0, 3.0, 1.0]));
    }

    #[test]
    fn a_reply_tells_of_what_was_asked_and_no_more() {
        let mut settlement = Settlement::default();
        settlement.spend(b"b", CHARGE);
        let batch = Batch { admitted: 0, now_us: 9, limits: vec![] };
        let nothing = SettledBatch { batch, given_back: vec![] };
        assert_eq!(settled(&doubles(&[0.0, 9.0]), &settlement, &[], 0), Some(nothing));
        assert_eq!(settled(&doubles(&[0.0, 9.0, 9.0]), &settlement, &[], 0), None);
        settlement.give_back(b"a", REFUND);
        let both = settled(&doubles(&[1.0, 9.0, 10.0, 61.0, 0.0, 9.0, 5.0]), &settlement, &[CHARGE], 1);
        assert_eq!(both.map(|settled| (settled.batch.admitted, settled.given_back)), Some((1, vec![5])));
        for wrong in [&[1.0, 9.0, 10.0, 61.0, 0.0, 9.0, 6.0][..], &[1.0, 9.0, 10.0, 61.0, 0.0], &[]] {
            assert_eq!(settled(&doubles(wrong), &settlement, &[CHARGE], 1), None, "{wrong:?}");
        }
        assert_eq!(settled(&Reply::Single(Value::Nil), &settlement, &[], 0), None);
    }

    #[test]
    fn a_refund_is_kept_of_which_nothing_comes_back_in_its_window() {
        let mut settlement = Settlement::default();
        (1..=3).for_each(|at_us| settlement.give_back(b"a", Refund { at_us, ..REFUND }));
        let kept = |now_us, given_back: [u64; 3]| {
            let batch = Batch { admitted: 0, now_us, limits: vec![] };
            settlement.kept(&SettledBatch { batch, given_back: given_back.to_vec() })
        };
        assert_eq!([kept(9, [0, 5, 0]), kept(62, [0, 0, 0]), kept(64, [0, 0, 0])], [2, 2, 0]);
    }
}
