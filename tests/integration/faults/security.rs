//! Where a call goes, and as whom, is the configuration's alone: nothing that a caller or a provider sends
//! changes it, and nothing that a provider sends gets into the head of an answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use pointsman::server::proto::{
    ChatMessage, CompleteRequest, ContentPart, ImageUrl, content_part::Part,
    router_service_client::RouterServiceClient,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    process::Process,
    world::{Called, LIMITS, Speaks, TIERS, place},
};
use crate::support::{
    PATIENCE,
    upstream::{Behaviour, Request, Upstream, usage},
};

const KEY: &str = "the0operators0own0key";
const CALLERS_KEY: &str = "sk-callers-own-key";
const GOOD: &str = "The parcel left the depot this morning and arrives tomorrow before noon.";

/// A server with one upstream behind all targets, and a place that nobody may ever call.
struct Guarded {
    server: Process,
    upstream: Upstream,
    trap: Upstream,
}

impl Guarded {
    async fn start(speaks: Speaks) -> Self {
        Self::answering(speaks, move |request| {
            Called { streams: request.streams(), nth: 0, speaks }.answer(GOOD)
        })
        .await
    }

    async fn answering(speaks: Speaks, answer: impl FnMut(&Request) -> Behaviour + Send + 'static) -> Self {
        let upstream = Upstream::answering(answer).await;
        let trap = Upstream::start([Behaviour::openai("Followed.", usage(1, 1))]).await;
        let more =
            "keys = [\"env:FAULTS_KEY\"]\nheaders = { x-team = \"ours\" }\nquery = { api-version = \"1\" }\n";
        let sections: String = ["a", "b", "c", "d"]
            .iter()
            .map(|target| place(target, speaks, &upstream.base_url(), more))
            .collect();
        let server = Process::start(&format!("{sections}{TIERS}{LIMITS}"), &[("FAULTS_KEY", KEY)]).await;
        Self { server, upstream, trap }
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.server.client.post(self.server.url(path)).json(body).send().await.unwrap()
    }

    /// Sends bytes as they are on a connection of their own, and returns what comes until it is closed.
    async fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.server.http).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server may reset a connection that it refused in the middle of a request.
        let _: std::io::Result<usize> = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap_or_else(|_| panic!("no end: {bytes}: {:?}", String::from_utf8_lossy(&answer)));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asserts that every call upstream went where it should, with the headers that it should have and no other.
    async fn stop(self) -> Vec<Request> {
        let requests = self.upstream.requests();
        for request in &requests {
            check_request(request, self.upstream.address);
        }
        assert_eq!(self.trap.accepted_connections(), 0, "somewhere else was called");
        self.server.stop().await;
        requests
    }
}

fn check_request(request: &Request, address: SocketAddr) {
    let is_anthropic = request.path.starts_with("/v1/messages");
    let path = if is_anthropic { "messages" } else { "chat/completions" };
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", &*format!("/v1/{path}?api-version=1"))
    );
    let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in &request.headers {
        assert!(headers.insert(name, value).is_none(), "{name} twice: {:?}", request.headers);
    }
    let length = request.body.len().to_string();
    let address = address.to_string();
    let bearer = format!("Bearer {KEY}");
    let mut expected = BTreeMap::from([
        ("host", address.as_str()),
        ("content-length", length.as_str()),
        ("content-type", "application/json"),
        ("x-team", "ours"),
    ]);
    if is_anthropic {
        expected.extend([("x-api-key", KEY), ("anthropic-version", "2023-06-01")]);
    } else {
        expected.insert("authorization", &bearer);
    }
    let agent = headers.remove("user-agent");
    assert!(agent.is_none_or(|agent| agent.starts_with("pointsman/")), "{agent:?}");
    let accepted = headers.remove("accept").expect("every call says what it accepts");
    assert!(["application/json", "text/event-stream", "*/*"].contains(&accepted), "{accepted}");
    assert_eq!(headers, expected);
}

