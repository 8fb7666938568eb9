//! Budgets on an artificial calendar.

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

/// 2026-11-21 12:00:00.
const NOON: u64 = 1_795_262_400;
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> Now {
    Now::of(moment(seconds))
}

fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn budget(name: &str, scope: BudgetScope, day: Option<f64>, month: Option<f64>) -> BudgetConfig {
    BudgetConfig { name: Arc::from(name), scope, day_usd: day, month_usd: month, at_limit: AtLimit::Refuse }
}

fn tenant(name: &str) -> Context {
    Context { tenant: name.to_owned(), ..Context::default() }
}

fn tagged(tags: &[&str]) -> Context {
    Context { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Context::default() }
}

fn ledger(budgets: &[BudgetConfig]) -> Ledger {
    Ledger::new(budgets, at(NOON))
}

fn is_free(ledger: &mut Ledger, context: &Context, seconds: u64) -> bool {
    ledger.verdict(context, at(seconds)) == Verdict::Free
}

#[test]
fn a_limit_holds_from_its_last_cent() {
    let mut it = ledger(&[budget("all", BudgetScope::All, Some(1.0), None)]);
    let anyone = Context::default();
    it.add(&anyone, 0.99, 0.0, at(NOON));
    assert!(is_free(&mut it, &anyone, NOON));
    it.add(&anyone, 0.01, 0.0, at(NOON));
    let refused = Verdict::Refuse {
        why: "budget \"all\" of 1 USD a day is spent".to_owned(),
        retry_after: Duration::from_secs(DAY / 2),
    };
    assert_eq!(it.verdict(&anyone, at(NOON)), refused);
}

#[test]
fn ten_dimes_are_a_dollar() {
    let mut it = ledger(&[budget("all", BudgetScope::All, Some(1.0), None)]);
    for _ in 0..10 {
        assert!(is_free(&mut it, &Context::default(), NOON));
        it.add(&Context::default(), 0.1, 0.0, at(NOON));
    }
    assert!(!is_free(&mut it, &Context::default(), NOON));
}

#[test]
fn a_day_ends_at_midnight_and_a_month_with_its_last_day() {
    let budgets = [budget("all", BudgetScope::All, Some(1.0), Some(2.0))];
    let anyone = Context::default();
    let mut it = ledger(&budgets);
    it.add(&anyone, 1.0, 0.0, at(NOON));
    assert!(!is_free(&mut it, &anyone, NOON + DAY / 2 - 1));
    assert!(is_free(&mut it, &anyone, NOON + DAY / 2));
    it.add(&anyone, 1.0, 0.0, at(NOON + DAY));
    // Both limits are reached: the month's is named.
    let Verdict::Refuse { why, retry_after } = it.verdict(&anyone, at(NOON + DAY)) else { panic!() };
    assert_eq!(why, "budget \"all\" of 2 USD a month is spent");
    assert_eq!(retry_after, Duration::from_secs(8 * DAY + DAY / 2));
    assert!(!is_free(&mut it, &anyone, NOON + 9 * DAY));
    assert!(is_free(&mut it, &anyone, NOON + 9 * DAY + DAY / 2));
}

#[test]
fn each_scope_counts_its_own() {
    let check = |scope: BudgetScope, spender: &Context, asker: &Context, free: bool| {
        let mut it = ledger(&[budget("b", scope.clone(), Some(1.0), None)]);
        it.add(spender, 1.0, 0.0, at(NOON));
        assert_eq!(is_free(&mut it, asker, NOON), free, "{scope:?} {spender:?} {asker:?}");
    };
    let (one, two, nobody) = (tenant("one"), tenant("two"), Context::default());
    check(BudgetScope::All, &one, &two, false);
    check(BudgetScope::EachTenant, &one, &one, false);
    check(BudgetScope::EachTenant, &one, &two, true);
    check(BudgetScope::EachTenant, &one, &nobody, true);
    check(BudgetScope::EachTenant, &nobody, &nobody, false);
    check(BudgetScope::Tenant("one".to_owned()), &one, &one, false);
    check(BudgetScope::Tenant("one".to_owned()), &one, &two, true);
    check(BudgetScope::Tenant("one".to_owned()), &two, &one, true);
    let tag = || BudgetScope::Tag("batch".to_owned());
    check(tag(), &tagged(&["x", "batch"]), &tagged(&["batch"]), false);
    check(tag(), &tagged(&["x", "batch"]), &tagged(&["x"]), true);
    check(tag(), &tagged(&["x"]), &tagged(&["batch"]), true);
    // A tag that is named twice counts once.
    let mut it = ledger(&[budget("b", tag(), Some(1.5), None)]);
    it.add(&tagged(&["batch", "batch"]), 1.0, 0.0, at(NOON));
    assert!(is_free(&mut it, &tagged(&["batch"]), NOON));
}

