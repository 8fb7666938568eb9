//! Everything that needs a running server, a real bundle or the built binary; one module a behaviour.

#![allow(clippy::unwrap_used)]

mod admin;
mod bundle;
mod bundle_store;
mod cli;
mod complete_grpc;
mod default_rules;
mod deployed;
mod eval;
mod exchange;
mod faults;
mod feedback;
mod fleet;
mod health;
mod http;
mod intents;
mod languages;
mod layout;
mod learning;
mod live_admin;
mod live_swaps;
mod proto;
mod replicas;
mod route;
mod saturation;
mod signals_live;
mod support;
mod traffic_cli;
mod traffic_commands;
mod traffic_log;
mod traffic_privacy;
mod traffic_settings;
mod traffic_store;
mod what_if;
