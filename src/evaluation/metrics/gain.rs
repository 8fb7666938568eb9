//! What is won by sending some requests to a stronger model.
//!
//! As RouteLLM defines it (Ong et al. 2024, arXiv 2406.18665): requests in the order of the router's gain
//! score, the highest share of them answered by the strong model, the others by the weak one; the
//! performance gap recovered (PGR) is the part of the strong model's lead that this reaches.
//!
//! Requests of one gain have no order, and none is made up for them: each strong call among them wins their mean.
//! A reference that sorts stably keeps them in the order of the file, so it agrees on scores without ties only.

use super::{Metric, finite};

/// Shares of strong calls at which the average is taken: 0, 10, ... 100 %.
const APGR_STEPS: usize = 10;
/// Shares of strong calls tried for a wanted part of the gap: every half per cent.
const CPT_STEPS: usize = 200;

/// One request with the score of its answer by either model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Graded {
    /// Predicted gain; only its order counts.
    pub gain: f64,
    pub weak: f64,
    pub strong: f64,
}

/// What [`GainCurve`] is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Apgr,
    Cpt(f64),
}

/// Average gap recovered, or the calls needed for a part of the gap.
pub struct GainCurve {
    /// Highest gain first.
    order: Vec<Placed>,
    of: Of,
}

struct Placed {
    /// Place in the set of samples.
    place: usize,
    /// Whether its gain is that of the one before.
    tied: bool,
    weak: f64,
    /// Score of the strong model less that of the weak one.
    lead: f64,
}

/// Samples of one gain under one set of weights.
struct Group {
    calls: u64,
    /// What strong answers to all of them win.
    won: f64,
}

impl GainCurve {
    /// APGR: the mean PGR over the share of strong calls, by the trapezoid rule; 0.5 is chance.
    pub fn apgr(samples: impl Iterator<Item = Option<Graded>>) -> Self {
        Self { order: sorted(samples), of: Of::Apgr }
    }

    /// CPT(part): the smallest share of strong calls, per cent, that recovers this part of the gap.
    pub fn cpt(samples: impl Iterator<Item = Option<Graded>>, part: f64) -> Self {
        Self { order: sorted(samples), of: Of::Cpt(part) }
    }

    /// Returns the mean score at each of `steps + 1` equally spaced shares of strong calls.
    fn scores(&self, weights: &[u32], steps: usize) -> Vec<f64> {
        let weak: f64 = self.order.iter().map(|one| f64::from(weights[one.place]) * one.weak).sum();
        let groups = self.groups(weights);
        let all: u64 = groups.iter().map(|group| group.calls).sum();
        let mut at = 0;
        let (mut passed, mut won) = (0_u64, 0.0);
        (0..=steps)
            .map(|step| {
                let calls = (share(step, steps) * all as f64).round_ties_even() as u64;
                while at < groups.len() && passed + groups[at].calls <= calls {
                    passed += groups[at].calls;
                    won += groups[at].won;
                    at += 1;
                }
                let part = groups
                    .get(at)
                    .map_or(0.0, |group| (calls - passed) as f64 * (group.won / group.calls as f64));
                (weak + won + part) / all as f64
            })
            .collect()
    }

    /// Returns the groups of equal gain, highest first; a repeated sample is one of its own.
    fn groups(&self, weights: &[u32]) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(self.order.len());
        for one in &self.order {
            let (calls, won) = (u64::from(weights[one.place]), f64::from(weights[one.place]) * one.lead);
            match groups.last_mut().filter(|_| one.tied) {
                Some(group) => {
                    group.calls += calls;
                    group.won += won;
                }
                None => groups.push(Group { calls, won }),
            }
        }
        groups
    }
}

fn sorted(samples: impl Iterator<Item = Option<Graded>>) -> Vec<Placed> {
    let mut order: Vec<(usize, Graded)> =
        samples.enumerate().filter_map(|(at, graded)| Some((at, graded?))).collect();
    order.sort_by(|(_, a), (_, b)| b.gain.total_cmp(&a.gain));
    let mut before = None;
    order
        .into_iter()
        .map(|(place, Graded { gain, weak, strong })| {
            let tied = before.replace(gain) == Some(gain);
            Placed { place, tied, weak, lead: strong - weak }
        })
        .collect()
}

fn share(step: usize, steps: usize) -> f64 {
    if step == steps { 1.0 } else { step as f64 * (1.0 / steps as f64) }
}

