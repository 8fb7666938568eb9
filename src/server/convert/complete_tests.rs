use proto::{
    ChatMessage, CompleteRequest, ContentPart, Generation, ImageUrl, JsonSchema, ResponseFormat,
    ResponseFormatType, Tool, ToolCall, ToolChoice, ToolMode, content_part::Part, tool_choice::Choice,
};

use super::*;
use crate::{config::default_config, routing::admit::admit};

fn prompt(text: &str) -> CompleteRequest {
    CompleteRequest { prompt: Some(text.to_owned()), ..CompleteRequest::default() }
}

fn generating(generation: Generation) -> CompleteRequest {
    CompleteRequest { generation: Some(generation), ..prompt("hi") }
}

fn says(text: &str) -> ChatMessage {
    ChatMessage { role: "user".to_owned(), content: Some(text.to_owned()), ..ChatMessage::default() }
}

fn of_parts(parts: impl IntoIterator<Item = Part>) -> ChatMessage {
    let parts = parts.into_iter().map(|part| ContentPart { part: Some(part) }).collect();
    ChatMessage { role: "user".to_owned(), parts, ..ChatMessage::default() }
}

fn asking(messages: Vec<ChatMessage>) -> CompleteRequest {
    CompleteRequest { messages, ..CompleteRequest::default() }
}

fn picture(url: &str) -> Part {
    Part::ImageUrl(ImageUrl { url: url.to_owned(), detail: "low".to_owned() })
}

/// What goes to the provider.
#[track_caller]
fn check_sent(request: CompleteRequest, expected: &Value) {
    let asked = ask(request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(&Value::Object(asked.chat.openai), expected);
}

/// The problems of a request, from its conversion or from what follows.
#[track_caller]
fn check_refused(request: CompleteRequest, expected: &[&str]) {
    let error = match ask(request) {
        Err(error) => error,
        Ok(asked) => {
            let error = admit(asked.draft, &default_config()).expect_err("it has a problem");
            asked.paths.in_callers_words(error)
        }
    };
    let found: Vec<String> =
        error.0.iter().map(|problem| format!("{}: {}", problem.field, problem.problem)).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn a_prompt_is_one_user_message() {
    check_sent(prompt("hi"), &json!({"messages": [{"role": "user", "content": "hi"}]}));
    check_sent(prompt(""), &json!({"messages": [{"role": "user", "content": ""}]}));
}

#[test]
fn messages_keep_what_they_hold() {
    let call = ToolCall {
        id: "c1".to_owned(),
        name: "find".to_owned(),
        arguments: "{\"x\":1".to_owned(),
        ..ToolCall::default()
    };
    let assistant =
        ChatMessage { role: "assistant".to_owned(), tool_calls: vec![call], ..ChatMessage::default() };
    let tool = ChatMessage {
        role: "tool".to_owned(),
        content: Some("42".to_owned()),
        tool_call_id: "c1".to_owned(),
        ..ChatMessage::default()
    };
    let named = ChatMessage { name: "ada".to_owned(), ..says("and?") };
    let parts = of_parts([
        Part::Text("look".to_owned()),
        picture("https://example.com/a.png"),
        Part::PartJson(r#"{"type": "file", "file": {"file_id": "f"}}"#.to_owned()),
    ]);
    let alone = of_parts([Part::Text("one".to_owned())]);
    check_sent(
        asking(vec![assistant, tool, named, parts, alone]),
        &json!({"messages": [
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"x\":1"}},
            ]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
            {"role": "user", "content": "and?", "name": "ada"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "file", "file": {"file_id": "f"}},
            ]},
            {"role": "user", "content": "one"},
        ]}),
    );
}

