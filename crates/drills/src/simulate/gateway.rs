//! The gateway on virtual time: the real store in memory, the real dispatcher, and a disk that takes its time.
//!
//! What a request asks for takes effect at the end of the commit it is part of, and is answered after it. A crash before that
//! end loses it without a trace; a crash after it loses only the answer. Claims need not be synced: a crash may also lose those
//! since the last commit that was. All that is in memory (grants, gates beyond their records, parked claims) is lost.

mod commit;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobs_core::destination::Destination;
use jobs_core::dispatch::{Change, GateStateName};
use jobs_core::job::{DestinationName, IdempotencyKey, JobId, NewJob, Priority, Request as Payload, WorkerId};
use jobs_core::lease::{LEASE_TERM, SWEEP_INTERVAL};
use jobs_core::memory::State;
use jobs_core::outcome::Outcome;
use jobs_core::protocol::{
    ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, WireClass, WireHealth, WireProbe,
};
use jobs_core::store::{Report, Settlement};
use jobs_core::time::{Mono, Now, Timestamp};
use uuid::Uuid;

use super::brain::{Brain, Planned};
use super::bug::Bug;
use super::network::{Answer, Call, CallId, Receipt, Request};
use super::plan::{Fault, MS, Plan, Post, RetryBy, SECOND, Us};
use super::world::{Event, GatewayEvent, Sample, World};

/// When the run begins, by the wall clock.
const EPOCH_MS: i64 = 1_700_000_000_000;
const PURGE_INTERVAL: Us = 5 * SECOND;
/// What a forgetting crash can forget: claims of the last moments.
const UNSYNCED: Us = 2 * SECOND;

pub(super) struct Gateway {
    pub(super) up: bool,
    /// The number of this start.
    pub(super) life: u32,
    booted: Us,
    pub(super) stalled_until: Us,
    /// How far the wall clock is off.
    pub(super) skew_ms: i64,
    state: State,
    /// As of the last synced commit, where something has changed since.
    synced: Option<State>,
    brain: Brain,
    policy: RetryBy,
    names: Vec<DestinationName>,
    settings: BTreeMap<DestinationName, Arc<Destination>>,
    removed: BTreeSet<usize>,
    waiting: Vec<Op>,
    committing: Vec<Op>,
    parked: Vec<Parked>,
    looks_at: Us,
    /// Calls that were heard and not answered.
    open: BTreeMap<CallId, Call>,
    /// When it will crash and forget.
    forgetting: Vec<Us>,
    last_id: u128,
    commits: u64,
    bug: Option<Bug>,
}

/// A claim that waits for work.
#[derive(Debug, Clone)]
struct Parked {
    call: Call,
    asked: ClaimRequest,
    until: Us,
}

/// Part of a commit.
#[derive(Debug)]
enum Op {
    Settle {
        call: Call,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        health: Vec<WireHealth>,
        now: Now,
    },
    Enqueue {
        call: Option<Call>,
        jobs: Vec<NewJob>,
        now: Now,
    },
    Cancel {
        call: Call,
        id: JobId,
        now: Now,
    },
    Redrive {
        call: Call,
        id: JobId,
        new_key: bool,
        now: Now,
    },
    /// Gates that have changed, and the pauses and resumes that wait for it.
    SaveGates {
        changes: Vec<Change>,
        calls: Vec<Call>,
    },
    Sweep(Now),
    Purge(Now),
    Claim {
        parked: Parked,
        planned: Planned,
    },
}

impl Gateway {
    pub(super) fn new(plan: &Plan) -> Self {
        let settings = plan.sites.iter().map(|site| (site.settings.name.clone(), Arc::new(site.settings.clone())));
        let names: Vec<DestinationName> = plan.sites.iter().map(|site| site.settings.name.clone()).collect();
        let forgets = |fault: &Fault| matches!(fault, Fault::CrashGateway { forgets: true, .. });
        let forgetting = plan.faults.iter().filter(|(_, fault)| forgets(fault)).map(|(at, _)| *at);
        Gateway {
            up: false,
            life: 0,
            booted: 0,
            stalled_until: 0,
            skew_ms: 0,
            state: State::new(1),
            synced: None,
            brain: Brain::new(1, plan.policy, &names, plan.bug),
            policy: plan.policy,
            settings: settings.collect(),
            removed: BTreeSet::new(),
            waiting: Vec::new(),
            committing: Vec::new(),
            parked: Vec::new(),
            looks_at: Us::MAX,
            open: BTreeMap::new(),
            forgetting: forgetting.collect(),
            last_id: 0,
            commits: 0,
            bug: plan.bug,
            names,
        }
    }

    fn now(&self, us: Us) -> Now {
        let wall = EPOCH_MS + i64::try_from(us / MS).unwrap_or(i64::MAX) + self.skew_ms;
        Now {
            wall: Timestamp::from_millis(wall),
            mono: Mono::from_duration(Duration::from_micros(us.saturating_sub(self.booted))),
        }
    }

