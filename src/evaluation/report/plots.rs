//! The line plots as SVG texts.

use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::ink;
use crate::evaluation::{
    Row,
    metrics::Point,
    views::{CostCurves, Reliability},
    what_if::WhatIf,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Broken = Box<dyn std::error::Error>;

const SIZE: (u32, u32) = (800, 470);
/// Room on the right for the names of the lines.
const LEGEND_PX: u32 = 200;
const FONT_PX: u32 = 16;
/// Bins of fewer samples are dots that no line joins: they jump.
const JOINED_SAMPLES_MIN: u64 = 5;

/// One line of the legend: name, colour, how it is drawn.
struct Entry {
    name: String,
    colour: RGBColor,
    mark: Mark,
}

#[derive(Clone, Copy)]
enum Mark {
    Line,
    Square,
    Ring,
}

/// Draws mean score over mean cost along the wanted quality, one line a row.
pub fn cost_quality(curves: &CostCurves) -> Result<String, Broken> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (plot, legend) = split(&root);
        let singles = curves.single_tiers.iter().map(|single| single.point);
        let points = curves.rows.values().flatten().copied().chain(singles).chain([curves.decided]);
        let all: Vec<Point> = points.map(thousand).collect();
        let (costs, scores) = (range(all.iter().map(|p| p.cost_usd)), range(all.iter().map(|p| p.score)));
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(costs, scores)?;
        mesh(&mut chart, "US dollars for 1,000 requests", "mean score")?;
        // The router is drawn last, over the others.
        for (&row, curve) in curves.rows.iter().rev() {
            let line = curve.iter().map(|&point| xy(point));
            chart.draw_series(LineSeries::new(line, colour(row).stroke_width(width(row))))?;
        }
        for single in &curves.single_tiers {
            draw_single(&plot, chart.backend_coord(&xy(single.point)), &single.tier)?;
        }
        let decided = chart.backend_coord(&xy(curves.decided));
        let (x, y) = local(&plot, decided.0, decided.1);
        plot.draw(&Circle::new((x, y), 7, colour(Row::Router).stroke_width(3)))?;
        let mut entries: Vec<Entry> = curves
            .rows
            .keys()
            .map(|&row| Entry { name: row.title().to_owned(), colour: colour(row), mark: Mark::Line })
            .collect();
        let router = colour(Row::Router);
        entries.push(Entry { name: "router as configured".to_owned(), colour: router, mark: Mark::Ring });
        entries.push(Entry { name: "always one tier".to_owned(), colour: ink::TEXT, mark: Mark::Square });
        draw_legend(&legend, &entries)?;
        root.present()?;
    }
    Ok(svg)
}

/// Draws how often what was predicted with each probability came true.
pub fn reliability(all: &[Reliability]) -> Result<String, Broken> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (plot, legend) = split(&root);
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        mesh(&mut chart, "predicted probability", "share that came true")?;
        let diagonal = DashedPathElement::new([(0.0, 0.0), (1.0, 1.0)], 6, 5, ink::FRAME.stroke_width(1));
        chart.draw_series([diagonal])?;
        let most = all.iter().flat_map(|one| &one.bins).map(|bin| bin.samples).max().unwrap_or(1);
        for (at, one) in all.iter().enumerate() {
            let colour = series(at);
            let joined = one.bins.iter().filter(|bin| bin.samples >= JOINED_SAMPLES_MIN);
            let line = joined.map(|bin| (bin.predicted, bin.observed));
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
            // A bin of few samples says little: its dot is small.
            let size = |samples: u64| (2.0 + 6.0 * (samples as f64 / most as f64).sqrt()) as i32;
            let dots = one.bins.iter().map(|bin| ((bin.predicted, bin.observed), size(bin.samples)));
            chart.draw_series(dots.map(|(at, size)| Circle::new(at, size, colour.filled())))?;
        }
        let entries: Vec<Entry> = all
            .iter()
            .enumerate()
            .map(|(at, one)| Entry { name: one.of.clone(), colour: series(at), mark: Mark::Line })
            .collect();
        draw_legend(&legend, &entries)?;
        root.present()?;
    }
    Ok(svg)
}

