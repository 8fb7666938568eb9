//! What another policy would have earned, estimated from a log of what this one did.
//!
//! Only requests where the log happens to hold the other policy's choice say what that choice earns. Each counts
//! the more, the less likely the log was to hold it: its weight is 1 / propensity. Where the other policy draws too, the
//! same draw decides for both, and the weight is the ratio of both probabilities. Pure, and deterministic: intervals
//! come from the spread of the terms and not from draws. Nothing here knows what a target or a tier is.
//!
//! Requests of one session are rewarded alike, by the same person about the same matter: a session counts as one
//! observation in every error and in what the weights are worth.

use std::collections::HashMap;

use serde::Serialize;

use super::bootstrap::{INTERVAL_SAMPLES_MIN, Interval};

/// Weights above are cut off where nothing else was said. A log that explores 1 request in 20 over two targets has
/// weights of some 40; rarer choices would let single requests decide alone.
pub const WEIGHT_MAX: f64 = 50.0;
/// With fewer requests' worth of weight, no estimate should be acted upon, and its interval is itself a guess.
pub const EFFECTIVE_MIN: f64 = 30.0;
/// The middle 95 % of a normal distribution lie within so many standard errors.
const STANDARD_ERRORS: f64 = 1.959_964;
/// The weights' mean is 1 where the log could have held every choice; farther off than this many standard errors
/// is no chance.
const OFF_STANDARD_ERRORS: f64 = 3.0;

/// One request that was rewarded, as the estimators see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What the logged choice earned, 0 to 1.
    pub reward: f64,
    /// Probability, above 0 to 1, with which the log chose as it did.
    pub propensity: f64,
    /// Whether the other policy makes the logged choice.
    pub same: bool,
    /// Probability, above 0 to 1, with which the other policy makes its choice; 1 where it draws nothing.
    pub propensity_other: f64,
    /// What the logged choice should earn by a model that has not seen the reward, 0 to 1.
    pub expected_logged: f64,
    /// The same for the other policy's choice.
    pub expected_other: f64,
    /// Which session it belongs to; `None` for one that stands alone.
    pub session: Option<u64>,
    /// Whether the log may have been certain only because of what it drew for an earlier request of the session.
    pub follows_draw: bool,
}

impl Trial {
    /// Returns whether the log could hold the other policy's choice, as far as its propensity tells.
    fn has_support(&self) -> bool {
        self.same || self.propensity < 1.0
    }

    fn weight(&self) -> f64 {
        if self.same { self.propensity_other / self.propensity } else { 0.0 }
    }
}

/// How a value is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Inverse propensity scoring (Horvitz and Thompson 1952): the mean of weight times reward. Unbiased, wide, and
    /// may leave 0 to 1.
    Ips,
    /// Self-normalised inverse propensity scoring (Swaminathan and Joachims 2015): the weighted mean of the rewards.
    /// A little biased, narrower.
    Snips,
    /// Doubly robust (Dudík, Langford and Li 2011): the model's belief, corrected by the weighted errors of that
    /// belief. Right where the propensities or the model are.
    DoublyRobust,
    /// The model's belief alone: no reward takes part.
    Model,
}

impl Method {
    /// Returns the name for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ips => "IPS",
            Self::Snips => "self-normalised IPS",
            Self::DoublyRobust => "doubly robust",
            Self::Model => "model alone",
        }
    }
}

/// An estimated mean reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// 95 %; `None` where too few requests carry it, or where none differs from another.
    pub interval: Option<Interval>,
}

/// One method's value of the other policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimated {
    pub method: Method,
    #[serde(flatten)]
    pub of_other: Estimate,
    /// What the other policy earns beyond the logged one on the same requests.
    pub lead: Estimate,
}

/// What stands against the estimates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Caution {
    /// Nothing was rewarded.
    NoReward,
    /// The log holds none of the other policy's choices.
    NoMatch,
    /// The log was certain to choose otherwise: these requests are left out.
    Unsupported { requests: usize, of: usize },
    /// So few requests' worth of weight.
    FewEffective { effective: f64 },
    /// Weights were cut off; IPS is too low, and doubly robust off, by at most `bias_max`.
    Clipped { requests: usize, weight_max: f64, bias_max: f64 },
    /// The weights' mean is not 1: the log was less likely to make some choices than it says, or could not.
    WeightsOff { mean: f64 },
    /// Propensities that are no probabilities: these requests are left out.
    BadPropensity { requests: usize },
    /// What was drawn earlier in their sessions may have decided these: they are left out.
    FollowDraw { requests: usize, of: usize },
}

