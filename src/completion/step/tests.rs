//! One line a case: what was tried, and what must follow.

use std::sync::Arc;

use super::*;
use crate::{
    completion::{
        answer::Usage,
        attempt::{Check, Stage},
    },
    config::default_config,
    prompt::{TargetId, TargetRef},
};

pub(super) fn limits() -> Limits {
    Limits {
        attempts_max: 6,
        retries_max: 1,
        backoff: Backoff {
            first: Duration::from_millis(250),
            max: Duration::from_secs(4),
            retry_after_max: Duration::from_secs(10),
        },
        deadline: Duration::from_secs(60),
        cost_usd_max: None,
        exhausted: Exhausted::Climb,
        on_weak: OnWeak::Escalate,
    }
}

pub(super) fn attempt(next: &Next, outcome: Outcome) -> Attempt {
    let name: Arc<str> = Arc::from(format!("t{}", next.target.0));
    Attempt {
        index: next.target,
        target: TargetRef { id: TargetId(Arc::clone(&name)), provider: Arc::clone(&name), model: name },
        tier: next.tier,
        cause: next.cause,
        outcome,
        started: Duration::ZERO,
        latency: Duration::ZERO,
        first_token: None,
        usage: Usage::default(),
        estimated: false,
        cost_usd: 0.0,
        dropped_parameters: Vec::new(),
    }
}

pub(super) fn failed(kind: ErrorKind, again: Again) -> Outcome {
    Outcome::Failed(ProviderError { kind, status: None, message: String::new(), code: None, again })
}

fn usual(kind: ErrorKind) -> Outcome {
    failed(kind, Again::Usual)
}

fn after(seconds: u64) -> Outcome {
    failed(ErrorKind::RateLimited, Again::After(Duration::from_secs(seconds)))
}

pub(super) fn weak(check: Check) -> Outcome {
    Outcome::Weak(Weakness { check, why: String::new() })
}

/// Two targets in the lower tier, two in the upper; target 1 stands in both.
fn ladder() -> Vec<Rung> {
    vec![
        Rung { tier: Tier(1), targets: vec![TargetIndex(0), TargetIndex(1)] },
        Rung { tier: Tier(2), targets: vec![TargetIndex(1), TargetIndex(2), TargetIndex(3)] },
    ]
}

/// Targets with these context windows.
pub(super) fn targets(windows: &[u32]) -> Vec<TargetConfig> {
    let usual = &default_config().targets[0];
    windows.iter().map(|&context_tokens| TargetConfig { context_tokens, ..usual.clone() }).collect()
}

/// What a case may change.
struct Case {
    limits: Limits,
    ladder: Vec<Rung>,
    targets: Vec<TargetConfig>,
    elapsed: Duration,
    spent_usd: f64,
    jitter: f64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            limits: limits(),
            ladder: ladder(),
            targets: Vec::new(),
            elapsed: Duration::ZERO,
            spent_usd: 0.0,
            jitter: 0.5,
        }
    }
}

impl Case {
    /// Asks after these attempts: target, tier, cause, outcome. Target n costs n + 1 dollars.
    fn ask(&self, attempts: &[(usize, usize, Cause, Outcome)]) -> Step {
        let attempts: Vec<Attempt> = attempts
            .iter()
            .map(|(target, tier, cause, outcome)| {
                attempt(&call(*target, *tier, *cause, Duration::ZERO), outcome.clone())
            })
            .collect();
        step(
            &Plan { ladder: &self.ladder, targets: &self.targets, limits: self.limits },
            &attempts,
            self.moment(),
        )
    }

    fn moment(&self) -> Moment<'static> {
        let cost_of = &|target: TargetIndex| target.0 as f64 + 1.0;
        Moment { elapsed: self.elapsed, jitter: self.jitter, spent_usd: self.spent_usd, cost_of }
    }
}

fn call(target: usize, tier: usize, cause: Cause, wait: Duration) -> Next {
    Next { target: TargetIndex(target), tier: Tier(tier), cause, wait }
}

fn calls(target: usize, tier: usize, cause: Cause, wait_ms: u64) -> Step {
    Step::Call(call(target, tier, cause, Duration::from_millis(wait_ms)))
}

fn stops(stop: Stop) -> Step {
    Step::Done(End::Failed(stop))
}

