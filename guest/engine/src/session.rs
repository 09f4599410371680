//! Sessions that applications keep, read by who has none of their code: which record a cookie leads to, and what the
//! record says of its user.
//!
//! It asks no Redis and knows no request: cookies and records go in, keys and fields come out. What is read is what a
//! stranger sent and what an application stored; neither is trusted. A cookie that is signed is believed only with its
//! signature; of a record nothing is guessed. Lengths, depths and work are bounded, and whatever is not exactly as the
//! library writes it is a miss with its cause, never another user.
//!
//! ```
//! use slidegate_engine::session::{FieldPath, SessionFormat, SessionLead, SessionReader, SessionRecord,
//! SessionSettings}; use slidegate_engine::session::SessionSource;
//!
//! let reader = SessionReader::new(&SessionSettings {
//!     format: SessionFormat::Php,
//!     source: SessionSource::Cookie("PHPSESSID".to_string()),
//!     key_prefix: "PHPREDIS_SESSION:".to_string(),
//!     secrets: vec![],
//!     max_age_s: 0,
//!     fields: vec![FieldPath::parse("user.id").unwrap()],
//! });
//! let lead = reader.lead([&b"theme=dark; PHPSESSID=c3e1d603ceca8586"[..]], 0).unwrap();
//! assert_eq!(lead, SessionLead::Key(b"PHPREDIS_SESSION:c3e1d603ceca8586".to_vec()));
//! let session = reader.read(SessionRecord::String(br#"user|a:1:{s:2:"id";i:7;}"#), 0).unwrap();
//! assert_eq!(session.values, [Some("7".to_string())]);
//! ```

mod cookie;
mod field_path;
mod fields;
mod format;
mod hash;
mod java;
mod json;
mod minting;
mod miss;
mod msgpack;
mod own;
mod own_signer;
mod php;
mod reader;
mod record_cursor;
mod rules;
mod signature;
mod signed_cookie;
mod source;

pub use field_path::{FieldPath, FieldPathError};
pub(crate) use fields::header_value;
pub use fields::{FIELDS_MAX, VALUE_MAX};
pub use format::{RecordKind, SecretUse, SessionFormat};
pub(crate) use minting::SessionMint;
pub use miss::SessionMiss;
pub use own::{ORDER_MAX, OrderedFields, SESSION_SET, SessionOrder, SessionOrderError};
pub(crate) use own::{digest_in, key_of_user};
pub use reader::{FoundSession, SessionLead, SessionReader, SessionRecord, SessionSettings};
pub use record_cursor::RECORD_MAX;
pub(crate) use rules::SEPARATORS_MAX;
pub use rules::{OnMissingSession, OwnSessionRules, PublicPath, SessionRules, SessionsPerUser, WhenFull};
pub(crate) use rules::{SOURCES_MAX, STRIPPED_MAX, is_alike, is_plain_path, spellings_of};
pub use source::SessionSource;
