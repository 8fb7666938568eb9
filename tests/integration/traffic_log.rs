//! The traffic log of a real server: what it keeps when it is killed, when its disk is full, when its file is broken,
//! and what it never keeps.

mod full_disk;
mod outages;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pointsman::{
    config::StoreConfig,
    server::proto::{self, RouteRequest, router_service_client::RouterServiceClient},
    traffic::{
        record::Logged,
        store::{Selection, Store},
    },
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    faults::process::{Process, metric},
    support::{PATIENCE, until},
};

/// Rules decide, nothing is asked of a model.
const NO_CLASSIFIER: &str = "[classifier]\nenabled = false\n";
const FLUSH: Duration = Duration::from_millis(50);
/// Returns the sections of a server that logs beside its configuration.
fn sections(more: &str) -> String {
    let flush_ms = FLUSH.as_millis();
    format!("{NO_CLASSIFIER}[traffic]\nstore = \"kept/traffic.sqlite\"\nflush_ms = {flush_ms}\n{more}")
}

fn store_path(folder: &Path) -> PathBuf {
    folder.join("kept/traffic.sqlite")
}

async fn route(service: &mut RouterServiceClient<Channel>, text: &str, tenant: &str) -> Uuid {
    let request = RouteRequest {
        prompt: Some(text.to_owned()),
        context: Some(proto::Context { tenant: tenant.to_owned(), ..proto::Context::default() }),
        ..RouteRequest::default()
    };
    let answer = service.route(request).await.unwrap().into_inner();
    answer.decision.unwrap().decision_id.parse().unwrap()
}

/// Gives feedback and returns the status, 0 where no answer came.
async fn report(server: &Process, decision: Uuid, more: &[(&str, &str)]) -> u16 {
    let mut body = json!({ "decision_id": decision, "verdict": "good" });
    for (field, text) in more {
        body[field] = Value::from(*text);
    }
    let sent = server.client.post(server.url("/v1/feedback")).json(&body).send().await;
    sent.map_or(0, |answer| answer.status().as_u16())
}

/// Waits until the store is there and has taken what was in the spool. Before, feedback may go to the spool and is not
/// yet of a decision that is known.
pub async fn emptied(server: &Process) {
    until("an empty spool", async || {
        let metrics = server.metrics().await;
        metric(&metrics, "pointsman_traffic_store_up", &[]) == 1.0
            && metric(&metrics, "pointsman_traffic_spooled", &[]) == 0.0
    })
    .await;
}

async fn logged(path: &Path) -> Vec<Logged> {
    let store = Store::open_existing(&StoreConfig::Sqlite { path: path.to_owned() }).await.unwrap();
    let mut all: Vec<Logged> = Vec::new();
    loop {
        let after = all.last().map(|last| pointsman::traffic::store::Cursor {
            at_ms: last.record.at_ms,
            decision_id: last.record.decision_id,
        });
        let page = store.page(&Selection::default(), after, 1000).await.unwrap();
        if page.is_empty() {
            store.close(PATIENCE).await;
            return all;
        }
        all.extend(page);
    }
}

/// Returns the decisions about which something was said, also where their records were dropped.
async fn said_about(path: &Path) -> Vec<Uuid> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    let select = sqlx::query_scalar::<_, String>("SELECT decision_id FROM feedback");
    let ids = select.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

async fn is_sound(path: &Path) -> bool {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    let found: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    found == "ok"
}

