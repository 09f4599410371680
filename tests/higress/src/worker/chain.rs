//! The filter chain. A message meets the plugins one after another, in their order on its way to the upstream and in
//! the reverse order on its way back, and each may hold it. A position counts along the message's way; at the end of it
//! stands whom it is for.

use std::rc::Rc;

use super::Worker;
use crate::{
    abi::{BodyAction, Direction, HeadersAction},
    stream::{Message, Progress, Stage, Stop, Stream, StreamRef},
    vm::StreamContext,
};

impl Worker {
    /// Headers arrive at a position.
    pub(super) fn headers(&mut self, stream: &StreamRef, direction: Direction, position: usize, end: bool) {
        let Some(filter) = self.filter_at(stream, direction, position) else {
            return self.deliver_headers(stream, direction, end);
        };
        if is_over(&stream.borrow(), direction) {
            return;
        }
        let (vm, context) = self.context(stream, filter, direction);
        let count = open_headers(&mut stream.borrow_mut(), filter, direction, end);
        self.with_stage(stream, filter, direction, |stage| stage.in_hook = true);
        // A filter that never saw the request does not see the response.
        let action = match context {
            Some(context) if self.usable(stream, filter, vm) => self.vm(vm).on_headers(context, direction, count, end),
            _ => HeadersAction::Continue,
        };
        self.with_stage(stream, filter, direction, |stage| {
            stage.stop = match action {
                HeadersAction::Continue => Stop::None,
                HeadersAction::Stop => Stop::Single,
                HeadersAction::StopAllBuffer => Stop::All { buffer: true },
                HeadersAction::StopAllWatermark => Stop::All { buffer: false },
            };
            stage.headers = if stage.stop == Stop::None { Progress::Passed } else { Progress::Held };
            if stage.stop == Stop::None {
                stage.headers_open = false;
            }
        });
        self.after_hook(stream, filter, direction, vm);
        if action == HeadersAction::Continue && !is_over(&stream.borrow(), direction) {
            self.headers(stream, direction, position + 1, end);
        }
    }

    /// A piece of the body arrives at a position.
    pub(super) fn body(
        &mut self,
        stream: &StreamRef,
        direction: Direction,
        position: usize,
        piece: Vec<u8>,
        end: bool,
    ) {
        if is_over(&stream.borrow(), direction) {
            return;
        }
        let Some(filter) = self.filter_at(stream, direction, position) else {
            return self.deliver_body(stream, direction, &piece, end);
        };
        if self.with_stage(stream, filter, direction, |stage| stage.stops_all()) {
            return self.pile_up(stream, filter, direction, piece, end);
        }
        let (vm, context) = self.context(stream, filter, direction);
        let size = self.with_stage(stream, filter, direction, |stage| {
            stage.in_hook = true;
            stage.held_end = end;
            if stage.buffering {
                stage.held.extend_from_slice(&piece)
            } else {
                stage.chunk = Some(piece)
            }
            stage.buffer().map_or(0, |buffer| buffer.len())
        });
        let action = match context {
            Some(context) if self.usable(stream, filter, vm) => self.vm(vm).on_body(context, direction, size, end),
            _ => BodyAction::Continue,
        };
        self.with_stage(stream, filter, direction, |stage| stage.keep(action));
        self.after_hook(stream, filter, direction, vm);
        if action == BodyAction::Continue {
            self.release(stream, direction, position);
        } else {
            self.check_limit(stream, filter, direction, action == BodyAction::StopBuffer);
        }
    }

    /// Trailers arrive at a position.
    pub(super) fn trailers(&mut self, stream: &StreamRef, direction: Direction, position: usize) {
        if is_over(&stream.borrow(), direction) {
            return;
        }
        let Some(filter) = self.filter_at(stream, direction, position) else {
            return self.deliver_trailers(stream, direction);
        };
        if self.with_stage(stream, filter, direction, |stage| stage.stops_all()) {
            return self.with_stage(stream, filter, direction, |stage| stage.trailers = Progress::Held);
        }
        let (vm, context) = self.context(stream, filter, direction);
        let count = {
            let mut stream = stream.borrow_mut();
            let stage = stream.stage(filter, direction);
            stage.trailers_open = true;
            stage.in_hook = true;
            match direction {
                Direction::Request => stream.request_trailers.len(),
                Direction::Response => stream.response_trailers.len(),
            }
        };
        let goes_on = match context {
            Some(context) if self.usable(stream, filter, vm) => self.vm(vm).on_trailers(context, direction, count),
            _ => true,
        };
        self.with_stage(stream, filter, direction, |stage| {
            stage.trailers = if goes_on { Progress::Passed } else { Progress::Held };
            stage.trailers_open = !goes_on;
            if !goes_on && stage.stop == Stop::None {
                stage.stop = Stop::Single;
            }
        });
        self.after_hook(stream, filter, direction, vm);
        if goes_on && !is_over(&stream.borrow(), direction) {
            self.release(stream, direction, position);
            self.trailers(stream, direction, position + 1);
        }
    }

