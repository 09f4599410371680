//! What requests are answered with.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_cache::{CacheStatus, HeaderFields, StoredResponse, is_not_modified, not_modified_fields};

use crate::{
    cache::CacheFallback,
    grpc, json_answer,
    verdict::{HeaderEdit, Response},
};

const NOT_CACHED: &str = r#"{"error":{"message":"No response is stored that could be used.","code":"not_cached"}}"#;

/// A stored response, as an answer to a request with these fields (RFC 9111, 4).
pub(super) fn stored(
    stored: &StoredResponse,
    request: &HeaderFields,
    status: &CacheStatus,
    now_ms: u64,
    details: &'static str,
) -> Response {
    let is_known = is_not_modified(stored, request);
    let mut headers = match is_known {
        true => not_modified_fields(stored).0,
        // The length is for who sends it, the other is said anew.
        false => {
            let is_kept = |(name, _): &&(String, Vec<u8>)| !matches!(name.as_str(), "content-length" | "x-cache");
            stored.headers.0.iter().filter(is_kept).cloned().collect()
        }
    };
    // 5.1
    headers.push(("age".to_string(), stored.age_s(now_ms).to_string().into_bytes()));
    headers.extend(told(status));
    Response {
        status: if is_known { 304 } else { stored.status },
        headers,
        body: if is_known { Rc::default() } else { Rc::clone(&stored.body) },
        details,
        grpc_status: grpc::UNAVAILABLE,
    }
}

/// The answer in place of an error where nothing is stored.
pub(super) fn fallback(fallback: &CacheFallback, status: &CacheStatus) -> Response {
    let mut headers = Vec::from([
        ("content-type".to_string(), fallback.content_type.clone().into_bytes()),
        ("cache-control".to_string(), b"no-store".to_vec()),
    ]);
    headers.extend(told(status));
    Response {
        status: fallback.status,
        headers,
        body: Rc::clone(&fallback.body),
        details: "cache.fallback",
        grpc_status: grpc::UNAVAILABLE,
    }
}

/// The answer to who wants nothing but what is stored (RFC 9111, 5.2.1.7).
pub(super) fn not_cached(status: &CacheStatus) -> Response {
    let mut headers = json_answer::json_headers();
    headers.extend(told(status));
    Response {
        status: 504,
        headers,
        body: Rc::from(NOT_CACHED.as_bytes()),
        details: "cache.not_cached",
        grpc_status: grpc::UNAVAILABLE,
    }
}

/// What is changed in the headers of a response that the upstream gave. Its own caches have said theirs before.
pub(super) fn edits(status: &CacheStatus) -> Vec<HeaderEdit> {
    let [(name, value), (short_name, word)] = told(status);
    [HeaderEdit::Append(name, value), HeaderEdit::Set(short_name, word)].into()
}

fn told(status: &CacheStatus) -> [(String, Vec<u8>); 2] {
    [
        ("cache-status".to_string(), format!("{status}").into_bytes()),
        ("x-cache".to_string(), status.word().as_bytes().to_vec()),
    ]
}
