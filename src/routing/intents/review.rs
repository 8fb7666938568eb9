//! What an operator should know of intents by example before they serve: how well the examples of each
//! would be recognised by their siblings, and where two intents overlap.

use super::{
    ExampleIntent, ExampleIntents, cosine,
    learn::{THRESHOLD_MIN, false_positives_allowed},
    similarity,
};
use crate::{
    config::{Config, ExamplesConfig},
    routing::{language::ReadLanguages, language::detect},
};

/// Characters of an example that a warning shows.
const SHOWN_CHARS_MAX: usize = 60;
/// Share of ordinary prompts that all intents together may claim by mistake before `check` warns.
const FALSE_POSITIVES_SUM_MAX: f64 = 0.1;

/// Figures and warnings of all intents by example.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// In the order of the configuration.
    pub intents: Vec<IntentReview>,
    /// Of all of them together.
    pub warnings: Vec<String>,
}

/// One intent's figures and warnings.
#[derive(Debug, Clone, PartialEq)]
pub struct IntentReview {
    pub name: String,
    pub examples: usize,
    pub threshold: f64,
    /// Examples that the others of the intent would recognise.
    pub recalled: usize,
    pub warnings: Vec<String>,
}

/// Returns a review of the intents by example.
pub fn review(intents: &ExampleIntents, config: &Config, read: Option<&ReadLanguages>) -> Review {
    let of_intent = |intent: &ExampleIntent| {
        let written = written(intent, config);
        let texts = &written.texts;
        let left_out: Vec<f32> = (0..texts.len()).map(|at| without(intent, at)).collect();
        let recalled = left_out.iter().filter(|&&similarity| similarity > intent.threshold).count();
        let mut warnings = Vec::new();
        if recalled == 0 {
            warnings.push(nothing_recalled(intent));
        } else {
            warnings.extend(strangers(intent, texts, &left_out));
        }
        let claimants = claimants(intent, &left_out, intents);
        let others = intents.intents.iter();
        warnings.extend(others.filter_map(|other| overlap(intent, &left_out, &claimants, other, config)));
        warnings.extend(too_fine(intent, written.false_positives_max));
        warnings.extend(read.into_iter().flat_map(|read| unread(texts, read)));
        IntentReview {
            name: intent.intent.to_string(),
            examples: texts.len(),
            threshold: f64::from(intent.threshold),
            recalled,
            warnings,
        }
    };
    Review {
        intents: intents.intents.iter().map(of_intent).collect(),
        warnings: too_many(intents, config).into_iter().collect(),
    }
}

fn written<'a>(intent: &ExampleIntent, config: &'a Config) -> &'a ExamplesConfig {
    config.intents[intent.place].examples.as_ref().expect("what was learned has examples")
}

fn nothing_recalled(intent: &ExampleIntent) -> String {
    // The lowest threshold there is cannot be lowered by allowing more.
    let advice = if intent.threshold > THRESHOLD_MIN {
        "they are too unlike, or too like ordinary prompts; give more of them, or raise false_positives_max"
    } else {
        "they are too unlike; give more of them, or make two intents of them"
    };
    format!(
        "none of its examples would be recognised by the others ({:.2} needed): {advice}",
        intent.threshold
    )
}

/// A background of so many prompts shows no smaller share than one of them.
fn too_fine(intent: &ExampleIntent, share: f64) -> Option<String> {
    let rows = intent.background.len();
    (false_positives_allowed(share, rows) < 1.0).then(|| {
        format!(
            "false_positives_max {share} is a smaller share than the bundle's {rows} ordinary prompts can show: \
             expect up to {:.4}",
            1.0 / (rows + 1) as f64
        )
    })
}

