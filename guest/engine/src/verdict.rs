//! What the engine decides, in terms that every adapter can carry out.

use alloc::{rc::Rc, string::String, vec::Vec};
use core::mem;

use crate::{body::BodyChange, redis::Command, telemetry::LogLevel, wants::Wants};

/// What becomes of a stream after a hook of [`Engine`](crate::Engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It goes on, with these changes.
    Pass(Pass),
    /// It waits for a [`Verdict`], or, of a body that is held, for more of it.
    Wait,
    /// It is answered.
    Respond(Response),
}

/// What an adapter has to do after a step, as [`Engine::poll`](crate::Engine::poll) tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a command, and say at once what became of that: [`Engine::called`](crate::Engine::called).
    Call {
        /// Index into [`Configuration::services`](crate::Configuration::services).
        service: u32,
        /// Its name and arguments.
        command: Command,
    },
    /// Have the log of requests say this of a stream: it was refused, or decided on without the Redis that should have
    /// been asked. Comes before it is settled; the last one counts.
    Annotate {
        /// Which.
        stream: u64,
        /// Names and values.
        fields: Vec<(&'static str, String)>,
    },
    /// A stream that waited is settled.
    Settle {
        /// Which.
        stream: u64,
        /// How.
        verdict: Verdict,
    },
    /// Give the engine so many bytes that nobody can guess: [`Engine::add_random`](crate::Engine::add_random).
    Draw {
        /// At most 1,024.
        bytes: usize,
    },
    /// Log a line.
    Log {
        /// How loud.
        level: LogLevel,
        /// Without a line end.
        line: String,
    },
    /// Nothing until the next step; with a time, on the clock of all steps, [`Engine::tick`](crate::Engine::tick) is
    /// due then at the latest.
    Wait {
        /// In nanoseconds.
        until_ns: Option<u64>,
    },
}

/// What becomes of a stream that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with these changes.
    Pass(Pass),
    /// It is answered.
    Respond(Response),
}

/// How a stream goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// What is to be changed in its headers.
    pub edits: Edits,
    /// What becomes of what is kept of its body.
    pub body: BodyChange,
    /// What is still wanted of it. Of a stream of which nothing is wanted, nothing is remembered.
    pub wants: Wants,
}

/// An answer in place of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body; text unless a header says otherwise. Shared by all answers that say the same.
    pub body: Rc<Vec<u8>>,
    /// Why, for the access log: `plugin.reason`, as Higress' plugin spells it where it has the same reason.
    pub details: &'static str,
    /// What a client of gRPC gets to know: see [`Response::into_grpc`].
    pub grpc_status: u8,
}

/// What is to be changed in the headers of a stream that goes on, in order. What is said of headers that went on
/// before means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// In its request's, before that goes on.
    pub request: Vec<HeaderEdit>,
    /// In those of whatever response comes. An adapter keeps these until then.
    pub response: Vec<HeaderEdit>,
}

/// One change to headers. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// One field of the name, in place of all there are.
    Set(String, Vec<u8>),
    /// One more field of the name, behind those there are.
    Append(String, Vec<u8>),
    /// No field of the name.
    Remove(String),
}

/// A change to a header beside its texts, in bytes.
const EDIT_BYTES: usize = 96;

// === impl Pass ===

impl From<Edits> for Pass {
    #[inline]
    fn from(edits: Edits) -> Self {
        Pass { edits, ..Pass::default() }
    }
}

impl Pass {
    /// Whether the stream goes on as it is, and nothing more is wanted of it.
    #[inline]
    pub fn changes_nothing(&self) -> bool {
        self.edits.is_empty() && self.is_last_word()
    }

    /// Drops it. Most passes have no memory, and to drop lists costs a guest several calls.
    #[inline]
    pub fn let_go(self) {
        let Pass { edits, body, wants: _ } = self;
        edits.let_go();
        if matches!(body, BodyChange::Keep) {
            mem::forget(body);
        }
    }

    /// Whether nothing but headers is changed, and nothing more is wanted of the stream.
    #[inline]
    pub(crate) fn is_last_word(&self) -> bool {
        matches!(self.body, BodyChange::Keep) && self.wants.is_nothing()
    }
}

// === impl Edits ===

impl Edits {
    /// Whether nothing is to be changed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    /// Drops them. Most have no memory, and to drop lists costs a guest several calls.
    #[inline]
    pub(crate) fn let_go(self) {
        if self.request.capacity() == 0 && self.response.capacity() == 0 {
            mem::forget(self);
        }
    }

    /// Adds the changes of a filter further on. A response passes the filters in reverse, so that there its changes
    /// come first. Those that others undo are left out: the most that a list of filters changes is what they name,
    /// however many they are.
    pub(crate) fn add(&mut self, later: Edits) {
        if self.is_empty() {
            *self = later;
            return;
        }
        follow(&mut self.request, later.request);
        let earlier = mem::replace(&mut self.response, later.response);
        follow(&mut self.response, earlier);
    }

    /// How much memory they take, roughly, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.request.iter().chain(&self.response).map(HeaderEdit::size).sum()
    }
}

/// Adds changes that come behind others.
fn follow(edits: &mut Vec<HeaderEdit>, more: Vec<HeaderEdit>) {
    let undone = |edit: &HeaderEdit| more.iter().any(|later| later.replaces() && later.name() == edit.name());
    edits.retain(|edit| !undone(edit));
    edits.extend(more);
}

// === impl HeaderEdit ===

impl HeaderEdit {
    /// The name of the header that it changes.
    pub fn name(&self) -> &str {
        let (HeaderEdit::Set(name, _) | HeaderEdit::Append(name, _) | HeaderEdit::Remove(name)) = self;
        name
    }

    /// Whether nothing is left of the header as it was.
    fn replaces(&self) -> bool {
        matches!(self, HeaderEdit::Set(..) | HeaderEdit::Remove(_))
    }

    /// Makes this change to all headers of a message.
    pub(crate) fn apply(self, headers: &mut Vec<(String, Vec<u8>)>) {
        if self.replaces() {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(self.name()));
        }
        if let HeaderEdit::Set(name, value) | HeaderEdit::Append(name, value) = self {
            headers.push((name, value));
        }
    }

    /// How much memory it takes, roughly, in bytes.
    pub fn size(&self) -> usize {
        match self {
            HeaderEdit::Set(name, value) | HeaderEdit::Append(name, value) => EDIT_BYTES + name.len() + value.len(),
            HeaderEdit::Remove(name) => EDIT_BYTES + name.len(),
        }
    }
}

// === impl Response ===

impl Response {
    /// The same answer with these changes to its headers.
    #[must_use]
    pub fn edited(mut self, edits: Vec<HeaderEdit>) -> Response {
        edits.into_iter().for_each(|edit| edit.apply(&mut self.headers));
        self
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;

    #[test]
    fn what_many_filters_change_stays_what_they_name() {
        let set = |name: &str, value: usize| HeaderEdit::Set(name.into(), format!("{value}").into_bytes());
        let mut all = Edits::default();
        for filter in 0..100 {
            let request = vec![set("x-user", filter), HeaderEdit::Append("via".into(), vec![])];
            all.add(Edits { request, response: vec![set("x-limit", filter), HeaderEdit::Remove("server".into())] });
        }
        // The last one speaks to the upstream last, the first one to the client.
        assert_eq!(all.response, [set("x-limit", 0), HeaderEdit::Remove("server".into())]);
        assert_eq!(all.request.iter().filter(|edit| edit.name() == "x-user").collect::<Vec<_>>(), [&set("x-user", 99)]);
        assert_eq!(all.request.len(), 101);
    }
}
