//! Streams: what is held back, what follows the first part, and how a broken one ends.

use std::time::Duration;

use super::{
    fake::{Play, fails, hangs, play, says},
    world::{LONG, REFUSAL, SHORT, World, ms, read, story},
};
use crate::{
    completion::{
        answer::Delta,
        attempt::{Check, ErrorKind},
        outcome::{FailureKind, StreamEvent, Streaming},
    },
    config::{Config, StreamQuality},
};

fn long() -> Play {
    LONG.iter().fold(play(), |play, text| play.text(text))
}

fn quality(quality: StreamQuality) -> impl FnOnce(&mut Config) {
    move |config| config.completion.stream.quality = quality
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_first_content() {
    let slow = play().silent_piece().wait(100).thinks("Hm. ").wait(200).thinks("Well. ").wait(300);
    let slow = LONG.iter().fold(slow, |play, text| play.text(text)).finishes().uses(10, 30);
    for of in [StreamQuality::Guard, StreamQuality::Off] {
        let it = World::with(quality(of), vec![("a", vec![slow.clone()])]);
        let streaming = it.stream().await.unwrap();
        assert_eq!(it.age(), ms(600));
        let read = read(Ok(streaming)).await;
        assert_eq!((read.text(), read.view.reasoning.as_str()), (LONG.concat().as_str(), "Hm. Well. "));
        assert_eq!(read.pieces, 9, "silent ones too");
        let attempt = &read.summary().attempts[0];
        assert_eq!(attempt.first_token, Some(ms(100)), "reasoning is a token");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_before_the_first_content_fail_over() {
    for broken in [
        play().accepts_after(100).breaks(ErrorKind::Overloaded),
        play().silent_piece().breaks(ErrorKind::Overloaded),
        play().silent_piece().thinks("Hm.").wait(50).breaks(ErrorKind::Overloaded),
        play().text(LONG[0]).breaks(ErrorKind::Overloaded),
    ] {
        let it = World::new(vec![("a", vec![broken]), ("b", vec![says(&LONG)])]);
        let read = it.read().await;
        assert_eq!(
            (read.text(), read.story().as_str()),
            (LONG.concat().as_str(), "a first overloaded, b failover answered")
        );
    }
}

/// Reasoning and text that was heard were paid for.
#[tokio::test(start_paused = true)]
async fn a_stream_that_failed_unseen_costs_what_was_heard() {
    let broken = play().thinks("Hm, what is it that is asked for here?").breaks(ErrorKind::Overloaded);
    let it = World::new(vec![("a", vec![broken]), ("b", vec![says(&LONG)])]);
    let attempts = it.read().await.summary().attempts.clone();
    assert!(attempts[0].estimated && attempts[0].cost_usd > 0.0);
}

#[tokio::test(start_paused = true)]
async fn after_the_first_part_a_broken_stream_is_a_failure_and_never_another_target() {
    let check = async |broken: Play, after_ms: u64, kind: FailureKind, how: &str| {
        let it = World::with(
            |config| {
                config.completion.deadline = ms(30_000);
                config.targets[0].timeouts.between_tokens = ms(2_000);
                config.targets[0].timeouts.total = ms(10_000);
            },
            vec![("a", vec![broken])],
        );
        let read = it.read().await;
        assert_eq!((read.failed(), read.story()), (kind, format!("a first {how}")));
        assert_eq!(it.age(), ms(after_ms), "{how}");
        assert_eq!(it.fake.alive(), 0);
        assert!(read.text().starts_with(LONG[0]) && read.opening.is_some());
        let failure = read.end.unwrap_err();
        assert!(failure.message.starts_with("the answer broke off"), "{}", failure.message);
        assert!(failure.attempts[0].estimated && failure.cost_usd > 0.0);
    };
    let broken_off = FailureKind::BrokenOff;
    check(long().breaks(ErrorKind::Cut), 0, broken_off, "cut").await;
    check(long().breaks(ErrorKind::Malformed), 0, broken_off, "malformed").await;
    check(long().breaks(ErrorKind::ErrorEvent), 0, broken_off, "error_event").await;
    check(long().breaks(ErrorKind::TooLarge), 0, broken_off, "too_large").await;
    check(long().hangs(), 2_000, broken_off, "timeout_between_tokens").await;
    // Pings do not keep it alive.
    let pings = (0..5).fold(long(), |play, _| play.wait(900).silent_piece());
    check(pings.hangs(), 2_000, broken_off, "timeout_between_tokens").await;
    // The end of a stream without a finish is no end.
    check(long().ends_silently(), 0, broken_off, "cut").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_flows_may_take_longer_than_a_whole_answer() {
    let total = |config: &mut Config| config.targets[0].timeouts.total = ms(10_000);
    let drips = (0..20).fold(long(), |play, _| play.wait(900).text("."));
    let it = World::with(total, vec![("a", vec![drips.finishes()])]);
    assert_eq!((it.read().await.story(), it.age()), ("a first answered".to_owned(), ms(18_000)));
    let silent = vec![play().wait(11_000).text(SHORT).finishes()];
    let it = World::with(total, vec![("a", silent), ("b", vec![says(&LONG)])]);
    assert_eq!(it.read().await.story(), "a first timeout_total, b failover answered");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_stream_too() {
    let drips = (0..20).fold(long(), |play, _| play.wait(900).text("."));
    let it = World::with(|config| config.completion.deadline = ms(5_000), vec![("a", vec![drips])]);
    let read = it.read().await;
    assert_eq!((read.failed(), it.age()), (FailureKind::DeadlineExceeded, ms(5_000)));
    assert_eq!(read.story(), "a first deadline");
}

/// Not even one that is short enough to be checked as a whole.
#[tokio::test(start_paused = true)]
async fn a_stream_without_a_finish_is_never_a_whole_answer() {
    let it = World::new(vec![("a", vec![play().text(SHORT).ends_silently()]), ("b", vec![says(&[SHORT])])]);
    assert_eq!(it.read().await.story(), "a first cut, a retry cut, b failover answered");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_guard_escalates_and_one_behind_it_is_only_marked() {
    let early = says(&[REFUSAL, LONG[0], LONG[1]]);
    let it = World::new(vec![("a", vec![early]), ("c", vec![says(&LONG)])]);
    let read = it.read().await;
    assert_eq!(
        (read.text(), read.story().as_str()),
        (LONG.concat().as_str(), "a first refusal, c escalation answered")
    );
    let late = says(&[LONG[0], LONG[1], "and so on. ".repeat(80).as_str()]);
    let it = World::new(vec![("a", vec![late])]);
    let read = it.read().await;
    assert_eq!(read.story(), "a first repetition");
    assert_eq!(read.summary().weak.as_ref().unwrap().check, Check::Repetition);
    assert!(read.opening.unwrap().weak.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_buffered_stream_is_checked_as_a_whole_before_any_is_sent() {
    let repeats = LONG.iter().fold(play(), |play, text| play.wait(100).text(text));
    let repeats = repeats.text(&"and so on. ".repeat(80)).finishes();
    let it = World::with(
        quality(StreamQuality::Buffer),
        vec![("a", vec![repeats]), ("c", vec![long().wait(500).finishes().uses(10, 30)])],
    );
    let streaming = it.stream().await;
    assert_eq!(it.age(), ms(900));
    let read = read(streaming).await;
    assert_eq!(
        (read.text(), read.story().as_str()),
        (LONG.concat().as_str(), "a first repetition, c escalation answered")
    );
}

/// A whole answer was heard and nothing is owed to the target any more.
#[tokio::test(start_paused = true)]
async fn a_buffered_stream_that_breaks_fails_over() {
    let it = World::with(
        quality(StreamQuality::Buffer),
        vec![("a", vec![long().breaks(ErrorKind::RateLimited)]), ("b", vec![says(&LONG)])],
    );
    let read = it.read().await;
    assert_eq!(
        (read.text(), read.story().as_str()),
        (LONG.concat().as_str(), "a first rate_limited, b failover answered")
    );
}

#[tokio::test(start_paused = true)]
async fn more_than_may_be_held_is_sent_unchecked_and_marked_at_its_end() {
    let parts: Vec<String> = (0..100).map(|_| "and so on. ".repeat(10)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let it = World::with(
        |config| {
            config.completion.stream.quality = StreamQuality::Buffer;
            config.completion.stream.hold_bytes_max = 4_096;
        },
        vec![("a", vec![says(&parts)])],
    );
    let read = it.read().await;
    assert_eq!((read.text(), read.story().as_str()), (parts.concat().as_str(), "a first repetition"));
    assert!(read.opening.unwrap().weak.is_none());
}

#[tokio::test(start_paused = true)]
async fn unchecked_streams_need_only_content() {
    let it = World::with(quality(StreamQuality::Off), vec![("a", vec![says(&[REFUSAL, LONG[0], LONG[1]])])]);
    let read = it.read().await;
    assert_eq!((read.story().as_str(), read.summary().weak.is_none()), ("a first answered", true));
    let it = World::with(
        quality(StreamQuality::Off),
        vec![("a", vec![play().silent_piece().finishes()]), ("c", vec![says(&[SHORT])])],
    );
    assert_eq!(it.read().await.story(), "a first empty, c escalation answered");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_slowly_slows_the_upstream_side_and_is_not_its_fault() {
    let parts: Vec<String> = (0..400).map(|n| format!("{n}, ")).collect();
    let many = parts.iter().fold(long(), |play, text| play.text(text)).finishes().uses(10, 500);
    let it = World::with(
        |config| {
            config.targets[0].timeouts.between_tokens = ms(2_000);
            config.targets[0].timeouts.total = ms(5_000);
        },
        vec![("a", vec![many])],
    );
    let Streaming { mut events, .. } = it.stream().await.unwrap();
    let mut text = String::new();
    let summary = loop {
        tokio::time::sleep(ms(300)).await;
        match events.recv().await.unwrap() {
            StreamEvent::Piece(piece) => text.push_str(&piece.delta.text),
            StreamEvent::Finished(summary) => break summary,
            StreamEvent::Failed(failure) => panic!("{failure:?}"),
        }
    };
    assert!(it.age() > Duration::from_secs(100));
    assert_eq!(text, LONG.concat() + &parts.concat());
    assert_eq!(story(&summary.attempts), "a first answered");
}

/// The pause is no stall of the target: its next piece has as long as ever.
#[tokio::test(start_paused = true)]
async fn a_caller_who_pauses_once_costs_the_target_nothing() {
    let many = (0..60).fold(long(), |play, _| play.text("and so on, "));
    let late = (0..5).fold(many, |play, _| play.wait(900).text("and on, ")).finishes();
    let it =
        World::with(|config| config.targets[0].timeouts.between_tokens = ms(1_000), vec![("a", vec![late])]);
    let streaming = it.stream().await.unwrap();
    tokio::time::sleep(ms(10_000)).await;
    let read = read(Ok(streaming)).await;
    assert_eq!((read.story().as_str(), it.age()), ("a first answered", ms(10_000 + 5 * 900)));
}

/// Held pieces wait for the caller too.
#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_what_was_held_slowly_costs_the_target_nothing() {
    let thoughts = (0..60).fold(play(), |play, _| play.thinks("Hm. "));
    let many = LONG.iter().fold(thoughts, |play, text| play.text(text)).wait(500).finishes();
    let it = World::with(
        |config| {
            config.targets[0].timeouts.between_tokens = ms(1_000);
            config.targets[0].timeouts.total = ms(2_000);
        },
        vec![("a", vec![many])],
    );
    let Streaming { mut events, .. } = it.stream().await.unwrap();
    let end = loop {
        tokio::time::sleep(ms(200)).await;
        match events.recv().await.unwrap() {
            StreamEvent::Piece(_) => {}
            end => break end,
        }
    };
    assert!(matches!(end, StreamEvent::Finished(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_never_reads_is_left_after_a_while() {
    let many = (0..200).fold(long(), |play, _| play.text("and so on, ")).finishes();
    let it = World::with(|config| config.completion.stream.caller_stall = ms(7_000), vec![("a", vec![many])]);
    let streaming = it.stream().await.unwrap();
    tokio::time::sleep(ms(8_000)).await;
    assert_eq!(it.times("a"), [(0, Some(7_000))]);
    // Whoever reads all the same finds what was kept, and no clean end.
    let read = read(Ok(streaming)).await;
    assert_eq!(read.failed(), FailureKind::CallerStalled);
    assert_eq!(read.story(), "a first abandoned");
    let failure = read.end.unwrap_err();
    assert!(failure.attempts[0].estimated && failure.cost_usd > 0.0);
    assert!((it.spent_usd() - failure.cost_usd).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_caller_ends_at_the_deadline() {
    let many = (0..200).fold(long(), |play, _| play.text("and so on, ")).finishes();
    let it = World::with(|config| config.completion.deadline = ms(3_000), vec![("a", vec![many])]);
    let streaming = it.stream().await.unwrap();
    tokio::time::sleep(ms(4_000)).await;
    assert_eq!(it.times("a"), [(0, Some(3_000))]);
    assert_eq!(read(Ok(streaming)).await.failed(), FailureKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn the_opening_says_what_is_known() {
    let it = World::new(vec![
        ("a", vec![play().wait(40).breaks(ErrorKind::RateLimited)]),
        ("b", vec![says(&LONG).drops_parameters(&["logit_bias"])]),
    ]);
    let read = it.read().await;
    let opening = read.opening.as_ref().unwrap();
    assert_eq!((opening.target.id.0.as_ref(), &*opening.tier, opening.escalated), ("b", "low", false));
    assert_eq!(story(&opening.attempts), "a first rate_limited");
    assert_eq!(opening.dropped_parameters, ["logit_bias"]);
    assert_eq!((opening.cost_usd, opening.overhead), (0.0, ms(0)));
    assert_eq!(read.summary().attempts[1].dropped_parameters, ["logit_bias"]);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_there_is_no_stream() {
    let down = vec![fails(ErrorKind::NotFound)];
    let it = World::new(["a", "b", "c", "d", "e", "f"].map(|id| (id, down.clone())).to_vec());
    assert_eq!(it.stream().await.unwrap_err().kind, FailureKind::Unavailable);
    let it = World::with(|config| config.completion.deadline = ms(1_000), vec![("a", vec![hangs()])]);
    assert_eq!(it.stream().await.unwrap_err().kind, FailureKind::DeadlineExceeded);
}

/// Words of a second choice, the input of a provider's own tool.
#[tokio::test(start_paused = true)]
async fn work_that_the_view_does_not_show_is_no_stall() {
    let works = || Delta { progress: true, ..Delta::default() };
    let busy = (0..5).fold(long(), |play, _| play.wait(900).part(works()));
    let it = World::with(
        |config| {
            config.targets[0].timeouts.between_tokens = ms(1_000);
            config.targets[0].timeouts.first_token = ms(1_000);
        },
        vec![("a", vec![busy.finishes()])],
    );
    assert_eq!(it.read().await.story(), "a first answered");
}
