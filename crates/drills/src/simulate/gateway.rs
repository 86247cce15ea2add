//! The gateway on virtual time: the real store in memory, the real dispatcher, and a disk that takes its time.
//!
//! What a request asks for takes effect at the end of the commit it is part of, and is answered after it. A crash before that
//! end loses it without a trace; a crash after it loses only the answer. Claims need not be synced: a crash may also lose those
//! since the last commit that was. All that is in memory (grants, gates beyond their records, parked claims) is lost.

mod commit;
mod requests;
mod spoil;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobs_core::destination::Destination;
use jobs_core::dispatch::{Change, GateStateName};
use jobs_core::job::{DestinationName, IdempotencyKey, JobId, NewJob, Priority, Request as Payload, WorkerId};
use jobs_core::lease::{LeaseKey, SWEEP_INTERVAL};
use jobs_core::memory::State;
use jobs_core::protocol::{ClaimRequest, ClaimResponse, WireHealth, WireProbe};
use jobs_core::store::Settlement;
use jobs_core::time::{Mono, Now, Timestamp};
use uuid::Uuid;

use super::brain::{Brain, Planned};
use super::bug::Bug;
use super::event::{Event, GatewayEvent};
use super::network::{Answer, Call, CallId};
use super::plan::{Fault, MS, Plan, Post, RetryBy, SECOND, Us};
use super::world::{Sample, World};

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
    /// As of the last synced commit and of each one since that need not be synced: what a crash may fall back to.
    unsynced: Vec<State>,
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
    /// Of which leases a report was settled.
    reported: BTreeSet<LeaseKey>,
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
            unsynced: Vec::new(),
            brain: Brain::new(1, plan.policy, &names, plan.bug),
            policy: plan.policy,
            settings: settings.collect(),
            removed: BTreeSet::new(),
            waiting: Vec::new(),
            committing: Vec::new(),
            parked: Vec::new(),
            looks_at: Us::MAX,
            open: BTreeMap::new(),
            reported: BTreeSet::new(),
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

    pub(super) fn wall(&self, us: Us) -> Timestamp {
        self.now(us).wall
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
        for earlier in &mut self.unsynced {
            earlier.rot(id);
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
            id_is_new: false,
            destination: self.names[post.site].clone(),
            request: Payload { body: Bytes::from(body), ..Payload::default() },
            idempotency: Some(key).filter(|_| post.keyed && self.bug != Some(Bug::ForgetsKeys)),
            run_at: now.wall.plus(Duration::from_micros(if self.bug == Some(Bug::IgnoresDelay) {
                0
            } else {
                post.delay
            })),
            expires_after: post.expires.map(Duration::from_micros),
            priority: Priority::new(post.priority).unwrap_or_default(),
            ordering_key: post.ordering.filter(|_| !ignores_order).map(|key| format!("order {key}")),
            max_attempts: post.max_attempts,
            traceparent: None,
            redriven_from: None,
            callback: None,
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

    /// A crash: what is synced survives, and of what need not be any prefix; the commit under way may be on the disk or not, and
    /// is answered to nobody.
    pub(super) fn crash_gateway(&mut self, forgets: bool) {
        self.gateway.up = false;
        self.gateway.stalled_until = 0;
        for call in std::mem::take(&mut self.gateway.open).into_values() {
            self.broken(call.id, call.from);
        }
        let under_way = std::mem::take(&mut self.gateway.committing);
        if !under_way.is_empty() && self.dice.chance(50) {
            self.commit_unheard(under_way);
        }
        let prefixes = self.gateway.unsynced.len() as u64;
        let kept = usize::try_from(self.dice.below(prefixes + 1)).unwrap_or_default();
        let gateway = &mut self.gateway;
        if kept < gateway.unsynced.len() && gateway.forgets(&gateway.unsynced[kept], forgets) {
            gateway.state = gateway.unsynced.swap_remove(kept);
        }
        gateway.unsynced.clear();
        gateway.waiting.clear();
        gateway.parked.clear();
        gateway.looks_at = Us::MAX;
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
}
