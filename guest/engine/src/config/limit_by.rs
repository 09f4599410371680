//! What a rule item counts by: exactly one `limit_by_*`, and for addresses whose word is taken for them.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::net::IpAddr;

use ipnet::IpNet;

use super::{
    document::Node,
    policy::emptiness,
    reader::{Fields, Path, Reader, elements},
};
use crate::rule::{CONSUMER, ClientIp, LimitBy, Source, Trust};

/// What may stand in an element of `rule_items`.
pub(super) const FIELDS: [&str; 16] = [
    "limit_by_header",
    "limit_by_param",
    "limit_by_consumer",
    "limit_by_cookie",
    "limit_by_per_header",
    "limit_by_per_param",
    "limit_by_per_consumer",
    "limit_by_per_cookie",
    "limit_by_per_ip",
    "limit_keys",
    "name",
    "max_new_keys_per_second",
    "dry_run",
    "trusted_hops",
    "trusted_proxies",
    "ipv6_prefix",
];

const FROM_REMOTE_ADDR: &str = "from-remote-addr";
const FROM_HEADER: &str = "from-header-";
const IP_FIELDS: [&str; 3] = ["trusted_hops", "trusted_proxies", "ipv6_prefix"];
const IPV6_BITS: u8 = 128;
/// More proxies in a row than this are a mistake.
const TRUSTED_HOPS_MAX: u64 = 100;
/// What HTTP/2 has in place of a request line and every host can tell; Envoy shows them as headers.
const PSEUDO_HEADERS: [&str; 3] = [":authority", ":method", ":path"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Param,
    Consumer,
    Cookie,
    Ip,
}

const KINDS: [(&str, Kind, bool); 9] = [
    ("limit_by_header", Kind::Header, false),
    ("limit_by_param", Kind::Param, false),
    ("limit_by_consumer", Kind::Consumer, false),
    ("limit_by_cookie", Kind::Cookie, false),
    ("limit_by_per_header", Kind::Header, true),
    ("limit_by_per_param", Kind::Param, true),
    ("limit_by_per_consumer", Kind::Consumer, true),
    ("limit_by_per_cookie", Kind::Cookie, true),
    ("limit_by_per_ip", Kind::Ip, true),
];

/// What the entries of `limit_keys` depend on; known even where the rest of `limit_by_*` is wrong.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// They may be patterns.
    pub(super) per: bool,
    /// They are addresses and networks.
    pub(super) addresses: bool,
}

/// Reads the one `limit_by_*` of an item and what belongs to it.
pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>) -> (Option<Keys>, Option<LimitBy>) {
    let Some((field, kind, per)) = chosen(reader, fields) else { return (None, None) };
    (Some(Keys { per, addresses: kind == Kind::Ip }), limit_by(reader, fields, field, kind, per))
}

fn limit_by(reader: &mut Reader, fields: &Fields<'_>, field: &'static str, kind: Kind, per: bool) -> Option<LimitBy> {
    if kind != Kind::Ip {
        for name in IP_FIELDS.into_iter().filter(|name| fields.get(name).is_some()) {
            reader.error(fields.at(name), format_args!("stands beside `{field}`: expected only beside `limit_by_per_ip`"));
        }
    }
    let (path, node) = fields.get(field)?;
    if kind == Kind::Consumer {
        return Some(LimitBy { per, source: Source::Consumer, key_name: CONSUMER.to_string() });
    }
    let key_name = reader.text(path, node)?;
    let source = match kind {
        Kind::Header => Source::Header(header_name(reader, path, node, &key_name)?),
        Kind::Cookie => Source::Cookie(cookie_name(reader, path, node, &key_name)?),
        Kind::Ip => Source::Ip(client_ip(reader, fields, path, node, &key_name)?),
        Kind::Param | Kind::Consumer => Source::Param(key_name.clone()),
    };
    Some(LimitBy { per, source, key_name })
}

/// The one that is set. A consumer's is by being there, the others by a name: empty is unset, as in stock.
fn chosen(reader: &mut Reader, fields: &Fields<'_>) -> Option<(&'static str, Kind, bool)> {
    let is_set = |name: &str, kind: Kind| match fields.get(name) {
        None => false,
        Some(_) if kind == Kind::Consumer => true,
        Some((_, Node::Null)) => false,
        Some((_, Node::Text(text))) => !text.is_empty(),
        Some(_) => true,
    };
    let set: Vec<_> = KINDS.into_iter().filter(|(name, kind, _)| is_set(name, *kind)).collect();
    match set.as_slice() {
        [one] => Some(*one),
        [] => {
            report_none(reader, fields);
            None
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, ..)| format!("`{name}`")).collect();
            reader.error(fields.path, format_args!("has {}: expected one of them only", names.join(" and ")));
            None
        }
    }
}

