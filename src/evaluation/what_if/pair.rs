//! Two settings beside each other and beside the log: where they agree, and which requests they part over.

use std::sync::Arc;

use serde::Serialize;

use super::{After, Before, Grid, Moved, Setting, WhatIf, compare};

/// Requests shown that part furthest: more are not read.
const FURTHEST_MAX: usize = 15;

/// What moves from the first setting to the second one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    pub agreement: Agreement,
    /// Row: tier of the first setting; column: of the second.
    pub tiers: Grid,
    /// Share of the requests that go to a stronger, and to a weaker tier.
    pub stronger: f64,
    pub weaker: f64,
    /// What the second setting costs less, share of the first one's cost; negative where it costs more. `None` where
    /// that is nothing.
    pub saved: Option<f64>,
    /// Those with most tiers between them, then those whose cost changes most.
    pub furthest: Vec<Moved>,
    /// Both settings beside the log, with what feedback says of each.
    pub beside_log: WhatIf,
}

/// Shares of the requests for which both settings say the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    pub tier: f64,
    pub target: f64,
    /// Of those in which both see an intent; `None` where there are none.
    pub intent: Option<f64>,
}

/// Compares two settings, which decide for every request of `before`; it is not empty.
pub fn pair(before: &[Before], from: Setting, to: Setting, tiers: &[Arc<str>], weight_max: f64) -> Pair {
    // The first setting in the place of the log, without what was said of the log's answers.
    let first: Vec<Before> = before
        .iter()
        .zip(&from.after)
        .map(|(before, from)| Before {
            id: before.id,
            choice: from.choice.clone(),
            tiers: tiers.to_vec(),
            session: before.session,
            propensity: from.propensity,
            explored: false,
            reward: None,
            excerpt: before.excerpt.clone(),
        })
        .collect();
    let intents: Vec<Option<Arc<str>>> = from.after.iter().map(|after| after.intent.clone()).collect();
    let direct = compare(&first, std::slice::from_ref(&to), tiers, weight_max);
    let (intent, furthest) = (same_intent(&intents, &to.after), furthest(&first, &to.after, tiers));
    Pair::of(direct, intent, furthest, compare(before, &[from, to], tiers, weight_max))
}

/// Compares the log itself with a setting, which decides for every request of `before`. `intents` are the log's, one for
/// each request.
///
/// Requests that were explored say nothing about where the two agree: the log itself did not go where its policy would
/// have. Beside the log they stand, and what they earned is what says how good other choices are. One at least was not
/// explored.
pub fn pair_with_log(
    before: &[Before],
    intents: &[Option<Arc<str>>],
    to: &Setting,
    tiers: &[Arc<str>],
    weight_max: f64,
) -> Pair {
    let beside_log = compare(before, std::slice::from_ref(to), tiers, weight_max);
    let by_policy = || before.iter().zip(intents).zip(&to.after).filter(|((before, _), _)| !before.explored);
    let kept: Vec<Before> = by_policy().map(|((before, _), _)| before.clone()).collect();
    let intents: Vec<Option<Arc<str>>> = by_policy().map(|((_, intent), _)| intent.clone()).collect();
    let after: Vec<After> = by_policy().map(|(_, after)| after.clone()).collect();
    let (intent, furthest) = (same_intent(&intents, &after), furthest(&kept, &after, tiers));
    let to = Setting { name: to.name.clone(), quality: to.quality, after };
    Pair::of(compare(&kept, &[to], tiers, weight_max), intent, furthest, beside_log)
}

impl Pair {
    /// `direct` has the one setting that is compared.
    fn of(mut direct: WhatIf, intent: Option<f64>, furthest: Vec<Moved>, beside_log: WhatIf) -> Self {
        let direct = direct.settings.pop().expect("one setting makes one change");
        Self {
            agreement: Agreement { tier: direct.same_tier, target: direct.same_target, intent },
            tiers: direct.confusion,
            stronger: direct.stronger,
            weaker: direct.weaker,
            saved: direct.saved_against_log,
            furthest,
            beside_log,
        }
    }
}

fn same_intent(from: &[Option<Arc<str>>], to: &[After]) -> Option<f64> {
    let seen: Vec<bool> =
        from.iter().zip(to).filter_map(|(from, to)| Some(from.as_ref()? == to.intent.as_ref()?)).collect();
    (!seen.is_empty()).then(|| seen.iter().filter(|same| **same).count() as f64 / seen.len() as f64)
}

