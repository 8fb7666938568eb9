//! What a script sees of a call.
//!
//! Reads the request as leniently as a provider would be strict: what is not there is empty.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    completion::{
        chat::{JsonAsk, ToolAsk},
        providers::Call,
    },
    config::TargetConfig,
    routing::cost::{TOKENS_PER_MESSAGE, estimate_tokens},
};

/// The name of a tool for requests that offer none.
const TOOL_NAME: &str = "get_weather";

/// A call, read once for all scenes.
#[derive(Debug)]
pub struct Asked<'a> {
    call: &'a Call,
    pub target: &'a TargetConfig,
    pub last_user_text: Cow<'a, str>,
    /// All system messages, one a line.
    pub system_text: String,
    pub after_tool: bool,
    pub streams: bool,
}

/// What a request asks of the answer's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Any JSON object.
    Json,
    /// JSON by a schema.
    Schema,
    /// A tool call.
    Tool,
}

impl<'a> Asked<'a> {
    /// Reads a call.
    pub fn new(call: &'a Call, streams: bool) -> Self {
        let system: Vec<_> = messages(call)
            .iter()
            .filter(|message| matches!(role(message), "system" | "developer"))
            .map(text)
            .collect();
        let last_user = messages(call).iter().rfind(|message| role(message) == "user");
        let last = messages(call).last();
        Self {
            call,
            target: &call.target,
            last_user_text: last_user.map(text).unwrap_or_default(),
            system_text: system.join("\n"),
            after_tool: last.is_some_and(|message| matches!(role(message), "tool" | "function")),
            streams,
        }
    }

    /// Returns whether the request asks for this.
    pub fn asks(&self, ask: Ask) -> bool {
        let asks = &self.call.chat.asks;
        match ask {
            Ask::Json => matches!(asks.json, JsonAsk::Object),
            Ask::Schema => matches!(asks.json, JsonAsk::Schema(_)),
            Ask::Tool => asks.tool != ToolAsk::Free,
        }
    }

    /// Returns the most tokens that the answer may have, if the request says.
    pub fn output_tokens_max(&self) -> Option<u32> {
        self.call.chat.asks.output_tokens_max
    }

    /// Returns what the request asks for and a script does not do.
    pub fn dropped_parameters(&self) -> Vec<String> {
        if self.call.chat.asks.choices > 1 { vec!["n".to_owned()] } else { Vec::new() }
    }

    /// Returns the tool that the request names, else the first that it offers, else a made-up one.
    pub fn tool_name(&self) -> &str {
        if let ToolAsk::Named(name) = &self.call.chat.asks.tool {
            return name;
        }
        let tools = self.call.chat.openai.get("tools").and_then(Value::as_array);
        let names =
            tools.into_iter().flatten().filter_map(|tool| tool.get("function")?.get("name")?.as_str());
        names.into_iter().next().unwrap_or(TOOL_NAME)
    }

    /// Returns an estimate of the prompt's length.
    pub fn prompt_tokens(&self) -> u64 {
        let tokens: usize = messages(self.call)
            .iter()
            .map(|message| estimate_tokens(&text(message)) + TOKENS_PER_MESSAGE)
            .sum();
        tokens as u64
    }
}

fn messages(call: &Call) -> &[Value] {
    call.chat.openai.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the text of a message: its content, or the text parts of it.
fn text(message: &Value) -> Cow<'_, str> {
    match message.get("content") {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Array(parts)) => {
            let texts: Vec<_> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            Cow::Owned(texts.join("\n"))
        }
        _ => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::tests::{call, call_of},
        *,
    };

    fn check(body: Value, last_user: &str, system: &str, after_tool: bool) {
        let call = call_of("luna", body);
        let asked = Asked::new(&call, false);
        let got = (&*asked.last_user_text, &*asked.system_text, asked.after_tool);
        assert_eq!(got, (last_user, system, after_tool));
    }

    #[test]
    fn texts_are_found_wherever_they_stand() {
        check(json!({}), "", "", false);
        check(json!({ "messages": "no list" }), "", "", false);
        check(json!({ "messages": [1, { "role": "user" }] }), "", "", false);
        let parts = json!([{ "type": "text", "text": "a" }, { "type": "image_url" }, { "text": "b" }]);
        check(json!({ "messages": [{ "role": "user", "content": parts }] }), "a\nb", "", false);
        let conversation = json!([
            { "role": "system", "content": "one" },
            { "role": "developer", "content": "two" },
            { "role": "user", "content": "first" },
            { "role": "user", "content": "last" },
            { "role": "assistant", "content": null },
            { "role": "tool", "content": "result" },
        ]);
        check(json!({ "messages": conversation }), "last", "one\ntwo", true);
    }

    #[test]
    fn the_tool_is_the_named_one_or_the_first() {
        assert_eq!(Asked::new(&call("luna", "x"), false).tool_name(), TOOL_NAME);
        let mut call = call_of(
            "luna",
            json!({ "tools": [{ "type": "custom" }, { "type": "function", "function": { "name": "search" } }] }),
        );
        assert_eq!(Asked::new(&call, false).tool_name(), "search");
        let mut chat = (*call.chat).clone();
        chat.asks.tool = ToolAsk::Named("other".to_owned());
        call.chat = chat.into();
        assert_eq!(Asked::new(&call, false).tool_name(), "other");
    }
}
