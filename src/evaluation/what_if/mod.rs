//! Logged requests and what another setting decides for them -> what would change: tiers, targets, cost, quality.
//!
//! Pure: it is given both decisions of each request, and neither reads a log nor asks a router. The quality that it
//! predicts is the classifier's own belief; what was observed enters only by [`super::off_policy`].

mod moved;
pub mod pair;
mod sides;
pub mod table;
#[cfg(test)]
mod tests;
mod trials;

#[cfg(test)]
pub use self::tests::example;

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

pub use self::{
    moved::Moved,
    sides::{Percentiles, Share, Side},
};
use super::{
    metrics::Point,
    off_policy::{self, OffPolicy},
};

/// What was, or would be, decided for one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub tier: Arc<str>,
    pub target: Arc<str>,
    /// Probability that each tier of its own configuration is enough, weakest first; `None` where nothing scored
    /// the request.
    pub sufficiency: Option<Vec<f64>>,
    /// Expected.
    pub cost_usd: f64,
    /// The same of the top tier.
    pub baseline_usd: f64,
    pub low_confidence: bool,
    /// Time to decide, without the wait for a free classifier; `None` where kept scores were used.
    pub deciding_us: Option<u64>,
}

/// One request of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    pub id: Uuid,
    pub choice: Choice,
    /// The tiers of that time, weakest first.
    pub tiers: Vec<Arc<str>>,
    /// Which session it belongs to; `None` for one that stands alone.
    pub session: Option<u64>,
    /// Probability with which the target was chosen.
    pub propensity: f64,
    /// Whether another target than the policy's was tried to learn about it.
    pub explored: bool,
    /// How good the answer was, 0 to 1; `None` where nobody said.
    pub reward: Option<f64>,
    /// The beginning of what was asked, as the log holds it; `None` where no example may show it.
    pub excerpt: Option<String>,
}

/// The same request under another setting.
#[derive(Debug, Clone, PartialEq)]
pub struct After {
    pub choice: Choice,
    /// What the request was taken for; `None` where nobody asked.
    pub intent: Option<Arc<str>>,
    /// Probability with which the target was chosen: below 1 where its tier draws by weight.
    pub propensity: f64,
    /// Expected cost of each tier's first target; empty where it is not known.
    pub tier_costs_usd: Vec<f64>,
    pub reason: String,
}

/// One setting, and what it decides for every request of the log, in the log's order.
#[derive(Debug, Clone)]
pub struct Setting {
    pub name: String,
    /// The wanted quality of requests that ask for none.
    pub quality: f64,
    pub after: Vec<After>,
}

/// Settings beside the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIf {
    pub requests: usize,
    pub logged: Side,
    pub settings: Vec<Change>,
    /// What every request would cost, and the quality predicted, if one tier answered all.
    pub single_tiers: Vec<SingleTier>,
}

/// One tier for everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SingleTier {
    pub tier: Arc<str>,
    #[serde(flatten)]
    pub point: Point,
}

/// What one setting changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub name: String,
    pub quality: f64,
    pub side: Side,
    /// What is saved against the log's choices, share of their cost; negative where it costs more. `None` where
    /// these cost nothing.
    pub saved_against_log: Option<f64>,
    /// Share of the requests with the tier, and with the target, that the log has.
    pub same_tier: f64,
    pub same_target: f64,
    /// Share of the requests that go to a stronger, and to a weaker tier.
    pub stronger: f64,
    pub weaker: f64,
    /// Share whose logged tier is none of the configuration's.
    pub unplaced: f64,
    /// Mean sufficiency of the log's tiers by the scores of this setting: what `side.predicted_quality` is to be
    /// compared with.
    pub quality_of_logged: Option<f64>,
    pub confusion: Grid,
    pub off_policy: OffPolicy,
    pub moved: Vec<Moved>,
}

/// How often each logged tier became each tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    pub logged: Vec<Arc<str>>,
    pub chosen: Vec<Arc<str>>,
    /// Row: logged; column: chosen.
    pub counts: Vec<Vec<u32>>,
}

