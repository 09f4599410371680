//! What a call to Redis asks for a stored response, and what it answers.

use alloc::{
    boxed::Box,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_cache::{
    CacheKey, CachedValue, PURGES, PURGES_MAX, PurgeTag, StoredResponse, UnreadableValue, VARIANTS_MAX, VOID_MS_MIN,
    ValueHead, is_void, value_head, voided_before,
};

use super::flight::{CacheAsker, kept_bytes};
use crate::{
    cache::scripts::{CacheScript, CacheScripts},
    redis::{Command, Form, Reply, Value},
    store::{Ask, failure::sayable},
    streams::Waiter,
    telemetry::CacheTally,
    verdict::Response,
};

/// A call beside what it brings and takes, in bytes.
const CALL_BYTES: usize = 1_024;

/// Clocks of gateways differ by so much at most, in milliseconds.
pub(super) const AHEAD_MS: u64 = 2_000;

/// A question to Redis.
pub(crate) enum CacheQuestion {
    /// What is stored, for those who wait for this flight.
    Read { flight: u64, key: CacheKey },
    /// Whether this flight may fetch it.
    Lock { flight: u64, scripts: Rc<CacheScripts>, key: CacheKey, token: Rc<str>, timeout_ms: u64 },
    /// Whether a request may try an upstream that is down: its lock is the leave.
    Try { trial: Box<TrialQuestion>, lock: String, token: Rc<str>, timeout_ms: u64 },
    /// When tagged responses were voided.
    Purges,
    /// Stores a value, and ends the lock on it.
    Store(Box<StoreQuestion>),
    /// Ends a lock, and says instead of a response that there will be none.
    Release { scripts: Rc<CacheScripts>, lock: String, token: Rc<str>, instead: Option<(String, Vec<u8>, u64)> },
    /// Voids what is stored of an address, before a response goes on.
    Void { scripts: Rc<CacheScripts>, marker: String, now_ms: u64, waiter: Option<Waiter> },
}

/// A request that may try an upstream that is down.
pub(crate) struct TrialQuestion {
    pub(super) asker: CacheAsker,
    /// What may be used in place of an error.
    pub(super) stored: Option<Rc<StoredResponse>>,
    /// What it is answered if it may not.
    pub(super) instead: (Response, CacheTally),
}

/// A value to store.
pub(crate) struct StoreQuestion {
    pub(super) scripts: Rc<CacheScripts>,
    pub(super) key: CacheKey,
    pub(super) lock: String,
    pub(super) token: Rc<str>,
    pub(super) value: Vec<u8>,
    pub(super) kept_ms: u64,
    pub(super) requested_ms: u64,
    /// It is one of several: the resource's own key, and what stands there.
    pub(super) variant_of: Option<(CacheKey, Vec<u8>)>,
}

/// What Redis says.
#[derive(Debug)]
pub(crate) enum CacheAnswer {
    /// This is stored, and begins so.
    Found(CachedValue, ValueHead),
    /// Nothing is, or nothing that may be used, which begins so.
    Missing(Option<UnreadableValue>, ValueHead),
    /// The flight may fetch, where what is stored begins so.
    Locked(ValueHead),
    /// Somebody else fetches.
    Taken,
    /// Whether it may be tried.
    MayTry(bool),
    /// By tags, in milliseconds since 1970.
    Purged(Vec<(PurgeTag, u64)>),
    /// It is done.
    Done,
}

// === impl CacheQuestion ===

impl CacheQuestion {
    /// Which flight waits for the answer.
    #[inline]
    pub(super) fn flight(&self) -> Option<u64> {
        match self {
            CacheQuestion::Read { flight, .. } | CacheQuestion::Lock { flight, .. } => Some(*flight),
            CacheQuestion::Try { .. }
            | CacheQuestion::Purges
            | CacheQuestion::Store(_)
            | CacheQuestion::Release { .. }
            | CacheQuestion::Void { .. } => None,
        }
    }

    /// What it takes until it is answered, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        CALL_BYTES
            + match self {
                CacheQuestion::Read { key, .. } => key.material.len(),
                // Once here, once in its command.
                CacheQuestion::Store(store) => 2 * store.value.len(),
                CacheQuestion::Try { trial, .. } => trial.stored.as_deref().map_or(0, kept_bytes),
                _ => 0,
            }
    }

    /// What may be shown of an error that it met.
    pub(crate) fn explain(&self, error: &str) -> String {
        sayable(error)
    }
}

