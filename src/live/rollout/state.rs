//! The wanted state of bundles, and what changes it. Pure: never loads anything and reads no clock.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    bundle_ref::{BundleRef, DEFAULT},
    guard::{Guard, readable},
};

/// Bundles that are staged at most; the one that was staged first becomes merely available.
pub const STAGED_MAX: usize = 16;

/// What all replicas that share a store are to run. Stored as JSON; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Counts changes, from 1.
    pub revision: u64,
    pub active: BundleRef,
    /// When it became active, milliseconds since 1970.
    pub active_since_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// While the active bundle is compared with its predecessor: whichever replica looks, it goes on after a restart.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Option::is_none")]
    pub guard: Option<Box<Guard>>,
    /// Verified and ready to be used.
    #[serde(default)]
    pub staged: Vec<BundleRef>,
    /// For rollback, the latest first. One that is tried again keeps its place while it is a canary or the shadow: taken
    /// back, it is what it was.
    #[serde(default)]
    pub retired: Vec<BundleRef>,
    /// Counts the times that all replicas were asked to read their configuration again.
    #[serde(default)]
    pub config_reloads: u64,
    /// Counts the times that [`DEFAULT`] was activated: all replicas look then at what lies in its place by now.
    #[serde(default)]
    pub default_loads: u64,
}

/// A bundle that serves a share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    pub bundle: BundleRef,
    pub reach: Reach,
    /// When this share began, milliseconds since 1970.
    pub since_ms: i64,
}

/// What a canary serves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// A share of all sessions and tenants on every replica, above 0 and below 1.
    Requests(f64),
    /// Everything on a share of the replicas, above 0 and below 1.
    Replicas(f64),
}

/// A bundle that scores beside the active one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    pub bundle: BundleRef,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}

/// What a bundle is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// In the store, and nothing else.
    Available,
    Staged,
    Shadow,
    Canary,
    Active,
    Retired,
}

/// What an operator, or the rollout itself, wants to be different.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Stage(BundleRef),
    Shadow(BundleRef),
    Canary(BundleRef, Reach),
    /// Naming the active one again loads it anew; it is kept, and guarded no more.
    Activate(BundleRef),
    /// The rollout's own activation: the bundle is guarded.
    Promote(BundleRef, Box<Guard>),
    /// The active bundle is compared with its predecessor no more.
    EndGuard,
    /// A canary or shadow is taken back; without them the latest retired one becomes active.
    Rollback,
    /// The rollout's own: the latest retired one becomes active, whatever scores beside it.
    RollbackActive,
    /// Forgets a version that is not in use.
    Forget(Arc<str>),
    /// All replicas read their configuration again.
    ReloadConfig,
}

/// Why a change is not possible; the state is what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("nothing to roll back: there is no canary, no shadow and no retired bundle")]
    NothingToRollBack,
    #[error("a rollback would take back {back}, not {asked}: look at `pointsman bundle list`")]
    NotThat { asked: String, back: String },
    #[error(
        "there is no other replica to compare with: give the canary a share of requests, or start more replicas"
    )]
    NoOthers,
    #[error("bundle {name} is active: it cannot be its own {role}; name another version")]
    IsActive { name: Arc<str>, role: &'static str },
    #[error("bundle {name} is {now}, which is as good as staged: it needs no staging")]
    NeedsNoStaging { name: Arc<str>, now: &'static str },
    #[error("bundle {name} is {now}: {do_first}")]
    InUse { name: Arc<str>, now: &'static str, do_first: &'static str },
    #[error(
        "bundle {name} is neither staged nor retired: there is nothing to forget; `pointsman bundle delete` takes a \
         version out of the store"
    )]
    NotKnown { name: Arc<str> },
    #[error(
        "bundle {DEFAULT} is the one that the configuration names: it is never staged and never forgotten"
    )]
    Configured,
    #[error(
        "a canary's share of {share} is not above 0 and below 1; to serve everything, activate the bundle"
    )]
    Share { share: String },
}

impl Reach {
    /// Returns the share, whatever it is a share of.
    pub fn share(self) -> f64 {
        match self {
            Self::Requests(share) | Self::Replicas(share) => share,
        }
    }

    /// Returns another share of the same.
    #[must_use]
    pub fn with_share(self, share: f64) -> Self {
        match self {
            Self::Requests(_) => Self::Requests(share),
            Self::Replicas(_) => Self::Replicas(share),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two digits below a per cent, and none that are only rounding.
        let per_cent = (self.share() * 1e4).round() / 1e2;
        let of = match self {
            Self::Requests(_) => "requests",
            Self::Replicas(_) => "replicas",
        };
        write!(f, "{per_cent} % of {of}")
    }
}

impl Role {
    /// Returns the name used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Staged => "staged",
            Self::Shadow => "the shadow",
            Self::Canary => "the canary",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

impl Desired {
    /// Returns the state before anything was asked for: the configured bundle serves.
    pub fn first(at_ms: i64) -> Self {
        Self {
            revision: 1,
            active: BundleRef::configured(),
            active_since_ms: at_ms,
            canary: None,
            shadow: None,
            guard: None,
            staged: Vec::new(),
            retired: Vec::new(),
            config_reloads: 0,
            default_loads: 0,
        }
    }

