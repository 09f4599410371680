//! How many tokens a request will take, before anybody knows: by the length of its body, and what answers took of late.

use alloc::{collections::BTreeMap, vec::Vec};
use core::mem;

use super::text_scale::TextScale;
use crate::{
    body::BodyPiece,
    name::hash,
    plan::Plan,
    request::RequestView,
    rule::{Accounting, Admission, Policy, Reserve, TokenCharge},
    tokens::{BYTES_PER_TOKEN, Usage},
};

/// What an answer takes of which key nothing is known, and the least that any is expected to: whoever asks for short
/// answers first could otherwise have many long ones at once.
const FIRST: u64 = 256;

/// A length that a request only claims to have is worth no more to an estimate than that of so many tokens.
const CLAIMED_MAX: u64 = 64 << 10;

/// Of so many keys it is known what their answers took: those not used for longest go first. Each is 24 bytes.
const KEYS_MAX: usize = 16_384;

/// An answer's share of the mean, once there were so many.
const SHARE: u8 = 8;

/// What answers of keys took, beyond what their requests' bodies let expect.
///
/// In two generations, as the negative cache is. Keys are known by a digest: two that share one share their mean, which
/// is a guess anyway.
#[derive(Debug, Default)]
pub(super) struct OutputMeans {
    newer: BTreeMap<u64, OutputMean>,
    older: BTreeMap<u64, OutputMean>,
}

#[derive(Debug, Clone, Copy)]
struct OutputMean {
    tokens: u64,
    /// How many answers it is of, the first guess among them, up to [`SHARE`].
    answers: u8,
    scale: TextScale,
}

impl OutputMeans {
    /// What the next answer will take.
    pub(super) fn of(&self, key: &[u8]) -> u64 {
        self.find(hash(key)).map_or(FIRST, |mean| mean.tokens.max(FIRST))
    }

    /// What its text is to be taken for.
    pub(super) fn scale_of(&self, key: &[u8]) -> TextScale {
        self.find(hash(key)).map_or_else(TextScale::default, |mean| mean.scale)
    }

    fn find(&self, key: u64) -> Option<&OutputMean> {
        self.newer.get(&key).or_else(|| self.older.get(&key))
    }

    /// An answer took so many. `text`: how many tokens its text looked like, and was told to be, if both is known.
    pub(super) fn learn(&mut self, key: &[u8], tokens: u64, text: Option<(u64, u64)>) {
        let key = hash(key);
        let first = OutputMean { tokens: FIRST, answers: 1, scale: TextScale::default() };
        let OutputMean { tokens: mean, answers, mut scale } = self.find(key).copied().unwrap_or(first);
        if let Some((seen, told)) = text {
            scale.learn(seen, told);
        }
        let answers = (answers + 1).min(SHARE);
        let sum = u128::from(mean) * u128::from(answers - 1) + u128::from(tokens);
        // Rounded up, so that a mean never stays below what all answers take.
        let tokens = u64::try_from(sum.div_ceil(u128::from(answers))).unwrap_or(u64::MAX);
        if self.newer.len() >= KEYS_MAX / 2 {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(key, OutputMean { tokens, answers, scale });
    }
}

/// What a request tells of the tokens that it will take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestTokens {
    /// How many its body is, or is expected to be.
    pub(super) input: u64,
    pub(super) seen: RequestSeen,
    /// It has a body, of which it does not say how long it is.
    pub(super) is_unsaid: bool,
    /// How many its answer may have, if the body was read and says so.
    pub(super) output_max: Option<u64>,
}

/// What has come of a request's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestSeen {
    bytes: u64,
    /// More may come: whatever it says of its length, what passes is counted.
    pub(super) is_counted: bool,
}

impl RequestTokens {
    /// Of a request whose body is not read.
    pub(super) fn of(request: &impl RequestView) -> RequestTokens {
        let length = request.header("content-length").unwrap_or_default();
        let length = str::from_utf8(&length).ok().and_then(|digits| digits.trim().parse::<u64>().ok());
        let is_counted = length != Some(0) && request.has_body();
        let is_unsaid = is_counted && length.is_none();
        let input = length.map_or(if is_unsaid { CLAIMED_MAX } else { 0 }, |length| length.div_ceil(BYTES_PER_TOKEN));
        RequestTokens {
            input: input.min(CLAIMED_MAX),
            seen: RequestSeen { bytes: 0, is_counted },
            is_unsaid,
            output_max: None,
        }
    }

    /// Of one of whose body so many bytes were read, which may not be all.
    pub(super) fn of_body(bytes: u64, is_counted: bool, output_max: Option<u64>) -> RequestTokens {
        let seen = RequestSeen { bytes, is_counted };
        RequestTokens { input: seen.tokens(), seen, is_unsaid: false, output_max }
    }

