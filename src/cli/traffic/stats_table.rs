//! Figures of traffic as aligned columns. Pure.

use std::fmt::Write;

use super::super::{
    show::{GOOD, LABEL, RESET, STRONG, WARN},
    when::{day_shown, shown},
};
use crate::traffic::stats::{Counted, Day, Drift, Figures, Group, Percentiles, Tally, Verdict, share};

/// Rows of one grouping; the rest is counted.
const GROUPS_SHOWN: usize = 15;
/// Newest days; a terminal is not much wider than twice that.
const DAYS_SHOWN: usize = 60;
const INTENTS_SHOWN: usize = 5;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Days as sparklines.
    Terminal,
    /// Days as lines of numbers.
    Plain,
}

/// Returns everything but what nobody has asked for: groups beyond the first are only counted.
pub fn table(figures: &Figures, look: Look) -> String {
    let mut text = head(figures);
    if figures.all.requests == 0 {
        return text;
    }
    let groupings = [
        ("tier", &figures.tiers),
        ("target", &figures.targets),
        ("decided by", &figures.sources),
        ("intent", &figures.intents),
    ];
    for (name, groups) in groupings {
        grouping(&mut text, name, groups, figures.all.requests);
    }
    match look {
        Look::Terminal => sparklines(&mut text, &figures.days),
        Look::Plain => days(&mut text, &figures.days),
    }
    drift(&mut text, &figures.drift);
    text.truncate(text.trim_end().len());
    text
}

fn head(figures: &Figures) -> String {
    let all = &figures.all;
    let (from, until) = (shown(figures.from_ms), shown(figures.until_ms));
    let mut text = format!("{LABEL}from {from} to {until}{RESET}\n");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{LABEL}{label:<11}{RESET} {value}");
    };
    let alone = all.requests - all.completions;
    line("requests", &format!("{}: {} completions, {alone} decisions alone", all.requests, all.completions));
    if all.requests == 0 {
        return text.trim_end().to_owned();
    }
    line("cost", &cost(all));
    line("answers", &times(figures.answers));
    line("decisions", &times(figures.decisions));
    let of_all = |part: u64| percent(share(part, all.requests));
    line(
        "classifier",
        &format!(
            "scored {}, unsure about {}; {} explored",
            of_all(figures.classified),
            of_all(figures.low_confidence),
            figures.explored
        ),
    );
    let failures = listed(&figures.failures);
    let failures = if failures.is_empty() { failures } else { format!(" ({failures})") };
    line(
        "trouble",
        &format!(
            "{} escalated, {} weak, {} failed{failures}, {} hung up",
            all.escalated, all.weak, all.failed, all.hung_up
        ),
    );
    line("feedback", &feedback(figures));
    let signals = listed(&figures.feedback.signals);
    if !signals.is_empty() {
        line("signals", &signals);
    }
    text
}

fn cost(all: &Tally) -> String {
    let (cost, baseline) = (dollars(all.cost_usd), dollars(all.baseline_cost_usd));
    let saved = match all.saved_share() {
        Some(share) if share < 0.0 => format!(": {WARN}{} more{RESET}", dollars(-all.saved_usd())),
        Some(share) => {
            format!(": {GOOD}{} saved ({}){RESET}", dollars(all.saved_usd()), percent(Some(share)))
        }
        None => String::new(),
    };
    let estimated = match all.estimated_usd {
        usd if usd > 0.0 => format!("; {} of it an estimate for decisions alone", dollars(usd)),
        _ => String::new(),
    };
    let unanswered = match all.unanswered_usd {
        usd if usd > 0.0 => format!("; {} of it for no answer, not compared", dollars(usd)),
        _ => String::new(),
    };
    format!("{STRONG}{cost}{RESET} instead of {baseline} for the top tier{saved}{estimated}{unanswered}")
}

fn feedback(figures: &Figures) -> String {
    let (said, all) = (&figures.feedback, &figures.all);
    if said.pieces == 0 {
        return "none".to_owned();
    }
    let good = match all.good_share() {
        Some(_) => format!("; {} good ({} of {})", percent(all.good_share()), all.good, all.good + all.bad),
        None => String::new(),
    };
    format!("{} on {} requests ({}){good}", said.pieces, said.requests, listed(&said.sources))
}

fn times(times: Option<Percentiles>) -> String {
    let Some(times) = times else { return "-".to_owned() };
    let [p50, p95, p99, max] = [times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms].map(milliseconds);
    format!("p50 {p50}, p95 {p95}, p99 {p99}, longest {max}")
}

