//! The jobs, with every index that a verb needs to find them. Each job changes through [`Shelf::change`], so that no index
//! can be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::keys::KeyName;
use super::lane::Lane;
use crate::callback;
use crate::destination::{OrderingOnDead, Policy};
use crate::job::{Attempt, DestinationName, Job, JobId, NewJob, Request, State, StateName};
use crate::lifecycle;
use crate::outcome::Response;
use crate::redrive::{self, MassRedrive};
use crate::steering::Resolution;
use crate::store::Retention;
use crate::time::Timestamp;

/// A job with all that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) job: Job,
    pub(super) request: Request,
    pub(super) attempts: Vec<Attempt>,
    pub(super) response: Option<(Option<u16>, Response)>,
    pub(super) key: Option<KeyName>,
    /// Dead, and its destination said when it died that a dead head blocks its ordering key.
    pub(super) blocks: bool,
    /// Dead, and settled otherwise.
    pub(super) resolution: Option<Resolution>,
}

impl Record {
    /// To be called where the job may just have died: whether it blocks is decided now, by the policy of this moment.
    pub(super) fn decide_blocking(&mut self, policy: &Policy) {
        let is_dead = self.job.state.name() == StateName::Dead;
        self.blocks = is_dead && self.job.ordering_key.is_some() && policy.ordering_on_dead == OrderingOnDead::Block;
    }
}

/// All jobs by `seq`, and where to find them.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// The last one given; also how many jobs were ever accepted.
    pub(super) last_seq: u64,
    records: BTreeMap<u64, Record>,
    by_id: BTreeMap<JobId, u64>,
    lanes: BTreeMap<DestinationName, Lane>,
    /// Waiting jobs by the moment they are to be ended.
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// Succeeded and cancelled jobs by their end.
    done: BTreeSet<(Timestamp, u64)>,
    /// Dead jobs that block nobody, by their end.
    dead: BTreeSet<(Timestamp, u64)>,
    counts: BTreeMap<DestinationName, BTreeMap<StateName, u64>>,
    resolved: BTreeMap<DestinationName, u64>,
    /// By number. Here because each counts what becomes of its jobs.
    pub(super) redrives: BTreeMap<u32, MassRedrive>,
}

impl Shelf {
    /// A new job is stored. `key`: of its idempotency.
    pub(super) fn accept(&mut self, new: NewJob, key: Option<KeyName>, now: Timestamp) -> Job {
        self.last_seq += 1;
        let (job, request) = lifecycle::enqueue(new, self.last_seq, now);
        self.insert(Record {
            job: job.clone(),
            request,
            attempts: Vec::new(),
            response: None,
            key,
            blocks: false,
            resolution: None,
        });
        job
    }

    fn insert(&mut self, record: Record) {
        let seq = record.job.seq;
        self.by_id.insert(record.job.id, seq);
        self.index(&record);
        self.records.insert(seq, record);
    }

    /// Changes the job `seq` in place.
    pub(super) fn change<T>(&mut self, seq: u64, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.records.remove(&seq).expect("a seq comes from an index of this shelf");
        self.unindex(&record);
        let (told, was) = (redrive::verdict(&record.job), record.job.state.name());
        let answer = change(&mut record);
        if record.job.state.name() != StateName::Dead {
            record.blocks = false;
            record.resolution = None;
        }
        if told.is_none()
            && let Some((number, verdict)) = redrive::verdict(&record.job)
            && let Some(redrive) = self.redrives.get_mut(&number)
        {
            redrive.tally.count(verdict, 1);
        }
        let is = record.job.state.name();
        self.index(&record);
        self.records.insert(seq, record);
        if is != was && is.is_terminal() {
            self.tell_caller(seq);
        }
        answer
    }

    /// The job has just ended: its caller is told, if that is wanted, and not also that it is still being tried.
    fn tell_caller(&mut self, seq: u64) {
        let Record { job, response, .. } = self.get(seq);
        let Some(new) = callback::of_end(job, response.as_ref()) else { return };
        let (notice, now) = (callback::notice_id(job), job.updated_at);
        if let Some(notice) = self.seq_of(notice).filter(|seq| self.get(*seq).job.state.name() == StateName::Pending) {
            self.change(notice, |record| lifecycle::cancel(&mut record.job, OrderingOnDead::Free, now));
        }
        if self.seq_of(new.id).is_none() {
            self.accept(new, None, now);
        }
    }

