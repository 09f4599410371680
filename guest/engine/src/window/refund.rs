//! Refunds: what of an admission was reserved and not needed, as the script in Redis takes them.

use alloc::vec::Vec;

use super::{EXACT_MAX, script::count};

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

/// Refunds as the script takes them.
pub(super) fn numbers(refunds: &[Refund]) -> impl Iterator<Item = [u8; 8]> {
    let numbers =
        refunds.iter().flat_map(|refund| [refund.window_us, refund.slot_us.max(1), refund.at_us, refund.cost]);
    numbers.map(|number| (number.min(EXACT_MAX) as f64).to_be_bytes())
}

/// Reads how much was given back of each of these. None: it is no reply to them.
pub(super) fn read(bytes: &[u8], refunds: &[Refund]) -> Option<Vec<u64>> {
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

    fn doubles(numbers: &[f64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    #[test]
    fn all_stand_in_one_argument() {
        let argument: Vec<u8> = numbers(&[REFUND; 2]).flatten().collect();
        assert_eq!(argument, doubles(&[60.0, 1.0, 7.0, 5.0].repeat(2)));
        assert_eq!(numbers(&[]).count(), 0);
    }

    #[test]
    fn only_what_can_be_true_is_read() {
        assert_eq!(read(&doubles(&[9.0, 5.0, 0.0]), &[REFUND; 2]), Some(vec![5, 0]));
        for wrong in [
            &[][..],
            &[9.0],
            &[9.0, 5.0],
            &[9.0, 5.0, 6.0],
            &[9.0, 5.0, -1.0],
            &[9.0, 5.0, f64::NAN],
            &[9.0, 5.0, 0.0, 0.0],
        ] {
            assert_eq!(read(&doubles(wrong), &[REFUND; 2]), None, "{wrong:?}");
        }
    }
}
