//! TOML text -> [`Config`]: structural problems here, all of them, then the checks of `check`.
//!
//! serde stops at its first error. To report every one, the entry it stumbled over is noted with
//! its path and line, taken out, and the rest is read again.

use std::{ops::Range, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, ConfigError, DEFAULT_TOML, Problem, check, file::File};

/// Reading stops collecting structural problems here; a file with more is not a configuration.
const STRUCTURAL_PROBLEMS_MAX: usize = 100;

/// Largest configuration file accepted, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the file at `path` over the compiled-in configuration.
pub fn read_file(path: &Path) -> Result<Config, ConfigError> {
    read(&text_of(path)?, path.display().to_string(), path.parent())
}

/// Returns the configuration of a file of which only `[server]` is looked at, all else as built in: a server can be asked
/// whatever is wrong with the rest. `None` where not even that can be read.
pub fn read_server(path: &Path) -> Option<Config> {
    let mut file: toml::Table = text_of(path).ok()?.parse().ok()?;
    file.retain(|section, _| section == "server");
    read(&toml::to_string(&file).ok()?, path.display().to_string(), path.parent()).ok()
}

/// Returns the text of a file, bounded; what is wrong with it as the only problem.
pub fn text_of(path: &Path) -> Result<String, ConfigError> {
    let failed = |message: String| ConfigError {
        origin: path.display().to_string(),
        problems: vec![Problem { path: String::new(), line: None, message }],
    };
    let size = std::fs::metadata(path).map_err(|error| failed(format!("cannot read: {error}")))?;
    if size.len() > FILE_BYTES_MAX {
        return Err(failed(format!("{} bytes, at most {FILE_BYTES_MAX} are read", size.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(format!("cannot read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytecount(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        failed(format!("line {line}: not UTF-8"))
    })
}

/// Reads `text` over the compiled-in configuration; an empty text is that configuration.
pub fn read_text(text: &str) -> Result<Config, ConfigError> {
    read(text, "configuration".to_owned(), None)
}

fn bytecount(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

fn read(text: &str, origin: String, folder: Option<&Path>) -> Result<Config, ConfigError> {
    let (file, mut source) = parse::<File>(text);
    let (defaults, _) = parse::<File>(DEFAULT_TOML);
    let file = over_defaults(file, &source, defaults);
    let config = check::check(&file, folder, &mut source);
    match config {
        Some(config) if source.problems.is_empty() => Ok(config),
        _ => {
            let mut problems = source.problems;
            problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
            Err(ConfigError { origin, problems })
        }
    }
}

/// Replaces each section that the text does not have by the compiled-in one.
fn over_defaults(file: File, source: &SourceText<'_>, defaults: File) -> File {
    macro_rules! pick {
        ($($section:ident),*) => {
            File { $($section: if source.has(stringify!($section)) { file.$section } else { defaults.$section }),* }
        };
    }
    pick!(
        server, limits, classifier, policy, sessions, tiers, targets, rules, intents, providers, completion,
        budgets, spend, traffic, learning, bundles, rollout
    )
}

/// The text that was read, what is wrong with it, and where each key stands.
pub struct SourceText<'text> {
    text: &'text str,
    table: DeTable<'text>,
    /// Entries taken out because they could not be read; nothing more is said about them.
    removed: Vec<String>,
    pub problems: Vec<Problem>,
}

impl SourceText<'_> {
    /// Notes a problem at `path`, with the line of the nearest key that exists.
    pub fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        let below = |removed: &String| {
            let rest = path.strip_prefix(removed.as_str());
            rest.is_some_and(|rest| removed.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if self.removed.iter().any(below) {
            return;
        }
        let line = self.line_of(&path);
        let section = path.split(['.', '[']).next().unwrap_or_default();
        let hint = match section {
            "" => String::new(),
            section if self.has(section) => String::new(),
            // Sections that may well be empty; of the others there has to be something.
            section @ ("rules" | "intents" | "budgets") => format!(
                " (this is the built-in `{section}`: give your own, or drop them by `{section} = []` at the top)"
            ),
            section => format!(" (this is the built-in `{section}`: give your own)"),
        };
        self.problems.push(Problem { path, line, message: message.into() + &hint });
    }

    /// Returns whether the text has this section, readable or not.
    fn has(&self, section: &str) -> bool {
        self.table.keys().any(|key| key.get_ref() == section)
            || self.removed.iter().any(|path| path == section)
    }

    fn line_of(&self, path: &str) -> Option<usize> {
        let mut steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        let (key, mut value) = entry(&self.table, steps.next()?)?;
        let mut span = key;
        for step in steps {
            match value.get_ref() {
                DeValue::Table(table) => match entry(table, step) {
                    Some((key, next)) => (span, value) = (key, next),
                    None => break,
                },
                DeValue::Array(array) => match step.parse().ok().and_then(|at: usize| array.get(at)) {
                    Some(next) => (span, value) = (next.span(), next),
                    None => break,
                },
                _ => break,
            }
        }
        Some(line_at(self.text, span.start))
    }
}

fn entry<'table, 'text>(
    table: &'table DeTable<'text>,
    name: &str,
) -> Option<(Range<usize>, &'table Spanned<DeValue<'text>>)> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span(), value))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + bytecount(&text.as_bytes()[..offset.min(text.len())])
}

/// Reads what can be read of a text; an empty file where nothing can, with the problems that say why.
pub fn parse<T: DeserializeOwned + Default>(text: &str) -> (T, SourceText<'_>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let span = table.span();
    let mut source =
        SourceText { text, table: table.into_inner(), removed: Vec::new(), problems: Vec::new() };
    source.problems.extend(errors.iter().map(|error| Problem {
        path: String::new(),
        line: error.span().map(|span| line_at(text, span.start)),
        message: one_line(error.message()),
    }));
    if !source.problems.is_empty() {
        // Half a table would only produce follow-up problems.
        source.removed.push(String::new());
        return (T::default(), source);
    }
    let mut rest = source.table.clone();
    for _ in 0..STRUCTURAL_PROBLEMS_MAX {
        let deserializer = toml::Deserializer::from(Spanned::new(span.clone(), rest.clone()));
        let error = match T::deserialize(deserializer) {
            Ok(file) => return (file, source),
            Err(error) => error,
        };
        let removed = error.span().and_then(|span| take_out(&mut rest, &span, ""));
        // What is left of a table whose entry was taken out may be wrong only for that.
        let below =
            |before: &String| removed.as_ref().is_some_and(|path| before.starts_with(&format!("{path}.")));
        if source.removed.iter().any(below) {
            source.removed.extend(removed);
            continue;
        }
        source.problems.push(Problem {
            message: without_secrets(removed.as_deref(), one_line(error.message())),
            path: removed.clone().unwrap_or_default(),
            line: error.span().map(|span| line_at(text, span.start)),
        });
        match removed {
            Some(path) => source.removed.push(path),
            None => break,
        }
    }
    source.removed.push(String::new());
    (T::default(), source)
}

/// Takes out the innermost table entry whose key or value covers `span`; returns its path.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>, prefix: &str) -> Option<String> {
    let covers = |range: Range<usize>| range.start <= span.start && span.end <= range.end;
    let holds = |value: &Spanned<DeValue<'_>>| covers(value.span()) || holds_below(value, span);
    let key =
        table.iter().find(|(key, value)| covers(key.span()) || holds(value)).map(|(key, _)| key.clone())?;
    let path =
        if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
    let value = table.get_mut(&key).expect("found above");
    let deeper = match value.get_mut() {
        DeValue::Table(inner) => take_out(inner, span, &path),
        DeValue::Array(items) => items.iter_mut().enumerate().find_map(|(at, item)| match item.get_mut() {
            DeValue::Table(inner) => take_out(inner, span, &format!("{path}[{at}]")),
            _ => None,
        }),
        _ => None,
    };
    deeper.or_else(|| {
        table.remove(&key);
        Some(path)
    })
}

