//! Where the gateway listens: an address, and how it is secured.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use slidegate_document::{Fields, Reader};

use super::tls::ListenerTls;

/// Where to listen.
pub(crate) const ADDRESS: &str =
    "an address and port such as `127.0.0.1:8080`, `localhost:8080`, `[::]:8080` or `:8080`";

/// An address, and how connections to it are secured; they are plain without.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<ListenerTls>,
}

impl Listen {
    /// `listen`, with `tls` beside it.
    pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, folder: &Path) -> Self {
        let address = reader.field(fields, "listen", |reader, path, node| {
            reader.parsed(path, node, ADDRESS, |node| parse_address(node.as_str()?))
        });
        let tls = ListenerTls::read(reader, fields, folder);
        Self { address: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))), tls }
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        match &self.tls {
            Some(tls) => json!({"listen": self.address.to_string(), "tls": tls.shown()}),
            None => json!(self.address.to_string()),
        }
    }
}

/// An address on the command line, which options of several commands take.
///
/// # Errors
/// It is none; what was expected.
pub(crate) fn address_argument(text: &str) -> Result<SocketAddr, String> {
    parse_address(text).ok_or_else(|| format!("expected {ADDRESS}"))
}

/// `ip:port`, `localhost:port`, or `:port` for every IPv4 address. Other names are refused: which of their addresses
/// would be meant?
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    let at = |address: [u8; 4], port: &str| Some(SocketAddr::from((address, port.parse().ok()?)));
    match (text.strip_prefix("localhost:"), text.strip_prefix(':')) {
        (Some(port), _) => at([127, 0, 0, 1], port),
        (None, Some(port)) if !port.starts_with(':') => at([0, 0, 0, 0], port),
        _ => text.parse().ok(),
    }
}
