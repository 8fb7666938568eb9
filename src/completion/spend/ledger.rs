//! The sums themselves: who spent how much in this day and month, and what follows. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::calendar::{Day, Month, Now};
use crate::{
    config::{AtLimit, BudgetConfig, BudgetScope},
    prompt::{Context, Tier},
};

/// Tenants that one budget tells apart in a month, some 20 MB. Those above share one sum and one limit, so
/// that nothing that was spent is forgotten, whatever tenants callers name.
pub const TENANTS_MAX: usize = 100_000;
/// Tenants of one budget in a report: those that spent most.
const REPORTED_TENANTS_MAX: usize = 1000;
/// Sums of many small amounts miss their total by less.
const ROUNDING_USD: f64 = 1e-9;
/// A clock that was set back by more does not hold a budget in the day or month that it showed before.
const AHEAD_MAX: i64 = 1;

/// What was spent in the latest day and month.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    day: Day,
    day_usd: f64,
    month: Month,
    month_usd: f64,
}

impl Sums {
    fn new(now: Now) -> Self {
        Self { day: now.day, day_usd: 0.0, month: now.month, month_usd: 0.0 }
    }

    /// Returns the sums as they count now: nothing of a day or month that is over. A clock that was set back
    /// forgets nothing: sums of the next day or month stand as they are, those of a later one count as now's.
    fn at(mut self, now: Now) -> Self {
        let day_ahead = self.day.after(now.day);
        if day_ahead < 0 {
            self.day_usd = 0.0;
        }
        if !(0..=AHEAD_MAX).contains(&day_ahead) || self.day_usd == 0.0 {
            self.day = now.day;
        }
        let month_ahead = self.month.after(now.month);
        if month_ahead < 0 {
            self.month_usd = 0.0;
        }
        if !(0..=AHEAD_MAX).contains(&month_ahead) || self.month_usd == 0.0 {
            self.month = now.month;
        }
        self
    }

    fn add(&mut self, usd: f64, now: Now) {
        *self = self.at(now);
        self.day_usd += usd;
        self.month_usd += usd;
    }

    /// Returns whether both are amounts that can have been spent.
    pub fn is_sound(&self) -> bool {
        [self.day_usd, self.month_usd].iter().all(|usd| usd.is_finite() && *usd >= 0.0)
    }
}

/// One budget's sums.
#[derive(Debug, Clone)]
struct Book {
    budget: BudgetConfig,
    /// The whole sum; of a budget of each tenant that of tenants above [`TENANTS_MAX`].
    common: Sums,
    /// Only of a budget of each tenant.
    tenants: HashMap<Arc<str>, Sums>,
    /// When those of past months were last dropped.
    swept: Day,
}

/// Everything that was spent.
#[derive(Debug, Clone)]
pub struct Ledger {
    books: Vec<Book>,
    spend: Sums,
    baseline: Sums,
    judge: Sums,
}

/// What budgets say of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// No budget is spent.
    Free,
    /// Only tiers up to this one may answer.
    TierMax { tier: Tier, why: String },
    /// Nobody may, until then.
    Refuse { why: String, retry_after: Duration },
}

/// Budgets and totals of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the configuration; of a budget of each tenant those that spent most this month first.
    pub budgets: Vec<BudgetState>,
    pub totals: Totals,
}

/// How far one budget is spent.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetState {
    pub name: Arc<str>,
    pub scope: BudgetScope,
    /// The tenant, of a budget of each; `None` there: all above the number of tenants that are told apart.
    pub tenant: Option<Arc<str>>,
    pub day_usd: f64,
    pub day_limit_usd: Option<f64>,
    pub month_usd: f64,
    pub month_limit_usd: Option<f64>,
    /// Whether a limit is reached, so that requests are held to cheaper tiers or refused.
    pub at_limit: bool,
}

/// What everybody spent together, US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub day_usd: f64,
    pub month_usd: f64,
    /// The same answers from the first target of the top tier.
    pub day_baseline_usd: f64,
    pub month_baseline_usd: f64,
    /// Baseline less spend; negative where retries, escalations and judges cost more than they saved.
    pub day_saved_usd: f64,
    pub month_saved_usd: f64,
    /// By judges, within `day_usd`.
    pub day_judge_usd: f64,
}

/// What is kept of a ledger across restarts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub spend: Sums,
    pub baseline: Sums,
    pub judge: Sums,
    pub budgets: Vec<KeptBudget>,
}

/// One budget of [`Kept`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptBudget {
    pub name: Arc<str>,
    pub scope: String,
    pub common: Sums,
    pub tenants: HashMap<Arc<str>, Sums>,
}

