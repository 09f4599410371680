//! `decide`: where other proxies ask what is to become of a request of theirs, and which of them may.

use std::fmt;
use std::path::Path;

use hyper::StatusCode;
use serde_json::{Value, json};
use slidegate_document::{Content, Fields, Reader};

use super::listen::{ADDRESS, Listen};
use super::networks::Networks;
use super::words;

/// What stands under `decide`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecideSettings {
    pub(crate) listen: Listen,
    /// Who may ask: a proxy speaks for its clients, and whoever may do that can use up what is theirs.
    pub(crate) trusted_peers: Networks,
    /// What a refusal over HTTP is told with in place of 429.
    pub(crate) refuse_with: Option<StatusCode>,
}

impl DecideSettings {
    pub(super) fn read(reader: &mut Reader, top: &Fields<'_>, folder: &Path) -> Option<Self> {
        let given = reader.field(top, "decide", |reader, path, node| reader.object(path, node, &words::DECIDE))?;
        if given.get_unless_null("listen").is_none() {
            reader.error(given.at("listen"), format_args!("is missing: expected {ADDRESS}"));
        }
        let trusted_peers = reader.field(&given, "trusted_peers", |reader, path, node| match &node.content {
            Content::List(list) => Networks::read(reader, path, list),
            _ => {
                reader.expected(path, node, "a list of addresses and networks");
                None
            }
        });
        let refuse_with = reader.field(&given, "refuse_with", |reader, path, node| reader.whole(path, node, 400..=599));
        Some(Self {
            listen: Listen::read(reader, &given, folder),
            trusted_peers: trusted_peers.unwrap_or_else(Networks::loopback),
            refuse_with: refuse_with.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok()),
        })
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        let mut shown = json!({
            "listen": self.listen.address.to_string(),
            "trusted_peers": self.trusted_peers.shown(),
            "refuse_with": self.refuse_with.map(|status| status.as_u16()),
        });
        if let Some(tls) = &self.listen.tls {
            shown["tls"] = tls.shown();
        }
        shown
    }
}

/// Where, who may ask, and how refusals are told, for people.
impl fmt::Display for DecideSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.trusted_peers.is_empty() { "nobody" } else { "only" };
        write!(f, "{} for {who}", self.listen.address)?;
        self.trusted_peers.names().try_for_each(|name| write!(f, " {name}"))?;
        self.refuse_with.map_or(Ok(()), |status| write!(f, ", refusing with {} in place of 429", status.as_u16()))
    }
}