impl Metric for GainCurve {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let steps = match self.of {
            Of::Apgr => APGR_STEPS,
            Of::Cpt(_) => CPT_STEPS,
        };
        let scores = self.scores(weights, steps);
        let gap = scores[steps] - scores[0];
        // Also false for NaN, which is what no samples give.
        let lead = gap > 1e-12;
        if !lead {
            return None;
        }
        let recovered: Vec<f64> = scores.iter().map(|score| (score - scores[0]) / gap).collect();
        match self.of {
            Of::Apgr => {
                let areas = recovered.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
                finite(areas.sum::<f64>() / steps as f64)
            }
            Of::Cpt(part) => {
                let enough = recovered.iter().position(|&got| got >= part)?;
                finite(100.0 * share(enough, steps))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten requests; the strong model is better by 1 on the first two in order of gain, alike on the others.
    fn ten(sign: f64) -> Vec<Option<Graded>> {
        (0..10)
            .map(|at| {
                let strong = if at < 2 { 1.0 } else { 0.0 };
                Some(Graded { gain: -sign * f64::from(at), weak: 0.0, strong })
            })
            .collect()
    }

    fn close(got: Option<f64>, expected: f64) {
        assert!((got.unwrap() - expected).abs() < 1e-9, "{got:?}, expected {expected}");
    }

    #[test]
    fn a_perfect_order_recovers_the_gap_first() {
        // PGR is 0, 0.5, 1, 1, ... 1: (0.25 + 0.75 + 8) / 10.
        close(GainCurve::apgr(ten(1.0).into_iter()).value(&[1; 10]), 0.9);
        // 0.5 calls round to 0 and 1.5 to 2, the even ones.
        close(GainCurve::cpt(ten(1.0).into_iter(), 0.5).value(&[1; 10]), 5.5);
        close(GainCurve::cpt(ten(1.0).into_iter(), 0.8).value(&[1; 10]), 15.0);
    }

    #[test]
    fn the_opposite_order_recovers_it_last() {
        close(GainCurve::apgr(ten(-1.0).into_iter()).value(&[1; 10]), 0.1);
        // 8.5 calls round to 8, the even one.
        close(GainCurve::cpt(ten(-1.0).into_iter(), 0.5).value(&[1; 10]), 85.5);
    }

    #[test]
    fn a_weight_is_a_repeated_sample() {
        let samples = [(0.9, 0.1, 0.8), (0.5, 0.4, 0.3), (0.7, 0.0, 0.6)]
            .map(|(gain, weak, strong)| Graded { gain, weak, strong });
        let repeated = [0, 0, 0, 1, 2, 2].map(|at: usize| Some(samples[at]));
        let expected = GainCurve::apgr(repeated.into_iter()).value(&[1; 6]).unwrap();
        close(GainCurve::apgr(samples.map(Some).into_iter()).value(&[3, 1, 2]), expected);
    }

    #[test]
    fn ties_count_by_their_mean_whatever_their_order() {
        let tied = |winner: usize| {
            (0..10).map(move |at| {
                let strong = if at == winner { 1.0 } else { 0.0 };
                Some(Graded { gain: 0.3, weak: 0.0, strong })
            })
        };
        for winner in [0, 4, 9] {
            close(GainCurve::apgr(tied(winner)).value(&[1; 10]), 0.5);
            close(GainCurve::cpt(tied(winner), 0.5).value(&[1; 10]), 45.5);
        }
        // Two tied groups: the first of 4 holds both wins, so each of its calls recovers a quarter.
        let grouped = (0..10).map(|at| {
            let (gain, strong) = if at < 4 { (0.9, f64::from(at % 2)) } else { (0.1, 0.0) };
            Some(Graded { gain, weak: 0.0, strong })
        });
        // PGR is 0, 0.25, 0.5, 0.75, 1 ... 1: (0.125 + 0.375 + 0.625 + 0.875 + 6) / 10.
        close(GainCurve::apgr(grouped).value(&[1; 10]), 0.8);
    }

    #[test]
    fn without_a_gap_there_is_nothing_to_recover() {
        let same = || [Some(Graded { gain: 1.0, weak: 0.5, strong: 0.5 }), None].into_iter();
        assert_eq!(GainCurve::apgr(same()).value(&[1, 1]), None);
        assert_eq!(GainCurve::cpt(same(), 0.5).value(&[1, 1]), None);
        assert_eq!(GainCurve::apgr(std::iter::empty()).value(&[]), None);
        let worse = || [Some(Graded { gain: 1.0, weak: 0.5, strong: 0.2 })].into_iter();
        assert_eq!(GainCurve::apgr(worse()).value(&[1]), None);
    }
}
