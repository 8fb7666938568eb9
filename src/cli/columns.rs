//! A table for people: a column is as wide as its widest cell, colours do not count.

use std::fmt;

use anstyle::Style;

use super::show::{RESET, STRONG};

/// Lines of cells under their titles.
pub struct Columns {
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One cell.
pub struct Cell {
    text: String,
    colour: Style,
}

impl Cell {
    pub fn plain(text: impl Into<String>) -> Self {
        Self::coloured(Style::new(), text)
    }

    pub fn coloured(colour: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), colour }
    }
}

impl Columns {
    pub fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a line with a cell for each title.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = |(at, title): (usize, &&str)| {
            let cells = self.rows.iter().map(|row| row[at].text.chars().count());
            cells.chain([title.len()]).max().unwrap_or_default()
        };
        // Nothing follows the last one.
        let mut widths: Vec<usize> = self.titles.iter().enumerate().map(widest).collect();
        if let Some(last) = widths.last_mut() {
            *last = 0;
        }
        let mut gap = "";
        for (title, width) in self.titles.iter().zip(&widths) {
            write!(f, "{gap}{STRONG}{title:<width$}{RESET}")?;
            gap = "  ";
        }
        for row in &self.rows {
            let mut gap = "\n";
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "{gap}{}{:<width$}{RESET}", cell.colour, cell.text)?;
                gap = "  ";
            }
        }
        Ok(())
    }
}