    /// Returns the state after `change`, its revision one higher. `retired_max` is at least 1.
    pub fn changed(&self, change: &Change, at_ms: i64, retired_max: usize) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        next.revision = self.revision.saturating_add(1);
        match change {
            Change::Stage(bundle) => next.stage(bundle)?,
            Change::Shadow(bundle) => next.start_shadow(bundle, at_ms)?,
            Change::Canary(bundle, reach) => next.start_canary(bundle, *reach, at_ms)?,
            Change::Activate(bundle) => {
                next.activate(bundle, at_ms);
                if bundle.is_configured() {
                    next.default_loads = self.default_loads.saturating_add(1);
                }
            }
            Change::Promote(bundle, guard) => {
                next.activate(bundle, at_ms);
                next.guard = Some(Box::clone(guard));
            }
            Change::EndGuard => next.guard = None,
            Change::Rollback => next.roll_back(at_ms)?,
            Change::RollbackActive => next.roll_back_active(at_ms)?,
            Change::Forget(name) => next.forget(name)?,
            Change::ReloadConfig => next.config_reloads = self.config_reloads.saturating_add(1),
        }
        next.staged.truncate(STAGED_MAX);
        next.retired.truncate(retired_max.max(1));
        next.begin_watches_anew(self, at_ms);
        Ok(next)
    }

    /// Returns the bundle that a rollback takes back.
    pub fn taken_back_first(&self) -> &BundleRef {
        let canary = self.canary.as_ref().map(|canary| &canary.bundle);
        canary.or(self.shadow.as_ref().map(|shadow| &shadow.bundle)).unwrap_or(&self.active)
    }

    /// Returns every bundle that has a role, the active one first; a retired one that is tried again twice.
    pub fn bundles(&self) -> impl Iterator<Item = &BundleRef> {
        self.running().chain(&self.staged).chain(&self.retired)
    }

    /// Returns the bundles that run somewhere: the active one, and what is tried.
    pub fn running(&self) -> impl Iterator<Item = &BundleRef> {
        let canary = self.canary.as_ref().map(|canary| &canary.bundle);
        let shadow = self.shadow.as_ref().map(|shadow| &shadow.bundle);
        std::iter::once(&self.active).chain(canary).chain(shadow)
    }

    /// Returns the bundle of this name that has a role.
    pub fn known(&self, name: &str) -> Option<&BundleRef> {
        self.bundles().find(|bundle| *bundle.name == *name)
    }

    /// Returns what a bundle is.
    pub fn role_of(&self, name: &str) -> Role {
        let is = |bundle: &BundleRef| &*bundle.name == name;
        if is(&self.active) {
            Role::Active
        } else if self.canary.as_ref().is_some_and(|canary| is(&canary.bundle)) {
            Role::Canary
        } else if self.shadow.as_ref().is_some_and(|shadow| is(&shadow.bundle)) {
            Role::Shadow
        } else if self.staged.iter().any(is) {
            Role::Staged
        } else if self.retired.iter().any(is) {
            Role::Retired
        } else {
            Role::Available
        }
    }

    fn stage(&mut self, bundle: &BundleRef) -> Result<(), ChangeError> {
        if bundle.is_configured() {
            return Err(ChangeError::Configured);
        }
        match self.role_as(bundle) {
            Role::Available | Role::Staged => {}
            now @ (Role::Shadow | Role::Canary | Role::Active | Role::Retired) => {
                let name = Arc::clone(&bundle.name);
                return Err(ChangeError::NeedsNoStaging { name, now: now.as_str() });
            }
        }
        self.take_out(bundle);
        self.put_aside(bundle.clone());
        Ok(())
    }

    fn start_shadow(&mut self, bundle: &BundleRef, since_ms: i64) -> Result<(), ChangeError> {
        self.refuse_active(bundle, "shadow")?;
        self.take_for_trial(bundle);
        if let Some(before) = self.shadow.take() {
            self.put_aside(before.bundle);
        }
        self.shadow = Some(Shadow { bundle: bundle.clone(), since_ms });
        self.guard = None;
        Ok(())
    }

    fn start_canary(&mut self, bundle: &BundleRef, reach: Reach, since_ms: i64) -> Result<(), ChangeError> {
        let share = reach.share();
        // NaN is within nothing.
        let fits = share > 0.0 && share < 1.0;
        if !fits {
            return Err(ChangeError::Share { share: share.to_string() });
        }
        self.refuse_active(bundle, "canary")?;
        self.take_for_trial(bundle);
        if let Some(before) = self.canary.take() {
            self.put_aside(before.bundle);
        }
        self.canary = Some(Canary { bundle: bundle.clone(), reach, since_ms });
        self.guard = None;
        Ok(())
    }

