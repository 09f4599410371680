//! What serves the requests that come in on a listener.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::{Request, Response};

use crate::gateway::admin::Admin;
use crate::gateway::admission::Caller;
use crate::gateway::body::ResponseBody;
use crate::gateway::guests::Order;
use crate::gateway::interim::BesideResponses;
use crate::gateway::listener_kind::ListenerKind;
use crate::gateway::plain_body::PeerBody;
use crate::gateway::proxy::Lane;
use crate::gateway::serving::Serving;

/// What serves the requests of a listener's connections. Clones are the same one.
#[derive(Clone)]
pub(crate) enum ListenerService {
    Proxy(Arc<Lane>),
    Admin(Arc<Admin>),
    Decide(Arc<Lane>),
}

impl ListenerService {
    pub(crate) fn kind(&self) -> ListenerKind {
        match self {
            Self::Proxy(_) => ListenerKind::Proxy,
            Self::Admin(_) => ListenerKind::Admin,
            Self::Decide(_) => ListenerKind::Decide,
        }
    }

    /// What requests are served with at this moment.
    pub(crate) fn serving(&self) -> &ArcSwap<Serving> {
        match self {
            Self::Proxy(lane) | Self::Decide(lane) => &lane.serving,
            Self::Admin(admin) => &admin.serving,
        }
    }

    /// Answers a request. Dropping the future means that the client left.
    pub(crate) async fn answer(
        &self,
        request: Request<PeerBody>,
        caller: Caller,
        beside: &BesideResponses,
        order: Order,
    ) -> Response<ResponseBody> {
        // On the heap, so that whoever is refused before takes up little: there may be very many of those.
        match self {
            Self::Proxy(lane) => Box::pin(lane.answer(request, caller, beside.clone(), Arc::new(order))).await,
            Self::Admin(admin) => Box::pin(admin.answer(request, caller.client, order)).await,
            Self::Decide(lane) => Box::pin(lane.decide(request, caller, Arc::new(order))).await,
        }
    }
}
