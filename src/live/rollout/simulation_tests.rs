//! The promises of automatic promotion, played through: a classifier with a random head is taken back, one that is as
//! good as the active one is promoted. Every run has a fixed seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    judge::{Verdict, judge, tests::config},
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
    let window_ms = config.window.as_millis() as i64;
    let mut watched = Observed::default();
    loop {
        ask(&mut watched, head, rng);
        let is_over = watched.scored >= samples;
        if is_over || watched.asked.is_multiple_of(20) {
            let at_ms = if is_over { window_ms } else { window_ms / 2 };
            match judge(&config, &watched, active, at_ms) {
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
