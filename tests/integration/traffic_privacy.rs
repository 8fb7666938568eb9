//! Personal data and keys of every kind that redaction knows, over every way in and through answers, weak answers and
//! errors that repeat them: they stand neither in the store nor in the spool, the log or the metrics.

use std::{fs, path::Path};

use futures::future::join_all;
use pointsman::{
    server::proto::{CompleteRequest, Context, RouteRequest, router_service_client::RouterServiceClient},
    traffic::text::redact::redact,
};
use regex::bytes::Regex;
use reqwest::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    faults::process::{Process, metric},
    support::{
        until,
        upstream::{Behaviour, Request, Upstream, usage},
    },
};

/// The examples on which redaction is tuned; `⟦kind:…⟧` encloses what is to be replaced.
const EXAMPLES: &str = include_str!("../fixtures/redaction.jsonl");
/// Shorter ones stand in logs by chance.
const SECRET_BYTES_MIN: usize = 8;
/// Of the prompt that an upstream error repeats: as much as an error message holds.
const QUOTED_BYTES: usize = 400;
/// More tokens than are held back before a stream is passed on.
const MIDDLE: usize = 40;
const MARKS: [&str; 10] =
    ["[EMAIL]", "[PHONE]", "[CARD]", "[IBAN]", "[ID]", "[IP]", "[NAME]", "[PASSWORD]", "[KEY]", "[TOKEN]"];
const POLICIES: [&str; 3] = ["redacted", "hash", "none"];

/// A text with everything that redaction finds, and what of it nobody may find again.
struct Confession {
    text: String,
    secrets: Vec<String>,
    /// Any of them: megabytes of a log are searched for all at once.
    any_secret: Regex,
}

#[derive(Deserialize)]
struct Example {
    part: String,
    text: String,
}

impl Confession {
    fn new() -> Self {
        let (mut text, mut secrets) = (String::new(), Vec::new());
        for line in EXAMPLES.lines() {
            let Example { part, text: marked } = serde_json::from_str(line).unwrap();
            let (plain, marked) = unmarked(&marked);
            // What redaction misses, it has been measured to miss.
            let kept = redact(&plain).text.into_owned();
            if part != "tuning" || marked.is_empty() || marked.iter().any(|secret| kept.contains(secret)) {
                continue;
            }
            text += &plain;
            text += "\n\n";
            let lines = marked.iter().flat_map(|secret| secret.lines());
            secrets.extend(lines.filter(|line| line.len() >= SECRET_BYTES_MIN).map(str::to_owned));
        }
        assert!(secrets.len() > 80, "{}", secrets.len());
        let any_secret: Vec<String> = secrets.iter().map(|secret| regex::escape(secret)).collect();
        let any_secret = Regex::new(&any_secret.join("|")).unwrap();
        Self { text, secrets, any_secret }
    }

    /// Returns the first secret that stands in `held`, with what stands around it.
    fn told_in(&self, held: &[u8]) -> Option<String> {
        const AROUND_BYTES: usize = 200;
        let found = self.any_secret.find(held)?;
        let around = found.start().saturating_sub(AROUND_BYTES)..(found.end() + AROUND_BYTES).min(held.len());
        Some(String::from_utf8_lossy(&held[around]).into_owned())
    }

    /// Asserts that no file below this folder holds a secret.
    fn check(&self, policy: &str, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.check(policy, &path);
            } else {
                assert_eq!(self.told_in(&fs::read(&path).unwrap()), None, "{policy}: {}", path.display());
            }
        }
    }
}

/// Returns an example without its marks, and what they enclose.
fn unmarked(text: &str) -> (String, Vec<String>) {
    let (mut plain, mut enclosed, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, inside)) = rest.split_once('⟦') {
        let (_, inside) = inside.split_once(':').unwrap();
        let (value, after) = inside.split_once('⟧').unwrap();
        plain += before;
        plain += value;
        enclosed.push(value.to_owned());
        rest = after;
    }
    (plain + rest, enclosed)
}

/// What an upstream does with what it is told.
#[derive(Debug, Clone, Copy)]
enum Echo {
    Answers,
    /// The cheap target does not want to, and says to what.
    Refuses,
    /// In OpenAI's form.
    Error(u16),
    /// In a body that is no JSON.
    Page(u16),
    /// A successful answer that is none.
    BrokenJson,
    /// An error inside a stream.
    ErrorEvent,
}

impl Echo {
    const ALL: [Self; 9] = [
        Self::Answers,
        Self::Refuses,
        Self::Error(400),
        Self::Error(401),
        Self::Error(429),
        Self::Error(500),
        Self::Page(500),
        Self::BrokenJson,
        Self::ErrorEvent,
    ];

    /// Stands at the beginning of a prompt.
    fn mark(self) -> String {
        format!("<{self:?}>")
    }

