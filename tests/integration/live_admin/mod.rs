//! What operators do to a running server and what it answers: bundles and configuration by call, by file, by signal
//! and by command; what is refused, and who may ask.

mod apart;
mod bad_bundles;
pub mod commands;
mod encrypted;
mod followed;
mod object_store;
mod refusals;
mod roles;
mod starts;
mod stored;
mod tokens;
mod world;