fn grouping(text: &mut String, name: &str, groups: &[Group], requests: u64) {
    if groups.is_empty() {
        return;
    }
    let shown = &groups[..groups.len().min(GROUPS_SHOWN)];
    let width =
        shown.iter().map(|group| group.name.chars().count()).chain([name.len()]).max().unwrap_or_default();
    let _ = writeln!(
        text,
        "\n{STRONG}{name:<width$} {:>9} {:>7} {:>12} {:>7} {:>10} {:>7} {:>7} {:>7}{RESET}",
        "requests", "share", "cost", "saved", "escalated", "weak", "failed", "good"
    );
    for Group { name, tally } in shown {
        let of = |part: u64| percent(share(part, tally.requests));
        let _ = writeln!(
            text,
            "{name:<width$} {:>9} {:>7} {:>12} {:>7} {:>10} {:>7} {:>7} {:>7}",
            tally.requests,
            percent(share(tally.requests, requests)),
            dollars(tally.cost_usd),
            percent(tally.saved_share()),
            of(tally.escalated),
            of(tally.weak),
            of(tally.failed),
            percent(tally.good_share())
        );
    }
    if groups.len() > shown.len() {
        let _ = writeln!(text, "{LABEL}and {} more; --json has all{RESET}", groups.len() - shown.len());
    }
}

/// What is shown of each day.
type OfDay = (&'static str, fn(&Tally) -> Option<f64>, fn(f64) -> String);

const OF_DAYS: [OfDay; 6] = [
    ("requests", |tally| Some(tally.requests as f64), |value| format!("{value:.0}")),
    ("cost", |tally| Some(tally.cost_usd), dollars),
    ("saved", Tally::saved_share, |value| percent(Some(value))),
    ("escalated", |tally| share(tally.escalated, tally.requests), |value| percent(Some(value))),
    ("failed", |tally| share(tally.failed, tally.requests), |value| percent(Some(value))),
    ("good", Tally::good_share, |value| percent(Some(value))),
];

fn sparklines(text: &mut String, days: &[Day]) {
    let Some(last) = days.last() else { return };
    let first_day = days[0].day.max(last.day.saturating_sub(DAYS_SHOWN as i64 - 1));
    let (from, to) = (day_shown(first_day), day_shown(last.day));
    let _ = writeln!(text, "\n{STRONG}{:<11} {from} to {to}, lowest and highest{RESET}", "by day");
    for (name, figure, written) in OF_DAYS {
        // A day without a request leaves a gap.
        let mut values = Vec::with_capacity(DAYS_SHOWN);
        for day in first_day..=last.day {
            let at = days.binary_search_by_key(&day, |day| day.day).ok();
            values.push(at.and_then(|at| figure(&days[at].tally)));
        }
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let (Some(low), Some(high)) =
            (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max))
        else {
            continue;
        };
        let _ = writeln!(
            text,
            "{name:<11} {GOOD}{}{RESET} {} to {}",
            sparkline(&values),
            written(low),
            written(high)
        );
    }
}

/// Returns a block for each value, from the lowest of 0 and the values to the highest; a space where there is none.
fn sparkline(values: &[Option<f64>]) -> String {
    let known = || values.iter().flatten().copied();
    let (low, high) = (known().fold(0.0, f64::min), known().fold(0.0, f64::max));
    let block = |value: &Option<f64>| match value {
        None => ' ',
        Some(_) if high <= low => BLOCKS[0],
        Some(value) => {
            let place = (value - low) / (high - low) * (BLOCKS.len() - 1) as f64;
            BLOCKS[(place.round() as usize).min(BLOCKS.len() - 1)]
        }
    };
    values.iter().map(block).collect()
}

fn days(text: &mut String, days: &[Day]) {
    let _ = write!(text, "\n{STRONG}{:<10}", "day");
    for (name, _, _) in OF_DAYS {
        let _ = write!(text, " {name:>12}");
    }
    let _ = writeln!(text, "{RESET}");
    let shown = &days[days.len().saturating_sub(DAYS_SHOWN)..];
    for Day { day, tally } in shown {
        let _ = write!(text, "{:<10}", day_shown(*day));
        for (_, figure, written) in OF_DAYS {
            let _ = write!(text, " {:>12}", figure(tally).map_or_else(|| "-".to_owned(), written));
        }
        text.push('\n');
    }
    if days.len() > shown.len() {
        let _ = writeln!(
            text,
            "{LABEL}{} days before are left out; --json has all{RESET}",
            days.len() - shown.len()
        );
    }
}

