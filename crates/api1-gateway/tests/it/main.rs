//! The gateway from outside: real sockets, real processes, its settings and its stores.
#![expect(clippy::unwrap_used, reason = "a failing test may panic anywhere, also in its helpers")]

mod accept_rate;
mod auth;
mod batch;
mod callbacks;
mod config;
mod connections;
mod errors;
mod fake_store;
mod following;
mod forward;
mod gates;
mod hang_ups;
mod metrics;
mod openapi;
mod operators;
mod pages;
mod payloads;
mod process;
mod program;
mod reading;
mod redrives;
mod steering;
mod store;
mod store_trouble;
mod support;
mod tracing;
mod workers;
