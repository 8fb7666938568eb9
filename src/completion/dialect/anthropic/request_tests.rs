//! Requests of agents as they really are, what they become, and how every wrong field is named.

use serde_json::{Value, json};

use super::*;

fn map(body: Value) -> Map<String, Value> {
    match body {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn incoming(body: Value) -> Incoming {
    read(map(body)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// An agent in the middle of its work: tools, thinking, images, caching.
fn agent() -> Value {
    json!({
        "model": "auto",
        "max_tokens": 4096,
        "stream": true,
        "temperature": 1,
        "top_k": 40,
        "stop_sequences": ["\n\nHuman:"],
        "metadata": { "user_id": "u-1" },
        "thinking": { "type": "enabled", "budget_tokens": 10_000 },
        "system": [
            { "type": "text", "text": "You are a careful agent." },
            { "type": "text", "text": "Work in /srv.", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
        ],
        "tools": [
            {
                "name": "read_file",
                "description": "Reads a file",
                "input_schema": { "type": "object", "properties": { "path": { "type": "string" } } },
                "cache_control": { "type": "ephemeral" },
            },
            { "type": "web_search_20250305", "name": "web_search", "max_uses": 3 },
        ],
        "tool_choice": { "type": "auto", "disable_parallel_tool_use": true },
        "pointsman": { "tenant": "acme", "quality": 0.8 },
        "messages": [
            { "role": "user", "content": "Read both files and look at the picture." },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "Two files.", "signature": "EqQB" },
                { "type": "redacted_thinking", "data": "AAAA" },
                { "type": "text", "text": "Reading." },
                { "type": "tool_use", "id": "toolu_1", "name": "read_file", "input": { "path": "a" } },
                { "type": "tool_use", "id": "toolu_2", "name": "read_file", "input": { "path": "b" } },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": "alpha" },
                { "type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [
                    { "type": "text", "text": "no such file" },
                    { "type": "image", "source":
                        { "type": "base64", "media_type": "image/png", "data": "iVBO" } },
                ] },
                { "type": "text", "text": "Go on.", "cache_control": { "type": "ephemeral" } },
                { "type": "image", "source": { "type": "url", "url": "https://example.com/p.jpg" } },
                { "type": "novel_block", "anything": [1] },
            ] },
        ],
    })
}

#[test]
fn an_agents_request_becomes_a_chat_completion() {
    let read = incoming(agent());
    assert_eq!(
        Value::Object(read.chat.openai),
        json!({
            "max_tokens": 4096,
            "temperature": 1,
            "stop": ["\n\nHuman:"],
            "reasoning_effort": "medium",
            "parallel_tool_calls": false,
            "tool_choice": "auto",
            "tools": [{ "type": "function", "function": {
                "name": "read_file",
                "description": "Reads a file",
                "parameters": { "type": "object", "properties": { "path": { "type": "string" } } },
            } }],
            "messages": [
                { "role": "system", "content": "You are a careful agent.\n\nWork in /srv." },
                { "role": "user", "content": "Read both files and look at the picture." },
                { "role": "assistant", "content": "Reading.", "tool_calls": [
                    { "id": "toolu_1", "type": "function",
                        "function": { "name": "read_file", "arguments": "{\"path\":\"a\"}" } },
                    { "id": "toolu_2", "type": "function",
                        "function": { "name": "read_file", "arguments": "{\"path\":\"b\"}" } },
                ] },
                { "role": "tool", "tool_call_id": "toolu_1", "content": "alpha" },
                { "role": "tool", "tool_call_id": "toolu_2", "content": "Error: no such file" },
                { "role": "user", "content": [
                    { "type": "text", "text": "From the result of tool call toolu_2:" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBO" } },
                    { "type": "text", "text": "Go on." },
                    { "type": "image_url", "image_url": { "url": "https://example.com/p.jpg" } },
                ] },
            ],
        })
    );
    assert_eq!(dropped(&read.chat.anthropic.unwrap()), ["top_k", "tools.web_search_20250305"]);
}

#[test]
fn the_native_body_keeps_everything_but_what_the_router_sets() {
    let mut wanted = map(agent());
    wanted.retain(|name, _| !["model", "stream", "pointsman"].contains(&name.as_str()));
    assert_eq!(incoming(agent()).chat.anthropic, Some(wanted));
}

#[test]
fn routing_reads_texts_shape_and_wishes() {
    let read = incoming(agent());
    let said: Vec<(&str, &str)> =
        read.draft.messages.iter().map(|message| (&*message.role, &*message.content)).collect();
    assert_eq!(
        said,
        [
            ("system", "You are a careful agent.\n\nWork in /srv."),
            ("user", "Read both files and look at the picture."),
            ("assistant", "Reading."),
            ("tool", "alpha"),
            ("tool", "no such file"),
            ("user", "Go on."),
        ]
    );
    let shape = read.draft.shape;
    assert!(shape.needs_tools && shape.needs_vision && !shape.needs_json);
    assert_eq!(shape.max_output_tokens, Some(4096));
    assert_eq!(read.draft.context.tenant, "acme");
    assert_eq!(read.draft.preferences.quality, Some(0.8));
    assert_eq!((&*read.model, read.stream), ("auto", true));
    assert_eq!(read.chat.asks.output_tokens_max, Some(4096));
}

/// A small good request with some fields replaced.
fn with(fields: Value) -> Value {
    let mut body = map(json!({
        "model": "auto", "max_tokens": 10, "messages": [{ "role": "user", "content": "hi" }],
    }));
    body.extend(map(fields));
    Value::Object(body)
}

fn messages(messages: &Value) -> Vec<Value> {
    let read = incoming(with(json!({ "messages": messages })));
    match read.chat.openai.get("messages") {
        Some(Value::Array(messages)) => messages.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_results_make_no_turn_of_the_user() {
    let results = json!([
        { "role": "user", "content": "go" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a" }] },
    ]);
    assert_eq!(
        messages(&results)[1..],
        [
            json!({ "role": "assistant", "content": null, "tool_calls":
                [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }] }),
            json!({ "role": "tool", "tool_call_id": "a", "content": "" }),
        ]
    );
    let roles: Vec<String> = incoming(with(json!({ "messages": results })))
        .draft
        .messages
        .into_iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
}

#[test]
fn documents_are_carried_as_far_as_the_other_dialect_has_words() {
    let document = |source: Value| json!({ "type": "document", "title": "T", "source": source });
    let content = json!([
        document(json!({ "type": "text", "media_type": "text/plain", "data": "plain" })),
        document(json!({ "type": "content", "content": [{ "type": "text", "text": "inner" }] })),
        { "type": "search_result", "title": "S", "source": "https://s", "content":
            [{ "type": "text", "text": "found" }] },
    ]);
    assert_eq!(
        messages(&json!([{ "role": "user", "content": content }])),
        [json!({ "role": "user", "content": "T\n\nplain\n\nT\n\ninner\n\nS\n\nhttps://s\n\nfound" })]
    );
    let pdf = json!([
        document(json!({ "type": "base64", "media_type": "application/pdf", "data": "JVBE" })),
        document(json!({ "type": "url", "url": "https://example.com/a.pdf" })),
        { "type": "image", "source": { "type": "file", "file_id": "file_1" } },
        { "type": "text", "text": "sum up" },
    ]);
    assert_eq!(
        messages(&json!([{ "role": "user", "content": pdf }])),
        [json!({ "role": "user", "content": [
            { "type": "file", "file": { "filename": "T", "file_data": "data:application/pdf;base64,JVBE" } },
            { "type": "text", "text": "sum up" },
        ] })]
    );
}

#[test]
fn thinking_of_other_dialects_does_not_go_to_those_who_would_refuse_it() {
    let foreign = json!({ "type": "thinking", "thinking": "hm", "signature": SIGNATURE });
    let own = json!({ "type": "thinking", "thinking": "hm", "signature": "EqQB" });
    let text = json!({ "type": "text", "text": "yes" });
    let body = with(json!({ "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": [foreign, text] },
        { "role": "user", "content": [] },
        { "role": "assistant", "content": [own] },
        { "role": "assistant", "content": [foreign] },
    ] }));
    assert_eq!(
        incoming(body).chat.anthropic.unwrap()["messages"],
        json!([
            { "role": "user", "content": "a" },
            { "role": "assistant", "content": [text] },
            { "role": "user", "content": [] },
            { "role": "assistant", "content": [own] },
        ])
    );
}

#[test]
fn what_is_asked_of_tools_is_understood() {
    let tools = json!([{ "name": "f", "input_schema": { "type": "object" } }]);
    let check = |choice: Value, carried: Value, asked: ToolAsk, needed: bool| {
        let read = incoming(with(json!({ "tools": tools, "tool_choice": choice })));
        assert_eq!(read.chat.openai.get("tool_choice").cloned().unwrap_or_default(), carried);
        assert_eq!((read.chat.asks.tool, read.draft.shape.needs_tools), (asked, needed));
    };
    check(Value::Null, Value::Null, ToolAsk::Free, true);
    check(json!({ "type": "auto" }), json!("auto"), ToolAsk::Free, true);
    check(json!({ "type": "any" }), json!("required"), ToolAsk::Any, true);
    check(json!({ "type": "none" }), json!("none"), ToolAsk::Free, false);
    let named = json!({ "type": "function", "function": { "name": "f" } });
    check(json!({ "type": "tool", "name": "f" }), named, ToolAsk::Named("f".to_owned()), true);

    let provider = json!([{ "type": "bash_20250124", "name": "bash" }]);
    let read = incoming(with(json!({ "tools": provider, "tool_choice": { "type": "any" } })));
    assert!(read.draft.shape.needs_tools);
    assert!(!read.chat.openai.contains_key("tools") && !read.chat.openai.contains_key("tool_choice"));
}

#[test]
fn thinking_becomes_an_effort() {
    let check = |fields: Value, effort: Option<&str>| {
        let read = incoming(with(fields));
        assert_eq!(read.chat.openai.get("reasoning_effort").and_then(Value::as_str), effort);
    };
    let budget = |tokens: u32| json!({ "thinking": { "type": "enabled", "budget_tokens": tokens } });
    check(budget(1024), Some("low"));
    check(budget(4097), Some("medium"));
    check(budget(32_000), Some("high"));
    check(json!({ "thinking": { "type": "disabled" } }), None);
    check(json!({ "thinking": { "type": "adaptive" } }), None);
    check(json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "max" } }), Some("high"));
    check(json!({ "output_config": { "effort": "low" } }), Some("low"));
}

