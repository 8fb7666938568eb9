//! The command line: what was typed becomes what the program needs, once. One file a subcommand.
//!
//! Exit codes: 0 good, 1 failed, 2 usage or configuration, 3 an answer that is incomplete.

mod admin;
mod agree;
mod bundle;
mod check;
mod columns;
mod config_file;
mod eval;
mod fleet;
mod learning;
mod lines;
mod reload;
mod reloads;
mod route;
mod serve;
mod show;
mod spend;
mod spinner;
mod store_away;
mod targets;
mod traffic;
mod when;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use self::config_file::ConfigFile;
use crate::{
    config::{ConfigError, MissingSecret},
    evaluation::report::ReportError,
    live::{LiveError, StartError, bundles::BundleStoreError},
    routing::{RouteError, RouterError, admit::BadRequest},
    server::ServerError,
    telemetry::{self, LogFormat},
    traffic::{erase::EraseError, export::ExportError, replay::SourceError, store::StoreError},
};

/// Reads each LLM request and sends it to the cheapest model that will answer it well.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Configuration file (TOML); each section in it replaces the built-in one [env: POINTSMAN_CONFIG].
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines are written to stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Least severe level logged; RUST_LOG overrides it.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = LEVELS)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const EXAMPLES: &str = "\
Examples:
  pointsman route \"Refactor our billing service to event sourcing without downtime\"
  pointsman route --json --input prompts.jsonl > decisions.jsonl
  pointsman serve --config pointsman.toml
  pointsman serve --demo
  pointsman targets
  pointsman spend
  pointsman check pointsman.toml
  pointsman bundle activate 0.4.0
  pointsman fleet --watch
  pointsman reload
  pointsman eval labelled.jsonl
  pointsman eval --traffic --since 7d --quality 0.4,0.6
  pointsman traffic stats --since 7d
  pointsman traffic export --since 1d --out exports

Exit codes: 0 good, 1 failed, 2 usage or configuration, 3 an incomplete answer (fleet, bundle events, traffic status).";

/// For who looks for a command that answers.
const COMPLETE: &str = "answers come from a server: start `pointsman serve` (or `serve --demo`, which needs no key) and \
                        POST to /v1/chat/completions or /v1/messages, see docs/http.md; `pointsman route` decides \
                        without asking anybody, and `pointsman completions SHELL` prints a script for a shell";

