//! What is asked of the writer: a piece of work, and somebody who waits for what it comes to.

use jobs_core::store::StoreError;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::error::Failed;

/// Which operations go before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Settles and sweeps: they free what others wait for.
    Settle,
    Claim,
    /// Enqueues, and what operators do.
    Enqueue,
}

/// What an operation may cost, at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    /// Jobs that it may write.
    pub(super) jobs: usize,
    /// Bytes of payload beside.
    pub(super) bytes: usize,
}

impl Cost {
    pub(super) fn plus(self, other: Cost) -> Cost {
        Cost { jobs: self.jobs + other.jobs, bytes: self.bytes + other.bytes }
    }
}

/// An operation with whoever waits for it, whatever its type of answer.
pub(super) trait Operation: Send {
    /// Does the work. An error ends the whole batch.
    fn run(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;

    /// The batch has ended; `Ok` if it is committed.
    fn answer(self: Box<Self>, ended: Result<(), StoreError>);
}

/// The one kind of [`Operation`].
pub(super) struct Asked<T, F> {
    work: Option<F>,
    answer: Option<Result<T, StoreError>>,
    waiter: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Asked<T, F> {
    pub(super) fn new(work: F, waiter: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Asked { work: Some(work), answer: None, waiter }
    }
}

impl<T, F> Operation for Asked<T, F>
where
    T: Send,
    F: FnOnce(&mut Batch<'_>) -> Result<T, Failed> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        let work = self.work.take().expect("an operation is run one time");
        self.answer = match work(batch) {
            Ok(answer) => Some(Ok(answer)),
            Err(Failed::Refused(error)) => Some(Err(error)),
            Err(Failed::Sqlite(error)) => return Err(error),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, ended: Result<(), StoreError>) {
        let answer = match ended {
            Ok(()) => self.answer.expect("a committed batch has run all its operations"),
            Err(error) => Err(error),
        };
        // Whoever asked may have gone away; what was done stays done.
        let _ = self.waiter.send(answer);
    }
}
