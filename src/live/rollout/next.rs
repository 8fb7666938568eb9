//! The wanted state and what was seen -> the next change that the rollout makes by itself, if any. Pure.
//!
//! Never starts anything: an operator makes a bundle the shadow or a canary, and from there this leads it to be active,
//! or takes it back.

use super::{
    judge::{Verdict, judge},
    observed::Observed,
    state::{Change, Desired, Reach},
};
use crate::config::RolloutConfig;

/// A new active bundle is compared with its predecessor for so many windows: in the first only what is clearly terrible
/// counts, at its end and in the second every limit does.
const GUARD_WINDOWS: i64 = 2;

/// Returns what is to change, and why in words.
///
/// `watched` is what was seen of the canary, or of the shadow where there is none, since its step began; `active` what
/// was seen of the active bundle in the same time. `baseline` is what had been seen of its predecessor when a change
/// that came from here activated the active bundle: while it is given, the bundle is guarded. With a canary or a shadow
/// beside it, or after an operator's activation, nothing is.
pub fn next(
    desired: &Desired,
    config: &RolloutConfig,
    active: &Observed,
    watched: &Observed,
    baseline: Option<&Observed>,
    now_ms: i64,
) -> Option<(Change, String)> {
    if !config.automatic {
        return None;
    }
    let since = |since_ms: i64| now_ms.saturating_sub(since_ms).max(0);
    let (verdict, further) = if let Some(canary) = &desired.canary {
        let verdict = judge(config, watched, active, since(canary.since_ms));
        (verdict, step(config, desired, Some(canary.reach)))
    } else if let Some(shadow) = &desired.shadow {
        (judge(config, watched, active, since(shadow.since_ms)), step(config, desired, None))
    } else {
        return guard(desired, config, active, baseline?, since(desired.active_since_ms));
    };
    match verdict {
        Verdict::Wait(_) => None,
        Verdict::GoOn(why) => Some((further?, why)),
        Verdict::TakeBack(why) => Some((Change::Rollback, why)),
    }
}

/// Returns the step after this reach; the first one without any, and after the last one the activation.
fn step(config: &RolloutConfig, desired: &Desired, reach: Option<Reach>) -> Option<Change> {
    let canary = desired.canary.as_ref().map(|canary| &canary.bundle);
    let bundle = canary.or(desired.shadow.as_ref().map(|shadow| &shadow.bundle))?.clone();
    let share = reach.map_or(0.0, Reach::share);
    let further = config.steps.iter().copied().find(|&step| step > share);
    Some(match further {
        Some(step) => {
            Change::Canary(bundle, reach.map_or(Reach::Requests(step), |reach| reach.with_share(step)))
        }
        None => Change::Activate(bundle),
    })
}

/// Takes a new active bundle back while that is this rollout's own doing.
fn guard(
    desired: &Desired,
    config: &RolloutConfig,
    active: &Observed,
    before: &Observed,
    active_ms: i64,
) -> Option<(Change, String)> {
    let window_ms = i64::try_from(config.window.as_millis()).unwrap_or(i64::MAX);
    if desired.retired.is_empty() || active_ms > window_ms.saturating_mul(GUARD_WINDOWS) {
        return None;
    }
    match judge(config, active, before, active_ms) {
        Verdict::Wait(_) | Verdict::GoOn(_) => None,
        Verdict::TakeBack(why) => {
            Some((Change::Rollback, format!("after it became active, in place of its predecessor: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::live::rollout::{BundleRef, judge::tests::config};

    const MINUTE_MS: i64 = 60_000;

    fn version(name: &str) -> BundleRef {
        BundleRef { name: Arc::from(name), sha256: Some(Arc::from(format!("sha of {name}"))) }
    }

    fn seen(asked: u64, failed: u64) -> Observed {
        let mut seen = Observed { asked, scored: asked - failed, ..Observed::default() };
        seen.unscored.failed = failed;
        seen
    }

    fn automatic() -> RolloutConfig {
        RolloutConfig { automatic: true, steps: vec![0.05, 0.5], window: Duration::from_secs(60), ..config() }
    }

    /// Applies what follows after each minute of good figures, until nothing does.
    fn lead(mut desired: Desired) -> Vec<String> {
        let (config, good) = (automatic(), seen(10_000, 0));
        let mut steps = Vec::new();
        for minute in 1..20 {
            let at_ms = minute * MINUTE_MS;
            let Some((change, _)) = next(&desired, &config, &good, &good, None, at_ms) else { break };
            desired = desired.changed(&change, at_ms, 3).unwrap();
            steps.push(match &desired.canary {
                Some(canary) => format!("{} {}", canary.bundle, canary.reach),
                None => format!("{} active", desired.active),
            });
        }
        steps
    }

    #[test]
    fn a_good_one_is_led_through_every_step() {
        let first = Desired::first(0);
        let shadow = first.changed(&Change::Shadow(version("a")), 0, 3).unwrap();
        assert_eq!(lead(shadow), ["a 5 % of requests", "a 50 % of requests", "a active"]);
        let canary = Change::Canary(version("a"), Reach::Replicas(0.1));
        let canary = first.changed(&canary, 0, 3).unwrap();
        assert_eq!(lead(canary), ["a 50 % of replicas", "a active"]);
        assert!(lead(first).is_empty());
    }

    /// Compares what follows for a canary of this long a watch and these figures.
    #[track_caller]
    fn check(config: &RolloutConfig, watched: &Observed, watched_ms: i64, expected: Option<&Change>) {
        let canary = Change::Canary(version("a"), Reach::Requests(0.05));
        let desired = Desired::first(0).changed(&canary, 0, 3).unwrap();
        let got = next(&desired, config, &seen(10_000, 10), watched, None, watched_ms);
        assert_eq!(got.as_ref().map(|(change, _)| change), expected, "{got:?}");
    }

    #[test]
    fn it_waits_goes_on_or_takes_back() {
        let config = automatic();
        let further = Change::Canary(version("a"), Reach::Requests(0.5));
        check(&config, &seen(500, 0), MINUTE_MS, Some(&further));
        check(&config, &seen(500, 0), MINUTE_MS - 1, None);
        check(&config, &seen(500, 0), -5, None);
        check(&config, &seen(20, 0), MINUTE_MS * 100, None);
        check(&config, &seen(500, 100), MINUTE_MS, Some(&Change::Rollback));
        check(&config, &seen(50, 50), 0, Some(&Change::Rollback));
        check(&RolloutConfig { automatic: false, ..config }, &seen(500, 100), MINUTE_MS, None);
    }

    #[test]
    fn what_was_promoted_is_guarded_for_a_while() {
        let config = automatic();
        let active = Desired::first(0).changed(&Change::Activate(version("a")), 0, 3).unwrap();
        let (good, bad) = (seen(10_000, 10), seen(10_000, 900));
        let after = |active_seen: &Observed, baseline: Option<&Observed>, at_ms: i64| {
            next(&active, &config, active_seen, &Observed::default(), baseline, at_ms)
                .map(|(change, _)| change)
        };
        assert_eq!(after(&bad, Some(&good), 1000), Some(Change::Rollback));
        assert_eq!(after(&bad, Some(&good), 2 * MINUTE_MS), Some(Change::Rollback));
        assert_eq!(after(&bad, Some(&good), 2 * MINUTE_MS + 1), None);
        assert_eq!(after(&good, Some(&good), MINUTE_MS), None);
        assert_eq!(after(&bad, None, MINUTE_MS), None);
    }
}
