use std::{sync::Arc, time::SystemTime};

use futures::stream;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::{
    canned::{Canned, Reply, Then},
    errors::retry_after,
    events::{LineGuard, events},
    *,
};
use crate::completion::attempt::{Again, MESSAGE_BYTES_MAX, Stage};

const KEY: &str = "secret-of-the-account";
const LINE_MAX: usize = 1000;
const ANSWER_MAX: usize = 5000;

/// Longer than a busy machine takes.
const CONNECT: Duration = Duration::from_secs(60);

async fn post_to(url: &str) -> Result<Response, ProviderError> {
    post_within(CONNECT, url).await
}

async fn post_within(connect: Duration, url: &str) -> Result<Response, ProviderError> {
    let mut headers = HeaderMap::new();
    let mut key = HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap();
    key.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, key);
    let client = client(connect, &Url::parse("http://127.0.0.1").unwrap()).unwrap();
    post(&client, Url::parse(url).unwrap(), headers, b"{}".to_vec()).await
}

async fn posted(reply: Reply) -> Result<Response, ProviderError> {
    let server = Canned::serve(vec![reply]).await;
    post_to(&server.url()).await
}

/// Posts and returns the error, wherever it comes.
async fn failure(reply: Reply) -> ProviderError {
    match posted(reply).await {
        Ok(response) => read_json(response, ANSWER_MAX).await.unwrap_err(),
        Err(error) => error,
    }
}

async fn check(reply: Reply, kind: ErrorKind, words: &str) {
    let error = failure(reply).await;
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(words), "{error}");
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_has_its_own_kind() {
    for body in [
        r#"{"error": {"message": "Too much.", "type": "invalid_request_error", "code": "context_length_exceeded"}}"#,
        r#"{"error": {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000."}}"#,
        r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}}"#,
        r#"{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).", "status": "INVALID_ARGUMENT"}}"#,
        r#"{"message": "Input is too long for requested model."}"#,
    ] {
        check(Reply::json("400 Bad Request", body), ErrorKind::TooLong, "").await;
    }
    let other = r#"{"error": {"message": "max_tokens is too large: 9. This model supports at most 8 completion tokens."}}"#;
    check(Reply::json("400 Bad Request", other), ErrorKind::Refused, "").await;
    let busy = r#"{"error": {"message": "Too many tokens, wait."}}"#;
    check(Reply::json("429 Too Many Requests", busy), ErrorKind::RateLimited, "").await;
}