#[derive(Debug, Subcommand)]
enum Command {
    /// Decide for one prompt, or for every line of a file.
    Route(Box<route::RouteArguments>),
    /// Serve decisions and completions over gRPC and HTTP until a signal.
    Serve(serve::ServeArguments),
    /// Check a configuration and its bundle; print a summary or every problem.
    ///
    /// Looks for each provider's keys, and calls nobody to try them.
    Check(check::CheckArguments),
    /// Measure the router on labelled files beside baselines, or another setting on logged traffic.
    Eval(Box<eval::EvalArguments>),
    /// Show a running server's targets, and which of them take calls.
    Targets(targets::TargetsArguments),
    /// Show a running server's spend, savings and budgets.
    Spend(spend::SpendArguments),
    /// Show the versions of the classifier, and have a running server change which one serves.
    Bundle(Box<bundle::BundleArguments>),
    /// Show what all replicas are to run, and who runs what.
    Fleet(fleet::FleetArguments),
    /// Have a running server read its configuration again.
    Reload(reload::ReloadArguments),
    /// Show or forget what was learned online from feedback and outcomes.
    Learning(learning::LearningArguments),
    /// Look at, export and delete what was logged.
    ///
    /// Reads the configured store itself, and works while a server writes to it.
    Traffic(Box<traffic::TrafficArguments>),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Told what to do instead: this program answers as a server.
    #[command(hide = true, disable_help_flag = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file that should say where the server is cannot be read.
    #[error(
        "{0}\n  to ask a server without this file, name it with --admin ADDRESS (and --token, where it wants one)"
    )]
    Unnamed(ConfigError),
    #[error(transparent)]
    Secret(#[from] MissingSecret),
    #[error(transparent)]
    Router(#[from] RouterError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("{0}")]
    Request(#[from] BadRequest),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// Some lines failed; each was said where it stood.
    #[error("{failed} of {all} lines got no decision")]
    Lines { failed: usize, all: usize },
    /// A running server that should have answered did not.
    #[error("{0}")]
    Admin(String),
    /// A running server did not answer: whether it did what was asked for is not known.
    #[error("{0}")]
    Unanswered(String),
    /// A running server's answer, which was printed, is not the whole one.
    #[error("the answer is incomplete: {0}")]
    Incomplete(&'static str),
    /// What was typed does not fit together.
    #[error("{0}")]
    Usage(String),
    /// Lines of a labelled file that cannot be taken, each with its place.
    #[error("{}", listed(.0))]
    BadLines(Vec<String>),
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A traffic log that cannot be read.
    #[error(transparent)]
    TrafficSource(#[from] SourceError),
    /// A traffic log that holds nothing for what was asked.
    #[error("{0}")]
    Nothing(String),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Bundles(#[from] BundleStoreError),
    /// A bundle that could not serve; what was found out was printed.
    #[error("{0}")]
    Unfit(String),
    /// It was stopped before its end.
    #[error("{0}")]
    Interrupted(String),
    /// Figures that fall short, each with what was asked for.
    #[error("{} gate{} missed\n  {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("\n  "))]
    Gates(Vec<String>),
}

/// Bad lines told one by one; the rest is counted.
const BAD_LINES_SHOWN: usize = 50;

fn listed(problems: &[String]) -> String {
    let shown = problems[..problems.len().min(BAD_LINES_SHOWN)].join("\n  ");
    let more = match problems.len().saturating_sub(BAD_LINES_SHOWN) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    let plural = if problems.len() == 1 { "" } else { "s" };
    format!("{} problem{plural}\n  {shown}{more}", problems.len())
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Unnamed(_)
            | Self::Secret(_)
            | Self::Router(_)
            | Self::Start(_)
            | Self::Request(_)
            | Self::Usage(_)
            | Self::Export(ExportError::Destination(_))
            | Self::Live(LiveError::Fit(_)) => 2,
            Self::Live(_)
            | Self::Server(_)
            | Self::Route(_)
            | Self::Admin(_)
            | Self::Unanswered(_)
            | Self::Store(_)
            | Self::Erase(_)
            | Self::Io { .. }
            | Self::Lines { .. }
            | Self::BadLines(_)
            | Self::TrafficSource(_)
            | Self::Nothing(_)
            | Self::Report(_)
            | Self::Export(ExportError::Write { .. })
            | Self::Bundles(_)
            | Self::Unfit(_)
            | Self::Interrupted(_)
            | Self::Gates(_) => 1,
            Self::Incomplete(_) => 3,
        }
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    // A command that prints its result keeps quiet otherwise; a server tells its life.
    let level = match (&arguments.log_level, &arguments.command) {
        (Some(level), _) => level.as_str(),
        (None, Command::Serve(_)) => "info",
        (None, _) => "warn",
    };
    telemetry::init_log(arguments.log_format, level);
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone, for example `| head`: that is its right.
        Err(CliError::Io { error, .. }) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Where nobody reads it the exit code still tells.
            let _ = writeln!(anstream::stderr(), "{}error:{} {error}", show::ERROR, show::RESET);
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<(), CliError> {
    let file = ConfigFile::find(arguments.config);
    match arguments.command {
        Command::Route(route) => route::run(&route, file.whole()?),
        Command::Serve(serve) => serve::run(&serve, file.path()),
        Command::Eval(eval) => eval::run(&eval, file.whole()?),
        Command::Check(check) => check::run(&check, file),
        Command::Targets(targets) => targets::run(&targets, &file),
        Command::Spend(spend) => spend::run(&spend, &file),
        Command::Bundle(bundle) => bundle::run(&bundle, &file),
        Command::Fleet(fleet) => fleet::run(&fleet, &file),
        Command::Reload(reload) => reload::run(&reload, &file),
        Command::Learning(learning) => learning::run(&learning, &file.whole()?),
        Command::Traffic(traffic) => traffic::run(&traffic, &file.whole()?),
        Command::Complete { .. } => Err(CliError::Usage(COMPLETE.to_owned())),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "pointsman", &mut script);
            std::io::stdout()
                .write_all(&script)
                .map_err(|error| CliError::Io { what: "stdout".to_owned(), error })
        }
    }
}

/// Prints a command's result; a reader who has gone is an error that says so.
fn print(text: &str) -> Result<(), CliError> {
    writeln!(anstream::stdout(), "{text}").map_err(|error| CliError::Io { what: "stdout".to_owned(), error })
}

/// Returns a runtime for commands that wait.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Io { what: "starting the runtime".to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
