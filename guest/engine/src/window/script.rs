//! The window in Redis: the script, its arguments, and the reading of its reply.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{Charge, Decision, EXACT_MAX, Retry, Standing};
use crate::redis::{Command, Form, Reply, Value};

/// Admits as many of some equal requests as every limit they meet has room for. Its head says which KEYS and ARGV it
/// takes and what it returns.
pub const ADMIT: &str = include_str!("admit.lua");

/// Numbers in the script's argument for all limits: how many requests.
pub const HEAD_NUMBERS: usize = 1;

/// Numbers in it for each limit.
pub const CHARGE_NUMBERS: usize = 5;

/// Bytes of a number.
const NUMBER: usize = 8;

/// Digits of the greatest number of keys.
const COUNT_MAX: usize = 20;

/// The script with its SHA-1, as EVALSHA names it.
#[derive(Debug, Clone)]
pub struct Script {
    sha: String,
}

impl Default for Script {
    fn default() -> Self {
        Script { sha: digest(ADMIT) }
    }
}

/// The SHA-1 by which Redis knows a script.
pub(crate) fn digest(script: &str) -> String {
    sha1_smol::Sha1::from(script).digest().to_string()
}

/// The command that runs a script, and how it names it.
#[inline]
pub(crate) fn evaluation<'a>(form: Form, sha: &'a str, script: &'a str) -> (&'static str, &'a str) {
    match form {
        Form::Sha => ("EVALSHA", sha),
        Form::Text => ("EVAL", script),
    }
}

impl Script {
    /// The command that asks for these charges, one for each key, `units` times over, by Redis' own clock.
    pub fn command(&self, form: Form, keys: &[Vec<u8>], charges: &[Charge], units: u64) -> Command {
        let mut command = Command::default();
        self.write(form, keys, charges, units, &mut command);
        command
    }

    /// The same, written over another command, for its memory.
    #[inline]
    pub(crate) fn write(&self, form: Form, keys: &[Vec<u8>], charges: &[Charge], units: u64, command: &mut Command) {
        let (name, script) = evaluation(form, &self.sha, ADMIT);
        let number_bytes = NUMBER * (HEAD_NUMBERS + CHARGE_NUMBERS * charges.len());
        let key_bytes: usize = keys.iter().map(Vec::len).sum();
        command.begin(4 + keys.len(), name.len() + script.len() + COUNT_MAX + key_bytes + number_bytes);
        command.push(name.as_bytes());
        command.push(script.as_bytes());
        match keys.len() {
            1 => command.push(b"1"),
            several => command.push(several.to_string().as_bytes()),
        }
        keys.iter().for_each(|key| command.push(key));
        command.push_all(numbers(charges, units));
    }
}

/// These charges, `units` times over, as the script takes them.
#[inline]
pub(super) fn numbers(charges: &[Charge], units: u64) -> impl Iterator<Item = [u8; NUMBER]> {
    let charges = charges.iter().flat_map(|charge| {
        let Charge { limit, window_us, slot_us, cost, enforced } = *charge;
        [limit.min(EXACT_MAX), window_us, slot_us.max(1), cost, u64::from(enforced)]
    });
    [units].into_iter().chain(charges).map(|number| (number as f64).to_be_bytes())
}

/// The answer for some equal requests that were asked for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// How many of them are admitted: those that came first.
    pub admitted: u64,
    /// Redis' clock when it decided, in microseconds.
    pub now_us: u64,
    /// Each limit, in the order asked.
    pub limits: Vec<BatchLimit>,
}

/// One limit around a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// What was left of the limit before the batch.
    pub room: u64,
    /// Microseconds until the oldest cost leaves, after the batch; 0 if nothing is in use.
    pub reset_us: u64,
    /// When one more fits, after the batch; [`Retry::Fits`] too if all of it was charged.
    pub retry: Retry,
}

// === impl Batch ===

impl Batch {
    /// The answer for the request at `index`, counted from 0, as if each had been asked for alone, in this order; also
    /// for the one after the last, which was not asked for. `charges` are those that the batch was asked for with.
    #[inline]
    pub fn decision(&self, index: u64, charges: &[Charge]) -> Decision {
        let admitted = index < self.admitted;
        let standing = |(limit, charge): (&BatchLimit, &Charge)| {
            let fits = limit.room / charge.cost.max(1);
            let charged = if admitted { index.saturating_add(1) } else { self.admitted };
            let remaining = limit.room - charged.min(fits) * charge.cost;
            let retry = match limit.retry {
                _ if admitted && index < fits => Retry::Fits,
                // All of it was charged, and took the last room: the next place comes free when the oldest cost leaves.
                Retry::Fits if !admitted && remaining == 0 && charge.cost == 1 => Retry::After(limit.reset_us),
                retry => retry,
            };
            Standing { remaining, reset_us: limit.reset_us, retry }
        };
        Decision { admitted, standings: self.limits.iter().zip(charges).map(standing).collect() }
    }

