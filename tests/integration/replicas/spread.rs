//! A change by one replica reaches all, and all tell of it alike.

use std::time::Instant;

use pointsman::server::proto::LiveEventKind;
use serde_json::Value;

use super::{FIRST, Fleet, REACHES_WITHIN, Replica, SECOND, TOLD_WITHIN, within};
use crate::{
    cli::{pointsman, text},
    support::{allowed, postgres::shared_database},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_by_one_reaches_all_replicas() {
    let fleet = Fleet::start(&shared_database().await).await;
    let versions = [FIRST, SECOND, FIRST, SECOND, FIRST];
    let mut took = Vec::new();
    for (at, version) in versions.into_iter().enumerate() {
        let started = Instant::now();
        let reached = async {
            fleet.activate(at % 3, version).await.unwrap();
            // Before it is answered it serves.
            assert_eq!(fleet.replicas[at % 3].decision().await.bundle_version, version);
        };
        let ((), _) = tokio::join!(reached, fleet.serve(version, TOLD_WITHIN));
        took.push(started.elapsed());
    }
    eprintln!("activations were everywhere after {took:?}");
    assert!(took.iter().all(|took| *took < allowed(REACHES_WITHIN)), "{took:?}");

    let events = fleet.replicas[0].events().await;
    let activated = events.iter().filter(|event| event.kind() == LiveEventKind::Activated);
    let told: Vec<(&str, u64)> = activated.map(|event| (event.to.as_str(), event.revision)).collect();
    assert_eq!(told, [(FIRST, 5), (SECOND, 4), (FIRST, 3), (SECOND, 2), (FIRST, 1)]);
    for replica in &fleet.replicas[1..] {
        assert_eq!(replica.events().await, events);
    }
    for replica in &fleet.replicas {
        within(TOLD_WITHIN, "all to be as wanted", async || {
            let shown = shown(replica);
            let replicas = shown["replicas"].as_array().unwrap();
            let as_wanted = |replica: &&Value| {
                replica["active"] == FIRST
                    && replica["revision"] == 5
                    && replica["ready"] == true
                    && replica["problem"] == Value::Null
                    && replica["differences"] == Value::Array(Vec::new())
            };
            assert_eq!((shown["wanted"]["active"].as_str(), replicas.len()), (Some(FIRST), 3), "{shown:#}");
            replicas.iter().filter(as_wanted).count() == 3
        })
        .await;
    }
}

/// Returns what `pointsman fleet` prints.
fn shown(replica: &Replica) -> Value {
    let output = pointsman(&["fleet", "--json", "--admin", &replica.process().admin], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
