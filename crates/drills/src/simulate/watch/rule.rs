//! What must hold, by name.

use std::fmt;

/// What must hold: the fifteen invariants by their numbers, and what the contract promises besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Kept,
    FromARequest,
    OnePerKey,
    OneLease,
    EndsStay,
    SuccessIsReal,
    SendsAreClaimed,
    Counters,
    NotBeforeItsTime,
    ProbeBudget,
    WithinLimit,
    OneClock,
    EverythingEnds,
    DeliveriesExplained,
    DurableFirst,
    InOrder,
    OutagesAreFree,
    AttemptsAreSends,
    CancelsCount,
}

impl Rule {
    /// Its name in a failure's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::Kept => "invariant 1: every 202 is in the store after any crash",
            Rule::FromARequest => "invariant 2: every stored job came from a request, payload equal",
            Rule::OnePerKey => "invariant 3: one job per idempotency key",
            Rule::OneLease => "invariant 4: at most one live lease, epochs strictly rise",
            Rule::EndsStay => "invariant 5: an end is left only by redrive, cancel of a blocking head, or a late ok",
            Rule::SuccessIsReal => "invariant 6: succeeded if and only if the destination said so",
            Rule::SendsAreClaimed => "invariant 7: every request a destination saw has a claimed (id, epoch)",
            Rule::Counters => "invariant 8: accepted = pending + leased + succeeded + dead + cancelled + purged",
            Rule::NotBeforeItsTime => "invariant 9: nothing is sent before its time unless released",
            Rule::ProbeBudget => "invariant 10: while the gate is open no more is sent than probes allow",
            Rule::WithinLimit => "invariant 11: no more leases than the limit at grant",
            Rule::OneClock => "invariant 12: the monotonic clock alone ends leases",
            Rule::EverythingEnds => "invariant 13: with all well, every job ends within a bound",
            Rule::DeliveriesExplained => "invariant 14: deliveries <= 1 + failures + lapses + lost reports",
            Rule::DurableFirst => "invariant 15: no acknowledgement before its durable commit",
            Rule::InOrder => "contract: one job of an ordering key at a time, in the order of acceptance",
            Rule::OutagesAreFree => "contract: an outage is charged to no job",
            Rule::AttemptsAreSends => "contract: what was released unsent is not counted",
            Rule::CancelsCount => "contract: a leased job whose cancel was acknowledged is not tried again",
        }
    }
}

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.as_str(), self.what)
    }
}
