//! Feedback over gRPC and HTTP, from a caller to the store and back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pointsman::{
    server::proto::{
        FeedbackSource, FeedbackStatus, ReportFeedbackRequest, ReportFeedbackResponse, RouteRequest, Verdict,
    },
    traffic::{
        feedback::{Feedback, FeedbackSource as Whose, Verdict as Thumb},
        record::Logged,
        store::Selection,
    },
};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    faults::process::{Process, metric},
    support::{PATIENCE, TestServer, config, until},
    traffic_log::emptied,
};

/// Well-formed, and of nobody.
const NOBODYS: &str = "0199f2a1-7c00-7abc-8def-0123456789ab";

/// A server whose log is in a folder of its own.
async fn start(keys: &str) -> (TempDir, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("traffic.sqlite");
    let sections = format!(
        "[classifier]\nenabled = false\n[traffic]\nstore = \"{}\"\nflush_ms = 20\n{keys}",
        store.display()
    );
    let config = config(&sections);
    let is_logged = config.traffic.enabled;
    let server = TestServer::start(config, None).await;
    // Before, feedback is kept in the spool, and nobody knows of which decision it is.
    until("the store", async || !is_logged || server.live.traffic().store().is_some()).await;
    (folder, server)
}

async fn decide(server: &TestServer) -> String {
    let request = RouteRequest { prompt: Some("thanks, bye!".to_owned()), ..RouteRequest::default() };
    server.client().route(request).await.unwrap().into_inner().decision.unwrap().decision_id
}

fn good(decision_id: &str) -> ReportFeedbackRequest {
    ReportFeedbackRequest {
        decision_id: decision_id.to_owned(),
        verdict: Verdict::Good as i32,
        ..ReportFeedbackRequest::default()
    }
}

async fn report(
    server: &TestServer,
    request: ReportFeedbackRequest,
) -> Result<ReportFeedbackResponse, Status> {
    Ok(server.client().report_feedback(request).await?.into_inner())
}

/// Status, `retry-after` and body of an answer over HTTP.
async fn post(server: &TestServer, body: &Value) -> (u16, String, Value) {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let response =
        client.post(format!("http://{}/v1/feedback", server.http)).json(body).send().await.unwrap();
    let again = response.headers().get("retry-after").map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status().as_u16(), again, response.json().await.unwrap())
}