use Cause::{Climb, Escalation, Failover, First, Hedge, Judge, Retry as Again1};

#[test]
fn the_decided_target_comes_first_and_its_answer_ends_it() {
    let case = Case::default();
    assert_eq!(case.ask(&[]), calls(0, 1, First, 0));
    assert_eq!(case.ask(&[(0, 1, First, Outcome::Answered)]), Step::Done(End::Answered));
    let empty = Case { ladder: Vec::new(), ..Case::default() };
    assert_eq!(empty.ask(&[]), stops(Stop::Exhausted));
}

#[test]
fn what_follows_one_failure_beside_a_sibling() {
    let check = |outcome: Outcome, expected: Step| {
        assert_eq!(Case::default().ask(&[(0, 1, First, outcome.clone())]), expected, "{outcome:?}");
    };
    // Half of the first back-off.
    check(usual(ErrorKind::Server), calls(0, 1, Again1, 125));
    check(usual(ErrorKind::Connect), calls(0, 1, Again1, 125));
    check(usual(ErrorKind::Overloaded), calls(1, 1, Failover, 0));
    check(usual(ErrorKind::RateLimited), calls(1, 1, Failover, 0));
    check(usual(ErrorKind::Timeout(Stage::FirstToken)), calls(1, 1, Failover, 0));
    check(usual(ErrorKind::Refused), calls(1, 1, Failover, 0));
    check(usual(ErrorKind::Unauthorized), calls(1, 1, Failover, 0));
    check(failed(ErrorKind::Unauthorized, Again::Now), calls(0, 1, Again1, 0));
    check(after(2), calls(0, 1, Again1, 2125));
    check(after(5), calls(1, 1, Failover, 0));
    check(failed(ErrorKind::Refused, Again::After(Duration::from_secs(1))), calls(1, 1, Failover, 0));
    check(Outcome::Skipped, calls(1, 1, Failover, 0));
    check(Outcome::Abandoned, stops(Stop::Exhausted));
}

#[test]
fn what_follows_one_failure_without_a_sibling() {
    let check = |outcome: Outcome, expected: Step| {
        let ladder = vec![Rung { tier: Tier(0), targets: vec![TargetIndex(0)] }];
        let case = Case { ladder, ..Case::default() };
        assert_eq!(case.ask(&[(0, 0, First, outcome.clone())]), expected, "{outcome:?}");
    };
    check(usual(ErrorKind::Overloaded), calls(0, 0, Again1, 125));
    check(after(5), calls(0, 0, Again1, 5125));
    check(after(11), stops(Stop::Exhausted));
    check(failed(ErrorKind::NoKey, Again::After(Duration::from_secs(3))), calls(0, 0, Again1, 3125));
    check(usual(ErrorKind::NoKey), stops(Stop::Exhausted));
    check(Outcome::Skipped, stops(Stop::Exhausted));
    check(weak(Check::Refusal), Step::Done(End::Weak(0)));
}

#[test]
fn who_timed_out_is_left_for_a_tier_above() {
    let check = |exhausted: Exhausted, outcome: Outcome, expected: Step| {
        let ladder = [(0, 0), (1, 1)]
            .map(|(tier, target)| Rung { tier: Tier(tier), targets: vec![TargetIndex(target)] })
            .to_vec();
        let case = Case { ladder, limits: Limits { exhausted, ..limits() }, ..Case::default() };
        assert_eq!(case.ask(&[(0, 0, First, outcome.clone())]), expected, "{outcome:?}");
    };
    let late = || usual(ErrorKind::Timeout(Stage::FirstToken));
    check(Exhausted::Climb, late(), calls(1, 1, Climb, 0));
    check(Exhausted::Fail, late(), calls(0, 0, Again1, 125));
    check(Exhausted::Climb, usual(ErrorKind::Overloaded), calls(0, 0, Again1, 125));
    check(Exhausted::Climb, usual(ErrorKind::Server), calls(0, 0, Again1, 125));
}

