//! Tests across services: the real programs, real sockets, real files, on free ports.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod drain;
mod existing_clients;
mod fairness;
mod figures;
mod gateway;
mod hostile;
mod leases;
mod original;
mod outage;
mod proof;
mod readme;
mod recovery;
mod reload;
mod scenario;
mod simulate;
mod support;
mod up;
