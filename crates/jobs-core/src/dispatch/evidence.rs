//! What a destination has answered of late: just enough to judge one job's failure by the others'.

use std::collections::BTreeMap;

use crate::charging::Evidence;
use crate::job::{JobId, Tick, WorkerId};
use crate::outcome::Class;

/// Workers remembered per destination; with more, the one whose latest ok began first is forgotten, which can only spare
/// a job a charge.
const MAX_WORKERS: usize = 256;

/// The latest oks and failures of one destination.
#[derive(Debug, Default)]
pub(super) struct Answers {
    oks: LatestOks,
    by_worker: BTreeMap<WorkerId, Tick>,
    /// Up to two distinct jobs that have failed since the last ok: enough to know of any job whether another has.
    failing: [Option<JobId>; 2],
    ok_begun: Tick,
}

/// The latest ok, and the latest one of another job than that.
#[derive(Debug, Default, Clone, Copy)]
struct LatestOks {
    latest: Option<(JobId, Tick)>,
    of_another: Tick,
}

impl LatestOks {
    fn note(&mut self, job: JobId, tick: Tick) {
        if let Some((_, at)) = self.latest.filter(|(before, _)| *before != job) {
            self.of_another = at;
        }
        self.latest = Some((job, tick));
    }

    /// When the latest ok of a job other than `job` arrived.
    fn of_other_than(&self, job: JobId) -> Tick {
        match self.latest {
            Some((latest, at)) if latest != job => at,
            Some(_) => self.of_another,
            None => Tick::NEVER,
        }
    }
}

impl Answers {
    /// What the answers to other jobs say about an outcome of `job` that `worker` reports at `now`.
    pub(super) fn evidence_about(&self, job: JobId, worker: WorkerId, now: Tick, destination_epoch: u64) -> Evidence {
        Evidence {
            now,
            destination_epoch,
            other_ok: self.oks.of_other_than(job),
            ok_begun: self.ok_begun,
            worker_ok: self.ok_through(worker),
            others_fail: self.failing.iter().flatten().any(|failing| *failing != job),
            misconfigured: false,
            is_probe: false,
            is_paced: false,
        }
    }

    /// An outcome of `job` by `class`, of an attempt granted at `begun`, arrived at `now`.
    pub(super) fn note(&mut self, job: JobId, worker: WorkerId, class: Class, begun: Tick, now: Tick) {
        match class {
            Class::Ok => {
                self.oks.note(job, now);
                self.ok_begun = self.ok_begun.max(begun);
                self.failing = [None, None];
                self.note_worker(worker, begun);
            }
            Class::Overload | Class::Down | Class::Error => {
                if !self.failing.contains(&Some(job)) {
                    self.failing = [Some(job), self.failing[0]];
                }
            }
            // The destination answered, and answered this job only.
            Class::JobFail | Class::Suspect => {}
        }
    }

    /// The latest beginning among the oks through a worker that have arrived.
    pub(super) fn ok_through(&self, worker: WorkerId) -> Tick {
        self.by_worker.get(&worker).copied().unwrap_or(Tick::NEVER)
    }

    /// The latest beginning among the oks that have arrived.
    pub(super) fn ok_begun(&self) -> Tick {
        self.ok_begun
    }

    fn note_worker(&mut self, worker: WorkerId, begun: Tick) {
        if self.by_worker.len() >= MAX_WORKERS && !self.by_worker.contains_key(&worker) {
            let oldest = self.by_worker.iter().min_by_key(|(_, begun)| **begun).map(|(worker, _)| *worker);
            if let Some(oldest) = oldest {
                self.by_worker.remove(&oldest);
            }
        }
        let latest = self.by_worker.entry(worker).or_default();
        *latest = begun.max(*latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    fn worker(n: u128) -> WorkerId {
        WorkerId(Uuid::from_u128(n))
    }

    #[test]
    fn a_job_is_judged_by_the_oks_of_others_only() {
        let mut answers = Answers::default();
        answers.note(job(1), worker(1), Class::Ok, Tick(1), Tick(5));
        assert_eq!(answers.evidence_about(job(1), worker(1), Tick(9), 0).other_ok, Tick::NEVER);
        assert_eq!(answers.evidence_about(job(2), worker(1), Tick(9), 0).other_ok, Tick(5));
        answers.note(job(2), worker(2), Class::Ok, Tick(2), Tick(6));
        answers.note(job(2), worker(2), Class::Ok, Tick(3), Tick(7));
        assert_eq!(answers.evidence_about(job(2), worker(1), Tick(9), 0).other_ok, Tick(5));
        let third = answers.evidence_about(job(3), worker(1), Tick(9), 0);
        assert_eq!((third.other_ok, third.worker_ok), (Tick(7), Tick(1)));
        // One that was on its way for longer, and is reported late, says nothing of what came since.
        answers.note(job(4), worker(2), Class::Ok, Tick(2), Tick(8));
        assert_eq!(answers.ok_through(worker(2)), Tick(3));
        assert_eq!(answers.ok_begun(), Tick(3));
    }

    #[test]
    fn others_fail_once_a_second_job_has_failed_since_the_last_ok() {
        let mut answers = Answers::default();
        let others_fail = |answers: &Answers, n| answers.evidence_about(job(n), worker(1), Tick(9), 0).others_fail;
        answers.note(job(1), worker(1), Class::Error, Tick(1), Tick(2));
        assert!(!others_fail(&answers, 1));
        assert!(others_fail(&answers, 2));
        answers.note(job(2), worker(1), Class::Down, Tick(1), Tick(3));
        answers.note(job(2), worker(1), Class::Down, Tick(1), Tick(4));
        assert!(others_fail(&answers, 1) && others_fail(&answers, 2));
        answers.note(job(3), worker(1), Class::Ok, Tick(1), Tick(5));
        assert!(!others_fail(&answers, 1));
    }

    #[test]
    fn the_memory_of_workers_is_bounded() {
        let mut answers = Answers::default();
        for n in 0..2 * MAX_WORKERS as u128 {
            answers.note(job(n), worker(n), Class::Ok, Tick(n as u64 + 1), Tick(n as u64 + 2));
        }
        assert_eq!(answers.by_worker.len(), MAX_WORKERS);
        assert!(!answers.by_worker.contains_key(&worker(0)));
    }
}
