//! What is remembered of a request that a stored response may answer.

use alloc::{
    borrow::Cow,
    string::{String, ToString},
    vec::Vec,
};

use hmac_sha256::Hash;
use slidegate_cache::{
    CacheKey, HeaderFields, KeyPart, KeyScope, RequestDirectives, is_conditional, is_for_the_server, overriding_parts,
};

use crate::{
    cache::{CacheGroup, CacheRules},
    request::{CookiePair, RequestView, cookie_pairs, is_cookie_alike},
    session::SessionSource,
};

/// A request with longer headers goes by: they would be kept while it is fetched.
const HEADERS_MAX: usize = 32 << 10;

/// A key of more than this is kept for nobody: it would stand in Redis as often as a stranger likes.
const MATERIAL_MAX: usize = 4 << 10;

/// A request beside its headers and its key, in bytes.
const REQUEST_BYTES: usize = 512;

/// A GET or a HEAD.
#[derive(Debug)]
pub(super) struct CacheableRequest {
    pub(super) is_head: bool,
    pub(super) headers: HeaderFields,
    pub(super) directives: RequestDirectives,
    pub(super) key: CacheKey,
    pub(super) scope: KeyScope,
    /// Who would answer it.
    pub(super) upstream: String,
}

impl CacheableRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Why no stored response is for it, nor its own stored.
    pub(super) fn read(
        rules: &CacheRules,
        method: &[u8],
        request: &dyn RequestView,
    ) -> Result<CacheableRequest, &'static str> {
        let is_head = match method {
            b"GET" => false,
            b"HEAD" => true,
            _ => return Err("its method is neither GET nor HEAD"),
        };
        // What its body says is not part of the key.
        if request.has_body() || request.header("content-length").is_some_and(|length| length != b"0") {
            return Err("it has a body");
        }
        let headers = HeaderFields(request.headers().ok_or("its headers are not known")?);
        let is_other = ["range", "upgrade", "transfer-encoding"].iter().any(|name| headers.has(name));
        if is_other || headers.first("content-type").is_some_and(crate::request::is_grpc) {
            return Err("it asks for a part, or speaks another protocol");
        }
        // To some servers that is the same field, and another one here.
        if headers.0.iter().any(|(name, _)| name.contains('_')) {
            return Err("the name of one of its headers has an underscore");
        }
        if is_for_the_server(&headers) {
            return Err("its conditions are for the server");
        }
        if headers.size() > HEADERS_MAX {
            return Err("its headers are too long");
        }
        let directives = RequestDirectives::read(&headers);
        if directives.no_store {
            return Err("it says `no-store`");
        }
        let authority = request.authority().ok_or("it names no host")?;
        let service = request.service_name();
        let key = key(rules, &authority, &service, request, &headers);
        let (key, scope) = key.ok_or("it leads to a session, and nobody could say whose")?;
        if key.material.len() > MATERIAL_MAX {
            return Err("its key would be too long");
        }
        let upstream = match service.is_empty() {
            true => String::from_utf8_lossy(&authority).to_ascii_lowercase(),
            false => service,
        };
        Ok(CacheableRequest { is_head, headers, directives, key, scope, upstream })
    }

    /// Whether it may fetch a response for others, and wait for one: whatever comes is as good for them as for it.
    pub(super) fn is_ordinary(&self) -> bool {
        !self.is_head
            && !self.directives.no_cache
            && self.directives.max_age_s.is_none()
            && self.directives.min_fresh_s.is_none()
            && !self.headers.has("authorization")
            && !is_conditional(&self.headers)
    }

    /// What it takes, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        REQUEST_BYTES + self.headers.size() + self.headers.0.len() * 48 + self.key.material.len()
    }
}

