//! Requests of arbitrary bytes, and replies of every shape.

use proptest::{prelude::*, sample::Index};
use slidegate_engine::redis::{CallError, Reply, Value};

use crate::plain_request::PlainRequest;

/// Something that happens to an engine. Streams and calls are chosen among those there are.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stream begins.
    Request(Box<PlainRequest>),
    /// A call is answered.
    Reply(Index, Answer),
    /// A stream ends.
    Done(Index),
    /// The next so many commands are not accepted.
    Reject(u8, CallError),
    /// So many nanoseconds pass.
    Pass(u64),
}

/// An answer to a call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Of any shape, or none.
    Any(Result<Reply, CallError>),
    /// Of the right shape, with these numbers over and over, the first of them Redis' clock.
    Shaped(bool, Vec<i64>),
}

/// What readers of paths, cookies and addresses look for.
const PIECES: [&str; 40] = [
    "/",
    "?",
    "&",
    "=",
    ";",
    "; ",
    ",",
    ", ",
    "id",
    "sid",
    "x",
    "%",
    "%20",
    "%zz",
    "%ff",
    "+",
    "#",
    "\"",
    " ",
    "1.1.1.1",
    "10.0.0.1",
    "::1",
    "[",
    "]",
    ":80",
    "::ffff:1.2.3.4",
    "2001:db8::",
    "fe80::1%eth0",
    "256.1.1.1",
    "0",
    "a",
    "abc",
    "exact",
    "102234",
    "value1",
    "consumer1",
    "unknown",
    "\t",
    "\0",
    "\n",
];

/// Bytes made of the pieces that readers look for, and of any others.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()).boxed(),
        1 => prop::collection::vec(any::<u8>(), 0..8).boxed(),
    ];
    let texts = prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat());
    prop_oneof![20 => texts.boxed(), 1 => (any::<u8>(), 1..20_000_usize).prop_map(|(byte,
        length)| vec![byte; length]).boxed()]
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any_text(),
        any_text().prop_map(|text| [b"/p?id=", text.as_slice()].concat()),
        any_text().prop_map(|text| [b"/?", text.as_slice()].concat())
    ]
}

fn any_request() -> impl Strategy<Value = PlainRequest> {
    let names = vec!["x-key", "x-ca-key", "x-mse-consumer", "x-forwarded-for", "cookie"];
    let cookie = any_text().prop_map(|text| [b"sid=", text.as_slice()].concat());
    let headers = prop::collection::btree_map(
        prop::sample::select(names),
        prop::collection::vec(prop_oneof![3 => any_text().boxed(), 1 => cookie.boxed()], 0..3),
        0..5,
    );
    let name = prop_oneof![
        Just(String::new()),
        Just("orders".to_owned()),
        Just("outbound|80||b".to_owned()),
        "[\\PC|:*.]{0,10}"
    ];
    let authority = prop_oneof![any_text(), Just(b"a.test:80".to_vec()), Just(b"[::1]:80".to_vec())];
    let address =
        prop_oneof![Just("1.1.1.1:99".to_owned()), Just("[2001:db8::7]:99".to_owned()), "[0-9a-f:.\\[\\]%]{0,20}"];
    let method = prop::sample::select(vec![&b"GET"[..], b"HEAD", b"POST", b"OPTIONS"]);
    let line = (any_path(), prop::option::of(authority), method, any::<bool>());
    (line, headers, prop::option::of(address), name.clone(), name).prop_map(
        |((path, authority, method, is_bodyless), mut headers, source_address, route_name, service_name)| {
            headers.insert(":method", vec![method.to_vec()]);
            PlainRequest { path, authority, headers, source_address, route_name, service_name, is_bodyless }
        },
    )
}

fn any_call_error() -> impl Strategy<Value = CallError> {
    prop::sample::select(vec![
        CallError::Connect,
        CallError::Timeout,
        CallError::Disconnected,
        CallError::Protocol,
        CallError::UnknownService,
        CallError::TooLarge,
    ])
}

/// Anything that Redis may answer.
pub(super) fn any_answer() -> impl Strategy<Value = Answer> {
    let number =
        prop_oneof![-2..200_i64, any::<i64>(), prop::sample::select(vec![i64::MIN, i64::MAX, 1 << 53, 60_000_000])];
    let value = prop_oneof![
        Just(Value::Nil),
        number.clone().prop_map(Value::Integer),
        any_text().prop_map(Value::Bulk),
        "[\\PC]{0,8}".prop_map(Value::Status),
    ];
    let code = prop::sample::select(vec![
        "NOSCRIPT",
        "NOAUTH",
        "WRONGPASS",
        "LOADING",
        "READONLY",
        "OOM",
        "WRONGTYPE",
        "MOVED",
        "ASK",
        "ERR",
        "",
    ]);
    prop_oneof![
        6 => (any::<bool>(), prop::collection::vec(number, 1..12)).prop_map(|(admitted,
            numbers)| Answer::Shaped(admitted, numbers)).boxed(),
        3 => (code, "[\\PC\\n]{0,20}").prop_map(|(code,
            text)| Answer::Any(Ok(Reply::Error(format!("{code} {text}"))))).boxed(),
        1 => value.clone().prop_map(|value| Answer::Any(Ok(Reply::Single(value)))).boxed(),
        1 => prop::collection::vec(value, 0..10).prop_map(|values| Answer::Any(Ok(Reply::Many(values)))).boxed(),
        2 => any_call_error().prop_map(|error| Answer::Any(Err(error))).boxed(),
    ]
}

/// Anything that may happen to an engine.
pub fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any_request().prop_map(|request| Event::Request(Box::new(request))).boxed(),
        6 => (any::<Index>(), any_answer()).prop_map(|(call, answer)| Event::Reply(call, answer)).boxed(),
        2 => any::<Index>().prop_map(Event::Done).boxed(),
        1 => (1..4_u8, any_call_error()).prop_map(|(calls, error)| Event::Reject(calls, error)).boxed(),
        2 => prop_oneof![0..2_000_000_000_u64, any::<u64>()].prop_map(Event::Pass).boxed(),
    ]
}

impl Answer {
    /// The answer to a call with so many keys.
    pub fn for_keys(&self, keys: usize) -> Result<Reply, CallError> {
        match self {
            Answer::Any(reply) => reply.clone(),
            Answer::Shaped(admitted, numbers) => {
                let head = [i64::from(*admitted), numbers[0]];
                let all = head.iter().chain(numbers.iter().cycle().take(3 * keys));
                Ok(Reply::Single(Value::Bulk(all.flat_map(|number| (*number as f64).to_be_bytes()).collect())))
            }
        }
    }
}
