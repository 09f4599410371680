//! A body as the filter sees it: piece by piece, and without its coding where that can be taken off.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use slidegate::{BodySide, BodyStep, Coding, Interest, Released, Stream};

use crate::gateway::decoding::{Coded, DecodedSink, Decoder, OF_ANSWERS, OF_REQUESTS};

/// A body that is shown to the filter.
pub(crate) struct SeenBody {
    stream: Arc<Stream>,
    side: BodySide,
    view: BodyView,
}

/// How it is shown.
enum BodyView {
    /// As it is.
    Plain(Coding),
    /// Without its coding. Of a response only if it is watched, as nothing can be put into one whose headers have gone.
    Decoded(Box<Decoder<Shower>>),
}

/// Shows what was decoded to the filter, but for the last of each piece, which is shown with the piece itself.
struct Shower {
    stream: Arc<Stream>,
    side: BodySide,
    last: Vec<u8>,
    /// What the filter said to the others. None: nothing was shown.
    said: Option<BodyStep>,
}

impl SeenBody {
    /// One in which the filter has this interest.
    pub(crate) fn new(stream: Arc<Stream>, side: BodySide, interest: Interest, coded: Coded) -> Self {
        let view = BodyView::of(coded, interest, &stream, side);
        Self { stream, side, view }
    }

    /// What the filter says of what it keeps, once it says something.
    pub(crate) fn poll_released(&self, context: &mut Context<'_>) -> Poll<BodyStep> {
        self.stream.poll_released(self.side, context)
    }

    /// Shows the next piece. `is_end`: it is the last.
    pub(crate) fn show(&mut self, piece: Bytes, is_end: bool) -> BodyStep {
        let decoder = match &mut self.view {
            BodyView::Plain(coding) => return self.stream.on_body(self.side, piece, *coding, is_end),
            BodyView::Decoded(decoder) => decoder,
        };
        // A filter may want something else by now.
        let may_decode = may_decode(self.side, self.side.interest(self.stream.wants()));
        let is_decoded = may_decode && decoder.decode(&piece).is_ok();
        let breaks_off = is_end && is_decoded && !decoder.is_complete();
        let (last, said) = decoder.sink().map(Shower::take_said).unwrap_or_default();
        match said {
            Some(step) if is_last(&step) => step,
            before if breaks_off => {
                // What lacks is shown as what cannot be read.
                match then(before, self.stream.on_decoded_body(self.side, &last, piece, false)) {
                    step if is_last(&step) => step,
                    shown => then(Some(shown), self.stream.on_body(self.side, Bytes::new(), Coding::Encoded, true)),
                }
            }
            before if is_decoded => then(before, self.stream.on_decoded_body(self.side, &last, piece, is_end)),
            before => {
                self.view = BodyView::Plain(Coding::Encoded);
                then(before, self.stream.on_body(self.side, piece, Coding::Encoded, is_end))
            }
        }
    }
}

impl BodyView {
    fn of(coded: Coded, interest: Interest, stream: &Arc<Stream>, side: BodySide) -> Self {
        let pot = match side {
            BodySide::Request => &OF_REQUESTS,
            BodySide::Response => &OF_ANSWERS,
        };
        match coded {
            Coded::Plain => Self::Plain(Coding::Identity),
            Coded::Known(known) if may_decode(side, interest) => {
                let shower = Shower { stream: Arc::clone(stream), side, last: Vec::new(), said: None };
                Decoder::new(known, pot, shower)
                    .map_or(Self::Plain(Coding::Encoded), |decoder| Self::Decoded(Box::new(decoder)))
            }
            Coded::Known(_) | Coded::Unknown => Self::Plain(Coding::Encoded),
        }
    }
}

/// Whether what the filter sees of this body may be something else than what is on its way.
fn may_decode(side: BodySide, interest: Interest) -> bool {
    interest == Interest::Watch || interest == Interest::Hold && side == BodySide::Request
}

impl Shower {
    /// What is still to be shown of a piece, and what the filter said to what was shown.
    fn take_said(&mut self) -> (Vec<u8>, Option<BodyStep>) {
        (std::mem::take(&mut self.last), self.said.take())
    }
}

impl DecodedSink for Shower {
    fn take(&mut self, decoded: Vec<u8>) {
        let before = std::mem::replace(&mut self.last, decoded);
        if !before.is_empty() && !self.said.as_ref().is_some_and(is_last) {
            let step = self.stream.on_decoded_body(self.side, &before, Bytes::new(), false);
            self.said = Some(then(self.said.take(), step));
        }
    }
}

/// Whether the filter is to be shown no more of a body.
fn is_last(step: &BodyStep) -> bool {
    match step {
        BodyStep::Wait => false,
        BodyStep::Pass(released) => released.end,
        BodyStep::Respond(_) | BodyStep::TooLarge | BodyStep::NoRoom => true,
    }
}

/// What the filter said of parts of a piece.
fn then(before: Option<BodyStep>, later: BodyStep) -> BodyStep {
    match (before, later) {
        (Some(BodyStep::Pass(before)), BodyStep::Pass(later)) => BodyStep::Pass(before.and(later)),
        (Some(BodyStep::Pass(before)), BodyStep::Wait) if before != Released::default() => BodyStep::Pass(before),
        (_, later) => later,
    }
}