    /// The present as the lease table is told.
    fn lease_now(&self, now: Now) -> Now {
        match self.bug {
            Some(Bug::LeasesByWallClock) => {
                let skew = Duration::from_millis((3_600_000 + self.skew_ms).unsigned_abs());
                Now { mono: now.mono.plus(skew), ..now }
            }
            _ => now,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.committing.is_empty() || !self.waiting.is_empty()
    }

    pub(super) fn rot(&mut self, id: JobId) {
        if let Some(synced) = &mut self.synced {
            synced.rot(id);
        }
        self.state.rot(id);
    }

    pub(super) fn sample(&self, name: &DestinationName, at_ms: u64) -> Sample {
        let counts = self.state.stats().destinations.remove(name).unwrap_or_default();
        let of = |state| counts.get(&state).copied().unwrap_or_default();
        let view = self.brain.views().into_iter().find(|view| view.name == *name);
        let gated = view.filter(|_| self.policy == RetryBy::Gate);
        Sample {
            at_ms,
            waiting: of(jobs_core::job::StateName::Pending),
            in_flight: of(jobs_core::job::StateName::Leased),
            limit: gated.as_ref().map(|view| view.limit),
            rate: gated.as_ref().and_then(|view| view.rate),
            open: gated.is_some_and(|view| view.state == GateStateName::Open),
        }
    }

    /// The destinations as configured now.
    fn configured(&self) -> BTreeMap<DestinationName, Arc<Destination>> {
        let is_there = |name: &DestinationName| {
            self.names.iter().position(|known| known == name).is_none_or(|index| !self.removed.contains(&index))
        };
        self.settings.iter().filter(|(name, _)| is_there(name)).map(|(name, set)| (name.clone(), set.clone())).collect()
    }

    fn new_job(&mut self, index: usize, post: &Post, other_body: bool, now: Now) -> NewJob {
        self.last_id += 1;
        let mut body = body_of(index, other_body);
        if self.bug == Some(Bug::ChangesPayload) && self.last_id.is_multiple_of(9) {
            body.push('!');
        }
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&(index as u64).to_le_bytes());
        fingerprint[8] = u8::from(other_body);
        let key = IdempotencyKey { scope: "client".to_owned(), key: format!("key {index}"), fingerprint };
        let ignores_order = self.bug == Some(Bug::IgnoresOrder) && self.last_id.is_multiple_of(4);
        NewJob {
            id: JobId(Uuid::from_u128(self.last_id)),
            destination: self.names[post.site].clone(),
            request: Payload { body: Bytes::from(body), ..Payload::default() },
            idempotency: Some(key).filter(|_| post.keyed && self.bug != Some(Bug::ForgetsKeys)),
            run_at: now.wall.plus(Duration::from_micros(post.delay)),
            expires_after: post.expires.map(Duration::from_micros),
            priority: Priority::new(post.priority).unwrap_or_default(),
            ordering_key: post.ordering.filter(|_| !ignores_order).map(|key| format!("order {key}")),
            max_attempts: post.max_attempts,
            traceparent: None,
            redriven_from: None,
        }
    }
}

/// The body of a post, by which its destination knows it.
pub(super) fn body_of(post: usize, other_body: bool) -> String {
    if other_body { format!("other than post {post}") } else { format!("post {post}") }
}

impl World {
    pub(super) fn gateway_later(&mut self, delay: Us, what: GatewayEvent) {
        let life = self.gateway.life;
        self.after(delay, Event::Gateway { life, what });
    }

    /// Starts it, for the first time or after a crash.
    pub(super) fn start_gateway(&mut self) {
        let gateway = &mut self.gateway;
        gateway.life += 1;
        gateway.up = true;
        gateway.booted = self.now;
        let now = gateway.now(self.now);
        if gateway.life > 1 {
            let lease_now = gateway.lease_now(now);
            gateway.state.restart(gateway.life, lease_now.mono);
        }
        gateway.brain = Brain::new(gateway.life, gateway.policy, &gateway.names, gateway.bug);
        gateway.brain.configure(gateway.configured(), now);
        let with_jobs = gateway.state.stats().destinations.into_keys().collect();
        gateway.brain.restore(&gateway.state.leases(), gateway.state.gates(), with_jobs, now);
        self.watch.restarted(&gateway.state, now);
        self.gateway_later(SWEEP_INTERVAL.as_micros() as Us, GatewayEvent::Sweep);
        self.gateway_later(PURGE_INTERVAL, GatewayEvent::Purge);
    }

