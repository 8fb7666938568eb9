//! Changes of bundles that a running server makes, and what it tells of them.

use std::{path::Path, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use tonic_types::StatusExt;

use super::{
    super::{
        CliError,
        admin::{AdminArguments, ChangeArguments, Client},
        config_file::ConfigFile,
        fleet::wanted_json,
        print,
        show::{GOOD, LABEL, RESET},
        store_away,
    },
    remote_show,
    wait::{self, WAIT_S, WAIT_S_MAX},
};
use crate::{
    config::ServerConfig,
    routing::classifier::Unfit,
    server::proto::{
        ActivateBundleRequest, BundleChange, CanaryBundleRequest, CanaryReach, ForgetBundleRequest,
        ListEventsRequest, RollbackBundleRequest, ShadowBundleRequest, StageBundleRequest,
        canary_reach::Reach,
    },
};

#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// Have a version score beside the active one; it decides nothing.
    Shadow(VersionArguments),
    /// Have a version decide for a share of requests, or on a share of the replicas.
    Canary(CanaryArguments),
    /// Have a version decide everything; naming the active one loads it anew.
    Activate(ActivateArguments),
    /// Take back the canary, without one the shadow, without both the active version.
    Rollback(RollbackArguments),
    /// Forget a version that is staged or kept for rollback.
    Forget(VersionArguments),
    /// Show what happened to bundles and configuration, the latest first.
    ///
    /// Exits with 3 where the store is away: these are then the events of the one replica that is asked.
    Events(EventsArguments),
}

/// A change, and whether to wait for the others.
#[derive(Debug, Args)]
pub struct WaitingArguments {
    /// Wait until all live replicas run it, at most so many seconds [default: 120]; exit with 1 where they do not.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = WAIT_S,
          value_parser = clap::value_parser!(u64).range(1..=WAIT_S_MAX))]
    wait: Option<u64>,
    #[command(flatten)]
    change: ChangeArguments,
}

#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// What is to be taken back; refused where it would be another one by now.
    #[arg(value_parser = version)]
    version: Option<String>,
    #[command(flatten)]
    waiting: WaitingArguments,
}

#[derive(Debug, Args)]
pub struct ActivateArguments {
    /// A version in the bundle store, or "default" for the bundle that the configuration names.
    #[arg(value_parser = version)]
    version: String,
    #[command(flatten)]
    waiting: WaitingArguments,
}

#[derive(Debug, Args)]
pub struct VersionArguments {
    /// A version in the bundle store, or "default" for the bundle that the configuration names.
    #[arg(value_parser = version)]
    version: String,
    #[command(flatten)]
    change: ChangeArguments,
}

#[derive(Debug, Args)]
pub struct CanaryArguments {
    /// A version in the bundle store.
    #[arg(value_parser = version)]
    version: String,
    /// Share of requests, for example 5%.
    #[arg(value_parser = share, required_unless_present = "replicas")]
    share: Option<f64>,
    /// Share of replicas instead, for example 30%; these decide everything with it.
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "share")]
    replicas: Option<f64>,
    #[command(flatten)]
    waiting: WaitingArguments,
}

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Reads a version's name; what the server would not know what to do with is told here.
pub fn version(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty: `pointsman bundle list` shows every version".to_owned());
    }
    if text.contains(std::path::is_separator) {
        let stage = format!("`pointsman bundle stage {text}`");
        return Err(match Path::new(text).is_dir() {
            true => format!("is a folder: {stage} copies it into the bundle store; then give its version"),
            false => format!("is no version: where it is a bundle's folder, {stage} comes first"),
        });
    }
    Ok(text.to_owned())
}

/// Reads "5%" or "0.05".
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        // To a ten-thousandth of a percent: 99.9 is none of the numbers that a computer has.
        Some(percent) => number(percent).map(|percent| (percent * 1e4).round() / 1e6),
        None => number(text),
    };
    match share {
        Some(share) if share > 0.0 && share < 1.0 => Ok(share),
        Some(_) if !text.ends_with('%') => {
            Err("is no share above 0 and below 1: did you mean per cent, as 5%?".to_owned())
        }
        _ => Err("is no share above 0% and below 100%, such as 5%".to_owned()),
    }
}

