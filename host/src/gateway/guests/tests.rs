//! Guests that come, stay, and are one too many.

use super::*;

fn limits(connections: usize, connections_per_address: usize) -> Limits {
    Limits { connections, connections_per_address, ..Limits::default() }
}

fn guests() -> Arc<Guests> {
    Guests::new(Budget { clients: 1_000, requests: 3 })
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ask(seat: &Seat) -> Result<Order, Overload> {
    Order::take(seat.guest(), seat.guests(), &Limits::default(), false)
}

fn order(seat: &Seat) -> Order {
    ask(seat).expect("room is left")
}

#[test]
fn one_address_is_one_guest_in_every_spelling_and_a_64_is_one_address() {
    let of = |text| ClientAddress::of(address(text));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_eq!(of("2001:db8:0:0:1::"), of("2001:db8:0:0:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_ne!(of("::10.0.0.1"), of("10.0.0.1"));
}

#[test]
fn busy_guests_stay_and_newcomers_are_turned_away() {
    let (guests, limits) = (guests(), limits(2, 0));
    let seats: Vec<Seat> = (0..2).map(|_| guests.admit(address("10.0.0.1"), &limits).expect("a place")).collect();
    let orders: Vec<Order> = seats.iter().map(order).collect();
    assert_eq!(guests.admit(address("10.0.0.2"), &limits).err(), Some(TurnedAway::Connections));
    drop((seats, orders));
    assert!(guests.admit(address("10.0.0.2"), &limits).is_ok());
}

#[test]
fn who_never_asked_goes_before_who_was_quiet_for_longest() {
    let (guests, limits) = (guests(), limits(3, 0));
    let [old, recent, silent] = [1, 2, 3].map(|_| guests.admit(address("10.0.0.1"), &limits).expect("a place"));
    drop(order(&old));
    std::thread::sleep(Duration::from_millis(5));
    drop(order(&recent));
    let mut more = Vec::new();
    for expected in [[false, false, true], [true, false, true], [true, true, true]] {
        let newcomer = guests.admit(address("10.0.0.2"), &limits).expect("a place");
        // Busy, so that it is none of those who go.
        more.push((order(&newcomer), newcomer));
        assert_eq!([&old, &recent, &silent].map(|seat| seat.guest().leave.is_cancelled()), expected);
    }
}

#[test]
fn an_address_at_its_limit_makes_room_of_its_own_only() {
    let (guests, limits) = (guests(), limits(10, 2));
    let other = guests.admit(address("2001:db8:1::1"), &limits).expect("a place");
    let [first, second] =
        [1, 2].map(|host| guests.admit(address(&format!("2001:db8::{host}")), &limits).expect("a place"));
    let [first_order, second_order] = [order(&first), order(&second)];
    assert_eq!(guests.admit(address("2001:db8::3"), &limits).err(), Some(TurnedAway::Address));
    drop(first_order);
    std::thread::sleep(Duration::from_millis(5));
    drop(second_order);
    assert!(guests.admit(address("2001:db8::3"), &limits).is_ok());
    assert!(
        first.guest().leave.is_cancelled()
            && !second.guest().leave.is_cancelled()
            && !other.guest().leave.is_cancelled()
    );
}

#[test]
fn descriptors_bound_connections_and_requests_whatever_the_limits_say() {
    let guests = Guests::new(Budget { clients: 1, requests: 1 });
    let seat = guests.admit(address("10.0.0.1"), &limits(100, 0)).expect("a place");
    let held = order(&seat);
    assert_eq!(guests.admit(address("10.0.0.1"), &limits(100, 0)).err(), Some(TurnedAway::Descriptors));
    assert_eq!(ask(&seat).err(), Some(Overload::Descriptors));
    drop(held);
    assert!(ask(&seat).is_ok());
}

#[test]
fn requests_at_once_are_bounded_for_an_address_and_for_all() {
    let guests = Guests::new(Budget { clients: 10, requests: 100 });
    let limits = Limits { requests: 3, requests_per_address: 2, ..Limits::default() };
    let [first, same, other] =
        ["2001:db8::1", "2001:db8::2", "10.0.0.1"].map(|of| guests.admit(address(of), &limits).expect("a place"));
    let ask = |seat: &Seat| Order::take(seat.guest(), seat.guests(), &limits, true);
    let held = [ask(&first), ask(&same)];
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(ask(&first).err(), Some(Overload::Address));
    let one = ask(&other);
    assert!(one.is_ok());
    assert_eq!(ask(&other).err(), Some(Overload::Requests));
    drop(held);
    assert!(ask(&other).is_ok() && ask(&same).is_ok());
    drop(one);
    assert!(!first.guest().is_busy() && !same.guest().is_busy() && !other.guest().is_busy());
}

#[test]
fn requests_count_beyond_the_connections_of_their_address() {
    let (guests, limits) = (guests(), Limits { requests_per_address: 1, ..Limits::default() });
    let come = || guests.admit(address("10.0.0.1"), &limits).expect("a place");
    let ask = |seat: &Seat| Order::take(seat.guest(), seat.guests(), &limits, true);
    let gone = come();
    let held = ask(&gone);
    drop(gone);
    assert!(held.is_ok());
    assert_eq!(ask(&come()).err(), Some(Overload::Address));
    drop(held);
    guests.look_around();
    assert!(guests.room().by_address.is_empty());
    assert!(ask(&come()).is_ok());
}

#[test]
fn nothing_is_left_of_guests_that_have_gone() {
    let (guests, limits) = (guests(), limits(4, 3));
    for round in 0..50_u32 {
        let seats: Vec<_> =
            (0..6).filter_map(|host| guests.admit(IpAddr::from([10, 0, 0, host % 3]), &limits).ok()).collect();
        assert!(seats.len() >= 4, "round {round}");
    }
    let room = guests.room();
    assert!(room.guests.is_empty() && room.by_address.is_empty());
    assert_eq!((room.leaving, guests.requests.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_rush_is_told_at_its_beginning_and_its_end() {
    let mut room = GuestList::default();
    let start = Instant::now();
    assert!(room.turn_away(TurnedAway::Address, start));
    assert!(!room.turn_away(TurnedAway::Address, start + Duration::from_secs(4)));
    assert!(room.turn_away(TurnedAway::Connections, start));
    assert_eq!(room.end_rush(TurnedAway::Address, start + Duration::from_secs(8)), None);
    assert_eq!(room.end_rush(TurnedAway::Address, start + Duration::from_secs(9)), Some(2));
    assert_eq!(room.end_rush(TurnedAway::Address, start + Duration::from_secs(99)), None);
    assert!(room.turn_away(TurnedAway::Address, start + Duration::from_secs(100)));
}
