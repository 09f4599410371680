//! What a rule item counts by: exactly one `limit_by_*`, and for addresses whose word is taken for them.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::net::IpAddr;

use ipnet::IpNet;
use slidegate_document::{Content, Fields, Node, Path, Reader, elements, emptiness, shortened};

use super::filter_rules::ToldFields;
use crate::{
    request,
    rule::{
        ClientIp, LimitBy, OnMissing, Source, Take, Trust,
        hits::{CONSUMER, PATH_ONLY, is_credentials, is_host},
    },
    session::header_value,
};

const FROM_REMOTE_ADDR: &str = "from-remote-addr";
const FROM_HEADER: &str = "from-header-";
const IP_FIELDS: [&str; 4] = ["trusted_hops", "trusted_proxies", "ipv4_prefix", "ipv6_prefix"];
const IPV4_BITS: u8 = 32;
const IPV6_BITS: u8 = 128;
/// More proxies in a row than this are a mistake.
const TRUSTED_HOPS_MAX: u64 = 100;
/// What HTTP/2 has in place of a request line and every host can tell; Envoy shows them as headers. The last is ours.
const PSEUDO_HEADERS: [&str; 4] = [":authority", ":method", ":path", PATH_ONLY];
/// Parts of names, as they are without punctuation, of what opens doors.
const CREDENTIALS: [&str; 8] =
    ["authorization", "cookie", "token", "apikey", "secret", "session", "password", "credential"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    Header,
    Param,
    Consumer,
    Cookie,
    Session,
    Ip,
}

const KINDS: [(&str, SourceKind, bool); 11] = [
    ("limit_by_header", SourceKind::Header, false),
    ("limit_by_param", SourceKind::Param, false),
    ("limit_by_consumer", SourceKind::Consumer, false),
    ("limit_by_cookie", SourceKind::Cookie, false),
    ("limit_by_session", SourceKind::Session, false),
    ("limit_by_per_header", SourceKind::Header, true),
    ("limit_by_per_param", SourceKind::Param, true),
    ("limit_by_per_consumer", SourceKind::Consumer, true),
    ("limit_by_per_cookie", SourceKind::Cookie, true),
    ("limit_by_per_session", SourceKind::Session, true),
    ("limit_by_per_ip", SourceKind::Ip, true),
];

/// What the entries of `limit_keys` depend on; known even where the rest of `limit_by_*` is wrong.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// They may be patterns.
    pub(super) per: bool,
    /// They are addresses and networks.
    pub(super) addresses: bool,
    /// The text that a value counts as: a key may be written like any of its spellings.
    pub(super) counted: fn(&[u8]) -> Vec<u8>,
}

/// Reads the one `limit_by_*` of an item and what belongs to it. `told`: what filters before tell of sessions.
pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, told: &ToldFields) -> (Option<Keys>, Option<LimitBy>) {
    let Some((field, kind, per)) = chosen(reader, fields) else { return (None, None) };
    let limit_by = limit_by(reader, fields, told, (field, kind, per));
    let counted = limit_by.as_ref().map_or(unchanged as fn(&[u8]) -> Vec<u8>, |limit_by| counted(&limit_by.source));
    (Some(Keys { per, addresses: kind == SourceKind::Ip, counted }), limit_by)
}

fn counted(source: &Source) -> fn(&[u8]) -> Vec<u8> {
    match source {
        Source::Cookie(_) => |key| request::cookie_value(key).text.into_owned(),
        Source::Header(name) if name == PATH_ONLY => |key| request::counted_path(key).text.into_owned(),
        Source::Header(name) if is_host(name) => |key| request::host_key(request::trim(key)),
        Source::Header(name) if is_credentials(name) => {
            |key| request::credentials(request::trim(key)).text.into_owned()
        }
        Source::Header(_) | Source::Consumer => |key| request::trim(key).to_vec(),
        Source::Session(_) => |key| header_value(key).map_or_else(Vec::new, String::into_bytes),
        Source::Param(_) | Source::Ip(_) => unchanged,
    }
}

