use serde_json::{Value, json};

use super::{
    super::samples::{chunk, foreign_piece, opening, piece, summary},
    *,
};
use crate::completion::outcome::FailureKind;

fn names(out: &str) -> Vec<&str> {
    out.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

/// Every event is a name, its data of the same type, and a blank line.
fn events(out: &str) -> Vec<(String, Value)> {
    let events = out.strip_suffix("\n\n").unwrap().split("\n\n");
    events
        .map(|event| {
            let (name, data) = event.split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            let name = name.strip_prefix("event: ").unwrap();
            assert_eq!(data["type"], name);
            (name.to_owned(), data)
        })
        .collect()
}

#[test]
fn chunks_become_events() {
    let mut writer = Events::new(&opening());
    let mut out = String::new();
    writer.piece(piece(chunk("hi", None)), &mut out);
    writer.piece(piece(chunk("", Some("stop"))), &mut out);
    writer.finished(&summary(), &mut out);
    assert_eq!(
        names(&out),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let events = events(&out);
    assert_eq!(events[0].1["message"]["id"], "msg_0199a0b0000070008000000000000001");
    assert_eq!(events[0].1["message"]["model"], "large-model");
    assert_eq!(events[4].1["usage"]["output_tokens"], 4);
}

#[test]
fn own_events_pass_unchanged() {
    let event = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "x_unknown", "y": 1}});
    let mut writer = Events::new(&opening());
    let mut out = String::new();
    writer.piece(foreign_piece(event.clone(), "hi", None), &mut out);
    assert_eq!(events(&out), [("content_block_delta".to_owned(), event)]);
}

#[test]
fn a_broken_stream_ends_in_an_error_and_never_stops_the_message() {
    let mut writer = Events::new(&opening());
    let mut out = String::new();
    writer.piece(piece(chunk("hi", None)), &mut out);
    writer.failed(Broken { kind: FailureKind::BrokenOff, message: "cut", failure: None }, &mut out);
    assert_eq!(names(&out), ["message_start", "content_block_start", "content_block_delta", "error"]);
    assert_eq!(events(&out)[3].1["error"], json!({"type": "api_error", "message": "cut"}));
}

#[test]
fn an_events_name_cannot_begin_another_line() {
    let mut out = String::new();
    write(&Event { name: "a\nevent: message_stop".to_owned(), data: json!({}) }, &mut out);
    assert_eq!(out, "event: aevent: message_stop\ndata: {}\n\n");
}
