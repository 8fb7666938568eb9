//! The one place that changes what serves: operators, the rollout and the fleet all come through here.
//!
//! A change is tried first - the bundle is fetched, verified and loaded, the configuration checked - then written down
//! for all replicas, then put before requests as one value. What fails on the way changes nothing.

mod assemble;
mod automatic;
mod change;
mod error;
mod events;
mod follow;
mod list;
mod load;
mod reload;
mod report;
mod view;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use self::{automatic::Leading, load::Loaded, view::Recent};
pub use self::{
    error::{DeployError, LoadError, LoadProblem},
    view::{EventsView, FleetView},
};
use super::{
    bundles::{BundleStore, Listed},
    fleet::{Keeper, LIVE_WITHIN},
    rollout::{BundleRef, Desired, Reach, Role},
};
use crate::{
    config::{Config, ConfigError},
    live::Live,
    traffic::now_ms,
};

/// Longest wait for the change before this one: it may download a bundle.
const TURN_WAIT_MAX: Duration = Duration::from_secs(110);

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

/// Who wants a change, and why.
#[derive(Debug, Clone)]
pub struct Cause {
    pub who: Who,
    /// For people; may be empty.
    pub why: String,
}

impl From<Who> for Cause {
    fn from(who: Who) -> Self {
        Self { who, why: String::new() }
    }
}

impl Cause {
    /// Returns what came of it, and why it was asked for where that was said.
    fn after(&self, came: String) -> String {
        if self.why.is_empty() { came } else { format!("{came}; asked for because: {}", self.why) }
    }
}

/// What is asked for, bundles by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    Stage {
        version: String,
    },
    Shadow {
        version: String,
    },
    Canary {
        version: String,
        reach: Reach,
    },
    Activate {
        version: String,
    },
    /// Takes back the canary, else the shadow, else the active bundle; only where that is `version`, if it is given.
    Rollback {
        version: Option<String>,
    },
    Forget {
        version: String,
    },
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    pub desired: Desired,
    /// Of this replica's decisions from now on.
    pub generation: u64,
    /// What happened, for people.
    pub told: String,
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    pub generation: u64,
    /// Sections that changed.
    pub changed: Vec<String>,
    /// Settings that changed and stay what they were until a restart.
    pub needs_restart: Vec<String>,
}

/// One bundle as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleReport {
    pub listed: Listed,
    pub role: Role,
    pub reach: Option<Reach>,
}

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct ConfigRead {
    pub config: Config,
    /// SHA-256 of the file, hexadecimal; empty for the built-in one.
    pub sha256: String,
}

/// Reads the configuration again: the file, with what the command line said beside it.
pub type ReadConfig = Arc<dyn Fn() -> Result<ConfigRead, ConfigError> + Send + Sync>;

/// Where the configuration comes from.
pub struct ConfigSource {
    /// `None`: the built-in one.
    pub path: Option<PathBuf>,
    /// Of the file that was read at the start.
    pub sha256: String,
    pub read: ReadConfig,
}

/// Changes what a [`Live`] serves.
pub struct Deployer {
    live: Arc<Live>,
    keeper: Keeper,
    bundles: BundleStore,
    source: ConfigSource,
    me: Replica,
    /// Held while something changes.
    work: tokio::sync::Mutex<Work>,
    standing: Mutex<Standing>,
    recent: Mutex<Recent>,
}

/// This process among others.
#[derive(Debug, Clone)]
struct Replica {
    id: Uuid,
    host: String,
    started_ms: i64,
}

/// What a change goes on from.
#[derive(Default)]
struct Work {
    /// As it was last followed or made.
    desired: Option<Desired>,
    loaded: Vec<Loaded>,
    /// Versions that have a role and do not serve, so that the cache does not drop them.
    kept: Vec<(BundleRef, Arc<()>)>,
    /// Up to which count of [`Desired::config_reloads`] this replica has read its configuration.
    config_reloads: u64,
    /// Of which count of them it has told that its configuration has to wait for what is wanted.
    reload_told: Option<u64>,
    /// Up to which count of [`Desired::default_loads`] it has looked at the bundle that the configuration names.
    default_loads: u64,
    /// When what failed is to be tried again; `None` where nothing failed.
    again_at: Option<tokio::time::Instant>,
    /// Whether this replica was among the canary's when it last looked.
    chosen: bool,
    /// Until when the others' silence says nothing, because nobody could be heard; `None` where that never was.
    deaf_until: Option<tokio::time::Instant>,
    leading: Leading,
}

