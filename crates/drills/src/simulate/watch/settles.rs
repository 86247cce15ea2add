//! Reports, lapses, cancels and redrives, as the watch sees them.

use jobs_core::job::{Attempt, Epoch, Job, JobId, State, StateName, WorkerId};
use jobs_core::lease::{LEASE_TERM, LeaseKey};
use jobs_core::lifecycle::{Cancel, Redrive, SettleResult};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::store::{Report, SettleAnswer, Settlement, Swept};
use jobs_core::time::{Now, Timestamp};

use super::{Rule, Watch, legal, named};

impl Watch {
    /// A report was committed.
    pub(crate) fn settled(&mut self, worker: WorkerId, settlements: &[Settlement], answers: &[SettleAnswer]) {
        for (settlement, answer) in settlements.iter().zip(answers) {
            self.step += 1;
            let key = settlement.key;
            match answer {
                SettleAnswer::UnknownJob => {
                    if self.jobs.get(&key.job_id).is_some_and(|job| !job.state.is_terminal()) {
                        self.violated(Rule::Kept, format!("{key:?} is of a job the store does not know"));
                    }
                }
                SettleAnswer::Known { result, job, attempt, ended } => {
                    let ended = ended.map(|(key, _)| key.epoch);
                    self.settled_one(worker, settlement, *result, job, attempt.as_ref(), ended);
                }
            }
        }
    }

    fn settled_one(
        &mut self,
        worker: WorkerId,
        settlement: &Settlement,
        result: SettleResult,
        after: &Job,
        attempt: Option<&Attempt>,
        ended: Option<Epoch>,
    ) {
        let key = settlement.key;
        let Some(watched) = self.jobs.get_mut(&key.job_id) else { return };
        let (before, generation) = (watched.state, watched.generation);
        let live = watched.live.as_ref().map(|live| live.epoch);
        let held = live == Some(key.epoch);
        let claim = watched.claims.iter_mut().find(|claim| claim.epoch == key.epoch);
        let of_this_generation = claim.as_ref().is_some_and(|claim| claim.generation == generation);
        if let Some(claim) = claim {
            claim.reported = true;
        }
        let is_ok = matches!(&settlement.report, Report::Attempted(outcome) if outcome.class == Class::Ok);
        match result {
            SettleResult::Applied => {}
            SettleResult::Repeated => return self.note("settle: repeated"),
            SettleResult::LeaseLost | SettleResult::AlreadyFinished => {
                if held {
                    self.violated(Rule::OneLease, format!("{key:?} is live and its report was refused: {result:?}"));
                } else if is_ok && of_this_generation && before != StateName::Succeeded {
                    self.violated(Rule::SuccessIsReal, format!("the ok of {key:?} was dropped: {result:?}"));
                }
                // Of a job that was redriven meanwhile: nothing to it, and yet its destination said ok.
                if is_ok {
                    self.note_ok(key.job_id);
                }
                let lost = result == SettleResult::LeaseLost;
                return self.note(if lost { "settle: lease lost" } else { "settle: already finished" });
            }
        }
        if !held && (!is_ok || !of_this_generation) {
            let what = format!("worker {} reported {key:?} while {live:?} was live, and it was taken", named(worker));
            return self.violated(Rule::OneLease, what);
        }
        if ended != live {
            return self
                .violated(Rule::OneLease, format!("the report of {key:?} ended {ended:?}, and {live:?} was live"));
        }
        match &settlement.report {
            Report::Released => self.released(key, after, attempt),
            Report::Attempted(_) if is_ok && !held => self.late_ok(key, before, after),
            Report::Attempted(outcome) => self.attempted(key, worker, outcome, after, attempt),
        }
    }

