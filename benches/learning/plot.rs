//! The regret curves as an SVG text.

use std::error::Error;

use plotters::prelude::*;

use crate::Curve;

const SIZE: (u32, u32) = (800, 420);
const FONT_PX: u32 = 16;
/// Points of one line; more would not be seen.
const POINTS: usize = 200;
const TEXT: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Apart for eyes that see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 3] = [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115)];

/// Draws cumulated regret over requests.
pub fn regret(curves: &[Curve]) -> Result<String, Box<dyn Error>> {
    let requests = curves.iter().map(|curve| curve.regret_usd.len()).max().unwrap_or(1);
    let most = curves.iter().flat_map(|curve| &curve.regret_usd).fold(0.0_f64, |most, &sum| most.max(sum));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let font = ("sans-serif", FONT_PX).into_font().color(&TEXT);
        let mut chart = ChartBuilder::on(&root)
            .margin(14)
            .margin_right(36)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(0..requests, 0.0..most * 1.05)?;
        chart
            .configure_mesh()
            .axis_style(TEXT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(font.clone())
            .axis_desc_style(font.clone())
            .x_labels(5)
            .y_labels(6)
            .y_label_formatter(&|usd| format!("{usd:.0}"))
            .x_desc("requests")
            .y_desc("regret, US dollars")
            .draw()?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let every = (curve.regret_usd.len() / POINTS).max(1);
            let line = curve.regret_usd.iter().copied().enumerate().step_by(every);
            chart
                .draw_series(LineSeries::new(line, colour.stroke_width(3)))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3)));
        }
        // Regret is what was lost against it, so it has none.
        chart
            .draw_series(DashedLineSeries::new([(0, 0.0), (requests, 0.0)], 6, 4, TEXT.stroke_width(2)))?
            .label("an oracle, by the truth")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], TEXT.stroke_width(2)));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(font)
            .legend_area_size(32)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}
