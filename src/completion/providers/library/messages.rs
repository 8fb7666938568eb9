//! The caller's messages, in OpenAI's form -> the library's. Pure.
//!
//! What a target cannot be sent of the conversation itself is an error, never left out: an answer to half of
//! a question would look like a good one. Images by address are passed on as addresses, never fetched.

use std::collections::HashMap;

use genai::chat::{ChatMessage, ChatRole, ContentPart, MessageContent, ToolCall, ToolResponse};
use serde_json::{Map, Value, json};

use super::{
    adapter::Adapter,
    calls::is_stand_in,
    request::{Aliases, Dropped, Unfit},
};

/// Turns a conversation into the library's messages.
pub(super) fn messages(
    given: &[Value],
    adapter: Adapter,
    aliases: &Aliases,
    dropped: &mut Dropped,
) -> Result<Vec<ChatMessage>, Unfit> {
    let mut reader = Reader { adapter, aliases, dropped, called: HashMap::new() };
    let mut messages: Vec<ChatMessage> = Vec::with_capacity(given.len());
    for (index, message) in given.iter().enumerate() {
        let message = reader.message(&format!("messages[{index}]"), message)?;
        if !message.content.is_empty() {
            append(&mut messages, message, adapter);
        }
    }
    if messages.iter().all(|message| message.role == ChatRole::System) {
        return Err(Unfit::new("messages", "hold nothing but instructions"));
    }
    Ok(messages)
}

/// Adds a message; where turns must alternate, to the one before it if that is of the same side.
fn append(messages: &mut Vec<ChatMessage>, mut message: ChatMessage, adapter: Adapter) {
    if adapter.alternates() {
        if message.role == ChatRole::Tool {
            message.role = ChatRole::User;
        }
        if let Some(last) = messages.last_mut()
            && last.role == message.role
            && message.role != ChatRole::System
        {
            last.content.extend(message.content);
            return;
        }
    }
    messages.push(message);
}

struct Reader<'a> {
    adapter: Adapter,
    aliases: &'a Aliases,
    dropped: &'a mut Dropped,
    /// Calls so far, by the caller's id.
    called: HashMap<String, Called>,
}

struct Called {
    /// As it goes upstream.
    id: String,
    name: String,
}

