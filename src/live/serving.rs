//! What serves at one moment, as one value that never changes: a request takes it once and keeps to it.

use std::{iter, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{place, rollout::BundleRef};
use crate::{
    completion::{Completer, Job},
    config::Config,
    prompt::{Context, Decision, Prompt},
    routing::{RouteError, Router, classifier::Classifier},
};

/// Share of a canary that serves everything: it is this replica that is on trial.
pub const WHOLE: f64 = 1.0;

/// What serves. The generation says which: two with the same one are the same.
#[derive(Clone)]
pub struct Serving {
    pub generation: u64,
    pub config: Arc<Config>,
    pub active: Served,
    pub canary: Option<OnTrial>,
    /// Scores beside the others; nobody is told what it decides.
    pub shadow: Option<Served>,
    pub completer: Arc<Completer>,
}

/// A bundle with the router that asks it.
#[derive(Clone)]
pub struct Served {
    pub bundle: BundleRef,
    pub router: Arc<Router>,
}

/// A canary and its share.
#[derive(Clone)]
pub struct OnTrial {
    pub served: Served,
    /// Of sessions and tenants, above 0; [`WHOLE`]: all.
    pub share: f64,
}

/// What a completion takes of a [`Serving`]: one router, so that the other's classifier is not held by it.
pub struct Picked {
    pub config: Arc<Config>,
    pub router: Arc<Router>,
    pub completer: Arc<Completer>,
}

impl Serving {
    /// Returns who decides a request: the canary's router its share, the active one's the rest. A session stays with
    /// one of them as long as the canary's share does not shrink; so does a tenant's request without a session.
    pub fn pick(&self, context: &Context, id: Uuid) -> &Arc<Router> {
        match &self.canary {
            Some(canary) if place_of(context, id, &canary.served.bundle.name) < canary.share => {
                &canary.served.router
            }
            Some(_) | None => &self.active.router,
        }
    }

    /// Returns what a completion takes.
    pub fn picked(&self, job: &Job) -> Picked {
        Picked {
            config: Arc::clone(&self.config),
            router: Arc::clone(self.pick(&job.prompt.context, job.decision_id)),
            completer: Arc::clone(&self.completer),
        }
    }

    /// Decides by the router that is picked for the request.
    pub async fn route(&self, prompt: &Prompt, deadline: Option<Instant>) -> Result<Decision, RouteError> {
        let id = Uuid::now_v7();
        self.pick(&prompt.context, id).route_as(id, prompt, deadline).await
    }

    /// Returns every bundle that it holds, the active one first.
    pub(super) fn served(&self) -> impl Iterator<Item = &Served> {
        let canary = self.canary.as_ref().map(|canary| &canary.served);
        iter::once(&self.active).chain(canary).chain(&self.shadow)
    }

    /// Returns every classifier that it holds.
    pub(super) fn classifiers(&self) -> impl Iterator<Item = &Arc<dyn Classifier>> {
        self.served().filter_map(|served| served.router.classifier_handle())
    }
}

/// Returns where a request stands among all of them, 0 to 1. Another canary begins with other sessions, so that it is
/// not always the same ones that try what is new.
fn place_of(context: &Context, id: Uuid, bundle: &str) -> f64 {
    match (context.tenant.as_str(), context.session_id.as_str()) {
        ("", "") => place::of(bundle, id.as_u128()),
        tenant_and_session => place::of(bundle, tenant_and_session),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(tenant: &str, session: &str) -> Context {
        Context { tenant: tenant.to_owned(), session_id: session.to_owned(), ..Context::default() }
    }

    #[test]
    fn a_request_has_its_place_by_session_then_tenant_then_id() {
        let ids = [Uuid::now_v7(), Uuid::now_v7()];
        let at = |tenant, session, id: usize| place_of(&context(tenant, session), ids[id], "b");
        assert_eq!(at("a", "1", 0), at("a", "1", 1));
        assert_eq!(at("a", "", 0), at("a", "", 1));
        assert_ne!(at("", "", 0), at("", "", 1));
        assert_ne!(at("a", "1", 0), at("b", "1", 0));
        assert_ne!(at("a", "1", 0), at("a", "2", 0));
        assert_ne!(at("a", "1", 0), place_of(&context("a", "1"), ids[0], "another"));
    }

    proptest! {
        #[test]
        fn a_share_is_about_that_share(share in 0.01_f64..0.99, salt in "[a-z]{1,8}", tenants in any::<bool>()) {
            const REQUESTS: usize = 4000;
            let of_canary = (0..REQUESTS)
                .filter(|at| {
                    let session = if tenants { String::new() } else { at.to_string() };
                    let context = context(&if tenants { at.to_string() } else { "t".to_owned() }, &session);
                    place_of(&context, Uuid::nil(), &salt) < share
                })
                .count() as f64;
            // Five standard deviations: once in two million cases by chance.
            let deviation = (share * (1.0 - share) * REQUESTS as f64).sqrt();
            prop_assert!((of_canary - share * REQUESTS as f64).abs() < 5.0 * deviation, "{of_canary} at {share}");
        }

        #[test]
        fn a_growing_share_keeps_its_sessions(session in ".{1,20}", share in 0.0_f64..1.0, more in 0.0_f64..1.0) {
            let at = place_of(&context("t", &session), Uuid::nil(), "b");
            prop_assert!((0.0..1.0).contains(&at));
            prop_assert!(at >= share || at < (share + more).min(WHOLE));
        }
    }
}
