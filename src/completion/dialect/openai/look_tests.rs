#![allow(clippy::needless_pass_by_value, reason = "a case is one line")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::completion::dialect::openai::{ChunkHead, chunk, completion, opening, usage_chunk};

fn answer(message: Value, finish_reason: Value) -> Value {
    json!({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]})
}

#[test]
fn a_whole_answer_is_seen() {
    let seen = view(&json!({
        "choices": [
            {"index": 1, "message": {"content": "other"}, "finish_reason": "length"},
            {
                "index": 0,
                "message": {
                    "role": "assistant", "content": "hello", "reasoning_content": "hm",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                "logprobs": {"content": [{"token": "he", "logprob": -0.5}, {"token": "llo", "logprob": -1.5}]},
                "finish_reason": "tool_calls",
            },
        ],
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }))
    .unwrap();
    let call = ToolCall { id: "c1".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() };
    assert_eq!((seen.text.as_str(), seen.reasoning.as_str()), ("hello", "hm"));
    assert_eq!((seen.tool_calls, seen.finish), (vec![call], Some(Finish::ToolCalls)));
    assert_eq!(seen.logprobs, LogprobSum { sum: -2.0, tokens: 2 });
    let usage = Usage {
        input_tokens: 10,
        cached_input_tokens: 4,
        cache_write_tokens: 0,
        output_tokens: 5,
        reasoning_tokens: 2,
    };
    assert_eq!(seen.usage, Some(usage));
}

#[test]
fn providers_differ_in_details() {
    let check = |message: Value, wanted: View| {
        let seen = view(&answer(message.clone(), json!("stop"))).unwrap();
        assert_eq!(seen, View { finish: Some(Finish::Stop), ..wanted }, "{message}");
    };
    let text = |text: &str| View { text: text.to_owned(), ..View::default() };
    check(json!({"content": null}), text(""));
    check(json!({"content": null, "refusal": "no"}), View { refusal: "no".to_owned(), ..View::default() });
    check(json!({"content": "x", "reasoning": "y"}), View { reasoning: "y".to_owned(), ..text("x") });
    let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "y"}]}, {"type": "text", "text": "x"}]);
    check(json!({"content": parts}), View { reasoning: "y".to_owned(), ..text("x") });
    let call = ToolCall { id: String::new(), name: "f".to_owned(), arguments: "{\"a\":1}".to_owned() };
    let calls = View { tool_calls: vec![call], ..View::default() };
    check(json!({"function_call": {"name": "f", "arguments": "{\"a\":1}"}}), calls.clone());
    check(json!({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}), calls.clone());
    check(json!({"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "{\"a\":1}"}}]}), calls);
}

#[test]
fn reasons_to_stop_have_one_word_each() {
    let check = |reason: Value, wanted: Option<Finish>| {
        assert_eq!(view(&answer(json!({}), reason.clone())).unwrap().finish, wanted, "{reason}");
    };
    check(json!("stop"), Some(Finish::Stop));
    check(json!("length"), Some(Finish::Length));
    check(json!("function_call"), Some(Finish::ToolCalls));
    check(json!("content_filter"), Some(Finish::ContentFilter));
    check(json!("something new"), Some(Finish::Other));
    check(json!(""), None);
    check(json!(null), None);
}

#[test]
fn usage_is_taken_only_when_it_can_be() {
    let check = |usage: Value, wanted: Option<(u64, u64, u64)>| {
        let found = usage_of(&json!({"usage": usage}));
        assert_eq!(
            found.map(|usage| (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)),
            wanted
        );
    };
    check(json!(null), None);
    check(json!("lots"), None);
    check(json!({"prompt_tokens": 5}), None);
    check(json!({"prompt_tokens": -5, "completion_tokens": 1}), None);
    check(json!({"prompt_tokens": 5.5, "completion_tokens": 1}), None);
    check(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX}), None);
    check(json!({"prompt_tokens": 5.0, "completion_tokens": 1}), Some((5, 0, 1)));
    check(json!({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3, "completion_tokens": 1}), Some((5, 3, 1)));
    let apart = json!({"reasoning_tokens": 7});
    check(
        json!({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 13, "completion_tokens_details": apart}),
        Some((5, 0, 8)),
    );
    let groq = json!({"x_groq": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}});
    assert_eq!(usage_of(&groq).map(|usage| usage.output_tokens), Some(2));
}

