//! The upstreams of one route, which take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::Endpoint;

/// All upstreams of a route; there is at least one.
pub(crate) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    /// Counts turns.
    turn: AtomicUsize,
}

/// Those of a pool that a request has been to, by their places.
#[derive(Default)]
pub(super) struct Attempted {
    /// Where there is a choice.
    places: Vec<usize>,
    /// The request's turn, once it has been somewhere.
    turn: Option<usize>,
    /// Those that may take the request later.
    later: Vec<usize>,
}

impl Attempted {
    /// The upstream that it has been to last may take it later.
    pub(super) fn may_be_taken_later(&mut self) {
        self.later.push(self.places.last().copied().unwrap_or_default());
    }

    /// The request may go again to those that may take it later. False if there is none.
    pub(super) fn begin_again(&mut self) -> bool {
        let later = std::mem::take(&mut self.later);
        self.places.retain(|place| !later.contains(place));
        self.turn = None;
        !later.is_empty()
    }
}

impl Pool {
    pub(crate) fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { endpoints, turn: AtomicUsize::new(0) }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The one that there is, if there is no other.
    pub(crate) fn only(&self) -> Option<&Arc<Endpoint>> {
        match self.endpoints.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The next one in turn, of those that the request has not been to. One that is left out is taken only if all of
    /// them are.
    pub(super) fn next(&self, attempted: &mut Attempted) -> Option<&Arc<Endpoint>> {
        if let Some(only) = self.only() {
            return attempted.turn.replace(0).is_none().then_some(only);
        }
        let turn = *attempted.turn.get_or_insert_with(|| self.turn.fetch_add(1, Ordering::Relaxed));
        let left = || self.endpoints.iter().enumerate().filter(|(place, _)| !attempted.places.contains(place));
        // Turns go round among those alone, lest the neighbour of one that is left out gets its share.
        let mut admissible: Vec<_> = left().filter(|(_, endpoint)| endpoint.is_admissible()).collect();
        rotate(&mut admissible, turn);
        let admitted = admissible.into_iter().find(|(_, endpoint)| endpoint.is_admitted());
        let (place, endpoint) = admitted.or_else(|| {
            let mut left: Vec<_> = left().collect();
            rotate(&mut left, turn);
            left.into_iter().next()
        })?;
        attempted.places.push(place);
        Some(endpoint)
    }
}

/// Brings the one whose turn it is to the front.
fn rotate<T>(items: &mut [T], turn: usize) {
    if !items.is_empty() {
        items.rotate_left(turn % items.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Timeouts, Upstream};

    fn pool(count: u16) -> Pool {
        let upstream = |port| Upstream::parse(&format!("http://127.0.0.1:{port}")).expect("a URL");
        let endpoint = |port| Arc::new(Endpoint::new(&upstream(port), &Timeouts::default(), 1));
        Pool::new((1..=count).map(endpoint).collect())
    }

    fn port(pool: &Pool, attempted: &mut Attempted) -> Option<u16> {
        pool.next(attempted)?.upstream.authority.port_u16()
    }

    fn ports(pool: &Pool, requests: usize) -> Vec<u16> {
        (0..requests).filter_map(|_| port(pool, &mut Attempted::default())).collect()
    }

    fn fail(pool: &Pool, place: usize) {
        (0..3).for_each(|_| pool.endpoints()[place].fails("it is away"));
    }

    #[test]
    fn they_take_turns_and_who_is_left_out_has_none() {
        let pool = pool(3);
        assert_eq!(ports(&pool, 6), [1, 2, 3, 1, 2, 3]);
        fail(&pool, 1);
        let mut ports = ports(&pool, 6);
        ports.sort_unstable();
        assert_eq!(ports, [1, 1, 1, 3, 3, 3]);
        pool.endpoints()[1].answers();
        assert_eq!(super::tests::ports(&pool, 3).len(), 3);
    }

    #[test]
    fn when_all_are_left_out_they_are_asked_all_the_same() {
        let pool = pool(2);
        (0..2).for_each(|place| fail(&pool, place));
        assert_eq!(ports(&pool, 4), [1, 2, 1, 2]);
        let only = super::tests::pool(1);
        fail(&only, 0);
        assert_eq!(ports(&only, 2), [1, 1]);
    }

    #[test]
    fn a_request_goes_to_each_once() {
        let pool = pool(3);
        let mut attempted = Attempted::default();
        let mut all: Vec<_> = std::iter::from_fn(|| port(&pool, &mut attempted)).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        let only = super::tests::pool(1);
        let mut attempted = Attempted::default();
        assert_eq!((port(&only, &mut attempted), port(&only, &mut attempted)), (Some(1), None));
    }

    #[test]
    fn a_request_goes_again_to_those_alone_that_may_take_it_later() {
        for (count, later) in [(3, vec![2]), (3, vec![1, 3]), (1, vec![1])] {
            let (pool, mut attempted) = (pool(count), Attempted::default());
            for _ in 0..3 {
                while let Some(port) = port(&pool, &mut attempted) {
                    if later.contains(&port) {
                        attempted.may_be_taken_later();
                    }
                }
                assert!(attempted.begin_again());
            }
            let mut again: Vec<_> = std::iter::from_fn(|| port(&pool, &mut attempted)).collect();
            again.sort_unstable();
            assert_eq!(again, later);
            assert!(!attempted.begin_again());
        }
    }
}
