//! What a real server notices without anybody saying it: in its record what became of an answer, and as feedback about
//! the earlier decision that a session asked again.

use std::time::{Duration, Instant};

use futures::StreamExt;
use pointsman::traffic::{
    feedback::{FeedbackSource, Signal},
    record::Logged,
    store::Selection,
};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE, TestServer, config, until,
    upstream::{Behaviour, Request, Upstream, usage},
};

/// Somewhat longer than programs leave between requests that they send at once.
const PAUSE: Duration = Duration::from_millis(1100);
const QUESTION: &str = "Which documents do I need to open a bank account in Portugal?";
/// The same, as people ask again who did not get what they wanted.
const REPHRASED: &str = "Please, which documents do I need to open a bank account in Portugal exactly?";
const OTHER_QUESTION: &str = "How long does a letter from Lisbon to Rome take in winter?";
/// Answered weakly by the cheap target.
const HARD: &str = "Prove that there are infinitely many primes.";
/// Answered by a stream that stops in the middle.
const LONG: &str = "Tell me the whole story of the Lusiads, verse by verse.";
/// More tokens than are held back.
const MIDDLE: usize = 40;

/// A server with a cheap and a dear target, whose log is in a folder of its own.
struct World {
    _folder: TempDir,
    _upstream: Upstream,
    server: TestServer,
    client: Client,
}

fn answer(request: &Request) -> Behaviour {
    let body = request.json();
    let is_cheap = body["model"] == "model-cheap";
    let asked = body["messages"][0]["content"].as_str().unwrap();
    match (asked, request.streams()) {
        (HARD, false) if is_cheap => {
            Behaviour::openai("I'm sorry, but I can't help with that request.", usage(20, 10))
        }
        (LONG, true) => {
            Behaviour::openai_stream(&"word ".repeat(2 * MIDDLE), usage(20, 80)).stall_after_tokens(MIDDLE)
        }
        (_, true) => Behaviour::openai_stream("That depends on where you live.", usage(20, 7)),
        (_, false) => Behaviour::openai("That depends on where you live.", usage(20, 7)),
    }
}

async fn start() -> World {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::answering(answer).await;
    let place = |id: &str| {
        format!(
            "[[targets]]\nid = \"{id}\"\nprovider = \"place\"\nmodel = \"model-{id}\"\n\
             input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 10.0\nprice_date = \"2026-01-01\"\n\
             context_tokens = 100000\noutput_tokens_max = 2000\noutput_tokens_typical = 100\n"
        )
    };
    let sections = format!(
        "rules = []\n[[providers]]\nname = \"place\"\nkind = \"openai_compatible\"\nbase_url = \"{}\"\nkeys = []\n\
         {}{}[[tiers]]\nname = \"low\"\ntargets = [\"cheap\"]\n[[tiers]]\nname = \"high\"\ntargets = [\"dear\"]\n\
         [policy]\ndefault_tier = \"low\"\n[classifier]\nenabled = false\n\
         [traffic]\nstore = \"{}\"\nflush_ms = 20\ntext = \"none\"\n",
        upstream.base_url(),
        place("cheap"),
        place("dear"),
        folder.path().join("traffic.sqlite").display(),
    );
    let server = TestServer::start(config(&sections), None).await;
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    World { _folder: folder, _upstream: upstream, server, client }
}

