//! Envoy's external authorization: `envoy.service.auth.v3.Authorization/Check`. Of its messages there is what a
//! decision needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri, header};
use prost::Message;
use slidegate::{Header, HeaderEdit};

use super::asked::AskedRequest;
use super::decision::{PassedRequest, RefusedRequest};
use super::forwarded::{X_ENVOY_EXTERNAL_ADDRESS, address, last_address};
use super::grpc::GrpcError;
use crate::gateway::admission::{Caller, RouteNames};
use crate::gateway::answer::grpc_status;
use crate::gateway::headers::HEADERS_SIZE_MAX;

/// `CheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzCheck {
    #[prost(message, optional, tag = "1")]
    pub(super) attributes: Option<AuthzAttributes>,
}

/// `AttributeContext`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzAttributes {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<AuthzPeer>,
    #[prost(message, optional, tag = "4")]
    pub(super) request: Option<AuthzRequest>,
    #[prost(btree_map = "string, string", tag = "10")]
    pub(super) context_extensions: BTreeMap<String, String>,
}

/// `AttributeContext.Peer`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzPeer {
    #[prost(message, optional, tag = "1")]
    pub(super) address: Option<AuthzAddress>,
}

/// `core.v3.Address`. One that is no socket's says nothing here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzAddress {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<AuthzSocketAddress>,
}

/// `core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzSocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
    #[prost(uint32, tag = "3")]
    pub(super) port_value: u32,
}

/// `AttributeContext.Request`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzRequest {
    #[prost(message, optional, tag = "2")]
    pub(super) http: Option<AuthzHttp>,
}

/// `AttributeContext.HttpRequest`. Values may be any bytes, whatever their type promises.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzHttp {
    #[prost(string, tag = "2")]
    pub(super) method: String,
    /// Fields of one name are one here, joined by commas.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(super) headers: BTreeMap<String, Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) path: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) host: Vec<u8>,
    #[prost(string, tag = "6")]
    pub(super) scheme: String,
    /// All fields, each by itself. With these the map is empty.
    #[prost(message, optional, tag = "13")]
    pub(super) header_map: Option<AuthzHeaderMap>,
}

/// `core.v3.HeaderMap`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzHeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<ProtoHeader>,
}

/// `core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoHeader {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    /// In place of the other, where that is not enough.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) raw_value: Vec<u8>,
}

/// `core.v3.HeaderValueOption`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoHeaderOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ProtoHeader>,
    #[prost(message, optional, tag = "2")]
    pub(super) append: Option<bool>,
    #[prost(int32, tag = "3")]
    pub(super) append_action: i32,
}

/// `APPEND_IF_EXISTS_OR_ADD` and `OVERWRITE_IF_EXISTS_OR_ADD`.
const APPEND: i32 = 0;
const OVERWRITE: i32 = 2;

/// `CheckResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<RpcStatus>,
    #[prost(message, optional, tag = "2")]
    pub(super) denied_response: Option<AuthzDenied>,
    #[prost(message, optional, tag = "3")]
    pub(super) ok_response: Option<AuthzOk>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    /// 0 lets the request pass.
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

/// `DeniedHttpResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzDenied {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<AuthzStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<ProtoHeaderOption>,
    #[prost(string, tag = "3")]
    pub(super) body: String,
}

/// `type.v3.HttpStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

/// `OkHttpResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthzOk {
    /// Of the request.
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<ProtoHeaderOption>,
    #[prost(string, repeated, tag = "5")]
    pub(super) headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) response_headers_to_add: Vec<ProtoHeaderOption>,
}

/// The request that Envoy asks about.
///
/// # Errors
/// It is none.
pub(super) fn asked(call: AuthzCheck, caller: Caller) -> Result<AskedRequest, GrpcError> {
    let attributes = call.attributes.unwrap_or_default();
    let http = attributes.request.and_then(|request| request.http);
    let http = http.ok_or_else(|| GrpcError::invalid("the call is about no request of HTTP"))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = fields(http.header_map, http.headers)?;
    parts.method = http.method.parse::<Method>().map_err(|_| GrpcError::invalid("the request's method is none"))?;
    let target = Some(http.path.as_slice()).filter(|path| !path.is_empty());
    let target = target.and_then(|path| PathAndQuery::try_from(path).ok());
    let target = target.and_then(|path| Uri::builder().path_and_query(path).build().ok());
    parts.uri = target.ok_or_else(|| GrpcError::invalid("the request's path is none"))?;
    if !http.host.is_empty() {
        let host = HeaderValue::from_bytes(&http.host);
        parts.headers.insert(header::HOST, host.map_err(|_| GrpcError::invalid("the request's host is none"))?);
    }
    let named = |name: &str| attributes.context_extensions.get(name).cloned();
    let names = match (named("route"), named("service")) {
        (None, None) => None,
        (route, service) => Some(RouteNames { route: route.unwrap_or_default(), service: service.unwrap_or_default() }),
    };
    let client = last_address(&parts.headers, &X_ENVOY_EXTERNAL_ADDRESS)
        .map(|address| SocketAddr::new(address, 0))
        .or_else(|| attributes.source.as_ref().and_then(socket_address));
    let is_secure = http.scheme.eq_ignore_ascii_case("https");
    Ok(AskedRequest { parts, client: client.unwrap_or(caller.client), is_secure, names })
}