#[test]
fn back_off_doubles_up_to_its_maximum() {
    let ladder = vec![Rung { tier: Tier(0), targets: vec![TargetIndex(0)] }];
    let limits = Limits { retries_max: 100, attempts_max: 100, ..limits() };
    let case = Case { ladder, limits, ..Case::default() };
    for (retries, wait_ms) in [(0, 125), (1, 250), (2, 500), (3, 1000), (4, 2000), (5, 2000), (70, 2000)] {
        let mut attempts = vec![(0, 0, First, usual(ErrorKind::Server))];
        attempts.extend((0..retries).map(|_| (0, 0, Again1, usual(ErrorKind::Server))));
        assert_eq!(case.ask(&attempts), calls(0, 0, Again1, wait_ms), "{retries}");
    }
}

#[test]
fn a_tier_is_tried_to_its_end_before_the_next() {
    let down = || usual(ErrorKind::Connect);
    let mut attempts = vec![(0, 1, First, down()), (0, 1, Again1, down())];
    assert_eq!(Case::default().ask(&attempts), calls(1, 1, Failover, 0));
    attempts.extend([(1, 1, Failover, down()), (1, 1, Again1, down())]);
    // Target 1 failed below: the climb passes over it.
    assert_eq!(Case::default().ask(&attempts), calls(2, 2, Climb, 0));
    let fails = Case { limits: Limits { exhausted: Exhausted::Fail, ..limits() }, ..Case::default() };
    assert_eq!(fails.ask(&attempts), stops(Stop::Exhausted));
}

#[test]
fn a_skipped_sibling_leaves_the_failed_target_its_retry() {
    let mut attempts = vec![(0, 1, First, usual(ErrorKind::Overloaded)), (1, 1, Failover, Outcome::Skipped)];
    assert_eq!(Case::default().ask(&attempts), calls(0, 1, Again1, 125));
    attempts.push((0, 1, Again1, Outcome::Skipped));
    assert_eq!(Case::default().ask(&attempts), calls(2, 2, Climb, 0));
    attempts.push((2, 2, Climb, Outcome::Skipped));
    assert_eq!(Case::default().ask(&attempts), calls(3, 2, Failover, 0));
}

#[test]
fn a_request_that_a_whole_tier_refuses_does_not_climb() {
    let refused = || usual(ErrorKind::Refused);
    let ask = |second| Case::default().ask(&[(0, 1, First, refused()), (1, 1, Failover, second)]);
    assert_eq!(ask(refused()), stops(Stop::Exhausted));
    assert_eq!(ask(usual(ErrorKind::NotFound)), calls(2, 2, Climb, 0));
    assert_eq!(ask(Outcome::Skipped), calls(2, 2, Climb, 0));
}

#[test]
fn a_prompt_that_is_too_long_goes_only_where_more_fits() {
    let check = |windows: [u32; 4], second: Option<Outcome>, expected: Step| {
        let case = Case { targets: targets(&windows), ..Case::default() };
        let mut attempts = vec![(0, 1, First, usual(ErrorKind::TooLong))];
        attempts.extend(second.map(|outcome| (1, 1, Failover, outcome)));
        assert_eq!(case.ask(&attempts), expected, "{windows:?}");
    };
    check([8, 16, 8, 8], None, calls(1, 1, Failover, 0));
    check([8, 8, 8, 16], None, calls(3, 2, Climb, 0));
    check([8, 4, 16, 16], None, calls(2, 2, Climb, 0));
    check([8, 4, 8, 8], None, stops(Stop::Exhausted));
    check([8, 16, 16, 32], Some(usual(ErrorKind::TooLong)), calls(3, 2, Climb, 0));
    // One that refuses may be right, one that is full is not: the tier as a whole did not refuse.
    check([8, 16, 16, 32], Some(usual(ErrorKind::Refused)), calls(2, 2, Climb, 0));
}

#[test]
fn a_requests_own_cost_limit_narrows_the_operators() {
    for (operator, request, expected) in [
        (None, None, None),
        (Some(2.0), None, Some(2.0)),
        (None, Some(1.0), Some(1.0)),
        (Some(2.0), Some(1.0), Some(1.0)),
        (Some(2.0), Some(3.0), Some(2.0)),
    ] {
        let config = CompletionConfig { cost_usd_max: operator, ..CompletionConfig::default() };
        let preferences = Preferences { cost_usd_max: request, ..Preferences::default() };
        assert_eq!(Limits::of(&config, &preferences).cost_usd_max, expected);
    }
}

