//! Scripted answers in OpenAI's form.

use std::sync::Arc;

use crate::completion::{
    answer::{Delta, Raw, View},
    dialect::openai::{self, ChunkHead},
};

/// What all pieces of one answer share.
#[derive(Debug, Clone)]
pub struct Form {
    pub id: String,
    pub model: Arc<str>,
    /// Unix time.
    pub created_s: u64,
}

impl Form {
    /// Returns a whole answer.
    pub fn completion(&self, view: &View) -> Raw {
        Raw::OpenAi(openai::completion(view, self.head()))
    }

    /// Returns one piece; one that adds nothing is the opening.
    pub fn chunk(&self, delta: &Delta) -> Raw {
        let head = self.head();
        let opens = *delta == Delta::default();
        Raw::OpenAi(if opens { openai::opening(head) } else { openai::chunk(delta, head) })
    }

    fn head(&self) -> ChunkHead<'_> {
        ChunkHead { id: &self.id, model: &self.model, created: self.created_s }
    }
}
