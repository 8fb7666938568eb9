//! Both decisions of each rewarded request -> what the estimators see.

use std::sync::Arc;

use super::{After, Before, sides};
use crate::evaluation::off_policy::Trial;

/// Returns the requests that have a reward.
///
/// The model of the reward is the logged sufficiency of the tier in question. For requests that were not scored then,
/// it is that of the setting's scores, and else the mean reward: the doubly robust estimate is right with any.
///
/// Sessions stay with the target that was drawn for their first request, and from then on have no choice. Where a log
/// draws for sessions, a request of one that had none may be such a repetition, and whether it is the same as the
/// setting's then says how that draw fell out. That first request need not be among these: texts are missing, samples
/// and spans are cut. So all of them are taken for repetitions, which loses little: of a request that had no choice no
/// other choice's value can be learned.
pub fn trials(before: &[Before], after: &[After], tiers: &[Arc<str>]) -> Vec<Trial> {
    let rewards: Vec<f64> = before.iter().filter_map(|before| before.reward).collect();
    let usual = sides::mean(&rewards).unwrap_or_default();
    let chose = |before: &Before| before.propensity > 0.0 && before.propensity < 1.0;
    let draws_for_sessions = before.iter().any(|before| before.session.is_some() && chose(before));
    before
        .iter()
        .zip(after)
        .filter_map(|(before, after)| {
            let expected = |tier: &Arc<str>| {
                sides::sufficiency_of(&before.choice, &before.tiers, tier)
                    .or_else(|| sides::sufficiency_of(&after.choice, tiers, tier))
                    .unwrap_or(usual)
            };
            Some(Trial {
                reward: before.reward?,
                propensity: before.propensity,
                same: before.choice.target == after.choice.target,
                propensity_other: after.propensity,
                expected_logged: expected(&before.choice.tier),
                expected_other: expected(&after.choice.tier),
                session: before.session,
                follows_draw: draws_for_sessions && before.session.is_some() && before.propensity >= 1.0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::{
        super::{
            super::off_policy::{Caution, Method, WEIGHT_MAX, estimate},
            tests,
        },
        *,
    };

    const TURNS: usize = 5;
    const SESSIONS: u64 = 4000;
    /// Share of sessions that begin with another target of the tier.
    const TRIED: f64 = 0.05;
    const GOOD_USUAL: f64 = 0.8;
    const GOOD_OTHER: f64 = 0.7;

    /// A log whose sessions stay with their first target, and what a policy decides that takes the other one.
    fn log(seed: u64, keeps: impl Fn(usize) -> bool) -> (Vec<Before>, Vec<After>) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut before = Vec::new();
        for session in 0..SESSIONS {
            let tried = random.random::<f64>() < TRIED;
            let good = if tried { GOOD_OTHER } else { GOOD_USUAL };
            for turn in 0..TURNS {
                let reward = f64::from(u8::from(random.random::<f64>() < good));
                let propensity = match turn {
                    0 if tried => TRIED,
                    0 => 1.0 - TRIED,
                    _ => 1.0,
                };
                let mut one = tests::before(u128::from(session), "mid", None);
                one.choice.target = if tried { "other" } else { "usual" }.into();
                let one = Before { session: Some(session), reward: Some(reward), propensity, ..one };
                before.extend(keeps(turn).then_some(one));
            }
        }
        let mut other = tests::after("mid", None);
        other.choice.target = "other".into();
        let after = vec![other; before.len()];
        (before, after)
    }

    #[test]
    fn the_lead_is_found_where_sessions_stay_with_what_was_drawn() {
        let tiers = ["small", "mid", "big"].map(Arc::from);
        let lead = GOOD_OTHER - GOOD_USUAL;
        for method in [Method::Ips, Method::Snips, Method::DoublyRobust] {
            let leads: Vec<f64> = (0..20)
                .map(|seed| {
                    let (before, after) = log(seed, |_| true);
                    let outcome = estimate(&trials(&before, &after, &tiers), WEIGHT_MAX);
                    assert_eq!(outcome.rewarded, before.len());
                    assert_eq!(outcome.supported, SESSIONS as usize);
                    let left_out = before.len() - SESSIONS as usize;
                    let said = Caution::FollowDraw { requests: left_out, of: before.len() };
                    assert!(outcome.cautions.contains(&said), "{:?}", outcome.cautions);
                    let found = outcome.estimates.iter().find(|one| one.method == method).unwrap();
                    let interval = found.lead.interval.unwrap();
                    assert!(interval.low < lead + 0.1 && interval.high > lead - 0.1, "{found:?}");
                    found.lead.value
                })
                .collect();
            // 20 logs with some 200 sessions each that were tried.
            let mean = sides::mean(&leads).unwrap();
            assert!((mean - lead).abs() < 0.05, "{method:?}: {mean} of {lead}");
        }
    }

    #[test]
    fn turns_whose_first_request_is_not_there_are_left_out_too() {
        let tiers = ["small", "mid", "big"].map(Arc::from);
        // Of one session the first request is missing.
        let (mut before, mut after) = log(1, |_| true);
        before.remove(0);
        after.remove(0);
        let outcome = estimate(&trials(&before, &after, &tiers), WEIGHT_MAX);
        assert_eq!(outcome.supported, SESSIONS as usize - 1);
    }

    #[test]
    fn a_log_that_never_draws_for_sessions_keeps_all() {
        let tiers = ["small", "mid", "big"].map(Arc::from);
        let (mut before, after) = log(1, |turn| turn > 0);
        before[0] = Before { session: None, propensity: 0.5, ..before[0].clone() };
        let followed = trials(&before, &after, &tiers).iter().filter(|trial| trial.follows_draw).count();
        assert_eq!(followed, 0);
    }
}
