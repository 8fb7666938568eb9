//! The wanted state and what was seen -> the next change that the rollout makes by itself, if any. Pure.
//!
//! Never starts anything: an operator makes a bundle the shadow or a canary, and from there this leads it to be active,
//! or takes it back. Never judges by times of several machines: how long something was watched is what counts. Only a
//! guard that has become old by them ends, which takes nothing back.

use std::time::Duration;

use super::{
    guard::Guard,
    judge::{Look, Verdict, judge},
    observed::Observed,
    state::{Change, Desired, Reach},
};
use crate::{config::RolloutConfig, live::fleet::Sums};

/// A new active bundle is compared with its predecessor for so many windows: at their end every limit counts, before
/// that what is clearly terrible.
const GUARD_WINDOWS: u64 = 2;
/// A guard that nobody looked at until then, because the rollout was switched off for example, ends without a judgement:
/// what was before is too long ago.
const GUARD_WINDOWS_MAX: u64 = 4;
/// The same by the clock, which also runs while no process does, needs so much more: a watch that was begun anew a few
/// times still comes to its end, and machines whose clocks are minutes apart agree.
const GUARD_SLACK: Duration = Duration::from_secs(3600);

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    pub config: &'a RolloutConfig,
    /// Of the configuration that runs.
    pub config_sha256: &'a str,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// What follows from what was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Follows {
    /// Nothing is watched.
    Nothing,
    /// Too early, or too little was seen; the text says which.
    Wait(String),
    /// What is to change, and why in words.
    Change(Change, String),
}

/// Returns what follows from what all replicas saw since the step began.
///
/// The bundle that is watched is the canary; without one the active bundle while it is guarded, also where a shadow
/// scores beside it: what serves everybody comes first. Then it is the shadow.
pub fn next(desired: &Desired, here: &Here<'_>, seen: &Sums) -> Follows {
    let Here { config, config_sha256, .. } = *here;
    if !config.automatic {
        return Follows::Nothing;
    }
    let reach = match (&desired.canary, &desired.guard, &desired.shadow) {
        (Some(canary), _, _) => Some(canary.reach),
        (None, Some(before), _) => return guard(desired, here, seen, &before.comparable(config_sha256)),
        (None, None, Some(_)) => None,
        (None, None, None) => return Follows::Nothing,
    };
    let window_ms = window_ms(config);
    let is_over = seen.watched_ms >= window_ms;
    // A step further is for when all can follow it, and until then this is no end. Taking back never waits.
    let look = if is_over && seen.all_follow { Look::AtEnd } else { Look::Early };
    match judge(config, &seen.watched, &seen.active, look) {
        Verdict::Wait(why) if !is_over => Follows::Wait(why + &so_far(seen.watched_ms, window_ms)),
        Verdict::Wait(why) if !seen.all_follow => Follows::Wait(format!(
            "{why}; a replica does not run what is wanted, which holds up the next step"
        )),
        Verdict::Wait(why) => Follows::Wait(why),
        Verdict::GoOn(why) => match step(config, desired, reach, seen, config_sha256) {
            Some(change) => Follows::Change(change, why),
            None => Follows::Nothing,
        },
        Verdict::TakeBack(why) => Follows::Change(Change::Rollback, why),
    }
}

/// Returns the step after this reach; the first one without any, and after the last one the activation.
fn step(
    config: &RolloutConfig,
    desired: &Desired,
    reach: Option<Reach>,
    seen: &Sums,
    config_sha256: &str,
) -> Option<Change> {
    let canary = desired.canary.as_ref().map(|canary| &canary.bundle);
    let bundle = canary.or(desired.shadow.as_ref().map(|shadow| &shadow.bundle))?.clone();
    let share = reach.map_or(0.0, Reach::share);
    let further = config.steps.iter().copied().find(|&step| step > share);
    Some(match further {
        Some(step) => {
            Change::Canary(bundle, reach.map_or(Reach::Requests(step), |reach| reach.with_share(step)))
        }
        None => Change::Promote(bundle, Box::new(Guard::of(&seen.active, config_sha256))),
    })
}