    pub(super) fn crash_gateway(&mut self, forgets: bool) {
        let gateway = &mut self.gateway;
        gateway.up = false;
        gateway.stalled_until = 0;
        if let Some(synced) = gateway.synced.take().filter(|synced| gateway.forgets(synced, forgets)) {
            gateway.state = synced;
        }
        gateway.waiting.clear();
        gateway.committing.clear();
        gateway.parked.clear();
        gateway.looks_at = Us::MAX;
        for call in std::mem::take(&mut gateway.open).into_values() {
            self.broken(call.id, call.from);
        }
    }

    pub(super) fn gateway_does(&mut self, what: GatewayEvent) {
        if self.gateway.stalled_until > self.now {
            let delay = self.gateway.stalled_until - self.now;
            return self.gateway_later(delay, what);
        }
        let now = self.gateway.now(self.now);
        match what {
            GatewayEvent::Committed => self.committed(),
            GatewayEvent::Sweep => {
                if self.gateway.bug != Some(Bug::NeverSweeps) {
                    self.commit(Op::Sweep(now));
                }
                self.gateway_later(SWEEP_INTERVAL.as_micros() as Us, GatewayEvent::Sweep);
            }
            GatewayEvent::Purge => {
                self.commit(Op::Purge(now));
                self.gateway_later(PURGE_INTERVAL, GatewayEvent::Purge);
            }
            GatewayEvent::Look => {
                if self.gateway.looks_at <= self.now {
                    self.gateway.looks_at = Us::MAX;
                    self.look();
                }
            }
            GatewayEvent::OutOfPatience(call) => {
                if let Some(place) = self.gateway.parked.iter().position(|parked| parked.call.id == call) {
                    let parked = self.gateway.parked.remove(place);
                    self.reply(parked.call, Answer::Claimed(ClaimResponse::default()));
                }
            }
            GatewayEvent::HungUp(call) => {
                self.gateway.parked.retain(|parked| parked.call.id != call);
                self.gateway.open.remove(&call);
            }
        }
    }

    /// A request arrives.
    pub(super) fn gateway_hears(&mut self, call: Call, request: Request) {
        if !self.gateway.up {
            return self.broken(call.id, call.from);
        }
        if self.gateway.stalled_until > self.now {
            return self.at(self.gateway.stalled_until, Event::Request(call, request));
        }
        self.gateway.open.insert(call.id, call);
        let now = self.gateway.now(self.now);
        match request {
            Request::Post(posts, other_body) => self.hear_posts(call, posts, other_body, now),
            Request::Cancel(id) => self.commit(Op::Cancel { call, id, now }),
            Request::Redrive(id, new_key) => self.commit(Op::Redrive { call, id, new_key, now }),
            Request::Pause(site) => self.pause(call, site, true, now),
            Request::Resume(site) => self.pause(call, site, false, now),
            Request::Claim(asked) => {
                let until = self.now + asked.wait_ms * MS;
                self.gateway_later(asked.wait_ms * MS, GatewayEvent::OutOfPatience(call.id));
                self.try_claim(Parked { call, asked, until });
                self.look_later();
            }
            Request::Extend(asked) => self.extend(call, &asked, now),
            Request::Settle(asked) => self.hear_report(call, asked, now),
        }
    }

    fn hear_posts(&mut self, call: Call, posts: Range<usize>, other_body: bool, now: Now) {
        let mut jobs = Vec::with_capacity(posts.len());
        for index in posts {
            let job = self.gateway.new_job(index, &self.plan.posts[index], other_body, now);
            self.watch.offered(&job, index, other_body, &self.plan.posts[index]);
            jobs.push(job);
        }
        let mut call = Some(call);
        if self.gateway.bug == Some(Bug::AcknowledgesEarly)
            && let Some(call) = call.take()
        {
            let receipts: Vec<Receipt> = jobs.iter().map(|job| Receipt::Stored(job.id)).collect();
            self.watch.acknowledging(&receipts);
            self.reply(call, Answer::Posted(receipts));
        }
        self.commit(Op::Enqueue { call, jobs, now });
    }

    fn pause(&mut self, call: Call, site: usize, paused: bool, now: Now) {
        let name = self.gateway.names[site].clone();
        self.gateway.brain.pause(&name, paused, now);
        let changes = self.gateway.brain.changes();
        self.commit(Op::SaveGates { changes, calls: vec![call] });
    }

    pub(super) fn reload_without(&mut self, site: usize) {
        self.gateway.removed.insert(site);
        self.reload();
    }

    pub(super) fn reload_with(&mut self, site: usize) {
        if self.gateway.bug != Some(Bug::StrandsRemoved) {
            self.gateway.removed.remove(&site);
        }
        self.reload();
    }

    fn reload(&mut self) {
        if self.gateway.up {
            let now = self.gateway.now(self.now);
            self.gateway.brain.configure(self.gateway.configured(), now);
            self.look();
        }
    }

