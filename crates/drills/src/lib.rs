//! The rehearsal: starts Holdfast's three programs, breaks one, and proves with a report that nothing was lost.
//!
//! [`trio`] starts and breaks the programs; [`client`] talks to them as anybody would; [`ledger`] is what a client knows of its own
//! requests, and [`steady`] makes them at a pace; [`invariants`] compares what the observers saw, and is pure; [`figure`] holds what
//! was measured beside its goal, [`chart`] draws it, [`report`] shows how a drill goes. Each drill is a file of its own: [`outage`],
//! [`scenario`], [`overload`], [`recover`], [`bench`]; those of no loss, subcommands by [`proof`], are [`crash`], [`powercut`],
//! [`iofault`], [`diskfull`], [`start`], [`clockjump`], [`hostile`] and [`partition`]: they may post as [`mixed`] does, have [`verdict`]
//! compare the observers, and a disk of their own, an [`image`]; [`simulate`] plays the rules without the programs; [`up`] starts the three for
//! a person to play with. Tests across services are in `tests/it`.

pub mod bench;
pub mod chart;
pub mod client;
pub mod clockjump;
pub mod crash;
pub mod diskfull;
pub mod error;
pub mod figure;
pub mod hostile;
pub mod image;
pub mod invariants;
pub mod iofault;
pub mod ledger;
pub mod mixed;
pub mod outage;
pub mod overload;
pub mod partition;
mod percentile;
pub mod powercut;
pub mod proof;
pub mod recover;
pub mod report;
pub mod scenario;
pub mod simulate;
pub mod start;
pub mod steady;
pub mod trio;
pub mod up;
pub mod verdict;
pub mod wait;
mod worst_second;