fn chat(more: &Value) -> Value {
    let mut body = json!({
        "model": "auto", "max_tokens": 50, "messages": [{ "role": "user", "content": "Where is my parcel?" }],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const PATHS: [&str; 2] = ["/v1/chat/completions", "/v1/messages"];

#[tokio::test(flavor = "multi_thread")]
async fn no_field_of_a_body_leads_a_call_elsewhere() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let guarded = Guarded::start(speaks).await;
        let trap = guarded.trap.base_url();
        let mut calls = 0;
        for path in PATHS {
            for name in
                ["base_url", "api_base", "url", "endpoint", "host", "proxy", "organization", "api_key"]
            {
                for stream in [false, true] {
                    let response = guarded.post(path, &chat(&json!({ name: trap, "stream": stream }))).await;
                    assert_eq!(response.status(), 200, "{path} {name}");
                    response.bytes().await.unwrap();
                    calls += 1;
                }
            }
            for name in ["headers", "extra_headers", "extra_query", "extra_body", "default_headers"] {
                let fields = json!({
                    "authorization": format!("Bearer {CALLERS_KEY}"), "x-api-key": CALLERS_KEY, "host": trap,
                    "base_url": trap, "x-team": "theirs", "api-version": "2",
                });
                let response = guarded.post(path, &chat(&json!({ name: fields }))).await;
                assert_eq!(response.status(), 200, "{path} {name}");
                calls += 1;
            }
        }
        let requests = guarded.stop().await;
        assert_eq!(requests.len(), calls);
        for request in requests {
            assert!(request.json()["model"].as_str().unwrap().starts_with("model-"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_name_is_no_address() {
    let guarded = Guarded::start(Speaks::Anthropic).await;
    let trap = guarded.trap.address;
    let names = [
        "../a".to_owned(),
        "../../v1/models".to_owned(),
        "a/../../b".to_owned(),
        "a?x=1".to_owned(),
        "a#b".to_owned(),
        format!("a@{trap}"),
        format!("http://{trap}/v1"),
        format!("//{trap}"),
        format!("anthropic::{trap}"),
        "a\r\nx-evil: 1".to_owned(),
        "a\nb".to_owned(),
        "a\0".to_owned(),
        "a%2f..%2fb".to_owned(),
        " a".to_owned(),
        "tier:../low".to_owned(),
        "tier:low\r\n".to_owned(),
        "x".repeat(100_000),
    ];
    for name in &names {
        for path in PATHS {
            let response = guarded.post(path, &chat(&json!({ "model": name }))).await;
            let (status, body) = (response.status().as_u16(), response.text().await.unwrap());
            assert!(matches!(status, 400 | 404), "{name:?}: {status} {body}");
            assert!(body.len() < 4096, "{} bytes", body.len());
        }
        let request = CompleteRequest {
            prompt: Some("Where?".to_owned()),
            model: Some(name.clone()),
            ..CompleteRequest::default()
        };
        let mut client = RouterServiceClient::new(guarded.server.channel.clone());
        let status = client.complete(request).await.unwrap_err();
        assert!(matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::NotFound), "{status:?}");
    }
    assert!(guarded.stop().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_a_caller_goes_upstream() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let guarded = Guarded::start(speaks).await;
        let trap = guarded.trap.address.to_string();
        let bearer = format!("Bearer {CALLERS_KEY}");
        for path in PATHS {
            for stream in [false, true] {
                let url = guarded.server.url(path);
                let mut request = guarded
                    .server
                    .client
                    .post(url)
                    .json(&chat(&json!({ "stream": stream })))
                    .header("host", &trap);
                for (name, value) in [
                    ("authorization", &*bearer),
                    ("proxy-authorization", &bearer),
                    ("x-api-key", CALLERS_KEY),
                    ("api-key", CALLERS_KEY),
                    ("x-goog-api-key", CALLERS_KEY),
                    ("cookie", "session=1"),
                    ("x-forwarded-host", &trap),
                    ("x-forwarded-for", "10.0.0.1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-prefix", "/elsewhere"),
                    ("forwarded", "host=elsewhere"),
                    ("x-original-url", "/elsewhere"),
                    ("x-rewrite-url", "/elsewhere"),
                    ("x-http-method-override", "GET"),
                    ("openai-organization", "org-theirs"),
                    ("openai-project", "theirs"),
                    ("anthropic-beta", "theirs"),
                    ("anthropic-version", "1999-01-01"),
                    ("x-team", "theirs"),
                    ("accept-encoding", "gzip"),
                    ("user-agent", "theirs"),
                    ("accept", "text/plain"),
                    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                    ("connection", "x-hop"),
                    ("x-hop", "1"),
                    ("te", "trailers"),
                ] {
                    request = request.header(name, value);
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                response.bytes().await.unwrap();
            }
        }
        let mut request = tonic::Request::new(CompleteRequest {
            prompt: Some("Where?".to_owned()),
            ..CompleteRequest::default()
        });
        for name in ["authorization", "x-api-key", "x-forwarded-host", "cookie", "x-team", "anthropic-beta"] {
            request.metadata_mut().insert(name, "theirs".parse().unwrap());
        }
        RouterServiceClient::new(guarded.server.channel.clone()).complete(request).await.unwrap();
        assert_eq!(guarded.stop().await.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_a_request_leads_a_call_elsewhere() {
    let guarded = Guarded::start(Speaks::OpenAi).await;
    let trap = guarded.trap.address;
    let body = chat(&json!({})).to_string();
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let head = "connection: close\r\ncontent-type: application/json\r\n";
    let path = "/v1/chat/completions";
    let plain = format!("{head}content-length: {length}\r\n\r\n{body}");
    let check = async |what: &str, bytes: String, allowed: &[&str]| {
        let answer = guarded.send(&bytes).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(allowed.contains(&status), "{what}: {answer:?}");
    };
    // Absolute and authority forms name a place; it is not gone to.
    check(
        "absolute",
        format!("POST http://{trap}{path} HTTP/1.1\r\nhost: {trap}\r\n{plain}"),
        &["200", "400", "404"],
    )
    .await;
    check(
        "absolute, another host",
        format!("POST http://{trap}{path} HTTP/1.1\r\nhost: localhost\r\n{plain}"),
        &["200", "400", "404"],
    )
    .await;
    check(
        "connect",
        format!("CONNECT {trap} HTTP/1.1\r\nhost: {trap}\r\nconnection: close\r\n\r\n"),
        &["400", "404", "405"],
    )
    .await;
    check(
        "dots",
        format!("POST /v1/../v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{plain}"),
        &["400", "404"],
    )
    .await;
    check(
        "a path in a path",
        format!("POST /http://{trap}/v1 HTTP/1.1\r\nhost: localhost\r\n{plain}"),
        &["400", "404"],
    )
    .await;
    // A query is nobody's business upstream.
    check(
        "query",
        format!("POST {path}?api-version=2&key=x HTTP/1.1\r\nhost: localhost\r\n{plain}"),
        &["200"],
    )
    .await;
    check(
        "chunked",
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}transfer-encoding: chunked\r\n\r\n{chunked}"
        ),
        &["200"],
    )
    .await;
    // Two ways to tell the length: a second request may hide in the difference.
    let hidden = format!("POST {path} HTTP/1.1\r\nhost: {trap}\r\ncontent-length: 0\r\n\r\n");
    check(
        "both lengths",
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
             {chunked}{hidden}"
        ),
        &["200", "400"],
    )
    .await;
    check(
        "an unknown encoding",
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}transfer-encoding: xchunked\r\n\r\n{chunked}"
        ),
        &["400", "501", ""],
    )
    .await;
    check(
        "two lengths",
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 1\r\ncontent-length: {length}\r\n\r\n{body}"),
        &["400"],
    )
    .await;
    check(
        "a folded header",
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r\n x-api-key: b\r\n{plain}"),
        &["200", "400"],
    )
    .await;
    let requests = guarded.stop().await;
    assert!((2..=6).contains(&requests.len()), "{}", requests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_told_and_not_followed() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let to: Arc<Mutex<Option<(u16, String)>>> = Arc::default();
        let next = Arc::clone(&to);
        let guarded = Guarded::answering(speaks, move |_| {
            let (status, location) = next.lock().unwrap().clone().unwrap();
            Behaviour::plain(status, "text/plain", "moved").header("location", &location)
        })
        .await;
        let trap = guarded.trap.base_url();
        let mut calls = 0;
        for status in [301, 302, 303, 307, 308] {
            for location in [&trap, "/v1/elsewhere", "?api-version=2"] {
                *to.lock().unwrap() = Some((status, location.to_owned()));
                for path in PATHS {
                    for stream in [false, true] {
                        let response = guarded.post(path, &chat(&json!({ "stream": stream }))).await;
                        assert!(response.headers().get("location").is_none());
                        let told: Value = response.json().await.unwrap();
                        let attempts = told["error"]["pointsman"]["attempts"].as_array().unwrap();
                        // Each target once: it would redirect again.
                        assert_eq!(attempts.len(), 4, "{told}");
                        for attempt in attempts {
                            assert_eq!(
                                (&attempt["error"], &attempt["status"]),
                                (&json!("redirect"), &json!(status))
                            );
                        }
                        assert!(!told.to_string().contains(&guarded.trap.address.to_string()), "{told}");
                        calls += 4;
                    }
                }
            }
        }
        assert_eq!(guarded.stop().await.len(), calls);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_a_provider_gets_into_an_answer() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let status = Arc::new(Mutex::new(200));
        let answered = Arc::clone(&status);
        let guarded = Guarded::answering(speaks, move |request| {
            let behaviour = match *answered.lock().unwrap() {
                200 => Called { streams: request.streams(), nth: 0, speaks }.answer(GOOD),
                other => Behaviour::error(other, "scripted trouble"),
            };
            behaviour
                .header("x-pointsman-tier", "forged")
                .header("x-pointsman-cost-usd", "forged")
                .header("x-request-id", "forged")
                .header("request-id", "forged")
                .header("set-cookie", "forged=1")
                .header("location", "forged")
                .header("server", "forged")
                .header("access-control-allow-origin", "forged")
                .header("strict-transport-security", "forged")
                .header("x-should-retry", "forged")
                .header("openai-organization", "forged")
                .header("x-ratelimit-remaining-requests", "forged")
        })
        .await;
        for answer in [200, 400, 404] {
            *status.lock().unwrap() = answer;
            for path in PATHS {
                for stream in [false, true] {
                    let response = guarded.post(path, &chat(&json!({ "stream": stream }))).await;
                    assert_eq!(response.status() == 200, answer == 200);
                    let head = format!("{:?}", response.headers());
                    assert!(!head.contains("forged"), "{head}");
                    if answer == 200 {
                        assert_eq!(response.headers()["x-pointsman-tier"], "low");
                    }
                    response.bytes().await.unwrap();
                }
            }
            let request = CompleteRequest { prompt: Some("Where?".to_owned()), ..CompleteRequest::default() };
            let mut client = RouterServiceClient::new(guarded.server.channel.clone());
            let metadata = match client.complete(request).await {
                Ok(response) => response.metadata().clone(),
                Err(status) => status.metadata().clone(),
            };
            assert!(!format!("{metadata:?}").contains("forged"), "{metadata:?}");
        }
        guarded.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_picture_is_fetched() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let guarded = Guarded::start(speaks).await;
        let url = format!("http://{}/picture.png", guarded.trap.address);
        let files = ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "gopher://127.0.0.1/"];
        for url in [url.as_str()].iter().chain(&files) {
            let parts = json!([{ "type": "text", "text": "What is this?" }, {
                "type": "image_url", "image_url": { "url": url },
            }]);
            let messages = json!([{ "role": "user", "content": parts }]);
            let response = guarded.post(PATHS[0], &chat(&json!({ "messages": messages }))).await;
            // Some providers take no such address: that is the provider's to say, or refused before.
            assert!(matches!(response.status().as_u16(), 200 | 400), "{:?}", response.text().await);
            let source = json!({ "type": "image", "source": { "type": "url", "url": url } });
            let messages = json!([{ "role": "user", "content": [source] }]);
            let response = guarded.post(PATHS[1], &chat(&json!({ "messages": messages }))).await;
            assert!(matches!(response.status().as_u16(), 200 | 400), "{:?}", response.text().await);
            let part = Part::ImageUrl(ImageUrl { url: (*url).to_owned(), ..ImageUrl::default() });
            let message = ChatMessage {
                role: "user".to_owned(),
                parts: vec![ContentPart { part: Some(part) }],
                ..ChatMessage::default()
            };
            let request = CompleteRequest { messages: vec![message], ..CompleteRequest::default() };
            let _ = RouterServiceClient::new(guarded.server.channel.clone()).complete(request).await;
        }
        let requests = guarded.stop().await;
        let told = requests.iter().filter(|request| String::from_utf8_lossy(&request.body).contains(&url));
        assert!(told.count() >= 2, "the provider gets the address");
    }
}