impl std::fmt::Display for Caution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoReward => write!(f, "no request has a reward: nothing can be estimated"),
            Self::NoMatch => write!(
                f,
                "the log never holds what is chosen here, so it says nothing about it: let the router explore \
                 (learning.explore) and collect feedback"
            ),
            Self::Unsupported { requests, of } => write!(
                f,
                "{requests} of {of} rewarded requests were certain to be answered otherwise (propensity 1): they carry \
                 no information and are left out, so the estimates are about the others only"
            ),
            Self::FewEffective { effective } => write!(
                f,
                "the weights are worth {effective:.1} requests, fewer than {EFFECTIVE_MIN}: do not act on these \
                 estimates"
            ),
            Self::Clipped { requests, weight_max, bias_max } => write!(
                f,
                "{requests} weights above {weight_max} were cut off: IPS is too low, and doubly robust off, by at most \
                 {bias_max:.3}"
            ),
            Self::WeightsOff { mean } => write!(
                f,
                "the weights' mean is {mean:.2} and should be 1: for some requests the log could not, or could hardly, \
                 hold what is chosen here"
            ),
            Self::BadPropensity { requests } => {
                write!(f, "{requests} requests have a propensity that is not above 0 to 1: they are left out")
            }
            Self::FollowDraw { requests, of } => write!(
                f,
                "{requests} of {of} rewarded requests belong to sessions and had no choice (propensity 1): sessions stay \
                 with a target that was drawn for their first request, so these may only repeat it and are left out"
            ),
        }
    }
}

/// Everything that a log says of another policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OffPolicy {
    /// Requests with a reward and a propensity.
    pub rewarded: usize,
    /// Those where the log could hold the other policy's choice: what the estimates are about.
    pub supported: usize,
    /// Those where it does: what the estimates are made from.
    pub informative: usize,
    /// Kish's effective sample size of these, (sum of weights)^2 / sum of squared weights, where the weight of a session
    /// is that of all its requests.
    pub effective: f64,
    /// What the log earned on the supported requests.
    pub logged: Option<Estimate>,
    /// Empty where the log says nothing.
    pub estimates: Vec<Estimated>,
    pub cautions: Vec<Caution>,
}

/// Estimates what another policy would have earned; weights above `weight_max` are cut off.
pub fn estimate(trials: &[Trial], weight_max: f64) -> OffPolicy {
    let proper: Vec<Trial> =
        trials.iter().filter(|trial| trial.propensity > 0.0 && trial.propensity <= 1.0).copied().collect();
    // Those that may repeat an earlier draw hold the other policy's choice only where that draw did: kept only where
    // they are the same, each would count once for both policies, and hide what the draw says.
    let (following, free): (Vec<Trial>, Vec<Trial>) = proper.iter().partition(|trial| trial.follows_draw);
    let supported: Vec<Trial> = free.into_iter().filter(Trial::has_support).collect();
    let sessions = Sessions::of(&supported);
    let weights: Vec<f64> = supported.iter().map(|trial| trial.weight().min(weight_max)).collect();
    let informative = supported.iter().filter(|trial| trial.same).count();
    let rewards: Vec<f64> = supported.iter().map(|trial| trial.reward).collect();
    let mut outcome = OffPolicy {
        rewarded: proper.len(),
        supported: supported.len(),
        informative,
        effective: effective(&sessions.sums(&weights)),
        logged: (!rewards.is_empty()).then(|| mean_of(&rewards, &sessions, sessions.count)),
        estimates: Vec::new(),
        cautions: Vec::new(),
    };
    if informative > 0 {
        let carrying = Sessions::of(supported.iter().filter(|trial| trial.same)).count;
        outcome.estimates = [Method::Ips, Method::Snips, Method::DoublyRobust, Method::Model]
            .map(|method| estimated(method, &supported, &weights, &sessions, carrying))
            .to_vec();
    }
    outcome.cautions = cautions(&outcome, trials.len(), following.len(), (&supported, &sessions), weight_max);
    outcome
}

/// Which requests belong together.
struct Sessions {
    /// Of each request a number below `count`.
    of: Vec<usize>,
    count: usize,
}

impl Sessions {
    fn of<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> Self {
        let mut known: HashMap<u64, usize> = HashMap::new();
        let mut count = 0;
        let mut next = || {
            count += 1;
            count - 1
        };
        let number = |trial: &Trial| match trial.session {
            Some(session) => *known.entry(session).or_insert_with(&mut next),
            None => next(),
        };
        let of = trials.into_iter().map(number).collect();
        Self { of, count }
    }

    /// Returns the sum of each session's terms.
    fn sums(&self, terms: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (term, &session) in terms.iter().zip(&self.of) {
            sums[session] += term;
        }
        sums
    }
}

