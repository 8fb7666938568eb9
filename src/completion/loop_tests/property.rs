//! What holds whatever targets, callers and settings do.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::{
    fake::{Heard, Play, play},
    world::{World, index, ms, story},
};
use crate::{
    completion::{
        answer::{Finish, View},
        attempt::{Again, Attempt, Cause, Check, ErrorKind, Outcome},
        outcome::{StreamEvent, Streaming},
    },
    config::{Config, Exhausted, HedgeConfig, JudgeConfig, OnWeak, StreamQuality},
    prompt::TargetRef,
};

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// A timer is a millisecond late at most.
const TICK: Duration = Duration::from_millis(1);

/// One random completion.
#[derive(Debug, Clone)]
struct Case {
    plays: Vec<Vec<Play>>,
    settings: Settings,
    caller: Caller,
}

#[derive(Debug, Clone)]
struct Settings {
    callable: Vec<&'static str>,
    deadline_ms: u64,
    attempts_max: usize,
    retries_max: usize,
    climbs: bool,
    escalates: bool,
    quality: StreamQuality,
    guard_chars: usize,
    hedge_ms: Option<u64>,
    judges: bool,
    failures: u32,
    cost_usd_max: Option<f64>,
}

/// What the caller does.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Waits,
    /// Between two pieces.
    ReadsSlowly(u64),
    /// After so many pieces.
    HangsUp(usize),
    /// While it waits for the answer or the first part of it.
    LosesPatience(u64),
}