#[test]
fn the_strictest_budget_counts() {
    let capped = |name: &str, tier: usize| BudgetConfig {
        at_limit: AtLimit::TierMax(Tier(tier)),
        ..budget(name, BudgetScope::All, Some(1.0), None)
    };
    let strictest = |budgets: &[BudgetConfig]| {
        let mut it = ledger(budgets);
        it.add(&Context::default(), 1.0, 0.0, at(NOON));
        match it.verdict(&Context::default(), at(NOON)) {
            Verdict::Free => "free".to_owned(),
            Verdict::TierMax { tier, why } => format!("{} {why}", tier.0),
            Verdict::Refuse { why, .. } => why,
        }
    };
    let refuse_day = budget("day", BudgetScope::All, Some(1.0), None);
    let refuse_month = budget("month", BudgetScope::All, None, Some(1.0));
    let far = budget("far", BudgetScope::All, Some(9.0), Some(9.0));
    assert_eq!(strictest(std::slice::from_ref(&far)), "free");
    assert_eq!(strictest(&[capped("a", 1), far, capped("b", 0)]), "0 budget \"b\" of 1 USD a day is spent");
    assert_eq!(strictest(&[capped("a", 0), refuse_day.clone()]), "budget \"day\" of 1 USD a day is spent");
    assert_eq!(strictest(&[refuse_day, refuse_month]), "budget \"month\" of 1 USD a month is spent");
}

#[test]
fn a_clock_that_is_set_back_forgets_nothing() {
    let anyone = Context::default();
    let mut it = ledger(&[budget("all", BudgetScope::All, Some(1.0), Some(9.0))]);
    it.add(&anyone, 0.6, 0.0, at(NOON));
    for back in [NOON - DAY, NOON - DAY / 2 - 1, 0] {
        let mut it = it.clone();
        it.add(&anyone, 0.4, 0.0, at(back));
        assert!(!is_free(&mut it, &anyone, back), "{back}");
    }
    // By one day only: the day that it showed before goes on when it comes.
    it.add(&anyone, 0.4, 0.0, at(NOON - DAY));
    assert!(!is_free(&mut it, &anyone, NOON));
    assert!(is_free(&mut it, &anyone, NOON + DAY));
}

#[test]
fn a_clock_that_was_far_ahead_does_not_hold_the_budget_there() {
    let anyone = Context::default();
    let mut it = ledger(&[budget("all", BudgetScope::All, Some(1.0), Some(1.0))]);
    it.add(&anyone, 1.0, 0.0, at(NOON + 3650 * DAY));
    assert!(!is_free(&mut it, &anyone, NOON));
    assert!(is_free(&mut it, &anyone, NOON + 10 * DAY), "the next month, although nothing was spent since");
}

#[test]
fn tenants_beyond_the_bound_share_one_sum() {
    let mut it = ledger(&[budget("each", BudgetScope::EachTenant, None, Some(1.0))]);
    for at_tenant in 0..TENANTS_MAX {
        it.add(&tenant(&at_tenant.to_string()), 0.5, 0.0, at(NOON));
    }
    it.add(&tenant("a"), 0.5, 0.0, at(NOON));
    assert!(is_free(&mut it, &tenant("b"), NOON));
    it.add(&tenant("b"), 0.5, 0.0, at(NOON));
    assert!(!is_free(&mut it, &tenant("a"), NOON));
    assert!(is_free(&mut it, &tenant("7"), NOON));
    assert_eq!(it.books[0].tenants.len(), TENANTS_MAX);
    assert_eq!(it.report(at(NOON)).budgets.len(), REPORTED_TENANTS_MAX);
    assert!(it.report(at(NOON)).budgets[0].at_limit);
    // A month later there is room again.
    let later = NOON + 20 * DAY;
    it.add(&tenant("c"), 1.0, 0.0, at(later));
    assert_eq!(it.books[0].tenants.len(), 1);
    assert!(!is_free(&mut it, &tenant("c"), later) && is_free(&mut it, &tenant("a"), later));
}

