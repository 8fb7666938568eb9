use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    completion::{
        answer::{Finish, Piece, View},
        attempt::Again,
        chat::Chat,
        providers::wire::canned::{Canned, Reply, Seen, Then, collected, read_request},
    },
    config::{KeySource, OutputLimit, Protocol, TargetConfig, default_config},
};

const LIMITS: WireLimits =
    WireLimits { connect: Duration::from_secs(60), answer_bytes_max: 10_000, line_bytes_max: 4000 };
const KEYS: [&str; 2] = ["test-key-number-one", "test-key-number-two"];

fn config(url: &str, folder: &tempfile::TempDir) -> ProviderConfig {
    let file = |key: &&str| {
        let path = folder.path().join(key);
        std::fs::write(&path, key).unwrap();
        KeySource::File(path)
    };
    ProviderConfig {
        name: Arc::from("upstream"),
        protocol: Protocol::OpenAi,
        base_url: Some(format!("{url}/v1/")),
        keys: KEYS.iter().map(file).collect(),
        key_header: KeyHeader::Bearer,
        headers: vec![("x-team".to_owned(), "router".to_owned())],
        query: vec![("api-version".to_owned(), "2025 a&b".to_owned())],
        stream_usage: true,
        beta: Vec::new(),
        output_limit: OutputLimit::MaxTokens,
        replay: Vec::new(),
        drop: Vec::new(),
        script: None,
    }
}

fn provider(server: &Canned) -> OpenAi {
    OpenAi::new(&config(&server.url(), &tempfile::tempdir().unwrap()), LIMITS).unwrap()
}

fn call(fields: Value) -> Call {
    let Value::Object(openai) = fields else { panic!("not an object") };
    let target = TargetConfig { model: Arc::from("the-model"), ..default_config().targets[0].clone() };
    let chat = Chat { openai, ..Chat::default() };
    Call { chat: Arc::new(chat), target: Arc::new(target) }
}

fn hello() -> Call {
    call(json!({"messages": [{"role": "user", "content": "hello"}]}))
}

async fn completed(reply: Reply) -> Result<Answer, ProviderError> {
    let server = Canned::serve(vec![reply]).await;
    provider(&server).complete(hello()).await
}

async fn streamed(reply: Reply) -> (Vec<Piece>, Option<ProviderError>) {
    let server = Canned::serve(vec![reply]).await;
    match provider(&server).stream(hello()).await {
        Ok(started) => collected(started).await,
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn text_of(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.delta.text.as_str()).collect()
}

fn said(content: &str) -> String {
    let chunk =
        json!({"id": "c", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn finished() -> String {
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    format!("data: {chunk}\n\n")
}

fn header<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let lines = seen.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn what_is_sent_and_what_comes_back_is_unchanged() {
    let body = json!({
        "id": "x", "object": "chat.completion", "model": "the-model-2026", "x_new": {"deep": [1.5, null]},
        "choices": [{
            "index": 0, "finish_reason": "stop", "x_more": true,
            "message": {"role": "assistant", "content": "hi", "annotations": []},
            "logprobs": {"content": [{"token": "hi", "logprob": -0.25, "bytes": [104, 105], "top_logprobs": []}]},
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "x_energy": 3},
        "service_tier": "default",
    });
    let mut server = Canned::serve(vec![Reply::json("200 OK", &body.to_string())]).await;
    let fields = json!({
        "messages": [{"role": "user", "content": "hello", "x": 1}], "x_unknown": {"a": [1, 2.5]}, "logprobs": true,
        "temperature": 0.1,
    });
    let answer = provider(&server).complete(call(fields.clone())).await.unwrap();
    assert_eq!(answer.raw, Raw::OpenAi(body));
    assert_eq!((answer.view.text.as_str(), answer.view.finish), ("hi", Some(Finish::Stop)));
    assert_eq!(answer.view.logprobs.mean(), Some(-0.25));
    assert_eq!(answer.dropped_parameters, Vec::<String>::new());

    let seen = server.seen().await;
    let mut wanted = fields;
    wanted["model"] = json!("the-model");
    assert_eq!(seen.json(), wanted);
    assert_eq!(seen.head.lines().next(), Some("POST /v1/chat/completions?api-version=2025+a%26b HTTP/1.1"));
    assert_eq!(header(&seen, "authorization"), ["Bearer test-key-number-one"]);
    assert_eq!(header(&seen, "x-team"), ["router"]);
    assert_eq!(header(&seen, "content-type"), ["application/json"]);
    assert_eq!(header(&seen, "user-agent"), [concat!("pointsman/", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(header(&seen, "accept-encoding"), Vec::<&str>::new());
}

#[tokio::test]
async fn streams_are_asked_for_with_usage_and_come_back_unchanged() {
    let chunks = [
        json!({"id": "c", "choices": [], "prompt_filter_results": [{}]}),
        json!({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "x": 1}]}),
        json!({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}}]}),
        json!({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "function": {"arguments": "{}"}}]}}], "obfuscation": "zzz"}),
        json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": null}),
        json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}),
    ];
    let mut body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    body.push_str("data: [DONE]\n\n");
    let mut server = Canned::serve(vec![Reply::events(&body)]).await;
    let fields = json!({"messages": [], "stream_options": {"include_obfuscation": true}, "top_k": 3});
    let started = provider(&server).stream(call(fields)).await.ok().unwrap();
    let (pieces, error) = collected(started).await;
    assert_eq!(error, None);
    let raws: Vec<_> = pieces.iter().map(|piece| piece.raw.clone()).collect();
    assert_eq!(raws, chunks.map(Raw::OpenAi));
    let mut view = View::default();
    pieces.iter().for_each(|piece| view.add(&piece.delta));
    assert_eq!((view.tool_calls[0].name.as_str(), view.tool_calls[0].arguments.as_str()), ("f", "{}"));
    assert_eq!(view.usage.map(|usage| usage.output_tokens), Some(3));

    let seen = server.seen().await;
    let options = json!({"include_obfuscation": true, "include_usage": true});
    let wanted =
        json!({"model": "the-model", "messages": [], "top_k": 3, "stream": true, "stream_options": options});
    assert_eq!(seen.json(), wanted);
    assert_eq!(header(&seen, "accept"), ["text/event-stream"]);
}