impl Ledger {
    /// Starts with nothing spent.
    pub fn new(budgets: &[BudgetConfig], now: Now) -> Self {
        let none = Sums::new(now);
        let book = |budget: &BudgetConfig| Book {
            budget: budget.clone(),
            common: none,
            tenants: HashMap::new(),
            swept: now.day,
        };
        Self { books: budgets.iter().map(book).collect(), spend: none, baseline: none, judge: none }
    }

    /// Takes over what was kept; returns the names of budgets that there are no more, or that count something
    /// else now: their sums are dropped.
    pub fn restore(&mut self, kept: Kept) -> Vec<Arc<str>> {
        (self.spend, self.baseline, self.judge) = (kept.spend, kept.baseline, kept.judge);
        let mut dropped = Vec::new();
        for old in kept.budgets {
            let same = |book: &&mut Book| {
                book.budget.name == old.name && scope_text(&book.budget.scope) == old.scope
            };
            match self.books.iter_mut().find(same) {
                Some(book) => (book.common, book.tenants) = (old.common, old.tenants),
                None => dropped.push(old.name),
            }
        }
        dropped
    }

    /// Returns what is to be kept.
    pub fn keep(&self) -> Kept {
        let budget = |book: &Book| KeptBudget {
            name: Arc::clone(&book.budget.name),
            scope: scope_text(&book.budget.scope),
            common: book.common,
            tenants: book.tenants.clone(),
        };
        Kept {
            spend: self.spend,
            baseline: self.baseline,
            judge: self.judge,
            budgets: self.books.iter().map(budget).collect(),
        }
    }

    /// Returns the strictest of what all budgets say that fit. What it looks at it turns to this day and
    /// month: a budget that refuses is not added to, and must not stay where a wrong clock once put it.
    pub fn verdict(&mut self, context: &Context, now: Now) -> Verdict {
        self.books
            .iter_mut()
            .filter(|book| fits(&book.budget.scope, context))
            .map(|book| book.verdict(context, now))
            .fold(Verdict::Free, stricter)
    }

    /// Adds what a request cost to every budget that fits it.
    pub fn add(&mut self, context: &Context, cost_usd: f64, baseline_usd: f64, now: Now) {
        self.spend.add(cost_usd, now);
        self.baseline.add(baseline_usd, now);
        for book in self.books.iter_mut().filter(|book| fits(&book.budget.scope, context)) {
            book.sums_mut(context, now).add(cost_usd, now);
        }
    }

    /// Adds what a judge cost to the judges' own sum; it also counts as the request's, by [`Ledger::add`].
    pub fn add_judge(&mut self, cost_usd: f64, now: Now) {
        self.judge.add(cost_usd, now);
    }

    /// Returns what judges cost today.
    pub fn judge_day_usd(&self, now: Now) -> f64 {
        self.judge.at(now).day_usd
    }

    /// Returns how far each budget that has one sum is spent: 1 at its nearest limit.
    pub fn shares(&self, now: Now) -> impl Iterator<Item = (&str, f64)> {
        self.books.iter().filter(|book| book.budget.scope != BudgetScope::EachTenant).map(move |book| {
            let sums = book.common.at(now);
            let share = |usd: f64, limit: Option<f64>| match limit {
                Some(limit) if limit > 0.0 => usd / limit,
                Some(_) => 1.0,
                None => 0.0,
            };
            let day = share(sums.day_usd, book.budget.day_usd);
            (&*book.budget.name, day.max(share(sums.month_usd, book.budget.month_usd)))
        })
    }

    /// Returns budgets and totals of this moment.
    pub fn report(&self, now: Now) -> Report {
        let (spend, baseline) = (self.spend.at(now), self.baseline.at(now));
        let totals = Totals {
            day_usd: spend.day_usd,
            month_usd: spend.month_usd,
            day_baseline_usd: baseline.day_usd,
            month_baseline_usd: baseline.month_usd,
            day_saved_usd: baseline.day_usd - spend.day_usd,
            month_saved_usd: baseline.month_usd - spend.month_usd,
            day_judge_usd: self.judge_day_usd(now),
        };
        Report { budgets: self.books.iter().flat_map(|book| book.states(now)).collect(), totals }
    }
}

impl Book {
    fn verdict(&mut self, context: &Context, now: Now) -> Verdict {
        let sums = self.sums(context, now);
        let name = &self.budget.name;
        let reached = |usd: f64, limit: Option<f64>| limit.filter(|limit| usd + ROUNDING_USD >= *limit);
        let day = reached(sums.day_usd, self.budget.day_usd)
            .map(|limit| (limit, "day", now.until_end_of_day(sums.day)));
        let month = reached(sums.month_usd, self.budget.month_usd)
            .map(|limit| (limit, "month", now.until_end_of_month(sums.month)));
        // The month outlasts the day.
        let Some((limit, period, retry_after)) = month.or(day) else { return Verdict::Free };
        let why = format!("budget {name:?} of {limit} USD a {period} is spent");
        match self.budget.at_limit {
            AtLimit::TierMax(tier) => Verdict::TierMax { tier, why },
            AtLimit::Refuse => Verdict::Refuse { why, retry_after },
        }
    }

