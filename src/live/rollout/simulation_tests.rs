//! The promises of automatic promotion, played through: a classifier with a random head is taken back, one that is as
//! good as the active one is promoted. Every run has a fixed seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    judge::{Look, Verdict, judge, tests::config},
    observed::{Latencies, Observed},
};

const RUNS: u64 = 300;
/// Of the active bundle, which each run shares with some others.
const ACTIVES: u64 = 20;
const TIERS: [&str; 4] = ["simple", "moderate", "complex", "reasoning"];
/// How often each tier is needed.
const NEEDED: [f64; 4] = [0.5, 0.3, 0.15, 0.05];
/// Share of requests that are completed here, of those an answer by too weak a tier is noticed in, and of those that get
/// feedback.
const COMPLETED: f64 = 0.6;
const NOTICED: f64 = 0.7;
const JUDGED: f64 = 0.1;
/// Share of prompts on which a healthy classifier fails.
const FAILS: f64 = 0.001;

/// How a classifier decides.
#[derive(Clone, Copy)]
enum Head {
    /// The tier that is needed, or now and then the next one.
    Trained,
    /// Each level's sufficiency is a coin: the first that is enough is taken.
    Random,
    /// Weights that say nothing: the same for every prompt.
    Constant(usize),
}

fn decide(head: Head, needed: usize, rng: &mut StdRng) -> usize {
    match head {
        Head::Trained => match rng.random_range(0..10) {
            0 => needed.saturating_sub(1),
            1 => (needed + 1).min(3),
            _ => needed,
        },
        Head::Random => {
            // Sufficiency never falls as the tier rises: three draws in order.
            let mut draws: Vec<f64> = (0..3).map(|_| rng.random_range(0.0..1.0)).collect();
            draws.sort_by(f64::total_cmp);
            draws.iter().position(|&draw| draw >= 0.5).unwrap_or(3)
        }
        Head::Constant(tier) => tier,
    }
}

/// Adds one request.
fn ask(seen: &mut Observed, head: Head, rng: &mut StdRng) {
    seen.asked += 1;
    if rng.random_range(0.0..1.0) < FAILS {
        seen.unscored.failed += 1;
        return;
    }
    seen.scored += 1;
    let draw: f64 = rng.random_range(0.0..1.0);
    let needed = (0..3).find(|&tier| draw < NEEDED[..=tier].iter().sum()).unwrap_or(3);
    let tier = decide(head, needed, rng);
    seen.add_tier(TIERS[tier], 1);
    // Long tail: the square of an exponential draw.
    let long: f64 = -f64::ln(rng.random_range(f64::EPSILON..1.0));
    seen.latencies.add_to(Latencies::bucket_of(Duration::from_secs_f64(0.002 * (1.0 + long * long))), 1);
    let is_weak = tier < needed && rng.random_range(0.0..1.0) < NOTICED;
    if rng.random_range(0.0..1.0) < COMPLETED {
        seen.completions += 1;
        seen.escalated += u64::from(is_weak);
    }
    if rng.random_range(0.0..1.0) < JUDGED {
        let bad = if is_weak { 0.9 } else { 0.15 };
        if rng.random_range(0.0..1.0) < bad { seen.bad += 1.0 } else { seen.good += 1.0 }
    }
}

/// Returns what was seen of the active bundle until a canary with this share had so many samples, several times.
fn active(share: f64, samples: u64) -> Vec<Observed> {
    let others = (samples as f64 * (1.0 - share) / share) as u64;
    let of_seed = |seed: u64| {
        let (mut rng, mut seen) = (StdRng::seed_from_u64(1_000_000 + seed), Observed::default());
        (0..others).for_each(|_| ask(&mut seen, Head::Trained, &mut rng));
        seen
    };
    (0..ACTIVES).map(of_seed).collect()
}

