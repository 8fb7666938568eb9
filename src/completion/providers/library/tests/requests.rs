//! What is sent: bodies field for field, addresses, headers, and the names of what was not sent.

use super::*;

/// Everything that callers send: instructions, an image, a tool turn, tools, a schema, sampling.
fn rich() -> Value {
    json!({
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "developer", "content": [{ "type": "text", "text": "Use tools." }] },
            { "role": "user", "name": "ann", "content": [
                { "type": "text", "text": "What is this, and how warm is it there?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,QUJD", "detail": "low" } },
            ]},
            { "role": "assistant", "content": "Let me look.", "tool_calls": [
                { "id": "call_1", "type": "function",
                  "function": { "name": "weather", "arguments": "{\"city\":\"Oslo\"}" } },
                { "id": "call_2", "type": "function", "function": { "name": "time", "arguments": "" } },
            ]},
            { "role": "tool", "tool_call_id": "call_1", "content": "-3" },
            { "role": "tool", "tool_call_id": "call_2", "content": [{ "type": "text", "text": "noon" }] },
            { "role": "user", "content": "And now?" },
        ],
        "tools": [
            { "type": "function", "function": { "name": "weather", "description": "Temperature",
              "parameters": { "type": "object", "properties": { "city": { "type": "string" } } }, "strict": true } },
            { "type": "function", "function": { "name": "time" } },
        ],
        "tool_choice": { "type": "function", "function": { "name": "weather" } },
        "parallel_tool_calls": false,
        "response_format": { "type": "json_schema", "json_schema": {
            "name": "reply", "strict": true,
            "schema": { "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] } } },
        "max_tokens": 50, "max_completion_tokens": 60, "temperature": 0.5, "top_p": 0.9, "top_k": 7,
        "stop": ["END", "STOP"], "seed": 11, "presence_penalty": 0.25, "frequency_penalty": 0.0,
        "reasoning_effort": "low", "verbosity": "low", "n": 2, "logprobs": true, "logit_bias": { "5": 1 },
        "user": "u", "metadata": { "a": "b" }, "store": false, "service_tier": "auto", "something_new": 1,
    })
}

/// What of [`rich`] no protocol of the library has a place for.
const NOWHERE: [&str; 9] = [
    "logit_bias",
    "logprobs",
    "metadata",
    "n",
    "something_new",
    "user",
    "verbosity",
    "messages[].name",
    "messages[].content[].image_url.detail",
];

fn finished(protocol: Protocol, model: &str) -> Vec<u8> {
    match protocol {
        Protocol::Anthropic => claude_hello(),
        Protocol::Vertex if model.starts_with("claude") => claude_hello(),
        Protocol::Gemini | Protocol::Vertex => gemini(&[
            json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] }, "finishReason": "STOP" }] }),
        ]),
        Protocol::Bedrock => bedrock(&[
            ("contentBlockDelta", json!({ "delta": { "text": "Hi" } })),
            ("messageStop", json!({ "stopReason": "end_turn" })),
        ]),
        Protocol::Cohere => cohere(&[
            json!({ "is_finished": false, "event_type": "text-generation", "text": "Hi" }),
            json!({ "is_finished": true, "event_type": "stream-end", "finish_reason": "COMPLETE" }),
        ]),
        Protocol::OpenAi | Protocol::Scripted => unreachable!("not served by the library"),
    }
}

fn claude_hello() -> Vec<u8> {
    claude(&[
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } }),
        json!({ "type": "message_stop" }),
    ])
}

/// Sends a body, and compares what the upstream saw and what was named as not sent.
async fn check(protocol: Protocol, model: &str, body: Value, expected: Value, dropped: &[&str]) -> Seen {
    let (answered, seen) = complete(protocol, model, body, finished(protocol, model)).await;
    let answered = answered.unwrap();
    assert_eq!(answered.view.text, "Hi");
    assert_eq!(seen.body, expected, "{:#}", seen.body);
    let mut dropped = dropped.to_vec();
    dropped.sort_unstable();
    assert_eq!(answered.dropped_parameters, dropped);
    seen
}