    /// Returns the sums that count for a request; nobody's are none.
    fn sums(&mut self, context: &Context, now: Now) -> Sums {
        let full = self.tenants.len() >= TENANTS_MAX;
        let sums = match (&self.budget.scope, self.tenants.get_mut(&*context.tenant)) {
            (BudgetScope::EachTenant, Some(own)) => own,
            (BudgetScope::EachTenant, None) if !full => return Sums::new(now),
            (
                BudgetScope::EachTenant | BudgetScope::All | BudgetScope::Tenant(_) | BudgetScope::Tag(_),
                _,
            ) => &mut self.common,
        };
        *sums = sums.at(now);
        *sums
    }

    fn sums_mut(&mut self, context: &Context, now: Now) -> &mut Sums {
        if self.budget.scope != BudgetScope::EachTenant {
            return &mut self.common;
        }
        if !self.tenants.contains_key(&*context.tenant) {
            self.sweep(now);
            if self.tenants.len() >= TENANTS_MAX {
                return &mut self.common;
            }
        }
        self.tenants.entry(Arc::from(&*context.tenant)).or_insert_with(|| Sums::new(now))
    }

    /// Forgets tenants that spent nothing in this month, when there are too many; at most once a day, since
    /// it looks at each of them.
    fn sweep(&mut self, now: Now) {
        if self.tenants.len() < TENANTS_MAX || self.swept == now.day {
            return;
        }
        self.swept = now.day;
        self.tenants.retain(|_, sums| sums.at(now).month_usd > 0.0);
    }

    fn states(&self, now: Now) -> Vec<BudgetState> {
        let state = |tenant: Option<&Arc<str>>, sums: Sums| {
            let sums = sums.at(now);
            let reached =
                |usd: f64, limit: Option<f64>| limit.is_some_and(|limit| usd + ROUNDING_USD >= limit);
            BudgetState {
                name: Arc::clone(&self.budget.name),
                scope: self.budget.scope.clone(),
                tenant: tenant.cloned(),
                day_usd: sums.day_usd,
                day_limit_usd: self.budget.day_usd,
                month_usd: sums.month_usd,
                month_limit_usd: self.budget.month_usd,
                at_limit: reached(sums.day_usd, self.budget.day_usd)
                    || reached(sums.month_usd, self.budget.month_usd),
            }
        };
        if self.budget.scope != BudgetScope::EachTenant {
            return vec![state(None, self.common)];
        }
        let mut states: Vec<BudgetState> =
            self.tenants.iter().map(|(tenant, sums)| state(Some(tenant), *sums)).collect();
        if self.common.at(now).month_usd > 0.0 {
            states.push(state(None, self.common));
        }
        states.sort_by(|one, other| {
            other.month_usd.total_cmp(&one.month_usd).then_with(|| one.tenant.cmp(&other.tenant))
        });
        states.truncate(REPORTED_TENANTS_MAX);
        states
    }
}

/// Requests without a tenant are those of one tenant without a name: leaving it out evades no budget.
fn fits(scope: &BudgetScope, context: &Context) -> bool {
    match scope {
        BudgetScope::All | BudgetScope::EachTenant => true,
        BudgetScope::Tenant(tenant) => context.tenant == *tenant,
        BudgetScope::Tag(tag) => context.tags.contains(tag),
    }
}

/// A refusal is stricter than a tier, the longer refusal and the lower tier are stricter than the other.
fn stricter(one: Verdict, other: Verdict) -> Verdict {
    let other_wins = match (&one, &other) {
        (_, Verdict::Free) => false,
        (Verdict::Free, _) => true,
        (Verdict::Refuse { .. }, Verdict::TierMax { .. }) => false,
        (Verdict::TierMax { .. }, Verdict::Refuse { .. }) => true,
        (Verdict::TierMax { tier: one, .. }, Verdict::TierMax { tier: other, .. }) => other < one,
        (Verdict::Refuse { retry_after: one, .. }, Verdict::Refuse { retry_after: other, .. }) => other > one,
    };
    if other_wins { other } else { one }
}

fn scope_text(scope: &BudgetScope) -> String {
    match scope {
        BudgetScope::All => "all".to_owned(),
        BudgetScope::EachTenant => "each_tenant".to_owned(),
        BudgetScope::Tenant(tenant) => format!("tenant:{tenant}"),
        BudgetScope::Tag(tag) => format!("tag:{tag}"),
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
