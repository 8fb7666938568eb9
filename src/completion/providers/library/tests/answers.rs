//! What becomes of answers: text, tools, thinking, usage, pieces.

use super::*;
use crate::completion::answer::{Finish, Usage};

fn usage(numbers: [u64; 5]) -> Usage {
    let [input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = numbers;
    Usage { input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens }
}

/// A turn of Claude's with everything: thinking, redacted thinking, text, two tool calls, the cache.
fn claude_turn() -> Vec<u8> {
    let delta =
        |index: u64, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let start = |index: u64, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let stop = |index: u64| json!({ "type": "content_block_stop", "index": index });
    claude(&[
        json!({ "type": "message_start", "message": { "usage": {
            "input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7,
            "output_tokens": 1 } } }),
        json!({ "type": "ping" }),
        start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "Warm " })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "there?" })),
        delta(0, json!({ "type": "signature_delta", "signature": "c2ln" })),
        stop(0),
        start(1, json!({ "type": "redacted_thinking", "data": "aGlkZGVu" })),
        stop(1),
        start(2, json!({ "type": "text", "text": "" })),
        delta(2, json!({ "type": "text_delta", "text": "Let me " })),
        delta(2, json!({ "type": "text_delta", "text": "look." })),
        stop(2),
        start(3, json!({ "type": "tool_use", "id": "t1", "name": "weather", "input": {} })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "{\"city\":" })),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "\"Oslo\"}" })),
        stop(3),
        start(4, json!({ "type": "tool_use", "id": "t2", "name": "time", "input": {} })),
        stop(4),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": {
            "output_tokens": 30, "output_tokens_details": { "thinking_tokens": 20 } } }),
        json!({ "type": "message_stop" }),
    ])
}