/// Sends a body that does not fit, and compares the reason; nothing reaches the upstream.
async fn check_unfit(protocol: Protocol, model: &str, body: Value, reason: &str) {
    // Nobody listens there.
    let setup = Setup::new(protocol, model, "http://127.0.0.1:1");
    let error = setup.provider().complete(setup.call(body)).await.unwrap_err();
    assert_eq!(error.kind, crate::completion::attempt::ErrorKind::Refused, "{error}");
    assert_eq!(error.message, reason);
}

#[tokio::test]
async fn anthropic() {
    let expected = json!({
        "model": "claude-sonnet-5", "stream": true, "system": "Be brief.\n\nUse tools.",
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "What is this, and how warm is it there?" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "QUJD" } },
            ]},
            { "role": "assistant", "content": [
                { "type": "text", "text": "Let me look." },
                { "type": "tool_use", "id": "call_1", "name": "weather", "input": { "city": "Oslo" } },
                { "type": "tool_use", "id": "call_2", "name": "time", "input": {} },
            ]},
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "call_1", "content": "-3" },
                { "type": "tool_result", "tool_use_id": "call_2", "content": "noon" },
                { "type": "text", "text": "And now?" },
            ]},
        ],
        "tools": [
            { "name": "weather", "description": "Temperature", "strict": true,
              "input_schema": { "type": "object", "properties": { "city": { "type": "string" } },
                                "additionalProperties": false } },
            { "name": "time", "input_schema": { "type": "object", "properties": {} } },
        ],
        "tool_choice": { "type": "tool", "name": "weather", "disable_parallel_tool_use": true },
        "output_config": { "format": { "type": "json_schema", "schema": {
            "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"],
            "additionalProperties": false } } },
        "max_tokens": 60, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop_sequences": ["END", "STOP"],
    });
    let dropped = [
        &NOWHERE[..],
        &[
            "seed",
            "presence_penalty",
            // Beside a forced choice of a tool there is no thinking.
            "reasoning_effort",
        ],
    ]
    .concat();
    let seen = check(Protocol::Anthropic, "claude-sonnet-5", rich(), expected, &dropped).await;
    assert!(seen.head.starts_with("POST /base/messages HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("x-api-key: {KEY}\r\n")), "{}", seen.head);
    assert!(seen.head.contains("anthropic-version: 2023-06-01\r\n"), "{}", seen.head);
    assert!(seen.head.contains("user-agent: pointsman/"), "{}", seen.head);
    assert!(!seen.head.contains("authorization"), "{}", seen.head);
}

#[tokio::test]
async fn gemini_gets_sampling_and_schemas() {
    let expected = json!({
        "systemInstruction": { "parts": [{ "text": "Be brief.\nUse tools." }] },
        "contents": [
            { "role": "user", "parts": [
                { "text": "What is this, and how warm is it there?" },
                { "inline_data": { "mime_type": "image/png", "data": "QUJD" } },
            ]},
            { "role": "model", "parts": [
                { "text": "Let me look." },
                { "functionCall": { "id": "call_1", "name": "weather", "args": { "city": "Oslo" } } },
                { "functionCall": { "id": "call_2", "name": "time", "args": {} } },
            ]},
            { "role": "user", "parts": [
                { "functionResponse": { "id": "call_1", "name": "weather",
                  "response": { "name": "weather", "content": "-3" } } },
                { "functionResponse": { "id": "call_2", "name": "time",
                  "response": { "name": "time", "content": "noon" } } },
            ]},
            { "role": "user", "parts": [{ "text": "And now?" }] },
        ],
        "tools": [{ "functionDeclarations": [
            { "name": "weather", "description": "Temperature",
              "parametersJsonSchema": { "type": "object", "properties": { "city": { "type": "string" } } } },
            { "name": "time", "description": null, "parametersJsonSchema": { "type": "object", "properties": {} } },
        ]}],
        "toolConfig": { "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["weather"] } },
        "generationConfig": {
            "temperature": 0.5, "topP": 0.9, "topK": 7, "presencePenalty": 0.25, "maxOutputTokens": 60,
            "stopSequences": ["END", "STOP"], "seed": 11,
            "responseMimeType": "application/json",
            "responseJsonSchema": { "type": "object", "properties": { "a": { "type": "string" } },
                                    "required": ["a"] },
            "thinkingConfig": { "thinkingBudget": 1024, "includeThoughts": true },
        },
    });
    let dropped = [&NOWHERE[..], &["parallel_tool_calls", "tools[].function.strict"]].concat();
    let seen = check(Protocol::Gemini, "gemini-2.5-pro", rich(), expected.clone(), &dropped).await;
    let line = "POST /base/models/gemini-2.5-pro:streamGenerateContent?alt=sse HTTP/1.1\r\n";
    assert!(seen.head.starts_with(line), "{}", seen.head);
    assert!(seen.head.contains(&format!("x-goog-api-key: {KEY}\r\n")), "{}", seen.head);
    let seen = check(Protocol::Vertex, "gemini-2.5-pro", rich(), expected, &dropped).await;
    let line =
        "POST /base/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse HTTP/1.1\r\n";
    assert!(seen.head.starts_with(line), "{}", seen.head);
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{}", seen.head);
}

#[tokio::test]
async fn geminis_json_mode_and_levels_of_thinking() {
    let body = json!({ "messages": hello()["messages"], "reasoning_effort": "xhigh",
                       "response_format": { "type": "json_object" } });
    let expected = json!({
        "contents": [{ "role": "user", "parts": [{ "text": "Hello." }] }],
        "generationConfig": { "responseMimeType": "application/json",
                              "thinkingConfig": { "thinkingLevel": "HIGH", "includeThoughts": true } },
    });
    check(Protocol::Gemini, "gemini-3-pro", body, expected, &[]).await;
    let off = json!({ "messages": hello()["messages"], "reasoning_effort": "none" });
    let expected = |config: Value| {
        json!({
            "contents": [{ "role": "user", "parts": [{ "text": "Hello." }] }], "generationConfig": config,
        })
    };
    let no_budget = expected(json!({ "thinkingConfig": { "thinkingBudget": 0 } }));
    check(Protocol::Gemini, "gemini-2.5-flash", off.clone(), no_budget, &[]).await;
    check(Protocol::Gemini, "gemini-3-pro", off, expected(json!({})), &["reasoning_effort"]).await;
    // The library would take the model's last word for an effort.
    check(Protocol::Gemini, "gemini-x-high", hello(), expected(json!({})), &[]).await;
}

#[tokio::test]
async fn bedrock_gets_turns_that_alternate() {
    let expected = json!({
        "system": [{ "text": "Be brief." }, { "text": "Use tools." }],
        "messages": [
            { "role": "user", "content": [
                { "text": "What is this, and how warm is it there?" },
                { "image": { "format": "png", "source": { "bytes": "QUJD" } } },
            ]},
            { "role": "assistant", "content": [
                { "text": "Let me look." },
                { "toolUse": { "toolUseId": "call_1", "name": "weather", "input": { "city": "Oslo" } } },
                { "toolUse": { "toolUseId": "call_2", "name": "time", "input": {} } },
            ]},
            { "role": "user", "content": [
                { "toolResult": { "toolUseId": "call_1", "content": [{ "text": "-3" }] } },
                { "toolResult": { "toolUseId": "call_2", "content": [{ "text": "noon" }] } },
                { "text": "And now?" },
            ]},
        ],
        "toolConfig": { "tools": [
            { "toolSpec": { "name": "weather", "description": "Temperature", "inputSchema": { "json": {
                "type": "object", "properties": { "city": { "type": "string" } } } } } },
            { "toolSpec": { "name": "time", "inputSchema": { "json": { "type": "object", "properties": {} } } } },
        ]},
        "inferenceConfig": { "maxTokens": 60, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "STOP"] },
    });
    let dropped = [
        &NOWHERE[..],
        &[
            "response_format",
            "top_k",
            "seed",
            "presence_penalty",
            "tool_choice",
            "parallel_tool_calls",
            "tools[].function.strict",
            // No budget fits into 60 tokens.
            "reasoning_effort",
        ],
    ]
    .concat();
    let model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let seen = check(Protocol::Bedrock, model, rich(), expected, &dropped).await;
    let line = "POST /base/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream HTTP/1.1\r\n";
    assert!(seen.head.starts_with(line), "{}", seen.head);
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{}", seen.head);
}

#[tokio::test]
async fn claudes_thinking_leaves_room_for_the_answer() {
    let body = json!({ "messages": hello()["messages"], "reasoning_effort": "high", "temperature": 0.1,
                       "max_tokens": 4096 });
    let expected = json!({
        "messages": [{ "role": "user", "content": [{ "text": "Hello." }] }],
        "inferenceConfig": { "maxTokens": 4096 },
        "additionalModelRequestFields": { "thinking": { "type": "enabled", "budget_tokens": 2048 } },
    });
    check(Protocol::Bedrock, "us.anthropic.claude-x", body.clone(), expected, &["temperature"]).await;
    let expected = json!({
        "model": "claude-sonnet-4-5", "stream": true, "max_tokens": 4096,
        "messages": [{ "role": "user", "content": "Hello." }],
        "thinking": { "type": "enabled", "budget_tokens": 2048 },
    });
    check(Protocol::Anthropic, "claude-sonnet-4-5", body.clone(), expected, &["temperature"]).await;
    let expected = json!({
        "model": "claude-sonnet-5", "stream": true, "max_tokens": 4096,
        "messages": [{ "role": "user", "content": "Hello." }],
        "thinking": { "type": "adaptive", "display": "summarized" }, "output_config": { "effort": "high" },
    });
    check(Protocol::Anthropic, "claude-sonnet-5", body, expected, &["temperature"]).await;
}

#[tokio::test]
async fn a_high_effort_leaves_no_room_for_sampling_on_amazons_models() {
    let body = json!({ "messages": hello()["messages"], "reasoning_effort": "high", "temperature": 0.1,
                       "max_tokens": 9 });
    let expected = json!({
        "messages": [{ "role": "user", "content": [{ "text": "Hello." }] }],
        "additionalModelRequestFields": {
            "inferenceConfig": { "reasoningConfig": { "type": "enabled", "maxReasoningEffort": "high" } } },
    });
    check(Protocol::Bedrock, "amazon.nova-2-lite-v1:0", body, expected, &["temperature", "max_tokens"]).await;
    let body = json!({ "messages": hello()["messages"], "reasoning_effort": "high" });
    let expected = json!({
        "messages": [{ "role": "user", "content": [{ "text": "Hello." }] }],
        "inferenceConfig": { "maxTokens": 4321 },
    });
    check(Protocol::Bedrock, "meta.llama4", body, expected, &["reasoning_effort"]).await;
}

#[tokio::test]
async fn claude_on_vertex() {
    let body = json!({
        "messages": hello()["messages"], "temperature": 0.5, "tool_choice": "required",
        "reasoning_effort": "low", "response_format": { "type": "json_object" },
        "tools": [{ "type": "function", "function": { "name": "f" } }],
    });
    let expected = json!({
        "anthropic_version": "vertex-2023-10-16", "stream": true, "max_tokens": 4321, "temperature": 0.5,
        "messages": [{ "role": "user", "content": "Hello." }],
        "tools": [{ "name": "f", "input_schema": { "type": "object", "properties": {} } }],
    });
    let dropped = ["reasoning_effort", "response_format", "tool_choice"];
    let seen = check(Protocol::Vertex, "claude-opus-4@20250514", body, expected, &dropped).await;
    let line = "POST /base/publishers/anthropic/models/claude-opus-4@20250514:streamRawPredict HTTP/1.1\r\n";
    assert!(seen.head.starts_with(line), "{}", seen.head);
}

#[tokio::test]
async fn cohere_gets_text() {
    let body = json!({
        "messages": [
            { "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi." },
            { "role": "assistant", "content": "Hello." }, { "role": "user", "content": "Why?" },
        ],
        "tools": [{ "type": "function", "function": { "name": "f" } }],
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop": "END",
    });
    let expected = json!({
        "model": "command-r", "message": "Why?", "stream": true, "preamble": "Be brief.",
        "chat_history": [{ "role": "USER", "message": "Hi." }, { "role": "CHATBOT", "message": "Hello." }],
        "temperature": 0.5, "p": 0.9, "max_tokens": 9, "stop_sequences": ["END"],
    });
    check(Protocol::Cohere, "command-r", body, expected, &["tools"]).await;
}

#[tokio::test]
async fn a_tool_named_like_the_providers_own_stays_the_callers() {
    let body = json!({
        "messages": [
            { "role": "user", "content": "Search." },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "web_search", "arguments": "{}" } } ] },
            { "role": "tool", "tool_call_id": "c1", "content": "found" },
        ],
        "tools": [{ "type": "function", "function": { "name": "web_search" } },
                  { "type": "function", "function": { "name": "web_search_function" } }],
        "tool_choice": { "type": "function", "function": { "name": "web_search" } },
    });
    let streamed = claude(&[
        json!({ "type": "content_block_start", "index": 0, "content_block": {
            "type": "tool_use", "id": "t1", "name": "web_search_function_", "input": {} } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" } }),
        json!({ "type": "message_stop" }),
    ]);
    let (answered, seen) = complete(Protocol::Anthropic, "claude-x", body, streamed).await;
    let schema = json!({ "type": "object", "properties": {} });
    let tools = json!([{ "name": "web_search_function_", "input_schema": schema },
                       { "name": "web_search_function", "input_schema": schema }]);
    assert_eq!(seen.body["tools"], tools);
    assert_eq!(seen.body["tool_choice"]["name"], "web_search_function_");
    assert_eq!(seen.body["messages"][1]["content"][0]["name"], "web_search_function_");
    assert_eq!(answered.unwrap().view.tool_calls[0].name, "web_search");
}

#[tokio::test]
async fn tools_that_may_not_be_used_are_left_out_where_that_cannot_be_said() {
    let body = json!({ "messages": hello()["messages"], "tool_choice": "none",
                       "tools": [{ "type": "function", "function": { "name": "f" } }] });
    let expected = json!({
        "messages": [{ "role": "user", "content": [{ "text": "Hello." }] }],
        "inferenceConfig": { "maxTokens": 4321 },
    });
    check(Protocol::Bedrock, "meta.llama4", body, expected, &[]).await;
}

#[tokio::test]
async fn images_by_address_are_passed_on() {
    let body = json!({ "messages": [{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "https://host/cat.webp?x=1" } } ] }] });
    let (_, seen) = complete(Protocol::Anthropic, "claude-x", body.clone(), claude_hello()).await;
    let expected =
        json!([{ "type": "image", "source": { "type": "url", "url": "https://host/cat.webp?x=1" } }]);
    assert_eq!(seen.body["messages"][0]["content"], expected);
    let (_, seen) =
        complete(Protocol::Gemini, "gemini-x", body.clone(), finished(Protocol::Gemini, "gemini-x")).await;
    let expected =
        json!([{ "file_data": { "mime_type": "image/webp", "file_uri": "https://host/cat.webp?x=1" } }]);
    assert_eq!(seen.body["contents"][0]["parts"], expected);
    let reason = "messages[0].content[0]: images by address cannot be sent to this target: give a data URL";
    check_unfit(Protocol::Bedrock, "meta.llama4", body, reason).await;
}

