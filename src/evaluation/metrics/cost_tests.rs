use super::*;

fn close(got: Option<f64>, expected: f64) {
    assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{got:?}, expected {expected}");
}

/// Weak costs 1, strong 3. The weak one fails on the second request only.
fn two(first: f64, second: f64) -> Vec<Option<Answer>> {
    let answer = |enough: f64, weak: f64| {
        Some(Answer {
            sufficiency: Some(vec![enough, 1.0]),
            chosen: 0,
            by_tier: vec![(weak, 1.0), (1.0, 3.0)],
        })
    };
    vec![answer(first, 1.0), answer(second, 0.0)]
}

#[test]
fn the_curve_runs_from_the_weakest_to_the_strongest_tier() {
    let curve = CostQuality::aiq(&two(0.9, 0.2)).curve(&[1, 1]);
    let expected = [(1.0, 0.5), (2.0, 1.0), (3.0, 1.0)];
    assert_eq!(curve.first().map(|point| (point.cost_usd, point.score)), Some(expected[0]));
    assert_eq!(curve.last().map(|point| (point.cost_usd, point.score)), Some(expected[2]));
    assert!(curve.iter().any(|point| (point.cost_usd, point.score) == expected[1]), "{curve:?}");
}

#[test]
fn a_good_order_saves_and_improves() {
    let good = CostQuality::aiq(&two(0.9, 0.2));
    // From (1, 0.5) up to (2, 1), then flat to 3: (0.75 + 1) / 2.
    close(good.value(&[1, 1]), 0.875);
    // All of the quality at (2, 1) instead of (3, 1).
    close(good.saved(0.99).value(&[1, 1]), 1.0 / 3.0);
    close(good.saved(0.5).value(&[1, 1]), 2.0 / 3.0);
}

#[test]
fn a_bad_order_is_as_good_as_mixing_the_ends() {
    let bad = CostQuality::aiq(&two(0.2, 0.9));
    // (2, 0.5) lies under the line from (1, 0.5) to (3, 1).
    close(bad.value(&[1, 1]), 0.75);
    close(bad.saved(0.95).value(&[1, 1]), 0.0);
}

#[test]
fn a_fixed_tier_never_moves() {
    let mut answers = two(0.9, 0.2);
    answers[1].as_mut().unwrap().sufficiency = None;
    let curve = CostQuality::aiq(&answers).curve(&[1, 1]);
    assert_eq!(curve.last().map(|point| (point.cost_usd, point.score)), Some((2.0, 0.5)));
}

#[test]
fn a_stronger_tier_that_is_worse_does_not_lower_the_hull() {
    let answers = vec![Some(Answer {
        sufficiency: Some(vec![0.5, 1.0]),
        chosen: 0,
        by_tier: vec![(0.8, 1.0), (0.6, 2.0)],
    })];
    close(CostQuality::aiq(&answers).value(&[1]), 0.8);
    close(CostQuality::aiq(&answers).saved(0.95).value(&[1]), 0.5);
}

#[test]
fn without_outcomes_or_a_range_of_costs_there_is_no_figure() {
    assert_eq!(CostQuality::aiq(&[None, None]).value(&[1, 1]), None);
    assert_eq!(CostQuality::aiq(&two(0.9, 0.2)).value(&[0, 0]), None);
    let free = vec![Some(Answer {
        sufficiency: Some(vec![0.5, 1.0]),
        chosen: 0,
        by_tier: vec![(0.8, 0.0), (0.9, 0.0)],
    })];
    assert_eq!(CostQuality::aiq(&free).value(&[1]), None);
    assert_eq!(CostQuality::aiq(&free).saved(0.95).value(&[1]), None);
}
