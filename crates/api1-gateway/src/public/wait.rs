//! Waiting for a job to end, on behalf of a caller who would rather wait than ask again.

use std::pin::pin;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::store::{JobDetail, StoreError};

use crate::app::App;

/// The job as soon as it has ended, or as it is when `patience` is over or the gateway drains. `None`: no such job.
pub(super) async fn until_ended(app: &App, id: JobId, patience: Duration) -> Result<Option<JobDetail>, StoreError> {
    if patience.is_zero() {
        return app.store.job(id).await;
    }
    let waiter = app.waiters.wait_for(id);
    let mut over = pin!(tokio::time::sleep(patience));
    let mut draining = pin!(app.shutdown.wait());
    let mut last_look = false;
    loop {
        // Made before looking: it hears of an end from now on, also before it is polled.
        let ended = waiter.ended.notified();
        let found = app.store.job(id).await?;
        let has_ended = found.as_ref().is_none_or(|found| found.job.state.name().is_terminal());
        if has_ended || last_look {
            return Ok(found);
        }
        tokio::select! {
            () = ended => {}
            () = &mut over => last_look = true,
            () = &mut draining => last_look = true,
        }
    }
}
