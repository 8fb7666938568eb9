//! Learning in a simulated world: what it finds out, how soon, and what it leaves alone.

use pointsman::{
    config::LearningConfig,
    prompt::Tier,
    routing::learning::{Channel, Draws, shifted},
};

use super::world::{Served, Strategy, World};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const CODE: usize = 0;
const THRESHOLD: &str = "[policy]\nquality = 0.7\n";
const VALUE: &str = "[policy]\nobjective = \"value\"\nvalue_usd = 0.03\n";

/// Returns the share of code requests, and of the others, that tier moderate answers; without verdicts.
fn moderate_shares(world: &mut World, strategy: Strategy) -> (f64, f64) {
    let mut counts = [[0_u32; 2]; 2];
    for _ in 0..400 {
        let request = world.request();
        let served = world.serve(&request, strategy);
        let count = &mut counts[usize::from(request.intent != CODE)];
        count[0] += u32::from(served.tier == Tier(1));
        count[1] += 1;
    }
    let share = |[moderate, all]: [u32; 2]| f64::from(moderate) / f64::from(all);
    (share(counts[0]), share(counts[1]))
}

/// Serves and judges requests.
fn live(world: &mut World, requests: usize, strategy: Strategy) -> Vec<Served> {
    (0..requests)
        .map(|_| {
            let request = world.request();
            let served = world.serve(&request, strategy);
            world.feedback(&request, &served);
            served
        })
        .collect()
}

fn bad_at_code(intent: &str, target: &str, _: u64) -> f64 {
    // 0.85 becomes 0.2.
    if (intent, target) == ("code", "m1") { -3.12 } else { 0.0 }
}

#[test]
fn a_target_that_is_bad_at_one_intent_loses_it_and_keeps_the_others() {
    for seed in 0..10 {
        let mut world = World::new(seed, THRESHOLD, MINUTE_MS, bad_at_code);
        let (code, others) = moderate_shares(&mut world, Strategy::Learning);
        assert!(code > 0.65 && others > 0.65, "at first: {code} {others}");
        live(&mut world, 500, Strategy::Learning);
        let (code, others) = moderate_shares(&mut world, Strategy::Learning);
        assert!(code < 0.05, "seed {seed}: {code} of code still goes to it");
        assert!(others > 0.5, "seed {seed}: it keeps {others} of the others");
    }
}

#[test]
fn one_tenant_alone_finds_it_too() {
    for seed in 0..10 {
        let mut world = World::new(seed, THRESHOLD, MINUTE_MS, bad_at_code);
        // Some of what it says at first is over its allowance.
        world.tenants = 1;
        live(&mut world, 500, Strategy::Learning);
        let (code, others) = moderate_shares(&mut world, Strategy::Learning);
        assert!(code < 0.1, "seed {seed}: {code} of code still goes to it");
        assert!(others > 0.5, "seed {seed}: it keeps {others} of the others");
    }
}

/// Serves requests of which 3 % get an honest verdict; of the bad answers checks find a share.
fn live_quietly(world: &mut World, requests: usize, found: f64) {
    let weights = LearningConfig::default().weights;
    let mut draws = Draws::seeded(11);
    for _ in 0..requests {
        let request = world.request();
        let served = world.serve(&request, Strategy::Static);
        let good = draws.unit() < served.quality;
        if !good && draws.unit() < found {
            world.observe(&request, &served, Channel::Outcome, Some(0.0), weights.weak);
        } else if draws.unit() < 0.03 {
            let good = if good { 1.0 } else { 0.0 };
            world.observe(&request, &served, Channel::Feedback, Some(good), weights.user);
        } else {
            world.observe(&request, &served, Channel::Outcome, None, weights.accepted);
        }
    }
}

#[test]
fn answers_that_only_passed_do_not_outvote_the_few_who_say_something() {
    // Checks that find none of the bad answers, and those that find as many as they are taken to.
    for found in [0.0, 0.2] {
        let mut world = World::new(4, THRESHOLD, MINUTE_MS / 4, bad_at_code);
        live_quietly(&mut world, 40_000, found);
        let code = shifted(0.85, world.estimate("code", "m1").unwrap().mean);
        let chat = shifted(0.85, world.estimate("chat", "m1").unwrap().mean);
        assert!((code - 0.2).abs() < 0.1, "{found}: {code} of 0.2");
        assert!((chat - 0.85).abs() < 0.06, "{found}: {chat} of 0.85");
    }
}

