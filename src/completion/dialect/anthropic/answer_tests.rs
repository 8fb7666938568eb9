//! Answers and events of the dialect's provider as they are read, and what those of others become.

use serde_json::{Value, json};

use super::{answer::tool_id, *};
use crate::completion::answer::{Answer, Finish, Raw, ToolCall, Usage, View};

/// A whole answer of the dialect's provider.
fn native_answer() -> Value {
    json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude",
        "content": [
            { "type": "thinking", "thinking": "Weather.", "signature": "EqQB" },
            { "type": "text", "text": "Let me " },
            { "type": "text", "text": "look.", "citations": [] },
            { "type": "tool_use", "id": "toolu_1", "name": "weather", "input": { "city": "Bern" } },
        ],
        "stop_reason": "tool_use",
        "usage": {
            "input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100,
            "output_tokens": 40, "output_tokens_details": { "thinking_tokens": 12 },
        },
    })
}

fn seen() -> View {
    View {
        text: "Let me look.".to_owned(),
        reasoning: "Weather.".to_owned(),
        tool_calls: vec![ToolCall {
            id: "toolu_1".to_owned(),
            name: "weather".to_owned(),
            arguments: "{\"city\":\"Bern\"}".to_owned(),
        }],
        finish: Some(Finish::ToolCalls),
        usage: Some(Usage {
            input_tokens: 125,
            cached_input_tokens: 100,
            cache_write_tokens: 5,
            output_tokens: 40,
            reasoning_tokens: 12,
        }),
        ..View::default()
    }
}

#[test]
fn a_message_is_seen_and_stays_as_it_is() {
    assert_eq!(view(&native_answer()), Ok(seen()));
    let answer =
        Answer { raw: Raw::Anthropic(native_answer()), view: seen(), dropped_parameters: Vec::new() };
    assert_eq!(message(&answer, "auto", "msg_2"), native_answer());
    assert!(view(&json!({ "type": "message" })).is_err());
    let error = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    assert_eq!(view(&error), Err("overloaded_error: Overloaded".to_owned()));
    let refused = json!({ "content": [], "stop_reason": "refusal", "stop_details": { "explanation": "no" } });
    let seen = View { refusal: "no".to_owned(), finish: Some(Finish::ContentFilter), ..View::default() };
    assert_eq!(view(&refused), Ok(seen));
}

#[test]
fn an_answer_in_the_other_dialect_becomes_a_message() {
    let answer = |view: View| Answer { raw: Raw::OpenAi(Value::Null), view, dropped_parameters: Vec::new() };
    assert_eq!(
        message(&answer(seen()), "claude", "msg_2"),
        json!({
            "id": "msg_2", "type": "message", "role": "assistant", "model": "claude",
            "content": [
                { "type": "thinking", "thinking": "Weather.", "signature": "pointsman" },
                { "type": "text", "text": "Let me look." },
                { "type": "tool_use", "id": "toolu_1", "name": "weather", "input": { "city": "Bern" } },
            ],
            "stop_reason": "tool_use",
            "stop_sequence": null,
            "usage": {
                "input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100,
                "output_tokens": 40,
            },
        })
    );
    let check = |arguments: &str, input: Value| {
        let call = ToolCall { arguments: arguments.to_owned(), ..ToolCall::default() };
        let view = View { tool_calls: vec![call], ..View::default() };
        let block = &message(&answer(view), "m", "msg_2")["content"][0];
        assert_eq!((&block["input"], &block["id"]), (&input, &json!(tool_id("", "msg_2", 0))));
    };
    check("", json!({}));
    check("{\"a\":", json!({ "_raw": "{\"a\":" }));
    check("[1]", json!({ "_raw": "[1]" }));
}

#[test]
fn events_are_read_one_after_the_other() {
    let events = [
        json!({ "type": "message_start", "message": { "usage":
            { "input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta":
            { "type": "thinking_delta", "thinking": "Weather." } }),
        json!({ "type": "content_block_delta", "index": 0, "delta":
            { "type": "signature_delta", "signature": "EqQB" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "ping" }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "Let me " } }),
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "look." } }),
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "content_block_start", "index": 2, "content_block":
            { "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {} } }),
        json!({ "type": "content_block_delta", "index": 2, "delta":
            { "type": "input_json_delta", "partial_json": "{\"query\":1}" } }),
        json!({ "type": "content_block_stop", "index": 2 }),
        json!({ "type": "content_block_start", "index": 3, "content_block":
            { "type": "tool_use", "id": "toolu_1", "name": "weather", "input": {} } }),
        json!({ "type": "content_block_delta", "index": 3, "delta":
            { "type": "input_json_delta", "partial_json": "{\"city\":" } }),
        json!({ "type": "content_block_delta", "index": 3, "delta":
            { "type": "input_json_delta", "partial_json": "\"Bern\"}" } }),
        json!({ "type": "content_block_stop", "index": 3 }),
        json!({ "type": "content_block_start", "index": 4, "content_block":
            { "type": "tool_use", "id": "toolu_2", "name": "now", "input": {} } }),
        json!({ "type": "content_block_stop", "index": 4 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage":
            { "cache_creation_input_tokens": 5, "output_tokens": 40,
                "output_tokens_details": { "thinking_tokens": 12 } } }),
    ];
    let mut deltas = Deltas::default();
    let mut view = View::default();
    for event in &events {
        assert!(view.usage.is_none(), "usage is told at the end");
        view.add(&deltas.read(event).unwrap());
    }
    assert!(!deltas.is_whole());
    view.add(&deltas.read(&json!({ "type": "message_stop" })).unwrap());
    assert!(deltas.is_whole());
    let mut wanted = View { other_content: true, ..seen() };
    wanted.tool_calls.push(ToolCall {
        id: "toolu_2".to_owned(),
        name: "now".to_owned(),
        arguments: "{}".to_owned(),
    });
    assert_eq!(view, wanted);
}

