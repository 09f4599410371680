//! In whose context the gateway is asked and told: that of the hook's own stream, or another's.

use std::cell::Cell;

use slidegate_engine::request::Requests;

use crate::{following::Following, gateway::Gateway, request::Request};

/// The effective context, which is that of the hook's own stream until another's is entered.
pub(super) struct Context {
    pub(super) current: Option<u32>,
    pub(super) has_left: Cell<bool>,
}

impl Context {
    /// Makes a stream's context the effective one. False: it is gone.
    pub(super) fn enter(&self, gateway: &impl Gateway, stream: u64) -> bool {
        let Ok(stream) = u32::try_from(stream) else { return false };
        if self.current == Some(stream) && !self.has_left.get() {
            return true;
        }
        self.has_left.set(true);
        gateway.select(stream)
    }

    /// Back to the hook's own stream.
    pub(super) fn leave(&self, gateway: &impl Gateway) {
        if let (Some(current), true) = (self.current, self.has_left.get()) {
            gateway.select(current);
            self.has_left.set(false);
        }
    }
}

/// The requests that are in their header phase, waiting or not.
pub(super) struct InFlight<'a, G> {
    pub(super) gateway: &'a G,
    pub(super) context: &'a Context,
    pub(super) following: &'a Following,
}

impl<'a, G: Gateway> Requests for InFlight<'a, G> {
    type View = Request<'a, G>;

    /// Its context is the effective one then.
    fn view(&self, stream: u64) -> Option<Request<'a, G>> {
        let has_body = self.following.has_body(stream);
        self.context.enter(self.gateway, stream).then_some(Request { gateway: self.gateway, has_body })
    }
}