/// One line of a random play.
#[derive(Debug, Clone, Copy)]
enum Line {
    Says(&'static str),
    Thinks,
    Silence,
    Passes { ms: u64 },
}

/// How a random play ends.
#[derive(Debug, Clone, Copy)]
enum Close {
    Finishes { usage: Option<(u64, u64)> },
    IsCutShort,
    Breaks { kind: ErrorKind, again: Again, finishes: bool },
    Hangs,
    EndsSilently,
}

fn any_line() -> impl Strategy<Value = Line> {
    let text = proptest::sample::select(vec![
        "Paris is the capital of France, as every schoolchild knows, ",
        "and so on. ",
        "é",
        " ",
        "42",
        "I'm sorry, but I can't help with that. ",
        "{\"score\": 0.2, \"why\": \"bad\"}",
    ]);
    prop_oneof![
        6 => text.prop_map(Line::Says),
        1 => Just(Line::Thinks),
        1 => Just(Line::Silence),
        2 => (0_u64..3_000).prop_map(|ms| Line::Passes { ms }),
    ]
}

fn any_close() -> impl Strategy<Value = Close> {
    let kind = proptest::sample::select(vec![
        ErrorKind::Connect,
        ErrorKind::RateLimited,
        ErrorKind::Refused,
        ErrorKind::Server,
        ErrorKind::Cut,
        ErrorKind::NoKey,
        ErrorKind::TooLarge,
    ]);
    let again = prop_oneof![
        Just(Again::Usual),
        Just(Again::Now),
        (0_u64..12_000).prop_map(|ms| Again::After(Duration::from_millis(ms))),
    ];
    let usage = proptest::option::of((0_u64..100, 0_u64..100));
    prop_oneof![
        5 => usage.prop_map(|usage| Close::Finishes { usage }),
        1 => Just(Close::IsCutShort),
        4 => (kind, again, proptest::bool::weighted(0.2))
            .prop_map(|(kind, again, finishes)| Close::Breaks { kind, again, finishes }),
        1 => Just(Close::Hangs),
        1 => Just(Close::EndsSilently),
    ]
}

fn any_play() -> impl Strategy<Value = Play> {
    let lines = proptest::collection::vec(any_line(), 0..12);
    (0_u64..500, lines, any_close()).prop_map(|(accepts_ms, lines, close)| {
        let play = lines.into_iter().fold(play().accepts_after(accepts_ms), |play, line| match line {
            Line::Says(text) => play.text(text),
            Line::Thinks => play.thinks("Hm. "),
            Line::Silence => play.silent_piece(),
            Line::Passes { ms } => play.wait(ms),
        });
        match close {
            Close::Finishes { usage: None } => play.finishes(),
            Close::Finishes { usage: Some((input, output)) } => play.finishes().uses(input, output),
            Close::IsCutShort => play.finishes_by(Finish::Length),
            Close::Breaks { kind, again, finishes: false } => play.breaks_again(kind, again),
            Close::Breaks { kind, again, finishes: true } => play.finishes().breaks_again(kind, again),
            Close::Hangs => play.hangs(),
            Close::EndsSilently => play.ends_silently(),
        }
    })
}

prop_compose! {
    fn any_settings()(
        callable in proptest::sample::subsequence(IDS.to_vec(), 1..=6),
        deadline_ms in prop_oneof![100_u64..60_000, Just(180_000)],
        attempts_max in 1_usize..10,
        retries_max in 0_usize..3,
        climbs: bool,
        escalates in proptest::bool::weighted(0.8),
        quality in proptest::sample::select(vec![StreamQuality::Guard, StreamQuality::Buffer, StreamQuality::Off]),
        guard_chars in 0_usize..80,
        hedge_ms in proptest::option::of(0_u64..2_000),
        judges in proptest::bool::weighted(0.3),
        failures in 1_u32..5,
        cost_usd_max in proptest::option::weighted(0.2, 0.0_f64..0.05),
    ) -> Settings {
        Settings {
            callable, deadline_ms, attempts_max, retries_max, climbs, escalates, quality, guard_chars, hedge_ms,
            judges, failures, cost_usd_max,
        }
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let caller = prop_oneof![
        4 => Just(Caller::Waits),
        1 => (1_u64..1_000).prop_map(Caller::ReadsSlowly),
        1 => (0_usize..10).prop_map(Caller::HangsUp),
        1 => (0_u64..10_000).prop_map(Caller::LosesPatience),
    ];
    let plays = proptest::collection::vec(proptest::collection::vec(any_play(), 1..4), 6);
    (plays, any_settings(), caller).prop_map(|(plays, settings, caller)| Case { plays, settings, caller })
}

impl Settings {
    fn apply(&self, config: &mut Config) {
        let completion = &mut config.completion;
        completion.deadline = ms(self.deadline_ms);
        completion.attempts_max = self.attempts_max;
        completion.retries_max = self.retries_max;
        completion.exhausted = if self.climbs { Exhausted::Climb } else { Exhausted::Fail };
        completion.on_weak = if self.escalates { OnWeak::Escalate } else { OnWeak::Mark };
        completion.stream.quality = self.quality;
        completion.stream.guard_chars = self.guard_chars;
        completion.breaker.failures = self.failures;
        completion.cost_usd_max = self.cost_usd_max;
        completion.hedge =
            self.hedge_ms.map(|delay| HedgeConfig { quantile: 0.9, delay_min: ms(delay), tiers: Vec::new() });
        if self.judges {
            completion.checks[0].checks.push(Check::Judge);
            completion.judge = Some(JudgeConfig {
                target: index("f"),
                rubric: "It is right.".to_owned(),
                score_min: 0.5,
                share: 1.0,
                tiers: Vec::new(),
                day_usd_max: 1.0,
                timeout: ms(4_000),
            });
        }
    }
}

impl Case {
    fn world(&self) -> World {
        let plays = IDS.into_iter().zip(self.plays.clone()).collect();
        World::callable(|config| self.settings.apply(config), &self.settings.callable, plays)
    }

    /// Returns the latest moment at which anything may still happen upstream.
    fn latest(&self) -> Duration {
        ms(self.settings.deadline_ms) + TICK
    }

    /// Checks an account against what was really called, and returns those calls.
    fn check_account(&self, it: &World, attempts: &[Attempt], cost_usd: f64) -> Vec<Heard> {
        let heard = it.fake.heard();
        let called: Vec<&Attempt> =
            attempts.iter().filter(|attempt| attempt.outcome != Outcome::Skipped).collect();
        assert_eq!(
            called.iter().map(|attempt| attempt.index).collect::<Vec<_>>(),
            heard.iter().map(|heard| heard.target).collect::<Vec<_>>(),
            "every call has its attempt: {}",
            story(attempts)
        );
        let made = called.iter().filter(|attempt| attempt.cause != Cause::Judge).count();
        assert!(made <= self.settings.attempts_max, "{}", story(attempts));
        assert_eq!(cost_usd, attempts.iter().map(|attempt| attempt.cost_usd).sum::<f64>());
        assert!((it.spent_usd() - cost_usd).abs() < 1e-12, "{} {cost_usd}", it.spent_usd());
        for attempt in attempts {
            assert!(attempt.cost_usd >= 0.0);
            if attempt.outcome == Outcome::Skipped {
                assert_eq!((attempt.cost_usd, attempt.latency), (0.0, Duration::ZERO));
            }
            let tier = attempt.tier;
            assert!(attempts[0].tier <= tier, "never below where it began: {}", story(attempts));
        }
        heard
    }

    /// What holds after every end.
    fn check_end(&self, it: &World) {
        assert_eq!(it.fake.alive(), 0, "no call is left");
        for heard in it.fake.heard() {
            assert!(heard.ended.is_some_and(|ended| ended <= self.latest()), "{:?}", heard.ended);
        }
        assert_eq!(it.completer.slots.taken(), 0);
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
        assert!(it.spent_usd() >= 0.0);
    }

    async fn complete(&self) {
        let it = self.world();
        let patience = match self.caller {
            Caller::LosesPatience(after_ms) => ms(after_ms),
            Caller::Waits | Caller::ReadsSlowly(_) | Caller::HangsUp(_) => Duration::MAX / 4,
        };
        let Ok(result) = tokio::time::timeout(patience, it.complete()).await else {
            return self.check_end(&it);
        };
        assert!(it.age() <= self.latest(), "{:?}", it.age());
        match result {
            Ok(completion) => {
                let summary = completion.summary;
                let heard = self.check_account(&it, &summary.attempts, summary.cost_usd);
                let answered = answered(&summary.attempts, summary.weak.is_some());
                let place = place_of(&summary.attempts, answered);
                assert_eq!(completion.answer.view, heard[place].play.said());
                assert_eq!(summary.target, summary.attempts[answered].target);
            }
            Err(failure) => {
                self.check_account(&it, &failure.attempts, failure.cost_usd);
                assert!(failure.attempts.iter().all(|attempt| !is_answer(attempt)), "{failure:?}");
            }
        }
        self.check_end(&it);
    }

    async fn stream(&self) {
        let it = self.world();
        let patience = match self.caller {
            Caller::LosesPatience(after_ms) => ms(after_ms),
            Caller::Waits | Caller::ReadsSlowly(_) | Caller::HangsUp(_) => Duration::MAX / 4,
        };
        let Ok(result) = tokio::time::timeout(patience, it.stream()).await else {
            return self.check_end(&it);
        };
        assert!(it.age() <= self.latest(), "{:?}", it.age());
        let streaming = match result {
            Ok(streaming) => streaming,
            Err(failure) => {
                self.check_account(&it, &failure.attempts, failure.cost_usd);
                assert!(failure.attempts.iter().all(|attempt| !is_answer(attempt)), "{failure:?}");
                return self.check_end(&it);
            }
        };
        assert_eq!(
            it.fake.alive(),
            usize::from(it.fake.alive() > 0),
            "of all calls at most the answering one"
        );
        let calls = it.fake.heard().len();
        self.read(&it, streaming).await;
        assert_eq!(it.fake.heard().len(), calls, "the target never changes once a part was sent");
        self.check_end(&it);
    }

    async fn read(&self, it: &World, streaming: Streaming) {
        let Streaming { opening, mut events } = streaming;
        let mut view = View::default();
        let mut pieces = 0;
        let end = loop {
            match self.caller {
                Caller::HangsUp(after) if pieces == after => {
                    drop(events);
                    sleep(TICK).await;
                    return;
                }
                Caller::ReadsSlowly(pause_ms) => sleep(ms(pause_ms)).await,
                Caller::Waits | Caller::HangsUp(_) | Caller::LosesPatience(_) => {}
            }
            match events.recv().await.expect("every stream has an end") {
                StreamEvent::Piece(piece) => view.add(&piece.delta),
                end => break end,
            }
            pieces += 1;
        };
        assert!(events.recv().await.is_none(), "nothing follows the end");
        match end {
            StreamEvent::Piece(_) => unreachable!("it is no end"),
            StreamEvent::Finished(summary) => {
                let heard = self.check_account(it, &summary.attempts, summary.cost_usd);
                let answered = match (&summary.weak, &opening.weak) {
                    // It was seen only when all was sent.
                    (Some(_), None) => last_of(&summary.attempts, &opening.target),
                    (weak, _) => answered(&summary.attempts, weak.is_some()),
                };
                assert_eq!(opening.target, summary.attempts[answered].target);
                assert_eq!(summary.target, opening.target);
                let play = &heard[place_of(&summary.attempts, answered)].play;
                assert!(play.is_whole(), "a broken stream never ends well: {play:?}");
                assert_eq!(view, play.said());
            }
            StreamEvent::Failed(failure) => {
                let heard = self.check_account(it, &failure.attempts, failure.cost_usd);
                assert!(failure.attempts.iter().all(|attempt| !is_answer(attempt)), "{failure:?}");
                let said = heard
                    .iter()
                    .zip(failure.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Skipped))
                    .filter(|(_, attempt)| attempt.target == opening.target)
                    .any(|(heard, _)| heard.play.said().text.starts_with(&view.text));
                assert!(said, "what was sent is the beginning of what was said");
            }
        }
    }
}

fn is_answer(attempt: &Attempt) -> bool {
    attempt.cause != Cause::Judge && attempt.outcome == Outcome::Answered
}

/// Returns the place of the attempt whose answer was sent: the only good one, or the best weak one.
fn answered(attempts: &[Attempt], is_weak: bool) -> usize {
    let good: Vec<usize> = (0..attempts.len()).filter(|&at| is_answer(&attempts[at])).collect();
    if is_weak {
        assert!(good.is_empty(), "{}", story(attempts));
        return crate::completion::step::best_weak(attempts).expect("a weak answer was sent");
    }
    assert_eq!(good.len(), 1, "{}", story(attempts));
    good[0]
}

/// Returns the place of a target's last attempt to answer.
fn last_of(attempts: &[Attempt], target: &TargetRef) -> usize {
    let is_its = |attempt: &Attempt| attempt.cause != Cause::Judge && attempt.target == *target;
    attempts.iter().rposition(is_its).expect("it was called")
}

/// Returns an attempt's place among the calls that were made.
fn place_of(attempts: &[Attempt], at: usize) -> usize {
    attempts[..at].iter().filter(|attempt| attempt.outcome != Outcome::Skipped).count()
}

fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(case);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whole_answers_end_in_time_with_nothing_left_and_an_honest_account(case in any_case()) {
        run(case.complete());
    }

    #[test]
    fn streams_end_once_and_in_time_with_nothing_left_and_an_honest_account(case in any_case()) {
        run(case.stream());
    }
}
