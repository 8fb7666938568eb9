//! What holds whatever the targets do: random ladders, outcomes and times, driven to the end.

use proptest::prelude::*;

use super::{
    tests::{attempt, failed, limits, targets, weak},
    *,
};
use crate::completion::attempt::{Check, Stage};

/// How one call ends, how long it takes, and whether a second one runs beside it.
#[derive(Debug, Clone)]
struct Fate {
    outcome: Outcome,
    took_ms: u64,
    jitter: f64,
    hedged: bool,
}

#[derive(Debug, Clone)]
struct World {
    ladder: Vec<Rung>,
    windows: Vec<u32>,
    limits: Limits,
    costs_usd: Vec<f64>,
    fates: Vec<Fate>,
}

const TARGETS: usize = 8;
/// More than any world can take: each call and each skip uses one up.
const STEPS_MAX: usize = 64;

fn any_kind() -> impl Strategy<Value = ErrorKind> {
    proptest::sample::select(vec![
        ErrorKind::Connect,
        ErrorKind::Timeout(Stage::FirstToken),
        ErrorKind::RateLimited,
        ErrorKind::Unauthorized,
        ErrorKind::NoKey,
        ErrorKind::Refused,
        ErrorKind::Refused,
        ErrorKind::TooLong,
        ErrorKind::Server,
        ErrorKind::Overloaded,
        ErrorKind::Cut,
        ErrorKind::TooLarge,
    ])
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let again = prop_oneof![
        Just(Again::Usual),
        Just(Again::Now),
        (0_u64..15_000).prop_map(|ms| Again::After(Duration::from_millis(ms))),
    ];
    let check =
        proptest::sample::select(vec![Check::Empty, Check::Refusal, Check::Truncated, Check::Logprob]);
    prop_oneof![
        1 => Just(Outcome::Answered),
        2 => check.prop_map(weak),
        6 => (any_kind(), again).prop_map(|(kind, again)| failed(kind, again)),
        2 => Just(Outcome::Skipped),
    ]
}

fn any_fate() -> impl Strategy<Value = Fate> {
    (any_outcome(), 0_u64..20_000, 0.0_f64..=1.0, proptest::bool::weighted(0.2))
        .prop_map(|(outcome, took_ms, jitter, hedged)| Fate { outcome, took_ms, jitter, hedged })
}

prop_compose! {
    fn any_world()(
        // Targets may stand in several tiers, in each once.
        mut rungs in proptest::collection::vec(
            proptest::sample::subsequence((0..TARGETS).collect::<Vec<_>>(), 1..4).prop_shuffle(), 1..5),
        gap in 0_usize..2,
        attempts_max in 0_usize..12,
        retries_max in 0_usize..4,
        deadline_ms in prop_oneof![0_u64..100_000, Just(10_000_000)],
        cost_usd_max in proptest::option::of(0.0_f64..20.0),
        windows in proptest::collection::vec(1_u32..4, TARGETS),
        fails: bool,
        marks: bool,
        costs_usd in proptest::collection::vec(0.0_f64..5.0, TARGETS),
        fates in proptest::collection::vec(any_fate(), STEPS_MAX),
    ) -> World {
        let ladder = rungs
            .drain(..)
            .enumerate()
            .map(|(at, targets)| Rung {
                tier: Tier(at * (1 + gap)),
                targets: targets.into_iter().map(TargetIndex).collect(),
            })
            .collect();
        let limits = Limits {
            attempts_max,
            retries_max,
            deadline: Duration::from_millis(deadline_ms),
            cost_usd_max,
            exhausted: if fails { Exhausted::Fail } else { Exhausted::Climb },
            on_weak: if marks { OnWeak::Mark } else { OnWeak::Escalate },
            ..limits()
        };
        World { ladder, windows, limits, costs_usd, fates }
    }
}

/// What one run came to.
struct Run {
    attempts: Vec<Attempt>,
    end: End,
    spent_usd: f64,
    /// When each call began.
    begun: Vec<Duration>,
}

/// Runs a world to its end, checking each step against what came before.
fn drive(world: &World) -> Result<Run, TestCaseError> {
    let targets = targets(&world.windows);
    let plan = Plan { ladder: &world.ladder, targets: &targets, limits: world.limits };
    let cost_of = |target: TargetIndex| world.costs_usd[target.0];
    let mut attempts = Vec::new();
    let mut begun = Vec::new();
    let (mut elapsed, mut spent_usd) = (Duration::ZERO, 0.0);
    for fate in &world.fates {
        let moment = Moment { elapsed, jitter: fate.jitter, spent_usd, cost_of: &cost_of };
        let next = match step(&plan, &attempts, moment) {
            Step::Done(end) => return Ok(Run { attempts, end, spent_usd, begun }),
            Step::Call(next) => next,
        };
        check_call(world, &attempts, &next)?;
        elapsed += next.wait;
        let beside = if fate.hedged && fate.outcome != Outcome::Skipped {
            hedge(&plan, &attempts, &next, Moment { elapsed, ..moment })
        } else {
            None
        };
        if fate.outcome != Outcome::Skipped {
            begun.push(elapsed);
            spent_usd += cost_of(next.target);
            elapsed += Duration::from_millis(fate.took_ms);
        }
        attempts.push(attempt(&next, fate.outcome.clone()));
        if let Some(beside) = beside {
            check_call(world, &attempts, &beside)?;
            spent_usd += cost_of(beside.target);
            attempts.push(attempt(&beside, Outcome::Lost));
        }
    }
    Err(TestCaseError::fail(format!("no end after {STEPS_MAX} steps")))
}

