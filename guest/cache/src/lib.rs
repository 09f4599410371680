//! What a shared HTTP cache may store and reuse, as pure functions of header fields and times: RFC 9111, stale use by
//! RFC 5861, `Cache-Status` by RFC 9211 and the targeted field of RFC 9213. Each rule names its clause.
//!
//! Beside that the key of a response, of which nothing that tells two users apart may be missing, and the value that is
//! kept for it. What is kept comes back from a Redis that others write to: its reader never panics and believes
//! nothing.
//!
//! Nothing here asks a Redis, opens a connection or reads a clock; parts of responses and answers to POST are not
//! stored.
//!
//! ```
//! use slidegate_cache::{FreshnessTerms, HeaderFields, KeyScope, Lifetime, ResponseDirectives, may_store};
//!
//! let response = HeaderFields(vec![("cache-control".into(), b"max-age=60, stale-if-error=600".to_vec())]);
//! let directives = ResponseDirectives::read(&response);
//! assert!(may_store(&HeaderFields::default(), 200, &response, &directives, KeyScope::default()).is_ok());
//! let terms = FreshnessTerms { default_s: None, max_s: 3_600, stale_while_revalidate_s: 0, stale_if_error_s: 0 };
//! let lifetime = Lifetime::of(200, &response, &directives, 1_700_000_000, &terms);
//! assert_eq!((lifetime.fresh_s, lifetime.stale_if_error_s), (60, 600));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

extern crate alloc;

mod cache_status;
mod date;
mod directives;
mod fields;
mod freshness;
mod invalidation;
mod key;
mod purge;
mod stored;
mod storing;
mod validation;
mod value;
mod vary;

pub use cache_status::{CacheStatus, Forwarding};
pub use date::read_date;
pub use directives::{RequestDirectives, ResponseDirectives};
pub use fields::{DIGITS_MAX, HeaderFields, push_number};
pub use freshness::{FreshnessTerms, Lifetime, initial_age_s};
pub use invalidation::{is_safe, voided};
pub use key::{CacheKey, KeyMaterial, KeyPart, KeyQuery, index_of, override_bit};
pub use purge::{
    PURGES, PURGES_MAX, PurgeTag, VOID, VOID_MS_MIN, is_void, purge_command, purge_tag, void_command, voided_before,
};
pub use stored::{Reuse, StoredResponse};
pub use storing::{KeyScope, Uncacheable, may_store};
pub use validation::{condition, is_conditional, is_for_the_server, is_not_modified, not_modified_fields};
pub use value::{CachedValue, TAGS_MAX, UnreadableValue, ValueHead, value_head};
pub use vary::{VARIANTS_MAX, VaryValues, matches_request, vary_names, vary_values};
