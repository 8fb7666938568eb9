//! Prompt -> decision: the whole pipeline on one screen.
//!
//! Rules first, the classifier for what they leave open, the policy last. Routing fails only when
//! no target may answer, or when the operator chose to refuse under overload; never because the
//! classifier is slow, full, broken or absent.

pub mod admit;
mod bounds;
pub mod classifier;
pub mod cost;
pub mod language;
pub mod line;
mod patterns;
pub mod policy;
pub mod rules;
pub mod sessions;

use std::{
    hash::{DefaultHasher, Hash, Hasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    classifier::{Classifier, ClassifyError, Excerpt, Scores, StageTimes},
    cost::{TokenCount, count_by_density, count_by_length},
    policy::{Choice, Evidence, NoTarget, Question, decide, needs_scores, sufficiency},
    rules::{Hits, RuleSet, RulesError},
    sessions::Sessions,
};
use crate::{
    config::{Config, QueueFull, TargetIndex},
    prompt::{Decision, Prompt, TargetRef, Tier, TierScore, Timings},
    telemetry,
};

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
    #[error("{place}: the bundle has no intent {intent:?}; it has {known}")]
    UnknownIntent { place: String, intent: Arc<str>, known: String },
}

/// One configuration with one classifier: what a request holds from start to end.
pub struct Router {
    config: Arc<Config>,
    generation: u64,
    rules: RuleSet,
    reader: Option<Reader>,
    sessions: Arc<Sessions>,
}

/// The classifier with what belongs to its bundle.
struct Reader {
    classifier: Arc<dyn Classifier>,
    /// Level of each tier.
    levels: Vec<usize>,
    cache: Option<moka::sync::Cache<u128, Arc<Scores>>>,
    cache_keys: [RandomState; 2],
}

impl Router {
    /// Fits a configuration and a classifier together; without one, rules and default tier decide.
    pub fn new(
        config: Arc<Config>,
        classifier: Option<Arc<dyn Classifier>>,
        sessions: Arc<Sessions>,
        generation: u64,
    ) -> Result<Self, RouterError> {
        let rules = RuleSet::compile(&config)?;
        let reader = classifier.map(|classifier| Reader::new(&config, classifier)).transpose()?;
        Ok(Self { config, generation, rules, reader, sessions })
    }

    /// Returns the configuration behind this router's decisions.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Returns what the classifier's scores stand for, `None` without a classifier.
    pub fn classifier(&self) -> Option<&classifier::Description> {
        self.reader.as_ref().map(|reader| reader.classifier.describe())
    }

    /// Decides; scores that do not come before `deadline` are done without.
    pub async fn route(&self, prompt: &Prompt, deadline: Option<Instant>) -> Result<Decision, RouteError> {
        let started = Instant::now();
        let mut tokens = count_by_length(prompt);
        let hits = self.rules.hits(prompt, tokens.tokens);
        let ruled = Instant::now();

        let reading = match &self.reader {
            _ if !needs_scores(&self.config, prompt, &hits) => Reading::NotAsked,
            None => {
                telemetry::unscored("absent");
                Reading::None("there is no classifier".to_owned())
            }
            Some(reader) => self.read(reader, prompt, deadline).await?,
        };
        if let Reading::Scores { scores, .. } = &reading {
            tokens = count_by_density(prompt, scores.density, tokens);
        }

        let read = Instant::now();
        let id = uuid::Uuid::now_v7();
        let question = Question {
            config: &self.config,
            prompt,
            tokens,
            hits: &hits,
            evidence: self.evidence(&reading),
            session_floor: self.sessions.floor(&prompt.context),
            seed: order_seed(prompt, &id),
        };
        let choice = decide(&question).map_err(|no_target| {
            telemetry::refused("no_target");
            RouteError::NoTarget(no_target)
        })?;
        if let Some(needed) = choice.needed {
            self.sessions.needed(&prompt.context, needed);
        }
        let stages = reading.times();
        let timings = Timings {
            rules_us: micros(started, ruled),
            queue_us: stages.queue_us,
            tokenize_us: stages.tokenize_us,
            inference_us: stages.inference_us,
            policy_us: micros(read, Instant::now()),
            total_us: micros(started, Instant::now()),
        };
        let decision = self.decision(Parts { id, prompt, tokens, hits, reading, choice, timings });
        self.count(&decision, started);
        Ok(decision)
    }

    /// Asks the cache, then the classifier.
    async fn read(
        &self,
        reader: &Reader,
        prompt: &Prompt,
        deadline: Option<Instant>,
    ) -> Result<Reading, RouteError> {
        let excerpt = Excerpt::of(prompt, &reader.classifier.describe().input);
        let key = reader.cache.as_ref().map(|cache| (cache, excerpt.fingerprint(&reader.cache_keys)));
        if let Some(scores) = key.as_ref().and_then(|(cache, key)| cache.get(key)) {
            return Ok(Reading::Scores { scores, cached: true, times: StageTimes::default() });
        }
        let deadline = wait_until(self.config.classifier.wait_max, deadline);
        match classify(&*reader.classifier, excerpt, deadline).await {
            Ok(scored) => {
                let scores = Arc::new(scored.scores);
                if let Some((cache, key)) = key {
                    cache.insert(key, Arc::clone(&scores));
                }
                Ok(Reading::Scores { scores, cached: false, times: scored.times })
            }
            Err(ClassifyError::Overloaded) if self.config.classifier.queue_full == QueueFull::Refuse => {
                telemetry::refused("overloaded");
                Err(RouteError::Overloaded)
            }
            Err(error) => {
                telemetry::unscored(reason_label(&error));
                if let ClassifyError::Failed(why) = &error {
                    tracing::error!(why, "classifier failed on a prompt; the default tier answers");
                }
                Ok(Reading::None(error.to_string()))
            }
        }
    }

