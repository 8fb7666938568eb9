//! Budgets as callers meet them: a spent one refuses or keeps to lower tiers, and a restart does not refill it.

use std::time::Duration;

use tempfile::TempDir;

use super::{
    callers::{Ask, Attempts, End, Seen, Way, ask},
    process::Process,
    world::{Called, LIMITS, Speaks, TARGETS, TIERS, good, place},
};
use crate::support::upstream::{Behaviour, Request, Upstream};

const WEAK: &str = "I'm sorry, but I can't help with that request.";

/// A month's budget is spent by one answer of some 170 millionths of a dollar.
const BUDGETS: &str = "[spend]\nfile = \"spend.json\"\n\
                       [[budgets]]\nname = \"small\"\nscope = { tenant = \"poor\" }\nmonth_usd = 0.0001\n\
                       [[budgets]]\nname = \"capped\"\nscope = { tenant = \"capped\" }\nmonth_usd = 0.0001\n\
                       at_limit = { tier_max = \"low\" }\n";

async fn start(folder: TempDir, upstreams: &[Upstream]) -> Process {
    let sections: String = TARGETS
        .iter()
        .zip(upstreams)
        .map(|(target, upstream)| place(target, Speaks::OpenAi, &upstream.base_url(), ""))
        .collect();
    Process::start_in(folder, &format!("{sections}{TIERS}{LIMITS}{BUDGETS}"), &[]).await
}

async fn ask_as(server: &Process, way: Way, tenant: &str) -> Seen {
    ask(server, way, &Ask { tenant: tenant.to_owned(), ..Ask::text("Tell me where my parcel is.") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_refuses_and_a_restart_does_not_refill_it() {
    let upstreams = providers(good("a")).await;
    let mut server = start(tempfile::tempdir().unwrap(), &upstreams).await;
    assert_eq!(ask_as(&server, Way::Chat, "poor").await.end, End::Clean);
    for restarted in [false, true] {
        let calls = upstreams[0].requests().len();
        for way in Way::ALL.into_iter().filter(|way| !matches!(way, Way::Messages | Way::MessagesStream)) {
            let seen = ask_as(&server, way, "poor").await;
            assert_eq!(seen.end, End::Failed("budget_spent".to_owned()), "{way:?}, restarted: {restarted}");
        }
        refused_in_its_own_words(&server).await;
        assert_eq!(upstreams[0].requests().len(), calls, "a spent budget still pays for calls");
        assert_eq!(ask_as(&server, Way::Grpc, "rich").await.end, End::Clean, "it is another's budget");
        if !restarted {
            let (_, folder) = server.stop_and_keep().await;
            server = start(folder, &upstreams).await;
        }
    }
    server.stop().await;
}

/// The statuses that clients of each dialect understand, and when to come again.
async fn refused_in_its_own_words(server: &Process) {
    let body = Ask { tenant: "poor".to_owned(), ..Ask::text("Tell me where my parcel is.") }.json();
    let response = server.client.post(server.url("/v1/chat/completions")).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(Duration::from_secs(wait) <= Duration::from_secs(31 * 86_400), "{wait}");
    let mut body = body;
    body.as_object_mut().unwrap().remove("pointsman");
    let request = server.client.post(server.url("/v1/messages")).header("x-pointsman-tenant", "poor");
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 402);
    assert!(response.text().await.unwrap().contains("billing_error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_may_leave_the_lower_tiers() {
    let upstreams = providers(WEAK.to_owned()).await;
    let server = start(tempfile::tempdir().unwrap(), &upstreams).await;
    let first = ask_as(&server, Way::Grpc, "capped").await;
    assert_eq!(first.text, good("c"));
    for way in [Way::Grpc, Way::GrpcStream, Way::Chat, Way::ChatStream] {
        let seen = ask_as(&server, way, "capped").await;
        // The best there is, and it says what is wrong with it.
        assert_eq!((seen.text.as_str(), seen.weak.as_deref()), (WEAK, Some("refusal")), "{way:?}");
        if let Attempts::Account(account) = seen.attempts {
            assert_eq!(account, "a first weak:refusal$");
        }
    }
    assert_eq!(upstreams[2].requests().len(), 1, "the upper tier was asked for nothing");
    assert_eq!(ask_as(&server, Way::Grpc, "rich").await.text, good("c"));
    server.stop().await;
}

/// Providers that answer well, the first with this text.
async fn providers(first: String) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for target in TARGETS {
        let text = if target == "a" { first.clone() } else { good(target) };
        let answer = move |request: &Request| -> Behaviour {
            Called { streams: request.streams(), nth: 0, speaks: Speaks::OpenAi }.answer(&text)
        };
        upstreams.push(Upstream::answering(answer).await);
    }
    upstreams
}
