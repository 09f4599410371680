//! What large answers of the filter, such as kept pages, hold while their clients take them: each body once, however
//! many get it at a time, and all of them together no more than a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::iter;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// A body up to this size is not counted, and no piece is larger, in bytes: a client that takes nothing may hold as
/// much of an upstream's, too.
const UNCOUNTED_MAX: usize = 64 << 10;

/// Most that the larger ones hold together, in bytes.
const HELD_MAX: usize = 256 << 20;

/// What of a body's beginning and of its end tells it from others, in bytes; where that is not enough, it is looked at
/// whole.
const PART: usize = 1 << 10;

static LARGE_ANSWERS: LazyLock<LargeAnswers> = LazyLock::new(|| LargeAnswers::new(HELD_MAX));

/// Large bodies on their way to clients.
struct LargeAnswers {
    most: usize,
    /// By random keys, so that nobody can make bodies whose digests are the same.
    digests: RandomState,
    held: Mutex<HeldBodies>,
}

#[derive(Default)]
struct HeldBodies {
    bytes: usize,
    /// By digest. Of several that have the same one, the last.
    by_digest: HashMap<u64, Weak<HeldBody>>,
}

/// A body that counts until its last part is dropped.
struct HeldBody {
    bytes: Bytes,
    digest: u64,
    answers: &'static LargeAnswers,
}

struct Shared(Arc<HeldBody>);

/// The body of an answer as it is sent, in pieces: whoever takes it is waited for as with an upstream's, and has a
/// request until the last one is given. None if those that are on their way are as large together as they may be.
pub(crate) fn hold(body: Bytes) -> Option<impl Iterator<Item = Bytes>> {
    let mut left = LARGE_ANSWERS.hold(body)?;
    Some(iter::from_fn(move || (!left.is_empty()).then(|| left.split_to(left.len().min(UNCOUNTED_MAX)))))
}

/// How many bytes of large answers are on their way now.
pub(crate) fn held_bytes() -> usize {
    LARGE_ANSWERS.held().bytes
}

impl LargeAnswers {
    fn new(most: usize) -> Self {
        Self { most, digests: RandomState::new(), held: Mutex::default() }
    }

    fn hold(&'static self, body: Bytes) -> Option<Bytes> {
        if body.len() <= UNCOUNTED_MAX {
            return Some(body);
        }
        let digest = self.digest(&body);
        // Compared, and dropped, without the lock, which the last to drop a body takes.
        let same = self.held().by_digest.get(&digest).and_then(Weak::upgrade).filter(|held| held.bytes == body);
        let held = match same {
            Some(same) => same,
            None => self.add(body, digest)?,
        };
        Some(Bytes::from_owner(Shared(held)))
    }

    fn add(&'static self, bytes: Bytes, digest: u64) -> Option<Arc<HeldBody>> {
        let mut held = self.held();
        held.bytes = Some(held.bytes + bytes.len()).filter(|bytes| *bytes <= self.most)?;
        let body = Arc::new(HeldBody { bytes, digest, answers: self });
        held.by_digest.insert(digest, Arc::downgrade(&body));
        Some(body)
    }

    fn digest(&self, body: &[u8]) -> u64 {
        self.digests.hash_one((body.len(), body.first_chunk::<PART>(), body.last_chunk::<PART>()))
    }

    fn held(&self) -> MutexGuard<'_, HeldBodies> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        let mut held = self.answers.held();
        held.bytes -= self.bytes.len();
        // Another one may have its digest by now.
        if held.by_digest.get(&self.digest).is_some_and(|body| body.strong_count() == 0) {
            held.by_digest.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = UNCOUNTED_MAX + 1;

    fn answers(bodies: usize) -> &'static LargeAnswers {
        Box::leak(Box::new(LargeAnswers::new(bodies * LENGTH)))
    }

    /// A body that differs from others in its middle alone.
    fn body(middle: u8) -> Bytes {
        let mut body = vec![b'x'; LENGTH];
        body[LENGTH / 2] = middle;
        body.into()
    }

    fn held(answers: &LargeAnswers) -> (usize, usize) {
        let held = answers.held();
        (held.bytes / LENGTH, held.by_digest.len())
    }

    #[test]
    fn a_body_is_held_once_however_many_take_it() {
        let answers = answers(1);
        let mut taken: Vec<Bytes> = (0..100).map(|_| answers.hold(body(1)).expect("room")).collect();
        assert!(taken.iter().all(|each| *each == body(1)) && held(answers) == (1, 1));
        let part = taken.remove(7).split_off(LENGTH - 1);
        drop(taken);
        assert_eq!((held(answers), &part[..]), ((1, 1), &b"x"[..]));
        drop(part);
        assert_eq!(held(answers), (0, 0));
    }

    #[test]
    fn what_is_held_together_is_bounded_and_given_back() {
        let answers = answers(2);
        let (one, two) = (answers.hold(body(1)), answers.hold(body(2)));
        assert_eq!((&one, &two), (&Some(body(1)), &Some(body(2))));
        assert_eq!(answers.hold(body(3)), None);
        assert!(answers.hold(vec![b'x'; UNCOUNTED_MAX].into()).is_some(), "one that does not count");
        // The first has the digest of the second, which is the one that is known.
        drop(one);
        assert_eq!(held(answers), (1, 1));
        assert_eq!(answers.hold(body(2)).map(|_| held(answers)), Some((1, 1)));
        let three = answers.hold(body(3));
        drop(two);
        assert_eq!((three, held(answers)), (Some(body(3)), (1, 1)));
    }
}