fn too_many(intents: &ExampleIntents, config: &Config) -> Option<String> {
    let sum: f64 = intents.intents.iter().map(|intent| written(intent, config).false_positives_max).sum();
    // Ten shares of 0.01 are not above a tenth, whatever their sum is rounded to.
    (sum > FALSE_POSITIVES_SUM_MAX + 1e-9).then(|| {
        format!(
            "together they may claim {:.0} % of ordinary prompts by mistake: set false_positives_max lower",
            sum * 100.0
        )
    })
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
        shown(&written(intent, config).texts[at]),
        shown(&written(other, config).texts[nearest]),
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

    /// Returns the review of intents whose examples lie at these degrees; three ordinary prompts are at 150,
    /// 200 and 250.
    fn reviewed(intents: &[(&str, &[f32])], share: f64) -> Review {
        let at = |degrees: &f32| vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
        let background: Vec<Vec<f32>> = [150.0, 200.0, 250.0].iter().map(at).collect();
        let mut toml = String::new();
        let learned = intents.iter().enumerate().map(|(place, (name, degrees))| {
            let texts: Vec<String> =
                degrees.iter().map(|degrees| format!("go to {degrees} degrees")).collect();
            toml += &format!(
                "[[intents]]\nname = {name:?}\nexamples = {texts:?}\nfalse_positives_max = {share:?}\n"
            );
            calibrated(place, Intent((*name).into()), degrees.iter().map(at).collect(), share, &background)
        });
        let intents = ExampleIntents { intents: learned.collect() };
        let read = ReadLanguages::try_from(vec!["en".to_owned()]).unwrap();
        review(&intents, &read_text(&toml).unwrap(), Some(&read))
    }

    fn check(intents: &[(&str, &[f32])], expected: &[&str]) -> Vec<IntentReview> {
        // One of four prompts: the smallest share that three show.
        let reviews = reviewed(intents, 0.25).intents;
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
        assert_eq!(reviews[0].threshold, f64::from(THRESHOLD_MIN));
    }

    #[test]
    fn a_stranger_is_named() {
        let reviews = check(
            &[("east", &[0.0, 5.0, -80.0])],
            &["\"go to -80 degrees\" is unlike its siblings (similarity 0.13, 0.30 needed)"],
        );
        assert_eq!(reviews[0].recalled, 2);
    }

    #[test]
    fn an_overlap_names_both_examples() {
        check(
            &[("east", &[0.0, 5.0, 41.0]), ("northeast", &[40.0, 44.0])],
            &[
                "overlaps with northeast: \"go to 41 degrees\" would go there, nearest to \"go to 40 degrees\" (similarity 1.00, 0.30 needed; with its own 0.78, 0.30 needed)",
            ],
        );
    }

    #[test]
    fn an_intent_that_misses_its_own_examples_says_what_helps() {
        // At the lowest threshold a larger share would change nothing.
        let reviews = check(&[("scattered", &[0.0, 90.0])], &["none of its examples would be recognised"]);
        assert!(!reviews[0].warnings[0].contains("false_positives_max"), "{reviews:?}");
        check(&[("ordinary", &[140.0, 210.0])], &["or raise false_positives_max"]);
    }

    #[test]
    fn a_share_that_the_background_cannot_show_is_said() {
        let expected = "false_positives_max 0.2 is a smaller share than the bundle's 3 ordinary prompts can \
                        show: expect up to 0.2500";
        assert_eq!(reviewed(&[("east", &[0.0, 5.0])], 0.2).intents[0].warnings, [expected]);
    }

    #[test]
    fn the_shares_of_all_intents_add_up() {
        let examples: &[f32] = &[0.0, 5.0];
        let names: Vec<String> = (0..11).map(|at| format!("intent {at}")).collect();
        let intents: Vec<(&str, &[f32])> = names.iter().map(|name| (name.as_str(), examples)).collect();
        assert!(reviewed(&intents[..10], 0.01).warnings.is_empty());
        let expected =
            "together they may claim 11 % of ordinary prompts by mistake: set false_positives_max lower";
        assert_eq!(reviewed(&intents, 0.01).warnings, [expected]);
    }
}
