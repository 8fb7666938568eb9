//! The configuration's file, read as far as a command needs it: who asks a running server, above all to take something
//! back, is not kept from it by a mistake in a file that the server has not even taken.

use std::path::{Path, PathBuf};

use super::{
    CliError,
    admin::AdminArguments,
    show::{RESET, WARN},
};
use crate::config::{Config, ConfigError, ServerConfig, default_config, read_file, read_server};

/// Names the file where none is typed.
const VARIABLE: &str = "POINTSMAN_CONFIG";

/// Where the configuration is; `None`: the built-in one.
pub struct ConfigFile(Option<PathBuf>);

impl ConfigFile {
    /// Takes what was typed, else what the environment says. A variable that is set to nothing is not set: that is how
    /// deployments leave one out.
    pub fn find(typed: Option<PathBuf>) -> Self {
        let named = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self(typed.or_else(named))
    }

    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Reads all of it.
    pub fn whole(&self) -> Result<Config, CliError> {
        Ok(match &self.0 {
            Some(path) => read_file(path)?,
            None => default_config(),
        })
    }

    /// Reads what says how the server is asked: its section alone where the rest is at fault, and nothing where that is
    /// and the server was named. Says so on stderr.
    pub fn to_ask(&self, admin: &AdminArguments) -> Result<ServerConfig, CliError> {
        let Some(path) = &self.0 else { return Ok(default_config().server) };
        let error = match read_file(path) {
            Ok(config) => return Ok(config.server),
            Err(error) => error,
        };
        let (server, instead) = match (read_server(path), admin.names_server()) {
            (Some(config), _) => (config.server, "only its section [server] is looked at"),
            (None, true) => (default_config().server, "no token and no certificate is taken from it"),
            // The built-in address may be another server's than the one that was meant.
            (None, false) => return Err(CliError::Unnamed(error)),
        };
        anstream::eprintln!("{WARN}warning:{RESET} {}; {instead}", told(&error));
        Ok(server)
    }
}

/// Returns what is wrong in one line.
fn told(error: &ConfigError) -> String {
    match error.problems.as_slice() {
        [problem] => format!("{}: {problem}", error.origin),
        problems => format!("{}: {} problems, `pointsman check` shows them", error.origin, problems.len()),
    }
}
