//! The rehearsal: starts Holdfast's three programs, breaks one, and proves with a report that nothing was lost.
//!
//! [`trio`] starts and breaks the programs; [`client`] talks to them as anybody would; [`ledger`] is what a client knows of its own
//! requests; [`invariants`] compares what the observers saw, and is pure; [`report`] tells it. Each drill is a file of its own:
//! [`outage`], [`bench`]; [`simulate`] plays the rules without the programs; [`up`] starts the three for a person to play with. Tests across services are in `tests/it`.

pub mod bench;
pub mod client;
pub mod invariants;
pub mod ledger;
pub mod outage;
pub mod report;
pub mod simulate;
pub mod trio;
pub mod up;
pub mod wait;
