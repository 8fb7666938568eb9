//! The order rules of a stream's events, for any mix of pieces.

use proptest::prelude::*;

use super::*;
use crate::completion::{
    answer::{Finish, LogprobSum, View},
    dialect::anthropic::Deltas,
    outcome::FailureKind,
};

fn piece(delta: Delta) -> Piece {
    Piece { raw: Raw::OpenAi(Value::Null), delta }
}

fn text(text: &str) -> Delta {
    Delta { text: text.to_owned(), ..Delta::default() }
}

fn call(index: usize, id: &str, name: &str, arguments: &str) -> Delta {
    let part = ToolDelta { index, id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() };
    Delta { tool_calls: vec![part], ..Delta::default() }
}

fn written(deltas: Vec<Delta>, usage: &Usage) -> Vec<Event> {
    let mut writer = EventWriter::new("msg_1", "auto");
    let mut events: Vec<Event> = deltas.into_iter().flat_map(|delta| writer.piece(piece(delta))).collect();
    events.extend(writer.finish(usage));
    assert!(writer.finish(usage).is_empty(), "a stream ends once");
    events
}

/// Returns one line an event: enough to see the order and what was said.
fn lines(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            let data = &event.data;
            let at = data["index"].as_u64().map(|index| format!(" {index}")).unwrap_or_default();
            let what = match &*event.name {
                "content_block_start" => format!(" {}", data["content_block"]["type"].as_str().unwrap()),
                "content_block_delta" => ["text", "thinking", "partial_json", "signature"]
                    .iter()
                    .find_map(|field| data["delta"][field].as_str())
                    .map(|said| format!(" {said}"))
                    .unwrap(),
                "message_delta" => format!(" {}", data["delta"]["stop_reason"].as_str().unwrap()),
                _ => String::new(),
            };
            format!("{}{at}{what}", event.name.replace("content_block_", "").replace("message_", "message "))
        })
        .collect()
}

#[test]
fn thinking_text_and_tools_become_blocks() {
    let usage = Usage {
        input_tokens: 30,
        cached_input_tokens: 10,
        cache_write_tokens: 5,
        output_tokens: 7,
        reasoning_tokens: 2,
    };
    let deltas = vec![
        Delta::default(),
        Delta { reasoning: "hm".to_owned(), ..Delta::default() },
        text("Hel"),
        text("lo"),
        call(0, "call.a", "weather", ""),
        call(0, "", "", "{\"city\":"),
        call(0, "", "", "\"Bern\"}"),
        call(1, "", "time", "{}"),
        Delta { finish: Some(Finish::ToolCalls), ..Delta::default() },
    ];
    let events = written(deltas, &usage);
    assert_eq!(
        lines(&events),
        [
            "message start",
            "start 0 thinking",
            "delta 0 hm",
            "delta 0 pointsman",
            "stop 0",
            "start 1 text",
            "delta 1 Hel",
            "delta 1 lo",
            "stop 1",
            "start 2 tool_use",
            "delta 2 {\"city\":",
            "delta 2 \"Bern\"}",
            "stop 2",
            "start 3 tool_use",
            "delta 3 {}",
            "stop 3",
            "message delta tool_use",
            "message stop",
        ]
    );
    assert_eq!(events[0].data["message"]["id"], "msg_1");
    assert_eq!(events[9].data["content_block"]["id"], "call_a");
    assert_eq!(events[13].data["content_block"]["id"], tool_id("", "msg_1", 3));
    let usage = &events[16].data["usage"];
    assert_eq!(
        *usage,
        json!({
            "input_tokens": 15,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 10,
            "output_tokens": 7,
        })
    );
}

#[test]
fn mixed_tool_calls_are_told_one_after_the_other() {
    let deltas = vec![
        call(0, "a", "first", "{\"x\":\"}"),
        call(1, "b", "second", "{\"y\":"),
        call(0, "", "", "\\\"\"}"),
        text("done"),
        call(1, "", "", "2}"),
    ];
    let written = lines(&written(deltas, &Usage::default()));
    assert_eq!(
        written,
        [
            "message start",
            "start 0 tool_use",
            "delta 0 {\"x\":\"}",
            "delta 0 \\\"\"}",
            "stop 0",
            "start 1 tool_use",
            "delta 1 {\"y\":",
            "delta 1 2}",
            "stop 1",
            "start 2 text",
            "delta 2 done",
            "stop 2",
            "message delta tool_use",
            "message stop",
        ]
    );
}