impl Ask for CacheQuestion {
    type Answer = CacheAnswer;

    #[inline]
    fn command(&self, form: Form, command: &mut Command) {
        let CacheQuestion::Read { key, .. } = self else {
            *command = self.written(form);
            return;
        };
        let (value, marker) = (key.value_pieces(), key.marker_pieces());
        let bytes = value.iter().chain(&marker).map(|piece| piece.len()).sum::<usize>();
        command.begin(3, 4 + bytes);
        command.push(b"MGET");
        command.push_pieces(&value);
        command.push_pieces(&marker);
    }

    #[inline]
    fn read(&self, reply: &mut Reply) -> Option<CacheAnswer> {
        if let (CacheQuestion::Read { key, .. }, Reply::Many(values)) = (self, &mut *reply) {
            let [value, marker] = values.as_mut_slice() else { return None };
            return read_value(key, value, marker);
        }
        self.read_other(reply)
    }

    /// Whatever stands there, no cache has written it.
    fn too_large(&self) -> Option<CacheAnswer> {
        let is_read = matches!(self, CacheQuestion::Read { .. });
        is_read.then_some(CacheAnswer::Missing(Some(UnreadableValue::Foreign), ValueHead::default()))
    }

    fn clock_us(_: &CacheAnswer) -> Option<u64> {
        None
    }
}

impl CacheQuestion {
    /// The command of a question that few requests ask.
    #[inline(never)]
    fn written(&self, form: Form) -> Command {
        let text = |number: &u64| number.to_string();
        match self {
            // Whoever calls this has written it.
            CacheQuestion::Read { .. } => Command::default(),
            CacheQuestion::Lock { scripts, key, token, timeout_ms, .. } => {
                let (lock, value, held_ms) = (key.lock(), key.value(), text(timeout_ms));
                let keys = [lock.as_bytes(), value.as_bytes()];
                scripts.command(CacheScript::Lock, form, &keys, &[token.as_bytes(), held_ms.as_bytes()])
            }
            CacheQuestion::Try { lock, token, timeout_ms, .. } => {
                ["SET", lock, token, "NX", "PX", &text(timeout_ms)].into_iter().collect()
            }
            CacheQuestion::Purges => {
                let last = (PURGES_MAX - 1).to_string();
                ["ZREVRANGE", PURGES, "0", &last, "WITHSCORES"].into_iter().collect()
            }
            CacheQuestion::Store(store) => store.command(form),
            CacheQuestion::Release { scripts, lock, token, instead } => {
                let kept_ms = instead.as_ref().map(|(_, _, kept_ms)| text(kept_ms)).unwrap_or_default();
                let (key, value) = match instead {
                    Some((key, value, _)) => (key.as_str(), value.as_slice()),
                    None => (lock.as_str(), &b""[..]),
                };
                let keys = [lock.as_bytes(), key.as_bytes()];
                scripts.command(CacheScript::Release, form, &keys, &[token.as_bytes(), value, kept_ms.as_bytes()])
            }
            CacheQuestion::Void { scripts, marker, now_ms, .. } => scripts.command(
                CacheScript::Void,
                form,
                &[marker.as_bytes()],
                &[text(now_ms).as_bytes(), text(&VOID_MS_MIN).as_bytes()],
            ),
        }
    }

    /// What is said to a question that few requests ask.
    #[inline(never)]
    fn read_other(&self, reply: &Reply) -> Option<CacheAnswer> {
        match (self, reply) {
            (CacheQuestion::Lock { .. }, Reply::Single(Value::Bulk(head))) => {
                Some(CacheAnswer::Locked(value_head(head)))
            }
            (CacheQuestion::Lock { .. }, Reply::Single(Value::Nil)) => Some(CacheAnswer::Taken),
            (CacheQuestion::Try { .. }, Reply::Single(Value::Status(_))) => Some(CacheAnswer::MayTry(true)),
            (CacheQuestion::Try { .. }, Reply::Single(Value::Nil)) => Some(CacheAnswer::MayTry(false)),
            (CacheQuestion::Purges, Reply::Many(values)) => {
                let mut purged = Vec::with_capacity(values.len() / 2);
                for pair in values.as_chunks::<2>().0 {
                    let [Value::Bulk(tag), Value::Bulk(since)] = pair else { return None };
                    let (tag, since_ms) = (tag.as_slice().try_into().ok(), milliseconds(since)?);
                    // What is no tag voids nothing.
                    purged.extend(tag.map(|tag| (tag, since_ms)));
                }
                Some(CacheAnswer::Purged(purged))
            }
            (CacheQuestion::Store(_), Reply::Single(Value::Integer(_)))
            | (CacheQuestion::Release { .. }, Reply::Single(Value::Integer(_)))
            | (CacheQuestion::Void { .. }, Reply::Single(Value::Integer(_))) => Some(CacheAnswer::Done),
            _ => None,
        }
    }
}

