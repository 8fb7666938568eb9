//! What a caller asks to be completed: the request in its dialect, and what checks and providers read of it.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

/// A completion to be made, whoever answers it.
#[derive(Debug, Clone, Default)]
pub struct Chat {
    /// The request as OpenAI's chat completions take it, without `model`, `stream` and `pointsman`: whatever
    /// the caller sent, unknown fields included. `stream_options` is there only for options other than
    /// `include_usage`.
    pub openai: Map<String, Value>,
    /// The same as Anthropic's messages take it, without `model` and `stream`, when the caller spoke that.
    pub anthropic: Option<Map<String, Value>>,
    /// What `anthropic` holds and `openai` has no word for, for example a document by its address; such a request
    /// is only for those who speak Anthropic's dialect. At most a few names.
    pub lost: Vec<String>,
    pub asks: Asks,
    /// Beta features of Anthropic's API that the caller asks for by a header.
    pub beta: Vec<String>,
    /// The request's share of the memory for all requests, held as long as this is.
    pub memory: Option<Arc<OwnedSemaphorePermit>>,
}

/// What the request asks of the answer's form.
#[derive(Debug, Clone, Default)]
pub struct Asks {
    pub json: JsonAsk,
    pub tool: ToolAsk,
    pub output_tokens_max: Option<u32>,
    /// Answers asked for at once; 1 unless said.
    pub choices: u32,
}

/// Whether the answer must be JSON.
#[derive(Debug, Clone, Default)]
pub enum JsonAsk {
    #[default]
    No,
    /// Any JSON object.
    Object,
    /// JSON that this compiled schema accepts.
    Schema(Arc<AnswerSchema>),
}

/// A compiled schema, and how much work a comparison with it may be.
#[derive(Debug)]
pub struct AnswerSchema {
    pub validator: jsonschema::Validator,
    /// Values that the schema holds once its references are followed; what refers to itself counts once a turn.
    pub values: u64,
    /// Whether it refers to itself, so that an answer decides how often it turns.
    pub refers_to_itself: bool,
}

impl AnswerSchema {
    /// Returns whether the schema accepts a value.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }
}

/// Whether the answer must call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolAsk {
    #[default]
    Free,
    /// Some tool.
    Any,
    /// This one.
    Named(String),
}