#[test]
fn an_answer_that_says_nothing_is_still_a_message() {
    let only_end = ["message start", "message delta end_turn", "message stop"];
    assert_eq!(lines(&written(Vec::new(), &Usage::default())), only_end);
    assert_eq!(lines(&written(vec![Delta::default()], &Usage::default())), only_end);
}

#[test]
fn why_it_ended_is_told() {
    let check = |delta: Delta, reason: &str| {
        let events = written(vec![delta], &Usage::default());
        assert_eq!(events[events.len() - 2].data["delta"]["stop_reason"], reason);
    };
    let finish = |finish: Finish| Delta { finish: Some(finish), ..Delta::default() };
    check(finish(Finish::Stop), "end_turn");
    check(finish(Finish::Other), "end_turn");
    check(finish(Finish::Length), "max_tokens");
    check(finish(Finish::ContentFilter), "refusal");
    check(finish(Finish::ToolCalls), "end_turn");
    check(Delta { refusal: "no".to_owned(), ..finish(Finish::Stop) }, "refusal");
    check(Delta { finish: Some(Finish::Stop), ..call(0, "a", "f", "{}") }, "tool_use");
    check(Delta { finish: Some(Finish::Length), ..call(0, "a", "f", "{\"") }, "max_tokens");
}

#[test]
fn events_of_the_dialect_pass_unchanged() {
    let native = [
        json!({ "type": "message_start", "message": { "id": "msg_upstream", "novel": 1 } }),
        json!({ "type": "ping" }),
        json!({ "type": "message_stop" }),
    ];
    let mut writer = EventWriter::new("msg_1", "auto");
    for data in native {
        let events = writer.piece(Piece { raw: Raw::Anthropic(data.clone()), delta: Delta::default() });
        let name = data["type"].as_str().unwrap().to_owned();
        assert_eq!(events, [Event { name, data }]);
    }
    assert!(writer.finish(&Usage::default()).is_empty());
}

#[test]
fn nothing_follows_an_error() {
    let mut writer = EventWriter::new("msg_1", "auto");
    writer.piece(piece(text("Hel")));
    let event = writer.error(FailureKind::BrokenOff, "the connection ended");
    assert_eq!(event.name, "error");
    assert_eq!(event.data["error"]["type"], "api_error");
    assert!(writer.piece(piece(text("lo"))).is_empty());
    assert!(writer.finish(&Usage::default()).is_empty());
}

/// Checks the order rules and returns the contents of the blocks: type, name, what was said.
fn blocks(events: &[Event]) -> Vec<(String, String, String)> {
    let mut blocks: Vec<(String, String, String)> = Vec::new();
    let mut open = false;
    assert_eq!(events.first().map(|event| &*event.name), Some("message_start"));
    assert_eq!(events.last().map(|event| &*event.name), Some("message_stop"));
    assert_eq!(events[events.len() - 2].name, "message_delta");
    for event in &events[1..events.len() - 2] {
        let index = event.data["index"].as_u64().unwrap() as usize;
        match &*event.name {
            "content_block_start" => {
                assert!(!open, "a block starts within another");
                assert_eq!(index, blocks.len(), "indices are consecutive");
                let content = &event.data["content_block"];
                let of = |name: &str| content[name].as_str().unwrap_or_default().to_owned();
                blocks.push((of("type"), of("name"), String::new()));
                open = true;
            }
            "content_block_delta" => {
                assert!(open && index + 1 == blocks.len(), "a delta belongs to the open block");
                let delta = &event.data["delta"];
                let (kind, field) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", "text"),
                    "thinking_delta" => ("thinking", "thinking"),
                    "signature_delta" => continue,
                    "input_json_delta" => ("tool_use", "partial_json"),
                    other => panic!("{other}"),
                };
                let block = blocks.last_mut().unwrap();
                assert_eq!(block.0, kind, "a delta has its block's type");
                block.2.push_str(delta[field].as_str().unwrap());
            }
            "content_block_stop" => {
                assert!(open && index + 1 == blocks.len(), "a block is stopped once");
                open = false;
            }
            other => panic!("{other} within the blocks"),
        }
    }
    assert!(!open, "every block is stopped");
    blocks
}

