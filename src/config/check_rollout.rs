//! `[rollout]` of a [`File`](super::file::File) -> [`RolloutConfig`].

use std::time::Duration;

use super::{
    RolloutConfig, RolloutLimits,
    check::{between, within},
    file_rollout::{RolloutFile, RolloutLimitsFile},
    read::SourceText,
};

/// Each step takes a window; more than this is a slope.
const STEPS_MAX: usize = 32;
/// Shorter, and a step is over before what replicas saw is put together.
const WINDOW_S_MIN: u64 = 5;
/// A month.
const WINDOW_S_MAX: u64 = 31 * 86_400;
/// With fewer requests only the grossest misbehaviour can be told from chance.
const SAMPLES_MIN: u64 = 50;
const SAMPLES_MAX: u64 = 1_000_000_000;
const LATENCY_RATIO_MAX: f64 = 1000.0;

/// Returns how versions take over; what is wrong with it is noted in `source`.
pub fn check_rollout(written: &RolloutFile, source: &mut SourceText<'_>) -> RolloutConfig {
    let default = RolloutConfig::default();
    let window_s = within(
        written.window_s,
        default.window.as_secs(),
        WINDOW_S_MIN..=WINDOW_S_MAX,
        "rollout.window_s",
        source,
    );
    RolloutConfig {
        automatic: written.automatic.unwrap_or(default.automatic),
        shadow_sample: between(
            written.shadow_sample,
            default.shadow_sample,
            0.0..=1.0,
            "rollout.shadow_sample",
            source,
        ),
        steps: check_steps(written.steps.as_ref(), default.steps, source),
        window: Duration::from_secs(window_s),
        samples_min: within(
            written.samples_min,
            default.samples_min,
            SAMPLES_MIN..=SAMPLES_MAX,
            "rollout.samples_min",
            source,
        ),
        limits: check_limits(&written.limits, default.limits, source),
    }
}

fn check_steps(written: Option<&Vec<f64>>, default: Vec<f64>, source: &mut SourceText<'_>) -> Vec<f64> {
    let Some(steps) = written else { return default };
    if steps.len() > STEPS_MAX {
        source.problem("rollout.steps", format!("{} steps, at most {STEPS_MAX}", steps.len()));
    }
    let mut before = 0.0;
    for (at, &step) in steps.iter().enumerate() {
        // NaN is within nothing.
        let is_share = step > 0.0 && step < 1.0;
        if !is_share {
            source.problem(format!("rollout.steps[{at}]"), format!("{step} is not above 0 and below 1"));
        } else if step <= before {
            let problem = format!("{step} is not above the step before it, {before}");
            source.problem(format!("rollout.steps[{at}]"), problem);
        } else {
            before = step;
        }
    }
    steps.clone()
}

fn check_limits(
    written: &RolloutLimitsFile,
    default: RolloutLimits,
    source: &mut SourceText<'_>,
) -> RolloutLimits {
    let mut limit = |value: Option<f64>, default: f64, min: f64, max: f64, key: &str| {
        between(value, default, min..=max, &format!("rollout.limits.{key}"), source)
    };
    RolloutLimits {
        error_rate_rise_max: limit(
            written.error_rate_rise_max,
            default.error_rate_rise_max,
            0.0,
            1.0,
            "error_rate_rise_max",
        ),
        latency_ratio_max: limit(
            written.latency_ratio_max,
            default.latency_ratio_max,
            1.0,
            LATENCY_RATIO_MAX,
            "latency_ratio_max",
        ),
        coverage_fall_max: limit(
            written.coverage_fall_max,
            default.coverage_fall_max,
            0.0,
            1.0,
            "coverage_fall_max",
        ),
        tier_shift_max: limit(written.tier_shift_max, default.tier_shift_max, 0.0, 1.0, "tier_shift_max"),
        escalation_rise_max: limit(
            written.escalation_rise_max,
            default.escalation_rise_max,
            0.0,
            1.0,
            "escalation_rise_max",
        ),
        feedback_fall_max: limit(
            written.feedback_fall_max,
            default.feedback_fall_max,
            0.0,
            1.0,
            "feedback_fall_max",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{DEFAULT_TOML, RolloutConfig, RolloutLimits, read_text};

    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let got: Vec<String> = match read_text(&format!("[rollout]\n{keys}")) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(got, expected, "{keys}");
    }

    #[test]
    fn the_compiled_in_text_says_what_the_types_default_to() {
        let default = RolloutConfig::default();
        assert!(!default.automatic);
        assert_eq!(read_text(DEFAULT_TOML).unwrap().rollout, default);
        assert_eq!(read_text("[rollout]").unwrap().rollout, default);
    }

    #[test]
    fn what_is_written_holds() {
        let text = "[rollout]\nautomatic = true\nshadow_sample = 1.0\nsteps = [0.01, 0.5]\nwindow_s = 30\n\
            samples_min = 50\n[rollout.limits]\nerror_rate_rise_max = 0.0\nlatency_ratio_max = 2.0\n\
            coverage_fall_max = 0.1\ntier_shift_max = 1.0\nescalation_rise_max = 0.2\nfeedback_fall_max = 0.3";
        let limits = RolloutLimits {
            error_rate_rise_max: 0.0,
            latency_ratio_max: 2.0,
            coverage_fall_max: 0.1,
            tier_shift_max: 1.0,
            escalation_rise_max: 0.2,
            feedback_fall_max: 0.3,
        };
        let expected = RolloutConfig {
            automatic: true,
            shadow_sample: 1.0,
            steps: vec![0.01, 0.5],
            window: Duration::from_secs(30),
            samples_min: 50,
            limits,
        };
        assert_eq!(read_text(text).unwrap().rollout, expected);
        check("steps = []", &[]);
    }

    #[test]
    fn every_problem_is_named() {
        check(
            "shadow_sample = 1.5\nwindow_s = 1\nsamples_min = 0",
            &[
                "line 2: rollout.shadow_sample: 1.5 is not within 0 to 1",
                "line 3: rollout.window_s: 1 is not within 5 to 2678400",
                "line 4: rollout.samples_min: 0 is not within 50 to 1000000000",
            ],
        );
        check(
            "steps = [0.05, 0.05, 1.0, nan]",
            &[
                "line 2: rollout.steps[1]: 0.05 is not above the step before it, 0.05",
                "line 2: rollout.steps[2]: 1 is not above 0 and below 1",
                "line 2: rollout.steps[3]: NaN is not above 0 and below 1",
            ],
        );
        let steps: Vec<String> = (1..=40).map(|step| format!("{}", f64::from(step) / 100.0)).collect();
        check(&format!("steps = [{}]", steps.join(", ")), &["line 2: rollout.steps: 40 steps, at most 32"]);
        check(
            "limits = { latency_ratio_max = 0.5, tier_shift_max = -0.1, latency_ms_max = 3 }",
            &[
                "line 2: rollout.limits.latency_ms_max: unknown field `latency_ms_max`, expected one of \
                 `error_rate_rise_max`, `latency_ratio_max`, `coverage_fall_max`, `tier_shift_max`, \
                 `escalation_rise_max`, `feedback_fall_max`",
                "line 2: rollout.limits.latency_ratio_max: 0.5 is not within 1 to 1000",
                "line 2: rollout.limits.tier_shift_max: -0.1 is not within 0 to 1",
            ],
        );
    }
}
