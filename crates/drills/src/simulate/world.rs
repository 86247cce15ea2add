//! The simulated world: one queue of events on virtual time, and everybody who lives by it.
//!
//! Single-threaded and without a real clock: an event is taken from the queue, handled by whom it concerns, and whatever that
//! brings about later goes into the queue. After each event the [`Watch`] is asked whether everything still holds.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use jobs_core::job::DestinationName;

use super::client::Client;
use super::destination::Site;
use super::dice::Dice;
use super::event::{Ended, Entry, Event};
use super::gateway::Gateway;
use super::network::{CallId, Caller};
use super::plan::{Act, Fault, MS, Plan, SECOND, Us};
use super::watch::{Rule, Watch};
use super::worker::Worker;

/// What is seen of one destination, every so often: the curves of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Sample {
    pub at_ms: u64,
    pub waiting: u64,
    pub in_flight: u64,
    /// `None`: unlimited, or nobody limits it.
    pub limit: Option<u32>,
    pub rate: Option<f64>,
    pub open: bool,
}

/// After so long without faults no job waits for the end of an outage.
const RELEASED_WITHIN: Us = 30 * SECOND;

/// How often the run is looked at for its curves.
pub(super) const SAMPLE_EVERY: Us = 250 * MS;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Us,
    pub(super) dice: Dice,
    pub(super) events: u64,
    queue: BinaryHeap<Entry>,
    order: u64,
    pub(super) last_call: CallId,
    pub(super) sites: Vec<Site>,
    pub(super) names: BTreeMap<DestinationName, usize>,
    pub(super) gateway: Gateway,
    pub(super) workers: Vec<Worker>,
    pub(super) client: Client,
    pub(super) watch: Watch,
    /// Who cannot reach which destination.
    pub(super) cut_off: BTreeSet<(usize, usize)>,
    pub(super) cut_from_gateway: BTreeSet<usize>,
    pub(super) samples: Vec<Vec<Sample>>,
    pub(super) sampled: bool,
    pub(super) trace: bool,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let dice = Dice::new(plan.seed ^ 0x5eed);
        let sites = plan.sites.iter().map(|site| Site::new(site, plan.quiet)).collect();
        let names = plan.sites.iter().enumerate().map(|(n, site)| (site.settings.name.clone(), n)).collect();
        let mut world = World {
            gateway: Gateway::new(&plan),
            workers: plan.workers.iter().enumerate().map(|(n, slots)| Worker::new(n, *slots)).collect(),
            client: Client::new(plan.posts.len()),
            watch: Watch::new(&plan),
            samples: vec![Vec::new(); plan.sites.len()],
            plan,
            now: 0,
            dice,
            events: 0,
            queue: BinaryHeap::new(),
            order: 0,
            last_call: 0,
            sites,
            names,
            cut_off: BTreeSet::new(),
            cut_from_gateway: BTreeSet::new(),
            sampled: false,
            trace: false,
        };
        for index in 0..world.plan.acts.len() {
            world.at(world.plan.acts[index].0, Event::Act(index));
        }
        for index in 0..world.plan.faults.len() {
            world.at(world.plan.faults[index].0, Event::Fault(index));
        }
        world.at(world.plan.quiet + RELEASED_WITHIN + world.plan.set_back, Event::AllIsWell);
        world.start_gateway();
        for index in 0..world.workers.len() {
            world.start_worker(index);
        }
        world
    }

    /// Runs until every job has ended in quiet, or a rule is broken.
    pub(super) fn run(&mut self) {
        if self.sampled {
            self.after(0, Event::Sample);
        }
        while let Some(Entry { at, event, .. }) = self.queue.pop() {
            if at >= self.plan.quiet && self.is_done() {
                break;
            }
            if at > self.plan.quiet + self.plan.bound + self.plan.set_back {
                self.now = at;
                self.watch.nothing_is_left(self.client.unacknowledged(), self.gateway.state(), self.now);
                break;
            }
            self.now = at;
            self.events += 1;
            if self.trace {
                self.show(&event);
            }
            self.handle(event);
            self.watch.step(&self.gateway, self.events, self.plan.audit_every);
            if self.watch.broken().is_some() {
                return;
            }
        }
        self.watch.audit(self.gateway.state(), false);
    }

    fn is_done(&self) -> bool {
        self.gateway.up && self.watch.open_jobs() == 0 && self.client.unacknowledged() == 0 && !self.gateway.is_busy()
    }

    pub(super) fn at(&mut self, at: Us, event: Event) {
        self.order += 1;
        self.queue.push(Entry { at: at.max(self.now), order: self.order, event });
    }

    pub(super) fn after(&mut self, delay: Us, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.now >= self.plan.quiet
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Act(index) => {
                let act = self.plan.acts[index].1.clone();
                self.act(act);
            }
            Event::Fault(index) => self.fault(self.plan.faults[index].1),
            Event::Over(ended) => self.over(&ended),
            Event::Request(call, request) => self.gateway_hears(call, request),
            Event::Answer { call, to, answer } => match to {
                Caller::Client => self.client_hears(call, answer),
                Caller::Worker { worker, life } if self.workers[worker].life == life => {
                    self.worker_hears(worker, call, answer);
                }
                // Whoever asked has died meanwhile.
                Caller::Worker { .. } => {}
            },
            Event::PostAgain(posts) => self.act(Act::Post(posts)),
            Event::Gateway { life, what } if life == self.gateway.life && self.gateway.up => self.gateway_does(what),
            Event::Worker { worker, life, what } if self.workers[worker].life == life => {
                self.worker_does(worker, what);
            }
            // Of a process that has died.
            Event::Gateway { .. } | Event::Worker { .. } => {}
            Event::Arrives { worker, life, attempt, sent } => self.arrives(worker, life, attempt, &sent),
            Event::Served(site) => self.sites[site].served(),
            Event::Sample => self.sample(),
            Event::AllIsWell => {
                if self.gateway.up {
                    let wall = self.gateway.wall(self.now);
                    self.watch.check_released(self.gateway.state(), wall);
                }
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::CrashGateway { down, forgets } if self.gateway.up => {
                self.crash_gateway(forgets);
                self.after(down, Event::Over(Ended::Gateway));
            }
            Fault::CrashGateway { .. } => {}
            Fault::StallGateway(span) => self.gateway.stalled_until = self.now + span,
            Fault::CrashWorker { worker, down } if self.workers[worker].up => {
                self.crash_worker(worker);
                self.after(down, Event::Over(Ended::Worker(worker)));
            }
            Fault::CrashWorker { .. } => {}
            Fault::StallWorker { worker, span } => self.workers[worker].stalled_until = self.now + span,
            Fault::CutOff { worker, site, span } => {
                self.cut_off.insert((worker, site));
                self.after(span, Event::Over(Ended::CutOff { worker, site }));
            }
            Fault::CutFromGateway { worker, span } => {
                self.cut_from_gateway.insert(worker);
                self.after(span, Event::Over(Ended::CutFromGateway(worker)));
            }
            Fault::JumpClock(by_ms) => self.gateway.skew_ms += by_ms,
            Fault::Rot { pick } => {
                if let Some(id) = self.client.pick(pick) {
                    self.watch.may_rot(id);
                    self.gateway.rot(id);
                }
            }
        }
    }

    fn over(&mut self, ended: &Ended) {
        match *ended {
            Ended::Gateway => self.start_gateway(),
            Ended::Worker(worker) => self.start_worker(worker),
            Ended::CutOff { worker, site } => drop(self.cut_off.remove(&(worker, site))),
            Ended::CutFromGateway(worker) => drop(self.cut_from_gateway.remove(&worker)),
        }
    }

    fn sample(&mut self) {
        for (index, samples) in self.samples.iter_mut().enumerate() {
            let name = &self.plan.sites[index].settings.name;
            samples.push(self.gateway.sample(name, self.now / MS));
        }
        self.after(SAMPLE_EVERY, Event::Sample);
    }

    fn show(&self, event: &Event) {
        let mut text = format!("{event:?}");
        if let Some((end, _)) = text.char_indices().nth(240) {
            text.truncate(end);
            text.push('…');
        }
        eprintln!("{:>10.6} s  {text}", self.now as f64 / SECOND as f64);
    }

    pub(super) fn violated(&mut self, rule: Rule, what: String) {
        self.watch.violated(rule, what);
    }
}