    /// The filter lets the message go on that it holds.
    pub(super) fn resume(&mut self, context: &StreamContext, direction: Direction) {
        let (stream, filter) = (&context.stream, context.filter);
        if is_over(&stream.borrow(), direction) {
            return;
        }
        // Envoy must not be told to go on with what it has not been told to hold.
        let stopped = self.with_stage(stream, filter, direction, |stage| {
            if stage.in_hook { Stop::None } else { std::mem::take(&mut stage.stop) }
        });
        if stopped == Stop::None {
            let note = format!("plugin {filter} continues a {direction:?} that it does not hold");
            return stream.borrow_mut().misuse.push(note);
        }
        let position = self.position(stream, direction, filter);
        self.release(stream, direction, position);
        if !matches!(stopped, Stop::All { .. }) {
            if self.with_stage(stream, filter, direction, Stage::take_held_trailers) {
                self.trailers(stream, direction, position + 1);
            }
            return;
        }
        // What came while all was stopped has not been shown to this filter yet.
        let (data, piece, end) = self.with_stage(stream, filter, direction, |stage| {
            (
                std::mem::take(&mut stage.waiting_data),
                std::mem::take(&mut stage.waiting),
                std::mem::take(&mut stage.waiting_end),
            )
        });
        if data {
            self.body(stream, direction, position, piece, end);
        }
        if self.with_stage(stream, filter, direction, |stage| stage.trailers == Progress::Held) {
            self.trailers(stream, direction, position);
        }
    }

    /// Bytes of the filter's own go on to those behind it, headers first.
    pub(super) fn inject(&mut self, context: &StreamContext, bytes: Vec<u8>, end: bool) {
        let (stream, direction) = (&context.stream, Direction::Response);
        let position = self.position(stream, direction, context.filter);
        self.release_headers(stream, direction, position);
        self.body(stream, direction, position + 1, bytes, end);
    }

    /// Sends on what a filter held of headers and body.
    fn release(&mut self, stream: &StreamRef, direction: Direction, position: usize) {
        self.release_headers(stream, direction, position);
        let Some(filter) = self.filter_at(stream, direction, position) else { return };
        let released = self.with_stage(stream, filter, direction, |stage| {
            stage.buffering = false;
            stage.stop = Stop::None;
            let (held, end) = (std::mem::take(&mut stage.held), std::mem::take(&mut stage.held_end));
            (!held.is_empty() || end).then_some((held, end))
        });
        if let Some((held, end)) = released {
            self.body(stream, direction, position + 1, held, end);
        }
    }

    fn release_headers(&mut self, stream: &StreamRef, direction: Direction, position: usize) {
        let Some(filter) = self.filter_at(stream, direction, position) else { return };
        let (held, end) = self.with_stage(stream, filter, direction, |stage| {
            let held = stage.headers == Progress::Held;
            if held {
                stage.headers = Progress::Passed;
                stage.headers_open = false;
            }
            (held, stage.headers_end)
        });
        if held && !is_over(&stream.borrow(), direction) {
            self.headers(stream, direction, position + 1, end);
        }
    }

    fn pile_up(&mut self, stream: &StreamRef, filter: usize, direction: Direction, piece: Vec<u8>, end: bool) {
        let buffers = self.with_stage(stream, filter, direction, |stage| {
            stage.waiting.extend(piece);
            stage.waiting_data = true;
            stage.waiting_end |= end;
            matches!(stage.stop, Stop::All { buffer: true })
        });
        self.check_limit(stream, filter, direction, buffers);
    }

    /// What is buffered, rather than kept back at the peer, may not grow without end.
    fn check_limit(&mut self, stream: &StreamRef, filter: usize, direction: Direction, buffers: bool) {
        let limit = stream.borrow().filters[filter].limits[usize::from(direction == Direction::Response)];
        let size = self.with_stage(stream, filter, direction, |stage| stage.waiting.len() + stage.held.len());
        if buffers && size > limit {
            self.too_large(stream, direction);
        }
    }

    /// The context of a filter, made for the first hook of the request. None: there is none to call.
    fn context(&mut self, stream: &StreamRef, filter: usize, direction: Direction) -> (u64, Option<u32>) {
        let (vm, root, context) = {
            let stream = stream.borrow();
            let filter = &stream.filters[filter];
            (filter.vm, filter.root, filter.context)
        };
        if context.is_some() || direction == Direction::Response {
            return (vm, context);
        }
        (vm, Some(self.create_context(stream, filter, vm, root)))
    }

    pub(super) fn create_context(&mut self, stream: &StreamRef, filter: usize, vm: u64, root: u32) -> u32 {
        let context = self.vm(vm).create_stream(root, stream, filter);
        stream.borrow_mut().filters[filter].context = Some(context);
        context
    }

