//! Requests that come in at the same moment are stored together.
//!
//! A thread of the server reads all that has arrived before it looks for more. Handed over one by one, each request would wake
//! the store's writer and each answer would wake the thread: two system calls and two switches between threads per job, as
//! much as the writing itself. So the first request of a round waits until the others of its thread have been read, which is
//! no time at all where there are none, and all go as one operation with one answer. It is not a timer: nobody waits for
//! requests that have yet to arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobs_core::job::NewJob;
use jobs_core::store::{Enqueued, StoreError};
use thread_local::ThreadLocal;
use tokio::sync::oneshot;

use crate::app::App;

/// Jobs of one operation: enough to save nearly all of what can be saved, and small beside the writer's batch.
const MAX_JOBS: usize = 64;
/// Payload of one operation, unless a single one has more.
const MAX_BYTES: usize = 256 * 1024;

/// What each thread of the server has read and not yet handed over.
#[derive(Default)]
pub(crate) struct Gatherer {
    inboxes: ThreadLocal<Arc<Inbox>>,
}

#[derive(Default)]
struct Inbox(Mutex<Vec<Waiting>>);

struct Waiting {
    job: NewJob,
    waiter: oneshot::Sender<Result<Enqueued, StoreError>>,
}

impl App {
    /// Stores one job durably, in one commit with others of the same moment. Brought to its end even if the caller goes away.
    pub(crate) async fn enqueue_one(self: &Arc<Self>, job: NewJob) -> Result<Enqueued, StoreError> {
        let (waiter, answer) = oneshot::channel();
        let inbox = self.gatherer.inboxes.get_or_default();
        let is_first = {
            let mut waiting = inbox.lock();
            waiting.push(Waiting { job, waiter });
            waiting.len() == 1
        };
        if is_first {
            tokio::spawn(store_round(Arc::clone(self), Arc::clone(inbox)));
        }
        // Without an answer the server's thread is ending.
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // Nothing in here can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn store_round(app: Arc<App>, inbox: Arc<Inbox>) {
    // Comes back when the thread has polled all that was ready.
    tokio::task::yield_now().await;
    let round = std::mem::take(&mut *inbox.lock());
    let operations = split(round).into_iter().map(|part| store(&app, part));
    futures_util::future::join_all(operations).await;
}

/// Parts that are small enough for one operation, in the order of arrival.
fn split(round: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut parts: Vec<Vec<Waiting>> = Vec::new();
    let mut bytes = 0;
    for waiting in round {
        let size = waiting.job.request.body.len();
        match parts.last_mut() {
            Some(part) if part.len() < MAX_JOBS && bytes + size <= MAX_BYTES => {
                bytes += size;
                part.push(waiting);
            }
            Some(_) | None => {
                bytes = size;
                parts.push(vec![waiting]);
            }
        }
    }
    parts
}

async fn store(app: &Arc<App>, part: Vec<Waiting>) {
    let (jobs, waiters): (Vec<_>, Vec<_>) = part.into_iter().map(|waiting| (waiting.job, waiting.waiter)).unzip();
    let enqueued = app.enqueue(jobs).await;
    // Whoever asked may have gone away; what was stored stays stored.
    match enqueued {
        Ok(answers) => waiters.into_iter().zip(answers).for_each(|(waiter, answer)| drop(waiter.send(Ok(answer)))),
        Err(error) => waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(error.clone())))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jobs_core::conformance::rig::plain_job;
    use jobs_core::job::JobId;

    use super::*;

    fn waiting(n: u128, bytes: usize) -> Waiting {
        Waiting { job: plain_job(n, Bytes::from(vec![b'x'; bytes])), waiter: oneshot::channel().0 }
    }

    fn sizes(round: Vec<Waiting>) -> Vec<usize> {
        split(round).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_round_is_split_by_jobs_and_by_bytes_and_keeps_its_order() {
        let small: Vec<Waiting> = (0..130).map(|n| waiting(n, 10)).collect();
        let order: Vec<JobId> = small.iter().map(|waiting| waiting.job.id).collect();
        let parts = split(small);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 2]);
        assert_eq!(parts.iter().flatten().map(|waiting| waiting.job.id).collect::<Vec<_>>(), order);

        let large = |n| waiting(n, MAX_BYTES);
        assert_eq!(sizes(vec![large(1), large(2)]), [1, 1]);
        assert_eq!(sizes(vec![waiting(1, 1), waiting(2, MAX_BYTES - 1), waiting(3, 1)]), [2, 1]);
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
    }
}
