//! What becomes of the figures: a table, JSON, a report.

use std::{path::Path, sync::Arc};

use serde::Serialize;

use super::{super::CliError, table};
use crate::{
    evaluation::{
        Evaluation,
        bootstrap::Resampling,
        gates::GateResult,
        report::{Head, page},
    },
    routing::Router,
};

/// Format of the JSON that `--json` prints.
const FORMAT: u32 = 1;
const REPORT_FILE: &str = "index.html";

/// Everything that table, JSON and report are made from.
pub struct Outcome<'a> {
    pub router: &'a Router,
    /// Whether rules took part.
    pub rules: bool,
    pub resampling: Resampling,
    pub notes: Vec<String>,
    pub evaluations: Vec<Evaluation>,
    pub results: Vec<GateResult>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    pointsman: &'static str,
    /// `None`: no classifier.
    bundle: Option<BundleName>,
    settings: SettingsShown,
    notes: &'a [String],
    sections: &'a [Evaluation],
    gates: &'a [GateResult],
}

#[derive(Serialize)]
struct BundleName {
    name: Arc<str>,
    version: Arc<str>,
}

#[derive(Serialize)]
struct SettingsShown {
    rules: bool,
    objective: String,
    quality: f64,
    resamples: usize,
    seed: u64,
}

impl Outcome<'_> {
    pub fn json(&self) -> String {
        let document = Document {
            format: FORMAT,
            pointsman: env!("CARGO_PKG_VERSION"),
            bundle: self.router.classifier().map(|classifier| BundleName {
                name: Arc::clone(&classifier.name),
                version: Arc::clone(&classifier.version),
            }),
            settings: SettingsShown {
                rules: self.rules,
                objective: self.objective(),
                quality: self.quality(),
                resamples: self.resampling.resamples,
                seed: self.resampling.seed,
            },
            notes: &self.notes,
            sections: &self.evaluations,
            gates: &self.results,
        };
        serde_json::to_string_pretty(&document).expect("figures are plain data")
    }

    pub fn table(&self) -> String {
        let rules = if self.rules { "as when serving" } else { "off" };
        let Resampling { resamples, seed } = self.resampling;
        let settings = format!(
            "rules {rules}; objective {}, wanted quality {}; {resamples} resamples, seed {seed}",
            self.objective(),
            self.quality()
        );
        table::text(&settings, &self.notes, &self.evaluations)
    }

    /// Writes the report into a folder and says where it is.
    pub fn write_report(&self, folder: &Path) -> Result<(), CliError> {
        let bundle = self.router.classifier().map_or_else(
            || "no classifier".to_owned(),
            |classifier| format!("{} {}", classifier.name, classifier.version),
        );
        let head = Head {
            title: "pointsman evaluation",
            bundle,
            rules: self.rules,
            objective: self.objective(),
            quality: self.quality(),
            resampling: self.resampling,
            notes: &self.notes,
            gates: &self.results,
        };
        let html = page(&head, &self.evaluations)?;
        let path = folder.join(REPORT_FILE);
        let failed = |error| CliError::Io { what: path.display().to_string(), error };
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::write(&path, html).map_err(failed)?;
        anstream::eprintln!("report: {}", path.display());
        Ok(())
    }

    fn objective(&self) -> String {
        format!("{:?}", self.router.config().policy.objective).to_lowercase()
    }

    fn quality(&self) -> f64 {
        self.router.config().policy.quality
    }
}
