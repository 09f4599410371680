//! What clients may take up at most, so that strangers cannot use up the gateway.

use std::time::Duration;

use serde_json::{Value, json};
use slidegate_document::{ByteCount, Fields, Reader};

use super::words::{self, duration_shown};

/// Bounds on what clients hold. Zero stands for no bound where the file may say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections of all clients together.
    pub(crate) connections: usize,
    /// Connections of one client: an IPv4 address, or a /64 of IPv6. Zero: as many as `connections`.
    pub(crate) connections_per_address: usize,
    /// Requests at once of all clients together.
    pub(crate) requests: usize,
    /// Requests at once of one client, which is what it is for connections. Zero: as many as `requests`.
    pub(crate) requests_per_address: usize,
    /// Requests at once on one HTTP/2 connection.
    pub(crate) streams: u32,
    /// Bytes that may wait for a client which does not take them: in the kernel for each connection, and in the process
    /// for each HTTP/2 stream.
    pub(crate) send_buffer: u32,
    /// How long a client may keep the gateway waiting for a request's body; each KiB that came buys a second more.
    /// Zero: as long as it likes.
    pub(crate) body_time: Duration,
    /// How long a client may keep an answer's body waiting by taking nothing; each KiB that it got buys a second more.
    /// Zero: as long as it likes.
    pub(crate) answer_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            // A quarter: one stranger alone shuts nobody out, and a load balancer in front, for all its clients, seldom
            // needs more.
            connections_per_address: 2_500,
            // As many as connections: one HTTP/2 connection alone may have a hundred, each of which holds some 50 KB.
            requests: 10_000,
            requests_per_address: 1_000,
            streams: 100,
            send_buffer: 64 << 10,
            body_time: Duration::from_secs(60),
            // People pause what they watch, and what it has bought by then comes on top.
            answer_time: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// What a body that brought so many bytes may have cost in waiting; none if that is not bounded.
    pub(crate) fn body_allowance(&self, bytes: u64) -> Option<Duration> {
        allowance(self.body_time, bytes)
    }

    /// What an answer of which a client got so many bytes may have cost in waiting for it; none if that is not bounded.
    pub(crate) fn answer_allowance(&self, bytes: u64) -> Option<Duration> {
        allowance(self.answer_time, bytes)
    }

    pub(super) fn read(reader: &mut Reader, top: &Fields<'_>) -> Self {
        let mut limits = Self::default();
        let Some(given) = reader.field(top, "limits", |reader, path, node| reader.object(path, node, &words::LIMITS))
        else {
            return limits;
        };
        for (name, least, count) in [
            ("connections", 1, &mut limits.connections),
            ("connections_per_address", 0, &mut limits.connections_per_address),
            ("requests", 1, &mut limits.requests),
            ("requests_per_address", 0, &mut limits.requests_per_address),
        ] {
            let read = reader.field(&given, name, |reader, path, node| reader.whole(path, node, least..=1_000_000));
            // Every number fits, since its range does.
            *count = read.and_then(|read| usize::try_from(read).ok()).unwrap_or(*count);
        }
        let streams = reader.field(&given, "streams", |reader, path, node| reader.whole(path, node, 1..=10_000));
        limits.streams = streams.and_then(|streams| u32::try_from(streams).ok()).unwrap_or(limits.streams);
        let buffer = 8 << 10..=16 << 20;
        let send_buffer = reader.field(&given, "send_buffer", |reader, path, node| reader.size(path, node, buffer));
        limits.send_buffer = send_buffer.and_then(|size| u32::try_from(size).ok()).unwrap_or(limits.send_buffer);
        for (name, time) in [("body_time", &mut limits.body_time), ("answer_time", &mut limits.answer_time)] {
            *time = words::duration(reader, &given, name).unwrap_or(*time);
        }
        limits
    }

    pub(super) fn shown(&self) -> Value {
        json!({
            "connections": self.connections,
            "connections_per_address": self.connections_per_address,
            "requests": self.requests,
            "requests_per_address": self.requests_per_address,
            "streams": self.streams,
            "send_buffer": ByteCount(self.send_buffer.into()).to_string(),
            "body_time": duration_shown(self.body_time),
            "answer_time": duration_shown(self.answer_time),
        })
    }
}

fn allowance(time: Duration, bytes: u64) -> Option<Duration> {
    const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
    (!time.is_zero()).then(|| time.saturating_add(Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)))
}

