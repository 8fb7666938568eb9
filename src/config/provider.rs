//! Who makes completions: what a provider speaks, where it is called and with which keys. `check_providers` fills these
//! from TOML.

use std::{fmt, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

/// A provider's place in [`super::Config::providers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderIndex(pub usize);

/// One account with one provider: what is called, how, and with which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// Without a slash at its end; `None` where the protocol's library knows it, and for scripted ones.
    pub base_url: Option<String>,
    /// In the order in which they are used.
    pub keys: Vec<KeySource>,
    /// How a key is sent by the protocols that leave it open.
    pub key_header: KeyHeader,
    /// Sent with every call; names are lowercase.
    pub headers: Vec<(String, String)>,
    /// Added to every URL, for example `api-version`.
    pub query: Vec<(String, String)>,
    /// Whether streams may be asked for their usage.
    pub stream_usage: bool,
    /// Which of a caller's beta features go upstream; of Anthropic's protocol alone.
    pub beta: Vec<String>,
    /// What the servers of OpenAI's protocol call the most tokens of an answer.
    pub output_limit: OutputLimit,
    /// Extras of assistant messages that a server of OpenAI's protocol takes back.
    pub replay: Vec<AssistantExtra>,
    /// Fields of requests that are not sent.
    pub drop: Vec<String>,
    /// The script of a scripted provider; `None`: the built-in demo.
    pub script: Option<PathBuf>,
}

impl ProviderConfig {
    /// Returns the provider of `serve --demo`, which answers from the built-in script.
    pub fn demo() -> Self {
        Self {
            name: Arc::from("demo"),
            protocol: Protocol::Scripted,
            base_url: None,
            keys: Vec::new(),
            key_header: KeyHeader::Bearer,
            headers: Vec::new(),
            query: Vec::new(),
            stream_usage: true,
            beta: Vec::new(),
            output_limit: OutputLimit::MaxTokens,
            replay: Vec::new(),
            drop: Vec::new(),
            script: None,
        }
    }
}

/// What is spoken on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI's chat completions, passed through.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    Gemini,
    Vertex,
    Bedrock,
    Cohere,
    /// Answers from a file, for tests, demos and load.
    Scripted,
}

impl Protocol {
    /// Returns the name for people, metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
            Self::Scripted => "scripted",
        }
    }
}

/// Where a key is read from; the key itself never stands in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Name of an environment variable.
    Environment(String),
    /// A file that holds the key and nothing else.
    File(PathBuf),
}

/// As it is written in a configuration.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// How a key is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyHeader {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// A header of this name that holds the key alone, for example `api-key`.
    Named(String),
}

/// What a server of OpenAI's protocol calls the most tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// The older name, which every compatible server knows.
    MaxTokens,
    /// The newer one, the only one that OpenAI's reasoning models take.
    MaxCompletionTokens,
}

impl OutputLimit {
    /// Returns the name of the request's field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }

    /// Returns which of the names a field has, if any.
    pub fn named(field: &str) -> Option<Self> {
        [Self::MaxTokens, Self::MaxCompletionTokens].into_iter().find(|limit| limit.as_str() == field)
    }
}

/// What answers may carry beside OpenAI's own form. Callers send it back with the conversation, where strict
/// servers refuse fields that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssistantExtra {
    /// What the model thought, in words.
    ReasoningContent,
    /// What Claude thought, signed.
    ThinkingBlocks,
    /// Gemini's signature of a tool call.
    ExtraContent,
}

impl AssistantExtra {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReasoningContent, Self::ThinkingBlocks, Self::ExtraContent];

    /// Returns the name of the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReasoningContent => "reasoning_content",
            Self::ThinkingBlocks => "thinking_blocks",
            Self::ExtraContent => "extra_content",
        }
    }

    /// Returns where it stands in a request.
    pub fn path(self) -> &'static str {
        match self {
            Self::ReasoningContent => "messages[].reasoning_content",
            Self::ThinkingBlocks => "messages[].thinking_blocks",
            Self::ExtraContent => "messages[].tool_calls[].extra_content",
        }
    }
}
