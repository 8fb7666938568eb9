//! Protobuf <-> domain. Only what proto can say and domain types cannot is checked here: `routing::admit` and
//! the dialect check the rest, once, for every entry point.

mod admin;
mod answer;
mod complete;
mod feedback;
mod live;
mod route;

pub use self::{
    admin::{spend, target_report},
    answer::{RawWish, attempts, completion, failure_kind, opening, piece, summary},
    complete::{Asked, ask},
    feedback::{feedback, taken},
    live::{asked_reach, bundle, change, event, reloaded, replica, store_away, verified, wanted},
};