#[test]
fn a_weak_answer_goes_up_or_is_marked() {
    let first = || (0, 1, First, weak(Check::TooShort));
    assert_eq!(Case::default().ask(&[first()]), calls(1, 2, Escalation, 0));
    let mark = Case { limits: Limits { on_weak: OnWeak::Mark, ..limits() }, ..Case::default() };
    assert_eq!(mark.ask(&[first()]), Step::Done(End::Weak(0)));
    // Nothing above is better: the least bad of both.
    let up = |outcome| Case::default().ask(&[first(), (1, 2, Escalation, outcome)]);
    assert_eq!(up(weak(Check::Empty)), Step::Done(End::Weak(0)));
    assert_eq!(up(weak(Check::TooShort)), Step::Done(End::Weak(1)));
    assert_eq!(up(usual(ErrorKind::NotFound)), calls(2, 2, Failover, 0));
}

#[test]
fn limits_stop_with_the_weak_answer_or_say_which() {
    let stopped = [
        (Case { limits: Limits { attempts_max: 1, ..limits() }, ..Case::default() }, Stop::AttemptsMax),
        (Case { elapsed: limits().deadline, ..Case::default() }, Stop::Deadline),
        (
            Case {
                limits: Limits { cost_usd_max: Some(1.5), ..limits() },
                spent_usd: 1.0,
                ..Case::default()
            },
            Stop::Cost,
        ),
    ];
    for (case, stop) in stopped {
        assert_eq!(case.ask(&[(0, 1, First, usual(ErrorKind::NotFound))]), stops(stop));
        assert_eq!(case.ask(&[(0, 1, First, weak(Check::Empty))]), Step::Done(End::Weak(0)));
    }
}

#[test]
fn a_retry_that_a_limit_forbids_is_named_when_nothing_else_is_left() {
    let ladder = vec![Rung { tier: Tier(0), targets: vec![TargetIndex(0)] }];
    let case =
        Case { ladder, limits: Limits { attempts_max: 1, retries_max: 3, ..limits() }, ..Case::default() };
    assert_eq!(case.ask(&[(0, 0, First, usual(ErrorKind::Server))]), stops(Stop::AttemptsMax));
}

#[test]
fn a_retry_that_would_come_too_late_is_a_failover() {
    let case = Case { elapsed: Duration::from_secs(58), ..Case::default() };
    assert_eq!(case.ask(&[(0, 1, First, after(2))]), calls(1, 1, Failover, 0));
}

#[test]
fn a_retry_that_came_too_late_does_not_go_down_when_the_next_number_is_smaller() {
    let ladder = vec![
        Rung { tier: Tier(0), targets: vec![TargetIndex(0)] },
        Rung { tier: Tier(1), targets: vec![TargetIndex(1)] },
    ];
    let mut case = Case { ladder, elapsed: Duration::from_millis(59_900), ..Case::default() };
    let mut attempts = vec![(0, 0, First, usual(ErrorKind::Server))];
    assert_eq!(case.ask(&attempts), calls(1, 1, Climb, 0));
    attempts.push((1, 1, Climb, Outcome::Skipped));
    case.jitter = 0.0;
    assert_eq!(case.ask(&attempts), stops(Stop::Exhausted));
}

#[test]
fn of_a_tier_the_targets_within_the_cost_limit_are_called() {
    let ladder = vec![Rung { tier: Tier(0), targets: [2, 0, 1].map(TargetIndex).to_vec() }];
    let case = Case { ladder, limits: Limits { cost_usd_max: Some(2.0), ..limits() }, ..Case::default() };
    assert_eq!(case.ask(&[]), calls(0, 0, First, 0));
    let nothing = Case { spent_usd: f64::NAN, ..case };
    assert_eq!(nothing.ask(&[]), stops(Stop::Cost));
}