/// Shows no key and no value.
impl core::fmt::Debug for CacheQuestion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CacheQuestion of flight {:?}", self.flight())
    }
}

// === impl StoreQuestion ===

impl StoreQuestion {
    fn command(&self, form: Form) -> Command {
        let (value_key, marker) = (self.key.value(), self.key.marker());
        let kept_ms = self.kept_ms.to_string();
        // What is older may have been voided, if nobody knows any more since when.
        let voided_ms = voided_before(self.requested_ms).to_string();
        let mut keys = Vec::from([value_key.as_bytes(), self.lock.as_bytes(), marker.as_bytes()]);
        let mut arguments =
            Vec::from([self.token.as_bytes(), self.value.as_slice(), kept_ms.as_bytes(), voided_ms.as_bytes()]);
        let variants_max = VARIANTS_MAX.to_string();
        let resource_keys = self.variant_of.as_ref().map(|(resource, _)| (resource.index(), resource.value()));
        if let (Some((index, resource)), Some((_, names))) = (&resource_keys, &self.variant_of) {
            keys.extend([index.as_bytes(), resource.as_bytes()]);
            arguments.extend([value_key.as_bytes(), variants_max.as_bytes(), names.as_slice()]);
        }
        self.scripts.command(CacheScript::Store, form, &keys, &arguments)
    }
}

/// Redis is well, and says what it has.
#[inline]
fn read_value(key: &CacheKey, value: &mut Value, marker: &Value) -> Option<CacheAnswer> {
    let bytes = match value {
        Value::Bulk(bytes) => bytes,
        Value::Nil => return Some(CacheAnswer::Missing(None, ValueHead::default())),
        Value::Integer(_) | Value::Status(_) => return None,
    };
    let head = value_head(bytes);
    let response = match CachedValue::take(bytes, &key.material) {
        Ok(CachedValue::Response(response)) => response,
        Ok(other) => return Some(CacheAnswer::Found(other, head)),
        Err(unreadable) => return Some(CacheAnswer::Missing(Some(unreadable), head)),
    };
    // Where there is no marker, nobody knows whether the response is void.
    let voided_ms = match marker {
        Value::Bulk(since) => milliseconds(since),
        _ => None,
    };
    let is_good = voided_ms.is_some_and(|voided_ms| !is_void(response.requested_ms, voided_ms));
    Some(match is_good {
        true => CacheAnswer::Found(CachedValue::Response(response), head),
        false => CacheAnswer::Missing(None, head),
    })
}

