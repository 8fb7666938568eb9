//! What is known of all offsets, and how observations change it.

use std::{collections::HashMap, sync::Arc};

use super::{Allowance, Cell, Judgement};
use crate::config::LearningConfig;

/// Which offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    pub intent: Arc<str>,
    pub target: Arc<str>,
}

/// How an observation came. Each way has an allowance of its own: or thousands of answers that nobody minded would
/// leave no room for the one complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    Feedback,
    Outcome,
}

impl Channel {
    /// Returns the name used in the store and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Outcome => "outcome",
        }
    }

    /// Returns the channel of this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "feedback" => Some(Self::Feedback),
            "outcome" => Some(Self::Outcome),
            _ => None,
        }
    }
}

/// Whose allowance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowanceKey {
    pub cell: CellKey,
    pub tenant: String,
    pub channel: Channel,
}

/// One judgement about one target at one intent, and who made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub cell: CellKey,
    pub tenant: String,
    pub channel: Channel,
    pub judgement: Judgement,
}

impl Observation {
    /// Returns whose allowance it uses.
    pub fn allowance_key(&self) -> AllowanceKey {
        AllowanceKey { cell: self.cell.clone(), tenant: self.tenant.clone(), channel: self.channel }
    }
}

/// What is known: of offsets that were observed, and of allowances that were used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub cells: HashMap<CellKey, Cell>,
    pub allowances: HashMap<AllowanceKey, Allowance>,
}

/// How many observations counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub applied: u64,
    /// Beyond the tenant's allowance.
    pub refused: u64,
}

impl Tally {
    /// Returns both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { applied: self.applied + other.applied, refused: self.refused + other.refused }
    }
}

impl State {
    /// Takes one observation in; returns whether it counted, which it does within its tenant's allowance. One that
    /// changes nothing uses nothing of it.
    ///
    /// At once a tenant says no more than all that is known, its own part of it included, and one judgement more: where
    /// that is the prior, a burst is worth two or three judgements. Each weight adds at most a quarter of itself to the
    /// precision, so what a burst weighs before its last judgement is at most 4/3 of the precision before it, and each
    /// judgement moves the mean by at most its weight over the precision: a burst moves an offset by at most 4/3, and
    /// its last judgement by at most 1, which is what the heaviest one that counts does.
    pub fn observe(&mut self, observation: &Observation, config: &LearningConfig) -> bool {
        let at_ms = observation.judgement.at_ms;
        let cell = self.cells.get(&observation.cell).copied().unwrap_or_else(|| Cell::new(config, at_ms));
        if cell.ignores(&observation.judgement) {
            return true;
        }
        let spent_max = config.tenant_burst.min(cell.precision_at(at_ms, config));
        // One that weighs more than all that a tenant may say counts as much as that.
        let weight = observation.judgement.weight.min(spent_max);
        let allowance = self
            .allowances
            .entry(observation.allowance_key())
            .or_insert_with(|| Allowance::full(config, at_ms));
        if !allowance.take(weight, spent_max, at_ms, config) {
            return false;
        }
        let cell = cell.observe(&Judgement { weight, ..observation.judgement }, config);
        self.cells.insert(observation.cell.clone(), cell);
        true
    }

