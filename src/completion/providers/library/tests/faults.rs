//! Everything that goes wrong upstream, by kind; no message holds a key or what the caller wrote.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    super::{UNFINISHED_MAX, Unfinished},
    *,
};
use crate::completion::attempt::{Again, ErrorKind};

/// Every protocol, with a model and a stream that has begun but not ended.
fn begun() -> Vec<(Protocol, &'static str, Vec<u8>)> {
    let claude_text = claude(&[
        json!({ "type": "message_start", "message": { "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
    ]);
    let gemini_text = gemini(&[json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] } }] })]);
    vec![
        (Protocol::Anthropic, "claude-x", claude_text.clone()),
        (Protocol::Vertex, "claude-x", claude_text),
        (Protocol::Gemini, "gemini-x", gemini_text.clone()),
        (Protocol::Vertex, "gemini-x", gemini_text),
        (
            Protocol::Bedrock,
            "meta.x",
            bedrock(&[("contentBlockDelta", json!({ "delta": { "text": "Hi" } }))]),
        ),
        (
            Protocol::Cohere,
            "command-r",
            cohere(&[json!({ "is_finished": false, "event_type": "text-generation", "text": "Hi" })]),
        ),
    ]
}

/// Asks for a whole answer and for pieces, and compares how both fail.
async fn check(
    protocol: Protocol,
    model: &str,
    answer: Vec<u8>,
    kind: ErrorKind,
    message: &str,
) -> ProviderError {
    let (whole, _) = complete(protocol, model, hello(), answer.clone()).await;
    let whole = whole.unwrap_err();
    let (_, streamed) = pieces(protocol, model, hello(), answer).await;
    assert_eq!(streamed.as_ref(), Some(&whole));
    assert_eq!(whole.kind, kind, "{protocol:?}: {whole}");
    assert!(whole.message.contains(message), "{protocol:?}: {whole}");
    assert!(!whole.message.contains(KEY) && !whole.message.contains("Hello."), "{whole}");
    whole
}

#[tokio::test]
async fn a_connection_that_closes_in_the_middle_is_a_cut() {
    for (protocol, model, answer) in begun() {
        check(protocol, model, answer.clone(), ErrorKind::Cut, "without a reason for its end").await;
        let (pieces, _) = pieces(protocol, model, hello(), answer).await;
        assert_eq!(view(&pieces).text, "Hi", "{protocol:?}");
        assert_eq!(view(&pieces).finish, None, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_before_the_announced_length_is_a_cut() {
    for (protocol, model, answer) in begun() {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let head_end = text.find("\r\n\r\n").unwrap() + 4;
        let mut short = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
        short.extend_from_slice(&answer[head_end..]);
        check(protocol, model, short, ErrorKind::Cut, "the connection ended before the answer did").await;
    }
}

#[tokio::test]
async fn an_end_within_a_chunk_is_a_cut() {
    for (protocol, model, answer) in begun() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let body = &answer[head_end..];
        let mut cut = chunked;
        cut.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        cut.extend_from_slice(body);
        cut.extend_from_slice(b"\r\n");
        check(protocol, model, cut, ErrorKind::Cut, "the connection ended before the answer did").await;
    }
}

#[tokio::test]
async fn claude_is_cut_until_its_last_event() {
    let almost = claude(&[
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } }),
    ]);
    check(Protocol::Anthropic, "claude-x", almost, ErrorKind::Cut, "").await;
    let no_reason = claude(&[
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
        json!({ "type": "message_stop" }),
    ]);
    check(Protocol::Anthropic, "claude-x", no_reason, ErrorKind::Cut, "").await;
}

#[tokio::test]
async fn an_answer_without_anything_is_malformed() {
    for (protocol, model, _) in begun() {
        for body in ["", "\n\n"] {
            let empty = answer("200 OK", "content-type: text/event-stream\r\n", body);
            check(protocol, model, empty, ErrorKind::Malformed, "").await;
        }
        let page = answer("200 OK", "content-type: text/html\r\n", "<html>Sign in to the network</html>");
        check(protocol, model, page, ErrorKind::Malformed, "").await;
    }
}

#[tokio::test]
async fn an_event_of_claude_that_lost_its_name_is_malformed() {
    let delta = |text: &str| json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": text } });
    let events = |unnamed: &str| {
        let first = format!("event: content_block_delta\ndata: {}\n\n", delta("Hi"));
        let end = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } });
        let last = format!("event: message_delta\ndata: {end}\n\nevent: message_stop\ndata: {{}}\n\n");
        answer("200 OK", "content-type: text/event-stream\r\n", format!("{first}{unnamed}{last}"))
    };
    let lost = events(&format!("data: {}\n\n", delta(" there")));
    check(Protocol::Anthropic, "claude-x", lost, ErrorKind::Malformed, "has no name").await;
    let misspelt = events(&format!("evemt: content_block_delta\ndata: {}\n\n", delta(" there")));
    check(Protocol::Anthropic, "claude-x", misspelt, ErrorKind::Malformed, "has no name").await;
    let (whole, _) = complete(Protocol::Anthropic, "claude-x", hello(), events(": a comment\n\n")).await;
    assert_eq!(whole.unwrap().view.text, "Hi");
}

