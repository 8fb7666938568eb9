//! What is seen of each bundle that decides: counts, and the shadow that scores beside the active one.
//!
//! Never waits and never fails a request: a full queue of the shadow drops, and counts it. Keeps no text of a request
//! but those that wait for the shadow, cut to size.

mod counts;
mod excerpt;
mod recent;
mod score;
mod shadow;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use self::{
    counts::Counts,
    recent::Recent,
    shadow::{Asked, Scorer},
};
pub use self::{
    score::{Moved, ShadowScore},
    shadow::SHADOW_WAIT_MAX,
};
use super::{
    place,
    rollout::{BundleRef, Observed},
};
use crate::{
    completion::ended::{Ended, Ending},
    config::{Config, LearningWeights},
    prompt::{Context, Decision, Prompt},
    routing::{Router, classifier::Classifier},
    traffic::feedback::{Feedback, Verdict},
};

/// Other requests than those that a canary gets, whose draw is its name.
const SHADOW_DRAW: &str = "shadow";

/// Which bundles serve from a generation on, as far as they are watched.
#[derive(Clone)]
pub struct Watching {
    pub generation: u64,
    pub config: Arc<Config>,
    pub active: BundleRef,
    /// With its share of requests, 0 to 1.
    pub canary: Option<(BundleRef, f64)>,
    /// Whether a canary is wanted, also where this replica runs none of it: it is what is watched then, and the shadow is
    /// not.
    pub has_canary_somewhere: bool,
    /// With the router that scores beside the active one; its sessions are its own.
    pub shadow: Option<(BundleRef, Arc<Router>)>,
    /// What the bundle that the configuration names stands for, where it is one of these: another one may lie in its
    /// place by now, under the same name.
    pub configured: Option<Weak<dyn Classifier>>,
    /// When the step of the watched bundle began, milliseconds since 1970: another one is another step. A
    /// name for it, and never compared with a clock.
    pub since_ms: i64,
}

/// What was seen since a step began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    pub active: Observed,
    pub watched: Observed,
    /// How long ago the step began here, by a clock that nobody sets.
    pub lasted: Duration,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Active,
    Watched,
}

/// Counts what happens to the active and the watched bundle: the canary, or the shadow while there is no canary.
pub struct Observer {
    step: ArcSwapOption<Step>,
    /// One exchange at a time.
    exchanging: Mutex<()>,
    scorer: Scorer,
}

/// What is watched, and what was seen since it is.
struct Step {
    watching: Watching,
    seen: Arc<Seen>,
    /// Requests that still wait for its shadow are left, so that a router that was exchanged is soon free.
    is_over: AtomicBool,
}

/// Begins empty with each step.
struct Seen {
    /// Decisions of earlier generations belong to an earlier step.
    first_generation: u64,
    began: Instant,
    active: Counts,
    watched: Counts,
    recent: Recent,
}

impl Default for Observer {
    fn default() -> Self {
        Self { step: ArcSwapOption::empty(), exchanging: Mutex::new(()), scorer: Scorer::default() }
    }
}

impl Observer {
    /// Takes what serves from now on; what was seen is forgotten where another pair of bundles, or the same with another
    /// share or other tiers, is to be compared.
    pub fn exchanged(&self, watching: Watching) {
        let _one = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.step.load_full();
        let seen = match &before {
            Some(before) if before.watching.generation > watching.generation => return,
            Some(before) if before.watching.is_same_step(&watching) => Arc::clone(&before.seen),
            Some(_) | None => Arc::new(Seen::new(&watching)),
        };
        let is_shadowed = watching.shadow.is_some();
        self.step.store(Some(Arc::new(Step { watching, seen, is_over: AtomicBool::new(false) })));
        if let Some(before) = before {
            before.is_over.store(true, Relaxed);
        }
        if is_shadowed {
            self.scorer.start();
        }
    }

    /// Takes a decision.
    pub fn decided(&self, prompt: &Prompt, decision: &Decision) {
        self.see(prompt, decision);
    }

    /// Takes a completion that ended.
    pub fn ended(&self, ended: &Ended) {
        self.see(&ended.prompt, &ended.decision);
        let Ending::Answered { escalated, weak, .. } = &ended.how else { return };
        let step = self.step.load();
        if let Some((seen, side)) = step.as_ref().and_then(|step| step.side_of(&ended.decision)) {
            seen.of(side).completed(*escalated, weak.is_some());
        }
    }