/// Returns the last verdict of one step: a look after every twentieth request of the watched bundle, the last one at the
/// end of the window.
fn step(head: Head, active: &Observed, samples: u64, rng: &mut StdRng) -> Verdict {
    let config = config();
    let mut watched = Observed::default();
    loop {
        ask(&mut watched, head, rng);
        let is_over = watched.scored >= samples;
        if is_over || watched.asked.is_multiple_of(20) {
            let look = if is_over { Look::AtEnd } else { Look::Early };
            match judge(&config, &watched, active, look) {
                Verdict::Wait(_) if !is_over => {}
                verdict => return verdict,
            }
        }
    }
}

/// Returns the share of runs in which every step ends well.
fn promoted(head: Head, shares: &[f64], samples: u64) -> f64 {
    let actives: Vec<Vec<Observed>> = shares.iter().map(|&share| active(share, samples)).collect();
    let runs = (0..RUNS).filter(|&seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = actives.iter().map(|actives| &actives[(seed % ACTIVES) as usize]);
        steps.all(|active| !matches!(step(head, active, samples, &mut rng), Verdict::TakeBack(_)))
    });
    runs.count() as f64 / RUNS as f64
}

#[test]
fn a_random_head_is_taken_back_within_its_window() {
    let heads = [Head::Random, Head::Constant(0), Head::Constant(1), Head::Constant(2), Head::Constant(3)];
    for head in heads {
        let escaped = promoted(head, &[0.05], 200);
        assert!(escaped <= 0.01, "{escaped}");
        assert_eq!(promoted(head, &[0.05, 0.25], 200), 0.0);
    }
}

#[test]
fn an_equal_one_is_promoted() {
    let promoted = promoted(Head::Trained, &config().steps, config().samples_min);
    assert!(promoted >= 0.95, "{promoted}");
}

/// Looks of a window of the default length, one every two seconds.
const LOOKS: u32 = 300;

/// Watches a bundle that is as good as the active one for so many looks, the last one at the end; both get so many
/// requests between two looks, or `before` is what it is compared with. Returns at which look it is taken back.
fn false_alarm(looks: u32, watched_by: u32, active_by: u32, before: &Observed, seed: u64) -> Option<u32> {
    let (config, mut rng) = (config(), StdRng::seed_from_u64(2_000_000 + seed));
    let (mut watched, mut active) = (Observed::default(), before.clone());
    (1..=looks).find(|&at| {
        (0..watched_by).for_each(|_| ask(&mut watched, Head::Trained, &mut rng));
        (0..active_by).for_each(|_| ask(&mut active, Head::Trained, &mut rng));
        let look = if at == looks { Look::AtEnd } else { Look::Early };
        matches!(judge(&config, &watched, &active, look), Verdict::TakeBack(_))
    })
}

/// Checks that of all runs together, over all looks, less than one in a hundred ends with a false alarm, and that the
/// looks before the last one cause none.
#[track_caller]
fn check_alarms(what: &str, looks: u32, alarms: impl Fn(u64) -> Option<u32>) {
    let alarms: Vec<u32> = (0..RUNS).filter_map(alarms).collect();
    assert!((alarms.len() as f64) < 0.01 * RUNS as f64, "{what}: {alarms:?}");
    assert!(alarms.iter().all(|&at| at == looks), "{what}: {alarms:?}");
}

#[test]
fn hundreds_of_looks_take_nobody_back_who_is_as_good() {
    let nothing = Observed::default();
    // A quiet service, at a quarter and at half of its requests, and a busier one.
    for (watched_by, active_by) in [(1, 3), (1, 1), (4, 4)] {
        let what = format!("{watched_by} and {active_by} requests a look");
        check_alarms(&what, LOOKS, |seed| false_alarm(LOOKS, watched_by, active_by, &nothing, seed));
    }
}

#[test]
fn the_guard_takes_nobody_back_who_is_as_good() {
    let befores = active(0.5, 300);
    let looks = 2 * LOOKS;
    check_alarms("guard", looks, |seed| false_alarm(looks, 2, 0, &befores[(seed % ACTIVES) as usize], seed));
}
