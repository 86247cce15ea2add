//! Watches a run: keeps its own account of every job, from what was asked and what was answered, and says when an invariant of
//! the contract is broken.
//!
//! It shares nothing with what it watches but the messages that go in and come out, so that a mistake in the rules cannot hide
//! in a copy of itself. Checks are made as things happen; now and then, after each restart and at the end, all that is stored
//! is compared with the account ([`Watch::audit`]).

mod audit;
mod claims;
mod legal;
mod rule;
mod settles;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jobs_core::destination::OrderingOnDead;
use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::job::{DestinationName, Epoch, JobId, NewJob, Pending, StateName, WorkerId};
use jobs_core::lease::LeaseKey;
use jobs_core::time::{Mono, Timestamp};

pub use self::legal::TRANSITIONS;
pub use self::rule::{Rule, Violation};
use super::gateway::{Gateway, body_of};
use super::plan::{Plan, Post, Temper, Us};

/// A request of which the gateway has made a job.
#[derive(Debug, Clone)]
struct Offer {
    post: usize,
    not_before: Timestamp,
    other_body: bool,
    keyed: bool,
    ordering: Option<String>,
}

/// A lease that is live, by this account.
#[derive(Debug, Clone)]
struct Live {
    epoch: Epoch,
    renewed: Mono,
    /// What a release must restore.
    from: Pending,
    /// When it was granted, by the watch's own count of steps.
    begun: u64,
    /// The destination's epoch, and whether it counts against the limit: a lease of a present start that is no probe.
    destination_epoch: u64,
    counts: bool,
}

/// A claim that was made.
#[derive(Debug, Clone)]
struct Claim {
    epoch: Epoch,
    arrived: bool,
    released: bool,
    /// A report of it was settled.
    reported: bool,
    generation: u32,
}

/// A job, by this account.
#[derive(Debug, Clone)]
struct Watched {
    post: usize,
    other_body: bool,
    site: usize,
    seq: u64,
    ordering: Option<String>,
    /// By what its caller asked for.
    not_before: Timestamp,
    state: StateName,
    /// Dead, and nobody of its ordering key may pass.
    blocks: bool,
    generation: u32,
    cancel_requested: bool,
    live: Option<Live>,
    claims: Vec<Claim>,
    /// Answers 2xx by its destination.
    oks: u32,
    arrivals: u32,
    failures: u32,
    lapses: u32,
    forgotten: u32,
    /// Step of the claim whose failure makes it wait, and of its latest settle.
    failed_claim: u64,
    last_settle: u64,
    last_down: u64,
    may_rot: bool,
    purged: bool,
    accepted_at: Us,
    first_ok_at: Option<Us>,
}

/// What is known of a destination.
#[derive(Debug, Default)]
struct SiteAccount {
    blocks_on_dead: bool,
    /// Step of the latest answer that shows it alive.
    alive: u64,
    latest_ok: Option<(JobId, u64)>,
    ok_of_another: u64,
    /// Jobs that failed since the last ok.
    failing: BTreeSet<JobId>,
    /// Live leases by destination epoch.
    in_flight: BTreeMap<u64, u32>,
    gate: Option<GateStateName>,
    reason: Option<String>,
    trips: u64,
    /// How often it has recovered, by its gate.
    epoch: u64,
    /// When probes were claimed in the present outage.
    probes: Vec<Mono>,
}

/// The account of a run.
pub(super) struct Watch {
    jobs: BTreeMap<JobId, Watched>,
    offers: BTreeMap<JobId, Offer>,
    by_post: Vec<Option<JobId>>,
    by_seq: BTreeMap<u64, JobId>,
    chains: BTreeMap<(usize, String), BTreeSet<u64>>,
    sites: Vec<SiteAccount>,
    names: BTreeMap<DestinationName, usize>,
    accepted: u64,
    open: usize,
    last_epoch: Epoch,
    step: u64,
    dirty: bool,
    /// A stored request was spoilt: a claim may find it and end its job without a word.
    rotting: bool,
    seen: BTreeMap<&'static str, u64>,
    broken: Option<Violation>,
}

