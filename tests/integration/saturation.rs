//! What happens when the classifier is full, slow, broken or absent: routing goes on.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use pointsman::{
    prompt::Draft,
    routing::{
        admit::admit,
        classifier::{Classifier, Excerpt, OnnxClassifier},
    },
    server::proto::{RouteBatchRequest, RouteRequest, RouteResponse, Source, route_result::Outcome},
};
use prost::Message;
use reqwest::Client;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Behaviour, PATIENCE, Scripted, TestServer, config, real_classifier, until};

fn ask(text: impl Into<String>) -> RouteRequest {
    RouteRequest { prompt: Some(text.into()), ..RouteRequest::default() }
}

const OPEN_QUESTION: &str = "how would one compare the offers of last spring with the new ones";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_means_the_default_tier() {
    let server = TestServer::start(config(""), Some(Scripted::new(Behaviour::Overloaded))).await;
    let decision = server.client().route(ask(OPEN_QUESTION)).await.unwrap().into_inner().decision.unwrap();
    assert_eq!((decision.source(), decision.tier.as_str()), (Source::Default, "moderate"));
    assert!(decision.reason.contains("queue is full"), "{}", decision.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_where_the_operator_says_so() {
    let refuse = config("[classifier]\nqueue_full = \"refuse\"");
    let server = TestServer::start(refuse, Some(Scripted::new(Behaviour::Overloaded))).await;
    let status = server.client().route(ask(OPEN_QUESTION)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_some());
    // Rules decide as ever, also within a batch.
    let batch = RouteBatchRequest { requests: vec![ask(OPEN_QUESTION), ask("thanks!")] };
    let results = server.client().route_batch(batch).await.unwrap().into_inner().results;
    assert!(
        matches!(&results[0].outcome, Some(Outcome::Error(error)) if error.code == Code::ResourceExhausted as i32)
    );
    assert!(matches!(&results[1].outcome, Some(Outcome::Decision(decision)) if decision.tier == "simple"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_or_failing_classifier_means_the_default_tier_in_time() {
    let slow = config("[classifier]\nwait_ms_max = 50");
    let server = TestServer::start(slow, Some(Scripted::new(Behaviour::Never))).await;
    let decision = server.client().route(ask(OPEN_QUESTION)).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(decision.source(), Source::Default);
    assert!(decision.reason.contains("no scores within"), "{}", decision.reason);

    let server = TestServer::start(config(""), Some(Scripted::new(Behaviour::Fail))).await;
    let decision = server.client().route(ask(OPEN_QUESTION)).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(decision.source(), Source::Default);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_the_call_is_honoured() {
    let patient = config("[classifier]\nwait_ms_max = 60000");
    let server = TestServer::start(patient, Some(Scripted::new(Behaviour::Never))).await;
    // A gRPC client would give up by itself when its time is over, which may be before it sees the answer on a busy
    // machine. This one tells its deadline, and waits.
    let client = Client::builder().no_proxy().http2_prior_knowledge().timeout(PATIENCE).build().unwrap();
    let message = ask(OPEN_QUESTION).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let started = Instant::now();
    let answer = client
        .post(format!("http://{}/pointsman.v1.RouterService/Route", server.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "2S")
        .body([&[0], &length[..], &message].concat())
        .send()
        .await
        .unwrap();
    let (head, frame) = (answer.headers().clone(), answer.bytes().await.unwrap());
    assert!(frame.len() > 5, "no answer: {head:?}");
    let decision = RouteResponse::decode(&frame[5..]).unwrap().decision.unwrap();
    assert_eq!(decision.source(), Source::Default);
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_its_caller_gave_up_is_skipped() {
    let skipped = || {
        let metrics = pointsman::telemetry::init_metrics().render();
        let line = metrics.lines().find(|line| line.starts_with("pointsman_classifier_skipped_total"));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |count| count.parse::<f64>().unwrap())
    };
    let before = skipped();
    let classifier = OnnxClassifier::load(&config("[classifier]\nworkers = 1").classifier).unwrap();
    let prompt = admit(Draft::from_text("a long text ".repeat(200)), &config("")).unwrap();
    let excerpt = Excerpt::of(&prompt, &classifier.describe().input);
    let soon = Instant::now() + PATIENCE;
    for _ in 0..100 {
        drop(classifier.submit(excerpt.clone(), soon).unwrap());
    }
    // A deadline that has passed counts as giving up, too.
    let late = classifier.submit(excerpt.clone(), Instant::now()).unwrap();
    let wanted = classifier.submit(excerpt, soon).unwrap();
    assert!(wanted.await.unwrap().is_ok());
    assert!(late.await.is_err(), "dropped without an answer");
    assert!(skipped() - before >= 100.0, "{} skipped", skipped() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_call_gets_its_answer_during_the_drain() {
    let signal = Arc::new(tokio::sync::Notify::new());
    let scripted = Scripted::new(Behaviour::OnSignal(Arc::clone(&signal)));
    let mut patient = config("[classifier]\nwait_ms_max = 60000");
    patient.server.drain = PATIENCE;
    let server = TestServer::start(patient, Some(Arc::clone(&scripted) as Arc<_>)).await;
    let mut client = server.client();
    let call = tokio::spawn(async move { client.route(ask(OPEN_QUESTION)).await });
    until("the question", async || scripted.asked.load(Ordering::Relaxed) == 1).await;
    let stopping = tokio::spawn(server.stop());
    signal.notify_one();
    let decision = call.await.unwrap().unwrap().into_inner().decision.unwrap();
    assert_eq!(decision.source(), Source::Default);
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_texts_are_scored_once() {
    let scripted = Scripted::new(Behaviour::Answer([0.1, 0.9, 0.95]));
    let server = TestServer::start(config(""), Some(Arc::clone(&scripted) as Arc<_>)).await;
    let first = server.client().route(ask(OPEN_QUESTION)).await.unwrap().into_inner().decision.unwrap();
    let second = server.client().route(ask(OPEN_QUESTION)).await.unwrap().into_inner().decision.unwrap();
    assert_eq!((first.source(), second.source()), (Source::Classifier, Source::Cache));
    assert_eq!(first.tier_scores, second.tier_scores);
    assert_eq!(scripted.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scores_are_bit_identical_whatever_else_is_in_flight() {
    let uncached = config("rules = []\n[classifier]\ncache_entries = 0\nwait_ms_max = 60000");
    let server = TestServer::start(uncached, Some(real_classifier())).await;
    let probes = [
        "fix this regex: ^(a+)+$",
        "summarise the attached minutes for the board",
        OPEN_QUESTION,
        "日本語で説明してください",
    ];
    let score = async |text: &str| {
        let decision = server.client().route(ask(text)).await.unwrap().into_inner().decision.unwrap();
        assert_eq!(decision.source(), Source::Classifier, "{}", decision.reason);
        let bits: Vec<u64> = decision.tier_scores.iter().map(|score| score.sufficiency.to_bits()).collect();
        (decision.intent, decision.intent_confidence.to_bits(), bits)
    };
    let mut alone = Vec::new();
    for probe in probes {
        alone.push(score(probe).await);
    }
    let noise: Vec<_> = (0..16)
        .map(|lane| {
            let mut client = server.client();
            tokio::spawn(async move {
                for round in 0..12 {
                    let text = format!(
                        "{lane} {round} {}",
                        "words of quite another length ".repeat(lane * round % 23)
                    );
                    client.route(ask(text)).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..12 {
        for (probe, expected) in probes.iter().zip(&alone) {
            assert_eq!(&score(probe).await, expected, "{probe}");
        }
    }
    for lane in noise {
        lane.await.unwrap();
    }
}
