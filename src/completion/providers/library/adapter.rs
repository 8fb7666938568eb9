//! Which of the library's adapters serves a target, where it posts to, and what it can be told.
//!
//! Pure. Addresses come from the configuration alone; nothing of a request gets into them.

use genai::adapter::AdapterKind;

use crate::config::{KeyHeader, Protocol};

/// How one target is spoken to. Vertex serves two publishers, each in its own form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapter {
    Anthropic,
    Gemini,
    VertexGemini,
    VertexClaude,
    Bedrock,
    Cohere,
}

/// `anthropic-version` of the only version there is.
const ANTHROPIC_VERSION: &str = "2023-06-01";

impl Adapter {
    /// Returns the adapter for a model, or why there is none.
    pub(super) fn new(protocol: Protocol, model: &str) -> Result<Self, &'static str> {
        match protocol {
            Protocol::Anthropic => Ok(Self::Anthropic),
            Protocol::Gemini => Ok(Self::Gemini),
            // The library tells the publishers apart by these beginnings, so nothing else gets through it.
            Protocol::Vertex if model.starts_with("gemini") => Ok(Self::VertexGemini),
            Protocol::Vertex if model.starts_with("claude") => Ok(Self::VertexClaude),
            Protocol::Vertex => Err("only models named gemini... and claude... can be called on vertex"),
            Protocol::Bedrock => Ok(Self::Bedrock),
            Protocol::Cohere => Ok(Self::Cohere),
            Protocol::OpenAi | Protocol::Scripted => Err("is not served by the library"),
        }
    }

    pub(super) fn kind(self) -> AdapterKind {
        match self {
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
            Self::VertexGemini | Self::VertexClaude => AdapterKind::Vertex,
            Self::Bedrock => AdapterKind::BedrockApi,
            Self::Cohere => AdapterKind::Cohere,
        }
    }

    /// Returns the address of a streamed call, without the configured query.
    pub(super) fn url(self, base_url: &str, model: &str) -> String {
        let model = encoded(model);
        match self {
            Self::Anthropic => format!("{base_url}/messages"),
            Self::Gemini => format!("{base_url}/models/{model}:streamGenerateContent"),
            Self::VertexGemini => {
                format!("{base_url}/publishers/google/models/{model}:streamGenerateContent")
            }
            Self::VertexClaude => format!("{base_url}/publishers/anthropic/models/{model}:streamRawPredict"),
            Self::Bedrock => format!("{base_url}/model/{model}/converse-stream"),
            Self::Cohere => format!("{base_url}/chat"),
        }
    }

    /// Returns what the protocol itself wants in the query.
    pub(super) fn query(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gemini | Self::VertexGemini => &[("alt", "sse")],
            Self::Anthropic | Self::VertexClaude | Self::Bedrock | Self::Cohere => &[],
        }
    }

    /// Returns the headers that the protocol wants beside the key's.
    pub(super) fn headers(self) -> Option<(String, String)> {
        let version = || ("anthropic-version".to_owned(), ANTHROPIC_VERSION.to_owned());
        (self == Self::Anthropic).then(version)
    }

    /// Returns the header that carries the key.
    pub(super) fn key_header(self, key: &str, configured: &KeyHeader) -> (String, String) {
        match self {
            Self::Anthropic => match configured {
                KeyHeader::Named(name) => (name.clone(), key.to_owned()),
                KeyHeader::Bearer => ("authorization".to_owned(), format!("Bearer {key}")),
            },
            Self::Gemini => ("x-goog-api-key".to_owned(), key.to_owned()),
            Self::VertexGemini | Self::VertexClaude | Self::Bedrock | Self::Cohere => {
                ("authorization".to_owned(), format!("Bearer {key}"))
            }
        }
    }

    /// Returns whether this is Google's form, on either of its endpoints.
    pub(super) fn is_gemini(self) -> bool {
        match self {
            Self::Gemini | Self::VertexGemini => true,
            Self::Anthropic | Self::VertexClaude | Self::Bedrock | Self::Cohere => false,
        }
    }

    /// Returns whether this is Anthropic's form, on either endpoint.
    pub(super) fn is_claude(self) -> bool {
        match self {
            Self::Anthropic | Self::VertexClaude => true,
            Self::Gemini | Self::VertexGemini | Self::Bedrock | Self::Cohere => false,
        }
    }

    /// Returns whether the model is one of Anthropic's, wherever it runs.
    pub(super) fn serves_claude(self, model: &str) -> bool {
        self.is_claude() || self == Self::Bedrock && model.contains("anthropic.")
    }

    /// Returns whether the library tells a Claude model its effort by name; others get a budget of tokens.
    pub(super) fn takes_effort_by_name(self, model: &str) -> bool {
        const BY_NAME: [&str; 12] = [
            "opus-4-5",
            "opus-4-6",
            "opus-4-7",
            "opus-4-8",
            "opus-4-9",
            "opus-5",
            "opus-6",
            "sonnet-4-6",
            "sonnet-5",
            "haiku-5",
            "fable",
            "mythos",
        ];
        self == Self::Anthropic && BY_NAME.iter().any(|name| model.contains(name))
    }

    /// Returns whether tools can be declared, called and answered.
    pub(super) fn takes_tools(self) -> bool {
        self != Self::Cohere
    }

    /// Returns whether the choice of a tool can be forced or forbidden.
    pub(super) fn takes_tool_choice(self) -> bool {
        match self {
            Self::Anthropic | Self::Gemini | Self::VertexGemini => true,
            Self::VertexClaude | Self::Bedrock | Self::Cohere => false,
        }
    }

    /// Returns whether a model's effort can be set. On Bedrock that depends on the model's publisher.
    pub(super) fn takes_effort(self, model: &str) -> bool {
        match self {
            Self::Anthropic | Self::Gemini | Self::VertexGemini => true,
            Self::Bedrock => {
                ["anthropic.", "amazon.", "openai."].iter().any(|publisher| model.contains(publisher))
            }
            Self::VertexClaude | Self::Cohere => false,
        }
    }

    /// Returns whether the library would put a number of its own where the request sets no output limit.
    pub(super) fn needs_output_limit(self) -> bool {
        match self {
            Self::Anthropic | Self::VertexClaude | Self::Bedrock => true,
            Self::Gemini | Self::VertexGemini | Self::Cohere => false,
        }
    }

    /// Returns whether turns of user and assistant must alternate, tool results counting as the user's.
    pub(super) fn alternates(self) -> bool {
        match self {
            Self::Anthropic | Self::VertexClaude | Self::Bedrock => true,
            Self::Gemini | Self::VertexGemini | Self::Cohere => false,
        }
    }

    /// Returns the names that the library takes for the provider's own tools, paid ones among them.
    pub(super) fn reserved_tools(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic | Self::VertexClaude => &["web_search"],
            Self::Gemini | Self::VertexGemini => {
                &["googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext"]
            }
            Self::Bedrock | Self::Cohere => &[],
        }
    }
}

