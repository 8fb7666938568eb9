//! What a provider answers: whole ([`Answer`]) or in pieces ([`Piece`]), each with the provider's own JSON
//! and a view of it that checks, accounting and gRPC read.
//!
//! Plain data and folding; nothing here does I/O.

use serde_json::Value;

/// A provider's own JSON, in the dialect it speaks; forwarded unchanged to a caller of that dialect.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Whole: a `chat.completion`; piece: a `chat.completion.chunk`.
    OpenAi(Value),
    /// Whole: a `message`; piece: one event, whose `type` names it.
    Anthropic(Value),
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It was done, or met a stop sequence.
    Stop,
    /// The limit of output tokens or the context window cut it.
    Length,
    ToolCalls,
    ContentFilter,
    /// A reason that this version does not know.
    Other,
}

impl Finish {
    /// Returns the OpenAI `finish_reason`.
    pub fn as_openai(self) -> &'static str {
        match self {
            Self::Stop | Self::Other => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens as the provider counted them, or as they were estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Whole prompt, cached part included.
    pub input_tokens: u64,
    /// Of `input_tokens`: read from the provider's prompt cache.
    pub cached_input_tokens: u64,
    /// Of `input_tokens`: written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// Whole answer, reasoning included.
    pub output_tokens: u64,
    /// Of `output_tokens`: spent on reasoning.
    pub reasoning_tokens: u64,
}

/// One call of a tool that the model asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text as the model wrote it; may be invalid.
    pub arguments: String,
}

/// What checks and accounting see of a whole answer; of several choices the first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    pub text: String,
    /// The provider's own word of a refusal, apart from the text.
    pub refusal: String,
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    /// `None` when the provider gave none: the answer is then not known to be whole.
    pub finish: Option<Finish>,
    /// As reported; `None` when it was not.
    pub usage: Option<Usage>,
    pub logprobs: LogprobSum,
    /// Whether the provider also answered with what has no place here, for example results of its own tools.
    pub other_content: bool,
}

/// Sum and count of the log-probabilities of answer tokens, where the provider gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LogprobSum {
    pub sum: f64,
    pub tokens: u64,
}

impl LogprobSum {
    /// Returns the mean, natural logarithm, at most 0; `None` without tokens.
    pub fn mean(self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub raw: Raw,
    pub view: View,
    /// What the request asked for and this provider cannot be told, for example `logit_bias`.
    pub dropped_parameters: Vec<String>,
}

/// What one piece of a stream adds to the [`View`]; empty strings and `None` add nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    pub text: String,
    pub refusal: String,
    pub reasoning: String,
    pub tool_calls: Vec<ToolDelta>,
    pub finish: Option<Finish>,
    pub usage: Option<Usage>,
    pub logprobs: LogprobSum,
    /// See [`View::other_content`].
    pub other_content: bool,
    /// Whether it shows that the model is at work though it adds nothing to the view: another choice's words,
    /// the input of a tool that the provider runs, the signature of a thought. Never of a ping.
    pub progress: bool,
}

impl Delta {
    /// Returns whether it shows that the model is at work.
    pub fn shows_work(&self) -> bool {
        self.has_content()
            || !self.reasoning.is_empty()
            || self.finish.is_some()
            || self.usage.is_some()
            || self.progress
    }

    /// Returns whether a reader would see something of the answer itself: text, refusal, a tool call
    /// or other content.
    pub fn has_content(&self) -> bool {
        !self.text.is_empty() || !self.refusal.is_empty() || !self.tool_calls.is_empty() || self.other_content
    }

    /// Returns the size of what is said, bytes.
    pub fn bytes(&self) -> usize {
        let tools: usize = self.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
        self.text.len() + self.refusal.len() + self.reasoning.len() + tools
    }
}

/// Part of a tool call: calls are told apart by `index`; what is empty adds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolDelta {
    pub index: usize,
    pub id: String,
    pub name: String,
    pub arguments: String,
}

/// One piece of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub raw: Raw,
    pub delta: Delta,
}

/// Tool calls that one answer may hold; more is a broken provider.
pub const TOOL_CALLS_MAX: usize = 1024;

impl View {
    /// Adds one piece's share.
    pub fn add(&mut self, delta: &Delta) {
        self.text.push_str(&delta.text);
        self.refusal.push_str(&delta.refusal);
        self.reasoning.push_str(&delta.reasoning);
        for part in &delta.tool_calls {
            if part.index >= TOOL_CALLS_MAX {
                continue;
            }
            if self.tool_calls.len() <= part.index {
                self.tool_calls.resize_with(part.index + 1, ToolCall::default);
            }
            let call = &mut self.tool_calls[part.index];
            if !part.id.is_empty() {
                call.id.clone_from(&part.id);
            }
            call.name.push_str(&part.name);
            call.arguments.push_str(&part.arguments);
        }
        self.finish = delta.finish.or(self.finish);
        self.usage = delta.usage.or(self.usage);
        self.logprobs.sum += delta.logprobs.sum;
        self.logprobs.tokens += delta.logprobs.tokens;
        self.other_content |= delta.other_content;
    }

    /// Returns the size of everything that was said, bytes.
    pub fn bytes(&self) -> usize {
        let tools: usize = self.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
        self.text.len() + self.refusal.len() + self.reasoning.len() + tools
    }

    /// Returns whether nothing was said: no text, refusal, tool call or other content.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
            && self.refusal.is_empty()
            && self.tool_calls.is_empty()
            && !self.other_content
    }
}
