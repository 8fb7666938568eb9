//! Files -> samples: plain or gzip, every bad line told with its file and number.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::super::CliError;
use crate::{
    evaluation::sample::{Names, Sample, read},
    routing::{admit::FieldProblem, line::read_lines},
};

/// First bytes of a gzip file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Samples held at once: figures need all of a run.
const SAMPLES_MAX: usize = 1_000_000;

/// A file and what its section is called.
pub struct Input {
    pub name: String,
    pub path: PathBuf,
}

/// Returns a file's name without folder and endings.
pub fn stem(path: &Path) -> String {
    if path == Path::new("-") {
        return "stdin".to_owned();
    }
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let short = name.strip_suffix(".gz").unwrap_or(&name);
    let short = short.strip_suffix(".jsonl").or_else(|| short.strip_suffix(".json")).unwrap_or(short);
    if short.is_empty() { name } else { short.to_owned() }
}

/// Returns the samples of every file, or every bad line of all of them.
pub fn read_all(inputs: &[Input], names: &Names<'_>) -> Result<Vec<Vec<Sample>>, CliError> {
    let mut problems = Vec::new();
    let mut all = Vec::with_capacity(inputs.len());
    let mut left = SAMPLES_MAX;
    for input in inputs {
        let (samples, bad) = read_one(input, names, &mut left)?;
        problems.extend(bad);
        if samples.is_empty() && problems.is_empty() {
            problems.push(format!("{}: holds no sample", input.path.display()));
        }
        all.push(samples);
    }
    if problems.is_empty() { Ok(all) } else { Err(CliError::BadLines(problems)) }
}

fn read_one(
    input: &Input,
    names: &Names<'_>,
    left: &mut usize,
) -> Result<(Vec<Sample>, Vec<String>), CliError> {
    let failed = |error| CliError::Io { what: input.path.display().to_string(), error };
    let source = open(&input.path).map_err(failed)?;
    let (mut samples, mut problems) = (Vec::new(), Vec::new());
    read_lines(source, |line| {
        if *left == 0 {
            problems.push(input.place(line.number, format!("at most {SAMPLES_MAX} samples are taken")));
            return false;
        }
        *left -= 1;
        match read(&line, names) {
            Ok(sample) => samples.push(sample),
            Err(bad) => problems.extend(bad.into_iter().map(|FieldProblem { field, problem, .. }| {
                let field = if field.is_empty() { field } else { format!("{field}: ") };
                input.place(line.number, format!("{field}{problem}"))
            })),
        }
        true
    })
    .map_err(failed)?;
    Ok((samples, problems))
}

/// Opens a file ("-": stdin) and unpacks it when it is gzip.
fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(path)?) };
    let mut reader = BufReader::new(source);
    Ok(if reader.fill_buf()?.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

impl Input {
    /// Returns a problem with where it is: `file:line: problem`.
    fn place(&self, line: usize, problem: impl std::fmt::Display) -> String {
        format!("{}:{line}: {problem}", self.path.display())
    }

    /// Returns what the router refused, by line.
    pub fn bad_lines(&self, failed: BTreeMap<usize, String>) -> CliError {
        CliError::BadLines(failed.into_iter().map(|(line, why)| self.place(line, why)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_called_as_their_files() {
        for (path, expected) in [
            ("/data/dev/flask.jsonl.gz", "flask"),
            ("a.b.jsonl", "a.b"),
            ("plain", "plain"),
            (".jsonl", ".jsonl"),
            ("-", "stdin"),
        ] {
            assert_eq!(stem(Path::new(path)), expected);
        }
    }
}
