//! The two request and answer forms that callers speak, and what the rest of the crate reads of them.

pub mod anthropic;
pub mod openai;

use super::chat::Chat;
use crate::prompt::Draft;

/// What an image counts: some 1.2 megapixels, which larger ones are scaled down to.
const IMAGE_TOKENS: usize = 1600;
/// What a file, a sound or a film counts: about one dense page. Its bytes say little.
const FILE_TOKENS: usize = 3000;

/// A request as an edge received it, read once.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub chat: Chat,
    /// For `routing::admit`; context and preferences may still be added by the edge.
    pub draft: Draft,
    /// What the caller wrote as `model`: "auto", "tier:NAME" or the id of a target.
    pub model: String,
    pub stream: bool,
    /// Whether a stream's caller wants its usage.
    pub include_usage: bool,
}
