//! A replica that was killed comes back on the right version, whether or not the database is there.

use super::{FIRST, Fleet, SECOND, STARTS_WITHIN, TOLD_WITHIN, within};
use crate::support::postgres::{Postgres, Stop, shared_database};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_during_a_rollout_comes_back_on_the_right_version() {
    let mut fleet = Fleet::start(&shared_database().await).await;
    for (by, version) in [(0, FIRST), (1, SECOND)] {
        let mut victim = fleet.replicas.pop().unwrap();
        let (activated, ()) = tokio::join!(fleet.activate(by, version), async { victim.kill() });
        activated.unwrap();
        fleet.serve(version, TOLD_WITHIN).await;
        victim.start().await;
        fleet.replicas.push(victim);
        let took = fleet.serve(version, STARTS_WITHIN).await;
        eprintln!("back on {version} {took:?} after its start");
    }
    // The one that makes the change: it is everywhere or nowhere.
    let address = fleet.replicas[0].admin().await;
    let request =
        super::ActivateBundleRequest { version: FIRST.to_owned(), ..super::ActivateBundleRequest::default() };
    let cut = tokio::spawn(async move { { address }.activate_bundle(request).await });
    fleet.replicas[0].kill();
    let _ = cut.await.unwrap();
    fleet.replicas[0].start().await;
    within(STARTS_WITHIN, "all to run what is wanted", async || {
        let wanted = fleet.replicas[1].fleet().await.wanted.unwrap().active;
        fleet.versions().await.iter().all(|version| *version == wanted)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_back_while_the_database_is_down_runs_what_it_knew() {
    let mut postgres = Postgres::start().await;
    let mut fleet = Fleet::start(&postgres.database().await).await;
    fleet.activate(0, FIRST).await.unwrap();
    fleet.serve(FIRST, TOLD_WITHIN).await;
    // The last one does not get to know of the second version.
    fleet.replicas[2].kill();
    fleet.activate(0, SECOND).await.unwrap();
    fleet.serve(SECOND, TOLD_WITHIN).await;
    fleet.replicas[1].kill();
    postgres.stop(Stop::Fast);
    fleet.replicas[1].start().await;
    fleet.replicas[2].start().await;
    for (at, version) in [(1, SECOND), (2, FIRST)] {
        let replica = &fleet.replicas[at];
        within(STARTS_WITHIN, version, async || replica.decision().await.bundle_version == version).await;
    }
    assert_eq!(fleet.versions().await, [SECOND, SECOND, FIRST]);
    postgres.resume().await;
    // Whoever finds a server again by asking for it waits longer each time.
    let took = fleet.serve(SECOND, TOLD_WITHIN).await;
    eprintln!("all ran what is wanted {took:?} after the database was back");
    within(TOLD_WITHIN, "a change", async || fleet.activate(2, FIRST).await.is_ok()).await;
    fleet.serve(FIRST, TOLD_WITHIN).await;
}
