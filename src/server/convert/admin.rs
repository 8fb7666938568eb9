//! What operators watch -> its messages.

use std::time::Duration;

use super::super::proto;
use crate::{
    completion::{
        breaker::Phase,
        keys::KeyCounts,
        report::{Standing, TargetReport},
        spend::{BudgetState, Report},
    },
    config::BudgetScope,
    prompt::TargetRef,
};

/// Returns how one target does.
pub fn target_report(report: &TargetReport) -> proto::TargetReport {
    let target = &report.target;
    let (state, open) = standing(&report.standing);
    proto::TargetReport {
        target: Some(
            TargetRef {
                id: target.id.clone(),
                provider: target.provider.clone(),
                model: target.model.clone(),
            }
            .into(),
        ),
        tiers: report.tiers.iter().map(ToString::to_string).collect(),
        prices: Some(proto::Prices {
            input_usd_per_mtok: target.input_usd_per_mtok,
            output_usd_per_mtok: target.output_usd_per_mtok,
            cached_input_usd_per_mtok: target.cached_input_usd_per_mtok,
            cache_write_usd_per_mtok: target.cache_write_usd_per_mtok,
            date: target.price_date.clone(),
        }),
        state: state as i32,
        failures: report.failures,
        calls: report.calls,
        error_ratio: report.error_ratio,
        open_ms: open.map(|open| u64::try_from(open.as_millis()).unwrap_or(u64::MAX)),
        keys: report.keys.map(keys),
    }
}

fn standing(standing: &Standing) -> (proto::TargetState, Option<Duration>) {
    match standing {
        Standing::Unconfigured => (proto::TargetState::Unconfigured, None),
        Standing::Breaker { phase, open } => {
            let state = match phase {
                Phase::Closed => proto::TargetState::Closed,
                Phase::Open => proto::TargetState::Open,
                Phase::HalfOpen => proto::TargetState::HalfOpen,
                Phase::Ramping => proto::TargetState::Ramping,
            };
            (state, *open)
        }
    }
}

fn keys(counts: KeyCounts) -> proto::Keys {
    let count = |keys: usize| u32::try_from(keys).unwrap_or(u32::MAX);
    proto::Keys { live: count(counts.live), resting: count(counts.resting), dead: count(counts.dead) }
}

/// Returns how far budgets are spent, and the totals.
pub fn spend(report: Report) -> proto::GetSpendResponse {
    let totals = report.totals;
    proto::GetSpendResponse {
        budgets: report.budgets.into_iter().map(budget).collect(),
        today: Some(proto::SpendTotals {
            spent_usd: totals.day_usd,
            baseline_usd: totals.day_baseline_usd,
            saved_usd: totals.day_saved_usd,
            judge_usd: Some(totals.day_judge_usd),
        }),
        month: Some(proto::SpendTotals {
            spent_usd: totals.month_usd,
            baseline_usd: totals.month_baseline_usd,
            saved_usd: totals.month_saved_usd,
            judge_usd: None,
        }),
    }
}

fn budget(budget: BudgetState) -> proto::BudgetReport {
    let scope = match budget.scope {
        BudgetScope::All => "everybody".to_owned(),
        BudgetScope::EachTenant => "each tenant".to_owned(),
        BudgetScope::Tenant(tenant) => format!("tenant {tenant}"),
        BudgetScope::Tag(tag) => format!("tag {tag}"),
    };
    proto::BudgetReport {
        name: budget.name.to_string(),
        scope,
        tenant: budget.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        day_usd: budget.day_usd,
        day_limit_usd: budget.day_limit_usd,
        month_usd: budget.month_usd,
        month_limit_usd: budget.month_limit_usd,
        at_limit: budget.at_limit,
    }
}
