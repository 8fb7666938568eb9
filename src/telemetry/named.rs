//! Gauges of what a configuration names. The exporter cannot remove a gauge, so that one of a target that is gone - or
//! that never served, as one that was learned of before a restart - would show its last value for ever: where metrics are
//! shown, only what serves is.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics_exporter_prometheus::formatting::sanitize_label_value;

/// What a name is of, and so by which label it stands in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Named {
    Target,
    Provider,
    Budget,
}

/// How many hold each name.
static HELD: Mutex<BTreeMap<(Named, String), usize>> = Mutex::new(BTreeMap::new());

/// Names whose gauges are shown as long as this lives.
#[derive(Debug)]
pub struct Names(Vec<(Named, String)>);

impl Named {
    /// Returns what a gauge is of; `None` where that is nothing that a configuration names.
    fn of(gauge: &str) -> Option<Self> {
        match gauge {
            super::TARGET_STATE | super::traffic::OFFSET => Some(Self::Target),
            super::PROVIDER_KEYS => Some(Self::Provider),
            super::BUDGET_SPENT => Some(Self::Budget),
            _ => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Provider => "provider",
            Self::Budget => "budget",
        }
    }
}

impl Names {
    /// Shows gauges of these names.
    pub fn hold(names: impl IntoIterator<Item = (Named, String)>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        let mut held = held();
        for name in &names {
            *held.entry(name.clone()).or_default() += 1;
        }
        Self(names)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let mut held = held();
        for name in &self.0 {
            match held.get_mut(name) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) | None => drop(held.remove(name)),
            }
        }
    }
}

fn held() -> MutexGuard<'static, BTreeMap<(Named, String), usize>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the exporter's text without gauges of what does not serve.
pub fn without_gone(text: &str) -> String {
    // As the exporter writes them, whose way with backslashes is its own.
    let shown: HashSet<(Named, String)> =
        held().keys().map(|(named, name)| (*named, sanitize_label_value(name))).collect();
    let is_gone = |line: &str| {
        let Some((gauge, labels)) = line.find('{').map(|at| line.split_at(at)) else { return false };
        match Named::of(gauge) {
            Some(named) => {
                value_of(named.label(), labels).is_none_or(|name| !shown.contains(&(named, name.to_owned())))
            }
            None => gauge == super::live::BUNDLE && line.ends_with(" 0"),
        }
    };
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n').filter(|line| !is_gone(line.trim_end())) {
        kept.push_str(line);
    }
    kept
}

/// Returns a label's value as it is written, of labels with the brace before them.
fn value_of<'a>(label: &str, labels: &'a str) -> Option<&'a str> {
    // Within a value no quote stands without a backslash before it: what looks like a label is one.
    let begins = ['{', ','].into_iter().find_map(|before| {
        let written = format!("{before}{label}=\"");
        labels.find(&written).map(|at| at + written.len())
    });
    let value = &labels[begins?..];
    let mut is_escaped = false;
    let ends = value.find(|character: char| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    });
    ends.map(|end| &value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of this test alone: others run in the same process.
    fn lines() -> String {
        "# TYPE pointsman_target_state gauge\n\
         pointsman_target_state{target=\"named-a\",state=\"open\"} 1\n\
         pointsman_target_state{target=\"named-ab\",state=\"open\"} 1\n\
         pointsman_learning_offset{intent=\"code\",target=\"named-a\"} 0.25\n\
         pointsman_attempts_total{target=\"named-a\",cause=\"first\"} 7\n\
         pointsman_provider_keys{provider=\"named-a\",state=\"live\"} 1\n\
         pointsman_budget_spent_share{budget=\"named \\\"a\\\"\"} 0.5\n\
         pointsman_bundle_info{version=\"named-1\",role=\"active\"} 0\n\
         pointsman_bundle_info{version=\"named-10\",role=\"active\"} 1\n\
         pointsman_classifier_ready 0\n"
            .to_owned()
    }

    #[test]
    fn gauges_of_what_is_gone_are_not_shown() {
        let name = |named, name: &str| (named, name.to_owned());
        let first = Names::hold([name(Named::Target, "named-a"), name(Named::Budget, "named \"a\"")]);
        let second = Names::hold([name(Named::Target, "named-a")]);
        let others = Names::hold([name(Named::Target, "named-ab"), name(Named::Provider, "named-a")]);
        let left_out = |gone: &[usize]| {
            let all = lines();
            let kept = all.split_inclusive('\n').enumerate().filter(|(at, _)| !gone.contains(at));
            kept.map(|(_, line)| line).collect::<String>()
        };
        assert_eq!(without_gone(&lines()), left_out(&[7]), "a bundle without a role");
        drop(first);
        assert_eq!(without_gone(&lines()), left_out(&[6, 7]));
        drop(second);
        assert_eq!(without_gone(&lines()), left_out(&[1, 3, 6, 7]), "counters stay");
        let _again = Names::hold([name(Named::Target, "named-a")]);
        assert_eq!(without_gone(&lines()), left_out(&[6, 7]));
        drop(others);
        assert_eq!(without_gone(&lines()), left_out(&[2, 5, 6, 7]));
    }

    #[test]
    fn what_never_served_is_not_shown() {
        let line = "pointsman_learning_offset{intent=\"code\",target=\"named-never\"} 0.25\n";
        assert_eq!(without_gone(line), "");
        let _held = Names::hold([(Named::Target, "named-never".to_owned())]);
        assert_eq!(without_gone(line), line);
    }

    /// A name is recognised as the exporter writes it.
    #[test]
    fn names_are_written_as_the_exporter_does() {
        for name in ["a\"b", "a\\b", "a\\\\b", "a\\\"b", "a\\", "\\\\", "a\nb", "a,target=\"b", "{}"] {
            let name = format!("named-written {name}");
            let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, || {
                for intent in ["code", "a\",target=\"x\"", "\\"] {
                    metrics::gauge!(super::super::traffic::OFFSET, "intent" => intent, "target" => name.clone())
                        .set(1.0);
                }
            });
            let text = recorder.handle().render();
            let held = Names::hold([(Named::Target, name.clone())]);
            assert_eq!(without_gone(&text), text, "{name}");
            drop(held);
            assert!(!without_gone(&text).contains('{'), "{name}: {text}");
        }
    }
}
