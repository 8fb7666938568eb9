//! A canary by replicas: exactly its share of them runs it, whoever they are.

use std::time::Duration;

use super::{FIRST, Fleet, SECOND, STARTS_WITHIN, TOLD_WITHIN, within};
use crate::support::postgres::shared_database;

/// A replica is taken for gone after 15 s, and each of the others looks every 2 s.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_replicas_runs_a_canary_and_another_one_takes_over() {
    let mut fleet = Fleet::start(&shared_database().await).await;
    fleet.activate(0, FIRST).await.unwrap();
    fleet.serve(FIRST, TOLD_WITHIN).await;

    // 1.02 of 3, rounded up.
    fleet.canary(1, SECOND, 0.34).await;
    within(TOLD_WITHIN, "two on trial", async || fleet.on_trial().await.len() == 2).await;
    let two = fleet.on_trial().await;
    for (at, version) in fleet.versions().await.into_iter().enumerate() {
        assert_eq!(version, if two.contains(&at) { SECOND } else { FIRST });
    }
    within(TOLD_WITHIN, "two to say so", async || {
        let told = fleet.replicas[0].fleet().await;
        let on_trial = told.replicas.iter().filter(|replica| replica.canary == SECOND).count();
        on_trial == 2 && told.replicas.iter().all(|replica| replica.differences.is_empty())
    })
    .await;

    // 0.9 of 3.
    fleet.canary(2, SECOND, 0.3).await;
    within(TOLD_WITHIN, "one on trial", async || fleet.on_trial().await.len() == 1).await;
    let one = fleet.on_trial().await[0];
    assert!(two.contains(&one), "{one} of {two:?}");
    fleet.replicas[one].kill();
    assert_eq!(fleet.on_trial().await, [0_usize; 0]);
    let took = within(TAKEN_OVER_WITHIN, "another one", async || fleet.on_trial().await.len() == 1).await;
    eprintln!("another replica took the canary over {took:?} after the first one was killed");

    fleet.replicas[one].start().await;
    let replica = &fleet.replicas[one];
    within(STARTS_WITHIN, "its classifier", async || {
        [FIRST, SECOND].contains(&&*replica.decision().await.bundle_version)
    })
    .await;
    within(TAKEN_OVER_WITHIN, "one on trial", async || {
        let told = fleet.replicas[one].fleet().await;
        told.replicas
            .iter()
            .filter(|replica| replica.canary == SECOND && replica.differences.is_empty())
            .count()
            >= 1
            && fleet.on_trial().await.len() == 1
    })
    .await;
    fleet.activate(one, SECOND).await.unwrap();
    fleet.serve(SECOND, TOLD_WITHIN).await;
    assert_eq!(fleet.on_trial().await, [0_usize; 0]);
}