impl Watch {
    pub(super) fn new(plan: &Plan) -> Self {
        let account = |blocks_on_dead| SiteAccount { blocks_on_dead, ..SiteAccount::default() };
        let sites =
            plan.sites.iter().map(|site| account(site.settings.policy.ordering_on_dead == OrderingOnDead::Block));
        Watch {
            jobs: BTreeMap::new(),
            offers: BTreeMap::new(),
            by_post: vec![None; plan.posts.len()],
            by_seq: BTreeMap::new(),
            chains: BTreeMap::new(),
            sites: sites.collect(),
            names: plan.sites.iter().enumerate().map(|(n, site)| (site.settings.name.clone(), n)).collect(),
            accepted: 0,
            open: 0,
            last_epoch: Epoch::NONE,
            step: 1,
            dirty: false,
            rotting: false,
            seen: BTreeMap::new(),
            broken: None,
        }
    }

    pub(super) fn broken(&self) -> Option<&Violation> {
        self.broken.as_ref()
    }

    pub(super) fn violated(&mut self, rule: Rule, what: String) {
        self.broken.get_or_insert(Violation { rule, what });
    }

    /// How often each transition was seen.
    pub(super) fn transitions(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    /// Jobs that have not ended.
    pub(super) fn open_jobs(&self) -> usize {
        self.open
    }

    /// The watch's own count of steps: what a grant is dated by.
    pub(super) fn clock(&self) -> u64 {
        self.step
    }

    /// After each event of the run.
    pub(super) fn step(&mut self, gateway: &Gateway, events: u64, audit_every: u64) {
        if std::mem::take(&mut self.dirty) {
            self.check_counters(gateway.state());
        }
        if gateway.up && events.is_multiple_of(audit_every) {
            self.audit(gateway.state(), false);
        }
    }

    /// The gateway has made a job of a request; it may turn out to be a repetition.
    pub(super) fn offered(&mut self, job: &NewJob, index: usize, other_body: bool, post: &Post, now: Timestamp) {
        let ordering = post.ordering.map(|key| format!("order {key}"));
        let not_before = now.plus(Duration::from_micros(post.delay));
        self.offers.insert(job.id, Offer { post: index, not_before, other_body, keyed: post.keyed, ordering });
    }

    /// There is to be one more post.
    pub(super) fn expect_another(&mut self) {
        self.by_post.push(None);
    }

    pub(super) fn may_rot(&mut self, id: JobId) {
        self.rotting = true;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.may_rot = true;
        }
    }

    /// A request reaches a destination. Answers what the job is like, and how often it came before.
    pub(super) fn arrives(&mut self, key: LeaseKey, site: usize, body: &str, posts: &[Post]) -> (Temper, u32) {
        let Some(job) = self.jobs.get_mut(&key.job_id) else {
            self.violated(Rule::SendsAreClaimed, format!("destination {site} was sent unknown job {}", key.job_id));
            return (Temper::Good, 0);
        };
        let (nth, temper) = (job.arrivals, posts[job.post].temper);
        job.arrivals += 1;
        let claim = job.claims.iter_mut().find(|claim| claim.epoch == key.epoch);
        let explained = 1 + job.failures + job.lapses + job.forgotten + job.generation;
        let broken = match claim {
            None => Some((Rule::SendsAreClaimed, "was never claimed")),
            Some(_) if job.site != site => Some((Rule::FromARequest, "is another destination's")),
            Some(_) if body != body_of(job.post, job.other_body) => Some((Rule::FromARequest, "has another body")),
            Some(claim) if claim.arrived => Some((Rule::DeliveriesExplained, "arrives a second time")),
            Some(claim) if claim.released => Some((Rule::DeliveriesExplained, "was released as unsent")),
            Some(_) if job.arrivals > explained => Some((Rule::DeliveriesExplained, "arrives once too often")),
            Some(claim) => {
                claim.arrived = true;
                None
            }
        };
        if let Some((rule, what)) = broken {
            self.violated(rule, format!("{key:?}, as it reaches destination {site}, {what}"));
        }
        (temper, nth)
    }

