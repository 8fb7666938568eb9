//! The caller's request as one server takes it. Pure.
//!
//! Fields go upstream as they came but for those that servers of this dialect differ in: the name of the output
//! limit, what answers of others carry beside OpenAI's own form, and what the operator says a target refuses.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};

use crate::config::{AssistantExtra, OutputLimit};

/// How the answer is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    Whole,
    Stream { usage: bool },
}

impl Mode {
    pub(super) fn accepted(self) -> &'static str {
        match self {
            Self::Whole => "application/json",
            Self::Stream { .. } => "text/event-stream",
        }
    }
}

/// The caller's fields in their order, then what the call adds; written without a copy of the conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) model: &'a str,
    pub(super) mode: Mode,
    pub(super) output_limit: OutputLimit,
    /// Extras of assistant messages that the server takes back.
    pub(super) replay: &'a [AssistantExtra],
    /// Fields that the target is not sent.
    pub(super) drop: &'a [String],
}

impl Body<'_> {
    /// Returns what the request holds and the server is not sent.
    pub(super) fn dropped(&self) -> Vec<String> {
        let given = self.fields.iter().filter(|(_, value)| !value.is_null());
        let mut dropped: Vec<String> =
            given.map(|(name, _)| name.clone()).filter(|name| self.is_dropped(name)).collect();
        let extras =
            self.refused_extras().filter(|extra| self.messages().any(|message| has(message, *extra)));
        dropped.extend(extras.map(|extra| extra.path().to_owned()));
        dropped
    }

    fn messages(&self) -> impl Iterator<Item = &Value> {
        self.fields.get("messages").and_then(Value::as_array).into_iter().flatten()
    }

    fn refused_extras(&self) -> impl Iterator<Item = AssistantExtra> {
        AssistantExtra::ALL.into_iter().filter(|extra| !self.replay.contains(extra))
    }

    fn is_dropped(&self, name: &str) -> bool {
        self.drop.iter().any(|dropped| dropped == name)
    }

    /// Returns the name under which a field goes upstream, `None` when it does not.
    fn sent_name<'name>(&self, name: &'name str) -> Option<&'name str> {
        const SET_HERE: [&str; 3] = ["model", "stream", "stream_options"];
        if SET_HERE.contains(&name) || self.is_dropped(name) {
            return None;
        }
        let Some(limit) = OutputLimit::named(name) else { return Some(name) };
        // Of two limits the newer name's counts, as it does at OpenAI's.
        let newer = OutputLimit::MaxCompletionTokens;
        let has_newer = self.fields.get(newer.as_str()).is_some_and(|value| !value.is_null());
        let counts = limit == newer && has_newer || limit != newer && !has_newer;
        (counts && !self.is_dropped(self.output_limit.as_str())).then(|| self.output_limit.as_str())
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        for (name, value) in self.fields {
            let Some(name) = self.sent_name(name) else { continue };
            match value {
                Value::Array(messages) if name == "messages" => {
                    map.serialize_entry(name, &Messages { messages, replay: self.replay })?;
                }
                _ => map.serialize_entry(name, value)?,
            }
        }
        if let Mode::Stream { usage } = self.mode {
            map.serialize_entry("stream", &true)?;
            let callers = self.fields.get("stream_options").filter(|_| !self.is_dropped("stream_options"));
            let mut options = callers.and_then(Value::as_object).cloned().unwrap_or_default();
            if usage {
                options.insert("include_usage".to_owned(), Value::Bool(true));
            }
            if !options.is_empty() {
                map.serialize_entry("stream_options", &options)?;
            }
        }
        map.end()
    }
}

/// Returns whether a message of the assistant's has an extra that says something.
fn has(message: &Value, extra: AssistantExtra) -> bool {
    let is_there = |holder: &Value| holder.get(extra.as_str()).is_some_and(|value| !value.is_null());
    if message.get("role").and_then(Value::as_str) != Some("assistant") {
        return false;
    }
    match extra {
        AssistantExtra::ReasoningContent | AssistantExtra::ThinkingBlocks => is_there(message),
        AssistantExtra::ExtraContent => {
            let calls = message.get("tool_calls").and_then(Value::as_array);
            calls.is_some_and(|calls| calls.iter().any(is_there))
        }
    }
}

/// The conversation without those extras of assistant messages that the server does not take back.
struct Messages<'a> {
    messages: &'a [Value],
    replay: &'a [AssistantExtra],
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.messages.len()))?;
        for message in self.messages {
            match message {
                Value::Object(fields) if fields.get("role").is_some_and(|role| role == "assistant") => {
                    sequence.serialize_element(&Message { fields, replay: self.replay })?;
                }
                _ => sequence.serialize_element(message)?,
            }
        }
        sequence.end()
    }
}

struct Message<'a> {
    fields: &'a Map<String, Value>,
    replay: &'a [AssistantExtra],
}

