//! Compares what the observers of a drill saw, and names everything that must not be.
//!
//! Pure. Three observers that know nothing of each other: the client's ledger of acknowledgements, the gateway's jobs with
//! their attempts, and the destination's ledger. Only an acknowledged job can be lost. The promise is *at least once*, so a
//! delivery that happened twice is counted; it is a violation only where nothing the gateway recorded explains it. [`calls`] looks
//! closer, at each request and at the order of all.

pub mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jobs_core::job::JobId;

/// All that was seen, after the drill is over and no worker is in the middle of an attempt.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The client's acknowledged jobs by idempotency key.
    pub acknowledged: BTreeMap<String, JobId>,
    /// Keys that were acknowledged with two different jobs.
    pub contradictions: Vec<String>,
    /// What the gateway says of each acknowledged job; a job it does not know is missing.
    pub jobs: BTreeMap<JobId, SeenJob>,
    /// What the destination received for each; a job it never heard of is missing.
    pub received: BTreeMap<JobId, Received>,
    /// The gateway's counters; `None` where it serves others beside the drill.
    pub counted: Option<Counted>,
    /// Whether the drill waited for the end of all jobs.
    pub drained: bool,
}

/// A job's state by the names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Pending or leased.
    Waiting,
    Succeeded,
    Dead,
    Cancelled,
}

/// A job, as the gateway shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenJob {
    pub end: End,
    /// Lines of its attempt log: settled sends, and leases that lapsed.
    pub recorded: u64,
    /// Those of them after which the destination may have done the work although the gateway does not know: a lapsed lease,
    /// and a timeout or broken connection.
    pub in_doubt: u64,
}

/// What the destination's ledger has under a job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    pub requests: u64,
    /// Those answered 2xx.
    pub ok: u64,
}

/// The gateway's kept counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Counted {
    pub accepted: u64,
    pub waiting: u64,
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub purged: u64,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// The gateway does not know an acknowledged job.
    Lost(JobId),
    /// The gateway says succeeded, and the destination never said 2xx.
    NeverArrived(JobId),
    /// One idempotency key was acknowledged with two jobs.
    KeyNamesTwoJobs(String),
    /// Two idempotency keys were acknowledged with one job.
    JobHasTwoKeys(JobId),
    /// The destination did a job's work more often than the gateway's attempt log can explain.
    UnexplainedDuplicate(JobId),
    /// The destination received more requests for a job than the gateway recorded attempts.
    UnrecordedAttempt(JobId),
    /// The destination did a job's work and the gateway, which waited to the end, holds it for unfinished or dead.
    UnnoticedDelivery(JobId),
    /// The job had not ended when the time for draining was over.
    StillWaiting(JobId),
    /// The counters do not add up: accepted is not waiting + succeeded + dead + cancelled + purged.
    CountersDisagree(Counted),
    /// A job was sent although the one before it in its ordering key had not ended.
    OutOfKeyOrder { earlier: JobId, later: JobId },
    /// The destination received a request under an epoch that is not in the job's attempt log.
    UnclaimedEpoch(JobId),
    /// A job was sent before the moment that its client had asked for.
    SentTooEarly(JobId),
    /// A request was repeated after its acknowledgement, and the answer did not say so.
    RepeatNotMarked(String),
    /// Every request was acknowledged, and there are more jobs than that.
    NobodyAsked { counted: u64, acknowledged: u64 },
    /// The gateway counts fewer accepted jobs than it acknowledged.
    AcceptedUncounted { counted: u64, acknowledged: u64 },
}