impl Reader<'_> {
    fn message(&mut self, at: &str, message: &Value) -> Result<ChatMessage, Unfit> {
        if !message["name"].is_null() {
            self.dropped.add("messages[].name");
        }
        match message["role"].as_str() {
            Some("system" | "developer") => {
                Ok(ChatMessage::system(joined(&format!("{at}.content"), &message["content"])?))
            }
            Some("user") => {
                let parts = self.parts(&format!("{at}.content"), &message["content"])?;
                Ok(ChatMessage::user(MessageContent::from_parts(parts)))
            }
            Some("assistant") => self.assistant(at, message),
            Some("tool") => self.tool_result(at, message),
            Some("function") => {
                Err(Unfit::new(format!("{at}.role"), "cannot be sent to this target: use tool"))
            }
            _ => Err(Unfit::new(format!("{at}.role"), "is not known")),
        }
    }

    fn assistant(&mut self, at: &str, message: &Value) -> Result<ChatMessage, Unfit> {
        let mut parts = self.thinking(message);
        parts.extend(self.parts(&format!("{at}.content"), &message["content"])?);
        parts.extend(text_part(message["refusal"].as_str().unwrap_or_default()));
        for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            parts.push(ContentPart::ToolCall(self.tool_call(&format!("{at}.tool_calls[{index}]"), call)?));
        }
        if !message["function_call"].is_null() {
            let field = format!("{at}.function_call");
            return Err(Unfit::new(field, "cannot be sent to this target: use tool_calls"));
        }
        if !message["audio"].is_null() {
            return Err(Unfit::new(format!("{at}.audio"), "cannot be sent to this target"));
        }
        Ok(ChatMessage::assistant(MessageContent::from_parts(parts)))
    }

    /// Returns what Claude thought before, as `thinking_blocks` of an earlier answer of ours, for replay.
    fn thinking(&self, message: &Value) -> Vec<ContentPart> {
        let blocks = message["thinking_blocks"].as_array().into_iter().flatten();
        match self.adapter {
            Adapter::Anthropic | Adapter::VertexClaude => {
                blocks.filter_map(thinking_block).map(|block| ContentPart::from_custom(block, None)).collect()
            }
            Adapter::Bedrock => {
                blocks.filter_map(thinking_block).flat_map(|block| bedrock_thinking(&block)).collect()
            }
            Adapter::Gemini | Adapter::VertexGemini | Adapter::Cohere => Vec::new(),
        }
    }

    fn tool_call(&mut self, at: &str, call: &Value) -> Result<ToolCall, Unfit> {
        let name = call["function"]["name"]
            .as_str()
            .ok_or_else(|| Unfit::new(format!("{at}.function.name"), "is not a string"))?;
        let given_id = call["id"].as_str().unwrap_or_default();
        let name = self.aliases.sent(name).to_owned();
        let id = if self.adapter.is_gemini() && is_stand_in(given_id) {
            // The library's own form of an id that Gemini never gave; it is not sent.
            format!("call#{name}#{}", self.called.len())
        } else {
            given_id.to_owned()
        };
        self.called.insert(given_id.to_owned(), Called { id: id.clone(), name: name.clone() });
        let signature = call["extra_content"]["google"]["thought_signature"].as_str();
        Ok(ToolCall {
            call_id: id,
            fn_name: name,
            fn_arguments: arguments(&call["function"]["arguments"]),
            thought_signatures: signature
                .filter(|_| self.adapter.is_gemini())
                .map(|signature| vec![signature.to_owned()]),
        })
    }

    fn tool_result(&mut self, at: &str, message: &Value) -> Result<ChatMessage, Unfit> {
        let given_id = message["tool_call_id"]
            .as_str()
            .ok_or_else(|| Unfit::new(format!("{at}.tool_call_id"), "is not a string"))?;
        let text = joined(&format!("{at}.content"), &message["content"])?;
        let mut result = ToolResponse::new(given_id, text);
        if let Some(called) = self.called.get(given_id) {
            result.call_id.clone_from(&called.id);
            result.fn_name = Some(called.name.clone());
        }
        Ok(ChatMessage::tool(result))
    }

    fn parts(&mut self, at: &str, content: &Value) -> Result<Vec<ContentPart>, Unfit> {
        match content {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(text_part(text).into_iter().collect()),
            Value::Array(list) => {
                let parts = list.iter().enumerate();
                let parts = parts.map(|(index, part)| self.part(&format!("{at}[{index}]"), part));
                Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            _ => Err(Unfit::new(at, "is neither a string nor a list of parts")),
        }
    }

    fn part(&mut self, at: &str, part: &Value) -> Result<Option<ContentPart>, Unfit> {
        if !part["cache_control"].is_null() {
            self.dropped.add("messages[].content[].cache_control");
        }
        match part["type"].as_str() {
            Some("text") => Ok(text_part(part["text"].as_str().unwrap_or_default())),
            Some("refusal") => Ok(text_part(part["refusal"].as_str().unwrap_or_default())),
            Some("image_url") => {
                if !part["image_url"]["detail"].is_null() {
                    self.dropped.add("messages[].content[].image_url.detail");
                }
                self.image(at, &part["image_url"]).map(Some)
            }
            Some("input_audio") if self.adapter.is_gemini() => {
                let audio = &part["input_audio"];
                match (audio["data"].as_str(), audio["format"].as_str()) {
                    (Some(data), Some(format)) => {
                        Ok(Some(ContentPart::from_binary_base64(format!("audio/{format}"), data, None)))
                    }
                    _ => Err(Unfit::new(at, "lacks data or format")),
                }
            }
            Some("file") if self.adapter != Adapter::Cohere => {
                let file = &part["file"];
                let name = file["filename"].as_str().map(str::to_owned);
                match file["file_data"].as_str().and_then(data_url) {
                    Some((kind, data)) => Ok(Some(ContentPart::from_binary_base64(kind, data, name))),
                    None => Err(Unfit::new(at, "can only be sent with file_data as a base64 data URL")),
                }
            }
            Some(_) => Err(Unfit::new(at, "cannot be sent to this target")),
            None => Err(Unfit::new(format!("{at}.type"), "is not a string")),
        }
    }

    fn image(&self, at: &str, image: &Value) -> Result<ContentPart, Unfit> {
        // Some callers write the address without the object around it.
        let url = image["url"].as_str().or_else(|| image.as_str()).unwrap_or_default();
        if self.adapter == Adapter::Cohere {
            return Err(Unfit::new(at, "images cannot be sent to this target"));
        }
        if let Some((kind, data)) = data_url(url) {
            if self.adapter == Adapter::Bedrock && !BEDROCK_IMAGES.contains(&kind) {
                return Err(Unfit::new(at, "is not a PNG, JPEG, GIF or WebP image"));
            }
            return Ok(ContentPart::from_binary_base64(kind, data, None));
        }
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err(Unfit::new(at, "is neither a base64 data URL nor an http address"));
        }
        match self.adapter {
            // The library leaves addresses of images out for Claude, though Claude takes them.
            Adapter::Anthropic | Adapter::VertexClaude => Ok(ContentPart::from_custom(
                json!({ "type": "image", "source": { "type": "url", "url": url } }),
                None,
            )),
            Adapter::Gemini | Adapter::VertexGemini => {
                Ok(ContentPart::from_binary_url(image_kind(url), url, None))
            }
            Adapter::Bedrock | Adapter::Cohere => {
                Err(Unfit::new(at, "images by address cannot be sent to this target: give a data URL"))
            }
        }
    }
}

