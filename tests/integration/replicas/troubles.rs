//! A replica that cannot load what is wanted keeps what it has, says why, and takes it up when it can.

use std::{fs, time::Duration};

use pointsman::server::proto::LiveEventKind;
use tonic::Code;

use super::{CONFIGURED, FIRST, Fleet, SECOND, STARTS_WITHIN, TOLD_WITHIN, VERSIONS, count, deliver, within};
use crate::support::{
    onnx::{INTENTS, TinyBundle},
    postgres::shared_database,
};

/// What could not be loaded is tried again after 30 s.
const AGAIN_WITHIN: Duration = Duration::from_secs(150);
/// Names an intent that the second version does not have.
const RULE: &str = "[[rules]]\nid = \"sums\"\nany = ['^sums$']\nintent = \"math\"";
const FEWER: &str = "fewer";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_load_a_version_keeps_the_old_one_and_says_why() {
    let mut fleet = Fleet::new(&shared_database().await);
    let versions = fleet.folder.path().join(VERSIONS);
    let without_math: Vec<&str> = INTENTS.into_iter().filter(|&intent| intent != "math").collect();
    fs::remove_dir_all(versions.join(SECOND)).unwrap();
    TinyBundle::new(SECOND).always("simple").intents(&without_math).write_under(&versions);
    let fewer = fleet.folder.path().join(FEWER);
    fs::create_dir(&fewer).unwrap();
    deliver(&versions.join(FIRST), &fewer.join(FIRST));
    fleet.join(&fleet.sections(VERSIONS, ""), "").await;
    fleet.join(&fleet.sections(VERSIONS, RULE), "").await;
    fleet.join(&fleet.sections(FEWER, ""), "").await;
    fleet.serve(CONFIGURED, STARTS_WITHIN).await;
    fleet.activate(1, FIRST).await.unwrap();
    fleet.serve(FIRST, TOLD_WITHIN).await;

    // By themselves they refuse it for all.
    assert_eq!(fleet.activate(1, SECOND).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(fleet.activate(2, SECOND).await.unwrap_err().code(), Code::NotFound);
    let [one, unfit, lacking] = &fleet.replicas[..] else { panic!() };
    // A version that its store does not have is a slip of who asked there.
    for (refusing, told) in [(unfit, 1), (lacking, 0)] {
        let report = one.report_of(refusing).await;
        let events = one.events().await;
        assert_eq!(count(&events, LiveEventKind::Refused, &report), told, "{events:?}");
    }
    fleet.activate(0, SECOND).await.unwrap();
    for (replica, why) in [(unfit, "math"), (lacking, SECOND)] {
        within(TOLD_WITHIN, "a replica to say why", async || {
            one.report_of(replica).await.problem.contains(why)
        })
        .await;
        let report = one.report_of(replica).await;
        assert_eq!((report.active.as_str(), report.revision), (FIRST, 1), "{report:?}");
        for differs in ["at revision 1 of 2", "active is 1.0.0, not 1.1.0"] {
            assert!(report.differences.iter().any(|told| told == differs), "{report:?}");
        }
    }
    assert_eq!(fleet.versions().await, [SECOND, FIRST, FIRST]);

    // What serves in its place still follows its file.
    let before = one.report_of(lacking).await;
    let sections = fleet.sections(FEWER, "");
    lacking.process().rewrite(&format!("{sections}[limits]\nbatch_requests_max = 7\n"));
    within(TOLD_WITHIN, "another configuration", async || {
        one.report_of(lacking).await.config_sha256 != before.config_sha256
    })
    .await;
    assert_eq!(fleet.versions().await, [SECOND, FIRST, FIRST]);
    assert_ne!(one.report_of(lacking).await.problem, "");

    // Each recovers in its way, and nobody has to ask for it again.
    unfit.process().rewrite(&fleet.sections(VERSIONS, ""));
    let fitting =
        within(TOLD_WITHIN, "the one that did not fit", async || fleet.versions().await[1] == SECOND);
    fitting.await;
    deliver(&versions.join(SECOND), &fewer.join(SECOND));
    let took =
        within(AGAIN_WITHIN, "the one that lacked it", async || fleet.versions().await[2] == SECOND).await;
    eprintln!("the missing version serves {took:?} after it was there");
    within(TOLD_WITHIN, "no problem to be left", async || {
        let told = one.fleet().await.replicas;
        told.iter().all(|replica| replica.problem.is_empty() && replica.revision == 2)
    })
    .await;
}
