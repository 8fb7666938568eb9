//! A configuration that one replica is told to read again is read again by all; one that is broken is told.

use pointsman::server::proto::LiveEventKind;

use super::{CONFIGURED, Fleet, STARTS_WITHIN, TOLD_WITHIN, VERSIONS, count, within};
use crate::support::postgres::shared_database;

const RULE: &str = "[[rules]]\nid = \"hard\"\nany = ['borrow']\ntier = \"reasoning\"";
const BROKEN: &str = "[[rules]]\nid = \"hard\"\nany = ['borrow']\ntier = \"hardest\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_by_one_is_followed_by_all() {
    let mut fleet = Fleet::new(&shared_database().await);
    for _ in 0..3 {
        // Otherwise each would see by itself that its file has changed.
        fleet.join(&fleet.sections(VERSIONS, ""), "watch = false\n").await;
    }
    fleet.serve(CONFIGURED, STARTS_WITHIN).await;
    let [asked, following, broken] = &fleet.replicas[..] else { panic!() };
    for other in [following, broken] {
        // Who is not known yet is not asked.
        asked.report_of(other).await;
    }
    let tier = async |replica: &super::Replica| replica.decision().await.tier;
    for (replica, rules) in [(asked, RULE), (following, RULE), (broken, BROKEN)] {
        assert_eq!(tier(replica).await, "simple");
        replica.process().rewrite(&fleet.sections(VERSIONS, rules));
    }

    // Nothing was ever asked of this fleet before.
    let reloaded = fleet.reload(0).await.unwrap();
    assert!(reloaded.changed.iter().any(|section| section == "rules"), "{reloaded:?}");
    assert_eq!(tier(asked).await, "reasoning");
    let took =
        within(TOLD_WITHIN, "another replica's reload", async || tier(following).await == "reasoning").await;
    eprintln!("another replica had read its configuration {took:?} after the answer");
    let by = asked.report_of(broken).await;
    let mut events = Vec::new();
    within(TOLD_WITHIN, "the refusal to be told", async || {
        events = asked.events().await;
        count(&events, LiveEventKind::ConfigRefused, &by) == 1
    })
    .await;
    let refused = events.iter().find(|event| event.kind() == LiveEventKind::ConfigRefused).unwrap();
    assert!(refused.why.contains("rules[0].tier") && refused.who == "fleet", "{refused:?}");
    // Which text it was is told of each, and of the wish that all of them follow.
    let taken: Vec<_> = events.iter().filter(|event| event.kind() == LiveEventKind::ConfigReloaded).collect();
    assert!(taken.len() >= 2, "{events:?}");
    for event in taken.into_iter().chain([refused]) {
        let is_named = |text: &str| text.contains(".toml sha256:");
        assert!(is_named(&event.from) && is_named(&event.to) && event.from != event.to, "{event:?}");
    }
    assert_eq!(tier(broken).await, "simple", "the one before serves on");
    within(TOLD_WITHIN, "the difference to be seen", async || {
        let differences = asked.report_of(broken).await.differences;
        differences.iter().any(|told| told == "another configuration than most")
    })
    .await;

    // By another one, whose own file is what it was.
    broken.process().rewrite(&fleet.sections(VERSIONS, RULE));
    assert_eq!(fleet.reload(1).await.unwrap().changed, Vec::<String>::new());
    within(TOLD_WITHIN, "the repaired configuration", async || tier(broken).await == "reasoning").await;
    within(TOLD_WITHIN, "all to be alike", async || {
        asked.fleet().await.replicas.iter().all(|replica| replica.differences.is_empty())
    })
    .await;
}
