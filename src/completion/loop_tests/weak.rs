//! Weak answers: escalation, the best of them when nothing is better, checks that are off.

use super::{
    fake::{fails, hangs, play, says},
    world::{LONG, LONG_REFUSAL, PROMPT, REFUSAL, SHORT, World, ms, story},
};
use crate::{
    completion::{
        answer::Finish,
        attempt::{Check, ErrorKind},
        chat::{Asks, JsonAsk},
    },
    config::OnWeak,
    prompt::Draft,
};

#[tokio::test(start_paused = true)]
async fn a_weak_answer_goes_one_tier_up() {
    let plays = || vec![("a", vec![says(&[REFUSAL])]), ("c", vec![says(&[SHORT])])];
    let world = World::new(plays());
    let completion = world.complete().await.unwrap();
    assert_eq!(story(&completion.summary.attempts), "a first refusal, c escalation answered");
    assert_eq!(completion.answer.view.text, SHORT);
    assert!(completion.summary.weak.is_none() && completion.summary.escalated);
    let read = World::new(plays()).read().await;
    assert_eq!((read.text(), read.story().as_str()), (SHORT, "a first refusal, c escalation answered"));
    assert!(read.summary().escalated);
    let opening = read.opening.unwrap();
    assert_eq!((story(&opening.attempts).as_str(), &*opening.tier), ("a first refusal", "mid"));
}

