//! Tells of trouble at the URL of `--alert-webhook`: a gate has opened or closed, jobs are dead, a job has long been due.
//!
//! Each alert is a job for a destination of its own, so that it is tried until it arrives, and given up when it is old news. What
//! concerns that destination itself is not told: nobody would hear it. Dead jobs are told in sums, one a minute and destination at
//! most, because they come in thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jobs_core::job::{DestinationName, Job, JobId, NewJob, Priority, Request, StateName};
use jobs_core::process::{clock, duration};
use jobs_core::store::StoreError;
use jobs_core::time::{Mono, Timestamp};
use serde_json::{Value, json};

use crate::app::App;
use crate::background::{goes_on, report};

const INTERVAL: Duration = Duration::from_secs(1);
/// Between two alerts of dead jobs of one destination.
const DEAD_PAUSE: Duration = Duration::from_secs(60);
/// After that an alert is old news.
const EXPIRES_AFTER: Duration = Duration::from_secs(3_600);
/// Alerts that may wait for the store; more are too much trouble to be told one by one.
const MOST_WAITING: usize = 1_000;

/// What is yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Alerts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Value>,
    dead: BTreeMap<DestinationName, Dead>,
    /// Destinations whose oldest job has been told to be long due.
    overdue: BTreeSet<DestinationName>,
}

/// Dead jobs of a destination since they were last told.
#[derive(Debug, Default)]
struct Dead {
    count: u64,
    latest: Option<JobId>,
    told_at: Option<Mono>,
}

impl Alerts {
    pub(crate) fn gate_opened(&self, destination: &DestinationName, reason: &str) {
        let text = format!("{destination} is held, its jobs wait: {reason}");
        self.push(json!({"alert": "gate_opened", "destination": destination, "reason": reason, "text": text}));
    }

    pub(crate) fn gate_closed(&self, destination: &DestinationName) {
        let text = format!("{destination} has recovered, its jobs are released");
        self.push(json!({"alert": "gate_closed", "destination": destination, "text": text}));
    }

    /// A job has ended: told if it is dead.
    pub(crate) fn ended(&self, job: &Job) {
        if job.state.name() == StateName::Dead {
            let mut state = self.lock();
            let dead = state.dead.entry(job.destination.clone()).or_default();
            dead.count += 1;
            dead.latest = Some(job.id);
        }
    }

    /// The oldest waiting job of a destination has been due for `age`: told once it is longer than `bound`, and once it is no
    /// more.
    fn oldest_due(&self, destination: &DestinationName, age: Duration, bound: Duration) {
        let is_overdue = age > bound;
        let is_news = {
            let overdue = &mut self.lock().overdue;
            if is_overdue { overdue.insert(destination.clone()) } else { overdue.remove(destination) }
        };
        if is_news && is_overdue {
            let text = format!("the oldest job for {destination} has been due for {}", duration::show(whole(age)));
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let alert = "oldest_due";
            self.push(json!({"alert": alert, "destination": destination, "oldest_due_age_ms": age_ms, "text": text}));
        } else if is_news {
            let text = format!("no job for {destination} has been due for so long any more");
            self.push(json!({"alert": "oldest_due_over", "destination": destination, "text": text}));
        }
    }

    fn push(&self, alert: Value) {
        let waiting = &mut self.lock().waiting;
        if waiting.len() < MOST_WAITING {
            waiting.push(alert);
        }
    }

