//! The jobs, with every index that a verb needs to find them. Each job changes through [`Shelf::change`], so that no index
//! can be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::keys::KeyName;
use super::lane::Lane;
use crate::destination::OrderingOnDead;
use crate::job::{Attempt, DestinationName, Job, JobId, Request, State, StateName};
use crate::lifecycle;
use crate::outcome::Response;
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
}

impl Record {
    /// To be called where the job may just have died: whether it blocks is decided now, by the policy of this moment.
    pub(super) fn decide_blocking(&mut self, on_dead: OrderingOnDead) {
        let is_dead = self.job.state.name() == StateName::Dead;
        self.blocks = is_dead && self.job.ordering_key.is_some() && on_dead == OrderingOnDead::Block;
    }
}

/// All jobs by `seq`, and where to find them.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
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
}

impl Shelf {
    pub(super) fn insert(&mut self, record: Record) {
        let seq = record.job.seq;
        self.by_id.insert(record.job.id, seq);
        self.index(&record);
        self.records.insert(seq, record);
    }

    /// Changes the job `seq` in place.
    pub(super) fn change<T>(&mut self, seq: u64, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.records.remove(&seq).expect("a seq comes from an index of this shelf");
        self.unindex(&record);
        let answer = change(&mut record);
        record.blocks &= record.job.state.name() == StateName::Dead;
        self.index(&record);
        self.records.insert(seq, record);
        answer
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

    fn index(&mut self, record: &Record) {
        let (job, seq) = (&record.job, record.job.seq);
        self.lanes.entry(job.destination.clone()).or_default().put(record);
        if let Some(index) = self.by_time(record) {
            index.0.insert((index.1, seq));
        }
        *self.counts.entry(job.destination.clone()).or_default().entry(job.state.name()).or_default() += 1;
    }

    fn unindex(&mut self, record: &Record) {
        let (job, seq) = (&record.job, record.job.seq);
        self.lanes.entry(job.destination.clone()).or_default().take(record);
        if let Some(index) = self.by_time(record) {
            index.0.remove(&(index.1, seq));
        }
        *self.counts.entry(job.destination.clone()).or_default().entry(job.state.name()).or_default() -= 1;
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
