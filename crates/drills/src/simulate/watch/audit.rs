//! All that is stored, compared with the account.

use std::collections::BTreeSet;
use std::time::Duration;

use jobs_core::dispatch::GateStateName;
use jobs_core::job::{Cause, DeadReason, Job, JobId, State, StateName};
use jobs_core::memory;
use jobs_core::store::Filter;
use jobs_core::time::{Now, Timestamp};

use super::{Rule, SiteAccount, Watch};
use crate::simulate::plan::Us;

/// A job that was released comes to its turn within this.
const TURN: Duration = Duration::from_secs(10);
/// Jobs named in a message at most.
const NAMED: usize = 5;

impl Watch {
    /// Invariant 8, by the kept counters alone.
    pub(super) fn check_counters(&mut self, store: &memory::State) {
        let stats = store.stats();
        let held: u64 = stats.destinations.values().flat_map(|states| states.values()).sum();
        if stats.accepted != held + stats.purged || stats.accepted != self.accepted {
            let what = format!(
                "{} counted as accepted, {} were; {held} are kept and {} purged",
                stats.accepted, self.accepted, stats.purged
            );
            self.violated(Rule::Counters, what);
        }
    }

    /// Jobs were purged.
    pub(crate) fn purged(&mut self, store: &memory::State) {
        if store.stats().purged > self.jobs.values().filter(|job| job.purged).count() as u64 {
            self.note("purge");
            self.audit(store, false);
        }
    }

    /// The gateway has started: what is in memory is gone, and what the store holds is what counts.
    pub(crate) fn restarted(&mut self, store: &memory::State, now: Now) {
        self.step += 1;
        self.audit(store, true);
        for site in &mut self.sites {
            site.failing.clear();
            site.probes.clear();
            site.in_flight.clear();
            site.gate = None;
        }
        for live in self.jobs.values_mut().filter_map(|job| job.live.as_mut()) {
            live.renewed = now.mono;
            live.counts = false;
        }
    }

    /// Compares every stored job with the account. `restart`: claims may have been forgotten.
    pub(crate) fn audit(&mut self, store: &memory::State, restart: bool) {
        self.find_rotten(store);
        let stored = all(store);
        self.find_missing(&stored, store);
        if restart {
            self.forget_rotten(&stored);
        }
        for job in &stored {
            self.audit_end(job);
        }
        for job in &stored {
            self.audit_lease(job, restart);
        }
    }

    fn find_missing(&mut self, stored: &[Job], store: &memory::State) {
        let there: BTreeSet<JobId> = stored.iter().map(|job| job.id).collect();
        let mut lost = Vec::new();
        let mut gone = 0;
        for (id, job) in &mut self.jobs {
            if there.contains(id) {
                continue;
            }
            if job.state.is_terminal() {
                job.purged = true;
                gone += 1;
            } else {
                lost.push(*id);
            }
        }
        if let Some(id) = lost.first() {
            self.violated(Rule::Kept, format!("{} accepted jobs are gone, {id} first", lost.len()));
        }
        if gone != store.stats().purged {
            // An end that is neither stored nor purged was lost with its job.
            self.violated(Rule::Kept, format!("{gone} ended jobs are gone and {} were purged", store.stats().purged));
        }
    }

    fn audit_end(&mut self, job: &Job) {
        let Some(watched) = self.jobs.get(&job.id) else {
            return self.violated(Rule::FromARequest, format!("job {} is stored and was never accepted", job.id));
        };
        let stored = job.state.name();
        if watched.state.is_terminal() && watched.state != stored {
            let what = format!("job {} had ended {} and is {}", job.id, watched.state.as_str(), stored.as_str());
            return self.violated(Rule::EndsStay, what);
        }
        if watched.state != StateName::Succeeded && stored == StateName::Succeeded {
            let what = format!("job {} is succeeded and nobody reported it", job.id);
            self.violated(Rule::SuccessIsReal, what);
        }
    }

