//! Envoy's external authorization: `envoy.service.auth.v3.Authorization/Check`. Of its messages there is what a
//! decision needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hyper::header::HeaderMap;
use prost::Message;

use super::asked::{self, AskedRequest};
use super::decision::{PassedRequest, RefusedRequest};
use super::envoy_messages::{self, HttpStatus, ProtoHeaderOption, ProtoHeaders};
use super::forwarded::{X_ENVOY_EXTERNAL_ADDRESS, address, last_address};
use super::grpc::GrpcError;
use crate::gateway::admission::{Caller, RouteNames};
use crate::gateway::answer::grpc_status;

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
    pub(super) header_map: Option<ProtoHeaders>,
}

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
    pub(super) status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<ProtoHeaderOption>,
    #[prost(string, tag = "3")]
    pub(super) body: String,
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
    let headers = fields(http.header_map, http.headers)?;
    let parts = asked::head(http.method.as_bytes(), &http.path, &http.host, headers)?;
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

/// The request's fields, each by itself or those of one name joined.
///
/// # Errors
/// Some are none, or they are more than a request may have.
fn fields(raw: Option<ProtoHeaders>, joined: BTreeMap<String, Vec<u8>>) -> Result<HeaderMap, GrpcError> {
    let raw = raw.into_iter().flat_map(ProtoHeaders::into_fields);
    let joined = joined.into_iter().map(|(name, value)| {
        let is_cookie = name.eq_ignore_ascii_case("cookie");
        (name, if is_cookie { cookies_apart(&value) } else { value })
    });
    envoy_messages::fields(raw.chain(joined))
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
                response_headers_to_add: ProtoHeaderOption::overwriting(&passed.response),
                headers: passed.request.into_iter().filter_map(ProtoHeaderOption::of_edit).collect(),
            }),
            denied_response: None,
        },
        Err(RefusedRequest { parts, body }) => AuthzAnswer {
            status: Some(RpcStatus { code: i32::from(grpc_status(parts.status)) }),
            denied_response: Some(AuthzDenied {
                status: Some(HttpStatus { code: i32::from(parts.status.as_u16()) }),
                headers: ProtoHeaderOption::overwriting(&parts.headers),
                body: String::from_utf8_lossy(&body).into_owned(),
            }),
            ok_response: None,
        },
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
}
