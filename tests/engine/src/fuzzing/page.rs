//! Pages, whom they are for, and what is said of them by who asks and by who makes them.

use proptest::prelude::*;
use slidegate_engine::{ResponseHead, ResponseOrigin, ResponseView, request::RequestView};

/// Whose pages there are; the last are everybody's.
pub const OWNERS: [&str; 4] = ["alice", "bob", "nobody", "all"];
const ALL: usize = OWNERS.len() - 1;

/// A request for a page.
#[derive(Debug, Clone)]
pub struct AskedPage {
    /// Of [`OWNERS`]; who is nobody has no cookie.
    pub user: usize,
    /// Everybody gets the same there.
    pub is_for_all: bool,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    has_body: bool,
}

/// What an upstream says of a page that it makes.
#[derive(Debug, Clone)]
pub struct MadePage {
    status: u16,
    /// Of what is for one.
    own: usize,
    /// Of what is for all.
    shared: usize,
    more: Vec<(&'static str, &'static str)>,
    filler: usize,
    is_of_host: bool,
}

/// An upstream's answer.
#[derive(Debug, Clone)]
pub(super) struct MadeAnswer {
    head: ResponseHead,
    headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// What may be said of a page that is for one: none of these lets another see it. All who have a page of their own have
/// a cookie.
const OWN: [&[(&str, &str)]; 10] = [
    &[("cache-control", "private, max-age=9")],
    &[("cache-control", "private, max-age=0, stale-while-revalidate=9")],
    &[("cache-control", "private, no-cache")],
    &[("cache-control", "private; max-age=9")],
    &[("cache-control", "no-store")],
    &[("cache-control", "max-age=9"), ("set-cookie", "sid=new")],
    &[("cache-control", "max-age=9"), ("vary", "*")],
    &[("cache-control", "max-age=9"), ("vary", "accept, cookie")],
    &[("cache-control", "max-age=9"), ("x-slidegate-session-set", "delete")],
    &[],
];

const SHARED: [&[(&str, &str)]; 10] = [
    &[("cache-control", "max-age=9")],
    &[("cache-control", "public, max-age=1, stale-if-error=60, stale-while-revalidate=5")],
    &[("cache-control", "s-maxage=30"), ("vary", "x-kind")],
    &[("cache-control", "max-age=5"), ("vary", "x-kind, accept-encoding, accept")],
    &[("cache-control", "max-age=9"), ("content-encoding", "gzip")],
    &[("cdn-cache-control", "max-age=5"), ("cache-control", "no-store")],
    &[("cache-control", "max-age=3, must-revalidate"), ("etag", "W/\"1\"")],
    &[("cache-control", "max-age=600"), ("age", "599")],
    &[("cache-control", "no-cache, public")],
    &[("cache-control", "max-age=0"), ("last-modified", "Mon, 30 Nov 2026 00:00:00 GMT")],
];

/// What else there may be in any.
const MORE: [(&str, &str); 10] = [
    ("etag", "\"same\""),
    ("etag", "\"other\""),
    ("surrogate-key", "one two"),
    ("x-tags", "one"),
    ("x-ratelimit-remaining", "7"),
    ("connection", "x-tags"),
    ("date", "no date"),
    ("expires", "0"),
    ("content-length", "9"),
    ("location", "/all?a=1"),
];

/// What a request may say beside whose it is.
const ASKS: [(&str, &str); 16] = [
    ("if-none-match", "\"same\""),
    ("if-none-match", "*"),
    ("if-modified-since", "Mon, 30 Nov 2026 00:00:00 GMT"),
    ("cache-control", "max-stale"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "only-if-cached, max-age=1, min-fresh=1"),
    ("authorization", "Basic x"),
    ("range", "bytes=0-1"),
    ("accept-encoding", "gzip"),
    ("accept-encoding", "identity;q=0, *"),
    ("x-kind", "a"),
    ("x-kind", "b"),
    ("x-forwarded-host", "evil"),
    ("x_kind", "c"),
    ("upgrade", "echo"),
];

impl Arbitrary for AskedPage {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let method = prop_oneof![16 => Just("GET"), 2 => Just("HEAD"), 1 => Just("POST"), 1 => Just("DELETE")];
        let asks = prop_oneof![
            6 => Just(Vec::new()).boxed(),
            2 => prop::collection::vec(prop::sample::select(&ASKS[..]), 0..4).boxed()
        ];
        (0..ALL, any::<bool>(), method, prop_oneof![6 => Just(0), 1 => 1..3_usize], asks, prop::bool::weighted(0.05))
            .prop_map(|(user, is_for_all, method, query, asks, has_body)| {
                let query = ["", "?a=1", "?b=2"][query];
                let path = format!("/{}{query}", if is_for_all { "all" } else { "own" });
                let mut headers: Vec<_> = asks.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
                if OWNERS[user] != "nobody" {
                    headers.push(("cookie", format!("x=1; sid={}", OWNERS[user])));
                }
                AskedPage { user, is_for_all, method, path, headers, has_body }
            })
            .boxed()
    }
}

