//! What a classifier has to beat: chance, the prompt's length, words.
//!
//! Chance and length are told how often each label occurs in the file, which flatters them.

use std::sync::Arc;

use rand::{RngExt, rngs::StdRng};

use super::{Scale, judge::Judged, sample::Sample, tfidf::Tfidf};

/// The random row: labels drawn as often as they occur, and a random order of the requests.
///
/// One draw is good or bad by luck, so figures are made from many.
pub struct Chance<'a> {
    samples: usize,
    intents: Vec<&'a Arc<str>>,
    /// Never empty.
    tiers: &'a [usize],
    scale: Scale,
}

impl<'a> Chance<'a> {
    pub fn new(samples: &'a [Sample], tiers: &'a [usize], scale: Scale) -> Self {
        let intents = samples.iter().filter_map(|sample| sample.intent.as_ref()).collect();
        Self { samples: samples.len(), intents, tiers, scale }
    }

    /// Returns one draw.
    pub fn draw(&self, random: &mut StdRng) -> Vec<Judged> {
        let Self { intents, tiers, .. } = self;
        let judge = |_| {
            let place: f64 = random.random();
            Judged {
                tier: tiers[random.random_range(0..tiers.len())],
                intent: (!intents.is_empty())
                    .then(|| Arc::clone(intents[random.random_range(0..intents.len())])),
                sufficiency: Some(ladder(place, self.scale.tiers)),
                gain: Some(place),
                difficulty: Some(place),
                ..Judged::default()
            }
        };
        (0..self.samples).map(judge).collect()
    }
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

/// Returns the TF-IDF row; `levels` are the places of the tiers' levels among the baseline's own, `quality` is
/// wanted where the request asks for none of its own.
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
            let quality = sample.prompt.preferences.quality.unwrap_or(quality);
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
    use serde_json::json;

    use super::*;
    use crate::evaluation::{
        bootstrap::{Domain, generator},
        sample::tests::sample,
    };

    const SCALE: Scale = Scale { tiers: 4, weak: 0, strong: 2, middle: Some(1) };

    fn samples(prompts: &[&str]) -> Vec<Sample> {
        prompts.iter().map(|prompt| sample(&json!({"prompt": prompt, "intent": "code"}))).collect()
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
        let chance = Chance::new(&samples, &[0, 2], SCALE);
        let draw = |seed| chance.draw(&mut generator(seed, 0, Domain::Chance));
        let places = |seed| draw(seed).iter().map(|judged| judged.gain).collect::<Vec<_>>();
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
        assert!(draw(1).iter().all(|judged| judged.tier != 1));
    }

    #[test]
    fn words_are_asked_for_the_quality_that_the_request_wants() {
        let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/baseline.json"));
        let baseline = Tfidf::read(file).unwrap();
        let wanted = |quality: f64| sample(&json!({"prompt": "x", "preferences": {"quality": quality}}));
        let samples = [sample(&json!({"prompt": "x"})), wanted(0.0), wanted(1.0)];
        let tier = |quality: f64| -> Vec<usize> {
            let rows = tfidf(&samples, &baseline, &[0, 1, 2, 3], &SCALE, quality);
            rows.iter().map(|judged| judged.tier).collect()
        };
        assert_eq!(tier(0.0), [0, 0, 3]);
        assert_eq!(tier(1.0), [3, 0, 3]);
    }

    #[test]
    fn a_ladder_never_falls_and_ends_in_one() {
        for place in [0.0, 0.3, 1.0] {
            let steps = ladder(place, 4);
            assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]) && steps[3] == 1.0, "{steps:?}");
        }
    }
}
