//! What a classifier has to beat: chance, the prompt's length, words.
//!
//! Chance and length are told how often each label occurs in the file, which flatters them.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Scale, judge::Judged, sample::Sample, tfidf::Tfidf};

/// Returns the random row: labels drawn as often as they occur, and a random order of the requests.
pub fn random(samples: &[Sample], tiers: &[usize], scale: &Scale, seed: u64) -> Vec<Judged> {
    let mut random = StdRng::seed_from_u64(seed);
    let intents: Vec<&Arc<str>> = samples.iter().filter_map(|sample| sample.intent.as_ref()).collect();
    samples
        .iter()
        .map(|_| {
            let place: f64 = random.random();
            Judged {
                tier: tiers[random.random_range(0..tiers.len())],
                intent: (!intents.is_empty())
                    .then(|| Arc::clone(intents[random.random_range(0..intents.len())])),
                sufficiency: Some(ladder(place, scale.tiers)),
                gain: Some(place),
                difficulty: Some(place),
                ..Judged::default()
            }
        })
        .collect()
}

/// Returns the length row: the longer the prompt, the harder it is taken to be. Its tiers are cut so that
/// each gets as many requests as it has among `tiers`.
pub fn length(samples: &[Sample], tiers: &[usize], scale: &Scale) -> Vec<Judged> {
    let lengths: Vec<usize> =
        samples.iter().map(|sample| sample.prompt.last_user_text().chars().count()).collect();
    let mut sorted = lengths.clone();
    sorted.sort_unstable();
    let mut ordered = tiers.to_vec();
    ordered.sort_unstable();
    lengths
        .into_iter()
        .map(|length| {
            let (shorter, not_longer) =
                (sorted.partition_point(|&other| other < length), sorted.partition_point(|&o| o <= length));
            // The middle of those of the same length.
            let place = (shorter + not_longer) as f64 / 2.0 / sorted.len() as f64;
            let at = ((place * ordered.len() as f64) as usize).min(ordered.len() - 1);
            Judged {
                tier: ordered[at],
                sufficiency: Some(ladder(place, scale.tiers)),
                gain: Some(length as f64),
                difficulty: Some(length as f64),
                ..Judged::default()
            }
        })
        .collect()
}

/// Returns the TF-IDF row; `levels` are the places of the tiers' levels among the baseline's own.
pub fn tfidf(
    samples: &[Sample],
    baseline: &Tfidf,
    levels: &[usize],
    scale: &Scale,
    quality: f64,
) -> Vec<Judged> {
    samples
        .iter()
        .map(|sample| {
            let guess = baseline.guess(sample.prompt.last_user_text());
            let top = levels.len() - 1;
            let enough = |tier: usize| if tier == top { 1.0 } else { guess.sufficiency[levels[tier]] };
            let sufficiency: Vec<f64> = (0..=top).map(enough).collect();
            let tier = sufficiency.iter().position(|&enough| enough >= quality).unwrap_or(top);
            Judged {
                intent: Some(guess.intent),
                intent_confidence: Some(guess.intent_confidence),
                ..Judged::by_sufficiency(tier, sufficiency, scale)
            }
        })
        .collect()
}

/// Returns sufficiencies that move requests up one tier at a time as the wanted quality rises, those of the
/// highest place (0 to 1) first.
fn ladder(place: f64, tiers: usize) -> Vec<f64> {
    (1..tiers).map(|step| (step as f64 - place) / tiers as f64).chain([1.0]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config::default_config,
        evaluation::sample::{Names, read},
        routing::line::Line,
    };

    const SCALE: Scale = Scale { tiers: 4, weak: 0, strong: 2, middle: Some(1) };

    fn samples(prompts: &[&str]) -> Vec<Sample> {
        let config = default_config();
        let names = Names { config: &config, levels: &[], models: &BTreeMap::new(), intents: &[] };
        let line = |prompt: &&str| {
            let bytes = serde_json::json!({"prompt": prompt, "intent": "code"}).to_string().into_bytes();
            read(&Line { number: 1, bytes, cut: false }, &names).unwrap()
        };
        prompts.iter().map(line).collect()
    }

    #[test]
    fn longer_prompts_get_higher_tiers() {
        let samples = samples(&["aaaa", "a", "äöü", "aa"]);
        let judged = length(&samples, &[0, 3, 1, 1], &SCALE);
        assert_eq!(judged.iter().map(|judged| judged.tier).collect::<Vec<_>>(), [3, 0, 1, 1]);
        assert_eq!(
            judged.iter().map(|judged| judged.gain).collect::<Vec<_>>(),
            [4.0, 1.0, 3.0, 2.0].map(Some)
        );
    }

    #[test]
    fn chance_repeats_with_its_seed() {
        let samples = samples(&["a"; 30]);
        let places = |seed| {
            random(&samples, &[0, 2], &SCALE, seed).iter().map(|judged| judged.gain).collect::<Vec<_>>()
        };
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
        assert!(random(&samples, &[0, 2], &SCALE, 1).iter().all(|judged| judged.tier != 1));
    }

    #[test]
    fn a_ladder_never_falls_and_ends_in_one() {
        for place in [0.0, 0.3, 1.0] {
            let steps = ladder(place, 4);
            assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]) && steps[3] == 1.0, "{steps:?}");
        }
    }
}
