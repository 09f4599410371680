//! Streams for which tokens are reserved: what is known of their answers, and what they are charged in the end.

use alloc::{boxed::Box, vec::Vec};

use super::{cutting::Cutting, estimate::RequestSeen, reserved_limit::ReservedLimit, text_scale::TextScale};
use crate::{
    body::{BodyCoding, BodyPiece, Interest},
    memory_budget::MemoryBudget,
    plan::Plan,
    rule::{OnMissingUsage, TokenTerms},
    tokens::{BYTES_PER_TOKEN, Usage, UsageChunks, UsageReader},
    wants::{ResponseOrigin, ResponseView, StreamEnd, Wants},
};

/// Where Bedrock tells the input and the output of an answer beside its body, in which some models tell neither.
const TOLD_BESIDE: [&str; 2] = ["x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count"];

/// What a stream that has something reserved is followed for.
pub(super) const FOLLOWED: Wants =
    Wants { request_body: Interest::None, response_headers: true, response_body: Interest::Watch, done: true };

/// Tokens that are reserved for a stream.
#[derive(Debug)]
pub(super) struct Reservation {
    /// Of which policy.
    pub(super) policy: usize,
    pub(super) limits: Box<[ReservedLimit]>,
    /// Where they are reserved.
    pub(super) place: ReservedIn,
    /// What the request has sent by now.
    pub(super) request: RequestSeen,
    /// If its answer may be cut.
    pub(super) cutting: Option<Box<Cutting>>,
    /// If it tells its usage without its client having asked for that.
    usage_chunks: Option<Box<UsageChunks>>,
    /// When the request was admitted, monotonic, and when it was last charged on.
    pub(super) since_ns: u64,
    pub(super) topped_up_ns: u64,
    answer: AnswerSeen,
    usage: UsageReader,
    /// How much memory is counted for it, in bytes.
    pub(super) counted: usize,
    /// Bytes of its body that could not be read.
    unread: u64,
}

/// What the chain knows of a stream beside its reservation, and what it takes to find both, in bytes.
const BESIDE_BYTES: usize = 192;

/// What it takes to cut a stream, with the names that its last words say again.
const CUTTING_BYTES: usize = 1_024;

/// What a stream of this plan takes that has something reserved, in bytes.
pub(super) fn bytes_for(plan: &Plan) -> usize {
    bytes_beside(ReservedLimit::bytes_of_all(plan))
}

/// The same beside its limits, which take so much.
fn bytes_beside(limits: usize) -> usize {
    BESIDE_BYTES + size_of::<Reservation>() + limits
}

/// Where tokens are reserved, and when they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReservedIn {
    /// In a Redis, by its clock, which had been set so often before.
    Redis { service: u32, at_us: u64, steps: u64 },
    /// That Redis could not be asked, and nothing is reserved.
    Nowhere { service: u32 },
    /// In this instance's memory, in the place of that Redis if there is one.
    Memory { stands_in_for: Option<u32>, at_us: u64 },
}

/// What has come of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerSeen {
    None,
    /// One that says what it took, or should.
    Charged,
    /// One that is no answer of a model: an error, a redirect.
    Free,
    /// None in time, as the gateway says in its place: the model may be at work, and whoever pays it pays for that.
    Late,
}

impl Reservation {
    pub(super) fn new(
        policy: usize,
        limits: Box<[ReservedLimit]>,
        place: ReservedIn,
        request: RequestSeen,
    ) -> Reservation {
        Reservation {
            policy,
            limits,
            place,
            request,
            cutting: None,
            usage_chunks: None,
            since_ns: 0,
            topped_up_ns: 0,
            answer: AnswerSeen::None,
            usage: UsageReader::default(),
            counted: 0,
            unread: 0,
        }
    }

    /// The request goes on now.
    pub(super) fn begin(&mut self, now_ns: u64) {
        (self.since_ns, self.topped_up_ns) = (now_ns, now_ns);
    }

    /// Whether it has been as long as the window of this limit.
    #[inline]
    pub(super) fn outlives(&self, limit: &ReservedLimit, now_ns: u64) -> bool {
        limit.window_ns() <= now_ns.saturating_sub(self.since_ns)
    }

