//! What requests are answered with.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_cache::{CacheStatus, HeaderFields, StoredResponse, is_not_modified, not_modified_fields, push_number};

use crate::{
    cache::CacheFallback,
    grpc, json_answer,
    verdict::{HeaderEdit, Response},
};

const NOT_CACHED: &str = r#"{"error":{"message":"No response is stored that could be used.","code":"not_cached"}}"#;

/// A stored response, as an answer to a request with these fields (RFC 9111, 4). If nobody else has it, it is the
/// answer without being copied.
#[inline]
pub(super) fn stored(
    stored: Rc<StoredResponse>,
    request: &HeaderFields,
    status: &CacheStatus,
    now_ms: u64,
    details: &'static str,
) -> Response {
    let age_s = stored.age_s(now_ms);
    let (status_code, mut headers, body) = if is_not_modified(&stored, request) {
        (304, not_modified_fields(&stored).0, Rc::default())
    } else {
        let StoredResponse { status, headers, body, .. } = Rc::try_unwrap(stored).unwrap_or_else(copied);
        let mut headers = headers.0;
        // The length is for who sends it, the other is said anew.
        headers.retain(|(name, _)| !matches!(name.as_str(), "content-length" | "x-cache"));
        (status, headers, body)
    };
    let mut age = Vec::new();
    push_number(&mut age, age_s);
    // 5.1
    headers.push((String::from("age"), age));
    let [cache_status, word] = told(status);
    headers.push(cache_status);
    headers.push(word);
    Response { status: status_code, headers, body, details, grpc_status: grpc::UNAVAILABLE }
}

/// One that others have, too.
#[inline(never)]
fn copied(stored: Rc<StoredResponse>) -> StoredResponse {
    StoredResponse::clone(&stored)
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
        body: Rc::new(NOT_CACHED.into()),
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
    [("cache-status".to_string(), status.text()), ("x-cache".to_string(), status.word().as_bytes().to_vec())]
}
