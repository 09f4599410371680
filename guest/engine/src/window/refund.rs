//! Refunds: what of an admission was reserved and not needed, given back by the script in Redis.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{
    EXACT_MAX,
    script::{count, digest, evaluation},
};
use crate::redis::{Command, Form, Reply, Value};

/// Gives back what was not needed. Its head says which KEYS and ARGV it takes and what it returns.
pub const GIVE_BACK: &str = include_str!("refund.lua");

/// What is given back to one window.
///
/// Nothing is kept of an admission but these: they tell its slot, as long as it is in the window, whatever has happened
/// to the key since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// The window, as it was for the admission.
    pub window_us: u64,
    /// The width of its slots then.
    pub slot_us: u64,
    /// When it was admitted, by the clock that decided, which has not stepped back since.
    pub at_us: u64,
    /// How much is given back, at least 1.
    pub cost: u64,
}

/// The script with its SHA-1, as EVALSHA names it.
#[derive(Debug, Clone)]
pub struct RefundScript {
    sha: String,
}

impl Default for RefundScript {
    fn default() -> Self {
        RefundScript { sha: digest(GIVE_BACK) }
    }
}

impl RefundScript {
    /// The command for these refunds, one for each key, by Redis' own clock. It must be sent once at most: a refund
    /// that is repeated frees what others took.
    pub fn command(&self, form: Form, keys: &[Vec<u8>], refunds: &[Refund]) -> Command {
        let number = |number: u64| (number.min(EXACT_MAX) as f64).to_be_bytes();
        let numbers =
            refunds.iter().flat_map(|refund| [refund.window_us, refund.slot_us.max(1), refund.at_us, refund.cost]);
        let numbers: Vec<u8> = numbers.flat_map(number).collect();
        let (name, script) = evaluation(form, &self.sha, GIVE_BACK);
        let head = [name.into(), script.into(), keys.len().to_string().into_bytes()];
        head.into_iter().chain(keys.iter().cloned()).chain([numbers]).collect()
    }
}

/// Reads how much was given back of each of these. None: it is not a reply of [`GIVE_BACK`] to them.
pub fn given_back(reply: &Reply, refunds: &[Refund]) -> Option<Vec<u64>> {
    let Reply::Single(Value::Bulk(bytes)) = reply else { return None };
    let (numbers, []) = bytes.as_chunks() else { return None };
    let (_, given) = numbers.split_first()?;
    let given: Option<Vec<u64>> = given.iter().map(count).collect();
    given.filter(|given| {
        given.len() == refunds.len() && given.iter().zip(refunds).all(|(given, refund)| *given <= refund.cost)
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const REFUND: Refund = Refund { window_us: 60, slot_us: 0, at_us: 7, cost: 5 };

    fn doubles(numbers: &[f64]) -> Reply {
        Reply::Single(Value::Bulk(numbers.iter().flat_map(|number| number.to_be_bytes()).collect()))
    }

    #[test]
    fn a_command_says_all_in_one_argument() {
        let command = RefundScript::default().command(Form::Text, &[b"a".to_vec(), b"b".to_vec()], &[REFUND; 2]);
        let numbers: Vec<u8> =
            [60.0, 1.0, 7.0, 5.0].repeat(2).iter().flat_map(|number: &f64| number.to_be_bytes()).collect();
        assert_eq!(command, [b"EVAL", GIVE_BACK.as_bytes(), b"2", b"a", b"b", &numbers]);
        let command = RefundScript::default().command(Form::Sha, &[], &[]);
        assert_eq!((command[0].as_slice(), command[1].len()), (b"EVALSHA".as_slice(), 40));
    }

    #[test]
    fn only_what_can_be_true_is_read() {
        assert_eq!(given_back(&doubles(&[9.0, 5.0, 0.0]), &[REFUND; 2]), Some(vec![5, 0]));
        for wrong in [
            &[][..],
            &[9.0],
            &[9.0, 5.0],
            &[9.0, 5.0, 6.0],
            &[9.0, 5.0, -1.0],
            &[9.0, 5.0, f64::NAN],
            &[9.0, 5.0, 0.0, 0.0],
        ] {
            assert_eq!(given_back(&doubles(wrong), &[REFUND; 2]), None, "{wrong:?}");
        }
        assert_eq!(given_back(&Reply::Single(Value::Nil), &[]), None);
    }
}
