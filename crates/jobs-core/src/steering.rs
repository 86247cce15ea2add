//! What a store keeps for operators: mass redrives, jobs they have resolved by hand, and who did what.
//!
//! A part of the contract of [`crate::store::JobStore`], in a file of its own. Clauses of [`crate::conformance::operators`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::job::{Job, JobId};
use crate::redrive::{Change, MassRedrive, Plan, Unfit};
use crate::store::{Filter, Page, Steered, StoreError};
use crate::time::{Now, Timestamp};

/// Lines of the audit log that are kept; the oldest go.
pub const AUDIT_LINES: u64 = 100_000;
/// Mass redrives that are kept; the oldest go.
pub const MASS_REDRIVES: u32 = 1_000;

/// An operator has settled a dead job otherwise. It stays dead, and counts as unresolved no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resolution {
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

/// The answer to a resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    Resolved,
    NotDead,
}

/// One act of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Act {
    pub at: Timestamp,
    /// The principal.
    pub by: String,
    pub action: Action,
    /// The job, destination or mass redrive it was done to.
    pub target: String,
    /// More for people; may be empty.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Action {
    Cancel,
    Redrive,
    EditAndRedrive,
    Resolve,
    Pause,
    Resume,
    StartMassRedrive,
    StopMassRedrive,
    ResumeMassRedrive,
    Backup,
}

impl Action {
    pub const ALL: [Action; 10] = [
        Self::Cancel,
        Self::Redrive,
        Self::EditAndRedrive,
        Self::Resolve,
        Self::Pause,
        Self::Resume,
        Self::StartMassRedrive,
        Self::StopMassRedrive,
        Self::ResumeMassRedrive,
        Self::Backup,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Redrive => "redrive",
            Self::EditAndRedrive => "edit_and_redrive",
            Self::Resolve => "resolve",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::StartMassRedrive => "start_mass_redrive",
            Self::StopMassRedrive => "stop_mass_redrive",
            Self::ResumeMassRedrive => "resume_mass_redrive",
            Self::Backup => "backup",
        }
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditLine {
    /// 1 at first, rising.
    pub number: u64,
    #[serde(flatten)]
    pub act: Act,
}

/// What a step of a mass redrive came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Redriven {
    pub redrive: MassRedrive,
    /// The jobs that were redriven, as that left them.
    pub jobs: Vec<Job>,
}

/// The store of operators. All that changes is durable when it is answered.
#[async_trait]
pub trait Steering: Send + Sync {
    /// As [`crate::store::JobStore::list`], but earliest accepted first, with `seq` above `above`; [`Page::next`] is where to
    /// list on from, above it.
    async fn find(&self, filter: Filter, above: u64, limit: u32) -> Result<Page, StoreError>;

    /// Notes that a dead job was settled otherwise, in place of what was noted before. Forgotten when the job is dead no
    /// more. `None`: there is no such job.
    async fn resolve(&self, id: JobId, resolution: Resolution) -> Result<Steered<Resolve>, StoreError>;

    /// Keeps a new mass redrive, with the next number.
    async fn start_redrive(&self, plan: Plan, by: String, now: Now) -> Result<MassRedrive, StoreError>;

    async fn mass_redrive(&self, number: u32) -> Result<Option<MassRedrive>, StoreError>;

    /// At most `limit` of them, the latest first.
    async fn mass_redrives(&self, limit: u32) -> Result<Vec<MassRedrive>, StoreError>;

    /// [`MassRedrive::apply`]; the one as it is then. `None`: there is none of that number.
    async fn change_redrive(
        &self,
        number: u32,
        change: Change,
        now: Now,
    ) -> Result<Option<(Result<(), Unfit>, MassRedrive)>, StoreError>;

    /// In one commit: redrives those of `jobs` that mass redrive `number` [still wants](MassRedrive::still_wants), by
    /// [`crate::lifecycle::redrive_with_others`], and notes that all up to `to` have had their turn. Does nothing where
    /// it [may not redrive](MassRedrive::may_redrive). From then on each of those jobs counts in its tally. `None`: there is none.
    async fn redrive_step(
        &self,
        number: u32,
        jobs: Vec<JobId>,
        to: u64,
        end: bool,
        now: Now,
    ) -> Result<Option<Redriven>, StoreError>;

    /// Adds a line to the audit log.
    async fn note(&self, act: Act) -> Result<(), StoreError>;

    /// At most `limit` lines of the audit log, the latest first, with a number below `below` if set.
    async fn audit(&self, below: Option<u64>, limit: u32) -> Result<Vec<AuditLine>, StoreError>;
}
