//! Windows kept in this instance's memory: for configurations without Redis, and as the fallback of `failure_mode:
//! local`.

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};
use core::ops::Bound;

use crate::{
    name::{Name, Named, Sought},
    window::{Assessment, Charge, Decision, Retry, Standing, Window, refund::Refund},
};

/// How many windows an instance keeps unless told otherwise.
pub const MAX_WINDOWS: usize = 100_000;

/// How many bytes they may take together, with their keys; a little more while one grows.
pub const MAX_BYTES: usize = 20_000_000;

/// What a window takes beside its key and its slots: its place in the tree and the bounds of its parts.
const WINDOW_BYTES: usize = 144;

/// How many windows are looked at, each time one is added, for one that nobody needs any more.
const SWEEP: usize = 4;

/// How often more are looked at when all of those have refused.
const ROUNDS: usize = 32;

/// A bounded number of windows by key. When it is full, one of a few is forgotten for a new one: then, and only then, a
/// key may get more than its limit. Which one is so chosen that strangers who bring ever new keys forget each other:
/// first the window with the least share of its limit in use, last one that has refused, and among equals the one that
/// empties first.
#[derive(Debug)]
pub struct LocalWindows {
    // Its nodes are half empty, so they hold no more than where to find things.
    windows: BTreeMap<Name, Box<KeptWindow>>,
    max: usize,
    bytes: usize,
    max_bytes: usize,
    /// Where the last sweep ended.
    cursor: Option<Name>,
    /// By now all windows that were swept had emptied. A key that is not kept may be one of them, so its clock begins
    /// here.
    swept_us: u64,
}

#[derive(Debug, Default)]
struct KeptWindow {
    window: Window,
    /// When the newest slot has left, and the window is as good as a new one.
    empty_us: u64,
    /// What would be lost with it: the share of its limit that was in use, in 254ths, or [`REFUSED`].
    worth: u8,
}

/// The worth of a window that has refused since it was charged last.
const REFUSED: u8 = u8::MAX;

impl LocalWindows {
    /// Keeps at most `max` windows, which take at most `max_bytes`.
    pub fn new(max: usize, max_bytes: usize) -> Self {
        LocalWindows { windows: BTreeMap::new(), max: max.max(1), bytes: 0, max_bytes, cursor: None, swept_us: 0 }
    }

