//! The upstream does what its behaviours say.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;

use super::{Behaviour, Upstream, refused_url, usage};
use crate::support::until;

/// A client that goes to no proxy which the machine may have: those do not reach its own addresses.
fn direct() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn post(upstream: &Upstream) -> reqwest::Result<reqwest::Response> {
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("{}/chat/completions?a=b", upstream.base_url());
    client.post(url).header("X-Test", "1").json(&json!({ "stream": true })).send().await
}

/// Returns what came of the body before it ended or broke off.
async fn body(upstream: &Upstream) -> (String, bool) {
    let mut bytes = post(upstream).await.unwrap().bytes_stream();
    let mut text = Vec::new();
    while let Some(part) = bytes.next().await {
        match part {
            Ok(part) => text.extend_from_slice(&part),
            Err(_) => return (String::from_utf8(text).unwrap(), true),
        }
    }
    (String::from_utf8(text).unwrap(), false)
}

/// Checks how often a mark stands in the body, and whether the body breaks off.
async fn check(behaviour: Behaviour, mark: &str, count: usize, broken: bool) {
    let upstream = Upstream::start([behaviour]).await;
    let (text, got_broken) = body(&upstream).await;
    assert_eq!((text.matches(mark).count(), got_broken), (count, broken), "{mark}: {text}");
}

#[tokio::test]
async fn streams_are_whole_or_broken_as_ordered() {
    let openai = || Behaviour::openai_stream("one two three", usage(5, 3));
    let anthropic = || Behaviour::anthropic_stream("one two three", 5, 3);
    check(openai(), "\"content\":\"t", 2, false).await;
    check(openai(), "data: [DONE]", 1, false).await;
    check(openai(), "\"completion_tokens\":3", 1, false).await;
    check(openai().slow_tokens(Duration::from_millis(1)), "data: ", 7, false).await;
    check(openai().cut_after_tokens(0), "data: ", 1, true).await;
    check(openai().cut_after_tokens(2), "data: ", 3, true).await;
    check(openai().cut_after_tokens(40), "data: ", 4, true).await;
    check(openai().reset_after_tokens(40), "[DONE]", 0, true).await;
    check(openai().cut_after_bytes(10), "data: {\"id", 1, true).await;
    check(openai().malformed_line_after(1), "data: ", 8, false).await;
    check(openai().error_event_after(2, "too bad"), "too bad", 1, false).await;
    check(openai().ends_early_after(2), "data: ", 3, false).await;
    check(openai().until_close(), "[DONE]", 1, false).await;
    check(openai().cut_after_tokens(1).until_close(), "data: ", 2, false).await;
    check(Behaviour::raw_stream(["1", "2"]), "data: ", 2, false).await;
    check(Behaviour::huge_line(100_000), "x", 99_994, false).await;
    check(anthropic(), "text_delta", 3, false).await;
    check(anthropic(), "event: message_stop", 1, false).await;
    check(anthropic().cut_after_tokens(1), "text_delta", 1, true).await;
    check(anthropic().anthropic_error_event_after(1, "busy"), "event: error", 1, false).await;
}

#[tokio::test]
async fn whole_answers_are_whole_or_spoilt_as_ordered() {
    check(Behaviour::openai("hello", usage(5, 3)), "\"content\":\"hello\"", 1, false).await;
    check(Behaviour::openai("hello", json!(null)), "usage", 0, false).await;
    check(Behaviour::openai("hello", usage(5, 3)).cut_after_bytes(20), "{", 1, true).await;
    check(Behaviour::refusal("I can't"), "\"refusal\":\"I can't\"", 1, false).await;
    check(Behaviour::anthropic("hello", 5, 3), "end_turn", 1, false).await;
    check(Behaviour::invalid_json(), "choices", 1, false).await;
    check(Behaviour::empty_ok(), "", 1, false).await;
}

#[tokio::test]
async fn behaviours_follow_each_other_and_requests_are_recorded() {
    let limited = Behaviour::error(429, "slow down").header("retry-after", "7");
    let upstream = Upstream::start([limited, Behaviour::redirect("http://127.0.0.1:1/"), page()]).await;
    let first = post(&upstream).await.unwrap();
    assert_eq!((first.status().as_u16(), &first.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert!(first.text().await.unwrap().contains("slow down"));
    assert_eq!(post(&upstream).await.unwrap().headers()["location"], "http://127.0.0.1:1/");
    for _ in 0..2 {
        assert_eq!(post(&upstream).await.unwrap().headers()["content-type"], "text/html");
    }
    until("connections to close", async || upstream.open_connections() == 0).await;
    assert_eq!(upstream.accepted_connections(), 4);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 4);
    let request = &requests[0];
    assert_eq!((&*request.method, &*request.path), ("POST", "/v1/chat/completions?a=b"));
    assert_eq!((request.header("x-test"), request.header("absent")), (Some("1"), None));
    assert!(request.streams() && request.answered && request.hung_up.is_none());
    assert!(request.received <= requests[1].received);
}

fn page() -> Behaviour {
    Behaviour::wrong_content_type()
}

#[tokio::test]
async fn a_function_may_answer() {
    let upstream = Upstream::answering(|request| match request.streams() {
        true => Behaviour::openai_stream("streamed", json!(null)),
        false => Behaviour::openai("whole", json!(null)),
    })
    .await;
    assert!(body(&upstream).await.0.contains("streamed"));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed() {
    let stalls = Behaviour::openai_stream("one two three", usage(5, 3)).stall_after_tokens(1);
    let slow = Behaviour::empty_ok().slow_head(Duration::from_secs(3600));
    let late = Behaviour::openai_stream("one", usage(5, 3)).slow_first_token(Duration::from_secs(3600));
    for (behaviour, parts) in [(stalls, 2), (late, 1), (slow, 0)] {
        let upstream = Upstream::start([behaviour]).await;
        let asking = tokio::spawn({
            let url = upstream.base_url();
            async move {
                let sent = direct().post(url).body("{}").send().await.unwrap();
                let mut bytes = sent.bytes_stream();
                for _ in 0..parts {
                    bytes.next().await.unwrap().unwrap();
                }
                std::future::pending::<()>().await;
            }
        });
        until("the request", async || upstream.requests().len() == 1).await;
        assert!(upstream.requests()[0].hung_up.is_none());
        assert_eq!(upstream.open_connections(), 1);
        asking.abort();
        until("the client to be missed", async || upstream.requests()[0].hung_up.is_some()).await;
        until("the connection to end", async || upstream.open_connections() == 0).await;
    }
}

#[tokio::test]
async fn connections_are_refused_and_certificates_not_trusted() {
    let error = direct().post(refused_url()).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    let upstream = Upstream::start_tls([Behaviour::empty_ok()]).await;
    assert!(upstream.base_url().starts_with("https://"));
    let error = post(&upstream).await.unwrap_err();
    assert!(format!("{error:?}").contains("InvalidCertificate"), "{error:?}");
    assert!(upstream.requests().is_empty());
    let trusting =
        reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    assert_eq!(trusting.post(upstream.base_url()).send().await.unwrap().status(), 200);
}
