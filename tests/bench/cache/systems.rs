//! The caches that are compared, how each is told to do the same, and what they are asked for.

use std::{cell::Cell, collections::HashMap, net::SocketAddr, sync::LazyLock, thread, time::Duration};

use bytes::Bytes;
use slidegate_tests::{http_client::HttpClient, redis_server::RedisServer};

use super::{LARGEST, SIZES};
use crate::{
    gateway::serve,
    peers::systems::{Nginx, Running},
    upstream::Upstream,
};

/// How many pages are asked for, where they are the same again and again.
pub(super) const PAGES: usize = 100;

/// What each may take for pages, in GB.
const ROOM: u32 = 2;

/// Pages that an upstream leaves behind are fresh for a second.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// Whose pages they are.
pub(super) const HOST: &str = "site.test";

/// Who keeps responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeptBy {
    Redis,
    Nginx,
    Varnish,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Traffic {
    /// No cache is configured.
    Proxied,
    Hit,
    Miss,
    Stale,
    Pass,
}

/// All that run.
pub(super) struct Kept {
    /// Without caches: ours, and nginx.
    plain: [Running; 2],
    /// As [`KeptBy::ALL`].
    caches: [Running; 3],
    /// The same, which an upstream has left.
    left: [Running; 3],
    asked: Cell<usize>,
}

// === impl KeptBy ===

impl KeptBy {
    pub(super) const ALL: [KeptBy; 3] = [KeptBy::Redis, KeptBy::Nginx, KeptBy::Varnish];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "slidegate `cache`, in Redis",
            Self::Nginx => "nginx `proxy_cache`",
            Self::Varnish => "Varnish",
        }
    }

    /// One of them with one worker.
    pub(super) fn before(self, redis: &RedisServer, upstream: &Upstream) -> Running {
        match self {
            Self::Redis => {
                redis.tell(&["CONFIG", "SET", "maxmemory", &format!("{ROOM}gb")]);
                redis.tell(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
                let filter = "{cache: {max_body: 960KiB, redis: {service_name: redis.static}}}";
                Running::gateway(serve(redis, upstream, Some(filter), &["--workers", "1"]))
            }
            Self::Nginx => {
                let nginx = Nginx {
                    http: format!("proxy_cache_path pages levels=1:2 keys_zone=pages:16m max_size={ROOM}g;"),
                    location: "proxy_cache pages; proxy_cache_lock on; proxy_cache_use_stale error timeout;".to_owned(),
                    workers: Some(1),
                    ..Nginx::default()
                };
                Running::nginx(&nginx, upstream.address())
            }
            Self::Varnish => {
                let grace = "sub vcl_backend_response { if (bereq.url ~ \"^/stale/\") { set beresp.grace = 1h; } }";
                Running::varnish(&format!("{ROOM}g"), grace, upstream.address())
            }
        }
    }

    /// Its name, of which that of the cache is no part where there is none.
    pub(super) fn name_with(self, traffic: Traffic) -> &'static str {
        match (self, traffic) {
            (Self::Redis, Traffic::Proxied) => "slidegate",
            (Self::Nginx, Traffic::Proxied) => "nginx",
            _ => self.name(),
        }
    }
}

// === impl Traffic ===

