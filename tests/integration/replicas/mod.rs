//! Three servers on one PostgreSQL and one bundle store: what is asked of one of them holds for all, also for those
//! that were killed, are cut off or cannot load it. Processes of their own, so that they can be killed.

mod automatic;
mod canaries;
mod outages;
mod reloads;
mod returns;
mod spread;
mod troubles;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pointsman::{
    config::StoreConfig,
    server::proto::{
        self, ActivateBundleRequest, BundleChange, CanaryBundleRequest, CanaryReach, Decision,
        GetFleetRequest, GetFleetResponse, ListEventsRequest, LiveEvent, ReloadConfigRequest,
        ReloadConfigResponse, ReplicaReport, RouteRequest, admin_service_client::AdminServiceClient,
        canary_reach::Reach, router_service_client::RouterServiceClient,
    },
};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use crate::{faults::process::Process, support::onnx::TinyBundle};

/// What is promised of a fleet; where others use the machine as well, see [`crate::support::allowed`].
const REACHES_WITHIN: Duration = Duration::from_secs(5);
/// A server starts within a second or two; these machines are busy.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// A replica says what it runs every two seconds, and is read as often; these machines are busy.
const TOLD_WITHIN: Duration = Duration::from_secs(120);

/// What the configuration names.
const CONFIGURED: &str = "0.9.0";
const FIRST: &str = "1.0.0";
const SECOND: &str = "1.1.0";

/// Where versions lie that every replica sees.
const VERSIONS: &str = "versions";

/// Replicas that share a database.
struct Fleet {
    /// Bundles.
    folder: TempDir,
    url: String,
    replicas: Vec<Replica>,
}

/// A server, which may be killed and started again where it was.
struct Replica {
    /// `None` while it is dead.
    process: Option<Process>,
    folder: Option<TempDir>,
    sections: String,
    server_keys: String,
    url: String,
}

impl Fleet {
    /// Without any replica, and two versions to exchange.
    fn new(place: &StoreConfig) -> Self {
        let StoreConfig::Postgres { url, .. } = place else { panic!("no database of a fleet") };
        let folder = tempfile::tempdir().unwrap();
        let versions = folder.path().join(VERSIONS);
        TinyBundle::new(CONFIGURED).always("simple").write(&folder.path().join("configured"));
        TinyBundle::new(FIRST).always("simple").write_under(&versions);
        TinyBundle::new(SECOND).always("simple").write_under(&versions);
        Self { folder, url: url.expose_secret().to_owned(), replicas: Vec::new() }
    }

    /// Of three.
    async fn start(place: &StoreConfig) -> Self {
        let mut fleet = Self::new(place);
        for _ in 0..3 {
            fleet.join(&fleet.sections(VERSIONS, ""), "").await;
        }
        fleet.serve(CONFIGURED, STARTS_WITHIN).await;
        // Who is not known yet would change whom a share of them is.
        for replica in &fleet.replicas {
            within(TOLD_WITHIN, "all to be known to all", async || {
                replica.fleet().await.replicas.len() == fleet.replicas.len()
            })
            .await;
        }
        fleet
    }

    /// Returns a configuration with other rules and another folder of versions.
    fn sections(&self, versions: &str, rules: &str) -> String {
        let folder = self.folder.path();
        let rules = if rules.is_empty() { "rules = []" } else { rules };
        format!(
            "{rules}\n\
             [classifier]\nbundle = \"{}\"\nworkers = 1\ncache_entries = 0\nwait_ms_max = 60000\n\
             [bundles]\nstore = \"{}\"\nlatency_ratio_max = 100.0\n\
             [traffic]\npostgres_url = \"env:FLEET_URL\"\npostgres_connections_max = 4\n",
            folder.join("configured").display(),
            folder.join(versions).display(),
        )
    }

    async fn join(&mut self, sections: &str, server_keys: &str) {
        let mut replica = Replica {
            process: None,
            folder: Some(tempfile::tempdir().unwrap()),
            sections: sections.to_owned(),
            server_keys: server_keys.to_owned(),
            url: self.url.clone(),
        };
        replica.start().await;
        self.replicas.push(replica);
    }

