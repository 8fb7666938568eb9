use futures::StreamExt;
use serde_json::json;
use tonic::Code;

use super::*;
use crate::{
    completion::{
        answer::{Delta, Finish, Piece, Raw, Usage},
        outcome::Summary,
    },
    config::default_config,
    routing::{Router, health::TargetHealth, sessions::Sessions},
};

/// A stream's opening and summary, as a decision of the built-in configuration would have them.
async fn told() -> (Opening, Summary) {
    let mut config = default_config();
    config.classifier.enabled = false;
    let config = Arc::new(config);
    let sessions = Arc::new(Sessions::new(&config.sessions));
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    let router = Router::new(Arc::clone(&config), None, sessions, health, 1).unwrap();
    let asked =
        convert::ask(proto::CompleteRequest { prompt: Some("thanks!".to_owned()), ..Default::default() });
    let prompt = admit(asked.unwrap().draft, &config).unwrap();
    let decision = Arc::new(router.route(&prompt, None).await.unwrap());
    let opening = Opening {
        decision: Arc::clone(&decision),
        target: decision.target.clone(),
        tier: Arc::clone(&decision.tier),
        escalated: false,
        attempts: Vec::new(),
        weak: None,
        dropped_parameters: vec!["logit_bias".to_owned()],
        cost_usd: 0.0,
        overhead: Duration::from_micros(40),
    };
    let summary = Summary {
        target: decision.target.clone(),
        tier: Arc::clone(&decision.tier),
        decision,
        attempts: Vec::new(),
        escalated: false,
        weak: None,
        usage: Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() },
        estimated: false,
        cost_usd: 0.25,
        baseline_cost_usd: 1.0,
        overhead: Duration::from_micros(50),
    };
    (opening, summary)
}

fn piece(text: &str, finish: Option<Finish>) -> StreamEvent {
    let delta = Delta { text: text.to_owned(), finish, ..Delta::default() };
    StreamEvent::Piece(Box::new(Piece { raw: Raw::OpenAi(json!({"said": text})), delta }))
}

async fn sent(
    opening: Opening,
    sent: Vec<StreamEvent>,
    wish: RawWish,
) -> Vec<Result<proto::StreamCompleteResponse, Status>> {
    let (sender, events) = mpsc::channel(sent.len().max(1));
    for event in sent {
        sender.send(event).await.unwrap();
    }
    drop(sender);
    super::events(Streaming { opening, events }, wish, Arc::new(default_config())).collect().await
}

fn event(message: &Result<proto::StreamCompleteResponse, Status>) -> &Event {
    message.as_ref().unwrap().event.as_ref().unwrap()
}

#[tokio::test]
async fn a_good_stream_is_opening_deltas_account() {
    let (opening, summary) = told().await;
    let told = vec![
        piece("", None),
        piece("so ", None),
        piece("so", Some(Finish::Stop)),
        StreamEvent::Finished(Box::new(summary)),
    ];
    let messages = sent(opening, told, RawWish::Left).await;
    assert_eq!(messages.len(), 4, "an empty piece says nothing: {messages:?}");
    let Event::Opening(opening) = event(&messages[0]) else { panic!("{messages:?}") };
    assert_eq!((opening.tier.as_str(), opening.overhead_us), ("simple", 40));
    assert_eq!(opening.dropped_parameters, ["logit_bias"]);
    let Event::Delta(delta) = event(&messages[2]) else { panic!("{messages:?}") };
    assert_eq!((delta.text.as_str(), delta.finish_reason()), ("so", proto::FinishReason::Stop));
    assert_eq!(delta.raw_json, "");
    let Event::Finished(account) = event(&messages[3]) else { panic!("{messages:?}") };
    assert_eq!((account.cost_usd, account.usage.unwrap().input_tokens), (0.25, 3));
}

#[tokio::test]
async fn raw_pieces_come_when_they_are_asked_for() {
    let (opening, summary) = told().await;
    let told = vec![piece("", None), StreamEvent::Finished(Box::new(summary))];
    let messages = sent(opening, told, RawWish::Kept).await;
    let Event::Delta(delta) = event(&messages[1]) else { panic!("{messages:?}") };
    assert_eq!(delta.raw_json, r#"{"said":""}"#);
}

#[tokio::test]
async fn a_broken_stream_never_ends_cleanly() {
    let (opening, _) = told().await;
    let failed = Failure { message: "the answer broke off".to_owned(), ..stopped() };
    let messages =
        sent(opening.clone(), vec![piece("so", None), StreamEvent::Failed(Box::new(failed))], RawWish::Left)
            .await;
    let status = messages.last().unwrap().as_ref().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Aborted, "the answer broke off"));
    assert_eq!(messages.len(), 3);
    // The sender is gone without an end: so is the server.
    let messages = sent(opening, vec![piece("so", None)], RawWish::Left).await;
    let status = messages.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("stopping"), "{status:?}");
}

#[tokio::test]
async fn dropping_the_messages_drops_the_answer() {
    let (opening, _) = told().await;
    let (sender, events) = mpsc::channel(1);
    let mut messages =
        super::events(Streaming { opening, events }, RawWish::Left, Arc::new(default_config()));
    messages.next().await.unwrap().unwrap();
    assert!(!sender.is_closed());
    drop(messages);
    assert!(sender.is_closed());
}