#[tokio::test]
async fn what_cannot_be_sent_of_a_conversation_is_refused() {
    let user = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let anthropic =
        |body: Value, reason: &'static str| check_unfit(Protocol::Anthropic, "claude-x", body, reason);
    anthropic(
        user(json!({ "type": "input_audio", "input_audio": { "data": "QQ==", "format": "wav" } })),
        "messages[0].content[0]: cannot be sent to this target",
    )
    .await;
    anthropic(
        user(json!({ "type": "image_url", "image_url": { "url": "file:///etc/passwd" } })),
        "messages[0].content[0]: is neither a base64 data URL nor an http address",
    )
    .await;
    anthropic(
        user(json!({ "type": "file", "file": { "file_id": "f-1" } })),
        "messages[0].content[0]: can only be sent with file_data as a base64 data URL",
    )
    .await;
    anthropic(
        json!({ "messages": [{ "role": "system", "content": "x" }] }),
        "messages: hold nothing but instructions",
    )
    .await;
    anthropic(
        json!({ "messages": hello()["messages"], "functions": [] }),
        "functions: cannot be sent to this target: use tools and tool_choice",
    )
    .await;
    let tool = json!({ "messages": [{ "role": "user", "content": "x" },
                                    { "role": "tool", "tool_call_id": "c", "content": "y" }] });
    let reason = "the last message must be the user's for this target";
    check_unfit(Protocol::Cohere, "command-r", tool, reason).await;
    let reason = "only models named gemini... and claude... can be called on vertex";
    check_unfit(Protocol::Vertex, "llama-4", hello(), reason).await;
}

