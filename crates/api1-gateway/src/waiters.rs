//! Requests that wait for a job to end: told by whoever ends it, instead of asking the store again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobs_core::job::JobId;
use tokio::sync::Notify;

/// Who waits for which job. Telling costs a look at a map that is nearly always empty.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<JobId, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    ended: Arc<Notify>,
    count: usize,
}

impl Waiters {
    /// Begins to wait for `id`. Look at the job's state only after this: its end is then either seen or told.
    pub(crate) fn wait_for(&self, id: JobId) -> Waiter<'_> {
        let mut waiting = self.lock();
        let entry = waiting.entry(id).or_default();
        entry.count += 1;
        Waiter { waiters: self, id, ended: Arc::clone(&entry.ended) }
    }

    /// The job has ended: whoever waits for it looks.
    pub(crate) fn ended(&self, id: JobId) {
        if let Some(waiting) = self.lock().get(&id) {
            waiting.ended.notify_waiters();
        }
    }

    /// Requests that wait.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(|waiting| waiting.count).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Waiting>> {
        // Nothing in here can be left half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's place; dropping it leaves.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: JobId,
    /// Make a `notified()` of it before looking at the job.
    pub(crate) ended: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(entry) = waiting.get_mut(&self.id) {
            entry.count -= 1;
            if entry.count == 0 {
                waiting.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use uuid::Uuid;

    #[test]
    fn the_end_of_a_job_reaches_those_who_wait_for_it_and_nobody_else() {
        let waiters = Waiters::default();
        let (one, other) = (JobId(Uuid::from_u128(1)), JobId(Uuid::from_u128(2)));
        let (first, second, elsewhere) = (waiters.wait_for(one), waiters.wait_for(one), waiters.wait_for(other));
        let mut told = Box::pin(first.ended.notified());
        let mut told_too = Box::pin(second.ended.notified());
        let mut not_told = Box::pin(elsewhere.ended.notified());
        waiters.ended(one);
        assert!(told.as_mut().now_or_never().is_some() && told_too.as_mut().now_or_never().is_some());
        assert!(not_told.as_mut().now_or_never().is_none());
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_left() {
        let waiters = Waiters::default();
        let id = JobId(Uuid::from_u128(1));
        let (first, second) = (waiters.wait_for(id), waiters.wait_for(id));
        assert_eq!(waiters.count(), 2);
        drop(first);
        assert_eq!(waiters.count(), 1);
        assert_eq!(waiters.lock().len(), 1);
        drop(second);
        assert!(waiters.lock().is_empty());
    }
}