    /// Whether one more request is known not to fit, right after those that were asked for.
    #[inline]
    pub fn is_full(&self, units: u64, charges: &[Charge]) -> bool {
        // By division: a product that may overflow costs a guest a call.
        let takes_the_last = |(limit, charge): (&BatchLimit, &Charge)| {
            let (fit, rest) = match charge.cost {
                0 => (self.admitted, limit.room),
                cost => (limit.room / cost, limit.room % cost),
            };
            charge.enforced && fit == self.admitted && rest == 0
        };
        self.admitted < units || self.limits.iter().zip(charges).any(takes_the_last)
    }
}

/// Reads the reply for these charges and so many requests. None: it is not one of [`ADMIT`].
#[inline]
pub fn batch(reply: &Reply, charges: &[Charge], units: u64) -> Option<Batch> {
    let Reply::Single(Value::Bulk(bytes)) = reply else { return None };
    read(bytes, charges, units)
}

/// How many bytes a reply on so many limits has.
pub(super) fn reply_bytes(limits: usize) -> usize {
    8 * (2 + 3 * limits)
}

/// Reads the same from the bytes of a reply.
#[inline]
pub(super) fn read(bytes: &[u8], charges: &[Charge], units: u64) -> Option<Batch> {
    let (numbers, []) = bytes.as_chunks() else { return None };
    let ([admitted, now], rest) = numbers.split_first_chunk()?;
    let (limits, []) = rest.as_chunks() else { return None };
    let admitted = count(admitted).filter(|admitted| *admitted <= units && limits.len() == charges.len())?;
    let limits = limits.iter().zip(charges).map(|(limit, charge)| room(limit, charge)).collect::<Option<_>>()?;
    Some(Batch { admitted, now_us: count(now)?, limits })
}

/// Nothing lasts longer than a window and a slot, whatever Redis says.
#[inline]
fn room([room, reset, retry]: &[[u8; 8]; 3], charge: &Charge) -> Option<BatchLimit> {
    let longest_us = charge.window_us.saturating_add(charge.slot_us.max(1));
    let retry = match whole(retry)? {
        0 => Retry::Fits,
        -1 => Retry::Never,
        us => Retry::After(u64::try_from(us).ok()?.min(longest_us)),
    };
    Some(BatchLimit { room: count(room)?, reset_us: count(reset)?.min(longest_us), retry })
}

/// A whole number that is not negative, as a script replies it.
#[inline]
pub(super) fn count(bytes: &[u8; 8]) -> Option<u64> {
    u64::try_from(whole(bytes)?).ok()
}