#[test]
fn a_report_tells_budgets_and_savings() {
    let mut it = ledger(&[
        budget("all", BudgetScope::All, Some(4.0), Some(8.0)),
        budget("each", BudgetScope::EachTenant, Some(2.0), None),
    ]);
    it.add(&tenant("one"), 1.0, 5.0, at(NOON - DAY));
    it.add(&tenant("two"), 2.0, 4.0, at(NOON));
    it.add_judge(0.25, at(NOON));
    let report = it.report(at(NOON));
    let rows: Vec<_> = report
        .budgets
        .iter()
        .map(|state| (&*state.name, state.tenant.as_deref(), state.day_usd, state.month_usd, state.at_limit))
        .collect();
    assert_eq!(
        rows,
        [
            ("all", None, 2.0, 3.0, false),
            ("each", Some("two"), 2.0, 2.0, true),
            ("each", Some("one"), 0.0, 1.0, false),
        ]
    );
    let totals = Totals {
        day_usd: 2.0,
        month_usd: 3.0,
        day_baseline_usd: 4.0,
        month_baseline_usd: 9.0,
        day_saved_usd: 2.0,
        month_saved_usd: 6.0,
        day_judge_usd: 0.25,
    };
    assert_eq!(report.totals, totals);
    assert_eq!(it.shares(at(NOON)).collect::<Vec<_>>(), [("all", 0.5)]);
    assert_eq!(it.judge_day_usd(at(NOON + DAY)), 0.0);
}

#[test]
fn what_is_kept_comes_back_to_the_budget_that_counts_the_same() {
    let each = || budget("each", BudgetScope::EachTenant, Some(1.0), None);
    let mut it = ledger(&[each(), budget("x", BudgetScope::All, Some(1.0), None)]);
    it.add(&tenant("one"), 1.0, 3.0, at(NOON));
    let mut next = ledger(&[budget("x", BudgetScope::Tag("t".to_owned()), Some(1.0), None), each()]);
    assert_eq!(next.restore(it.keep()), [Arc::from("x")]);
    assert!(!is_free(&mut next, &tenant("one"), NOON));
    assert!(is_free(&mut next, &tagged(&["t"]), NOON));
    assert_eq!(next.report(at(NOON)).totals, it.report(at(NOON)).totals);
}

proptest! {
    /// On a clock that only goes forward, each sum is that of its own day and month.
    #[test]
    fn sums_are_those_of_their_day_and_month(
        steps in proptest::collection::vec((0_u64..40 * 3600, 0.0_f64..10.0), 1..60),
    ) {
        let mut it = ledger(&[budget("all", BudgetScope::All, Some(1.0), Some(1.0))]);
        let mut seconds = NOON;
        let mut spent: Vec<(Now, f64)> = Vec::new();
        for (pause, usd) in steps {
            seconds += pause;
            let now = at(seconds);
            it.add(&Context::default(), usd, 0.0, now);
            spent.push((now, usd));
            let sum = |same: &dyn Fn(&Now) -> bool| -> f64 {
                spent.iter().filter(|(then, _)| same(then)).map(|(_, usd)| usd).sum()
            };
            let state = it.report(now).budgets[0].clone();
            prop_assert!((state.day_usd - sum(&|then| then.day == now.day)).abs() < 1e-6);
            prop_assert!((state.month_usd - sum(&|then| then.month == now.month)).abs() < 1e-6);
            prop_assert_eq!(state.at_limit, !is_free(&mut it, &Context::default(), seconds));
        }
    }

    /// However the clock jumps, nothing is negative and what was just spent is counted.
    #[test]
    fn no_clock_makes_a_sum_negative_or_loses_the_last_spend(
        steps in proptest::collection::vec((0_u64..4_000_000_000, 0.0_f64..10.0), 1..40),
    ) {
        let mut it = ledger(&[]);
        for (seconds, usd) in steps {
            it.add(&Context::default(), usd, usd, at(seconds));
            let totals = it.report(at(seconds)).totals;
            prop_assert!(totals.day_usd >= usd && totals.month_usd >= totals.day_usd - 1e-6);
        }
    }
}
