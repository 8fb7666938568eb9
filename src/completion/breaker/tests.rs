//! All breakers together: permits, health, states.

use super::*;
use crate::config::default_config;

const TARGET: TargetIndex = TargetIndex(1);

fn breakers() -> (Breakers, Arc<TargetHealth>) {
    let config = default_config();
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    let settings =
        BreakerConfig { failures: 2, cooldown: Duration::from_secs(10), ..BreakerConfig::default() };
    (Breakers::new(settings, &config.targets, Arc::clone(&health)), health)
}

/// Opens the target's breaker and returns a moment within its cooldown.
fn open(breakers: &Breakers) -> Instant {
    let now = clock();
    for _ in 0..2 {
        breakers.admit(TARGET, now, Substitute::Ready).unwrap().failed(ErrorKind::Server);
    }
    now
}

#[test]
fn an_open_breaker_refuses_its_target_and_no_other() {
    let (breakers, health) = breakers();
    let now = open(&breakers);
    assert!(breakers.admit(TARGET, now, Substitute::Ready).is_none());
    assert!(breakers.admit(TargetIndex(0), now, Substitute::Ready).is_some());
    assert!(health.refuses(TARGET, now));
    assert!(!health.refuses(TargetIndex(0), now));
    let state = &breakers.states(now)[TARGET.0];
    assert_eq!((state.index, state.state, state.calls), (TARGET, Phase::Open, 0));
    let remaining = state.remaining.unwrap();
    assert!(remaining > Duration::from_secs(9) && remaining < Duration::from_secs(11), "{remaining:?}");
}

#[test]
fn health_follows_the_probe() {
    let (breakers, health) = breakers();
    let later = open(&breakers) + Duration::from_secs(11);
    assert!(!health.refuses(TARGET, later), "a probe may go there");
    let probe = breakers.admit(TARGET, later, Substitute::Ready).unwrap();
    assert!(health.refuses(TARGET, later), "one is enough");
    assert!(breakers.admit(TARGET, later, Substitute::Ready).is_none());
    drop(probe);
    assert!(!health.refuses(TARGET, later), "its caller hung up");
    breakers.admit(TARGET, later, Substitute::Ready).unwrap().failed(ErrorKind::Server);
    assert!(health.refuses(TARGET, later));
}

#[tokio::test(start_paused = true)]
async fn after_a_good_probe_a_growing_share_is_admitted() {
    let (breakers, health) = breakers();
    open(&breakers);
    tokio::time::advance(Duration::from_secs(11)).await;
    breakers.admit(TARGET, clock(), Substitute::Ready).unwrap().succeeded();
    assert!(!health.refuses(TARGET, clock()));
    let mut shares = Vec::new();
    for _ in 0..4 {
        tokio::time::advance(Duration::from_millis(2500)).await;
        shares
            .push((0..100).filter(|_| breakers.admit(TARGET, clock(), Substitute::Ready).is_some()).count());
    }
    for (share, expected) in shares.iter().zip([25_usize, 50, 75, 100]) {
        assert!(share.abs_diff(expected) <= 2, "{shares:?}");
    }
    assert_eq!(breakers.states(clock())[TARGET.0].state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_answers_is_good_before_its_end_and_its_end_still_counts() {
    let (breakers, health) = breakers();
    open(&breakers);
    tokio::time::advance(Duration::from_secs(11)).await;
    let mut probe = breakers.admit(TARGET, clock(), Substitute::Ready).unwrap();
    assert!(health.refuses(TARGET, clock()));
    probe.answers();
    assert!(!health.refuses(TARGET, clock()), "others need not wait");
    probe.failed(ErrorKind::Server);
    let state = &breakers.states(clock())[TARGET.0];
    assert_eq!((state.state, state.failures), (Phase::Ramping, 1));
    let mut other = breakers.admit(TARGET, clock(), Substitute::None).unwrap();
    other.answers();
    other.failed(ErrorKind::Server);
    assert_eq!(breakers.states(clock())[TARGET.0].state, Phase::Open, "answering is no success yet");
}

#[tokio::test(start_paused = true)]
async fn a_ramp_refuses_nobody_who_has_no_substitute() {
    let (breakers, _) = breakers();
    open(&breakers);
    tokio::time::advance(Duration::from_secs(11)).await;
    breakers.admit(TARGET, clock(), Substitute::Ready).unwrap().succeeded();
    let admitted =
        |substitute| (0..100).filter(|_| breakers.admit(TARGET, clock(), substitute).is_some()).count();
    assert!(admitted(Substitute::Ready) < 10);
    assert_eq!(admitted(Substitute::None), 100);
}

#[test]
fn states_tell_failures_calls_and_their_share() {
    let (breakers, _) = breakers();
    let now = clock();
    for _ in 0..3 {
        breakers.admit(TARGET, now, Substitute::Ready).unwrap().succeeded();
    }
    breakers.admit(TARGET, now, Substitute::Ready).unwrap().failed(ErrorKind::Server);
    drop(breakers.admit(TARGET, now, Substitute::Ready));
    let state = &breakers.states(clock())[TARGET.0];
    let expected = TargetState {
        index: TARGET,
        state: Phase::Closed,
        failures: 1,
        calls: 4,
        error_ratio: 0.25,
        remaining: None,
    };
    assert_eq!(*state, expected);
}
