//! Reports outcomes to the gateway, in batches, and keeps offering them until they are taken.
//!
//! One settle is under way at a time, so that whatever ends meanwhile makes up the next batch: batches grow with the load by
//! themselves. An outcome is let go only when a gateway has answered for it, since it may be the only proof of a success. The exception
//! is one that the gateway refuses as such: it is offered once more without its answer, then its lease is left to lapse.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::job::StateName;
use jobs_core::process::duration;
use jobs_core::protocol::{SettleRequest, WireClass, WireHealth, WireOutcome, WireResult, WireSettled};
use log::Level;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Worker;
use crate::gateway::{GatewayError, backoff};
use crate::held::Lease;

/// Most outcomes in one settle: one commit of the gateway takes as many.
const MAX_BATCH: usize = 1_000;

/// Most bytes in one settle, by estimate: a full batch of usual answers; of the longest ones about fifteen fit.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// With this many calls in flight or more, outcomes are gathered a little before they are reported.
const BUSY: u32 = 32;
const GATHER: Duration = Duration::from_millis(2);

/// In batches up to this many each success is worth a line; in a flood only those that took more than one attempt are.
const FEW: usize = 16;

/// What is to be reported.
pub(crate) enum Report {
    Ended { lease: Arc<Lease>, outcome: WireOutcome },
    Health(WireHealth),
}

/// Reports until it is aborted, which happens when nothing is held any more.
pub(crate) async fn run(worker: Arc<Worker>, mut inbox: UnboundedReceiver<Report>) {
    let mut waiting = Waiting { limit: MAX_BATCH, ..Waiting::default() };
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
        let (leases, request) = waiting.batch(&worker);
        match worker.gateway.settle(&request).await {
            Ok(answer) if answer.results.len() == leases.len() => {
                failures = 0;
                waiting.limit = (waiting.limit * 2).min(MAX_BATCH);
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
            Err(error) if error.is_final() => waiting.refused(&worker, leases, request.outcomes, &error),
            Err(_logged_by_the_client) => waiting.put_back(leases, request.outcomes),
        }
        failures += 1;
        worker.metrics.settle_failed();
        tokio::time::sleep(backoff(failures)).await;
    }
}

/// What no gateway has taken yet, oldest first.
#[derive(Default)]
struct Waiting {
    ended: VecDeque<(Arc<Lease>, WireOutcome)>,
    health: Vec<WireHealth>,
    /// Most outcomes in the next batch. One after a refusal, to find the culprit; then growing again.
    limit: usize,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.health.is_empty()
    }

    fn add(&mut self, report: Report) {
        match report {
            Report::Ended { lease, outcome } => self.ended.push_back((lease, outcome)),
            Report::Health(health) => self.health.push(health),
        }
    }

    /// Takes out what goes into the next settle: at least one outcome, if any waits.
    fn batch(&mut self, worker: &Worker) -> (Vec<Arc<Lease>>, SettleRequest) {
        let mut bytes = 0;
        let fitting = self.ended.iter().take(self.limit).take_while(|(_, outcome)| {
            bytes += weight(outcome);
            bytes <= MAX_BATCH_BYTES
        });
        let count = fitting.count();
        let count = count.max(self.ended.len().min(1));
        let (leases, outcomes) = self.ended.drain(..count).unzip();
        let probes = std::mem::take(&mut self.health);
        (leases, SettleRequest { worker: worker.id, outcomes, probes })
    }

    /// The batch was not taken: its outcomes are offered again, before all others.
    fn put_back(&mut self, leases: Vec<Arc<Lease>>, outcomes: Vec<WireOutcome>) {
        for ended in leases.into_iter().zip(outcomes).rev() {
            self.ended.push_front(ended);
        }
    }

    /// The gateway will never take the batch as it is.
    fn refused(
        &mut self,
        worker: &Worker,
        leases: Vec<Arc<Lease>>,
        mut outcomes: Vec<WireOutcome>,
        error: &GatewayError,
    ) {
        log::error!(outcomes = outcomes.len(); "the gateway refuses a report: {error}");
        match outcomes.as_mut_slice() {
            [alone] if alone.response.is_none() => {
                let class = name(alone.class);
                log::error!(job:% = alone.job_id, class, status = alone.status; "this outcome is refused and given up; its lease is left to lapse");
                worker.held.settled([&leases[0].key]);
                return;
            }
            [alone] => alone.response = None,
            _ => self.limit = 1,
        }
        self.put_back(leases, outcomes);
    }
}

/// About how many bytes of JSON an outcome takes, rather more than less: quotes and line ends double a text.
fn weight(outcome: &WireOutcome) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let response = outcome.response.as_ref();
    let body = response.map_or(0, |response| length(&response.body) * 2 + length(&response.body_base64));
    512 + body + length(&outcome.error) * 2
}

fn name(class: WireClass) -> &'static str {
    match class {
        WireClass::Release => "release",
        WireClass::Attempted(class) => class.as_str(),
    }
}

/// One line for what became of a job: retries and deaths always, successes unless there are too many of them.
fn log_settled(lease: &Lease, outcome: &WireOutcome, settled: &WireSettled, batch: usize) {
    let (job, attempts, class) = (lease.key.job_id, settled.attempts, name(outcome.class));
    let destination = lease.destination.as_str();
    let status = outcome.status;
    let error = outcome.error.as_deref();
    if outcome.class == WireClass::Release {
        log::debug!(job:%, destination; "released unsent");
        return;
    }
    match (settled.result, settled.state) {
        (WireResult::Ok, _) if settled.retry_delay_ms.is_some() => {
            let delay_ms = settled.retry_delay_ms.unwrap_or_default();
            let delay = duration::show(Duration::from_millis(delay_ms));
            log::info!(job:%, destination, attempts, delay_ms, class, status, error;
                "retry scheduled: retrying job {job} in {delay} (attempt {attempts})");
        }
        (WireResult::Ok, Some(StateName::Succeeded)) => {
            let level = if attempts > 1 || batch <= FEW { Level::Info } else { Level::Debug };
            log::log!(level, job:%, destination, attempts, status, latency_ms = outcome.latency_ms; "job succeeded");
        }
        (WireResult::Ok, Some(StateName::Dead)) => {
            log::warn!(job:%, destination, attempts, class, status, error; "job dead");
        }
        (WireResult::Ok, state) => {
            log::info!(job:%, destination, attempts, class, status, state = state.map(StateName::as_str); "attempt reported");
        }
        (WireResult::LeaseLost, _) => {
            log::warn!(job:%, destination, class, status; "outcome too late: the job had been granted again");
        }
        (WireResult::AlreadyFinished, _) => {
            log::debug!(job:%, destination, class; "outcome too late: the job had ended")
        }
        (WireResult::UnknownJob, _) => log::warn!(job:%, destination, class; "the gateway does not know this job"),
    }
}
