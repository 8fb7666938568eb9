//! The confusion heat map as an SVG text: a grid of cells, written by hand since it is nothing more.

use std::sync::Arc;

use maud::{Markup, html};

use crate::evaluation::{confusions::Confusion, what_if::Grid};

const CELL_PX: usize = 46;
const CELL_HEIGHT_PX: usize = 30;
const CHARACTER_PX: usize = 8;
/// Names above the columns are turned; this share of their length is their height.
const TURNED: f64 = 0.72;

/// Draws counts by label (row) and prediction (column).
pub fn confusion(confusion: &Confusion) -> Markup {
    heatmap(&Counts {
        title: format!("Confusion of the {}", confusion.of),
        rows: ("label", &confusion.labels),
        columns: ("predicted", &confusion.predictions),
        counts: &confusion.counts,
    })
}

/// Draws counts by logged tier (row) and tier that would be chosen (column).
pub fn moves(grid: &Grid) -> Markup {
    heatmap(&Counts {
        title: "Logged tiers, and those that would be chosen".to_owned(),
        rows: ("logged", &grid.logged),
        columns: ("chosen", &grid.chosen),
        counts: &grid.counts,
    })
}

/// Counts, and what their rows and columns are.
struct Counts<'a> {
    title: String,
    rows: (&'a str, &'a [Arc<str>]),
    columns: (&'a str, &'a [Arc<str>]),
    counts: &'a [Vec<u32>],
}

/// Draws counts; the darker a cell, the larger its share of the row.
fn heatmap(counts: &Counts<'_>) -> Markup {
    let Counts { title, rows: (row_name, labels), columns: (column_name, predictions), counts } = counts;
    let longest = labels.iter().chain(predictions.iter()).map(|name| name.chars().count()).max().unwrap_or(0)
        * CHARACTER_PX;
    let left = longest + 34;
    let top = (longest as f64 * TURNED) as usize + 34;
    let right_room = (longest as f64 * TURNED) as usize + 8;
    let (width, height) =
        (left + predictions.len() * CELL_PX + right_room, top + labels.len() * CELL_HEIGHT_PX + 8);
    let middle = top + labels.len() * CELL_HEIGHT_PX / 2;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } width=(width)
            height=(height) role="img" aria-label=(title) font-family="sans-serif" font-size="14" {
            text x=(left) y="16" fill="#1f2328" font-style="italic" { (column_name) }
            text x="14" y=(middle) fill="#1f2328" font-style="italic" text-anchor="middle"
                transform={ "rotate(-90 14 " (middle) ")" } { (row_name) }
            @for (at, name) in predictions.iter().enumerate() {
                @let x = left + at * CELL_PX + CELL_PX / 2;
                text x=(x) y=(top - 8) fill="#1f2328" transform={ "rotate(-45 " (x) " " (top - 8) ")" } {
                    (name)
                }
            }
            @for (at, name) in labels.iter().enumerate() {
                text x=(left - 8) y=(top + at * CELL_HEIGHT_PX + CELL_HEIGHT_PX / 2 + 5) fill="#1f2328"
                    text-anchor="end" { (name) }
            }
            @for (row, counts) in counts.iter().enumerate() {
                @let all: u32 = counts.iter().sum();
                @for (column, &count) in counts.iter().enumerate() {
                    @let share = f64::from(count) / f64::from(all.max(1));
                    @let (x, y) = (left + column * CELL_PX, top + row * CELL_HEIGHT_PX);
                    rect x=(x + 1) y=(y + 1) width=(CELL_PX - 2) height=(CELL_HEIGHT_PX - 2)
                        fill=(shade(share)) {
                        title { (labels[row]) " " (column_name) " as " (predictions[column]) ": " (count) " of " (all) }
                    }
                    @if count > 0 {
                        text x=(x + CELL_PX / 2) y=(y + CELL_HEIGHT_PX / 2 + 5) text-anchor="middle"
                            font-size="13" fill=(if share > 0.5 { "#ffffff" } else { "#0b2239" }) {
                            (count)
                        }
                    }
                }
            }
        }
    }
}

/// Returns the colour of a share: from near white to a deep blue, each legible with its own text.
fn shade(share: f64) -> String {
    const NONE: [f64; 3] = [238.0, 243.0, 248.0];
    const ALL: [f64; 3] = [0.0, 84.0, 147.0];
    let share = share.clamp(0.0, 1.0).powf(0.8);
    let [red, green, blue] = std::array::from_fn(|at| (NONE[at] + share * (ALL[at] - NONE[at])) as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_darker() {
        assert_eq!((shade(0.0).as_str(), shade(1.0).as_str()), ("#eef3f8", "#005493"));
    }

    #[test]
    fn names_are_escaped_and_predictions_have_columns_of_their_own() {
        let one = Confusion {
            of: "intent",
            labels: vec!["<b>".into()],
            predictions: vec!["<b>".into(), "none".into()],
            counts: vec![vec![3, 1]],
        };
        let svg = confusion(&one).into_string();
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("predicted as none: 1 of 4"), "{svg}");
    }
}
