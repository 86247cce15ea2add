//! api2-flaky from outside, over real sockets.
#![expect(clippy::unwrap_used, reason = "a failing test may panic anywhere")]
#![expect(unreachable_pub, reason = "nothing in a test binary is reachable from elsewhere")]

mod client;
mod harness;
mod ledger;
mod port;
mod program;
mod routes;
mod weather;
