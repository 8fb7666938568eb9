//! Estimators against numbers worked out by hand, and against simulated logs whose true value is known.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const NO_LIMIT: f64 = f64::INFINITY;

fn trial(reward: f64, propensity: f64, same: bool, expected: (f64, f64)) -> Trial {
    let (expected_logged, expected_other) = expected;
    Trial {
        reward,
        propensity,
        same,
        propensity_other: 1.0,
        expected_logged,
        expected_other,
        session: None,
        follows_draw: false,
    }
}

/// Two choices that are the other policy's, two that are not.
fn four() -> Vec<Trial> {
    vec![
        trial(1.0, 0.5, true, (0.8, 0.8)),
        trial(0.0, 0.25, true, (0.4, 0.4)),
        trial(1.0, 0.5, false, (0.6, 0.9)),
        trial(0.5, 0.75, false, (0.5, 0.7)),
    ]
}

fn value(outcome: &OffPolicy, method: Method) -> Estimated {
    *outcome.estimates.iter().find(|estimated| estimated.method == method).unwrap()
}

fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn values_are_those_worked_out_by_hand() {
    let outcome = estimate(&four(), NO_LIMIT);
    assert_eq!((outcome.rewarded, outcome.supported, outcome.informative), (4, 4, 2));
    // Weights 2, 4, 0, 0: (2 + 4)^2 / (4 + 16).
    near(outcome.effective, 1.8);
    near(outcome.logged.unwrap().value, 0.625);
    // (2 * 1 + 4 * 0) / 4, and over the sum of the weights, 6.
    near(value(&outcome, Method::Ips).of_other.value, 0.5);
    near(value(&outcome, Method::Snips).of_other.value, 1.0 / 3.0);
    // 0.8 + 2 * 0.2, 0.4 - 4 * 0.4, 0.9, 0.7.
    near(value(&outcome, Method::DoublyRobust).of_other.value, (1.2 - 1.2 + 0.9 + 0.7) / 4.0);
    near(value(&outcome, Method::Model).of_other.value, 0.7);
    for estimated in &outcome.estimates {
        near(estimated.lead.value, estimated.of_other.value - 0.625);
        assert_eq!(estimated.of_other.interval, None, "two requests carry no interval");
    }
}

#[test]
fn an_interval_is_1_96_standard_errors_wide() {
    // 40 requests, all as logged: every estimator but the model is the mean, of 20 ones and 20 zeros.
    let trials: Vec<Trial> = (0..40).map(|at| trial(f64::from(at % 2), 1.0, true, (0.5, 0.5))).collect();
    let outcome = estimate(&trials, NO_LIMIT);
    let error = (40.0 * 0.25 / 39.0 / 40.0_f64).sqrt();
    for method in [Method::Ips, Method::Snips, Method::DoublyRobust] {
        let estimated = value(&outcome, method);
        let interval = estimated.of_other.interval.unwrap();
        near(estimated.of_other.value, 0.5);
        near(interval.low, 0.5 - STANDARD_ERRORS * error);
        near(interval.high, 0.5 + STANDARD_ERRORS * error);
        // What is the same choice for choice leads by nothing, and surely so.
        assert_eq!(estimated.lead, Estimate { value: 0.0, interval: None });
    }
    assert_eq!(value(&outcome, Method::Model).of_other.interval, None);
    assert_eq!(outcome.cautions, []);
}