#[tokio::test]
async fn what_the_target_refuses_is_not_sent_and_told() {
    let whole = json!({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]});
    let replies = vec![Reply::json("200 OK", &whole.to_string()), Reply::events(&finished())];
    let mut server = Canned::serve(replies).await;
    let folder = tempfile::tempdir().unwrap();
    let output_limit = OutputLimit::MaxCompletionTokens;
    let provider =
        OpenAi::new(&ProviderConfig { output_limit, ..config(&server.url(), &folder) }, LIMITS).unwrap();
    let call = call(json!({
        "messages": [{"role": "assistant", "content": "x", "reasoning_content": "why"}], "temperature": 0,
        "max_tokens": 5,
    }));
    let target = TargetConfig { drop: vec!["temperature".to_owned()], ..TargetConfig::clone(&call.target) };
    let call = Call { target: Arc::new(target), ..call };
    let answer = provider.complete(call.clone()).await.unwrap();
    let started = provider.stream(call).await.ok().unwrap();
    for dropped in [answer.dropped_parameters, started.dropped_parameters] {
        assert_eq!(dropped, ["temperature", "messages[].reasoning_content"]);
        let sent = server.seen().await.json();
        assert_eq!(sent["messages"], json!([{"role": "assistant", "content": "x"}]));
        assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(5), None));
        assert_eq!(sent.get("temperature"), None);
    }
}

#[tokio::test]
async fn a_conversation_that_lost_a_part_is_not_sent() {
    let mut server = Canned::serve(vec![Reply::json("200 OK", "{}")]).await;
    let Call { chat, target } = hello();
    let lost = vec!["document by address".to_owned(), "container_upload".to_owned()];
    let call = Call { chat: Arc::new(Chat { lost, ..Chat::clone(&chat) }), target };
    let whole = provider(&server).complete(call.clone()).await.unwrap_err();
    let stream = provider(&server).stream(call).await.err().unwrap();
    for error in [whole, stream] {
        assert_eq!(error.kind, ErrorKind::Refused);
        let words = "messages hold what cannot be sent to this target: document by address, container_upload";
        assert_eq!(error.message, words);
    }
    assert!(server.is_quiet());
}

