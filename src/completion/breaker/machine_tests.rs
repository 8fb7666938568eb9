//! The breaker on an artificial clock.

use proptest::prelude::*;

use super::*;

fn config() -> BreakerConfig {
    BreakerConfig {
        failures: 3,
        error_ratio: 0.5,
        window: Duration::from_secs(30),
        calls_min: 10,
        cooldown: Duration::from_secs(10),
        cooldown_max: Duration::from_secs(35),
        ramp: Duration::from_secs(10),
    }
}

/// A breaker and its clock.
struct Clocked {
    breaker: Breaker,
    now: Instant,
}

impl Clocked {
    fn new(config: BreakerConfig) -> Self {
        let now = Instant::now();
        Self { breaker: Breaker::new(config, now), now }
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    /// Makes one call, admitted or not.
    fn call(&mut self, verdict: Verdict) -> bool {
        match self.breaker.admit(self.now, 0.0) {
            Some(ticket) => {
                self.breaker.settle(ticket, verdict, self.now);
                true
            }
            None => false,
        }
    }

    fn fail(&mut self, times: usize) {
        for _ in 0..times {
            assert!(self.call(Verdict::Bad));
        }
    }

    fn phase(&mut self) -> Phase {
        self.breaker.phase(self.now)
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let mut it = Clocked::new(config());
    it.fail(2);
    assert!(it.call(Verdict::Good));
    it.fail(2);
    assert_eq!(it.phase(), Phase::Closed);
    it.fail(1);
    assert_eq!(it.phase(), Phase::Open);
    assert!(!it.call(Verdict::Good));
}

#[test]
fn the_share_of_failures_counts_only_from_enough_calls() {
    let open_after = |calls: usize| {
        let mut it = Clocked::new(BreakerConfig { failures: u32::MAX, ..config() });
        for at in 0..calls {
            assert!(it.call(if at % 2 == 1 { Verdict::Bad } else { Verdict::Good }), "{at}");
        }
        it.phase() == Phase::Open
    };
    assert!(!open_after(9));
    assert!(open_after(10));
}

#[test]
fn one_probe_at_a_time_after_the_cooldown() {
    let mut it = Clocked::new(config());
    it.fail(3);
    assert!(!it.pass(9).call(Verdict::Good));
    it.pass(1);
    assert_eq!(it.phase(), Phase::HalfOpen);
    let probe = it.breaker.admit(it.now, 0.99).unwrap();
    assert_eq!(it.breaker.admit(it.now, 0.0), None);
    // The caller of the probe hung up: the next call is the probe.
    it.breaker.release(probe);
    let probe = it.breaker.admit(it.now, 0.99).unwrap();
    it.breaker.settle(probe, Verdict::Good, it.now);
    assert_eq!(it.phase(), Phase::Ramping);
}

#[test]
fn the_cooldown_doubles_with_each_bad_probe_up_to_its_maximum() {
    let mut it = Clocked::new(config());
    it.fail(3);
    for seconds in [10, 20, 35, 35] {
        assert!(!it.pass(seconds - 1).call(Verdict::Good), "{seconds}");
        assert!(it.pass(1).call(Verdict::Bad), "{seconds}");
    }
    // Once it was closed, all begins again.
    assert!(it.pass(35).call(Verdict::Good));
    it.pass(10).fail(3);
    assert!(it.pass(10).call(Verdict::Good));
}

#[test]
fn failing_again_on_the_ramp_doubles_the_cooldown_too() {
    let mut it = Clocked::new(config());
    it.fail(3);
    assert!(it.pass(10).call(Verdict::Good));
    it.pass(5).fail(3);
    assert!(!it.pass(19).call(Verdict::Good));
    assert!(it.pass(1).call(Verdict::Good));
}

#[test]
fn the_ramp_grows_from_a_few_to_all() {
    let since = Instant::now();
    for (ms, expected) in [(0, 0.05), (400, 0.05), (2500, 0.25), (5000, 0.5), (9999, 0.9999), (10_000, 1.0)] {
        let got = share(since, since + Duration::from_millis(ms), config().ramp);
        assert!((got - expected).abs() < 1e-9, "{ms}: {got}");
    }
    assert_eq!(share(since, since, Duration::ZERO), 1.0);
}

#[test]
fn it_knows_whether_only_rate_limits_opened_it() {
    let check = |verdicts: &[Verdict], expected: bool| {
        let mut it = Clocked::new(config());
        for verdict in verdicts {
            if it.phase() == Phase::Open {
                it.pass(100);
            }
            assert!(it.call(*verdict));
        }
        assert_eq!(it.phase(), Phase::Open, "{verdicts:?}");
        assert_eq!(it.breaker.is_rate_limited(), expected, "{verdicts:?}");
    };
    use Verdict::{Bad, Good, RateLimited};
    check(&[RateLimited; 3], true);
    check(&[RateLimited, RateLimited, Bad], false);
    check(&[Bad, RateLimited, RateLimited], false);
    check(&[Bad, Good, RateLimited, RateLimited, RateLimited], true);
    check(&[Bad, Bad, Bad, RateLimited], true);
    check(&[RateLimited, RateLimited, RateLimited, Bad], false);
    // Half of all calls failed: the last failure says nothing about the others.
    check(&[Bad, Good, Bad, Good, Bad, Good, Bad, Good, Good, RateLimited], false);
}

#[test]
fn without_a_ramp_a_good_probe_closes_it() {
    let mut it = Clocked::new(BreakerConfig { ramp: Duration::ZERO, ..config() });
    it.fail(3);
    assert!(it.pass(10).call(Verdict::Good));
    assert_eq!(it.phase(), Phase::Closed);
}

#[test]
fn calls_from_before_it_opened_have_no_say() {
    let mut it = Clocked::new(config());
    let early: Vec<Ticket> = (0..3).map(|_| it.breaker.admit(it.now, 0.0).unwrap()).collect();
    it.fail(3);
    it.pass(10);
    let probe = it.breaker.admit(it.now, 0.0).unwrap();
    it.breaker.settle(early[0], Verdict::Good, it.now);
    it.breaker.settle(early[1], Verdict::Bad, it.now);
    it.breaker.release(early[2]);
    assert_eq!(it.phase(), Phase::HalfOpen);
    assert_eq!(it.breaker.admit(it.now, 0.0), None, "the place of the probe is still taken");
    it.breaker.settle(probe, Verdict::Bad, it.now);
    assert_eq!(it.phase(), Phase::Open);
}

#[test]
fn the_cooldown_never_overflows() {
    for reopened in [0, 1, 31, 32, u32::MAX] {
        assert!(cooldown(&config(), reopened) <= config().cooldown_max);
    }
    let misordered = BreakerConfig { cooldown_max: Duration::ZERO, ..config() };
    assert_eq!(cooldown(&misordered, 3), misordered.cooldown);
    let endless = BreakerConfig { cooldown: Duration::MAX, cooldown_max: Duration::MAX, ..config() };
    let mut it = Clocked::new(endless);
    it.fail(3);
    assert!(it.pass(COOLDOWN_MAX.as_secs()).call(Verdict::Good));
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    Pass {
        ms: u64,
    },
    Admit {
        chance: f64,
    },
    /// One of the calls in flight ends.
    End {
        which: usize,
        verdict: Option<Verdict>,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![
        3 => Just(Some(Verdict::Bad)),
        2 => Just(Some(Verdict::Good)),
        1 => Just(None),
    ];
    prop_oneof![
        2 => (0_u64..15_000).prop_map(|ms| Event::Pass { ms }),
        4 => (0.0_f64..1.0).prop_map(|chance| Event::Admit { chance }),
        4 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Event::End { which, verdict }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Written down a second time from the outside: who is admitted follows from the phase alone.
    #[test]
    fn what_is_admitted_follows_from_the_phase(
        events in proptest::collection::vec(any_event(), 1..200),
        failures in 1_u32..6,
        error_ratio in 0.1_f64..=1.0,
        calls_min in 1_u32..20,
    ) {
        let config = BreakerConfig { failures, error_ratio, calls_min, ..config() };
        let mut it = Clocked::new(config);
        let mut in_flight: Vec<Ticket> = Vec::new();
        let mut probe: Option<Ticket> = None;
        let mut before = Phase::Closed;
        let mut opened_at = it.now;
        for event in events {
            match event {
                Event::Pass { ms } => it.now += Duration::from_millis(ms),
                Event::Admit { chance } => {
                    let phase = it.phase();
                    let ticket = it.breaker.admit(it.now, chance);
                    match phase {
                        Phase::Closed => prop_assert!(ticket.is_some()),
                        Phase::Open => prop_assert!(ticket.is_none()),
                        Phase::HalfOpen => {
                            prop_assert_eq!(ticket.is_some(), probe.is_none());
                            probe = probe.or(ticket);
                        }
                        Phase::Ramping => if chance < SHARE_MIN { prop_assert!(ticket.is_some()) },
                    }
                    in_flight.extend(ticket);
                }
                Event::End { which, verdict } if !in_flight.is_empty() => {
                    let ticket = in_flight.swap_remove(which % in_flight.len());
                    if probe == Some(ticket) {
                        probe = None;
                    }
                    match verdict {
                        Some(verdict) => it.breaker.settle(ticket, verdict, it.now),
                        None => it.breaker.release(ticket),
                    }
                }
                Event::End { .. } => {}
            }
            let phase = it.phase();
            // Time alone may also lead through a phase, so that two steps are seen as one.
            let may_follow = match before {
                Phase::Closed => [Phase::Closed, Phase::Open].as_slice(),
                Phase::Open => &[Phase::Open, Phase::HalfOpen],
                Phase::HalfOpen => &[Phase::HalfOpen, Phase::Open, Phase::Ramping],
                Phase::Ramping => &[Phase::Ramping, Phase::Closed, Phase::Open],
            };
            prop_assert!(may_follow.contains(&phase), "{:?} -> {:?}", before, phase);
            if phase == Phase::Open && before != Phase::Open {
                opened_at = it.now;
                let cooldown = it.breaker.open_until().map(|until| until - it.now);
                prop_assert!(cooldown >= Some(config.cooldown) && cooldown <= Some(config.cooldown_max));
            }
            if before == Phase::Open && phase == Phase::HalfOpen {
                prop_assert!(it.now - opened_at >= config.cooldown);
            }
            before = phase;
        }
        // Left alone and then answering well, it always comes back to all.
        for ticket in in_flight {
            it.breaker.release(ticket);
        }
        it.now += config.cooldown_max;
        if it.phase() == Phase::HalfOpen {
            let probe = it.breaker.admit(it.now, 0.9).unwrap();
            it.breaker.settle(probe, Verdict::Good, it.now);
        }
        it.now += config.ramp;
        prop_assert_eq!(it.phase(), Phase::Closed);
        prop_assert!(it.breaker.admit(it.now, 0.999).is_some());
    }
}