pub fn run(command: &RemoteCommand, file: &ConfigFile) -> Result<(), CliError> {
    match command {
        RemoteCommand::Events(EventsArguments { limit, admin }) => {
            let asked = ListEventsRequest { events_max: *limit };
            let ask = async |mut client: Client| client.list_events(asked).await;
            let answer = admin.ask(&file.to_ask(admin)?, ask)?;
            print(&remote_show::events(&answer, admin.json))?;
            store_away::complete(answer.store_away.as_ref())
        }
        RemoteCommand::Shadow(VersionArguments { version, change }) => {
            let ChangeArguments { why, admin } = change;
            let server = file.to_ask(admin)?;
            let asked = ShadowBundleRequest { version: version.clone(), why: why.clone() };
            let doing = format!("{version} becomes the shadow");
            let ask = async |mut client: Client| client.shadow_bundle(asked).await;
            Made { admin, server: &server, wait: None }.tell(admin.change(&server, &doing, ask)?.change)
        }
        RemoteCommand::Canary(CanaryArguments { version, share, replicas, waiting }) => {
            let WaitingArguments { wait, change: ChangeArguments { why, admin } } = waiting;
            let server = file.to_ask(admin)?;
            let reach = share.map(Reach::RequestShare).or(replicas.map(Reach::ReplicaShare));
            let reach = Some(CanaryReach { reach });
            let asked = CanaryBundleRequest { version: version.clone(), reach, why: why.clone() };
            let doing = format!("{version} becomes the canary");
            let ask = async |mut client: Client| client.canary_bundle(asked).await;
            Made { admin, server: &server, wait: *wait }.tell(admin.change(&server, &doing, ask)?.change)
        }
        RemoteCommand::Activate(ActivateArguments { version, waiting }) => {
            let WaitingArguments { wait, change: ChangeArguments { why, admin } } = waiting;
            let server = file.to_ask(admin)?;
            let asked = ActivateBundleRequest { version: version.clone(), why: why.clone() };
            let doing = format!("activating {version}");
            let ask = async |mut client: Client| client.activate_bundle(asked).await;
            Made { admin, server: &server, wait: *wait }.tell(admin.change(&server, &doing, ask)?.change)
        }
        RemoteCommand::Rollback(RollbackArguments { version, waiting }) => {
            let WaitingArguments { wait, change: ChangeArguments { why, admin } } = waiting;
            let server = file.to_ask(admin)?;
            let version = version.clone().unwrap_or_default();
            let asked = RollbackBundleRequest { version, why: why.clone() };
            let ask = async |mut client: Client| client.rollback_bundle(asked).await;
            Made { admin, server: &server, wait: *wait }
                .tell(admin.change(&server, "rolling back", ask)?.change)
        }
        RemoteCommand::Forget(VersionArguments { version, change }) => {
            let ChangeArguments { why, admin } = change;
            let server = file.to_ask(admin)?;
            let asked = ForgetBundleRequest { version: version.clone(), why: why.clone() };
            let doing = format!("forgetting {version}");
            let ask = async |mut client: Client| client.forget_bundle(asked).await;
            Made { admin, server: &server, wait: None }.tell(admin.change(&server, &doing, ask)?.change)
        }
    }
}

/// A version that was not staged.
pub struct NotStaged {
    pub error: CliError,
    pub reason: Reason,
}

/// Why a version was not staged, or did not pass its check.
#[derive(Debug, Clone, Copy)]
pub enum Reason {
    /// It will not do, wherever it is tried or only there; `None`: for a reason that this program does not know.
    Unfit(Option<Unfit>),
    /// It is not in the server's store.
    UnknownBundle,
    /// The server has a better use for it already.
    Role,
    /// It was asked for, and no answer came: the server may still be at it, or done.
    Unanswered,
    /// Anything else, also where no server was reached.
    Other,
}

