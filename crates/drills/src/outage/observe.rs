//! Asks the observers: what the gateway and the destination know of each job that was acknowledged to the client.

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::process::clock;
use tokio::task::JoinSet;

use crate::client::{Api2, CallError, Gateway, JobView, ReceivedView};
use crate::invariants::{Counted, End, Observed, Received, SeenJob};
use crate::ledger::ClientLedger;

/// How many jobs are asked about at a time.
const ASKERS: usize = 16;

/// A program that was killed is back within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait before asking again what did not answer.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);

/// What the gateway and the destination say of each job.
pub type Testimony = BTreeMap<JobId, (Option<JobView>, Option<ReceivedView>)>;

/// What was seen of all jobs in `client`. `alone`: nobody else uses the gateway, so its counters are about these jobs.
///
/// # Errors
/// [`CallError`] when one of the observers cannot be asked any more.
pub async fn all(gateway: &Gateway, api2: &Api2, client: &ClientLedger, alone: bool) -> Result<Observed, CallError> {
    let testimony = ask(gateway, api2, client).await?;
    let counted = if alone { Some(counted(gateway).await?) } else { None };
    Ok(compile(&testimony, client, counted))
}

/// Asks about all jobs in `client`, which are of the destination `api2`.
///
/// # Errors
/// [`CallError`] when one of the observers cannot be asked any more.
pub async fn ask(gateway: &Gateway, api2: &Api2, client: &ClientLedger) -> Result<Testimony, CallError> {
    let ids: Vec<JobId> = client.acknowledged().values().copied().collect();
    let mut askers = JoinSet::new();
    for share in ids.chunks(ids.len().div_ceil(ASKERS).max(1)) {
        let (gateway, api2, share) = (gateway.clone(), api2.clone(), share.to_vec());
        askers.spawn(async move {
            let mut answers = Vec::with_capacity(share.len());
            for id in share {
                answers.push((id, patiently(&gateway, &api2, id).await?));
            }
            Ok::<_, CallError>(answers)
        });
    }
    let mut testimony = Testimony::new();
    for answers in askers.join_all().await {
        testimony.extend(answers?);
    }
    Ok(testimony)
}

/// What was said, as it is to be compared. `counted`: the gateway's counters, where they are about these jobs.
pub fn compile(testimony: &Testimony, client: &ClientLedger, counted: Option<Counted>) -> Observed {
    let jobs = testimony.iter().filter_map(|(id, (job, _))| Some((*id, seen(job.as_ref()?))));
    let received = testimony.iter().filter_map(|(id, (_, received))| Some((*id, arrived(received.as_ref()?))));
    Observed {
        acknowledged: client.acknowledged().clone(),
        contradictions: client.contradictions().to_vec(),
        counted,
        drained: true,
        jobs: jobs.collect(),
        received: received.collect(),
    }
}

/// A gateway that is just starting again is asked until it answers.
async fn patiently(
    gateway: &Gateway,
    api2: &Api2,
    id: JobId,
) -> Result<(Option<JobView>, Option<ReceivedView>), CallError> {
    let began = clock::instant();
    loop {
        match (gateway.job(id).await, api2.received(id).await) {
            (Ok(job), Ok(received)) => return Ok((job, received)),
            (Err(error), _) | (_, Err(error)) if began.elapsed() > ANSWER_LIMIT => return Err(error),
            (Err(_), _) | (_, Err(_)) => tokio::time::sleep(REPEAT_PAUSE).await,
        }
    }
}

/// The gateway's counters.
///
/// # Errors
/// [`CallError`]
pub async fn counted(gateway: &Gateway) -> Result<Counted, CallError> {
    let stats = gateway.stats().await?;
    Ok(Counted {
        accepted: stats.accepted,
        waiting: stats.waiting(),
        succeeded: stats.of("succeeded"),
        dead: stats.of("dead"),
        cancelled: stats.of("cancelled"),
        purged: stats.purged,
    })
}

fn seen(job: &JobView) -> SeenJob {
    let end = match job.state.as_str() {
        "succeeded" => End::Succeeded,
        "dead" => End::Dead,
        "cancelled" => End::Cancelled,
        _ => End::Waiting,
    };
    let unanswered = job.attempt_log.iter().filter(|attempt| attempt.status.is_none());
    let in_doubt = unanswered.filter(|attempt| matches!(attempt.outcome.as_str(), "lost" | "down")).count();
    SeenJob { end, recorded: count(job.attempt_log.len()), in_doubt: count(in_doubt) }
}

fn arrived(received: &ReceivedView) -> Received {
    Received { requests: count(received.requests.len()), ok: received.ok }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
