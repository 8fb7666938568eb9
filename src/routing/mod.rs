//! Prompt -> decision: the whole pipeline on one screen.
//!
//! Rules first, the classifier for what they leave open, the policy last. Routing fails only when
//! no target may answer, or when the operator chose to refuse under overload; never because the
//! classifier is slow, full, broken or absent.

pub mod admit;
mod bounds;
pub mod chance;
pub mod classifier;
pub mod cost;
pub mod health;
pub mod intents;
pub mod language;
pub mod learning;
pub mod line;
mod patterns;
pub mod policy;
mod reader;
pub mod renew;
pub mod rules;
pub mod sessions;
mod targets;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use self::{
    classifier::{Classifier, ClassifyError, StageTimes},
    cost::{TokenCount, count_by_density, count_by_length},
    health::TargetHealth,
    intents::{ExampleIntents, LearnError},
    learning::{Estimate, Offsets},
    policy::{
        Choice, Evidence, Exploration, Last, NoTarget, Question, decide, decide_trial, explore,
        judged_intent, needs_scores, sufficiency,
    },
    reader::{Read, Reader},
    rules::{Hits, RuleSet, RulesError},
    sessions::Sessions,
};
use crate::{
    config::{Config, QueueFull, TargetIndex},
    prompt::{Decision, Prompt, TargetRef, Tier, TierScore, Timings},
    telemetry,
};

/// A decision, and who may answer when its targets do not.
#[derive(Debug, Clone)]
pub struct Routed {
    pub decision: Decision,
    /// The decided tier first, then those above it that the request, rules and budgets allow; each with its
    /// targets in the order in which they are tried. Never empty, and no tier without targets.
    pub ladder: Vec<Rung>,
}

/// [`Decision::unscored`] where the scores did not come in time.
pub const TOO_LATE: &str = "too_late";

/// One tier's targets for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    pub tier: Tier,
    pub targets: Vec<TargetIndex>,
}

/// Why a request gets no decision.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("{0}")]
    NoTarget(NoTarget),
    /// Only when `classifier.queue_full` is "refuse".
    #[error("the classifier's queue is full; try again later")]
    Overloaded,
}

