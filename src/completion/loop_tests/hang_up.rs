//! Callers who are gone: the upstream call ends at once, and is paid for.

use super::{
    fake::{hangs, play, says},
    world::{LONG, PROMPT_TOKENS, REFUSAL, SHORT, World, index, ms, story},
};
use crate::completion::{
    ended::Ending,
    outcome::{StreamEvent, Streaming},
};

/// What the prompt alone costs with a.
const PROMPT_USD: f64 = PROMPT_TOKENS as f64 / 1e6;

impl World {
    /// Returns failures and calls that the breaker of a target has counted.
    fn blamed(&self, id: &str) -> (u32, u64) {
        let state = &self.completer.breakers.states(tokio::time::Instant::now().into_std())[index(id).0];
        (state.failures, state.calls)
    }

    /// Returns the attempts of those who the log was told had hung up.
    fn hung_up(&self) -> Vec<String> {
        let told = self.told();
        let gone = told.iter().filter(|ended| matches!(ended.how, Ending::HungUp));
        gone.map(|ended| story(&ended.attempts)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_ends_the_call_at_once() {
    for streamed in [false, true] {
        let it = World::new(vec![("a", vec![hangs()])]);
        let waiting =
            async { if streamed { it.stream().await.is_ok() } else { it.complete().await.is_ok() } };
        assert!(tokio::time::timeout(ms(1_500), waiting).await.is_err());
        assert_eq!(it.times("a"), [(0, Some(1_500))]);
        assert_eq!(it.blamed("a"), (0, 0));
        assert_eq!(it.hung_up(), ["a first abandoned"]);
        // Of a whole answer nothing is heard: three quarters of what it takes as a rule, 100 tokens in two seconds.
        let unheard = if streamed { 0.0 } else { 75.0 * 2.0 / 1e6 };
        assert!((it.spent_usd() - PROMPT_USD - unheard).abs() < 1e-12, "{}", it.spent_usd());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_left_before_it_can_have_been_sent_costs_nothing() {
    let it = World::new(vec![("a", vec![hangs()])]);
    for streamed in [false, true] {
        let waiting =
            async { if streamed { it.stream().await.is_ok() } else { it.complete().await.is_ok() } };
        assert!(tokio::time::timeout(ms(1), waiting).await.is_err());
    }
    assert_eq!((it.fake.heard().len(), it.spent_usd()), (2, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_weak_answer_at_hand_is_paid_for_too() {
    for streamed in [false, true] {
        let long_refusal = says(&[REFUSAL, LONG[0], LONG[1]]);
        let it = World::new(vec![("a", vec![long_refusal]), ("c", vec![hangs()])]);
        let waiting =
            async { if streamed { it.stream().await.is_ok() } else { it.complete().await.is_ok() } };
        assert!(tokio::time::timeout(ms(100), waiting).await.is_err());
        assert_eq!(it.fake.alive(), 0);
        assert_eq!(it.times("c"), [(0, Some(100))]);
        // The prompt of c at ten times the price, and what a reported, or is known to have said so far.
        assert!(it.spent_usd() > 10.0 * PROMPT_USD + 19e-6, "{}", it.spent_usd());
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_ends_the_call_at_once_and_blames_nobody() {
    let it = World::new(vec![("a", vec![LONG.iter().fold(play(), |play, text| play.text(text)).hangs()])]);
    let Streaming { mut events, .. } = it.stream().await.unwrap();
    for _ in LONG {
        assert!(matches!(events.recv().await, Some(StreamEvent::Piece(_))));
    }
    tokio::time::sleep(ms(300)).await;
    drop(events);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(it.times("a"), [(0, Some(300))]);
    assert_eq!(it.blamed("a"), (0, 0));
    assert_eq!(it.hung_up(), ["a first abandoned"]);
    // The prompt, and what was heard of the answer, estimated.
    let heard = LONG.concat().len().div_ceil(4) as f64 * 2.0 / 1e6;
    assert!((it.spent_usd() - PROMPT_USD - heard).abs() < 1e-12, "{}", it.spent_usd());
    // Its slot is free again.
    assert_eq!(it.completer.slots.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_stream_that_is_full_ends_it_at_once() {
    let many = (0..200).fold(play(), |play, _| play.text("and so on, ")).finishes();
    let it = World::with(|config| config.completion.checks.clear(), vec![("a", vec![many])]);
    let streaming = it.stream().await.unwrap();
    tokio::time::sleep(ms(50)).await;
    assert_eq!(it.fake.alive(), 1, "it waits for its caller");
    drop(streaming);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(it.times("a"), [(0, Some(50))]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_ever_reads_is_accounted_for() {
    let it = World::new(vec![("a", vec![says(&[SHORT])])]);
    drop(it.stream().await.unwrap());
    tokio::time::sleep(ms(1)).await;
    assert_eq!(it.fake.alive(), 0);
    assert!(it.spent_usd() > 0.0);
}

/// Edges spawn them.
#[test]
fn completions_may_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    fn check(it: &World) {
        is_send(it.completer.complete(it.router.clone(), it.job()));
        is_send(it.completer.stream(it.router.clone(), it.job()));
    }
    let _ = check;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_abandoned_streams_leave_nothing_behind() {
    let it = World::new(vec![("a", vec![LONG.iter().fold(play(), |play, text| play.text(text)).hangs()])]);
    for round in 0..20 {
        let mut open = Vec::new();
        for _ in 0..100 {
            open.push(it.stream().await.unwrap());
        }
        assert_eq!(it.fake.alive(), 100, "{round}");
        drop(open);
        tokio::time::sleep(ms(1)).await;
        assert_eq!(it.fake.alive(), 0, "{round}");
    }
    assert_eq!(it.completer.slots.taken(), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
