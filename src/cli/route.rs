//! `pointsman route`: a decision for a person, or one a line for a program.

use std::{
    io::{Read, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use super::{
    CliError,
    lines::{self, Others, Reading},
    runtime, show,
};
use crate::{
    config::{Config, SessionFloor},
    live::Live,
    prompt::{Context, Decision, Draft, DraftMessage, DraftPreferences, DraftShape},
    routing::admit::admit,
};

/// Nobody waits for one line of a file: the default tier would only spoil its result.
const OFFLINE_WAIT_MAX: Duration = Duration::from_secs(600);

/// What is not decided here as a server would.
const HELP: &str = "\
Nothing here is served or logged: what a server has learned online (pointsman learning show), its
sessions, spent budgets and open breakers take no part. POST /v1/route asks a running server.

Examples:
  pointsman route \"Refactor our billing service\"
  pointsman route - < prompt.txt
  pointsman route --json --input prompts.jsonl > decisions.jsonl";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RouteArguments {
    /// The prompt: one user message. Several words need no quotes; "-" reads it from stdin.
    #[arg(conflicts_with = "input")]
    text: Vec<String>,
    /// Read one JSON object a line ("-": stdin), each with `prompt` or `messages` and optionally
    /// `id`, `context`, `shape`, `preferences`, `model` and `explain`, as `POST /v1/route` takes them; write one JSON
    /// line each, in the same order.
    #[arg(long, value_name = "FILE.jsonl")]
    input: Option<PathBuf>,
    /// Let lines hold other keys too, such as the labels of `pointsman eval`: they are ignored, and so is `model`.
    #[arg(long, requires = "input")]
    labelled: bool,
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
    #[arg(long, value_name = "0..1", conflicts_with = "input", value_parser = quality)]
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

/// Reads a wanted quality. Whether it is within its range is for admission to say.
fn quality(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "a number from 0 to 1 is expected".to_owned())
}

pub fn run(arguments: &RouteArguments, config: Config) -> Result<(), CliError> {
    if arguments.input.is_none() && arguments.text.is_empty() {
        return Err(CliError::Usage(
            "what to decide for is missing: give a prompt, \"-\" to read one from stdin, or --input FILE.jsonl"
                .to_owned(),
        ));
    }
    let live = Live::start(offline(config))?;
    if live.router().config().classifier.enabled {
        live.load_classifier()?;
    }
    let runtime = runtime()?;
    if let Some(input) = &arguments.input {
        let others = if arguments.labelled { Others::Ignored } else { Others::Refused };
        let reading = Reading { explain: arguments.explain, others };
        return runtime.block_on(lines::run(input, reading, &live));
    }
    let router = live.router();
    let text = match &arguments.text[..] {
        [only] if only == "-" => {
            let text = from_stdin(router.config().limits.prompt_bytes_max)?;
            // The end of the line that `echo` wrote; rules that look for an end would miss theirs.
            text.strip_suffix('\n')
                .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line))
                .to_owned()
        }
        words => words.join(" "),
    };
    let prompt = admit(draft(arguments, text), router.config())?;
    let decision = runtime.block_on(router.route(&prompt, None))?;
    let text = if arguments.json { json(&decision) } else { show::decision(&decision, &router) };
    writeln!(anstream::stdout(), "{text}").map_err(|error| CliError::Io { what: "stdout".to_owned(), error })
}

fn json(decision: &Decision) -> String {
    serde_json::to_string_pretty(decision).expect("a decision is plain data")
}

/// Reads a prompt; of one that is too long a little more than may be, so that it is refused as such.
fn from_stdin(bytes_max: usize) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::Io { what: "stdin".to_owned(), error })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // The limit may have cut a letter.
        Err(error) if error.as_bytes().len() > bytes_max => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(error) => {
            let place = error.utf8_error().valid_up_to() + 1;
            Err(CliError::Usage(format!("stdin: not UTF-8 at byte {place}")))
        }
    }
}

fn draft(arguments: &RouteArguments, text: String) -> Draft {
    let message = |role: &str, content: String| DraftMessage { role: role.to_owned(), content };
    let system = arguments.system.iter().map(|text| message("system", text.clone()));
    Draft {
        prompt: None,
        messages: system.chain([message("user", text)]).collect(),
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