#[tokio::test]
async fn a_whole_answer_of_claude() {
    let (answered, _) = complete(Protocol::Anthropic, "claude-x", hello(), claude_turn()).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.text, "Let me look.");
    assert_eq!(answered.view.reasoning, "Warm there?");
    assert_eq!(answered.view.finish, Some(Finish::ToolCalls));
    assert_eq!(answered.view.usage, Some(usage([117, 100, 7, 30, 20])));
    let Raw::OpenAi(raw) = &answered.raw else { panic!("not in OpenAI's form") };
    assert_eq!(raw["object"], "chat.completion");
    assert_eq!(raw["model"], "claude-x");
    assert!(raw["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(raw["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = &raw["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "Let me look.");
    let calls = json!([
        { "id": "t1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Oslo\"}" } },
        { "id": "t2", "type": "function", "function": { "name": "time", "arguments": "{}" } },
    ]);
    assert_eq!(choice["message"]["tool_calls"], calls);
    let blocks = json!([
        { "type": "thinking", "thinking": "Warm there?", "signature": "c2ln" },
        { "type": "redacted_thinking", "data": "aGlkZGVu" },
    ]);
    assert_eq!(choice["message"]["thinking_blocks"], blocks);
    assert_eq!(raw["usage"]["prompt_tokens"], 117);
    assert_eq!(raw["usage"]["prompt_tokens_details"]["cached_tokens"], 100);
}

#[tokio::test]
async fn pieces_of_claude() {
    let (pieces, error) = pieces(Protocol::Anthropic, "claude-x", hello(), claude_turn()).await;
    assert_eq!(error, None);
    let deltas: Vec<&Value> = pieces.iter().map(|piece| &raw(piece)["choices"][0]["delta"]).collect();
    assert_eq!(deltas[0]["role"], "assistant");
    assert!(deltas[1..].iter().all(|delta| delta["role"].is_null()));
    assert_eq!(deltas[0]["reasoning_content"], "Warm ");
    let arguments: Vec<&str> = deltas
        .iter()
        .flat_map(|delta| delta["tool_calls"].as_array().into_iter().flatten())
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments.concat(), "{\"city\":\"Oslo\"}{}");
    for piece in &pieces {
        assert_eq!(raw(piece)["id"], raw(&pieces[0])["id"]);
        assert_eq!(raw(piece)["object"], "chat.completion.chunk");
        assert_eq!(raw(piece)["model"], "claude-x");
    }
    let [.., thinking, end, counts] = &pieces[..] else { panic!("too few pieces") };
    assert_eq!(raw(thinking)["choices"][0]["delta"]["thinking_blocks"][0]["signature"], "c2ln");
    assert_eq!(raw(end)["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(raw(counts)["choices"], json!([]));
    assert_eq!(counts.delta.usage, Some(usage([117, 100, 7, 30, 20])));
    assert_eq!(view(&pieces).tool_calls.len(), 2);
}

#[tokio::test]
async fn claude_gets_back_what_it_thought() {
    let (answered, _) = complete(Protocol::Anthropic, "claude-x", hello(), claude_turn()).await;
    let Raw::OpenAi(raw) = answered.unwrap().raw else { panic!("not in OpenAI's form") };
    let body = json!({ "messages": [
        { "role": "user", "content": "Hello." }, raw["choices"][0]["message"],
        { "role": "tool", "tool_call_id": "t1", "content": "-3" },
        { "role": "tool", "tool_call_id": "t2", "content": "noon" },
    ]});
    let (_, seen) = complete(Protocol::Anthropic, "claude-x", body.clone(), claude_turn()).await;
    let expected = json!([
        { "type": "thinking", "thinking": "Warm there?", "signature": "c2ln" },
        { "type": "redacted_thinking", "data": "aGlkZGVu" },
        { "type": "text", "text": "Let me look." },
        { "type": "tool_use", "id": "t1", "name": "weather", "input": { "city": "Oslo" } },
        { "type": "tool_use", "id": "t2", "name": "time", "input": {} },
    ]);
    assert_eq!(seen.body["messages"][1]["content"], expected);
    let (_, seen) =
        complete(Protocol::Bedrock, "anthropic.claude-x", body, bedrock(&[("messageStop", json!({}))])).await;
    let expected = json!([
        { "reasoningContent": { "reasoningText": { "text": "Warm there?", "signature": "c2ln" } } },
        { "reasoningContent": { "redactedContent": "aGlkZGVu" } },
    ]);
    assert_eq!(
        seen.body["messages"][1]["content"].as_array().unwrap()[..2],
        expected.as_array().unwrap()[..]
    );
}

/// Two chunks, each with a call of one tool: the library gives both the same id.
fn gemini_turn() -> Vec<u8> {
    let call = |city: &str, signature: Value| {
        let mut part = json!({ "functionCall": { "name": "weather", "args": { "city": city } } });
        if !signature.is_null() {
            part["thoughtSignature"] = signature;
        }
        part
    };
    gemini(&[
        json!({ "candidates": [{ "content": { "parts": [{ "text": "Hm.", "thought": true }] } }],
                "usageMetadata": { "promptTokenCount": 50 } }),
        json!({ "candidates": [{ "content": { "parts": [{ "text": "Wait. " }, call("Oslo", json!("c2ln"))] } }] }),
        json!({ "candidates": [{ "content": { "parts": [call("Bern", Value::Null)] }, "finishReason": "STOP" }],
                "usageMetadata": { "promptTokenCount": 50, "cachedContentTokenCount": 40,
                                   "candidatesTokenCount": 9, "thoughtsTokenCount": 11 } }),
    ])
}

#[tokio::test]
async fn gemini_calls_tools_and_gets_its_signatures_back() {
    let (answered, _) = complete(Protocol::Gemini, "gemini-3-pro", hello(), gemini_turn()).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.text, "Wait. ");
    assert_eq!(answered.view.reasoning, "Hm.");
    assert_eq!(answered.view.finish, Some(Finish::ToolCalls));
    assert_eq!(answered.view.usage, Some(usage([50, 40, 0, 20, 11])));
    let Raw::OpenAi(raw) = answered.raw else { panic!("not in OpenAI's form") };
    let message = &raw["choices"][0]["message"];
    let [first, second] = [&message["tool_calls"][0], &message["tool_calls"][1]];
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["extra_content"]["google"]["thought_signature"], "c2ln");
    assert!(second["extra_content"].is_null());

    let body = json!({ "messages": [
        { "role": "user", "content": "Hello." }, message,
        { "role": "tool", "tool_call_id": first["id"], "content": "-3" },
        { "role": "tool", "tool_call_id": second["id"], "content": "20" },
    ]});
    let (_, seen) = complete(Protocol::Gemini, "gemini-3-pro", body, gemini_turn()).await;
    let expected = json!([
        { "role": "user", "parts": [{ "text": "Hello." }] },
        { "role": "model", "parts": [
            { "text": "Wait. " },
            { "functionCall": { "name": "weather", "args": { "city": "Oslo" } }, "thoughtSignature": "c2ln" },
            { "functionCall": { "name": "weather", "args": { "city": "Bern" } } },
        ]},
        { "role": "user", "parts": [
            { "functionResponse": { "name": "weather", "response": { "name": "weather", "content": "-3" } } },
            { "functionResponse": { "name": "weather", "response": { "name": "weather", "content": "20" } } },
        ]},
    ]);
    assert_eq!(seen.body["contents"], expected, "{:#}", seen.body["contents"]);
}

#[tokio::test]
async fn pieces_of_gemini() {
    let (pieces, error) = pieces(Protocol::Vertex, "gemini-3-pro", hello(), gemini_turn()).await;
    assert_eq!(error, None);
    let signed: Vec<&Value> = pieces
        .iter()
        .map(|piece| &raw(piece)["choices"][0]["delta"]["tool_calls"][0]["extra_content"])
        .filter(|extra| !extra.is_null())
        .collect();
    assert_eq!(signed, [&json!({ "google": { "thought_signature": "c2ln" } })]);
    let indices: Vec<usize> =
        pieces.iter().flat_map(|piece| &piece.delta.tool_calls).map(|call| call.index).collect();
    assert_eq!(indices, [0, 1]);
}

