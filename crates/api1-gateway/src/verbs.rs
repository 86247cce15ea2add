//! The verbs that change jobs, each with everything that follows from it: the store decides and remembers, then the
//! dispatcher, parked claims and waiting callers are told. Each is brought [to its end](crate::to_the_end).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jobs_core::destination::OrderingOnDead;
use jobs_core::gate::Kind;
use jobs_core::job::{Job, JobId, NewJob, WorkerId};
use jobs_core::lifecycle::{Cancel, Redrive};
use jobs_core::steering::Action;
use jobs_core::store::{Enqueued, SettleAnswer, Settlement, Steered, StoreError, Swept};
use jobs_core::time::Now;

use crate::app::App;
use crate::jobstore::Granted;
use crate::to_the_end::to_the_end;

/// Outcomes that wait for the store from which on no more jobs are granted: some tenths of a second of its work. A disk that
/// cannot keep up with what comes back must not be given more to come back.
const MOST_SETTLING: usize = 5_000;

impl App {
    /// All of `jobs` in one durable commit, which has happened when this answers.
    pub(crate) async fn enqueue(self: &Arc<Self>, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, StoreError> {
        let app = Arc::clone(self);
        to_the_end(async move {
            let enqueued = app.store.enqueue(jobs, app.clock.now()).await?;
            {
                let mut dispatcher = app.dispatcher();
                for answer in &enqueued {
                    if let Enqueued::Accepted(job) = answer {
                        dispatcher.job_changed(job);
                        if let (Some(callback), Some(after)) = (&job.callback, app.limits.still_trying_after) {
                            dispatcher.work_arrived(callback, job.accepted_at.plus(after));
                        }
                    }
                }
            }
            app.work.notify_waiters();
            Ok(enqueued)
        })
        .await
    }

    /// What `worker` may have at `now`, without waiting; `None`: nothing.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        worker: WorkerId,
        concurrency: u32,
        max: u32,
        now: Now,
    ) -> Result<Option<Granted>, StoreError> {
        if self.settling.load(Ordering::Relaxed) > MOST_SETTLING {
            return Ok(None);
        }
        let grants = self.dispatcher().plan(worker, concurrency, max, now);
        if grants.is_empty() {
            return Ok(None);
        }
        let app = Arc::clone(self);
        let granted = to_the_end(async move {
            match app.store.claim(worker, grants.clone(), now).await {
                Ok(claimed) => {
                    {
                        let mut dispatcher = app.dispatcher();
                        dispatcher.claimed(&grants, &claimed, app.clock.now());
                        claimed.died.iter().for_each(|job| dispatcher.job_changed(job));
                    }
                    for leases in claimed.leases.chunk_by(|one, other| one.job.destination == other.job.destination) {
                        app.metrics.leased(&leases[0].job.destination, leases.len() as u64);
                    }
                    app.tell_of_ends(claimed.died.iter());
                    let granted: usize = grants.iter().map(|grant| grant.max as usize).sum();
                    if claimed.leases.len() < granted || grants.iter().any(|grant| grant.kind != Kind::Regular) {
                        // Places that were reserved meanwhile may be another claim's now, and so may the next probe.
                        app.work.notify_waiters();
                    }
                    Ok(Granted::new(app, worker, claimed.leases, now.mono))
                }
                Err(error) => {
                    app.dispatcher().claim_failed(&grants, app.clock.now());
                    Err(error)
                }
            }
        })
        .await?;
        Ok(Some(granted).filter(|granted| !granted.is_empty()))
    }

