//! Clients of ours that take all they can and give nothing.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use slidegate_tests::{
    gateway_process::Gateway,
    http_client::HttpClient,
    http2_client::{Http2Client, kind},
};

use crate::{
    Attack,
    report::Figures,
    scene::{Effort, under_attack},
};

pub(crate) const ALL: &[Attack] = &[
    ("http2_streams_that_read_nothing", streams_that_read_nothing),
    ("http1_connections_that_read_nothing", connections_that_read_nothing),
    ("header_fields_without_end", half_headers),
    ("bodies_that_stop", half_bodies),
    ("streams_reset_at_once", rapid_reset),
    ("connections_that_say_nothing", silence),
];

/// The largest window that HTTP/2 knows.
const WINDOW_MAX: u32 = i32::MAX.unsigned_abs();

/// Where streams come from: one address may have fewer of them at once.
const SOURCES: [&str; 4] = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"];

const OURS: &str = "raw client";

fn streams_that_read_nothing(effort: Effort) -> Figures {
    under_attack("20 HTTP/2 connections x 200 streams read nothing of 10 MB", OURS, "", effort.lasts(), |gateway| {
        let client = |source: &&str| {
            let mut client =
                Http2Client::connect_from(source, gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
            for _ in 0..200 {
                client.get("/bytes/10000000").expect("the gateway reads");
            }
            client
        };
        SOURCES.iter().cycle().take(20).map(client).collect::<Vec<_>>()
    })
}

fn connections_that_read_nothing(effort: Effort) -> Figures {
    under_attack("1,000 HTTP/1.1 connections read nothing of 10 MB", OURS, "", effort.lasts(), |gateway| {
        connections(gateway, 1_000, b"GET /bytes/10000000 HTTP/1.1\r\nhost: a.test\r\n\r\n")
    })
}

fn half_headers(effort: Effort) -> Figures {
    let head = format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-long: {}", "v".repeat(16 << 10));
    under_attack("1,000 connections send 16 KiB of header fields and no end", OURS, "", effort.lasts(), |gateway| {
        connections(gateway, 1_000, head.as_bytes())
    })
}

fn half_bodies(effort: Effort) -> Figures {
    under_attack("1,000 connections stop in the middle of a body", OURS, "", effort.lasts(), |gateway| {
        connections(gateway, 1_000, b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000\r\n\r\nsome of it")
    })
}

/// At a pace at which a newcomer has time to say something before its place is needed.
fn silence(effort: Effort) -> Figures {
    under_attack(
        "2,000 connections say nothing, 1,000 may be open",
        OURS,
        "limits: {connections: 1000}\n",
        effort.lasts(),
        |gateway| {
            let client = || {
                thread::sleep(Duration::from_millis(2));
                HttpClient::connect(gateway.listen())
            };
            std::iter::repeat_with(client).take(2_000).collect::<Vec<_>>()
        },
    )
}

/// CVE-2023-44487: each stream is reset as soon as it is asked for, on ever new connections.
fn rapid_reset(effort: Effort) -> Figures {
    let rounds = if effort == Effort::Whole { 200 } else { 20 };
    under_attack("streams reset at once, 1,000 a connection", OURS, "", effort.lasts(), |gateway| {
        for _ in 0..rounds {
            let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
            for _ in 0..1_000 {
                let asked = client.get("/delay/1000");
                if asked.and_then(|stream| client.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())).is_err() {
                    break;
                }
            }
        }
    })
}

fn connections(gateway: &Gateway, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let client = || {
        let mut client = HttpClient::connect(gateway.listen()).writer();
        // One that was let go cannot be written to.
        let _ = client.write_all(bytes);
        client
    };
    std::iter::repeat_with(client).take(count).collect()
}