impl Traffic {
    pub(super) const ALL: [Traffic; 5] = [Self::Proxied, Self::Hit, Self::Miss, Self::Stale, Self::Pass];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proxied => "proxied",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Pass => "pass",
        }
    }

    /// The path of one of its pages.
    pub(super) fn path(self, kilobytes: usize, which: &str) -> String {
        format!("/{}/{kilobytes}/{which}", self.name())
    }

    /// The body of the Lua function that makes a request for wrk, of a number.
    pub(super) fn message(self, kilobytes: usize, round: usize) -> String {
        let which = match self {
            Self::Miss => "tostring(user)".to_owned(),
            _ => format!("(user % {PAGES})"),
        };
        // What was asked for in another round is not asked for again where it should not be there.
        let within = if self == Self::Miss { format!("{}{round}/", std::process::id()) } else { String::new() };
        format!(
            "return wrk.format('GET', '{}' .. {which}, {{ ['Host'] = '{HOST}', ['user-agent'] = 'wrk', ['accept'] = \
             '*/*' }})",
            self.path(kilobytes, &within)
        )
    }

    /// What the upstream says of such a page.
    fn control(self) -> &'static str {
        match self {
            Self::Proxied | Self::Hit => "max-age=3600",
            // So many are not kept for long.
            Self::Miss => "max-age=1, stale-if-error=0",
            Self::Stale => "max-age=1, stale-if-error=3600",
            Self::Pass => "no-store",
        }
    }
}

/// What the upstream answers to a request with this head: the page that its path asks for.
pub(super) fn page(head: &[u8]) -> Bytes {
    static PAGES: LazyLock<HashMap<(&'static [u8], usize), Bytes>> = LazyLock::new(|| {
        let sizes = SIZES.into_iter().chain([LARGEST]);
        let of_size =
            |kilobytes| Traffic::ALL.map(|traffic| ((traffic.name().as_bytes(), kilobytes), made(traffic, kilobytes)));
        sizes.flat_map(of_size).collect()
    });
    let mut parts = head.splitn(5, |byte| *byte == b'/').skip(1);
    let (kind, size) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let size = str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or_default();
    PAGES.get(&(kind, size)).unwrap_or_else(|| panic!("no such page: {}", head.escape_ascii())).clone()
}

fn made(traffic: Traffic, kilobytes: usize) -> Bytes {
    let length = kilobytes * 1_000;
    let mut page = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: {}\r\ncontent-length: {length}\r\n\r\n",
        traffic.control()
    )
    .into_bytes();
    page.extend((0..length).map(|at| b"abcdefghijklmnopqrstuvwxyz"[at % 26]));
    page.into()
}

// === impl Kept ===

impl Kept {
    /// Starts all, and has one upstream leave behind what it made.
    pub(super) fn start(redis: &RedisServer, upstream: &Upstream) -> Self {
        let plain = [
            Running::gateway(serve(redis, upstream, None, &["--workers", "1"])),
            Running::nginx(&Nginx { workers: Some(1), ..Nginx::default() }, upstream.address()),
        ];
        let mortal = Upstream::answering(0, page);
        let left = KeptBy::ALL.map(|kept_by| kept_by.before(redis, &mortal));
        left.iter().for_each(|running| fill(running.target().address, &SIZES));
        drop(mortal);
        thread::sleep(STALE_AFTER);
        let caches = KeptBy::ALL.map(|kept_by| kept_by.before(redis, upstream));
        Kept { plain, caches, left, asked: Cell::new(0) }
    }

    /// The one that does this.
    pub(super) fn running(&self, kept_by: KeptBy, traffic: Traffic) -> &Running {
        let among: &[Running] = match traffic {
            Traffic::Proxied => &self.plain,
            Traffic::Stale => &self.left,
            Traffic::Hit | Traffic::Miss | Traffic::Pass => &self.caches,
        };
        let at = KeptBy::ALL.iter().position(|other| *other == kept_by).expect("it is one of all");
        among.get(at).expect("it runs")
    }

    /// A number that it never said before.
    pub(super) fn another(&self) -> usize {
        self.asked.replace(self.asked.get() + 1)
    }
}

/// Asks for all pages of these sizes that an upstream may leave behind.
pub(super) fn fill(address: SocketAddr, sizes: &[usize]) {
    let mut client = HttpClient::connect(address);
    for kilobytes in sizes {
        for which in 0..PAGES {
            let path = Traffic::Stale.path(*kilobytes, &which.to_string());
            assert_eq!(client.get(&path, &[("host", HOST)]).status(), 200, "{path}");
        }
    }
}