#[test]
fn what_the_log_cannot_tell_is_said() {
    let certain = |same| trial(1.0, 1.0, same, (0.5, 0.5));
    let check = |trials: &[Trial], expected: &[Caution]| {
        let outcome = estimate(trials, 50.0);
        assert_eq!(outcome.cautions, expected, "{trials:?}");
        outcome
    };
    check(&[], &[Caution::NoReward]);
    let outcome = check(
        &[certain(false), certain(false)],
        &[Caution::Unsupported { requests: 2, of: 2 }, Caution::NoMatch],
    );
    assert!(outcome.estimates.is_empty() && outcome.logged.is_none() && outcome.effective == 0.0);
    check(&[trial(1.0, 0.5, false, (0.5, 0.5))], &[Caution::NoMatch]);
    check(
        &[certain(true), certain(true), certain(false)],
        &[Caution::Unsupported { requests: 1, of: 3 }, Caution::FewEffective { effective: 2.0 }],
    );
    for broken in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
        check(
            &[trial(1.0, broken, true, (0.5, 0.5))],
            &[Caution::BadPropensity { requests: 1 }, Caution::NoReward],
        );
    }
}

#[test]
fn what_may_repeat_an_earlier_draw_is_left_out_and_said() {
    let repeats = |same| Trial { follows_draw: true, ..trial(1.0, 1.0, same, (0.5, 0.5)) };
    let alone = estimate(&four(), NO_LIMIT);
    let trials = [four(), vec![repeats(true), repeats(false)]].concat();
    let outcome = estimate(&trials, NO_LIMIT);
    assert_eq!((outcome.rewarded, outcome.supported, outcome.informative), (6, 4, 2));
    assert_eq!((outcome.estimates, outcome.logged), (alone.estimates, alone.logged));
    assert_eq!(outcome.cautions[0], Caution::FollowDraw { requests: 2, of: 6 });
}

#[test]
fn a_session_is_one_observation() {
    // Sessions of five requests that are all the same: as certain as one request of each.
    let in_session =
        |at: u64, reward: f64| Trial { session: Some(at), ..trial(reward, 0.5, at % 4 < 2, (0.5, 0.5)) };
    let one: Vec<Trial> = (0..80).map(|at| in_session(at, (at % 2) as f64)).collect();
    let five: Vec<Trial> = one.iter().flat_map(|trial| [*trial; 5]).collect();
    let (one, five) = (estimate(&one, NO_LIMIT), estimate(&five, NO_LIMIT));
    assert_eq!((one.informative, five.informative), (40, 200));
    near(five.effective, one.effective);
    let same = |one: Estimate, five: Estimate| {
        near(five.value, one.value);
        let ends = |estimate: Estimate| estimate.interval.map(|interval| (interval.low, interval.high));
        match (ends(one), ends(five)) {
            (Some(one), Some(five)) => {
                near(five.0, one.0);
                near(five.1, one.1);
            }
            (one, five) => assert_eq!(one, five),
        }
    };
    same(one.logged.unwrap(), five.logged.unwrap());
    for method in [Method::Ips, Method::Snips, Method::DoublyRobust, Method::Model] {
        same(value(&one, method).of_other, value(&five, method).of_other);
        same(value(&one, method).lead, value(&five, method).lead);
    }
    assert!(value(&one, Method::Ips).lead.interval.is_some());
    // Many requests of few sessions carry no interval.
    let few: Vec<Trial> = (0..1000_u32)
        .map(|at| Trial {
            session: Some(u64::from(at % 19)),
            ..trial(f64::from(at % 2), 0.5, true, (0.5, 0.5))
        })
        .collect();
    let few = estimate(&few, NO_LIMIT);
    assert_eq!(value(&few, Method::Ips).of_other.interval, None);
    assert!(few.cautions.iter().any(|caution| matches!(caution, Caution::FewEffective { .. })));
}

#[test]
fn a_cut_weight_states_its_bias() {
    let mut trials = vec![trial(1.0, 0.01, true, (0.5, 0.5))];
    trials.extend(vec![trial(1.0, 0.99, false, (0.5, 0.5)); 99]);
    let free = estimate(&trials, NO_LIMIT);
    let cut = estimate(&trials, 20.0);
    near(value(&free, Method::Ips).of_other.value, 1.0);
    near(value(&cut, Method::Ips).of_other.value, 0.2);
    let clipped = Caution::Clipped { requests: 1, weight_max: 20.0, bias_max: 0.8 };
    assert!(cut.cautions.contains(&clipped), "{:?}", cut.cautions);
    assert!(!free.cautions.iter().any(|caution| matches!(caution, Caution::Clipped { .. })));
}

