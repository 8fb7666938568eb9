//! Both decisions of each rewarded request -> what the estimators see.

use std::sync::Arc;

use super::{After, Before, sides};
use crate::evaluation::off_policy::Trial;

/// Returns the requests that have a reward.
///
/// The model of the reward is the logged sufficiency of the tier in question. For requests that were not scored then,
/// it is that of the setting's scores, and else the mean reward: the doubly robust estimate is right with any.
pub fn trials(before: &[Before], after: &[After], tiers: &[Arc<str>]) -> Vec<Trial> {
    let rewards: Vec<f64> = before.iter().filter_map(|before| before.reward).collect();
    let usual = sides::mean(&rewards).unwrap_or_default();
    before
        .iter()
        .zip(after)
        .filter_map(|(before, after)| {
            let expected = |tier: &Arc<str>| {
                sides::sufficiency_of(&before.choice, &before.tiers, tier)
                    .or_else(|| sides::sufficiency_of(&after.choice, tiers, tier))
                    .unwrap_or(usual)
            };
            Some(Trial {
                reward: before.reward?,
                propensity: before.propensity,
                same: before.choice.target == after.choice.target,
                propensity_other: after.propensity,
                expected_logged: expected(&before.choice.tier),
                expected_other: expected(&after.choice.tier),
            })
        })
        .collect()
}