    fn activate(&mut self, bundle: &BundleRef, at_ms: i64) {
        // Who names the guarded one has decided to keep it.
        self.guard = None;
        if *bundle == self.active {
            return;
        }
        self.take_out(bundle);
        let before = std::mem::replace(&mut self.active, bundle.clone());
        self.active_since_ms = at_ms;
        // The same bundle under a new name or with a new content under its name is nothing to go back to.
        if !before.is_same(bundle) {
            self.retired.insert(0, before);
        }
    }

    fn roll_back(&mut self, at_ms: i64) -> Result<(), ChangeError> {
        if let Some(canary) = self.canary.take() {
            self.put_aside(canary.bundle);
        } else if let Some(shadow) = self.shadow.take() {
            self.put_aside(shadow.bundle);
        } else {
            self.roll_back_active(at_ms)?;
        }
        Ok(())
    }

    fn roll_back_active(&mut self, at_ms: i64) -> Result<(), ChangeError> {
        if self.retired.is_empty() {
            return Err(ChangeError::NothingToRollBack);
        }
        let before = self.retired.remove(0);
        // It may have been on trial again.
        self.take_out(&before);
        // Among the retired ones the next rollback would bring it back.
        let misbehaved = std::mem::replace(&mut self.active, before);
        self.active_since_ms = at_ms;
        self.guard = None;
        self.put_aside(misbehaved);
        Ok(())
    }

    fn forget(&mut self, name: &Arc<str>) -> Result<(), ChangeError> {
        if &**name == DEFAULT {
            return Err(ChangeError::Configured);
        }
        let now = self.role_of(name);
        let do_first = match now {
            Role::Active => "activate another one, or roll back, and forget it then",
            Role::Canary | Role::Shadow => "roll it back, and forget it then",
            Role::Available => return Err(ChangeError::NotKnown { name: Arc::clone(name) }),
            Role::Staged | Role::Retired => {
                // What comes after it was never compared with the active one.
                if self.retired.first().is_some_and(|predecessor| predecessor.name == *name) {
                    self.guard = None;
                }
                self.staged.retain(|bundle| bundle.name != *name);
                self.retired.retain(|bundle| bundle.name != *name);
                return Ok(());
            }
        };
        Err(ChangeError::InUse { name: Arc::clone(name), now: now.as_str(), do_first })
    }

    /// Returns what this bundle is, under whatever name.
    fn role_as(&self, bundle: &BundleRef) -> Role {
        self.bundles()
            .find(|known| known.is_same(bundle))
            .map_or(Role::Available, |known| self.role_of(&known.name))
    }

    fn refuse_active(&self, bundle: &BundleRef, role: &'static str) -> Result<(), ChangeError> {
        if self.active.is_same(bundle) {
            return Err(ChangeError::IsActive { name: Arc::clone(&bundle.name), role });
        }
        Ok(())
    }

    /// Takes a bundle out of every role but the active one: it has only one.
    fn take_out(&mut self, bundle: &BundleRef) {
        let is = |known: &BundleRef| known.is_same(bundle);
        if self.canary.as_ref().is_some_and(|canary| is(&canary.bundle)) {
            self.canary = None;
        }
        if self.shadow.as_ref().is_some_and(|shadow| is(&shadow.bundle)) {
            self.shadow = None;
        }
        self.staged.retain(|known| !is(known));
        self.retired.retain(|known| !is(known));
    }

    /// The same, but that a retired one keeps its place.
    fn take_for_trial(&mut self, bundle: &BundleRef) {
        let place = self.retired.iter().position(|retired| retired.is_same(bundle));
        self.take_out(bundle);
        if let Some(place) = place {
            self.retired.insert(place, bundle.clone());
        }
    }

    /// Stages what has lost its role; one that is kept for rollback, or that the configuration names, is there without
    /// that.
    fn put_aside(&mut self, bundle: BundleRef) {
        if !bundle.is_configured() && !self.retired.contains(&bundle) {
            self.staged.insert(0, bundle);
        }
    }

    /// Figures of before say nothing about a bundle that now stands beside another one.
    fn begin_watches_anew(&mut self, before: &Self, at_ms: i64) {
        let active_changed = self.active != before.active;
        let canary_of = |desired: &Self| desired.canary.as_ref().map(|canary| canary.bundle.clone());
        let canary_changed = canary_of(self) != canary_of(before);
        if active_changed && let Some(canary) = &mut self.canary {
            canary.since_ms = at_ms;
        }
        if (active_changed || canary_changed)
            && let Some(shadow) = &mut self.shadow
        {
            shadow.since_ms = at_ms;
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
