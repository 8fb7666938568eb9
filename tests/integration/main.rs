//! Everything that needs a running server, a real bundle or the built binary; one module a behaviour.

#![allow(clippy::unwrap_used)]

mod admin;
mod bundle;
mod cli;
mod complete_grpc;
mod default_rules;
mod eval;
mod faults;
mod health;
mod http;
mod intents;
mod languages;
mod layout;
mod proto;
mod route;
mod saturation;
mod support;
