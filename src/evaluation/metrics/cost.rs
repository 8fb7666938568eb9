//! Quality for money: every wanted quality from 0 to 1 makes a point of mean cost and mean score.
//!
//! AIQ follows RouterBench (Hu et al. 2024, arXiv 2403.12031).

use super::finite;

/// One request with its answers by every tier that has outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Probability that each tier is enough, weakest first, never falling; `None` where the tier is fixed,
    /// whatever quality is wanted.
    pub sufficiency: Option<Vec<f64>>,
    /// Place of the tier that was chosen.
    pub chosen: usize,
    /// Score and cost in dollars of each tier's answer.
    pub by_tier: Vec<(f64, f64)>,
}

/// Mean cost and mean score.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    pub cost_usd: f64,
    /// 0 to 1.
    pub score: f64,
}

/// What the curve says under one set of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct CostFigures {
    /// AIQ: the area under the non-decreasing convex hull of the curve, divided by the range of costs from
    /// always the weakest to always the strongest tier; both ends belong to every curve.
    pub aiq: Option<f64>,
    /// For each part that was asked for: 1 - cost of the cheapest point whose mean score reaches this part of
    /// the mean score of always the strongest tier, divided by the cost of always the strongest tier. `None`
    /// where the strongest tier scores or costs nothing.
    pub saved: Vec<Option<f64>>,
}

/// The cost-quality curve of a row. All its figures are read off at once: the curve is most of their work.
pub struct CostQuality {
    samples: Vec<Steps>,
    tiers: usize,
    points: usize,
}

/// How one sample's answer changes along the curve.
struct Steps {
    place: usize,
    /// (Point from which it holds, added cost, added score).
    changes: Vec<(usize, f64, f64)>,
    by_tier: Vec<(f64, f64)>,
}

impl CostQuality {
    /// Takes one answer a sample, `None` where it has no outcomes; all have equally many tiers.
    pub fn new(answers: &[Option<Answer>]) -> Self {
        let qualities = qualities(answers);
        let steps = |(place, answer): (usize, &Option<Answer>)| {
            answer.as_ref().map(|answer| Steps::of(place, answer, &qualities))
        };
        Self {
            samples: answers.iter().enumerate().filter_map(steps).collect(),
            tiers: answers.iter().flatten().map(|answer| answer.by_tier.len()).max().unwrap_or(0),
            points: qualities.len(),
        }
    }

    /// Returns AIQ and, for each of these parts of the strongest tier's score, what is saved.
    pub fn figures(&self, weights: &[u32], parts: &[f64]) -> CostFigures {
        let single = self.single_tiers(weights);
        let none = CostFigures { aiq: None, saved: vec![None; parts.len()] };
        let (Some(&weakest), Some(&strongest)) = (single.first(), single.last()) else { return none };
        let mut points = self.curve(weights);
        points.extend([weakest, strongest]);
        if points.iter().any(|point| !point.cost_usd.is_finite() || !point.score.is_finite()) {
            return none;
        }
        let saved = parts.iter().map(|part| saved(&points, strongest, *part)).collect();
        CostFigures { aiq: area(points, weakest.cost_usd, strongest.cost_usd), saved }
    }

    /// Returns the curve, lowest wanted quality first.
    pub fn curve(&self, weights: &[u32]) -> Vec<Point> {
        let mut sums = vec![(0.0, 0.0); self.points];
        let mut count = 0.0;
        for sample in &self.samples {
            let weight = f64::from(weights[sample.place]);
            count += weight;
            for &(from, cost, score) in &sample.changes {
                sums[from].0 += weight * cost;
                sums[from].1 += weight * score;
            }
        }
        let (mut cost_usd, mut score) = (0.0, 0.0);
        sums.into_iter()
            .map(|(more_cost, more_score)| {
                cost_usd += more_cost;
                score += more_score;
                Point { cost_usd: cost_usd / count, score: score / count }
            })
            .collect()
    }

