//! A small world in which the classifier is wrong about some targets, and routers that learn that or do not.
//!
//! Seeded: the same seed, the same world. Requests come a given time apart; each has an intent, a difficulty, and what
//! the classifier says of it. How often a target's answer is good follows from what is true of it.

use std::sync::Arc;

use pointsman::{
    config::{Config, ExploreConfig, LearningConfig, TargetIndex, read_text},
    prompt::{Draft, Intent, Prompt, Tier, TokenCountSource},
    routing::{
        admit::admit,
        classifier::{Scores, TokenDensity},
        cost::{TokenCount, estimate_usd},
        learning::{CellKey, Channel, Draws, Estimate, Judgement, Observation, Offsets, State},
        policy::{Evidence, Exploration, Question, Trial, decide, explore},
        rules::Hits,
    },
};

const INTENTS: [&str; 4] = ["code", "chat", "math", "jargon"];
const TIERS: usize = 4;
const LEVELS: [usize; TIERS] = [0, 1, 2, 3];
/// What the classifier says of each tier, for a request of ordinary difficulty.
const SUFFICIENCY: [f64; TIERS] = [0.55, 0.85, 0.95, 1.0];
/// The last tier answers this well, whatever it is held for.
const LAST_TIER: f64 = 0.98;
const TENANTS: usize = 20;

/// Who learns from what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// The classifier's word alone.
    Static,
    /// Offsets.
    Learning,
    /// Offsets, and other targets tried now and then.
    Exploring { rate: f64 },
}

/// One request.
pub struct Request {
    pub intent: usize,
    sufficiency: [f64; TIERS],
}

/// Who answered, and how good such an answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    pub tier: Tier,
    pub target: TargetIndex,
    /// Probability that the answer is good.
    pub quality: f64,
    pub cost_usd: f64,
}

/// What is true of a target at an intent: an offset on the logit of what the classifier says.
pub type Truth = fn(intent: &str, target: &str, request: u64) -> f64;

/// A world and its router.
pub struct World {
    pub config: Config,
    pub state: State,
    pub tenants: usize,
    prompt: Prompt,
    learning: LearningConfig,
    truth: Truth,
    draws: Draws,
    requests: u64,
    now_ms: i64,
    step_ms: i64,
}

impl World {
    /// Begins a world; `policy` is a section of the configuration, or empty.
    pub fn new(seed: u64, policy: &str, step_ms: i64, truth: Truth) -> Self {
        let config = read_text(&configuration(policy)).unwrap_or_else(|error| panic!("{error}"));
        let mut draft = Draft::from_text("x");
        draft.shape.prompt_tokens = Some(500);
        let prompt = admit(draft, &config).unwrap_or_else(|error| panic!("{error}"));
        let learning = LearningConfig { enabled: true, ..LearningConfig::default() };
        let (state, draws) = (State::default(), Draws::seeded(seed));
        let tenants = TENANTS;
        Self { config, state, tenants, prompt, learning, truth, draws, requests: 0, now_ms: 0, step_ms }
    }

    /// Returns the next request.
    pub fn request(&mut self) -> Request {
        self.requests += 1;
        self.now_ms += self.step_ms;
        let intent = self.draws.below(INTENTS.len());
        let difficulty = 2.0 * self.draws.unit() - 1.0;
        let harder = |sufficiency: f64| {
            if sufficiency < 1.0 { sigmoid(logit(sufficiency) - difficulty) } else { sufficiency }
        };
        Request { intent, sufficiency: SUFFICIENCY.map(harder) }
    }

    /// Has the policy choose who answers.
    pub fn serve(&mut self, request: &Request, strategy: Strategy) -> Served {
        let scores = scores(request);
        let offsets = Offsets::of(&self.state.cells, self.now_ms, &self.learning);
        let known = match strategy {
            Strategy::Static => Vec::new(),
            Strategy::Learning | Strategy::Exploring { .. } => {
                offsets.at(INTENTS[request.intent], &self.config)
            }
        };
        let means: Vec<Option<f64>> =
            known.iter().map(|known: &Option<Estimate>| known.map(|known| known.mean)).collect();
        let hits = Hits::default();
        let question = Question {
            config: &self.config,
            prompt: &self.prompt,
            tokens: TokenCount { tokens: 500, source: TokenCountSource::Caller },
            hits: &hits,
            evidence: Evidence::Scores {
                scores: &scores,
                levels: &LEVELS,
                cached: false,
                claim: None,
                unread: None,
            },
            session_floor: None,
            session_last: None,
            refusing: &[],
            seed: self.requests,
            offsets: &means,
        };
        let best = decide(&question).unwrap_or_else(|error| panic!("{error}"));
        let mut chosen = Trial { tier: best.tier, target: best.targets[0] };
        if let Strategy::Exploring { rate } = strategy {
            let config = ExploreConfig { rate, quality_min: 0.2 };
            let prior = Estimate { mean: 0.0, sd: self.learning.prior_sd };
            let seed = self.requests;
            let (trial, _) = explore(&question, &best, &Exploration { config, prior, known: &known, seed });
            chosen = trial.unwrap_or(chosen);
        }
        self.served(request, chosen)
    }