#[cfg(test)]
mod tests {
    use slidegate_document::{Node, Path};

    use super::*;

    fn read(value: Value) -> Result<Limits, Vec<String>> {
        let document: Node = serde_json::from_value(json!({"limits": value})).expect("a document");
        let mut reader = Reader::new(&words::VOCABULARY);
        let fields = reader.object(Path::Root, &document, &words::TOP).expect("an object");
        let limits = Limits::read(&mut reader, &fields);
        match reader.finish() {
            Ok(_) => Ok(limits),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(read(json!({})), Ok(Limits::default()));
        let some = read(json!({"connections": 50, "body_time": "5s", "send_buffer": "128KiB"}));
        let body_time = Duration::from_secs(5);
        assert_eq!(some, Ok(Limits { connections: 50, body_time, send_buffer: 128 << 10, ..Limits::default() }));
    }

    #[test]
    fn every_size_of_common_spelling_is_read() {
        for (text, bytes) in
            [("65536", 65536), ("64KiB", 65536), ("64k", 65536), ("64 KB", 65536), ("1MiB", 1 << 20), ("9000b", 9000)]
        {
            assert_eq!(read(json!({"send_buffer": text})).map(|limits| limits.send_buffer), Ok(bytes), "{text}");
        }
        assert_eq!(read(json!({"send_buffer": 16384})).map(|limits| limits.send_buffer), Ok(16384));
    }

    #[test]
    fn each_mistake_names_field_value_and_expectation() {
        for (field, bad) in [
            ("connections", json!(0)),
            ("connections", json!("many")),
            ("connections", json!(1_000_001)),
            ("connections", json!(-1)),
            ("connections", json!(1.5)),
            ("connections_per_address", json!(-1)),
            ("requests", json!(0)),
            ("requests_per_address", json!("1k")),
            ("streams", json!(0)),
            ("streams", json!(10_001)),
            ("send_buffer", json!("4KiB")),
            ("send_buffer", json!("1GiB")),
            ("send_buffer", json!("KiB")),
            ("send_buffer", json!("99999999999999999999KiB")),
            ("send_buffer", json!(-1)),
            ("body_time", json!("soon")),
            ("body_time", json!(5)),
            ("answer_time", json!("5")),
        ] {
            let mistakes = read(json!({field: bad})).expect_err(field);
            assert!(
                mistakes.len() == 1 && mistakes[0].starts_with(&format!("limits.{field}: expected ")),
                "{mistakes:?}"
            );
            assert!(mistakes[0].contains(", got "), "{mistakes:?}");
        }
        let too_small = "limits.send_buffer: expected a size from `8KiB` to `16MiB`, or a number of bytes, got `4KiB`";
        assert_eq!(read(json!({"send_buffer": "4KiB"})), Err(vec![too_small.to_owned()]));
        let too_long = "limits.body_time: expected a duration of at most `365d`, got `400d`";
        assert_eq!(read(json!({"body_time": "400d"})), Err(vec![too_long.to_owned()]));
        assert!(read(json!({"connection": 1})).expect_err("unknown")[0].contains("did you mean `connections`"));
        assert!(read(json!([])).is_err());
    }

    #[test]
    fn bytes_buy_time_for_a_body() {
        let limits =
            Limits { body_time: Duration::from_secs(10), answer_time: Duration::from_secs(20), ..Limits::default() };
        assert_eq!(limits.body_allowance(0), Some(Duration::from_secs(10)));
        assert_eq!(limits.answer_allowance(5 << 10), Some(Duration::from_secs(25)));
        assert_eq!(limits.body_allowance(5 << 10), Some(Duration::from_secs(15)));
        assert_eq!(limits.body_allowance(u64::MAX), Some(Duration::from_secs(10 + (u64::MAX >> 10))));
        let unbounded = Limits { body_time: Duration::ZERO, answer_time: Duration::ZERO, ..limits };
        assert_eq!((unbounded.body_allowance(0), unbounded.answer_allowance(0)), (None, None));
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for bytes in [64 << 10, 1 << 20, 9_000] {
            let limits = Limits { send_buffer: bytes, ..Limits::default() };
            assert_eq!(read(limits.shown()), Ok(limits));
        }
        for zero in [json!(0), json!("0"), json!("0s")] {
            let limits = read(json!({"body_time": zero})).expect("settings");
            assert_eq!((limits.body_allowance(1), &limits.shown()["body_time"]), (None, &json!("0s")));
        }
    }
}
