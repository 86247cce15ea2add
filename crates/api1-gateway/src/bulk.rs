//! One verb for all jobs that fit a filter, worked off in the background, a few at a time.
//!
//! Each job is changed durably by the verb's own rules; the run itself lives in memory and ends with the process, as its page
//! says: whoever asked for it asks again, and what is done is not done twice, because it no longer fits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use jobs_core::job::JobId;
use jobs_core::lifecycle::{Cancel, Redrive};
use jobs_core::store::{Filter, StoreError};
use jobs_core::time::Timestamp;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Jobs changed at a time: enough for the store to commit many together, too few to hold up the callers.
const AT_A_TIME: usize = 32;
/// Jobs looked up at a time.
const PAGE: u32 = 200;
/// Runs that are remembered.
const KEPT: usize = 20;
/// Between two tries where the store is busy.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// What is done to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Redrive,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Redrive => "redrive",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Verb::Cancel, Verb::Redrive].into_iter().find(|verb| verb.as_str() == text)
    }
}

/// A run, as far as it has come.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) verb: Verb,
    pub(crate) filter: Filter,
    pub(crate) began: Timestamp,
    pub(crate) done: u64,
    /// Found, but no longer in a state that allows it.
    pub(crate) skipped: u64,
    /// `None`: it goes on.
    pub(crate) end: Option<End>,
    pub(crate) ended: Option<Timestamp>,
    by: String,
    stop: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// All that fitted were tried.
    All,
    Stopped,
    /// The store would not; why.
    Failed(String),
}

/// The runs of this process, latest last.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    runs: Mutex<VecDeque<Run>>,
}

impl Bulk {
    pub(crate) fn run(&self, number: u64) -> Option<Run> {
        self.lock().iter().find(|run| run.number == number).cloned()
    }

    /// Asks a run to stop; what is under way is finished.
    pub(crate) fn stop(&self, number: u64) -> bool {
        let found = self.run(number);
        found.inspect(|run| run.stop.store(true, Ordering::Relaxed)).is_some()
    }

    fn begin(&self, verb: Verb, filter: Filter, began: Timestamp, by: String) -> Result<Run, Problem> {
        let mut runs = self.lock();
        if runs.iter().any(|run| run.end.is_none()) {
            return Err(Problem::new(Code::WrongState, "another such run goes on: stop it, or wait for its end"));
        }
        let number = runs.back().map_or(1, |last| last.number + 1);
        let stop = Arc::default();
        let run = Run { number, verb, filter, began, done: 0, skipped: 0, end: None, ended: None, by, stop };
        if runs.len() == KEPT {
            runs.pop_front();
        }
        runs.push_back(run.clone());
        Ok(run)
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.lock().iter_mut().find(|run| run.number == number) {
            change(run);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Run>> {
        // Nothing in here can be left half done.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Begins to do `verb` to all jobs that fit `filter`. Answers the run's number at once.
    ///
    /// # Errors
    /// While another run goes on.
    pub(crate) fn begin_bulk(self: &Arc<Self>, verb: Verb, filter: Filter, by: String) -> Result<u64, Problem> {
        let run = self.bulk.begin(verb, filter, self.clock.now().wall, by)?;
        log::info!(run = run.number, verb = verb.as_str(); "all jobs that fit a filter are changed");
        let (app, number) = (Arc::clone(self), run.number);
        tokio::spawn(async move {
            let end = app.work_off(&run).await.unwrap_or_else(|error| End::Failed(error.to_string()));
            let ended = Some(app.clock.now().wall);
            app.bulk.change(number, |run| (run.end, run.ended) = (Some(end), ended));
        });
        Ok(number)
    }

    async fn work_off(self: &Arc<Self>, run: &Run) -> Result<End, StoreError> {
        let mut below = None;
        loop {
            let page = match self.store.list(run.filter.clone(), below, PAGE).await {
                Err(StoreError::Busy(_)) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                page => page?,
            };
            let mut changes =
                futures_util::stream::iter(page.jobs.into_iter().map(|job| self.change(run.verb, job.id, &run.by)))
                    .buffer_unordered(AT_A_TIME);
            while let Some(changed) = changes.next().await {
                let was_done = changed?;
                self.bulk.change(run.number, |run| if was_done { run.done += 1 } else { run.skipped += 1 });
            }
            if run.stop.load(Ordering::Relaxed) || self.shutdown.is_triggered() {
                return Ok(End::Stopped);
            }
            match page.next {
                Some(next) => below = Some(next),
                None => return Ok(End::All),
            }
        }
    }

    /// Whether the job's state allowed it.
    async fn change(self: &Arc<Self>, verb: Verb, id: JobId, by: &str) -> Result<bool, StoreError> {
        Ok(match verb {
            Verb::Cancel => match self.cancel(id, Some(by)).await? {
                Some((Cancel::Cancelled | Cancel::Requested, _)) => true,
                Some((Cancel::AlreadyCancelled | Cancel::Finished, _)) | None => false,
            },
            Verb::Redrive => match self.redrive(id, false, by).await? {
                Some((Redrive::Redriven | Redrive::RunNow, _)) => true,
                Some((Redrive::Leased | Redrive::Succeeded, _)) | None => false,
            },
        })
    }
}