/// A whole number as Redis writes it.
#[inline]
fn milliseconds(text: &[u8]) -> Option<u64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use slidegate_cache::{HeaderFields, Lifetime, StoredResponse};

    use super::*;

    fn key() -> CacheKey {
        CacheKey::new(b"a", b"/", [])
    }

    fn read() -> CacheQuestion {
        CacheQuestion::Read { flight: 1, key: key() }
    }

    fn words(question: &CacheQuestion, form: Form) -> Vec<String> {
        let mut command = Command::default();
        question.command(form, &mut command);
        command.words().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    fn stored(requested_ms: u64) -> Vec<u8> {
        let response = StoredResponse {
            status: 200,
            headers: HeaderFields::default(),
            body: Rc::default(),
            requested_ms,
            received_ms: requested_ms,
            initial_age_s: 0,
            lifetime: Lifetime::default(),
            vary: vec![],
            tags: vec![],
        };
        CachedValue::Response(response).written(&key().material).unwrap()
    }

    #[test]
    fn commands_are_these() {
        let (value, marker, lock) = (key().value(), key().marker(), key().lock());
        assert_eq!(words(&read(), Form::Sha), ["MGET", &value, &marker]);
        let purges = words(&CacheQuestion::Purges, Form::Sha);
        assert_eq!(purges, ["ZREVRANGE", "slidegate:c:purges", "0", "9999", "WITHSCORES"]);
        let scripts: Rc<CacheScripts> = Rc::default();
        let (key_of, held) = (key(), Rc::clone(&scripts));
        let locking =
            CacheQuestion::Lock { flight: 1, scripts: held, key: key_of, token: "t".into(), timeout_ms: 2_000 };
        assert_eq!(words(&locking, Form::Sha)[2..], ["2", &lock, &value, "t", "2000"]);
        let store = |variant_of| {
            CacheQuestion::Store(Box::new(StoreQuestion {
                scripts: Rc::clone(&scripts),
                key: key(),
                lock: lock.clone(),
                token: "t".into(),
                value: b"v".to_vec(),
                kept_ms: 5,
                requested_ms: 9_000,
                variant_of,
            }))
        };
        let plain = words(&store(None), Form::Text);
        assert!(plain[1].starts_with("local ms"));
        assert_eq!(plain[2..], ["3", &value, &lock, &marker, "t", "v", "5", "7999"]);
        let variant = words(&store(Some((key(), b"names".to_vec()))), Form::Sha);
        assert_eq!((variant[0].as_str(), variant[1].len()), ("EVALSHA", 40));
        let keys = ["5", &value, &lock, &marker, &key().index(), &value];
        let expected = [&keys[..], &["t", "v", "5", "7999", &value, "16", "names"]].concat();
        assert_eq!(variant[2..], expected);
        let instead = Some((value.clone(), b"p".to_vec(), 30));
        let release = |instead| CacheQuestion::Release {
            scripts: Rc::clone(&scripts),
            lock: lock.clone(),
            token: "t".into(),
            instead,
        };
        assert_eq!(words(&release(instead), Form::Sha)[2..], ["2", &lock, &value, "t", "p", "30"]);
        assert_eq!(words(&release(None), Form::Sha)[2..], ["2", &lock, &lock, "t", "", ""]);
        let void = CacheQuestion::Void { scripts, marker: marker.clone(), now_ms: 7, waiter: None };
        assert_eq!(words(&void, Form::Sha)[2..], ["1", &marker, "7", "600000"]);
    }

    #[test]
    fn what_may_be_void_is_not_there() {
        let answer = |value: Value, marker: Value| read().read(&mut Reply::Many(vec![value, marker]));
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        for (marker, is_good) in [
            (bulk("0"), true),
            (bulk("3999"), true),
            (bulk("4000"), false),
            (bulk("9000"), false),
            (bulk("x"), false),
            (Value::Nil, false),
        ] {
            let found = answer(Value::Bulk(stored(5_000)), marker.clone());
            assert_eq!(matches!(found, Some(CacheAnswer::Found(..))), is_good, "{marker:?}");
        }
        assert!(matches!(answer(Value::Nil, Value::Nil), Some(CacheAnswer::Missing(None, head)) if head == [0; 16]));
        let foreign = answer(bulk("x"), bulk("0"));
        assert!(matches!(foreign, Some(CacheAnswer::Missing(Some(UnreadableValue::Foreign), head)) if head[0] == b'x'));
        let passes = CachedValue::Passes.written(&key().material).unwrap();
        assert!(matches!(answer(Value::Bulk(passes), Value::Nil), Some(CacheAnswer::Found(CachedValue::Passes, _))));
    }

    #[test]
    fn what_has_another_shape_is_no_answer() {
        for mut reply in [
            Reply::Single(Value::Nil),
            Reply::Many(vec![Value::Nil]),
            Reply::Many(vec![Value::Integer(1), Value::Nil]),
            Reply::Error("ERR".into()),
        ] {
            assert!(read().read(&mut reply).is_none(), "{reply:?}");
        }
        let purges = CacheQuestion::Purges;
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let mut pairs = Reply::Many(vec![bulk("a"), bulk("9"), bulk("twelve bytes"), bulk("7")]);
        let answer = purges.read(&mut pairs);
        assert!(matches!(answer, Some(CacheAnswer::Purged(purged)) if purged == [(*b"twelve bytes", 7)]));
        assert!(purges.read(&mut Reply::Many(vec![bulk("a"), bulk("x")])).is_none());
    }
}