    /// Whether it has been as long as any of its windows.
    #[inline]
    pub(super) fn outlives_any(&self, now_ns: u64) -> bool {
        self.limits.iter().any(|limit| self.outlives(limit, now_ns))
    }

    /// The answer's headers have come. Whether its body is to be seen; `cuts`: its limits cut streams.
    pub(super) fn answered(&mut self, response: &impl ResponseView, cuts: bool) -> bool {
        let head = response.head();
        // One that has no body is no answer of a model.
        let is_read = (200..300).contains(&head.status) && !head.end;
        self.answer = match (head.status, head.origin) {
            _ if is_read => AnswerSeen::Charged,
            (504, ResponseOrigin::Host) => AnswerSeen::Late,
            _ => AnswerSeen::Free,
        };
        if !is_read {
            return false;
        }
        let [input, output] = TOLD_BESIDE.map(|name| count(response.header(name)));
        self.usage.tell(input, output);
        // One whose length was told cannot end before; and to one in a coding, nothing can be added that is in none.
        let is_plain = |name, plain: &[u8]| response.header(name).is_none_or(|value| value.eq_ignore_ascii_case(plain));
        let is_open = is_plain("content-encoding", b"identity") && is_plain("content-length", b"");
        self.cutting = (cuts && is_open).then(Box::default);
        self.usage_chunks.take_if(|_| !is_open);
        true
    }

    /// What its stream is followed for: the answer, and as long as that goes on the request's body, before the answer
    /// and beside it.
    pub(super) fn wants(&self) -> Wants {
        let request_body = if self.request.is_counted { Interest::Watch } else { Interest::None };
        Wants { request_body, response_body: self.interest(), ..FOLLOWED }
    }

    /// What is wanted of the answer's body.
    #[inline]
    fn interest(&self) -> Interest {
        let is_held = self.cutting.is_some() || (self.usage_chunks.is_some() && self.answer == AnswerSeen::Charged);
        if is_held { Interest::Hold } else { Interest::Watch }
    }

    /// Its client has not asked for the usage that the answer will tell.
    pub(super) fn take_out_usage(&mut self) {
        self.usage_chunks = Some(Box::default());
    }

    /// What of this piece of the answer's body its client gets in its place, if something may be kept back of it. None:
    /// the piece.
    pub(super) fn without_usage(&mut self, piece: &[u8], may_keep: bool) -> Option<Vec<u8>> {
        self.usage_chunks.as_mut()?.pass(piece, may_keep)
    }

    /// What of it is kept back for that. None: nothing is taken out.
    pub(super) fn kept_back(&self) -> Option<&[u8]> {
        self.usage_chunks.as_ref().map(|chunks| chunks.kept_back())
    }

