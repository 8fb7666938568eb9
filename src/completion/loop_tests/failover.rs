//! Errors: who is called next, after how long, and what the caller is told when nobody answers.

use std::time::Duration;

use super::{
    fake::{Play, fails, fails_again, hangs, play, says},
    world::{LONG, SHORT, World, index, ms, story},
};
use crate::{
    completion::{
        attempt::{Again, ErrorKind, Stage},
        outcome::FailureKind,
    },
    config::Exhausted,
};

/// Completes and streams in worlds of their own; both must tell the same story.
async fn check(plays: &[(&str, Vec<Play>)], expected: &str) {
    let world = World::new(plays.to_vec());
    let whole = match world.complete().await {
        Ok(completion) => story(&completion.summary.attempts),
        Err(failure) => story(&failure.attempts),
    };
    assert_eq!(whole, expected, "whole");
    let world = World::new(plays.to_vec());
    assert_eq!(world.read().await.story(), expected, "streamed");
    assert_eq!(world.fake.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_decided_target_answers() {
    check(&[("a", vec![says(&[SHORT])])], "a first answered").await;
    check(&[("a", vec![says(&LONG)])], "a first answered").await;
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_is_retried_or_left() {
    let good = || vec![says(&[SHORT])];
    for kind in
        [ErrorKind::Connect, ErrorKind::Server, ErrorKind::Malformed, ErrorKind::Cut, ErrorKind::ErrorEvent]
    {
        let fails_once = vec![fails(kind), says(&[SHORT])];
        check(&[("a", fails_once)], &format!("a first {kind}, a retry answered")).await;
        let expected = format!("a first {kind}, a retry {kind}, b failover answered");
        check(&[("a", vec![fails(kind)]), ("b", good())], &expected).await;
    }
    for kind in [
        ErrorKind::Tls,
        ErrorKind::Timeout(Stage::Connect),
        ErrorKind::RateLimited,
        ErrorKind::Unauthorized,
        ErrorKind::Unpaid,
        ErrorKind::NoKey,
        ErrorKind::NotFound,
        ErrorKind::Refused,
        ErrorKind::Overloaded,
        ErrorKind::Redirect,
        ErrorKind::TooLarge,
    ] {
        let expected = format!("a first {kind}, b failover answered");
        check(&[("a", vec![fails(kind)]), ("b", good())], &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_key_is_tried_at_once() {
    let again = vec![fails_again(ErrorKind::Unauthorized, Again::Now), says(&[SHORT])];
    check(&[("a", again)], "a first unauthorized, a retry answered").await;
}

#[tokio::test(start_paused = true)]
async fn a_short_retry_after_is_waited_for_and_a_long_one_is_not() {
    let after = |seconds| fails_again(ErrorKind::RateLimited, Again::After(Duration::from_secs(seconds)));
    let world = World::new(vec![("a", vec![after(3), says(&[SHORT])])]);
    let summary = world.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first rate_limited, a retry answered");
    assert_eq!((world.age(), summary.attempts[1].started), (ms(3000), ms(3000)));
    assert_eq!(summary.overhead, Duration::ZERO, "waiting is no work");

    let world = World::new(vec![("a", vec![after(5)]), ("b", vec![says(&[SHORT])])]);
    assert_eq!(
        story(&world.complete().await.unwrap().summary.attempts),
        "a first rate_limited, b failover answered"
    );
    assert_eq!(world.age(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn back_off_stays_within_its_bounds() {
    for _ in 0..20 {
        let world = World::with(
            |config| {
                config.completion.backoff.first = ms(100);
                config.completion.backoff.max = ms(150);
                config.completion.retries_max = 3;
            },
            vec![("a", vec![fails(ErrorKind::Server), fails(ErrorKind::Server), says(&[SHORT])])],
        );
        let attempts = world.complete().await.unwrap().summary.attempts;
        // A timer is a millisecond late at most.
        let waits = [attempts[1].started, attempts[2].started - attempts[1].started];
        assert!(waits[0] <= ms(101) && waits[1] <= ms(151), "{waits:?}");
    }
}

/// Only the last four attempts were named, and the one that somebody has to act on was cut off.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_named_before_all_that_passes() {
    let down = || vec![fails(ErrorKind::Server)];
    let keyless = vec![fails(ErrorKind::Unauthorized)];
    let mut plays = vec![("a", keyless)];
    plays.extend(["b", "c", "d", "e", "f"].map(|id| (id, down())));
    let many = |config: &mut crate::config::Config| config.completion.attempts_max = 20;
    let failure = World::with(many, plays).complete().await.unwrap_err();
    let named = ["a: unauthorized", "b: server", "c: server", "d: server", "e: server", "f: server"];
    let mut rest = failure.message.as_str();
    for name in named {
        rest = rest.split_once(name).unwrap_or_else(|| panic!("{name}: {}", failure.message)).1;
    }
    assert!(!rest.contains("server"), "each target once: {}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_down_is_climbed_over_or_the_end() {
    let down = || vec![fails(ErrorKind::NotFound)];
    let plays = vec![("a", down()), ("b", down()), ("c", vec![says(&[SHORT])])];
    let story_of = "a first not_found, b failover not_found, c climb answered";
    check(&plays, story_of).await;
    let world = World::new(plays.clone());
    let summary = world.complete().await.unwrap().summary;
    assert_eq!((&*summary.tier, &*summary.target.id.0), ("mid", "c"));
    assert!(!summary.escalated, "an outage says nothing against the tier that was decided for");

    let world = World::with(|config| config.completion.exhausted = Exhausted::Fail, plays);
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(story(&failure.attempts), "a first not_found, b failover not_found");
    assert_eq!(
        failure.message,
        "no target answered: a: not_found: as the test wants; b: not_found: as the test wants"
    );
}

#[tokio::test(start_paused = true)]
async fn all_targets_down() {
    let down = vec![fails(ErrorKind::NotFound)];
    let world = World::new(["a", "b", "c", "d", "e", "f"].map(|id| (id, down.clone())).to_vec());
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(world.called(), "a b c d e f");
    assert_eq!((failure.cost_usd, failure.retry_after), (0.0, None));
    let named = failure.message.matches("as the test wants").count();
    assert_eq!(named, 6, "each is named: {}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_than_allowed() {
    let down = vec![fails(ErrorKind::NotFound)];
    let world = World::with(
        |config| config.completion.attempts_max = 3,
        ["a", "b", "c"].map(|id| (id, down.clone())).to_vec(),
    );
    let failure = world.complete().await.unwrap_err();
    assert_eq!((failure.kind, failure.attempts.len()), (FailureKind::Unavailable, 3));
    assert!(failure.message.contains("completion.attempts_max"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_all_refuse_is_refused() {
    let refuses = || vec![fails(ErrorKind::Refused)];
    let world = World::new(vec![("a", refuses()), ("b", refuses())]);
    let failure = world.complete().await.unwrap_err();
    assert_eq!((failure.kind, world.called().as_str()), (FailureKind::Refused, "a b"));
    assert_eq!(failure.cost_usd, 0.0);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_rate_limited_the_caller_learns_when_to_come_back() {
    let after =
        |seconds| vec![fails_again(ErrorKind::RateLimited, Again::After(Duration::from_secs(seconds)))];
    let world = World::new(
        [("a", 40), ("b", 20), ("c", 60), ("d", 50), ("e", 90), ("f", 80)]
            .map(|(id, seconds)| (id, after(seconds)))
            .to_vec(),
    );
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(20)));
}

/// The deadline counts from when the request came in.
#[tokio::test(start_paused = true)]
async fn the_deadline_ends_whatever_is_tried() {
    for streamed in [false, true] {
        let world = World::with(
            |config| config.completion.deadline = ms(5000),
            vec![("a", vec![play().wait(2000).breaks(ErrorKind::NotFound)]), ("b", vec![hangs()])],
        );
        let job = world.job();
        tokio::time::advance(ms(1000)).await;
        let failure = if streamed {
            world.completer.stream(world.router.clone(), job).await.unwrap_err()
        } else {
            world.completer.complete(world.router.clone(), job).await.unwrap_err()
        };
        assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
        assert_eq!(story(&failure.attempts), "a first not_found, b failover deadline");
        assert_eq!(world.age(), ms(5000));
        assert_eq!(world.times("b"), [(3000, Some(5000))]);
        assert!(failure.attempts[1].estimated && failure.attempts[1].cost_usd > 0.0);
        // The breaker of b has nothing to hold against it.
        let state = &world.completer.breakers.states(world.started.into_std())[index("b").0];
        assert_eq!((state.failures, state.calls), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_counts_too_also_with_no_other_target() {
    for streamed in [false, true] {
        let world = World::callable(|_| {}, &["a"], vec![("a", vec![hangs()])]);
        let mut job = world.job();
        job.deadline = Some(job.received + ms(700));
        let failure = if streamed {
            world.completer.stream(world.router.clone(), job).await.unwrap_err()
        } else {
            world.completer.complete(world.router.clone(), job).await.unwrap_err()
        };
        assert_eq!((failure.kind, world.age()), (FailureKind::DeadlineExceeded, ms(700)));
        assert_eq!(story(&failure.attempts), "a first deadline");
        assert_eq!(world.fake.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_calls_nobody() {
    let world = World::new(Vec::new());
    let mut job = world.job();
    job.deadline = Some(job.received);
    let failure = world.completer.complete(world.router.clone(), job).await.unwrap_err();
    assert_eq!((failure.kind, failure.attempts.len()), (FailureKind::DeadlineExceeded, 0));
    assert!(failure.decision.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_is_left_for_another() {
    let world = World::with(
        |config| config.targets[0].timeouts.total = ms(4000),
        vec![("a", vec![hangs()]), ("b", vec![says(&[SHORT])])],
    );
    let summary = world.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first timeout_total, b failover answered");
    assert_eq!(world.times("a"), [(0, Some(4000))]);

    let world = World::with(
        |config| config.targets[0].timeouts.first_token = ms(500),
        vec![("a", vec![play().silent_piece().wait(300).silent_piece().hangs()]), ("b", vec![says(&LONG)])],
    );
    assert_eq!(world.read().await.story(), "a first timeout_first_token, b failover answered");
    assert_eq!(world.times("a"), [(0, Some(500))], "a role or a ping is no token");
}

/// A target that hangs used to take all the time there was, and nobody held it against it.
#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_leaves_time_for_others_and_is_blamed() {
    for streamed in [false, true] {
        let it = World::new(vec![("a", vec![hangs()]), ("b", vec![says(&[SHORT])])]);
        let mut job = it.job();
        job.deadline = Some(job.received + ms(24_000));
        let attempts = if streamed {
            super::world::read(it.completer.stream(it.router.clone(), job).await)
                .await
                .summary()
                .attempts
                .clone()
        } else {
            it.completer.complete(it.router.clone(), job).await.unwrap().summary.attempts
        };
        assert_eq!(story(&attempts), "a first deadline, b failover answered");
        assert_eq!(it.times("a"), [(0, Some(12_000))]);
        let state = &it.completer.breakers.states(tokio::time::Instant::now().into_std())[index("a").0];
        assert_eq!((state.failures, state.calls), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_who_may_answer_has_all_the_time_that_is_left() {
    let slow = play().wait(20_000).text(SHORT).finishes();
    let alone = |config: &mut crate::config::Config| config.completion.exhausted = Exhausted::Fail;
    let it = World::callable(alone, &["a", "c"], vec![("a", vec![slow.clone()])]);
    let mut job = it.job();
    job.deadline = Some(job.received + ms(24_000));
    assert!(it.completer.complete(it.router.clone(), job).await.is_ok());
    // One that takes that long as a rule has it too.
    let usual = |config: &mut crate::config::Config| config.targets[0].latency_ms_typical = Some(8_000);
    let it = World::with(usual, vec![("a", vec![slow])]);
    let mut job = it.job();
    job.deadline = Some(job.received + ms(24_000));
    assert!(it.completer.complete(it.router.clone(), job).await.is_ok());
}