/// A whole number that a double holds exactly.
#[inline]
fn whole(bytes: &[u8; 8]) -> Option<i64> {
    let number = f64::from_be_bytes(*bytes);
    let whole = number as i64;
    (whole as f64 == number && whole.unsigned_abs() <= EXACT_MAX).then_some(whole)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_command_names_the_script_the_keys_and_one_argument_of_numbers() {
        let charge = Charge { limit: u64::MAX, window_us: 60_000_000, slot_us: 1, cost: 2, enforced: false };
        let command = Script::default().command(Form::Sha, &[b"k".to_vec()], &[charge], 7);
        let [name, sha, count, key, numbers] = command.words().collect::<Vec<_>>()[..] else { panic!("{command:?}") };
        assert_eq!((name, sha.len(), count, key), (&b"EVALSHA"[..], 40, &b"1"[..], &b"k"[..]));
        let numbers: Vec<_> = numbers.chunks(8).map(|bytes| f64::from_be_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(numbers, [7.0, 9_007_199_254_740_991.0, 60_000_000.0, 1.0, 2.0, 0.0]);
    }

    fn doubles(numbers: &[f64]) -> Reply {
        Reply::Single(Value::Bulk(numbers.iter().flat_map(|number| number.to_be_bytes()).collect()))
    }

    #[test]
    fn a_reply_of_another_shape_is_no_answer() {
        let room = |room, reset_us, retry| BatchLimit { room, reset_us, retry };
        let one = Charge { limit: 9, window_us: 90, slot_us: 1, cost: 1, enforced: true };
        let right = [4.0, 77.0, 3.0, 10.0, -1.0, 0.0, 9.0, 7.0];
        let limits = vec![room(3, 10, Retry::Never), room(0, 9, Retry::After(7))];
        assert_eq!(batch(&doubles(&right), &[one; 2], 4), Some(Batch { admitted: 4, now_us: 77, limits }));
        assert_eq!(batch(&doubles(&right), &[one; 2], 3), None, "more than were asked for");
        assert_eq!(
            (batch(&doubles(&right), &[one; 1], 4), batch(&doubles(&right), &[one; 3], 4)),
            (None, None),
            "other limits"
        );
        for at in 0..right.len() {
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.0, 0.5, 9_007_199_254_740_992.0, f64::MAX] {
                let mut numbers = right;
                numbers[at] = wrong;
                assert_eq!(batch(&doubles(&numbers), &[one; 2], 4), None, "{wrong} at {at}");
            }
        }
        let Reply::Single(Value::Bulk(bytes)) = doubles(&right) else { panic!("a text") };
        for length in 0..bytes.len() {
            assert_eq!(
                batch(&Reply::Single(Value::Bulk(bytes[..length].to_vec())), &[one; 2], 4),
                None,
                "{length} bytes"
            );
        }
        assert_eq!(batch(&Reply::Single(Value::Bulk([&bytes[..], &[0]].concat())), &[one; 2], 4), None);
        assert_eq!(batch(&Reply::Many(vec![Value::Bulk(bytes)]), &[one; 2], 4), None);
        for single in [Value::Nil, Value::Integer(1), Value::Status("OK".to_string())] {
            assert_eq!(batch(&Reply::Single(single), &[], 1), None);
        }
    }

    #[test]
    fn nothing_lasts_longer_than_a_window_and_a_slot_whatever_redis_says() {
        let day = 86_400_000_000.0;
        for (window_us, slot_us, most) in
            [(9_000, 1, 9_001), (9_000, 0, 9_001), (9_000, 9_000, 18_000), (u64::MAX, 5, 86_400_000_000)]
        {
            let charge = Charge { limit: 9, window_us, slot_us, cost: 1, enforced: true };
            let answer = batch(&doubles(&[0.0, 1.0, 0.0, day, day]), &[charge], 1).unwrap();
            assert_eq!(answer.limits, [BatchLimit { room: 0, reset_us: most, retry: Retry::After(most) }]);
        }
    }

    #[test]
    fn each_request_of_a_batch_gets_the_answer_it_would_have_got_alone() {
        let charge = |cost, enforced| Charge { limit: 10, window_us: 90, slot_us: 1, cost, enforced };
        let charges = [charge(2, true), charge(3, false), charge(11, false)];
        let asked = batch(&doubles(&[3.0, 0.0, 7.0, 9.0, 5.0, 8.0, 9.0, 4.0, 10.0, 0.0, -1.0]), &charges, 5).unwrap();
        let answers: Vec<_> = (0..5).map(|index| asked.decision(index, &charges)).collect();
        assert_eq!(answers.iter().map(|answer| answer.admitted).collect::<Vec<_>>(), [true, true, true, false, false]);
        let of = |limit: usize| {
            answers
                .iter()
                .map(move |answer| answer.standings[limit])
                .map(|standing| (standing.remaining, standing.retry))
        };
        let (fits, later) = (Retry::Fits, Retry::After);
        assert_eq!(of(0).collect::<Vec<_>>(), [(5, fits), (3, fits), (1, fits), (1, later(5)), (1, later(5))]);
        assert_eq!(of(1).collect::<Vec<_>>(), [(5, fits), (2, fits), (2, later(4)), (2, later(4)), (2, later(4))]);
        assert!(of(2).all(|standing| standing == (10, Retry::Never)));
    }

    #[test]
    fn who_took_the_last_place_tells_when_the_next_comes_free() {
        let charge = |enforced| Charge { limit: 9, window_us: 90, slot_us: 1, cost: 1, enforced };
        let asked = batch(&doubles(&[2.0, 0.0, 2.0, 70.0, 0.0, 5.0, 90.0, 0.0]), &[charge(true); 2], 2).unwrap();
        let next = asked.decision(2, &[charge(true); 2]);
        assert_eq!(next.standings[0], Standing { remaining: 0, reset_us: 70, retry: Retry::After(70) });
        assert_eq!(next.standings[1], Standing { remaining: 3, reset_us: 90, retry: Retry::Fits });
        assert_eq!(asked.decision(1, &[charge(true); 2]).standings[0].retry, Retry::Fits);
        assert!(asked.is_full(2, &[charge(true); 2]));
        assert!(!asked.is_full(2, &[charge(false); 2]), "one that only tries refuses nobody");
        assert!(!batch(&doubles(&[2.0, 0.0, 3.0, 70.0, 0.0]), &[charge(true)], 2).unwrap().is_full(2, &[charge(true)]));
        assert!(batch(&doubles(&[2.0, 0.0, 3.0, 70.0, 5.0]), &[charge(true)], 3).unwrap().is_full(3, &[charge(true)]));
    }

    #[test]
    fn a_reply_that_cannot_be_true_is_no_panic() {
        let charges = [Charge { limit: 1, window_us: 90, slot_us: 1, cost: u64::MAX, enforced: true }; 2];
        let asked = batch(
            &doubles(&[EXACT_MAX as f64, 0.0, EXACT_MAX as f64, EXACT_MAX as f64, EXACT_MAX as f64, 0.0, 0.0, 0.0]),
            &charges,
            u64::MAX,
        )
        .unwrap();
        for index in [0, 1, u64::MAX] {
            assert_eq!(asked.decision(index, &charges).standings[0].remaining, EXACT_MAX);
        }
    }
}
