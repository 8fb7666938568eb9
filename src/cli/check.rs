//! `pointsman check`: every problem of a configuration, or a summary; the file's JSON Schema.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{CliError, configuration, show};
use crate::{
    config,
    live::{Live, LiveError},
    routing::{Router, intents::review},
};

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file [default: --config, else the built-in configuration].
    file: Option<PathBuf>,
    /// Print the JSON Schema of a configuration file instead, for editors.
    #[arg(long, conflicts_with = "file")]
    schema: bool,
    /// Leave out the bundle: check the file alone.
    #[arg(long)]
    no_bundle: bool,
}

pub fn run(arguments: &CheckArguments, global: Option<&Path>) -> Result<(), CliError> {
    if arguments.schema {
        let schema = serde_json::to_string_pretty(&config::schema()).expect("a schema is plain JSON");
        return print(&schema);
    }
    let path = arguments.file.clone().or_else(|| global.map(Path::to_owned));
    let config = configuration(path.as_ref())?;
    let summary = show::config(&config);
    let live = Live::start(config)?;
    let router = live.router();
    let classifier = &router.config().classifier;
    if !classifier.enabled {
        return print(&format!("{summary}\nclassifier off"));
    }
    if arguments.no_bundle {
        return print(&summary);
    }
    let bundle = check_bundle(&live)?;
    print(&format!("{summary}\n{bundle}"))
}

/// Loads the bundle as `serve` would: hashes, graph, golden samples, labels against the file, examples.
fn check_bundle(live: &Live) -> Result<String, LiveError> {
    live.load_classifier()?;
    let router = live.router();
    let description = router.classifier().expect("it was loaded above");
    let bundle = format!("bundle     {} {}, {}", description.name, description.version, description.runs);
    Ok(bundle + &intents(&router))
}

/// Returns the figures and warnings of intents by example, a line each, empty without them.
fn intents(router: &Router) -> String {
    let read = router.classifier().and_then(|description| description.languages.as_ref());
    let Some(intents) = router.example_intents() else { return String::new() };
    show::intents(&review(intents, router.config(), read))
}

fn print(text: &str) -> Result<(), CliError> {
    writeln!(anstream::stdout(), "{text}").map_err(|error| CliError::Io { what: "stdout".to_owned(), error })
}