    /// How much memory it takes, in bytes, with what is known of its stream elsewhere.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        let cutting = if self.cutting.is_some() { CUTTING_BYTES } else { 0 };
        let limits = self.limits.iter().map(ReservedLimit::bytes).sum();
        let usage_chunks = self.usage_chunks.as_ref().map_or(0, |chunks| chunks.bytes());
        bytes_beside(limits) + cutting + usage_chunks + self.usage.bytes_beside()
    }

    /// Counts what it takes now in place of what it took before.
    #[inline]
    pub(super) fn count_memory(&mut self, budget: &mut MemoryBudget) {
        budget.free_followed(self.counted);
        self.counted = self.bytes();
        budget.take_followed(self.counted);
    }

    /// Whether there is more to do about a piece of the answer than to read it.
    #[inline]
    pub(super) fn may_need_more(&self, now_ns: u64) -> bool {
        self.interest() == Interest::Hold || self.outlives_any(now_ns)
    }

    /// A piece of its body has come.
    #[inline]
    pub(super) fn read(&mut self, piece: BodyPiece<'_>) {
        // What nobody can take the coding off tells nothing.
        if piece.coding != BodyCoding::Encoded {
            self.usage.feed(piece.bytes);
        } else if !self.usage.is_told_beside() {
            // Where it ends in the middle of one, no bytes are left, and what was to be told lacks.
            let lacks = u64::from(piece.bytes.is_empty() && self.usage.usage().is_none());
            self.unread = self.unread.saturating_add(lacks.max(piece.bytes.len() as u64));
        }
    }

    /// Whether it is the answer to a model's request, and some of it could not be read.
    pub(super) fn is_unread(&self) -> bool {
        self.answer == AnswerSeen::Charged && self.unread > 0 && self.request.has_come()
    }

    /// Whether the answer has told what it took.
    pub(super) fn is_told(&self) -> bool {
        self.answer == AnswerSeen::Charged && self.usage.usage().is_some() && !self.ended_early()
    }

    /// How many tokens the answer's text looks like, and how many it has told that to be. None: that is not known.
    pub(super) fn told_text(&self) -> Option<(u64, u64)> {
        Some((self.usage.covered()?, self.usage.usage()?.output))
    }

    /// What a stream is charged by these terms, for which so much was reserved, now that it has ended so. None: nobody
    /// will know how it ends. `scale`: what its text is taken for.
    pub(super) fn spent(&self, ending: Option<StreamEnd>, terms: &TokenTerms, reserved: u64, scale: TextScale) -> u64 {
        let seen_charge = || self.seen_charge(terms, scale);
        match (self.answer, ending) {
            // Of the request, what came got to the model.
            (AnswerSeen::Late, Some(_)) => seen_charge(),
            (AnswerSeen::Free, _)
            | (_, Some(StreamEnd::Answered))
            | (AnswerSeen::None, Some(StreamEnd::Upstream | StreamEnd::Whole)) => 0,
            // What cannot be read may have taken what was reserved.
            (AnswerSeen::Charged, Some(StreamEnd::Whole)) if self.is_unread() && reserved > 0 => {
                self.usage.usage().map_or(0, |usage| terms.charge.of(&usage)).max(reserved)
            }
            (AnswerSeen::Charged, Some(_)) if self.is_unread() => seen_charge().max(reserved),
            // It goes on, and may take what was reserved.
            (_, None) => seen_charge().max(reserved),
            // Whoever leaves has had what came so far, and the model has read the request.
            (_, Some(StreamEnd::Client)) | (AnswerSeen::Charged, Some(StreamEnd::Upstream)) => seen_charge(),
            (AnswerSeen::Charged, Some(StreamEnd::Whole)) if self.ended_early() => seen_charge(),
            (AnswerSeen::Charged, Some(StreamEnd::Whole)) => match (self.usage.usage(), terms.on_missing_usage) {
                (Some(usage), _) => terms.charge.of(&usage),
                (None, _) if self.cutting.as_ref().is_some_and(|cutting| cutting.is_cut()) => seen_charge(),
                // Who sends a model nothing asks it for nothing.
                (None, _) if !self.request.has_come() => 0,
                (None, OnMissingUsage::Nothing) => 0,
                (None, OnMissingUsage::Estimate) => seen_charge(),
                (None, OnMissingUsage::Reserved) => reserved,
            },
        }
    }

    /// What the answer is charged by these terms as far as it has come.
    pub(super) fn seen_charge(&self, terms: &TokenTerms, scale: TextScale) -> u64 {
        terms.charge.of(&self.seen(self.usage.usage(), scale))
    }

    /// How many tokens it has come to, by the limit of which it is the most.
    pub(super) fn seen_output(&self) -> u64 {
        let outputs = self.limits.iter().map(|limit| self.seen(self.usage.usage(), limit.scale).output);
        outputs.max().unwrap_or_default()
    }

    /// Whether its client got the end of the answer before the model told it.
    fn ended_early(&self) -> bool {
        self.cutting.as_ref().is_some_and(|cutting| cutting.ended_early())
    }

    /// What an answer took at least that has come so far: what was told of it, and what its text looks like that came
    /// since.
    fn seen(&self, told: Option<Usage>, scale: TextScale) -> Usage {
        let input = self.request.tokens();
        let text = scale.of(self.usage.spoken().tokens()).saturating_add(self.unread.div_ceil(BYTES_PER_TOKEN));
        let told = told.unwrap_or(Usage { input, stock: input, ..Usage::default() });
        Usage { output: told.output.saturating_add(text), stock: told.stock.saturating_add(text), ..told }
    }
}

/// The number that a header says.
fn count(value: Option<Vec<u8>>) -> Option<u64> {
    str::from_utf8(&value?).ok()?.trim().parse().ok()
}
