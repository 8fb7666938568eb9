//! Canned answers over real sockets: what is sent, what comes back, and how each fault is told.

use std::{fs, sync::Mutex, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{wire::canned::collected, *};
use crate::{
    completion::{
        answer::View,
        attempt::{Again, Stage},
        chat::Chat,
        dialect::anthropic::read,
    },
    config::{KeySource, OutputLimit, Protocol, default_config},
};

const SECRET: &str = "sk-ant-secret-0001";

/// Answers the first connections with these bytes, one each, and returns the requests.
async fn upstream(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "the request broke off");
            }
            socket.write_all(&answer).await.unwrap();
            socket.shutdown().await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    });
    (base_url, served)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.trim().parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}

fn answered(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn json_answer(body: &Value) -> Vec<u8> {
    answered("200 OK", "content-type: application/json\r\n", &body.to_string())
}

/// A stream that ends with the connection.
fn streamed(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn written(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("?")))
        .collect()
}

/// The library's provider, which only notes that it was asked.
#[derive(Default)]
struct Library(Mutex<Vec<&'static str>>);

impl Provider for Library {
    fn complete(&self, _call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        self.0.lock().unwrap().push("complete");
        async { Err(failed(ErrorKind::Refused, "the library was asked")) }.boxed()
    }

    fn stream(&self, _call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        self.0.lock().unwrap().push("stream");
        async { Err(failed(ErrorKind::Refused, "the library was asked")) }.boxed()
    }
}

fn key_files(keys: &[&str]) -> (TempDir, Vec<KeySource>) {
    let folder = tempfile::tempdir().unwrap();
    let sources = keys
        .iter()
        .enumerate()
        .map(|(at, key)| {
            let path = folder.path().join(format!("key-{at}"));
            fs::write(&path, key).unwrap();
            KeySource::File(path)
        })
        .collect();
    (folder, sources)
}

fn config(base_url: String, keys: Vec<KeySource>) -> ProviderConfig {
    ProviderConfig {
        name: Arc::from("anthropic"),
        protocol: Protocol::Anthropic,
        base_url: Some(base_url),
        keys,
        key_header: KeyHeader::Named("x-api-key".to_owned()),
        headers: vec![("x-team".to_owned(), "blue".to_owned())],
        query: vec![("zone".to_owned(), "a b".to_owned())],
        stream_usage: true,
        beta: Vec::new(),
        output_limit: OutputLimit::MaxTokens,
        replay: Vec::new(),
        drop: Vec::new(),
        script: None,
    }
}

const LIMITS: WireLimits =
    WireLimits { connect: Duration::from_secs(60), answer_bytes_max: 64 << 10, line_bytes_max: 8 << 10 };

fn provider(base_url: String, keys: Vec<KeySource>) -> Anthropic {
    Anthropic::new(&config(base_url, keys), LIMITS, Arc::new(Library::default())).unwrap()
}

fn request() -> Value {
    json!({
        "model": "auto",
        "stream": true,
        "max_tokens": 100,
        "novel_field": { "kept": [1, 2.5, null] },
        "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content":
                [{ "type": "thinking", "thinking": "hm", "signature": "EqQB" }, { "type": "text", "text": "yes" }] },
            { "role": "user", "content": "go on" },
        ],
        "pointsman": { "tenant": "acme" },
    })
}

fn call() -> Call {
    let Value::Object(body) = request() else { unreachable!() };
    let mut target = default_config().targets[0].clone();
    target.model = Arc::from("claude-test-1");
    Call { chat: Arc::new(read(body).unwrap().chat), target: Arc::new(target) }
}

fn message() -> Value {
    json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-test-1-2026",
        "content": [{ "type": "text", "text": "Hello" }], "stop_reason": "end_turn",
        "usage": { "input_tokens": 3, "output_tokens": 1, "service_tier": "standard" },
        "novel_field": { "kept": true },
    })
}