/// Whether something below `value` covers `span`: the entries of `[[x]]` lie outside its own span.
fn holds_below(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    let covers = |range: Range<usize>| range.start <= span.start && span.end <= range.end;
    match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .any(|(key, value)| covers(key.span()) || covers(value.span()) || holds_below(value, span)),
        DeValue::Array(items) => items.iter().any(|item| covers(item.span()) || holds_below(item, span)),
        _ => false,
    }
}

/// Returns the message without the text that was found where none belongs: in a provider it may be a key, in the
/// traffic log the address of a database with its password, of the admin listener a token.
fn without_secrets(path: Option<&str>, message: String) -> String {
    let near_secrets = path
        .is_none_or(|path| ["providers", "traffic", "server.admin"].iter().any(|at| path.starts_with(at)));
    match (near_secrets, message.find("string \""), message.rfind('"')) {
        (true, Some(start), Some(end)) => {
            format!("{}string{}", &message[..start], &message[end + 1..])
        }
        _ => message,
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read_text(text).expect_err("a problem").problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_compiled_in_configuration_is_valid() {
        if let Err(error) = read_text(DEFAULT_TOML) {
            panic!("{error}");
        }
        assert_eq!(super::super::default_config().tiers.len(), 4);
    }

    #[test]
    fn a_section_replaces_the_built_in_one_and_leaves_the_others() {
        let config = read_text("rules = []\n[policy]\nquality = 0.9\n").unwrap();
        assert!(config.rules.is_empty());
        assert_eq!(config.policy.quality, 0.9);
        assert_eq!(config.tiers.len(), 4);
    }

    #[test]
    fn five_mistakes_are_five_problems_with_their_lines() {
        let text = r#"
[policy]
quality = 2.0
kwality = 1
default_tier = "enormous"

[server]
grpc_listen = 50051
drain_ms = "ten"
"#;
        let got = problems(text);
        assert_eq!(got.len(), 5, "{got:#?}");
        assert!(got[0].starts_with("line 3: policy.quality: "), "{got:#?}");
        assert!(got[1].starts_with("line 4: policy.kwality: unknown field"), "{got:#?}");
        assert!(got[2].starts_with("line 5: policy.default_tier: "), "{got:#?}");
        assert!(got[3].starts_with("line 8: server.grpc_listen: invalid type"), "{got:#?}");
        assert!(got[4].starts_with("line 9: server.drain_ms: invalid type"), "{got:#?}");
    }

    #[test]
    fn mistakes_inside_array_tables_carry_their_index() {
        let text = r#"
[[rules]]
id = "a"
tier = "simple"

[[rules]]
id = "b"
any = ["(unclosed"]
teir = "simple"
"#;
        let got = problems(text);
        assert!(got.iter().any(|p| p.starts_with("line 9: rules[1].teir: unknown field")), "{got:#?}");
        assert!(got.iter().any(|p| p.starts_with("line 8: rules[1].any[0]: ")), "{got:#?}");
    }

    #[test]
    fn a_built_in_section_that_no_longer_fits_says_so() {
        let got =
            problems("[[tiers]]\nname = \"only\"\nlevel = \"complex\"\ntargets = [\"claude-sonnet-5-5\"]\n");
        let hint = "(this is the built-in `policy`: give your own)";
        assert!(got.iter().any(|p| p.starts_with("policy.default_tier: ") && p.ends_with(hint)), "{got:#?}");
    }

    #[test]
    fn broken_toml_is_a_problem_with_its_line() {
        let got = problems("[policy\nquality = 1");
        assert!(got[0].starts_with("line 1: "), "{got:#?}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z\\[\\]=\"{}.\n 0-9]{0,200}") {
            let _ = read_text(&text);
        }
    }
}
