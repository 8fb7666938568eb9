//! Learning online: from feedback in the store to decisions, and in a simulated world.

mod commands;
mod serving;
mod simulation;
mod store;
#[path = "../../../benches/learning/world.rs"]
mod world;
