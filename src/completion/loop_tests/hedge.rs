//! Two targets beside each other: the first good answer wins, the other one is dropped and paid for.

use super::{
    fake::{Play, fails, fails_again, hangs, play},
    world::{LONG, LONG_REFUSAL, PROMPT_TOKENS, REFUSAL, SHORT, World, index, ms, story},
};
use crate::{
    completion::{
        answer::Finish,
        attempt::{Again, Check, ErrorKind},
        breaker::Substitute,
        clock,
    },
    config::{Config, HedgeConfig},
    prompt::Tier,
};

fn hedged(config: &mut Config) {
    config.completion.hedge = Some(HedgeConfig { quantile: 0.95, delay_min: ms(500), tiers: Vec::new() });
}

fn slow(ms: u64) -> Play {
    play().wait(ms).text(SHORT).finishes().uses(10, 5)
}

fn world(plays: Vec<(&str, Vec<Play>)>) -> World {
    World::with(hedged, plays)
}

/// Completes and streams; both must tell the same story and take the same time.
async fn check(plays: &[(&str, Vec<Play>)], expected: &str, took_ms: u64) {
    let it = world(plays.to_vec());
    let summary = it.complete().await.unwrap().summary;
    assert_eq!((story(&summary.attempts).as_str(), it.age()), (expected, ms(took_ms)), "whole");
    let it = world(plays.to_vec());
    let read = it.read().await;
    assert_eq!((read.story().as_str(), it.age()), (expected, ms(took_ms)), "streamed");
    assert_eq!(it.fake.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_target_starts_after_the_delay_and_the_first_good_answer_wins() {
    let a = |ms| ("a", vec![slow(ms)]);
    let b = |ms| ("b", vec![slow(ms)]);
    check(&[a(400)], "a first answered", 400).await;
    check(&[a(900), b(900)], "a first answered, b hedge lost", 900).await;
    check(&[a(900), b(300)], "a first lost, b hedge answered", 800).await;
    let it = world(vec![a(5_000), b(300)]);
    let summary = it.complete().await.unwrap().summary;
    assert_eq!(it.times("a"), [(0, Some(800))], "the loser ends at once");
    assert_eq!(it.times("b"), [(500, Some(800))]);
    assert_eq!(summary.target.id.0.as_ref(), "b");
    assert!(!summary.escalated);
    // Both are paid for: the loser by estimate, its prompt and what it can have said in 800 ms, at 50 tokens a second.
    let costs: Vec<f64> = summary.attempts.iter().map(|attempt| attempt.cost_usd).collect();
    assert_eq!(costs, [(PROMPT_TOKENS as f64 + 40.0 * 2.0) / 1e6, 20e-6]);
    assert!(summary.attempts[0].estimated && summary.estimated);
    assert_eq!(summary.cost_usd, costs.iter().sum::<f64>());
    assert!((it.spent_usd() - summary.cost_usd).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn a_losing_stream_is_dropped_before_the_first_part_is_sent() {
    let it = world(vec![
        ("a", vec![play().thinks("Hm. ").hangs()]),
        ("b", vec![LONG.iter().fold(play(), |play, text| play.text(text)).wait(2_000).finishes()]),
    ]);
    let streaming = it.stream().await.unwrap();
    assert_eq!(it.times("a"), [(0, Some(500))]);
    assert_eq!(story(&streaming.opening.attempts), "a first lost");
    let read = super::world::read(Ok(streaming)).await;
    assert_eq!((read.text(), it.age()), (LONG.concat().as_str(), ms(2_500)));
}

#[tokio::test(start_paused = true)]
async fn when_one_fails_the_other_answers() {
    let broken = |ms| play().wait(ms).breaks(ErrorKind::NotFound);
    check(&[("a", vec![broken(700)]), ("b", vec![slow(600)])], "a first not_found, b hedge answered", 1_100)
        .await;
    check(
        &[("a", vec![slow(1_000)]), ("b", vec![broken(100)])],
        "a first answered, b hedge not_found",
        1_000,
    )
    .await;
    check(
        &[("a", vec![broken(700)]), ("b", vec![broken(600)]), ("c", vec![slow(100)])],
        "a first not_found, b hedge not_found, c climb answered",
        1_200,
    )
    .await;
    // One that fails before the delay needs no hedge.
    check(&[("a", vec![broken(100)]), ("b", vec![slow(100)])], "a first not_found, b failover answered", 200)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_weak_answer_waits_for_the_other_side() {
    let refuses = |ms| play().wait(ms).text(REFUSAL).finishes();
    check(&[("a", vec![refuses(600)]), ("b", vec![slow(400)])], "a first refusal, b hedge answered", 900)
        .await;
    check(&[("a", vec![slow(900)]), ("b", vec![refuses(100)])], "a first answered, b hedge refusal", 900)
        .await;
    // Both weak: a tier up.
    check(
        &[("a", vec![refuses(600)]), ("b", vec![refuses(400)]), ("c", vec![slow(100)])],
        "a first refusal, b hedge refusal, c escalation answered",
        1_000,
    )
    .await;
}

/// The better of two weak answers was dropped and looked for later, in vain.
#[tokio::test(start_paused = true)]
async fn of_two_weak_sides_the_better_is_kept() {
    let empty = |ms| play().wait(ms).finishes();
    let cut = |ms| play().wait(ms).text("Paris is").finishes_by(Finish::Length);
    let down = || vec![fails(ErrorKind::NotFound)];
    for (a, b, best) in
        [(empty(600), cut(400), "b"), (cut(600), empty(400), "a"), (cut(900), empty(100), "a")]
    {
        let plays = || {
            vec![
                ("a", vec![a.clone()]),
                ("b", vec![b.clone()]),
                ("c", down()),
                ("d", down()),
                ("e", down()),
                ("f", down()),
            ]
        };
        let completion = world(plays()).complete().await.unwrap();
        assert_eq!(completion.summary.target.id.0.as_ref(), best);
        assert_eq!(completion.summary.weak.unwrap().check, Check::Truncated);
        let read = world(plays()).read().await;
        assert_eq!((read.summary().target.id.0.as_ref(), read.text()), (best, "Paris is"));
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_third_target_and_none_of_another_tier() {
    check(
        &[("a", vec![play().wait(100).breaks(ErrorKind::NotFound)]), ("b", vec![slow(3_000)])],
        "a first not_found, b failover answered",
        3_100,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_the_configured_tiers_hedge() {
    let tiers = |tiers: Vec<Tier>| {
        move |config: &mut Config| {
            hedged(config);
            config.completion.hedge.as_mut().unwrap().tiers = tiers;
        }
    };
    let it = World::with(tiers(vec![Tier(1)]), vec![("a", vec![slow(900)])]);
    assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered");
    let it = World::with(tiers(vec![Tier(0)]), vec![("a", vec![slow(900)]), ("b", vec![slow(900)])]);
    assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered, b hedge lost");
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_hedges() {
    for limit in [
        (|config: &mut Config| config.completion.attempts_max = 1) as fn(&mut Config),
        // Two calls are expected to cost 424 millionths.
        |config| config.completion.cost_usd_max = Some(400e-6),
    ] {
        let it = World::with(
            |config| {
                hedged(config);
                limit(config);
            },
            vec![("a", vec![slow(900)])],
        );
        assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered");
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_end_at_the_deadline() {
    let it = World::with(
        |config| {
            hedged(config);
            config.completion.deadline = ms(2_000);
        },
        vec![("a", vec![hangs()]), ("b", vec![hangs()])],
    );
    let failure = it.complete().await.unwrap_err();
    assert_eq!(
        (story(&failure.attempts).as_str(), it.age()),
        ("a first deadline, b hedge deadline", ms(2_000))
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_hangs_up_ends_both() {
    let it = world(vec![("a", vec![hangs()]), ("b", vec![hangs()])]);
    assert!(tokio::time::timeout(ms(700), it.complete()).await.is_err());
    assert_eq!((it.times("a"), it.times("b")), (vec![(0, Some(700))], vec![(500, Some(700))]));
    let unheard = (35.0 + 10.0) * 2.0;
    assert!((it.spent_usd() - (2.0 * PROMPT_TOKENS as f64 + unheard) / 1e6).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_left_alone_is_no_hedge() {
    let limited = fails_again(ErrorKind::RateLimited, Again::After(ms(3_000)));
    let it = World::with(
        |config| {
            hedged(config);
            config.completion.breaker.failures = 2;
        },
        vec![("a", vec![limited, slow(900)])],
    );
    let opens = async {
        tokio::time::sleep(ms(1_000)).await;
        for _ in 0..2 {
            it.completer
                .breakers
                .admit(index("b"), clock(), Substitute::Ready)
                .unwrap()
                .failed(ErrorKind::Server);
        }
    };
    let (completion, ()) = tokio::join!(it.complete(), opens);
    assert_eq!(story(&completion.unwrap().summary.attempts), "a first rate_limited, a retry answered");
}

/// Its target did answer.
#[tokio::test(start_paused = true)]
async fn a_weak_stream_that_is_left_for_the_other_side_counts_as_an_answer() {
    let weak = LONG_REFUSAL.iter().fold(play().wait(600), |play, text| play.text(text)).hangs();
    let it = world(vec![("a", vec![weak]), ("b", vec![slow(400)])]);
    assert_eq!(it.read().await.story(), "a first refusal, b hedge answered");
    let states = it.completer.breakers.states(clock());
    assert_eq!((states[index("a").0].calls, states[index("a").0].failures), (1, 0));
    assert_eq!(it.times("a"), [(0, Some(900))]);
}

/// Were slow times that lost forgotten, the delay would only ever shrink; were the time until they lost taken for
/// their own, it would grow with each until nobody is asked beside a target that hangs.
#[tokio::test(start_paused = true)]
async fn targets_that_lose_for_being_slow_leave_the_delay_as_it_is() {
    let it = world(vec![("a", vec![slow(20_000)]), ("b", vec![slow(400)])]);
    for _ in 0..100 {
        it.complete().await.unwrap();
    }
    let (began, _) = *it.times("a").last().unwrap();
    let (began_b, _) = *it.times("b").last().unwrap();
    assert_eq!(began_b - began, 500);

    let pace = |ms| (0..20).map(move |_| slow(ms));
    let a: Vec<Play> = pace(1_000).chain(pace(20_000)).collect();
    let it = world(vec![("a", a), ("b", vec![slow(5_000)])]);
    for _ in 0..40 {
        it.complete().await.unwrap();
    }
    let (began, _) = *it.times("a").last().unwrap();
    let (began_b, _) = *it.times("b").last().unwrap();
    assert_eq!(began_b - began, 1_000);
}