#[test]
fn what_is_no_answer_is_an_error() {
    for bad in
        [json!({}), json!([]), json!({"choices": {}}), json!({"choices": []}), json!({"choices": [{}]})]
    {
        assert!(view(&bad).is_err(), "{bad}");
    }
    for bad in [json!({}), json!(7), json!({"choices": "x"}), json!({"error": {"message": "overloaded"}})] {
        assert!(delta(&bad).is_err(), "{bad}");
    }
    assert_eq!(delta(&json!({"error": {"message": "overloaded"}})).unwrap_err(), "overloaded");
    let half_way = json!({"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]});
    assert!(delta(&half_way).is_err());
}

#[test]
fn chunks_add_what_they_say_of_the_first_choice() {
    let usage_only = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let usage = Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() };
    assert_eq!(delta(&usage_only).unwrap(), Delta { usage: Some(usage), ..Delta::default() });
    assert_eq!(delta(&json!({"choices": [], "prompt_filter_results": []})).unwrap(), Delta::default());
    let other = json!({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]});
    let works = Delta { progress: true, ..Delta::default() };
    assert_eq!(delta(&other).unwrap(), works);
    let thought =
        json!({"choices": [{"index": 0, "delta": {"content": "", "thinking_blocks": [{"signature": "x"}]}}]});
    assert_eq!(delta(&thought).unwrap(), works);
    for idle in [
        json!({"choices": [{"index": 1, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "delta": {"content": null, "tool_calls": []}}]}),
        json!({"choices": [{"index": 0}]}),
    ] {
        assert_eq!(delta(&idle).unwrap(), Delta::default(), "{idle}");
    }
    let part = json!({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 2, "id": "c", "function": {"name": "f", "arguments": ""}},
        {"index": 3, "function": {"arguments": "{\"a"}},
    ]}}]});
    let found = delta(&part).unwrap().tool_calls;
    assert_eq!(
        found[0],
        ToolDelta { index: 2, id: "c".to_owned(), name: "f".to_owned(), ..ToolDelta::default() }
    );
    assert_eq!(found[1], ToolDelta { index: 3, arguments: "{\"a".to_owned(), ..ToolDelta::default() });
}

const HEAD: ChunkHead<'_> = ChunkHead { id: "chatcmpl-1", model: "m", created: 7 };

fn words() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{1,8}"]
}

fn finishes() -> impl Strategy<Value = Option<Finish>> {
    prop::option::of(prop::sample::select(vec![
        Finish::Stop,
        Finish::Length,
        Finish::ToolCalls,
        Finish::ContentFilter,
    ]))
}

fn usages() -> impl Strategy<Value = Option<Usage>> {
    let usage = (0..1000_u64, 0..100_u64, 0..1000_u64).prop_map(|(input_tokens, cached, output_tokens)| {
        Usage { input_tokens, cached_input_tokens: cached, output_tokens, ..Usage::default() }
    });
    prop::option::of(usage)
}

proptest! {
    #[test]
    fn what_is_written_whole_is_seen_as_it_was(
        text in words(), refusal in words(), reasoning in words(), finish in finishes(), usage in usages(),
        calls in prop::collection::vec((words(), words(), words()), 0..3),
    ) {
        let tool_calls = calls.into_iter().map(|(id, name, arguments)| ToolCall { id, name, arguments }).collect();
        let view = View { text, refusal, reasoning, tool_calls, finish, usage, logprobs: LogprobSum::default(), other_content: false };
        prop_assert_eq!(super::view(&completion(&view, HEAD)).unwrap(), view);
    }

    #[test]
    fn what_is_written_in_pieces_is_seen_as_it_was(
        text in words(), refusal in words(), reasoning in words(), finish in finishes(), usage in usages(),
        calls in prop::collection::vec((0..5_usize, words(), words(), words()), 0..3),
    ) {
        let tool_calls =
            calls.into_iter().map(|(index, id, name, arguments)| ToolDelta { index, id, name, arguments }).collect();
        let piece = Delta { text, refusal, reasoning, tool_calls, finish, usage, ..Delta::default() };
        prop_assert_eq!(delta(&chunk(&piece, HEAD)).unwrap(), piece);
    }
}

#[test]
fn written_chunks_have_the_form_that_readers_know() {
    assert_eq!(
        opening(HEAD),
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{
                "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null,
            }],
        })
    );
    let reported = usage_chunk(Usage { input_tokens: 1, output_tokens: 2, ..Usage::default() }, HEAD);
    assert_eq!(reported["choices"], json!([]));
    assert_eq!(reported["usage"]["total_tokens"], 3);
}

#[test]
fn ends_that_are_failures_are_errors_and_filters_are_filters() {
    for failed in ["error", "insufficient_system_resource", "abort", "MALFORMED_FUNCTION_CALL"] {
        assert!(error_of(&answer(json!({"content": "Let me"}), json!(failed))).is_some(), "{failed}");
    }
    for filtered in ["content_filter", "SAFETY", "recitation", "PROHIBITED_CONTENT"] {
        let seen = view(&answer(json!({"content": "Let me"}), json!(filtered))).unwrap();
        assert_eq!(seen.finish, Some(Finish::ContentFilter), "{filtered}");
    }
    let new = answer(json!({"content": "x"}), json!("eos"));
    assert!(error_of(&new).is_none());
    assert_eq!(view(&new).unwrap().finish, Some(Finish::Other));
}
