//! OpenAI's chat completions: read from a caller, viewed when a provider answers in them, and written for
//! providers that do not speak them.
//!
//! Pure. What the caller sent and what the provider answered is looked at and never changed.

mod look;
mod read;
mod schema;
mod write;

pub(super) use self::read::{extension, schema_ask};
pub use self::{
    look::{delta, error_of, view},
    read::{CHOICES_MAX, in_callers_words, read},
    write::{ChunkHead, chunk, completion, opening, usage, usage_chunk},
};
