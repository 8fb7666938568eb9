//! The page of a what-if: settings beside the log, where requests would move, and what the log says of it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{ReportError, heatmap, ink, plots};
use crate::evaluation::{
    off_policy::OffPolicy,
    what_if::{Change, Moved, Side, WhatIf, table},
};

const STYLE: &str = include_str!("style.css");
const BAR_PX: f64 = 560.0;
const BAR_HEIGHT_PX: usize = 22;
const BAR_STEP_PX: usize = 32;
const NAME_PX: usize = 130;
/// A narrower part of a bar has no room for its number.
const LABELLED_SHARE_MIN: f64 = 0.07;

/// What must be known to read the figures right.
const LIMITS: [&str; 7] = [
    "Predicted quality is the classifier's own belief: the mean probability that the chosen tier is enough, over the \
     requests that it scored. A bundle that is too sure of itself looks good here. Compare settings of one bundle by it, \
     and bundles by labelled files or by the off-policy table.",
    "Costs are expected ones, by each target's price and typical length of answers; those of the log are of the prices \
     then.",
    "A request is decided as it is in the log: redacted or cut where the log's text policy says so. What a caller asked \
     for beside quality and needs (dearest price, latency, lists of targets) is not in the log.",
    "Sessions are replayed in the order of their time, as if every decided target had answered; budgets, breakers, \
     failures, learned offsets and exploration take no part.",
    "Time to decide leaves out the wait for a free classifier; that of the log was taken on another machine or under \
     other load.",
    "Off-policy estimates are about the requests that got a reward: where people complain more often about one target \
     than about another, so does this log.",
    "IPS weighs each reward by 1 / propensity; self-normalised IPS divides by the weights' sum; doubly robust corrects \
     the logged sufficiency by the weighted errors it made. Intervals are normal 95 % ones.",
];

/// What the page says of the run as a whole.
pub struct Head<'a> {
    /// What was replayed, with which bundle and objective.
    pub about: &'a [String],
    pub notes: &'a [String],
}

/// Returns the whole page.
pub fn page(head: &Head<'_>, what_if: &WhatIf) -> Result<String, ReportError> {
    let title = "pointsman what-if";
    let curve = (what_if.settings.len() > 1 && what_if.settings.iter().any(has_quality))
        .then(|| plots::settings(what_if))
        .transpose()
        .map_err(|error| ReportError {
            section: title.to_owned(),
            plot: "cost-quality curve",
            why: error.to_string(),
        })?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @for line in head.about { p.faint { (line) } }
                @if !head.notes.is_empty() { ul.faint { @for note in head.notes { li { (note) } } } }
                h2 { "Settings beside the log" }
                (summary(what_if))
                p.faint { "What stands against an estimate with" (table::CAUTIONED) " is said below." }
                figure {
                    h3 { "Tiers" }
                    (tier_bars(what_if))
                    figcaption { "Share of the requests that each tier gets, weakest first." }
                }
                @if let Some(svg) = curve {
                    figure.plot {
                        h3 { "Cost and predicted quality" }
                        (PreEscaped(svg))
                        figcaption {
                            "Each dot is a setting; up and to the left is better. The ring is what was logged, by the \
                             scores of the first setting."
                        }
                    }
                }
                @for change in &what_if.settings { (setting(change)) }
                h2 { "How to read this" }
                ul { @for limit in LIMITS { li { (limit) } } }
            }
        }
    };
    Ok(page.into_string())
}

fn has_quality(change: &Change) -> bool {
    change.side.predicted_quality.is_some()
}

fn summary(what_if: &WhatIf) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "figure" }
                        th { "as logged" }
                        @for change in &what_if.settings { th { (change.name) } }
                    }
                }
                tbody {
                    @for row in table::summary(what_if) {
                        tr {
                            td { (row.label) }
                            td { (row.logged) }
                            @for value in &row.settings { td.router { (value) } }
                        }
                    }
                }
            }
        }
    }
}

