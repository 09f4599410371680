//! How configurations are read, for the engine and for the gateway alike: one document tree, one way to say where
//! something stands, one dialect of mistakes and suggestions.
//!
//! Pure: text in, values and mistakes out. It knows JSON, but neither YAML nor files, and nothing of what a
//! configuration means.
//!
//! ```
//! use slidegate_document::{Node, Path, Reader, Vocabulary};
//!
//! static VOCABULARY: Vocabulary = Vocabulary::new(&[]);
//!
//! let document = Node::parse(br#"{"limt": 5, "window": "10s"}"#)?;
//! let mut reader = Reader::new(&VOCABULARY);
//! let fields = reader.object(Path::Root, &document, &["limit", "window"]).expect("an object");
//! let day_us = 24 * 3600 * 1_000_000;
//! let window_us = reader.field(&fields, "window", |reader, path, node| reader.duration_us(path, node, day_us));
//! assert_eq!(window_us, Some(10_000_000));
//! let mistakes = reader.finish().expect_err("one field is misspelt");
//! assert_eq!(mistakes[0].to_string(), "limt: there is no such field here; did you mean `limit`?");
//! # Ok::<(), String>(())
//! ```
//!
//! What the configurations are made of stands in [`table`]; [`schema`] makes JSON Schemas of that.
#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

extern crate alloc;

mod error;
mod fields;
mod node;
mod path;
mod quantity;
mod reader;
#[cfg_attr(
    not(test),
    expect(clippy::indexing_slicing, reason = "objects take new names, and nothing here was read from anywhere")
)]
pub mod schema;
mod shapes;
mod shown;
mod suggest;
pub mod table;

pub use error::ConfigError;
pub use fields::{Fields, elements, emptiness};
pub use node::{BYTES_MAX, Content, Member, Node, Span, float_text};
pub use path::{Finder, Path, Spot};
pub use quantity::{ByteCount, EXACT_MAX, TimeSpan, duration_us, size, spelled, thousandths, truth, whole_number};
pub use reader::{Reader, Vocabulary};
pub use shapes::Shapes;
pub use shown::{is_secret_name, key_shown, name_shown, seen, shortened, stray_name, without_assigned};
pub use suggest::{either, nearest};
