//! A place in a record that is read from its beginning to its end, and never behind it.

use super::miss::SessionMiss;

/// The longest record that is read, in bytes.
pub const RECORD_MAX: usize = 256 << 10;

/// What of a record has not been read.
#[derive(Debug)]
pub(super) struct RecordCursor<'r> {
    rest: &'r [u8],
}

impl<'r> RecordCursor<'r> {
    /// At the beginning.
    pub(super) fn new(record: &'r [u8]) -> RecordCursor<'r> {
        RecordCursor { rest: record }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'r [u8] {
        self.rest
    }

    /// The next byte, which stays. None: it is the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, SessionMiss> {
        let (first, rest) = self.rest.split_first().ok_or(SessionMiss::Undecodable)?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next so many bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'r [u8], SessionMiss> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(SessionMiss::Undecodable)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes as a number, the highest first.
    pub(super) fn number<const N: usize>(&mut self) -> Result<[u8; N], SessionMiss> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(SessionMiss::Undecodable)?;
        self.rest = rest;
        Ok(*number)
    }

    /// These bytes, which must be next.
    pub(super) fn expect(&mut self, bytes: &[u8]) -> Result<(), SessionMiss> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(SessionMiss::Undecodable)?;
        Ok(())
    }

    /// What stands before this byte, which is read too.
    pub(super) fn until(&mut self, end: u8) -> Result<&'r [u8], SessionMiss> {
        let length = self.rest.iter().position(|byte| *byte == end).ok_or(SessionMiss::Undecodable)?;
        let taken = self.take(length)?;
        self.byte()?;
        Ok(taken)
    }

    /// The next bytes of this kind, as many as there are.
    pub(super) fn run(&mut self, is_kind: impl Fn(u8) -> bool) -> &'r [u8] {
        let length = self.rest.iter().position(|byte| !is_kind(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// A number in decimal digits, as JSON and PHP write it, in the spelling of who wrote it.
    pub(super) fn decimal(&mut self) -> Result<&'r [u8], SessionMiss> {
        let before = self.rest;
        self.skip_sign(|sign| sign == b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with(b"0") {
            return Err(SessionMiss::Undecodable);
        }
        if self.peek() == Some(b'.') {
            self.byte()?;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.byte()?;
            self.skip_sign(|sign| matches!(sign, b'+' | b'-'));
            self.digits()?;
        }
        before.get(..before.len().saturating_sub(self.rest.len())).ok_or(SessionMiss::Undecodable)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), SessionMiss> {
        if self.rest.is_empty() { Ok(()) } else { Err(SessionMiss::Undecodable) }
    }

    fn digits(&mut self) -> Result<&'r [u8], SessionMiss> {
        let digits = self.run(|byte| byte.is_ascii_digit());
        if digits.is_empty() { Err(SessionMiss::Undecodable) } else { Ok(digits) }
    }

    fn skip_sign(&mut self, is_sign: impl Fn(u8) -> bool) {
        if self.peek().is_some_and(is_sign) {
            let _ = self.byte();
        }
    }
}
