//! What seeded bugs do to the gateway's verbs, each at the seam between the shell and the real code.

use std::time::Duration;

use jobs_core::dispatch::GateStateName;
use jobs_core::gate::Kind;
use jobs_core::job::{Job, JobId, NewJob, State, StateName, Tick};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::store::{Grant, Report, SettleAnswer, Settlement, Swept};
use jobs_core::time::Now;

use super::{Gateway, Op};
use crate::simulate::brain::Planned;
use crate::simulate::bug::Bug;
use crate::simulate::network::Receipt;

/// How much too early a lease lapses.
const EARLY: Duration = Duration::from_millis(1_500);

impl Gateway {
    /// What becomes of a grant.
    pub(super) fn spoil(&self, planned: &mut Planned) {
        for view in planned.views.iter().filter(|view| view.state == GateStateName::Paused) {
            if self.bug == Some(Bug::GrantsPaused) {
                planned.grants.push(Grant {
                    destination: view.name.clone(),
                    max: 1,
                    destination_epoch: view.epoch,
                    released_below: 0,
                    fresh: 0,
                    fresh_after: jobs_core::time::Timestamp::default(),
                    kind: Kind::Regular,
                    begun: Tick(1),
                    ok_begun: Tick::NEVER,
                });
            }
        }
        for grant in &mut planned.grants {
            let view = planned.views.iter().find(|view| view.name == grant.destination);
            let open = view.is_some_and(|view| view.state == GateStateName::Open);
            match self.bug {
                Some(Bug::ProbesWithoutBudget) if open => grant.max = 20,
                Some(Bug::IgnoresLimit) if !open => grant.max *= 2,
                _ => {}
            }
        }
    }

    /// The present, as a sweep is told.
    pub(super) fn sweep_now(&self, now: Now) -> Now {
        let told = self.lease_now(now);
        if self.bug == Some(Bug::LapsesEarly) { Now { mono: told.mono.plus(EARLY), ..told } } else { told }
    }

    /// The job whose cancel is forgotten, if it is.
    pub(super) fn forgets_cancel(&self, id: JobId) -> Option<Job> {
        let job = self.state.job(id).map(|found| found.job)?;
        (self.bug == Some(Bug::ForgetsCancels) && job.state.name() == StateName::Leased).then_some(job)
    }

    /// Jobs whose time is over end, although somebody is at work on them.
    pub(super) fn expire_leased(&mut self, now: Now) {
        if self.bug != Some(Bug::ExpiresLeased) {
            return;
        }
        for (key, worker, _) in self.state.leases() {
            let expires_at = self.state.job(key.job_id).and_then(|found| found.job.expires_at);
            if expires_at.is_some_and(|at| at <= now.wall) {
                let report = Report::Attempted(Outcome::of(Class::JobFail));
                self.state.settle(worker, vec![Settlement { key, report }], &self.brain.judge(), now);
            }
        }
    }

    /// Ends that let nobody pass.
    pub(super) fn jam(&mut self, answers: &[SettleAnswer]) {
        if self.bug != Some(Bug::HeadStaysBehind) {
            return;
        }
        for answer in answers {
            if let SettleAnswer::Known { job, .. } = answer
                && matches!(job.state, State::Succeeded { .. })
            {
                self.state.jam(job.id);
            }
        }
    }

    /// Jobs whose lease has lapsed are lost sight of. In an ordering key that would be another fault: the next would pass them.
    pub(super) fn misplace(&mut self, swept: &Swept) {
        for (key, _, job) in &swept.lapsed {
            if self.bug == Some(Bug::MisplacesLapsed) && job.ordering_key.is_none() {
                self.state.misplace(key.job_id);
            }
        }
    }

    /// What a read of what is being written says of these posts, if it knows all of them.
    pub(super) fn replay_from_a_read(&self, posts: &[NewJob]) -> Option<Vec<Receipt>> {
        if self.bug != Some(Bug::ReplaysFromARead) {
            return None;
        }
        let written = || {
            let jobs = self
                .committing
                .iter()
                .filter_map(|op| if let Op::Enqueue { jobs, .. } = op { Some(jobs) } else { None });
            jobs.flatten()
        };
        let same = |post: &NewJob| {
            let key = post.idempotency.as_ref()?;
            written().find(|job| job.idempotency.as_ref() == Some(key)).map(|job| Receipt::Stored(job.id))
        };
        posts.iter().map(same).collect()
    }
}
