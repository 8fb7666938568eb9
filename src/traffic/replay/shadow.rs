//! Rows that a shadow scored -> what the log had decided, and what the shadow would have. Pure; needs no text.

use std::sync::Arc;

use super::{Row, request::before, reward::RewardBy};
use crate::evaluation::what_if::{After, Before, Choice};

/// Both decisions of each request, in the same order.
#[derive(Debug, Default)]
pub struct Shadowed {
    pub before: Vec<Before>,
    /// What the log took the requests for.
    pub intents: Vec<Option<Arc<str>>>,
    pub after: Vec<After>,
    /// Of these, where a target was tried to learn about it, which a shadow never does.
    pub explored: usize,
    /// Left out: the configuration lacks the tier that the shadow chose then.
    pub unknown_tier: usize,
}

impl Shadowed {
    /// Takes the rows that a shadow scored; `tiers` are the configuration's, weakest first.
    pub fn of(rows: &[Row], tiers: &[Arc<str>]) -> Self {
        let mut shadowed = Self::default();
        for row in rows {
            let (Some(tier), Some(target)) = (&row.shadow_tier, &row.shadow_target) else { continue };
            if !tiers.contains(tier) {
                shadowed.unknown_tier += 1;
            } else {
                shadowed.explored += usize::from(row.explored);
                shadowed.before.push(before(row, RewardBy::Both));
                shadowed.intents.push(row.intent.clone());
                shadowed.after.push(after(row, tier, target, tiers));
            }
        }
        shadowed
    }
}

fn after(row: &Row, tier: &Arc<str>, target: &Arc<str>, tiers: &[Arc<str>]) -> After {
    // Scores of other tiers than the configuration's cannot be put beside its own.
    let scored = row.tiers == tiers && row.shadow_sufficiency.len() == tiers.len();
    After {
        choice: Choice {
            tier: Arc::clone(tier),
            target: Arc::clone(target),
            sufficiency: scored.then(|| row.shadow_sufficiency.clone()),
            cost_usd: row.shadow_cost_usd_estimate,
            // The top tier costs the same whichever bundle decides.
            baseline_usd: row.baseline_cost_usd_estimate,
            low_confidence: row.shadow_low_confidence,
            // It goes behind all requests: its time says nothing about serving.
            deciding_us: None,
        },
        intent: row.shadow_intent.clone(),
        // The oldest scores lack it; all but tiers that draw by weight choose for certain.
        propensity: row.shadow_propensity.unwrap_or(1.0),
        tier_costs_usd: Vec::new(),
        reason: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::row::tests::row, *};

    fn shadowed(fields: Value) -> Shadowed {
        let mut one = json!({
            "messages": [], "intent": "code", "cost_usd_estimate": 0.001, "sufficiency": [0.1, 0.9, 0.9, 1.0],
            "shadow_bundle": "next", "shadow_tier": "complex", "shadow_target": "c1", "shadow_intent": "math",
            "shadow_sufficiency": [0.1, 0.2, 0.8, 1.0], "shadow_cost_usd_estimate": 0.004,
        });
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        one.as_object_mut().unwrap().extend(fields);
        let tiers = ["simple", "moderate", "complex", "reasoning"].map(Arc::from);
        Shadowed::of(&[row(one)], &tiers)
    }

    #[test]
    fn both_decisions_come_from_the_row() {
        let Shadowed { before, intents, after, .. } = shadowed(json!({}));
        assert_eq!((&*before[0].choice.tier, &*after[0].choice.tier), ("moderate", "complex"));
        assert_eq!((intents[0].as_deref(), after[0].intent.as_deref()), (Some("code"), Some("math")));
        assert_eq!((before[0].choice.cost_usd, after[0].choice.cost_usd), (0.001, 0.004));
        assert_eq!(after[0].choice.sufficiency, Some(vec![0.1, 0.2, 0.8, 1.0]));
        assert_eq!((before[0].excerpt.as_deref(), after[0].propensity), (None, 1.0));
    }

    #[test]
    fn what_cannot_be_compared_is_left_out_and_counted() {
        let check = |fields: Value, kept: usize, explored: usize, unknown_tier: usize| {
            let found = shadowed(fields);
            assert_eq!((found.before.len(), found.after.len()), (kept, kept));
            assert_eq!((found.explored, found.unknown_tier), (explored, unknown_tier));
        };
        check(json!({"explored": true}), 1, 1, 0);
        check(json!({"explored": true, "shadow_tier": "gone"}), 0, 0, 1);
        check(json!({"shadow_tier": "gone"}), 0, 0, 1);
        check(json!({"shadow_tier": null}), 0, 0, 0);
        check(json!({"shadow_sufficiency": []}), 1, 0, 0);
        // Scores of three tiers say nothing about four.
        let fewer =
            json!({"tiers": ["simple", "moderate", "complex"], "shadow_sufficiency": [0.1, 0.2, 1.0]});
        assert_eq!(shadowed(fewer).after[0].choice.sufficiency, None);
    }
}
