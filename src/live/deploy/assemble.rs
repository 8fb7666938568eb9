//! A wanted state -> what of it can serve here, loaded and fitted together as one value, and that put before requests.

use std::sync::Arc;

use super::{
    DeployError, Deployer, LoadError, LoadProblem, Work,
    load::{Freshness, HeldTo, Purpose, ToRun},
};
use crate::{
    config::Config,
    live::{
        Misfit, Next, Part, Prepared, Serving, WHOLE,
        off_reactor::try_off_reactor,
        rollout::{BundleRef, Change, Desired, Reach},
    },
};

/// What a wanted state is to become here.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub config: &'a Arc<Config>,
    pub is_chosen: bool,
    /// Whether a bundle that serves will do.
    pub freshness: Freshness,
    /// Loaded anew although it serves.
    pub anew: Option<&'a BundleRef>,
    /// New to all: it must keep up with the running one.
    pub on_trial: Option<&'a BundleRef>,
}

/// Why a part of what is wanted cannot serve here.
pub(super) struct Unable {
    part: Part,
    error: DeployError,
}

/// What of a wanted state can serve here.
pub(super) struct Fitted {
    pub next: Next,
    /// `None`: it serves already.
    pub prepared: Option<Prepared>,
    /// Why that is not all; it is tried again.
    pub problem: Option<DeployError>,
    /// Whether the folder that the configuration names was looked at, if the plan wanted that.
    pub has_looked: bool,
}

impl From<Unable> for DeployError {
    fn from(Unable { error, .. }: Unable) -> Self {
        error
    }
}

impl From<Misfit> for Unable {
    fn from(Misfit { part, error }: Misfit) -> Self {
        Self { part, error: error.into() }
    }
}

/// Returns the part that a change puts a bundle into: without that the change is none.
pub(super) fn part_of(change: &Change) -> Option<Part> {
    match change {
        Change::Shadow(_) => Some(Part::Shadow),
        Change::Canary(..) => Some(Part::Canary),
        Change::Activate(_) | Change::Promote(..) => Some(Part::Active),
        Change::Stage(_)
        | Change::EndGuard
        | Change::Rollback
        | Change::RollbackActive
        | Change::Forget(_)
        | Change::ReloadConfig => None,
    }
}

impl Deployer {
    /// Loads what a wanted state needs here and fits it together, without what cannot be had and may be missed: the
    /// canary, the shadow, and another bundle in the place that the configuration names while the one of before serves.
    /// `needed` may not.
    pub(super) async fn what_can_serve(
        &self,
        work: &mut Work,
        plan: &Plan<'_>,
        desired: &Desired,
        needed: Option<Part>,
    ) -> Result<Fitted, DeployError> {
        let (mut plan, mut attempt, mut problem) = (*plan, desired.clone(), None);
        let mut has_looked = true;
        loop {
            let Unable { part, error } = match self.fit_together(work, &plan, &attempt).await {
                Ok((next, prepared)) => return Ok(Fitted { next, prepared, problem, has_looked }),
                Err(unable) => unable,
            };
            if needed == Some(part) {
                return Err(error);
            }
            if plan.freshness == Freshness::OnDisk && self.serves_as_configured(part, &attempt) {
                plan.freshness = Freshness::AtHand;
                has_looked = false;
            } else {
                match part {
                    Part::Active => return Err(error),
                    Part::Canary => attempt.canary = None,
                    Part::Shadow => attempt.shadow = None,
                }
            }
            // The first is of what matters most.
            problem.get_or_insert(error);
        }
    }

    /// Returns whether this part is to be the bundle that the configuration names, and one serves under that name.
    fn serves_as_configured(&self, part: Part, desired: &Desired) -> bool {
        let bundle = match part {
            Part::Active => Some(&desired.active),
            Part::Canary => desired.canary.as_ref().map(|canary| &canary.bundle),
            Part::Shadow => desired.shadow.as_ref().map(|shadow| &shadow.bundle),
        };
        let serving = self.live.serving();
        let serves = serving
            .served()
            .any(|served| served.bundle.is_configured() && served.router.classifier().is_some());
        serves && bundle.is_some_and(BundleRef::is_configured)
    }

