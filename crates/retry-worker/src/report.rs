//! Reports outcomes to the gateway, in batches, and keeps offering them until they are taken.
//!
//! One settle is under way at a time, so that whatever ends meanwhile makes up the next batch: batches grow with the load by
//! themselves. An outcome is let go only when a gateway has answered for it, since it may be the only proof of a success. The exception
//! is one that the gateway refuses as such: it is offered once more without its answer, then its lease is left to lapse.

mod waiting;

use std::sync::Arc;
use std::time::Duration;

use jobs_core::job::StateName;
use jobs_core::process::duration;
use jobs_core::protocol::{WireClass, WireHealth, WireOutcome, WireResult, WireSettled};
use log::Level;
use tokio::sync::mpsc::UnboundedReceiver;

pub use self::waiting::Waiting;
use crate::Worker;
use crate::gateway::backoff;
use crate::held::Lease;

/// With this many calls in flight or more, outcomes are gathered a little before they are reported.
const BUSY: u32 = 32;
const GATHER: Duration = Duration::from_millis(2);

/// In batches up to this many each success is worth a line; in a flood only those that took more than one attempt are.
const FEW: usize = 16;

/// What is to be reported.
pub enum Report {
    Ended { lease: Arc<Lease>, outcome: WireOutcome },
    Health(WireHealth),
}

/// Reports until it is aborted, which happens when nothing is held any more.
pub(crate) async fn run(worker: Arc<Worker>, mut inbox: UnboundedReceiver<Report>) {
    let mut waiting = Waiting::default();
    let mut failures = 0;
    loop {
        if waiting.is_empty() {
            match inbox.recv().await {
                Some(report) => waiting.add(report),
                None => return,
            }
            if worker.held.in_flight() >= BUSY {
                tokio::time::sleep(GATHER).await;
            }
        }
        while let Ok(report) = inbox.try_recv() {
            waiting.add(report);
        }
        let (leases, request) = waiting.batch(worker.id);
        match worker.gateway.settle(&request).await {
            Ok(answer) if answer.results.len() == leases.len() => {
                failures = 0;
                waiting.taken();
                worker.held.settled(leases.iter().map(|lease| &lease.key));
                for ((lease, outcome), settled) in leases.iter().zip(&request.outcomes).zip(&answer.results) {
                    log_settled(lease, outcome, settled, leases.len());
                }
                continue;
            }
            Ok(answer) => {
                let (got, wanted) = (answer.results.len(), leases.len());
                log::error!(got, wanted; "the gateway did not answer for every outcome; offering them again");
                waiting.put_back(leases, request.outcomes);
            }
            Err(error) if error.is_final() => {
                log::error!(outcomes = leases.len(); "the gateway refuses a report: {error}");
                waiting.refused(&worker.held, leases, request.outcomes);
            }
            Err(_logged_by_the_client) => waiting.put_back(leases, request.outcomes),
        }
        failures += 1;
        worker.metrics.settle_failed();
        tokio::time::sleep(backoff(failures)).await;
    }
}

pub(crate) fn name(class: WireClass) -> &'static str {
    match class {
        WireClass::Release => "release",
        WireClass::Attempted(class) => class.as_str(),
    }
}

/// One line for what became of a job: retries and deaths always, successes unless there are too many of them.
fn log_settled(lease: &Lease, outcome: &WireOutcome, settled: &WireSettled, batch: usize) {
    let (job, attempts, class) = (lease.key.job_id, settled.attempts, name(outcome.class));
    let (destination, attempt, trace_id) = (lease.destination.as_str(), lease.attempt, lease.trace_id.as_str());
    let status = outcome.status;
    let error = outcome.error.as_deref();
    if outcome.class == WireClass::Release {
        log::debug!(job:%, destination, attempt, trace_id; "released unsent");
        return;
    }
    match (settled.result, settled.state) {
        (WireResult::Ok, _) if settled.retry_delay_ms.is_some() => {
            let delay_ms = settled.retry_delay_ms.unwrap_or_default();
            let delay = duration::show(Duration::from_millis(delay_ms));
            log::info!(job:%, destination, attempt, trace_id, attempts, delay_ms, class, status, error;
                "retry scheduled: retrying job {job} in {delay} (attempt {attempts})");
        }
        (WireResult::Ok, Some(StateName::Succeeded)) => {
            let level = if attempts > 1 || batch <= FEW { Level::Info } else { Level::Debug };
            log::log!(level, job:%, destination, attempt, trace_id, attempts, status, latency_ms = outcome.latency_ms; "job succeeded");
        }
        (WireResult::Ok, Some(StateName::Dead)) => {
            log::warn!(job:%, destination, attempt, trace_id, attempts, class, status, error; "job dead");
        }
        (WireResult::Ok, state) => {
            log::info!(job:%, destination, attempt, trace_id, attempts, class, status, state = state.map(StateName::as_str); "attempt reported");
        }
        (WireResult::LeaseLost, _) => {
            log::warn!(job:%, destination, attempt, trace_id, class, status; "outcome too late: the job had been granted again");
        }
        (WireResult::AlreadyFinished, _) => {
            log::debug!(job:%, destination, attempt, trace_id, class; "outcome too late: the job had ended")
        }
        (WireResult::UnknownJob, _) => {
            log::warn!(job:%, destination, attempt, trace_id, class; "the gateway does not know this job")
        }
    }
}