#[test]
fn judges_and_losers_count_for_nothing() {
    let attempts = [
        (0, 1, First, usual(ErrorKind::NotFound)),
        (3, 2, Judge, Outcome::Answered),
        (1, 1, Hedge, Outcome::Lost),
    ];
    assert_eq!(Case::default().ask(&attempts), calls(1, 1, Failover, 0));
    let weak_judge = [(0, 1, First, usual(ErrorKind::NotFound)), (3, 2, Judge, weak(Check::Empty))];
    assert_eq!(Case::default().ask(&weak_judge), calls(1, 1, Failover, 0));
    // A judge needs no place among the attempts, a hedge does.
    let case = Case { limits: Limits { attempts_max: 2, ..limits() }, ..Case::default() };
    assert_eq!(case.ask(&weak_judge), calls(1, 1, Failover, 0));
    assert_eq!(case.ask(&attempts), stops(Stop::AttemptsMax));
}

#[test]
fn a_hedge_is_the_next_of_the_tier_within_the_limits() {
    let ladder = ladder();
    let slow = call(0, 1, First, Duration::ZERO);
    let ask = |limits: Limits, slow: &Next| {
        hedge(&Plan { ladder: &ladder, targets: &[], limits }, &[], slow, Case::default().moment())
            .map(|next| next.target.0)
    };
    assert_eq!(ask(limits(), &slow), Some(1));
    assert_eq!(ask(Limits { attempts_max: 1, ..limits() }, &slow), None);
    assert_eq!(ask(Limits { cost_usd_max: Some(2.9), ..limits() }, &slow), None);
    assert_eq!(ask(Limits { cost_usd_max: Some(3.0), ..limits() }, &slow), Some(1));
    assert_eq!(ask(Limits { deadline: Duration::ZERO, ..limits() }, &slow), None);
    assert_eq!(ask(limits(), &call(3, 2, Climb, Duration::ZERO)), Some(1));
}

#[test]
fn a_call_has_a_substitute_while_its_tier_has_another_target_that_takes_calls() {
    let ladder = ladder();
    let plan = Plan { ladder: &ladder, targets: &[], limits: limits() };
    let ask = |tried: &[usize], next: &Next, refusing: usize| {
        let attempts: Vec<Attempt> = tried
            .iter()
            .map(|&target| attempt(&call(target, 1, First, Duration::ZERO), Outcome::Skipped))
            .collect();
        substitute(&plan, &attempts, next, &|target| target.0 == refusing)
    };
    let first = call(0, 1, First, Duration::ZERO);
    assert_eq!(ask(&[], &first, 9), Substitute::Ready);
    assert_eq!(ask(&[], &first, 1), Substitute::None);
    assert_eq!(ask(&[0], &call(1, 1, Failover, Duration::ZERO), 9), Substitute::None);
    assert_eq!(ask(&[0], &call(1, 1, Hedge, Duration::ZERO), 9), Substitute::Ready);
}

#[test]
fn a_hedged_pair_is_weak_when_one_of_them_is() {
    let attempts = [(0, 1, First, usual(ErrorKind::Server)), (1, 1, Hedge, weak(Check::Refusal))];
    assert_eq!(Case::default().ask(&attempts), calls(2, 2, Escalation, 0));
}

#[test]
fn the_best_weak_answer_is_the_one_that_failed_the_least_grave_check() {
    let order = [
        Check::Empty,
        Check::Refusal,
        Check::Repetition,
        Check::Truncated,
        Check::ToolCall,
        Check::Json,
        Check::Schema,
        Check::Pattern,
        Check::TooShort,
        Check::Logprob,
        Check::Judge,
    ];
    for pair in order.windows(2) {
        // The worse one is of the higher tier, which counts for less.
        let worse = attempt(&call(1, 2, Escalation, Duration::ZERO), weak(pair[0]));
        let better = attempt(&call(0, 1, First, Duration::ZERO), weak(pair[1]));
        assert_eq!(best_weak(&[better, worse]), Some(0), "{pair:?}");
    }
    assert_eq!(best_weak(&[]), None);
}

#[test]
fn a_deadline_that_passed_is_the_reason_also_when_no_target_is_left() {
    let ladder = vec![Rung { tier: Tier(0), targets: vec![TargetIndex(0)] }];
    let case = Case { ladder, elapsed: limits().deadline, ..Case::default() };
    let late = usual(ErrorKind::Timeout(Stage::Deadline));
    assert_eq!(case.ask(&[(0, 0, First, late)]), stops(Stop::Deadline));
    assert_eq!(case.ask(&[(0, 0, First, Outcome::Answered)]), Step::Done(End::Answered));
}
