//! Connection limits and load shedding: who is connected. Room is limited, for all and for each address; when there is
//! none left, connections on which nothing happens are let go first, and only then new ones are turned away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::gateway::descriptors::Budget;
use crate::gateway::telemetry::{self, Overload, TurnedAway};
use crate::settings::Limits;

/// Room is made for so large a part of the limit at once, so that looking for the longest idle is not done for each
/// newcomer.
const PART_LET_GO: usize = 64;

/// Nobody was turned away for that long: the rush is over.
const RUSH_OVER: Duration = Duration::from_secs(5);

/// All clients that are connected to this process.
pub(crate) struct Guests {
    budget: Budget,
    started: Instant,
    room: Mutex<GuestList>,
    /// Requests at once, each of which may hold a connection to an upstream.
    requests: AtomicUsize,
    /// Whether they are told of in metrics, which those are that the gateway is for.
    is_counted: bool,
}

#[derive(Default)]
struct GuestList {
    guests: HashMap<u64, Arc<Guest>>,
    by_address: HashMap<ClientAddress, Household>,
    last_id: u64,
    /// How many were asked to leave and are still there.
    leaving: usize,
    rushes: [Rush; TurnedAway::ALL.len()],
    is_counted: bool,
}

/// What the connections of one address have in common.
#[derive(Default)]
struct Household {
    /// How many are there and were not asked to leave.
    connections: usize,
    /// Requests at once of all of them.
    requests: Arc<AtomicUsize>,
}

/// Whom a connection is counted for: an IPv4 address, or the 64 bits of an IPv6 address that one customer of a provider
/// has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ClientAddress {
    V4(u32),
    V6(u64),
}

/// One connection.
pub(crate) struct Guest {
    id: u64,
    address: ClientAddress,
    started: Instant,
    /// Requests that are not over.
    busy: AtomicUsize,
    /// Those of all connections of its address.
    busy_of_address: Arc<AtomicUsize>,
    /// Milliseconds after `started` at which the last request ended, or the connection began.
    idle_since_ms: AtomicU64,
    has_asked: AtomicBool,
    is_http2: AtomicBool,
    /// Set by `GuestList` alone.
    is_leaving: AtomicBool,
    leave: CancellationToken,
}

/// A guest's place; it is free again when this is dropped, which is when the socket is closed.
pub(crate) struct Seat {
    guest: Arc<Guest>,
    guests: Arc<Guests>,
}

/// A request of a guest, until its body and its response are over; or its tunnel, if it became one.
pub(crate) struct Order {
    guest: Arc<Guest>,
    guests: Arc<Guests>,
}

/// Newcomers turned away one after the other, which are one line in the log at the beginning and one at the end.
#[derive(Default)]
struct Rush {
    turned_away: u64,
    last: Option<Instant>,
}

// === impl Guests ===

impl Guests {
    /// The clients of what the gateway is for.
    pub(crate) fn new(budget: Budget) -> Arc<Self> {
        Self::of(budget, true)
    }

    /// Those who look after the gateway. They are few, and their descriptors are the gateway's own.
    pub(crate) fn uncounted() -> Arc<Self> {
        Self::of(Budget::OWN, false)
    }

    fn of(budget: Budget, is_counted: bool) -> Arc<Self> {
        let room = Mutex::new(GuestList { is_counted, ..GuestList::default() });
        Arc::new(Self { budget, started: Instant::now(), room, requests: AtomicUsize::new(0), is_counted })
    }

    /// A place for a connection from this address; or why there is none.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Result<Seat, TurnedAway> {
        let (now, address) = (Instant::now(), ClientAddress::of(address));
        let mut room = self.room();
        let most = limits.connections.min(self.budget.clients);
        let admitted =
            room.make_way(address, most, limits.connections_per_address).map(|()| room.seat(address, self.started));
        let admitted = admitted.map_err(|full| match full {
            TurnedAway::Connections if self.budget.clients < limits.connections => TurnedAway::Descriptors,
            reason => reason,
        });
        let first = admitted.as_ref().err().filter(|reason| room.turn_away(**reason, now)).copied();
        let open = room.guests.len();
        drop(room);
        match admitted {
            Ok(guest) => {
                if self.is_counted {
                    telemetry::connections().increment(1.0);
                }
                Ok(Seat { guest, guests: Arc::clone(self) })
            }
            Err(reason) => {
                if self.is_counted {
                    telemetry::turned_away(reason);
                }
                if first.is_some() {
                    tracing::warn!(reason = reason.name(), open, limit = most, "connections are turned away");
                }
                Err(reason)
            }
        }
    }

    /// Says so in the log when a rush is over. To be called now and then.
    pub(crate) fn look_around(&self) {
        let now = Instant::now();
        self.room().forget_empty();
        for reason in TurnedAway::ALL {
            let turned_away = self.room().end_rush(reason, now);
            if let Some(turned_away) = turned_away {
                tracing::info!(reason = reason.name(), turned_away, "no more connections are turned away");
            }
        }
    }

    fn room(&self) -> MutexGuard<'_, GuestList> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl GuestList ===

impl GuestList {
    /// Lets idle guests go where a limit is reached; says which, if nobody can.
    fn make_way(&mut self, address: ClientAddress, most: usize, most_of_address: usize) -> Result<(), TurnedAway> {
        let of_address = self.by_address.get(&address).map_or(0, |household| household.connections);
        if most_of_address != 0 && of_address >= most_of_address && !self.let_go(most_of_address, Some(address)) {
            return Err(TurnedAway::Address);
        }
        let present = self.guests.len() - self.leaving;
        if present >= most && !self.let_go(most, None) {
            return Err(TurnedAway::Connections);
        }
        Ok(())
    }

