//! The binary value in Redis: how a response is written, and read again by who trusts nothing of it.
//!
//! All numbers are big-endian, every part has its length before it:
//!
//! ```text
//! "SGC" version | length of all (4) | checksum of what follows (8) | kind | key material (4+)
//! kind 0, a response: status (2) | sent, received, in ms (8, 8)
//!     | age then, fresh, stale while revalidated, stale if error, in s (4, 4, 4, 4) | flags
//!     | count of names by which it varies (1), each: name (2+), is there (1), value (2+)
//!     | count of tags (1), each (2+) | count of fields (2), each: name (2+), value (4+) | body (4+)
//! kind 1, of a resource whose responses vary: count of names (1), each (2+)
//! kind 2, of a resource whose responses are not stored: nothing more
//! ```

use alloc::{rc::Rc, string::String, vec::Vec};

use crate::{
    fields::{HeaderFields, SECONDS_MAX, is_field_value, is_lower_name, may_be_kept},
    freshness::Lifetime,
    stored::StoredResponse,
    vary::VARY_NAMES_MAX,
};

/// No value is longer, in bytes.
const VALUE_BYTES_MAX: usize = 1_000_000;

/// A response has so many fields at most.
const FIELDS_MAX: usize = 256;
/// Who answers with a response adds so many.
const FIELDS_ADDED: usize = 3;
/// A response has so many tags at most that void it together with others.
pub const TAGS_MAX: usize = 128;

const MAGIC: &[u8] = b"SGC";
const VERSION: u8 = 1;
/// Magic, version, length and checksum.
const HEAD_BYTES: usize = 16;

const RESPONSE: u8 = 0;
const VARIES: u8 = 1;
const PASSES: u8 = 2;

const ALWAYS_VALIDATE: u8 = 1;
const NEVER_STALE: u8 = 2;
const HAS_VALIDATOR: u8 = 4;

/// What is kept for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachedValue {
    /// A response.
    Response(StoredResponse),
    /// The names of the fields by which responses vary: each is kept for itself.
    Varies(Vec<String>),
    /// Responses are not stored: nobody need wait for another.
    Passes,
}

/// What a value begins with: two that differ anywhere differ here.
pub type ValueHead = [u8; HEAD_BYTES];

/// Of a value, or of nothing.
#[inline]
pub fn value_head(value: &[u8]) -> ValueHead {
    value.first_chunk().copied().unwrap_or_else(|| {
        let mut head = [0; HEAD_BYTES];
        head.iter_mut().zip(value).for_each(|(to, byte)| *to = *byte);
        head
    })
}

/// Why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableValue {
    /// It is nothing of this kind.
    Foreign,
    /// It is no string of Redis.
    OtherType,
    /// It has another version.
    Version,
    /// It is shorter or longer than it says.
    Truncated,
    /// It is not as it was written.
    Altered,
    /// It says what nobody may have written.
    Invalid,
    /// It is for another key.
    OtherKey,
}

// === impl CachedValue ===

