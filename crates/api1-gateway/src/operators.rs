//! What operators do to jobs, destinations and mass redrives, beside the verbs that callers and workers have too; and the note
//! in the audit log that each act leaves before it is answered.

use std::fmt::Display;
use std::sync::Arc;

use jobs_core::callback::Callback;
use jobs_core::job::{DestinationName, IdempotencyKey, Job, JobId, NewJob, Priority, Request, StateName};
use jobs_core::process::clock;
use jobs_core::redrive::{Change, MassRedrive, Plan, Unfit};
use jobs_core::steering::{Act, Action, Resolution, Resolve};
use jobs_core::store::{Enqueued, Steered, StoreError};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::problem::{Code, Problem};
use crate::to_the_end::to_the_end;

/// Why no edited job was made.
pub(crate) enum NotEdited {
    UnknownJob,
    /// It has not ended, or has succeeded.
    WrongState(StateName),
    Store(StoreError),
}

impl From<StoreError> for NotEdited {
    fn from(error: StoreError) -> Self {
        NotEdited::Store(error)
    }
}

impl App {
    /// Adds to the audit log that `by` has done something. That it was done is not undone by trouble with the note: that
    /// is told in the log.
    pub(crate) async fn note(&self, by: &str, action: Action, target: impl Display, detail: impl Into<String>) {
        let at = self.clock.now().wall;
        let act = Act { at, by: by.to_owned(), action, target: target.to_string(), detail: detail.into() };
        if let Err(error) = self.store.note(act.clone()).await {
            let Act { by, target, .. } = act;
            log::error!(by, action = action.as_str(), target, error:% = error; "an act is missing in the audit log");
        }
    }

    /// Holds a destination by hand, or ends that. A pause takes effect at once, its end when it is durable. False: there is no
    /// such destination.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        name: DestinationName,
        paused: bool,
        by: &str,
    ) -> Result<bool, StoreError> {
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let is_known = {
                let (mut dispatcher, now) = (app.dispatcher(), app.clock.now());
                if paused { dispatcher.pause(&name, now) } else { dispatcher.resume(&name, now) }
            };
            if !is_known {
                return Ok(false);
            }
            log::info!(destination = name.as_str(), by; "{} by hand", if paused { "paused" } else { "resumed" });
            app.persist_gates().await?;
            app.note(&by, if paused { Action::Pause } else { Action::Resume }, name, "").await;
            Ok(true)
        })
        .await
    }

    /// A dead job is settled otherwise. `None`: there is no such job.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        id: JobId,
        reason: String,
        by: &str,
    ) -> Result<Steered<Resolve>, StoreError> {
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let resolution = Resolution { by: by.clone(), reason: reason.clone(), at: app.clock.now().wall };
            let steered = app.store.resolve(id, resolution).await?;
            if let Some((Resolve::Resolved, _)) = &steered {
                app.note(&by, Action::Resolve, id, reason).await;
            }
            Ok(steered)
        })
        .await
    }

    /// A new job in the place of one that has ended in vain, with another payload; the old one is resolved if it is dead.
    /// Asking again for the same makes no second job.
    pub(crate) async fn edit_and_redrive(
        self: &Arc<Self>,
        id: JobId,
        edit: impl FnOnce(&mut Request),
        by: &str,
    ) -> Result<Job, NotEdited> {
        let old = self.store.job(id).await?.ok_or(NotEdited::UnknownJob)?.job;
        let mut request = self.store.request(id).await?.ok_or(NotEdited::UnknownJob)?;
        match old.state.name() {
            StateName::Dead | StateName::Cancelled => {}
            state @ (StateName::Pending | StateName::Leased | StateName::Succeeded) => {
                return Err(NotEdited::WrongState(state));
            }
        }
        edit(&mut request);
        let new = edited(&old, request, self.clock.now().wall);
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let new_id = match app.enqueue(vec![new]).await?.pop() {
                Some(Enqueued::Accepted(job)) => job.id,
                Some(Enqueued::Replayed { id, .. } | Enqueued::KeyReused { id }) => id,
                None => return Err(StoreError::Unusable("an enqueue was answered with nothing".to_owned()).into()),
            };
            let reason = format!("edited and redriven as job {new_id}");
            let resolution = Resolution { by: by.clone(), reason: reason.clone(), at: app.clock.now().wall };
            app.store.resolve(id, resolution).await?;
            app.note(&by, Action::EditAndRedrive, id, reason).await;
            app.store.job(new_id).await?.map(|found| found.job).ok_or(NotEdited::UnknownJob)
        })
        .await
    }

    pub(crate) async fn start_redrive(self: &Arc<Self>, plan: Plan, by: &str) -> Result<MassRedrive, StoreError> {
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let redrive = app.store.start_redrive(plan, by.clone(), app.clock.now()).await?;
            app.redrives.notify_one();
            let detail = serde_json::to_string(&redrive.plan).unwrap_or_default();
            app.note(&by, Action::StartMassRedrive, redrive.number, detail).await;
            Ok(redrive)
        })
        .await
    }

    /// Stops or resumes a mass redrive. `None`: there is none of that number.
    pub(crate) async fn change_redrive(
        self: &Arc<Self>,
        number: u32,
        change: Change,
        by: &str,
    ) -> Result<Option<(Result<(), Unfit>, MassRedrive)>, StoreError> {
        let (app, by) = (Arc::clone(self), by.to_owned());
        to_the_end(async move {
            let (action, detail) = match &change {
                Change::Stop(stop) => (Action::StopMassRedrive, stop.reason.clone()),
                Change::Resume | Change::Counted { .. } | Change::CanaryPassed => {
                    (Action::ResumeMassRedrive, String::new())
                }
            };
            let answer = app.store.change_redrive(number, change, app.clock.now()).await?;
            if let Some((Ok(()), _)) = &answer {
                app.redrives.notify_one();
                app.note(&by, action, number, detail).await;
            }
            Ok(answer)
        })
        .await
    }
}

impl From<NotEdited> for Problem {
    fn from(error: NotEdited) -> Self {
        match error {
            NotEdited::UnknownJob => Problem::new(Code::UnknownJob, "the job to be edited"),
            NotEdited::WrongState(state) => {
                let detail = format!("only a dead or cancelled job is edited; this one is {}", state.as_str());
                Problem::new(Code::WrongState, detail)
            }
            NotEdited::Store(error) => error.into(),
        }
    }
}

/// As `old`, with `request` in place of its own. Its idempotency key says which edit of which job it is.
fn edited(old: &Job, request: Request, now: jobs_core::time::Timestamp) -> NewJob {
    let mut hash = Sha256::new();
    hash.update(request.content_type.as_deref().unwrap_or_default());
    hash.update([0]);
    hash.update(&request.body);
    let fingerprint: [u8; 32] = hash.finalize().into();
    let print: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{}-{}-{print}", old.id, old.progress.generation);
    NewJob {
        id: JobId(clock::new_job_uuid()),
        id_is_new: true,
        destination: old.destination.clone(),
        request,
        idempotency: Some(IdempotencyKey { scope: EDITS.to_owned(), key, fingerprint }),
        run_at: now,
        expires_after: old.expires_after,
        priority: Priority::new(old.priority.level()).unwrap_or_default(),
        ordering_key: old.ordering_key.clone(),
        max_attempts: old.max_attempts,
        traceparent: old.traceparent.clone(),
        redriven_from: Some(old.id),
        callback: old.callback.clone().map(|destination| Callback { destination, still_trying_after: None }),
    }
}

/// The scope of the keys of edited jobs: no client's principal looks like it.
const EDITS: &str = "edits";