impl Violation {
    /// Whether it means that an acknowledged job is gone.
    pub fn is_loss(&self) -> bool {
        match self {
            Violation::Lost(_) | Violation::NeverArrived(_) => true,
            Violation::KeyNamesTwoJobs(_)
            | Violation::JobHasTwoKeys(_)
            | Violation::UnexplainedDuplicate(_)
            | Violation::UnrecordedAttempt(_)
            | Violation::UnnoticedDelivery(_)
            | Violation::StillWaiting(_)
            | Violation::CountersDisagree(_)
            | Violation::OutOfKeyOrder { .. }
            | Violation::UnclaimedEpoch(_)
            | Violation::SentTooEarly(_)
            | Violation::RepeatNotMarked(_)
            | Violation::NobodyAsked { .. }
            | Violation::AcceptedUncounted { .. } => false,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost(id) => write!(f, "lost: {id} was acknowledged and the gateway does not know it"),
            Violation::NeverArrived(id) => {
                write!(f, "lost: {id} is called succeeded and the destination never answered it 2xx")
            }
            Violation::KeyNamesTwoJobs(key) => write!(f, "the idempotency key {key} was acknowledged with two jobs"),
            Violation::JobHasTwoKeys(id) => write!(f, "{id} was acknowledged under two idempotency keys"),
            Violation::UnexplainedDuplicate(id) => {
                write!(f, "{id} was delivered twice and nothing recorded explains it")
            }
            Violation::UnrecordedAttempt(id) => write!(f, "{id} was sent more often than attempts were recorded"),
            Violation::UnnoticedDelivery(id) => write!(f, "{id} was delivered and the gateway does not say so"),
            Violation::StillWaiting(id) => write!(f, "{id} had not ended when the time for draining was over"),
            Violation::CountersDisagree(c) => write!(
                f,
                "the counters disagree: accepted {} is not waiting {} + succeeded {} + dead {} + cancelled {} + purged {}",
                c.accepted, c.waiting, c.succeeded, c.dead, c.cancelled, c.purged
            ),
            Violation::OutOfKeyOrder { earlier, later } => {
                write!(f, "out of order: {later} was sent before {earlier}, which it had to follow, had ended")
            }
            Violation::UnclaimedEpoch(id) => write!(f, "{id} was sent under an epoch that is not in its attempt log"),
            Violation::SentTooEarly(id) => write!(f, "{id} was sent before its time"),
            Violation::RepeatNotMarked(key) => write!(f, "a repetition of {key} was not answered as one"),
            Violation::NobodyAsked { counted, acknowledged } => {
                write!(f, "{counted} jobs were accepted and only {acknowledged} were asked for")
            }
            Violation::AcceptedUncounted { counted, acknowledged } => {
                write!(f, "{acknowledged} jobs were acknowledged and {counted} counted as accepted")
            }
        }
    }
}

/// What the comparison came to. accepted = delivered + dead + cancelled + waiting + lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Acknowledged jobs.
    pub accepted: u64,
    /// Succeeded, with the destination's 2xx to show for it.
    pub delivered: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub waiting: u64,
    pub lost: u64,
    /// 2xx answers of the destination beyond the first of each job.
    pub duplicates: u64,
    pub violations: Vec<Violation>,
}

/// Compares the observers.
pub fn compare(observed: &Observed) -> Findings {
    let mut findings = Findings::default();
    let ids: BTreeSet<JobId> = observed.acknowledged.values().copied().collect();
    findings.accepted = count(ids.len());
    for id in &ids {
        let received = observed.received.get(id).copied().unwrap_or_default();
        findings.duplicates += received.ok.saturating_sub(1);
        match observed.jobs.get(id) {
            None => {
                findings.lost += 1;
                findings.violations.push(Violation::Lost(*id));
            }
            Some(job) => compare_job(*id, *job, received, observed.drained, &mut findings),
        }
    }
    findings.violations.extend(keys(observed));
    findings.violations.extend(counters(observed, findings.accepted));
    findings
}

fn compare_job(id: JobId, job: SeenJob, received: Received, drained: bool, findings: &mut Findings) {
    match job.end {
        End::Succeeded if received.ok == 0 => {
            findings.lost += 1;
            findings.violations.push(Violation::NeverArrived(id));
        }
        End::Succeeded => findings.delivered += 1,
        End::Dead => findings.dead += 1,
        End::Cancelled => findings.cancelled += 1,
        End::Waiting => findings.waiting += 1,
    }
    let mut violated = |violation| findings.violations.push(violation);
    if drained && job.end == End::Waiting {
        violated(Violation::StillWaiting(id));
    }
    // While it waits, the report of a delivery may be on its way.
    if drained && job.end == End::Dead && received.ok > job.in_doubt {
        violated(Violation::UnnoticedDelivery(id));
    }
    if job.end != End::Waiting && received.requests > job.recorded {
        violated(Violation::UnrecordedAttempt(id));
    }
    if received.ok > 1 + job.in_doubt {
        violated(Violation::UnexplainedDuplicate(id));
    }
}

fn keys(observed: &Observed) -> Vec<Violation> {
    let mut violations: Vec<Violation> =
        observed.contradictions.iter().cloned().map(Violation::KeyNamesTwoJobs).collect();
    let mut seen = BTreeSet::new();
    let twice = observed.acknowledged.values().filter(|id| !seen.insert(**id));
    violations.extend(twice.copied().map(Violation::JobHasTwoKeys));
    violations
}

fn counters(observed: &Observed, acknowledged: u64) -> Vec<Violation> {
    let Some(counted) = observed.counted else { return Vec::new() };
    let Counted { accepted, waiting, succeeded, dead, cancelled, purged } = counted;
    let mut violations = Vec::new();
    if accepted != waiting + succeeded + dead + cancelled + purged {
        violations.push(Violation::CountersDisagree(counted));
    }
    // More may have been accepted than acknowledged: an answer can be lost on its way.
    if accepted < acknowledged {
        violations.push(Violation::AcceptedUncounted { counted: accepted, acknowledged });
    }
    violations
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