    fn extend(&mut self, call: Call, asked: &ExtendRequest, now: Now) {
        let gateway = &mut self.gateway;
        let extended = gateway.state.extend(asked.worker, &asked.holding, gateway.lease_now(now));
        if gateway.bug == Some(Bug::RenewsUnlisted) {
            let all: Vec<_> = gateway.state.leases().into_iter().map(|(key, ..)| key).collect();
            gateway.state.extend(asked.worker, &all, gateway.lease_now(now));
        }
        gateway.brain.heard_from(asked.worker, now);
        self.watch.extended(&asked.holding, &extended, now);
        let answer = ExtendResponse {
            lease_ms: u64::try_from(LEASE_TERM.as_millis()).unwrap_or(u64::MAX),
            lost: extended.lost,
            cancel: extended.cancel,
            release: gateway.brain.releases(asked.worker, &BTreeSet::new()),
        };
        self.reply(call, Answer::Extended(answer));
    }

    fn hear_report(&mut self, call: Call, asked: SettleRequest, now: Now) {
        let settlements = asked.outcomes.into_iter().map(|wire| Settlement {
            key: jobs_core::lease::LeaseKey { job_id: wire.job_id, epoch: wire.epoch },
            report: match wire.class {
                WireClass::Release => Report::Released,
                WireClass::Attempted(class) => Report::Attempted(Outcome {
                    status: wire.status,
                    latency: Duration::try_from_secs_f64(wire.latency_ms / 1_000.0).unwrap_or_default(),
                    retry_after: wire.retry_after_ms.map(Duration::from_millis),
                    error: wire.error,
                    unknown: wire.unknown,
                    ..Outcome::of(class)
                }),
            },
        });
        let (worker, settlements) = (asked.worker, settlements.collect());
        self.commit(Op::Settle { call, worker, settlements, health: asked.probes, now });
    }

    /// Answers a call, if it is still open.
    fn reply(&mut self, call: Call, answer: Answer) {
        if self.gateway.open.remove(&call.id).is_some() {
            self.answer(call, answer);
        }
    }

    /// A claim gets what there is, or waits.
    fn try_claim(&mut self, parked: Parked) {
        let now = self.gateway.now(self.now);
        let ClaimRequest { worker, concurrency, max, .. } = parked.asked;
        let step = self.watch.clock();
        let mut planned = self.gateway.brain.plan(worker, concurrency, max, step, now);
        if self.gateway.policy == RetryBy::Timers && !self.gateway.has_due_work(now) {
            return self.gateway.parked.push(parked);
        }
        if planned.grants.is_empty() {
            let probes: Vec<WireProbe> = self.gateway.health_checks(now);
            if probes.is_empty() {
                return self.gateway.parked.push(parked);
            }
            let release = self.gateway.brain.releases(worker, &BTreeSet::new());
            return self
                .reply(parked.call, Answer::Claimed(ClaimResponse { probes, release, ..ClaimResponse::default() }));
        }
        self.gateway.spoil(&mut planned);
        self.commit(Op::Claim { parked, planned });
    }

    /// All parked claims look whether there is something for them.
    pub(super) fn look(&mut self) {
        for parked in std::mem::take(&mut self.gateway.parked) {
            self.try_claim(parked);
        }
        self.look_later();
    }

    /// The next look that nothing but time brings about.
    fn look_later(&mut self) {
        if self.gateway.parked.is_empty() {
            return;
        }
        let now = self.gateway.now(self.now);
        let wake_in = match self.gateway.policy {
            RetryBy::Gate => self.gateway.brain.wake_in(now),
            RetryBy::Timers => Some(Duration::from_millis(50)),
        };
        if let Some(wait) = wake_in {
            let at = self.now + u64::try_from(wait.as_micros()).unwrap_or(Us::MAX / 2).max(1);
            if at < self.gateway.looks_at {
                self.gateway.looks_at = at;
                self.gateway_later(at - self.now, GatewayEvent::Look);
            }
        }
    }
}

impl Gateway {
    /// Whether a crash takes it back to `synced`.
    fn forgets(&self, synced: &State, forgets: bool) -> bool {
        match self.bug {
            Some(Bug::LosesSyncedWrites) => synced.stats().accepted < self.state.stats().accepted,
            Some(Bug::ForgetsEnds) => true,
            _ => forgets,
        }
    }

    fn health_checks(&self, now: Now) -> Vec<WireProbe> {
        let check = |destination| WireProbe {
            destination,
            method: String::new(),
            url: String::new(),
            expect: 200,
            timeout_ms: 2_000,
        };
        self.brain.health_checks(now).into_iter().map(check).collect()
    }

    fn has_due_work(&self, now: Now) -> bool {
        self.names.iter().any(|name| self.state.oldest_due(name).is_some_and(|due| due <= now.wall))
    }

    /// What seeded bugs make of a grant.
    fn spoil(&self, planned: &mut Planned) {
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
}
