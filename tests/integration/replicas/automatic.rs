//! A rollout by itself on three replicas, one of them killed meanwhile: what is good takes over everywhere, what is not is
//! taken back everywhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pointsman::server::proto::{
    self, CanaryBundleRequest, CanaryReach, LiveEvent, LiveEventKind, canary_reach::Reach,
};

use super::{CONFIGURED, FIRST, Fleet, Replica, STARTS_WITHIN, TOLD_WITHIN, VERSIONS, route, within};
use crate::support::{
    onnx::{INTENTS, LEVELS, TinyBundle},
    postgres::shared_database,
};

/// Its scores say nothing about a prompt.
const RANDOM: &str = "6.6.6";
/// Some requests are seen in it, also on a busy machine, on which no latency and no late answer says anything.
const ROLLOUT: &str = "[rollout]\nautomatic = true\nwindow_s = 5\nsamples_min = 50\nsteps = [0.5]\n\
                       [rollout.limits]\nlatency_ratio_max = 100.0\ncoverage_fall_max = 1.0\n";
/// A window, one replica that was killed and is waited for until it counts as gone, and looks every 10 s; three times as
/// long where machines are busy.
const ENDS_WITHIN: Duration = Duration::from_secs(240);
const CALLERS_EACH: usize = 2;

/// Gives half of the requests to a version.
async fn half(replica: &Replica, version: &str) {
    let reach = Some(CanaryReach { reach: Some(Reach::RequestShare(0.5)) });
    let request =
        CanaryBundleRequest { version: version.to_owned(), reach, ..CanaryBundleRequest::default() };
    replica.admin().await.canary_bundle(request).await.unwrap();
}

/// Waits for what the rollout itself made of a version.
async fn ended(replica: &Replica, kind: LiveEventKind, version: &str) -> LiveEvent {
    let mut found = None;
    within(ENDS_WITHIN, version, async || {
        let events = replica.events().await;
        found = events.into_iter().find(|event| {
            event.kind() == kind && event.who == "rollout" && [&*event.from, &*event.to].contains(&version)
        });
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_one_takes_over_and_a_random_one_is_taken_back_while_a_replica_is_killed() {
    let mut fleet = Fleet::new(&shared_database().await);
    TinyBundle::new(RANDOM).random(7).write_under(&fleet.folder.path().join(VERSIONS));
    let sections = format!("{}{ROLLOUT}", fleet.sections(VERSIONS, ""));
    for _ in 0..3 {
        fleet.join(&sections, "").await;
    }
    fleet.serve(CONFIGURED, STARTS_WITHIN).await;
    let ends = Arc::<AtomicBool>::default();
    // The one in the middle is killed.
    let callers: Vec<_> = [0, 2]
        .into_iter()
        .flat_map(|at| [at; CALLERS_EACH])
        .enumerate()
        .map(|(caller, at)| {
            let (mut service, ends) = (fleet.replicas[at].service(), Arc::clone(&ends));
            tokio::spawn(async move {
                for turn in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    // Of as many kinds as there are, so that scores which mean nothing differ.
                    let (intent, level) = (INTENTS[turn % INTENTS.len()], LEVELS[turn % LEVELS.len()]);
                    route(&mut service, &format!("{level} {intent}, question {turn} of {caller}")).await;
                }
            })
        })
        .collect();

    half(&fleet.replicas[0], FIRST).await;
    fleet.replicas[1].kill();
    let promoted = ended(&fleet.replicas[2], LiveEventKind::Promoted, FIRST).await;
    assert!(promoted.why.contains("scored requests"), "{promoted:?}");
    fleet.serve(FIRST, TOLD_WITHIN).await;
    fleet.replicas[1].start().await;
    fleet.serve(FIRST, STARTS_WITHIN).await;

    half(&fleet.replicas[1], RANDOM).await;
    fleet.replicas[1].kill();
    let back = ended(&fleet.replicas[0], LiveEventKind::RolledBack, RANDOM).await;
    assert!(back.why.contains("tier"), "{back:?}");
    fleet.replicas[1].start().await;
    fleet.serve(FIRST, STARTS_WITHIN).await;
    within(TOLD_WITHIN, "all to be alike", async || {
        let told = fleet.replicas[0].fleet().await;
        // Those that were killed are silent, and so differ.
        let alike = |replica: &&proto::ReplicaReport| {
            replica.active == FIRST && replica.canary.is_empty() && replica.differences.is_empty()
        };
        told.replicas.iter().filter(alike).count() == 3
    })
    .await;
    ends.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}