impl Reason {
    /// Reads what the server gave as its reason.
    pub fn of(status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else { return Self::Other };
        match info.reason.as_str() {
            "UNFIT" => Self::Unfit(info.metadata.get("unfit").and_then(|label| Unfit::of(label))),
            "UNKNOWN_BUNDLE" => Self::UnknownBundle,
            "ROLE" => Self::Role,
            _ => Self::Other,
        }
    }
}

/// Has the server verify a version of the store and keep it ready.
pub fn stage(version: String, change: &ChangeArguments, server: &ServerConfig) -> Result<(), NotStaged> {
    let ChangeArguments { why, admin } = change;
    let doing = format!("staging {version}");
    let asked = StageBundleRequest { version, why: why.clone() };
    let mut reason = Reason::Other;
    let answer = admin.change(server, &doing, async |mut client| {
        let answer = client.stage_bundle(asked).await;
        if let Err(status) = &answer {
            reason = Reason::of(status);
        }
        answer
    });
    let answer = answer.map_err(|error| {
        let is_unanswered = matches!(error, CliError::Unanswered(_));
        NotStaged { error, reason: if is_unanswered { Reason::Unanswered } else { reason } }
    })?;
    let told = Made { admin, server, wait: None }.tell(answer.change);
    told.map_err(|error| NotStaged { error, reason: Reason::Other })
}

/// A change that was made: where it is asked who follows, and for how many seconds.
struct Made<'a> {
    admin: &'a AdminArguments,
    server: &'a ServerConfig,
    wait: Option<u64>,
}

impl Made<'_> {
    /// Prints what came of it, and waits for the others where that is asked for.
    fn tell(&self, change: Option<BundleChange>) -> Result<(), CliError> {
        let change = change.unwrap_or_default();
        let as_json = self.admin.json;
        let revision = change.wanted.as_ref().map(|wanted| wanted.revision).unwrap_or_default();
        if !as_json {
            print(&told(&change))?;
        }
        let most = self.wait.map(Duration::from_secs);
        let followed = most.map(|most| wait::for_all(self.admin, self.server, revision, most));
        if as_json {
            let replicas = followed.as_ref().and_then(|followed| followed.as_ref().ok());
            print(&format!("{:#}", json(&change, replicas)))?;
        }
        match followed.transpose()? {
            Some(replicas) if !as_json => {
                print(&format!("{GOOD}followed{RESET} by all live replicas {LABEL}({replicas}){RESET}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// `replicas`: how many were waited for, and follow.
fn json(change: &BundleChange, replicas: Option<&usize>) -> serde_json::Value {
    let BundleChange { wanted, generation, told } = change;
    let wanted = wanted.as_ref().map(wanted_json);
    json!({"told": told, "generation": generation, "wanted": wanted, "replicas_following": replicas})
}

fn told(change: &BundleChange) -> String {
    let BundleChange { wanted, generation, told } = change;
    let revision = wanted.as_ref().map(|wanted| wanted.revision).unwrap_or_default();
    format!("{told} {LABEL}(revision {revision}, generation {generation}){RESET}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        for (text, expected) in
            [("5%", Some(0.05)), ("0.05", Some(0.05)), ("12.5 %", Some(0.125)), ("99.9%", Some(0.999))]
        {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
        for bad in ["0", "0%", "100%", "5", "1", "-1%", "", "%", "NaN", "inf%", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert!(share("5").unwrap_err().contains("5%"));
    }

    #[test]
    fn what_is_no_version_is_told_before_a_server_is_asked() {
        assert_eq!(version("1.0.0").as_deref(), Ok("1.0.0"));
        assert!(version(" ").unwrap_err().contains("`pointsman bundle list`"));
        assert!(version("/nowhere/1.0.0").unwrap_err().contains("`pointsman bundle stage /nowhere/1.0.0`"));
        assert!(version("/").unwrap_err().starts_with("is a folder"));
    }

    #[test]
    fn a_change_is_one_line() {
        let change = BundleChange { told: "0.4.0 is active".to_owned(), generation: 7, wanted: None };
        let shown = anstream::adapter::strip_str(&told(&change)).to_string();
        assert_eq!(shown, "0.4.0 is active (revision 0, generation 7)");
    }
}
