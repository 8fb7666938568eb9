//! Complete and StreamComplete over gRPC, against providers that misbehave on order: what the caller sees.

use std::time::Duration;

use pointsman::{
    config::Config,
    server::proto::{
        AnswerDelta, AttemptCause, AttemptOutcome, CompleteRequest, CompleteResponse, CompletionFailure,
        CompletionSummary, FailureKind, FinishReason, Generation, Preferences, StreamOpening, Tool,
        ToolChoice, ToolMode, stream_complete_response::Event, tool_choice::Choice,
    },
};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{
    PATIENCE, TestServer, config, until,
    upstream::{Behaviour, Upstream, refused_url, usage},
};

/// Two tiers: targets `a` and `b` of the low one, `c` of the high one, each at its own place.
fn two_tiers(a: &str, b: &str, c: &str, more: &str) -> Config {
    let place = |name: &str, url: &str| {
        format!(
            "[[providers]]\nname = \"{name}-place\"\nkind = \"openai_compatible\"\nbase_url = \"{url}\"\n\
             [[targets]]\nid = \"{name}\"\nprovider = \"{name}-place\"\nmodel = \"model-{name}\"\n\
             input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 10.0\nprice_date = \"2026-01-01\"\n\
             context_tokens = 100000\noutput_tokens_max = 1000\noutput_tokens_typical = 100\n\
             features = [\"tools\", \"json\"]\n"
        )
    };
    config(&format!(
        "rules = []\n{}{}{}\
         [[tiers]]\nname = \"low\"\ntargets = [\"a\", \"b\"]\n[[tiers]]\nname = \"high\"\ntargets = [\"c\"]\n\
         [policy]\ndefault_tier = \"low\"\n[classifier]\nenabled = false\n\
         [completion.backoff]\nfirst_ms = 1\nmax_ms = 5\n{more}",
        place("a", a),
        place("b", b),
        place("c", c),
    ))
}

/// A server whose targets answer so.
async fn served(a: &Upstream, b: &Upstream, c: &Upstream) -> TestServer {
    TestServer::start(two_tiers(&a.base_url(), &b.base_url(), &c.base_url(), ""), None).await
}

fn ask(text: &str) -> CompleteRequest {
    CompleteRequest { prompt: Some(text.to_owned()), ..CompleteRequest::default() }
}

/// What a stream told.
#[derive(Debug, Default)]
struct Told {
    opening: Option<StreamOpening>,
    deltas: Vec<AnswerDelta>,
    finished: Option<CompletionSummary>,
    failed: Option<Status>,
}

impl Told {
    fn text(&self) -> String {
        self.deltas.iter().map(|delta| delta.text.as_str()).collect()
    }
}

async fn stream(server: &TestServer, request: CompleteRequest) -> Result<Told, Status> {
    let mut messages = server.client().stream_complete(request).await?.into_inner();
    let mut told = Told::default();
    loop {
        let message = tokio::time::timeout(PATIENCE, messages.message()).await.expect("a message or an end");
        match message {
            Ok(None) => return Ok(told),
            Err(status) => {
                told.failed = Some(status);
                return Ok(told);
            }
            Ok(Some(message)) => {
                assert!(told.finished.is_none(), "nothing follows the account");
                match message.event.unwrap() {
                    Event::Opening(opening) => assert!(told.opening.replace(opening).is_none()),
                    Event::Delta(delta) => {
                        assert!(told.opening.is_some(), "the opening comes first");
                        told.deltas.push(delta);
                    }
                    Event::Finished(account) => told.finished = Some(account),
                }
            }
        }
    }
}

async fn complete(server: &TestServer, request: CompleteRequest) -> Result<CompleteResponse, Status> {
    Ok(server.client().complete(request).await?.into_inner())
}

/// Target, cause and outcome of each attempt.
fn course(summary: &CompletionSummary) -> Vec<(String, AttemptCause, AttemptOutcome)> {
    let each = summary.attempts.iter();
    each.map(|attempt| (attempt.target.clone().unwrap().id, attempt.cause(), attempt.outcome())).collect()
}

fn failure(status: &Status) -> CompletionFailure {
    let envelope = tonic_types::pb::Status::decode(status.details()).unwrap();
    let mut found = envelope.details.iter().filter(|detail| detail.type_url.ends_with("CompletionFailure"));
    CompletionFailure::decode(found.next().unwrap().value.as_slice()).unwrap()
}

fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

async fn answering(text: &str) -> Upstream {
    let text = text.to_owned();
    Upstream::answering(move |request| {
        if request.streams() {
            Behaviour::openai_stream(&text, usage(20, 5))
        } else {
            Behaviour::openai(&text, usage(20, 5))
        }
    })
    .await
}

async fn failing(status: u16) -> Upstream {
    Upstream::start([Behaviour::error(status, "scripted trouble")]).await
}

const GOOD: &str = "The parcel left the depot this morning and arrives tomorrow before noon.";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_with_its_account() {
    let (a, b, c) = (answering(GOOD).await, failing(500).await, failing(500).await);
    let server = served(&a, &b, &c).await;
    let request = CompleteRequest {
        generation: Some(Generation { temperature: Some(0.5), ..Generation::default() }),
        extra_json: r#"{"logit_bias": {"7": 1}}"#.to_owned(),
        include_raw: true,
        ..ask("where is my parcel")
    };
    let response = complete(&server, request).await.unwrap();
    let answer = response.answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish_reason()), (GOOD, FinishReason::Stop));
    assert_eq!(answer.usage.unwrap().output_tokens, 5);
    let raw: Value = serde_json::from_str(&answer.raw_json).unwrap();
    assert_eq!(raw["id"], "chatcmpl-upstream");
    let summary = response.summary.unwrap();
    assert_eq!(course(&summary), [("a".to_owned(), AttemptCause::First, AttemptOutcome::Answered)]);
    assert_eq!((summary.tier.as_str(), summary.escalated, summary.weak), ("low", false, None));
    assert!((summary.cost_usd - 70e-6).abs() < 1e-12, "{}", summary.cost_usd);
    assert_eq!((summary.estimated, response.decision.unwrap().tier.as_str()), (false, "low"));
    let sent = a.requests()[0].json();
    assert_eq!(
        sent,
        json!({
            "model": "model-a",
            "messages": [{"role": "user", "content": "where is my parcel"}],
            "temperature": 0.5,
            "logit_bias": {"7": 1},
        })
    );
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_opening_deltas_account() {
    let (a, b, c) = (answering(GOOD).await, failing(500).await, failing(500).await);
    let server = served(&a, &b, &c).await;
    let told = stream(&server, ask("where is my parcel")).await.unwrap();
    assert_eq!(told.text(), GOOD);
    let opening = told.opening.unwrap();
    assert_eq!((opening.tier.as_str(), opening.attempts.len()), ("low", 0));
    assert_eq!(opening.decision.unwrap().tier, "low");
    let finishes = told.deltas.iter().filter(|delta| delta.finish_reason() == FinishReason::Stop);
    assert_eq!(finishes.count(), 1);
    let summary = told.finished.unwrap();
    assert_eq!(summary.usage.unwrap().input_tokens, 20);
    assert!(summary.attempts[0].first_token_us.is_some());
    assert!(told.failed.is_none());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_target_of_the_tier_takes_over() {
    let (a, b, c) = (failing(500).await, answering(GOOD).await, failing(500).await);
    let server = served(&a, &b, &c).await;
    let summary = complete(&server, ask("x")).await.unwrap().summary.unwrap();
    assert_eq!(summary.target.as_ref().unwrap().id, "b");
    assert!(!summary.escalated);
    let expected = [
        ("a".to_owned(), AttemptCause::First, AttemptOutcome::Failed),
        ("a".to_owned(), AttemptCause::Retry, AttemptOutcome::Failed),
        ("b".to_owned(), AttemptCause::Failover, AttemptOutcome::Answered),
    ];
    assert_eq!(course(&summary), expected);
    let error = summary.attempts[0].error.as_ref().unwrap();
    assert_eq!((error.kind.as_str(), error.status), ("server", 500));
    let told = stream(&server, ask("x")).await.unwrap();
    assert_eq!(told.text(), GOOD);
    assert_eq!(course(&told.finished.unwrap()), expected);
    assert_eq!(told.opening.unwrap().attempts.len(), 2);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_answer_is_made_again_one_tier_up() {
    let (a, b, c) = (answering("").await, failing(500).await, answering(GOOD).await);
    let server = served(&a, &b, &c).await;
    let response = complete(&server, ask("where is my parcel")).await.unwrap();
    let summary = response.summary.unwrap();
    assert_eq!((summary.tier.as_str(), summary.escalated), ("high", true));
    assert_eq!(response.answer.unwrap().text, GOOD);
    assert_eq!(summary.attempts[0].weakness.as_ref().unwrap().check, "empty");
    let told = stream(&server, ask("where is my parcel")).await.unwrap();
    assert!(told.opening.as_ref().unwrap().escalated);
    assert_eq!(told.text(), GOOD);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_comes_whole_and_in_parts() {
    let message = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call-1", "type": "function", "function": {"name": "find", "arguments": "{\"parcel\": 7}"}},
    ]});
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).to_string()
    };
    let part = |part: Value| chunk(json!({"tool_calls": [part]}), Value::Null);
    let events = [
        part(json!({"index": 0, "id": "call-1", "function": {"name": "find", "arguments": ""}})),
        part(json!({"index": 0, "function": {"arguments": "{\"parcel\""}})),
        part(json!({"index": 0, "function": {"arguments": ": 7}"}})),
        chunk(json!({}), json!("tool_calls")),
        "[DONE]".to_owned(),
    ];
    let a = Upstream::answering(move |request| {
        if request.streams() {
            Behaviour::raw_stream(events.iter().map(String::as_str))
        } else {
            Behaviour::openai_message(message.clone(), "tool_calls", usage(9, 9))
        }
    })
    .await;
    let (b, c) = (failing(500).await, failing(500).await);
    let server = served(&a, &b, &c).await;
    let request = || {
        let choice = ToolChoice { choice: Some(Choice::Mode(ToolMode::Required as i32)) };
        let tools = vec![Tool { name: "find".to_owned(), ..Tool::default() }];
        let generation = Generation { tools, tool_choice: Some(choice), ..Generation::default() };
        CompleteRequest { generation: Some(generation), ..ask("find my parcel") }
    };
    let answer = complete(&server, request()).await.unwrap().answer.unwrap();
    let call = &answer.tool_calls[0];
    assert_eq!((call.id.as_str(), call.name.as_str()), ("call-1", "find"));
    assert_eq!(
        (call.arguments.as_str(), answer.finish_reason()),
        ("{\"parcel\": 7}", FinishReason::ToolCalls)
    );
    let told = stream(&server, request()).await.unwrap();
    let parts: Vec<_> = told.deltas.iter().flat_map(|delta| &delta.tool_calls).collect();
    let arguments: String = parts.iter().map(|part| part.arguments.as_str()).collect();
    assert_eq!((parts[0].name.as_str(), arguments.as_str()), ("find", "{\"parcel\": 7}"));
    // The provider did not say what it took.
    assert!(told.finished.unwrap().estimated);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_answers_the_status_names_every_attempt() {
    let (a, b, c) = (failing(401).await, failing(404).await, failing(402).await);
    let server = served(&a, &b, &c).await;
    for status in
        [complete(&server, ask("x")).await.unwrap_err(), stream(&server, ask("x")).await.unwrap_err()]
    {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let failure = failure(&status);
        assert_eq!(failure.kind(), FailureKind::Unavailable);
        let kinds: Vec<&str> =
            failure.attempts.iter().map(|attempt| attempt.error.as_ref().unwrap().kind.as_str()).collect();
        assert_eq!(kinds, ["unauthorized", "not_found", "unpaid"]);
        assert_eq!(failure.decision.unwrap().tier, "low");
        assert!(failure.attempts.iter().all(|attempt| attempt.cost_usd == 0.0));
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_every_target_refuses_is_the_callers() {
    let (a, b, c) = (failing(400).await, failing(422).await, failing(400).await);
    let server = served(&a, &b, &c).await;
    let status = complete(&server, ask("x")).await.unwrap_err();
    assert_eq!((status.code(), failure(&status).kind()), (Code::InvalidArgument, FailureKind::Refused));
    assert!(c.requests().is_empty(), "a stronger tier would refuse as well");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limits_say_when_to_try_again() {
    let limited = || Behaviour::error(429, "slow down").header("retry-after", "400");
    let (a, b, c) = (
        Upstream::start([limited()]).await,
        Upstream::start([limited()]).await,
        Upstream::start([limited()]).await,
    );
    let server = served(&a, &b, &c).await;
    let status = complete(&server, ask("x")).await.unwrap_err();
    assert_eq!((status.code(), failure(&status).kind()), (Code::ResourceExhausted, FailureKind::RateLimited));
    let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((300..=400).contains(&delay.as_secs()), "{delay:?}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_ends_in_an_error() {
    let long = "word ".repeat(60);
    let a = Upstream::start([Behaviour::openai_stream(&long, usage(9, 60)).cut_after_tokens(40)]).await;
    let (b, c) = (answering(GOOD).await, answering(GOOD).await);
    let server = served(&a, &b, &c).await;
    let told = stream(&server, ask("x")).await.unwrap();
    assert!(told.finished.is_none());
    let status = told.failed.as_ref().unwrap();
    assert_eq!((status.code(), failure(status).kind()), (Code::Aborted, FailureKind::BrokenOff));
    let attempt = &failure(status).attempts[0];
    assert_eq!(attempt.error.as_ref().unwrap().kind, "cut");
    assert!(attempt.estimated && attempt.cost_usd > 0.0, "what came is paid for: {attempt:?}");
    assert_eq!(told.text(), "word ".repeat(40));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_ends_attempts_and_says_what_was_tried() {
    let slow = || Behaviour::openai(GOOD, usage(1, 1)).slow_head(Duration::from_secs(60));
    let (a, b, c) = (Upstream::start([slow()]).await, answering(GOOD).await, answering(GOOD).await);
    let server = served(&a, &b, &c).await;
    let mut request = Request::new(ask("x"));
    // Not `set_timeout`, after which the client itself gives up at the same moment.
    request.metadata_mut().insert("grpc-timeout", "5000m".parse().unwrap());
    let status = server.client().complete(request).await.unwrap_err();
    assert_eq!(
        (status.code(), failure(&status).kind()),
        (Code::DeadlineExceeded, FailureKind::DeadlineExceeded)
    );
    assert_eq!(failure(&status).attempts.len(), 1);
    until("the provider to see it", async || a.requests()[0].hung_up.is_some()).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_ends_the_call_at_the_provider() {
    let slow = Behaviour::openai(GOOD, usage(1, 1)).slow_head(Duration::from_secs(60));
    let stalling = Behaviour::openai_stream(&"word ".repeat(60), usage(9, 60)).stall_after_tokens(30);
    let a = Upstream::start([slow, stalling]).await;
    let (b, c) = (answering(GOOD).await, answering(GOOD).await);
    let server = served(&a, &b, &c).await;
    let mut client = server.client();
    let call = tokio::spawn(async move { client.complete(ask("x")).await });
    until("the call", async || a.requests().len() == 1).await;
    call.abort();
    until("the provider to see it", async || a.requests()[0].hung_up.is_some()).await;

    let mut messages = server.client().stream_complete(ask("x")).await.unwrap().into_inner();
    messages.message().await.unwrap().unwrap();
    drop(messages);
    until("the provider to see it", async || a.requests()[1].hung_up.is_some()).await;
    assert!(b.requests().is_empty() && c.requests().is_empty());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_their_fields() {
    let nowhere = refused_url();
    let server = TestServer::start(two_tiers(&nowhere, &nowhere, &nowhere, ""), None).await;
    let request = CompleteRequest {
        model: Some("tier:none".to_owned()),
        preferences: Some(Preferences { quality: Some(7.0), ..Preferences::default() }),
        ..ask("x")
    };
    assert_eq!(bad_fields(&complete(&server, request).await.unwrap_err()), ["preferences.quality", "model"]);
    assert_eq!(bad_fields(&stream(&server, CompleteRequest::default()).await.unwrap_err()), ["messages"]);
    let status =
        complete(&server, CompleteRequest { extra_json: "{".to_owned(), ..ask("x") }).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["extra_json"]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_fixed_by_its_name() {
    let (a, b, c) = (answering(GOOD).await, answering(GOOD).await, answering(GOOD).await);
    let server = served(&a, &b, &c).await;
    for (model, target) in [("auto", "a"), ("b", "b"), ("tier:high", "c"), ("", "a")] {
        let request = CompleteRequest { model: Some(model.to_owned()), ..ask("x") };
        let summary = complete(&server, request).await.unwrap().summary.unwrap();
        assert_eq!(summary.target.unwrap().id, target, "{model}");
    }
    server.stop().await.unwrap();
}