/// One bar for the log and for each setting, cut into tiers.
fn tier_bars(what_if: &WhatIf) -> Markup {
    let sides: Vec<(&str, &Side)> = std::iter::once(("as logged", &what_if.logged))
        .chain(what_if.settings.iter().map(|change| (&*change.name, &change.side)))
        .collect();
    let order = &what_if.logged.tiers;
    let (width, height) = (NAME_PX + BAR_PX as usize + 20, sides.len() * BAR_STEP_PX + 40);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height)
            role="img" aria-label="Tiers by setting" font-family="sans-serif" font-size="14" {
            @for (row, (name, side)) in sides.iter().enumerate() {
                @let y = row * BAR_STEP_PX + 4;
                text x="4" y=(y + 16) fill="#1f2328" { (name) }
                @for part in parts(side, order) {
                    rect x=(format!("{:.1}", NAME_PX as f64 + part.from * BAR_PX)) y=(y)
                        width=(format!("{:.1}", part.share * BAR_PX)) height=(BAR_HEIGHT_PX) fill=(colour(part.place)) {
                        title { (part.name) ": " (format!("{:.1} %", part.share * 100.0)) }
                    }
                    @if part.share >= LABELLED_SHARE_MIN {
                        text x=(format!("{:.1}", NAME_PX as f64 + (part.from + part.share / 2.0) * BAR_PX))
                            y=(y + 16) text-anchor="middle" font-size="12" fill=(letters(part.place)) {
                            (format!("{:.0} %", part.share * 100.0))
                        }
                    }
                }
            }
            @for (at, tier) in order.iter().enumerate() {
                @let x = NAME_PX + at * (BAR_PX as usize / order.len().max(1));
                rect x=(x) y=(height - 24) width="14" height="14" fill=(colour(at)) {}
                text x=(x + 20) y=(height - 12) fill="#1f2328" { (tier.name) }
            }
        }
    }
}

/// A part of a bar; places are shares of its length.
struct Part<'a> {
    name: &'a str,
    place: usize,
    from: f64,
    share: f64,
}

fn parts<'a>(side: &'a Side, order: &[crate::evaluation::what_if::Share]) -> Vec<Part<'a>> {
    let mut from = 0.0;
    side.tiers
        .iter()
        .filter(|tier| tier.requests > 0)
        .map(|tier| {
            let place = order.iter().position(|known| known.name == tier.name).unwrap_or(order.len());
            let part = Part { name: &tier.name, place, from, share: tier.share };
            from += tier.share;
            part
        })
        .collect()
}

/// The palette of the plots; the colours are those that the style leaves alone in dark surroundings.
fn colour(place: usize) -> String {
    let order = [3, 2, 4, 1, 0];
    let plotters::style::RGBColor(red, green, blue) = ink::SERIES[order[place % order.len()]];
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// What is legible on [`colour`].
fn letters(place: usize) -> &'static str {
    if place % 5 == 4 { "#ffffff" } else { "#0b2239" }
}

fn setting(change: &Change) -> Markup {
    html! {
        h2 { (change.name) }
        figure {
            h3 { "Where the tiers go" }
            (heatmap::moves(&change.confusion))
            figcaption { "Rows are the tiers of the log, columns those that would be chosen; colour is the share of the row." }
        }
        h3 { "What the log says about it" }
        (off_policy(&change.off_policy))
        (moved(&change.moved))
    }
}

fn off_policy(off_policy: &OffPolicy) -> Markup {
    let OffPolicy { rewarded, supported, informative, effective, logged, estimates, cautions } = off_policy;
    html! {
        p {
            (rewarded) " requests have a reward; for " (supported) " of them the log could hold what is chosen here, for "
            (informative) " it does: they are worth " (format!("{effective:.1}")) " requests."
        }
        @for caution in cautions { p.bad { (caution) } }
        @if !estimates.is_empty() {
            div.scroll {
                table {
                    thead { tr { th { "estimator" } th { "mean reward" } th { "beyond what was logged" } } }
                    tbody {
                        @if let Some(logged) = logged {
                            tr { td { "as logged" } td { (table::estimate(*logged)) } td.faint { "–" } }
                        }
                        @for estimated in estimates {
                            tr {
                                td { (estimated.method.title()) }
                                td.router { (table::estimate(estimated.of_other)) }
                                td { (table::difference(estimated.lead)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn moved(moved: &[Moved]) -> Markup {
    html! {
        @if !moved.is_empty() {
            h3 { "Requests that would move" }
            p.faint { "Those whose expected cost changes most, to stronger tiers first. Texts stand as the log holds them." }
            div.scroll {
                table.moved {
                    thead { tr { th { "decision" } th { "logged" } th { "chosen" } th { "US dollars" } th { "why" } } }
                    tbody {
                        @for one in moved {
                            tr {
                                td { code { (one.decision_id) } @if let Some(text) = &one.excerpt { br; (text) } }
                                td { (one.from_tier) br; small { (one.from_target) } }
                                td { (one.to_tier) br; small { (one.to_target) } }
                                td { (format!("{:+.6}", one.cost_change_usd)) }
                                td.reason { (one.reason) }
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
    use super::*;
    use crate::evaluation::what_if::example;

    #[test]
    fn the_page_needs_nothing_else_and_escapes_texts() {
        let notes = ["a note <here>".to_owned()];
        let html = page(&Head { about: &[], notes: &notes }, &example("<script>alert(1)</script>")).unwrap();
        for part in
            ["a note &lt;here&gt;", "&lt;script&gt;", "quality 0.5", "quality 0.8", "doubly robust", "<svg"]
        {
            assert!(html.contains(part), "{part} is missing");
        }
        for part in ["<script", "http://", "https://", "src=", "@import"] {
            let rest = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(part), "{part} is there");
        }
    }
}
