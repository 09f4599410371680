//! The tools that others attack with, from Debian's packages.

use std::{process::Command, time::Duration};

use slidegate_tests::gateway_process::Gateway;

use crate::{
    Attack,
    report::Figures,
    scene::{Effort, under_attack},
};

pub(crate) const ALL: &[Attack] = &[
    ("h2load", h2load),
    ("wrk", wrk),
    ("slowhttptest_headers", slow_headers),
    ("slowhttptest_body", slow_body),
    ("slowhttptest_read", slow_read),
];

/// How long each tool runs, in seconds.
const SECONDS: &str = "15";

fn h2load(_: Effort) -> Figures {
    let arguments = ["-D", SECONDS, "-c", "100", "-m", "100", "-t", "1"];
    attack("100 HTTP/2 connections x 100 streams as fast as they can", "h2load", &arguments, "/bytes/1000", &[])
}

fn wrk(_: Effort) -> Figures {
    attack(
        "1,000 HTTP/1.1 connections as fast as they can",
        "wrk",
        &["-d", "15s", "-c", "1000", "-t", "1"],
        "/bytes/1000",
        &[],
    )
}

fn slow_headers(_: Effort) -> Figures {
    let arguments = ["-H", "-c", "1000", "-r", "500", "-i", "2", "-x", "24", "-l", SECONDS];
    attack("slow headers, 1,000 connections", "slowhttptest -H", &arguments, "/", &["-u"])
}

fn slow_body(_: Effort) -> Figures {
    let arguments = ["-B", "-c", "1000", "-r", "500", "-i", "2", "-s", "8192", "-x", "24", "-l", SECONDS];
    attack("slow bodies, 1,000 connections", "slowhttptest -B", &arguments, "/", &["-u"])
}

fn slow_read(_: Effort) -> Figures {
    let arguments = ["-X", "-c", "1000", "-r", "500", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-l", SECONDS];
    attack("slow reading of 10 MB, 1,000 connections", "slowhttptest -X", &arguments, "/bytes/10000000", &["-u"])
}

/// The gateway while a tool runs against it to its end.
fn attack(name: &str, tool: &'static str, arguments: &[&str], path: &str, before_url: &[&str]) -> Figures {
    under_attack(name, tool, "", Duration::ZERO, |gateway: &Gateway| {
        let program = tool.split(' ').next().unwrap_or(tool);
        let url = format!("http://{}{path}", gateway.listen());
        let output = Command::new(program).args(arguments).args(before_url).arg(url).output();
        let output =
            output.unwrap_or_else(|error| panic!("`{program}` does not run ({error}): `just attack` installs it"));
        // How the attacker ends is its own business, but it must have attacked.
        assert!(!output.stdout.is_empty(), "`{program}` says nothing: {}", String::from_utf8_lossy(&output.stderr));
    })
}
