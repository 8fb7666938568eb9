//! What this replica says of itself to the others.

use super::{Deployer, Standing};
use crate::live::{fleet::ReplicaReport, observe::Watch};

/// Longest host name that is told, characters.
const HOST_CHARS_MAX: usize = 64;

impl Deployer {
    /// Returns what this replica runs at this moment.
    pub fn report(&self) -> ReplicaReport {
        let Standing { revision, problem, config_sha256, .. } = self.standing().clone();
        let serving = self.live.serving();
        let Watch { active, watched, lasted } = self.live.observer().watch();
        ReplicaReport {
            replica_id: self.me.id,
            host: self.me.host.clone(),
            process_id: std::process::id(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.me.started_ms,
            seen_ms: crate::traffic::now_ms(),
            revision,
            generation: serving.generation,
            config_sha256,
            active: serving.active.bundle.name.to_string(),
            configured: Some(self.configured().name).filter(|name| !name.is_empty()),
            canary: serving.canary.as_ref().map(|canary| canary.served.bundle.name.to_string()),
            shadow: serving.shadow.as_ref().map(|shadow| shadow.bundle.name.to_string()),
            ready: self.live.is_ready(),
            problem,
            observed_active: active,
            observed_watched: watched,
            watched_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Returns this machine's name, as far as the system tells it; in a container that is the pod's.
pub fn host() -> String {
    let named =
        std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    named.unwrap_or_default().trim().chars().filter(|char| !char.is_control()).take(HOST_CHARS_MAX).collect()
}