#[tokio::test]
async fn events_that_cannot_be_read_are_malformed() {
    let broken = |name: &str| {
        answer("200 OK", "content-type: text/event-stream\r\n", format!("event: {name}\ndata: {{\"a\":\n\n"))
    };
    check(
        Protocol::Anthropic,
        "claude-x",
        broken("content_block_delta"),
        ErrorKind::Malformed,
        "no valid JSON",
    )
    .await;
    check(Protocol::Gemini, "gemini-x", broken("message"), ErrorKind::Malformed, "no valid JSON").await;
    let lacking = claude(&[json!({ "type": "content_block_delta", "delta": {} })]);
    check(Protocol::Anthropic, "claude-x", lacking, ErrorKind::Malformed, "lacks").await;
    check(Protocol::Gemini, "gemini-x", gemini(&[json!({})]), ErrorKind::Malformed, "lacks").await;
    let bytes = answer("200 OK", "content-type: text/event-stream\r\n", b"data: \xff\xfe\n\n");
    check(Protocol::Gemini, "gemini-x", bytes, ErrorKind::Malformed, "UTF-8").await;
    let mut frames =
        bedrock(&[("messageStart", json!({})), ("messageStop", json!({ "stopReason": "end_turn" }))]);
    let last = frames.len() - 1;
    frames[last] ^= 1;
    check(Protocol::Bedrock, "meta.x", frames, ErrorKind::Malformed, "event stream").await;
}

#[tokio::test]
async fn errors_within_a_stream() {
    let overloaded = claude(&[
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "Hi" } }),
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded, secret-key-0123456789" } }),
    ]);
    check(Protocol::Anthropic, "claude-x", overloaded, ErrorKind::ErrorEvent, "Overloaded, [removed]").await;
    let unavailable = gemini(&[
        json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] } }] }),
        json!({ "error": { "code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE" } }),
    ]);
    check(Protocol::Gemini, "gemini-x", unavailable, ErrorKind::ErrorEvent, "The model is overloaded.").await;
    let exception = frame(
        &[(":message-type", "exception"), (":exception-type", "throttlingException")],
        &json!({ "message": "Too many tokens." }),
    );
    let mut throttled = bedrock(&[("contentBlockDelta", json!({ "delta": { "text": "Hi" } }))]);
    throttled.extend_from_slice(&exception);
    check(Protocol::Bedrock, "meta.x", throttled, ErrorKind::ErrorEvent, "Too many tokens.").await;
    let failed =
        cohere(&[json!({ "is_finished": true, "event_type": "stream-end", "finish_reason": "ERROR" })]);
    check(Protocol::Cohere, "command-r", failed, ErrorKind::ErrorEvent, "with an error").await;
}

#[tokio::test]
async fn statuses() {
    for (protocol, model, _) in begun() {
        let refusal = |status: &str, headers: &str| {
            let body = json!({ "error": { "message": format!("no, {KEY}") } });
            answer(status, &format!("content-type: application/json\r\n{headers}"), body.to_string())
        };
        let limited = refusal("429 Too Many Requests", "retry-after: 7\r\n");
        let limited = check(protocol, model, limited, ErrorKind::RateLimited, "no, [removed]").await;
        assert_eq!(limited.status, Some(429));
        assert_eq!(limited.again, Again::After(Duration::from_secs(7)));
        let check =
            |status: &'static str, kind| check(protocol, model, refusal(status, ""), kind, "no, [removed]");
        check("401 Unauthorized", ErrorKind::Unauthorized).await;
        check("402 Payment Required", ErrorKind::Unpaid).await;
        check("404 Not Found", ErrorKind::NotFound).await;
        check("400 Bad Request", ErrorKind::Refused).await;
        check("500 Internal Server Error", ErrorKind::Server).await;
        check("503 Service Unavailable", ErrorKind::Overloaded).await;
        check("529 Overloaded", ErrorKind::Overloaded).await;
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = answer("307 Temporary Redirect", "location: http://127.0.0.1:1/\r\n", "");
    let error =
        check(Protocol::Anthropic, "claude-x", elsewhere, ErrorKind::Redirect, "is not followed").await;
    assert_eq!(error.status, Some(307));
    assert!(!error.message.contains("127.0.0.1"));
}

#[tokio::test]
async fn nobody_listens() {
    let setup = Setup::new(Protocol::Gemini, "gemini-x", "http://127.0.0.1:1");
    let error = setup.provider().complete(setup.call(hello())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn no_tls_where_it_should_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let setup = Setup::new(Protocol::Anthropic, "claude-x", &base_url);
    let error = setup.provider().complete(setup.call(hello())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn a_long_line_is_too_large() {
    let long = "x".repeat(LIMITS.line_bytes_max + 1);
    let line = gemini(&[json!({ "candidates": [{ "content": { "parts": [{ "text": long }] } }] })]);
    check(Protocol::Gemini, "gemini-x", line, ErrorKind::TooLarge, "completion.line_bytes_max").await;
    let frame = bedrock(&[("contentBlockDelta", json!({ "delta": { "text": long } }))]);
    check(Protocol::Bedrock, "meta.x", frame, ErrorKind::TooLarge, "completion.line_bytes_max").await;
}

#[tokio::test]
async fn an_endless_answer_is_too_large() {
    let text = "x".repeat(64 << 10);
    let chunk = json!({ "candidates": [{ "content": { "parts": [{ "text": text }] } }] });
    let endless = gemini(&vec![chunk; 40]);
    check(Protocol::Gemini, "gemini-x", endless, ErrorKind::TooLarge, "completion.answer_bytes_max").await;
    // Events that say nothing count too, though not as much.
    let idle = json!({ "type": "something_new", "padding": text });
    let upstream = Upstream::answering(vec![claude(&vec![idle; 40])]).await;
    let mut setup = Setup::new(Protocol::Anthropic, "claude-x", &upstream.base_url);
    setup.limits.answer_bytes_max = 32 << 10;
    let error = setup.provider().complete(setup.call(hello())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("answer_bytes_max"), "{error}");
}

#[tokio::test]
async fn what_surrounds_an_answer_is_not_counted_as_the_answer() {
    let said = json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] } }], "padding": "x".repeat(2000) });
    let end =
        json!({ "candidates": [{ "content": { "parts": [{ "text": "." }] }, "finishReason": "STOP" }] });
    let upstream = Upstream::answering(vec![gemini(&[vec![said; 40], vec![end]].concat())]).await;
    let mut setup = Setup::new(Protocol::Gemini, "gemini-x", &upstream.base_url);
    setup.limits.answer_bytes_max = 4 << 10;
    let answered = setup.provider().complete(setup.call(hello())).await.unwrap();
    assert_eq!(answered.view.text.len(), 81);
}

