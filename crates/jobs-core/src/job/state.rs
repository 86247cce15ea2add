//! The states of a job, each with what belongs to it and nothing else.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Epoch, Tick, WorkerId};
use crate::time::Timestamp;

/// Where a job is in its life. The picture is in the README.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Pending(Pending),
    Leased(Leased),
    Succeeded { at: Timestamp },
    Dead { at: Timestamp, reason: DeadReason },
    Cancelled { at: Timestamp },
}

/// Waiting for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    pub run_at: Timestamp,
    pub cause: Cause,
    /// The destination's epoch at the claim whose failure put the job here: a later recovery makes it due at once.
    pub fail_epoch: u64,
}

/// Held by a worker. The deadline is not here: it lives on the monotonic clock, in [`crate::lease::LeaseTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    pub epoch: Epoch,
    pub worker: WorkerId,
    pub claimed_at: Timestamp,
    pub destination_epoch: u64,
    /// When the attempt was granted, in logical time.
    pub begun: Tick,
    /// The latest beginning among the oks its destination had given when the attempt was granted.
    pub ok_begun: Tick,
    /// What a release restores.
    pub from: Pending,
    pub cancel_requested: bool,
}

/// Why a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Never tried.
    New,
    /// Its own failure, or a lost lease.
    Job,
    /// Its destination's failure: due at once when the destination recovers.
    Destination,
    /// An operator's redrive.
    Manual,
}

/// Why a job was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeadReason {
    /// The destination refused it for good.
    Permanent,
    /// Its charged attempts are spent.
    Exhausted,
    /// It was still pending when its time ran out.
    Expired,
    /// The destination may have done it, and sending again would not be safe.
    Unknown,
    /// Too many workers were lost with it.
    Lost,
    /// What the disk gave back is not what was accepted.
    Corrupt,
}

/// The five states by name, for counters and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StateName {
    Pending,
    Leased,
    Succeeded,
    Dead,
    Cancelled,
}

impl StateName {
    pub const ALL: [StateName; 5] = [Self::Pending, Self::Leased, Self::Succeeded, Self::Dead, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Leased => false,
            Self::Succeeded | Self::Dead | Self::Cancelled => true,
        }
    }
}

impl FromStr for StateName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or(())
    }
}

impl State {
    pub const fn name(&self) -> StateName {
        match self {
            State::Pending(_) => StateName::Pending,
            State::Leased(_) => StateName::Leased,
            State::Succeeded { .. } => StateName::Succeeded,
            State::Dead { .. } => StateName::Dead,
            State::Cancelled { .. } => StateName::Cancelled,
        }
    }
}