impl Arbitrary for MadePage {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let status = prop_oneof![
            12 => Just(200_u16).boxed(),
            2 => Just(304).boxed(),
            5 => prop::sample::select(vec![204, 206, 301, 404, 500, 502, 503, 504]).boxed(),
            1 => (100..600_u16).boxed()
        ];
        let more = prop::collection::vec(prop::sample::select(&MORE[..]), 0..3);
        let filler = prop_oneof![9 => (0..100_usize).boxed(), 1 => (0..3_000_usize).boxed()];
        (status, 0..OWN.len(), 0..SHARED.len(), more, filler, prop::bool::weighted(0.05))
            .prop_map(|(status, own, shared, more, filler, is_of_host)| MadePage {
                status,
                own,
                shared,
                more,
                filler,
                is_of_host,
            })
            .boxed()
    }
}

impl MadePage {
    /// The answer to a request, which says whom it is for.
    pub(super) fn of(&self, stream: u64, request: &AskedPage) -> MadeAnswer {
        let owner = if request.is_for_all { ALL } else { request.user };
        let is_bodiless = request.method == "HEAD" || matches!(self.status, 100..200 | 204 | 304);
        let body = if is_bodiless { String::new() } else { page(owner, stream, self.filler) };
        let said = if request.is_for_all { SHARED[self.shared] } else { OWN[self.own] };
        // Who has no cookie has no page of his own, but for what nobody may keep.
        let said = if owner != ALL && OWNERS[owner] == "nobody" { &[("cache-control", "no-store")] } else { said };
        let headers =
            said.iter().chain(&self.more).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let origin = if self.is_of_host { ResponseOrigin::Host } else { ResponseOrigin::Upstream };
        let head = ResponseHead { status: self.status, origin, end: body.is_empty() };
        MadeAnswer { head, headers: headers.collect(), body: body.into_bytes() }
    }
}

fn page(owner: usize, stream: u64, filler: usize) -> String {
    format!("{} {stream} {filler} {}.", OWNERS[owner], "x".repeat(filler))
}

/// Whether this is a whole page that who asks so may be shown.
pub(super) fn is_for(body: &str, request: &AskedPage) -> bool {
    let mut words = body.split(' ');
    let owner = words.next().and_then(|owner| OWNERS.iter().position(|other| *other == owner));
    let (stream, filler) = (words.next(), words.next());
    let (Some(owner), Some(Ok(stream)), Some(Ok(filler))) =
        (owner, stream.map(str::parse::<u64>), filler.map(str::parse::<usize>))
    else {
        return false;
    };
    let may = if request.is_for_all { owner == ALL } else { owner == request.user };
    may && page(owner, stream, filler) == body
}

impl RequestView for AskedPage {
    fn path(&self) -> Vec<u8> {
        self.path.clone().into_bytes()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        Some(b"a.test".to_vec())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        match name {
            ":method" => vec![self.method.as_bytes().to_vec()],
            ":path" => vec![self.path()],
            ":authority" => self.authority().into_iter().collect(),
            ":scheme" => vec![b"http".to_vec()],
            _ => {
                let values = self.headers.iter().filter(|(each, _)| *each == name);
                values.map(|(_, value)| value.clone().into_bytes()).collect()
            }
        }
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect())
    }

    fn source_address(&self) -> Option<String> {
        Some("10.0.0.1:80".to_owned())
    }

    fn route_name(&self) -> String {
        String::new()
    }

    fn service_name(&self) -> String {
        "outbound|80||b".to_owned()
    }

    fn has_body(&self) -> bool {
        self.has_body
    }
}

impl ResponseView for MadeAnswer {
    fn head(&self) -> ResponseHead {
        self.head
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.clone()).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(self.headers.clone())
    }
}
