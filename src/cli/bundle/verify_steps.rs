//! What `pointsman bundle verify` looks at, in this order: each step is printed as it ends, or all of them as one JSON object.
//!
//! Names are part of that object: one that fails is called as one that does not.

use serde::Serialize;

use super::{
    super::show::{ERROR, GOOD, RESET, STRONG},
    CliError, print,
};
use crate::routing::classifier::Unfit;

pub const FOUND: &str = "found";
pub const MANIFEST: &str = "manifest";
pub const SIGNATURE: &str = "signature";
pub const FILES: &str = "files";
pub const CONTENTS: &str = "contents";
pub const LABELS: &str = "labels";
pub const CALIBRATION: &str = "calibration";
pub const MEMORY: &str = "memory";
pub const TOKENIZER: &str = "tokenizer";
pub const GRAPH: &str = "graph";
pub const GOLDEN: &str = "golden samples";
pub const CONFIGURATION: &str = "configuration";
/// All of it, by a running server.
pub const SERVER: &str = "server";

/// So that steps stand below each other, whatever comes next.
const WIDTH: usize = GOLDEN.len();

/// Steps of loading a bundle, in the order in which they are made.
pub const OF_LOADING: [&str; 4] = [MEMORY, TOKENIZER, GRAPH, GOLDEN];

/// Returns the step of loading at which a bundle was refused.
pub fn refused_at(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::Memory => MEMORY,
        Unfit::Tokenizer | Unfit::Background => TOKENIZER,
        Unfit::Graph | Unfit::Opset | Unfit::Outputs | Unfit::Library | Unfit::Device => GRAPH,
        // A graph that is too slow, and a processor that is too busy, show while the samples are run.
        Unfit::NotFinite | Unfit::Golden | Unfit::Latency | Unfit::Busy => GOLDEN,
        // It was good a moment ago: somebody changes it.
        Unfit::Unreadable
        | Unfit::Manifest
        | Unfit::Format
        | Unfit::NotListed
        | Unfit::Outside
        | Unfit::TooLarge
        | Unfit::Length
        | Unfit::Sha256
        | Unfit::Signature
        | Unfit::Store => CONTENTS,
        Unfit::Labels | Unfit::Examples | Unfit::Rules => CONFIGURATION,
    }
}

/// What was found out so far.
pub struct Steps {
    as_json: bool,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    good: bool,
    told: String,
}

/// All of it.
#[derive(Serialize)]
struct Report<'a> {
    bundle: &'a str,
    good: bool,
    steps: &'a [Step],
}

/// Why there are no more steps.
#[derive(Debug)]
pub enum Stopped {
    /// A step failed, for this reason.
    At(&'static str, String),
    /// Nothing can be said of the bundle.
    Otherwise(CliError),
}

impl From<CliError> for Stopped {
    fn from(error: CliError) -> Self {
        Self::Otherwise(error)
    }
}

impl Steps {
    pub fn new(as_json: bool) -> Self {
        Self { as_json, steps: Vec::new() }
    }

    /// Adds a step that went well.
    pub fn good(&mut self, step: &'static str, told: impl Into<String>) -> Result<(), CliError> {
        self.add(Step { step, good: true, told: told.into() })
    }

    fn add(&mut self, step: Step) -> Result<(), CliError> {
        if !self.as_json {
            print(&line(&step))?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// Tells how it ended; an error where the bundle cannot serve.
    pub fn end(mut self, bundle: &str, outcome: Result<(), Stopped>) -> Result<(), CliError> {
        let failed = match outcome {
            Ok(()) => None,
            Err(Stopped::At(step, told)) => {
                self.add(Step { step, good: false, told })?;
                Some(step)
            }
            Err(Stopped::Otherwise(error)) => return Err(error),
        };
        if self.as_json {
            let report = Report { bundle, good: failed.is_none(), steps: &self.steps };
            print(&serde_json::to_string_pretty(&report).expect("a report is plain data"))?;
        }
        match failed {
            None => Ok(()),
            Some(FOUND) => Err(CliError::Unfit(format!("bundle {bundle} is not there"))),
            Some(step) => Err(CliError::Unfit(format!("bundle {bundle} cannot serve: look at {step}"))),
        }
    }
}

fn line(Step { step, good, told }: &Step) -> String {
    let (colour, mark) = if *good { (GOOD, "ok") } else { (ERROR, "no") };
    format!("{colour}{mark}{RESET}  {STRONG}{step:<WIDTH$}{RESET}  {told}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_below_each_other() {
        let told = |step, good| {
            let line = line(&Step { step, good, told: "x".to_owned() });
            anstream::adapter::strip_str(&line).to_string()
        };
        assert_eq!(told(FOUND, true), "ok  found           x");
        assert_eq!(told(GOLDEN, false), "no  golden samples  x");
    }

    #[test]
    fn what_is_refused_while_it_is_loaded_is_refused_at_a_step() {
        for unfit in Unfit::ALL {
            let step = refused_at(unfit);
            let known = OF_LOADING.contains(&step) || [CONTENTS, CONFIGURATION].contains(&step);
            assert!(known && step.len() <= WIDTH, "{unfit:?}: {step}");
        }
    }
}