#[tokio::test]
async fn a_connection_serves_again_after_a_stream() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (ended, mut is_ended) = tokio::sync::mpsc::channel(2);
    // One connection; a second one would be left waiting.
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            read_request(&mut socket).await.unwrap();
            let body = format!("{}{}data: [DONE]\n\n", said("a"), finished());
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let begun = format!("{head}{:x}\r\n{body}\r\n", body.len());
            socket.write_all(begun.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            socket.write_all(b"0\r\n\r\n").await.unwrap();
            ended.send(()).await.unwrap();
        }
    });
    let provider = OpenAi::new(&config(&url, &tempfile::tempdir().unwrap()), LIMITS).unwrap();
    for _ in 0..2 {
        let (pieces, error) = collected(provider.stream(hello()).await.ok().unwrap()).await;
        assert_eq!((text_of(&pieces).as_str(), error), ("a", None));
        is_ended.recv().await.unwrap();
        // All run on one thread: with each wait the connection gets its turn to read the end, however busy the machine is.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_knows_no_stream_usage_is_not_asked_for_it() {
    let mut server = Canned::serve(vec![Reply::events(&finished())]).await;
    let folder = tempfile::tempdir().unwrap();
    let config = ProviderConfig { stream_usage: false, ..config(&server.url(), &folder) };
    let provider = OpenAi::new(&config, LIMITS).unwrap();
    assert!(provider.stream(hello()).await.is_ok());
    assert_eq!(server.seen().await.json().get("stream_options"), None);
}

#[tokio::test]
async fn nothing_in_a_request_changes_where_it_goes() {
    let reply = json!({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]});
    let mut server = Canned::serve(vec![Reply::json("200 OK", &reply.to_string())]).await;
    let fields = json!({
        "messages": [], "model": "other", "stream": true, "stream_options": {"a": 1}, "base_url": "http://192.0.2.1",
        "api_key": "theirs", "headers": {"authorization": "Bearer theirs", "host": "elsewhere"},
        "extra_headers": {"x-team": "them"}, "url": "http://192.0.2.1", "path": "/admin\r\nhost: elsewhere",
    });
    provider(&server).complete(call(fields)).await.unwrap();
    let seen = server.seen().await;
    assert_eq!(header(&seen, "authorization"), ["Bearer test-key-number-one"]);
    assert_eq!(header(&seen, "x-team"), ["router"]);
    assert_eq!(header(&seen, "host"), [server.url().trim_start_matches("http://")]);
    assert_eq!(seen.head.lines().count(), 8, "{}", seen.head);
    assert_eq!((seen.json()["model"].as_str(), seen.json().get("stream")), (Some("the-model"), None));
}