fn furthest(first: &[Before], to: &[After], tiers: &[Arc<str>]) -> Vec<Moved> {
    let place = |name: &Arc<str>| tiers.iter().position(|tier| tier == name).unwrap_or(0);
    let steps = |moved: &Moved| place(&moved.from_tier).abs_diff(place(&moved.to_tier));
    let pairs = first.iter().zip(to).filter(|(from, to)| from.choice.tier != to.choice.tier);
    let mut moved: Vec<Moved> = pairs.map(|(from, to)| Moved::of(from, to)).collect();
    moved.sort_by(|one, other| {
        let by_cost = other.cost_change_usd.abs().total_cmp(&one.cost_change_usd.abs());
        steps(other).cmp(&steps(one)).then(by_cost).then(one.decision_id.cmp(&other.decision_id))
    });
    moved.truncate(FURTHEST_MAX);
    moved
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        super::{
            super::off_policy::WEIGHT_MAX,
            tests::{after, before},
        },
        *,
    };

    const SCORES: Option<[f64; 3]> = Some([0.2, 0.7, 1.0]);

    fn setting(name: &str, choices: &[(&str, Option<&str>)]) -> Setting {
        let after = choices
            .iter()
            .map(|(tier, intent)| After { intent: intent.map(Arc::from), ..after(tier, SCORES) });
        Setting { name: name.to_owned(), quality: 0.5, after: after.collect() }
    }

    #[test]
    fn settings_are_compared_with_each_other_and_the_log() {
        let mut log: Vec<Before> = (1..=5).map(|number| before(number, "mid", SCORES)).collect();
        log[0].reward = Some(1.0);
        let from = [
            ("small", Some("code")),
            ("small", Some("math")),
            ("big", None),
            ("mid", Some("math")),
            ("mid", None),
        ];
        let to = [
            ("mid", Some("code")),
            ("big", Some("code")),
            ("mid", Some("math")),
            ("mid", Some("math")),
            ("mid", None),
        ];
        let tiers: Vec<Arc<str>> = ["small", "mid", "big"].map(Arc::from).to_vec();
        let pair = pair(&log, setting("A", &from), setting("B", &to), &tiers, WEIGHT_MAX);
        assert_eq!((pair.agreement.tier, pair.stronger, pair.weaker), (0.4, 0.4, 0.2));
        assert_eq!(pair.agreement.intent, Some(2.0 / 3.0));
        assert_eq!(pair.tiers.counts, [vec![0, 1, 1], vec![0, 2, 0], vec![0, 1, 0]]);
        // 1 + 1 + 10 + 4 + 4 becomes 4 + 10 + 4 + 4 + 4.
        assert!((pair.saved.unwrap() - (1.0 - 26.0 / 20.0)).abs() < 1e-12);
        let furthest: Vec<Uuid> = pair.furthest.iter().map(|moved| moved.decision_id).collect();
        assert_eq!(furthest, [2_u128, 3, 1].map(Uuid::from_u128));
        assert_eq!(pair.furthest[0].excerpt.as_deref(), Some("hello"));
        let names: Vec<&str> = pair.beside_log.settings.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(pair.beside_log.settings[1].off_policy.rewarded, 1);
    }
    #[test]
    fn the_log_itself_is_compared_with_a_setting() {
        let log: Vec<Before> = (1..=3).map(|number| before(number, "mid", SCORES)).collect();
        let to = [("mid", Some("code")), ("big", Some("math")), ("small", None)];
        let mut to = setting("B", &to);
        // What each tier would cost is not known: then nothing is said of single tiers.
        to.after.iter_mut().for_each(|after| after.tier_costs_usd.clear());
        let intents = [Some("code".into()), Some("code".into()), Some("code".into())];
        let tiers: Vec<Arc<str>> = ["small", "mid", "big"].map(Arc::from).to_vec();
        let pair = pair_with_log(&log, &intents, &to, &tiers, WEIGHT_MAX);
        assert_eq!((pair.agreement.tier, pair.stronger, pair.weaker), (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0));
        assert_eq!(pair.agreement.intent, Some(0.5));
        assert_eq!(pair.tiers.counts[1], [1, 1, 1]);
        assert!(pair.saved.is_some_and(|saved| saved < 0.0), "{:?}", pair.saved);
        assert_eq!((pair.furthest.len(), pair.beside_log.single_tiers.len()), (2, 0));
        assert_eq!(pair.beside_log.settings.len(), 1);
    }

    #[test]
    fn explored_requests_stand_beside_the_log_and_not_in_the_agreement() {
        let mut log: Vec<Before> = (1..=4).map(|number| before(number, "mid", SCORES)).collect();
        for request in &mut log {
            request.reward = Some(0.0);
            request.propensity = 0.75;
        }
        log[1] = Before { reward: Some(1.0), propensity: 0.25, explored: true, ..before(2, "big", SCORES) };
        let to = setting("B", &[("big", None), ("big", None), ("mid", None), ("mid", None)]);
        let tiers: Vec<Arc<str>> = ["small", "mid", "big"].map(Arc::from).to_vec();
        let pair = pair_with_log(&log, &[const { None }; 4], &to, &tiers, WEIGHT_MAX);
        assert_eq!((pair.agreement.tier, pair.stronger), (2.0 / 3.0, 1.0 / 3.0));
        assert_eq!(pair.furthest.len(), 1);
        let off_policy = &pair.beside_log.settings[0].off_policy;
        assert_eq!((pair.beside_log.requests, off_policy.rewarded, off_policy.informative), (4, 4, 3));
        // The one that was tried weighs 4, and it alone was good.
        assert!((off_policy.estimates[0].of_other.value - 1.0).abs() < 1e-12, "{off_policy:?}");
    }
}
