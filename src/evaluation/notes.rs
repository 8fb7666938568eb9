//! What a reader of a section's figures must know.

use std::collections::BTreeSet;

use super::{
    confusions::CLASSES_MAX, figures::Material, judge::Judged, sample::Sample, views::LANGUAGES_MAX,
};

/// Names told in a note; the rest is counted.
const NAMES_MAX: usize = 5;

/// Returns the notes of a section.
pub fn notes(material: &Material<'_>, router: &[Judged]) -> Vec<String> {
    let mut notes = Vec::new();
    left_alone(&mut notes, material.samples);
    if material.answering.len() > 1 {
        outcomes(&mut notes, material);
    }
    left_out(&mut notes, material);
    if material.answering.len() > 1 {
        stand_ins(&mut notes, material, router);
    }
    gain(&mut notes, material);
    capped(&mut notes, material);
    notes
}

/// Returns the first names, comma-separated, and how many more there are.
pub fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = match names.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<&str> = names.take(NAMES_MAX).collect();
    format!("{}{more}", shown.join(", "))
}

/// Outcomes that could not be read or placed.
fn left_alone(notes: &mut Vec<String>, samples: &[Sample]) {
    let foreign = samples.iter().filter(|sample| sample.foreign_outcomes).count();
    if foreign > 0 {
        notes.push(format!("`outcomes` is no object on {foreign} lines and was left alone there"));
    }
    let models: BTreeSet<&str> =
        samples.iter().flat_map(|sample| sample.unplaced.iter().map(String::as_str)).collect();
    if !models.is_empty() {
        notes.push(format!(
            "outcomes of models that belong to no tier were left alone: {}; --models NAME=TIER places them",
            listed(models.into_iter())
        ));
    }
    let levels: BTreeSet<&str> =
        samples.iter().flat_map(|sample| sample.unplaced_levels.iter().copied()).collect();
    if !levels.is_empty() {
        notes.push(format!("no tier stands for the level of {}: left alone", listed(levels.into_iter())));
    }
}

/// Which tiers the cost figures know, and how many costs are estimates.
fn outcomes(notes: &mut Vec<String>, material: &Material<'_>) {
    let Material { samples, answering, tiers, .. } = material;
    let answered = |sample: &&Sample| answering.iter().all(|&tier| sample.outcomes[tier].is_some());
    let complete: Vec<&Sample> = samples.iter().filter(answered).collect();
    let names: Vec<&str> = answering.iter().map(|&tier| &*tiers[tier]).collect();
    let top = names.last().copied().unwrap_or_default();
    notes.push(format!(
        "outcomes of {} on {} of {} lines; {top} is the top tier of the cost figures",
        names.join(", "),
        complete.len(),
        samples.len(),
    ));
    let estimated = complete
        .iter()
        .flat_map(|sample| answering.iter().filter_map(|&tier| sample.outcomes[tier]))
        .filter(|outcome| outcome.cost_usd.is_none())
        .count();
    if estimated > 0 {
        notes.push(format!(
            "{estimated} of {} costs were not measured: they are estimated from the configuration's prices of each \
             tier's first target",
            complete.len() * answering.len()
        ));
    }
}

/// Tiers whose outcomes the cost figures do not use.
fn left_out(notes: &mut Vec<String>, material: &Material<'_>) {
    let Material { samples, answering, tiers, .. } = material;
    for (tier, name) in tiers.iter().enumerate() {
        let known = samples.iter().filter(|sample| sample.outcomes[tier].is_some()).count();
        // The only tier that answers is compared with nothing.
        let used = answering.len() > 1 && answering.contains(&tier);
        if known > 0 && !used {
            let all = samples.len();
            notes.push(format!("outcomes of {name} on {known} of {all} lines: left out of the cost figures"));
        }
    }
}

/// Decisions for tiers that have no outcomes.
fn stand_ins(notes: &mut Vec<String>, material: &Material<'_>, router: &[Judged]) {
    let Material { answering, tiers, .. } = material;
    let answers = material.answers_by(router);
    let decided = || answers.iter().zip(router).filter(|(answer, _)| answer.is_some());
    for (tier, name) in tiers.iter().enumerate().filter(|(tier, _)| !answering.contains(tier)) {
        let lines = decided().filter(|(_, judged)| judged.tier == tier).count();
        if lines > 0 {
            let other = &tiers[answering[material.nearest(tier)]];
            notes.push(format!("{lines} lines decided for {name} count as {other} in the cost figures"));
        }
    }
}

/// Which tiers gain compares.
fn gain(notes: &mut Vec<String>, material: &Material<'_>) {
    let (weak, strong) = (material.scale.weak, material.scale.strong);
    let both = |sample: &Sample| sample.outcomes[weak].is_some() && sample.outcomes[strong].is_some();
    if weak != strong && material.samples.iter().any(both) {
        notes.push(format!("gain compares {} with {}", material.tiers[weak], material.tiers[strong]));
    }
}

/// Names that are too many to be told apart.
fn capped(notes: &mut Vec<String>, material: &Material<'_>) {
    let languages: BTreeSet<&str> =
        material.samples.iter().filter_map(|sample| sample.language.as_deref()).collect();
    if languages.len() > LANGUAGES_MAX {
        notes.push(format!(
            "the {LANGUAGES_MAX} most frequent of {} languages are told apart, the rest is \"other\"",
            languages.len()
        ));
    }
    let intents = material.classes.len();
    if intents > CLASSES_MAX {
        notes.push(format!(
            "the confusion tells the {CLASSES_MAX} most frequent of {intents} intents apart, the rest is \"other\""
        ));
    }
}
