//! Which bundle serves, and how another one takes over: a state machine without I/O.
//!
//! There is always exactly one active bundle. A version is staged, then may be a shadow (scored and logged only), a
//! canary (serves a share), active, and retired (kept for rollback).

pub mod bundle_ref;
pub mod events;
pub mod guard;
pub mod judge;
pub mod next;
pub mod observed;
pub mod state;
mod statistics;

#[cfg(test)]
mod simulation_tests;

pub use self::{
    bundle_ref::{BundleRef, DEFAULT},
    events::{Told, also, guard_ended_by, told_of},
    guard::Guard,
    judge::{Look, Verdict, judge},
    next::{Follows, Here, next},
    observed::{Latencies, Observed, Unscored},
    state::{Canary, Change, ChangeError, Desired, Reach, Role, Shadow},
};
