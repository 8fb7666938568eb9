//! Versions in an object store behind a server: what must not serve is refused out of it as out of a folder, and told in
//! the log as well; while it is away, a server starts by what it has fetched. A process of its own, for its log.

use std::{fs, path::Path};

use pointsman::server::proto::{LiveEventKind, admin_service_client::AdminServiceClient};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use super::{
    bad_bundles::{UNFIT, every_kind},
    refusals::{Ask, ask},
    world::{Decided, Refused, decide, events, wanted},
};
use crate::{
    faults::process::{Process, metric},
    support::{
        onnx::{Fault, TinyBundle},
        until,
    },
};

/// What serves before anything is asked for.
const CONFIGURED: &str = "0.1.0";

/// A folder with the configured bundle, and an object store that holds nothing yet.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new(CONFIGURED).write(&folder.path().join("own"));
    fs::create_dir(folder.path().join("store")).unwrap();
    folder
}

async fn start(folder: TempDir) -> Process {
    let here = folder.path().display();
    let sections = format!(
        "rules = []\n\
         [classifier]\nbundle = \"{here}/own\"\nworkers = 1\ncache_entries = 0\nwait_ms_max = 60000\n\
         [bundles]\nstore = \"file://{here}/store\"\ncache = \"{here}/cache\"\nlatency_ratio_max = 1000.0\n\
         [traffic]\nstore = \"{here}/traffic.sqlite\"\n\
         [learning]\nenabled = false\n"
    );
    let server = Process::start_in(folder, &sections, &[("RUST_LOG", "warn")]).await;
    until("a bundle to serve", async || !decide(&server.channel, "code").await.bundle.is_empty()).await;
    server
}

async fn admin(server: &Process) -> AdminServiceClient<Channel> {
    let address = format!("http://{}", server.admin);
    AdminServiceClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
}

/// Without its generation, which another start counts anew.
async fn decided(server: &Process) -> Decided {
    Decided { generation: 0, ..decide(&server.channel, "code complex").await }
}

/// Returns whether one line of the log tells that this version was refused, and why.
fn tells(log: &str, version: &str, unfit: &str, because: &str) -> bool {
    log.lines().any(|line| {
        line.contains(" WARN ")
            && [version, unfit, because, "refused; what served goes on"]
                .iter()
                .all(|told| line.contains(told))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_refused_out_of_an_object_store_and_the_log_says_why() {
    let server = start(folder()).await;
    let store = server.folder().join("store");
    let mut client = admin(&server).await;
    let before = decided(&server).await;
    assert_eq!(before.bundle, CONFIGURED);
    // Links are a folder's alone.
    let kinds = every_kind().into_iter().filter(|(fault, ..)| !matches!(fault, Fault::LinkOutside(_)));
    for (at, (fault, unfit, because)) in kinds.enumerate() {
        let version = format!("2.0.{at}");
        TinyBundle::new(&version).fault(fault).write_under(&store);
        check(&server, &version, fault, (unfit, because)).await;
        assert_eq!(decided(&server).await, before, "{fault:?}: what served goes on");
    }
    assert_eq!(wanted(&mut client).await.revision, 0, "nothing is wanted");
    // What is whole is not taken for what was broken before it.
    TinyBundle::new("3.0.0").always("reasoning").write_under(&store);
    ask(&mut client, Ask::Activate("3.0.0")).await.unwrap();
    let now = decided(&server).await;
    assert_eq!((now.bundle.as_str(), now.tier.as_str()), ("3.0.0", "reasoning"));
    server.stop().await;
}

async fn check(server: &Process, version: &str, fault: Fault, (unfit, because): (&str, &str)) {
    let mut client = admin(server).await;
    for asked in [Ask::Stage(version), Ask::Activate(version)] {
        let counted = async || metric(&server.metrics().await, UNFIT, &[("reason", unfit)]);
        let counted_before = counted().await;
        let refused = Refused::from(ask(&mut client, asked).await.expect_err(&format!("{fault:?}")));
        let got = (refused.code, refused.reason.as_str(), refused.unfit.as_str());
        assert_eq!(got, (Code::FailedPrecondition, "UNFIT", unfit), "{fault:?}: {refused:?}");
        assert!(refused.message.contains(because), "{fault:?}: {refused:?} does not say {because:?}");
        let told = &events(&mut client).await[0];
        assert_eq!((told.kind(), told.to.as_str()), (LiveEventKind::Refused, version), "{fault:?}");
        assert!(told.why.starts_with(&format!("{unfit}: ")) && told.why.contains(because), "{told:?}");
        assert_eq!(counted().await, counted_before + 1.0, "{fault:?}: {asked:?} is counted once");
    }
    let log = server.log();
    assert!(tells(&log, version, unfit, because), "{fault:?} {because:?}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_by_what_it_has_fetched_while_its_object_store_is_away() {
    let folder = folder();
    let store = |folder: &Path| folder.join("store");
    TinyBundle::new("1.0.0").always("complex").write_under(&store(folder.path()));
    TinyBundle::new("1.1.0").always("reasoning").write_under(&store(folder.path()));
    let server = start(folder).await;
    ask(&mut admin(&server).await, Ask::Activate("1.0.0")).await.unwrap();
    let before = decided(&server).await;
    assert_eq!((before.bundle.as_str(), before.tier.as_str()), ("1.0.0", "complex"));
    let (_, folder) = server.stop_and_keep().await;

    let away = folder.path().join("away");
    fs::rename(store(folder.path()), &away).unwrap();
    let server = start(folder).await;
    // Until it has read what is wanted, the configured one may serve.
    until("what was wanted", async || decided(&server).await == before).await;
    let mut client = admin(&server).await;
    // What was never fetched cannot be had now, and what serves goes on.
    let refused = Refused::from(ask(&mut client, Ask::Activate("1.1.0")).await.expect_err("it is away"));
    assert!(!refused.message.is_empty(), "{refused:?}");
    assert_eq!(decided(&server).await, before);

    fs::rename(&away, store(server.folder())).unwrap();
    until("a change", async || ask(&mut client, Ask::Activate("1.1.0")).await.is_ok()).await;
    assert_eq!(decided(&server).await.bundle, "1.1.0");
    server.stop().await;
}
