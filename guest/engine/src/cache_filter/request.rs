//! What is remembered of a request that a stored response may answer.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use hmac_sha256::Hash;
use slidegate_cache::{
    CacheKey, HeaderFields, KeyMaterial, KeyScope, RequestDirectives, is_conditional, is_for_the_server, override_bit,
};

use super::known::KnownKeys;
use crate::{
    cache::{CacheGroup, CacheRules},
    request::{CookiePair, RequestView, cookie_pairs, is_cookie_alike},
    rule::hits::CONSUMER,
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
    /// What it takes, roughly, in bytes.
    pub(super) bytes: usize,
}

/// What the names of a request's header fields tell: each is looked at once.
#[derive(Default)]
struct NamesTold {
    /// It asks for a part, or speaks another protocol.
    is_other: bool,
    /// It is longer than nothing.
    has_length: bool,
    has_sign: bool,
    /// There are some that begin so.
    has_conditions: bool,
    has_directives: bool,
    has_consumer: bool,
    has_credential: bool,
    /// Of those by which applications take another address.
    override_bits: u32,
    /// How many bytes all have.
    size: usize,
}

impl NamesTold {
    #[inline]
    fn of(headers: &HeaderFields) -> NamesTold {
        let mut told = NamesTold::default();
        for (name, value) in &headers.0 {
            told.size += name.len() + value.len();
            told.has_sign |= !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            match name.as_str() {
                "range" | "upgrade" | "transfer-encoding" => told.is_other = true,
                "content-type" => told.is_other |= crate::request::is_grpc(value),
                "content-length" => told.has_length |= value != b"0",
                "cache-control" | "pragma" => told.has_directives = true,
                CONSUMER => told.has_consumer = true,
                name => {
                    told.has_credential |= is_credential(name);
                    told.has_conditions |= name.starts_with("if-");
                    told.override_bits |= override_bit(name);
                }
            }
        }
        told
    }
}

impl CacheableRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Why no stored response is for it, nor its own stored.
    #[inline]
    pub(super) fn read(
        rules: &CacheRules,
        known: &mut KnownKeys,
        method: &[u8],
        request: &dyn RequestView,
    ) -> Result<CacheableRequest, &'static str> {
        let is_head = match method {
            b"GET" => false,
            b"HEAD" => true,
            _ => return Err("its method is neither GET nor HEAD"),
        };
        // What its body says is not part of the key.
        const HAS_BODY: &str = "it has a body";
        if request.has_body() {
            return Err(HAS_BODY);
        }
        let headers = HeaderFields(request.headers().ok_or("its headers are not known")?);
        let told = NamesTold::of(&headers);
        if told.has_length {
            return Err(HAS_BODY);
        }
        if told.is_other {
            return Err("it asks for a part, or speaks another protocol");
        }
        // To some servers that is the same field as one with a hyphen, and another one here.
        if told.has_sign {
            return Err("the name of one of its headers has another sign than letters, digits and hyphens");
        }
        if told.has_conditions && is_for_the_server(&headers) {
            return Err("its conditions are for the server");
        }
        if told.size > HEADERS_MAX {
            return Err("its headers are too long");
        }
        let directives = match told.has_directives {
            true => RequestDirectives::read(&headers),
            false => RequestDirectives::default(),
        };
        if directives.no_store {
            return Err("it says `no-store`");
        }
        let authority = request.authority().ok_or("it names no host")?;
        let service = request.service_name();
        let mut material = KeyMaterial::new(&authority, &rules.query.of(&request.path()));
        if told.override_bits != 0 {
            material.add_overrides(&headers, told.override_bits);
        }
        let scope = complete(&mut material, rules, &service, request, &headers);
        let scope = scope.ok_or("it leads to a session, and nobody could say whose")?;
        let is_by_credential = || rules.headers.iter().any(|name| is_credential(name));
        let is_known = scope.is_known || told.has_consumer || (told.has_credential && !is_by_credential());
        let scope = KeyScope { is_known, ..scope };
        if material.bytes().len() > MATERIAL_MAX {
            return Err("its key would be too long");
        }
        let bytes = REQUEST_BYTES + told.size + headers.0.len() * 48 + material.bytes().len();
        let key = known.key(&material);
        let upstream = match service.is_empty() {
            true => String::from_utf8_lossy(&authority).to_ascii_lowercase(),
            false => service,
        };
        Ok(CacheableRequest { is_head, headers, directives, key, scope, upstream, bytes })
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
}

/// Whether a field of this name tells who asks, as `authorization` does, which RFC 9111 knows.
#[inline]
fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "api-key" | "proxy-authorization" | "x-access-token" | "x-api-key" | "x-auth-token" | "x-goog-api-key"
    )
}

/// Adds to the material of a request's key what is beside its address. Returns what that says of whose the response is.
/// None: whose it is cannot be told.
#[inline]
fn complete(
    material: &mut KeyMaterial,
    rules: &CacheRules,
    service: &str,
    request: &dyn RequestView,
    headers: &HeaderFields,
) -> Option<KeyScope> {
    if let Some(scheme) = request.header(":scheme") {
        material.add(":scheme", Some(&scheme));
    }
    // Routes may be chosen by what is not part of the key, and caches with other rules may have the same Redis.
    material.add("service", Some(service.as_bytes()));
    material.add("query", Some(&rules.query.as_text()));
    for name in &rules.headers {
        if !headers.has(name) {
            material.add(name, None);
        }
        headers.values(name).for_each(|value| material.add(name, Some(value)));
    }
    let is_told = rules.known_by.iter().any(|name| headers.has(name));
    let scope = match &rules.group {
        None => KeyScope::default(),
        Some(group) => group_of(material, group, is_told, headers)?,
    };
    Some(KeyScope { is_known: is_told, ..scope })
}

/// The same of the group of a request, which only some rules have. `is_told`: a filter before knows who asks.
#[inline(never)]
fn group_of(material: &mut KeyMaterial, group: &CacheGroup, is_told: bool, headers: &HeaderFields) -> Option<KeyScope> {
    let (name, values) = match group {
        CacheGroup::Session { header, source } => {
            let told: Vec<&[u8]> = headers.values(header).collect();
            // It has a session, and nobody could say whose: what comes is not for those who have none.
            if told.is_empty() && (is_told || is_brought(source, headers)) {
                return None;
            }
            (header, told)
        }
        CacheGroup::Cookie(name) => (name, cookies(headers.values("cookie"), name)),
    };
    material.add("group", Some(name.as_bytes()));
    material.add("group", Some(values.len().to_string().as_bytes()));
    // What tells users apart is no reader's of Redis.
    values.iter().for_each(|value| material.add("group", Some(&Hash::hash(value))));
    let is_grouped = values.iter().any(|value| !value.is_empty());
    Some(KeyScope { is_grouped, is_by_cookie: is_grouped && matches!(group, CacheGroup::Cookie(_)), is_known: false })
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
