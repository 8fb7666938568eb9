//! PostgreSQL goes away under load and comes back: no request notices, nothing that was acknowledged is lost, nothing
//! is doubled.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::{
    config::{Config, StoreConfig, TrafficConfig},
    server::proto::router_service_client::RouterServiceClient,
    traffic::store::{Cursor, Selection, Store},
};
use reqwest::Client;
use serde_json::json;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{NO_CLASSIFIER, route};
use crate::support::{
    PATIENCE, TestServer, config,
    postgres::{Postgres, Stop},
    until,
};

/// Seconds, long enough for every case; a long outage is tried by `POINTSMAN_OUTAGE_S=30`, with `--nocapture` to see
/// how many it were.
const OUTAGE_S: u64 = 10;
const CALLERS: usize = 4;
/// Each caller says something about every so many decisions.
const FEEDBACK_EVERY: usize = 5;
/// Decisions that each caller gets before, during and after the outage: far more than there were if each of them waited
/// for the store.
const DECISIONS_EACH: usize = 50;

fn logging(folder: &std::path::Path, store: StoreConfig) -> Config {
    let mut config = config(NO_CLASSIFIER);
    config.traffic = TrafficConfig {
        store,
        flush: Duration::from_millis(50),
        ..TrafficConfig::in_folder(folder.to_owned())
    };
    config
}

fn outage() -> Duration {
    let asked = std::env::var("POINTSMAN_OUTAGE_S").ok();
    Duration::from_secs(asked.map_or(OUTAGE_S, |seconds| seconds.parse().unwrap()))
}

/// A decision that waited for the store would take as long as that is waited for (3 seconds) or as long as it is away.
/// One in a hundred may have had to wait for a busy machine.
const USUAL_MAX: Duration = Duration::from_secs(1);

/// What a caller was told.
#[derive(Default)]
struct Told {
    decided: BTreeSet<Uuid>,
    acknowledged: BTreeSet<String>,
    /// Statuses of feedback that was not acknowledged.
    refused: Vec<u16>,
    took: Vec<Duration>,
}

/// Gives feedback as a client does, and returns the status.
async fn report(client: &Client, server: SocketAddr, decision: Uuid) -> u16 {
    let body = json!({ "decision_id": decision, "feedback_id": "1", "verdict": "good" });
    let sent = client.post(format!("http://{server}/v1/feedback")).json(&body).send().await;
    sent.unwrap().status().as_u16()
}

async fn call(
    mut service: RouterServiceClient<Channel>,
    server: SocketAddr,
    made: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
) -> Told {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut told = Told::default();
    while !ends.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let id = route(&mut service, "thanks!", "a").await;
        told.took.push(asked.elapsed());
        told.decided.insert(id);
        made.fetch_add(1, Ordering::Relaxed);
        if told.decided.len() % FEEDBACK_EVERY == 0 {
            match report(&client, server, id).await {
                200 | 202 => drop(told.acknowledged.insert(format!("{id}/1"))),
                status => told.refused.push(status),
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_away_under_load_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().await;
    let place = postgres.database().await;
    let server = TestServer::start(logging(folder.path(), place.clone()), None).await;
    let ends = Arc::new(AtomicBool::new(false));
    let made: [Arc<AtomicUsize>; CALLERS] = Default::default();
    let callers = made
        .each_ref()
        .map(|made| tokio::spawn(call(server.client(), server.http, Arc::clone(made), Arc::clone(&ends))));
    let counts = || made.each_ref().map(|made| made.load(Ordering::Relaxed));
    let more = async |what: &str| {
        let before = counts();
        until(what, async || {
            counts().iter().zip(before).all(|(now, before)| *now >= before + DECISIONS_EACH)
        })
        .await;
    };
    more("decisions before").await;
    postgres.stop(Stop::Immediate);
    tokio::join!(more("decisions meanwhile"), tokio::time::sleep(outage()));
    // A connection that nobody used meanwhile is looked for as long as a store is waited for.
    until("the spool to be used", async || server.live.traffic().status().spooled > 0).await;
    let spooled = server.live.traffic().status().spooled;
    postgres.resume().await;
    more("decisions afterwards").await;
    ends.store(true, Ordering::Relaxed);
    let mut all = Told::default();
    for caller in callers {
        let Told { decided, acknowledged, refused, took } = caller.await.unwrap();
        all.decided.extend(decided);
        all.acknowledged.extend(acknowledged);
        all.refused.extend(refused);
        all.took.extend(took);
    }
    until("the replay", async || {
        let status = server.live.traffic().status();
        status.store_up && status.spooled == 0 && status.waiting == 0
    })
    .await;
    assert_eq!(server.live.traffic().status().dropped, 0);
    let live = Arc::clone(&server.live);
    server.stop().await.unwrap();
    live.traffic().stop().await;

    let store = Store::open_existing(&place).await.unwrap();
    let (mut records, mut given) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let page = store.page(&Selection::default(), after, 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Cursor { at_ms: last.record.at_ms, decision_id: last.record.decision_id });
        for logged in page {
            records.push(logged.record.decision_id);
            given.extend(logged.feedback.into_iter().map(|feedback| feedback.feedback_id));
        }
    }
    store.close(PATIENCE).await;
    let doubled = records.len() + given.len()
        - records.iter().collect::<BTreeSet<_>>().len()
        - given.iter().collect::<BTreeSet<_>>().len();
    all.took.sort_unstable();
    let (usual, slowest) = (all.took[all.took.len() * 99 / 100], all.took[all.took.len() - 1]);
    eprintln!(
        "{} decided, {} pieces of feedback acknowledged, {spooled} replayed after {:?}, {doubled} doubled, \
         99 of 100 within {usual:?}, slowest {slowest:?}",
        all.decided.len(),
        all.acknowledged.len(),
        outage(),
    );
    records.sort_unstable();
    given.sort_unstable();
    assert!(records.len() >= 3 * CALLERS * DECISIONS_EACH, "{}", records.len());
    assert!(records.iter().eq(&all.decided), "{} of {}", records.len(), all.decided.len());
    assert!(given.iter().eq(&all.acknowledged), "{} of {}", given.len(), all.acknowledged.len());
    assert_eq!(all.refused, [0_u16; 0]);
    assert!(usual < USUAL_MAX && slowest < outage(), "{usual:?}, {slowest:?}");
}