/// Image types that Bedrock takes; the library leaves others out without a word.
const BEDROCK_IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"];

/// Empty text is left out: Anthropic refuses it, and it says nothing.
fn text_part(text: &str) -> Option<ContentPart> {
    (!text.is_empty()).then(|| ContentPart::from_text(text))
}

/// Returns the text of content that can be nothing but text.
fn joined(at: &str, content: &Value) -> Result<String, Unfit> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().enumerate().map(|(index, part)| {
                part["text"].as_str().ok_or_else(|| {
                    Unfit::new(format!("{at}[{index}]"), "is not text, which is all that fits here")
                })
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        _ => Err(Unfit::new(at, "is neither a string nor a list of parts")),
    }
}

/// Returns media type and data of `data:TYPE;base64,DATA`.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let kind = head.strip_suffix(";base64")?;
    let kind = kind.split(';').next().unwrap_or(kind);
    (!kind.is_empty() && !data.is_empty()).then_some((kind, data))
}

/// Guesses an image's media type from its address, since Gemini wants one.
fn image_kind(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    match path.rsplit('.').next() {
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        Some("heic") => "image/heic",
        _ => "image/jpeg",
    }
}

/// Returns the arguments of an earlier call as an object, which all these providers want.
fn arguments(given: &Value) -> Value {
    let text = given.as_str().unwrap_or_default();
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Value::Object(arguments),
        Ok(_) | Err(_) if text.trim().is_empty() => json!({}),
        // What the model wrote, though it is no object: better than to hide that it called.
        Ok(_) | Err(_) => json!({ "arguments": text }),
    }
}

/// Returns one block of thinking built anew, so that nothing but thinking gets upstream by it.
fn thinking_block(block: &Value) -> Option<Value> {
    let text = |name: &str| block[name].as_str().map(|text| Value::from(text.to_owned()));
    let mut built = Map::new();
    match block["type"].as_str()? {
        "thinking" => {
            built.insert("type".to_owned(), "thinking".into());
            built.insert("thinking".to_owned(), text("thinking")?);
            built.insert("signature".to_owned(), text("signature")?);
        }
        "redacted_thinking" => {
            built.insert("type".to_owned(), "redacted_thinking".into());
            built.insert("data".to_owned(), text("data")?);
        }
        _ => return None,
    }
    Some(Value::Object(built))
}

/// Returns a block as Bedrock's adapter reads it: a signature with the text it signs, or alone.
fn bedrock_thinking(block: &Value) -> Vec<ContentPart> {
    let text = |name: &str| block[name].as_str().map(str::to_owned);
    match (text("signature"), text("thinking"), text("data")) {
        (Some(signature), Some(thinking), _) => {
            vec![ContentPart::ThoughtSignature(signature), ContentPart::ReasoningContent(thinking)]
        }
        (_, _, Some(data)) => vec![ContentPart::ThoughtSignature(data)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls() {
        assert_eq!(data_url("data:image/png;base64,QUJD"), Some(("image/png", "QUJD")));
        assert_eq!(data_url("data:image/png;name=x;base64,QUJD"), Some(("image/png", "QUJD")));
        for bad in ["data:,x", "data:;base64,x", "data:image/png;base64,", "data:image/png,x", "http://x"] {
            assert_eq!(data_url(bad), None, "{bad}");
        }
    }

    #[test]
    fn arguments_are_always_an_object() {
        let check = |text: &str, expected: Value| assert_eq!(arguments(&text.into()), expected, "{text}");
        check(r#"{"a":1}"#, json!({ "a": 1 }));
        check("", json!({}));
        check("[1]", json!({ "arguments": "[1]" }));
        check("{\"a\":", json!({ "arguments": "{\"a\":" }));
    }

    #[test]
    fn a_block_of_thinking_carries_nothing_else() {
        let check = |block: Value, expected: Option<Value>| assert_eq!(thinking_block(&block), expected);
        check(
            json!({ "type": "thinking", "thinking": "t", "signature": "s", "cache_control": {} }),
            Some(json!({ "type": "thinking", "thinking": "t", "signature": "s" })),
        );
        check(json!({ "type": "image", "source": {} }), None);
        check(json!({ "type": "thinking", "thinking": "t" }), None);
    }
}