    fn living(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.process.is_some())
    }

    /// Returns by which version each living replica decides.
    async fn versions(&self) -> Vec<String> {
        let mut versions = Vec::new();
        for replica in self.living() {
            versions.push(replica.decision().await.bundle_version);
        }
        versions
    }

    /// Waits until every living replica decides by a version; returns how long that took.
    async fn serve(&self, version: &str, most: Duration) -> Duration {
        let all = self.living().map(|replica| {
            within(most, version, async || replica.decision().await.bundle_version == version)
        });
        futures::future::join_all(all).await.into_iter().max().unwrap()
    }

    /// Returns how many replicas decide by the canary.
    async fn on_trial(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for (at, replica) in self.replicas.iter().enumerate() {
            if replica.process.is_some() && replica.decision().await.canary {
                found.push(at);
            }
        }
        found
    }

    /// Makes one replica activate a version.
    async fn activate(&self, by: usize, version: &str) -> Result<BundleChange, Status> {
        let request =
            ActivateBundleRequest { version: version.to_owned(), ..ActivateBundleRequest::default() };
        let answer = self.replicas[by].admin().await.activate_bundle(request).await?;
        Ok(answer.into_inner().change.unwrap())
    }

    async fn reload(&self, by: usize) -> Result<ReloadConfigResponse, Status> {
        let answer = self.replicas[by].admin().await.reload_config(ReloadConfigRequest::default()).await?;
        Ok(answer.into_inner())
    }

    /// Makes a version the canary of a share of the replicas.
    async fn canary(&self, by: usize, version: &str, share: f64) {
        let reach = Some(CanaryReach { reach: Some(Reach::ReplicaShare(share)) });
        let request =
            CanaryBundleRequest { version: version.to_owned(), reach, ..CanaryBundleRequest::default() };
        self.replicas[by].admin().await.canary_bundle(request).await.unwrap();
    }
}

impl Replica {
    fn process(&self) -> &Process {
        self.process.as_ref().expect("it lives")
    }

    async fn start(&mut self) {
        let folder = self.folder.take().expect("it is dead");
        let environment = [("FLEET_URL", &*self.url), ("RUST_LOG", "info")];
        let process = Process::start_with(folder, &self.sections, &self.server_keys, &environment);
        self.process = Some(process.await);
    }

    /// Kills it as `kill -9` does.
    fn kill(&mut self) {
        let mut process = self.process.take().expect("it lives");
        process.kill();
        self.folder = Some(process.into_folder());
    }

    async fn admin(&self) -> AdminServiceClient<Channel> {
        let address = format!("http://{}", self.process().admin);
        AdminServiceClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
    }

    fn service(&self) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.process().channel.clone())
    }

    async fn decision(&self) -> Decision {
        route(&mut self.service(), "explain the borrow checker").await
    }

    /// Returns what it knows of the fleet.
    async fn fleet(&self) -> GetFleetResponse {
        self.admin().await.get_fleet(GetFleetRequest {}).await.unwrap().into_inner()
    }

    /// Returns what another one says of itself, as this one knows it.
    async fn report_of(&self, other: &Self) -> ReplicaReport {
        let mut found = None;
        within(TOLD_WITHIN, "a report", async || {
            let replicas = self.fleet().await.replicas;
            found = replicas.into_iter().find(|report| report.process_id == other.process().id());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn events(&self) -> Vec<LiveEvent> {
        let request = ListEventsRequest { events_max: 100 };
        self.admin().await.list_events(request).await.unwrap().into_inner().events
    }
}

/// Returns a decision, which there always is.
async fn route(service: &mut RouterServiceClient<Channel>, text: &str) -> Decision {
    let request = RouteRequest { prompt: Some(text.to_owned()), ..RouteRequest::default() };
    service.route(request).await.expect("no request fails").into_inner().decision.unwrap()
}

/// Waits for a condition so long at most; returns how long it took.
async fn within(most: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let holds = holds().await;
        let took = started.elapsed();
        assert!(took < most, "waited in vain for {what}");
        if holds {
            return took;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Copies a bundle so that it is there as a whole or not at all.
fn deliver(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    fs::create_dir_all(&beside).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), beside.join(entry.file_name())).unwrap();
    }
    fs::rename(beside, to).unwrap();
}

/// Returns how often a kind of event stands there of a replica.
fn count(events: &[LiveEvent], kind: proto::LiveEventKind, by: &ReplicaReport) -> usize {
    events.iter().filter(|event| event.kind() == kind && event.replica_id == by.replica_id).count()
}
