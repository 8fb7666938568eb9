//! Outcomes of a line: how tiers or models answered, and what that cost.
//!
//! `outcomes: {NAME: {"score": 0..1, "cost": usd}}` or `{NAME: score}`, where NAME is a tier, level, target
//! or model; and the flat `p_small`, `p_mid`, `p_strong`, `p_reason`, which are scores of the levels
//! simple, moderate, complex and reasoning.

use serde_json::{Map, Value};

use super::sample::{Names, Outcome, Problems, shown};

const FLAT: [(&str, &str); 4] =
    [("p_small", "simple"), ("p_mid", "moderate"), ("p_strong", "complex"), ("p_reason", "reasoning")];

/// Outcomes of a line.
pub struct Outcomes {
    /// One for each tier of the configuration.
    pub by_tier: Vec<Option<Outcome>>,
    pub unplaced: Vec<String>,
    pub foreign: bool,
}

/// Returns the outcomes by tier; several models of one tier count by their mean, a flat score before them.
pub fn read(object: &Map<String, Value>, names: &Names<'_>, problems: &mut Problems) -> Outcomes {
    let tiers = names.config.tiers.len();
    let mut found: Vec<Vec<Outcome>> = vec![Vec::new(); tiers];
    let mut unplaced = Vec::new();
    let mut foreign = false;
    match object.get("outcomes") {
        None | Some(Value::Null) => {}
        Some(Value::Object(outcomes)) => {
            for (name, value) in outcomes {
                match names.tier_of_model(name) {
                    Some(tier) => found[tier.0].extend(outcome(name, value, problems)),
                    None => unplaced.push(name.clone()),
                }
            }
        }
        Some(_) => foreign = true,
    }
    let mut by_tier: Vec<Option<Outcome>> = found.iter().map(|outcomes| mean(outcomes)).collect();
    for (field, level) in FLAT {
        let value = object.get(field).filter(|value| !value.is_null());
        if let (Some(value), Some(tier)) = (value, names.tier(level))
            && let Some(score) = within(value, 0.0, 1.0, field, problems)
        {
            by_tier[tier.0] = Some(Outcome { score, cost_usd: by_tier[tier.0].and_then(|o| o.cost_usd) });
        }
    }
    Outcomes { by_tier, unplaced, foreign }
}

fn outcome(name: &str, value: &Value, problems: &mut Problems) -> Option<Outcome> {
    let place = format!("outcomes.{name}");
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let score_place = format!("{place}.score");
            let Some(score) = fields.get("score") else {
                problems.add(score_place, "is missing");
                return None;
            };
            let score = within(score, 0.0, 1.0, &score_place, problems)?;
            let cost_usd = match fields.get("cost") {
                None | Some(Value::Null) => None,
                Some(cost) => Some(within(cost, 0.0, f64::MAX, &format!("{place}.cost"), problems)?),
            };
            Some(Outcome { score, cost_usd })
        }
        score => within(score, 0.0, 1.0, &place, problems).map(|score| Outcome { score, cost_usd: None }),
    }
}

/// Returns a number of this range; true and false are 1 and 0.
fn within(value: &Value, low: f64, high: f64, field: &str, problems: &mut Problems) -> Option<f64> {
    let number = value.as_bool().map_or_else(|| value.as_f64(), |truth| Some(f64::from(u8::from(truth))));
    let number = number.filter(|number| (low..=high).contains(number));
    if number.is_none() {
        let range = if high == f64::MAX { "a number of at least 0" } else { "a number from 0 to 1" };
        problems.add(field, format!("{} is not {range}", shown(value)));
    }
    number
}

/// Returns the mean; its cost is the mean of those that were measured.
fn mean(outcomes: &[Outcome]) -> Option<Outcome> {
    let average =
        |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let scores: Vec<f64> = outcomes.iter().map(|outcome| outcome.score).collect();
    let costs: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.cost_usd).collect();
    Some(Outcome { score: average(&scores)?, cost_usd: average(&costs) })
}
