//! The page: a head, a section a file, the definitions at its end.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{ReportError, figure, heatmap, plots};
use crate::evaluation::{
    Better, Comparison, Evaluation, Figure, Row,
    bootstrap::{INTERVAL_SAMPLES_MIN, Resampling},
    gates::GateResult,
    views::Language,
};

const STYLE: &str = include_str!("style.css");

/// What each family of figures means; `docs/metrics.md` has the definitions in full.
const FAMILIES: [(&str, &str); 9] = [
    ("intent", "predicted against labelled intent: share right, mean F1 of the labels, calibration error"),
    ("tier", "decided against labelled tier: share right, at most one tier off, above it, below it"),
    ("sufficiency_ece", "gap between the probability that a tier is enough and how often the label says so"),
    ("difficulty", "rank correlation of predicted with stated difficulty"),
    (
        "gain",
        "order of the requests by what a strong model gains over a weak one; APGR 0.5 is chance; CPT50 and CPT80 are \
         the strong calls (%) for that part of the gap; a note names the two",
    ),
    (
        "cost",
        "saved_at_95: what is saved while keeping 95 % of the top tier's score; aiq: area under the hull of the curve",
    ),
    (
        "decided",
        "mean score and US dollars per 1,000 requests of the tiers as decided with the wanted quality, and their shares",
    ),
    ("coverage", "share of requests that the classifier scored, that were cut, that it was unsure about"),
    (
        "router lead",
        "▲ the router is better than this baseline, ▼ worse: the 95 % interval of the paired difference excludes 0; no \
         mark: undecided",
    ),
];

/// What the page says of the run as a whole.
pub struct Head<'a> {
    pub title: &'a str,
    pub bundle: String,
    pub rules: bool,
    pub objective: String,
    pub quality: f64,
    pub resampling: Resampling,
    pub notes: &'a [String],
    pub gates: &'a [GateResult],
}

/// Returns the whole page.
pub fn page(head: &Head<'_>, evaluations: &[Evaluation]) -> Result<String, ReportError> {
    let sections = evaluations.iter().map(section).collect::<Result<Vec<Markup>, _>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (head.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (head.title) }
                p.faint {
                    (head.bundle) "; rules " (if head.rules { "as when serving" } else { "off" })
                    "; objective " (head.objective) ", wanted quality " (head.quality) "; intervals hold the middle 95 % of "
                    (head.resampling.resamples) " bootstrap resamples, seed " (head.resampling.seed)
                    "; fewer than " (INTERVAL_SAMPLES_MIN) " samples have none."
                }
                @for note in head.notes { p.faint { (note) } }
                (gates(head.gates))
                @for section in &sections { (section) }
                h2 { "What the figures mean" }
                p { "Higher is better, but lower where a ↓ stands; shares and coverage are neither." }
                ul { @for (name, meaning) in FAMILIES { li { code { (name) } ": " (meaning) } } }
            }
        }
    };
    Ok(page.into_string())
}

fn gates(gates: &[GateResult]) -> Markup {
    html! {
        @if !gates.is_empty() {
            h3 { "Gates" }
            ul {
                @for gate in gates {
                    li.bad[!gate.passed] { (if gate.passed { "kept: " } else { "missed: " }) (gate.sentence()) }
                }
            }
        }
    }
}

fn section(evaluation: &Evaluation) -> Result<Markup, ReportError> {
    let broken = |plot: &'static str| {
        move |error: Box<dyn std::error::Error>| ReportError {
            section: evaluation.name.clone(),
            plot,
            why: error.to_string(),
        }
    };
    let curve = evaluation.cost_quality.as_ref();
    let curve = curve.map(plots::cost_quality).transpose().map_err(broken("cost-quality curve"))?;
    let reliability = match &evaluation.reliability[..] {
        [] => None,
        all => Some(plots::reliability(all).map_err(broken("reliability diagram"))?),
    };
    Ok(html! {
        h2 { (evaluation.name) }
        p.faint { (evaluation.samples) " samples from " code { (evaluation.file) } }
        @if !evaluation.notes.is_empty() {
            ul.faint { @for note in &evaluation.notes { li { (note) } } }
        }
        (table(&evaluation.metrics))
        @if let Some(svg) = curve {
            (picture("Cost and quality", "Each line is a sweep of the wanted quality; up and to the left is better. \
                The ring is the router as configured; of chance one draw is shown.", &svg))
        }
        @if let Some(svg) = reliability {
            (picture("Reliability", "On the dashed line, what was predicted came true as often as it was \
                predicted; larger dots hold more samples.", &svg))
        }
        @for confusion in &evaluation.confusion {
            figure {
                h3 { "Confusion of the " (confusion.of) }
                (heatmap::confusion(confusion))
                figcaption { "Rows are labels, columns what the router said; colour is the share of the row." }
            }
        }
        (languages(&evaluation.languages))
    })
}

