//! One request at a time, as an engine finds it again.

use slidegate_engine::request::{RequestView, Requests};

/// The request of whichever stream there is.
#[derive(Debug)]
pub struct OneRequest<'a, View>(pub &'a View);

impl<'a, View: RequestView> Requests for OneRequest<'a, View> {
    type View = &'a View;

    fn view(&self, _: u64) -> Option<&'a View> {
        Some(self.0)
    }
}
