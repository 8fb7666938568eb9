//! Requests that nobody is asked about: no slot, no budget, no target, nobody who can be called.

use std::time::{Duration, SystemTime};

use super::{
    fake::{fails, hangs, says},
    world::{PROMPT, SHORT, World, index, story},
};
use crate::{
    completion::{attempt::ErrorKind, chat::Asks, outcome::FailureKind},
    config::{AtLimit, BudgetConfig, BudgetScope, Config},
    prompt::{Context, Draft, Tier},
};

fn budget(config: &mut Config, at_limit: AtLimit) {
    config.budgets = vec![BudgetConfig {
        name: "team".into(),
        scope: BudgetScope::All,
        day_usd: Some(0.01),
        month_usd: None,
        at_limit,
    }];
}

fn spend(world: &World) {
    world.completer.spend.add(&Context::default(), Tier(0), 0.02, 0.0, SystemTime::now());
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_refuses() {
    let world = World::with(|config| budget(config, AtLimit::Refuse), vec![("a", vec![says(&[SHORT])])]);
    assert!(world.complete().await.is_ok());
    spend(&world);
    let failure = world.complete().await.unwrap_err();
    assert_eq!((failure.kind, world.called().as_str()), (FailureKind::BudgetSpent, "a"));
    assert!(failure.retry_after.is_some_and(|wait| wait <= Duration::from_secs(24 * 3600)));
    assert!(failure.message.contains("team"), "{}", failure.message);
    assert!(failure.decision.is_none() && failure.attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_leaves_the_cheaper_tiers() {
    let down = || vec![fails(ErrorKind::NotFound)];
    let world = World::with(
        |config| budget(config, AtLimit::TierMax(Tier(0))),
        vec![("a", down()), ("b", down()), ("c", vec![says(&[SHORT])])],
    );
    let summary = world.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first not_found, b failover not_found, c climb answered");
    spend(&world);
    let failure = world.complete().await.unwrap_err();
    assert_eq!(story(&failure.attempts), "a first not_found, b failover not_found");
    // A request that insists on more than that is refused.
    let mut draft = Draft::from_text(PROMPT);
    draft.preferences.tier_min = "top".to_owned();
    let job = world.job_of(draft, Asks::default());
    let failure = world.completer.complete(world.router.clone(), job).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BudgetSpent, "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn no_target_may_take_it() {
    let world = World::new(Vec::new());
    let mut draft = Draft::from_text(PROMPT);
    draft.shape.needs_vision = true;
    let job = world.job_of(draft, Asks::default());
    let failure = world.completer.stream(world.router.clone(), job).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoTarget, "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_costs_too_much_is_not_made() {
    let world = World::with(|config| config.completion.cost_usd_max = Some(1e-9), Vec::new());
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoTarget);
    assert!(failure.message.contains("completion.cost_usd_max"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn targets_that_cannot_be_called_are_passed_over() {
    let world = World::callable(|_| {}, &["b", "e"], vec![("b", vec![says(&[SHORT])])]);
    let summary = world.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "b first answered");
    assert_eq!(summary.decision.target.id.0.as_ref(), "a", "the decision stays what it is");

    let world = World::callable(|_| {}, &[], Vec::new());
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unconfigured);
    assert!(failure.message.contains("a, b, c, d, e, f"), "{}", failure.message);
    assert!(failure.decision.is_some());
}

#[tokio::test(start_paused = true)]
async fn more_than_fits_is_refused_at_once_and_a_slot_comes_back() {
    let world = World::with(
        |config| config.completion.concurrent_max = 2,
        vec![("a", vec![hangs(), hangs(), says(&[SHORT])])],
    );
    let mut first = Box::pin(world.complete());
    let mut second = Box::pin(world.stream());
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert!(failure.retry_after.is_some());
    assert_eq!(world.fake.heard().len(), 2);
    drop(first);
    assert_eq!(world.complete().await.unwrap().summary.target.id.0.as_ref(), "a");
    drop(second);
    assert_eq!((world.fake.alive(), world.fake.heard()[2].target), (0, index("a")));
}

/// A slot is held as long as the stream is sent.
#[tokio::test(start_paused = true)]
async fn a_stream_holds_its_slot_to_its_end() {
    let world = World::with(|config| config.completion.concurrent_max = 1, vec![("a", vec![says(&[SHORT])])]);
    let streaming = world.stream().await;
    let failure = world.complete().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert!(super::world::read(streaming).await.end.is_ok());
    assert!(world.complete().await.is_ok());
}
