//! The window in Redis: the script, its arguments, and the reading of its reply.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{Charge, Decision, EXACT_MAX, Retry, Standing};
use crate::redis::{Command, Reply, Value};

/// Admits one request to every limit it meets, or to none. Its head says which KEYS and ARGV it takes and what it returns.
pub const ADMIT: &str = include_str!("admit.lua");

/// Arguments of [`ADMIT`] before those of the first limit: the clock.
pub const CLOCK_ARGS: usize = 1;

/// Arguments of [`ADMIT`] for each limit.
pub const CHARGE_ARGS: usize = 5;

/// How the script is named in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By its SHA-1, as always.
    Sha,
    /// By its text, once, after Redis said NOSCRIPT; Redis keeps it then.
    Text,
}

/// The script with its SHA-1, as EVALSHA names it.
#[derive(Debug, Clone)]
pub struct Script {
    sha: String,
}

impl Default for Script {
    fn default() -> Self {
        Script { sha: sha1_smol::Sha1::from(ADMIT).digest().to_string() }
    }
}

impl Script {
    /// The command that asks for these charges, one for each key, by Redis' own clock.
    pub fn command(&self, form: Form, keys: &[Vec<u8>], charges: &[Charge]) -> Command {
        let (name, script) = match form {
            Form::Sha => ("EVALSHA", self.sha.as_str()),
            Form::Text => ("EVAL", ADMIT),
        };
        let mut command = Vec::with_capacity(3 + keys.len() + CLOCK_ARGS + CHARGE_ARGS * charges.len());
        command.extend([name.as_bytes().to_vec(), script.as_bytes().to_vec(), decimal(keys.len() as u64)]);
        command.extend(keys.iter().cloned());
        command.push(Vec::new());
        for charge in charges {
            command.push(decimal(charge.limit.min(EXACT_MAX)));
            command.push(decimal(charge.window_us));
            command.push(decimal(charge.slot_us));
            command.push(decimal(charge.cost));
            command.push(vec![if charge.enforced { b'1' } else { b'0' }]);
        }
        command
    }
}

/// Reads the reply for so many charges. None: it is not one of [`ADMIT`].
pub fn decision(reply: &Reply, charges: usize) -> Option<Decision> {
    let Reply::Many(values) = reply else { return None };
    let (admitted, rest) = values.split_first()?;
    let admitted = match admitted {
        Value::Integer(0) => false,
        Value::Integer(1) => true,
        _ => return None,
    };
    if rest.len() != charges * 3 {
        return None;
    }
    let standings = rest.chunks_exact(3).map(standing).collect::<Option<Vec<_>>>()?;
    Some(Decision { admitted, standings })
}

fn standing(values: &[Value]) -> Option<Standing> {
    let [Value::Integer(remaining), Value::Integer(reset), Value::Integer(retry)] = values else { return None };
    let retry = match *retry {
        0 => Retry::Fits,
        -1 => Retry::Never,
        us => Retry::After(u64::try_from(us).ok()?),
    };
    Some(Standing { remaining: u64::try_from(*remaining).ok()?, reset_us: u64::try_from(*reset).ok()?, retry })
}

fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_script_the_keys_and_five_arguments_a_limit() {
        let charge = Charge { limit: u64::MAX, window_us: 60_000_000, slot_us: 1, cost: 2, enforced: false };
        let command = Script::default().command(Form::Sha, &[b"k".to_vec()], &[charge]);
        let texts: Vec<_> = command.iter().map(|part| core::str::from_utf8(part).unwrap()).collect();
        assert_eq!(texts[0], "EVALSHA");
        assert_eq!(texts[1].len(), 40);
        assert_eq!(&texts[2..], ["1", "k", "", "9007199254740991", "60000000", "1", "2", "0"]);
    }

    #[test]
    fn a_reply_of_another_shape_is_no_decision() {
        let integers = |numbers: &[i64]| Reply::Many(numbers.iter().map(|&n| Value::Integer(n)).collect());
        assert_eq!(
            decision(&integers(&[0, 3, 10, -1, 0, 9, 7]), 2),
            Some(Decision {
                admitted: false,
                standings: vec![
                    Standing { remaining: 3, reset_us: 10, retry: Retry::Never },
                    Standing { remaining: 0, reset_us: 9, retry: Retry::After(7) },
                ],
            })
        );
        for wrong in [integers(&[1, 3, 10, 0]), integers(&[]), integers(&[2, 3, 10, 0, 3, 10, 0]), integers(&[1, -3, 10, 0, 0, 0, 0])] {
            assert_eq!(decision(&wrong, 2), None);
        }
        assert_eq!(decision(&Reply::Single(Value::Nil), 0), None);
        assert_eq!(decision(&Reply::Many(vec![Value::Bulk(b"1".to_vec())]), 0), None);
    }
}
