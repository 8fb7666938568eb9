//! Reads the configuration again: what can be applied is, the rest is named, and a broken one changes nothing.

use std::sync::Arc;

use super::{
    Cause, ConfigRead, DeployError, Deployer, Reloaded, Who, Work,
    change::{Plan, TRIES_MAX},
};
use crate::{
    config::{Config, ConfigError, Problem},
    live::{
        Next, Prepared, Serving,
        fleet::{EventKind, ReplicaReport},
        merge::{Merged, merge},
        off_reactor::try_off_reactor,
        rollout::{BundleRef, Change, Desired, Told},
    },
    telemetry::{self, ReloadOutcome},
    traffic::now_ms,
};

/// Said to have changed where another bundle lies in the place that the configuration names.
const BUNDLE_CONTENT: &str = "classifier.bundle";

impl Deployer {
    /// Reads the configuration again on this replica; on an error the old one serves on.
    pub async fn reload(&self, who: Who) -> Result<Reloaded, DeployError> {
        let mut work = self.turn().await?;
        self.reload_here(&mut work, &who.into()).await
    }

    /// Reads the configuration again on this replica, and when that went well asks all others to read theirs.
    pub async fn reload_all(&self, cause: impl Into<Cause>) -> Result<Reloaded, DeployError> {
        let cause = cause.into();
        let mut work = self.turn().await?;
        let reloaded = self.reload_here(&mut work, &cause).await?;
        let is_other = |replica: &ReplicaReport| replica.replica_id != self.me.id;
        if self.keeper.live_replicas().await.map_err(DeployError::Alone)?.iter().any(is_other) {
            let cause = Cause { why: cause.after(told(&reloaded)), who: cause.who };
            self.ask_others(&mut work, &cause).await.map_err(|error| match error {
                DeployError::Store(error) => DeployError::Alone(error),
                error => error,
            })?;
        }
        Ok(reloaded)
    }

    /// Has all replicas read their configuration again, whatever else is wanted by now.
    async fn ask_others(&self, work: &mut Work, cause: &Cause) -> Result<(), DeployError> {
        for _ in 1..TRIES_MAX {
            let before = self.kept().await?;
            match self.make(work, before, &Change::ReloadConfig, cause).await {
                Err(DeployError::Overtaken) => {}
                outcome => return outcome.map(drop),
            }
        }
        Err(DeployError::Overtaken)
    }

    pub(super) async fn reload_here(&self, work: &mut Work, cause: &Cause) -> Result<Reloaded, DeployError> {
        let Cause { who, .. } = cause;
        let outcome = self.try_reload(work).await;
        let (counted, kind, why) = match &outcome {
            Ok(reloaded) if reloaded.changed.is_empty() && reloaded.needs_restart.is_empty() => {
                (ReloadOutcome::Unchanged, None, String::new())
            }
            Ok(reloaded) => (ReloadOutcome::Applied, Some(EventKind::ConfigReloaded), told(reloaded)),
            Err(error) => (ReloadOutcome::Refused, Some(EventKind::ConfigRefused), error.to_string()),
        };
        telemetry::config_reload(counted);
        match &outcome {
            Ok(Reloaded { generation, changed, needs_restart }) => {
                tracing::info!(%who, generation, changed = changed.join(", "), "configuration read again");
                for setting in needs_restart {
                    tracing::warn!(setting, "changed, and stays what it was until a restart");
                }
            }
            Err(error) => tracing::error!(%who, %error, "configuration refused; the one before serves on"),
        }
        if let Some(kind) = kind {
            let path = self.source.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
            self.tell(
                &Told { kind, from: path.clone(), to: path },
                &Cause { who: who.clone(), why: cause.after(why) },
            )
            .await;
        }
        self.prune(work);
        outcome
    }

    async fn try_reload(&self, work: &mut Work) -> Result<Reloaded, DeployError> {
        let ConfigRead { config, sha256 } = self.read().await?;
        let before = self.live.serving();
        let Merged { config, mut changed, needs_restart } = merge(&before.config, config);
        // Unchanged is the same one, so that nothing is made anew for it.
        let config = if changed.is_empty() { Arc::clone(&before.config) } else { Arc::new(config) };
        let wanted = work.desired.clone();
        let desired = wanted.clone().unwrap_or_else(|| Desired::first(now_ms()));
        let (next, prepared, runs_wanted) = match self.fitted(work, &config, &desired).await {
            Ok((next, prepared)) => (next, prepared, true),
            // What is wanted could not be had before this either: that must not keep a configuration away from what
            // serves in its place.
            Err(_) if work.again_at.is_some() => {
                let (next, prepared) = self.fitted(work, &config, &serves(&before, desired.clone())).await?;
                (next, prepared, false)
            }
            Err(error) => return Err(error),
        };
        let generation = match prepared {
            None => before.generation,
            Some(prepared) => {
                if changed.is_empty() {
                    changed.push(BUNDLE_CONTENT.to_owned());
                }
                self.commit(prepared, next).await?.generation
            }
        };
        self.standing().config_sha256 = sha256;
        match wanted.filter(|_| runs_wanted) {
            // It may be this configuration that makes it fit.
            Some(wanted) => {
                let is_chosen = work.chosen;
                self.applied(work, wanted, is_chosen);
            }
            None => self.observe(&desired),
        }
        Ok(Reloaded { generation, changed, needs_restart })
    }

    /// Loads whatever a wanted state needs, and fits it to a configuration.
    async fn fitted(
        &self,
        work: &mut Work,
        config: &Arc<Config>,
        desired: &Desired,
    ) -> Result<(Next, Option<Prepared>), DeployError> {
        let serving = self.live.serving();
        let configured = BundleRef::configured();
        // Another bundle in the place that the configuration names was never tried.
        let on_trial = (serving.active.bundle == configured).then_some(&configured);
        let plan = Plan { config, is_chosen: work.chosen, anew: None, on_trial };
        let next = self.assemble(work, &plan, desired).await?;
        let prepared = self.prepare(next.clone()).await?;
        Ok((next, prepared))
    }

    async fn read(&self) -> Result<ConfigRead, DeployError> {
        let read = Arc::clone(&self.source.read);
        let panicked = || ConfigError {
            origin: self.source.path.as_ref().map_or_else(String::new, |path| path.display().to_string()),
            problems: vec![Problem {
                path: String::new(),
                line: None,
                message: "reading it broke down; the log says how".to_owned(),
            }],
        };
        Ok(try_off_reactor(move || read()).await.ok_or_else(panicked)??)
    }
}

/// Returns of what is wanted that which serves.
fn serves(serving: &Serving, wanted: Desired) -> Desired {
    let canary = serving.canary.as_ref().map(|canary| &canary.served.bundle);
    let shadow = serving.shadow.as_ref().map(|shadow| &shadow.bundle);
    Desired {
        active: serving.active.bundle.clone(),
        canary: wanted.canary.filter(|wanted| canary == Some(&wanted.bundle)),
        shadow: wanted.shadow.filter(|wanted| shadow == Some(&wanted.bundle)),
        ..wanted
    }
}

/// Returns what came of it in words.
fn told(reloaded: &Reloaded) -> String {
    let listed = |what: &str, names: &[String]| {
        if names.is_empty() { String::new() } else { format!("{what}: {}", names.join(", ")) }
    };
    let parts = [listed("changed", &reloaded.changed), listed("needs a restart", &reloaded.needs_restart)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "nothing changed".to_owned() } else { parts.join("; ") }
}
