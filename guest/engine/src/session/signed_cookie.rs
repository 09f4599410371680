//! Sessions that stand whole in a signed cookie, with the time at which they were signed.

use alloc::vec::Vec;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::{
    cookie::signed,
    miss::SessionMiss,
    record_cursor::RECORD_MAX,
    signature::{CookieSigner, cut_last},
};
use crate::base64::Base64;

/// Which library signs, and how it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignedForm {
    /// `<content>.<time>.<signature>` in Base64 for URLs, a dot before compressed content.
    Flask,
    /// The same, with the content in plain Base64.
    Starlette,
    /// `<content>:<time>:<signature>`, with the time in base 62.
    Django,
}

/// What such a cookie must be.
#[derive(Debug, Clone)]
pub(super) struct SignedCookie {
    pub(super) form: SignedForm,
    pub(super) signer: CookieSigner,
    /// How long it is good, in seconds.
    pub(super) max_age_s: u64,
}

impl SignedCookie {
    /// The content of a cookie's value and until when it is good, if it is signed and good at `now_ms`. Both are since
    /// 1970.
    ///
    /// A time to come is taken, because nobody else can have signed it: the application's clock is ahead.
    pub(super) fn content(&self, value: &[u8], now_ms: i64) -> Result<(Vec<u8>, i64), SessionMiss> {
        let separator = if self.form == SignedForm::Django { b':' } else { b'.' };
        let message = signed(value, separator, &self.signer)?;
        let (content, time) = cut_last(message, separator).ok_or(SessionMiss::Malformed)?;
        let signed_s = self.time(time).ok_or(SessionMiss::Malformed)?;
        let max_age_s = i64::try_from(self.max_age_s).unwrap_or(i64::MAX);
        // Whole seconds are compared, and the last one is good.
        let ends_ms = signed_s.saturating_add(max_age_s).saturating_add(1).saturating_mul(1_000);
        if ends_ms <= now_ms {
            return Err(SessionMiss::Expired);
        }
        let (base64, compressed) = match self.form {
            SignedForm::Starlette => (Base64::Plain, None),
            SignedForm::Flask | SignedForm::Django => (Base64::Url, content.strip_prefix(b".")),
        };
        let decoded = base64.decode(compressed.unwrap_or(content)).ok_or(SessionMiss::Malformed)?;
        let content = if compressed.is_some() { inflated(&decoded)? } else { decoded };
        Ok((content, ends_ms))
    }

    /// Seconds since 1970.
    fn time(&self, written: &[u8]) -> Option<i64> {
        let (digits, base) = match self.form {
            SignedForm::Django => {
                let digits: Option<Vec<u8>> = written.iter().map(|digit| base_62(*digit)).collect();
                (digits?, 62)
            }
            _ => (Base64::Url.decode(written)?, 256),
        };
        digits.iter().try_fold(0_i64, |number, digit| number.checked_mul(base)?.checked_add(i64::from(*digit)))
    }
}

/// What was compressed (RFC 1950). A cookie's few bytes may stand for a thousand times as many.
fn inflated(compressed: &[u8]) -> Result<Vec<u8>, SessionMiss> {
    decompress_to_vec_zlib_with_limit(compressed, RECORD_MAX).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => SessionMiss::TooLong,
        _ => SessionMiss::Malformed,
    })
}

fn base_62(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}
