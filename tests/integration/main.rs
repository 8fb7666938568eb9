//! Everything that needs a running server, a real bundle or the built binary; one module a behaviour.

#![allow(clippy::unwrap_used)]

mod bundle;
mod cli;
mod default_rules;
mod eval;
mod health;
mod intents;
mod languages;
mod layout;
mod proto;
mod route;
mod saturation;
mod support;