/// A search of the provider's own can take longer than any pause between words.
#[test]
fn events_that_only_show_work_are_told_from_idle_ones() {
    let block =
        |content: Value| json!({ "type": "content_block_start", "index": 0, "content_block": content });
    let go_on = |delta: Value| json!({ "type": "content_block_delta", "index": 0, "delta": delta });
    for (event, works) in [
        (block(json!({ "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} })), true),
        (block(json!({ "type": "redacted_thinking", "data": "x" })), true),
        (go_on(json!({ "type": "input_json_delta", "partial_json": "{\"q" })), true),
        (go_on(json!({ "type": "signature_delta", "signature": "x" })), true),
        (go_on(json!({ "type": "input_json_delta", "partial_json": "" })), false),
        (go_on(json!({ "type": "text_delta", "text": "" })), false),
        (block(json!({ "type": "text", "text": "" })), false),
        (json!({ "type": "content_block_stop", "index": 0 }), false),
        (json!({ "type": "ping" }), false),
    ] {
        assert_eq!(Deltas::default().read(&event).unwrap().shows_work(), works, "{event}");
    }
}

#[test]
fn broken_events_are_told() {
    let check = |event: Value, problem: &str| {
        assert_eq!(Deltas::default().read(&event), Err(problem.to_owned()));
    };
    let error = json!({ "type": "overloaded_error", "message": "Overloaded" });
    check(json!({ "type": "error", "error": error }), "overloaded_error: Overloaded");
    check(json!({ "type": "error" }), "error: ");
    check(json!({}), "an event without a type");
    check(json!({ "type": "content_block_stop" }), "content_block_stop without an index");
    check(json!({ "type": "content_block_start", "index": 0 }), "content_block_start without content_block");
    let mut unfinished = Deltas::default();
    unfinished.read(&json!({ "type": "message_stop" })).unwrap();
    assert!(!unfinished.is_whole(), "an end without a reason is none");
}

#[test]
fn why_it_stopped_is_understood() {
    let check = |reason: &str, finish: Finish| {
        let message = json!({ "content": [], "stop_reason": reason });
        assert_eq!(view(&message).unwrap().finish, Some(finish));
    };
    check("end_turn", Finish::Stop);
    check("stop_sequence", Finish::Stop);
    check("max_tokens", Finish::Length);
    check("model_context_window_exceeded", Finish::Length);
    check("tool_use", Finish::ToolCalls);
    check("refusal", Finish::ContentFilter);
    check("pause_turn", Finish::Other);
    check("novel", Finish::Other);
    assert_eq!(view(&json!({ "content": [], "stop_reason": null })).unwrap().finish, None);
}

#[test]
fn results_of_the_providers_tools_and_paused_turns_are_content() {
    let check = |content: Value, stop_reason: &str, expected: bool| {
        let whole = json!({ "type": "message", "content": [content], "stop_reason": stop_reason });
        let seen = view(&whole).unwrap();
        assert_eq!((seen.other_content, seen.is_empty()), (expected, !expected), "{whole}");
        let mut deltas = Deltas::default();
        let mut streamed = View::default();
        for event in [
            json!({ "type": "content_block_start", "index": 0, "content_block": content }),
            json!({ "type": "message_delta", "delta": { "stop_reason": stop_reason } }),
        ] {
            streamed.add(&deltas.read(&event).unwrap());
        }
        assert_eq!(streamed.other_content, expected, "{whole}");
    };
    check(json!({ "type": "web_search_tool_result", "tool_use_id": "s", "content": [] }), "end_turn", true);
    check(
        json!({ "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} }),
        "end_turn",
        true,
    );
    check(json!({ "type": "thinking", "thinking": "hm" }), "pause_turn", true);
    check(json!({ "type": "thinking", "thinking": "hm" }), "end_turn", false);
    check(json!({ "type": "redacted_thinking", "data": "x" }), "end_turn", false);
    check(json!({ "type": "text", "text": "" }), "end_turn", false);
}

#[test]
fn ids_that_are_made_up_fit_everywhere() {
    let id = tool_id("", "msg_0199d1c2a5b37c3f9e0a4b5c6d7e8f90", 0);
    assert_eq!(id.len(), "toolu_".len() + 24);
    assert!(id.starts_with("toolu_") && id.is_ascii(), "{id}");
    let others = [tool_id("", "msg_0199d1c2a5b37c3f9e0a4b5c6d7e8f90", 1), tool_id("", "msg_1", 0)];
    assert!(!others.contains(&id));
    assert_eq!(tool_id("call:1", "msg_1", 0), "call_1");
}
