#![allow(clippy::needless_pass_by_value, reason = "a case is one line")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A body that is fine but for these fields.
fn with(fields: Value) -> Map<String, Value> {
    let mut body = object(json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]}));
    body.extend(object(fields));
    body
}

fn good(fields: Value) -> Incoming {
    read(with(fields)).unwrap()
}

/// Checks that exactly these fields are found fault with.
fn check(fields: Value, wanted: &[&str]) {
    let problems = match read(with(fields.clone())) {
        Ok(_) => Vec::new(),
        Err(BadRequest(problems)) => problems,
    };
    let found: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(found, wanted, "{fields}");
}

#[test]
fn everything_that_the_caller_sent_is_kept_in_order() {
    let body = with(json!({
        "stream": true,
        "temperature": 0.7,
        "x_unknown": {"deep": [1, 2.50, null]},
        "logit_bias": {"50256": -100},
        "stream_options": {"include_usage": true},
        "pointsman": {"tenant": "acme"},
        "seed": 9_007_199_254_740_993_i64,
        "tools": [{"type": "function", "function": {"name": "f"}, "x": 1}],
    }));
    let read = read(body.clone()).unwrap();
    let own = ["model", "stream", "stream_options", "pointsman"];
    let kept: Vec<_> = body.into_iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    assert_eq!(read.chat.openai.into_iter().collect::<Vec<_>>(), kept);
    assert_eq!(read.model, "auto");
    assert!(read.stream && read.include_usage);
    assert_eq!(read.draft.context.tenant, "acme");
}

#[test]
fn other_stream_options_are_kept_apart_from_usage() {
    let read = good(json!({"stream_options": {"include_usage": true, "include_obfuscation": false}}));
    assert_eq!(read.chat.openai["stream_options"], json!({"include_obfuscation": false}));
    assert!(read.include_usage && !read.stream);
}

#[test]
fn messages_become_texts() {
    let messages = json!([
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what is"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "this?"},
        ]},
        {"role": "assistant", "content": null, "tool_calls": []},
        {"role": "function", "name": "f", "content": "42"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}, {"type": "hologram"}]},
    ]);
    let draft = good(json!({"messages": messages})).draft;
    let texts: Vec<_> =
        draft.messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    let wanted = [
        ("developer", "be brief"),
        ("user", "what is\nthis?"),
        ("assistant", ""),
        ("tool", "42"),
        ("assistant", "no"),
    ];
    assert_eq!(texts, wanted);
    assert!(draft.shape.needs_vision);
}

#[test]
fn bad_fields_are_named_by_their_paths() {
    check(json!({"model": null}), &["model"]);
    check(json!({"model": 7}), &["model"]);
    check(json!({"model": ""}), &["model"]);
    check(json!({"messages": null}), &["messages"]);
    check(json!({"messages": []}), &["messages"]);
    check(json!({"messages": "hello"}), &["messages"]);
    check(json!({"messages": ["hello"]}), &["messages[0]"]);
    check(json!({"messages": [{"content": "x"}]}), &["messages[0].role"]);
    check(json!({"messages": [{"role": "robot"}, {"role": 1}]}), &["messages[0].role", "messages[1].role"]);
    check(json!({"messages": [{"role": "user", "content": 7}]}), &["messages[0].content"]);
    let parts = json!(["x", {}, {"type": 1}, {"type": "text"}, {"type": "text", "text": {}}]);
    check(
        json!({"messages": [{"role": "user", "content": parts}]}),
        &[
            "messages[0].content[0]",
            "messages[0].content[1].type",
            "messages[0].content[2].type",
            "messages[0].content[3].text",
            "messages[0].content[4].text",
        ],
    );
    check(json!({"stream": "yes"}), &["stream"]);
    check(json!({"stream_options": []}), &["stream_options"]);
    check(json!({"stream_options": {"include_usage": 1}}), &["stream_options.include_usage"]);
    check(json!({"tools": {}}), &["tools"]);
    check(json!({"tools": [1]}), &["tools[0]"]);
    check(json!({"tool_choice": 1}), &["tool_choice"]);
    check(json!({"tool_choice": {"type": "function"}}), &["tool_choice.function.name"]);
    check(json!({"function_call": {}}), &["function_call.name"]);
    check(json!({"response_format": "json"}), &["response_format"]);
    check(json!({"response_format": {}}), &["response_format.type"]);
    check(json!({"response_format": {"type": "json_schema"}}), &["response_format.json_schema"]);
    check(json!({"max_tokens": -1}), &["max_tokens"]);
    check(json!({"max_tokens": 1.5, "max_completion_tokens": "9"}), &["max_tokens", "max_completion_tokens"]);
    check(json!({"n": 0}), &["n"]);
    check(json!({"n": 129}), &["n"]);
    check(json!({"pointsman": []}), &["pointsman"]);
    check(
        json!({"pointsman": {"tenannt": "x", "tags": ["a", 1], "quality": "high", "tier_max": 2}}),
        &["pointsman.tenannt", "pointsman.tags[1]", "pointsman.quality", "pointsman.tier_max"],
    );
    let too_many = vec![json!({"role": "user", "content": ""}); MESSAGES_MAX + 1];
    check(json!({"messages": too_many}), &["messages"]);
}