/// Why configuration and classifier do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error("tiers[{tier}].level: the bundle has no level {level:?}; it has {known}")]
    UnknownLevel { tier: usize, level: Arc<str>, known: String },
    #[error("tiers[{tier}].level: {level:?} is below the level of the tier before")]
    LevelOrder { tier: usize, level: Arc<str> },
    #[error("{place}: the bundle has no intent {intent:?}; known are {known}{hint}")]
    UnknownIntent { place: String, intent: Arc<str>, known: String, hint: &'static str },
    #[error("{place}: the bundle has an intent {intent:?} of its own: give the examples another name")]
    IntentTaken { place: String, intent: Arc<str> },
    #[error(transparent)]
    Examples(#[from] LearnError),
}

/// One configuration with one classifier: what a request holds from start to end.
pub struct Router {
    config: Arc<Config>,
    generation: u64,
    rules: RuleSet,
    reader: Option<Reader>,
    sessions: Arc<Sessions>,
    health: Arc<TargetHealth>,
    /// What was learned, as of this moment; `None` when learning is off.
    offsets: Option<Arc<ArcSwap<Offsets>>>,
    /// Whether its classifier is on trial.
    canary: bool,
}

impl Router {
    /// Fits a configuration and a classifier together; without one, rules and default tier decide.
    ///
    /// `health` has a slot for each of the configuration's targets.
    ///
    /// Blocks while the classifier embeds the examples of intents, if there are any.
    pub fn new(
        config: Arc<Config>,
        classifier: Option<Arc<dyn Classifier>>,
        sessions: Arc<Sessions>,
        health: Arc<TargetHealth>,
        generation: u64,
    ) -> Result<Self, RouterError> {
        let rules = RuleSet::compile(&config)?;
        let reader = classifier.map(|classifier| Reader::new(&config, classifier)).transpose()?;
        Ok(Self { config, generation, rules, reader, sessions, health, offsets: None, canary: false })
    }

    /// Adds what is learned while serving, where the configuration's `learning` is on.
    #[must_use]
    pub fn learning_from(self, offsets: Arc<ArcSwap<Offsets>>) -> Self {
        let offsets = self.config.learning.enabled.then_some(offsets);
        Self { offsets, ..self }
    }

    /// Says in every decision that its classifier is on trial.
    #[must_use]
    pub fn on_trial(self) -> Self {
        Self { canary: true, ..self }
    }

    /// Has it wait so long for scores, whatever the configuration says.
    #[must_use]
    pub fn waiting(self, wait_max: Duration) -> Self {
        Self { reader: self.reader.map(|reader| reader.waiting(wait_max)), ..self }
    }

    /// Returns the configuration behind this router's decisions.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Returns what the classifier's scores stand for, `None` without a classifier.
    pub fn classifier(&self) -> Option<&classifier::Description> {
        self.reader.as_ref().map(Reader::describe)
    }

    /// Returns the intents by example, `None` without a classifier or without examples.
    pub fn example_intents(&self) -> Option<&ExampleIntents> {
        self.reader.as_ref()?.intents()
    }

    /// Decides; scores that do not come before `deadline` are done without.
    ///
    /// The session remembers the decision's target as the one that answers.
    pub async fn route(&self, prompt: &Prompt, deadline: Option<Instant>) -> Result<Decision, RouteError> {
        self.route_as(uuid::Uuid::now_v7(), prompt, deadline).await
    }

    /// Decides like [`Router::route`] under this id.
    pub async fn route_as(
        &self,
        id: uuid::Uuid,
        prompt: &Prompt,
        deadline: Option<Instant>,
    ) -> Result<Decision, RouteError> {
        let Routed { decision, ladder } = self.plan(id, prompt, deadline).await?;
        let target = &self.config.target(ladder[0].targets[0]).id;
        self.sessions.served(&prompt.context, target, decision.prompt_tokens);
        Ok(decision)
    }

    /// Decides like [`Router::route`] for a request that was decided before, under its id: what is drawn by the id
    /// comes out as it did then.
    pub async fn route_again(&self, id: uuid::Uuid, prompt: &Prompt) -> Result<Decision, RouteError> {
        self.route_as(id, prompt, None).await
    }

    /// Returns what decisions remember of conversations: who answers in the end is for the caller of
    /// [`Router::plan`] to tell it.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Decides like [`Router::route_as`], and says who else may answer; the session does not yet know who does.
    pub async fn plan(
        &self,
        id: uuid::Uuid,
        prompt: &Prompt,
        deadline: Option<Instant>,
    ) -> Result<Routed, RouteError> {
        let started = Instant::now();
        let mut tokens = count_by_length(prompt);
        let hits = self.rules.hits(prompt, tokens.tokens);
        let ruled = Instant::now();

        let reading = match &self.reader {
            _ if !needs_scores(&self.config, prompt, &hits) => Reading::NotAsked,
            None => {
                telemetry::unscored("absent");
                Reading::None { label: "absent", why: "there is no classifier".to_owned() }
            }
            Some(reader) => self.read(reader, prompt, deadline).await?,
        };
        if let Reading::Scores(read) = &reading {
            tokens = count_by_density(prompt, read.scores().density, tokens);
        }

        let read = Instant::now();
        let session = self.sessions.recall(&prompt.context, &self.config.tiers);
        let evidence = self.evidence(&reading);
        let known = self.known(&hits, evidence);
        let offsets: Vec<Option<f64>> =
            known.iter().map(|known| known.map(|estimate| estimate.mean)).collect();
        let question = Question {
            config: &self.config,
            prompt,
            tokens,
            hits: &hits,
            evidence,
            session_floor: session.floor,
            session_last: session.last.and_then(|last| {
                let target = self.config.target_named(&last.target.0)?;
                Some(Last { target, prompt_tokens: last.prompt_tokens })
            }),
            // By the clock that breakers follow.
            refusing: &self.health.refusing(tokio::time::Instant::now().into_std()),
            seed: order_seed(prompt, &id),
            offsets: &offsets,
        };
        let Tried { mut choice, propensity, explored } =
            self.try_some(&question, &known, &id).map_err(|no_target| {
                telemetry::refused("no_target");
                RouteError::NoTarget(no_target)
            })?;
        if let Some(needed) = choice.needed {
            self.sessions.needed(&prompt.context, needed, &self.config.tiers);
        }
        let stages = reading.times();
        let timings = Timings {
            rules_us: micros(started, ruled),
            queue_us: stages.queue_us,
            tokenize_us: stages.tokenize_us,
            inference_us: stages.inference_us,
            compute_us: stages.compute_us,
            policy_us: micros(read, Instant::now()),
            total_us: micros(started, Instant::now()),
        };
        let above = std::mem::take(&mut choice.above);
        let decided = Rung { tier: choice.tier, targets: choice.targets.clone() };
        let decision =
            self.decision(Parts { id, prompt, tokens, hits, reading, choice, propensity, explored, timings });
        self.count(&decision, started);
        Ok(Routed { decision, ladder: std::iter::once(decided).chain(above).collect() })
    }

    /// Returns what was learned about each target at the prompt's intent; empty when that is nothing.
    fn known(&self, hits: &Hits, evidence: Evidence<'_>) -> Vec<Option<Estimate>> {
        let Some(offsets) = &self.offsets else { return Vec::new() };
        match evidence {
            Evidence::Scores { .. } => judged_intent(hits, evidence)
                .map_or_else(Vec::new, |(intent, _)| offsets.load().at(&intent.0, &self.config)),
            // Without scores there is nothing that an offset could move.
            Evidence::NotAsked | Evidence::None { .. } => Vec::new(),
        }
    }

    /// Decides, and now and then tries another target than the best known one.
    fn try_some(
        &self,
        question: &Question<'_>,
        known: &[Option<Estimate>],
        id: &uuid::Uuid,
    ) -> Result<Tried, NoTarget> {
        let best = decide(question)?;
        let learning = &self.config.learning;
        let Some(config) = learning.explore.filter(|_| self.offsets.is_some()) else {
            return Ok(Tried { propensity: best.order_chance, choice: best, explored: false });
        };
        let prior = Estimate { mean: 0.0, sd: learning.prior_sd };
        let exploration = Exploration { config, prior, known, seed: id.as_u64_pair().1 };
        let (trial, propensity) = explore(question, &best, &exploration);
        let Some(trial) = trial else {
            return Ok(Tried { choice: best, propensity, explored: false });
        };
        telemetry::explored();
        let choice = decide_trial(question, trial)?;
        Ok(Tried { choice, propensity, explored: true })
    }

    /// Reads the prompt, or says why the decision goes on without scores.
    async fn read(
        &self,
        reader: &Reader,
        prompt: &Prompt,
        deadline: Option<Instant>,
    ) -> Result<Reading, RouteError> {
        match reader.read(prompt, deadline).await {
            Ok(read) => Ok(Reading::Scores(read)),
            Err(ClassifyError::Overloaded) if self.config.classifier.queue_full == QueueFull::Refuse => {
                telemetry::refused("overloaded");
                Err(RouteError::Overloaded)
            }
            Err(error) => {
                let label = reason_label(&error);
                telemetry::unscored(label);
                if let ClassifyError::Failed(why) = &error {
                    tracing::error!(why, "classifier failed on a prompt; the default tier answers");
                }
                Ok(Reading::None { label, why: error.to_string() })
            }
        }
    }

    fn evidence<'a>(&'a self, reading: &'a Reading) -> Evidence<'a> {
        match (reading, &self.reader) {
            (Reading::Scores(read), Some(reader)) => Evidence::Scores {
                scores: read.scores(),
                levels: reader.levels(),
                cached: read.cached,
                claim: read.claim(),
                unread: read.unread,
            },
            (Reading::None { why, .. }, _) => Evidence::None { why },
            (Reading::NotAsked | Reading::Scores(_), _) => Evidence::NotAsked,
        }
    }

    fn decision(&self, parts: Parts<'_>) -> Decision {
        let Parts { id, prompt, tokens, hits, reading, choice, propensity, explored, timings } = parts;
        let target = |index: TargetIndex| {
            let target = self.config.target(index);
            TargetRef {
                id: target.id.clone(),
                provider: Arc::clone(&target.provider),
                model: Arc::clone(&target.model),
            }
        };
        let scores = reading.scores();
        let tiers = self.config.tiers.iter().map(|tier| Arc::clone(&tier.name));
        let tier_scores: Vec<TierScore> = tiers
            .zip(&choice.sufficiency)
            .map(|(tier, &sufficiency)| TierScore { tier, sufficiency })
            .collect();
        let sufficiency_base = match (scores, &self.reader) {
            (Some(scores), Some(reader)) => {
                (0..tier_scores.len()).map(|at| sufficiency(scores, reader.levels(), Tier(at))).collect()
            }
            _ => Vec::new(),
        };
        let sufficiency_base =
            if sufficiency_base == choice.sufficiency { Vec::new() } else { sufficiency_base };
        Decision {
            decision_id: id.to_string(),
            tier: Arc::clone(&self.config.tier(choice.tier).name),
            target: target(choice.targets[0]),
            failover: choice.targets[1..].iter().map(|&index| target(index)).collect(),
            intent: choice.intent,
            intent_confidence: choice.intent_confidence,
            tier_scores,
            sufficiency_base,
            confidence: choice.confidence,
            source: choice.source,
            rule: choice.rule,
            reason: choice.reason,
            low_confidence: choice.low_confidence,
            truncated: scores.is_some_and(|scores| scores.truncated),
            bundle_version: scores.and(self.classifier()).map(|classifier| Arc::clone(&classifier.version)),
            config_generation: self.generation,
            prompt_tokens: tokens.tokens,
            prompt_tokens_source: tokens.source,
            cost_usd_estimate: choice.cost_usd,
            baseline_cost_usd: choice.baseline_usd,
            propensity,
            explored,
            canary: self.canary,
            unscored: reading.unscored(),
            timings,
            switched_from: choice.switched_from.map(target),
            switch_cost_usd: choice.switch_cost_usd,
            rule_matches: if prompt.explain { hits.matches } else { Vec::new() },
        }
    }

    fn count(&self, decision: &Decision, started: Instant) {
        telemetry::decided(telemetry::DecisionMetrics {
            tier: decision.tier.to_string(),
            source: decision.source.as_str(),
            took: started.elapsed(),
            cost_usd: decision.cost_usd_estimate,
            baseline_usd: decision.baseline_cost_usd,
        });
        tracing::debug!(
            id = decision.decision_id,
            tier = %decision.tier,
            target = %decision.target.id,
            source = decision.source.as_str(),
            total_us = decision.timings.total_us,
            "routed"
        );
    }
}

/// Everything that goes into a decision.
struct Parts<'a> {
    id: uuid::Uuid,
    prompt: &'a Prompt,
    tokens: TokenCount,
    hits: Hits,
    reading: Reading,
    choice: Choice,
    propensity: f64,
    explored: bool,
    timings: Timings,
}

