//! settle: workers say what became of their leases.

use jobs_core::job::{Epoch, WorkerId};
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::{self, SettleContext, SettleResult, Settled};
use jobs_core::outcome::Outcome;
use jobs_core::store::{Judge, Report, SettleAnswer, Settlement};
use jobs_core::time::Now;
use rusqlite::Result;

use super::attempt;
use super::batch::Batch;
use super::codes::Counter;
use super::known::Effect;
use super::operation::Cost;
use super::row::Row;

/// What these settlements may write.
pub(super) fn cost(settlements: &[Settlement]) -> Cost {
    let bytes = settlements.iter().map(|settlement| match &settlement.report {
        // A callback may repeat the answer.
        Report::Attempted(outcome) => outcome.response.as_ref().map_or(0, |response| 2 * response.body.len()),
        Report::Released => 0,
    });
    Cost { jobs: settlements.len(), bytes: bytes.sum() }
}

/// See [`jobs_core::store::JobStore::settle`].
pub(super) fn settle(
    batch: &mut Batch<'_>,
    worker: WorkerId,
    settlements: Vec<Settlement>,
    judge: &dyn Judge,
    now: Now,
) -> Result<Vec<SettleAnswer>> {
    settlements.into_iter().map(|settlement| settle_one(batch, worker, &settlement, judge, now)).collect()
}

fn settle_one(
    batch: &mut Batch<'_>,
    worker: WorkerId,
    settlement: &Settlement,
    judge: &dyn Judge,
    now: Now,
) -> Result<SettleAnswer> {
    let LeaseKey { job_id, epoch } = settlement.key;
    let Some(mut row) = batch.row_of(job_id)? else { return Ok(SettleAnswer::UnknownJob) };
    let was = row.was();
    let settled = match &settlement.report {
        Report::Released => lifecycle::release(&mut row.job, epoch, now.wall),
        Report::Attempted(outcome) => settle_attempted(batch, &mut row, epoch, outcome, worker, judge, now)?,
    };
    if settled.result == SettleResult::Applied {
        batch.save(&row, was)?;
    }
    if let Some(cause) = settled.duplicate {
        batch.count(Counter::Duplicates(cause), 1);
    }
    let ended = settled.ended.map(|lease| (LeaseKey { job_id, epoch: lease.epoch }, lease.worker));
    if let Some((key, _)) = ended {
        batch.then(Effect::Ended(key));
    }
    Ok(SettleAnswer::Known { result: settled.result, job: row.job, attempt: settled.attempt, ended })
}

/// Decides about the job, and adds to its log. The row is the caller's to save.
fn settle_attempted(
    batch: &mut Batch<'_>,
    row: &mut Row,
    epoch: Epoch,
    outcome: &Outcome,
    worker: WorkerId,
    judge: &dyn Judge,
    now: Now,
) -> Result<Settled> {
    let (policy, evidence) = judge.weigh(&row.job, epoch, outcome, worker, now);
    let start = batch.known.epochs.start();
    let context = SettleContext { worker, start, policy: &policy, evidence: &evidence };
    let settled = lifecycle::settle(&mut row.job, epoch, outcome, &context, now.wall);
    if settled.result == SettleResult::Applied {
        row.decide_blocking(policy.ordering_on_dead);
        if let Some(line) = &settled.attempt {
            attempt::log(&mut batch.statements, row, line, outcome.response.as_ref())?;
            batch.count(Counter::Attempts, 1);
        }
    }
    Ok(settled)
}
