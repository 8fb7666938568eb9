//! The router's own judgement of every sample: what it would decide, and by which scores.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;

use super::{Row, Scale, sample::Sample};
use crate::{
    config::Config,
    prompt::{Decision, Intent, Tier},
    routing::{Router, cost::estimate_usd},
};

/// What one row says of one sample: the router's, or a baseline's.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    pub tier: usize,
    pub intent: Option<Arc<str>>,
    /// Probability of `intent`; `None` where the row states none.
    pub intent_confidence: Option<f64>,
    /// One for each tier, weakest first, never falling, ends in 1; orders the requests along the cost-quality
    /// curve. `None` where nothing scored the request.
    pub sufficiency: Option<Vec<f64>>,
    /// Predicted gain of the strong tier over the weak one; only its order counts.
    pub gain: Option<f64>,
    /// Predicted difficulty; only its order counts.
    pub difficulty: Option<f64>,
}

impl Judged {
    /// Derives gain and difficulty from sufficiencies.
    pub fn by_sufficiency(tier: usize, sufficiency: Vec<f64>, scale: &Scale) -> Self {
        Self {
            tier,
            gain: Some(sufficiency[scale.strong] - sufficiency[scale.weak]),
            difficulty: scale.middle.map(|middle| 1.0 - sufficiency[middle]),
            sufficiency: Some(sufficiency),
            ..Self::default()
        }
    }
}

/// What is kept of a decision.
#[derive(Debug, Clone)]
pub struct Facts {
    pub tier: Tier,
    pub intent: Option<Arc<str>>,
    /// `None` where a rule fixed the intent: its certainty is no probability.
    pub intent_confidence: Option<f64>,
    pub sufficiency: Option<Vec<f64>>,
    /// Whether the classifier's scores decided.
    pub classified: bool,
    pub truncated: bool,
    pub low_confidence: bool,
    /// Estimated cost of each tier's first target, US dollars.
    pub costs_usd: Vec<f64>,
}

/// Asks the router about every sample, `in_flight` at once; `done` is called after each.
///
/// An error belongs to the sample's line.
pub async fn ask(
    router: &Arc<Router>,
    samples: &[Sample],
    in_flight: usize,
    done: impl Fn(),
) -> Result<Vec<Facts>, BTreeMap<usize, String>> {
    let mut answers = futures::stream::iter(samples)
        .map(|sample| {
            let (router, prompt) = (Arc::clone(router), sample.prompt.clone());
            // A task each: the rules of one sample run beside those of another.
            tokio::spawn(async move { router.route(&prompt, None).await })
        })
        .buffered(in_flight);
    let mut facts = Vec::with_capacity(samples.len());
    let mut failed = BTreeMap::new();
    let mut samples = samples.iter();
    while let (Some(answer), Some(sample)) = (answers.next().await, samples.next()) {
        match answer.expect("a sample's task neither panics nor is cancelled") {
            Ok(decision) => facts.push(Facts::of(&decision, sample, router.config())),
            Err(error) => {
                failed.insert(sample.line, error.to_string());
            }
        }
        done();
    }
    if failed.is_empty() { Ok(facts) } else { Err(failed) }
}

impl Facts {
    fn of(decision: &Decision, sample: &Sample, config: &Config) -> Self {
        let scores: Vec<f64> = decision.tier_scores.iter().map(|score| score.sufficiency).collect();
        let cost = |tier: &crate::config::TierConfig| {
            estimate_usd(config.target(tier.targets[0]), &sample.prompt, decision.prompt_tokens)
        };
        // How near the examples of an intent by example are is no probability.
        let states_probability = |intent: &Intent| !config.own_intents().any(|own| *own == intent.0);
        let predicted = decision.rule.is_none()
            && !scores.is_empty()
            && decision.intent.as_ref().is_none_or(states_probability);
        Self {
            tier: config.tier_named(&decision.tier).expect("a decision names a tier of its configuration"),
            intent: decision.intent.as_ref().map(|intent| Arc::clone(&intent.0)),
            intent_confidence: predicted.then_some(decision.intent_confidence),
            classified: !scores.is_empty(),
            sufficiency: (!scores.is_empty()).then_some(scores),
            truncated: decision.truncated,
            low_confidence: decision.low_confidence,
            costs_usd: config.tiers.iter().map(cost).collect(),
        }
    }

    /// Returns the router's row.
    pub fn judged(&self, scale: &Scale) -> Judged {
        let scored = self.sufficiency.clone();
        let judged = scored.map(|sufficiency| Judged::by_sufficiency(self.tier.0, sufficiency, scale));
        Judged {
            tier: self.tier.0,
            intent: self.intent.clone(),
            intent_confidence: self.intent_confidence,
            ..judged.unwrap_or_default()
        }
    }
}

impl Row {
    /// Whether the row's sufficiencies are meant as probabilities.
    pub fn states_probabilities(self) -> bool {
        match self {
            Self::Router | Self::Tfidf => true,
            Self::Random | Self::Length => false,
        }
    }
}