fn drift(text: &mut String, drift: &Drift) {
    let said = match drift.verdict {
        Verdict::Stable => format!("{GOOD}stable{RESET}"),
        Verdict::Shifted => format!("{WARN}shifted{RESET}"),
        Verdict::Drifted => format!("{WARN}drifted: another mix{RESET}"),
        Verdict::TooFew => "too few requests to judge".to_owned(),
    };
    let index = match (drift.index, drift.by_chance) {
        (Some(index), Some(chance)) => format!(", stability index {index:.3} ({chance:.3} by chance alone)"),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "\n{STRONG}intents against the 30 days before{RESET}: {said}{index}; {} requests then, {} now",
        drift.before, drift.now
    );
    if drift.index.is_none() {
        return;
    }
    for moved in drift.intents.iter().take(INTENTS_SHOWN) {
        let (then, now) = (percent(Some(moved.before_share)), percent(Some(moved.now_share)));
        let _ = writeln!(text, "{:<26} {then:>6} → {now:<6} {:+.3}", moved.intent, moved.part);
    }
}

fn listed(counted: &[Counted]) -> String {
    let parts: Vec<String> =
        counted.iter().take(GROUPS_SHOWN).map(|one| format!("{} {}", one.count, one.name)).collect();
    parts.join(", ")
}

fn dollars(usd: f64) -> String {
    format!("${usd:.4}")
}

fn percent(share: Option<f64>) -> String {
    // What rounds to nothing has no sign: adding 0 takes it away.
    let shown = |share: f64| format!("{:.1} %", (share * 1000.0).round() / 10.0 + 0.0);
    share.map_or_else(|| "-".to_owned(), shown)
}

/// Three digits that count, from microseconds to minutes.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{
        samples::{AT_MS, DAY_MS, logged_at},
        stats::Stats,
    };

    fn figures() -> Figures {
        let mut stats = Stats::new(AT_MS - 10 * DAY_MS, AT_MS + DAY_MS);
        stats.add_before("support", 2);
        for (days_ago, count) in [(3, 4), (0, 8)] {
            for number in 0..count {
                stats.add(&logged_at(AT_MS - days_ago * DAY_MS, number));
            }
        }
        stats.figures()
    }

    fn shown_as(look: Look) -> String {
        anstream::adapter::strip_str(&table(&figures(), look)).to_string()
    }

    fn check(look: Look, expected: &[&str]) {
        let shown = shown_as(look);
        for line in expected {
            assert!(shown.lines().any(|shown| shown == *line), "{line:?} is missing in\n{shown}");
        }
    }

    #[test]
    fn figures_are_told() {
        check(
            Look::Plain,
            &[
                "requests    12: 12 completions, 0 decisions alone",
                "cost        $0.0132 instead of $0.0480 for the top tier: $0.0348 saved (72.5 %)",
                "answers     p50 1004 ms, p95 1004 ms, p99 1004 ms, longest 1004 ms",
                "decisions   p50 2.51 ms, p95 2.51 ms, p99 2.51 ms, longest 2.51 ms",
                "classifier  scored 100.0 %, unsure about 0.0 %; 0 explored",
                "trouble     12 escalated, 0 weak, 0 failed, 0 hung up",
                "feedback    24 on 12 requests (12 automatic, 12 human); 100.0 % good (12 of 12)",
                "signals     12 escalated, 12 retried, 12 weak",
                "tier    requests   share         cost   saved  escalated    weak  failed    good",
                "simple        12 100.0 %      $0.0132  72.5 %    100.0 %   0.0 %   0.0 % 100.0 %",
                "2026-01-27            4      $0.0044       72.5 %      100.0 %        0.0 %      100.0 %",
                "intents against the 30 days before: too few requests to judge, stability index 0.000 \
                 (0.583 by chance alone); 2 requests then, 12 now",
            ],
        );
        assert!(!shown_as(Look::Plain).contains('▁'));
    }

    #[test]
    fn days_are_sparklines_on_a_terminal() {
        check(
            Look::Terminal,
            &["by day      2026-01-27 to 2026-01-30, lowest and highest", "requests    ▅  █ 4 to 8"],
        );
    }

    #[test]
    fn a_share_that_rounds_to_nothing_has_no_sign() {
        let shown = [-0.000_4, 0.000_4, -0.25, 1.0].map(|share| percent(Some(share)));
        assert_eq!(shown, ["0.0 %", "0.0 %", "-25.0 %", "100.0 %"]);
        assert_eq!(percent(None), "-");
    }

    #[test]
    fn sparklines_begin_at_zero() {
        let check = |values: &[Option<f64>], expected: &str| assert_eq!(sparkline(values), expected);
        check(&[Some(0.0), Some(7.0), None, Some(3.5)], "▁█ ▅");
        check(&[Some(5.0), Some(5.0)], "██");
        check(&[Some(0.0), Some(0.0)], "▁▁");
        check(&[Some(-7.0), Some(0.0)], "▁█");
        check(&[], "");
    }

    #[test]
    fn nothing_is_told_shortly() {
        let text = table(&Stats::new(AT_MS, AT_MS + 1).figures(), Look::Terminal);
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
