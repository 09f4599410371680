//! What proxies ask in gRPC, whole and spoilt.

use proptest::{collection::vec, prelude::*, sample::Index};
use slidegate_tests::{fuzzing::answer::any_bytes, grpc_client::framed, protobuf::Proto};

pub(super) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
pub(super) const LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
pub(super) const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// The values of the header that is counted by, in a call that is whole.
pub(super) const KEYS: [&str; 2] = ["one", "other"];

/// A call.
#[derive(Debug, Clone)]
pub(super) struct ProxyCall {
    pub(super) path: &'static str,
    /// Its messages in their frames.
    pub(super) body: Vec<u8>,
    /// How many descriptors it had, or messages, before it was spoilt.
    pub(super) parts: usize,
    /// Nothing of it was spoilt.
    pub(super) is_whole: bool,
}

/// How bytes are spoilt.
#[derive(Debug, Clone)]
enum Spoiling {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    /// What stands between two places stands there twice.
    Repeat(Index, Index),
    Cut(Index),
}

impl Spoiling {
    fn spoil(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Replace(at, byte) => {
                let at = place(at);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(from, to) => {
                let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

fn any_spoiling() -> impl Strategy<Value = Spoiling> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoiling::Replace(at, byte)),
        2 => (any::<Index>(), any_inserted()).prop_map(|(at, more)| Spoiling::Insert(at, more)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Spoiling::Repeat(from, to)),
        1 => any::<Index>().prop_map(Spoiling::Cut),
    ]
}

/// Bytes of any kind, a field that nobody knows, groups, and lengths and numbers without end.
fn any_inserted() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 0..200).prop_map(|value| Proto::default().bytes(78, value).0),
        (1..2_000_usize).prop_map(|deep| vec![0x0b; deep]),
        (1..20_usize).prop_map(|long| vec![0xff; long]),
        Just(b"\x0a\xff\xff\xff\xff\x0f".to_vec()),
    ]
}

/// A header that is not counted by. Few are none, since one of those spoils a call as a whole.
fn any_header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known = vec![
        ":path",
        ":method",
        ":status",
        "cookie",
        "content-type",
        "content-length",
        "content-encoding",
        "host",
        "connection",
        "x-forwarded-for",
    ];
    let name = prop_oneof![
        30 => prop::sample::select(known).prop_map(str::to_owned),
        10 => "[a-z]{1,8}",
        1 => any::<String>(),
    ];
    (name, prop_oneof![30 => "[ -~]{0,40}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..40)])
}

/// A `HeaderMap`, with the header that is counted by.
fn any_headers() -> impl Strategy<Value = Proto> {
    (prop::sample::select(KEYS.to_vec()), vec(any_header(), 0..4)).prop_map(|(key, others)| {
        let field =
            |map: Proto, name: &str, value: &[u8]| map.message(1, &Proto::default().bytes(1, name).bytes(3, value));
        let key = field(Proto::default(), "x-key", key.as_bytes());
        others.iter().fold(key, |map, (name, value)| field(map, name, value))
    })
}

fn any_check() -> impl Strategy<Value = (&'static str, Vec<Proto>, usize)> {
    (any_headers(), "(/[!-~]{0,30})?", "[!-~]{0,20}", vec(any_header(), 0..3)).prop_map(
        |(headers, path, host, extensions)| {
            let http = Proto::default().bytes(2, "GET").bytes(4, path).bytes(5, host).message(13, &headers);
            let context = Proto::default().message(4, &Proto::default().message(2, &http));
            let context = extensions.iter().fold(context, |context, (name, value)| context.entry(10, name, value));
            (CHECK, vec![Proto::default().message(1, &context)], 1)
        },
    )
}

fn any_limit() -> impl Strategy<Value = (&'static str, Vec<Proto>, usize)> {
    let header = prop::sample::select(vec!["x-key", "x-other", "generic_key"]).prop_map(str::to_owned);
    let address = prop::sample::select(vec!["127.0.0.1", "::1"]).prop_map(str::to_owned);
    let entry = prop_oneof![
        30 => (header, "[a-c]"),
        10 => (Just("remote_address".to_owned()), address),
        1 => any::<(String, String)>(),
    ];
    let hits = prop_oneof![20 => 0..4_u64, 1 => any::<u64>()];
    let domain = prop_oneof![10 => "[a-z]{1,8}", 1 => any::<String>()];
    (domain, vec(vec(entry, 1..4), 0..6), hits).prop_map(|(domain, descriptors, hits)| {
        let told = descriptors.iter().fold(Proto::default().bytes(1, domain), |call, entries| {
            let descriptor = entries.iter().fold(Proto::default(), |told, (key, value)| told.entry(1, key, value));
            call.message(2, &descriptor)
        });
        (LIMIT, vec![told.number(3, hits)], descriptors.len())
    })
}

fn any_processing() -> impl Strategy<Value = (&'static str, Vec<Proto>, usize)> {
    let part = prop_oneof![
        any_headers().prop_map(|headers| Proto::default().message(3, &Proto::default().message(1, &headers))),
        (prop::sample::select(vec![4, 5]), any_bytes(), any::<bool>()).prop_map(|(tag, body, is_last)| {
            Proto::default().message(tag, &Proto::default().bytes(1, body).number(2, u64::from(is_last)))
        }),
        prop::sample::select(vec![6, 7]).prop_map(|tag| Proto::default().message(tag, &Proto::default())),
    ];
    (any_headers(), vec(part, 0..5)).prop_map(|(headers, parts)| {
        let target = [(":method", "POST"), (":path", "/v1/chat/completions"), (":authority", "a.test")];
        let headers = target
            .iter()
            .fold(headers, |map, (name, value)| map.message(1, &Proto::default().bytes(1, name).bytes(3, value)));
        // Bodies are streamed.
        let modes = Proto::default().number(1, 1).number(2, 1);
        let first = Proto::default().message(2, &Proto::default().message(1, &headers)).message(11, &modes);
        let messages: Vec<Proto> = [first].into_iter().chain(parts).collect();
        let count = messages.len();
        (PROCESS, messages, count)
    })
}

/// Spoilt, as it may be, in its messages, in their frames, or not at all.
pub(super) fn any_call() -> impl Strategy<Value = ProxyCall> {
    let whole = prop_oneof![any_check(), any_limit(), any_processing()];
    let in_messages = prop_oneof![1 => Just(Vec::new()), 2 => vec((any::<Index>(), any_spoiling()), 1..4)];
    let in_frames = prop_oneof![9 => Just(Vec::new()), 1 => vec(any_spoiling(), 1..3)];
    (whole, in_messages, in_frames).prop_map(|((path, mut messages, parts), in_messages, in_frames)| {
        for (message, spoiling) in &in_messages {
            let message = message.index(messages.len());
            spoiling.spoil(&mut messages[message].0);
        }
        let mut body: Vec<u8> = messages.iter().flat_map(framed).collect();
        for spoiling in &in_frames {
            spoiling.spoil(&mut body);
        }
        ProxyCall { path, body, parts, is_whole: in_messages.is_empty() && in_frames.is_empty() }
    })
}
