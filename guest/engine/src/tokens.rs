//! What bodies tell of tokens of language models: how many an answer took, and how many a request may take.
//!
//! Bodies are read as they pass, a byte at a time: nothing of them is kept, and no piece is too small or too large.
//! Only objects' members at known places count, never what stands inside a text. What makes no sense tells nothing, and
//! stops nothing.

mod cut_reader;
mod event_frames;
mod event_lines;
mod event_shape;
mod json_number;
mod json_scanner;
mod last_words;
mod name_table;
mod output_bound;
mod spoken_text;
mod usage;
mod usage_chunk;
mod usage_document;
mod usage_reader;
mod usage_request;
mod weights;

pub use cut_reader::CutReader;
pub use json_number::COUNT_MAX;
pub use last_words::{LastError, StreamApi};
pub use output_bound::{OutputBound, OutputBoundReader};
pub(crate) use spoken_text::BYTES_PER_TOKEN;
pub use spoken_text::SpokenText;
pub use usage::Usage;
pub(crate) use usage_chunk::{KEPT_BACK_MAX, UsageChunks, without_usage};
pub use usage_reader::UsageReader;
pub use weights::TokenWeights;