#[test]
fn null_is_as_good_as_absent() {
    check(
        json!({
            "stream": null, "stream_options": null, "tools": null, "tool_choice": null, "n": null,
            "response_format": null, "max_tokens": null, "pointsman": {"tenant": null},
        }),
        &[],
    );
}

#[test]
fn tools_are_needed_only_when_they_may_be_called() {
    let check = |fields: Value, needs: bool, ask: ToolAsk| {
        let read = good(fields.clone());
        assert_eq!((read.draft.shape.needs_tools, read.chat.asks.tool), (needs, ask), "{fields}");
    };
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    let named = || ToolAsk::Named("f".to_owned());
    check(json!({}), false, ToolAsk::Free);
    check(json!({"tools": []}), false, ToolAsk::Free);
    check(json!({"tools": tool}), true, ToolAsk::Free);
    check(json!({"tools": tool, "tool_choice": "auto"}), true, ToolAsk::Free);
    check(json!({"tools": tool, "tool_choice": "none"}), false, ToolAsk::Free);
    check(json!({"tools": tool, "tool_choice": "required"}), true, ToolAsk::Any);
    check(
        json!({"tools": tool, "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        true,
        named(),
    );
    check(json!({"tools": tool, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}), true, named());
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}});
    check(json!({"tools": tool, "tool_choice": allowed}), true, ToolAsk::Any);
    check(json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}}), true, named());
    check(json!({"functions": [{"name": "f"}], "function_call": "none"}), false, ToolAsk::Free);
}

#[test]
fn output_limits_and_choices_are_read() {
    let read = good(json!({"max_tokens": 10, "max_completion_tokens": 20, "n": 3}));
    assert_eq!(read.draft.shape.max_output_tokens, Some(20));
    assert_eq!((read.chat.asks.output_tokens_max, read.chat.asks.choices), (Some(20), 3));
    assert_eq!(good(json!({})).chat.asks.choices, 1);
}

fn schema(schema: Value) -> Value {
    let named = json!({"name": "answer", "strict": true, "schema": schema});
    json!({"response_format": {"type": "json_schema", "json_schema": named}})
}

#[test]
fn json_is_asked_for_with_or_without_a_schema() {
    let read = good(json!({"response_format": {"type": "json_object"}}));
    assert!(matches!(read.chat.asks.json, JsonAsk::Object) && read.draft.shape.needs_json);
    let read = good(json!({"response_format": {"type": "text"}}));
    assert!(matches!(read.chat.asks.json, JsonAsk::No) && !read.draft.shape.needs_json);
    let wanted = json!({
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/count"}, "code": {"type": "string", "pattern": "^(?!x)[a-z]+$"}},
        "required": ["n"],
        "$defs": {"count": {"type": "integer"}},
    });
    let JsonAsk::Schema(validator) = good(schema(wanted)).chat.asks.json else { panic!("no schema") };
    assert!(!validator.refers_to_itself && validator.values > 10);
    assert!(validator.is_valid(&json!({"n": 1, "code": "abc"})));
    assert!(!validator.is_valid(&json!({"n": "1"})));
    assert!(!validator.is_valid(&json!({"n": 1, "code": "xyz"})));
}

#[test]
fn bad_schemas_are_refused() {
    const PATH: &[&str] = &["response_format.json_schema.schema"];
    check(schema(json!("object")), PATH);
    check(schema(json!({"type": "objekt"})), PATH);
    check(schema(json!({"pattern": "("})), PATH);
    check(schema(json!({"$ref": "#/$defs/none"})), PATH);
    check(schema(json!({"enum": vec![0; crate::completion::dialect::openai::schema::VALUES_MAX]})), PATH);
}

