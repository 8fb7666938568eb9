//! `RouteRequest` -> `Draft`, `Decision` -> its message.

use super::super::proto;
use crate::prompt::{
    Context, Decision, Draft, DraftMessage, DraftPreferences, DraftShape, RuleEffect, Source, TargetRef,
    TokenCountSource,
};

impl From<proto::RouteRequest> for Draft {
    fn from(request: proto::RouteRequest) -> Self {
        Self {
            prompt: request.prompt,
            messages: request
                .messages
                .into_iter()
                .map(|message| DraftMessage { role: message.role, content: message.content })
                .collect(),
            context: context(request.context.unwrap_or_default()),
            shape: shape(&request.shape.unwrap_or_default()),
            preferences: preferences(request.preferences.unwrap_or_default()),
            model: request.model,
            explain: request.explain,
        }
    }
}

pub fn context(context: proto::Context) -> Context {
    Context {
        task_type: context.task_type,
        tags: context.tags,
        tenant: context.tenant,
        session_id: context.session_id,
        language: context.language,
    }
}

pub fn shape(shape: &proto::Shape) -> DraftShape {
    DraftShape {
        prompt_tokens: shape.prompt_tokens,
        max_output_tokens: shape.max_output_tokens,
        needs_tools: shape.needs_tools,
        needs_vision: shape.needs_vision,
        needs_json: shape.needs_json,
        ..DraftShape::default()
    }
}

pub fn preferences(preferences: proto::Preferences) -> DraftPreferences {
    DraftPreferences {
        quality: preferences.quality,
        cost_usd_max: preferences.cost_usd_max,
        latency_ms_max: preferences.latency_ms_max,
        tier_min: preferences.tier_min,
        tier_max: preferences.tier_max,
        allow_targets: preferences.allow_targets,
        deny_targets: preferences.deny_targets,
    }
}

impl From<Decision> for proto::Decision {
    fn from(decision: Decision) -> Self {
        let timings = decision.timings;
        Self {
            decision_id: decision.decision_id,
            tier: decision.tier.to_string(),
            target: Some(decision.target.into()),
            failover: decision.failover.into_iter().map(Into::into).collect(),
            intent: decision.intent.map_or_else(String::new, |intent| intent.to_string()),
            intent_confidence: decision.intent_confidence,
            tier_scores: decision
                .tier_scores
                .into_iter()
                .map(|score| proto::TierScore {
                    tier: score.tier.to_string(),
                    sufficiency: score.sufficiency,
                })
                .collect(),
            confidence: decision.confidence,
            source: source(decision.source) as i32,
            rule: decision.rule.map_or_else(String::new, |rule| rule.to_string()),
            reason: decision.reason,
            low_confidence: decision.low_confidence,
            truncated: decision.truncated,
            bundle_version: decision.bundle_version.map_or_else(String::new, |version| version.to_string()),
            config_generation: decision.config_generation,
            prompt_tokens: i64::from(decision.prompt_tokens),
            prompt_tokens_source: count_source(decision.prompt_tokens_source) as i32,
            cost_usd_estimate: decision.cost_usd_estimate,
            baseline_cost_usd: decision.baseline_cost_usd,
            timings: Some(proto::Timings {
                rules_us: timings.rules_us,
                queue_us: timings.queue_us,
                tokenize_us: timings.tokenize_us,
                inference_us: timings.inference_us,
                policy_us: timings.policy_us,
                total_us: timings.total_us,
            }),
            switched_from: decision.switched_from.map(Into::into),
            switch_cost_usd: decision.switch_cost_usd,
            propensity: decision.propensity,
            explored: decision.explored,
            canary: decision.canary,
            rule_matches: decision
                .rule_matches
                .into_iter()
                .map(|hit| proto::RuleMatch {
                    rule: hit.rule.to_string(),
                    effect: rule_effect(hit.effect) as i32,
                })
                .collect(),
        }
    }
}

impl From<TargetRef> for proto::Target {
    fn from(target: TargetRef) -> Self {
        Self {
            id: target.id.to_string(),
            provider: target.provider.to_string(),
            model: target.model.to_string(),
        }
    }
}

fn source(source: Source) -> proto::Source {
    match source {
        Source::Rule => proto::Source::Rule,
        Source::Classifier => proto::Source::Classifier,
        Source::Cache => proto::Source::Cache,
        Source::Session => proto::Source::Session,
        Source::Default => proto::Source::Default,
        Source::Override => proto::Source::Override,
    }
}

fn rule_effect(effect: RuleEffect) -> proto::RuleEffect {
    match effect {
        RuleEffect::Decides => proto::RuleEffect::Decides,
        RuleEffect::Limits => proto::RuleEffect::Limits,
        RuleEffect::Late => proto::RuleEffect::Late,
    }
}

fn count_source(source: TokenCountSource) -> proto::TokenCountSource {
    match source {
        TokenCountSource::Caller => proto::TokenCountSource::Caller,
        TokenCountSource::Tokenizer => proto::TokenCountSource::Tokenizer,
        TokenCountSource::Length => proto::TokenCountSource::Length,
    }
}