#[tokio::test]
async fn every_status_has_its_kind() {
    use ErrorKind::*;
    let cases = [
        ("400 Bad Request", "{}", Refused),
        ("401 Unauthorized", "{}", Unauthorized),
        ("402 Payment Required", "{}", Unpaid),
        ("403 Forbidden", r#"{"error":{"message":"no"}}"#, Unauthorized),
        ("403 Forbidden", "<html>blocked</html>", Refused),
        ("403 Forbidden", r#"{"error":{"code":403,"metadata":{"reasons":["x"]}}}"#, Refused),
        ("403 Forbidden", r#"{"error":{"code":"model_not_found"}}"#, NotFound),
        ("404 Not Found", "", NotFound),
        ("408 Request Timeout", "", Timeout(Stage::Total)),
        ("413 Content Too Large", "", Refused),
        ("422 Unprocessable", "", Refused),
        ("429 Too Many Requests", "{}", RateLimited),
        ("429 Too Many Requests", r#"{"error":{"code":"insufficient_quota"}}"#, Unpaid),
        ("400 Bad Request", r#"{"error":{"message":"Your credit balance is too low to ..."}}"#, Unpaid),
        ("400 Bad Request", r#"{"error":{"message":"API key not valid. Please pass ..."}}"#, Unauthorized),
        ("500 Internal Server Error", "", Server),
        ("502 Bad Gateway", "<html>", Server),
        ("503 Service Unavailable", "", Overloaded),
        ("504 Gateway Timeout", "", Timeout(Stage::Total)),
        ("529 Overloaded", "", Overloaded),
    ];
    for (status, body, kind) in cases {
        check(Reply::json(status, body), kind, "").await;
    }
}

#[tokio::test]
async fn the_providers_code_is_kept_where_it_is_a_plain_name() {
    let check = async |code: &str, expected: Option<&str>| {
        let body = format!(r#"{{"error":{{"message":"m","code":{code}}}}}"#);
        let error = failure(Reply::json("400 Bad Request", &body)).await;
        assert_eq!(error.code.as_deref(), expected, "{code}");
    };
    check(r#""context_length_exceeded""#, Some("context_length_exceeded")).await;
    check(r#""DeploymentNotFound""#, Some("DeploymentNotFound")).await;
    check("null", None).await;
    check("400", None).await;
    check(r#""3051""#, None).await;
    check(r#""two words""#, None).await;
    check(r#""sk-abcdefghijklm""#, None).await;
    check(&format!("{:?}", "x".repeat(65)), None).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = Canned::serve(vec![Reply::json("200 OK", "{}")]).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let headers = format!("location: {}/secret-path\r\n", elsewhere.url());
        let error = failure(Reply::whole(status, &headers, "")).await;
        assert_eq!(error.kind, ErrorKind::Redirect);
        assert!(!error.message.contains("secret-path"), "{error}");
    }
    assert!(elsewhere.is_quiet());
}

#[tokio::test]
async fn nobody_there_is_a_failed_connection() {
    let error = post_to("http://127.0.0.1:1/path?secret=1").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");
    assert!(!error.message.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_fails_as_tls() {
    let server = Canned::serve(vec![]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Until the client leaves.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut Vec::new()).await;
    });
    let error = post_to(&format!("https://{address}")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    drop(server);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_fails_as_tls() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        assert!(tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(socket).await.is_err());
    });
    let error = post_to(&format!("https://localhost:{port}")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    assert!(error.message.contains("certificate"), "{error}");
}

#[tokio::test]
async fn servers_are_not_offered_one_connection_for_all_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offered = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
        let greeted = acceptor.await.unwrap();
        let hello = greeted.client_hello();
        hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    assert!(post_to(&format!("https://{address}")).await.is_err());
    let offered = offered.await.unwrap();
    assert!(offered.iter().all(|protocol| protocol == b"http/1.1"), "{offered:?}");
}

#[tokio::test]
async fn calls_at_the_same_time_have_connections_of_their_own() {
    const CALLS: usize = 300;
    let endless = || Reply::unfinished_events("data: x\n\n", Then::Stall);
    let mut server = Canned::serve((0..CALLS).map(|_| endless()).collect()).await;
    let client = client(CONNECT, &Url::parse("http://127.0.0.1").unwrap()).unwrap();
    let url = Url::parse(&server.url()).unwrap();
    let calls = (0..CALLS).map(|_| post(&client, url.clone(), HeaderMap::new(), b"{}".to_vec()));
    let open = futures::future::join_all(calls).await;
    assert!(open.iter().all(Result::is_ok));
    for _ in 0..CALLS {
        server.seen().await;
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = Duration::from_millis(500);
    let error = post_within(connect, &format!("https://{address}")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Timeout(Stage::Connect), "{error}");
}

#[tokio::test]
async fn a_connection_that_closes_before_an_answer_is_cut() {
    check(Reply::raw("", Then::Close), ErrorKind::Cut, "before an answer came").await;
    check(Reply::raw("HTTP/1.1 200 OK\r\ncontent-ty", Then::Close), ErrorKind::Cut, "").await;
}

#[tokio::test]
async fn bodies_that_are_no_answer_say_why() {
    use ErrorKind::*;
    let json = "content-type: application/json\r\n";
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\n{json}content-length: {length}\r\n\r\n");
    check(Reply::json("200 OK", ""), Malformed, "empty").await;
    check(Reply::json("200 OK", " \n"), Malformed, "empty").await;
    check(Reply::raw("HTTP/1.1 204 No Content\r\n\r\n", Then::Close), Malformed, "no content type").await;
    check(Reply::json("200 OK", "{\"a\":"), Malformed, "ends too early at line 1 column 5").await;
    check(Reply::json("200 OK", "{private: 1}"), Malformed, "syntax error at line 1").await;
    check(Reply::whole("200 OK", "content-type: text/html\r\n", "<p>"), Malformed, "got text/html").await;
    let zipped = format!("{json}content-encoding: gzip\r\n");
    check(Reply::whole("200 OK", &zipped, "xyz"), Malformed, "compressed").await;
    check(Reply::raw(format!("{}{{\"a\"", head(100)), Then::Close), Cut, "before the answer did").await;
    check(Reply::json("200 OK", &format!("\"{}\"", "x".repeat(ANSWER_MAX))), TooLarge, "5000 bytes").await;
    check(Reply::raw(head(1 << 40), Then::Stall), TooLarge, "5000 bytes").await;
    let endless = format!("HTTP/1.1 200 OK\r\n{json}\r\n{}", "x".repeat(ANSWER_MAX + 1));
    check(Reply::raw(endless, Then::Stall), TooLarge, "5000 bytes").await;
}

#[tokio::test]
async fn json_may_have_parameters_and_a_suffix() {
    for media_type in ["application/json; charset=utf-8", "Application/JSON", "application/problem+json"] {
        let reply = Reply::whole("200 OK", &format!("content-type: {media_type}\r\n"), "{\"a\":1}");
        let value = read_json(posted(reply).await.ok().unwrap(), ANSWER_MAX).await.unwrap();
        assert_eq!(value, serde_json::json!({"a": 1}));
    }
}

#[tokio::test]
async fn error_texts_come_from_json_without_credentials() {
    let message = |body: &str| {
        let body = body.to_owned();
        async move { failure(Reply::json("400 Bad Request", &body)).await.message }
    };
    assert_eq!(message(r#"{"error":{"message":"bad field"}}"#).await, "bad field");
    assert_eq!(message(r#"{"error":"bad word"}"#).await, "bad word");
    assert_eq!(message(r#"{"object":"error","message":"flat"}"#).await, "flat");
    assert_eq!(message(r#"{"detail":[{"msg":"field required"}]}"#).await, "field required");
    assert_eq!(message(r#"[{"error":{"message":"in a list"}}]"#).await, "in a list");
    assert_eq!(message("<html>a page</html>").await, "Bad Request");
    let leaked = message(&format!(r#"{{"error":{{"message":"key {KEY} and sk-proj-12345678 bad"}}}}"#)).await;
    assert_eq!(leaked, "key [removed] and [removed] bad");
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "ä\\u0007".repeat(2000));
    let long = message(&long).await;
    assert!(long.len() <= MESSAGE_BYTES_MAX && long.len() > MESSAGE_BYTES_MAX - 4);
    assert!(!long.contains('\u{7}'));
}

#[tokio::test]
async fn an_error_body_is_read_up_to_its_bounds() {
    let head = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\r\n";
    let huge = format!("{head}{}", "x".repeat(ERROR_BYTES_MAX * 2));
    assert_eq!(failure(Reply::raw(huge, Then::Stall)).await.kind, ErrorKind::Server);
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_stalls_is_not_waited_for() {
    let head = "HTTP/1.1 503 Unavailable\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    assert_eq!(failure(Reply::raw(head, Then::Stall)).await.kind, ErrorKind::Overloaded);
}

#[test]
fn credentials_are_recognised() {
    let redactor = Redactor::new([SecretString::from("hunter22"), SecretString::from("abc")]);
    let check = |text: &str, clean: &str| assert_eq!(redactor.clean(text), clean, "{text}");
    check("Incorrect API key provided: sk-abc12***********xyz9.", "Incorrect API key provided: [removed]");
    check("Bearer abcdefghijkl is wrong", "[removed] is wrong");
    check("AIzaSyA1234567890abc expired", "[removed] expired");
    check("see https://user:pass@host/x", "see https[removed]host/x");
    check("password hunter22, hunter22", "password [removed], [removed]");
    check("abc is a word, and so is risk-averse", "abc is a word, and so is risk-averse");
    check("task-12345678 failed", "task-12345678 failed");
    check("\u{1b}[31mred\n", "[31mred");
}

#[test]
fn waits_are_read_in_every_form() {
    let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
    let check = |name: &'static str, value: &str, wanted: Option<u64>| {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        assert_eq!(retry_after(&headers, now), wanted.map(Duration::from_millis), "{name}: {value}");
    };
    check("retry-after", "7", Some(7000));
    check("retry-after", " 1.5 ", Some(1500));
    check("retry-after", "0", Some(0));
    check("retry-after", "-3", None);
    check("retry-after", "1e300", Some(24 * 3_600_000));
    check("retry-after", "NaN", None);
    check("retry-after", "soon", None);
    check("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT", Some(30_000));
    check("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", Some(0));
    check("retry-after-ms", "250", Some(250));
    assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_told() {
    let headers = "retry-after: 3\r\n";
    let error = failure(Reply::whole("429 Too Many Requests", headers, "")).await;
    assert_eq!(error.again, Again::After(Duration::from_secs(3)));
    assert_eq!(failure(Reply::whole("500 Oh", "", "")).await.again, Again::Usual);
}

async fn stream_of(reply: Reply) -> Vec<Result<Event, ProviderError>> {
    let response = posted(reply).await.ok().unwrap();
    match read_events(response, LINE_MAX, ANSWER_MAX) {
        Ok(events) => events.collect().await,
        Err(error) => vec![Err(error)],
    }
}

fn event(data: &str) -> Event {
    Event { event: None, data: data.to_owned() }
}

#[tokio::test]
async fn events_come_until_the_body_ends_or_fails() {
    let body = "data: a\n\n: ping\n\nevent: e\ndata: b\n\n";
    let both = [Ok(event("a")), Ok(Event { event: Some("e".to_owned()), data: "b".to_owned() })];
    assert_eq!(stream_of(Reply::events(body)).await, both);
    let cut = stream_of(Reply::unfinished_events(body, Then::Close)).await;
    assert_eq!(cut[..2], both);
    assert_eq!(cut[2].as_ref().unwrap_err().kind, ErrorKind::Cut);
    assert_eq!(cut.len(), 3);
}

#[tokio::test]
async fn a_stream_of_another_type_is_malformed() {
    let found = stream_of(Reply::json("200 OK", "{}")).await;
    let error = found[0].as_ref().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert_eq!(error.message, "expected text/event-stream, got application/json");
}

fn parsed(chunks: Vec<Vec<u8>>) -> Vec<Result<Event, ProviderError>> {
    let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
    let guard = LineGuard::new(LINE_MAX, ANSWER_MAX);
    futures::executor::block_on(events(chunks.boxed(), guard).collect())
}

fn check_error(body: &[u8], kind: ErrorKind) {
    let whole = parsed(vec![body.to_vec()]);
    assert_eq!(whole.last().unwrap().as_ref().unwrap_err().kind, kind, "{:?}", body.utf8_chunks().next());
    let bytes = parsed(body.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(bytes.last().unwrap().as_ref().unwrap_err().kind, kind);
}

#[test]
fn a_line_that_is_no_field_is_refused_and_not_skipped() {
    check_error(b"data: a\n\ndat: b\n\ndata: c\n\n", ErrorKind::Malformed);
    check_error(b"{\"error\": \"raw JSON\"}\n\n", ErrorKind::Malformed);
    check_error(b"data\xff: a\n\n", ErrorKind::Malformed);
    check_error(b"data: \xff\n\n", ErrorKind::Malformed);
    check_error(b"dat\n\n", ErrorKind::Malformed);
    check_error(b"id: 1\n\xef\xbb\xbfdata: a\n\n", ErrorKind::Malformed);
}

#[test]
fn long_lines_events_and_bodies_are_refused() {
    let line = format!("data: {}", "x".repeat(LINE_MAX));
    check_error(line.as_bytes(), ErrorKind::TooLarge);
    check_error(format!(":{}", "x".repeat(LINE_MAX)).as_bytes(), ErrorKind::TooLarge);
    check_error("data: many lines\n".repeat(LINE_MAX / 16 + 1).as_bytes(), ErrorKind::TooLarge);
    check_error("data: x\n\n".repeat(ANSWER_MAX / 9 + 1).as_bytes(), ErrorKind::TooLarge);
    let comments = format!("{}data: a\n\n", ": waiting\n".repeat(LINE_MAX / 10 * 2));
    assert_eq!(parsed(vec![comments.into_bytes()]), [Ok(event("a"))]);
}

#[test]
fn a_long_line_is_refused_before_it_ends() {
    let mut guard = LineGuard::new(LINE_MAX, usize::MAX);
    guard.admit(b"data: ").unwrap();
    let chunks = (0..).map(|_| guard.admit(&[b'x'; 100])).take_while(Result::is_ok).count();
    assert!(chunks < 10);
}

proptest! {
    #[test]
    fn events_do_not_depend_on_how_the_bytes_were_split(
        cuts in prop::collection::vec(0..200_usize, 0..12),
        newline in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        mark in any::<bool>(),
    ) {
        let body = ": hello\n\nevent: x\ndata: {\"ä\": \"→🦀\"}\n\ndata: one\ndata: two\n\nid: 7\nretry: 10\n\ndata:\n\ndata: z\n\n";
        let body = format!("{}{}", if mark { "\u{feff}" } else { "" }, body.replace('\n', newline)).into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| body[pair[0]..pair[1]].to_vec()).collect();
        let whole = parsed(vec![body]);
        prop_assert_eq!(&whole, &[
            Ok(Event { event: Some("x".to_owned()), data: "{\"ä\": \"→🦀\"}".to_owned() }),
            Ok(event("one\ntwo")),
            Ok(event("")),
            Ok(event("z")),
        ]);
        prop_assert_eq!(parsed(chunks), whole);
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        parsed(chunks);
    }
}