/// Names, numbers and objects in every place where a request might try to steer the call itself.
#[tokio::test]
async fn nothing_in_a_request_changes_where_it_goes() {
    let body = json!({
        "messages": hello()["messages"], "model": "../../evil", "base_url": "http://evil/", "stream": false,
        "extra_body": { "model": "evil" }, "extra_headers": { "x-api-key": "evil" }, "api_key": "evil",
        "thinking": { "type": "enabled" }, "system": "evil", "headers": { "host": "evil" },
    });
    let expected = json!({
        "model": "claude-x", "stream": true, "max_tokens": 4321,
        "messages": [{ "role": "user", "content": "Hello." }],
    });
    let dropped = [
        "api_key",
        "base_url",
        "extra_body",
        "extra_headers",
        "headers",
        "model",
        "stream",
        "system",
        "thinking",
    ];
    let seen = check(Protocol::Anthropic, "claude-x", body, expected, &dropped).await;
    assert!(seen.head.starts_with("POST /base/messages HTTP/1.1\r\n"), "{}", seen.head);
    assert!(!seen.head.contains("evil"), "{}", seen.head);
}

#[tokio::test]
async fn configured_headers_and_query_are_sent() {
    let mut upstream = Upstream::answering(vec![finished(Protocol::Gemini, "gemini-x")]).await;
    let mut setup = Setup::new(Protocol::Gemini, "gemini-x", &upstream.base_url);
    setup.config.headers =
        vec![("x-team".to_owned(), "blue".to_owned()), ("x-goog-api-key".to_owned(), "no".to_owned())];
    setup.config.query = vec![("tier".to_owned(), "a b&c".to_owned())];
    setup.provider().complete(setup.call(hello())).await.unwrap();
    let seen = upstream.seen().await;
    assert!(seen.head.contains(":streamGenerateContent?alt=sse&tier=a+b%26c HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains("x-team: blue\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("x-goog-api-key: {KEY}\r\n")), "{}", seen.head);
}

#[test]
fn addresses_that_cannot_be_guessed_must_be_configured() {
    let check = |protocol: Protocol, expected: &str| {
        let mut setup = Setup::new(protocol, "m", "");
        setup.config.base_url = None;
        let error = Library::new(&setup.config, LIMITS).err().unwrap_or_default();
        assert!(error.contains(expected), "{error}");
    };
    check(Protocol::Vertex, "projects/PROJECT/locations/LOCATION");
    check(Protocol::Bedrock, "https://bedrock-runtime.REGION.amazonaws.com");
    check(Protocol::Anthropic, "");
}
