//! The budgets of a [`File`](super::file::File) -> [`BudgetConfig`]s, and where spend is kept.

use std::path::{Path, PathBuf};

use super::{
    AtLimit, BudgetConfig, BudgetScope,
    check::{Names, above_zero, beside, name, unique},
    file_completion::{AtLimitFile, BudgetFile, ScopeFile, SpendFile},
    read::SourceText,
};
use crate::prompt::Tier;

/// The most that a configuration may hold: each budget is asked at every completion.
const BUDGETS_MAX: usize = 100;

/// Returns every budget; what is wrong with them is noted in `source`.
pub fn check_budgets(
    written: &[BudgetFile],
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> Vec<BudgetConfig> {
    if written.len() > BUDGETS_MAX {
        source.problem("budgets", format!("{} budgets, at most {BUDGETS_MAX}", written.len()));
    }
    let budgets: Vec<BudgetConfig> =
        written.iter().enumerate().map(|(at, budget)| check_budget(at, budget, names, source)).collect();
    unique(budgets.iter().map(|budget| &*budget.name), |at| format!("budgets[{at}].name"), source);
    budgets
}

fn check_budget(
    at: usize,
    written: &BudgetFile,
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> BudgetConfig {
    let path = |key: &str| format!("budgets[{at}].{key}");
    let day_usd = above_zero(written.day_usd, &path("day_usd"), source);
    let month_usd = above_zero(written.month_usd, &path("month_usd"), source);
    if written.day_usd.is_none() && written.month_usd.is_none() {
        source.problem(format!("budgets[{at}]"), "limits nothing: set day_usd or month_usd");
    }
    if let (Some(day), Some(month)) = (day_usd, month_usd)
        && day > month
    {
        source.problem(path("day_usd"), format!("{day} is above month_usd, {month}"));
    }
    BudgetConfig {
        name: name(written.name.as_ref(), path("name"), source),
        scope: match &written.scope {
            None | Some(ScopeFile::All) => BudgetScope::All,
            Some(ScopeFile::EachTenant) => BudgetScope::EachTenant,
            Some(ScopeFile::Tenant(tenant)) => {
                BudgetScope::Tenant(name(Some(tenant), path("scope.tenant"), source).to_string())
            }
            Some(ScopeFile::Tag(tag)) => {
                BudgetScope::Tag(name(Some(tag), path("scope.tag"), source).to_string())
            }
        },
        day_usd,
        month_usd,
        at_limit: match &written.at_limit {
            None | Some(AtLimitFile::Refuse) => AtLimit::Refuse,
            Some(AtLimitFile::TierMax(tier)) => tier_max(tier, path("at_limit.tier_max"), names, source),
        },
    }
}

fn tier_max(tier: &String, path: String, names: &Names<'_>, source: &mut SourceText<'_>) -> AtLimit {
    match names.tier(Some(tier), path.clone(), source) {
        Some(Tier(tier)) if tier + 1 >= names.tiers.len() => {
            source.problem(path, "is the top tier: nothing would follow at the limit");
            AtLimit::Refuse
        }
        Some(tier) => AtLimit::TierMax(tier),
        None => AtLimit::Refuse,
    }
}

/// Returns the file that keeps spend, `None` when it is not kept.
pub fn check_spend(
    written: &SpendFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Option<PathBuf> {
    let text = written.file.as_deref()?;
    if text.trim().is_empty() {
        source.problem("spend.file", "is empty");
        return None;
    }
    Some(beside(folder, text))
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{AtLimit, BudgetScope, read_text},
        prompt::Tier,
    };

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = read_text(text).expect_err(text);
        let got: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
        assert_eq!(got, [expected], "{text}");
    }

    #[test]
    fn budgets_say_whose_how_much_and_what_follows() {
        let config = read_text(
            r#"
            [[budgets]]
            name = "everybody"
            month_usd = 1000.0
            [[budgets]]
            name = "per tenant"
            scope = "each_tenant"
            day_usd = 5
            at_limit = { tier_max = "simple" }
            [[budgets]]
            name = "acme"
            scope = { tenant = "acme" }
            day_usd = 50.0
            month_usd = 500.0
            at_limit = "refuse"
            [[budgets]]
            name = "experiments"
            scope = { tag = "experiment" }
            day_usd = 1.5
            [spend]
            file = "spend.json"
            "#,
        )
        .unwrap();
        let budgets = &config.budgets;
        let scopes: Vec<&BudgetScope> = budgets.iter().map(|budget| &budget.scope).collect();
        let (tenant, tag) =
            (BudgetScope::Tenant("acme".to_owned()), BudgetScope::Tag("experiment".to_owned()));
        assert_eq!(scopes, [&BudgetScope::All, &BudgetScope::EachTenant, &tenant, &tag]);
        assert_eq!((budgets[0].day_usd, budgets[0].month_usd), (None, Some(1000.0)));
        assert_eq!((budgets[1].day_usd, budgets[1].at_limit), (Some(5.0), AtLimit::TierMax(Tier(0))));
        assert_eq!(budgets[2].at_limit, AtLimit::Refuse);
        assert_eq!(config.spend_file.unwrap().to_str(), Some("spend.json"));
    }

    #[test]
    fn each_mistake_has_its_place() {
        let budget = |keys: &str| format!("[[budgets]]\nname = \"a\"\n{keys}");
        check(&budget(""), "line 1: budgets[0]: limits nothing: set day_usd or month_usd");
        check("[[budgets]]\nday_usd = 1", "line 1: budgets[0].name: is missing");
        check(&budget("day_usd = 0"), "line 3: budgets[0].day_usd: 0 is not above 0");
        check(&budget("month_usd = inf"), "line 3: budgets[0].month_usd: inf is not above 0");
        check(&budget("day_usd = 2\nmonth_usd = 1"), "line 3: budgets[0].day_usd: 2 is above month_usd, 1");
        check(
            &format!("{}\n{}", budget("day_usd = 1"), budget("day_usd = 1")),
            "line 5: budgets[1].name: \"a\" is taken by an earlier entry",
        );
        check(&budget("day_usd = 1\nscope = { tenant = \"\" }"), "line 4: budgets[0].scope.tenant: is empty");
        check(
            &budget("day_usd = 1\nat_limit = { tier_max = \"huge\" }"),
            "line 4: budgets[0].at_limit.tier_max: no tier named \"huge\"; \
             there are simple, moderate, complex, reasoning",
        );
        check(
            &budget("day_usd = 1\nat_limit = { tier_max = \"reasoning\" }"),
            "line 4: budgets[0].at_limit.tier_max: is the top tier: nothing would follow at the limit",
        );
        check("[spend]\nfile = \" \"", "line 2: spend.file: is empty");
        let many: String =
            (0..101).map(|at| format!("[[budgets]]\nname = \"{at}\"\nday_usd = 1\n")).collect();
        check(&many, "line 1: budgets: 101 budgets, at most 100");
    }

    #[test]
    fn unknown_scopes_and_limits_name_what_there_is() {
        for (keys, path) in [
            ("scope = \"tenants\"", "budgets[0].scope: unknown variant `tenants`"),
            ("at_limit = \"stop\"", "budgets[0].at_limit: unknown variant `stop`"),
            ("scope = { tennant = \"a\" }", "budgets[0].scope"),
            ("limit = 1", "budgets[0].limit: unknown field `limit`"),
        ] {
            let error =
                read_text(&format!("[[budgets]]\nname = \"a\"\nday_usd = 1\n{keys}")).expect_err(keys);
            let got = error.problems[0].to_string();
            assert!(got.starts_with(&format!("line 4: {path}")), "{got}");
            assert_eq!(error.problems.len(), 1, "{error}");
        }
    }
}
