//! What a gateway holds at a moment: memory, descriptors, requests. What is held after a fault and was not before has
//! leaked.

use std::fs;

use crate::gateway_process::Gateway;

/// What one gateway holds.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// Memory of the process that is in use, in bytes.
    pub resident_bytes: u64,
    /// Linear memory of its filter instances, in bytes.
    pub instance_bytes: u64,
    /// Open files and sockets.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Requests that have begun and are not over.
    pub in_flight: u64,
}

impl Footprint {
    /// What this gateway holds now.
    ///
    /// # Panics
    ///
    /// Where there is no `/proc`, or the gateway has ended.
    pub fn of(gateway: &Gateway) -> Self {
        let metrics = gateway.metrics();
        let gauge = |name| metrics.sum(name, &[]) as u64;
        let process = format!("/proc/{}", gateway.id());
        let status = fs::read_to_string(format!("{process}/status")).expect("Linux tells about processes");
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.split_whitespace().next());
        let count = |of| fs::read_dir(format!("{process}/{of}")).expect("Linux tells about processes").count();
        Footprint {
            resident_bytes: kilobytes
                .and_then(|number| number.parse::<u64>().ok())
                .expect("a running process has memory")
                << 10,
            instance_bytes: gauge("slidegate_instance_memory_bytes"),
            descriptors: count("fd"),
            threads: count("task"),
            in_flight: gauge("slidegate_requests_in_flight"),
        }
    }
}