impl CachedValue {
    /// Writes it. None: it is longer than may be.
    pub fn written(&self, material: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 512 + self.roughly(material));
        bytes.extend_from_slice(&[0; HEAD_BYTES]);
        match self {
            CachedValue::Response(response) => {
                bytes.push(RESPONSE);
                long(&mut bytes, material)?;
                write_response(&mut bytes, response)?;
            }
            CachedValue::Varies(names) => {
                bytes.push(VARIES);
                long(&mut bytes, material)?;
                bytes.push(u8::try_from(names.len()).ok().filter(|count| usize::from(*count) <= VARY_NAMES_MAX)?);
                names.iter().try_for_each(|name| short(&mut bytes, name.as_bytes()))?;
            }
            CachedValue::Passes => {
                bytes.push(PASSES);
                long(&mut bytes, material)?;
            }
        }
        if bytes.len() > VALUE_BYTES_MAX {
            return None;
        }
        let length = u32::try_from(bytes.len()).ok()?;
        let (head, rest) = bytes.split_at_mut_checked(HEAD_BYTES)?;
        let words = [MAGIC, &[VERSION], &length.to_be_bytes(), &checksum(length, rest).to_be_bytes()].concat();
        head.copy_from_slice(&words);
        Some(bytes)
    }

    /// Reads one that was written for a key of this material. Of a response's it takes the bytes, for its body: they
    /// are not copied.
    ///
    /// # Errors
    /// Why it cannot be.
    #[inline]
    pub fn take(value: &mut Vec<u8>, material: &[u8]) -> Result<CachedValue, UnreadableValue> {
        Self::read_if(value, |of| of == material)
    }

    /// Reads one, whatever key it was written for: for who looks at it, and answers nobody with it.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn read_any(value: &[u8]) -> Result<CachedValue, UnreadableValue> {
        Self::read_if(&mut value.to_vec(), |_| true)
    }

    #[inline]
    fn read_if(value: &mut Vec<u8>, is_for: impl FnOnce(&[u8]) -> bool) -> Result<CachedValue, UnreadableValue> {
        let mut cursor = Cursor(value);
        if cursor.take(MAGIC.len()) != Some(MAGIC) {
            return Err(UnreadableValue::Foreign);
        }
        if cursor.byte() != Some(VERSION) {
            return Err(UnreadableValue::Version);
        }
        let length = cursor.long_number().ok_or(UnreadableValue::Truncated)?;
        if value.len() > VALUE_BYTES_MAX || length as usize != value.len() {
            return Err(UnreadableValue::Truncated);
        }
        let sum = cursor.longest_number().ok_or(UnreadableValue::Truncated)?;
        if sum != checksum(length, cursor.0) {
            return Err(UnreadableValue::Altered);
        }
        let kind = cursor.byte().ok_or(UnreadableValue::Invalid)?;
        if !is_for(cursor.long().ok_or(UnreadableValue::Invalid)?) {
            return Err(UnreadableValue::OtherKey);
        }
        if kind == RESPONSE {
            let (mut response, length) = read_response(&mut cursor).ok_or(UnreadableValue::Invalid)?;
            // It is the last of it.
            value.drain(..value.len() - length);
            response.body = Rc::new(core::mem::take(value));
            return Ok(CachedValue::Response(response));
        }
        let read = match kind {
            VARIES => read_names(&mut cursor).map(CachedValue::Varies),
            PASSES => Some(CachedValue::Passes),
            _ => None,
        };
        read.filter(|_| cursor.0.is_empty()).ok_or(UnreadableValue::Invalid)
    }

    fn roughly(&self, material: &[u8]) -> usize {
        let response = match self {
            CachedValue::Response(response) => {
                response.body.len() + response.headers.size() + response.headers.0.len() * 6
            }
            CachedValue::Varies(_) | CachedValue::Passes => 0,
        };
        material.len() + response
    }
}

fn write_response(bytes: &mut Vec<u8>, response: &StoredResponse) -> Option<()> {
    let StoredResponse { status, requested_ms, received_ms, initial_age_s, lifetime, .. } = response;
    bytes.extend_from_slice(&status.to_be_bytes());
    bytes.extend_from_slice(&requested_ms.to_be_bytes());
    bytes.extend_from_slice(&received_ms.to_be_bytes());
    let Lifetime { fresh_s, stale_while_revalidate_s, stale_if_error_s, .. } = lifetime;
    for seconds in [initial_age_s, fresh_s, stale_while_revalidate_s, stale_if_error_s] {
        bytes.extend_from_slice(&((*seconds).min(SECONDS_MAX) as u32).to_be_bytes());
    }
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    bytes.push(
        flag(lifetime.always_validate, ALWAYS_VALIDATE)
            | flag(lifetime.never_stale, NEVER_STALE)
            | flag(lifetime.has_validator, HAS_VALIDATOR),
    );
    bytes.push(u8::try_from(response.vary.len()).ok()?);
    for (name, value) in &response.vary {
        short(bytes, name.as_bytes())?;
        bytes.push(u8::from(value.is_some()));
        short(bytes, value.as_deref().unwrap_or_default())?;
    }
    bytes.push(u8::try_from(response.tags.len()).ok().filter(|count| usize::from(*count) <= TAGS_MAX)?);
    response.tags.iter().try_for_each(|tag| short(bytes, tag))?;
    let count = u16::try_from(response.headers.0.len()).ok().filter(|count| usize::from(*count) <= FIELDS_MAX)?;
    bytes.extend_from_slice(&count.to_be_bytes());
    for (name, value) in &response.headers.0 {
        short(bytes, name.as_bytes())?;
        long(bytes, value)?;
    }
    long(bytes, &response.body)
}

