//! Evaluations -> one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

mod heatmap;
mod page;
mod plots;
pub mod what_if;

pub use self::page::{Head, lead, page};

/// A plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("drawing the {plot} of {section}: {why}")]
pub struct ReportError {
    pub section: String,
    pub plot: &'static str,
    pub why: String,
}

/// Colours of the plots in light surroundings; the page's style turns them for dark ones by these very
/// values, so each is used for one thing only.
mod ink {
    use plotters::style::RGBColor;

    pub const TEXT: RGBColor = RGBColor(0x1f, 0x23, 0x28);
    pub const FRAME: RGBColor = RGBColor(0x8c, 0x95, 0x9f);
    pub const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
    /// Of rows, and of levels in a reliability diagram: the palette of Okabe and Ito, which colour-blind
    /// readers tell apart.
    pub const SERIES: [RGBColor; 5] = [
        RGBColor(0x00, 0x72, 0xb2),
        RGBColor(0x99, 0x99, 0x99),
        RGBColor(0xe6, 0x9f, 0x00),
        RGBColor(0x00, 0x9e, 0x73),
        RGBColor(0xcc, 0x79, 0xa7),
    ];
}

/// Returns a number with as many digits as tell something.
pub fn figure(metric: &str, value: f64) -> String {
    if metric.ends_with("usd_per_1000") {
        format!("{value:.2}")
    } else if metric.starts_with("gain.cpt") {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