    /// Takes feedback about a decision, whether or not its record is in the log yet. It counts on the replica that
    /// decided.
    pub fn feedback(&self, feedback: &Feedback) {
        let goodness = match (feedback.verdict, feedback.score) {
            (Some(Verdict::Good), _) => 1.0,
            (Some(Verdict::Bad), _) => 0.0,
            (None, Some(score)) => score.clamp(0.0, 1.0),
            (None, None) => return,
        };
        // Not the operator's weights for learning: with one above 1, few pieces of feedback would pass for many.
        let weight = feedback.source.weight(&LearningWeights::default());
        let step = self.step.load();
        if let Some(step) = step.as_ref()
            && let Some(side) = step.seen.recent.side_of(feedback.decision_id)
        {
            step.seen.of(side).judged(goodness, weight);
        }
    }

    /// Returns what was seen of the active bundle and of the watched one, since the step began.
    pub fn observed(&self) -> (Observed, Observed) {
        let watch = self.watch();
        (watch.active, watch.watched)
    }

    /// Returns the same, and for how long that is.
    pub fn watch(&self) -> Watch {
        let step = self.step.load();
        step.as_ref().map_or_else(Watch::default, |step| Watch {
            active: step.seen.active.observed(),
            watched: step.seen.watched.observed(),
            lasted: step.seen.began.elapsed(),
        })
    }

    /// Hands over what the shadow said since the last time, at most `most`, oldest first. Waits until there is something.
    pub async fn shadow_scores(&self, most: usize) -> Vec<ShadowScore> {
        self.scorer.scores(most).await
    }

    fn see(&self, prompt: &Prompt, decision: &Decision) {
        let step = self.step.load();
        let Some(step) = step.as_ref() else { return };
        let Some((seen, side)) = step.side_of(decision) else { return };
        let Ok(id) = Uuid::try_parse(&decision.decision_id) else { return };
        seen.of(side).decided(decision);
        seen.recent.add(id, side);
        match side {
            Side::Active if step.watching.is_sampled(&prompt.context, id) => {
                self.scorer.ask(step, prompt, decision, id);
            }
            Side::Active | Side::Watched => {}
        }
    }
}

impl Watching {
    /// Returns whether what was seen still compares the same.
    fn is_same_step(&self, other: &Self) -> bool {
        let shadow = |watching: &Self| watching.shadow.as_ref().map(|(bundle, _)| bundle.clone());
        let tiers = |watching: &Self| -> Vec<Arc<str>> {
            watching.config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect()
        };
        let same_content = match (&self.configured, &other.configured) {
            (Some(before), Some(now)) => Weak::ptr_eq(before, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_content
            && self.active == other.active
            && self.canary == other.canary
            && self.has_canary_somewhere == other.has_canary_somewhere
            && shadow(self) == shadow(other)
            && self.since_ms == other.since_ms
            && tiers(self) == tiers(other)
    }

    /// Returns whether the shadow scores this request. Of a session it scores all or nothing: what a session has needed
    /// moves its later decisions.
    fn is_sampled(&self, context: &Context, id: Uuid) -> bool {
        if self.shadow.is_none() {
            return false;
        }
        let place = match context.session_id.as_str() {
            "" => place::of(SHADOW_DRAW, id.as_u128()),
            session => place::of(SHADOW_DRAW, (&context.tenant, session)),
        };
        place < self.config.rollout.shadow_sample
    }
}

impl Step {
    /// Returns where a decision counts; `None`: it is of another step, or no classifier was asked for it.
    fn side_of(&self, decision: &Decision) -> Option<(&Arc<Seen>, Side)> {
        let was_asked = decision.unscored.is_some() || !decision.tier_scores.is_empty();
        let is_of_step = decision.config_generation >= self.seen.first_generation;
        let side = if decision.canary { Side::Watched } else { Side::Active };
        (was_asked && is_of_step).then_some((&self.seen, side))
    }

    /// Returns whether the shadow is what is watched.
    fn watches_shadow(&self) -> bool {
        self.watching.shadow.is_some() && !self.watching.has_canary_somewhere
    }
}

impl Seen {
    fn new(watching: &Watching) -> Self {
        let counts = || Counts::new(watching.config.tiers.iter().map(|tier| Arc::clone(&tier.name)));
        Self {
            first_generation: watching.generation,
            began: Instant::now(),
            active: counts(),
            watched: counts(),
            recent: Recent::default(),
        }
    }

    fn of(&self, side: Side) -> &Counts {
        match side {
            Side::Active => &self.active,
            Side::Watched => &self.watched,
        }
    }
}

/// Takes a request for the shadow's queue.
fn asked(step: &Arc<Step>, prompt: &Prompt, decision: &Decision, id: Uuid) -> Asked {
    Asked {
        step: Arc::clone(step),
        id,
        prompt: excerpt::of(prompt, decision.prompt_tokens),
        active_tier: Arc::clone(&decision.tier),
        active_scored: decision.unscored.is_none(),
    }
}