fn events() -> Vec<Value> {
    vec![
        json!({ "type": "message_start", "message": { "id": "msg_01", "usage": { "input_tokens": 3 } } }),
        json!({ "type": "ping" }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hel" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "lo" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 2 } }),
        json!({ "type": "message_stop" }),
    ]
}

fn raws(pieces: &[Piece]) -> Vec<Value> {
    pieces
        .iter()
        .map(|piece| match &piece.raw {
            Raw::Anthropic(value) => value.clone(),
            other @ Raw::OpenAi(_) => panic!("{other:?}"),
        })
        .collect()
}

/// Returns the head in lower case, and the body.
fn split(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn the_body_goes_up_and_the_message_comes_back_unchanged() {
    let (base_url, served) = upstream(vec![json_answer(&message())]).await;
    let (_folder, keys) = key_files(&[SECRET]);
    let answer = provider(base_url, keys).complete(call()).await.unwrap();
    assert_eq!(answer.raw, Raw::Anthropic(message()));
    assert_eq!((&*answer.view.text, answer.dropped_parameters.len()), ("Hello", 0));

    let (head, body) = split(&served.await.unwrap()[0]);
    assert!(head.starts_with("post /v1/messages?zone=a+b http/1.1\r\n"), "{head}");
    for line in [
        "x-api-key: sk-ant-secret-0001",
        "anthropic-version: 2023-06-01",
        "content-type: application/json",
        "accept: application/json",
        "x-team: blue",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("authorization"));
    let Value::Object(mut wanted) = request() else { unreachable!() };
    wanted.retain(|name, _| !["stream", "pointsman"].contains(&name.as_str()));
    wanted.insert("model".to_owned(), json!("claude-test-1"));
    assert_eq!(body, Value::Object(wanted));
}

#[tokio::test]
async fn every_event_comes_back_unchanged() {
    // What comes after the last event is not read.
    let stream = written(&events()) + "event: error\ndata: {}\n\n";
    let (base_url, served) = upstream(vec![streamed(&stream)]).await;
    let (_folder, keys) = key_files(&[SECRET]);
    let (pieces, error) = collected(provider(base_url, keys).stream(call()).await.unwrap()).await;
    assert_eq!((raws(&pieces), error), (events(), None));
    let mut view = View::default();
    pieces.iter().for_each(|piece| view.add(&piece.delta));
    assert_eq!((&*view.text, view.usage.unwrap().output_tokens), ("Hello", 2));
    let (head, body) = split(&served.await.unwrap()[0]);
    assert!(head.contains("accept: text/event-stream"));
    assert_eq!(body["stream"], true);
}

#[tokio::test]
async fn a_stream_that_breaks_off_anywhere_is_cut() {
    let whole = events();
    for count in 0..whole.len() {
        let (base_url, _served) = upstream(vec![streamed(&written(&whole[..count]))]).await;
        let started = provider(base_url, Vec::new()).stream(call()).await.unwrap();
        let (pieces, error) = collected(started).await;
        assert_eq!(raws(&pieces), whole[..count]);
        assert_eq!(error.unwrap().kind, ErrorKind::Cut, "after {count} events");
    }
    // An end that gives no reason.
    let mut unsaid = whole.clone();
    unsaid.remove(6);
    let (base_url, _served) = upstream(vec![streamed(&written(&unsaid))]).await;
    let (pieces, error) = collected(provider(base_url, Vec::new()).stream(call()).await.unwrap()).await;
    assert_eq!((pieces.len(), error.unwrap().kind), (6, ErrorKind::Cut));
}

#[tokio::test]
async fn faults_within_a_stream_are_told_by_kind() {
    async fn check(bad: &str, kind: ErrorKind) {
        let stream = written(&events()[..4]) + bad;
        let (base_url, _served) = upstream(vec![streamed(&stream)]).await;
        let (_folder, keys) = key_files(&[SECRET]);
        let (pieces, error) = collected(provider(base_url, keys).stream(call()).await.unwrap()).await;
        let error = error.unwrap();
        assert_eq!((pieces.len(), error.kind), (4, kind), "{bad:.80}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    let event = |kind: &str| {
        let error = json!({ "type": kind, "message": format!("key {SECRET} is busy") });
        format!("event: error\ndata: {}\n\n", json!({ "type": "error", "error": error }))
    };
    check(&event("overloaded_error"), ErrorKind::Overloaded).await;
    check(&event("api_error"), ErrorKind::Server).await;
    check(&event("novel_error"), ErrorKind::ErrorEvent).await;
    check("event: error\ndata: {}\n\n", ErrorKind::ErrorEvent).await;
    check("event: ping\ndata: {\"type\":\n\n", ErrorKind::Malformed).await;
    check("data: {}\n\n", ErrorKind::Malformed).await;
    check("data: {\"type\":\"content_block_stop\"}\n\n", ErrorKind::Malformed).await;
    check(&format!("data: {}\n\n", "x".repeat(9 << 10)), ErrorKind::TooLarge).await;
}

#[tokio::test]
async fn only_what_is_said_counts_as_the_answer() {
    async fn check(text: &str, count: usize, kind: Option<ErrorKind>) {
        let delta = json!({ "type": "content_block_delta", "index": 0, "padding": "x".repeat(1000),
            "delta": { "type": "text_delta", "text": text } });
        let all = events();
        let stream = written(&all[..2]) + &written(&vec![delta; count]) + &written(&all[2..]);
        let (base_url, _served) = upstream(vec![streamed(&stream)]).await;
        let (_, error) = collected(provider(base_url, Vec::new()).stream(call()).await.unwrap()).await;
        assert_eq!(error.map(|error| error.kind), kind, "{count}");
    }
    check("a", 100, None).await;
    check(&"a".repeat(1000), 60, None).await;
    check(&"a".repeat(1000), 70, Some(ErrorKind::TooLarge)).await;
}

#[tokio::test]
async fn answers_that_are_none_are_told_by_kind() {
    async fn check(answer: Vec<u8>, kind: ErrorKind) {
        let (base_url, _served) = upstream(vec![answer.clone(), answer]).await;
        let (_folder, keys) = key_files(&[SECRET]);
        let provider = provider(base_url, keys);
        let whole = provider.complete(call()).await.unwrap_err();
        let Err(stream) = provider.stream(call()).await else { panic!("the stream began") };
        for error in [whole, stream] {
            assert_eq!(error.kind, kind, "{error}");
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }
    let error = |kind: &str| {
        json!({ "type": "error", "error": { "type": kind, "message": format!("{SECRET}: no") } }).to_string()
    };
    let json_type = "content-type: application/json\r\n";
    check(answered("529 Overloaded", json_type, &error("overloaded_error")), ErrorKind::Overloaded).await;
    check(answered("500 Error", json_type, &error("api_error")), ErrorKind::Server).await;
    check(answered("400 Bad", json_type, &error("invalid_request_error")), ErrorKind::Refused).await;
    check(answered("404 None", json_type, &error("not_found_error")), ErrorKind::NotFound).await;
    check(answered("504 Late", json_type, ""), ErrorKind::Timeout(Stage::Total)).await;
    check(answered("307 Moved", "location: http://127.0.0.1:9/\r\n", ""), ErrorKind::Redirect).await;
    check(answered("200 OK", json_type, &error("overloaded_error")), ErrorKind::Overloaded).await;
    check(answered("200 OK", json_type, ""), ErrorKind::Malformed).await;
    check(answered("200 OK", json_type, "{\"type\":"), ErrorKind::Malformed).await;
    check(answered("200 OK", json_type, "{\"type\":\"message\"}"), ErrorKind::Malformed).await;
    check(answered("200 OK", json_type, "{\"content\":[]}"), ErrorKind::Malformed).await;
    check(answered("200 OK", "content-type: text/html\r\n", "<p>"), ErrorKind::Malformed).await;
}

#[tokio::test]
async fn a_refused_key_gives_way_to_the_next() {
    let json_type = "content-type: application/json\r\n";
    let (base_url, served) = upstream(vec![
        answered("401 No", json_type, "{}"),
        json_answer(&message()),
        answered("429 Slow", &format!("{json_type}retry-after: 7\r\n"), "{}"),
    ])
    .await;
    let (_folder, keys) = key_files(&["sk-ant-first-key", "sk-ant-second-key"]);
    let provider = provider(base_url, keys);
    let refused = provider.complete(call()).await.unwrap_err();
    assert_eq!((refused.kind, refused.again), (ErrorKind::Unauthorized, Again::Now));
    provider.complete(call()).await.unwrap();
    let limited = provider.complete(call()).await.unwrap_err();
    assert_eq!((limited.kind, limited.again), (ErrorKind::RateLimited, Again::After(Duration::from_secs(7))));
    let used: Vec<bool> =
        served.await.unwrap().iter().map(|request| request.contains("sk-ant-second-key")).collect();
    assert_eq!(used, [false, true, true]);
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let missing = KeySource::File("/nonexistent/key".into());
    let error = provider("http://127.0.0.1:9".to_owned(), vec![missing]).complete(call()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoKey);
}

#[tokio::test]
async fn beta_features_that_the_operator_lists_go_upstream() {
    let check = async |listed: &[&str], sent: &str, dropped: &[&str]| {
        let (base_url, served) = upstream(vec![json_answer(&message())]).await;
        let mut config = config(base_url, Vec::new());
        config.beta = listed.iter().map(|name| (*name).to_owned()).collect();
        let provider = Anthropic::new(&config, LIMITS, Arc::new(Library::default())).unwrap();
        let native = call();
        let beta = vec!["first-1".to_owned(), "second-2".to_owned()];
        let chat = Chat { beta, ..(*native.chat).clone() };
        let answer = provider.complete(Call { chat: Arc::new(chat), ..native }).await.unwrap();
        assert_eq!(answer.dropped_parameters, dropped);
        let request = served.await.unwrap().remove(0).to_lowercase();
        let found = request.lines().find_map(|line| line.strip_prefix("anthropic-beta: "));
        assert_eq!(found.unwrap_or_default(), sent, "{listed:?}");
    };
    check(&[], "", &["anthropic-beta:first-1", "anthropic-beta:second-2"]).await;
    check(&["second-2", "third"], "second-2", &["anthropic-beta:first-1"]).await;
    check(&["*"], "first-1,second-2", &[]).await;
}

#[tokio::test]
async fn a_key_may_be_sent_as_a_bearer_token() {
    let (base_url, served) = upstream(vec![json_answer(&message())]).await;
    let (_folder, keys) = key_files(&["sk-ant-first-key"]);
    let config = ProviderConfig { key_header: KeyHeader::Bearer, ..config(base_url, keys) };
    let provider = Anthropic::new(&config, LIMITS, Arc::new(Library::default())).unwrap();
    provider.complete(call()).await.unwrap();
    let request = served.await.unwrap().remove(0).to_lowercase();
    assert!(request.contains("authorization: bearer sk-ant-first-key\r\n"), "{request}");
    assert!(!request.contains("x-api-key"), "{request}");
}

#[tokio::test]
async fn callers_of_the_other_dialect_are_the_librarys() {
    let library = Arc::new(Library::default());
    let config = config("http://127.0.0.1:9".to_owned(), Vec::new());
    let provider = Anthropic::new(&config, LIMITS, Arc::clone(&library) as Arc<dyn Provider>).unwrap();
    let native = call();
    let chat = Chat { anthropic: None, ..(*native.chat).clone() };
    let call = Call { chat: Arc::new(chat), ..native };
    assert!(provider.complete(call.clone()).await.is_err());
    assert!(provider.stream(call).await.is_err());
    assert_eq!(*library.0.lock().unwrap(), ["complete", "stream"]);
}

#[test]
fn a_bad_configuration_is_told_without_its_secrets() {
    let check = |change: fn(&mut ProviderConfig), problem: &str| {
        let mut config = config("http://127.0.0.1:9/v1".to_owned(), Vec::new());
        change(&mut config);
        let error = Anthropic::new(&config, LIMITS, Arc::new(Library::default())).err().unwrap();
        assert_eq!(error, problem);
    };
    check(
        |config| config.base_url = Some("nowhere".to_owned()),
        "base_url is no address: relative URL without a base",
    );
    check(|config| config.headers[0].0 = "a b".to_owned(), "\"a b\" is no header's name");
    check(
        |config| config.headers[0].1 = "secret\n".to_owned(),
        "header x-team holds characters that a header cannot",
    );
    check(
        |config| config.key_header = KeyHeader::Named("a b".to_owned()),
        "key_header: \"a b\" is no header's name",
    );
}
