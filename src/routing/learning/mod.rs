//! What feedback and outcomes teach: one number for each intent and target, the *offset*, that is added to the
//! logit of the sufficiency which the classifier gives the target's tier.
//!
//! [`Cell`] is what is known of one offset, [`State`] what is known of all and what each tenant may still say,
//! [`Offsets`] the part of it that decisions read. Pure: nothing here reads a clock, a store or a die, so replicas
//! that see the same observations in the same order hold the same numbers.

mod allowance;
mod cell;
mod draws;
mod offsets;
mod state;

pub use self::{
    allowance::Allowance,
    cell::{Cell, Judgement},
    draws::{DRAWS, Draws},
    offsets::{Estimate, Offsets},
    state::{AllowanceKey, CellKey, Channel, Observation, State, Tally},
};

/// Sufficiencies beyond these are taken for these where an offset is weighed against them: the logit of 0 or 1 is
/// infinite, and no observation could move it. The upper one stands for the last tier too, which is enough by
/// definition until something speaks against it.
const BASE_MIN: f64 = 0.02;
const BASE_MAX: f64 = 0.98;

/// Returns the sufficiency after an offset: sigmoid(logit(base) + offset), 0 to 1.
///
/// Beyond `BASE_MIN` and `BASE_MAX` it goes on in proportion, so that it is `base` at an offset of 0 and rises
/// with both everywhere.
pub fn shifted(base: f64, offset: f64) -> f64 {
    let held = base.clamp(BASE_MIN, BASE_MAX);
    (sigmoid(logit(base) + offset) * base / held).min(1.0)
}

/// Returns the logit of a base sufficiency, which an observation is weighed against; always finite.
fn logit(base: f64) -> f64 {
    let held = base.clamp(BASE_MIN, BASE_MAX);
    (held / (1.0 - held)).ln()
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_move_the_logit() {
        for (base, offset, expected) in [
            (0.85, 0.0, 0.85),
            (0.85, -1.7346, 0.5),
            (0.5, 1.0, 0.7311),
            (1.0, 0.0, 1.0),
            (1.0, 2.0, 1.0),
            (1.0, -3.8918, 0.5102),
            (0.0, 3.0, 0.0),
        ] {
            assert!((shifted(base, offset) - expected).abs() < 1e-4, "{base} {offset}");
        }
    }

    proptest! {
        #[test]
        fn a_shifted_sufficiency_is_a_probability_and_rises_with_both(
            base in 0.0_f64..=1.0, more in 0.0_f64..=1.0, offset in -5.0_f64..=5.0, up in 0.0_f64..=5.0,
        ) {
            let here = shifted(base, offset);
            prop_assert!((0.0..=1.0).contains(&here));
            prop_assert!(shifted(base, offset + up) >= here);
            prop_assert!(shifted(base + (1.0 - base) * more, offset) >= here - 1e-12);
            prop_assert!((shifted(base, 0.0) - base).abs() < 1e-12);
        }
    }
}