    fn behaviour(self, request: &Request, place: Place, text: &str) -> Behaviour {
        let said = match (self, place) {
            (Self::Refuses, Place::Cheap) => format!("I'm sorry, but I can't help with that request: {text}"),
            _ => format!("You said this: {text}\n{}", "word ".repeat(MIDDLE)),
        };
        let answer = match (place, request.streams()) {
            (Place::Cheap, false) => Behaviour::openai(&said, usage(20, 15)),
            (Place::Cheap, true) => Behaviour::openai_stream(&said, usage(20, 15)),
            (Place::Dear, false) => Behaviour::anthropic(&said, 20, 15),
            (Place::Dear, true) => Behaviour::anthropic_stream(&said, 20, 15),
        };
        let quoted = format!("cannot be processed: {}", &text[..text.floor_char_boundary(QUOTED_BYTES)]);
        match self {
            Self::Answers | Self::Refuses => answer,
            Self::Error(status) => Behaviour::error(status, &quoted),
            Self::Page(status) => Behaviour::plain(status, "text/html", format!("<p>{text}</p>")),
            Self::BrokenJson => Behaviour::plain(200, "application/json", format!("{{\"said\": {text}")),
            Self::ErrorEvent => match (request.streams(), place) {
                (false, _) => Behaviour::error(422, &quoted),
                (true, Place::Cheap) => answer.error_event_after(MIDDLE, &quoted),
                (true, Place::Dear) => answer.anthropic_error_event_after(MIDDLE, &quoted),
            },
        }
    }
}

/// Which of the two targets is asked.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Of tier `low`, by OpenAI's protocol.
    Cheap,
    /// Of tier `high`, by Anthropic's.
    Dear,
}

async fn upstream(place: Place, text: &str) -> Upstream {
    let text = text.to_owned();
    Upstream::answering(move |request| {
        let body = String::from_utf8_lossy(&request.body);
        let echo = Echo::ALL.into_iter().find(|echo| body.contains(&echo.mark()));
        echo.unwrap().behaviour(request, place, &text)
    })
    .await
}

fn target(name: &str, kind: &str, upstream: &Upstream) -> String {
    format!(
        "[[providers]]\nname = \"{name}-place\"\nkind = \"{kind}\"\nbase_url = \"{}\"\nkeys = []\n\
         [[targets]]\nid = \"{name}\"\nprovider = \"{name}-place\"\nmodel = \"model-{name}\"\n\
         input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 10.0\nprice_date = \"2026-01-01\"\n\
         context_tokens = 100000\noutput_tokens_max = 2000\noutput_tokens_typical = 100\n",
        upstream.base_url()
    )
}

/// Returns the sections of a server with a cheap and a dear target; `[traffic]` is the last of them.
fn sections(cheap: &Upstream, dear: &Upstream, traffic: &str) -> String {
    format!(
        "rules = []\n{}{}[[tiers]]\nname = \"low\"\ntargets = [\"cheap\"]\n[[tiers]]\nname = \"high\"\n\
         targets = [\"dear\"]\n[policy]\ndefault_tier = \"low\"\n[classifier]\nenabled = false\n\
         [completion.backoff]\nfirst_ms = 1\nmax_ms = 2\nretry_after_ms_max = 1\n\
         [completion.breaker]\nfailures = 1000000\nerror_ratio = 1.0\ncalls_min = 1000000\n\
         [traffic]\nflush_ms = 20\n{traffic}",
        target("cheap", "openai_compatible", cheap),
        target("dear", "anthropic", dear),
    )
}

/// What came back, with what stands in its headers.
async fn read(response: Response) -> String {
    let head = format!("{} {:?}", response.status(), response.headers());
    head + &response.text().await.unwrap_or_default()
}

/// Asks in every way, says something about every answer, and returns how many requests were decided.
async fn confess(server: &Process, confession: &Confession) -> usize {
    let secret_session = &confession.secrets[0];
    assert!(secret_session.contains('@'), "{secret_session}");
    let mut decided = 0;
    for echo in Echo::ALL {
        let text = format!("{} {}", echo.mark(), confession.text);
        let mut told = String::new();
        for (path, stream) in [
            ("/v1/chat/completions", false),
            ("/v1/chat/completions", true),
            ("/v1/messages", false),
            ("/v1/messages", true),
        ] {
            let body = json!({
                "model": "auto", "max_tokens": 1000, "stream": stream,
                "messages": [{ "role": "user", "content": text }],
                "pointsman": { "session_id": secret_session, "tags": [secret_session], "task_type": secret_session },
            });
            told += &read(server.client.post(server.url(path)).json(&body).send().await.unwrap()).await;
            decided += 1;
        }
        assert!(told.contains(secret_session) || matches!(echo, Echo::Page(_) | Echo::BrokenJson), "{told}");
        let mut service = RouterServiceClient::new(server.channel.clone());
        let context = Some(Context {
            session_id: secret_session.clone(),
            language: secret_session.clone(),
            ..Context::default()
        });
        let asked = CompleteRequest {
            prompt: Some(text.clone()),
            context: context.clone(),
            ..CompleteRequest::default()
        };
        // Errors are answers here too.
        let _ = service.complete(asked.clone()).await;
        if let Ok(messages) = service.stream_complete(asked).await {
            let mut messages = messages.into_inner();
            while let Ok(Some(_)) = messages.message().await {}
        }
        let request = RouteRequest { prompt: Some(text.clone()), context, ..RouteRequest::default() };
        let decision = service.route(request).await.unwrap().into_inner().decision.unwrap().decision_id;
        decided += 3;
        let feedback = json!({
            "decision_id": decision, "verdict": "bad", "feedback_id": secret_session,
            "comment": confession.text, "demonstration": confession.text, "right_intent": secret_session,
        });
        let answer = server.client.post(server.url("/v1/feedback")).json(&feedback).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!([200, 202].contains(&status), "{status}: {}", answer.text().await.unwrap());
    }
    mistakes(server, &confession.text).await;
    decided
}

