//! Intervals by the percentile bootstrap (Efron 1979; Efron and Tibshirani 1993, chapter 13).
//!
//! Resample `k` of a seed is the same whatever is measured on it, so rows can be compared pair by pair. Every
//! random number of an evaluation comes from [`generator`]: no two seeds, numbers or domains share any.

use std::thread;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Ends of an interval that holds the middle 95 % of the resamples.
const LOW: f64 = 0.025;
const HIGH: f64 = 0.975;
/// Fewer samples than this have no interval: a few lines drawn again and again tell how often each of them was
/// drawn and little of other lines, and a single one would look certain.
pub const INTERVAL_SAMPLES_MIN: usize = 20;

/// How many resamples, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// 0 gives no intervals.
    pub resamples: usize,
    pub seed: u64,
}

/// Ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// What random numbers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Which samples a resample holds.
    Resample = 1,
    /// The random baseline's draws, of which its value is the mean.
    Chance = 2,
    /// The random baseline's draw for each resample.
    ChanceOfResample = 3,
}

/// Returns the source of the random numbers of one draw.
///
/// The three parts stand side by side in the key: added up, the draws of two near seeds would be the same but for
/// their numbers.
pub fn generator(seed: u64, number: usize, domain: Domain) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    key[16] = domain as u8;
    StdRng::from_seed(key)
}

/// Returns what `measure` says of each resample of `samples` samples, given its number and how often each sample
/// was drawn.
pub fn resample<T: Send>(
    resampling: Resampling,
    samples: usize,
    measure: impl Fn(usize, &[u32]) -> T + Sync,
) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = resampling.resamples.div_ceil(threads).max(1);
    let numbers: Vec<usize> = (0..resampling.resamples).collect();
    thread::scope(|scope| {
        let run = |part: &[usize]| -> Vec<T> {
            part.iter().map(|&number| measure(number, &draw(resampling.seed, number, samples))).collect()
        };
        let parts: Vec<_> = numbers.chunks(share).map(|part| scope.spawn(move || run(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("a measure does not panic")).collect()
    })
}

/// Returns how often each sample is drawn when as many are drawn as there are.
fn draw(seed: u64, number: usize, samples: usize) -> Vec<u32> {
    let mut random = generator(seed, number, Domain::Resample);
    let mut weights = vec![0; samples];
    for _ in 0..samples {
        weights[random.random_range(0..samples)] += 1;
    }
    weights
}

/// Returns the interval of what the resamples gave of a figure of `samples` samples; `None` when these are too
/// few, or when fewer than half of the resamples gave a value.
pub fn interval(samples: usize, values: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    if samples < INTERVAL_SAMPLES_MIN {
        return None;
    }
    let mut all = 0;
    let mut given: Vec<f64> = values.inspect(|_| all += 1).flatten().collect();
    if given.is_empty() || given.len() * 2 < all {
        return None;
    }
    given.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&given, LOW), high: quantile(&given, HIGH) })
}

/// Returns the quantile of ascending values, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_resamples_and_each_is_complete() {
        let run = |seed| resample(Resampling { resamples: 20, seed }, 50, |_, weights| weights.to_vec());
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        assert!(run(3).iter().all(|weights| weights.iter().sum::<u32>() == 50));
        let resample = |resamples, samples| {
            resample(Resampling { resamples, seed: 1 }, samples, |_, weights| weights.to_vec())
        };
        assert!(resample(0, 5).is_empty());
        let of_nothing = resample(2, 0);
        assert!(of_nothing.len() == 2 && of_nothing.iter().all(Vec::is_empty));
    }

    #[test]
    fn neither_near_seeds_nor_domains_share_a_draw() {
        let run = |seed| resample(Resampling { resamples: 100, seed }, 50, |_, weights| weights.to_vec());
        let (three, four) = (run(3), run(4));
        assert!(three.iter().all(|weights| !four.contains(weights)));
        let first = |seed, number, domain| generator(seed, number, domain).random::<u64>();
        let domains = [Domain::Resample, Domain::Chance, Domain::ChanceOfResample];
        let all: std::collections::BTreeSet<u64> = domains
            .into_iter()
            .flat_map(|domain| [(3, 0), (3, 1), (4, 0)].map(|(seed, number)| first(seed, number, domain)))
            .collect();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn a_few_samples_have_no_interval() {
        let values = || [Some(1.0); 4].into_iter();
        assert_eq!(interval(1, values()), None);
        assert_eq!(interval(INTERVAL_SAMPLES_MIN - 1, values()), None);
        assert_eq!(interval(INTERVAL_SAMPLES_MIN, values()), Some(Interval { low: 1.0, high: 1.0 }));
    }

    #[test]
    fn the_interval_of_a_mean_is_near_the_textbook_one() {
        // 400 samples, half of them 1: standard error 0.025, so 0.5 -+ 1.96 * 0.025.
        let means = resample(Resampling { resamples: 2000, seed: 1 }, 400, |_, weights| {
            Some(f64::from(weights.iter().take(200).sum::<u32>()) / 400.0)
        });
        let interval = interval(400, means.into_iter()).unwrap();
        assert!((interval.low - 0.451).abs() < 0.01 && (interval.high - 0.549).abs() < 0.01, "{interval:?}");
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let got = interval(41, (0..=40).map(|value| Some(f64::from(value)))).unwrap();
        assert!((got.low - 1.0).abs() < 1e-12 && (got.high - 39.0).abs() < 1e-12);
        assert_eq!(interval(41, [Some(1.0), None, None].into_iter()), None);
        assert_eq!(interval(41, std::iter::empty()), None);
    }
}
