//! Asking a person before something is gone for good.

use std::io::{IsTerminal, Write};

use super::CliError;

/// Asks on the terminal. Without one nobody can agree, and the error says how to do without: `to_do` follows "say --yes".
pub fn agreed(question: &str, to_do: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("there is no terminal to ask on: say --yes {to_do}")));
    }
    let failed = |error| CliError::Io { what: "terminal".to_owned(), error };
    anstream::eprint!("{question} [y/N] ");
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
