//! `pointsman spend`: what a running server's completions cost and saved, and how far budgets are spent.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{
    CliError,
    admin::AdminArguments,
    config_file::ConfigFile,
    print,
    show::{GOOD, LABEL, RESET, STRONG, WARN},
};
use crate::server::proto::{BudgetReport, GetSpendRequest, GetSpendResponse, SpendTotals};

#[derive(Debug, Args)]
#[command(after_help = LEGEND)]
pub struct SpendArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

const LEGEND: &str = "\
Days and months are those of UTC. What is saved: the same answers from the first target of the
top tier, less what was spent. Sums outlast a restart only with a file in the section [spend].";

pub fn run(arguments: &SpendArguments, file: &ConfigFile) -> Result<(), CliError> {
    let server = file.to_ask(&arguments.admin)?;
    let answer =
        arguments.admin.ask(&server, async |mut client| client.get_spend(GetSpendRequest {}).await)?;
    if arguments.admin.json {
        let budgets: Vec<Value> = answer.budgets.iter().map(budget).collect();
        let (today, month) = (totals(answer.today), totals(answer.month));
        print(&format!("{:#}", json!({"today": today, "month": month, "budgets": budgets})))
    } else {
        print(&table(&answer))
    }
}

/// Returns the sums, and a line for each budget.
fn table(answer: &GetSpendResponse) -> String {
    let mut text = String::new();
    for (label, sums) in [("today", answer.today), ("month", answer.month)] {
        let sums = sums.unwrap_or_default();
        let judges = match sums.judge_usd {
            Some(usd) if usd > 0.0 => format!(", {} of it by judges", dollars(usd)),
            _ => String::new(),
        };
        let (spent, baseline) = (dollars(sums.spent_usd), dollars(sums.baseline_usd));
        let saved = saved(sums.saved_usd);
        let _ = writeln!(
            text,
            "{LABEL}{label:<6}{RESET} {STRONG}{spent}{RESET} instead of {baseline} for the top tier: \
             {saved}{judges}"
        );
    }
    if answer.budgets.is_empty() {
        let _ = write!(text, "{LABEL}no budgets are configured{RESET}");
        return text;
    }
    let names: Vec<String> = answer.budgets.iter().map(name).collect();
    let width =
        names.iter().map(|name| name.chars().count()).chain(["budget".len()]).max().unwrap_or_default();
    let _ = write!(text, "\n{STRONG}{:<width$}  {:>27}  {:>27}{RESET}", "budget", "today", "month");
    for (budget, name) in answer.budgets.iter().zip(names) {
        let day = of_limit(budget.day_usd, budget.day_limit_usd);
        let month = of_limit(budget.month_usd, budget.month_limit_usd);
        let _ = write!(text, "\n{name:<width$}  {day:>27}  {month:>27}");
        if budget.at_limit {
            let _ = write!(text, "  {WARN}at its limit{RESET}");
        }
    }
    text
}

fn name(budget: &BudgetReport) -> String {
    match budget.tenant.as_str() {
        "" => format!("{} ({})", budget.name, budget.scope),
        tenant => format!("{} (tenant {tenant})", budget.name),
    }
}

fn of_limit(usd: f64, limit: Option<f64>) -> String {
    match limit {
        Some(limit) => format!("{} of {}", dollars(usd), dollars(limit)),
        None => dollars(usd),
    }
}

fn saved(usd: f64) -> String {
    if usd < 0.0 {
        format!("{WARN}{} more{RESET}", dollars(-usd))
    } else {
        format!("{GOOD}{} saved{RESET}", dollars(usd))
    }
}

fn dollars(usd: f64) -> String {
    format!("${usd:.4}")
}

fn totals(totals: Option<SpendTotals>) -> Value {
    let totals = totals.unwrap_or_default();
    json!({
        "spent_usd": totals.spent_usd,
        "baseline_usd": totals.baseline_usd,
        "saved_usd": totals.saved_usd,
        "judge_usd": totals.judge_usd,
    })
}

fn budget(budget: &BudgetReport) -> Value {
    json!({
        "name": budget.name,
        "scope": budget.scope,
        "tenant": budget.tenant,
        "day_usd": budget.day_usd,
        "day_limit_usd": budget.day_limit_usd,
        "month_usd": budget.month_usd,
        "month_limit_usd": budget.month_limit_usd,
        "at_limit": budget.at_limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &GetSpendResponse, expected: &[&str]) {
        let shown = anstream::adapter::strip_str(&table(answer)).to_string();
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn sums_and_budgets() {
        let sums = |spent_usd, baseline_usd, judge_usd| {
            Some(SpendTotals { spent_usd, baseline_usd, saved_usd: baseline_usd - spent_usd, judge_usd })
        };
        let unlimited = GetSpendResponse {
            today: sums(0.25, 1.0, Some(0.05)),
            month: sums(2.0, 1.5, None),
            budgets: vec![],
        };
        let totals = [
            "today  $0.2500 instead of $1.0000 for the top tier: $0.7500 saved, $0.0500 of it by judges",
            "month  $2.0000 instead of $1.5000 for the top tier: $0.5000 more",
        ];
        check(&unlimited, &[totals[0], totals[1], "no budgets are configured"]);
        let all = BudgetReport {
            name: "all".to_owned(),
            scope: "everybody".to_owned(),
            day_usd: 0.25,
            day_limit_usd: Some(5.0),
            month_usd: 2.0,
            ..BudgetReport::default()
        };
        let acme = BudgetReport {
            name: "each".to_owned(),
            scope: "each tenant".to_owned(),
            tenant: "acme".to_owned(),
            month_usd: 2.0,
            month_limit_usd: Some(2.0),
            at_limit: true,
            ..BudgetReport::default()
        };
        let expected = [
            totals[0],
            totals[1],
            "",
            "budget                                    today                        month",
            "all (everybody)              $0.2500 of $5.0000                      $2.0000",
            "each (tenant acme)                      $0.0000           $2.0000 of $2.0000  at its limit",
        ];
        check(&GetSpendResponse { budgets: vec![all, acme], ..unlimited }, &expected);
    }
}
