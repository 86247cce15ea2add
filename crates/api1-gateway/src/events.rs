//! What happens in the gateway, for whoever listens at `GET /api1/events`.
//!
//! Two channels, because a dashboard wants gates and counters and not ten thousand jobs a second: without listeners for jobs
//! a job costs a look at a number. Both are bounded, and a listener that does not keep up is told how much it missed.

use std::sync::Arc;

use jobs_core::job::{DestinationName, Job, JobId, StateName};
use jobs_core::lifecycle::DuplicateCause;
use jobs_core::store::{SettleAnswer, Stats};
use jobs_core::time::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::sync::{Semaphore, broadcast};

use crate::app::App;
use crate::history::track::GateMark;

/// Events a listener may be behind.
const BACKLOG: usize = 1_024;
/// Listeners at a time: each holds a connection, and somebody might forget to close it.
const MAX_LISTENERS: usize = 64;

/// One event as it is sent: an `event:` line, a `data:` line of JSON, an empty line.
pub(crate) type Frame = Arc<str>;

/// Who listens to what.
#[derive(Debug)]
pub(crate) struct Events {
    jobs: Sender<Frame>,
    others: Sender<Frame>,
    pub(crate) listeners: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            jobs: broadcast::channel(BACKLOG).0,
            others: broadcast::channel(BACKLOG).0,
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
        }
    }
}

#[derive(Serialize)]
struct JobEvent<'a> {
    id: JobId,
    destination: &'a DestinationName,
    state: StateName,
    attempts: u32,
    at: Timestamp,
}

#[derive(Serialize)]
struct GateEvent<'a> {
    destination: &'a DestinationName,
    #[serde(flatten)]
    mark: &'a GateMark,
}

#[derive(Serialize)]
struct Counters {
    at: Timestamp,
    pending: u64,
    leased: u64,
    succeeded: u64,
    dead: u64,
    cancelled: u64,
    accepted: u64,
    purged: u64,
    attempts: u64,
    possible_duplicates: u64,
}

impl Events {
    pub(crate) fn jobs(&self) -> Receiver<Frame> {
        self.jobs.subscribe()
    }

    /// Gates and counters.
    pub(crate) fn others(&self) -> Receiver<Frame> {
        self.others.subscribe()
    }

    /// A job was settled, has ended, or was steered.
    pub(crate) fn job_changed(&self, job: &Job) {
        if self.jobs.receiver_count() == 0 {
            return;
        }
        let (id, attempts) = (job.id, job.progress.attempts);
        let event =
            JobEvent { id, destination: &job.destination, state: job.state.name(), attempts, at: job.updated_at };
        send(&self.jobs, "job", &event);
    }

    pub(crate) fn gate_changed(&self, destination: &DestinationName, mark: &GateMark) {
        send(&self.others, "gate", &GateEvent { destination, mark });
    }

    fn counted(&self, stats: &Stats, at: Timestamp) {
        if self.others.receiver_count() > 0 {
            send(&self.others, "counters", &counters(stats, at));
        }
    }
}

impl App {
    /// Once a second: what charts will show of now, and what listeners are told of it.
    pub(crate) async fn sample(&self) {
        // A store that is busy leaves a gap; that it has failed others notice.
        let Ok(stats) = self.store.stats().await else { return };
        let views = self.dispatcher().views();
        let now = self.clock.now().wall;
        for (destination, mark) in self.history.sample(&views, &stats, now) {
            self.events.gate_changed(&destination, &mark);
        }
        self.events.counted(&stats, now);
    }

    /// Tells of a gate that has just changed, rather than at the next sample.
    pub(crate) fn gate_changed(&self, destination: &DestinationName) {
        let Some(view) = self.dispatcher().views().into_iter().find(|view| view.name == *destination) else { return };
        if let Some(mark) = self.history.gate_is(&view, self.clock.now().wall) {
            self.events.gate_changed(destination, &mark);
        }
    }

    /// Tells of jobs that were settled.
    pub(crate) fn tell_of_settles(&self, answers: &[SettleAnswer]) {
        for answer in answers {
            match answer {
                SettleAnswer::Known { job, attempt, ended, .. } if attempt.is_some() || ended.is_some() => {
                    self.events.job_changed(job);
                }
                SettleAnswer::Known { .. } | SettleAnswer::UnknownJob => {}
            }
        }
    }
}

/// The counters as an event, to begin a stream with.
pub(crate) fn first_frame(stats: &Stats, at: Timestamp) -> Frame {
    frame("counters", &counters(stats, at))
}

/// A listener did not keep up.
pub(crate) fn missed_frame(events: u64) -> Frame {
    frame("missed", &serde_json::json!({ "events": events }))
}

fn counters(stats: &Stats, at: Timestamp) -> Counters {
    Counters {
        at,
        pending: stats.in_state(StateName::Pending),
        leased: stats.in_state(StateName::Leased),
        succeeded: stats.in_state(StateName::Succeeded),
        dead: stats.in_state(StateName::Dead),
        cancelled: stats.in_state(StateName::Cancelled),
        accepted: stats.accepted,
        purged: stats.purged,
        attempts: stats.attempts,
        possible_duplicates: DuplicateCause::ALL.iter().filter_map(|cause| stats.duplicates.get(cause)).sum(),
    }
}

fn send(channel: &Sender<Frame>, name: &str, data: &impl Serialize) {
    // It fails only where nobody listens.
    let _nobody = channel.send(frame(name, data));
}

fn frame(name: &str, data: &impl Serialize) -> Frame {
    let json = serde_json::to_string(data).expect("an event has only text keys");
    format!("event: {name}\ndata: {json}\n\n").into()
}
