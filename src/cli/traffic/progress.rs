//! How far a deletion is, on stderr.

use indicatif::ProgressBar;

use crate::{
    cli::spinner::spinner,
    traffic::store::{Deleted, Deleting},
};

/// How far a deletion is: on a terminal it moves, else each part of it is a line.
pub struct DeletionProgress {
    spinner: ProgressBar,
}

impl DeletionProgress {
    /// Begins with what comes before the store's rows.
    pub fn begin() -> Self {
        Self { spinner: spinner("looking through the spool") }
    }

    /// Shows where it is.
    pub fn tell(&self, at: Deleting) {
        let text = said(at);
        match at {
            Deleting::Rewriting(_) | Deleting::Vacuuming(_) if self.spinner.is_hidden() => {
                anstream::eprintln!("{text}");
            }
            Deleting::Rows(_) | Deleting::Rewriting(_) | Deleting::Vacuuming(_) => {
                self.spinner.set_message(text);
            }
        }
    }

    /// Ends it, so that other lines can follow.
    pub fn clear(&self) {
        self.spinner.finish_and_clear();
    }
}

fn said(at: Deleting) -> String {
    match at {
        Deleting::Rows(deleted) => format!("{} deleted so far", rows(deleted)),
        Deleting::Rewriting(deleted) => format!(
            "{} deleted; writing the file anew so that nothing is left of them, some minutes where it is large",
            rows(deleted)
        ),
        Deleting::Vacuuming(deleted) => format!(
            "{} deleted; vacuuming their tables so that their room is used again, some minutes where they are large",
            rows(deleted)
        ),
    }
}

/// Returns how many records and pieces of feedback those are.
pub fn rows(Deleted { records, feedback }: Deleted) -> String {
    let pieces = if feedback == 1 { "piece" } else { "pieces" };
    format!("{} and {feedback} {pieces} of feedback", counted(records, "record"))
}

/// Returns a count with what is counted.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_deletion_is_told() {
        let one = Deleted { records: 1, feedback: 1 };
        assert_eq!(said(Deleting::Rows(one)), "1 record and 1 piece of feedback deleted so far");
        assert!(said(Deleting::Rewriting(one)).contains("writing the file anew"));
        let many = Deleted { records: 20, feedback: 0 };
        assert!(
            said(Deleting::Vacuuming(many))
                .starts_with("20 records and 0 pieces of feedback deleted; vacuuming")
        );
    }
}
