//! Callers over every way in, and what each of them saw.

use pointsman::server::proto::{
    Attempt, AttemptCause, AttemptOutcome, CompleteRequest, CompletionFailure, CompletionSummary, Context,
    Generation, JsonSchema, ResponseFormat, ResponseFormatType, router_service_client::RouterServiceClient,
    stream_complete_response::Event,
};
use prost::Message;
use reqwest::Response;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::process::Process;
use crate::support::PATIENCE;

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Grpc,
    GrpcStream,
    Chat,
    ChatStream,
    Messages,
    MessagesStream,
}

impl Way {
    pub const ALL: [Self; 6] =
        [Self::Grpc, Self::GrpcStream, Self::Chat, Self::ChatStream, Self::Messages, Self::MessagesStream];

    pub fn streams(self) -> bool {
        match self {
            Self::GrpcStream | Self::ChatStream | Self::MessagesStream => true,
            Self::Grpc | Self::Chat | Self::Messages => false,
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Clean,
    /// With an error of this kind.
    Failed(String),
}

/// What a caller saw. What its way in does not tell is `None`.
#[derive(Debug)]
pub struct Seen {
    pub text: String,
    pub end: End,
    pub attempts: Attempts,
    pub cost_usd: Option<f64>,
    pub estimated: Option<bool>,
    /// Name of the check, empty when the answer is not weak.
    pub weak: Option<String>,
}

/// What a caller is told of attempts, as `target cause outcome`, joined by semicolons.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempts {
    /// Those that cost anything end in `$`, in `~` when the cost is estimated.
    Account(String),
    /// Without costs.
    Course(String),
    Count(usize),
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub text: String,
    pub schema: Option<Value>,
    pub tenant: String,
}

impl Ask {
    pub fn text(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    pub fn proto(&self) -> CompleteRequest {
        let response_format = self.schema.as_ref().map(|schema| ResponseFormat {
            r#type: ResponseFormatType::JsonSchema as i32,
            json_schema: Some(JsonSchema {
                name: "wanted".to_owned(),
                schema_json: schema.to_string(),
                ..JsonSchema::default()
            }),
        });
        let context = Context { tenant: self.tenant.clone(), ..Context::default() };
        CompleteRequest {
            prompt: Some(self.text.clone()),
            context: (!self.tenant.is_empty()).then_some(context),
            generation: response_format
                .map(|format| Generation { response_format: Some(format), ..Generation::default() }),
            ..CompleteRequest::default()
        }
    }

    pub fn json(&self) -> Value {
        let mut body = json!({
            "model": "auto", "max_tokens": 1000, "messages": [{ "role": "user", "content": self.text }],
        });
        if let Some(schema) = &self.schema {
            let schema = json!({ "name": "wanted", "schema": schema });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": schema });
        }
        if !self.tenant.is_empty() {
            body["pointsman"] = json!({ "tenant": self.tenant });
        }
        body
    }
}

/// Asks, and waits for the end.
pub async fn ask(server: &Process, way: Way, ask: &Ask) -> Seen {
    let asked = async {
        match way {
            Way::Grpc => grpc(server, ask).await,
            Way::GrpcStream => grpc_stream(server, ask).await,
            Way::Chat => chat(post(server, "/v1/chat/completions", ask.json()).await).await,
            Way::ChatStream => {
                let mut body = ask.json();
                body["stream"] = true.into();
                body["stream_options"] = json!({ "include_usage": true });
                chat_stream(post(server, "/v1/chat/completions", body).await).await
            }
            Way::Messages => messages(post(server, "/v1/messages", ask.json()).await).await,
            Way::MessagesStream => {
                let mut body = ask.json();
                body["stream"] = true.into();
                messages_stream(post(server, "/v1/messages", body).await).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{way:?}: no end: {:?}", ask.text))
}

async fn post(server: &Process, path: &str, body: Value) -> Response {
    server.client.post(server.url(path)).json(&body).send().await.unwrap()
}

fn router(server: &Process) -> RouterServiceClient<tonic::transport::Channel> {
    RouterServiceClient::new(server.channel.clone())
}

async fn grpc(server: &Process, ask: &Ask) -> Seen {
    match router(server).complete(ask.proto()).await {
        Err(status) => failed(String::new(), &status),
        Ok(response) => {
            let response = response.into_inner();
            finished(response.answer.unwrap().text, response.summary.unwrap())
        }
    }
}

async fn grpc_stream(server: &Process, ask: &Ask) -> Seen {
    let mut messages = match router(server).stream_complete(ask.proto()).await {
        Ok(messages) => messages.into_inner(),
        Err(status) => return failed(String::new(), &status),
    };
    let (mut text, mut account) = (String::new(), None);
    loop {
        match messages.message().await {
            Err(status) => return failed(text, &status),
            Ok(None) => return finished(text, account.expect("a clean end follows an account")),
            Ok(Some(message)) => {
                assert!(account.is_none(), "nothing follows the account");
                match message.event.unwrap() {
                    Event::Opening(_) => {}
                    Event::Delta(delta) => text.push_str(&delta.text),
                    Event::Finished(summary) => account = Some(summary),
                }
            }
        }
    }
}

fn finished(text: String, summary: CompletionSummary) -> Seen {
    Seen {
        text,
        end: End::Clean,
        attempts: Attempts::Account(account(&summary.attempts)),
        cost_usd: Some(summary.cost_usd),
        estimated: Some(summary.estimated),
        weak: Some(summary.weak.map(|weakness| weakness.check).unwrap_or_default()),
    }
}

fn failed(text: String, status: &Status) -> Seen {
    let failure = failure(status);
    let kind = failure.kind().as_str_name().trim_start_matches("FAILURE_KIND_").to_ascii_lowercase();
    assert_eq!(status.code(), grpc_code(&kind), "{status:?}");
    Seen {
        text,
        end: End::Failed(kind),
        attempts: Attempts::Account(account(&failure.attempts)),
        cost_usd: Some(failure.cost_usd),
        estimated: Some(failure.attempts.iter().any(|attempt| attempt.estimated)),
        weak: None,
    }
}

pub fn failure(status: &Status) -> CompletionFailure {
    let envelope = tonic_types::pb::Status::decode(status.details()).unwrap();
    let mut found = envelope.details.iter().filter(|detail| detail.type_url.ends_with("CompletionFailure"));
    CompletionFailure::decode(found.next().unwrap_or_else(|| panic!("{status:?}")).value.as_slice()).unwrap()
}

fn grpc_code(kind: &str) -> Code {
    match kind {
        "unavailable" => Code::Unavailable,
        "rate_limited" | "budget_spent" => Code::ResourceExhausted,
        "refused" => Code::InvalidArgument,
        "deadline_exceeded" => Code::DeadlineExceeded,
        "broken_off" => Code::Aborted,
        other => panic!("{other}"),
    }
}

fn account(attempts: &[Attempt]) -> String {
    let each = attempts.iter().map(|attempt| {
        let cause = match attempt.cause() {
            AttemptCause::Unspecified => panic!("an attempt without a cause"),
            known => known.as_str_name().trim_start_matches("ATTEMPT_CAUSE_").to_ascii_lowercase(),
        };
        let how = match attempt.outcome() {
            AttemptOutcome::Failed => attempt.error.as_ref().unwrap().kind.clone(),
            AttemptOutcome::Weak => format!("weak:{}", attempt.weakness.as_ref().unwrap().check),
            other => other.as_str_name().trim_start_matches("ATTEMPT_OUTCOME_").to_ascii_lowercase(),
        };
        let cost = match (attempt.cost_usd > 0.0, attempt.estimated) {
            (false, false) => "",
            (true, false) => "$",
            (true, true) => "~",
            (false, true) => panic!("an estimate of nothing: {attempt:?}"),
        };
        format!("{} {cause} {how}{cost}", attempt.target.as_ref().unwrap().id)
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn chat(response: Response) -> Seen {
    let head = Head::of(&response);
    let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
    if status != 200 {
        return refused(&head, status.as_u16(), &body, chat_status);
    }
    let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    head.answered(text.to_owned())
}

async fn messages(response: Response) -> Seen {
    let head = Head::of(&response);
    let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
    if status != 200 {
        return refused(&head, status.as_u16(), &body, messages_status);
    }
    let texts = body["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str());
    head.answered(texts.collect())
}

/// What the head of an answer says of its account.
struct Head {
    attempts: Option<usize>,
    cost_usd: Option<f64>,
    estimated: Option<bool>,
    weak: String,
}

impl Head {
    fn of(response: &Response) -> Self {
        let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        Self {
            attempts: text("x-pointsman-attempts").map(|count| count.parse().unwrap()),
            cost_usd: text("x-pointsman-cost-usd").map(|cost| cost.parse().unwrap()),
            estimated: text("x-pointsman-estimated").map(|estimated| estimated.parse().unwrap()),
            weak: text("x-pointsman-weak").unwrap_or_default(),
        }
    }

    fn answered(self, text: String) -> Seen {
        Seen {
            text,
            end: End::Clean,
            attempts: Attempts::Count(self.attempts.expect("an answer says how many attempts it took")),
            cost_usd: self.cost_usd,
            estimated: self.estimated,
            weak: Some(self.weak),
        }
    }
}

fn refused(head: &Head, status: u16, body: &Value, status_of: fn(&str) -> u16) -> Seen {
    let account = &body["error"]["pointsman"];
    let kind = account["kind"].as_str().unwrap_or_else(|| panic!("{status} {body}"));
    assert_eq!(status, status_of(kind), "{body}");
    Seen {
        text: String::new(),
        end: End::Failed(kind.to_owned()),
        attempts: Attempts::Course(course(&account["attempts"])),
        cost_usd: head.cost_usd,
        estimated: head.estimated,
        weak: None,
    }
}

fn chat_status(kind: &str) -> u16 {
    match kind {
        "unavailable" => 502,
        "rate_limited" | "budget_spent" => 429,
        "refused" => 400,
        "deadline_exceeded" => 504,
        other => panic!("{other}"),
    }
}

fn messages_status(kind: &str) -> u16 {
    match kind {
        "unavailable" => 529,
        "budget_spent" => 402,
        other => chat_status(other),
    }
}

fn course(attempts: &Value) -> String {
    let each = attempts.as_array().unwrap().iter().map(|attempt| {
        let word = |name: &str| attempt[name].as_str().unwrap_or_else(|| panic!("{attempt}"));
        let how = match word("outcome") {
            "failed" => word("error").to_owned(),
            "weak" => format!("weak:{}", word("error")),
            other => other.to_owned(),
        };
        format!("{} {} {how}", word("target"), word("cause"))
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn chat_stream(response: Response) -> Seen {
    let head = Head::of(&response);
    if response.status() != 200 {
        let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
        return refused(&head, status.as_u16(), &body, chat_status);
    }
    let body = response.text().await.expect("a body that ends as it should");
    let mut events: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let is_done = *events.last().expect("an event") == "[DONE]";
    if is_done {
        events.pop();
    }
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect(event)).collect();
    let said = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let text: String = said.collect();
    let last = chunks.last().expect("a chunk");
    let errors = chunks.iter().filter(|chunk| !chunk["error"].is_null()).count();
    if is_done {
        assert_eq!(errors, 0, "a clean end after an error: {body}");
        let account = &last["pointsman"];
        return Seen {
            text,
            end: End::Clean,
            attempts: Attempts::Count(account["attempts"].as_u64().unwrap() as usize),
            cost_usd: account["cost_usd"].as_f64(),
            estimated: account["estimated"].as_bool(),
            weak: Some(account["weak"].as_str().unwrap_or_default().to_owned()),
        };
    }
    assert_eq!(errors, 1, "an end without a word: {body}");
    let error = &last["error"];
    let finishes = chunks.iter().filter(|chunk| !chunk["choices"][0]["finish_reason"].is_null());
    assert_eq!(finishes.count(), 0, "a broken answer that says that it is finished: {body}");
    Seen {
        text,
        end: End::Failed(error["code"].as_str().unwrap().to_owned()),
        attempts: Attempts::Course(course(&error["pointsman"]["attempts"])),
        cost_usd: None,
        estimated: None,
        weak: None,
    }
}

async fn messages_stream(response: Response) -> Seen {
    let head = Head::of(&response);
    if response.status() != 200 {
        let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
        return refused(&head, status.as_u16(), &body, messages_status);
    }
    let body = response.text().await.expect("a body that ends as it should");
    let events: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|event| serde_json::from_str(event).expect(event))
        .collect();
    let text = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    let of_type = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    let end = match events.last().expect("an event")["type"].as_str().unwrap() {
        "message_stop" => {
            assert_eq!((of_type("error"), of_type("message_delta")), (0, 1), "{body}");
            End::Clean
        }
        "error" => {
            assert_eq!((of_type("message_stop"), of_type("message_delta")), (0, 0), "{body}");
            let error = &events.last().unwrap()["error"];
            End::Failed(kind_of_type(error["type"].as_str().unwrap()).to_owned())
        }
        other => panic!("a stream that ends in {other}: {body}"),
    };
    Seen {
        text,
        end,
        attempts: Attempts::Count(head.attempts.unwrap()),
        cost_usd: None,
        estimated: None,
        // Only of what was held back; the rest is checked when nothing more can be said here.
        weak: None,
    }
}

/// The only failures that a stream which had begun can end in.
fn kind_of_type(name: &str) -> &str {
    match name {
        "api_error" => "broken_off",
        "timeout_error" => "deadline_exceeded",
        other => panic!("{other}"),
    }
}
