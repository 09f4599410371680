//! The window in Redis as it stands there, read without the script: for people who want to know, not for decisions.

use alloc::{vec, vec::Vec};

use super::{Charge, EXACT_MAX, Window};
use crate::redis::{Command, Reply, Value};

/// What stands before the slots of a tail and of a page, and a slot, in bytes.
const TAIL_HEAD: usize = 8;
const PAGE_HEAD: usize = 1;
const SLOT: usize = 14;
const NUMBER: usize = 7;

/// The commands that read Redis' clock and the window of each key. They change nothing.
pub(crate) fn questions(keys: &[Vec<u8>]) -> Vec<Command> {
    let words = |words: &[&[u8]]| words.iter().collect();
    let mut questions = vec![words(&[b"TIME"])];
    questions.extend(keys.iter().map(|key| words(&[b"ZRANGE", key, b"0", b"-1"])));
    questions
}

/// Redis' clock, in microseconds, as TIME tells it. None: this is no such reply.
pub(crate) fn clock_us(reply: &Reply) -> Option<u64> {
    let number = |value: &Value| match value {
        Value::Bulk(digits) => core::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let Reply::Many(values) = reply else { return None };
    let [seconds, microseconds] = values.as_slice() else { return None };
    number(seconds)?.checked_mul(1_000_000)?.checked_add(number(microseconds)?)
}

/// The window whose members these are, which `charge` is for. None: this is none.
pub(crate) fn window(reply: &Reply, charge: &Charge) -> Option<Window> {
    let Reply::Many(values) = reply else { return None };
    let mut members = Vec::with_capacity(values.len());
    for value in values {
        let Value::Bulk(member) = value else { return None };
        members.push(member.as_slice());
    }
    let Some((tail, pages)) = members.split_first() else { return Some(Window::default()) };
    let left = number(tail.get(..TAIL_HEAD).filter(|head| head.first() == Some(&0))?.get(1..)?)?;
    let mut slots = Vec::new();
    for page in pages {
        let head = page.get(..PAGE_HEAD).filter(|head| *head == [1])?;
        slots.extend(page.get(head.len()..)?.chunks(SLOT).map(slot).collect::<Option<Vec<_>>>()?);
    }
    slots.extend(tail.get(TAIL_HEAD..)?.chunks(SLOT).map(slot).collect::<Option<Vec<_>>>()?);
    let mut window = Window::default();
    let mut before = left;
    for (total, at_us) in slots.into_iter().rev() {
        let cost = total.checked_sub(before)?;
        before = total;
        let kept = Charge { limit: EXACT_MAX, cost, ..*charge };
        let assessed = window.assess(&kept, at_us);
        window.charge(&kept, &assessed);
    }
    Some(window)
}

/// The total up to a slot, and the time of its last admission in microseconds.
fn slot(bytes: &[u8]) -> Option<(u64, u64)> {
    let (total, at_us) = bytes.split_at_checked(NUMBER)?;
    Some(((EXACT_MAX + 1).checked_sub(number(total)?)?, number(at_us)?))
}

fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() == NUMBER).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Retry, Standing};

    fn seven(number: u64) -> Vec<u8> {
        number.to_be_bytes()[1..].to_vec()
    }

    fn slots(slots: &[(u64, u64)]) -> Vec<u8> {
        slots.iter().flat_map(|(total, at_us)| [seven((1 << 53) - total), seven(*at_us)].concat()).collect()
    }

    fn reply(members: &[Vec<u8>]) -> Reply {
        Reply::Many(members.iter().cloned().map(Value::Bulk).collect())
    }

    const CHARGE: Charge = Charge { limit: 10, window_us: 1_000, slot_us: 1, cost: 1, enforced: true };

    fn standing(members: &[Vec<u8>], now_us: u64) -> Option<Standing> {
        Some(window(&reply(members), &CHARGE)?.assess(&CHARGE, now_us).standing)
    }

    #[test]
    fn what_is_in_use_is_what_has_not_left() {
        let tail = [vec![0], seven(5), slots(&[(8, 200), (7, 100)])].concat();
        let page = [vec![1], slots(&[(15, 900), (9, 300)])].concat();
        let members = [tail, page];
        let at = |now_us| standing(&members, now_us).expect("a window");
        assert_eq!((at(1_000).remaining, at(1_000).retry), (0, Retry::After(101)));
        assert_eq!((at(1_101).remaining, at(1_101).retry), (2, Retry::Fits));
        assert_eq!(at(1_301).remaining, 4);
        assert_eq!(at(1_901).remaining, 10);
        assert_eq!(standing(&[], 5).map(|standing| standing.remaining), Some(10));
    }

    #[test]
    fn what_is_no_window_is_none() {
        let good = [vec![0], seven(0), slots(&[(1, 1)])].concat();
        for members in [
            vec![b"text".to_vec()],
            vec![vec![]],
            vec![[good.as_slice(), b"x"].concat()],
            vec![good.clone(), good.clone()],
        ] {
            assert_eq!(standing(&members, 0), None, "{members:?}");
        }
        for other in [Reply::Error("WRONGTYPE".into()), Reply::Single(Value::Nil), Reply::Many(vec![Value::Integer(1)])]
        {
            assert!(window(&other, &CHARGE).is_none() && clock_us(&other).is_none(), "{other:?}");
        }
        assert_eq!(clock_us(&reply(&[b"12".to_vec(), b"34".to_vec()])), Some(12_000_034));
        assert_eq!(clock_us(&reply(&[b"12".to_vec(), b"x".to_vec()])), None);
    }
}