    /// That a claim found a job rotten need not have been synced: it waits again, and will be found again.
    fn forget_rotten(&mut self, stored: &[Job]) {
        for job in stored.iter().filter(|job| job.state.name() == StateName::Pending) {
            let found = |watched: &super::Watched| watched.may_rot && watched.state == StateName::Dead;
            if self.jobs.get(&job.id).is_some_and(found) {
                self.move_to(job.id, StateName::Pending, "claim: forgotten by a crash");
            }
        }
    }

    /// A claim ends what it finds rotten, and says nothing of it.
    pub(super) fn find_rotten(&mut self, store: &memory::State) {
        let may_rot =
            |(id, job): (&JobId, &super::Watched)| (job.may_rot && job.state == StateName::Pending).then_some(*id);
        for id in self.jobs.iter().filter_map(may_rot).collect::<Vec<_>>() {
            let state = store.job(id).map(|found| found.job.state);
            if matches!(state, Some(State::Dead { reason: DeadReason::Corrupt, .. })) {
                if let Some(watched) = self.jobs.get_mut(&id) {
                    watched.blocks = watched.ordering.is_some() && self.sites[watched.site].blocks_on_dead;
                }
                self.move_to(id, StateName::Dead, "corrupt: dead");
            }
        }
    }

    fn audit_lease(&mut self, job: &Job, restart: bool) {
        let Some(watched) = self.jobs.get_mut(&job.id) else { return };
        let stored = match &job.state {
            State::Leased(lease) => Some(lease.epoch),
            State::Pending(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => None,
        };
        let live = watched.live.as_ref().map(|live| live.epoch);
        if stored == live && watched.state == job.state.name() {
            return;
        }
        if restart && watched.state == StateName::Leased && job.state.name() == StateName::Pending {
            watched.forgotten += 1;
            return self.move_to(job.id, StateName::Pending, "claim: forgotten by a crash");
        }
        let what = format!(
            "job {} is {} under {stored:?}; by its answers it is {} under {live:?}",
            job.id,
            job.state.name().as_str(),
            watched.state.as_str()
        );
        self.violated(if restart { Rule::EndsStay } else { Rule::OneLease }, what);
    }

    /// Long after all is well nothing waits for the end of an outage that is over.
    pub(crate) fn check_released(&mut self, store: &memory::State, now: Timestamp) {
        let waits = |job: &Job| match &job.state {
            // What is due by its own time waits for its turn.
            State::Pending(pending) if pending.cause == Cause::Destination && pending.run_at > now => {
                let site = self.names.get(&job.destination).map(|site| &self.sites[*site]);
                let is_over =
                    |site: &SiteAccount| pending.fail_epoch < site.epoch && site.gate != Some(GateStateName::Open);
                site.is_some_and(is_over) && now.since(job.updated_at) >= TURN
            }
            State::Pending(_)
            | State::Leased(_)
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. } => false,
        };
        // One that waits behind another of its ordering key is due, and cannot go.
        if let Some(job) = all(store).iter().find(|job| job.ordering_key.is_none() && waits(job)) {
            let what = format!("at {now} job {} still waits out an outage: {:?}", job.id, job.state);
            self.violated(Rule::EverythingEnds, what);
        }
    }

    /// The bound is over and not all has ended.
    pub(crate) fn nothing_is_left(&mut self, unacknowledged: usize, store: &memory::State, now: Us) {
        self.audit(store, false);
        let open: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.state.is_terminal())
            .take(NAMED)
            .filter_map(|(id, _)| store.job(*id))
            .map(|found| format!("{} {:?} {:?}", found.job.id, found.job.state, found.job.progress))
            .collect();
        let what = format!(
            "at {} ms {} jobs are open and {unacknowledged} posts unacknowledged: {}",
            super::millis(now),
            self.open,
            open.join("; ")
        );
        self.violated(Rule::EverythingEnds, what);
    }
}

/// All jobs, latest first.
fn all(store: &memory::State) -> Vec<Job> {
    let (mut jobs, mut below) = (Vec::new(), None);
    loop {
        let page = store.list(&Filter::default(), below, 1_000);
        jobs.extend(page.jobs);
        below = page.next;
        if below.is_none() {
            return jobs;
        }
    }
}
