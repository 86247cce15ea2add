//! What the gateway does about each request as it arrives: what it can at once, the rest in the next commit.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use jobs_core::lease::{LEASE_TERM, LeaseKey};
use jobs_core::outcome::Outcome;
use jobs_core::protocol::{
    ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, WireClass, WireProbe,
};
use jobs_core::store::{Report, Settlement};
use jobs_core::time::Now;

use super::{Op, Parked};
use crate::simulate::bug::Bug;
use crate::simulate::event::{Event, GatewayEvent};
use crate::simulate::network::{Answer, Call, Receipt, Request};
use crate::simulate::plan::{MS, RetryBy, Us};
use crate::simulate::world::World;

impl World {
    /// A request arrives.
    pub(crate) fn gateway_hears(&mut self, call: Call, request: Request) {
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
            self.watch.offered(&job, index, other_body, &self.plan.posts[index], now.wall);
            jobs.push(job);
        }
        if let Some(receipts) = self.gateway.replay_from_a_read(&jobs) {
            self.watch.acknowledging(&receipts);
            return self.reply(call, Answer::Posted(receipts));
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

    pub(crate) fn reload_without(&mut self, site: usize) {
        self.gateway.removed.insert(site);
        self.reload();
    }

    pub(crate) fn reload_with(&mut self, site: usize) {
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
            key: LeaseKey { job_id: wire.job_id, epoch: wire.epoch },
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
    pub(super) fn reply(&mut self, call: Call, answer: Answer) {
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