#[test]
fn a_schema_that_doubles_at_each_reference_is_refused() {
    let doubling = |levels: usize| {
        let mut schema = json!({"$ref": "#/$defs/d0", "$defs": {format!("d{levels}"): {"type": "integer"}}});
        for level in 0..levels {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            schema["$defs"][format!("d{level}")] = json!({"anyOf": [next, next]});
        }
        self::schema(schema)
    };
    check(doubling(8), &[]);
    check(doubling(40), &["response_format.json_schema.schema"]);
    check(doubling(4000), &["response_format.json_schema.schema"]);
}

#[test]
fn the_deepest_schema_compiles_on_a_small_stack() {
    let chain = |levels: usize| {
        let mut schema = json!({"$ref": "#/$defs/d0", "$defs": {format!("d{levels}"): {"type": "integer"}}});
        for level in 0..levels {
            schema["$defs"][format!("d{level}")] =
                json!({"not": {"$ref": format!("#/$defs/d{}", level + 1)}});
        }
        self::schema(schema)
    };
    // Two mebibytes are what a worker of tokio has.
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let run = move || {
        check(chain(120), &[]);
        check(chain(200), &["response_format.json_schema.schema"]);
    };
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_schema_may_refer_to_itself() {
    let node = json!({"properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}});
    check(schema(json!({"$ref": "#/$defs/node", "$defs": {"node": node}})), &[]);
    check(schema(json!({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}})), &[]);
    check(schema(json!({"properties": {"$ref": {"type": "string"}}})), &[]);
    let JsonAsk::Schema(tree) = good(schema(json!({"items": {"$ref": "#"}}))).chat.asks.json else {
        panic!()
    };
    assert!(tree.refers_to_itself);
}

#[test]
fn references_that_are_no_pointers_from_the_root_are_refused() {
    const PATH: &[&str] = &["response_format.json_schema.schema"];
    check(schema(json!({"$ref": "#name", "$defs": {"x": {"$anchor": "name"}}})), PATH);
    check(schema(json!({"$defs": {"x": {"$id": "https://example.com/x", "$ref": "#/$defs/y"}}})), PATH);
}

#[test]
fn nothing_is_fetched_for_a_schema() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let remote = format!("http://{}/schema.json", listener.local_addr().unwrap());
    for reference in [remote.as_str(), "file:///etc/hostname", "https://json-schema.invalid/x"] {
        check(schema(json!({"$ref": reference})), &["response_format.json_schema.schema"]);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn problems_found_later_are_told_in_the_callers_words() {
    let admitted =
        ["context.tags[3]", "preferences.tier_min", "shape.max_output_tokens", "messages[0].content"];
    let problem = |field: &str| FieldProblem::new(field, "is bad");
    let BadRequest(renamed) = in_callers_words(BadRequest(admitted.map(problem).to_vec()));
    let fields: Vec<_> = renamed.into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["pointsman.tags[3]", "pointsman.tier_min", "max_tokens", "messages[0].content"]);
}

#[test]
fn every_field_of_the_extension_is_read() {
    let read = good(json!({"pointsman": {
        "tenant": "t", "session_id": "s", "tags": ["a"], "task_type": "k", "language": "de", "quality": 0.5,
        "cost_usd_max": 1, "latency_ms_max": 900, "tier_min": "simple", "tier_max": "complex",
        "allow_targets": ["x"], "deny_targets": ["y"],
    }}));
    let Context { task_type, tags, tenant, session_id, language } = read.draft.context;
    assert_eq!([task_type, tenant, session_id, language], ["k", "t", "s", "de"]);
    assert_eq!(tags, ["a"]);
    let preferences = read.draft.preferences;
    assert_eq!((preferences.quality, preferences.cost_usd_max), (Some(0.5), Some(1.0)));
    assert_eq!(preferences.latency_ms_max, Some(900));
    assert_eq!([preferences.tier_min, preferences.tier_max], ["simple", "complex"]);
    assert_eq!((preferences.allow_targets, preferences.deny_targets), (vec!["x".into()], vec!["y".into()]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let name =
            prop::sample::select(vec!["type", "role", "content", "text", "function", "name", "schema", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(
        values in prop::collection::vec(any_json(), 12),
    ) {
        let names = [
            "model", "messages", "stream", "stream_options", "tools", "tool_choice", "functions", "function_call",
            "response_format", "n", "max_tokens", "pointsman",
        ];
        let body: Map<String, Value> = names.iter().map(|name| (*name).to_owned()).zip(values.clone()).collect();
        let _ = read(body);
        for (name, value) in names.iter().zip(values) {
            let _ = read(with(json!({*name: value})));
        }
    }
}
