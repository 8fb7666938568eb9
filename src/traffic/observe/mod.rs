//! Requests as the rest of the program knows them -> records as they are stored.
//!
//! Runs where the request does: it moves and counts references, and leaves what takes time to the writer. Never
//! looks into a text beyond cutting it to size.

mod cut;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use self::cut::{Kept, cut};
use super::{
    feedback::Signal,
    record::{
        self, AttemptRecord, DecisionRecord, Kind, OutcomeRecord, Record, RequestRecord, ShadowRecord,
        TargetRecord, TextRecord, TimingsRecord,
    },
    store::moment,
};
use crate::{
    completion::{
        attempt::{Attempt, Outcome},
        ended::{Ended, Ending},
    },
    config::Config,
    prompt::{Decision, Message, Prompt, TargetRef},
};

/// What a record takes in memory beside its texts, bytes: names are shared, the rest is numbers.
const RECORD_BYTES: usize = 1024;

/// A request that ended, with its texts as they are: these never leave memory.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its text is still to be filled in, and its session's name still to be treated by the tenant's policy.
    pub record: Record,
    /// What is kept of the conversation, cut to size.
    pub messages: Vec<Message>,
    /// Of the texts before they were cut.
    pub bytes: u64,
    pub cut: bool,
}

impl Pending {
    /// Returns a decision that was asked for by itself.
    pub fn decided(config: &Config, prompt: Prompt, decision: &Decision) -> Self {
        let took_ms = decision.timings.total_us as f64 / 1e3;
        let outcome = OutcomeRecord {
            status: "decided".to_owned(),
            failure: None,
            tier: None,
            target: None,
            escalated: false,
            cost_usd: 0.0,
            baseline_cost_usd: 0.0,
            latency_ms: took_ms,
            overhead_ms: took_ms,
        };
        Self::new(config, prompt, decision, Kind::Route, Vec::new(), outcome)
    }

    /// Returns a completion that ended in whatever way.
    pub fn ended(ended: Ended) -> Self {
        let Ended { config, prompt, decision, attempts, how, cost_usd, latency, overhead } = ended;
        let mut outcome = OutcomeRecord {
            status: String::new(),
            failure: None,
            tier: None,
            target: None,
            escalated: false,
            cost_usd: finite(cost_usd),
            baseline_cost_usd: 0.0,
            latency_ms: ms(latency),
            overhead_ms: ms(overhead),
        };
        let mut signals = Vec::new();
        if attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Weak(_))) {
            signals.push(Signal::Weak);
        }
        match how {
            Ending::Answered { target, tier, escalated, weak, baseline_cost_usd } => {
                outcome.status = if weak.is_some() { "weak" } else { "answered" }.to_owned();
                outcome.tier = Some(tier);
                outcome.target = Some(target_record(&target));
                outcome.escalated = escalated;
                outcome.baseline_cost_usd = finite(baseline_cost_usd);
                if escalated {
                    signals.push(Signal::Escalated);
                }
                if weak.is_some() && !signals.contains(&Signal::Weak) {
                    signals.push(Signal::Weak);
                }
            }
            Ending::Failed(kind) => {
                outcome.status = "failed".to_owned();
                outcome.failure = Some(kind.as_str().to_owned());
            }
            Ending::HungUp => {
                outcome.status = "hung_up".to_owned();
                signals.push(Signal::Abandoned);
            }
        }
        let attempts = attempts.iter().map(|attempt| attempt_record(&config, attempt)).collect();
        let mut pending = Self::new(&config, prompt, &decision, Kind::Complete, attempts, outcome);
        pending.record.signals = signals;
        pending
    }

    fn new(
        config: &Config,
        mut prompt: Prompt,
        decision: &Decision,
        kind: Kind,
        attempts: Vec<AttemptRecord>,
        outcome: OutcomeRecord,
    ) -> Self {
        let turns = prompt.turns().max(1) as u32;
        let judged = prompt.judged_index();
        let messages = std::mem::take(&mut prompt.messages);
        let Kept { messages, bytes, cut } = cut(messages, judged, config.traffic.text_bytes_max);
        // The router makes every id; one that it did not make can be found by nobody.
        let decision_id = decision.decision_id.parse().unwrap_or_else(|_| Uuid::now_v7());
        let record = Record {
            version: record::VERSION,
            decision_id,
            at_ms: moment(decision_id),
            kind,
            request: request_record(prompt, decision.prompt_tokens, turns),
            decision: decision_record(config, decision),
            attempts,
            outcome,
            signals: Vec::new(),
        };
        Self { record, messages, bytes, cut }
    }

    /// Returns about how much memory this takes, bytes.
    pub fn weight(&self) -> usize {
        let request = &self.record.request;
        let names = [&request.tenant, &request.session, &request.task_type, &request.language];
        let texts: usize =
            self.messages.iter().map(|message| size_of::<Message>() + message.content.capacity()).sum();
        let tags: usize = request.tags.iter().map(|tag| size_of::<String>() + tag.capacity()).sum();
        let attempts = self.record.attempts.len() * size_of::<AttemptRecord>();
        RECORD_BYTES + attempts + texts + tags + names.iter().map(|name| name.capacity()).sum::<usize>()
    }
}

