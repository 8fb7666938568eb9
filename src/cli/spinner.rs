//! A sign on a terminal that something takes its time.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// How often it turns.
const TURN_EVERY: Duration = Duration::from_millis(120);

/// Turns on stderr until it is cleared; nothing where that is no terminal.
pub fn spinner(doing: impl Into<String>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // What is too long for the line is cut.
    let style =
        ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("the template is a constant");
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(doing.into());
    spinner.enable_steady_tick(TURN_EVERY);
    spinner
}
