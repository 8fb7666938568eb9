use super::{
    super::samples::{chunk, failure, foreign_piece, opening, piece, summary},
    *,
};
use crate::completion::{
    answer::{Finish, View},
    outcome::FailureKind,
};

const WITH_USAGE: bool = true;
const WITHOUT: bool = false;

fn usage() -> Value {
    json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "x": "kept"})
}

fn usage_only() -> Value {
    let mut chunk = chunk("", None);
    (chunk["choices"], chunk["usage"]) = (json!([]), usage());
    chunk
}

fn with(mut chunk: Value, usage: Value) -> Value {
    chunk["usage"] = usage;
    chunk
}

/// Writes pieces and a clean end, and returns the data of every event.
fn written(include_usage: bool, chunks: &[Value]) -> Vec<String> {
    let mut writer = Chunks::new(&opening(), include_usage);
    let mut out = String::new();
    for chunk in chunks {
        writer.piece(piece(chunk.clone()), &mut out);
    }
    writer.finished(&summary(), &mut out);
    data(&out)
}

fn data(out: &str) -> Vec<String> {
    assert!(out.ends_with("\n\n"));
    let events = out.strip_suffix("\n\n").unwrap().split("\n\n");
    events.map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

fn json_of(data: &str) -> Value {
    serde_json::from_str(data).unwrap()
}

fn pointsman() -> Value {
    json!({
        "decision_id": "0199a0b0-0000-7000-8000-000000000001", "tier": "complex", "target": "large",
        "attempts": 2, "escalated": true, "weak": null, "cost_usd": 0.25, "baseline_cost_usd": 0.5,
        "estimated": false,
    })
}

#[test]
fn chunks_pass_unchanged_and_the_end_says_done() {
    let chunks = [chunk("a\nb", None), chunk("", Some("stop"))];
    let data = written(WITHOUT, &chunks);
    assert_eq!(data.len(), 3);
    assert_eq!([json_of(&data[0]), json_of(&data[1])], chunks);
    assert_eq!(data[2], "[DONE]");
}

#[test]
fn usage_that_was_not_asked_for_is_left_out() {
    let chunks = [with(chunk("a", None), Value::Null), with(chunk("", Some("stop")), usage()), usage_only()];
    let data = written(WITHOUT, &chunks);
    assert_eq!(data.len(), 3);
    assert_eq!([json_of(&data[0]), json_of(&data[1])], [chunk("a", None), chunk("", Some("stop"))]);
    assert_eq!(data[2], "[DONE]");
}

#[test]
fn the_last_usage_carries_the_account() {
    let chunks = [with(chunk("a", None), Value::Null), chunk("", Some("stop")), usage_only()];
    let data = written(WITH_USAGE, &chunks);
    assert_eq!(data.len(), 4);
    assert_eq!([json_of(&data[0]), json_of(&data[1])], chunks[..2]);
    let mut last = json_of(&data[2]);
    assert_eq!(last.as_object_mut().unwrap().remove("pointsman"), Some(pointsman()));
    assert_eq!(last, usage_only());
    assert_eq!(data[3], "[DONE]");
}

#[test]
fn usage_in_the_last_content_chunk_is_not_told_twice() {
    let last = with(chunk("", Some("stop")), usage());
    let data = written(WITH_USAGE, &[chunk("a", None), last.clone()]);
    assert_eq!(data.len(), 3);
    let mut told = json_of(&data[1]);
    assert_eq!(told.as_object_mut().unwrap().remove("pointsman"), Some(pointsman()));
    assert_eq!(told, last);
}

#[test]
fn usage_in_every_chunk_passes_at_once() {
    let running = with(chunk("a", None), usage());
    let mut writer = Chunks::new(&opening(), WITH_USAGE);
    let mut out = String::new();
    writer.piece(piece(running.clone()), &mut out);
    assert_eq!(json_of(&data(&out)[0]), running);
}

#[test]
fn usage_that_the_provider_did_not_send_is_added() {
    let data = written(WITH_USAGE, &[chunk("a", None), chunk("", Some("stop"))]);
    assert_eq!(data.len(), 4);
    let last = json_of(&data[2]);
    assert_eq!((&last["choices"], &last["object"]), (&json!([]), &json!("chat.completion.chunk")));
    assert_eq!((&last["id"], &last["model"]), (&json!("chatcmpl-1"), &json!("large-2026")));
    assert_eq!(
        (&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]),
        (&json!(9), &json!(4))
    );
    assert_eq!(last["pointsman"], pointsman());
}

#[test]
fn a_broken_stream_ends_in_an_error_and_never_says_done() {
    let mut writer = Chunks::new(&opening(), WITH_USAGE);
    let mut out = String::new();
    let last = with(chunk("", Some("stop")), usage());
    writer.piece(piece(chunk("a", None)), &mut out);
    writer.piece(piece(last.clone()), &mut out);
    let failure = failure(FailureKind::BrokenOff);
    let broken = Broken { kind: FailureKind::BrokenOff, message: "cut", failure: Some(&failure) };
    writer.failed(broken, &mut out);
    let data = data(&out);
    assert_eq!(data.len(), 3);
    assert_eq!(json_of(&data[1]), last);
    let error = &json_of(&data[2])["error"];
    assert_eq!((&error["message"], &error["code"]), (&json!("cut"), &json!("broken_off")));
    assert_eq!(error["pointsman"]["attempts"].as_array().unwrap().len(), 2);
}

#[test]
fn events_of_another_dialect_become_chunks() {
    let mut writer = Chunks::new(&opening(), WITHOUT);
    let mut out = String::new();
    writer.piece(foreign_piece(json!({"type": "content_block_delta"}), "hi", None), &mut out);
    writer.piece(foreign_piece(json!({"type": "message_delta"}), "", Some(Finish::Length)), &mut out);
    let data = data(&out);
    assert_eq!(json_of(&data[0])["choices"][0]["delta"]["content"], "hi");
    assert_eq!(json_of(&data[1])["choices"][0]["finish_reason"], "length");
    assert_eq!(json_of(&data[1])["model"], "large-model");
}

#[test]
fn a_whole_answer_stays_as_it_came() {
    let answer = |raw: Raw| Answer {
        raw,
        view: View { text: "hi".to_owned(), finish: Some(Finish::Stop), ..View::default() },
        dropped_parameters: Vec::new(),
    };
    let value = json!({"id": "x", "x_unknown": [1, 2], "choices": []});
    assert_eq!(whole(answer(Raw::OpenAi(value.clone())), &summary()), value);
    let converted = whole(answer(Raw::Anthropic(json!({"type": "message"}))), &summary());
    assert_eq!(converted["choices"][0]["message"]["content"], "hi");
    assert_eq!(converted["model"], "large-model");
}