    fn evidence<'a>(&'a self, reading: &'a Reading) -> Evidence<'a> {
        match (reading, &self.reader) {
            (Reading::Scores { scores, cached, .. }, Some(reader)) => {
                Evidence::Scores { scores, levels: &reader.levels, cached: *cached }
            }
            (Reading::None(why), _) => Evidence::None { why },
            (Reading::NotAsked | Reading::Scores { .. }, _) => Evidence::NotAsked,
        }
    }

    fn decision(&self, parts: Parts<'_>) -> Decision {
        let Parts { id, prompt, tokens, hits, reading, choice, timings } = parts;
        let target = |index: TargetIndex| {
            let target = self.config.target(index);
            TargetRef {
                id: target.id.clone(),
                provider: Arc::clone(&target.provider),
                model: Arc::clone(&target.model),
            }
        };
        let scores = reading.scores();
        let tier_scores = match (scores, &self.reader) {
            (Some(scores), Some(reader)) => (0..self.config.tiers.len())
                .map(Tier)
                .map(|tier| TierScore {
                    tier: Arc::clone(&self.config.tier(tier).name),
                    sufficiency: sufficiency(scores, &reader.levels, tier),
                })
                .collect(),
            _ => Vec::new(),
        };
        Decision {
            decision_id: id.to_string(),
            tier: Arc::clone(&self.config.tier(choice.tier).name),
            target: target(choice.targets[0]),
            failover: choice.targets[1..].iter().map(|&index| target(index)).collect(),
            intent: choice.intent,
            intent_confidence: choice.intent_confidence,
            tier_scores,
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
            timings,
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
    timings: Timings,
}

/// What the classifier said, if it was asked.
enum Reading {
    NotAsked,
    Scores { scores: Arc<Scores>, cached: bool, times: StageTimes },
    None(String),
}

impl Reading {
    fn scores(&self) -> Option<&Scores> {
        match self {
            Self::Scores { scores, .. } => Some(scores),
            Self::NotAsked | Self::None(_) => None,
        }
    }

    fn times(&self) -> StageTimes {
        match self {
            Self::Scores { times, .. } => *times,
            Self::NotAsked | Self::None(_) => StageTimes::default(),
        }
    }
}

impl Reader {
    fn new(config: &Config, classifier: Arc<dyn Classifier>) -> Result<Self, RouterError> {
        let description = classifier.describe();
        let mut levels: Vec<usize> = Vec::with_capacity(config.tiers.len());
        for (tier, written) in config.tiers.iter().enumerate() {
            let level = Arc::clone(&written.level);
            let Some(place) = description.levels.iter().position(|known| *known == level) else {
                let known = description.levels.join(", ");
                return Err(RouterError::UnknownLevel { tier, level, known });
            };
            if levels.last().is_some_and(|&before| place < before) {
                return Err(RouterError::LevelOrder { tier, level });
            }
            levels.push(place);
        }
        let rules = config.rules.iter().enumerate().filter_map(|(at, rule)| {
            Some((format!("rules[{at}].intent"), rule.fixes.as_ref()?.intent.as_ref()?))
        });
        let intents = config.intents.keys().map(|name| (format!("intents.{name}"), name));
        for (place, intent) in rules.chain(intents) {
            if !description.intents.iter().any(|known| known.0 == *intent) {
                let known: Vec<&str> = description.intents.iter().map(|known| &*known.0).collect();
                return Err(RouterError::UnknownIntent {
                    place,
                    intent: Arc::clone(intent),
                    known: known.join(", "),
                });
            }
        }
        let entries = config.classifier.cache_entries;
        let cache = (entries > 0).then(|| moka::sync::Cache::new(entries));
        Ok(Self { classifier, levels, cache, cache_keys: [RandomState::new(), RandomState::new()] })
    }
}

/// Waits for scores until `deadline`; a prompt given up on is skipped by the workers.
async fn classify(
    classifier: &dyn Classifier,
    excerpt: Excerpt,
    deadline: Instant,
) -> Result<classifier::Scored, ClassifyError> {
    let asked = Instant::now();
    let receiver = classifier.submit(excerpt, deadline)?;
    match tokio::time::timeout_at(deadline.into(), receiver).await {
        Ok(Ok(outcome)) => outcome,
        // Workers drop a reply without sending when its deadline has passed, or when they end.
        Ok(Err(_)) if Instant::now() < deadline => Err(ClassifyError::Stopped),
        Ok(Err(_)) | Err(_) => Err(ClassifyError::TooLate(asked.elapsed())),
    }
}

/// Returns when to go on without scores: early enough for the answer to reach the caller in time.
fn wait_until(wait_max: Duration, deadline: Option<Instant>) -> Instant {
    // The runtime's timer ticks in milliseconds: one for it, one for the way back.
    const WAY_BACK_MIN: Duration = Duration::from_millis(2);
    let now = Instant::now();
    match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(now);
            now + wait_max.min(left.saturating_sub(WAY_BACK_MIN.max(left / 10)))
        }
        None => now + wait_max,
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
        ClassifyError::TooLate(_) => "too_late",
        ClassifyError::Failed(_) => "failed",
        ClassifyError::Stopped => "stopped",
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}
