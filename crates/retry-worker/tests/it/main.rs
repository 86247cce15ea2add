//! The worker from outside: a scripted gateway on one side, scripted destinations on the other, real sockets between.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod claims;
mod classes;
mod drain;
mod leases;
mod logs;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
mod reports;
mod sends;
mod support;
