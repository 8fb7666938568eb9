//! Callers who hang up: the upstream call ends at once, and what it cost is accounted for.

use std::time::{Duration, Instant};

use futures::StreamExt;
use pointsman::server::proto::router_service_client::RouterServiceClient;
use serde_json::Value;

use super::{
    callers::{Ask, Way},
    case::Case,
    process::metric,
    world::{Called, Speaks, Waits, World, long, marked},
};
use crate::support::until;

/// Longer than any wait of the configuration.
const FOREVER: Duration = Duration::from_secs(600);
/// Until the upstream connection is closed, on a busy machine; far shorter than any wait of the configuration. Had one
/// of them ended the call, it would not count as abandoned either.
const PROMPTLY: Duration = Duration::from_secs(30);
/// More tokens than are held back.
const MIDDLE: usize = 40;

/// When a caller hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeTheFirstToken,
    InTheMiddle,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_ends_the_upstream_call() {
    for speaks in [Speaks::OpenAi, Speaks::Anthropic] {
        let silent = |called: Called| called.answer(&long()).slow_head(FOREVER);
        let stalls = |called: Called| called.answer(&long()).stall_after_tokens(MIDDLE);
        let cases = [Case::new("before").at("a", silent), Case::new("middle").at("a", stalls)];
        let world = World::start(speaks, Waits::Long, &cases, &[]).await;
        let before = Way::ALL.map(|way| hang_up(&world, way, Moment::BeforeTheFirstToken));
        futures::future::join_all(before).await;
        let streams = Way::ALL.into_iter().filter(|way| way.streams());
        futures::future::join_all(streams.map(|way| hang_up(&world, way, Moment::InTheMiddle))).await;
        let hung_up = Way::ALL.len() + 3;
        let left = world.server.stop().await;
        let abandoned = [("target", "a"), ("outcome", "abandoned")];
        let attempts = |labels: &[(&str, &str)]| metric(&left.metrics, "pointsman_attempts_total", labels);
        assert_eq!(attempts(&abandoned), hung_up as f64, "{}", left.metrics);
        assert_eq!(attempts(&[]), hung_up as f64, "nobody else was asked");
        let failed = |kind| metric(&left.metrics, "pointsman_completions_failed_total", &[("kind", kind)]);
        assert_eq!(failed("hung_up"), hung_up as f64);
        let tokens =
            |kind| metric(&left.metrics, "pointsman_tokens_total", &[("target", "a"), ("kind", kind)]);
        // Estimated: the prompts of all, and of three the tokens that came.
        assert!(tokens("input") >= 5.0 * hung_up as f64, "{}", tokens("input"));
        assert!(tokens("output") >= 3.0 * MIDDLE as f64, "{}", tokens("output"));
        let cost = metric(&left.metrics, "pointsman_attempt_cost_usd", &[("target", "a")]);
        assert!((cost - (tokens("input") + 10.0 * tokens("output")) / 1e6).abs() < 1e-9, "{cost}");
        let spent = metric(&left.metrics, "pointsman_spend_usd", &[("tier", "low")]);
        assert!((spent - cost).abs() < 1e-9, "{spent} of {cost}");
    }
}

async fn hang_up(world: &World, way: Way, moment: Moment) {
    let name = match moment {
        Moment::BeforeTheFirstToken => "before",
        Moment::InTheMiddle => "middle",
    };
    let mark = format!("{name}/{way:?}");
    let ask = Ask::text(&marked(&mark, "Tell me where my parcel is and when it comes."));
    match moment {
        Moment::BeforeTheFirstToken => {
            let asking = super::callers::ask(&world.server, way, &ask);
            let asked = until("the upstream call", async || world.calls.of(&mark).len() == 1);
            tokio::select! {
                seen = asking => panic!("{way:?}: {seen:?}"),
                () = asked => {}
            }
        }
        Moment::InTheMiddle => read_half(world, way, &ask).await,
    }
    // Whatever the caller held was dropped here.
    let left = Instant::now();
    until("the upstream call to end", async || world.calls.of(&mark)[0].1.hung_up.is_some()).await;
    let ended = world.calls.of(&mark)[0].1.hung_up.unwrap();
    let took = ended.saturating_duration_since(left);
    assert!(took < PROMPTLY, "{mark}: {took:?}");
}

/// Reads until the last token before the stall has come.
async fn read_half(world: &World, way: Way, ask: &Ask) {
    let last = format!("word{MIDDLE}");
    let mut body: Value = ask.json();
    body["stream"] = true.into();
    let path = match way {
        Way::GrpcStream => {
            let mut client = RouterServiceClient::new(world.server.channel.clone());
            let mut messages = client.stream_complete(ask.proto()).await.unwrap().into_inner();
            while let Ok(Some(message)) = messages.message().await {
                if format!("{message:?}").contains(&last) {
                    return;
                }
            }
            panic!("{way:?}: an end before the stall");
        }
        Way::ChatStream => "/v1/chat/completions",
        Way::MessagesStream => "/v1/messages",
        Way::Grpc | Way::Chat | Way::Messages => panic!("{way:?} has no middle"),
    };
    let response = world.server.client.post(world.server.url(path)).json(&body).send().await.unwrap();
    let (mut chunks, mut read) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        read.extend_from_slice(&chunk.unwrap());
        if String::from_utf8_lossy(&read).contains(&last) {
            return;
        }
    }
    panic!("{way:?}: an end before the stall");
}