    /// Decides on one request that meets these limits, each with its own key. If `now_us` steps back, nothing is freed,
    /// and windows move with it.
    ///
    /// ```
    /// use slidegate_engine::local::LocalWindows;
    /// use slidegate_engine::window::{Charge, Retry};
    ///
    /// let mut windows = LocalWindows::new(1_000, 1 << 20);
    /// let charge = Charge { limit: 2, window_us: 1_000_000, slot_us: 1, cost: 2, enforced: true };
    /// assert!(windows.decide(&[b"alice".to_vec()], &[charge], 0).admitted);
    /// let refused = windows.decide(&[b"alice".to_vec()], &[charge], 400_000);
    /// assert!(!refused.admitted);
    /// assert!(matches!(refused.standings[0].retry, Retry::After(us) if (600_000..=600_001).contains(&us)));
    /// ```
    #[inline]
    pub fn decide<'k>(&mut self, keys: &'k [Vec<u8>], charges: &[Charge], now_us: u64) -> Decision {
        if let ([key], [charge]) = (keys, charges)
            && let Some(decision) = self.decide_alone(key, charge, now_us)
        {
            return decision;
        }
        let untouched = Window::default();
        let swept_us = self.swept_us.max(now_us);
        let assess = |(key, charge): (&'k Vec<u8>, &Charge)| {
            let key = Sought::new(key);
            let assessed = match self.windows.get(&key as &dyn Named) {
                Some(kept) => kept.window.assess(charge, now_us),
                None => untouched.assess(charge, swept_us),
            };
            (key, assessed)
        };
        let assessed: Vec<(Sought<'k>, Assessment)> = keys.iter().zip(charges).map(assess).collect();
        let refuses = |(charge, (_, assessed)): (&Charge, &(Sought<'_>, Assessment))| {
            charge.enforced && assessed.standing.retry != Retry::Fits
        };
        let admitted = !charges.iter().zip(&assessed).any(refuses);
        let standings = charges
            .iter()
            .zip(&assessed)
            .map(|(charge, (key, assessed))| {
                if admitted && assessed.standing.retry == Retry::Fits {
                    self.charge(*key, charge, assessed, now_us)
                } else {
                    self.pass_over(*key, charge, assessed)
                }
            })
            .collect();
        Decision { admitted, standings }
    }

    /// Charges what was spent already, whether there is room or not: later than it was spent, so that no limit is
    /// passed for it.
    pub fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64) -> Standing {
        let key = Sought::new(key);
        let assessed = match self.windows.get(&key as &dyn Named) {
            Some(kept) => kept.window.assess(charge, now_us),
            None => Window::default().assess(charge, self.swept_us.max(now_us)),
        };
        self.charge(key, charge, &assessed, now_us)
    }

    /// Gives back what is not needed of an admission to a key, and tells how much that was: [`Window::give_back`].
    pub fn give_back(&mut self, key: &[u8], refund: &Refund) -> u64 {
        let kept = self.windows.get_mut(&Sought::new(key) as &dyn Named);
        kept.map_or(0, |kept| kept.window.give_back(refund))
    }

    /// The same for a limit that is met alone, as most are: then one look-up does for looking and charging. None: its
    /// window is not kept, or others have to make room.
    #[inline]
    fn decide_alone(&mut self, key: &[u8], charge: &Charge, now_us: u64) -> Option<Decision> {
        if self.bytes > self.max_bytes {
            return None;
        }
        let kept = self.windows.get_mut(&Sought::new(key) as &dyn Named)?;
        let assessed = kept.window.assess(charge, now_us);
        let fits = assessed.standing.retry == Retry::Fits;
        let changed = if fits { kept.charge(charge, &assessed) } else { kept.pass_over(charge, &assessed) };
        self.bytes = (self.bytes + changed.bytes).saturating_sub(changed.bytes_before);
        Some(Decision { admitted: fits || !charge.enforced, standings: vec![changed.standing] })
    }

    /// The window of a key, if one is kept.
    pub fn window(&self, key: &[u8]) -> Option<&Window> {
        self.windows.get(&Sought::new(key) as &dyn Named).map(|kept| &kept.window)
    }

    /// How many windows are kept.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    #[inline]
    fn charge(&mut self, key: Sought<'_>, charge: &Charge, assessed: &Assessment, now_us: u64) -> Standing {
        while self.bytes > self.max_bytes && self.windows.len() > 1 {
            self.sweep(now_us);
        }
        let charged = match self.windows.get_mut(&key as &dyn Named) {
            Some(kept) => kept.charge(charge, assessed),
            None => {
                self.sweep(now_us);
                let name = key.to_name();
                self.bytes += WINDOW_BYTES + name.len();
                self.windows.entry(name).or_default().charge(charge, assessed)
            }
        };
        self.bytes = (self.bytes + charged.bytes).saturating_sub(charged.bytes_before);
        charged.standing
    }

    fn pass_over(&mut self, key: Sought<'_>, charge: &Charge, assessed: &Assessment) -> Standing {
        let Some(kept) = self.windows.get_mut(&key as &dyn Named) else { return assessed.standing };
        let passed = kept.pass_over(charge, assessed);
        self.bytes = (self.bytes + passed.bytes).saturating_sub(passed.bytes_before);
        passed.standing
    }

    fn remove(&mut self, key: &Name) {
        if let Some(kept) = self.windows.remove(key) {
            self.bytes = self.bytes.saturating_sub(WINDOW_BYTES + key.len() + kept.window.bytes());
        }
    }

    /// Drops what is empty among the next few windows; if there is still no room, the one that is worth least. Looks
    /// further as long as all that it saw have refused: such keys may stand side by side.
    fn sweep(&mut self, now_us: u64) {
        for round in 1..=ROUNDS {
            let seen = self.next_few();
            for (_, empty_us, key) in seen.iter().filter(|(_, empty_us, _)| *empty_us < now_us) {
                self.swept_us = self.swept_us.max(empty_us + 1);
                self.remove(key);
            }
            if self.windows.len() < self.max && self.bytes <= self.max_bytes {
                return;
            }
            let in_use = seen.into_iter().filter(|(_, empty_us, _)| *empty_us >= now_us);
            if let Some((_, _, key)) = in_use.min().filter(|(worth, ..)| *worth < REFUSED || round == ROUNDS) {
                return self.remove(&key);
            }
        }
    }

    /// Of the windows behind the cursor what they are worth, when they will be empty, and their keys.
    fn next_few(&mut self) -> Vec<(u8, u64, Name)> {
        let (behind, before) = match self.cursor.take() {
            Some(from) => (Bound::Excluded(from.clone()), Bound::Included(from)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        // Round and round: if the last window stood alone, it would be the one to go.
        let windows =
            self.windows.range((behind, Bound::Unbounded)).chain(self.windows.range((Bound::Unbounded, before)));
        let seen: Vec<_> = windows.take(SWEEP).map(|(key, kept)| (kept.worth, kept.empty_us, key.clone())).collect();
        self.cursor = seen.last().map(|(.., key)| key.clone());
        seen
    }
}

/// Where a limit stands after a decision, and how many bytes the slots of its window took before and take now.
struct Changed {
    standing: Standing,
    bytes_before: usize,
    bytes: usize,
}

impl KeptWindow {
    #[inline]
    fn charge(&mut self, charge: &Charge, assessed: &Assessment) -> Changed {
        let bytes_before = self.window.bytes();
        let standing = self.window.charge(charge, assessed);
        self.empty_us = self.window.newest_us().saturating_add(charge.window_us);
        self.worth = share(charge.limit.saturating_sub(standing.remaining), charge.limit);
        Changed { standing, bytes_before, bytes: self.window.bytes() }
    }

    /// What is not charged changes nothing, but that the window follows a clock that stepped back, and is worth more if
    /// it refused.
    fn pass_over(&mut self, charge: &Charge, assessed: &Assessment) -> Changed {
        let bytes_before = self.window.bytes();
        if charge.enforced && assessed.standing.retry != Retry::Fits {
            self.worth = REFUSED;
        }
        if assessed.ahead_us > 0 {
            self.window.step_back(assessed.ahead_us);
            self.empty_us = self.empty_us.saturating_sub(assessed.ahead_us);
        }
        Changed { standing: assessed.standing, bytes_before, bytes: self.window.bytes() }
    }
}

/// What is used of a limit, in 254ths.
fn share(used: u64, limit: u64) -> u8 {
    let share = u128::from(used) * u128::from(REFUSED - 1) / u128::from(limit.max(1));
    u8::try_from(share).unwrap_or(REFUSED).min(REFUSED - 1)
}

impl Default for LocalWindows {
    fn default() -> Self {
        LocalWindows::new(MAX_WINDOWS, MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn charge(limit: u64, enforced: bool) -> Charge {
        Charge { limit, window_us: SECOND, slot_us: 1, cost: 1, enforced }
    }

    #[test]
    fn a_limit_alone_is_decided_as_among_others() {
        let (mut alone, mut among) = (LocalWindows::new(8, 2_000), LocalWindows::new(16, 4_000));
        let (mut state, mut now_us, mut refused) = (7_u64, 5 * SECOND, 0);
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = |bits: u32, below: u64| (state >> bits) % below;
            // It steps back now and then.
            now_us = (now_us + random(20, SECOND / 5)).saturating_sub(if random(40, 50) == 0 { SECOND } else { 0 });
            let key = format!("key {}", random(33, 4)).into_bytes();
            let asked = Charge {
                limit: 3,
                window_us: SECOND,
                slot_us: 1_000,
                cost: 1 + random(50, 4),
                enforced: random(55, 3) > 0,
            };
            let beside = Charge { limit: u64::MAX, window_us: 1, slot_us: 1, cost: 1, enforced: false };
            let one = alone.decide(core::slice::from_ref(&key), &[asked], now_us);
            let two = among.decide(&[key.clone(), b"beside".to_vec()], &[asked, beside], now_us);
            assert_eq!((one.admitted, one.standings[0]), (two.admitted, two.standings[0]));
            assert_eq!(alone.window(&key), among.window(&key));
            refused += u32::from(!one.admitted);
        }
        assert!((1_000..15_000).contains(&refused), "{refused}");
        let bytes: usize =
            alone.windows.iter().map(|(name, kept)| WINDOW_BYTES + name.len() + kept.window.bytes()).sum();
        assert_eq!(alone.bytes, bytes);
    }

    #[test]
    fn several_limits_are_charged_all_or_none() {
        let mut windows = LocalWindows::default();
        let keys = [b"wide".to_vec(), b"narrow".to_vec()];
        let charges = [charge(10, true), charge(1, true)];
        assert!(windows.decide(&keys, &charges, 0).admitted);
        let refused = windows.decide(&keys, &charges, 1);
        assert!(!refused.admitted);
        assert_eq!(refused.standings[0].remaining, 9, "the limit with room was not charged");
        assert_eq!(refused.standings[1].retry, Retry::After(SECOND));
        assert!(windows.decide(&keys, &charges, 1 + SECOND).admitted);
    }

    #[test]
    fn a_limit_in_dry_run_counts_but_never_refuses() {
        let mut windows = LocalWindows::default();
        let keys = [b"dry".to_vec()];
        assert_eq!(windows.decide(&keys, &[charge(1, false)], 0).standings[0].retry, Retry::Fits);
        let second = windows.decide(&keys, &[charge(1, false)], 1);
        assert!(second.admitted);
        assert_eq!(second.standings[0].retry, Retry::After(SECOND));
    }

    #[test]
    fn a_clock_that_steps_back_before_a_sweep_gives_nothing_twice() {
        let mut windows = LocalWindows::default();
        let swept = [b"swept".to_vec()];
        assert!(windows.decide(&swept, &[charge(1, true)], 5 * SECOND).admitted);
        windows.decide(&[b"other".to_vec()], &[charge(1, true)], 6 * SECOND + 1);
        assert!(windows.window(b"swept").is_none());
        // By a clock that runs on, the two are a window and a microsecond apart; so they are by the key's own.
        assert!(windows.decide(&swept, &[charge(1, true)], 5 * SECOND).admitted);
        assert!(!windows.decide(&swept, &[charge(1, true)], 7 * SECOND + 1).admitted);
        assert!(windows.decide(&swept, &[charge(1, true)], 7 * SECOND + 2).admitted);
    }

    #[test]
    fn a_window_is_swept_when_it_has_emptied_and_not_a_microsecond_earlier() {
        let mut windows = LocalWindows::default();
        let (used_up, others) = ([b"a".to_vec()], [[b"b".to_vec()], [b"c".to_vec()]]);
        assert!(windows.decide(&used_up, &[charge(1, true)], 5 * SECOND).admitted);
        windows.decide(&others[0], &[charge(1, true)], 6 * SECOND);
        assert!(windows.window(b"a").is_some(), "it is in use to the end of that microsecond");
        assert!(!windows.decide(&used_up, &[charge(1, true)], 6 * SECOND).admitted);
        windows.decide(&others[1], &[charge(1, true)], 6 * SECOND + 1);
        assert!(windows.window(b"a").is_none());
    }

    #[test]
    fn a_refusal_follows_a_clock_that_stepped_back_and_bytes_are_still_counted() {
        let mut windows = LocalWindows::default();
        let key = [b"key".to_vec()];
        for at in 0..50 {
            assert!(windows.decide(&key, &[charge(50, true)], 3 * SECOND + 300 * at).admitted);
        }
        for now in [2 * SECOND, SECOND, 20_000, 10_000, 5_000, 1, 0] {
            let refused = windows.decide(&key, &[charge(50, true)], now);
            assert!(!refused.admitted, "at {now}");
            let Retry::After(us) = refused.standings[0].retry else { panic!("{refused:?}") };
            assert!(us <= SECOND + 1, "{us} at {now}");
            let kept: usize =
                windows.windows.iter().map(|(key, kept)| WINDOW_BYTES + key.len() + kept.window.bytes()).sum();
            assert_eq!(kept, windows.bytes);
        }
        assert_eq!(windows.decide(&key, &[charge(50, true)], SECOND + 1).standings[0].remaining, 49, "all have left");
    }

    #[test]
    fn strangers_forget_each_other_and_not_a_limit_that_refuses() {
        let login = Charge { window_us: 60 * SECOND, ..charge(5, true) };
        // Before, among and behind the strangers' keys, and many side by side.
        let mut keys = vec![[b"!".to_vec()], [b"5".to_vec()], [b"~".to_vec()]];
        keys.extend((0..100).map(|user| [format!("7 user {user}").into_bytes()]));
        let mut windows = LocalWindows::default();
        for key in &keys {
            for at in 0..6 {
                assert_eq!(windows.decide(key, &[login], at).admitted, at < 5);
            }
        }
        // Each of them uses up its own limit, in a window that empties later.
        for stranger in 0..200_000_u64 {
            let value =
                [stranger.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string().into_bytes(), b"%25".repeat(85)].concat();
            assert!(windows.decide(&[value], &[Charge { limit: 1, ..login }], 10 + stranger).admitted);
        }
        assert!(windows.len() < 60_000, "some were forgotten: {}", windows.len());
        for key in &keys {
            assert!(!windows.decide(key, &[login], 30 * SECOND).admitted);
            assert!(windows.decide(key, &[login], 60 * SECOND + 5).admitted);
        }
    }

    #[test]
    fn the_bytes_of_slots_are_bounded() {
        let mut windows = LocalWindows::new(1_000, 10_000);
        for at in 0..100_000u64 {
            windows.decide(&[(at % 900).to_be_bytes().to_vec()], &[charge(1_000, true)], at);
            assert!(windows.bytes <= 10_200, "{}", windows.bytes);
        }
        let kept: usize =
            windows.windows.iter().map(|(key, kept)| WINDOW_BYTES + key.len() + kept.window.bytes()).sum();
        assert_eq!(kept, windows.bytes);
    }

    #[test]
    fn a_window_grown_too_long_grows_coarser_and_still_holds_its_limit() {
        let mut windows = LocalWindows::default();
        let key = [b"exact".to_vec()];
        let admitted = (0..120_000).filter(|at| windows.decide(&key, &[charge(100_000, true)], *at).admitted).count();
        assert_eq!(admitted, 100_000);
        assert!(windows.bytes <= 128 * 1_024, "{}", windows.bytes);
        assert!(windows.decide(&key, &[charge(100_000, true)], 3 * SECOND).admitted);
    }

    #[test]
    fn the_memory_of_long_keys_is_bounded() {
        let mut windows = LocalWindows::default();
        for key in 0..40_000u64 {
            let long = [&key.to_be_bytes()[..], &[b'x'; 4_000]].concat();
            windows.decide(&[long], &[charge(1, true)], 0);
            assert!(windows.bytes <= MAX_BYTES + 5_000 && windows.len() <= MAX_BYTES / 4_000);
        }
        assert!(windows.len() > MAX_BYTES / 5_000);
        while let Some(key) = windows.windows.keys().next().cloned() {
            windows.remove(&key);
        }
        assert_eq!(windows.bytes, 0);
    }

    #[test]
    fn the_number_of_windows_is_bounded_and_the_empty_ones_go_first() {
        let mut windows = LocalWindows::new(100, MAX_BYTES);
        for key in 0..10_000u64 {
            windows.decide(&[key.to_be_bytes().to_vec()], &[charge(1, true)], key * SECOND / 1_000);
            assert!(windows.len() <= 100);
        }
        let keep = [b"kept".to_vec()];
        let mut windows = LocalWindows::new(100, MAX_BYTES);
        windows.decide(&keep, &[charge(1, true)], 10 * SECOND);
        for key in 0..1_000u64 {
            windows.decide(&[key.to_be_bytes().to_vec()], &[charge(1, true)], 0);
        }
        assert!(!windows.decide(&keep, &[charge(1, true)], 10 * SECOND + 1).admitted, "the window in use was kept");
    }
}
