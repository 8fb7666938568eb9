//! Everything that needs a running server, a real bundle or the built binary; one module a behaviour.

mod bundle;
mod cli;
mod default_rules;
mod health;
mod layout;
mod proto;
mod route;
mod saturation;
mod support;