#[tokio::test]
async fn a_prompt_that_gemini_blocks_is_filtered_content() {
    let blocked = gemini(&[json!({ "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" },
                                   "usageMetadata": { "promptTokenCount": 50 } })]);
    let (answered, _) = complete(Protocol::Gemini, "gemini-x", hello(), blocked).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.finish, Some(Finish::ContentFilter));
    assert_eq!(answered.view.usage, Some(usage([50, 0, 0, 0, 0])));
    assert!(answered.view.is_empty());
}

fn bedrock_turn() -> Vec<u8> {
    let delta = |delta: Value| ("contentBlockDelta", json!({ "delta": delta, "contentBlockIndex": 0 }));
    bedrock(&[
        ("messageStart", json!({ "role": "assistant" })),
        delta(json!({ "reasoningContent": { "text": "Hm." } })),
        delta(json!({ "reasoningContent": { "signature": "c2ln" } })),
        ("contentBlockStop", json!({ "contentBlockIndex": 0 })),
        delta(json!({ "text": "Let me " })),
        delta(json!({ "text": "look." })),
        ("contentBlockStop", json!({ "contentBlockIndex": 1 })),
        ("contentBlockStart", json!({ "start": { "toolUse": { "toolUseId": "t1", "name": "weather" } } })),
        delta(json!({ "toolUse": { "input": "{\"city\":" } })),
        delta(json!({ "toolUse": { "input": "\"Oslo\"}" } })),
        ("contentBlockStop", json!({ "contentBlockIndex": 2 })),
        ("messageStop", json!({ "stopReason": "tool_use" })),
        (
            "metadata",
            json!({ "usage": { "inputTokens": 10, "outputTokens": 5, "totalTokens": 65,
                                        "cacheReadInputTokens": 40, "cacheWriteInputTokens": 10 } }),
        ),
    ])
}

#[tokio::test]
async fn a_whole_answer_of_bedrock() {
    let (answered, _) = complete(Protocol::Bedrock, "anthropic.claude-x", hello(), bedrock_turn()).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.text, "Let me look.");
    assert_eq!(answered.view.reasoning, "Hm.");
    assert_eq!(answered.view.finish, Some(Finish::ToolCalls));
    assert_eq!(answered.view.usage, Some(usage([60, 40, 10, 5, 0])));
    assert_eq!(answered.view.tool_calls[0].arguments, "{\"city\":\"Oslo\"}");
    let Raw::OpenAi(raw) = answered.raw else { panic!("not in OpenAI's form") };
    let blocks = json!([{ "type": "thinking", "thinking": "Hm.", "signature": "c2ln" }]);
    assert_eq!(raw["choices"][0]["message"]["thinking_blocks"], blocks);
}

#[tokio::test]
async fn a_whole_answer_of_cohere() {
    let streamed = cohere(&[
        json!({ "is_finished": false, "event_type": "stream-start", "generation_id": "g" }),
        json!({ "is_finished": false, "event_type": "text-generation", "text": "Hel" }),
        json!({ "is_finished": false, "event_type": "text-generation", "text": "lo." }),
        json!({ "is_finished": true, "event_type": "stream-end", "finish_reason": "MAX_TOKENS",
                "response": { "meta": { "tokens": { "input_tokens": 20.0, "output_tokens": 2.0 } } } }),
    ]);
    let (answered, _) = complete(Protocol::Cohere, "command-r", hello(), streamed).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.text, "Hello.");
    assert_eq!(answered.view.finish, Some(Finish::Length));
    assert_eq!(answered.view.usage, Some(usage([20, 0, 0, 2, 0])));
}

#[tokio::test]
async fn a_call_that_the_output_limit_cut_stays_cut() {
    let streamed = claude(&[
        json!({ "type": "content_block_start", "index": 0,
                "content_block": { "type": "tool_use", "id": "t1", "name": "f", "input": {} } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "max_tokens" } }),
        json!({ "type": "message_stop" }),
    ]);
    let (answered, _) = complete(Protocol::Anthropic, "claude-x", hello(), streamed).await;
    let view = answered.unwrap().view;
    assert_eq!(view.finish, Some(Finish::Length));
    assert_eq!(view.tool_calls[0].arguments, "");
}

#[tokio::test]
async fn usage_that_cannot_be_is_not_told() {
    for count in [json!(-5), json!("many"), json!(1.5)] {
        let streamed = claude(&[
            json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
                    "usage": { "input_tokens": 10, "output_tokens": count } }),
            json!({ "type": "message_stop" }),
        ]);
        let (answered, _) = complete(Protocol::Anthropic, "claude-x", hello(), streamed).await;
        let answered = answered.unwrap();
        assert_eq!(answered.view.usage, None);
        assert_eq!(answered.view.finish, Some(Finish::Stop));
    }
}
