//! `pointsman reload`: a running server reads its configuration again.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::{
    CliError,
    admin::ChangeArguments,
    config_file::ConfigFile,
    print,
    show::{GOOD, LABEL, RESET, WARN},
};
use crate::server::proto::{ReloadConfigRequest, ReloadConfigResponse};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReloadArguments {
    #[command(flatten)]
    change: ChangeArguments,
}

const EXAMPLES: &str = "\
The server reads the file that it was started with; it also does so by itself when the file changes
(server.watch), and on SIGHUP. A file with problems is refused as a whole: the old one serves on.

Examples:
  pointsman reload
  pointsman reload --why 'OPS-17: another budget'
  pointsman reload --admin https://pointsman.internal:50052 --ca ca.pem --token env:ADMIN_TOKEN";

pub fn run(arguments: &ReloadArguments, file: &ConfigFile) -> Result<(), CliError> {
    let ChangeArguments { why, admin } = &arguments.change;
    let server = file.to_ask(admin)?;
    let asked = ReloadConfigRequest { why: why.clone() };
    let answer = admin.change(&server, "reading the configuration again", async |mut client| {
        client.reload_config(asked).await
    })?;
    if admin.json {
        let ReloadConfigResponse { generation, changed, needs_restart } = answer;
        let object = json!({"generation": generation, "changed": changed, "needs_restart": needs_restart});
        return print(&format!("{object:#}"));
    }
    print(&told(&answer))
}

fn told(answer: &ReloadConfigResponse) -> String {
    let mut text = match answer.changed.as_slice() {
        [] if answer.needs_restart.is_empty() => {
            format!("nothing changed {LABEL}(generation {}){RESET}", answer.generation)
        }
        [] => format!("{LABEL}nothing else changed (generation {}){RESET}", answer.generation),
        changed => {
            let generation = answer.generation;
            format!("{GOOD}reloaded{RESET}: {} {LABEL}(generation {generation}){RESET}", changed.join(", "))
        }
    };
    for setting in &answer.needs_restart {
        let _ = write!(text, "\n{WARN}after a restart:{RESET} {setting}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(changed: &[&str], needs_restart: &[&str], expected: &str) {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let answer = ReloadConfigResponse {
            generation: 3,
            changed: owned(changed),
            needs_restart: owned(needs_restart),
        };
        assert_eq!(anstream::adapter::strip_str(&told(&answer)).to_string(), expected);
    }

    #[test]
    fn what_changed_is_told() {
        check(&[], &[], "nothing changed (generation 3)");
        check(&["rules", "policy"], &[], "reloaded: rules, policy (generation 3)");
        let both = "reloaded: rules (generation 3)\nafter a restart: server.grpc_listen";
        check(&["rules"], &["server.grpc_listen"], both);
        let only = "nothing else changed (generation 3)\nafter a restart: traffic.store";
        check(&[], &["traffic.store"], only);
    }
}