    /// Its destination answered 2xx.
    pub(super) fn answered_ok(&mut self, key: LeaseKey, now: Us) {
        if let Some(job) = self.jobs.get_mut(&key.job_id) {
            job.oks += 1;
            job.first_ok_at = job.first_ok_at.or(Some(now));
        }
    }

    /// Of a destination's jobs that were done, when each was accepted and done.
    pub(super) fn deliveries(&self, site: usize) -> impl Iterator<Item = (Us, Us)> {
        let of_site = self.jobs.values().filter(move |job| job.site == site);
        of_site.filter_map(|job| Some((job.accepted_at, job.first_ok_at?)))
    }

    /// Deliveries beyond the first of each job.
    pub(super) fn duplicates(&self, site: usize) -> u64 {
        let of_site = self.jobs.values().filter(|job| job.site == site);
        of_site.map(|job| u64::from(job.oks.saturating_sub(1))).sum()
    }

    /// Why a gate was last held.
    pub(super) fn reason(&self, site: usize) -> Option<&str> {
        self.sites[site].reason.as_deref()
    }

    /// How often a gate has opened.
    pub(super) fn trips(&self, site: usize) -> u64 {
        self.sites[site].trips
    }

    /// What the gates look like.
    pub(super) fn gates(&mut self, views: &[DestinationView]) {
        for view in views {
            let Some(site) = self.names.get(&view.name).copied() else { continue };
            self.sites[site].epoch = view.epoch;
            let before = self.sites[site].gate.replace(view.state);
            if before != Some(view.state) {
                if view.state == GateStateName::Open {
                    self.sites[site].reason.clone_from(&view.reason);
                    self.sites[site].trips += 1;
                }
                if view.state != GateStateName::Open {
                    self.sites[site].probes.clear();
                }
                if let Some(label) = legal::of_gate(before, view.state) {
                    self.note(label);
                }
            }
        }
    }

    /// Dead jobs that hold up others of their ordering key.
    pub(super) fn blocking(&self) -> Vec<JobId> {
        let blocked = |job: &Watched| {
            let chain = job.ordering.as_ref().and_then(|key| self.chains.get(&(job.site, key.clone())));
            job.blocks && chain.is_some_and(|chain| chain.len() > 1)
        };
        self.jobs.iter().filter(|(_, job)| blocked(job)).map(|(id, _)| *id).collect()
    }

    fn note(&mut self, label: &'static str) {
        *self.seen.entry(label).or_default() += 1;
    }

    /// A job has another state.
    fn move_to(&mut self, id: JobId, state: StateName, label: &'static str) {
        self.note(label);
        self.dirty = true;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.open -= usize::from(!job.state.is_terminal());
        self.open += usize::from(!state.is_terminal());
        job.state = state;
        if state != StateName::Leased {
            job.cancel_requested = false;
            if let Some(live) = job.live.take().filter(|live| live.counts)
                && let Some(count) = self.sites[job.site].in_flight.get_mut(&live.destination_epoch)
            {
                *count = count.saturating_sub(1);
            }
        }
        job.blocks &= state == StateName::Dead;
        if let Some(key) = &job.ordering {
            let chain = self.chains.entry((job.site, key.clone())).or_default();
            if state.is_terminal() && !job.blocks {
                chain.remove(&job.seq)
            } else {
                chain.insert(job.seq)
            };
        }
    }
}

/// A worker by its number, for messages.
fn named(worker: WorkerId) -> u128 {
    worker.0.as_u128() >> 32
}

/// A moment as milliseconds, for messages.
pub(super) fn millis(at: Us) -> u64 {
    at / 1_000
}
