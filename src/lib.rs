#![doc = include_str!("architecture.md")]

pub mod prompt;

pub mod config;

pub mod routing;

pub mod evaluation;

pub mod completion;

pub mod telemetry;

pub mod traffic;

pub mod live;

pub mod server;

pub mod cli;