/// Takes a new active bundle back while that is this rollout's own doing, or ends the watch over it.
fn guard(desired: &Desired, here: &Here<'_>, seen: &Sums, before: &Observed) -> Follows {
    let config = here.config;
    let window_ms = window_ms(config);
    let end_ms = window_ms.saturating_mul(GUARD_WINDOWS);
    let is_over = seen.watched_ms >= end_ms;
    let ends = |why: String| Follows::Change(Change::EndGuard, why);
    if desired.retired.is_empty() {
        return ends("there is no predecessor any more".to_owned());
    }
    if seen.watched_ms >= window_ms.saturating_mul(GUARD_WINDOWS_MAX) || is_old(desired, here) {
        return ends("its predecessor was seen too long ago".to_owned());
    }
    match judge(config, &seen.active, before, if is_over { Look::AtEnd } else { Look::Early }) {
        Verdict::TakeBack(why) => {
            let why = format!("after it became active, in place of its predecessor: {why}");
            Follows::Change(Change::RollbackActive, why)
        }
        Verdict::Wait(_) | Verdict::GoOn(_) if is_over => {
            let (scored, seconds) = (seen.active.scored, seen.watched_ms / 1000);
            ends(format!(
                "nothing spoke against it in {seconds} s as the active one, {scored} scored requests"
            ))
        }
        Verdict::Wait(why) | Verdict::GoOn(why) => Follows::Wait(why + &so_far(seen.watched_ms, end_ms)),
    }
}

/// Returns whether the active bundle became so long ago, by the clocks of who made it so and of who looks. Figures of
/// another day are no measure, and how long it was watched begins anew with each process.
fn is_old(desired: &Desired, here: &Here<'_>) -> bool {
    let slack_ms = u64::try_from(GUARD_SLACK.as_millis()).unwrap_or(u64::MAX);
    let most_ms = window_ms(here.config).saturating_mul(GUARD_WINDOWS_MAX).saturating_add(slack_ms);
    let age_ms = here.now_ms.saturating_sub(desired.active_since_ms);
    u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > most_ms)
}

fn window_ms(config: &RolloutConfig) -> u64 {
    u64::try_from(config.window.as_millis()).unwrap_or(u64::MAX)
}

