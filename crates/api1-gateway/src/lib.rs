//! api1-gateway, the front door: accepts jobs, remembers them, hands them to workers, and shows what became of them.
//!
//! A request's trip, in reading order: [`connection`] has deadlines, [`server`] all routes; `public` reads a request (`body`, `options`, `headers`) and
//! answers; `verbs` changes jobs and tells whoever must know, `accept_rate` says who sends too fast, `gather` stores
//! together what comes at the same moment, `gates` writes down who is held, `operators` does what operators ask and notes it,
//! `redriver` redrives many jobs; `jobstore` hands jobs to workers and takes their reports; `background` does what nobody asks
//! for; `pages` is the dashboard, `history` what its charts show, `events` what it listens to, `bulk` what it does to many jobs, `metrics` what else is measured;
//! [`problem`] is every error there is, `openapi` describes the whole. What a job may become is decided in [`jobs_core`], and remembered behind
//! [`jobs_core::store::JobStore`].

mod accept_rate;
mod alerts;
pub mod app;
pub mod auth;
mod background;
pub mod body;
mod bulk;
pub mod config;
pub mod connection;
mod drain_rate;
mod events;
mod gates;
mod gather;
mod headers;
mod health;
mod history;
mod jobstore;
mod metrics;
mod openapi;
mod operators;
mod options;
mod pages;
pub mod problem;
mod public;
mod query;
mod redriver;
pub mod reload;
pub mod server;
pub mod store;
mod to_the_end;
mod verbs;
mod view;
mod waiters;
mod watchdog;