fn picture(title: &str, caption: &str, svg: &str) -> Markup {
    // Inline in the page, so that its style reaches the plot.
    html! {
        figure.plot {
            h3 { (title) }
            (PreEscaped(svg))
            figcaption { (caption) }
        }
    }
}

fn table(metrics: &[Comparison]) -> Markup {
    let rows: Vec<Row> = Row::ALL
        .into_iter()
        .filter(|row| metrics.iter().any(|comparison| comparison.rows.contains_key(row)))
        .collect();
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "figure" }
                        th { "samples" }
                        @for row in &rows { th { (row.title()) } }
                    }
                }
                tbody {
                    @for comparison in metrics {
                        tr {
                            td { code { (comparison.name) } (arrow(comparison.better)) }
                            td { (comparison.rows.get(&Row::Router).map_or(0, |figure| figure.samples)) }
                            @for row in &rows { (cell(comparison, *row)) }
                        }
                    }
                }
            }
        }
    }
}

fn arrow(better: Better) -> &'static str {
    match better {
        Better::Lower => " ↓",
        Better::Higher | Better::Neither => "",
    }
}

fn cell(comparison: &Comparison, row: Row) -> Markup {
    let Some(value) = comparison.rows.get(&row) else {
        return html! { td.faint { "–" } };
    };
    let text = |value: f64| figure(&comparison.name, value);
    html! {
        td.router[row == Row::Router] {
            (text(value.value))
            @if let Some(interval) = value.interval {
                " " small { "[" (text(interval.low)) ", " (text(interval.high)) "]" }
            }
            " " (lead(value, comparison.better))
        }
    }
}

/// Returns the mark of a baseline: whether the router is surely better or worse.
pub fn lead(figure: &Figure, better: Better) -> &'static str {
    let Some(lead) = figure.router_lead else { return "" };
    match better {
        Better::Neither => "",
        Better::Higher if lead.low > 0.0 => "▲",
        Better::Higher if lead.high < 0.0 => "▼",
        Better::Lower if lead.high < 0.0 => "▲",
        Better::Lower if lead.low > 0.0 => "▼",
        Better::Higher | Better::Lower => "",
    }
}

fn languages(languages: &[Language]) -> Markup {
    // One language may have labels that another lacks.
    let names: BTreeSet<&String> = languages.iter().flat_map(|language| language.metrics.keys()).collect();
    html! {
        @if !languages.is_empty() {
            h3 { "By language" }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "language" }
                            th { "samples" }
                            @for name in &names { th { code { (name) } } }
                        }
                    }
                    tbody {
                        @for language in languages {
                            tr {
                                td { (language.language) }
                                td { (language.samples) }
                                @for name in &names {
                                    @match language.metrics.get(*name) {
                                        Some(figure) => td {
                                            (super::figure(name, figure.value))
                                            @if let Some(interval) = figure.interval {
                                                " " small {
                                                    "[" (super::figure(name, interval.low)) ", "
                                                    (super::figure(name, interval.high)) "]"
                                                }
                                            }
                                        },
                                        None => td.faint { "–" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::evaluation::views::LanguageFigure;

    #[test]
    fn the_columns_of_languages_are_those_of_all_of_them() {
        let of = |language: &str, metric: &str| {
            let figure = LanguageFigure { value: 0.5, samples: 9, interval: None };
            let metrics = BTreeMap::from([(metric.to_owned(), figure)]);
            Language { language: language.into(), samples: 9, metrics }
        };
        let shown = languages(&[of("en", "intent.accuracy"), of("de", "tier.accuracy")]).into_string();
        for part in ["intent.accuracy", "tier.accuracy", "0.500"] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
        assert_eq!(shown.matches("–").count(), 2);
    }

    #[test]
    fn a_mark_says_that_the_interval_of_the_difference_excludes_nothing() {
        let mark = |low: f64, high: f64, better: Better| {
            let router_lead = Some(crate::evaluation::bootstrap::Interval { low, high });
            lead(&Figure { value: 0.5, samples: 30, interval: None, router_lead }, better)
        };
        assert_eq!(mark(0.1, 0.2, Better::Higher), "▲");
        assert_eq!(mark(0.1, 0.2, Better::Lower), "▼");
        assert_eq!(mark(-0.2, -0.1, Better::Higher), "▼");
        assert_eq!(mark(-0.1, 0.2, Better::Higher), "");
        assert_eq!(mark(0.1, 0.2, Better::Neither), "");
    }
}
