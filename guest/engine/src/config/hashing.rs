//! `hash_values` and `hash_key`: which values stand in Redis as codes.

use slidegate_document::{Content, Fields, Reader};

use super::limit_by::opens_doors;
use crate::{
    rule::Source,
    value_hash::{Codes, ValueHash},
};

/// Without a key of one's own: hides values from a glance at Redis, not from somebody who tries guesses.
const KEY_OF_ALL: &[u8] = b"slidegate";

/// What a policy says of hashing.
pub(super) struct Hashing {
    hash: Option<ValueHash>,
    all: Option<bool>,
}

impl Hashing {
    /// Reads what `codes` remembers the codes of.
    pub(super) fn read(reader: &mut Reader, codes: &Codes, fields: &Fields<'_>) -> Option<Hashing> {
        let all = reader.optional_flag(fields, "hash_values");
        let hash = match fields.get("hash_key") {
            Some((path, node)) => {
                let key = match node.content {
                    Content::List(_) | Content::Object(_) | Content::Null => None,
                    _ => reader.text(path, node).filter(|key| !key.is_empty()),
                };
                if key.is_none() {
                    reader.error(
                        path,
                        "expected a text that nobody else knows, the same in all gateways that share windows",
                    );
                }
                ValueHash::new(key?.as_bytes(), codes)
            }
            None => ValueHash::new(KEY_OF_ALL, codes),
        };
        // What is kept in memory is not shown to anybody.
        let hash = fields.get("redis").map(|_| hash);
        Some(Hashing { hash, all: all? })
    }

    /// Whether the values of an item are not shown. Unless told otherwise, those that open doors.
    pub(super) fn hides(&self, own: Option<bool>, source: &Source) -> bool {
        own.or(self.all).unwrap_or_else(|| opens_doors(source))
    }

    /// How an item spells its values in keys, if not in clear.
    pub(super) fn hash(&self, hides: bool) -> Option<ValueHash> {
        self.hash.clone().filter(|_| hides)
    }
}
