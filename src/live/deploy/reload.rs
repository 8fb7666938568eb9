//! Reads the configuration again: what can be applied is, the rest is named, and a broken one changes nothing.

use std::sync::Arc;

use super::{
    Cause, ConfigRead, DeployError, Deployer, Reloaded, Standing, Who, Work, assemble::Plan,
    change::TRIES_MAX, load::Freshness,
};
use crate::{
    config::{Config, ConfigError, Problem, read::text_of},
    live::{
        Next, Prepared, Serving,
        bundles::sha256,
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
/// Digits of a text's SHA-256 in an event: enough to find it again among all that a file ever was.
const SHA256_DIGITS: usize = 12;

/// What came of reading the configuration again.
pub(super) struct Tried {
    /// SHA-256 of the text that this replica went by until then, hexadecimal.
    pub before: String,
    /// The same of the text that was read, also of one that was refused.
    pub read: String,
    pub outcome: Result<Reloaded, DeployError>,
}

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
        let tried = self.try_reload(work).await;
        self.reloaded(work, cause, tried).await
    }

    /// Tells what came of reading the configuration again.
    pub(super) async fn reloaded(
        &self,
        work: &mut Work,
        cause: &Cause,
        tried: Tried,
    ) -> Result<Reloaded, DeployError> {
        let Cause { who, .. } = cause;
        let Tried { before, read, outcome } = tried;
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
        // Whoever reads the same once more goes by what it had read before that still.
        if outcome.is_ok() && before != read {
            self.standing().config_sha256_before.clone_from(&before);
        }
        if let Some(kind) = kind {
            let told = Told { kind, from: self.text_named(&before), to: self.text_named(&read) };
            self.tell(&told, &Cause { who: who.clone(), why: cause.after(why) }).await;
        }
        self.prune(work);
        outcome
    }

    /// Reads the configuration again and tells nobody. Whoever calls this prunes.
    pub(super) async fn try_reload(&self, work: &mut Work) -> Tried {
        let before = self.standing().config_sha256.clone();
        match self.read().await {
            Ok(ConfigRead { config, sha256 }) => {
                let outcome = self.take(work, config, &sha256).await;
                Tried { before, read: sha256, outcome }
            }
            Err(error) => Tried { before, read: self.text_sha256().await, outcome: Err(error) },
        }
    }

    async fn take(&self, work: &mut Work, config: Config, sha256: &str) -> Result<Reloaded, DeployError> {
        let before = self.live.serving();
        let Merged { config, mut changed, needs_restart } = merge(&before.config, config);
        // Unchanged is the same one, so that nothing is made anew for it.
        let config = if changed.is_empty() { Arc::clone(&before.config) } else { Arc::new(config) };
        let wanted = work.desired.clone();
        let desired = wanted.clone().unwrap_or_else(|| Desired::first(now_ms()));
        let (next, prepared, runs_wanted) =
            match self.fitted(work, &config, &desired, Freshness::OnDisk).await {
                Ok((next, prepared)) => (next, prepared, true),
                // What is wanted could not be had before this either: that must not keep a configuration away from what
                // serves in its place.
                Err(_) if work.again_at.is_some() => {
                    // It says already that it could not take what lies in the folder, and goes on with the one it has.
                    let has_yet_to_look = work.default_loads < desired.default_loads;
                    let same_folder = config.classifier.bundle == before.config.classifier.bundle;
                    let freshness =
                        if has_yet_to_look && same_folder { Freshness::AtHand } else { Freshness::OnDisk };
                    let serves = serves(&before, desired.clone());
                    let (next, prepared) = self.fitted(work, &config, &serves, freshness).await?;
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
        sha256.clone_into(&mut self.standing().config_sha256);
        match wanted.filter(|_| runs_wanted) {
            // It may be this configuration that makes it fit.
            Some(wanted) => {
                let is_chosen = work.chosen;
                work.default_loads = wanted.default_loads;
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
        freshness: Freshness,
    ) -> Result<(Next, Option<Prepared>), DeployError> {
        let serving = self.live.serving();
        let configured = BundleRef::configured();
        // Another bundle in the place that the configuration names was never tried.
        let on_trial = (serving.active.bundle == configured).then_some(&configured);
        let plan = Plan { config, is_chosen: work.chosen, freshness, anew: None, on_trial };
        Ok(self.fit_together(work, &plan, desired).await?)
    }

    /// Returns what an event calls the configuration with this text: its file, and the beginning of its SHA-256 where that
    /// is known.
    fn text_named(&self, sha256: &str) -> String {
        let path = self.source.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        named(&path, sha256)
    }

    /// Returns what all replicas are asked to go by, for the event that says so: what this one has read last, and what it
    /// went by until then.
    pub(super) fn asked_of_all(&self) -> Told {
        let Standing { config_sha256, config_sha256_before, .. } = self.standing().clone();
        Told {
            kind: EventKind::ConfigReloaded,
            from: self.text_named(&config_sha256_before),
            to: self.text_named(&config_sha256),
        }
    }

    /// Returns the SHA-256 of the file as it is now, hexadecimal; empty where it cannot be read.
    pub(super) async fn text_sha256(&self) -> String {
        let Some(path) = self.source.path.clone() else { return String::new() };
        let read = try_off_reactor(move || text_of(&path).ok()).await;
        read.flatten().map(|text| sha256(text.as_bytes())).unwrap_or_default()
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

/// Returns what an event calls a file with a text of this SHA-256; neither may be known.
fn named(path: &str, sha256: &str) -> String {
    let digits = sha256.get(..SHA256_DIGITS).unwrap_or(sha256);
    if digits.is_empty() { path.to_owned() } else { format!("{path} sha256:{digits}") }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::deploy::change::tests::deployer;

    #[tokio::test]
    async fn all_are_asked_to_go_from_the_text_before_also_where_the_file_was_followed() {
        let deployer = deployer();
        let mut work = deployer.turn().await.unwrap();
        // The first is what following the file made of it, the second what the operator then asked for.
        for (before, read) in [("a", "b"), ("b", "b")] {
            read.clone_into(&mut deployer.standing().config_sha256);
            let outcome = Ok(Reloaded { generation: 1, changed: Vec::new(), needs_restart: Vec::new() });
            let tried = Tried { before: before.to_owned(), read: read.to_owned(), outcome };
            deployer.reloaded(&mut work, &Who("local".to_owned()).into(), tried).await.unwrap();
        }
        let told = deployer.asked_of_all();
        assert_eq!((&*told.from, &*told.to), (" sha256:a", " sha256:b"));
    }

    #[test]
    fn a_text_is_named_by_its_file_and_its_hash() {
        assert_eq!(named("/etc/p.toml", &"0123456789abcdef".repeat(4)), "/etc/p.toml sha256:0123456789ab");
        assert_eq!(named("/etc/p.toml", "abc"), "/etc/p.toml sha256:abc");
        assert_eq!(named("/etc/p.toml", ""), "/etc/p.toml");
        assert_eq!(named("", ""), "");
    }
}
