//! Keys never leave by any way but to their provider, also when the provider sends them back.

use std::sync::{Arc, Mutex};

use pointsman::server::proto::{CompleteRequest, router_service_client::RouterServiceClient};
use serde_json::json;
use tonic::Status;

use super::{
    callers::{Ask, failure},
    process::Process,
    world::{Called, LIMITS, Speaks, TARGETS, TIERS, long, place},
};
use crate::{
    cli::{pointsman, text},
    support::upstream::{Behaviour, Request, Upstream},
};

/// As providers make them, and one that looks like nothing.
const KEYS: [&str; 3] =
    ["sk-proj-Tm90QVJlYWxLZXk0NTY3ODkw", "zq8Vn3Lr0XyPw5Tt", "AIzaSyNotARealKeyNotARealKey123456"];
/// What an operator sends in a header of his own is nobody else's business either.
const HEADER: &str = "team-token-81f3b2";
const CALLERS_KEY: &str = "sk-callers-own-0123456789";

/// Of every provider; enough for each refusal to meet one that is still good.
const KEYS_HELD: usize = 64;
/// In which it is asked.
const WAYS: usize = 6;

/// How a provider sends a key back.
type Echo = fn(Called, &str) -> Behaviour;

const ECHOES: [(&str, Echo); 12] = [
    ("bad request", |_, key| Behaviour::error(400, &format!("header authorization=Bearer {key} is bad"))),
    ("plain text", |_, key| Behaviour::plain(500, "text/plain", format!("crash: {key}"))),
    ("page", |_, key| Behaviour::plain(200, "text/html", format!("<html>{key}</html>"))),
    ("headers", |_, key| {
        Behaviour::error(503, "trouble")
            .header("x-key", key)
            .header("location", key)
            .header("set-cookie", key)
    }),
    ("content type", |_, key| Behaviour::plain(200, &format!("text/{key}"), "trouble")),
    ("error in 200", |_, key| Behaviour::json(200, &json!({ "error": { "message": key, "code": key } }))),
    ("broken JSON", |_, key| Behaviour::plain(200, "application/json", format!("{{\"{key}\": "))),
    ("redirect", |_, key| Behaviour::redirect(&format!("http://user:{key}@127.0.0.1:1/{key}?key={key}"))),
    ("late event", |called, key| event(called, 40, key)),
    ("early event", |called, key| event(called, 0, key)),
    ("names", |_, key| {
        let error = json!({ "message": format!("\n{key}\n"), "type": key, "code": key, "param": key });
        Behaviour::json(429, &json!({ "error": error, "message": key, "detail": key }))
    }),
    ("refused", |_, key| Behaviour::error(401, &format!("Incorrect API key provided: {key}."))),
];

/// An error event inside a stream; for those who want it whole an error.
fn event(called: Called, tokens: usize, key: &str) -> Behaviour {
    let said = format!("your key {key} is over its quota");
    match (called.streams, called.speaks) {
        (false, _) => Behaviour::error(403, &said),
        (true, Speaks::OpenAi) => called.answer(&long()).error_event_after(tokens, &said),
        (true, Speaks::Anthropic) => called.answer(&long()).anthropic_error_event_after(tokens, &said),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_never_leave() {
    for key in KEYS {
        keep(Speaks::OpenAi, key, key).await;
    }
    keep(Speaks::OpenAi, KEYS[0], HEADER).await;
    // What has no shape is found only by knowing it.
    keep(Speaks::Anthropic, KEYS[1], KEYS[1]).await;
    keep(Speaks::Anthropic, KEYS[0], HEADER).await;
}

/// Asks over every way in while the provider sends a secret back in every way.
async fn keep(speaks: Speaks, key: &'static str, sent_back: &'static str) {
    let echo: Arc<Mutex<Echo>> = Arc::new(Mutex::new(ECHOES[0].1));
    let now = Arc::clone(&echo);
    let upstream = Upstream::answering(move |request: &Request| {
        let called = Called { streams: request.streams(), nth: 0, speaks };
        now.lock().unwrap()(called, sent_back)
    })
    .await;
    // Many, since one that was refused is not used again for a while.
    let keys: Vec<String> = (0..KEYS_HELD).map(|at| format!("\"env:FAULTS_KEY_{at}\"")).collect();
    let more = format!("keys = [{}]\nheaders = {{ x-team = \"{HEADER}\" }}\n", keys.join(", "));
    let sections: String =
        TARGETS.iter().map(|target| place(target, speaks, &upstream.base_url(), &more)).collect();
    let names: Vec<String> = (0..KEYS_HELD).map(|at| format!("FAULTS_KEY_{at}")).collect();
    let environment: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), key)).collect();
    let server = Process::start(&format!("{sections}{TIERS}{LIMITS}"), &environment).await;
    let mut told = String::new();
    for (name, now) in ECHOES {
        *echo.lock().unwrap() = now;
        let calls = upstream.requests().len();
        let answers = everything(&server).await;
        assert!(upstream.requests().len() >= calls + WAYS, "{name}: not everybody was answered by it");
        told += &answers;
    }
    for path in ["/metrics", "/v1/models", "/readyz"] {
        told += &server.client.get(server.url(path)).send().await.unwrap().text().await.unwrap();
    }
    for command in ["targets", "spend"] {
        let output = pointsman(&[command, "--admin", &server.admin, "--json"], b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        told += &text(&output.stdout);
    }
    assert!(told.contains("[removed]"), "{told}");
    let sent = format!("{:?}", upstream.requests());
    assert!(sent.contains(key) && sent.contains(HEADER) && !sent.contains(CALLERS_KEY));
    let left = server.stop().await;
    assert!(left.log.contains("TRACE"), "{}", left.log);
    for (what, text) in [("answers", &told), ("metrics", &left.metrics), ("log", &left.log)] {
        for secret in [key, HEADER, CALLERS_KEY] {
            let found = text.find(secret).map(|at| &text[at.saturating_sub(200)..at + secret.len()]);
            assert!(found.is_none(), "{speaks:?}: {secret} in the {what}: {found:?}");
        }
    }
}

/// Returns heads and bodies of all answers, and statuses with their details.
async fn everything(server: &Process) -> String {
    let mut told = String::new();
    let ask = Ask::text("Tell me where my parcel is.");
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for stream in [false, true] {
            let mut body = ask.json();
            body["stream"] = stream.into();
            let request = server.client.post(server.url(path)).json(&body).bearer_auth(CALLERS_KEY);
            let response = request.send().await.unwrap();
            told += &format!("{:?}", response.headers());
            told += &response.text().await.unwrap();
        }
    }
    let mut client = RouterServiceClient::new(server.channel.clone());
    match client.complete(ask.proto()).await {
        Ok(response) => told += &format!("{response:?}"),
        Err(status) => told += &all_of(&status),
    }
    let raw = CompleteRequest { include_raw: true, explain: true, ..ask.proto() };
    match client.stream_complete(raw).await {
        Err(status) => told += &all_of(&status),
        Ok(messages) => {
            let mut messages = messages.into_inner();
            loop {
                match messages.message().await {
                    Ok(Some(message)) => told += &format!("{message:?}"),
                    Ok(None) => break,
                    Err(status) => {
                        told += &all_of(&status);
                        break;
                    }
                }
            }
        }
    }
    told
}

fn all_of(status: &Status) -> String {
    format!("{status:?} {:?} {}", failure(status), String::from_utf8_lossy(status.details()))
}