/// Pieces of tools whose arguments are whole objects, cut anywhere and mixed in any way, among text.
fn good_deltas() -> impl Strategy<Value = Vec<Delta>> {
    let object = prop_oneof![
        Just(json!({})),
        "[a-z{}\\[\\]\"\\\\ ]{0,12}".prop_map(|said| json!({ "said": said, "more": [1, { "a": said }] })),
    ];
    let tool = (object, prop::collection::vec(0usize..40, 0..4));
    let tools = prop::collection::vec(tool, 0..4);
    let said = prop::collection::vec(("[a-zäß日 ]{0,4}", "[a-z]{0,3}", "[a-z]{0,1}"), 0..8);
    (tools, said, prop::collection::vec(any::<prop::sample::Index>(), 0..64)).prop_map(
        |(tools, said, order)| {
            let mut queues: Vec<VecDeque<Delta>> = tools
                .into_iter()
                .enumerate()
                .map(|(index, (object, cuts))| {
                    let mut parts =
                        VecDeque::from([call(index, &format!("call_{index}"), &format!("f{index}"), "")]);
                    let mut rest = object.to_string();
                    for cut in cuts {
                        let at = cut.min(rest.len());
                        let tail = rest.split_off(at);
                        parts.push_back(call(index, "", "", &rest));
                        rest = tail;
                    }
                    parts.push_back(call(index, "", "", &rest));
                    parts
                })
                .collect();
            queues.push(
                said.into_iter()
                    .map(|(text, reasoning, refusal)| Delta { text, reasoning, refusal, ..Delta::default() })
                    .collect(),
            );
            let mut deltas = Vec::new();
            let mut order = order.into_iter();
            while !queues.is_empty() {
                let at = order.next().map_or(0, |index| index.index(queues.len()));
                match queues[at].pop_front() {
                    Some(delta) => deltas.push(delta),
                    None => {
                        queues.remove(at);
                    }
                }
            }
            deltas
        },
    )
}

/// Pieces that no sane server would send.
fn wild_deltas() -> impl Strategy<Value = Vec<Delta>> {
    let tool = (0usize..3, "[a-z]{0,1}", "[a-z]{0,1}", "[{}\"\\\\a]{0,3}")
        .prop_map(|(index, id, name, arguments)| ToolDelta { index, id, name, arguments });
    let finish = prop_oneof![Just(None), Just(Some(Finish::Stop)), Just(Some(Finish::Length))];
    let delta = ("[a-z]{0,2}", "[a-z]{0,2}", "[a-z]{0,1}", prop::collection::vec(tool, 0..3), finish)
        .prop_map(|(text, reasoning, refusal, tool_calls, finish)| Delta {
            text,
            reasoning,
            refusal,
            tool_calls,
            finish,
            usage: None,
            logprobs: LogprobSum::default(),
            other_content: false,
            progress: false,
        });
    prop::collection::vec(delta, 0..24)
}

proptest! {
    #[test]
    fn what_pieces_say_arrives_whole_and_in_order(deltas in good_deltas()) {
        let mut view = View::default();
        deltas.iter().for_each(|delta| view.add(delta));
        let said: String = deltas.iter().map(|delta| format!("{}{}", delta.text, delta.refusal)).collect();
        let events = written(deltas, &Usage::default());
        let blocks = blocks(&events);
        let of = |kind: &str| -> String {
            blocks.iter().filter(|block| block.0 == kind).map(|block| &*block.2).collect()
        };
        prop_assert_eq!(of("text"), said);
        prop_assert_eq!(&of("thinking"), &view.reasoning);
        let mut calls: Vec<(String, String)> = blocks
            .iter()
            .filter(|block| block.0 == "tool_use")
            .map(|block| (block.1.clone(), block.2.clone()))
            .collect();
        calls.sort();
        let mut wanted: Vec<(String, String)> =
            view.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect();
        wanted.sort();
        prop_assert_eq!(calls, wanted);

        // What was written reads back as the same answer.
        let mut reader = Deltas::default();
        let mut again = View::default();
        for event in &events {
            again.add(&reader.read(&event.data).unwrap());
        }
        prop_assert!(reader.is_whole());
        prop_assert_eq!(again.text.len(), view.text.len() + view.refusal.len());
        prop_assert_eq!(again.reasoning, view.reasoning);
        prop_assert_eq!(again.tool_calls.len(), view.tool_calls.len());
    }

    #[test]
    fn the_order_rules_hold_for_any_pieces(deltas in wild_deltas()) {
        let said: String = deltas.iter().map(|delta| format!("{}{}", delta.text, delta.refusal)).collect();
        let blocks = blocks(&written(deltas, &Usage::default()));
        let text: String = blocks.iter().filter(|block| block.0 == "text").map(|block| &*block.2).collect();
        prop_assert_eq!(text, said);
    }
}