/// All but the body, and how long that is, with which the value ends.
#[inline]
fn read_response(cursor: &mut Cursor<'_>) -> Option<(StoredResponse, usize)> {
    let status = cursor.short_number().filter(|status| (200..1_000).contains(status))?;
    let (requested_ms, received_ms) = (cursor.longest_number()?, cursor.longest_number()?);
    let mut seconds = || cursor.long_number().map(u64::from).filter(|seconds| *seconds <= SECONDS_MAX);
    let (initial_age_s, fresh_s, stale_while_revalidate_s, stale_if_error_s) =
        (seconds()?, seconds()?, seconds()?, seconds()?);
    let flags = cursor.byte().filter(|flags| *flags <= 7)?;
    let has = |flag: u8| flags & flag != 0;
    let lifetime = Lifetime {
        fresh_s,
        stale_while_revalidate_s,
        stale_if_error_s,
        always_validate: has(ALWAYS_VALIDATE),
        never_stale: has(NEVER_STALE),
        has_validator: has(HAS_VALIDATOR),
    };
    let vary_count = usize::from(cursor.byte()?);
    let (mut vary, mut tags) = (Vec::new(), Vec::new());
    if vary_count > VARY_NAMES_MAX {
        return None;
    }
    for _ in 0..vary_count {
        let name = cursor.name()?;
        let is_there = cursor.byte().filter(|flag| *flag <= 1)? == 1;
        let value = cursor.short()?;
        if !is_there && !value.is_empty() {
            return None;
        }
        vary.push((name, is_there.then(|| value.to_vec())));
    }
    let tag_count = usize::from(cursor.byte()?);
    if tag_count > TAGS_MAX {
        return None;
    }
    for _ in 0..tag_count {
        tags.push(cursor.short()?.to_vec());
    }
    let field_count = usize::from(cursor.short_number()?);
    if field_count > FIELDS_MAX {
        return None;
    }
    let mut fields = Vec::with_capacity(field_count + FIELDS_ADDED);
    for _ in 0..field_count {
        // Whoever wrote others was not this cache.
        let name = cursor.name().filter(|name| may_be_kept(name))?;
        let value = cursor.long().filter(|value| is_field_value(value))?;
        fields.push((name, value.to_vec()));
    }
    let (headers, body) = (HeaderFields(fields), Rc::default());
    let length = cursor.long_number()? as usize;
    let response =
        StoredResponse { status, headers, body, requested_ms, received_ms, initial_age_s, lifetime, vary, tags };
    (cursor.0.len() == length).then_some((response, length))
}

fn read_names(cursor: &mut Cursor<'_>) -> Option<Vec<String>> {
    let count = cursor.byte().filter(|count| usize::from(*count) <= VARY_NAMES_MAX)?;
    (0..count).map(|_| cursor.name()).collect()
}

/// A part whose length has two bytes.
fn short(bytes: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(part);
    Some(())
}

/// A part whose length has four bytes.
fn long(bytes: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    bytes.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(part);
    Some(())
}

/// Tells what was damaged on its way or at rest, and nothing of who did it: each step is one-to-one in the word and in
/// the sum, so that no change within one word can be missed.
#[inline]
pub(crate) fn checksum(length: u32, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |sum: u64, word: u64| {
        let mixed = (sum ^ word).wrapping_mul(FACTOR);
        mixed ^ mixed >> 32
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(u64::from(length), |sum, word| step(sum, u64::from_le_bytes(*word)));
    step(sum, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn chunk<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.chunk().map(|[byte]| byte)
    }

    #[inline]
    fn short_number(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    #[inline]
    fn long_number(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    #[inline]
    fn longest_number(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    #[inline]
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.short_number()?;
        self.take(usize::from(length))
    }

    #[inline]
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.long_number()?;
        self.take(length as usize)
    }

    /// The name of a field, in lower case.
    #[inline]
    fn name(&mut self) -> Option<String> {
        let name = self.short().filter(|name| is_lower_name(name))?;
        str::from_utf8(name).ok().map(String::from)
    }
}

// === impl UnreadableValue ===

impl UnreadableValue {
    /// All there are.
    pub const ALL: [UnreadableValue; 7] = [
        UnreadableValue::Foreign,
        UnreadableValue::OtherType,
        UnreadableValue::Version,
        UnreadableValue::Truncated,
        UnreadableValue::Altered,
        UnreadableValue::Invalid,
        UnreadableValue::OtherKey,
    ];

    /// As logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            UnreadableValue::Foreign => "foreign",
            UnreadableValue::OtherType => "other_type",
            UnreadableValue::Version => "version",
            UnreadableValue::Truncated => "truncated",
            UnreadableValue::Altered => "altered",
            UnreadableValue::Invalid => "invalid",
            UnreadableValue::OtherKey => "other_key",
        }
    }
}

#[cfg(test)]
mod tests;