/// Draws predicted quality over expected cost: the settings as a line, the log's choices, and each tier alone.
pub fn settings(what_if: &WhatIf) -> Result<String, Broken> {
    let mut curve: Vec<Point> = what_if
        .settings
        .iter()
        .filter_map(|change| {
            let cost_usd = change.side.cost_usd_per_1000 / 1000.0;
            Some(Point { cost_usd, score: change.side.predicted_quality? })
        })
        .collect();
    curve.sort_by(|one, other| one.cost_usd.total_cmp(&other.cost_usd));
    let logged = what_if.settings.first().and_then(|change| {
        let cost_usd = what_if.logged.cost_usd_per_1000 / 1000.0;
        Some(Point { cost_usd, score: change.quality_of_logged? })
    });
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (plot, legend) = split(&root);
        let singles = || what_if.single_tiers.iter().map(|single| single.point);
        let all: Vec<Point> = curve.iter().copied().chain(logged).chain(singles()).map(thousand).collect();
        let (costs, scores) = (range(all.iter().map(|p| p.cost_usd)), range(all.iter().map(|p| p.score)));
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(costs, scores)?;
        mesh(&mut chart, "US dollars for 1,000 requests", "predicted quality")?;
        chart
            .draw_series(LineSeries::new(curve.iter().map(|&point| xy(point)), series(0).stroke_width(3)))?;
        chart.draw_series(curve.iter().map(|&point| Circle::new(xy(point), 5, series(0).filled())))?;
        for single in &what_if.single_tiers {
            draw_single(&plot, chart.backend_coord(&xy(single.point)), &single.tier)?;
        }
        let (mut entries, mark) = (Vec::new(), series(2));
        entries.push(Entry { name: "settings".to_owned(), colour: series(0), mark: Mark::Line });
        if let Some(logged) = logged {
            let (x, y) = chart.backend_coord(&xy(logged));
            plot.draw(&Circle::new(local(&plot, x, y), 7, mark.stroke_width(3)))?;
            entries.push(Entry { name: "as logged".to_owned(), colour: mark, mark: Mark::Ring });
        }
        entries.push(Entry { name: "always one tier".to_owned(), colour: ink::TEXT, mark: Mark::Square });
        draw_legend(&legend, &entries)?;
        root.present()?;
    }
    Ok(svg)
}

/// Marks a tier that answers everything.
fn draw_single(plot: &Area<'_>, (x, y): (i32, i32), tier: &str) -> Result<(), Broken> {
    let (x, y) = local(plot, x, y);
    plot.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], ink::TEXT.filled()))?;
    // Inside the frame: the strongest tier stands at its right edge, the weakest at its left.
    let right = x > (SIZE.0 - LEGEND_PX) as i32 / 2;
    let (h, dx) = if right { (HPos::Right, -9) } else { (HPos::Left, 9) };
    text(plot, tier, (x + dx, y + 13), h)
}

fn split<'a>(root: &Area<'a>) -> (Area<'a>, Area<'a>) {
    root.split_horizontally(SIZE.0 - LEGEND_PX)
}

/// Returns a place within an area that begins at the left upper corner of the picture.
fn local(area: &Area<'_>, x: i32, y: i32) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}

fn mesh<'a>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'_>,
        Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
    >,
    x: &str,
    y: &str,
) -> Result<(), Broken> {
    let font = ("sans-serif", FONT_PX).into_font().color(&ink::TEXT);
    chart
        .configure_mesh()
        .axis_style(ink::FRAME)
        .bold_line_style(ink::GRID)
        .light_line_style(TRANSPARENT)
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_labels(7)
        .y_labels(7)
        .x_label_formatter(&|value| tick(*value))
        .y_label_formatter(&|value| tick(*value))
        .x_desc(x)
        .y_desc(y)
        .draw()?;
    Ok(())
}

fn draw_legend(area: &Area<'_>, entries: &[Entry]) -> Result<(), Broken> {
    for (at, entry) in entries.iter().enumerate() {
        let y = 26 + 24 * at as i32;
        match entry.mark {
            Mark::Line => {
                area.draw(&PathElement::new([(4, y), (28, y)], entry.colour.stroke_width(3)))?;
            }
            Mark::Square => {
                area.draw(&Rectangle::new([(12, y - 4), (20, y + 4)], entry.colour.filled()))?;
            }
            Mark::Ring => area.draw(&Circle::new((16, y), 7, entry.colour.stroke_width(3)))?,
        }
        text(area, &entry.name, (36, y), HPos::Left)?;
    }
    Ok(())
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), h: HPos) -> Result<(), Broken> {
    let style = ("sans-serif", FONT_PX).into_font().color(&ink::TEXT).pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn colour(row: Row) -> RGBColor {
    series(Row::ALL.iter().position(|&known| known == row).unwrap_or(0))
}

fn series(at: usize) -> RGBColor {
    ink::SERIES[at % ink::SERIES.len()]
}

fn width(row: Row) -> u32 {
    if row == Row::Router { 3 } else { 2 }
}

fn thousand(point: Point) -> Point {
    Point { cost_usd: point.cost_usd * 1000.0, ..point }
}

fn xy(point: Point) -> (f64, f64) {
    (thousand(point).cost_usd, point.score)
}

/// Returns a tick's number without zeros that say nothing.
fn tick(value: f64) -> String {
    let digits = format!("{value:.4}");
    let short = digits.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// Returns the range of values with a little room around.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let room = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-6);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        for (value, expected) in [(20.0, "20"), (0.25, "0.25"), (-0.0, "0"), (1e-9, "0"), (0.0004, "0.0004")]
        {
            assert_eq!(tick(value), expected);
        }
    }

    #[test]
    fn a_range_is_never_empty() {
        assert!(range([0.0].into_iter()).contains(&0.0));
        assert!(range([3.0, 5.0].into_iter()).contains(&5.0));
    }
}
