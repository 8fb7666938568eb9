//! Outcomes of a line: how tiers or models answered, and what that cost.
//!
//! `outcomes: {NAME: {"score": 0..1, "cost": usd}}` or `{NAME: score}`, where NAME is a tier, level, target
//! or model; and the flat `p_small`, `p_mid`, `p_strong`, `p_reason`, which are scores of the levels
//! simple, moderate, complex and reasoning.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use serde_json::{Map, Value};

use super::sample::{Names, Outcome, Problems, shown};

const FLAT: [(&str, &str); 4] =
    [("p_small", "simple"), ("p_mid", "moderate"), ("p_strong", "complex"), ("p_reason", "reasoning")];

/// Dearer answers are taken for a mistake: one of them would outweigh every other line.
const COST_USD_MAX: u32 = 1_000_000;

/// Outcomes of a line.
pub struct Outcomes {
    /// One for each tier of the configuration.
    pub by_tier: Vec<Option<Outcome>>,
    pub unplaced: Vec<String>,
    pub unplaced_levels: Vec<&'static str>,
    pub placed: Vec<Arc<str>>,
    pub foreign: bool,
}

/// Returns the outcomes by tier; several models of one tier count by their mean, a flat score before them.
pub fn read(object: &Map<String, Value>, names: &Names<'_>, problems: &mut Problems) -> Outcomes {
    let tiers = names.config.tiers.len();
    let mut found: Vec<Vec<Outcome>> = vec![Vec::new(); tiers];
    let (mut unplaced, mut unplaced_levels, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    let mut foreign = false;
    match object.get("outcomes") {
        None | Some(Value::Null) => {}
        Some(Value::Object(outcomes)) => {
            for (name, value) in outcomes {
                let tier = match (names.tier_of_model(name), names.models.get_key_value(name.as_str())) {
                    (Some(tier), _) => tier,
                    (None, Some((model, &tier))) => {
                        placed.push(Arc::clone(model));
                        tier
                    }
                    (None, None) => {
                        unplaced.push(name.clone());
                        continue;
                    }
                };
                found[tier.0].extend(outcome(name, value, problems));
            }
        }
        Some(_) => foreign = true,
    }
    let mut by_tier: Vec<Option<Outcome>> = found.iter().map(|outcomes| mean(outcomes)).collect();
    for (field, level) in FLAT {
        let Some(value) = object.get(field).filter(|value| !value.is_null()) else { continue };
        let score = within(value, &SCORE, field, problems);
        match (names.tier_of_level(level), score) {
            (Some(tier), Some(score)) => {
                by_tier[tier.0] = Some(Outcome { score, cost_usd: by_tier[tier.0].and_then(|o| o.cost_usd) });
            }
            (None, _) => unplaced_levels.push(field),
            (Some(_), None) => {}
        }
    }
    Outcomes { by_tier, unplaced, unplaced_levels, placed, foreign }
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
            let score = within(score, &SCORE, &score_place, problems)?;
            let cost_usd = match fields.get("cost") {
                None | Some(Value::Null) => None,
                Some(cost) => Some(within(cost, &COST, &format!("{place}.cost"), problems)?),
            };
            Some(Outcome { score, cost_usd })
        }
        score => within(score, &SCORE, &place, problems).map(|score| Outcome { score, cost_usd: None }),
    }
}

/// Numbers that a field may hold.
struct Range {
    unit: &'static str,
    numbers: RangeInclusive<f64>,
}

const SCORE: Range = Range { unit: "", numbers: 0.0..=1.0 };
const COST: Range = Range { unit: " of US dollars", numbers: 0.0..=COST_USD_MAX as f64 };

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number{} from {} to {}", self.unit, self.numbers.start(), self.numbers.end())
    }
}

/// Returns a number of this range; true and false are 1 and 0.
fn within(value: &Value, range: &Range, field: &str, problems: &mut Problems) -> Option<f64> {
    let number = value.as_bool().map_or_else(|| value.as_f64(), |truth| Some(f64::from(u8::from(truth))));
    let number = number.filter(|number| range.numbers.contains(number));
    if number.is_none() {
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
