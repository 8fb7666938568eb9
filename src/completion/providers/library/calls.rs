//! Tool calls as the library repeats them -> what each event adds. Pure but for the making of ids.
//!
//! Claude and Bedrock: one event at a call's start, then the arguments so far with each event. Gemini: one
//! event per whole call, under an id of the library's making that may come twice in one answer.

use genai::chat::ToolCall;
use serde_json::Value;
use uuid::Uuid;

use super::{adapter::Adapter, request::Aliases};
use crate::completion::answer::ToolDelta;

/// Calls that one answer may hold; more is a broken provider.
const CALLS_MAX: usize = 1024;
/// Beginning of the ids given to calls that came without one. With what follows it is at most 40 characters
/// of letters, digits and `_`, which every provider takes.
const STAND_IN: &str = "call_pointsman_";
/// Beginning of the ids that the library makes up for Gemini.
const LIBRARY_STAND_IN: &str = "call#";

/// Returns whether an id was given by [`Calls`], not by a provider.
pub(super) fn is_stand_in(id: &str) -> bool {
    id.starts_with(STAND_IN)
}

fn stand_in() -> String {
    let unique = Uuid::now_v7().simple().to_string();
    // The last 24 of 32 digits: the millisecond's lower half and all that is random.
    format!("{STAND_IN}{}", &unique[8..])
}

/// The tool calls of one answer so far.
#[derive(Debug)]
pub(super) struct Calls {
    whole: bool,
    /// How many there are.
    count: usize,
    /// The library's id of the last one.
    id: String,
    /// Its arguments so far.
    arguments: String,
}

impl Calls {
    pub(super) fn new(adapter: Adapter) -> Self {
        Self { whole: adapter.is_gemini(), count: 0, id: String::new(), arguments: String::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns what an event adds, or what is wrong with it.
    pub(super) fn add(&mut self, call: ToolCall, aliases: &Aliases) -> Result<Vec<ToolDelta>, &'static str> {
        let arguments = match call.fn_arguments {
            Value::String(text) if !self.whole => text,
            Value::Null => "{}".to_owned(),
            whole => whole.to_string(),
        };
        let goes_on = !self.whole
            && self.count > 0
            && self.id == call.call_id
            && (!arguments.is_empty() || self.arguments.is_empty());
        if goes_on {
            return self.extend(arguments).map(|delta| delta.into_iter().collect());
        }
        let mut deltas: Vec<ToolDelta> = self.complete().into_iter().collect();
        if self.count == CALLS_MAX {
            return Err("the answer holds too many tool calls");
        }
        let lacks_id = call.call_id.is_empty() || call.call_id.starts_with(LIBRARY_STAND_IN);
        deltas.push(ToolDelta {
            index: self.count,
            id: if lacks_id { stand_in() } else { call.call_id.clone() },
            name: aliases.given(&call.fn_name).to_owned(),
            arguments: arguments.clone(),
        });
        self.count += 1;
        self.id = call.call_id;
        self.arguments = arguments;
        Ok(deltas)
    }

    fn extend(&mut self, arguments: String) -> Result<Option<ToolDelta>, &'static str> {
        let added = arguments
            .strip_prefix(self.arguments.as_str())
            .ok_or("the arguments of a tool call changed while they came")?
            .to_owned();
        self.arguments = arguments;
        Ok((!added.is_empty()).then(|| self.delta(added)))
    }

    /// Returns what makes the last call's arguments JSON if nothing came: a tool without parameters.
    pub(super) fn complete(&mut self) -> Option<ToolDelta> {
        let is_bare = self.count > 0 && self.arguments.is_empty();
        is_bare.then(|| {
            self.arguments = "{}".to_owned();
            self.delta("{}".to_owned())
        })
    }

    fn delta(&self, arguments: String) -> ToolDelta {
        ToolDelta { index: self.count - 1, arguments, ..ToolDelta::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::completion::answer::{Delta, View};

    fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
        ToolCall {
            call_id: id.to_owned(),
            fn_name: name.to_owned(),
            fn_arguments: arguments,
            thought_signatures: None,
        }
    }

    fn fold(adapter: Adapter, events: Vec<ToolCall>) -> View {
        let mut calls = Calls::new(adapter);
        let mut view = View::default();
        let mut add = |tool_calls: Vec<ToolDelta>| view.add(&Delta { tool_calls, ..Delta::default() });
        for event in events {
            add(calls.add(event, &Aliases::default()).unwrap());
        }
        add(calls.complete().into_iter().collect());
        view
    }

    fn check(adapter: Adapter, events: Vec<ToolCall>, expected: &[(&str, &str)]) {
        let view = fold(adapter, events);
        let found: Vec<(&str, &str)> =
            view.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn repeated_arguments_become_what_was_added() {
        let growing = ["", "", "{\"a\"", "{\"a\":1}"].map(|text| call("t1", "f", json!(text)));
        check(Adapter::Anthropic, growing.to_vec(), &[("f", "{\"a\":1}")]);
    }

    #[test]
    fn a_call_without_arguments_gets_an_empty_object() {
        let events =
            vec![call("t1", "f", json!("")), call("t2", "g", json!("")), call("t2", "g", json!("{}"))];
        check(Adapter::Bedrock, events, &[("f", "{}"), ("g", "{}")]);
    }

    #[test]
    fn geminis_calls_are_told_apart_though_their_ids_are_not() {
        let events = vec![call("call#f#0", "f", json!({ "a": 1 })), call("call#f#0", "f", Value::Null)];
        check(Adapter::Gemini, events.clone(), &[("f", "{\"a\":1}"), ("f", "{}")]);
        let view = fold(Adapter::Gemini, events);
        assert_ne!(view.tool_calls[0].id, view.tool_calls[1].id);
        for call in &view.tool_calls {
            assert!(is_stand_in(&call.id) && call.id.len() <= 40, "{}", call.id);
            assert!(call.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
    }

    #[test]
    fn geminis_own_ids_are_kept() {
        let view = fold(Adapter::Gemini, vec![call("r7nk5cyg", "f", json!({}))]);
        assert_eq!(view.tool_calls[0].id, "r7nk5cyg");
    }

    #[test]
    fn arguments_that_change_are_an_error() {
        let mut calls = Calls::new(Adapter::Anthropic);
        calls.add(call("t1", "f", json!("{\"a")), &Aliases::default()).unwrap();
        assert!(calls.add(call("t1", "f", json!("{\"b\"")), &Aliases::default()).is_err());
    }

    proptest! {
        #[test]
        fn deltas_add_up(parts in prop::collection::vec(prop::collection::vec("[a-z{}é]{0,4}", 0..6), 1..5)) {
            let mut events = Vec::new();
            for (index, pieces) in parts.iter().enumerate() {
                let id = format!("t{index}");
                events.push(call(&id, "f", json!("")));
                let mut so_far = String::new();
                for piece in pieces {
                    so_far.push_str(piece);
                    events.push(call(&id, "f", json!(so_far)));
                }
            }
            let view = fold(Adapter::Anthropic, events);
            let whole: Vec<String> = parts
                .iter()
                .map(|pieces| pieces.concat())
                .map(|text| if text.is_empty() { "{}".to_owned() } else { text })
                .collect();
            let found: Vec<String> = view.tool_calls.iter().map(|call| call.arguments.clone()).collect();
            prop_assert_eq!(found, whole);
        }
    }
}