    /// Asks some idle guests to leave: those who never asked for anything first, then those who have been quiet for
    /// longest. Whether anybody goes. As long as many of those who were asked are still there, nobody else is.
    fn let_go(&mut self, limit: usize, of: Option<ClientAddress>) -> bool {
        let at_once = (limit / PART_LET_GO).max(1);
        if self.leaving >= at_once.max(16) {
            return false;
        }
        let is_meant = |guest: &&Arc<Guest>| of.is_none_or(|address| guest.address == address) && guest.may_go();
        let mut idle: Vec<Arc<Guest>> = self.guests.values().filter(is_meant).cloned().collect();
        idle.sort_unstable_by_key(|guest| (guest.has_asked(), guest.idle_since_ms.load(Ordering::Relaxed)));
        idle.truncate(at_once);
        for guest in &idle {
            guest.is_leaving.store(true, Ordering::Relaxed);
            self.leaving += 1;
            self.uncount(guest.address);
            guest.leave.cancel();
        }
        if self.is_counted {
            telemetry::let_go(idle.len());
        }
        !idle.is_empty()
    }

    fn seat(&mut self, address: ClientAddress, started: Instant) -> Arc<Guest> {
        self.last_id += 1;
        let household = self.by_address.entry(address).or_default();
        household.connections += 1;
        let guest = Arc::new(Guest {
            id: self.last_id,
            address,
            started,
            busy: AtomicUsize::new(0),
            busy_of_address: Arc::clone(&household.requests),
            idle_since_ms: AtomicU64::new(milliseconds(started.elapsed())),
            has_asked: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            leave: CancellationToken::new(),
        });
        self.guests.insert(guest.id, Arc::clone(&guest));
        guest
    }

    fn remove(&mut self, guest: &Guest) {
        self.guests.remove(&guest.id);
        match guest.is_leaving.load(Ordering::Relaxed) {
            true => self.leaving -= 1,
            false => self.uncount(guest.address),
        }
    }

    fn uncount(&mut self, address: ClientAddress) {
        if let Some(household) = self.by_address.get_mut(&address) {
            household.connections -= 1;
            if household.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// Forgets addresses whose requests have gone on for longer than their connections.
    fn forget_empty(&mut self) {
        self.by_address.retain(|_, household| !household.is_empty());
    }

    /// Counts one turned away; whether it is the first of a rush.
    fn turn_away(&mut self, reason: TurnedAway, now: Instant) -> bool {
        let rush = &mut self.rushes[reason as usize];
        rush.turned_away += 1;
        rush.last.replace(now).is_none()
    }

    /// Whether a rush is over, and how many it was.
    fn end_rush(&mut self, reason: TurnedAway, now: Instant) -> Option<u64> {
        let rush = &mut self.rushes[reason as usize];
        let is_over = rush.last.is_some_and(|last| now.duration_since(last) >= RUSH_OVER);
        is_over.then(|| std::mem::take(rush).turned_away)
    }
}

impl Household {
    fn is_empty(&self) -> bool {
        self.connections == 0 && self.requests.load(Ordering::Relaxed) == 0
    }
}

// === impl Guest ===

impl Guest {
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Nothing happened for that long; zero while something does.
    pub(crate) fn idle(&self) -> Duration {
        match self.is_busy() {
            true => Duration::ZERO,
            false => {
                self.started.elapsed().saturating_sub(Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed)))
            }
        }
    }

    /// Waits until this guest's place is needed.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    fn may_go(&self) -> bool {
        !self.is_busy() && !self.is_leaving.load(Ordering::Relaxed)
    }
}

// === impl Seat, Order ===

impl Seat {
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    pub(crate) fn guests(&self) -> &Arc<Guests> {
        &self.guests
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.guests.room().remove(&self.guest);
        if self.guests.is_counted {
            telemetry::connections().decrement(1.0);
        }
    }
}

impl Order {
    /// A request of a guest.
    ///
    /// # Errors
    /// There are as many at once as there may be: of all clients, of this address, or for the descriptors of the
    /// process.
    pub(crate) fn take(
        guest: &Arc<Guest>,
        guests: &Arc<Guests>,
        limits: &Limits,
        is_http2: bool,
    ) -> Result<Self, Overload> {
        guest.has_asked.store(true, Ordering::Relaxed);
        guest.is_http2.store(is_http2, Ordering::Relaxed);
        // From here on it is counted; if it is turned away, dropping it takes it back.
        guest.busy.fetch_add(1, Ordering::Relaxed);
        let of_address = guest.busy_of_address.fetch_add(1, Ordering::Relaxed);
        let of_all = guests.requests.fetch_add(1, Ordering::Relaxed);
        let order = Self { guest: Arc::clone(guest), guests: Arc::clone(guests) };
        let reason = if limits.requests_per_address != 0 && of_address >= limits.requests_per_address {
            Overload::Address
        } else if of_all >= limits.requests {
            Overload::Requests
        } else if of_all >= guests.budget.requests {
            Overload::Descriptors
        } else {
            return Ok(order);
        };
        if guests.is_counted {
            telemetry::overloaded(reason);
        }
        Err(reason)
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.guests.requests.fetch_sub(1, Ordering::Relaxed);
        self.guest.busy_of_address.fetch_sub(1, Ordering::Relaxed);
        self.guest.idle_since_ms.store(milliseconds(self.guest.started.elapsed()), Ordering::Relaxed);
        self.guest.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl ClientAddress ===

impl ClientAddress {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
