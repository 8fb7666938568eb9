//! Everything that needs a running server, a real bundle or the built binary; one module a behaviour.

#![allow(clippy::unwrap_used)]

mod admin;
mod bundle;
mod cli;
mod complete_grpc;
mod default_rules;
mod eval;
mod faults;
mod feedback;
mod health;
mod http;
mod intents;
mod languages;
mod layout;
mod learning;
mod proto;
mod route;
mod saturation;
mod support;
mod traffic_cli;
mod traffic_log;
mod traffic_settings;
mod traffic_store;
mod what_if;