/// Returns the files below a folder that hold this text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_writing_it_keeps_what_it_promised() {
    /// Decisions between two pieces of feedback.
    const BETWEEN: usize = 20;
    const ACKNOWLEDGED: usize = 10;
    let mut folder = tempfile::tempdir().unwrap();
    let (mut durable, mut acknowledged) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut server = Process::start_in(folder, &sections(""), &[]).await;
        let mut service = RouterServiceClient::new(server.channel.clone());
        emptied(&server).await;
        let written = async || metric(&server.metrics().await, "pointsman_traffic_written_total", &[]);
        let before = written().await;
        // Written when their time has come, and nobody asks for it.
        for _ in 0..BETWEEN {
            durable.push(route(&mut service, "thanks!", "a").await);
        }
        until("decisions to be written", async || written().await >= before + BETWEEN as f64).await;
        let (mut decided, mut told) = (Vec::new(), 0);
        while told < ACKNOWLEDGED {
            for _ in 0..BETWEEN {
                decided.push(route(&mut service, "thanks!", "a").await);
            }
            let about = decided[decided.len() - 1];
            if report(&server, about, &[]).await == 200 {
                told += 1;
                acknowledged.push(about);
                // Feedback is written after the records that waited before it.
                durable.append(&mut decided);
            }
        }
        // What is being written when it is killed.
        for _ in 0..BETWEEN / 2 {
            route(&mut service, "thanks!", "a").await;
        }
        server.kill();
        folder = server.into_folder();
    }
    assert!(is_sound(&store_path(folder.path())).await);
    // What a busy disk had it put aside is written by the next one.
    let server = Process::start_in(folder, &sections(""), &[]).await;
    emptied(&server).await;
    let (_, folder) = server.stop_and_keep().await;
    let path = path_in(&folder);
    let logged = logged(&path).await;
    let known: BTreeSet<Uuid> = logged.iter().map(|logged| logged.record.decision_id).collect();
    let missing = durable.iter().filter(|id| !known.contains(id)).count();
    assert_eq!(missing, 0, "of {}", durable.len());
    let said = said_about(&path).await;
    let lost = acknowledged.iter().filter(|id| !said.contains(id)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_steady_load_it_loses_no_more_than_the_last_moment() {
    const KILLS: usize = 3;
    const FLUSH_MS: u64 = 200;
    /// Of load: several times what may be lost.
    const LOAD: Duration = Duration::from_secs(4);
    /// More than a busy machine needs to write a batch, and less than the load.
    const BUSY_MS: u64 = 2_000;
    let flush = format!("{NO_CLASSIFIER}[traffic]\nstore = \"kept/traffic.sqlite\"\nflush_ms = {FLUSH_MS}\n");
    let mut folder = tempfile::tempdir().unwrap();
    let mut rounds = Vec::new();
    for _ in 0..KILLS {
        let mut server = Process::start_in(folder, &flush, &[("RUST_LOG", "warn")]).await;
        let mut service = RouterServiceClient::new(server.channel.clone());
        emptied(&server).await;
        let (started, mut decided) = (Instant::now(), Vec::new());
        while started.elapsed() < LOAD {
            decided.push(route(&mut service, "thanks!", "a").await);
        }
        server.kill();
        folder = server.into_folder();
        rounds.push(decided);
    }
    // What a busy disk had it put aside is written by the next one.
    let server = Process::start_in(folder, &flush, &[("RUST_LOG", "warn")]).await;
    emptied(&server).await;
    let (_, folder) = server.stop_and_keep().await;
    let logged = logged(&path_in(&folder)).await;
    let known: BTreeSet<Uuid> = logged.iter().map(|logged| logged.record.decision_id).collect();
    let mut lost_ms = Vec::new();
    for decided in &rounds {
        let lost = decided.iter().position(|id| !known.contains(id)).unwrap_or(decided.len());
        assert!(lost > 0 && decided[lost..].iter().all(|id| !known.contains(id)), "only the latest are lost");
        lost_ms.push(made_ms(decided[decided.len() - 1]) - made_ms(decided[lost - 1]));
    }
    eprintln!("killed under load, the log lost its last {lost_ms:?} ms, written every {FLUSH_MS} ms");
    assert!(lost_ms.iter().all(|lost| *lost <= FLUSH_MS + BUSY_MS), "{lost_ms:?}");
}

/// Returns when a decision was made, milliseconds since 1970.
fn made_ms(decision: Uuid) -> u64 {
    let (seconds, nanoseconds) = decision.get_timestamp().unwrap().to_unix();
    seconds * 1_000 + u64::from(nanoseconds) / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_writes_what_waits() {
    let slow = "[traffic]\nstore = \"kept/traffic.sqlite\"\nflush_ms = 60000\n";
    let server = Process::start(&format!("{NO_CLASSIFIER}{slow}"), &[]).await;
    let mut service = RouterServiceClient::new(server.channel.clone());
    let mut decided = Vec::new();
    for _ in 0..20 {
        decided.push(route(&mut service, "thanks!", "a").await);
    }
    let (_, folder) = server.stop_and_keep().await;
    let logged = logged(&store_path(folder.path())).await;
    assert_eq!(logged.iter().map(|logged| logged.record.decision_id).collect::<Vec<_>>(), decided);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_at_the_start_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_path(folder.path());
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "no database at all, but long enough to be taken for one that is broken".repeat(99))
        .unwrap();
    let server = Process::start_in(folder, &sections(""), &[]).await;
    let mut service = RouterServiceClient::new(server.channel.clone());
    let id = route(&mut service, "thanks!", "a").await;
    assert!([200, 202].contains(&report(&server, id, &[]).await));
    emptied(&server).await;
    let (left, folder) = server.stop_and_keep().await;
    assert!(left.log.contains("traffic store is broken"), "{}", left.log);
    let mut logged = logged(&path_in(&folder)).await;
    assert_eq!(logged.pop().map(|logged| logged.feedback.len()), Some(1));
    let aside = fs::read_dir(folder.path().join("kept")).unwrap();
    let aside: Vec<String> = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(aside.iter().any(|name| name.starts_with("traffic.sqlite.corrupt-")), "{aside:?}");
}

fn path_in(folder: &TempDir) -> PathBuf {
    store_path(folder.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_while_it_is_used_is_moved_aside() {
    let server = Process::start(&sections(""), &[]).await;
    emptied(&server).await;
    let mut service = RouterServiceClient::new(server.channel.clone());
    let first = route(&mut service, "thanks!", "a").await;
    assert_eq!(report(&server, first, &[]).await, 200);
    let path = store_path(server.folder());
    let broken = "broken ".repeat(20_000);
    for name in ["traffic.sqlite", "traffic.sqlite-wal"] {
        fs::write(path.with_file_name(name), &broken).unwrap();
    }
    let mut acknowledged = Vec::new();
    until("a new file", async || {
        let id = route(&mut service, "thanks!", "a").await;
        if [200, 202].contains(&report(&server, id, &[]).await) {
            acknowledged.push(id);
        }
        let names = fs::read_dir(path.parent().unwrap()).unwrap();
        names.into_iter().any(|name| name.unwrap().file_name().to_string_lossy().contains(".corrupt-"))
    })
    .await;
    emptied(&server).await;
    let last = route(&mut service, "thanks!", "a").await;
    assert_eq!(report(&server, last, &[]).await, 200);
    acknowledged.push(last);
    let (_, folder) = server.stop_and_keep().await;
    assert!(is_sound(&path_in(&folder)).await);
    let said = said_about(&path_in(&folder)).await;
    let lost = acknowledged.iter().filter(|id| !said.contains(id)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_kept_by_policy_alone() {
    let policies = "text = \"redacted\"\n[traffic.tenant_text]\nkeeps = \"full\"\nhashes = \"hash\"\nforgets = \"none\"\n";
    let server = Process::start(&sections(policies), &[("RUST_LOG", "trace")]).await;
    emptied(&server).await;
    let mut service = RouterServiceClient::new(server.channel.clone());
    // Each has a word of its own, and an address that is replaced unless everything is kept.
    for tenant in ["keeps", "hashes", "forgets", "other"] {
        let text = format!("thanks! word-of-{tenant} mail me at someone@{tenant}.example");
        let id = route(&mut service, &text, tenant).await;
        let comment = format!("remark-of-{tenant} from someone@{tenant}.example");
        assert_eq!(report(&server, id, &[("comment", &comment)]).await, 200);
    }
    // Nobody knows whose this is: the strictest policy holds.
    let unknown = Uuid::now_v7();
    assert_eq!(report(&server, unknown, &[("comment", "remark-of-nobody")]).await, 202);
    let check = |folder: &Path| {
        for (text, is_kept) in [
            ("word-of-keeps", true),
            ("someone@keeps.example", true),
            ("remark-of-keeps", true),
            ("word-of-other", true),
            ("remark-of-other", true),
            ("someone@other.example", false),
            ("word-of-hashes", false),
            ("remark-of-hashes", false),
            ("someone@hashes.example", false),
            ("word-of-forgets", false),
            ("remark-of-forgets", false),
            ("someone@forgets.example", false),
            ("remark-of-nobody", false),
        ] {
            let found = holding(folder, text);
            let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let in_store = names.iter().any(|name| name.starts_with("traffic.sqlite"));
            assert_eq!(in_store, is_kept, "{text}: {names:?}");
            assert!(names.iter().all(|name| name.starts_with("traffic.sqlite")), "{text}: {names:?}");
        }
    };
    check(server.folder());
    let metrics = server.metrics().await;
    assert!(!metrics.contains("someone@") && !metrics.contains("word-of"), "{metrics}");
    let (_, folder) = server.stop_and_keep().await;
    check(folder.path());
}