    /// Returns who is worth most by what is true.
    pub fn oracle(&self, request: &Request) -> Served {
        let trials = (0..TIERS).map(Tier).flat_map(|tier| {
            self.config.tier(tier).targets.iter().map(move |&target| Trial { tier, target })
        });
        trials
            .map(|trial| self.served(request, trial))
            .max_by(|a, b| self.worth(a).total_cmp(&self.worth(b)))
            .expect("there are tiers")
    }

    /// Returns what an answer is worth after its cost, US dollars.
    pub fn worth(&self, served: &Served) -> f64 {
        served.quality * self.config.policy.value_usd - served.cost_usd
    }

    /// Takes a user's verdict in, good as often as the answer's quality; returns whether it was good.
    pub fn feedback(&mut self, request: &Request, served: &Served) -> bool {
        let good = self.draws.unit() < served.quality;
        let weight = self.learning.weights.user;
        self.observe(request, served, Channel::Feedback, Some(if good { 1.0 } else { 0.0 }), weight);
        good
    }

    /// Takes a judgement of any tenant in.
    pub fn observe(
        &mut self,
        request: &Request,
        served: &Served,
        channel: Channel,
        good: Option<f64>,
        weight: f64,
    ) {
        let tenant = format!("t{}", self.draws.below(self.tenants));
        let base = if served.tier.0 + 1 == TIERS { 1.0 } else { request.sufficiency[served.tier.0] };
        let judgement = Judgement { base, good, weight, at_ms: self.now_ms };
        let intent = Arc::from(INTENTS[request.intent]);
        let cell = CellKey { intent, target: Arc::clone(&self.config.target(served.target).id.0) };
        let observation = Observation { cell, tenant, channel, judgement };
        self.state.observe(&observation, &self.learning);
    }

    /// Returns what is known of a target at an intent, at this moment.
    pub fn estimate(&self, intent: &str, target: &str) -> Option<Estimate> {
        Offsets::of(&self.state.cells, self.now_ms, &self.learning).get(intent, target)
    }

    fn served(&self, request: &Request, Trial { tier, target }: Trial) -> Served {
        let base = if tier.0 + 1 == TIERS { LAST_TIER } else { request.sufficiency[tier.0] };
        let config = self.config.target(target);
        let truth = (self.truth)(INTENTS[request.intent], &config.id.0, self.requests);
        let cost_usd = estimate_usd(config, &self.prompt, 500);
        Served { tier, target, quality: sigmoid(logit(base) + truth), cost_usd }
    }
}

fn scores(request: &Request) -> Scores {
    Scores {
        intent: Intent(Arc::from(INTENTS[request.intent])),
        intent_confidence: 0.9,
        sufficiency: request.sufficiency.to_vec(),
        level_confidence: 0.7,
        intent_unsure: false,
        level_margin_min: 0.0,
        truncated: false,
        density: TokenDensity { tokens: 1, bytes: 4 },
    }
}

fn configuration(policy: &str) -> String {
    let tiers = [("simple", "s1"), ("moderate", "m1"), ("complex", "c1"), ("reasoning", "r1")];
    let tiers =
        tiers.map(|(name, target)| format!("[[tiers]]\nname = \"{name}\"\ntargets = [\"{target}\"]\n"));
    let targets = [("s1", 0.2), ("m1", 2.0), ("c1", 10.0), ("r1", 30.0)].map(|(id, price)| {
        format!(
            "[[targets]]\nid = \"{id}\"\nprovider = \"p\"\nmodel = \"{id}-1\"\n\
             input_usd_per_mtok = {price:?}\noutput_usd_per_mtok = {price:?}\nprice_date = \"2026-11-21\"\n\
             context_tokens = 100000\noutput_tokens_typical = 500\n"
        )
    });
    format!("rules = []\n{policy}\n{}\n{}", tiers.concat(), targets.concat())
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}
