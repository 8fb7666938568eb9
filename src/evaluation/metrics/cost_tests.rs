use super::*;

fn close(got: Option<f64>, expected: f64) {
    assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{got:?}, expected {expected}");
}

fn aiq(curve: &CostQuality, weights: &[u32]) -> Option<f64> {
    curve.figures(weights, &[]).aiq
}

fn saved_at(curve: &CostQuality, part: f64, weights: &[u32]) -> Option<f64> {
    curve.figures(weights, &[part]).saved[0]
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
    let curve = CostQuality::new(&two(0.9, 0.2)).curve(&[1, 1]);
    let expected = [(1.0, 0.5), (2.0, 1.0), (3.0, 1.0)];
    assert_eq!(curve.first().map(|point| (point.cost_usd, point.score)), Some(expected[0]));
    assert_eq!(curve.last().map(|point| (point.cost_usd, point.score)), Some(expected[2]));
    assert!(curve.iter().any(|point| (point.cost_usd, point.score) == expected[1]), "{curve:?}");
}

#[test]
fn a_good_order_saves_and_improves() {
    let good = CostQuality::new(&two(0.9, 0.2));
    // From (1, 0.5) up to (2, 1), then flat to 3: (0.75 + 1) / 2.
    close(aiq(&good, &[1, 1]), 0.875);
    // All of the quality at (2, 1) instead of (3, 1).
    close(saved_at(&good, 0.99, &[1, 1]), 1.0 / 3.0);
    close(saved_at(&good, 0.5, &[1, 1]), 2.0 / 3.0);
}

#[test]
fn a_bad_order_is_as_good_as_mixing_the_ends() {
    let bad = CostQuality::new(&two(0.2, 0.9));
    // (2, 0.5) lies under the line from (1, 0.5) to (3, 1).
    close(aiq(&bad, &[1, 1]), 0.75);
    close(saved_at(&bad, 0.95, &[1, 1]), 0.0);
}

#[test]
fn a_fixed_tier_never_moves() {
    let mut answers = two(0.9, 0.2);
    answers[1].as_mut().unwrap().sufficiency = None;
    let curve = CostQuality::new(&answers).curve(&[1, 1]);
    assert_eq!(curve.last().map(|point| (point.cost_usd, point.score)), Some((2.0, 0.5)));
}

#[test]
fn a_stronger_tier_that_is_worse_does_not_lower_the_hull() {
    let answers = vec![Some(Answer {
        sufficiency: Some(vec![0.5, 1.0]),
        chosen: 0,
        by_tier: vec![(0.8, 1.0), (0.6, 2.0)],
    })];
    close(aiq(&CostQuality::new(&answers), &[1]), 0.8);
    close(saved_at(&CostQuality::new(&answers), 0.95, &[1]), 0.5);
}

#[test]
fn without_outcomes_or_a_range_of_costs_there_is_no_figure() {
    assert_eq!(aiq(&CostQuality::new(&[None, None]), &[1, 1]), None);
    assert_eq!(aiq(&CostQuality::new(&two(0.9, 0.2)), &[0, 0]), None);
    let free = vec![Some(Answer {
        sufficiency: Some(vec![0.5, 1.0]),
        chosen: 0,
        by_tier: vec![(0.8, 0.0), (0.9, 0.0)],
    })];
    assert_eq!(aiq(&CostQuality::new(&free), &[1]), None);
    assert_eq!(saved_at(&CostQuality::new(&free), 0.95, &[1]), None);
}

#[test]
fn of_a_top_tier_that_scores_nothing_no_saving_is_told() {
    let worthless = vec![Some(Answer {
        sufficiency: Some(vec![0.5, 1.0]),
        chosen: 0,
        by_tier: vec![(0.4, 1.0), (0.0, 2.0)],
    })];
    let curve = CostQuality::new(&worthless);
    assert_eq!(saved_at(&curve, 0.95, &[1]), None);
    close(aiq(&curve, &[1]), 0.4);
}