impl Message<'_> {
    fn takes(&self, extra: AssistantExtra) -> bool {
        self.replay.contains(&extra)
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.fields {
            match (name.as_str(), value) {
                ("reasoning_content", _) if !self.takes(AssistantExtra::ReasoningContent) => {}
                ("thinking_blocks", _) if !self.takes(AssistantExtra::ThinkingBlocks) => {}
                ("tool_calls", Value::Array(calls)) if !self.takes(AssistantExtra::ExtraContent) => {
                    map.serialize_entry(name, &PlainCalls(calls))?;
                }
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// Tool calls without `extra_content`.
struct PlainCalls<'a>(&'a [Value]);

impl Serialize for PlainCalls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(PlainCall))
    }
}

struct PlainCall<'a>(&'a Value);

impl Serialize for PlainCall<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let extra = AssistantExtra::ExtraContent.as_str();
                serializer.collect_map(fields.iter().filter(|(name, _)| *name != extra))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Rules {
        output_limit: OutputLimit,
        replay: &'static [AssistantExtra],
        drop: &'static [&'static str],
    }

    const PLAIN: Rules = Rules { output_limit: OutputLimit::MaxTokens, replay: &[], drop: &[] };

    fn check(rules: &Rules, fields: Value, sent: Value, dropped: &[&str]) {
        let Value::Object(fields) = fields else { panic!("not an object") };
        let drop: Vec<String> = rules.drop.iter().map(|name| (*name).to_owned()).collect();
        let Rules { output_limit, replay, .. } = *rules;
        let body = Body { fields: &fields, model: "m", mode: Mode::Whole, output_limit, replay, drop: &drop };
        let Value::Object(mut expected) = sent else { panic!("not an object") };
        expected.insert("model".to_owned(), "m".into());
        assert_eq!(serde_json::to_value(body).unwrap(), Value::Object(expected));
        assert_eq!(body.dropped(), dropped);
    }

    #[test]
    fn the_output_limit_has_the_servers_name() {
        let newer = Rules { output_limit: OutputLimit::MaxCompletionTokens, ..PLAIN };
        for (given, older_name, newer_name) in [
            (json!({"max_tokens": 5}), json!({"max_tokens": 5}), json!({"max_completion_tokens": 5})),
            (
                json!({"max_completion_tokens": 5}),
                json!({"max_tokens": 5}),
                json!({"max_completion_tokens": 5}),
            ),
            (
                json!({"max_tokens": 9, "max_completion_tokens": 5}),
                json!({"max_tokens": 5}),
                json!({"max_completion_tokens": 5}),
            ),
            (
                json!({"max_tokens": 9, "max_completion_tokens": null}),
                json!({"max_tokens": 9}),
                json!({"max_completion_tokens": 9}),
            ),
        ] {
            check(&PLAIN, given.clone(), older_name, &[]);
            check(&newer, given, newer_name, &[]);
        }
        let unlimited = Rules { drop: &["max_completion_tokens", "max_tokens"], ..newer };
        check(&unlimited, json!({"max_tokens": 5}), json!({}), &["max_tokens"]);
    }

    #[test]
    fn what_the_operator_drops_is_not_sent_and_told() {
        let rules = Rules { drop: &["temperature", "reasoning_effort", "top_k"], ..PLAIN };
        let fields = json!({"temperature": 0, "top_p": 1, "reasoning_effort": "low", "top_k": null});
        check(&rules, fields, json!({"top_p": 1}), &["temperature", "reasoning_effort"]);
    }

    #[test]
    fn extras_of_earlier_answers_go_only_to_those_who_take_them_back() {
        let messages = |extras: &[&str]| {
            let mut assistant = json!({"role": "assistant", "content": null, "annotations": [], "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
            for extra in extras {
                match *extra {
                    "extra_content" => {
                        let signature = json!({"google": {"thought_signature": "s"}});
                        assistant["tool_calls"][0]["extra_content"] = signature;
                    }
                    name => assistant[name] = json!("x"),
                }
            }
            // Only the assistant's messages have extras of ours.
            json!({"messages": [{"role": "user", "content": "hi", "thinking_blocks": 1}, assistant, "odd"]})
        };
        let all = ["reasoning_content", "thinking_blocks", "extra_content"];
        let paths = [
            "messages[].reasoning_content",
            "messages[].thinking_blocks",
            "messages[].tool_calls[].extra_content",
        ];
        check(&PLAIN, messages(&all), messages(&[]), &paths);
        check(&PLAIN, messages(&[]), messages(&[]), &[]);
        let some = Rules { replay: &[AssistantExtra::ReasoningContent], ..PLAIN };
        check(&some, messages(&all), messages(&all[..1]), &paths[1..]);
        let takes_all = Rules { replay: &AssistantExtra::ALL, ..PLAIN };
        check(&takes_all, messages(&all), messages(&all), &[]);
    }
}