fn socket_address(peer: &AuthzPeer) -> Option<SocketAddr> {
    let socket = peer.address.as_ref()?.socket_address.as_ref()?;
    Some(SocketAddr::new(address(&socket.address)?, u16::try_from(socket.port_value).unwrap_or_default()))
}

/// The request's fields. Names with a colon stand for what is told beside.
///
/// # Errors
/// Some are none, or they are more than a request may have.
fn fields(raw: Option<AuthzHeaderMap>, joined: BTreeMap<String, Vec<u8>>) -> Result<HeaderMap, GrpcError> {
    let raw = raw.map(|raw| raw.headers).unwrap_or_default();
    let raw = raw.into_iter().map(|ProtoHeader { key, value, raw_value }| {
        (key, if raw_value.is_empty() { value.into_bytes() } else { raw_value })
    });
    let joined = joined.into_iter().map(|(name, value)| {
        let is_cookie = name.eq_ignore_ascii_case("cookie");
        (name, if is_cookie { cookies_apart(&value) } else { value })
    });
    let mut fields = HeaderMap::new();
    let mut size = 0;
    for (name, value) in raw.chain(joined).filter(|(name, _)| !name.starts_with(':')) {
        size += name.len() + value.len();
        if size > HEADERS_SIZE_MAX as usize {
            return Err(GrpcError::too_large("the request's headers have more than 128 KiB"));
        }
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(&value).ok());
        let (name, value) = field.ok_or_else(|| GrpcError::invalid("a header of the request is none"))?;
        fields.try_append(name, value).map_err(|_| GrpcError::too_large("the request has too many headers"))?;
    }
    Ok(fields)
}

/// Cookies of several fields that were joined as other fields are. No value of a cookie may have a comma (RFC 6265),
/// and what looks like another cookie behind one is taken for one: it might be the one that is counted.
fn cookies_apart(joined: &[u8]) -> Vec<u8> {
    let mut apart: Vec<u8> = Vec::with_capacity(joined.len() + 8);
    for (index, part) in joined.split(|byte| *byte == b',').enumerate() {
        if index > 0 {
            let first = part.split(|byte| *byte == b';').next().unwrap_or_default();
            apart.extend_from_slice(if first.contains(&b'=') { b"; " } else { b"," });
        }
        apart.extend_from_slice(part);
    }
    apart
}

/// What was decided, as Envoy understands it.
pub(super) fn answer(decided: Result<PassedRequest, RefusedRequest>) -> AuthzAnswer {
    match decided {
        Ok(passed) => AuthzAnswer {
            status: Some(RpcStatus { code: 0 }),
            ok_response: Some(AuthzOk {
                headers_to_remove: passed.removed().map(str::to_owned).collect(),
                response_headers_to_add: overwriting(&passed.response),
                headers: passed.request.into_iter().filter_map(of_edit).collect(),
            }),
            denied_response: None,
        },
        Err(RefusedRequest { parts, body }) => AuthzAnswer {
            status: Some(RpcStatus { code: i32::from(grpc_status(parts.status)) }),
            denied_response: Some(AuthzDenied {
                status: Some(AuthzStatus { code: i32::from(parts.status.as_u16()) }),
                headers: overwriting(&parts.headers),
                body: String::from_utf8_lossy(&body).into_owned(),
            }),
            ok_response: None,
        },
    }
}

fn of_edit(edit: HeaderEdit) -> Option<ProtoHeaderOption> {
    match edit {
        HeaderEdit::Set(Header { name, value }) => Some(option(name, &value, OVERWRITE)),
        HeaderEdit::Append(Header { name, value }) => Some(option(name, &value, APPEND)),
        HeaderEdit::Remove(_) => None,
    }
}

/// These in place of what is there; the second one of a name beside the first.
fn overwriting(fields: &HeaderMap) -> Vec<ProtoHeaderOption> {
    let mut before = None;
    let mut options = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let action = if before == Some(name) { APPEND } else { OVERWRITE };
        options.push(option(name.as_str().to_owned(), value.as_bytes(), action));
        before = Some(name);
    }
    options
}

fn option(name: String, value: &[u8], action: i32) -> ProtoHeaderOption {
    let header = Some(ProtoHeader::new(name, value));
    // Envoy looks at this one where it knew no action once.
    ProtoHeaderOption { header, append: Some(action == APPEND), append_action: action }
}

impl ProtoHeader {
    pub(super) fn new(key: String, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => Self { key, value: text.to_owned(), raw_value: Vec::new() },
            Err(_) => Self { key, value: String::new(), raw_value: value.to_vec() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_were_joined_are_several_again() {
        for (joined, apart) in [
            ("a=1,b=2", "a=1; b=2"),
            ("a=1; b=2", "a=1; b=2"),
            ("a=1,2", "a=1,2"),
            ("a=1,2; b=3,c=4", "a=1,2; b=3; c=4"),
            ("", ""),
        ] {
            assert_eq!(cookies_apart(joined.as_bytes()), apart.as_bytes(), "{joined}");
        }
    }

    #[test]
    fn a_second_field_of_a_name_does_not_replace_the_first() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-a", "3")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let told: Vec<(String, i32)> = overwriting(&fields)
            .into_iter()
            .map(|option| (option.header.expect("a field").value, option.append_action))
            .collect();
        assert_eq!(told, [("1".to_owned(), OVERWRITE), ("3".to_owned(), APPEND), ("2".to_owned(), OVERWRITE)]);
    }
}