#[tokio::test(start_paused = true)]
async fn each_weakness_escalates() {
    for (weak, check) in [
        (play().finishes().uses(10, 0), "empty"),
        (play().thinks("Well, France ").text(" \n").finishes(), "empty"),
        (says(&[REFUSAL]), "refusal"),
        (play().text("Paris is").finishes_by(Finish::Length), "truncated"),
        (says(&["Paris and so on. ".repeat(60).as_str()]), "repetition"),
    ] {
        let expected = format!("a first {check}, c escalation answered");
        let plays = || vec![("a", vec![weak.clone()]), ("c", vec![says(&[SHORT])])];
        let world = World::new(plays());
        assert_eq!(story(&world.complete().await.unwrap().summary.attempts), expected);
        // The guard sees only the start of long answers.
        if check != "repetition" {
            assert_eq!(World::new(plays()).read().await.story(), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn json_that_was_asked_for_and_is_none_escalates() {
    let prose = says(&["The capital is Paris, of course, and I hope that this helps you along."]);
    let world =
        World::new(vec![("a", vec![prose.clone(), prose]), ("c", vec![says(&["{\"capital\": \"Paris\"}"])])]);
    let job = || world.job_of(Draft::from_text(PROMPT), Asks { json: JsonAsk::Object, ..Asks::default() });
    let summary = world.completer.complete(world.router.clone(), job()).await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first json, c escalation answered");
    let read = super::world::read(world.completer.stream(world.router.clone(), job()).await).await;
    assert_eq!(read.story(), "a first json, c escalation answered");
    assert_eq!(read.text(), "{\"capital\": \"Paris\"}");
}

#[tokio::test(start_paused = true)]
async fn when_all_above_fail_the_weak_answer_is_returned_and_marked() {
    let down = || vec![fails(ErrorKind::NotFound)];
    let plays =
        || vec![("a", vec![says(&[REFUSAL])]), ("c", down()), ("d", down()), ("e", down()), ("f", down())];
    let expected = "a first refusal, c escalation not_found, d failover not_found, e climb not_found, \
                    f failover not_found";
    let completion = World::new(plays()).complete().await.unwrap();
    assert_eq!(story(&completion.summary.attempts), expected);
    assert_eq!(completion.answer.view.text, REFUSAL);
    assert_eq!(completion.summary.weak.as_ref().unwrap().check, Check::Refusal);
    assert!(!completion.summary.escalated);
    let read = World::new(plays()).read().await;
    assert_eq!((read.text(), read.story().as_str()), (REFUSAL, expected));
    assert_eq!(read.summary().weak.as_ref().unwrap().check, Check::Refusal);
    assert_eq!(read.opening.unwrap().weak.unwrap().check, Check::Refusal);
}

/// What was held and what follows come together as one stream, in order, however long the pause was.
#[tokio::test(start_paused = true)]
async fn a_paused_stream_goes_on_where_it_stopped() {
    let weak = LONG_REFUSAL.iter().fold(play(), |play, text| play.text(text).wait(50)).finishes().uses(9, 40);
    let slow = || vec![play().wait(9_000).breaks(ErrorKind::NotFound)];
    let world = World::with(
        |config| {
            for target in &mut config.targets {
                target.timeouts.total = ms(10_000);
                target.timeouts.between_tokens = ms(1_000);
            }
        },
        vec![("a", vec![weak]), ("c", slow()), ("d", slow()), ("e", slow()), ("f", slow())],
    );
    let read = world.read().await;
    assert_eq!(read.text(), LONG_REFUSAL.concat());
    let summary = read.summary();
    assert_eq!(summary.weak.as_ref().unwrap().check, Check::Refusal);
    assert_eq!(summary.target.id.0.as_ref(), "a");
    assert_eq!((summary.usage.input_tokens, summary.usage.output_tokens, summary.estimated), (9, 40, false));
    assert_eq!(world.age(), ms(36_200), "four slow failures, and the four pauses of the answer");
    assert_eq!(world.fake.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_weak_stream_that_is_left_ends_at_once() {
    let weak = play().text(LONG_REFUSAL[0]).text(LONG_REFUSAL[1]).hangs();
    let good = LONG.iter().fold(play(), |play, text| play.wait(100).text(text)).finishes().uses(10, 20);
    let world = World::new(vec![("a", vec![weak]), ("c", vec![good])]);
    let read = world.read().await;
    assert_eq!(read.text(), LONG.concat());
    assert_eq!(world.times("a"), [(0, Some(200))], "as soon as the better one may be sent");
    let left = &read.summary().attempts[0];
    assert!(left.estimated && left.cost_usd > 0.0);
    assert_eq!(left.latency, ms(0), "it took no longer because others were asked");
    // Its target did answer.
    let state = &world.completer.breakers.states(world.started.into_std())[0];
    assert_eq!((state.calls, state.failures), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn of_several_weak_answers_the_least_bad_is_returned() {
    let empty = || vec![play().finishes()];
    let cut = || vec![play().text("Paris is").finishes_by(Finish::Length)];
    let check = async |low: Vec<_>, mid: Vec<_>, top: Vec<_>, expected: &str| {
        let plays = || vec![("a", low.clone()), ("c", mid.clone()), ("e", top.clone())];
        let completion = World::new(plays()).complete().await.unwrap();
        assert_eq!(completion.summary.target.id.0.as_ref(), expected);
        assert!(completion.summary.weak.is_some());
        assert_eq!(completion.summary.attempts.len(), 3);
        let world = World::new(plays());
        let read = world.read().await;
        assert_eq!(read.summary().target.id.0.as_ref(), expected);
        assert_eq!(read.view.text, completion.answer.view.text);
        assert_eq!(world.fake.alive(), 0);
    };
    let refusal = || vec![says(&[REFUSAL])];
    check(cut(), refusal(), empty(), "a").await;
    check(refusal(), cut(), empty(), "c").await;
    check(empty(), refusal(), cut(), "e").await;
    check(refusal(), refusal(), refusal(), "e").await;
    check(empty(), refusal(), refusal(), "e").await;
    check(cut(), cut(), refusal(), "c").await;
}

#[tokio::test(start_paused = true)]
async fn weak_answers_may_be_marked_alone() {
    let mark = || {
        World::with(|config| config.completion.on_weak = OnWeak::Mark, vec![("a", vec![says(&[REFUSAL])])])
    };
    let summary = mark().complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first refusal");
    assert_eq!(summary.weak.unwrap().check, Check::Refusal);
    let read = mark().read().await;
    assert_eq!((read.text(), read.summary().weak.is_some()), (REFUSAL, true));
}

#[tokio::test(start_paused = true)]
async fn checks_may_be_off() {
    let world = World::with(|config| config.completion.checks.clear(), vec![("a", vec![says(&[REFUSAL])])]);
    let summary = world.complete().await.unwrap().summary;
    assert_eq!((story(&summary.attempts).as_str(), summary.weak), ("a first answered", None));
    assert!(world.read().await.summary().weak.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_weak_answer_at_hand_counts_against_the_cost_limit() {
    // a: 10 and 5 tokens at 1 and 2 dollars a million; c is expected to take 12 and 100 at 10 and 20.
    let cost_of_weak = 20e-6;
    let cost_of_next = 2120e-6;
    for (most, expected) in [
        (cost_of_next + 0.9 * cost_of_weak, "a first refusal"),
        (1.0, "a first refusal, c escalation answered"),
    ] {
        let plays = || vec![("a", vec![says(&[REFUSAL])]), ("c", vec![says(&[SHORT])])];
        let world = World::with(|config| config.completion.cost_usd_max = Some(most), plays());
        assert_eq!(story(&world.complete().await.unwrap().summary.attempts), expected);
        let world = World::with(|config| config.completion.cost_usd_max = Some(most), plays());
        assert_eq!(world.read().await.story(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn latency_of_a_weak_answer_ends_when_it_came() {
    let world = World::new(vec![
        ("a", vec![play().wait(300).text(REFUSAL).finishes()]),
        ("c", vec![play().wait(5_000).text(SHORT).finishes()]),
    ]);
    let attempts = world.complete().await.unwrap().summary.attempts;
    assert_eq!((attempts[0].latency, attempts[1].latency), (ms(300), ms(5_000)));
}

/// The stream was at hand, paused, and nothing of the deadline was left to send it.
#[tokio::test(start_paused = true)]
async fn a_weak_stream_at_hand_keeps_some_time_to_be_sent_when_nothing_better_comes() {
    let weak = LONG_REFUSAL.iter().fold(play(), |play, text| play.text(text));
    let weak = weak.wait(1_000).text("More.").finishes();
    let it = World::with(
        |config| {
            config.completion.deadline = ms(20_000);
            config.targets[0].timeouts.between_tokens = ms(2_000);
        },
        vec![("a", vec![weak]), ("c", vec![hangs()]), ("d", vec![hangs()]), ("e", vec![hangs()])],
    );
    let read = it.read().await;
    assert_eq!(it.age(), ms(17_000), "16 of 20 seconds are for others");
    assert!(read.text().ends_with("More."), "{:?}", read.end);
    assert_eq!(read.summary().target.id.0.as_ref(), "a");
    assert!(read.summary().weak.is_some());
}
