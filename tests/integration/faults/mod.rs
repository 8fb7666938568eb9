//! What callers see when providers fail, over real sockets: a server process, providers that misbehave on order,
//! and callers of both dialects and gRPC, whole and streamed.
//!
//! The rule that every case holds: a stream never ends cleanly with a truncated answer.

mod budgets;
mod callers;
mod case;
mod hang_ups;
pub mod process;
mod secrets;
mod security;
mod statuses;
mod streams;
mod weak;
mod world;
