//! What the store keeps for operators, over jobs in memory. See [`crate::steering::Steering`] for each verb.

use async_trait::async_trait;

use super::MemoryStore;
use super::state::{MAX_PAGE, State, matches};
use crate::job::JobId;
use crate::job::StateName;
use crate::lifecycle;
use crate::redrive::{Change, MassRedrive, Plan, Unfit};
use crate::steering::{AUDIT_LINES, Act, AuditLine, MASS_REDRIVES, Redriven, Resolution, Resolve, Steering};
use crate::store::{Filter, Page, Steered, StoreError};
use crate::time::Now;

impl State {
    /// A page is short only at the end.
    pub fn find(&self, filter: &Filter, above: u64, limit: u32) -> Page {
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let found = self.shelf.earliest_first(above).filter(|record| matches(filter, record));
        let mut jobs: Vec<_> = found.take(limit + 1).map(|record| record.job.clone()).collect();
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let next = jobs.last().filter(|_| has_more).map(|job| job.seq);
        Page { jobs, next }
    }

    pub fn resolve(&mut self, id: JobId, resolution: Resolution) -> Steered<Resolve> {
        let seq = self.shelf.seq_of(id)?;
        let answer = self.shelf.change(seq, |record| match record.job.state.name() {
            StateName::Dead => {
                record.resolution = Some(resolution);
                Resolve::Resolved
            }
            StateName::Pending | StateName::Leased | StateName::Succeeded | StateName::Cancelled => Resolve::NotDead,
        });
        Some((answer, self.shelf.get(seq).job.clone()))
    }

    pub fn start_redrive(&mut self, plan: Plan, by: String, now: Now) -> MassRedrive {
        self.last_redrive += 1;
        let redrive = MassRedrive::new(self.last_redrive, plan, by, now.wall);
        self.shelf.redrives.insert(redrive.number, redrive.clone());
        self.shelf.redrives.retain(|number, _| *number > redrive.number.saturating_sub(MASS_REDRIVES));
        redrive
    }

    pub fn change_redrive(
        &mut self,
        number: u32,
        change: Change,
        now: Now,
    ) -> Option<(Result<(), Unfit>, MassRedrive)> {
        let redrive = self.shelf.redrives.get_mut(&number)?;
        let answer = redrive.apply(change, now.wall);
        Some((answer, redrive.clone()))
    }

    pub fn redrive_step(&mut self, number: u32, ids: &[JobId], to: u64, end: bool, now: Now) -> Option<Redriven> {
        let redrive = self.shelf.redrives.get(&number)?.clone();
        let (last_issued, mut jobs) = (self.shelf.last_epoch, Vec::new());
        if !redrive.may_redrive() {
            return Some(Redriven { redrive, jobs });
        }
        for seq in ids.iter().filter_map(|id| self.shelf.seq_of(*id)).collect::<Vec<_>>() {
            let is_redriven = self.shelf.change(seq, |record| {
                redrive.still_wants(&record.job)
                    && lifecycle::redrive_with_others(
                        &mut record.job,
                        number,
                        redrive.plan.new_key,
                        last_issued,
                        now.wall,
                    )
            });
            if is_redriven {
                jobs.push(self.shelf.get(seq).job.clone());
            }
        }
        let redrive = self.shelf.redrives.get_mut(&number)?;
        let (redriven, wanted) = (jobs.len() as u64, ids.len() as u64);
        redrive.advance(to, redriven, wanted - redriven, end, now.wall);
        Some(Redriven { redrive: redrive.clone(), jobs })
    }

    pub fn note(&mut self, act: Act) {
        self.last_act += 1;
        self.audit.push_back(AuditLine { number: self.last_act, act });
        if self.audit.len() as u64 > AUDIT_LINES {
            self.audit.pop_front();
        }
    }

    pub fn audit(&self, below: Option<u64>, limit: u32) -> Vec<AuditLine> {
        let lines = self.audit.iter().rev().filter(|line| below.is_none_or(|below| line.number < below));
        lines.take(limit.clamp(1, MAX_PAGE) as usize).cloned().collect()
    }
}

#[async_trait]
impl Steering for MemoryStore {
    async fn find(&self, filter: Filter, above: u64, limit: u32) -> Result<Page, StoreError> {
        self.step(|state| state.find(&filter, above, limit))
    }

    async fn resolve(&self, id: JobId, resolution: Resolution) -> Result<Steered<Resolve>, StoreError> {
        self.step(|state| state.resolve(id, resolution))
    }

    async fn start_redrive(&self, plan: Plan, by: String, now: Now) -> Result<MassRedrive, StoreError> {
        self.step(|state| state.start_redrive(plan, by, now))
    }

    async fn mass_redrive(&self, number: u32) -> Result<Option<MassRedrive>, StoreError> {
        self.step(|state| state.shelf.redrives.get(&number).cloned())
    }

    async fn mass_redrives(&self, limit: u32) -> Result<Vec<MassRedrive>, StoreError> {
        self.step(|state| state.shelf.redrives.values().rev().take(limit as usize).cloned().collect())
    }

    async fn change_redrive(
        &self,
        number: u32,
        change: Change,
        now: Now,
    ) -> Result<Option<(Result<(), Unfit>, MassRedrive)>, StoreError> {
        self.step(|state| state.change_redrive(number, change, now))
    }

    async fn redrive_step(
        &self,
        number: u32,
        jobs: Vec<JobId>,
        to: u64,
        end: bool,
        now: Now,
    ) -> Result<Option<Redriven>, StoreError> {
        self.step(|state| state.redrive_step(number, &jobs, to, end, now))
    }

    async fn note(&self, act: Act) -> Result<(), StoreError> {
        self.step(|state| state.note(act))
    }

    async fn audit(&self, below: Option<u64>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.step(|state| state.audit(below, limit))
    }
}