#[tokio::test]
async fn bad_answers_are_errors() {
    let check = async |reply: Reply, kind: ErrorKind, words: &str| {
        let error = completed(reply).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    check(Reply::json("200 OK", "{}"), ErrorKind::Malformed, "choices is missing").await;
    check(Reply::json("200 OK", "[]"), ErrorKind::Malformed, "choices is missing").await;
    check(Reply::json("200 OK", r#"{"choices":[]}"#), ErrorKind::Malformed, "no choices").await;
    check(Reply::json("200 OK", ""), ErrorKind::Malformed, "empty").await;
    check(Reply::events("data: {}\n\n"), ErrorKind::Malformed, "got text/event-stream").await;
    let inner = r#"{"error":{"message":"slow down","code":429}}"#;
    check(Reply::json("200 OK", inner), ErrorKind::RateLimited, "slow down").await;
    check(Reply::json("200 OK", r#"{"error":{"message":"odd"}}"#), ErrorKind::ErrorEvent, "odd").await;
}

#[tokio::test]
async fn streams_end_cleanly_only_when_the_answer_is_whole() {
    let check = async |body: String, text: &str, kind: Option<ErrorKind>| {
        let (pieces, error) = streamed(Reply::events(&body)).await;
        assert_eq!((text_of(&pieces).as_str(), error.map(|error| error.kind)), (text, kind), "{body}");
    };
    let done = "data: [DONE]\n\n";
    let whole = format!("{}{}", said("a"), finished());
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    let second = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n";
    check(format!("{whole}{done}"), "a", None).await;
    check(whole.clone(), "a", None).await;
    check(format!("{whole}{usage}{done}"), "a", None).await;
    check(format!("{whole}{done}{}", said("never read")), "a", None).await;
    check(format!("{whole}data: [DONE]"), "a", None).await;
    check(done.to_owned(), "", Some(ErrorKind::Cut)).await;
    check(String::new(), "", Some(ErrorKind::Cut)).await;
    check(format!("{}{done}", said("a")), "a", Some(ErrorKind::Cut)).await;
    check(said("a"), "a", Some(ErrorKind::Cut)).await;
    check(format!("{second}{whole}{done}"), "a", Some(ErrorKind::Cut)).await;
    check(format!("{}data: {{bad\n\n{}", said("a"), finished()), "a", Some(ErrorKind::Malformed)).await;
    check(format!("{}dta: {{}}\n\n{}", said("a"), finished()), "", Some(ErrorKind::Malformed)).await;
    check(format!("{}data: {{}}\n\n", said("a")), "a", Some(ErrorKind::Malformed)).await;
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    check(format!("{}{error}{}", said("a"), finished()), "a", Some(ErrorKind::ErrorEvent)).await;
    let named = "event: error\ndata: {\"message\":\"broken\"}\n\n";
    check(format!("{}{named}", said("a")), "a", Some(ErrorKind::ErrorEvent)).await;
    check(format!("data: {}\n\n", "x".repeat(5000)), "", Some(ErrorKind::TooLarge)).await;
    let endless: String = (0..6).map(|_| said(&"x".repeat(2000))).collect();
    check(endless, &"x".repeat(10_000), Some(ErrorKind::TooLarge)).await;
}

#[tokio::test]
async fn a_cut_after_any_token_is_an_error() {
    for tokens in [0, 1, 40] {
        let body: String = (0..tokens).map(|_| said("a")).collect();
        let reply = if tokens == 0 {
            Reply::raw(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
                Then::Close,
            )
        } else {
            Reply::unfinished_events(&body, Then::Close)
        };
        let (pieces, error) = streamed(reply).await;
        assert_eq!((pieces.len(), error.unwrap().kind), (tokens, ErrorKind::Cut));
    }
}

#[tokio::test]
async fn nothing_is_awaited_after_the_end() {
    let body = format!("{}{}data: [DONE]\n\n", said("a"), finished());
    let (pieces, error) = streamed(Reply::unfinished_events(&body, Then::Stall)).await;
    assert_eq!((pieces.len(), error), (2, None));
}

#[tokio::test]
async fn a_whole_answer_to_a_stream_comes_in_pieces() {
    let whole = json!({
        "id": "x", "object": "chat.completion", "x_new": 1,
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "hi",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3},
    });
    let (pieces, error) = streamed(Reply::json("200 OK", &whole.to_string())).await;
    assert_eq!(error, None);
    let Raw::OpenAi(first) = &pieces[0].raw else { panic!("another dialect") };
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(first["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
    let mut view = View::default();
    pieces.iter().for_each(|piece| view.add(&piece.delta));
    assert_eq!(view, crate::completion::dialect::openai::view(&whole).unwrap());

    let (_, error) =
        streamed(Reply::json("200 OK", r#"{"error":{"type":"overloaded_error","message":"x"}}"#)).await;
    assert_eq!(error.unwrap().kind, ErrorKind::Overloaded);
    let unfinished = json!({"choices": [{"index": 0, "message": {"content": "x"}}]});
    let (_, error) = streamed(Reply::json("200 OK", &unfinished.to_string())).await;
    assert_eq!(error.unwrap().kind, ErrorKind::Cut);
}

#[tokio::test]
async fn keys_change_by_the_kind_of_failure() {
    for (status, kind) in [
        ("401 Unauthorized", ErrorKind::Unauthorized),
        ("402 Payment Required", ErrorKind::Unpaid),
        ("403 Forbidden", ErrorKind::Unauthorized),
        ("429 Too Many Requests", ErrorKind::RateLimited),
    ] {
        let refusal = |key: &str| {
            let error = json!({"message": format!("no {key}"), "code": "invalid_api_key"});
            Reply::json(status, &json!({ "error": error }).to_string())
        };
        let mut server = Canned::serve(KEYS.iter().map(|key| refusal(key)).collect()).await;
        let provider = provider(&server);
        let first = provider.complete(hello()).await.unwrap_err();
        assert_eq!((first.kind, first.again), (kind, Again::Now), "{status}");
        let second = provider.stream(hello()).await.err().unwrap();
        assert_eq!((second.kind, second.again), (kind, Again::Usual), "{status}");
        for (key, error) in KEYS.iter().zip([first, second]) {
            assert_eq!(header(&server.seen().await, "authorization"), [format!("Bearer {key}")]);
            assert_eq!(error.message, "no [removed]");
        }
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let mut server = Canned::serve(vec![Reply::json("200 OK", "{}")]).await;
    let keys = vec![KeySource::File(PathBuf::from("/nonexistent/key"))];
    let config = ProviderConfig { keys, ..config(&server.url(), &tempfile::tempdir().unwrap()) };
    let error = OpenAi::new(&config, LIMITS).unwrap().complete(hello()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoKey);
    assert_eq!(error.message, "no usable key: file:/nonexistent/key cannot be read as a text file");
    assert!(server.is_quiet());
}

#[tokio::test]
async fn a_key_may_have_a_header_of_its_own() {
    let mut server = Canned::serve(vec![Reply::json("500 Oh", "")]).await;
    let folder = tempfile::tempdir().unwrap();
    let config = ProviderConfig {
        key_header: KeyHeader::Named("api-key".to_owned()),
        ..config(&server.url(), &folder)
    };
    OpenAi::new(&config, LIMITS).unwrap().complete(hello()).await.unwrap_err();
    let seen = server.seen().await;
    assert_eq!(header(&seen, "api-key"), ["test-key-number-one"]);
    assert_eq!(header(&seen, "authorization"), Vec::<&str>::new());
}

#[test]
fn bad_configurations_are_named_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let check = |change: &dyn Fn(&mut ProviderConfig), wanted: &str| {
        let mut config = config("http://127.0.0.1:1", &folder);
        change(&mut config);
        let error = OpenAi::new(&config, LIMITS).unwrap_err();
        assert!(error.contains(wanted) && !error.contains("hidden"), "{error}");
    };
    check(&|config| config.base_url = None, "base_url is missing");
    check(&|config| config.base_url = Some("no address".to_owned()), "base_url is no URL");
    check(&|config| config.base_url = Some("ftp://host".to_owned()), "no address of an HTTP server");
    check(&|config| config.base_url = Some("https://me:hidden@host/v1".to_owned()), "a user or a password");
    check(&|config| config.base_url = Some("https://host/v1?key=hidden".to_owned()), "holds a query");
    check(&|config| config.headers = vec![("x-a".to_owned(), "hidden\n".to_owned())], "headers.x-a holds");
    check(
        &|config| config.headers = vec![("bad name".to_owned(), String::new())],
        "headers.bad name is no name",
    );
    check(&|config| config.headers = vec![("content-length".to_owned(), "1".to_owned())], "set by pointsman");
    check(&|config| config.key_header = KeyHeader::Named("bad name".to_owned()), "key_header is no name");
    let path = folder.path().join("broken");
    std::fs::write(&path, "hidden\nkey").unwrap();
    check(&|config| config.keys = vec![KeySource::File(path.clone())], "broken holds characters");
}

#[test]
fn no_key_shows_in_debug_output() {
    let provider = OpenAi::new(&config("http://127.0.0.1:1", &tempfile::tempdir().unwrap()), LIMITS).unwrap();
    let shown = format!("{provider:?}");
    assert!(KEYS.iter().all(|key| !shown.contains(key)), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_means_the_same_however_its_bytes_arrive(cuts in prop::collection::vec(1..400_usize, 1..6), keep in 0..400_usize) {
        let body = format!("{}: wait\n\n{}{}data: [DONE]\n\n", said("hé🦀"), said("llo"), finished());
        let whole_until = body.find("data: [DONE]").unwrap();
        let keep = keep.min(body.len());
        let mut reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let mut rest = &body.as_bytes()[..keep];
        let mut sizes = cuts.iter().cycle();
        while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            reply.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            reply.extend_from_slice(chunk);
            reply.extend_from_slice(b"\r\n");
            rest = after;
        }
        reply.extend_from_slice(b"0\r\n\r\n");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (pieces, error) = runtime.block_on(streamed(Reply::raw(reply, Then::Close)));
        if keep >= whole_until {
            prop_assert_eq!((text_of(&pieces), error), ("hé🦀llo".to_owned(), None));
        } else {
            prop_assert_eq!(error.unwrap().kind, ErrorKind::Cut);
        }
    }
}
