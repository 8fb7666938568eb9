//! `pointsman route`: a decision for a person, or one a line for a program.

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Args;

use super::{CliError, lines, runtime, show};
use crate::{
    config::{Config, SessionFloor},
    live::Live,
    prompt::{Context, Decision, Draft, DraftMessage, DraftPreferences, DraftShape},
    routing::admit::admit,
};

/// Nobody waits for one line of a file: the default tier would only spoil its result.
const OFFLINE_WAIT_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub struct RouteArguments {
    /// The prompt: one user message. Several words need no quotes.
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    text: Vec<String>,
    /// Read one JSON object a line ("-": stdin), each with `prompt` or `messages` and optionally
    /// `id`, `context`, `shape` and `preferences`; write one JSON line each, in the same order.
    #[arg(long, value_name = "FILE.jsonl")]
    input: Option<PathBuf>,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
    /// List every rule that matched.
    #[arg(long)]
    explain: bool,
    /// System prompt before the text.
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    system: Option<String>,
    /// Wanted probability that the tier answers acceptably, 0 to 1.
    #[arg(long, value_name = "0..1", conflicts_with = "input")]
    quality: Option<f64>,
    /// Weakest tier allowed.
    #[arg(long, value_name = "TIER", conflicts_with = "input")]
    tier_min: Option<String>,
    /// Strongest tier allowed.
    #[arg(long, value_name = "TIER", conflicts_with = "input")]
    tier_max: Option<String>,
    /// The caller's name for the kind of task, for rules.
    #[arg(long, value_name = "NAME", conflicts_with = "input")]
    task_type: Option<String>,
    /// A label for rules; may be given several times.
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "input")]
    tags: Vec<String>,
    /// Who the request is made for, for rules.
    #[arg(long, value_name = "NAME", conflicts_with = "input")]
    tenant: Option<String>,
    /// The target must support tool calls.
    #[arg(long, conflicts_with = "input")]
    needs_tools: bool,
    /// The target must read images.
    #[arg(long, conflicts_with = "input")]
    needs_vision: bool,
    /// The target must support JSON output.
    #[arg(long, conflicts_with = "input")]
    needs_json: bool,
}

/// Returns a configuration by which every line of a file is decided on its own, whatever lines came before
/// it, and however busy the machine is; nothing is logged, since nobody is served.
pub fn offline(mut config: Config) -> Config {
    config.sessions.floor = SessionFloor::Off;
    config.sessions.sticky = false;
    unhurried(config)
}

/// Returns a configuration by which every request is scored, however busy the machine is, and none logged.
pub fn unhurried(mut config: Config) -> Config {
    config.traffic.enabled = false;
    config.classifier.wait_max = OFFLINE_WAIT_MAX;
    config.classifier.queue_max = config.classifier.queue_max.max(lines::IN_FLIGHT);
    config
}

pub fn run(arguments: &RouteArguments, config: Config) -> Result<(), CliError> {
    let live = Live::start(offline(config))?;
    if live.router().config().classifier.enabled {
        live.load_classifier()?;
    }
    let runtime = runtime()?;
    if let Some(input) = &arguments.input {
        return runtime.block_on(lines::run(input, arguments.explain, &live));
    }
    let router = live.router();
    let prompt = admit(draft(arguments), router.config())?;
    let decision = runtime.block_on(router.route(&prompt, None))?;
    let text = if arguments.json { json(&decision) } else { show::decision(&decision, &router) };
    writeln!(anstream::stdout(), "{text}").map_err(|error| CliError::Io { what: "stdout".to_owned(), error })
}

fn json(decision: &Decision) -> String {
    serde_json::to_string_pretty(decision).expect("a decision is plain data")
}

fn draft(arguments: &RouteArguments) -> Draft {
    let message = |role: &str, content: String| DraftMessage { role: role.to_owned(), content };
    let system = arguments.system.iter().map(|text| message("system", text.clone()));
    Draft {
        prompt: None,
        messages: system.chain([message("user", arguments.text.join(" "))]).collect(),
        context: Context {
            task_type: arguments.task_type.clone().unwrap_or_default(),
            tags: arguments.tags.clone(),
            tenant: arguments.tenant.clone().unwrap_or_default(),
            ..Context::default()
        },
        shape: DraftShape {
            needs_tools: arguments.needs_tools,
            needs_vision: arguments.needs_vision,
            needs_json: arguments.needs_json,
            ..DraftShape::default()
        },
        preferences: DraftPreferences {
            quality: arguments.quality,
            tier_min: arguments.tier_min.clone().unwrap_or_default(),
            tier_max: arguments.tier_max.clone().unwrap_or_default(),
            ..DraftPreferences::default()
        },
        model: None,
        explain: arguments.explain,
    }
}