fn unchanged(key: &[u8]) -> Vec<u8> {
    key.to_vec()
}

/// Whether who knows a value of this kind can pass for its owner, as far as its name tells: such values are hashed
/// unless told otherwise.
pub(super) fn opens_doors(source: &Source) -> bool {
    match source {
        Source::Cookie(_) => true,
        Source::Header(name) | Source::Param(name) => {
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).flat_map(char::to_lowercase).collect();
            CREDENTIALS.iter().any(|part| name.contains(part))
        }
        Source::Consumer | Source::Session(_) | Source::Ip(_) => false,
    }
}

/// What becomes of a request without a value.
pub(super) fn on_missing(reader: &mut Reader, fields: &Fields<'_>) -> Option<OnMissing> {
    let Some((path, node)) = fields.get("on_missing") else { return Some(OnMissing::Pass) };
    reader.choice(path, node, &[("pass", OnMissing::Pass), ("refuse", OnMissing::Refuse), ("count", OnMissing::Count)])
}

/// Which of several values counts.
pub(super) fn take(reader: &mut Reader, fields: &Fields<'_>) -> Option<Take> {
    let Some((path, node)) = fields.get("take") else { return Some(Take::First) };
    if fields.get_unless_null("limit_by_per_ip").is_some() {
        reader.error(path, "stands beside `limit_by_per_ip`: expected `trusted_hops` or `trusted_proxies` there");
        return None;
    }
    reader.choice(
        path,
        node,
        &[("first", Take::First), ("last", Take::Last), ("all", Take::All), ("refuse", Take::Refuse)],
    )
}

