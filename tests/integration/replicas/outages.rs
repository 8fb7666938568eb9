//! The database goes away under load: all serve on by what they had, nothing can be changed, and afterwards all can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::server::proto::router_service_client::RouterServiceClient;
use tonic::{Code, transport::Channel};

use super::{FIRST, Fleet, SECOND, TOLD_WITHIN, route, within};
use crate::support::postgres::{Postgres, Stop};

/// Seconds, long enough for every case; a long outage is tried by `POINTSMAN_OUTAGE_S=60`, with `--nocapture` to see
/// its figures.
const OUTAGE_S: u64 = 5;
/// Of load before and after: each replica looks around every two seconds.
const AROUND: Duration = Duration::from_secs(3);
const CALLERS_EACH: usize = 2;
/// Longer than a decision takes on a busy machine, far shorter than a store that is waited for.
const ROUTE_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a refusal.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

fn outage() -> Duration {
    let asked = std::env::var("POINTSMAN_OUTAGE_S").ok();
    Duration::from_secs(asked.map_or(OUTAGE_S, |seconds| seconds.parse().unwrap()))
}

/// What a caller of one replica saw.
#[derive(Default)]
struct Seen {
    decisions: usize,
    slowest: Duration,
    /// One after the other.
    versions: Vec<String>,
}

async fn call(mut service: RouterServiceClient<Channel>, ends: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !ends.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let decision = route(&mut service, &format!("explain question {}", seen.decisions)).await;
        seen.slowest = seen.slowest.max(asked.elapsed());
        seen.decisions += 1;
        if seen.versions.last() != Some(&decision.bundle_version) {
            seen.versions.push(decision.bundle_version);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_all_serve_on_and_nothing_changes() {
    let mut postgres = Postgres::start().await;
    let fleet = Fleet::start(&postgres.database().await).await;
    fleet.activate(0, FIRST).await.unwrap();
    fleet.serve(FIRST, TOLD_WITHIN).await;
    // One of them runs the canary; nobody else may take it over because the others cannot be heard.
    fleet.canary(0, SECOND, 0.3).await;
    within(TOLD_WITHIN, "one on trial", async || fleet.on_trial().await.len() == 1).await;
    let trial = fleet.on_trial().await[0];
    let ends = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3 * CALLERS_EACH)
        .map(|at| tokio::spawn(call(fleet.replicas[at % 3].service(), Arc::clone(&ends))))
        .collect();
    tokio::time::sleep(AROUND).await;

    postgres.stop(Stop::Immediate);
    let down = Instant::now();
    let mut refused_after = Duration::ZERO;
    for by in 0..3 {
        let asked = Instant::now();
        let (activated, reloaded) = tokio::join!(fleet.activate(by, SECOND), fleet.reload(by));
        for status in [activated.map(drop).unwrap_err(), reloaded.map(drop).unwrap_err()] {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(!status.message().contains("pointsman@"), "{status:?}");
        }
        refused_after = refused_after.max(asked.elapsed());
    }
    assert!(refused_after < REFUSED_WITHIN, "{refused_after:?}");
    tokio::time::sleep(outage().saturating_sub(down.elapsed())).await;
    let lasted = down.elapsed();
    postgres.resume().await;
    tokio::time::sleep(AROUND).await;

    let back = Instant::now();
    within(TOLD_WITHIN, "a change to be taken", async || fleet.activate(1, SECOND).await.is_ok()).await;
    let taken = back.elapsed();
    let reached = fleet.serve(SECOND, TOLD_WITHIN).await;
    ends.store(true, Ordering::Relaxed);
    let (mut decisions, mut slowest) = (0, Duration::ZERO);
    for (at, caller) in callers.into_iter().enumerate() {
        let seen = caller.await.unwrap();
        decisions += seen.decisions;
        slowest = slowest.max(seen.slowest);
        let expected: &[&str] = if at % 3 == trial { &[SECOND] } else { &[FIRST, SECOND] };
        assert_eq!(seen.versions, expected, "replica {} with the canary at {trial}", at % 3);
    }
    eprintln!(
        "{decisions} decisions around an outage of {lasted:?}, none failed, slowest {slowest:?}; refusals within \
         {refused_after:?}; a change was taken {taken:?} and was everywhere {reached:?} later"
    );
    assert!(slowest < ROUTE_MAX, "{slowest:?}");
}
