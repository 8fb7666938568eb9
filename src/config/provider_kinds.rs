//! What each kind of provider speaks, where it is called and where its key is found, unless the configuration says
//! otherwise. Decides nothing about what was written.

use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};

use super::{AssistantExtra, OutputLimit, Protocol, file_completion::ProviderKind};

/// What follows from a provider's kind.
pub struct Preset {
    pub protocol: Protocol,
    pub endpoint: Endpoint,
    /// The environment variable that the provider's own tools read.
    pub key: Option<&'static str>,
    /// `None`: as a bearer token, or as the protocol wants it.
    pub key_header: Option<&'static str>,
    pub stream_usage: bool,
    pub output_limit: OutputLimit,
    pub replay: &'static [AssistantExtra],
}

/// Servers that take back what their models thought, in words.
const IN_WORDS: &[AssistantExtra] = &[AssistantExtra::ReasoningContent];
/// Whatever it is: Google's own servers of this protocol refuse tool calls without their signatures.
const OF_ANYBODY: &[AssistantExtra] = &[AssistantExtra::ReasoningContent, AssistantExtra::ExtraContent];

/// Where a kind is called when `base_url` does not say.
pub enum Endpoint {
    At(&'static str),
    /// The protocol's library knows.
    Library,
    /// Nobody knows; what it would look like.
    Required(&'static str),
    /// Nowhere.
    None,
}

/// Returns what follows from a kind where the configuration does not say otherwise.
pub fn preset(kind: ProviderKind) -> Preset {
    let openai = |url, key| Preset {
        protocol: Protocol::OpenAi,
        endpoint: Endpoint::At(url),
        key,
        key_header: None,
        stream_usage: true,
        output_limit: OutputLimit::MaxTokens,
        replay: &[],
    };
    let replaying = |replay, url, key| Preset { replay, ..openai(url, key) };
    let library = |protocol, endpoint, key| Preset { protocol, endpoint, ..openai("", Some(key)) };
    match kind {
        // Its reasoning models refuse the older name.
        ProviderKind::Openai => Preset {
            output_limit: OutputLimit::MaxCompletionTokens,
            ..openai("https://api.openai.com/v1", Some("OPENAI_API_KEY"))
        },
        ProviderKind::AzureOpenai => Preset {
            endpoint: Endpoint::Required("https://NAME.openai.azure.com/openai/v1"),
            key_header: Some("api-key"),
            output_limit: OutputLimit::MaxCompletionTokens,
            ..openai("", Some("AZURE_OPENAI_API_KEY"))
        },
        // It answers 422 to `stream_options` and states the usage of every stream in its last chunk.
        ProviderKind::Mistral => {
            Preset { stream_usage: false, ..openai("https://api.mistral.ai/v1", Some("MISTRAL_API_KEY")) }
        }
        ProviderKind::Groq => openai("https://api.groq.com/openai/v1", Some("GROQ_API_KEY")),
        ProviderKind::Deepseek => {
            replaying(IN_WORDS, "https://api.deepseek.com/v1", Some("DEEPSEEK_API_KEY"))
        }
        ProviderKind::Xai => openai("https://api.x.ai/v1", Some("XAI_API_KEY")),
        ProviderKind::Together => openai("https://api.together.xyz/v1", Some("TOGETHER_API_KEY")),
        ProviderKind::Fireworks => openai("https://api.fireworks.ai/inference/v1", Some("FIREWORKS_API_KEY")),
        ProviderKind::Openrouter => {
            replaying(IN_WORDS, "https://openrouter.ai/api/v1", Some("OPENROUTER_API_KEY"))
        }
        ProviderKind::Ollama => openai("http://127.0.0.1:11434/v1", None),
        ProviderKind::Vllm => replaying(IN_WORDS, "http://127.0.0.1:8000/v1", None),
        ProviderKind::OpenaiCompatible => {
            Preset { endpoint: Endpoint::Required("https://HOST/v1"), ..replaying(OF_ANYBODY, "", None) }
        }
        ProviderKind::Anthropic => Preset {
            key_header: Some("x-api-key"),
            ..library(Protocol::Anthropic, Endpoint::At("https://api.anthropic.com/v1"), "ANTHROPIC_API_KEY")
        },
        ProviderKind::Gemini => library(Protocol::Gemini, Endpoint::Library, "GEMINI_API_KEY"),
        // The library would take project and region from the environment: an endpoint that nobody wrote down.
        ProviderKind::Vertex => library(
            Protocol::Vertex,
            Endpoint::Required(
                "https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION",
            ),
            "VERTEX_API_KEY",
        ),
        ProviderKind::Bedrock => library(
            Protocol::Bedrock,
            Endpoint::Required("https://bedrock-runtime.REGION.amazonaws.com"),
            "AWS_BEARER_TOKEN_BEDROCK",
        ),
        ProviderKind::Cohere => library(Protocol::Cohere, Endpoint::Library, "COHERE_API_KEY"),
        ProviderKind::Scripted => {
            Preset { protocol: Protocol::Scripted, endpoint: Endpoint::None, ..openai("", None) }
        }
    }
}

/// Returns the kind that is called so; "google" is what many call Gemini's API.
pub fn kind_named(name: &str) -> Option<ProviderKind> {
    let name = if name == "google" { "gemini" } else { name };
    let deserializer: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    ProviderKind::deserialize(deserializer).ok()
}