/// Returns a method's value and its lead; `weights` are those of the trials, cut off, and `carrying` sessions hold the
/// other policy's choices.
fn estimated(
    method: Method,
    trials: &[Trial],
    weights: &[f64],
    sessions: &Sessions,
    carrying: usize,
) -> Estimated {
    let pairs = || trials.iter().zip(weights);
    let rewards = trials.iter().map(|trial| trial.reward);
    let terms: Vec<f64> = match method {
        Method::Ips => pairs().map(|(trial, weight)| weight * trial.reward).collect(),
        Method::Snips => {
            // The mean of these terms is the estimate, and their spread that of its linear part (Owen, Monte Carlo
            // theory, methods and examples, 2013, section 9.2).
            let all: f64 = weights.iter().sum();
            let value = pairs().map(|(trial, weight)| weight * trial.reward).sum::<f64>() / all;
            let scale = trials.len() as f64 / all;
            pairs().map(|(trial, weight)| value + scale * weight * (trial.reward - value)).collect()
        }
        Method::DoublyRobust => pairs()
            .map(|(trial, weight)| trial.expected_other + weight * (trial.reward - trial.expected_logged))
            .collect(),
        Method::Model => trials.iter().map(|trial| trial.expected_other).collect(),
    };
    let leads: Vec<f64> = terms.iter().zip(rewards).map(|(term, reward)| term - reward).collect();
    // The spread of a belief says nothing about whether it is right.
    let carrying = if method == Method::Model { 0 } else { carrying };
    let of_other = mean_of(&terms, sessions, carrying);
    Estimated { method, of_other, lead: mean_of(&leads, sessions, carrying) }
}

/// Returns the mean of terms with its normal interval, when enough sessions carry it.
fn mean_of(terms: &[f64], sessions: &Sessions, carrying: usize) -> Estimate {
    let (value, error) = mean_and_error(terms, sessions);
    let interval = (carrying >= INTERVAL_SAMPLES_MIN && error > 0.0)
        .then_some(Interval { low: value - STANDARD_ERRORS * error, high: value + STANDARD_ERRORS * error });
    Estimate { value, interval }
}

/// Returns the mean and its standard error, robust to whatever terms of one session have in common (Liang and Zeger
/// 1986, "Longitudinal data analysis using generalized linear models"); no terms have a mean of 0.
fn mean_and_error(terms: &[f64], sessions: &Sessions) -> (f64, f64) {
    let count = terms.len() as f64;
    if terms.is_empty() {
        return (0.0, 0.0);
    }
    let mean = terms.iter().sum::<f64>() / count;
    let residuals: Vec<f64> = terms.iter().map(|term| term - mean).collect();
    let squares: f64 = sessions.sums(&residuals).iter().map(|sum| sum.powi(2)).sum();
    let of = sessions.count as f64;
    let error = if sessions.count < 2 { 0.0 } else { (squares * of / (of - 1.0)).sqrt() / count };
    (mean, error)
}

/// Returns how many requests of equal weight these are worth.
fn effective(weights: &[f64]) -> f64 {
    let (all, squares) =
        weights.iter().fold((0.0, 0.0), |(all, squares), weight| (all + weight, squares + weight * weight));
    if squares > 0.0 { all * all / squares } else { 0.0 }
}

/// `all` were rewarded, `following` of them are left out for what was drawn before them.
fn cautions(
    outcome: &OffPolicy,
    all: usize,
    following: usize,
    (supported, sessions): (&[Trial], &Sessions),
    weight_max: f64,
) -> Vec<Caution> {
    let mut cautions = Vec::new();
    let OffPolicy { rewarded, informative, effective, .. } = *outcome;
    if all > rewarded {
        cautions.push(Caution::BadPropensity { requests: all - rewarded });
    }
    if rewarded == 0 {
        cautions.push(Caution::NoReward);
        return cautions;
    }
    if supported.len() + following < rewarded {
        let requests = rewarded - following - supported.len();
        cautions.push(Caution::Unsupported { requests, of: rewarded });
    }
    if following > 0 {
        cautions.push(Caution::FollowDraw { requests: following, of: rewarded });
    }
    if informative == 0 {
        cautions.push(Caution::NoMatch);
        return cautions;
    }
    if effective < EFFECTIVE_MIN {
        cautions.push(Caution::FewEffective { effective });
    }
    let raw: Vec<f64> = supported.iter().map(Trial::weight).collect();
    let beyond: Vec<f64> = raw.iter().map(|weight| (weight - weight_max).max(0.0)).collect();
    let clipped = beyond.iter().filter(|&&cut| cut > 0.0).count();
    if clipped > 0 {
        // A reward is at most 1, and so is an error of the model.
        let bias_max = beyond.iter().sum::<f64>() / beyond.len() as f64;
        cautions.push(Caution::Clipped { requests: clipped, weight_max, bias_max });
    }
    let (mean, error) = mean_and_error(&raw, sessions);
    if error > 0.0 && (mean - 1.0).abs() > OFF_STANDARD_ERRORS * error {
        cautions.push(Caution::WeightsOff { mean });
    }
    cautions
}

#[cfg(test)]
#[path = "off_policy_tests.rs"]
mod tests;
