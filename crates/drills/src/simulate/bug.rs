//! Faults seeded on purpose, to prove that the simulation can find faults.
//!
//! Each sits at a seam of the simulated shell (what goes into the real code or comes out of it), never in the real code. A
//! test demands that each is caught, and by the invariant that it breaks.

use super::watch::Rule;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The store forgets what was synced before a crash.
    LosesSyncedWrites,
    /// A crash takes settled ends back.
    ForgetsEnds,
    /// The stored body is not the one that was sent.
    ChangesPayload,
    /// Repeated requests are not recognised.
    ForgetsKeys,
    /// A stale report is taken for the present holder's.
    NoEpochCheck,
    /// A job is called succeeded although no answer came.
    SucceedsUnheard,
    /// A late success is dropped.
    DropsLateOk,
    /// The destination is told another epoch than the one that was granted.
    WrongEpochOnWire,
    /// Jobs go out before their time.
    ClaimsEarly,
    /// While the gate is open probes go out unbounded.
    ProbesWithoutBudget,
    /// A claim gets more than was granted.
    IgnoresLimit,
    /// Leases are measured by the wall clock.
    LeasesByWallClock,
    /// A heartbeat renews leases it does not list.
    RenewsUnlisted,
    /// A lapsed lease is never noticed.
    NeverSweeps,
    /// A recovery releases nobody.
    ReleasesNobody,
    /// A poison job is never charged.
    NeverCharges,
    /// The HTTP client sends again by itself after a reset.
    SendsTwice,
    /// A request is written although its lease was withdrawn.
    SendsWithdrawn,
    /// 202 before the commit.
    AcknowledgesEarly,
    /// A report is taken before the commit.
    TakesReportsEarly,
    /// An ordering key is ignored now and then.
    IgnoresOrder,
    /// An outage is charged to the jobs.
    ChargesOutage,
    /// What was not sent is counted as an attempt.
    CountsReleases,
    /// The gateway forgets a job that waits when its destination is removed from the settings.
    StrandsRemoved,
    /// A repeated request is acknowledged by what a read sees, before the first one's commit is durable.
    ReplaysFromARead,
    /// When the head of an ordering key has ended, the next does not become its head.
    HeadStaysBehind,
    /// A job whose lease has lapsed is not put back among those that wait.
    MisplacesLapsed,
    /// A lease lapses before its term.
    LapsesEarly,
    /// What was granted is not counted as in flight.
    UncountedGrants,
    /// A report that comes again is counted again.
    CountsReportsTwice,
    /// A job that is leased ends because its own time is over.
    ExpiresLeased,
    /// A cancel of a leased job is acknowledged and forgotten.
    ForgetsCancels,
    /// A destination that is paused is called.
    GrantsPaused,
    /// Two jobs of one grant get each other's payload.
    MixesPayloads,
    /// A job goes to another destination.
    WrongDestination,
    /// A call that was sent and never answered is reported as unsent.
    CallsSentUnsent,
    /// A delay that was asked for is ignored.
    IgnoresDelay,
    /// An idempotency key is forgotten with its job.
    ForgetsKeysWithJobs,
}

impl Bug {
    pub const ALL: [Bug; 38] = [
        Bug::LosesSyncedWrites,
        Bug::ForgetsEnds,
        Bug::ChangesPayload,
        Bug::ForgetsKeys,
        Bug::NoEpochCheck,
        Bug::SucceedsUnheard,
        Bug::DropsLateOk,
        Bug::WrongEpochOnWire,
        Bug::ClaimsEarly,
        Bug::ProbesWithoutBudget,
        Bug::IgnoresLimit,
        Bug::LeasesByWallClock,
        Bug::RenewsUnlisted,
        Bug::NeverSweeps,
        Bug::ReleasesNobody,
        Bug::NeverCharges,
        Bug::SendsTwice,
        Bug::SendsWithdrawn,
        Bug::AcknowledgesEarly,
        Bug::TakesReportsEarly,
        Bug::IgnoresOrder,
        Bug::ChargesOutage,
        Bug::CountsReleases,
        Bug::StrandsRemoved,
        Bug::ReplaysFromARead,
        Bug::HeadStaysBehind,
        Bug::MisplacesLapsed,
        Bug::LapsesEarly,
        Bug::UncountedGrants,
        Bug::CountsReportsTwice,
        Bug::ExpiresLeased,
        Bug::ForgetsCancels,
        Bug::GrantsPaused,
        Bug::MixesPayloads,
        Bug::WrongDestination,
        Bug::CallsSentUnsent,
        Bug::IgnoresDelay,
        Bug::ForgetsKeysWithJobs,
    ];

    /// The rule that it breaks.
    pub const fn breaks(self) -> Rule {
        match self {
            Bug::LosesSyncedWrites => Rule::Kept,
            Bug::ForgetsEnds => Rule::EndsStay,
            Bug::ChangesPayload | Bug::MixesPayloads | Bug::WrongDestination => Rule::FromARequest,
            Bug::ForgetsKeys | Bug::ForgetsKeysWithJobs => Rule::OnePerKey,
            Bug::NoEpochCheck | Bug::CountsReportsTwice | Bug::ExpiresLeased => Rule::OneLease,
            Bug::SucceedsUnheard | Bug::DropsLateOk => Rule::SuccessIsReal,
            Bug::WrongEpochOnWire => Rule::SendsAreClaimed,
            Bug::ClaimsEarly | Bug::IgnoresDelay => Rule::NotBeforeItsTime,
            Bug::ProbesWithoutBudget | Bug::GrantsPaused => Rule::ProbeBudget,
            Bug::IgnoresLimit | Bug::UncountedGrants => Rule::WithinLimit,
            Bug::LeasesByWallClock | Bug::LapsesEarly => Rule::OneClock,
            Bug::RenewsUnlisted
            | Bug::NeverSweeps
            | Bug::ReleasesNobody
            | Bug::NeverCharges
            | Bug::StrandsRemoved
            | Bug::HeadStaysBehind
            | Bug::MisplacesLapsed => Rule::EverythingEnds,
            Bug::SendsTwice | Bug::SendsWithdrawn | Bug::CallsSentUnsent => Rule::DeliveriesExplained,
            Bug::AcknowledgesEarly | Bug::TakesReportsEarly | Bug::ReplaysFromARead => Rule::DurableFirst,
            Bug::ForgetsCancels => Rule::CancelsCount,
            Bug::IgnoresOrder => Rule::InOrder,
            Bug::ChargesOutage => Rule::OutagesAreFree,
            Bug::CountsReleases => Rule::AttemptsAreSends,
        }
    }
}
