//! Who asks when: a number of keys, a history that brings them where they are, and the decisions that are measured.

/// The window: longer than any round takes, because Redis drops keys by its own clock and the load brings one of its
/// own.
pub(super) const WINDOW_US: u64 = 60_000_000;

/// The clock when a load begins.
const BEGIN_US: u64 = 1_700_000_000_000_000;

/// The parts of a limiter's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Keys are brought to their limit within half a window; each decision admits.
    Fill,
    /// Keys are at their limit, and requests come as fast as old ones leave; each decision admits.
    Roll,
    /// Keys are at their limit; each decision refuses.
    Refuse,
}

/// A load at one limit.
pub(super) struct Load {
    pub(super) shape: Shape,
    pub(super) limit: u64,
    pub(super) keys: usize,
    /// Between two requests of one key.
    pub(super) step_us: u64,
    /// Requests of each key before those that are measured.
    pub(super) history: u64,
    /// Requests of each key that are measured.
    pub(super) measured: u64,
}

// === impl Shape ===

impl Shape {
    pub(super) const ALL: [Shape; 3] = [Shape::Fill, Shape::Roll, Shape::Refuse];

    pub(super) fn name(self) -> &'static str {
        match self {
            Shape::Fill => "admit, filling",
            Shape::Roll => "admit, rolling",
            Shape::Refuse => "refuse",
        }
    }
}

// === impl Load ===

impl Load {
    /// So many decisions, about.
    pub(super) fn new(shape: Shape, limit: u64, decisions: usize) -> Self {
        let decisions = decisions as u64;
        let keys = (decisions / limit).clamp(1, 1_000);
        let measured = decisions / keys;
        let filling_step_us = (WINDOW_US / 2 / limit).max(1);
        let (step_us, history, measured) = match shape {
            Shape::Fill => (filling_step_us, limit.saturating_sub(measured), measured.min(limit)),
            Shape::Refuse => (filling_step_us, limit, measured.min(limit)),
            // Slots are at most a 64th of the window: what is a window and a slot old has left in every scheme.
            Shape::Roll => ((WINDOW_US + WINDOW_US / 64) / limit + 2, limit, measured),
        };
        Load { shape, limit, keys: keys as usize, step_us, history, measured }
    }

    pub(super) fn decisions(&self) -> usize {
        self.keys * self.measured as usize
    }

    /// When the n-th request of a key comes, those of its history included.
    pub(super) fn time_us(&self, n: u64) -> u64 {
        BEGIN_US + n * self.step_us
    }

    /// The measured requests in order: each key in turn, with the request's number among those of its key.
    pub(super) fn requests(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (keys, first) = (self.keys, self.history);
        (first..first + self.measured).flat_map(move |n| (0..keys).map(move |key| (key, n)))
    }
}
