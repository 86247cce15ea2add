//! The unreliable API: it answers as the present weather says, and keeps a ledger of everything that arrived.
//!
//! A request's trip, in reading order: [`server`] listens (and really closes the service port in the weather `refuse`),
//! [`routes`] shows every route on one screen, [`state`] asks [`drill`] what to do and writes it into [`ledger`],
//! [`connection`] breaks connections for the weathers `reset` and `hang`. [`drill`] and [`ledger`] are pure: time and chance are
//! arguments, so that a drill can be repeated.
//!
//! It knows nothing of the gateway, the worker or their jobs: it is somebody else's API.

pub mod config;
pub mod connection;
pub mod drill;
pub mod ledger;
pub mod metrics;
pub mod problem;
pub mod routes;
pub mod server;
pub mod state;
