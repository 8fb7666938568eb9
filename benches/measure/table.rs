//! Aligned tables of text.

/// Returns the lines of a table, columns aligned; those in `left` hold words, numbers stand at the right.
pub fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    left: &[usize],
) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<&[String; COLUMNS]> = std::iter::once(&header).chain(rows).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let line = |cells: &[String; COLUMNS]| {
        let cells: Vec<String> = (cells.iter().zip(&widths).enumerate())
            .map(
                |(at, (cell, &width))| {
                    if left.contains(&at) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