    /// Loads whatever a wanted state needs here and fits it together; an error where any of it cannot be.
    pub(super) async fn fit_together(
        &self,
        work: &mut Work,
        plan: &Plan<'_>,
        desired: &Desired,
    ) -> Result<(Next, Option<Prepared>), Unable> {
        let next = self.assemble(work, plan, desired).await?;
        let prepared = self.prepare(next.clone()).await?;
        Ok((next, prepared))
    }

    /// Loads whatever a wanted state needs here; an error where any of it cannot be.
    pub(super) async fn assemble(
        &self,
        work: &mut Work,
        plan: &Plan<'_>,
        desired: &Desired,
    ) -> Result<Next, Unable> {
        let Plan { config, is_chosen, freshness, anew, on_trial } = *plan;
        let to_run = |bundle, purpose| ToRun {
            bundle,
            purpose,
            freshness: if anew == Some(bundle) { Freshness::Anew } else { freshness },
            held_to: if on_trial == Some(bundle) { HeldTo::TheRunning } else { HeldTo::Itself },
        };
        let all = |bundle| to_run(bundle, Purpose::Requests);
        let unable = |part| move |error| Unable { part, error };
        let active = self.running(work, config, all(&desired.active)).await.map_err(unable(Part::Active))?;
        let share = desired.canary.as_ref().and_then(|canary| match canary.reach {
            Reach::Requests(share) => Some((&canary.bundle, share)),
            Reach::Replicas(_) => is_chosen.then_some((&canary.bundle, WHOLE)),
        });
        let canary = match share {
            None => None,
            Some((bundle, share)) => {
                let running = self.running(work, config, all(bundle)).await;
                Some((running.map_err(unable(Part::Canary))?, share))
            }
        };
        let shadow = match &desired.shadow {
            None => None,
            Some(shadow) => {
                let running = self.running(work, config, to_run(&shadow.bundle, Purpose::Shadow)).await;
                Some(running.map_err(unable(Part::Shadow))?)
            }
        };
        Ok(Next { config: Arc::clone(config), active, canary, shadow })
    }

    /// Fits together what is to serve; `None` where it is what serves.
    async fn prepare(&self, next: Next) -> Result<Option<Prepared>, Unable> {
        let version = next.active.bundle.name.to_string();
        let live = Arc::clone(&self.live);
        let prepared = try_off_reactor(move || {
            if next.is_of(&live.serving()) { Ok(None) } else { live.prepare(next).map(Some) }
        });
        let panicked = || {
            let error = LoadError { version, why: LoadProblem::Panicked };
            Unable { part: Part::Active, error: error.into() }
        };
        Ok(prepared.await.ok_or_else(panicked)??)
    }

    /// Puts before requests what fits; returns what serves then.
    pub(super) async fn put(
        &self,
        next: Next,
        prepared: Option<Prepared>,
    ) -> Result<Arc<Serving>, DeployError> {
        match prepared {
            None => Ok(self.live.serving()),
            Some(prepared) => self.commit(prepared, next).await,
        }
    }

    /// Puts before requests what was prepared; anew where somebody exchanged something beside this.
    pub(super) async fn commit(&self, prepared: Prepared, next: Next) -> Result<Arc<Serving>, DeployError> {
        let version = next.active.bundle.name.to_string();
        let live = Arc::clone(&self.live);
        let committed = try_off_reactor(move || live.commit(prepared)).await;
        match committed.ok_or(LoadError { version, why: LoadProblem::Panicked })? {
            Some(serving) => Ok(serving),
            None => self.exchange(next).await,
        }
    }

    /// Exchanges what serves, whatever that is by now.
    pub(super) async fn exchange(&self, next: Next) -> Result<Arc<Serving>, DeployError> {
        let version = next.active.bundle.name.to_string();
        let live = Arc::clone(&self.live);
        let exchanged = try_off_reactor(move || live.exchange(|_| next)).await;
        Ok(exchanged.ok_or(LoadError { version, why: LoadProblem::Panicked })??)
    }
}
