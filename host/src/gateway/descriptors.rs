//! The descriptors of this process: raised as far as the system allows, and shared out so that clients cannot use up
//! those that Redis, upstreams and the admin port need.

/// What is left for clients and for what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Connections of clients.
    pub(crate) clients: usize,
    /// Requests at once, since each may need a connection to its upstream.
    pub(crate) requests: usize,
}

/// Raises the limit of this process to what it may be raised to, and shares it out.
pub(crate) fn raise(lanes: usize) -> Budget {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(descriptors) => Budget::of(usize::try_from(descriptors).unwrap_or(usize::MAX), lanes),
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors cannot be raised");
            Budget::of(LEAST, lanes)
        }
    }
}

/// What every system has, whatever it says.
const LEAST: usize = 256;

impl Budget {
    /// Of those that the gateway itself needs no limit is known here: whoever takes them has one.
    pub(crate) const OWN: Self = Self { clients: usize::MAX, requests: usize::MAX };

    /// An eighth, but enough for each lane's event loop and its Redis connections, is kept for the gateway itself;
    /// clients and upstreams get half of the rest each.
    fn of(descriptors: usize, lanes: usize) -> Self {
        let own = (descriptors / 8).min(4_096).max(32 + 8 * lanes);
        let half = (descriptors.saturating_sub(own) / 2).max(1);
        Self { clients: half, requests: half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_itself_always_has_some() {
        for (descriptors, lanes, half) in
            [(1 << 20, 8, 522_240), (1_024, 2, 448), (256, 2, 104), (64, 1, 12), (10, 4, 1)]
        {
            assert_eq!(Budget::of(descriptors, lanes), Budget { clients: half, requests: half }, "{descriptors}");
        }
        assert!(Budget::of(usize::MAX, 1).clients > 1 << 40);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        raise(1);
        let (soft, hard) = rlimit::Resource::NOFILE.get().expect("a limit");
        assert_eq!(soft, hard);
    }
}
