//! Amazon's binary event streams (`application/vnd.amazon.eventstream`): messages of a prelude (total length, length of
//! the headers, checksum of both), headers, a payload and a checksum of all.

use alloc::vec::Vec;

/// The lengths before the headers, with their checksum.
const PRELUDE_BYTES: usize = 12;

/// What a message is longer than its headers and its payload.
const FRAME_BYTES: u32 = 16;

const CHECKSUM_BYTES: u32 = 4;

/// The type of a header's value that is a text.
const TEXT: u8 = 7;

/// Where in a stream of messages the last byte was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EventFrames {
    prelude: [u8; PRELUDE_BYTES],
    /// How much of the prelude has been read.
    prelude_bytes: u8,
    headers_left: u32,
    payload_left: u32,
    checksum_left: u32,
    /// What came is no message, so nobody knows where the next one begins.
    is_lost: bool,
}

/// What is next in a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramePart<'a> {
    Payload(&'a [u8]),
    MessageEnd,
}

// === impl EventFrames ===

impl EventFrames {
    /// Takes bytes until there is something to tell. The checksum of a payload is for those who act on it.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<FramePart<'a>> {
        while let (Some(&byte), false) = (bytes.first(), self.is_lost) {
            if let Some(room) = self.prelude.get_mut(usize::from(self.prelude_bytes)) {
                *room = byte;
                self.prelude_bytes += 1;
                skip(bytes, &mut 1);
                if usize::from(self.prelude_bytes) == PRELUDE_BYTES {
                    self.begin();
                }
            } else if self.headers_left > 0 {
                skip(bytes, &mut self.headers_left);
            } else if self.payload_left > 0 {
                return Some(FramePart::Payload(skip(bytes, &mut self.payload_left)));
            } else {
                skip(bytes, &mut self.checksum_left);
                if self.checksum_left == 0 {
                    self.prelude_bytes = 0;
                    return Some(FramePart::MessageEnd);
                }
            }
        }
        None
    }

    fn begin(&mut self) {
        let number = |at: usize| {
            let bytes = self.prelude.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let (total, headers, checksum) = (number(0), number(4), number(8));
        match total.checked_sub(FRAME_BYTES).and_then(|inside| inside.checked_sub(headers)) {
            Some(payload) if crc32(self.prelude.get(..8).unwrap_or_default()) == checksum => {
                (self.headers_left, self.payload_left, self.checksum_left) = (headers, payload, CHECKSUM_BYTES);
            }
            _ => self.is_lost = true,
        }
    }
}

/// Takes as many bytes as are left of a part, or as there are.
fn skip<'a>(bytes: &mut &'a [u8], left: &mut u32) -> &'a [u8] {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
    *bytes = rest;
    *left = left.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
    taken
}

/// The checksum of IEEE 802.3, without a table: eight bytes a message have one.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}

/// A message with these headers, all of them texts.
pub(super) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        head.extend(name.bytes());
        head.push(TEXT);
        head.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        head.extend(value.bytes());
    }
    let total = head.len() + payload.len() + FRAME_BYTES as usize;
    let lengths = [total, head.len()].map(|length| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    let mut message = lengths.concat();
    message.extend(crc32(&message).to_be_bytes());
    message.extend(head);
    message.extend(payload);
    message.extend(crc32(&message).to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_message_is_as_others_write_it() {
        // As botocore and the AWS SDK for Rust read it.
        let written = message(&[(":a", "b")], b"{}");
        assert_eq!(written.len(), 12 + 7 + 2 + 4);
        assert_eq!(written[12..21], *b"\x02:a\x07\x00\x01b{}");
        let (mut frames, mut bytes) = (EventFrames::default(), written.as_slice());
        assert_eq!(frames.next(&mut bytes), Some(FramePart::Payload(b"{}")));
        assert_eq!((frames.next(&mut bytes), bytes.len()), (Some(FramePart::MessageEnd), 0));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    fn raw_message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let lengths = [headers.len() + payload.len() + 16, headers.len()]
            .map(|length| u32::try_from(length).unwrap().to_be_bytes())
            .concat();
        [lengths.as_slice(), &crc32(&lengths).to_be_bytes(), headers, payload, &[0; 4]].concat()
    }

    /// The payloads of messages that have ended.
    fn payloads(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut frames, mut payloads) = (EventFrames::default(), vec![vec![]]);
        for piece in pieces {
            let mut bytes = *piece;
            while let Some(part) = frames.next(&mut bytes) {
                match part {
                    FramePart::Payload(piece) => payloads.last_mut().unwrap().extend(piece),
                    FramePart::MessageEnd => payloads.push(vec![]),
                }
            }
        }
        payloads.pop();
        payloads
    }

    #[test]
    fn the_checksum_is_the_one_of_the_format() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // A message without headers and payload, from the format's own test vectors.
        assert_eq!(raw_message(b"", b"")[..12], [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb]);
    }

    #[test]
    fn payloads_come_whole_however_they_are_cut() {
        let stream =
            [raw_message(b"", b""), raw_message(b"header", b"one"), raw_message(b"", b"two"), raw_message(b"x", b"")]
                .concat();
        let whole = payloads(&[&stream]);
        assert_eq!(whole, [b"".as_slice(), b"one", b"two", b""]);
        for at in 0..stream.len() {
            assert_eq!(payloads(&[&stream[..at], &stream[at..]]), whole, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_message_ends_all() {
        let good = raw_message(b"", b"one");
        for (at, bit) in [(0, 1), (3, 1), (7, 1), (8, 1), (11, 128)] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert_eq!(payloads(&[&good, &bad, &good]), [b"one"]);
        }
        let too_short = [15_u32, 0].map(u32::to_be_bytes).concat();
        assert_eq!(payloads(&[&too_short, &crc32(&too_short).to_be_bytes(), &good]), [b""; 0]);
    }
}
