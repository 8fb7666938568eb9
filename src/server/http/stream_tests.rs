use futures::StreamExt;

use super::{
    super::samples::{chunk, failure, piece, summary},
    *,
};

/// Writes what it is given in short words.
struct Words;

impl Writer for Words {
    fn piece(&mut self, piece: Piece, out: &mut String) {
        out.push_str(&piece.delta.text);
    }

    fn finished(&mut self, _: &Summary, out: &mut String) {
        out.push_str("|end");
    }

    fn failed(&mut self, broken: Broken<'_>, out: &mut String) {
        out.push_str(&format!("|{}: {}", broken.kind.as_str(), broken.message));
    }
}

fn part(text: &str) -> StreamEvent {
    StreamEvent::Piece(Box::new(piece(chunk(text, None))))
}

fn start() -> (mpsc::Sender<StreamEvent>, Events<Words>) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Events { events: Some(receiver), writer: Words })
}

async fn rest(events: Events<Words>) -> Vec<String> {
    events.map(|frame| String::from_utf8(frame.unwrap().to_vec()).unwrap()).collect().await
}

#[tokio::test]
async fn what_is_there_goes_together_and_the_end_ends_it() {
    let (sender, events) = start();
    for event in [part("a"), part("b"), StreamEvent::Finished(Box::new(summary()))] {
        sender.send(event).await.unwrap();
    }
    assert_eq!(rest(events).await, ["ab|end"]);
}

#[tokio::test]
async fn a_piece_goes_at_once() {
    let (sender, mut events) = start();
    sender.send(part("a")).await.unwrap();
    assert_eq!(&events.next().await.unwrap().unwrap()[..], b"a");
    assert!(futures::poll!(events.next()).is_pending());
    sender.send(part("b")).await.unwrap();
    assert_eq!(&events.next().await.unwrap().unwrap()[..], b"b");
}

#[tokio::test]
async fn a_failure_ends_it() {
    let (sender, events) = start();
    sender.send(part("a")).await.unwrap();
    sender.send(StreamEvent::Failed(failure(FailureKind::BrokenOff))).await.unwrap();
    assert_eq!(rest(events).await, ["a|broken_off: no target answered"]);
}

#[tokio::test]
async fn a_channel_without_an_end_is_a_failure() {
    let (sender, events) = start();
    sender.send(part("a")).await.unwrap();
    drop(sender);
    assert_eq!(rest(events).await, ["a|broken_off: the answer broke off: the server is stopping"]);
}

#[tokio::test]
async fn a_piece_that_writes_nothing_sends_nothing() {
    let (sender, events) = start();
    sender.send(part("")).await.unwrap();
    sender.send(StreamEvent::Finished(Box::new(summary()))).await.unwrap();
    assert_eq!(rest(events).await, ["|end"]);
}

#[tokio::test]
async fn nothing_is_read_ahead_of_the_caller() {
    let (sender, mut events) = start();
    let long = "x".repeat(FRAME_BYTES);
    for _ in 0..4 {
        sender.send(part(&long)).await.unwrap();
    }
    assert!(sender.try_send(part("")).is_err());
    events.next().await.unwrap().unwrap();
    assert_eq!(sender.capacity(), 1);
}

#[tokio::test]
async fn dropping_the_answer_ends_the_upstream_side() {
    let (sender, receiver) = mpsc::channel(4);
    let response = answer(HeaderMap::new(), receiver, Words);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(!sender.is_closed());
    drop(response);
    assert!(sender.is_closed());
}
