//! Breakers as the loop uses them: an open one costs nothing, decisions pass over it, a probe brings it back.

use super::{
    fake::{Play, fails, fails_again, hangs, play, says},
    world::{LONG, REFUSAL, SHORT, World, index, ms, story},
};
use crate::{
    completion::{
        attempt::{Again, ErrorKind},
        breaker::Phase,
        outcome::FailureKind,
    },
    config::Config,
};

/// Opens at the third failure in a row, for ten seconds.
fn strict(config: &mut Config) {
    config.completion.breaker.failures = 3;
    config.completion.breaker.cooldown = ms(10_000);
    config.completion.breaker.ramp = ms(0);
    config.completion.retries_max = 0;
}

/// The same after so many failures, with no target but a.
fn alone(failures: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        strict(config);
        config.completion.breaker.failures = failures;
        config.tiers.truncate(1);
        config.tiers[0].targets.truncate(1);
    }
}

fn world(a: Vec<Play>) -> World {
    World::with(strict, vec![("a", a), ("b", vec![says(&[SHORT])]), ("c", vec![says(&[SHORT])])])
}

impl World {
    fn phase(&self, id: &str) -> Phase {
        self.completer.breakers.states(tokio::time::Instant::now().into_std())[index(id).0].state
    }

    async fn story(&self) -> String {
        story(&self.complete().await.unwrap().summary.attempts)
    }
}