#[tokio::test]
async fn a_refused_key_makes_room_for_the_next() {
    let refused = answer("401 Unauthorized", "", "");
    let fine = gemini(&[
        json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] }, "finishReason": "STOP" }] }),
    ]);
    let mut upstream = Upstream::answering(vec![refused, fine]).await;
    let setup = Setup::new(Protocol::Gemini, "gemini-x", &upstream.base_url).with_key("another-key");
    let provider = setup.provider();
    let error = provider.complete(setup.call(hello())).await.unwrap_err();
    assert_eq!((error.kind, error.again), (ErrorKind::Unauthorized, Again::Now));
    provider.complete(setup.call(hello())).await.unwrap();
    assert!(upstream.seen().await.head.contains(&format!("x-goog-api-key: {KEY}\r\n")));
    assert!(upstream.seen().await.head.contains("x-goog-api-key: another-key\r\n"));
}

#[tokio::test]
async fn without_a_usable_key_nothing_is_sent() {
    let mut setup = Setup::new(Protocol::Anthropic, "claude-x", "http://127.0.0.1:1");
    setup.config.keys = vec![KeySource::File("/nowhere/key".into())];
    let error = setup.provider().complete(setup.call(hello())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoKey, "{error}");
    let mut setup = Setup::new(Protocol::Vertex, "gemini-x", "http://127.0.0.1:1");
    setup.config.keys.clear();
    let setup = setup.with_key("{\"type\": \"service_account\",\n\"private_key\": \"p\"}");
    let error = setup.provider().complete(setup.call(hello())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoKey, "{error}");
    assert!(!error.message.contains("private_key"), "{error}");
}

/// Dropping an answer ends the upstream call at once.
#[tokio::test]
async fn a_dropped_stream_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // An answer to what was not asked yet would be a fault of its own.
        socket.read_u8().await.unwrap();
        let (_, _, first) = begun().remove(0);
        let head_end = first.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let mut begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
        begun.extend_from_slice(&first[head_end..]);
        socket.write_all(&begun).await.unwrap();
        // Ends when the caller hangs up, with its end or with a reset.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let setup = Setup::new(Protocol::Anthropic, "claude-x", &base_url);
    let mut started = setup.provider().stream(setup.call(hello())).await.unwrap();
    started.pieces.next().await.unwrap().unwrap();
    drop(started);
    tokio::time::timeout(Duration::from_secs(60), upstream).await.unwrap().unwrap();
}

/// The library would copy these 32 MiB some thousand times.
#[tokio::test]
async fn a_line_without_an_end_is_too_large() {
    let endless = answer("200 OK", "content-type: text/event-stream\r\n", vec![b'x'; 32 << 20]);
    let (answered, _) = complete(Protocol::Gemini, "gemini-x", hello(), endless).await;
    assert_eq!(answered.unwrap_err().kind, ErrorKind::TooLarge);
}

#[test]
fn time_counts_only_while_no_frame_comes() {
    let mut unfinished = Unfinished::default();
    let second = Duration::from_secs(1);
    let found = [0, 0, 1, 1, 1, 1, 2].map(|frames| unfinished.is_too_long(frames, second));
    assert_eq!(found, [false, false, false, false, false, false, false]);
    assert!(unfinished.is_too_long(2, UNFINISHED_MAX + second));
}
