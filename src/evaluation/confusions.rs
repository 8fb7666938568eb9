//! Which labels the router takes for which others.

use std::{cmp::Reverse, sync::Arc};

use serde::Serialize;

use super::{figures::Material, judge::Judged, metrics::confusion, views::OTHER};

/// Intents told apart, the most frequent ones: beyond that nobody reads a grid, and it grows with the square.
pub const CLASSES_MAX: usize = 50;
/// Column of decisions that name no intent.
const NONE: &str = "none";

/// How often each label was given each prediction by the router.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    /// "tier" or "intent".
    pub of: &'static str,
    pub labels: Vec<Arc<str>>,
    /// The labels, and "none" where some decisions name no intent.
    pub predictions: Vec<Arc<str>>,
    /// Row: label; column: prediction.
    pub counts: Vec<Vec<u32>>,
}

/// Returns the confusions that the labels allow, of tiers first.
pub fn confusions(material: &Material<'_>, router: &[Judged]) -> Vec<Confusion> {
    [of_tiers(material, router), of_intents(material, router)].into_iter().flatten().collect()
}

fn of_tiers(material: &Material<'_>, router: &[Judged]) -> Option<Confusion> {
    let pairs = material.samples.iter().zip(router);
    let pairs: Vec<(usize, usize)> =
        pairs.filter_map(|(sample, judged)| Some((sample.tier?.0, judged.tier))).collect();
    let names = material.tiers.to_vec();
    (!pairs.is_empty()).then(|| Confusion {
        of: "tier",
        counts: confusion(pairs.into_iter(), names.len(), names.len()),
        predictions: names.clone(),
        labels: names,
    })
}

fn of_intents(material: &Material<'_>, router: &[Judged]) -> Option<Confusion> {
    let pair = |(sample, judged): (&super::Sample, &Judged)| {
        let label = material.class(sample.intent.as_ref()?)?;
        Some((label, judged.intent.as_ref().and_then(|intent| material.class(intent))))
    };
    let pairs: Vec<(usize, Option<usize>)> = material.samples.iter().zip(router).filter_map(pair).collect();
    intent_grid(&pairs, &material.classes)
}

/// Returns the grid of (label, prediction); `None` where no decision names an intent.
fn intent_grid(pairs: &[(usize, Option<usize>)], classes: &[Arc<str>]) -> Option<Confusion> {
    if pairs.iter().all(|(_, got)| got.is_none()) {
        return None;
    }
    let (places, mut names) = told_apart(pairs, classes);
    let labels = names.clone();
    let none = names.len();
    if pairs.iter().any(|(_, got)| got.is_none()) {
        names.push(Arc::from(NONE));
    }
    let placed = pairs.iter().map(|&(label, got)| (places[label], got.map_or(none, |got| places[got])));
    let counts = confusion(placed, labels.len(), names.len());
    Some(Confusion { of: "intent", labels, predictions: names, counts })
}

/// Returns the place of each class in the grid, and the names of the places.
fn told_apart(pairs: &[(usize, Option<usize>)], classes: &[Arc<str>]) -> (Vec<usize>, Vec<Arc<str>>) {
    if classes.len() <= CLASSES_MAX {
        return ((0..classes.len()).collect(), classes.to_vec());
    }
    let mut counts = vec![0_usize; classes.len()];
    for class in pairs.iter().flat_map(|&(label, got)| [Some(label), got]).flatten() {
        counts[class] += 1;
    }
    let mut frequent: Vec<usize> = (0..classes.len()).collect();
    frequent.sort_by_key(|&class| Reverse(counts[class]));
    frequent.truncate(CLASSES_MAX);
    frequent.sort_unstable();
    let mut places = vec![CLASSES_MAX; classes.len()];
    for (place, &class) in frequent.iter().enumerate() {
        places[class] = place;
    }
    let names = frequent.iter().map(|&class| Arc::clone(&classes[class]));
    (places, names.chain([Arc::from(OTHER)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|at| Arc::from(format!("c{at:04}"))).collect()
    }

    #[test]
    fn decisions_without_an_intent_have_a_column() {
        let grid = intent_grid(&[(0, Some(0)), (0, None), (1, Some(0))], &classes(2)).unwrap();
        assert_eq!(
            grid.predictions.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["c0000", "c0001", "none"]
        );
        assert_eq!((grid.labels.len(), grid.counts), (2, vec![vec![1, 0, 1], vec![1, 0, 0]]));
        let all_named = intent_grid(&[(0, Some(1))], &classes(2)).unwrap();
        assert_eq!(all_named.predictions, all_named.labels);
    }

    #[test]
    fn nothing_is_made_of_no_decisions() {
        assert_eq!(intent_grid(&[], &classes(100_000)), None);
        assert_eq!(intent_grid(&[(0, None)], &classes(1)), None);
    }

    #[test]
    fn rare_intents_are_one_class() {
        // Each class is a label once, the last one three times.
        let last = 3 * CLASSES_MAX;
        let pairs: Vec<_> = (0..=last).chain([last; 2]).map(|class| (class, Some(class))).collect();
        let grid = intent_grid(&pairs, &classes(last + 1)).unwrap();
        assert_eq!((grid.labels.len(), grid.counts.len()), (CLASSES_MAX + 1, CLASSES_MAX + 1));
        assert_eq!(&*grid.labels[CLASSES_MAX], OTHER);
        assert_eq!(
            (&*grid.labels[CLASSES_MAX - 1], grid.counts[CLASSES_MAX - 1][CLASSES_MAX - 1]),
            ("c0150", 3)
        );
        assert_eq!(grid.counts[CLASSES_MAX][CLASSES_MAX] as usize, last + 1 - CLASSES_MAX);
    }
}