#[tokio::test(start_paused = true)]
async fn decisions_pass_over_an_open_target_until_its_probe() {
    let it = world(vec![
        fails(ErrorKind::Server),
        fails(ErrorKind::Server),
        fails(ErrorKind::Server),
        fails(ErrorKind::Server),
        says(&[SHORT]),
    ]);
    for _ in 0..3 {
        assert_eq!(it.story().await, "a first server, b failover answered");
    }
    assert_eq!(it.phase("a"), Phase::Open);
    let completion = it.complete().await.unwrap();
    assert_eq!(completion.summary.decision.target.id.0.as_ref(), "b");
    assert_eq!(story(&completion.summary.attempts), "b first answered");
    tokio::time::advance(ms(10_001)).await;
    assert_eq!(it.story().await, "a first server, b failover answered", "a bad probe");
    assert_eq!(it.story().await, "b first answered");
    tokio::time::advance(ms(20_001)).await;
    assert_eq!(it.story().await, "a first answered", "a good probe");
    assert_eq!(it.phase("a"), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opened_meanwhile_is_skipped_and_costs_nothing() {
    // Both decided for a while it was closed; a opens while they wait for it.
    let it = World::with(
        |config| {
            strict(config);
            config.completion.breaker.failures = 1;
            config.completion.retries_max = 1;
            config.completion.backoff.retry_after_max = ms(10_000);
        },
        vec![("a", vec![fails(ErrorKind::Server)]), ("b", vec![says(&[SHORT])])],
    );
    let summary = it.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first server, a retry skipped, b failover answered");
    let skipped = &summary.attempts[1];
    assert_eq!((skipped.cost_usd, skipped.latency, skipped.estimated), (0.0, ms(0), false));
    assert_eq!(it.times("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_open_the_caller_learns_when_the_first_may_be_probed() {
    let down = vec![fails(ErrorKind::Server)];
    let it = World::with(
        |config| {
            strict(config);
            config.completion.breaker.failures = 1;
        },
        ["a", "b", "c", "d", "e", "f"].map(|id| (id, down.clone())).to_vec(),
    );
    assert_eq!(it.complete().await.unwrap_err().kind, FailureKind::Unavailable);
    tokio::time::advance(ms(4_000)).await;
    let failure = it.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(it.fake.heard().len(), 6, "nobody was asked again");
    assert!(failure.attempts.iter().all(|attempt| attempt.cost_usd == 0.0));
    assert_eq!(failure.retry_after, Some(ms(6_000)));
    assert!(failure.message.contains("breaker is open"), "{}", failure.message);
}

/// It used to say what the provider said, and who obeyed met the breaker that this request had opened.
#[tokio::test(start_paused = true)]
async fn a_rate_limited_caller_learns_the_later_of_the_providers_time_and_the_breakers() {
    let limited = fails_again(ErrorKind::RateLimited, Again::After(ms(2_000)));
    let it = World::with(alone(3), vec![("a", vec![limited])]);
    for expected in [2_000, 2_000, 10_000] {
        let failure = it.complete().await.unwrap_err();
        assert_eq!((failure.kind, failure.retry_after), (FailureKind::RateLimited, Some(ms(expected))));
    }
    // Nobody was asked, and why has not changed.
    tokio::time::advance(ms(4_000)).await;
    let failure = it.complete().await.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after), (FailureKind::RateLimited, Some(ms(6_000))));
    assert_eq!(it.fake.heard().len(), 3);
    tokio::time::advance(ms(6_000)).await;
    let failure = it.complete().await.unwrap_err();
    assert_eq!(failure.retry_after, Some(ms(20_000)), "a bad probe");
    assert_eq!(it.fake.heard().len(), 4);
}

/// Decisions leave a target that is probed alone for up to an hour; a caller need not wait as long.
#[tokio::test(start_paused = true)]
async fn while_a_probe_runs_a_caller_may_ask_again_soon() {
    let plays = vec![fails(ErrorKind::Server), hangs()];
    let it = World::with(alone(1), vec![("a", plays)]);
    it.complete().await.unwrap_err();
    tokio::time::advance(ms(10_001)).await;
    let mut probe = Box::pin(it.complete());
    assert!(futures::poll!(&mut probe).is_pending());
    let failure = it.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.retry_after.unwrap() <= ms(2_000), "{:?}", failure.retry_after);
}

#[tokio::test(start_paused = true)]
async fn refused_requests_weak_answers_and_impatient_callers_open_nothing() {
    let strict = |config: &mut Config| {
        strict(config);
        config.completion.breaker.failures = 1;
    };
    let it = World::with(strict, vec![("a", vec![fails(ErrorKind::Refused)]), ("b", vec![says(&[SHORT])])]);
    assert_eq!(it.story().await, "a first refused, b failover answered");
    assert_eq!(it.phase("a"), Phase::Closed);
    let it = World::with(strict, vec![("a", vec![says(&[REFUSAL])]), ("c", vec![says(&[SHORT])])]);
    assert_eq!(it.story().await, "a first refusal, c escalation answered");
    assert_eq!(it.phase("a"), Phase::Closed);
    let it = World::with(strict, vec![("a", vec![hangs()])]);
    let mut hung_up = Box::pin(it.complete());
    assert!(futures::poll!(&mut hung_up).is_pending());
    drop(hung_up);
    assert_eq!(it.phase("a"), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_counts_as_a_failure_and_one_that_ends_as_a_success() {
    let cut = || LONG.iter().fold(play(), |play, text| play.text(text)).breaks(ErrorKind::Cut);
    let it = World::with(strict, vec![("a", vec![cut(), cut(), says(&LONG), cut(), cut(), cut()])]);
    for _ in 0..5 {
        it.read().await;
    }
    assert_eq!(it.phase("a"), Phase::Closed, "never three in a row");
    it.read().await;
    assert_eq!(it.phase("a"), Phase::Open);
}

/// Else a target with weak answers would be probed for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_with_a_weak_streamed_answer_is_a_good_one() {
    let weak = LONG.iter().fold(play().text(REFUSAL).text(REFUSAL), |play, text| play.text(text)).finishes();
    let it = World::with(
        |config| {
            strict(config);
            config.completion.breaker.failures = 1;
        },
        vec![
            ("a", vec![fails(ErrorKind::Server), weak]),
            ("b", vec![says(&[SHORT])]),
            ("c", vec![says(&[SHORT])]),
        ],
    );
    assert_eq!(it.story().await, "a first server, b failover answered");
    tokio::time::advance(ms(10_001)).await;
    assert_eq!(it.read().await.story(), "a first refusal, c escalation answered");
    assert_eq!(it.phase("a"), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_hangs_up_leaves_its_place_to_the_next() {
    let it = world(vec![
        fails(ErrorKind::Server),
        fails(ErrorKind::Server),
        fails(ErrorKind::Server),
        hangs(),
        says(&[SHORT]),
    ]);
    for _ in 0..3 {
        it.story().await;
    }
    tokio::time::advance(ms(10_001)).await;
    let mut probe = Box::pin(it.complete());
    assert!(futures::poll!(&mut probe).is_pending());
    assert_eq!(it.story().await, "b first answered", "one probe at a time");
    drop(probe);
    assert_eq!(it.story().await, "a first answered");
}

/// It used to be one until its stream had ended, and nobody else was let through meanwhile.
#[tokio::test(start_paused = true)]
async fn a_streamed_probe_is_good_once_its_first_part_is_sent() {
    let drips = || LONG.iter().fold(play(), |play, text| play.text(text)).wait(15_000);
    let it = World::with(
        |config| {
            strict(config);
            config.completion.breaker.failures = 1;
        },
        vec![
            ("a", vec![fails(ErrorKind::Server), drips().breaks(ErrorKind::Cut), says(&[SHORT])]),
            ("b", vec![says(&[SHORT])]),
        ],
    );
    assert_eq!(it.story().await, "a first server, b failover answered");
    tokio::time::advance(ms(10_001)).await;
    let probe = it.stream().await;
    assert_eq!(it.phase("a"), Phase::Closed);
    assert_eq!(it.story().await, "a first answered");
    assert_eq!(super::world::read(probe).await.failed(), FailureKind::BrokenOff);
    assert_eq!(it.phase("a"), Phase::Open, "that it broke later still counts");
}
