//! Changes of bundles that a running server makes, and what it tells of them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    super::{
        CliError,
        admin::AdminArguments,
        fleet::wanted_json,
        print,
        show::{LABEL, RESET},
    },
    remote_show,
};
use crate::{
    config::Config,
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
    Activate(VersionArguments),
    /// Take back the canary, without one the shadow, without both the active version.
    Rollback(RollbackArguments),
    /// Forget a version that is staged or kept for rollback.
    Forget(VersionArguments),
    /// Show what happened to bundles and configuration, the latest first.
    Events(EventsArguments),
}

#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// What is to be taken back; refused where it would be another one by now.
    version: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub struct VersionArguments {
    /// A version in the bundle store, or "default" for the bundle that the configuration names.
    version: String,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub struct CanaryArguments {
    /// A version in the bundle store.
    version: String,
    /// Share of requests, for example 5%.
    #[arg(value_parser = share, required_unless_present = "replicas")]
    share: Option<f64>,
    /// Share of replicas instead, for example 30%; these decide everything with it.
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "share")]
    replicas: Option<f64>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    admin: AdminArguments,
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

pub fn run(command: &RemoteCommand, config: &Config) -> Result<(), CliError> {
    let server = &config.server;
    let (admin, change) = match command {
        RemoteCommand::Events(EventsArguments { limit, admin }) => {
            let asked = ListEventsRequest { events_max: *limit };
            let answer = admin.ask(server, async |mut client| client.list_events(asked).await)?;
            return print(&remote_show::events(&answer.events, admin.json));
        }
        RemoteCommand::Shadow(VersionArguments { version, admin }) => {
            let asked = ShadowBundleRequest { version: version.clone() };
            let doing = format!("{version} becomes the shadow");
            (
                admin,
                admin.change(server, &doing, async |mut client| client.shadow_bundle(asked).await)?.change,
            )
        }
        RemoteCommand::Canary(CanaryArguments { version, share, replicas, admin }) => {
            let reach = share.map(Reach::RequestShare).or(replicas.map(Reach::ReplicaShare));
            let asked = CanaryBundleRequest { version: version.clone(), reach: Some(CanaryReach { reach }) };
            let doing = format!("{version} becomes the canary");
            (
                admin,
                admin.change(server, &doing, async |mut client| client.canary_bundle(asked).await)?.change,
            )
        }
        RemoteCommand::Activate(VersionArguments { version, admin }) => {
            let asked = ActivateBundleRequest { version: version.clone() };
            let doing = format!("activating {version}");
            (
                admin,
                admin.change(server, &doing, async |mut client| client.activate_bundle(asked).await)?.change,
            )
        }
        RemoteCommand::Rollback(RollbackArguments { version, admin }) => {
            let asked = RollbackBundleRequest { version: version.clone().unwrap_or_default() };
            (
                admin,
                admin
                    .change(server, "rolling back", async |mut client| client.rollback_bundle(asked).await)?
                    .change,
            )
        }
        RemoteCommand::Forget(VersionArguments { version, admin }) => {
            let asked = ForgetBundleRequest { version: version.clone() };
            let doing = format!("forgetting {version}");
            (
                admin,
                admin.change(server, &doing, async |mut client| client.forget_bundle(asked).await)?.change,
            )
        }
    };
    print(&told(&change.unwrap_or_default(), admin.json))
}

/// Has the server verify a version of the store and keep it ready.
pub fn stage(version: String, admin: &AdminArguments, config: &Config) -> Result<(), CliError> {
    let doing = format!("staging {version}");
    let asked = StageBundleRequest { version };
    let answer = admin.change(&config.server, &doing, async |mut client| client.stage_bundle(asked).await)?;
    print(&told(&answer.change.unwrap_or_default(), admin.json))
}

fn told(change: &BundleChange, as_json: bool) -> String {
    let BundleChange { wanted, generation, told } = change;
    if as_json {
        let wanted = wanted.as_ref().map(wanted_json);
        return format!("{:#}", json!({"told": told, "generation": generation, "wanted": wanted}));
    }
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
    fn a_change_is_one_line() {
        let change = BundleChange { told: "0.4.0 is active".to_owned(), generation: 7, wanted: None };
        let shown = anstream::adapter::strip_str(&told(&change, false)).to_string();
        assert_eq!(shown, "0.4.0 is active (revision 0, generation 7)");
    }
}
