//! The disk of the log is full: no request waits, what is lost is told, what was acknowledged is there when there is room
//! again, and nothing piles up meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use pointsman::server::proto::router_service_client::RouterServiceClient;
use tempfile::TempDir;
use uuid::Uuid;

use super::{emptied, path_in, report, route, said_about, sections};
use crate::{
    faults::process::{Process, metric},
    support::until,
};

/// Far longer than a rule takes on a busy machine, and shorter than a store or a spool that is waited for.
const ROUTE_MAX: Duration = Duration::from_secs(2);
/// Files of the spool that are in use at once, and one that is about to be removed.
const SPOOL_FILES_MAX: usize = 2;
/// Batches that are tried and cannot be kept.
const DROPS: f64 = 50.0;

/// A small disk of its own, for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it, which only root may; `None` where that cannot be done.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", at.to_str().unwrap()])
            .then(|| Self(at))
    }

    fn make_room(&self) {
        assert!(run("mount", &["-o", "remount,size=64m", self.0.to_str().unwrap()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|done| done.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_slows_nothing_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path().join("kept")) else {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    };
    let server = Process::start_in(folder, &sections(""), &[("RUST_LOG", "warn")]).await;
    let folder = stands_a_full_disk(server, || disk.make_room()).await;
    // A folder on which a disk is mounted cannot be removed.
    drop(disk);
    folder.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_slow_nothing_and_that_is_told() {
    // No file of this process may grow beyond 256 KB.
    let limited = "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\"";
    let server = Process::start_by(limited, &sections(""), &[("RUST_LOG", "warn")]).await;
    stands_a_full_disk(server, || {}).await;
}

/// Fills it, makes room, and returns the folder.
async fn stands_a_full_disk(server: Process, make_room: impl FnOnce()) -> TempDir {
    let mut service = RouterServiceClient::new(server.channel.clone());
    let long = "thanks! ".repeat(500);
    let mut acknowledged = Vec::new();
    let dropped = async || metric(&server.metrics().await, "pointsman_traffic_dropped_total", &[]);
    until("drops", async || {
        let mut last = Uuid::nil();
        for _ in 0..10 {
            last = route(&mut service, &long, "a").await;
        }
        match report(&server, last, &[]).await {
            200 | 202 => acknowledged.push(last),
            status => assert_eq!(status, 503),
        }
        dropped().await > 0.0
    })
    .await;
    let mut took = Vec::new();
    let before = dropped().await;
    until("more drops", async || {
        let asked = Instant::now();
        route(&mut service, &long, "a").await;
        took.push(asked.elapsed());
        dropped().await >= before + DROPS
    })
    .await;
    took.sort_unstable();
    // A machine may be busy for a moment; who waits for the disk waits each time.
    assert!(took[took.len() / 2] < ROUTE_MAX, "{took:?}");
    assert!(!acknowledged.is_empty());
    let metrics = server.metrics().await;
    assert!(metric(&metrics, "pointsman_traffic_written_total", &[]) > 0.0, "{metrics}");
    let spool = spool_files(server.folder());
    assert!(spool.len() <= SPOOL_FILES_MAX, "what cannot be begun is removed: {spool:?}");
    let (left, folder) = server.stop_and_keep().await;
    for told in ["records go to the spool", "requests are missing in the traffic log"] {
        assert!(left.log.contains(told), "{told}: {}", left.log);
    }

    // With room again, what was acknowledged is there: it was in the store, or is replayed.
    make_room();
    let server = Process::start_in(folder, &sections(""), &[]).await;
    emptied(&server).await;
    let (_, folder) = server.stop_and_keep().await;
    let said = said_about(&path_in(&folder)).await;
    let lost = acknowledged.iter().filter(|id| !said.contains(id)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
    folder
}

/// Returns the databases in the spool's folder.
fn spool_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("kept/traffic.sqlite-spool")) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == "sqlite")).collect()
}
