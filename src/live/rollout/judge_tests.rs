use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::live::rollout::observed::Latencies;

const EARLY: Look = Look::Early;
const AT_END: Look = Look::AtEnd;

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
fn check(change: impl FnOnce(&mut Observed), look: Look, expected: &str) {
    let mut watched = good(200);
    change(&mut watched);
    let verdict = judge(&config(), &watched, &good(4000), look);
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
    check(|_| {}, AT_END, "go on: no limit was broken: 200 scored requests beside 4000 of the active bundle");
    let failed =
        "take back: the classifier failed on 10.0 %, 0.0 % with the active bundle; at most 1 points more";
    check(|seen| fails(seen, 0.1), AT_END, failed);
    check(|seen| fails(seen, 0.005), AT_END, "wait: 199 of 200 scored requests");
    let unscored = |seen: &mut Observed| (seen.asked, seen.unscored.too_late) = (250, 50);
    check(
        unscored,
        AT_END,
        "take back: no scores for 20.0 %, 0.0 % with the active bundle; at most 2 points",
    );
    check(|seen| takes(seen, 20), AT_END, "take back: 95 % of its prompts take the processor up to 2");
    check(|seen| takes(seen, 5), AT_END, "go on");
    let shift = |seen: &mut Observed| seen.tiers = [("reasoning".to_owned(), 200)].into();
    check(
        shift,
        AT_END,
        "take back: tier reasoning gets 100.0 %, 5.0 % with the active bundle; at most 15 points",
    );
    let escalates = |seen: &mut Observed| (seen.escalated, seen.weak) = (10, 20);
    check(escalates, AT_END, "take back: escalated or weak completions are 30.0 %, 4.0 % with");
    let displeases = |seen: &mut Observed| (seen.good, seen.bad) = (5.0, 30.0);
    check(displeases, AT_END, "take back: bad feedback is 85.7 %, 16.7 % with");
}

#[test]
fn what_is_terrible_does_not_wait_and_what_is_unlucky_does() {
    let only = |asked: u64, share: f64| {
        move |seen: &mut Observed| {
            *seen = good(asked);
            fails(seen, share);
        }
    };
    check(only(50, 1.0), EARLY, "take back: the classifier failed on 100.0 %");
    check(only(49, 1.0), EARLY, "wait: 49 requests so far, too few to judge");
    check(only(100, 0.04), EARLY, "wait: nothing speaks against it so far");
    check(only(100, 0.04), AT_END, "wait: 96 of 200 scored requests: the window is extended");
    check(only(100, 0.5), AT_END, "take back: the classifier failed on 50.0 %");
}

#[test]
fn what_did_not_fit_into_the_shadows_queue_is_named_while_it_is_waited_for() {
    let few = |asked: u64| move |seen: &mut Observed| *seen = Observed { dropped: 700, ..good(asked) };
    check(
        few(40),
        EARLY,
        "wait: 40 requests so far, too few to judge (700 more did not fit into the shadow's queue)",
    );
    let why = "wait: 100 of 200 scored requests (700 more did not fit into the shadow's queue): the window is extended";
    check(few(100), AT_END, why);
    check(few(0), AT_END, "wait: 0 of 200 scored requests (700 more did not fit");
}

#[test]
fn without_anything_to_compare_with_only_a_broken_one_is_taken_back() {
    let (config, nothing) = (config(), Observed::default());
    let mut broken = good(200);
    fails(&mut broken, 1.0);
    let verdict = judge(&config, &broken, &nothing, AT_END);
    assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
    let verdict = judge(&config, &good(200), &nothing, AT_END);
    let expected = "all traffic is on the watched bundle (200 requests, none of the active one): nothing to compare with";
    assert_eq!(verdict, Verdict::Wait(expected.to_owned()));
}

#[test]
fn a_bundle_that_fails_like_the_active_one_is_not_promoted() {
    let (mut watched, mut active) = (good(1000), good(1000));
    fails(&mut watched, 1.0);
    fails(&mut active, 1.0);
    assert!(matches!(judge(&config(), &watched, &active, AT_END), Verdict::Wait(_)));
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
        watched in anything(), active in anything(), more in 1_u64..100, look in prop_oneof![Just(EARLY), Just(AT_END)],
    ) {
        let taken_back = |seen: &Observed| matches!(judge(&config(), seen, &active, look), Verdict::TakeBack(_));
        let mut worse = watched.clone();
        worse.asked += more;
        worse.unscored.failed += more;
        prop_assert!(!taken_back(&watched) || taken_back(&worse));
    }

    #[test]
    fn a_bundle_never_loses_against_itself(seen in anything(), look in prop_oneof![Just(EARLY), Just(AT_END)]) {
        // With as many samples on both sides; alone it may fail.
        if seen.asked >= COMPARABLE_MIN {
            let verdict = judge(&config(), &seen, &seen, look);
            prop_assert!(!matches!(verdict, Verdict::TakeBack(_)), "{:?}", verdict);
        }
    }
}