#[test]
fn choices_that_the_log_could_not_make_show_in_the_weights() {
    // Half of the requests were never asked of the other policy's target, though the log was not certain either.
    let trials: Vec<Trial> = (0..400).map(|at| trial(1.0, 0.5, at % 4 == 0, (0.5, 0.5))).collect();
    let cautions = estimate(&trials, NO_LIMIT).cautions;
    assert!(
        matches!(cautions[..], [Caution::WeightsOff { mean }] if (mean - 0.5).abs() < 1e-9),
        "{cautions:?}"
    );
}

/// A world with a request of some difficulty and three targets, the stronger the better.
struct World {
    random: StdRng,
    /// Share of requests for which the log draws any target.
    explores: f64,
}

const TARGETS: usize = 3;

fn truth(difficulty: f64, target: usize) -> f64 {
    (0.95 - difficulty * [0.8, 0.4, 0.1][target]).clamp(0.0, 1.0)
}

/// What the model believes: the right order, wrong numbers.
fn belief(difficulty: f64, target: usize) -> f64 {
    (0.9 - difficulty * [0.6, 0.45, 0.2][target]).clamp(0.0, 1.0)
}

fn logged_policy(difficulty: f64) -> usize {
    if difficulty < 0.5 { 0 } else { 2 }
}

fn other_policy(difficulty: f64) -> usize {
    if difficulty < 0.3 { 0 } else { 1 }
}

impl World {
    fn request(&mut self) -> (Trial, f64) {
        let difficulty: f64 = self.random.random();
        let greedy = logged_policy(difficulty);
        let any = self.explores / TARGETS as f64;
        let chosen = if self.random.random::<f64>() < self.explores {
            self.random.random_range(0..TARGETS)
        } else {
            greedy
        };
        let propensity = if chosen == greedy { 1.0 - self.explores + any } else { any };
        let other = other_policy(difficulty);
        let reward = f64::from(u8::from(self.random.random::<f64>() < truth(difficulty, chosen)));
        let expected = (belief(difficulty, chosen), belief(difficulty, other));
        (trial(reward, propensity, chosen == other, expected), truth(difficulty, other))
    }
}

#[test]
fn the_true_value_lies_within_95_of_100_intervals() {
    const LOGS: usize = 400;
    const REQUESTS: usize = 1500;
    // By integration: the mean over difficulties of what the other policy earns.
    let steps = 100_000;
    let truth: f64 = (0..steps)
        .map(|at| (f64::from(at) + 0.5) / f64::from(steps))
        .map(|difficulty| truth(difficulty, other_policy(difficulty)))
        .sum::<f64>()
        / f64::from(steps);
    let methods = [Method::Ips, Method::Snips, Method::DoublyRobust];
    let (mut inside, mut widths) = ([0_u32; 3], [0.0; 3]);
    for log in 0..LOGS {
        let mut world = World { random: StdRng::seed_from_u64(log as u64), explores: 0.3 };
        let trials: Vec<Trial> = (0..REQUESTS).map(|_| world.request().0).collect();
        let outcome = estimate(&trials, NO_LIMIT);
        for (at, method) in methods.into_iter().enumerate() {
            let interval = value(&outcome, method).of_other.interval.unwrap();
            inside[at] += u32::from(interval.low <= truth && truth <= interval.high);
            widths[at] += (interval.high - interval.low) / LOGS as f64;
        }
    }
    // 400 draws of 0.95 have a standard error of 1.1 points: three of them on both sides.
    for (at, method) in methods.into_iter().enumerate() {
        let share = f64::from(inside[at]) / LOGS as f64;
        assert!((0.917..=0.983).contains(&share), "{method:?}: {share}");
    }
    let [ips, snips, doubly_robust] = widths;
    assert!(doubly_robust < snips && snips < ips, "{widths:?}");
}