    /// All that is to be told at `now`.
    fn take(&self, now: Mono) -> Vec<Value> {
        let mut state = self.lock();
        let mut alerts = std::mem::take(&mut state.waiting);
        for (destination, dead) in &mut state.dead {
            let is_time = dead.told_at.is_none_or(|at| now.since(at) >= DEAD_PAUSE);
            if dead.count > 0 && is_time {
                let (count, job) = (std::mem::take(&mut dead.count), dead.latest);
                let text = format!("{count} jobs for {destination} are dead");
                alerts.push(
                    json!({"alert": "jobs_dead", "destination": destination, "count": count, "job": job, "text": text}),
                );
                dead.told_at = Some(now);
            }
        }
        alerts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In whole seconds, as people say it.
fn whole(age: Duration) -> Duration {
    Duration::from_secs(age.as_secs())
}

/// Makes jobs of the alerts until the process drains; without a webhook there is nothing to do.
pub(crate) async fn send(app: Arc<App>) {
    let Some(webhook) = app.limits.alerts.clone() else { return app.shutdown.wait().await };
    while goes_on(&app, INTERVAL).await {
        if let Err(error) = look(&app, &webhook).await {
            report("tell the alert webhook of trouble", &error);
        }
    }
}

async fn look(app: &Arc<App>, webhook: &DestinationName) -> Result<(), StoreError> {
    let now = app.clock.now();
    let views = app.dispatcher().views();
    for view in views.into_iter().filter(|view| view.name != *webhook) {
        let due = app.store.oldest_due(&view.name).await?;
        let age = due.map_or(Duration::ZERO, |due| now.wall.since(due));
        app.alerts.oldest_due(&view.name, age, app.limits.alert_oldest_due);
    }
    let alerts = app.alerts.take(now.mono);
    let own = Value::from(webhook.as_str());
    let jobs: Vec<NewJob> = alerts
        .into_iter()
        .filter(|alert| alert["destination"] != own)
        .map(|alert| job(webhook.clone(), alert, now.wall))
        .collect();
    if !jobs.is_empty() {
        app.enqueue(jobs).await?;
    }
    Ok(())
}

fn job(webhook: DestinationName, mut alert: Value, now: Timestamp) -> NewJob {
    alert["at"] = json!(now);
    NewJob {
        id: JobId(clock::new_job_uuid()),
        id_is_new: true,
        destination: webhook,
        request: Request {
            content_type: Some("application/json".to_owned()),
            body: Bytes::from(alert.to_string()),
            ..Request::default()
        },
        idempotency: None,
        run_at: now,
        expires_after: Some(EXPIRES_AFTER),
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    }
}

#[cfg(test)]
mod tests {
    use jobs_core::conformance::rig::plain_job;
    use jobs_core::job::{DeadReason, Epoch, State as JobState};
    use jobs_core::lifecycle;

    use super::*;

    fn dead(n: u128) -> Job {
        let (mut job, _) = lifecycle::enqueue(plain_job(n, Bytes::new()), 1, Epoch::NONE, Timestamp::default());
        job.state = JobState::Dead { at: Timestamp::default(), reason: DeadReason::Permanent };
        job
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_millis(1_000 * (1_000 + seconds))
    }

    #[test]
    fn dead_jobs_are_told_in_sums_once_a_minute() {
        let alerts = Alerts::default();
        alerts.ended(&dead(1));
        assert_eq!(alerts.take(at(0))[0]["count"], 1);
        for n in 2..5 {
            alerts.ended(&dead(n));
        }
        assert_eq!(alerts.take(at(59)), Vec::<Value>::new());
        let told = alerts.take(at(60));
        assert_eq!((told.len(), &told[0]["count"], &told[0]["job"]), (1, &json!(3), &json!(dead(4).id)));
        assert_eq!(alerts.take(at(200)), Vec::<Value>::new());
    }

    #[test]
    fn a_job_long_due_is_told_once_and_so_is_its_end() {
        let (alerts, name) = (Alerts::default(), dead(1).destination);
        let mut told = Vec::new();
        for minutes in [10, 20, 30, 5, 6, 40] {
            alerts.oldest_due(&name, Duration::from_secs(60 * minutes), Duration::from_secs(900));
            told.extend(alerts.take(at(minutes)).into_iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()));
        }
        assert_eq!(told, ["oldest_due", "oldest_due_over", "oldest_due"]);
    }

    #[test]
    fn more_alerts_than_anybody_reads_are_not_kept() {
        let (alerts, name) = (Alerts::default(), dead(1).destination);
        for _ in 0..MOST_WAITING + 5 {
            alerts.gate_closed(&name);
        }
        assert_eq!(alerts.take(at(0)).len(), MOST_WAITING);
    }
}