    /// Returns what always the same tier costs and scores, weakest first.
    pub fn single_tiers(&self, weights: &[u32]) -> Vec<Point> {
        let mut sums = vec![(0.0, 0.0); self.tiers];
        let mut count = 0.0;
        for sample in &self.samples {
            let weight = f64::from(weights[sample.place]);
            count += weight;
            for (sum, &(score, cost)) in sums.iter_mut().zip(&sample.by_tier) {
                *sum = (sum.0 + weight * cost, sum.1 + weight * score);
            }
        }
        sums.into_iter().map(|(cost, score)| Point { cost_usd: cost / count, score: score / count }).collect()
    }
}

/// Returns the wanted qualities at which some request changes its tier, and one above 1 that only the
/// strongest tier reaches.
fn qualities(answers: &[Option<Answer>]) -> Vec<f64> {
    let below_top = answers
        .iter()
        .flatten()
        .filter_map(|answer| answer.sufficiency.as_ref())
        .flat_map(|sufficiency| sufficiency.iter().copied().take(sufficiency.len() - 1));
    let mut qualities: Vec<f64> = below_top.chain([0.0, 2.0]).collect();
    qualities.sort_by(f64::total_cmp);
    qualities.dedup();
    qualities
}

impl Steps {
    fn of(place: usize, answer: &Answer, qualities: &[f64]) -> Self {
        let (score, cost) = answer.by_tier[answer.chosen];
        let changes = match &answer.sufficiency {
            None => vec![(0, cost, score)],
            Some(sufficiency) => {
                let first = answer.by_tier[0];
                let mut changes = vec![(0, first.1, first.0)];
                for (pair, enough) in answer.by_tier.windows(2).zip(sufficiency) {
                    let from = qualities.partition_point(|quality| quality <= enough);
                    changes.push((from, pair[1].1 - pair[0].1, pair[1].0 - pair[0].0));
                }
                changes
            }
        };
        Self { place, changes, by_tier: answer.by_tier.clone() }
    }
}

fn saved(points: &[Point], strongest: Point, part: f64) -> Option<f64> {
    // Of no quality any part is reached by whatever is cheapest.
    if strongest.score <= 0.0 || strongest.cost_usd <= 0.0 {
        return None;
    }
    // Sums in another order differ in the last bits.
    let wanted = part * strongest.score - 1e-9;
    let cheapest = points
        .iter()
        .filter(|point| point.score >= wanted)
        .fold(f64::INFINITY, |least, point| least.min(point.cost_usd));
    finite(1.0 - cheapest / strongest.cost_usd)
}

/// Returns the mean height of the points' non-decreasing convex hull between two costs.
fn area(mut points: Vec<Point>, from: f64, to: f64) -> Option<f64> {
    // Also false for NaN.
    let wide = to > from * (1.0 + 1e-9);
    if !wide {
        return None;
    }
    let hull = hull(&mut points);
    let height = |cost: f64| {
        let next = hull.partition_point(|point| point.cost_usd <= cost);
        match (next.checked_sub(1).map(|at| hull[at]), hull.get(next)) {
            (Some(left), Some(right)) => {
                let way = (cost - left.cost_usd) / (right.cost_usd - left.cost_usd);
                left.score + way * (right.score - left.score)
            }
            (Some(last), None) => last.score,
            // Nothing is cheaper than the cheapest point.
            (None, _) => 0.0,
        }
    };
    let mut costs: Vec<f64> =
        hull.iter().map(|point| point.cost_usd).filter(|cost| (from..to).contains(cost)).collect();
    costs.insert(0, from);
    costs.push(to);
    let sum: f64 =
        costs.windows(2).map(|pair| (pair[1] - pair[0]) * (height(pair[0]) + height(pair[1])) / 2.0).sum();
    finite(sum / (to - from))
}

/// Returns the corners of the non-decreasing convex hull, cheapest first.
fn hull(points: &mut [Point]) -> Vec<Point> {
    // Of equal costs the best comes first, so that the others are no improvement.
    points.sort_by(|a, b| a.cost_usd.total_cmp(&b.cost_usd).then(b.score.total_cmp(&a.score)));
    let mut hull: Vec<Point> = Vec::new();
    for &point in points.iter() {
        if hull.last().is_some_and(|best| point.score <= best.score) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let below = (b.score - a.score) * (point.cost_usd - a.cost_usd)
                <= (point.score - a.score) * (b.cost_usd - a.cost_usd);
            if !below {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
