//! What an operator should know of intents by example before they serve: how well the examples of each
//! would be recognised by their siblings, and where two intents overlap.

use super::{ExampleIntent, ExampleIntents, cosine, similarity};
use crate::{
    config::Config,
    routing::{language::ReadLanguages, language::detect},
};

/// Characters of an example that a warning shows.
const SHOWN_CHARS_MAX: usize = 60;

/// One intent's figures and warnings.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    pub name: String,
    pub examples: usize,
    pub threshold: f64,
    /// Examples that the others of the intent would recognise.
    pub recalled: usize,
    pub warnings: Vec<String>,
}

/// Returns a review of each intent by example, in the order of the configuration.
pub fn review(intents: &ExampleIntents, config: &Config, read: Option<&ReadLanguages>) -> Vec<Review> {
    intents
        .intents
        .iter()
        .map(|intent| {
            let texts = texts(intent, config);
            let left_out: Vec<f32> = (0..texts.len()).map(|at| without(intent, at)).collect();
            let recalled = left_out.iter().filter(|&&similarity| similarity > intent.threshold).count();
            let mut warnings = Vec::new();
            if recalled == 0 {
                warnings.push(format!(
                    "none of its examples would be recognised by the others ({:.2} needed): they are too unlike, \
                     or too like ordinary prompts; give more of them, or raise false_positives_max",
                    intent.threshold
                ));
            } else {
                warnings.extend(strangers(intent, texts, &left_out));
            }
            let claimants = claimants(intent, &left_out, intents);
            let others = intents.intents.iter();
            warnings.extend(others.filter_map(|other| overlap(intent, &left_out, &claimants, other, config)));
            warnings.extend(read.into_iter().flat_map(|read| unread(texts, read)));
            Review {
                name: intent.intent.to_string(),
                examples: texts.len(),
                threshold: f64::from(intent.threshold),
                recalled,
                warnings,
            }
        })
        .collect()
}

fn texts<'a>(intent: &ExampleIntent, config: &'a Config) -> &'a [String] {
    config.intents[intent.place].examples.as_ref().map_or(&[], |examples| &examples.texts)
}

/// Returns how like its siblings the example at `at` is.
fn without(intent: &ExampleIntent, at: usize) -> f32 {
    let siblings = intent.examples.iter().enumerate().filter(|(other, _)| *other != at);
    similarity(siblings.map(|(_, example)| example), &intent.examples[at])
}

fn strangers<'a>(
    intent: &'a ExampleIntent,
    texts: &'a [String],
    left_out: &'a [f32],
) -> impl Iterator<Item = String> + 'a {
    let threshold = intent.threshold;
    texts.iter().zip(left_out).filter(move |(_, similarity)| **similarity <= threshold).map(
        move |(text, similarity)| {
            format!(
                "{} is unlike its siblings (similarity {similarity:.2}, {threshold:.2} needed): prompts like it \
                 are recognised only when they nearly repeat it",
                shown(text)
            )
        },
    )
}

/// Returns for each example the place of another intent that would claim a prompt like it, if its own
/// intent knew the other examples only.
fn claimants(intent: &ExampleIntent, left_out: &[f32], intents: &ExampleIntents) -> Vec<Option<usize>> {
    let claimant = |(example, own): (&Vec<f32>, &f32)| {
        let others = intents.intents.iter().filter(|other| other.place != intent.place);
        let margins = others.map(|other| (other.margin(other.similarity(example)), other.place));
        let least = intent.margin(*own).max(0.0);
        margins
            .filter(|(margin, _)| *margin > least)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, place)| place)
    };
    intent.examples.iter().zip(left_out).map(claimant).collect()
}