    pub(super) fn remove(&mut self, seq: u64) -> Record {
        let record = self.records.remove(&seq).expect("a seq comes from an index of this shelf");
        self.by_id.remove(&record.job.id);
        self.unindex(&record);
        record
    }

    pub(super) fn seq_of(&self, id: JobId) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, seq: u64) -> &Record {
        self.records.get(&seq).expect("a seq comes from an index of this shelf")
    }

    pub(super) fn find(&self, id: JobId) -> Option<&Record> {
        self.seq_of(id).map(|seq| self.get(seq))
    }

    /// Jobs accepted before `below`, latest first.
    pub(super) fn latest_first(&self, below: u64) -> impl Iterator<Item = &Record> {
        self.records.range(..below).rev().map(|(_, record)| record)
    }

    /// Jobs accepted after `above`, earliest first.
    pub(super) fn earliest_first(&self, above: u64) -> impl Iterator<Item = &Record> {
        self.records.range(above.saturating_add(1)..).map(|(_, record)| record)
    }

    pub(super) fn lane(&self, destination: &DestinationName) -> Option<&Lane> {
        self.lanes.get(destination)
    }

    pub(super) fn lane_mut(&mut self, seq: u64) -> (&mut Lane, &Record) {
        let record = self.records.get(&seq).expect("a seq comes from an index of this shelf");
        (self.lanes.entry(record.job.destination.clone()).or_default(), record)
    }

    /// Waiting jobs past their deadline, the earliest first, `limit` at most.
    pub(super) fn out_of_time(&self, now: Timestamp, limit: usize) -> Vec<u64> {
        self.deadlines.range(..=(now, u64::MAX)).take(limit).map(|(_, seq)| *seq).collect()
    }

    /// Finished jobs that have been kept as long as `retention` says, `limit` at most.
    pub(super) fn past_retention(&self, retention: Retention, now: Timestamp, limit: usize) -> Vec<u64> {
        fn past(ended: &BTreeSet<(Timestamp, u64)>, keep: Duration, now: Timestamp) -> impl Iterator<Item = u64> {
            ended.iter().take_while(move |(at, _)| at.plus(keep) <= now).map(|(_, seq)| *seq)
        }
        let done = past(&self.done, retention.succeeded, now);
        done.chain(past(&self.dead, retention.dead, now)).take(limit).collect()
    }

    pub(super) fn counts(&self) -> &BTreeMap<DestinationName, BTreeMap<StateName, u64>> {
        &self.counts
    }

    /// Resolved jobs by destination.
    pub(super) fn resolved(&self) -> &BTreeMap<DestinationName, u64> {
        &self.resolved
    }

    fn index(&mut self, record: &Record) {
        let (job, seq) = (&record.job, record.job.seq);
        self.lanes.entry(job.destination.clone()).or_default().put(record);
        if let Some(index) = self.by_time(record) {
            index.0.insert((index.1, seq));
        }
        *self.counts.entry(job.destination.clone()).or_default().entry(job.state.name()).or_default() += 1;
        *self.resolved.entry(job.destination.clone()).or_default() += u64::from(record.resolution.is_some());
    }

    fn unindex(&mut self, record: &Record) {
        let (job, seq) = (&record.job, record.job.seq);
        self.lanes.entry(job.destination.clone()).or_default().take(record);
        if let Some(index) = self.by_time(record) {
            index.0.remove(&(index.1, seq));
        }
        *self.counts.entry(job.destination.clone()).or_default().entry(job.state.name()).or_default() -= 1;
        *self.resolved.entry(job.destination.clone()).or_default() -= u64::from(record.resolution.is_some());
    }

    /// The index by time that a job belongs to, and its moment there.
    fn by_time(&mut self, record: &Record) -> Option<(&mut BTreeSet<(Timestamp, u64)>, Timestamp)> {
        match &record.job.state {
            State::Pending(_) => lifecycle::deadline(&record.job).map(|at| (&mut self.deadlines, at)),
            State::Leased(_) => None,
            State::Succeeded { at } | State::Cancelled { at } => Some((&mut self.done, *at)),
            State::Dead { at, .. } if !record.blocks => Some((&mut self.dead, *at)),
            State::Dead { .. } => None,
        }
    }
}
