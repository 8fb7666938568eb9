//! Examples of requests that a setting sends elsewhere: those whose cost changes most.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::{After, Before};

/// Examples for each direction: more are not read.
const EXAMPLES_MAX: usize = 10;

/// A request that goes to another tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    pub decision_id: Uuid,
    pub from_tier: Arc<str>,
    pub from_target: Arc<str>,
    pub to_tier: Arc<str>,
    pub to_target: Arc<str>,
    /// Expected, US dollars; negative where it becomes cheaper.
    pub cost_change_usd: f64,
    pub reason: String,
    /// As the log holds it: not in figures for programs.
    #[serde(skip)]
    pub excerpt: Option<String>,
}

/// Returns those to stronger tiers, then those to weaker ones, the largest change of cost first.
pub fn moved(before: &[Before], after: &[After], tiers: &[Arc<str>]) -> Vec<Moved> {
    let place = |name: &Arc<str>| tiers.iter().position(|tier| tier == name);
    let up = |before: &Before, after: &After| {
        let (from, to) = (place(&before.choice.tier)?, place(&after.choice.tier)?);
        (from != to).then_some(to > from)
    };
    [true, false]
        .into_iter()
        .flat_map(|wanted| {
            let pairs = before.iter().zip(after);
            let mut found: Vec<Moved> = pairs
                .filter(|(before, after)| up(before, after) == Some(wanted))
                .map(|(before, after)| Moved::of(before, after))
                .collect();
            let by_change = |moved: &Moved| moved.cost_change_usd.abs();
            found.sort_by(|one, other| {
                by_change(other).total_cmp(&by_change(one)).then(one.decision_id.cmp(&other.decision_id))
            });
            found.truncate(EXAMPLES_MAX);
            found
        })
        .collect()
}

impl Moved {
    pub(super) fn of(before: &Before, after: &After) -> Self {
        Self {
            decision_id: before.id,
            from_tier: Arc::clone(&before.choice.tier),
            from_target: Arc::clone(&before.choice.target),
            to_tier: Arc::clone(&after.choice.tier),
            to_target: Arc::clone(&after.choice.target),
            cost_change_usd: after.choice.cost_usd - before.choice.cost_usd,
            reason: after.reason.clone(),
            excerpt: before.excerpt.clone(),
        }
    }
}