/// Waits until so many records are in the store, and returns them by their decision.
async fn logged(server: &TestServer, records: usize) -> BTreeMap<String, Logged> {
    let mut found = Vec::new();
    until("the records", async || {
        let Some(store) = server.live.traffic().store() else { return false };
        found = store.page(&Selection::default(), None, 1000).await.unwrap();
        found.len() >= records
    })
    .await;
    found.into_iter().map(|logged| (logged.record.decision_id.to_string(), logged)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_in_the_log_when_it_is_answered() {
    let (_folder, server) = start("text = \"full\"").await;
    let (first, second) = (decide(&server).await, decide(&server).await);
    let answer = report(
        &server,
        ReportFeedbackRequest {
            feedback_id: "ticket-7".to_owned(),
            source: FeedbackSource::Human as i32,
            verdict: Verdict::Bad as i32,
            score: Some(0.25),
            right_tier: "complex".to_owned(),
            right_intent: "farewell".to_owned(),
            comment: "too friendly".to_owned(),
            demonstration: "Bye.".to_owned(),
            ..good(&first)
        },
    )
    .await
    .unwrap();
    // Its record may not have been written yet: it was decided a moment ago.
    assert_eq!((answer.status(), answer.feedback_id.as_str()), (FeedbackStatus::Recorded, "ticket-7"));
    let (status, _, body) = post(&server, &json!({"decision_id": second, "score": 1.0})).await;
    assert_eq!((status, &body["status"]), (200, &json!("recorded")), "{body}");

    let logged = logged(&server, 2).await;
    let [told] = &logged[&first].feedback[..] else { panic!("{logged:#?}") };
    let expected = Feedback {
        version: 1,
        feedback_id: format!("{first}/ticket-7"),
        decision_id: first.parse().unwrap(),
        at_ms: told.at_ms,
        source: Whose::Human,
        verdict: Some(Thumb::Bad),
        score: Some(0.25),
        right_tier: Some("complex".to_owned()),
        right_intent: Some("farewell".to_owned()),
        comment: Some("too friendly".to_owned()),
        demonstration: Some("Bye.".to_owned()),
        signal: None,
    };
    assert_eq!(*told, expected);
    assert!(told.at_ms >= logged[&first].record.at_ms);
    let [told] = &logged[&second].feedback[..] else { panic!("{logged:#?}") };
    assert_eq!((told.source, told.score, told.verdict), (Whose::User, Some(1.0), None));
    assert_eq!(told.name(), body["feedback_id"]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_feedback_counts_once_and_the_first_one_counts() {
    let (_folder, server) = start("").await;
    let id = decide(&server).await;
    let at_once = futures::future::join_all((0..20).map(|_| report(&server, good(&id)))).await;
    let answers: Vec<_> = at_once.into_iter().map(Result::unwrap).collect();
    let recorded = answers.iter().filter(|answer| answer.status() == FeedbackStatus::Recorded);
    assert_eq!(recorded.count(), 1, "{answers:?}");
    let again = answers.iter().filter(|answer| answer.status() == FeedbackStatus::Duplicate);
    assert_eq!(again.count(), 19, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.feedback_id == answers[0].feedback_id));

    let named = |verdict: &str| json!({"decision_id": id, "feedback_id": "mine", "verdict": verdict});
    let expected = |status: &str| (200, String::new(), json!({"feedback_id": "mine", "status": status}));
    assert_eq!(post(&server, &named("bad")).await, expected("recorded"));
    assert_eq!(post(&server, &named("good")).await, expected("duplicate"));
    let other = decide(&server).await;
    let of_another = json!({"decision_id": other, "feedback_id": "mine", "verdict": "good"});
    assert_eq!(post(&server, &of_another).await, expected("recorded"), "names are of one decision");

    let logged = logged(&server, 2).await;
    let mut verdicts: Vec<_> = logged[&id].feedback.iter().map(|told| told.verdict.unwrap()).collect();
    verdicts.sort_by_key(|verdict| format!("{verdict:?}"));
    assert_eq!(verdicts, [Thumb::Bad, Thumb::Good]);
    assert_eq!(logged[&other].feedback.len(), 1);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_each_answered() {
    // As many as the store gives of one decision.
    const AT_ONCE: usize = 100;
    let (_folder, server) = start("").await;
    let id = decide(&server).await;
    // While the store is still being opened, its spool would take them, and know of no decision.
    logged(&server, 1).await;
    let calls = (0..AT_ONCE).map(|at| {
        let name = format!("f-{at}");
        report(&server, ReportFeedbackRequest { feedback_id: name, ..good(&id) })
    });
    let answers = futures::future::join_all(calls).await;
    let recorded =
        answers.iter().filter(|answer| answer.as_ref().is_ok_and(|a| a.status() == FeedbackStatus::Recorded));
    assert_eq!(recorded.count(), AT_ONCE, "{answers:?}");
    assert_eq!(logged(&server, 1).await[&id].feedback.len(), AT_ONCE);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_decisions_are_kept_apart_within_their_limit() {
    let (_folder, server) = start("unknown_feedback_max = 2").await;
    let answer = report(&server, good(NOBODYS)).await.unwrap();
    assert_eq!(answer.status(), FeedbackStatus::UnknownDecision);
    let of = |decision_id: &str| json!({"decision_id": decision_id, "score": 0});
    let second = NOBODYS.replace("0199", "0198");
    let (status, _, body) = post(&server, &of(&second)).await;
    assert_eq!((status, &body["status"]), (202, &json!("unknown_decision")), "{body}");

    let third = NOBODYS.replace("0199", "0197");
    let refused = report(&server, good(&third)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("unknown_feedback_max"), "{refused}");
    let (status, _, body) = post(&server, &of(&third)).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("unknown_feedback_full")), "{body}");
    assert_eq!(body["error"]["param"], "decision_id");

    // A repeat takes no room, and what is known has its own.
    let answer = report(&server, good(NOBODYS)).await.unwrap();
    assert_eq!(answer.status(), FeedbackStatus::Duplicate);
    let known = decide(&server).await;
    assert_eq!(report(&server, good(&known)).await.unwrap().status(), FeedbackStatus::Recorded);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_over_both() {
    let (_folder, server) = start("").await;
    let id = decide(&server).await;
    let secret = "hunter2 ".repeat(1 << 17);
    let check = async |request: ReportFeedbackRequest, body: Value, fields: &[&str]| {
        let status = report(&server, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{fields:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let named: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, fields);
        let (status, _, body) = post(&server, &body).await;
        assert_eq!((status, body["error"]["param"].as_str()), (400, fields.first().copied()), "{body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            fields.iter().all(|field| message.contains(field)) && !message.contains("hunter2"),
            "{message}"
        );
    };
    let of = |decision_id: &str| ReportFeedbackRequest {
        decision_id: decision_id.to_owned(),
        ..ReportFeedbackRequest::default()
    };
    check(good("7"), json!({"decision_id": "7", "verdict": "good"}), &["decision_id"]).await;
    let random = "4f9a2f0e-93c1-4a1e-8d7e-0123456789ab";
    check(good(random), json!({"decision_id": random, "verdict": "good"}), &["decision_id"]).await;
    check(of(&id), json!({"decision_id": id}), &["verdict"]).await;
    check(
        ReportFeedbackRequest { comment: secret.clone(), ..of(&id) },
        json!({"decision_id": id, "comment": secret}),
        &["comment"],
    )
    .await;
    check(
        ReportFeedbackRequest { score: Some(1.5), right_tier: "huge".to_owned(), ..of(&id) },
        json!({"decision_id": id, "score": 1.5, "right_tier": "huge"}),
        &["score", "right_tier"],
    )
    .await;
    check(
        ReportFeedbackRequest { score: Some(0.1), ..good(&id) },
        json!({"decision_id": id, "score": 0.1, "verdict": "good"}),
        &["verdict", "score"],
    )
    .await;
    check(
        ReportFeedbackRequest { source: 77, ..good(&id) },
        json!({"decision_id": id, "source": "model", "verdict": "good"}),
        &["source"],
    )
    .await;
    let (status, _, body) = post(&server, &json!({"decision_id": id, "verdict": "good", "rating": 5})).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("rating")), "{body}");
    assert!(logged(&server, 1).await[&id].feedback.is_empty());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_or_too_long_is_refused_like_elsewhere() {
    let (_folder, server) = start("").await;
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}/v1/feedback", server.http);
    let status = |response: reqwest::Response| response.status().as_u16();
    assert_eq!(status(client.get(&url).send().await.unwrap()), 405);
    let form = client.post(&url).header("content-type", "text/plain").body("{}");
    assert_eq!(status(form.send().await.unwrap()), 415);
    let json = |body: String| client.post(&url).header("content-type", "application/json").body(body);
    assert_eq!(status(json("[]".to_owned()).send().await.unwrap()), 400);
    let long = json(format!("{{\"comment\": \"{}\"}}", "x".repeat(3 << 20))).send().await.unwrap();
    assert_eq!(long.status(), 413);
    let told = long.text().await.unwrap();
    assert!(told.contains("comment takes up to 16384"), "{told}");
    let nowhere = client.post(format!("http://{}/v1/feedbacks", server.http)).send().await.unwrap();
    assert!(nowhere.text().await.unwrap().contains("POST /v1/feedback"));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn remarks_that_may_not_be_kept_are_nowhere() {
    const REMARK: &str = "hunter2-was-here";
    let sections = "[classifier]\nenabled = false\n[traffic]\nstore = \"traffic.sqlite\"\ntext = \"none\"\n";
    let server = Process::start(sections, &[]).await;
    emptied(&server).await;
    let post = async |path: &str, body: Value| {
        let response = server.client.post(server.url(path)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (_, decided) = post("/v1/route", json!({"prompt": "thanks, bye!"})).await;
    let id = &decided["decision"]["decision_id"];
    let remarks = |id: &Value| json!({"decision_id": id, "comment": REMARK, "demonstration": REMARK});
    assert_eq!(post("/v1/feedback", remarks(id)).await.0, 200);
    assert_eq!(post("/v1/feedback", remarks(&json!(NOBODYS))).await.0, 202);
    let too_long = json!({"decision_id": id, "comment": REMARK.repeat(1500), "right_tier": REMARK});
    let (status, told) = post("/v1/feedback", too_long).await;
    assert_eq!(status, 400);
    assert!(!told.to_string().contains(REMARK), "{told}");
    let (left, folder) = server.stop_and_keep().await;
    let taken = |status: &str| metric(&left.metrics, "pointsman_feedback_total", &[("status", status)]);
    assert_eq!((taken("recorded"), taken("unknown_decision"), taken("invalid")), (1.0, 1.0, 1.0));
    assert!(!left.metrics.contains(REMARK));
    let mut stored = false;
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!holds(REMARK), "{}", entry.path().display());
            stored |= holds(NOBODYS);
        }
    }
    assert!(stored, "the feedback itself is there");
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            contents(&entry, found);
        } else {
            found.push((entry.clone(), std::fs::read(&entry).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_kept_is_in_no_file_while_the_store_is_down() {
    const SECRET: &str = "hunter2-was-here";
    const PROMPT: &str = "my password is hunter2-was-here";
    for policy in ["none", "redacted"] {
        let folder = tempfile::tempdir().unwrap();
        // A folder is no database: the store does not open, and what comes goes to the spool beside it.
        std::fs::create_dir(folder.path().join("traffic.sqlite")).unwrap();
        let sections = format!(
            "[classifier]\nenabled = false\n[traffic]\nstore = \"traffic.sqlite\"\ntext = \"{policy}\"\nflush_ms = 20\n"
        );
        let server = Process::start_in(folder, &sections, &[]).await;
        let post = async |path: &str, body: Value| {
            server.client.post(server.url(path)).json(&body).send().await.unwrap()
        };
        let context = json!({"tags": [PROMPT], "task_type": PROMPT});
        let decided = post("/v1/route", json!({"prompt": PROMPT, "context": context})).await;
        let decided: Value = decided.json().await.unwrap();
        let id = &decided["decision"]["decision_id"];
        let feedback =
            json!({"decision_id": id, "comment": PROMPT, "right_intent": PROMPT, "feedback_id": PROMPT});
        let status = post("/v1/feedback", feedback).await.status().as_u16();
        assert_eq!(status, 202, "{policy}: {decided}");
        until("both in the spool", async || {
            metric(&server.metrics().await, "pointsman_traffic_spooled", &[]) == 2.0
        })
        .await;
        let metrics = server.metrics().await;
        let mut found = vec![(PathBuf::from("metrics"), metrics.into_bytes())];
        contents(server.folder(), &mut found);
        let holds =
            |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        for (path, bytes) in &found {
            assert!(!holds(bytes, SECRET), "{policy}: {}", path.display());
        }
        let spool = server.folder().join("traffic.sqlite-spool");
        let id = id.as_str().unwrap();
        assert!(found.iter().any(|(path, bytes)| path.starts_with(&spool) && holds(bytes, id)), "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_there_is_nothing_to_say() {
    let (_folder, server) = start("enabled = false").await;
    let id = decide(&server).await;
    let refused = report(&server, good(&id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let violations = refused.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "traffic.enabled");
    let (status, _, body) = post(&server, &json!({"decision_id": id, "score": 1})).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("feedback_off")), "{body}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_never_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // Neither store nor spool can be made below a file.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let sections = format!(
        "[classifier]\nenabled = false\n[traffic]\nstore = \"{0}/traffic.sqlite\"\nspool = \"{0}/spool\"\n",
        file.display()
    );
    let server = TestServer::start(config(&sections), None).await;
    let id = decide(&server).await;
    let refused = report(&server, good(&id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let shown = folder.path().display().to_string();
    assert!(!refused.message().contains(&shown), "{refused}");
    let (status, again, body) = post(&server, &json!({"decision_id": id, "score": 1})).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("feedback_unavailable")), "{body}");
    assert_eq!(again, "5");
    server.stop().await.unwrap();
}
