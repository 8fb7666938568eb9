//! The database goes away under load: all serve on by what they had, nothing can be changed, and afterwards all can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::server::proto::{
    ListEventsRequest, LiveEventKind, WantedFrom, router_service_client::RouterServiceClient,
};
use tonic::{Code, transport::Channel};

use super::{FIRST, Fleet, SECOND, TOLD_WITHIN, route, within};
use crate::{
    cli::text,
    faults::process::metric,
    live_admin::commands::run,
    support::{
        postgres::{Postgres, Stop},
        until,
    },
};

/// Seconds, longer than a replica of which nothing is heard is taken for living (15 s): when the database is back, each
/// finds the others gone at first. A long outage is tried by `POINTSMAN_OUTAGE_S=60`, with `--nocapture` to see its
/// figures.
const OUTAGE_S: u64 = 20;
/// Of load before and after: each replica looks around every two seconds.
const AROUND: Duration = Duration::from_secs(3);
const CALLERS_EACH: usize = 2;
/// Decisions that each caller gets during the outage: far more than there were if each of them waited for the store.
const DECISIONS_MEANWHILE: usize = 40;
/// Longest wait for a refusal, on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

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

async fn call(
    mut service: RouterServiceClient<Channel>,
    made: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        // One more once all are told to end: it sees what serves at the end.
        let is_last = ends.load(Ordering::Relaxed);
        let asked = Instant::now();
        let decision = route(&mut service, &format!("explain question {}", seen.decisions)).await;
        seen.slowest = seen.slowest.max(asked.elapsed());
        seen.decisions += 1;
        if seen.versions.last() != Some(&decision.bundle_version) {
            seen.versions.push(decision.bundle_version);
        }
        made.fetch_add(1, Ordering::Relaxed);
        if is_last {
            return seen;
        }
    }
}

/// Operators look just then: they get what the replica that they ask knows, and are told that it is not all.
async fn what_one_knows_alone(fleet: &Fleet, trial: usize) {
    for (at, replica) in fleet.replicas.iter().enumerate() {
        let seen = replica.fleet().await;
        let away = seen.store_away.expect("it says so");
        assert_eq!(away.wanted_from(), WantedFrom::Memory);
        assert!(!away.replicas_known);
        assert!(away.why.contains("PostgreSQL") && !away.why.contains("pointsman@"), "{away:?}");
        assert!((1..=seen.now_ms).contains(&away.since_ms), "{away:?}");
        let wanted = seen.wanted.expect("as it last heard it");
        assert_eq!((wanted.active.as_str(), wanted.canary.as_str()), (FIRST, SECOND));
        let processes: Vec<u32> = seen.replicas.iter().map(|report| report.process_id).collect();
        assert_eq!(processes, [replica.process().id()]);
        assert_eq!(seen.replicas[0].canary == SECOND, at == trial);
        // Of the first one everything was asked; each has refused something since.
        let asked = ListEventsRequest { events_max: 100 };
        let told = replica.admin().await.list_events(asked).await.unwrap().into_inner();
        assert!(told.store_away.is_some());
        assert_eq!(told.events.iter().any(|event| event.kind() == LiveEventKind::CanaryStarted), at == 0);
        assert!(told.events.iter().any(|event| event.kind() == LiveEventKind::Refused));
        let metrics = replica.process().metrics().await;
        assert_eq!(metric(&metrics, "pointsman_fleet_wanted_from", &[("from", "memory")]), 1.0);
        let since_s = metric(&metrics, "pointsman_fleet_apart_since_seconds", &[]);
        assert!((since_s - away.since_ms as f64 / 1000.0).abs() < 0.01, "{since_s} {away:?}");
    }
    let admin = fleet.replicas[0].process().admin.clone();
    for command in [&["fleet"][..], &["bundle", "events"]] {
        let output = run(None, &[command, &["--admin", &admin]].concat()).await;
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(shown.starts_with("incomplete ") && shown.contains("PostgreSQL"), "{shown}");
    }
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
    let made: Vec<Arc<AtomicUsize>> = (0..3 * CALLERS_EACH).map(|_| Arc::default()).collect();
    let callers: Vec<_> = made
        .iter()
        .enumerate()
        .map(|(at, made)| {
            tokio::spawn(call(fleet.replicas[at % 3].service(), Arc::clone(made), Arc::clone(&ends)))
        })
        .collect();
    let counts = || made.iter().map(|made| made.load(Ordering::Relaxed)).collect::<Vec<_>>();
    until("all callers to have begun", async || counts().into_iter().all(|made| made > 0)).await;
    tokio::time::sleep(AROUND).await;

    postgres.stop(Stop::Immediate);
    let down = Instant::now();
    let (before, mut refused_after) = (counts(), Duration::ZERO);
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
    what_one_knows_alone(&fleet, trial).await;
    tokio::time::sleep(outage().saturating_sub(down.elapsed())).await;
    until("decisions without the database", async || {
        counts().into_iter().zip(&before).all(|(now, before)| now >= before + DECISIONS_MEANWHILE)
    })
    .await;
    let lasted = down.elapsed();
    postgres.resume().await;
    tokio::time::sleep(AROUND).await;

    let back = Instant::now();
    within(TOLD_WITHIN, "a change to be taken", async || fleet.activate(1, SECOND).await.is_ok()).await;
    let taken = back.elapsed();
    let reached = fleet.serve(SECOND, TOLD_WITHIN).await;
    for replica in &fleet.replicas {
        within(TOLD_WITHIN, "the store to be there", async || replica.fleet().await.store_away.is_none())
            .await;
    }
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
}