/// Compares settings with the log; `tiers` are those of the settings, weakest first.
///
/// Every setting decides for every request of `before`, which is not empty.
pub fn compare(before: &[Before], settings: &[Setting], tiers: &[Arc<str>], weight_max: f64) -> WhatIf {
    let logged: Vec<(&Choice, &[Arc<str>])> =
        before.iter().map(|before| (&before.choice, &before.tiers[..])).collect();
    let changes = settings.iter().map(|setting| change(before, setting, tiers, weight_max)).collect();
    WhatIf {
        requests: before.len(),
        logged: Side::of(&logged, &sides::order(tiers, before)),
        settings: changes,
        single_tiers: settings.first().map_or_else(Vec::new, |first| single_tiers(&first.after, tiers)),
    }
}

fn change(before: &[Before], setting: &Setting, tiers: &[Arc<str>], weight_max: f64) -> Change {
    let after: Vec<(&Choice, &[Arc<str>])> =
        setting.after.iter().map(|after| (&after.choice, tiers)).collect();
    let pairs = || before.iter().zip(&setting.after);
    let place = |name: &Arc<str>| tiers.iter().position(|tier| tier == name);
    let share = |is: &dyn Fn(&Before, &After) -> bool| {
        pairs().filter(|(before, after)| is(before, after)).count() as f64 / before.len() as f64
    };
    let side = Side::of(&after, tiers);
    let cost =
        |choices: &mut dyn Iterator<Item = &Choice>| choices.map(|choice| choice.cost_usd).sum::<f64>();
    let logged_usd = cost(&mut before.iter().map(|before| &before.choice));
    let chosen_usd = cost(&mut setting.after.iter().map(|after| &after.choice));
    let of_logged: Vec<f64> = pairs()
        .filter_map(|(before, after)| Some(after.choice.sufficiency.as_ref()?[place(&before.choice.tier)?]))
        .collect();
    Change {
        name: setting.name.clone(),
        quality: setting.quality,
        side,
        saved_against_log: (logged_usd > 0.0).then(|| 1.0 - chosen_usd / logged_usd),
        same_tier: share(&|before, after| before.choice.tier == after.choice.tier),
        same_target: share(&|before, after| before.choice.target == after.choice.target),
        stronger: share(&|before, after| {
            place(&before.choice.tier).is_some_and(|logged| place(&after.choice.tier) > Some(logged))
        }),
        weaker: share(&|before, after| {
            place(&before.choice.tier).is_some_and(|logged| place(&after.choice.tier) < Some(logged))
        }),
        unplaced: share(&|before, _| place(&before.choice.tier).is_none()),
        quality_of_logged: sides::mean(&of_logged),
        confusion: grid(before, &setting.after, tiers),
        off_policy: off_policy::estimate(&trials::trials(before, &setting.after, tiers), weight_max),
        moved: moved::moved(before, &setting.after, tiers),
    }
}

fn grid(before: &[Before], after: &[After], tiers: &[Arc<str>]) -> Grid {
    let logged = sides::order(tiers, before);
    let mut counts = vec![vec![0; tiers.len()]; logged.len()];
    for (before, after) in before.iter().zip(after) {
        let row = logged.iter().position(|name| *name == before.choice.tier);
        let column = tiers.iter().position(|name| *name == after.choice.tier);
        if let (Some(row), Some(column)) = (row, column) {
            counts[row][column] += 1;
        }
    }
    Grid { logged, chosen: tiers.to_vec(), counts }
}

/// Returns cost and predicted quality of each tier alone; none where nothing was scored.
fn single_tiers(after: &[After], tiers: &[Arc<str>]) -> Vec<SingleTier> {
    tiers
        .iter()
        .enumerate()
        .filter_map(|(at, tier)| {
            let costs: Vec<f64> =
                after.iter().filter_map(|after| after.tier_costs_usd.get(at).copied()).collect();
            let scores: Vec<f64> =
                after.iter().filter_map(|after| Some(after.choice.sufficiency.as_ref()?[at])).collect();
            let point = Point { cost_usd: sides::mean(&costs)?, score: sides::mean(&scores)? };
            Some(SingleTier { tier: Arc::clone(tier), point })
        })
        .collect()
}