    /// Whether the filter's VM runs. If not, and its strategy says so, the stream is answered instead.
    fn usable(&mut self, stream: &StreamRef, filter: usize, vm: u64) -> bool {
        let runs = self.vm(vm).failed().is_none();
        if !runs && !self.fails_open(filter) {
            self.fail(stream);
        }
        runs
    }

    /// Does what the guest asked for; if it trapped, its stream is answered, unless the strategy lets it go on.
    fn after_hook(&mut self, stream: &StreamRef, filter: usize, direction: Direction, vm: u64) {
        self.after_call(vm);
        self.with_stage(stream, filter, direction, |stage| stage.in_hook = false);
        if self.vm(vm).failed().is_some() && !self.fails_open(filter) {
            self.fail(stream);
        }
    }

    /// None: past the last one.
    fn filter_at(&self, stream: &StreamRef, direction: Direction, position: usize) -> Option<usize> {
        let count = stream.borrow().filters.len();
        match direction {
            Direction::Request => (position < count).then_some(position),
            Direction::Response => count.checked_sub(position + 1),
        }
    }

    fn position(&self, stream: &StreamRef, direction: Direction, filter: usize) -> usize {
        match direction {
            Direction::Request => filter,
            Direction::Response => stream.borrow().filters.len() - 1 - filter,
        }
    }

    fn with_stage<R>(
        &self,
        stream: &StreamRef,
        filter: usize,
        direction: Direction,
        f: impl FnOnce(&mut Stage) -> R,
    ) -> R {
        f(stream.borrow_mut().stage(filter, direction))
    }

    // === the ends ===

    fn deliver_headers(&mut self, stream: &StreamRef, direction: Direction, end: bool) {
        if is_over(&stream.borrow(), direction) {
            return;
        }
        {
            let mut stream = stream.borrow_mut();
            // The router is the last that asks for the route.
            stream.route();
            let headers = match direction {
                Direction::Request => stream.request_headers.clone(),
                Direction::Response => stream.response_headers.clone(),
            };
            *side(&mut stream, direction) = Some(Message { headers, ..Message::default() });
        }
        self.delivered(stream, direction, end);
    }

    fn deliver_body(&mut self, stream: &StreamRef, direction: Direction, piece: &[u8], end: bool) {
        if let Some(message) = side(&mut stream.borrow_mut(), direction) {
            message.body.extend_from_slice(piece);
        }
        self.delivered(stream, direction, end);
    }

    fn deliver_trailers(&mut self, stream: &StreamRef, direction: Direction) {
        {
            let mut stream = stream.borrow_mut();
            let trailers = match direction {
                Direction::Request => stream.request_trailers.clone(),
                Direction::Response => stream.response_trailers.clone(),
            };
            if let Some(message) = side(&mut stream, direction) {
                message.trailers = Some(trailers);
            }
        }
        self.delivered(stream, direction, true);
    }

    fn delivered(&mut self, stream: &StreamRef, direction: Direction, end: bool) {
        if !end {
            return;
        }
        if let Some(message) = side(&mut stream.borrow_mut(), direction) {
            message.complete = true;
        }
        if direction == Direction::Response {
            self.finish(&Rc::clone(stream));
        }
    }
}

fn side(stream: &mut Stream, direction: Direction) -> &mut Option<Message> {
    match direction {
        Direction::Request => &mut stream.upstream,
        Direction::Response => &mut stream.client,
    }
}

fn is_over(stream: &Stream, direction: Direction) -> bool {
    stream.finished || (direction == Direction::Request && stream.request_over)
}

/// The filter may look at the headers from here on; returns how many there are.
fn open_headers(stream: &mut Stream, filter: usize, direction: Direction, end: bool) -> usize {
    let stage = stream.stage(filter, direction);
    stage.headers_open = true;
    stage.headers_end = end;
    match direction {
        Direction::Request => stream.request_headers.len(),
        Direction::Response => stream.response_headers.len(),
    }
}

// === impl Stage ===

impl Stage {
    /// What becomes of the piece that a hook has seen.
    fn keep(&mut self, action: BodyAction) {
        let chunk = self.chunk.take().unwrap_or_default();
        match action {
            // With what was held before, it is released.
            BodyAction::Continue => self.held.extend(chunk),
            BodyAction::StopBuffer => {
                self.held.extend(chunk);
                self.buffering = true;
                self.stop = Stop::Single;
            }
            BodyAction::StopWatermark => {
                self.held.extend(chunk);
                self.buffering = false;
                self.stop = Stop::Single;
            }
            BodyAction::StopNoBuffer => {
                self.buffering = false;
                self.stop = Stop::Single;
            }
        }
    }

    fn take_held_trailers(&mut self) -> bool {
        let held = self.trailers == Progress::Held;
        if held {
            self.trailers = Progress::Passed;
            self.trailers_open = false;
        }
        held
    }
}
