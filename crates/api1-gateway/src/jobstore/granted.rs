//! Leases on their way to a worker.
//!
//! Between the store's answer and the worker's there is a moment in which the worker may hang up. Leases it never got would
//! wait for their lapse; dropped on the way they are released instead, and the jobs are claimable at once.

use std::sync::Arc;
use std::vec;

use jobs_core::job::WorkerId;
use jobs_core::lease::LeaseKey;
use jobs_core::store::{Lease, Report, Settlement};
use jobs_core::time::Mono;
use tokio::runtime::Handle;

use crate::app::App;

/// Leases of which those that are left are released when this is dropped.
pub(crate) struct Granted {
    app: Arc<App>,
    worker: WorkerId,
    leases: vec::IntoIter<Lease>,
    /// When their terms began.
    pub(super) since: Mono,
}

impl Granted {
    pub(crate) fn new(app: Arc<App>, worker: WorkerId, leases: Vec<Lease>, since: Mono) -> Self {
        Granted { app, worker, leases: leases.into_iter(), since }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    /// Those that have not been handed over.
    pub(super) fn left(&self) -> &[Lease] {
        self.leases.as_slice()
    }

    /// Hands the next one over.
    pub(super) fn next(&mut self) -> Option<Lease> {
        self.leases.next()
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        // Without a runtime the process is ending: the leases lapse.
        let (false, Ok(runtime)) = (self.is_empty(), Handle::try_current()) else { return };
        let released = |lease: &Lease| Settlement {
            key: LeaseKey { job_id: lease.job.id, epoch: lease.epoch },
            report: Report::Released,
        };
        let settlements: Vec<Settlement> = self.left().iter().map(released).collect();
        let (app, worker) = (Arc::clone(&self.app), self.worker);
        runtime.spawn(async move {
            let count = settlements.len();
            match app.settle(worker, settlements).await {
                Ok(_) => log::debug!(worker:% = worker, leases = count; "released leases that never reached their worker"),
                Err(error) => log::warn!(worker:% = worker, leases = count, error:% = error; "leases that never reached their worker will lapse"),
            }
        });
    }
}