    /// The most that it takes, if its body says so.
    fn most(self, charge: TokenCharge) -> Option<u64> {
        let output = self.output_max?;
        let stock = self.input.saturating_add(output);
        Some(charge.of(&Usage { input: self.input, output, stock, ..Usage::default() }))
    }
}

impl RequestSeen {
    /// How many tokens it has.
    pub(super) fn tokens(self) -> u64 {
        self.bytes.div_ceil(BYTES_PER_TOKEN)
    }

    /// Whether anything came.
    pub(super) fn has_come(self) -> bool {
        self.bytes > 0
    }

    /// So many bytes have come by now.
    pub(super) fn count_up_to(&mut self, bytes: u64) {
        if self.is_counted {
            self.bytes = bytes;
        }
    }

    /// The next piece has.
    pub(super) fn count(&mut self, piece: BodyPiece<'_>) {
        self.count_up_to(self.bytes.saturating_add(piece.bytes.len() as u64));
        self.is_counted &= !piece.end;
    }
}

impl Plan {
    /// Has each limit on tokens charged what the request is expected to take.
    pub(super) fn reserve(&mut self, policy: &Policy, request: RequestTokens, means: &OutputMeans) {
        for tokens in &mut self.tokens {
            let Some(charge) = self.charges.get_mut(tokens.at) else { continue };
            let owner = self.owners.get(tokens.at).copied().unwrap_or_default();
            let terms = policy.token_terms_of(owner);
            let guess = || {
                let key = self.keys.get(tokens.at).map_or(&[][..], Vec::as_slice);
                rounded(of_body(terms.charge, request.input).saturating_add(means.of(key)))
            };
            let estimate = match (terms.accounting, terms.reserve) {
                (Accounting::After, _) => 1,
                (Accounting::Reserve, Reserve::Tokens(tokens)) => tokens,
                (Accounting::Reserve, Reserve::Auto) => guess(),
                (Accounting::Reserve, Reserve::OutputMax) => request.most(terms.charge).unwrap_or_else(guess),
            };
            tokens.needs_room_only = terms.admission == Admission::Room;
            tokens.reserve(charge, charge.limit, estimate);
        }
    }
}

/// What a request's body is charged that has so many tokens.
pub(super) fn of_body(charge: TokenCharge, input: u64) -> u64 {
    charge.of(&Usage { input, stock: input, ..Usage::default() })
}

/// Up to the next number of four binary digits and zeros: requests that differ by little ask the same, and may go
/// together as one call.
fn rounded(tokens: u64) -> u64 {
    let digits = 64 - tokens.leading_zeros();
    let step = 1_u64 << digits.saturating_sub(4).min(59);
    tokens.checked_next_multiple_of(step).unwrap_or(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_rounded_up_a_little() {
        for (tokens, expected) in [(0, 0), (1, 1), (15, 15), (16, 16), (17, 18), (257, 288), (1_000, 1_024)] {
            assert_eq!(rounded(tokens), expected);
        }
        assert_eq!(rounded(u64::MAX), u64::MAX);
        for tokens in 1..100_000 {
            assert!(rounded(tokens) >= tokens && rounded(tokens) * 8 <= tokens * 9, "{tokens}");
        }
    }

    #[test]
    fn a_mean_begins_with_a_guess_and_follows_what_comes() {
        let mut means = OutputMeans::default();
        assert_eq!(means.of(b"a"), FIRST);
        means.learn(b"a", 1_000, None);
        assert_eq!((means.of(b"a"), means.of(b"b")), (628, FIRST));
        (0..100).for_each(|_| means.learn(b"a", 1_000, None));
        assert_eq!(means.of(b"a"), 1_000);
        (0..100).for_each(|_| means.learn(b"a", 0, None));
        assert_eq!(means.of(b"a"), FIRST, "never less");
        means.learn(b"a", u64::MAX, None);
        assert!(means.of(b"a") >= u64::MAX / 8);
    }

    #[test]
    fn so_many_keys_are_known() {
        let mut means = OutputMeans::default();
        for key in 0..3 * KEYS_MAX as u64 {
            means.learn(&key.to_be_bytes(), 900, None);
            means.learn(b"used", 900, Some((100, 200)));
            assert!(means.newer.len() + means.older.len() <= KEYS_MAX);
        }
        assert_eq!((means.of(b"used"), means.scale_of(b"used").of(100)), (900, 200));
        assert_eq!(means.of(&0_u64.to_be_bytes()), FIRST, "long forgotten");
        assert_eq!(size_of::<(u64, OutputMean)>(), 24);
    }
}