fn limit_by(
    reader: &mut Reader,
    fields: &Fields<'_>,
    told: &ToldFields,
    (field, kind, per): (&'static str, SourceKind, bool),
) -> Option<LimitBy> {
    if kind != SourceKind::Ip {
        for name in IP_FIELDS.into_iter().filter(|name| fields.get(name).is_some()) {
            reader.error(
                fields.at(name),
                format_args!("stands beside `{field}`: expected only beside `limit_by_per_ip`"),
            );
        }
    }
    let (path, node) = fields.get(field)?;
    if kind == SourceKind::Consumer {
        return Some(LimitBy { per, source: Source::Consumer, key_name: CONSUMER.to_string() });
    }
    let key_name = reader.text(path, node)?;
    let source = match kind {
        SourceKind::Header => Source::Header(header_name(reader, path, node, &key_name)?),
        SourceKind::Cookie => Source::Cookie(cookie_name(reader, path, node, &key_name)?),
        SourceKind::Session => Source::Session(told_header(reader, told, path, &key_name)?),
        SourceKind::Ip => Source::Ip(client_ip(reader, fields, path, node, &key_name)?),
        SourceKind::Param | SourceKind::Consumer => Source::Param(key_name.clone()),
    };
    Some(LimitBy { per, source, key_name })
}

/// The one that is set. A consumer's is by being there, the others by a name: empty is unset, as in stock.
fn chosen(reader: &mut Reader, fields: &Fields<'_>) -> Option<(&'static str, SourceKind, bool)> {
    let is_set = |name: &str, kind: SourceKind| match fields.get(name).map(|(_, node)| &node.content) {
        None => false,
        Some(_) if kind == SourceKind::Consumer => true,
        Some(Content::Null) => false,
        Some(Content::Text(text)) => !text.is_empty(),
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
    let mut empty =
        KINDS.into_iter().filter_map(|(name, ..)| fields.get(name).map(|(_, node)| (name, node))).peekable();
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
        if lower == ":path" {
            reader.warn(
                path,
                format_args!(
                    "is the path with its query, which a client changes at will: `{PATH_ONLY}` is the path alone"
                ),
            );
        }
        return Some(lower);
    }
    reader.expected(path, node, "the name of a header: letters, digits and !#$%&'*+-.^_`|~");
    None
}

/// A token of RFC 9110, section 5.6.2.
pub(super) fn is_token(name: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// The name of a header, in lower case.
pub(super) fn token_header(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<String> {
    let name = reader.text(path, node)?.to_ascii_lowercase();
    if !is_token(&name) {
        reader.expected(path, node, "the name of a header: letters, digits and !#$%&'*+-.^_`|~");
        return None;
    }
    Some(name)
}

/// The header in which a field of a session is told.
fn told_header(reader: &mut Reader, told: &ToldFields, path: Path<'_>, field: &str) -> Option<String> {
    let header = told.get(field).map(|(header, _)| header.to_string());
    if header.is_none() && !told.may_be_more {
        let all: Vec<String> = told.names().map(|field| format!("`{field}`")).collect();
        let told = if all.is_empty() { "nothing".to_string() } else { all.join(", ") };
        reader.error(
            path,
            format_args!(
                "no filter before this one tells `{}` of a session: expected it in `fields` of a `session` there, \
                 which tell {told}",
                shortened(field, 80)
            ),
        );
    }
    header
}

/// The name of a cookie.
pub(super) fn cookie_name(reader: &mut Reader, path: Path<'_>, node: &Node, name: &str) -> Option<String> {
    if name.is_empty() {
        reader.error(path, "expected the name of a cookie, got an empty text");
        return None;
    }
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
            reader.expected(
                path,
                node,
                format_args!("`{FROM_REMOTE_ADDR}` or `{FROM_HEADER}` and the name of a header"),
            );
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
            reader.error(
                fields.at(name),
                format_args!("says which address of a header to take: expected only with `{FROM_HEADER}`..."),
            );
        }
    }
    let trust = trust(reader, fields);
    let ipv4_prefix = prefix(reader, fields, "ipv4_prefix", IPV4_BITS);
    let ipv6_prefix = prefix(reader, fields, "ipv6_prefix", IPV6_BITS);
    Some(ClientIp { header: header?, trust: trust?, ipv4_prefix: ipv4_prefix?, ipv6_prefix: ipv6_prefix? })
}

/// How many leading bits make one client; all of them unless said.
fn prefix(reader: &mut Reader, fields: &Fields<'_>, name: &str, bits: u8) -> Option<u8> {
    let Some((path, node)) = fields.get(name) else { return Some(bits) };
    u8::try_from(reader.whole(path, node, 1..=u64::from(bits))?).ok()
}

fn trust(reader: &mut Reader, fields: &Fields<'_>) -> Option<Trust> {
    match (fields.get("trusted_hops"), fields.get("trusted_proxies")) {
        (None, None) => Some(Trust::Leftmost),
        (Some((path, node)), None) => {
            let hops = reader.whole(path, node, 0..=TRUSTED_HOPS_MAX)?;
            u32::try_from(hops).ok().map(Trust::Hops)
        }
        (None, Some((path, node))) => networks(reader, path, node).map(Trust::proxies),
        (Some(_), Some(_)) => {
            reader.error(fields.path, "has `trusted_hops` and `trusted_proxies`: expected one of them only");
            None
        }
    }
}

/// Addresses and networks, at least one.
pub(super) fn networks(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Vec<IpNet>> {
    let mut networks = vec![];
    let mut understood = true;
    for (path, node) in elements(&path, node) {
        let network =
            reader.parsed(path, node, "an address or a network, such as `10.0.0.0/8`", |node| network(node.as_str()?));
        understood &= network.is_some();
        networks.extend(network);
    }
    if networks.is_empty() && understood {
        reader.error(path, format_args!("expected at least one address or network, got {}", emptiness(node)));
        return None;
    }
    understood.then_some(networks)
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().map(|network| network.trunc()).or_else(address)
}