    /// Takes observations in, oldest first.
    pub fn observe_all(&mut self, observations: &mut [Observation], config: &LearningConfig) -> Tally {
        observations.sort_by_key(|observation| observation.judgement.at_ms);
        let mut tally = Tally::default();
        for observation in observations {
            if self.observe(observation, config) {
                tally.applied += 1;
            } else {
                tally.refused += 1;
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn observation(tenant: &str, good: f64, weight: f64, at_ms: i64) -> Observation {
        Observation {
            cell: CellKey { intent: Arc::from("code"), target: Arc::from("s1") },
            tenant: tenant.to_owned(),
            channel: Channel::Feedback,
            judgement: Judgement { base: 0.85, good: Some(good), weight, at_ms },
        }
    }

    fn mean(state: &State) -> f64 {
        state.cells[&observation("", 0.0, 0.0, 0).cell].mean()
    }

    #[test]
    fn a_burst_of_one_tenant_moves_only_so_much_and_others_go_on_counting() {
        let config = LearningConfig::default();
        let mut state = State::default();
        // Ten tenants find it good 85 times of 100, as the classifier says.
        for at in 0..1000_i64 {
            let good = if at % 20 < 17 { 1.0 } else { 0.0 };
            assert!(state.observe(&observation(&format!("t{}", at % 10), good, 0.5, at * 60_000), &config));
        }
        let now = 60_000_000;
        let before = mean(&state);
        let precision = state.cells[&observation("", 0.0, 0.0, 0).cell].precision();
        let mut attack: Vec<Observation> = (0..100_000).map(|_| observation("evil", 0.0, 0.5, now)).collect();
        let tally = state.observe_all(&mut attack, &config);
        assert_eq!((tally.applied, tally.refused), (20, 99_980), "a burst of 10, at half a weight each");
        // Each report moves the mean by at most weight / precision, and the precision never falls meanwhile.
        let bound = (config.tenant_burst + 0.5) / precision;
        let moved = before - mean(&state);
        assert!(moved > 0.0 && moved <= bound, "{moved} of at most {bound}");
        assert!(bound < 0.5, "{bound}");
        let attacked = mean(&state);
        for at in 0..100 {
            assert!(state.observe(&observation(&format!("t{}", at % 10), 1.0, 0.5, now + at), &config));
        }
        assert!(mean(&state) > attacked + 0.1, "{} after {attacked}", mean(&state));
    }

    #[test]
    fn a_burst_of_one_tenant_moves_a_fresh_offset_by_no_more_than_four_thirds_and_a_judgement() {
        for prior_sd in [0.3, 1.0, 3.0] {
            for base in [0.02, 0.5, 0.85, 0.98] {
                for (good, weight) in [(0.0, 0.5), (1.0, 0.5), (0.0, 0.01), (0.0, 100.0)] {
                    let config = LearningConfig { prior_sd, ..LearningConfig::default() };
                    let mut state = State::default();
                    let judgement = Judgement { base, good: Some(good), weight, at_ms: 0 };
                    let mut burst =
                        vec![Observation { judgement, ..observation("evil", 0.0, 0.0, 0) }; 10_000];
                    assert!(state.observe_all(&mut burst, &config).applied > 0);
                    let moved = mean(&state).abs();
                    let last: f64 = weight * prior_sd * prior_sd;
                    let bound = 4.0 / 3.0 + last.min(1.0);
                    assert!(moved > 0.0 && moved <= bound, "{moved}: {prior_sd} {base} {good} {weight}");
                }
            }
        }
    }

    #[test]
    fn answers_that_nobody_minded_leave_room_for_a_complaint() {
        let config = LearningConfig::default();
        let mut state = State::default();
        let mut outcomes: Vec<Observation> = (0..10_000)
            .map(|_| Observation { channel: Channel::Outcome, ..observation("a", 1.0, 0.125, 0) })
            .collect();
        assert!(state.observe_all(&mut outcomes, &config).applied < 100);
        assert!(state.observe(&observation("a", 0.0, 1.0, 0), &config));
    }

    #[test]
    fn outcomes_that_change_nothing_use_nothing_up() {
        let config = LearningConfig::default();
        let mut state = State::default();
        let outcome = |good, weight| {
            let observation = observation("a", 0.0, weight, 0);
            let judgement = Judgement { good, ..observation.judgement };
            Observation { channel: Channel::Outcome, judgement, ..observation }
        };
        for _ in 0..10_000 {
            assert!(state.observe(&outcome(None, 0.004), &config));
        }
        assert_eq!(state, State::default());
        assert!(state.observe(&outcome(Some(0.0), 0.02), &config));
        assert!(mean(&state) < 0.0);
    }

    /// Has a tenant say so much an hour, at times of their own: of both kinds an even share must count.
    fn check_even_sample(per_hour: f64, hours: f64, share_of_first: f64, kinds: &[Observation; 2]) -> State {
        let config = LearningConfig::default();
        let mut random = StdRng::seed_from_u64(per_hour as u64);
        let mut state = State::default();
        let mut tallies = [Tally::default(); 2];
        let mut hour = 0.0;
        while hour < hours {
            hour -= (1.0 - random.random::<f64>()).ln() / per_hour;
            let kind = usize::from(random.random::<f64>() >= share_of_first);
            let judgement = Judgement { at_ms: (hour * 3.6e6) as i64, ..kinds[kind].judgement };
            let counts = state.observe(&Observation { judgement, ..kinds[kind].clone() }, &config);
            let tally = Tally { applied: u64::from(counts), refused: u64::from(!counts) };
            tallies[kind] = tallies[kind].and(tally);
        }
        let [rare, usual] = tallies.map(|tally| {
            let all = (tally.applied + tally.refused) as f64;
            (tally.applied as f64 / all, all)
        });
        // Four standard errors of the difference.
        let error = |(share, all): (f64, f64)| share * (1.0 - share) / all;
        let noise = 4.0 * (error(usual) + error((usual.0, rare.1))).sqrt();
        assert!((rare.0 - usual.0).abs() < noise, "{per_hour} an hour: {rare:?} and {usual:?}");
        assert!(usual.0 < 0.9, "{per_hour} an hour is no load: {usual:?}");
        state
    }

    #[test]
    fn under_load_weak_answers_count_as_often_as_accepted_ones() {
        // A target that is bad 80 times of 100; checks find a fifth of that.
        let weights = LearningConfig::default().weights;
        let outcome = |good, weight| Observation {
            channel: Channel::Outcome,
            judgement: Judgement { base: 0.85, good, weight, at_ms: 0 },
            ..observation("a", 0.0, 0.0, 0)
        };
        let kinds = [outcome(Some(0.0), weights.weak), outcome(None, weights.accepted)];
        for per_hour in [2000.0, 20_000.0] {
            let state = check_even_sample(per_hour, 12.0, 0.16, &kinds);
            assert!(mean(&state) < -1.0, "{per_hour} an hour: {}", mean(&state));
        }
    }

    #[test]
    fn beside_programs_that_go_on_complaining_people_count_as_often() {
        let weights = LearningConfig::default().weights;
        let kinds = [observation("a", 1.0, weights.human, 0), observation("a", 0.0, weights.automatic, 0)];
        check_even_sample(66.0, 200.0, 0.1, &kinds);
    }

    #[test]
    fn order_within_a_batch_is_that_of_time() {
        let config = LearningConfig::default();
        let batch =
            [observation("a", 0.0, 0.5, 5), observation("a", 1.0, 0.5, 1), observation("b", 1.0, 0.5, 3)];
        let (mut one, mut other) = (State::default(), State::default());
        let (mut forward, mut backward) = (batch.to_vec(), batch.to_vec());
        backward.reverse();
        one.observe_all(&mut forward, &config);
        other.observe_all(&mut backward, &config);
        assert_eq!(one, other);
    }
}