#[test]
fn the_true_value_lies_within_95_of_100_intervals_where_sessions_are_rewarded_alike() {
    const LOGS: usize = 400;
    const SESSIONS: u64 = 300;
    const TURNS: usize = 5;
    /// Of the sessions half are pleased, or displeased, with whatever they get.
    const MOODY: f64 = 0.5;
    let steps = 100_000;
    let honest: f64 = (0..steps)
        .map(|at| (f64::from(at) + 0.5) / f64::from(steps))
        .map(|difficulty| truth(difficulty, other_policy(difficulty)))
        .sum::<f64>()
        / f64::from(steps);
    let truth = (1.0 - MOODY) * honest + MOODY * 0.5;
    let methods = [Method::Ips, Method::Snips, Method::DoublyRobust];
    let (mut inside, mut inside_alone) = ([0_u32; 3], [0_u32; 3]);
    for log in 0..LOGS {
        let mut world = World { random: StdRng::seed_from_u64(20_000 + log as u64), explores: 0.9 };
        let mut trials = Vec::new();
        for session in 0..SESSIONS {
            let mood: f64 = world.random.random();
            for _ in 0..TURNS {
                let (mut trial, _) = world.request();
                if mood < MOODY {
                    trial.reward = f64::from(u8::from(mood < MOODY / 2.0));
                }
                trials.push(Trial { session: Some(session), ..trial });
            }
        }
        let alone: Vec<Trial> = trials.iter().map(|trial| Trial { session: None, ..*trial }).collect();
        let (outcome, outcome_alone) = (estimate(&trials, NO_LIMIT), estimate(&alone, NO_LIMIT));
        for (at, method) in methods.into_iter().enumerate() {
            let holds = |outcome: &OffPolicy| {
                let interval = value(outcome, method).of_other.interval.unwrap();
                u32::from(interval.low <= truth && truth <= interval.high)
            };
            inside[at] += holds(&outcome);
            inside_alone[at] += holds(&outcome_alone);
        }
    }
    for (at, method) in methods.into_iter().enumerate() {
        let share = f64::from(inside[at]) / LOGS as f64;
        assert!((0.917..=0.983).contains(&share), "{method:?}: {share}");
    }
    let alone = f64::from(inside_alone[1]) / LOGS as f64;
    assert!(alone < 0.917, "these sessions have nothing in common: {alone}");
}

#[test]
fn the_lead_over_the_log_is_found() {
    const LOGS: usize = 400;
    let steps = 100_000;
    let places = (0..steps).map(|at| (f64::from(at) + 0.5) / f64::from(steps));
    let explores = 0.3;
    let logged = |difficulty: f64| {
        let any: f64 = (0..TARGETS).map(|target| truth(difficulty, target)).sum::<f64>() / TARGETS as f64;
        (1.0 - explores) * truth(difficulty, logged_policy(difficulty)) + explores * any
    };
    let lead: f64 = places
        .map(|difficulty| truth(difficulty, other_policy(difficulty)) - logged(difficulty))
        .sum::<f64>()
        / f64::from(steps);
    for method in [Method::Ips, Method::Snips, Method::DoublyRobust] {
        let inside = (0..LOGS)
            .filter(|&log| {
                let mut world = World { random: StdRng::seed_from_u64(10_000 + log as u64), explores };
                let trials: Vec<Trial> = (0..1000).map(|_| world.request().0).collect();
                let interval = value(&estimate(&trials, NO_LIMIT), method).lead.interval.unwrap();
                interval.low <= lead && lead <= interval.high
            })
            .count();
        let share = inside as f64 / LOGS as f64;
        assert!((0.917..=0.983).contains(&share), "{method:?}: {share}");
    }
}