fn so_far(watched_ms: u64, of_ms: u64) -> String {
    format!("; watched for {} s of {} s", watched_ms / 1000, of_ms / 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::rollout::{BundleRef, judge::tests::config};

    const MINUTE_MS: u64 = 60_000;
    /// Whatever the clock of a machine says: what it writes down is only ever a name for a step.
    const TIMES_MS: [i64; 3] = [-7_200_000, 1_769_767_200_000, i64::MAX];

    fn version(name: &str) -> BundleRef {
        BundleRef { name: Arc::from(name), sha256: Some(Arc::from(format!("sha of {name}"))) }
    }

    fn seen(asked: u64, failed: u64) -> Observed {
        let mut seen = Observed { asked, scored: asked - failed, ..Observed::default() };
        seen.unscored.failed = failed;
        seen
    }

    fn sums(active: Observed, watched: Observed, watched_ms: u64) -> Sums {
        Sums { active, watched, watched_ms, all_follow: true, ..Sums::default() }
    }

    fn automatic() -> RolloutConfig {
        RolloutConfig { automatic: true, steps: vec![0.05, 0.5], window: Duration::from_secs(60), ..config() }
    }

    fn here(config: &RolloutConfig) -> Here<'_> {
        Here { config, config_sha256: "", now_ms: 0 }
    }

    /// Applies what follows after a minute of good figures for each step, until nothing does.
    fn lead(mut desired: Desired) -> Vec<String> {
        let (config, good) = (automatic(), seen(10_000, 0));
        let mut steps = Vec::new();
        while steps.len() < 20 {
            let minutes = if desired.guard.is_some() { GUARD_WINDOWS } else { 1 };
            let seen = sums(good.clone(), good.clone(), minutes * MINUTE_MS);
            let Follows::Change(change, _) = next(&desired, &here(&config), &seen) else { break };
            desired = desired.changed(&change, TIMES_MS[steps.len() % TIMES_MS.len()], 3).unwrap();
            steps.push(match (&desired.canary, &desired.guard) {
                (Some(canary), _) => format!("{} {}", canary.bundle, canary.reach),
                (None, Some(_)) => format!("{} guarded", desired.active),
                (None, None) => format!("{} active", desired.active),
            });
        }
        steps
    }

    #[test]
    fn a_good_one_is_led_through_every_step() {
        let first = Desired::first(0);
        let shadow = first.changed(&Change::Shadow(version("a")), 0, 3).unwrap();
        assert_eq!(lead(shadow), ["a 5 % of requests", "a 50 % of requests", "a guarded", "a active"]);
        let canary = Change::Canary(version("a"), Reach::Replicas(0.1));
        let canary = first.changed(&canary, 0, 3).unwrap();
        assert_eq!(lead(canary), ["a 50 % of replicas", "a guarded", "a active"]);
        assert!(lead(first).is_empty());
    }

    /// Compares what follows for a canary of this long a watch and these figures.
    #[track_caller]
    fn check(config: &RolloutConfig, watched: &Observed, watched_ms: u64, expected: Option<&Change>) {
        for since_ms in TIMES_MS {
            let canary = Change::Canary(version("a"), Reach::Requests(0.05));
            let desired = Desired::first(0).changed(&canary, since_ms, 3).unwrap();
            let got = next(&desired, &here(config), &sums(seen(10_000, 10), watched.clone(), watched_ms));
            match (&got, expected) {
                (Follows::Change(change, _), Some(expected)) => assert_eq!(change, expected),
                (Follows::Nothing | Follows::Wait(_), None) => {}
                (_, _) => panic!("{got:?}"),
            }
        }
    }

    #[test]
    fn it_waits_goes_on_or_takes_back_whatever_the_clock_says() {
        let config = automatic();
        let further = Change::Canary(version("a"), Reach::Requests(0.5));
        check(&config, &seen(500, 0), MINUTE_MS, Some(&further));
        check(&config, &seen(500, 0), MINUTE_MS - 1, None);
        check(&config, &seen(500, 0), 0, None);
        check(&config, &seen(20, 0), MINUTE_MS * 100, None);
        check(&config, &seen(500, 100), MINUTE_MS, Some(&Change::Rollback));
        check(&config, &seen(50, 50), 0, Some(&Change::Rollback));
        check(&RolloutConfig { automatic: false, ..config }, &seen(500, 100), MINUTE_MS, None);
    }

    #[test]
    fn who_cannot_follow_holds_up_a_step_and_no_rollback() {
        let config = automatic();
        let canary = Change::Canary(version("a"), Reach::Requests(0.05));
        let desired = Desired::first(0).changed(&canary, 0, 3).unwrap();
        let after = |watched: Observed| {
            let seen = Sums { all_follow: false, ..sums(seen(10_000, 10), watched, MINUTE_MS) };
            next(&desired, &here(&config), &seen)
        };
        let Follows::Wait(why) = after(seen(500, 0)) else { panic!("it goes on") };
        assert!(why.contains("holds up"), "{why}");
        assert!(matches!(after(seen(500, 100)), Follows::Change(Change::Rollback, _)));
        // One more than may fail, at this one look of many.
        assert!(matches!(after(seen(500, 12)), Follows::Wait(_)));
    }

    #[test]
    fn a_rollout_without_anything_to_compare_with_says_so() {
        let canary = Change::Canary(version("a"), Reach::Requests(0.05));
        let desired = Desired::first(0).changed(&canary, 0, 3).unwrap();
        let config = automatic();
        let why = |active: Observed, watched: Observed| match next(
            &desired,
            &here(&config),
            &sums(active, watched, MINUTE_MS),
        ) {
            Follows::Wait(why) => why,
            other => panic!("{other:?}"),
        };
        let nothing = Observed::default;
        let all = "all traffic is on the watched bundle (500 requests, none of the active one): nothing to compare with";
        assert_eq!(why(nothing(), seen(500, 0)), all);
        let none = "no traffic is on the watched bundle (500 requests of the active one): nothing to compare";
        assert_eq!(why(seen(500, 0), nothing()), none);
        assert_eq!(why(nothing(), nothing()), "no request asked a classifier: the window is extended");
    }

    #[test]
    fn what_was_promoted_is_guarded_for_a_while() {
        let config = automatic();
        let (good, bad, worse) = (seen(10_000, 10), seen(10_000, 140), seen(10_000, 900));
        let canary = Change::Canary(version("a"), Reach::Requests(0.5));
        let canary = Desired::first(0).changed(&canary, 0, 3).unwrap();
        let Follows::Change(promote, _) =
            next(&canary, &here(&config), &sums(good.clone(), good.clone(), MINUTE_MS))
        else {
            panic!("a good one is promoted")
        };
        let promoted = canary.changed(&promote, 0, 3).unwrap();
        // Read again by whoever looks.
        let text = serde_json::to_string(&promoted).unwrap().replace("sha of a", &"ab".repeat(32));
        let promoted: Desired = serde_json::from_str(&text).unwrap();
        let after = |desired: &Desired, active_seen: &Observed, at_ms: u64| match next(
            desired,
            &here(&config),
            &sums(active_seen.clone(), Observed::default(), at_ms),
        ) {
            Follows::Change(change, _) => Some(change),
            Follows::Nothing | Follows::Wait(_) => None,
        };
        assert_eq!(after(&promoted, &worse, 1000), Some(Change::RollbackActive));
        assert_eq!(after(&promoted, &bad, 2 * MINUTE_MS - 1), None);
        assert_eq!(after(&promoted, &bad, 2 * MINUTE_MS), Some(Change::RollbackActive));
        assert_eq!(after(&promoted, &good, 2 * MINUTE_MS - 1), None);
        assert_eq!(after(&promoted, &good, 2 * MINUTE_MS), Some(Change::EndGuard));
        assert_eq!(after(&promoted, &worse, 4 * MINUTE_MS), Some(Change::EndGuard));
        let ended = promoted.changed(&Change::EndGuard, 0, 3).unwrap();
        assert_eq!(after(&ended, &worse, 1000), None);
        let by_hand = Desired::first(0).changed(&Change::Activate(version("a")), 0, 3).unwrap();
        assert_eq!(after(&by_hand, &worse, 1000), None);
    }

    /// A bundle that became active at this time, guarded by good figures, with a shadow beside it or not.
    fn guarded(at_ms: i64, shadow: Option<&str>) -> Desired {
        let guard = Box::new(Guard::of(&seen(10_000, 10), ""));
        let shadow = shadow.map(|name| Change::Shadow(version(name)));
        let canary = Change::Canary(version("a"), Reach::Requests(0.5));
        let changes = shadow.into_iter().chain([canary, Change::Promote(version("a"), guard)]);
        changes.fold(Desired::first(0), |desired, change| desired.changed(&change, at_ms, 3).unwrap())
    }

    #[test]
    fn a_guard_of_another_day_judges_nobody() {
        const SINCE_MS: i64 = 1_769_767_200_000;
        const DAY_MS: i64 = 24 * 60 * MINUTE_MS as i64;
        /// Four windows and an hour.
        const AGE_MAX_MS: i64 = 64 * MINUTE_MS as i64;
        let (config, desired) = (automatic(), guarded(SINCE_MS, None));
        let check = |now_ms: i64, expected: Change| {
            // As a process that has just begun has seen it.
            let seen = sums(seen(10_000, 900), Observed::default(), 1000);
            match next(&desired, &Here { now_ms, ..here(&config) }, &seen) {
                Follows::Change(change, _) => assert_eq!(change, expected, "{now_ms}"),
                follows => panic!("{follows:?}"),
            }
        };
        check(SINCE_MS, Change::RollbackActive);
        check(SINCE_MS + AGE_MAX_MS, Change::RollbackActive);
        check(SINCE_MS + AGE_MAX_MS + 1, Change::EndGuard);
        check(SINCE_MS + 3 * DAY_MS, Change::EndGuard);
        // A clock that is far behind, or broken.
        check(SINCE_MS - 3 * DAY_MS, Change::RollbackActive);
        check(i64::MIN, Change::RollbackActive);
        check(i64::MAX, Change::EndGuard);
    }

    #[test]
    fn a_shadow_that_was_there_keeps_nobody_from_guarding() {
        let (config, mut desired) = (automatic(), guarded(0, Some("s")));
        assert!(desired.shadow.is_some() && desired.guard.is_some());
        let after = |desired: &Desired, active: &Observed, watched_ms: u64| match next(
            desired,
            &here(&config),
            &sums(active.clone(), seen(10_000, 10), watched_ms),
        ) {
            Follows::Change(change, _) => Some(change),
            Follows::Nothing | Follows::Wait(_) => None,
        };
        let (good, worse) = (seen(10_000, 10), seen(10_000, 900));
        assert_eq!(after(&desired, &worse, 1000), Some(Change::RollbackActive));
        assert_eq!(after(&desired, &good, MINUTE_MS), None);
        assert_eq!(after(&desired, &good, 2 * MINUTE_MS), Some(Change::EndGuard));
        // Then it is the shadow's turn.
        desired = desired.changed(&Change::EndGuard, 1, 3).unwrap();
        let canary = Change::Canary(version("s"), Reach::Requests(0.05));
        assert_eq!(after(&desired, &good, 2 * MINUTE_MS), Some(canary));
    }
}