fn request_record(prompt: Prompt, prompt_tokens: u32, turns: u32) -> RequestRecord {
    let Prompt { context, shape, preferences, .. } = prompt;
    RequestRecord {
        tenant: context.tenant,
        session: context.session_id,
        task_type: context.task_type,
        tags: context.tags,
        language: context.language,
        text: TextRecord {
            policy: String::new(),
            messages: Vec::new(),
            hash: None,
            bytes: 0,
            cut: false,
            redactions: 0,
        },
        turns,
        prompt_tokens,
        output_tokens_max: shape.max_output_tokens,
        needs_tools: shape.needs.tools,
        needs_vision: shape.needs.vision,
        needs_json: shape.needs.json,
        quality: preferences.quality.filter(|quality| quality.is_finite()),
    }
}

/// Returns what is kept of a shadow's decision, beside the record of the active bundle's.
pub fn shadow_record(active_tier: &Arc<str>, decision: &Decision) -> ShadowRecord {
    ShadowRecord {
        version: record::SHADOW_VERSION,
        active_tier: Arc::clone(active_tier),
        tier: Arc::clone(&decision.tier),
        target: Arc::clone(&decision.target.id.0),
        intent: decision.intent.as_ref().map(|intent| Arc::clone(&intent.0)),
        intent_confidence: finite(decision.intent_confidence),
        confidence: finite(decision.confidence),
        low_confidence: decision.low_confidence,
        sufficiency: all_finite(decision.tier_scores.iter().map(|score| score.sufficiency).collect()),
        unscored: decision.unscored.map(str::to_owned),
        cost_usd_estimate: finite(decision.cost_usd_estimate),
        propensity: Some(finite(decision.propensity)),
        compute_us: decision.timings.compute_us,
    }
}

fn decision_record(config: &Config, decision: &Decision) -> DecisionRecord {
    let tiers: Vec<Arc<str>> = config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    let score = |tier: &Arc<str>| {
        decision.tier_scores.iter().find(|score| score.tier == *tier).map(|score| score.sufficiency)
    };
    DecisionRecord {
        // One for each tier or none at all.
        sufficiency: all_finite(tiers.iter().map(score).collect::<Option<Vec<f64>>>().unwrap_or_default()),
        sufficiency_base: all_finite(decision.sufficiency_base.clone()),
        tiers,
        tier: Arc::clone(&decision.tier),
        target: target_record(&decision.target),
        failover: decision.failover.iter().map(|target| Arc::clone(&target.id.0)).collect(),
        intent: decision.intent.as_ref().map(|intent| Arc::clone(&intent.0)),
        intent_confidence: finite(decision.intent_confidence),
        confidence: finite(decision.confidence),
        source: decision.source.as_str().to_owned(),
        rule: decision.rule.clone(),
        low_confidence: decision.low_confidence,
        truncated: decision.truncated,
        bundle_version: decision.bundle_version.clone(),
        config_generation: decision.config_generation,
        cost_usd_estimate: finite(decision.cost_usd_estimate),
        baseline_cost_usd_estimate: finite(decision.baseline_cost_usd),
        // What is not known is as good as certain: nothing off-policy is concluded from it.
        propensity: if decision.propensity.is_finite() { decision.propensity } else { 1.0 },
        explored: decision.explored,
        canary: decision.canary,
        timings: TimingsRecord {
            rules_us: decision.timings.rules_us,
            queue_us: decision.timings.queue_us,
            tokenize_us: decision.timings.tokenize_us,
            inference_us: decision.timings.inference_us,
            policy_us: decision.timings.policy_us,
            total_us: decision.timings.total_us,
        },
    }
}

/// Leaves out what a provider's error or a weak answer said: it may repeat what was asked.
fn attempt_record(config: &Config, attempt: &Attempt) -> AttemptRecord {
    let why = match &attempt.outcome {
        Outcome::Weak(weakness) => Some(weakness.check.as_str().to_owned()),
        Outcome::Failed(error) => Some(error.kind.as_str().to_owned()),
        Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => None,
    };
    AttemptRecord {
        target: target_record(&attempt.target),
        tier: Arc::clone(&config.tier(attempt.tier).name),
        cause: attempt.cause.as_str().to_owned(),
        outcome: attempt.outcome.as_str().to_owned(),
        why,
        started_ms: ms(attempt.started),
        latency_ms: ms(attempt.latency),
        first_token_ms: attempt.first_token.map(ms),
        input_tokens: attempt.usage.input_tokens,
        cached_input_tokens: attempt.usage.cached_input_tokens,
        output_tokens: attempt.usage.output_tokens,
        cost_usd: finite(attempt.cost_usd),
        estimated: attempt.estimated,
    }
}

fn target_record(target: &TargetRef) -> TargetRecord {
    TargetRecord {
        id: Arc::clone(&target.id.0),
        provider: Arc::clone(&target.provider),
        model: Arc::clone(&target.model),
    }
}

/// JSON has no other figures, and a record that holds one could not be read again.
fn finite(figure: f64) -> f64 {
    if figure.is_finite() { figure } else { 0.0 }
}

/// All of them or none: there is one for each tier.
fn all_finite(figures: Vec<f64>) -> Vec<f64> {
    if figures.iter().all(|figure| figure.is_finite()) { figures } else { Vec::new() }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
pub mod tests;