fn check_call(world: &World, attempts: &[Attempt], next: &Next) -> Result<(), TestCaseError> {
    let rung = world.ladder.iter().find(|rung| rung.tier == next.tier);
    prop_assert!(
        rung.is_some_and(|rung| rung.targets.contains(&next.target)),
        "{next:?} is not in the ladder"
    );
    prop_assert!(attempts.iter().all(|attempt| attempt.tier <= next.tier), "{next:?} goes down");

    let tried = |target: TargetIndex| {
        attempts.iter().any(|attempt| attempt.index == target && attempt.outcome != Outcome::Lost)
    };
    if next.cause == Cause::Retry {
        // Nothing else was called since it failed.
        let last =
            attempts.iter().rfind(|attempt| !matches!(attempt.outcome, Outcome::Skipped | Outcome::Lost));
        let failed =
            |attempt: &Attempt| attempt.index == next.target && matches!(attempt.outcome, Outcome::Failed(_));
        prop_assert!(last.is_some_and(failed), "{next:?} repeats what did not fail last");
    } else {
        prop_assert!(!tried(next.target), "{next:?} was tried before");
        // How the call beside it ends is not known when a hedge starts.
        let known = attempts.len() - usize::from(next.cause == Cause::Hedge);
        prop_assert!(!is_too_small(world, &attempts[..known], next.target), "{next:?} is too small");
    }
    prop_assert_eq!(next.cause == Cause::First, attempts.is_empty());
    if next.cause == Cause::Climb {
        let below = world.ladder.iter().rev().find(|rung| attempts.iter().any(|a| a.tier == rung.tier));
        let is_done = |&target: &TargetIndex| tried(target) || is_too_small(world, attempts, target);
        prop_assert!(below.is_some_and(|rung| rung.targets.iter().all(is_done)));
    }
    if next.cause == Cause::Escalation {
        prop_assert!(attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Weak(_))));
    }
    Ok(())
}

/// Whether the prompt was too long for a target with a context window as large as this one's.
fn is_too_small(world: &World, attempts: &[Attempt], target: TargetIndex) -> bool {
    attempts.iter().any(|attempt| {
        is_too_long(&attempt.outcome) && world.windows[target.0] <= world.windows[attempt.index.0]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_run_ends_within_its_limits_and_says_how(world in any_world()) {
        let run = drive(&world)?;
        let called = run.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Skipped).count();
        prop_assert!(called <= world.limits.attempts_max);
        prop_assert!(run.begun.iter().all(|begun| *begun < world.limits.deadline));
        if let Some(most) = world.limits.cost_usd_max {
            prop_assert!(run.spent_usd <= most + 1e-9);
        }
        let answered = run.attempts.iter().any(|attempt| attempt.outcome == Outcome::Answered);
        let weak = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Weak(_));
        match run.end {
            End::Answered => prop_assert!(answered),
            End::Weak(at) => prop_assert!(!answered && weak(&run.attempts[at])),
            End::Failed(_) => prop_assert!(!answered && !run.attempts.iter().any(weak)),
        }
    }

    #[test]
    fn without_limits_only_a_refusal_by_a_whole_tier_leaves_targets_untried(world in any_world()) {
        let limits = Limits {
            attempts_max: usize::MAX,
            deadline: Duration::MAX,
            cost_usd_max: None,
            exhausted: Exhausted::Climb,
            ..world.limits
        };
        let world = World { limits, ..world };
        let run = drive(&world)?;
        if let End::Failed(stop) = run.end {
            prop_assert_eq!(stop, Stop::Exhausted);
            let outcomes = |target: TargetIndex| {
                let of_target = run.attempts.iter().filter(move |attempt| attempt.index == target);
                of_target.map(|attempt| &attempt.outcome)
            };
            let refused = |rung: &Rung| rung.targets.iter().all(|target| outcomes(*target).any(
                |outcome| matches!(outcome, Outcome::Failed(error) if error.kind == ErrorKind::Refused)
            ));
            let untried = |rung: &Rung| rung.targets.iter().any(|&target| {
                outcomes(target).next().is_none() && !is_too_small(&world, &run.attempts, target)
            });
            if world.ladder.iter().any(untried) {
                prop_assert!(world.ladder.iter().any(refused));
            }
        }
    }
}