/// What this replica says of itself.
#[derive(Debug, Clone, Default)]
struct Standing {
    revision: u64,
    problem: Option<String>,
    config_sha256: String,
    /// Of the configuration that was read before that one.
    config_sha256_before: String,
    /// What the rollout waits for.
    waits: Option<String>,
}

impl Work {
    /// Notes that the others cannot be heard: for so long after they can be again, silence says nothing.
    fn be_deaf(&mut self) {
        self.deaf_until = Some(tokio::time::Instant::now() + LIVE_WITHIN);
    }

    fn is_deaf(&self) -> bool {
        self.deaf_until.is_some_and(|until| tokio::time::Instant::now() < until)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deployer {
    /// Begins with what `live` serves; [`Deployer::run`] takes up what the fleet wants.
    pub fn new(live: Arc<Live>, keeper: Keeper, bundles: BundleStore, source: ConfigSource) -> Self {
        let me = Replica { id: Uuid::now_v7(), host: report::host(), started_ms: now_ms() };
        let standing = Standing { config_sha256: source.sha256.clone(), ..Standing::default() };
        Self {
            live,
            keeper,
            bundles,
            source,
            me,
            work: tokio::sync::Mutex::default(),
            standing: Mutex::new(standing),
            recent: Mutex::default(),
        }
    }

    /// Returns where the configuration comes from.
    pub fn source(&self) -> &ConfigSource {
        &self.source
    }

    /// Loads and verifies a version as for serving, and changes nothing.
    pub async fn verify(&self, version: &str) -> Result<Listed, DeployError> {
        let mut work = self.turn().await?;
        let listed = self.listed(version).await?;
        let config = Arc::clone(&self.live.serving().config);
        let tried = self.try_bundle(&mut work, &config, &listed.bundle).await;
        self.prune(&mut work);
        tried?;
        Ok(listed)
    }

    /// Returns every bundle of the store, the one that the configuration names, and what each of them is.
    pub async fn bundles(&self) -> Result<Vec<BundleReport>, DeployError> {
        let desired = self.desired().await?;
        let listed = self.all_listed(&desired).await?;
        let report = |listed: Listed| {
            let role = desired.role_of(&listed.bundle.name);
            let canary = desired.canary.as_ref().filter(|_| role == Role::Canary);
            BundleReport { reach: canary.map(|canary| canary.reach), role, listed }
        };
        Ok(listed.into_iter().map(report).collect())
    }

    /// Returns what all replicas are to run; `None`: nothing was ever asked for.
    pub async fn wanted(&self) -> Result<Option<Desired>, DeployError> {
        Ok(self.keeper.desired().await?)
    }

    /// Returns what all replicas are to run.
    pub async fn desired(&self) -> Result<Desired, DeployError> {
        Ok(self.wanted().await?.unwrap_or_else(|| Desired::first(now_ms())))
    }

    /// Returns which replica this is.
    pub fn replica_id(&self) -> Uuid {
        self.me.id
    }

    /// Returns what the rollout waits for, as this replica sees it; empty for nothing.
    pub fn waits(&self) -> String {
        self.standing().waits.clone().unwrap_or_default()
    }

    /// Waits for its turn to change something.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, Work>, DeployError> {
        tokio::time::timeout(TURN_WAIT_MAX, self.work.lock()).await.map_err(|_| DeployError::Busy)
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of a version, also of the one that the configuration names.
    async fn listed(&self, version: &str) -> Result<Listed, DeployError> {
        let bundle = self.named(version).await?;
        if bundle.is_configured() {
            return Ok(self.configured());
        }
        Ok(self.bundles.describe(version).await?)
    }

    /// Describes the bundle that the configuration names, as far as it is loaded.
    fn configured(&self) -> Listed {
        let serving = self.live.serving();
        let bundle = BundleRef::configured();
        let loaded = serving.served().find(|served| served.bundle == bundle);
        let name = loaded
            .and_then(|served| served.router.classifier())
            .map_or_else(String::new, |described| format!("{} {}", described.name, described.version));
        Listed { bundle, name, created: String::new(), bytes: 0, signed_by: None, problem: None }
    }

    async fn named(&self, version: &str) -> Result<BundleRef, DeployError> {
        let configured = BundleRef::configured();
        if *configured.name == *version {
            return Ok(configured);
        }
        self.bundles.find(version).await.map_err(DeployError::not_found)
    }
}