/// Returns a warning about the examples that `other` would claim, showing the clearest.
fn overlap(
    intent: &ExampleIntent,
    left_out: &[f32],
    claimants: &[Option<usize>],
    other: &ExampleIntent,
    config: &Config,
) -> Option<String> {
    let lost: Vec<usize> = (0..claimants.len()).filter(|&at| claimants[at] == Some(other.place)).collect();
    let likeness = |at: usize| other.similarity(&intent.examples[at]);
    let at = lost.iter().copied().max_by(|&a, &b| likeness(a).total_cmp(&likeness(b)))?;
    let cosine_of = |place: usize| cosine(&other.examples[place], &intent.examples[at]);
    let nearest = (0..other.examples.len()).max_by(|&a, &b| cosine_of(a).total_cmp(&cosine_of(b)))?;
    let more = match lost.len() - 1 {
        0 => String::new(),
        more => format!("; so would {more} more of its examples"),
    };
    Some(format!(
        "overlaps with {}: {} would go there, nearest to {} (similarity {:.2}, {:.2} needed; with its own {:.2}, \
         {:.2} needed){more}",
        other.intent,
        shown(&texts(intent, config)[at]),
        shown(&texts(other, config)[nearest]),
        likeness(at),
        other.threshold,
        left_out[at],
        intent.threshold,
    ))
}

fn unread<'a>(texts: &'a [String], read: &'a ReadLanguages) -> impl Iterator<Item = String> + 'a {
    texts.iter().filter_map(|text| {
        let unread = read.unread_text(detect(text))?;
        Some(format!(
            "{} is written in {}, which the classifier does not read well: prompts in it are not claimed",
            shown(text),
            unread.name
        ))
    })
}

fn shown(text: &str) -> String {
    let mut shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.trim().len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ExampleIntents, learn::calibrated},
        *,
    };
    use crate::{config::read_text, prompt::Intent};

    fn check(intents: &[(&str, &[f32])], expected: &[&str]) -> Vec<Review> {
        let at = |degrees: &f32| vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
        let background: Vec<Vec<f32>> = [150.0, 200.0, 250.0].iter().map(at).collect();
        let mut toml = String::new();
        let learned = intents.iter().enumerate().map(|(place, (name, degrees))| {
            let texts: Vec<String> =
                degrees.iter().map(|degrees| format!("go to {degrees} degrees")).collect();
            toml += &format!("[[intents]]\nname = {name:?}\nexamples = {texts:?}\n");
            calibrated(place, Intent((*name).into()), degrees.iter().map(at).collect(), 0.0, &background)
        });
        let intents = ExampleIntents { intents: learned.collect() };
        let read = ReadLanguages::try_from(vec!["en".to_owned()]).unwrap();
        let reviews = review(&intents, &read_text(&toml).unwrap(), Some(&read));
        let warnings: Vec<&String> = reviews.iter().flat_map(|review| &review.warnings).collect();
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning:?} does not say {expected:?}");
        }
        reviews
    }

    #[test]
    fn clear_intents_have_no_warnings() {
        let reviews = check(&[("east", &[0.0, 5.0, 10.0]), ("north", &[85.0, 90.0, 95.0])], &[]);
        assert_eq!((reviews[0].examples, reviews[0].recalled), (3, 3));
        assert_eq!(reviews[0].threshold, 0.5);
    }

    #[test]
    fn a_stranger_is_named() {
        let reviews = check(
            &[("east", &[0.0, 5.0, -80.0])],
            &["\"go to -80 degrees\" is unlike its siblings (similarity 0.13, 0.50 needed)"],
        );
        assert_eq!(reviews[0].recalled, 2);
    }

    #[test]
    fn an_overlap_names_both_examples() {
        check(
            &[("east", &[0.0, 5.0, 41.0]), ("northeast", &[40.0, 44.0])],
            &[
                "overlaps with northeast: \"go to 41 degrees\" would go there, nearest to \"go to 40 degrees\" (similarity 1.00, 0.50 needed; with its own 0.78, 0.50 needed)",
            ],
        );
    }

    #[test]
    fn an_intent_that_misses_its_own_examples_says_so() {
        check(&[("scattered", &[0.0, 90.0])], &["none of its examples would be recognised by the others"]);
    }
}
