//! What passes between a gate and whoever grants under it.

use serde::{Deserialize, Serialize};

use crate::job::{JobId, Tick, WorkerId};
use crate::outcome::Outcome;
use crate::time::Mono;

/// What may be granted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    pub count: u32,
    /// Jobs that failed in an epoch below this are due.
    pub released_below: u64,
    pub kind: Kind,
}

/// Whether a lease is one of many or tries out whether the destination is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Probe { on_health: bool },
}

/// What the gateway remembers of a lease until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub begun: Tick,
    /// When that was.
    pub at: Mono,
    pub epoch: u64,
    /// In flight when it was granted, itself included.
    pub in_flight: u32,
    pub kind: Kind,
}

/// An answer that has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub job: JobId,
    pub worker: WorkerId,
    pub outcome: &'a Outcome,
    pub sent: Sent,
    pub at: Tick,
    /// The failure counts against the job, so it says nothing about the destination.
    pub charged: bool,
}

/// A transition, to be persisted and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Opened,
    /// The epoch has risen: what the outage held is due.
    Recovered,
}

/// What a gate is doing, by the names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GateStateName {
    Closed,
    Open,
    Ramp,
    Paused,
}