    fn released(&mut self, key: LeaseKey, after: &Job, attempt: Option<&Attempt>) {
        let Some(watched) = self.jobs.get_mut(&key.job_id) else { return };
        let arrived = watched.claims.iter_mut().find(|claim| claim.epoch == key.epoch).is_some_and(|claim| {
            claim.released = true;
            claim.arrived
        });
        let restored = match &after.state {
            State::Pending(pending) => watched.live.as_ref().is_some_and(|live| live.from == *pending),
            State::Cancelled { .. } => watched.cancel_requested,
            State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } => false,
        };
        if arrived {
            self.violated(Rule::DeliveriesExplained, format!("{key:?} was sent, and released as unsent"));
        }
        if attempt.is_some() || !restored {
            self.violated(Rule::AttemptsAreSends, format!("{key:?} was released and is now {:?}", after.state));
        }
        let cancelled = after.state.name() == StateName::Cancelled;
        let label = if cancelled { "release: cancelled" } else { "release: waits again" };
        self.move_to(key.job_id, after.state.name(), label);
    }

    fn late_ok(&mut self, key: LeaseKey, before: StateName, after: &Job) {
        self.check_success(key, after);
        match legal::of_late_ok(before) {
            Some(label) => self.move_to(key.job_id, after.state.name(), label),
            None => self.violated(Rule::EndsStay, format!("a late ok of {key:?} was taken twice")),
        }
        self.note_ok(key.job_id);
    }

    fn attempted(
        &mut self,
        key: LeaseKey,
        worker: WorkerId,
        outcome: &Outcome,
        after: &Job,
        attempt: Option<&Attempt>,
    ) {
        let Some(attempt) = attempt else {
            return self.violated(Rule::AttemptsAreSends, format!("{key:?} was settled and left no attempt"));
        };
        if attempt.charged {
            self.check_charge(key, worker, outcome.class);
        }
        match outcome.class {
            Class::Ok => self.check_success(key, after),
            Class::JobFail | Class::Suspect => self.note_alive(key.job_id),
            Class::Overload | Class::Down | Class::Error => self.note_failure(key.job_id),
        }
        if after.state.name() == StateName::Pending
            && self.jobs.get(&key.job_id).is_some_and(|job| job.cancel_requested)
        {
            self.violated(Rule::CancelsCount, format!("{key:?} was to be cancelled and waits again"));
        }
        let is_failure = outcome.class != Class::Ok;
        let step = self.step;
        if let Some(watched) = self.jobs.get_mut(&key.job_id) {
            watched.failures += u32::from(is_failure);
            watched.failed_claim = watched.live.as_ref().map_or(0, |live| live.begun);
            watched.last_settle = step;
            if outcome.class == Class::Down {
                watched.last_down = step;
            }
            watched.blocks = after.state.name() == StateName::Dead
                && watched.ordering.is_some()
                && self.sites[watched.site].blocks_on_dead;
        }
        match legal::of_settle(&after.state, attempt.charged) {
            Some(label) => self.move_to(key.job_id, after.state.name(), label),
            None => self.violated(Rule::EndsStay, format!("{key:?} was settled to {:?}", after.state)),
        }
        if outcome.class == Class::Ok {
            self.note_ok(key.job_id);
        }
    }

    fn check_success(&mut self, key: LeaseKey, after: &Job) {
        let oks = self.jobs.get(&key.job_id).map_or(0, |job| job.oks);
        if after.state.name() != StateName::Succeeded || oks == 0 {
            let what =
                format!("{key:?} was reported ok, is {:?}, and its destination said ok {oks} times", after.state);
            self.violated(Rule::SuccessIsReal, what);
        }
    }

    /// A failure may be charged only if other jobs fare better.
    fn check_charge(&mut self, key: LeaseKey, worker: WorkerId, class: Class) {
        let Some(job) = self.jobs.get(&key.job_id) else { return };
        let site = &self.sites[job.site];
        let begun = job.live.as_ref().map_or(u64::MAX, |live| live.begun);
        let since_previous = |previous: u64| if previous == 0 { begun } else { begun.min(previous) };
        let other_ok = match site.latest_ok {
            Some((latest, at)) if latest != key.job_id => at,
            Some(_) => site.ok_of_another,
            None => 0,
        };
        let alone = !site.failing.iter().any(|failing| *failing != key.job_id);
        let fair = match class {
            Class::Suspect => true,
            Class::Overload => other_ok > since_previous(job.last_settle),
            Class::Down => other_ok > since_previous(job.last_down),
            Class::Error => other_ok > begun || alone,
            Class::Ok | Class::JobFail => false,
        };
        if !fair {
            let what = format!("{key:?} of worker {} was charged for {}", named(worker), class.as_str());
            self.violated(Rule::OutagesAreFree, what);
        }
    }

    fn note_ok(&mut self, id: JobId) {
        let (step, Some(job)) = (self.step, self.jobs.get(&id)) else { return };
        let site = &mut self.sites[job.site];
        site.alive = step;
        site.failing.clear();
        if let Some((_, at)) = site.latest_ok.filter(|(before, _)| *before != id) {
            site.ok_of_another = at;
        }
        site.latest_ok = Some((id, step));
    }

    fn note_alive(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            self.sites[job.site].alive = self.step;
        }
    }

    fn note_failure(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            self.sites[job.site].failing.insert(id);
        }
    }

    /// A worker is told that its reports were taken.
    pub(crate) fn reports_taken(&mut self, settlements: &[Settlement]) {
        for settlement in settlements {
            let key = settlement.key;
            let claim = |job: &super::Watched| job.claims.iter().find(|claim| claim.epoch == key.epoch).cloned();
            let claim = self.jobs.get(&key.job_id).filter(|job| !job.purged).and_then(claim);
            if claim.is_some_and(|claim| !claim.reported) {
                self.violated(Rule::DurableFirst, format!("the report of {key:?} is taken and not stored"));
            }
        }
    }

    /// Leases lapsed and jobs expired.
    pub(crate) fn swept(&mut self, swept: &Swept, now: Now) {
        for (key, _, after) in &swept.lapsed {
            self.step += 1;
            let live = self.jobs.get(&key.job_id).and_then(|job| job.live.clone());
            match live.filter(|live| live.epoch == key.epoch) {
                Some(live) if now.mono.since(live.renewed) < LEASE_TERM => {
                    let held = now.mono.since(live.renewed);
                    self.violated(Rule::OneClock, format!("{key:?} lapsed {held:?} after it was renewed"));
                }
                Some(_) => {}
                None => self.violated(Rule::OneLease, format!("{key:?} lapsed and was not live")),
            }
            if let Some(watched) = self.jobs.get_mut(&key.job_id) {
                watched.lapses += 1;
                watched.failed_claim = u64::MAX;
                watched.blocks = after.state.name() == StateName::Dead
                    && watched.ordering.is_some()
                    && self.sites[watched.site].blocks_on_dead;
            }
            // One whose time has run out as well is in both lists, as it was left in the end.
            let expired = swept.expired.iter().any(|job| job.id == key.job_id);
            match legal::of_lapse(&after.state) {
                Some(label) => self.move_to(key.job_id, after.state.name(), label),
                None if expired => self.move_to(key.job_id, StateName::Pending, "lapse: waits again"),
                None => self.violated(Rule::EndsStay, format!("{key:?} lapsed to {:?}", after.state)),
            }
        }
        for after in &swept.expired {
            self.step += 1;
            let pending = self.jobs.get(&after.id).is_some_and(|job| job.state == StateName::Pending);
            if let Some(watched) = self.jobs.get_mut(&after.id) {
                watched.blocks = watched.ordering.is_some() && self.sites[watched.site].blocks_on_dead;
            }
            match legal::of_expiry(&after.state) {
                Some(label) if pending => self.move_to(after.id, StateName::Dead, label),
                _ => self.violated(Rule::EndsStay, format!("job {} expired to {:?}", after.id, after.state)),
            }
        }
    }

    pub(crate) fn cancelled(&mut self, answer: Cancel, after: &Job) {
        self.step += 1;
        let Some(watched) = self.jobs.get_mut(&after.id) else { return };
        let before = watched.state;
        match (answer, before) {
            (Cancel::Cancelled, StateName::Pending) => self.move_to(after.id, StateName::Cancelled, "cancel: pending"),
            (Cancel::Cancelled, StateName::Dead) if watched.blocks => {
                self.move_to(after.id, StateName::Cancelled, "cancel: blocking head");
            }
            (Cancel::Requested, StateName::Leased) => {
                watched.cancel_requested = true;
                self.note("cancel: leased");
            }
            (Cancel::AlreadyCancelled, StateName::Cancelled) => self.note("cancel: already cancelled"),
            (Cancel::Finished, StateName::Succeeded | StateName::Dead) => self.note("cancel: finished"),
            (answer, before) => {
                let what = format!("job {} was {} and the cancel answered {answer:?}", after.id, before.as_str());
                self.violated(Rule::EndsStay, what);
            }
        }
    }

    pub(crate) fn redriven(&mut self, answer: Redrive, after: &Job) {
        self.step += 1;
        let Some(watched) = self.jobs.get_mut(&after.id) else { return };
        let label = match (answer, watched.state) {
            (Redrive::Redriven, StateName::Dead) => "redrive: dead",
            (Redrive::Redriven, StateName::Cancelled) => "redrive: cancelled",
            (Redrive::RunNow, StateName::Pending) => {
                watched.not_before = Timestamp::default();
                return self.note("redrive: run now");
            }
            (Redrive::Leased, StateName::Leased) => return self.note("redrive: leased"),
            (Redrive::Succeeded, StateName::Succeeded) => return self.note("redrive: succeeded"),
            (answer, before) => {
                let what = format!("job {} was {} and the redrive answered {answer:?}", after.id, before.as_str());
                return self.violated(Rule::EndsStay, what);
            }
        };
        watched.generation += 1;
        watched.last_settle = 0;
        watched.last_down = 0;
        watched.blocks = false;
        self.move_to(after.id, StateName::Pending, label);
    }
}