/// Requests that are refused with the field at fault, whatever stands in it.
async fn mistakes(server: &Process, text: &str) {
    let message = json!([{ "role": "user", "content": text }]);
    for body in [
        json!({ "model": text, "messages": message }),
        json!({ "model": "auto", "messages": [{ "role": text, "content": text }] }),
        json!({ "model": "auto", "messages": message, "pointsman": { text: text } }),
        json!({ "model": "auto", "messages": message, "pointsman": { "tier_min": text } }),
        json!({ "model": "auto", "messages": message, "stream": text }),
        Value::from(text),
    ] {
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/route", "/v1/feedback"] {
            let answer = server.client.post(server.url(path)).json(&body).send().await.unwrap();
            assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
        }
    }
    let broken = format!("{{\"model\": \"auto\", \"messages\": {text}");
    let request = server.client.post(server.url("/v1/chat/completions")).body(broken);
    let answer = request.header("content-type", "application/json").send().await.unwrap();
    assert!(answer.status().is_client_error(), "{}", answer.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_store_the_log_or_the_metrics() {
    join_all(POLICIES.map(async |policy| {
        let confession = Confession::new();
        let (cheap, dear) =
            (upstream(Place::Cheap, &confession.text).await, upstream(Place::Dear, &confession.text).await);
        let traffic = format!("store = \"kept/traffic.sqlite\"\ntext = \"{policy}\"\n");
        let server = Process::start(&sections(&cheap, &dear, &traffic), &[]).await;
        let decided = confess(&server, &confession).await as f64;
        until("the records to be written", async || {
            metric(&server.metrics().await, "pointsman_traffic_written_total", &[]) >= decided
        })
        .await;
        // While it runs, the latest pages stand in a file of their own.
        assert!(server.folder().join("kept/traffic.sqlite-wal").exists());
        confession.check(policy, server.folder());
        let is_asked = |request: &Request| confession.told_in(&request.body).is_some();
        assert!(dear.requests().iter().any(is_asked), "nobody escalated");
        let (left, folder) = server.stop_and_keep().await;
        assert_eq!(confession.told_in(left.metrics.as_bytes()), None, "{policy}");
        assert!(left.log.contains("TRACE") && left.log.contains("attempt failed"), "{}", left.log);
        confession.check(policy, folder.path());
        keeps_marks(policy, &folder.path().join("kept/traffic.sqlite"));
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_spool() {
    join_all(POLICIES.map(async |policy| {
        let confession = Confession::new();
        let (cheap, dear) =
            (upstream(Place::Cheap, &confession.text).await, upstream(Place::Dear, &confession.text).await);
        let traffic = format!("postgres_url = \"env:TRAFFIC_URL\"\nspool = \"spool\"\ntext = \"{policy}\"\n");
        let nowhere = format!("postgres://user:password@{}/traffic", crate::support::NOBODY);
        let server =
            Process::start(&sections(&cheap, &dear, &traffic), &[("TRAFFIC_URL", nowhere.as_str())]).await;
        let decided = confess(&server, &confession).await as f64;
        until("the records to be in the spool", async || {
            metric(&server.metrics().await, "pointsman_traffic_spooled", &[]) >= decided
        })
        .await;
        confession.check(policy, server.folder());
        let (left, folder) = server.stop_and_keep().await;
        assert_eq!(confession.told_in(left.metrics.as_bytes()), None, "{policy}");
        confession.check(policy, folder.path());
        let spool = fs::read_dir(folder.path().join("spool")).unwrap();
        let longest =
            spool.map(|file| file.unwrap().path()).max_by_key(|file| fs::metadata(file).unwrap().len());
        keeps_marks(policy, &longest.unwrap());
    }))
    .await;
}

/// Asserts that texts were looked at, where they are kept, and that nothing is where they are not.
fn keeps_marks(policy: &str, file: &Path) {
    let held = fs::read(file).unwrap();
    let held = String::from_utf8_lossy(&held);
    for mark in MARKS {
        assert_eq!(held.contains(mark), policy == "redacted", "{policy}: {mark} in {}", file.display());
    }
    for words in ["Please send the invoice to", "You said this", "cannot be processed"] {
        let is_prompt = words.starts_with("Please");
        assert_eq!(held.contains(words), is_prompt && policy == "redacted", "{policy}: {words:?}");
    }
}