#[test]
fn a_schema_is_asked_for_and_checked() {
    let schema = json!({ "type": "object", "required": ["a"] });
    let format = json!({ "type": "json_schema", "schema": schema });
    for fields in [json!({ "output_config": { "format": format } }), json!({ "output_format": format })] {
        let read = incoming(with(fields));
        assert!(read.draft.shape.needs_json);
        assert_eq!(
            read.chat.openai["response_format"],
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } })
        );
        match read.chat.asks.json {
            JsonAsk::Schema(validator) => {
                assert!(validator.is_valid(&json!({ "a": 1 })) && !validator.is_valid(&json!({})));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_wrong_field_is_named() {
    let check = |fields: Value, paths: &[&str]| {
        let BadRequest(problems) = read(map(with(fields.clone()))).expect_err(&fields.to_string());
        let found: Vec<&str> = problems.iter().map(|problem| &*problem.field).collect();
        assert_eq!(found, paths, "{fields}");
    };
    let content = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
    check(json!({ "model": null }), &["model"]);
    check(json!({ "model": "" }), &["model"]);
    check(json!({ "max_tokens": null }), &["max_tokens"]);
    check(json!({ "max_tokens": 0 }), &["max_tokens"]);
    check(json!({ "max_tokens": "10" }), &["max_tokens"]);
    check(json!({ "max_tokens": 1e300 }), &["max_tokens"]);
    check(json!({ "messages": null }), &["messages"]);
    check(json!({ "messages": [] }), &["messages"]);
    check(json!({ "messages": {} }), &["messages"]);
    check(json!({ "messages": [1] }), &["messages[0]"]);
    check(json!({ "messages": [{ "role": "tool", "content": "" }] }), &["messages[0].role"]);
    check(json!({ "messages": [{ "content": 1 }] }), &["messages[0].role", "messages[0].content"]);
    check(json!({ "messages": [{ "role": "user" }] }), &["messages[0].content"]);
    check(content(json!("text")), &["messages[0].content[0]"]);
    check(content(json!({})), &["messages[0].content[0].type"]);
    check(content(json!({ "type": "text", "text": 1 })), &["messages[0].content[0].text"]);
    check(
        content(json!({ "type": "text", "text": "", "cache_control": "x" })),
        &["messages[0].content[0].cache_control"],
    );
    check(content(json!({ "type": "image" })), &["messages[0].content[0].source"]);
    check(
        content(json!({ "type": "image", "source": { "type": "base64", "data": 1 } })),
        &["messages[0].content[0].source.media_type", "messages[0].content[0].source.data"],
    );
    check(content(json!({ "type": "document", "source": [] })), &["messages[0].content[0].source"]);
    check(
        content(json!({ "type": "tool_use", "name": 1, "input": "x" })),
        &["messages[0].content[0].id", "messages[0].content[0].name", "messages[0].content[0].input"],
    );
    check(
        content(json!({ "type": "tool_result", "tool_use_id": "a", "is_error": 1, "content": [{}] })),
        &["messages[0].content[0].is_error", "messages[0].content[0].content[0].type"],
    );
    check(content(json!({ "type": "thinking" })), &["messages[0].content[0].thinking"]);
    check(content(json!({ "type": "redacted_thinking" })), &["messages[0].content[0].data"]);
    check(json!({ "system": 1 }), &["system"]);
    check(json!({ "system": [{ "type": "text" }] }), &["system[0].text"]);
    check(json!({ "tools": {} }), &["tools"]);
    check(json!({ "tools": [{ "name": "f" }, 1] }), &["tools[0].input_schema", "tools[1]"]);
    check(json!({ "tools": [{ "input_schema": {} }] }), &["tools[0].name"]);
    check(json!({ "tool_choice": "auto" }), &["tool_choice"]);
    check(json!({ "tool_choice": { "type": "some" } }), &["tool_choice.type"]);
    check(json!({ "tool_choice": { "type": "tool" } }), &["tool_choice.name"]);
    check(json!({ "stop_sequences": ["a", 1] }), &["stop_sequences[1]"]);
    check(json!({ "temperature": "warm" }), &["temperature"]);
    check(json!({ "top_p": [] }), &["top_p"]);
    check(json!({ "top_k": 1.5 }), &["top_k"]);
    check(json!({ "stream": "yes" }), &["stream"]);
    check(json!({ "metadata": { "user_id": 1 } }), &["metadata.user_id"]);
    check(json!({ "thinking": { "budget_tokens": "x" } }), &["thinking.type", "thinking.budget_tokens"]);
    check(json!({ "output_config": 1 }), &["output_config"]);
    check(json!({ "output_config": { "format": { "type": "xml" } } }), &["output_config.format.type"]);
    check(
        json!({ "output_config": { "format": { "type": "json_schema", "schema": { "type": "x" } } } }),
        &["output_config.format.schema"],
    );
    check(json!({ "pointsman": { "tier": "simple" } }), &["pointsman.tier"]);
    check(json!({ "pointsman": [] }), &["pointsman"]);
}

#[test]
fn what_admit_finds_is_told_in_the_callers_words() {
    let check = |field: &str, wanted: &str| {
        let problem = FieldProblem::new(field, "is bad");
        let BadRequest(renamed) = in_callers_words(BadRequest(vec![problem]));
        assert_eq!(renamed[0].field, wanted);
    };
    check("context.tenant", "pointsman.tenant");
    check("preferences.tier_min", "pointsman.tier_min");
    check("shape.max_output_tokens", "max_tokens");
    check("messages[3].content", "messages");
    check("messages", "messages");
}

#[test]
fn what_another_dialect_has_no_word_for_is_named() {
    let check = |blocks: Value, expected: &[&str]| {
        let body =
            json!({ "model": "auto", "max_tokens": 5, "messages": [{ "role": "user", "content": blocks }] });
        let Value::Object(body) = body else { unreachable!() };
        assert_eq!(read(body).unwrap().chat.lost, expected, "{blocks}");
    };
    let by_url = json!({ "type": "document", "source": { "type": "url", "url": "https://host/a.pdf" } });
    let by_id = |kind: &str| json!({ "type": kind, "source": { "type": "file", "file_id": "f" } });
    let text = json!({ "type": "text", "text": "hi" });
    let inline = json!({ "type": "document", "source": {
        "type": "base64", "media_type": "application/pdf", "data": "QQ==" } });
    check(json!([text, inline]), &[]);
    check(json!([text, by_url, by_url]), &["document by address"]);
    check(json!([by_id("document"), by_id("image")]), &["document by file id", "image by file id"]);
    check(json!([{ "type": "container_upload", "file_id": "f" }]), &["container_upload"]);
    let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": [by_url] });
    check(json!([result]), &["document by address"]);
    check(json!([{ "type": "thinking", "thinking": "hm", "signature": "s" }, text]), &[]);
}
