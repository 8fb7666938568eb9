//! What a session remembers of completions: who answered, and which tier it turned out to need.

use super::{
    fake::{fails, play, says},
    world::{LONG, PROMPT, REFUSAL, SHORT, World, ms, read, story},
};
use crate::{
    completion::{Job, attempt::ErrorKind, chat::Asks, outcome::Summary},
    config::HedgeConfig,
    prompt::{Context, Draft},
};

impl World {
    fn turn(&self) -> Job {
        let context = Context { session_id: "s1".to_owned(), ..Context::default() };
        self.job_of(Draft { context, ..Draft::from_text(PROMPT) }, Asks::default())
    }

    async fn answered(&self) -> Summary {
        self.completer.complete(self.router.clone(), self.turn()).await.unwrap().summary
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_above_a_weak_answer_was_needed() {
    let it = World::new(vec![("a", vec![says(&[REFUSAL])]), ("c", vec![says(&[SHORT])])]);
    assert_eq!(story(&it.answered().await.attempts), "a first refusal, c escalation answered");
    let next = it.answered().await;
    assert_eq!((&*next.decision.tier, story(&next.attempts).as_str()), ("mid", "c first answered"));
    assert_eq!(next.decision.target.id.0.as_ref(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_was_climbed_to_in_an_outage_was_not_needed() {
    let down_once = || vec![fails(ErrorKind::NotFound), says(&[SHORT])];
    let it = World::new(vec![("a", down_once()), ("b", down_once()), ("c", vec![says(&[SHORT])])]);
    assert_eq!(
        story(&it.answered().await.attempts),
        "a first not_found, b failover not_found, c climb answered"
    );
    assert_eq!(story(&it.answered().await.attempts), "a first answered");
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_with_who_answered() {
    let it = World::new(vec![
        ("a", vec![fails(ErrorKind::RateLimited), says(&[SHORT])]),
        ("b", vec![says(&[SHORT])]),
    ]);
    let read = read(it.completer.stream(it.router.clone(), it.turn()).await).await;
    assert_eq!(read.story(), "a first rate_limited, b failover answered");
    assert_eq!(story(&it.answered().await.attempts), "b first answered");
    // Another conversation begins anew.
    assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered");
}

#[tokio::test(start_paused = true)]
async fn a_weak_answer_that_was_sent_needs_no_more_than_it_had() {
    let down = || vec![fails(ErrorKind::NotFound)];
    let it = World::new(vec![
        ("a", vec![says(&[REFUSAL])]),
        ("c", down()),
        ("d", down()),
        ("e", down()),
        ("f", down()),
    ]);
    assert!(it.answered().await.weak.is_some());
    assert_eq!(&*it.answered().await.decision.tier, "low");
}

/// The top tier answered for an outage of the middle one, which is all that the weak answer asked for.
#[tokio::test(start_paused = true)]
async fn an_outage_above_a_weak_answer_needs_no_more_than_the_tier_above_it() {
    let down_once = || vec![fails(ErrorKind::NotFound), says(&[SHORT])];
    let it = World::new(vec![
        ("a", vec![says(&[REFUSAL])]),
        ("c", down_once()),
        ("d", down_once()),
        ("e", vec![says(&[SHORT])]),
    ]);
    assert_eq!(&*it.answered().await.tier, "top");
    assert_eq!(&*it.answered().await.decision.tier, "mid");
}

/// Nothing shows that a stronger tier would have done better.
#[tokio::test(start_paused = true)]
async fn weak_answers_all_the_way_up_need_nothing() {
    let it = World::new(["a", "c", "e"].map(|id| (id, vec![says(&[REFUSAL])])).into_iter().collect());
    let summary = it.answered().await;
    assert_eq!((&*summary.tier, summary.weak.is_some()), ("top", true));
    assert_eq!(&*it.answered().await.decision.tier, "low");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_won_leaves_the_session_where_it_was() {
    let slow_once = vec![play().wait(5_000).text(SHORT).finishes(), says(&[SHORT])];
    let it = World::with(
        |config| {
            config.completion.hedge =
                Some(HedgeConfig { quantile: 0.95, delay_min: ms(500), tiers: Vec::new() });
        },
        vec![("a", slow_once), ("b", vec![says(&[SHORT])])],
    );
    assert_eq!(story(&it.answered().await.attempts), "a first lost, b hedge answered");
    assert_eq!(story(&it.answered().await.attempts), "a first answered");
}

#[tokio::test(start_paused = true)]
async fn a_tier_was_needed_also_when_its_stream_did_not_end_well() {
    let long = || LONG.iter().fold(play(), |play, text| play.text(text));
    for hangs_up in [false, true] {
        let broken = if hangs_up { long().hangs() } else { long().breaks(ErrorKind::Cut) };
        let it = World::new(vec![("a", vec![says(&[REFUSAL])]), ("c", vec![broken, says(&[SHORT])])]);
        let streaming = it.completer.stream(it.router.clone(), it.turn()).await;
        if hangs_up {
            drop(streaming.unwrap());
            tokio::time::sleep(ms(1)).await;
        } else {
            assert_eq!(read(streaming).await.story(), "a first refusal, c escalation cut");
        }
        assert_eq!(&*it.answered().await.decision.tier, "mid");
    }
}