fn report_none(reader: &mut Reader, fields: &Fields<'_>) {
    let mut empty = KINDS.into_iter().filter_map(|(name, ..)| fields.get(name).map(|(_, node)| (name, node))).peekable();
    if empty.peek().is_none() {
        let names: Vec<String> = KINDS.iter().map(|(name, ..)| format!("`{name}`")).collect();
        reader.error(fields.path, format_args!("expected one of {}", names.join(", ")));
    }
    for (name, node) in empty {
        reader.expected(fields.at(name), node, "the name of what to count by");
    }
}

fn header_name(reader: &mut Reader, path: Path<'_>, node: &Node, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if is_token(&lower) || PSEUDO_HEADERS.contains(&lower.as_str()) {
        return Some(lower);
    }
    reader.expected(path, node, "the name of a header: letters, digits and !#$%&'*+-.^_`|~");
    None
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

fn cookie_name(reader: &mut Reader, path: Path<'_>, node: &Node, name: &str) -> Option<String> {
    let separates = |character: char| matches!(character, ';' | '=') || character.is_control();
    if name.contains(separates) || name.trim() != name {
        reader.expected(path, node, "the name of a cookie, without `;`, `=` and white space around it");
        return None;
    }
    Some(name.to_string())
}

fn client_ip(reader: &mut Reader, fields: &Fields<'_>, path: Path<'_>, node: &Node, text: &str) -> Option<ClientIp> {
    let header = match text.strip_prefix(FROM_HEADER) {
        None if text == FROM_REMOTE_ADDR => Some(None),
        None => {
            reader.expected(path, node, format_args!("`{FROM_REMOTE_ADDR}` or `{FROM_HEADER}` and the name of a header"));
            None
        }
        Some("") => {
            reader.error(path, format_args!("expected the name of a header after `{FROM_HEADER}`, got nothing"));
            None
        }
        Some(name) => header_name(reader, path, node, name).map(Some),
    };
    if matches!(header, Some(None)) {
        for name in ["trusted_hops", "trusted_proxies"].into_iter().filter(|name| fields.get(name).is_some()) {
            reader.error(fields.at(name), format_args!("says which address of a header to take: expected only with `{FROM_HEADER}`..."));
        }
    }
    let trust = trust(reader, fields);
    let ipv6_prefix = match fields.get("ipv6_prefix") {
        Some((path, node)) => u8::try_from(reader.whole(path, node, 1..=u64::from(IPV6_BITS))?).ok()?,
        None => IPV6_BITS,
    };
    Some(ClientIp { header: header?, trust: trust?, ipv6_prefix })
}

fn trust(reader: &mut Reader, fields: &Fields<'_>) -> Option<Trust> {
    match (fields.get("trusted_hops"), fields.get("trusted_proxies")) {
        (None, None) => Some(Trust::Leftmost),
        (Some((path, node)), None) => {
            let hops = reader.whole(path, node, 0..=TRUSTED_HOPS_MAX)?;
            u32::try_from(hops).ok().map(Trust::Hops)
        }
        (None, Some((path, node))) => proxies(reader, path, node).map(Trust::proxies),
        (Some(_), Some(_)) => {
            reader.error(fields.path, "has `trusted_hops` and `trusted_proxies`: expected one of them only");
            None
        }
    }
}

fn proxies(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Vec<IpNet>> {
    let mut proxies = vec![];
    let mut understood = true;
    for (path, node) in elements(&path, node) {
        let network = match node {
            Node::Text(text) => network(text),
            _ => None,
        };
        if network.is_none() {
            reader.expected(path, node, "an address or a network, such as `10.0.0.0/8`");
        }
        understood &= network.is_some();
        proxies.extend(network);
    }
    if proxies.is_empty() && understood {
        reader.error(path, format_args!("expected at least one address or network, got {}", emptiness(node)));
        return None;
    }
    understood.then_some(proxies)
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().map(|network| network.trunc()).or_else(address)
}
