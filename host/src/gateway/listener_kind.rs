//! What listeners are for, and how they differ.

use crate::gateway::shutdown::Shutdown;
use crate::settings::{Limits, Listen, Settings};

/// What a listener is for. What serves its requests is a [`ListenerService`](crate::gateway::service::ListenerService)
/// of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// Requests that the filter decides and an upstream answers.
    Proxy,
    /// What machines ask a gateway about itself.
    Admin,
    /// What other proxies ask about requests of theirs.
    Decide,
}

/// What the clients of the admin port may take up. That is not for settings to say: few look after a gateway, and they
/// must be let in when it has no room for anybody else.
const ADMIN_CONNECTIONS: usize = 64;

impl ListenerKind {
    /// Its field in the settings.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Proxy => "listen",
            Self::Admin => "admin",
            Self::Decide => "decide.listen",
        }
    }

    /// Where it listens, and how.
    pub(crate) fn listen(self, settings: &Settings) -> Option<&Listen> {
        match self {
            Self::Proxy => settings.listen.as_ref(),
            Self::Admin => settings.admin.as_ref(),
            Self::Decide => settings.decide.as_ref().map(|decide| &decide.listen),
        }
    }

    /// What its clients may take up.
    pub(crate) fn limits(self, settings: &Settings) -> Limits {
        match self {
            Self::Proxy | Self::Decide => settings.limits,
            Self::Admin => Limits {
                connections: ADMIN_CONNECTIONS,
                connections_per_address: 0,
                requests: ADMIN_CONNECTIONS,
                requests_per_address: 0,
                ..settings.limits
            },
        }
    }

    /// When its connections end. That the gateway drains is told by its admin port, to the last.
    pub(crate) fn ending(self, of_gateway: &Shutdown) -> Shutdown {
        match self {
            Self::Proxy | Self::Decide => of_gateway.clone(),
            Self::Admin => Shutdown { stop: of_gateway.stop.clone(), ..Shutdown::default() },
        }
    }
}