    pub(crate) async fn settle(
        self: &Arc<Self>,
        worker: WorkerId,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<SettleAnswer>, StoreError> {
        let app = Arc::clone(self);
        to_the_end(async move {
            let settling = Settling::new(&app, settlements.len());
            let answers = app.store.settle(worker, settlements, app.judge(), app.clock.now()).await;
            drop(settling);
            let answers = answers?;
            let now = app.clock.now();
            app.dispatcher().settled(&answers, now);
            app.history.settled(&answers, now.wall);
            app.metrics.settled(&answers);
            app.try_to_persist_gates().await;
            app.work.notify_waiters();
            app.tell_of_settles(&answers);
            app.tell_of_ends(answers.iter().filter_map(|answer| match answer {
                // Not again for a job that had ended before.
                SettleAnswer::Known { job, attempt, ended, .. } if attempt.is_some() || ended.is_some() => Some(job),
                SettleAnswer::Known { .. } | SettleAnswer::UnknownJob => None,
            }));
            Ok(answers)
        })
        .await
    }

    /// `operator`: who does so as an operator, which is noted. `None`: there is no such job.
    pub(crate) async fn cancel(
        self: &Arc<Self>,
        id: JobId,
        operator: Option<&str>,
    ) -> Result<Steered<Cancel>, StoreError> {
        let Some(found) = self.store.job(id).await? else { return Ok(None) };
        let ordering_on_dead: OrderingOnDead = self.judge().policy(&found.job.destination).ordering_on_dead;
        let (app, operator) = (Arc::clone(self), operator.map(str::to_owned));
        to_the_end(async move {
            let steered = app.store.cancel(id, ordering_on_dead, app.clock.now()).await?;
            app.steered(steered.as_ref().map(|(_, job)| job));
            if let (Some((Cancel::Cancelled | Cancel::Requested, _)), Some(by)) = (&steered, operator) {
                app.note(&by, Action::Cancel, id, "").await;
            }
            Ok(steered)
        })
        .await
    }

    /// `new_key`: the destination is to receive another idempotency key. `None`: there is no such job.
    pub(crate) async fn redrive(
        self: &Arc<Self>,
        id: JobId,
        new_key: bool,
        by: &str,
    ) -> Result<Steered<Redrive>, StoreError> {
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let steered = app.store.redrive(id, new_key, app.clock.now()).await?;
            app.steered(steered.as_ref().map(|(_, job)| job));
            if let Some((Redrive::Redriven | Redrive::RunNow, _)) = &steered {
                app.note(&by, Action::Redrive, id, if new_key { "with a new key" } else { "" }).await;
            }
            Ok(steered)
        })
        .await
    }

    /// Ends leases and jobs whose time is over. Answers how many that were.
    pub(crate) async fn sweep(&self) -> Result<usize, StoreError> {
        let swept: Swept = self.store.sweep(self.judge(), self.clock.now()).await?;
        let count = swept.lapsed.len() + swept.expired.len();
        if count > 0 {
            self.dispatcher().swept(&swept, self.clock.now());
            self.work.notify_waiters();
            let changed = || swept.lapsed.iter().map(|(_, _, job)| job).chain(&swept.expired);
            changed().for_each(|job| self.events.job_changed(job));
            self.tell_of_ends(changed());
        }
        Ok(count)
    }

    fn steered(&self, job: Option<&Job>) {
        if let Some(job) = job {
            self.dispatcher().job_changed(job);
            self.work.notify_waiters();
            self.events.job_changed(job);
            self.tell_of_ends(std::iter::once(job));
        }
    }

    /// Tells whoever waits for those of `jobs` that have ended.
    fn tell_of_ends<'a>(&self, jobs: impl Iterator<Item = &'a Job>) {
        let ended = jobs.filter(|job| job.state.name().is_terminal()).inspect(|job| {
            self.metrics.ended(job);
            self.alerts.ended(job);
            self.waiters.ended(job.id);
            // The store has made a job that tells the caller.
            if let Some(callback) = &job.callback {
                self.dispatcher().work_arrived(callback, job.updated_at);
                self.work.notify_waiters();
            }
        });
        self.drain_rates.ended(ended.map(|job| &job.destination));
    }
}

/// Counts outcomes for as long as the store has not taken them.
struct Settling<'a> {
    app: &'a App,
    count: usize,
}

impl<'a> Settling<'a> {
    fn new(app: &'a App, count: usize) -> Self {
        app.settling.fetch_add(count, Ordering::Relaxed);
        Settling { app, count }
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let before = self.app.settling.fetch_sub(self.count, Ordering::Relaxed);
        if before > MOST_SETTLING {
            // Claims that were refused meanwhile may look again.
            self.app.work.notify_waiters();
        }
    }
}
