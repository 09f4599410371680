//! Which of several values of one name a rule goes by.

use alloc::{borrow::Cow, vec::Vec};

/// More different values of one name than this are refused: each would be a window.
const VALUES_MAX: usize = 16;

/// `take`: which of several fields, parameters or cookies of one name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The first that is not empty (stock: the first).
    First,
    /// The last that is not empty.
    Last,
    /// Each different one, and all must be admitted.
    All,
    /// None: such a request is refused.
    Refuse,
}

/// A value as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestValue<'a> {
    /// What is counted: one text, however the client spelt it.
    pub(crate) text: Cow<'a, [u8]>,
    /// The spelling of the client, where that is another one: keys and patterns may be written like it.
    pub(crate) written: Option<Cow<'a, [u8]>>,
}

/// The values that a rule goes by, no two alike.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub(crate) values: Vec<RequestValue<'a>>,
    /// There are more than the rule puts up with.
    pub(crate) is_refused: bool,
}

/// Takes values in their order and keeps those that a rule goes by. One that is empty gives way to another.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    take: Take,
    seen: usize,
    choice: Choice<'a>,
}

// === impl RequestValue ===

impl<'a> From<Cow<'a, [u8]>> for RequestValue<'a> {
    #[inline]
    fn from(text: Cow<'a, [u8]>) -> Self {
        RequestValue { text, written: None }
    }
}

// === impl Choice ===

impl<'a> From<RequestValue<'a>> for Choice<'a> {
    #[inline]
    fn from(value: RequestValue<'a>) -> Self {
        Choice { values: Vec::from([value]), is_refused: false }
    }
}

impl<'a> Choice<'a> {
    /// Goes by the values of another reading of the same request too, in which the bytes of `ends` may end a value:
    /// which reading is the server's is not known.
    pub(crate) fn join(&mut self, other: Choice<'a>, ends: &[u8]) {
        self.is_refused |= other.is_refused;
        for value in other.values {
            let goes_on = |long: &[u8], short: &[u8]| {
                let end = long.strip_prefix(short).and_then(<[u8]>::first);
                !short.is_empty() && end.is_some_and(|byte| ends.contains(byte))
            };
            // What all have in common: the longer one is no value to servers that end it there.
            match self
                .values
                .iter_mut()
                .find(|kept| goes_on(&kept.text, &value.text) || goes_on(&value.text, &kept.text))
            {
                Some(kept) if kept.text.len() > value.text.len() => {
                    let whole = core::mem::replace(kept, value);
                    kept.written = Some(whole.written.unwrap_or(whole.text));
                }
                Some(_) => {}
                None => self.keep(value),
            }
        }
    }

    /// Whether there is nothing to go by, or nothing but an empty text.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|value| value.text.is_empty())
    }

    #[inline]
    fn keep(&mut self, value: RequestValue<'a>) {
        if self.values.iter().any(|kept| kept.text == value.text) {
            return;
        }
        if self.values.len() < VALUES_MAX {
            self.values.push(value);
        } else {
            self.is_refused = true;
        }
    }
}

// === impl Chooser ===

impl<'a> Chooser<'a> {
    #[inline]
    pub(crate) fn new(take: Take) -> Self {
        Chooser { take, seen: 0, choice: Choice::default() }
    }

    #[inline]
    pub(crate) fn offer(&mut self, value: RequestValue<'a>) {
        self.seen += 1;
        let values = &mut self.choice.values;
        let replaces = match self.take {
            Take::All => return self.choice.keep(value),
            Take::First | Take::Refuse => values.first().is_none_or(|kept| kept.text.is_empty()),
            Take::Last => true,
        };
        if values.is_empty() || replaces && !value.text.is_empty() {
            *values = Vec::from([value]);
        }
    }

    #[inline]
    pub(crate) fn choice(mut self) -> Choice<'a> {
        if self.choice.values.len() > 1 {
            self.choice.values.retain(|value| !value.text.is_empty());
        }
        self.choice.is_refused |= self.take == Take::Refuse && self.seen > 1;
        self.choice
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn chosen(take: Take, values: &[&'static str]) -> (Vec<&'static str>, bool) {
        let mut chooser = Chooser::new(take);
        for value in values {
            chooser.offer(Cow::Borrowed(value.as_bytes()).into());
        }
        let choice = chooser.choice();
        let texts =
            choice.values.iter().map(|kept| *values.iter().find(|value| value.as_bytes() == &*kept.text).unwrap());
        (texts.collect(), choice.is_refused)
    }

    #[test]
    fn which_values_count() {
        for (take, values, expected, refused) in [
            (Take::First, &["a", "b"][..], vec!["a"], false),
            (Take::First, &["", "a", "b"], vec!["a"], false),
            (Take::First, &["", ""], vec![""], false),
            (Take::First, &[], vec![], false),
            (Take::Last, &["a", "b"], vec!["b"], false),
            (Take::Last, &["a", ""], vec!["a"], false),
            (Take::Last, &[""], vec![""], false),
            (Take::All, &["a", "", "b", "a"], vec!["a", "b"], false),
            (Take::All, &["", ""], vec![""], false),
            (Take::Refuse, &["a"], vec!["a"], false),
            (Take::Refuse, &["a", "a"], vec!["a"], true),
            (Take::Refuse, &[], vec![], false),
        ] {
            assert_eq!(chosen(take, values), (expected, refused), "{take:?} {values:?}");
        }
    }

    #[test]
    fn values_are_bounded() {
        let mut chooser = Chooser::new(Take::All);
        for number in 0..1_000_u32 {
            chooser.offer(RequestValue { text: Cow::Owned(number.to_be_bytes().to_vec()), written: None });
        }
        let choice = chooser.choice();
        assert_eq!((choice.values.len(), choice.is_refused), (VALUES_MAX, true));
    }
}