/// A choice, and how it came about.
struct Tried {
    choice: Choice,
    propensity: f64,
    explored: bool,
}

/// What the classifier said, if it was asked.
enum Reading {
    NotAsked,
    Scores(Read),
    None { label: &'static str, why: String },
}

impl Reading {
    fn scores(&self) -> Option<&classifier::Scores> {
        match self {
            Self::Scores(read) => Some(read.scores()),
            Self::NotAsked | Self::None { .. } => None,
        }
    }

    /// Returns why there are no scores although they were asked for.
    fn unscored(&self) -> Option<&'static str> {
        match self {
            Self::None { label, .. } => Some(label),
            Self::NotAsked | Self::Scores(_) => None,
        }
    }

    fn times(&self) -> StageTimes {
        match self {
            Self::Scores(read) => read.times,
            Self::NotAsked | Self::None { .. } => StageTimes::default(),
        }
    }
}

/// A session keeps its order of targets; other requests are each on their own.
fn order_seed(prompt: &Prompt, id: &uuid::Uuid) -> u64 {
    let context = &prompt.context;
    if context.session_id.is_empty() {
        return id.as_u64_pair().1;
    }
    // Keys that never change: replicas and later configurations order alike.
    let mut hasher = DefaultHasher::new();
    (&context.tenant, &context.session_id).hash(&mut hasher);
    hasher.finish()
}

fn reason_label(error: &ClassifyError) -> &'static str {
    match error {
        ClassifyError::Overloaded => "overloaded",
        ClassifyError::TooLate(_) => TOO_LATE,
        ClassifyError::Failed(_) => "failed",
        ClassifyError::Stopped => "stopped",
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}