/// The key of a request, and what it says of whose the response is. None: whose it is cannot be told.
fn key(
    rules: &CacheRules,
    authority: &[u8],
    service: &str,
    request: &dyn RequestView,
    headers: &HeaderFields,
) -> Option<(CacheKey, KeyScope)> {
    let mut parts: Vec<KeyPart<'_>> = overriding_parts(headers);
    parts.extend(request.header(":scheme").map(|scheme| (":scheme", Some(Cow::Owned(scheme)))));
    // Routes may be chosen by what is not part of the key, and caches with other rules may have the same Redis.
    parts.push(("service", Some(Cow::Borrowed(service.as_bytes()))));
    parts.push(("query", Some(Cow::Owned(rules.query.as_text()))));
    for name in &rules.headers {
        if !headers.has(name) {
            parts.push((name, None));
        }
        parts.extend(headers.values(name).map(|value| (name.as_str(), Some(Cow::Borrowed(value)))));
    }
    let mut scope = KeyScope::default();
    if let Some(group) = &rules.group {
        let (name, values) = match group {
            CacheGroup::Session { header, source } => {
                let told: Vec<&[u8]> = headers.values(header).collect();
                // It has a session, and nobody could say whose: what comes is not for those who have none.
                if told.is_empty() && is_brought(source, headers) {
                    return None;
                }
                (header, told)
            }
            CacheGroup::Cookie(name) => (name, cookies(headers.values("cookie"), name)),
        };
        scope.is_grouped = values.iter().any(|value| !value.is_empty());
        scope.is_by_cookie = scope.is_grouped && matches!(group, CacheGroup::Cookie(_));
        parts.push(("group", Some(Cow::Borrowed(name.as_bytes()))));
        let count = values.len().to_string().into_bytes();
        parts.push(("group", Some(Cow::Owned(count))));
        // What tells users apart is no reader's of Redis.
        let digests = values.iter().map(|value| Hash::hash(value).to_vec());
        parts.extend(digests.map(|digest| ("group", Some(Cow::Owned(digest)))));
    }
    let path = request.path();
    Some((CacheKey::new(authority, &rules.query.of(&path), parts), scope))
}

/// Whether a request has what leads to a session.
fn is_brought(source: &SessionSource, headers: &HeaderFields) -> bool {
    match source {
        SessionSource::Cookie(name) => !cookies(headers.values("cookie"), name).is_empty(),
        SessionSource::Header(name) => headers.has(name),
    }
}

/// All cookies that any server may take for the one of this name, as they are written: which of them counts is not for
/// this to say, so that requests that differ in one of them are of different users.
fn cookies<'a>(headers: impl Iterator<Item = &'a [u8]>, name: &str) -> Vec<&'a [u8]> {
    let is_it = |pair: &CookiePair<'_>| {
        begins(pair.text(), name) || pair.hidden_names().any(|hidden| is_cookie_alike(hidden, name))
    };
    cookie_pairs(headers).filter(is_it).map(|pair| pair.text()).collect()
}

/// Whether a text begins with a cookie of this name that is not empty.
fn begins(text: &[u8], name: &str) -> bool {
    text.iter().position(|byte| *byte == b'=').is_some_and(|at| {
        let (written, value) = text.split_at_checked(at).unwrap_or_default();
        // What stands for nothing is nobody's.
        let is_nothing = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
        is_cookie_alike(written, name) && !value.iter().skip(1).all(is_nothing)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_the_cookie_counts() {
        for (header, expected) in [
            ("sid=a", &["sid=a"][..]),
            ("x=y; sid=a; sid=b", &["sid=a", "sid=b"]),
            ("sid=", &[]),
            ("x=y, sid=a", &["x=y, sid=a"]),
            ("sid=a, sid=b", &["sid=a, sid=b"]),
            ("x=y sid=a", &["x=y sid=a"]),
            ("x=y, sid =a", &["x=y, sid =a"]),
            ("sidx=a", &[]),
            ("sid= ; sid=\"\"", &[]),
        ] {
            let found = cookies([header.as_bytes()].into_iter(), "sid");
            assert_eq!(found, expected.iter().map(|pair| pair.as_bytes()).collect::<Vec<_>>(), "{header}");
        }
    }
}