/// Where a caller says which conversation it is.
#[derive(Debug, Clone, Copy)]
enum Session {
    None,
    /// `extra_headers` of an SDK.
    Header(&'static str),
    /// `extra_body` of an SDK.
    Body(&'static str),
}

impl World {
    async fn post(&self, question: &str, session: Session, stream: bool) -> Response {
        let mut body = json!({
            "model": "auto", "stream": stream, "messages": [{ "role": "user", "content": question }],
        });
        if let Session::Body(session) = session {
            body["pointsman"] = json!({ "session_id": session });
        }
        let url = format!("http://{}/v1/chat/completions", self.server.http);
        let request = self.client.post(url).json(&body);
        let request = match session {
            Session::Header(session) => request.header("x-pointsman-session", session),
            Session::None | Session::Body(_) => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }

    /// Asks, reads the answer, and returns the decision.
    async fn ask(&self, question: &str, session: Session) -> String {
        let response = self.post(question, session, false).await;
        let id = decision(&response);
        response.json::<Value>().await.unwrap();
        id
    }

    /// Returns what is logged of a decision, once there is something that fits.
    async fn logged(&self, id: &str, what: &str, fits: impl Fn(&Logged) -> bool) -> Logged {
        let mut found = None;
        until(what, async || {
            let Some(store) = self.server.live.traffic().store() else { return false };
            let page = store.page(&Selection::default(), None, 1000).await.unwrap();
            found = page.into_iter().find(|logged| logged.record.decision_id.to_string() == id);
            found.as_ref().is_some_and(&fits)
        })
        .await;
        found.unwrap()
    }

    /// Asserts that just this was noticed about a decision afterwards.
    async fn noticed(&self, id: &str, signal: Signal) {
        let logged = self.logged(id, signal.as_str(), |logged| !logged.feedback.is_empty()).await;
        let [noticed] = &logged.feedback[..] else { panic!("{logged:#?}") };
        assert_eq!((noticed.signal, noticed.source), (Some(signal), FeedbackSource::Automatic));
        assert_eq!(noticed.feedback_id, format!("{}-{id}", signal.as_str()));
        assert_eq!((noticed.verdict, noticed.score), (None, None), "nobody judged it");
    }
}

fn decision(response: &Response) -> String {
    response.headers()["x-pointsman-decision-id"].to_str().unwrap().to_owned()
}

/// Waits as long as a person takes at least.
async fn pause() {
    let started = Instant::now();
    until("a moment to pass", async || started.elapsed() >= PAUSE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_in_a_session_is_noticed() {
    let world = start().await;
    let first = world.ask(QUESTION, Session::Header("s-1")).await;
    // Others ask the same: nobody knows whether it is he who asked before.
    let nobodys = world.ask(QUESTION, Session::None).await;
    let elsewhere = world.ask(QUESTION, Session::Header("s-2")).await;
    pause().await;
    let again = world.ask(QUESTION, Session::Body("s-1")).await;
    let nobodys_again = world.ask(QUESTION, Session::None).await;
    let something_else = world.ask(OTHER_QUESTION, Session::Body("s-2")).await;
    pause().await;
    let rephrased = world.ask(REPHRASED, Session::Body("s-1")).await;

    world.noticed(&first, Signal::Regenerated).await;
    world.noticed(&again, Signal::Retried).await;
    for id in [nobodys, nobodys_again, elsewhere, something_else, rephrased] {
        let logged = world.logged(&id, "its record", |_| true).await;
        assert_eq!((logged.feedback.len(), logged.record.signals.len()), (0, 0), "{logged:#?}");
    }
    world.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_answer_and_a_stronger_one_in_its_place_are_noticed() {
    let world = start().await;
    let id = world.ask(HARD, Session::None).await;
    let record = world.logged(&id, "its record", |_| true).await.record;
    assert_eq!(record.signals, [Signal::Weak, Signal::Escalated]);
    assert_eq!((record.outcome.status.as_str(), record.outcome.tier.as_deref()), ("answered", Some("high")));
    assert!(record.outcome.escalated);
    let attempts = record.attempts.iter();
    let attempts: Vec<_> = attempts.map(|attempt| (&*attempt.target.id, attempt.outcome.as_str())).collect();
    assert_eq!(attempts, [("cheap", "weak"), ("dear", "answered")]);
    world.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_on_a_stream_is_noticed() {
    let world = start().await;
    let response = world.post(LONG, Session::None, true).await;
    let id = decision(&response);
    let mut chunks = response.bytes_stream();
    chunks.next().await.unwrap().unwrap();
    drop(chunks);
    let record = world.logged(&id, "its record", |_| true).await.record;
    assert_eq!((record.signals, record.outcome.status.as_str()), (vec![Signal::Abandoned], "hung_up"));
    assert_eq!(record.attempts.last().map(|attempt| attempt.outcome.as_str()), Some("abandoned"));
    world.server.stop().await.unwrap();
}
