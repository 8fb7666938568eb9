use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::live::rollout::observed::Latencies;

const WINDOW_MS: i64 = 600_000;

/// The built-in settings.
pub fn config() -> RolloutConfig {
    RolloutConfig::default()
}

/// A bundle of which this many requests were scored without anything to object to.
fn good(scored: u64) -> Observed {
    let mut seen = Observed { asked: scored, scored, ..Observed::default() };
    for (tier, per_cent) in [("simple", 50), ("moderate", 30), ("complex", 15), ("reasoning", 5)] {
        seen.add_tier(tier, scored * per_cent / 100);
    }
    seen.latencies.add_to(Latencies::bucket_of(Duration::from_millis(2)), scored * 9 / 10);
    seen.latencies.add_to(Latencies::bucket_of(Duration::from_millis(5)), scored - scored * 9 / 10);
    seen.completions = scored / 2;
    seen.escalated = scored / 50;
    seen.good = scored as f64 / 20.0;
    seen.bad = scored as f64 / 100.0;
    seen
}

#[track_caller]
fn check(change: impl FnOnce(&mut Observed), watched_ms: i64, expected: &str) {
    let mut watched = good(200);
    change(&mut watched);
    let verdict = judge(&config(), &watched, &good(4000), watched_ms);
    let got = match verdict {
        Verdict::Wait(why) => format!("wait: {why}"),
        Verdict::GoOn(why) => format!("go on: {why}"),
        Verdict::TakeBack(why) => format!("take back: {why}"),
    };
    assert!(got.starts_with(expected), "{got}");
}

fn fails(seen: &mut Observed, share: f64) {
    let failed = (seen.asked as f64 * share) as u64;
    seen.unscored.failed = failed;
    seen.scored -= failed;
}

fn takes(seen: &mut Observed, ms: u64) {
    seen.latencies = Latencies::default();
    seen.latencies.add_to(Latencies::bucket_of(Duration::from_millis(ms)), seen.scored);
}

#[test]
fn every_limit_is_looked_at_and_named() {
    check(
        |_| {},
        WINDOW_MS,
        "go on: no limit was broken: 200 scored requests beside 4000 of the active bundle",
    );
    let failed =
        "take back: the classifier failed on 10.0 %, 0.0 % with the active bundle; at most 1 points more";
    check(|seen| fails(seen, 0.1), WINDOW_MS, failed);
    check(|seen| fails(seen, 0.005), WINDOW_MS, "wait: 199 of 200 scored requests");
    let unscored = |seen: &mut Observed| (seen.asked, seen.unscored.too_late) = (250, 50);
    check(
        unscored,
        WINDOW_MS,
        "take back: no scores for 20.0 %, 0.0 % with the active bundle; at most 2 points",
    );
    check(|seen| takes(seen, 20), WINDOW_MS, "take back: 95 % of its prompts take up to 2");
    check(|seen| takes(seen, 5), WINDOW_MS, "go on");
    let shift = |seen: &mut Observed| seen.tiers = [("reasoning".to_owned(), 200)].into();
    check(
        shift,
        WINDOW_MS,
        "take back: tier reasoning gets 100.0 %, 5.0 % with the active bundle; at most 15 points",
    );
    let escalates = |seen: &mut Observed| (seen.escalated, seen.weak) = (10, 20);
    check(escalates, WINDOW_MS, "take back: escalated or weak completions are 30.0 %, 4.0 % with");
    let displeases = |seen: &mut Observed| (seen.good, seen.bad) = (5.0, 30.0);
    check(displeases, WINDOW_MS, "take back: bad feedback is 85.7 %, 16.7 % with");
}

#[test]
fn what_is_terrible_does_not_wait_and_what_is_unlucky_does() {
    let only = |asked: u64, share: f64| {
        move |seen: &mut Observed| {
            *seen = good(asked);
            fails(seen, share);
        }
    };
    check(only(50, 1.0), 1000, "take back: the classifier failed on 100.0 %");
    check(only(49, 1.0), 1000, "wait: 49 requests so far, too few to judge");
    check(only(100, 0.04), 1000, "wait: nothing speaks against it so far; watched for 1 s of 600 s");
    check(only(100, 0.04), WINDOW_MS, "wait: 96 of 200 scored requests: the window is extended");
    check(only(100, 0.5), WINDOW_MS, "take back: the classifier failed on 50.0 %");
}

#[test]
fn without_anything_to_compare_with_only_a_broken_one_is_taken_back() {
    let (config, nothing) = (config(), Observed::default());
    let mut broken = good(200);
    fails(&mut broken, 1.0);
    let verdict = judge(&config, &broken, &nothing, WINDOW_MS);
    assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
    let verdict = judge(&config, &good(200), &nothing, WINDOW_MS);
    let expected = "0 of 200 scored requests of the active bundle: the window is extended";
    assert_eq!(verdict, Verdict::Wait(expected.to_owned()));
}

#[test]
fn a_bundle_that_fails_like_the_active_one_is_not_promoted() {
    let (mut watched, mut active) = (good(1000), good(1000));
    fails(&mut watched, 1.0);
    fails(&mut active, 1.0);
    assert!(matches!(judge(&config(), &watched, &active, WINDOW_MS), Verdict::Wait(_)));
}

prop_compose! {
    fn anything()(
        scored in 0_u64..500, failed in 0_u64..200, late in 0_u64..50, tiers in prop::array::uniform4(0_u64..200),
        completions in 0_u64..300, escalated in 0_u64..300, bad in 0.0_f64..50.0, good in 0.0_f64..50.0,
        buckets in prop::collection::vec((0_u8..217, 0_u64..100), 0..6),
    ) -> Observed {
        let mut seen = Observed { asked: scored + failed + late, scored, completions, good, bad, ..Observed::default() };
        (seen.unscored.failed, seen.unscored.too_late) = (failed, late);
        seen.escalated = escalated.min(completions);
        for (at, count) in tiers.into_iter().enumerate() {
            seen.add_tier(&at.to_string(), count);
        }
        for (bucket, count) in buckets {
            seen.latencies.add_to(bucket, count);
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn more_failures_never_save_a_bundle(
        watched in anything(), active in anything(), more in 1_u64..100, at_ms in 0..2 * WINDOW_MS,
    ) {
        let taken_back = |seen: &Observed| matches!(judge(&config(), seen, &active, at_ms), Verdict::TakeBack(_));
        let mut worse = watched.clone();
        worse.asked += more;
        worse.unscored.failed += more;
        prop_assert!(!taken_back(&watched) || taken_back(&worse));
    }

    #[test]
    fn a_bundle_never_loses_against_itself(seen in anything(), at_ms in 0..2 * WINDOW_MS) {
        // With as many samples on both sides; alone it may fail.
        if seen.asked >= COMPARABLE_MIN {
            let verdict = judge(&config(), &seen, &seen, at_ms);
            prop_assert!(!matches!(verdict, Verdict::TakeBack(_)), "{:?}", verdict);
        }
    }
}