/// Returns the address to use where the configuration gives none, or what to write there.
pub(super) fn default_base_url(protocol: Protocol) -> Result<&'static str, &'static str> {
    match protocol {
        Protocol::Anthropic => Ok("https://api.anthropic.com/v1"),
        Protocol::Gemini => Ok("https://generativelanguage.googleapis.com/v1beta"),
        Protocol::Cohere => Ok("https://api.cohere.com/v1"),
        Protocol::Vertex => Err("base_url is missing: give https://LOCATION-aiplatform.googleapis.com/v1/\
                                 projects/PROJECT/locations/LOCATION"),
        Protocol::Bedrock => Err("base_url is missing: give https://bedrock-runtime.REGION.amazonaws.com"),
        Protocol::OpenAi | Protocol::Scripted => Err("is not served by the library"),
    }
}

/// Returns the text as one segment of a path; a model's name may hold colons and slashes.
fn encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: Protocol, model: &str, expected: &str) {
        let adapter = Adapter::new(protocol, model).unwrap();
        assert_eq!(adapter.url("http://host/base", model), expected);
    }

    #[test]
    fn addresses() {
        check(Protocol::Anthropic, "claude-x", "http://host/base/messages");
        check(Protocol::Cohere, "command-r", "http://host/base/chat");
        check(Protocol::Gemini, "gemini-x", "http://host/base/models/gemini-x:streamGenerateContent");
        check(
            Protocol::Vertex,
            "gemini-x",
            "http://host/base/publishers/google/models/gemini-x:streamGenerateContent",
        );
        check(
            Protocol::Vertex,
            "claude-x@20260101",
            "http://host/base/publishers/anthropic/models/claude-x@20260101:streamRawPredict",
        );
        check(
            Protocol::Bedrock,
            "us.anthropic.claude-x-v1:0",
            "http://host/base/model/us.anthropic.claude-x-v1%3A0/converse-stream",
        );
        check(Protocol::Bedrock, "arn:a/b", "http://host/base/model/arn%3Aa%2Fb/converse-stream");
    }

    #[test]
    fn vertex_serves_two_publishers() {
        assert!(Adapter::new(Protocol::Vertex, "llama-4").unwrap_err().contains("gemini"));
    }
}