#[test]
fn generation_is_sent_as_openai_names_it() {
    let schema = JsonSchema {
        name: "reply".to_owned(),
        schema_json: r#"{"type": "object"}"#.to_owned(),
        strict: Some(true),
        ..JsonSchema::default()
    };
    let tool = Tool {
        name: "find".to_owned(),
        description: "Finds.".to_owned(),
        parameters_json: r#"{"type": "object", "properties": {}}"#.to_owned(),
        strict: None,
    };
    let generation = Generation {
        max_output_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".to_owned()],
        seed: Some(7),
        reasoning_effort: "low".to_owned(),
        tools: vec![tool],
        tool_choice: Some(ToolChoice { choice: Some(Choice::Name("find".to_owned())) }),
        parallel_tool_calls: Some(false),
        response_format: Some(ResponseFormat { r#type: 0, json_schema: Some(schema) }),
        logprobs: Some(true),
        top_logprobs: Some(3),
        frequency_penalty: Some(0.25),
        presence_penalty: Some(-0.25),
    };
    let request = CompleteRequest {
        extra_json: r#"{"logit_bias": {"50256": -100}, "n": 2}"#.to_owned(),
        ..generating(generation)
    };
    check_sent(
        request,
        &json!({
            "messages": [{"role": "user", "content": "hi"}],
            "max_completion_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "seed": 7,
            "reasoning_effort": "low",
            "tools": [{"type": "function", "function": {
                "name": "find",
                "description": "Finds.",
                "parameters": {"type": "object", "properties": {}},
            }}],
            "tool_choice": {"type": "function", "function": {"name": "find"}},
            "parallel_tool_calls": false,
            "response_format": {"type": "json_schema", "json_schema": {
                "schema": {"type": "object"}, "name": "reply", "strict": true,
            }},
            "logprobs": true,
            "top_logprobs": 3,
            "frequency_penalty": 0.25,
            "presence_penalty": -0.25,
            "logit_bias": {"50256": -100},
            "n": 2,
        }),
    );
}

#[test]
fn words_of_choice_and_form() {
    let choose = |mode: ToolMode| {
        let choice = ToolChoice { choice: Some(Choice::Mode(mode as i32)) };
        let request = generating(Generation { tool_choice: Some(choice), ..Generation::default() });
        ask(request).unwrap().chat.openai.get("tool_choice").cloned()
    };
    assert_eq!(choose(ToolMode::Unspecified), None);
    assert_eq!(choose(ToolMode::Auto), Some(json!("auto")));
    assert_eq!(choose(ToolMode::None), Some(json!("none")));
    assert_eq!(choose(ToolMode::Required), Some(json!("required")));
    let form = |form: ResponseFormatType| {
        let format = ResponseFormat { r#type: form as i32, json_schema: None };
        let request = generating(Generation { response_format: Some(format), ..Generation::default() });
        ask(request).unwrap().chat.openai.get("response_format").cloned()
    };
    assert_eq!(form(ResponseFormatType::Unspecified), None);
    assert_eq!(form(ResponseFormatType::Text), Some(json!({"type": "text"})));
    assert_eq!(form(ResponseFormatType::JsonObject), Some(json!({"type": "json_object"})));
}

#[test]
fn routing_learns_what_the_request_shows() {
    let tools = vec![Tool { name: "find".to_owned(), ..Tool::default() }];
    let format = ResponseFormat { r#type: ResponseFormatType::JsonObject as i32, json_schema: None };
    let request = CompleteRequest {
        generation: Some(Generation {
            tools,
            response_format: Some(format),
            max_output_tokens: Some(50),
            ..Generation::default()
        }),
        context: Some(proto::Context { tenant: "acme".to_owned(), ..proto::Context::default() }),
        shape: Some(proto::Shape { prompt_tokens: Some(9), ..proto::Shape::default() }),
        preferences: Some(proto::Preferences {
            tier_min: "complex".to_owned(),
            ..proto::Preferences::default()
        }),
        model: Some(String::new()),
        explain: true,
        ..asking(vec![of_parts([Part::Text("a".to_owned()), picture("x"), Part::Text("b".to_owned())])])
    };
    let draft = ask(request).unwrap().draft;
    assert_eq!(draft.messages[0].content, "a\nb");
    let shape = draft.shape;
    assert!(shape.needs_tools && shape.needs_json && shape.needs_vision);
    assert_eq!((shape.prompt_tokens, shape.max_output_tokens), (Some(9), Some(50)));
    assert_eq!((draft.context.tenant.as_str(), draft.preferences.tier_min.as_str()), ("acme", "complex"));
    assert_eq!((draft.model.as_deref(), draft.explain), (Some("auto"), true));
    let stated = proto::Shape { max_output_tokens: Some(7), ..proto::Shape::default() };
    let draft = ask(CompleteRequest { shape: Some(stated), ..prompt("hi") }).unwrap().draft;
    assert_eq!(draft.shape.max_output_tokens, Some(7));
}

#[test]
fn problems_are_named_by_the_fields_of_the_request() {
    check_refused(CompleteRequest::default(), &["messages: is empty"]);
    check_refused(
        CompleteRequest { messages: vec![says("a")], ..prompt("b") },
        &["prompt: and messages are both set"],
    );
    let robot = ChatMessage { role: "robot".to_owned(), ..says("x") };
    check_refused(asking(vec![says("a"), robot]), &["messages[1].role: \"robot\" is no role"]);
    let both = ChatMessage { content: Some("x".to_owned()), ..of_parts([picture("y")]) };
    check_refused(asking(vec![both]), &["messages[0].parts: and content are both set"]);
    let nothing = ChatMessage { parts: vec![ContentPart { part: None }], ..of_parts([]) };
    check_refused(asking(vec![nothing]), &["messages[0].parts[0]: is empty"]);
    check_refused(asking(vec![of_parts([picture("")])]), &["messages[0].parts[0].image_url.url: is empty"]);
    let long = "x".repeat(5_000_000);
    check_refused(prompt(&long), &["prompt: 5000000 bytes"]);
    check_refused(asking(vec![says(&long)]), &["messages[0].content: 5000000 bytes"]);
    check_refused(asking(vec![of_parts([Part::Text(long)])]), &["messages[0].parts: 5000000 bytes"]);
    let unknown = CompleteRequest { model: Some("gpt-0".to_owned()), ..prompt("hi") };
    check_refused(unknown, &["model: "]);
    let tenant = proto::Context { tenant: "x".repeat(300), ..proto::Context::default() };
    check_refused(CompleteRequest { context: Some(tenant), ..prompt("hi") }, &["context.tenant: "]);
}

#[test]
fn problems_of_a_part_in_json_are_its_own() {
    let parts =
        |text: &str| asking(vec![of_parts([picture("x"), Part::PartJson(text.to_owned()), picture("")])]);
    let last = "messages[0].parts[2].image_url.url: is empty";
    check_refused(parts("{"), &["messages[0].parts[1].part_json: is not JSON: EOF", last]);
    check_refused(parts("[]"), &["messages[0].parts[1].part_json: is not a JSON object", last]);
    check_refused(parts("{}"), &[last, "messages[0].parts[1].part_json.type: is missing"]);
}

#[test]
fn problems_of_generation_are_its_own() {
    check_refused(
        generating(Generation { max_output_tokens: Some(-1), ..Generation::default() }),
        &["generation.max_output_tokens: -1 is not within"],
    );
    check_refused(
        generating(Generation { temperature: Some(f64::NAN), ..Generation::default() }),
        &["generation.temperature: NaN is not a finite number"],
    );
    let tool = |name: &str, schema: &str| Tool {
        name: name.to_owned(),
        parameters_json: schema.to_owned(),
        ..Tool::default()
    };
    check_refused(
        generating(Generation { tools: vec![tool("a", "{}"), tool("", "[1")], ..Generation::default() }),
        &["generation.tools[1].name: is empty", "generation.tools[1].parameters_json: is not JSON: EOF"],
    );
    let chosen = |choice| {
        let choice = ToolChoice { choice: Some(choice) };
        generating(Generation { tool_choice: Some(choice), ..Generation::default() })
    };
    check_refused(chosen(Choice::Mode(9)), &["generation.tool_choice.mode: 9 is no mode"]);
    check_refused(chosen(Choice::Name(String::new())), &["generation.tool_choice.name: is empty"]);
    let formatted = |form: i32, schema: Option<&str>| {
        let json_schema = schema.map(|text| JsonSchema {
            name: "reply".to_owned(),
            schema_json: text.to_owned(),
            ..JsonSchema::default()
        });
        let format = ResponseFormat { r#type: form, json_schema };
        generating(Generation { response_format: Some(format), ..Generation::default() })
    };
    const SCHEMA: &str = "generation.response_format.json_schema";
    check_refused(formatted(9, None), &["generation.response_format.type: 9 is no type"]);
    check_refused(formatted(3, None), &[&format!("{SCHEMA}: is missing")]);
    check_refused(formatted(1, Some("{}")), &[&format!("{SCHEMA}: is set")]);
    check_refused(formatted(0, Some("{")), &[&format!("{SCHEMA}.schema_json: is not JSON: EOF")]);
    let invalid = r#"{"type": "thing"}"#;
    check_refused(formatted(3, Some(invalid)), &[&format!("{SCHEMA}.schema_json: is no valid JSON Schema")]);
}

#[test]
fn problems_of_extra_fields_are_their_own() {
    let extra = |text: &str| CompleteRequest {
        extra_json: text.to_owned(),
        ..generating(Generation {
            temperature: Some(1.0),
            max_output_tokens: Some(5),
            ..Generation::default()
        })
    };
    check_refused(extra("{"), &["extra_json: is not JSON: EOF while parsing an object at line 1 column 1"]);
    check_refused(extra("7"), &["extra_json: is not a JSON object"]);
    check_refused(extra(r#"{"n": "two"}"#), &["extra_json.n: is a string"]);
    check_refused(extra(r#"{"tools": [1]}"#), &["extra_json.tools[0]: is a number"]);
    check_refused(
        extra(r#"{"temperature": 2}"#),
        &["extra_json.temperature: and generation.temperature are both"],
    );
    check_refused(
        extra(r#"{"max_completion_tokens": 2}"#),
        &["extra_json.max_completion_tokens: and generation.max_output_tokens are both"],
    );
    for (taken, instead) in TAKEN {
        check_refused(
            extra(&format!("{{\"{taken}\": null}}")),
            &[&format!("extra_json.{taken}: is not taken: {instead}")],
        );
    }
}

#[test]
fn further_fields_of_messages_and_calls_are_kept() {
    let call = ToolCall {
        id: "c1".to_owned(),
        name: "find".to_owned(),
        arguments: "{}".to_owned(),
        extra_json: r#"{"extra_content": {"google": {"thought_signature": "t"}}}"#.to_owned(),
    };
    let assistant = ChatMessage {
        role: "assistant".to_owned(),
        tool_calls: vec![call],
        extra_json: r#"{"thinking_blocks": [{"type": "thinking"}]}"#.to_owned(),
        ..ChatMessage::default()
    };
    let tool = ChatMessage {
        role: "tool".to_owned(),
        content: Some("42".to_owned()),
        tool_call_id: "c1".to_owned(),
        ..ChatMessage::default()
    };
    check_sent(
        asking(vec![assistant, tool]),
        &json!({"messages": [
            {
                "role": "assistant", "content": null, "thinking_blocks": [{"type": "thinking"}],
                "tool_calls": [{
                    "id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "t"}},
                }],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]}),
    );
    let taken = ChatMessage { extra_json: r#"{"role": "system"}"#.to_owned(), ..says("x") };
    let Err(BadRequest(problems)) = ask(asking(vec![taken])) else { panic!("role was taken") };
    assert_eq!(problems[0].field, "messages[0].extra_json.role");
}
