//! The outcomes that no gateway has taken yet: what the next report holds, and what becomes of it if it is not taken.

use std::collections::VecDeque;
use std::sync::Arc;

use jobs_core::job::WorkerId;
use jobs_core::protocol::{SettleRequest, WireHealth, WireOutcome};

use super::{Report, name};
use crate::held::{Held, Lease};

/// Most outcomes in one settle: one commit of the gateway takes as many.
const MAX_BATCH: usize = 1_000;

/// Most bytes in one settle, by estimate: a full batch of usual answers; of the longest ones about fifteen fit.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// What no gateway has taken yet, oldest first.
pub struct Waiting {
    ended: VecDeque<(Arc<Lease>, WireOutcome)>,
    health: Vec<WireHealth>,
    /// Most outcomes in the next batch. One after a refusal, to find the culprit; then growing again.
    limit: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { ended: VecDeque::new(), health: Vec::new(), limit: MAX_BATCH }
    }
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.health.is_empty()
    }

    pub fn add(&mut self, report: Report) {
        match report {
            Report::Ended { lease, outcome } => self.ended.push_back((lease, outcome)),
            Report::Health(health) => self.health.push(health),
        }
    }

    /// Takes out what goes into the next settle: at least one outcome, if any waits.
    pub fn batch(&mut self, worker: WorkerId) -> (Vec<Arc<Lease>>, SettleRequest) {
        let mut bytes = 0;
        let fitting = self.ended.iter().take(self.limit).take_while(|(_, outcome)| {
            bytes += weight(outcome);
            bytes <= MAX_BATCH_BYTES
        });
        let count = fitting.count();
        let count = count.max(self.ended.len().min(1));
        let (leases, outcomes) = self.ended.drain(..count).unzip();
        let probes = std::mem::take(&mut self.health);
        (leases, SettleRequest { worker, outcomes, probes })
    }

    /// The batch was taken: the next one may be larger.
    pub fn taken(&mut self) {
        self.limit = (self.limit * 2).min(MAX_BATCH);
    }

    /// The batch was not taken: its outcomes are offered again, before all others.
    pub fn put_back(&mut self, leases: Vec<Arc<Lease>>, outcomes: Vec<WireOutcome>) {
        for ended in leases.into_iter().zip(outcomes).rev() {
            self.ended.push_front(ended);
        }
    }

    /// The gateway will never take the batch as it is.
    pub(super) fn refused(&mut self, held: &Held, leases: Vec<Arc<Lease>>, mut outcomes: Vec<WireOutcome>) {
        match outcomes.as_mut_slice() {
            [alone] if alone.response.is_none() => {
                let class = name(alone.class);
                log::error!(job:% = alone.job_id, class, status = alone.status; "this outcome is refused and given up; its lease is left to lapse");
                held.settled([&leases[0].key]);
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
