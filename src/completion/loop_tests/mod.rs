//! The attempt loop as a whole: fake providers on a paused clock, one idea a file.

mod account;
mod breaker;
mod failover;
mod fake;
mod hang_up;
mod hedge;
mod judge;
mod property;
mod refusals;
mod sessions;
mod stream;
mod weak;
mod world;
