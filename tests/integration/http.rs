//! Completions, models and decisions over HTTP, from a client's request to an upstream socket and back.

use std::time::Duration;

use futures::StreamExt;
use pointsman::config::Config;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, TestServer, config, until,
    upstream::{Behaviour, Upstream, usage},
};

/// The first target of tier simple, whose provider is the upstream.
const TARGET: &str = "gpt-6-luna";

fn config_with(upstream: &Upstream, sections: &str) -> Config {
    config(&format!(
        "[classifier]\nenabled = false\n{sections}\n[[providers]]\nname = \"openai\"\nkeys = []\n\
         base_url = \"{}\"\n",
        upstream.base_url()
    ))
}

/// An answer longer than what is held back at its beginning, one word a token.
fn long() -> String {
    "words ".repeat(40)
}

/// More tokens than are held back, and fewer than all.
const MIDDLE: usize = 20;

async fn start(upstream: &Upstream) -> TestServer {
    TestServer::start(config_with(upstream, ""), None).await
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

fn post(server: &TestServer, path: &str, body: &Value) -> RequestBuilder {
    client().post(format!("http://{}{path}", server.http)).json(body)
}

async fn get(server: &TestServer, path: &str) -> Response {
    client().get(format!("http://{}{path}", server.http)).send().await.unwrap()
}

/// A request for the upstream's target; fields of `more` are added.
fn chat(more: &Value) -> Value {
    let mut body = json!({"model": TARGET, "messages": [{"role": "user", "content": "hello there"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn message(more: &Value) -> Value {
    chat(
        &json!({"max_tokens": 100})
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .chain(more.as_object().unwrap().clone())
            .collect(),
    )
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn json_of(response: Response) -> (StatusCode, Value) {
    (response.status(), response.json().await.unwrap())
}

fn data(body: &str) -> Vec<&str> {
    body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_comes_back_as_the_provider_gave_it() {
    let answer = json!({
        "id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": "luna-2026-10-01",
        "system_fingerprint": "fp_1", "x_unknown": {"kept": [1, 2]},
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello to you as well.", "refusal": null},
            "logprobs": {"content": [{"token": "Hello", "logprob": -0.1, "bytes": null, "top_logprobs": []}]},
        }],
        "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
    });
    let upstream = Upstream::start([Behaviour::json(200, &answer)]).await;
    let server = start(&upstream).await;
    let response = post(&server, "/v1/chat/completions", &chat(&json!({"seed": 7, "x_future": {"a": 1}})))
        .bearer_auth("sk-callers-own")
        .header("x-forwarded-host", "evil.example")
        .header("x-pointsman-tenant", "team-a")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    for (name, expected) in [
        ("x-pointsman-tier", "simple"),
        ("x-pointsman-decided-tier", "simple"),
        ("x-pointsman-target", TARGET),
        ("x-pointsman-model", TARGET),
        ("x-pointsman-source", "override"),
        ("x-pointsman-attempts", "1"),
        ("x-pointsman-escalated", "false"),
        ("x-pointsman-estimated", "false"),
        // 9 tokens at $0.10 a million, 6 at $0.50.
        ("x-pointsman-cost-usd", "0.0000039"),
        ("x-pointsman-weak", ""),
    ] {
        assert_eq!(header(&response, name), expected, "{name}");
    }
    for name in ["x-pointsman-decision-id", "x-pointsman-overhead-ms", "x-request-id", "request-id"] {
        assert!(!header(&response, name).is_empty(), "{name}");
    }
    assert_eq!(response.json::<Value>().await.unwrap(), answer);

    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/v1/chat/completions"));
    let sent = requests[0].json();
    assert_eq!(
        sent,
        json!({
            "model": TARGET, "messages": [{"role": "user", "content": "hello there"}],
            "seed": 7, "x_future": {"a": 1},
        })
    );
    let head = format!("{:?}", requests[0].headers);
    for secret in ["sk-callers-own", "evil.example", "x-pointsman", "team-a"] {
        assert!(!head.contains(secret), "{secret}: {head}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_back_chunk_by_chunk() {
    let upstream = Upstream::start([Behaviour::openai_stream("one two three", usage(9, 3))]).await;
    let server = start(&upstream).await;
    let response =
        post(&server, "/v1/chat/completions", &chat(&json!({"stream": true}))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(header(&response, "content-type").starts_with("text/event-stream"));
    assert_eq!(header(&response, "cache-control"), "no-cache");
    assert_eq!(header(&response, "x-accel-buffering"), "no");
    assert_eq!(header(&response, "x-pointsman-target"), TARGET);
    assert_eq!(header(&response, "x-pointsman-cost-usd"), "", "not known yet");
    let body = response.text().await.unwrap();
    assert_eq!(*data(&body).last().unwrap(), "[DONE]");
    assert!(!body.contains("usage"), "{body}");
    // Asked for although the caller did not: its cost must be known.
    assert_eq!(upstream.requests()[0].json()["stream_options"]["include_usage"], true);

    let asked = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let body = post(&server, "/v1/chat/completions", &asked).send().await.unwrap().text().await.unwrap();
    let events = data(&body);
    let last: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(9)));
    assert_eq!(last["pointsman"]["target"], TARGET);
    assert_eq!(last["pointsman"]["cost_usd"], 0.000_002_4);
    assert_eq!(last["pointsman"]["estimated"], false);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_ends_in_an_error_in_both_dialects() {
    let cut = Behaviour::openai_stream(&long(), usage(9, 40)).cut_after_tokens(MIDDLE);
    let upstream = Upstream::start([cut]).await;
    let server = start(&upstream).await;
    let response =
        post(&server, "/v1/chat/completions", &chat(&json!({"stream": true}))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.text().await.unwrap();
    let events = data(&body);
    let error: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "broken_off");
    assert_eq!(error["error"]["pointsman"]["attempts"][0]["error"], "cut");
    assert!(!body.contains("[DONE]"), "{body}");

    let response = post(&server, "/v1/messages", &message(&json!({"stream": true}))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.text().await.unwrap();
    assert!(body.contains("event: error\ndata: {\"type\":\"error\""), "{body}");
    assert!(!body.contains("message_stop"), "{body}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_first_token_is_a_plain_error() {
    let limited = Behaviour::error(429, "slow down").header("retry-after", "7200");
    let upstream = Upstream::start([limited]).await;
    let server = start(&upstream).await;
    for stream in [false, true] {
        let body = chat(&json!({"stream": stream}));
        let response = post(&server, "/v1/chat/completions", &body).send().await.unwrap();
        assert_eq!(response.status(), 429);
        // Less what has passed since the provider said so.
        let again_s: u64 = header(&response, "retry-after").parse().unwrap();
        assert!((7100..=7200).contains(&again_s), "{again_s}");
        assert_eq!(header(&response, "x-pointsman-decided-tier"), "simple");
        assert_eq!(header(&response, "x-pointsman-attempts"), "1");
        let (_, body) = json_of(response).await;
        assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        let attempts = body["error"]["pointsman"]["attempts"].as_array().unwrap();
        assert_eq!((&attempts[0]["target"], &attempts[0]["status"]), (&json!(TARGET), &json!(429)));
        let response =
            post(&server, "/v1/messages", &message(&json!({"stream": stream}))).send().await.unwrap();
        let (status, body) = json_of(response).await;
        assert_eq!((status.as_u16(), &body["error"]["type"]), (429, &json!("rate_limit_error")));
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_ends_the_upstream_call() {
    let stall = Behaviour::openai_stream(&long(), usage(9, 40)).stall_after_tokens(MIDDLE);
    let upstream = Upstream::start([stall, Behaviour::openai("late", usage(1, 1)).slow_head(PATIENCE)]).await;
    let server = start(&upstream).await;
    let mut chunks = post(&server, "/v1/chat/completions", &chat(&json!({"stream": true})))
        .send()
        .await
        .unwrap()
        .bytes_stream();
    chunks.next().await.unwrap().unwrap();
    assert!(upstream.requests()[0].hung_up.is_none());
    drop(chunks);
    until("the stream's upstream to be left", async || upstream.requests()[0].hung_up.is_some()).await;

    let whole = tokio::spawn(post(&server, "/v1/chat/completions", &chat(&json!({}))).send());
    until("the second request", async || upstream.requests().len() == 2).await;
    whole.abort();
    until("the answer's upstream to be left", async || upstream.requests()[1].hung_up.is_some()).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_say_how_long_it_waits() {
    let upstream = Upstream::start([Behaviour::openai("late", usage(1, 1)).slow_head(PATIENCE)]).await;
    let server = start(&upstream).await;
    let response = post(&server, "/v1/chat/completions", &chat(&json!({})))
        .header("x-pointsman-timeout-ms", "200")
        .send()
        .await
        .unwrap();
    let (status, body) = json_of(response).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (504, &json!("deadline_exceeded")), "{body}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_answered_by_targets_of_the_other_dialect() {
    let upstream = Upstream::answering(|request| {
        if request.streams() {
            Behaviour::openai_stream("Hello to you", usage(9, 3))
        } else {
            Behaviour::openai("Hello to you", usage(9, 3))
        }
    })
    .await;
    let server = start(&upstream).await;
    let asked = message(&json!({"system": "Be kind.", "top_k": 3}));
    let response = post(&server, "/v1/messages", &asked).send().await.unwrap();
    assert_eq!(header(&response, "x-pointsman-dropped-parameters"), "top_k");
    let (status, body) = json_of(response).await;
    assert_eq!((status.as_u16(), &body["type"]), (200, &json!("message")));
    assert_eq!(body["content"], json!([{"type": "text", "text": "Hello to you"}]));
    assert_eq!((&body["stop_reason"], &body["model"]), (&json!("end_turn"), &json!(TARGET)));
    assert_eq!(body["usage"]["input_tokens"], 9);
    let sent = upstream.requests()[0].json();
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be kind."}));

    let response = post(&server, "/v1/messages", &message(&json!({"stream": true}))).send().await.unwrap();
    let body = response.text().await.unwrap();
    let names: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("message_start", "message_stop"));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    let upstream = Upstream::start([Behaviour::openai("never asked", usage(1, 1))]).await;
    let server = TestServer::start(config_with(&upstream, "[limits]\nmessages_max = 3\n"), None).await;
    let check = async |path: &str, body: Value, status: u16, param: Value, words: &str| {
        let response = post(&server, path, &body).send().await.unwrap();
        assert!(!header(&response, "x-request-id").is_empty());
        let (got, told) = json_of(response).await;
        assert_eq!(got.as_u16(), status, "{told}");
        assert_eq!(told["error"]["param"], param, "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains(words), "{told}");
    };
    let chat_path = "/v1/chat/completions";
    let unknown = chat(&json!({"model": "gpt-4o"}));
    check(chat_path, unknown.clone(), 404, json!("model"), "no model named \"gpt-4o\"").await;
    check(chat_path, chat(&json!({"model": "tier:huge"})), 404, json!("model"), "no tier named").await;
    check(chat_path, chat(&json!({"messages": []})), 400, json!("messages"), "is empty").await;
    check(chat_path, chat(&json!({"stream": 1})), 400, json!("stream"), "not true or false").await;
    let many = chat(&json!({"messages": vec![json!({"role": "user", "content": "a"}); 4]}));
    check(chat_path, many, 400, json!("messages"), "4 messages, at most 3").await;
    let quality = chat(&json!({"pointsman": {"quality": 7}}));
    check(chat_path, quality, 400, json!("pointsman.quality"), "7 is not within 0 to 1").await;
    check(chat_path, json!([]), 400, Value::Null, "not a JSON object").await;
    check("/v1/route", json!({"prompt": "a", "qality": 1}), 400, json!("qality"), "is unknown").await;
    check("/v1/route", json!({}), 400, json!("messages"), "is empty").await;
    check("/v1/nothing", json!({}), 404, Value::Null, "nothing is at POST /v1/nothing").await;
    check("/v1/models", json!({}), 405, Value::Null, "does not take POST").await;

    let (status, told) = json_of(post(&server, "/v1/messages", &unknown).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &told["error"]["type"]), (400, &json!("invalid_request_error")), "{told}");
    let unknown = message(&json!({"model": "claude-3"}));
    let (status, told) = json_of(post(&server, "/v1/messages", &unknown).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &told["error"]["type"]), (404, &json!("not_found_error")));
    let (status, told) =
        json_of(post(&server, "/v1/messages/nothing", &json!({})).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &told["type"]), (404, &json!("error")));
    assert!(upstream.requests().is_empty());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_headers_and_bodies_is_told() {
    let upstream = Upstream::start([Behaviour::openai("never asked", usage(1, 1))]).await;
    let server = TestServer::start(config_with(&upstream, ""), None).await;
    let bytes_max = server.live.router().config().server.message_bytes_max;
    let path = "/v1/chat/completions";
    let url = format!("http://{}{path}", server.http);
    let check = async |request: RequestBuilder, status: u16, words: &str| {
        let (got, told) = json_of(request.send().await.unwrap()).await;
        assert_eq!(got.as_u16(), status, "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains(words), "{told}");
    };
    let asked = |name: &str, value: &str| post(&server, path, &chat(&json!({}))).header(name, value);
    check(asked("x-pointsman-quality", "good"), 400, "x-pointsman-quality: is not a number").await;
    check(asked("x-pointsman-tier-max", "huge"), 400, "x-pointsman-tier-max: no tier").await;
    check(asked("x-pointsman-sesion", "a"), 400, "x-pointsman-sesion: is unknown").await;
    let both = post(&server, path, &chat(&json!({"pointsman": {"tenant": "a"}})));
    let both = both.header("x-pointsman-tenant", "a");
    check(both, 400, "x-pointsman-tenant: and pointsman.tenant in the body are both set").await;

    let json_type = |body: Vec<u8>| client().post(&url).header("content-type", "application/json").body(body);
    check(json_type(b"{\"model\": \"auto\",\n  oops}".to_vec()), 400, "line 2 column 3").await;
    check(json_type(Vec::new()), 400, "empty").await;
    check(json_type(vec![b' '; bytes_max + 1]), 413, "server.message_bytes_max").await;
    check(
        client().post(&url).body(chat(&json!({})).to_string()).header("content-type", "text/plain"),
        415,
        "content-type",
    )
    .await;
    assert!(upstream.requests().is_empty());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_both_dialects() {
    let upstream = Upstream::start([Behaviour::openai("never asked", usage(1, 1))]).await;
    let server = start(&upstream).await;
    let (status, list) = json_of(get(&server, "/v1/models").await).await;
    assert_eq!((status.as_u16(), &list["object"]), (200, &json!("list")));
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..3], ["auto", "tier:simple", "tier:moderate"]);
    assert!(ids.contains(&TARGET) && ids.len() == 1 + 4 + 12, "{ids:?}");
    for id in ids {
        let (status, model) = json_of(get(&server, &format!("/v1/models/{id}")).await).await;
        assert_eq!((status.as_u16(), &model["id"], &model["object"]), (200, &json!(id), &json!("model")));
    }
    for unknown in ["gpt-4o", "%ff", "a/b"] {
        let (status, told) = json_of(get(&server, &format!("/v1/models/{unknown}")).await).await;
        assert_eq!((status.as_u16(), &told["error"]["code"]), (404, &json!("model_not_found")));
    }

    let as_anthropic = |path: &str| {
        client().get(format!("http://{}{path}", server.http)).header("anthropic-version", "2023-06-01")
    };
    let (_, list) = json_of(as_anthropic("/v1/models?limit=20").send().await.unwrap()).await;
    assert_eq!((&list["first_id"], &list["has_more"]), (&json!("auto"), &json!(false)));
    assert_eq!(list["data"][0]["type"], "model");
    let (_, model) = json_of(as_anthropic("/v1/models/auto").send().await.unwrap()).await;
    assert_eq!(model["display_name"], "auto");
    let (_, told) = json_of(as_anthropic("/v1/models/none").send().await.unwrap()).await;
    assert_eq!(told["error"]["type"], "not_found_error");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_json() {
    let upstream = Upstream::start([Behaviour::openai("never asked", usage(1, 1))]).await;
    let server = start(&upstream).await;
    let response = post(&server, "/v1/route", &json!({"prompt": "thanks!", "explain": true}))
        .header("x-pointsman-tier-min", "moderate")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "x-pointsman-tier"), "moderate");
    let (status, body) = json_of(response).await;
    assert_eq!((status.as_u16(), &body["decision"]["tier"]), (200, &json!("moderate")));
    assert_eq!(body["decision"]["rule_matches"][0]["rule"], "thanks");
    let all: Vec<String> = server.live.router().config().targets.iter().map(|t| t.id.to_string()).collect();
    let none = json!({"prompt": "a", "preferences": {"deny_targets": all}});
    let (status, body) = json_of(post(&server, "/v1/route", &none).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (422, &json!("no_target")), "{body}");
    assert!(upstream.requests().is_empty());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_estimated() {
    let upstream = Upstream::start([Behaviour::openai("never asked", usage(1, 1))]).await;
    let server = start(&upstream).await;
    let count = async |body: Value| {
        let (status, body) =
            json_of(post(&server, "/v1/messages/count_tokens", &body).send().await.unwrap()).await;
        assert_eq!(status, 200, "{body}");
        body["input_tokens"].as_u64().unwrap()
    };
    let asked = |more: Value| chat(&more);
    let short = count(asked(json!({}))).await;
    let long = count(asked(json!({"system": "Answer in the style of a lighthouse keeper."}))).await;
    let tool = json!({"name": "look", "description": "Looks out to sea", "input_schema": {"type": "object"}});
    let tools = count(asked(json!({"tools": [tool]}))).await;
    assert!(0 < short && short < long && short < tools, "{short} {long} {tools}");
    let (status, body) =
        json_of(post(&server, "/v1/messages/count_tokens", &json!({"model": "auto"})).send().await.unwrap())
            .await;
    assert_eq!((status.as_u16(), &body["type"]), (400, &json!("error")));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_where_a_client_begins_with_it() {
    let upstream = Upstream::start([Behaviour::openai_stream("one two three", usage(9, 3))]).await;
    let server = start(&upstream).await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}/v1/chat/completions", server.http);
    let response = client.post(&url).json(&chat(&json!({"stream": true}))).send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_end() {
    let slow = Behaviour::openai_stream(&long(), usage(9, 40)).slow_tokens(Duration::from_millis(20));
    let upstream = Upstream::start([slow]).await;
    let mut config = config_with(&upstream, "");
    config.server.drain = PATIENCE;
    let server = TestServer::start(config, None).await;
    let mut chunks = post(&server, "/v1/chat/completions", &chat(&json!({"stream": true})))
        .send()
        .await
        .unwrap()
        .bytes_stream();
    let mut body = chunks.next().await.unwrap().unwrap().to_vec();
    let stopping = tokio::spawn(server.stop());
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.unwrap());
    }
    assert!(String::from_utf8(body).unwrap().ends_with("data: [DONE]\n\n"));
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlasts_the_drain_does_not_end_as_if_it_were_whole() {
    let stall = Behaviour::openai_stream(&long(), usage(9, 40)).stall_after_tokens(MIDDLE);
    let upstream = Upstream::start([stall]).await;
    let mut config = config_with(&upstream, "");
    config.server.drain = Duration::from_millis(100);
    let server = TestServer::start(config, None).await;
    let mut chunks = post(&server, "/v1/chat/completions", &chat(&json!({"stream": true})))
        .send()
        .await
        .unwrap()
        .bytes_stream();
    chunks.next().await.unwrap().unwrap();
    server.stop().await.unwrap();
    let mut broken = false;
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(bytes) => assert!(!String::from_utf8_lossy(&bytes).contains("[DONE]")),
            Err(_) => broken = true,
        }
    }
    assert!(broken, "the body ended cleanly");
    until("the upstream to be left", async || upstream.requests()[0].hung_up.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_name_for_this_machine_is_refused_on_every_path() {
    let upstream = Upstream::start([Behaviour::json(200, &json!({}))]).await;
    let server = start(&upstream).await;
    for path in ["/v1/models", "/healthz", "/metrics", "/nowhere"] {
        let foreign =
            client().get(format!("http://{}{path}", server.http)).header("host", "evil.example:8080");
        let (status, body) = json_of(foreign.send().await.unwrap()).await;
        assert_eq!((status.as_u16(), &body["error"]["code"]), (403, &json!("host_not_allowed")), "{path}");
    }
    let local = client().get(format!("http://localhost:{}/v1/models", server.http.port()));
    let local = local.header("host", format!("localhost:{}", server.http.port()));
    assert!(local.send().await.is_ok_and(|answer| answer.status() == 200));
}