#[test]
fn the_true_rate_is_found() {
    // Nothing moves by this little, so that it is judged to the end.
    let slightly_worse = |intent: &str, target: &str, _: u64| {
        if (intent, target) == ("code", "m1") { -0.8 } else { 0.0 }
    };
    let mut world = World::new(3, THRESHOLD, MINUTE_MS, slightly_worse);
    live(&mut world, 6000, Strategy::Learning);
    let code = world.estimate("code", "m1").unwrap();
    let chat = world.estimate("chat", "m1").unwrap();
    assert!((code.mean + 0.8).abs() < 0.35, "{code:?}");
    assert!(chat.mean.abs() < 0.35, "{chat:?}");
    assert!(code.sd < 0.25, "{code:?}");
}

#[test]
fn good_then_bad_then_good_is_followed() {
    const PHASE: usize = 3000;
    let truth = |intent: &str, target: &str, request: u64| {
        let phase = request as usize / PHASE;
        if (intent, target) == ("code", "m1") && phase == 1 { -3.12 } else { 0.0 }
    };
    // Without trials nobody would learn that it has become good again before half of the bad is forgotten.
    let exploring = Strategy::Exploring { rate: 0.1 };
    let mut world = World::new(5, THRESHOLD, 20 * MINUTE_MS, truth);
    let mut shares = Vec::new();
    for _ in 0..3 {
        live(&mut world, PHASE - 400, exploring);
        shares.push(moderate_shares(&mut world, Strategy::Learning).0);
    }
    assert!(shares[0] > 0.45 && shares[1] < 0.15 && shares[2] > 0.45, "{shares:?}");
}

#[test]
fn what_was_learned_is_forgotten() {
    let mut world = World::new(5, THRESHOLD, MINUTE_MS, bad_at_code);
    live(&mut world, 500, Strategy::Learning);
    let mut later = World::new(6, THRESHOLD, 60 * DAY_MS, bad_at_code);
    later.state = world.state.clone();
    later.request();
    let (before, after) = (world.estimate("code", "m1").unwrap(), later.estimate("code", "m1").unwrap());
    assert!(after.mean.abs() < 0.5 && after.mean.abs() < before.mean.abs(), "{before:?} {after:?}");
    assert!(after.sd > 0.9, "{after:?}");
}

#[test]
fn without_learning_nothing_moves() {
    let (mut one, mut other) =
        (World::new(7, THRESHOLD, MINUTE_MS, bad_at_code), World::new(7, THRESHOLD, MINUTE_MS, bad_at_code));
    for _ in 0..300 {
        let (request, same) = (one.request(), other.request());
        let served = one.serve(&request, Strategy::Static);
        one.feedback(&request, &served);
        assert_eq!(served, other.serve(&same, Strategy::Static));
        other.feedback(&same, &served);
    }
}

#[test]
fn trials_find_a_target_that_is_better_than_thought() {
    let good_at_jargon = |intent: &str, target: &str, _: u64| {
        if (intent, target) == ("jargon", "s1") { 2.0 } else { 0.0 }
    };
    let mut regrets =
        [Strategy::Static, Strategy::Learning, Strategy::Exploring { rate: 0.05 }].map(|strategy| {
            let mut world = World::new(9, VALUE, MINUTE_MS, good_at_jargon);
            live(&mut world, 6000, strategy);
            let late = (0..2000).map(|_| {
                let request = world.request();
                let served = world.serve(&request, strategy);
                world.worth(&world.oracle(&request)) - world.worth(&served)
            });
            late.sum::<f64>()
        });
    let exploring = regrets[2];
    regrets.sort_by(f64::total_cmp);
    assert_eq!(regrets[0], exploring, "{regrets:?}");
    assert!(exploring < 0.6 * regrets[1], "{regrets:?}");
}
